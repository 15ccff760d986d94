"""Questions about a line of the backward pass, for a reader who has not seen it yet. The answers are those of the trace.

A question asks for the shape of a derivative, for the sign of one of its numbers, or for a factor that is missing in its equation.
"""

import html
import inspect
import random
import re
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from scipy.special import softmax

from vae_np.study import formulas, primer, typesetting
from vae_np.study.by_hand import put_in
from vae_np.study.evaluation import evaluate
from vae_np.study.lines import Array, Line, Lines
from vae_np.study.typesetting import number

MOST_OPTIONS = 4
ALIKE = 0.02  # factors whose numbers differ by less than this part of the largest are not told apart
BLANK = "blank"  # the name of the missing factor in a formula; it is shown as a square

FACTORS = {  # {operation: [(which of its equations, the factor that is left out, what else might stand there)]}
    "elbo_backward": [(0, "1 / (L n_examples)", ("1 / n_examples", "1 / L", "1"))],
    "iwae_backward": [(0, "w~", ("1 / L", "1", "L w~"))],
    "bernoulli_nll_backward": [
        (0, "(sigmoid(logits) - x)", ("(logits - x)", "(x - sigmoid(logits))", "(sigmoid(logits) - x) sigmoid(logits)"))
    ],
    "gaussian_nll_backward": [(0, "(mean - x)", ("(x - mean)", "(mean - x)^2", "2 (mean - x)"))],
    "continuous_bernoulli_nll_backward": [
        (
            0,
            "(1/2 + 1 / (2 tanh(logits / 2)) - 1 / logits - x)",
            ("(sigmoid(logits) - x)", "(logits - x)", "(x - sigmoid(logits))"),
        )
    ],
    "affine_backward": [(0, "W.T", ("W", "(1 / W.T)"))],
    "affine_backward_add": [(0, "W.T", ("W", "(1 / W.T)"))],
    "affine_gradients": [(0, "x.T", ("x", "dy.T", "W.T"))],
    "tanh_backward": [(0, "(1 - h^2)", ("(1 - h)", "h (1 - h)", "h^2"))],
    "softplus_backward": [(0, "(1 - exp(-h))", ("exp(-h)", "(1 - h^2)", "h (1 - h)"))],
    "silu_backward": [
        (0, "sigmoid(y) (1 + y sigmoid(-y))", ("sigmoid(y)", "sigmoid(y) sigmoid(-y)", "(1 + y sigmoid(-y))"))
    ],
    "gelu_backward": [
        (0, "(Phi(y) + y exp(-y^2 / 2) / sqrt(2 pi))", ("Phi(y)", "y Phi(y)", "exp(-y^2 / 2) / sqrt(2 pi)"))
    ],
    "gaussian_kl_backward": [(1, "(exp(logvar) - 1) / 2", ("(exp(logvar) - 1)", "exp(logvar) / 2", "logvar / 2"))],
    "sampled_kl_backward": [(0, "z", ("(z - mu)", "eps", "z^2"))],
    "reparameterize_backward_add": [
        (1, "exp(logvar / 2) / 2", ("exp(logvar / 2)", "exp(logvar) / 2", "1 / 2")),
    ],
}


class Option(NamedTuple):
    """What a reader may choose, and what is wrong with it, in a sentence; "" where it is right. Both are HTML."""

    words: str
    why: str = ""


class Question(NamedTuple):
    """A question in HTML and what may be chosen; exactly one option is right."""

    kind: str
    words: str
    options: tuple[Option, ...]


def questions(trace: Lines, i: int) -> str:
    """The HTML of the questions on a line: templates, which a browser does not show before a script takes them."""
    asked = list(ask(trace, i))
    repeated = sum(line.operation == trace[i].operation for line in trace[:i])
    asked = asked[repeated % len(asked) :] + asked[: repeated % len(asked)] if asked else []
    return "".join(_form(question, f"q{i}-{k}", random.Random(31 * i + k)) for k, question in enumerate(asked))


def ask(trace: Lines, i: int) -> Iterator[Question]:
    """The Questions on a line of the backward pass."""
    now = _Moment(trace, i)
    yield from now.factor()
    yield from now.sign()
    yield from now.shape()


def _form(question, name, shuffled):
    options = list(question.options)
    shuffled.shuffle(options)
    right = [not option.why for option in options].index(True)
    choices = "".join(
        f'<label><input type="radio" name="{name}" value="{k}"> {option.words}</label>' for k, option in enumerate(options)
    )
    reasons: dict[str, list[str]] = {}
    for k, option in enumerate(options):
        if option.why:
            reasons.setdefault(option.why, []).append(str(k))
    whys = "".join(f'<p data-of="{" ".join(of)}" hidden>{why}</p>' for why, of in reasons.items())
    return (
        f'<template data-right="{right}"><fieldset><legend>{question.words}</legend>{choices}</fieldset>'
        f'<div role="status">{whys}</div></template>'
    )


class _Moment:
    """A line at the moment when it runs: the values of all names before and after it."""

    def __init__(self, trace: Lines, i: int):
        self.trace, self.line, self.values = trace, trace[i], {"x": trace.a.x, "eps": trace.a.eps}
        for line in trace[:i]:
            self.values |= {array.name: array.value for array in line.writes}
        self.before = dict(self.values)
        self.values |= {array.name: array.value for array in self.line.writes}
        self.axes = {name: axes.split(", ") for name, axes, _ in primer.symbols(trace)}
        L, B, _ = trace.a.eps.shape
        self.numbers = {"L": L, "K": len(trace.a.kl), "n_examples": B, **trace.arguments}

    # ---- the shape

    def shape(self) -> Iterator[Question]:
        array = self.changed()
        if array is None:
            return
        right, found = array.value.shape, {}
        if len(right) == 2:
            found[right[::-1]] = "This is the shape of its transpose"
        for name in (*self.line.reads, *self.values):
            if name in self.values and self.values[name].ndim:
                found.setdefault(self.values[name].shape, f"This is the shape of {_name(name)}")
        found.pop(right, None)
        value = _name(array.name.removeprefix("d"))
        why = f"; {_name(array.name)} has one number for each number of {value}."
        options = [Option(_shape(shape), words + why) for shape, words in found.items() if len(shape) > 1 or len(right) == 1]
        if options:
            yield Question(
                "shape",
                f"What is the shape of {_name(array.name)}?",
                (Option(_shape(right)), *options[: MOST_OPTIONS - 1]),
            )

    def changed(self) -> Array | None:
        """The first array that the line changes."""
        for array in self.line.writes:
            if not np.array_equal(self.before.get(array.name, 0), array.value):
                return array

    # ---- the sign of a number

    def sign(self) -> Iterator[Question]:
        for equation in formulas.equations(self.line):
            kind, name = equation[1]
            array = next((array for array in self.line.writes if kind == "name" and array.name == name), None)
            if array is None or equation[-1] == ("number", "0") or not self.axes_of(name):
                continue
            flat = np.abs(array.value)
            if equation[-1][0] == "where" and (off := (array.value == 0) & (self.read("dh") != 0)).any():
                flat = np.where(off, np.abs(self.read("dh")), 0)
            place = np.unravel_index(flat.argmax(), flat.shape)
            places = dict(zip(self.axes_of(name), place))
            L, K = self.numbers["L"], self.numbers["K"]
            facts = {}

            def at(name, sample, places=places, facts=facts):
                """The number of a name that belongs to this place."""
                if name in self.numbers:
                    value, words = np.array(self.numbers[name]), _name(name)
                else:
                    mine = {**places, "L": sample, "K": min(sample, K - 1), "1": 0}
                    index = tuple(int(mine[letter]) for letter in self.axes_of(name))
                    value, words = np.array(self.values[name][index]), _element(name, index)
                facts[words] = value
                return value

            try:
                numbers = put_in(equation[-1], at, int(places.get("L", 0)), {"l": L, "k": K})
            except KeyError:  # it names what is no array of the trace, or its sum is too long
                continue
            value = array.value[place]
            if equation[2] == "+=":
                facts = {f"{_element(name, place)} before this line": self.before[name][place], **facts}
                numbers = "+", ("value", self.before[name][place]), numbers
            told = ", ".join(f"{words} = {number(fact)}" for words, fact in facts.items())
            if numbers[0] == "where":
                condition, holds = numbers[2], evaluate(("where", ("number", "1"), numbers[2], ("number", "0")), {})
                why = f"Here {_bare(condition)} is {'true' if holds else 'not true'}, and so the line computes {number(value)}."
            else:
                why = f"With these numbers the line computes {_bare(('relation', numbers, '=', ('value', value)))}."
            words = {1: "positive", -1: "negative", 0: "0"}
            options = [Option(word, "" if np.sign(value) == sign else why) for sign, word in words.items()]
            yield Question("sign", f"Is {_element(name, place)} positive, negative or 0? Here {told}.", tuple(options))
            return

    def axes_of(self, name):
        name = name.removesuffix(".y")
        return self.axes.get(name) or self.axes.get(name.removeprefix("d"), ())

    def read(self, parameter):
        """The value of an argument of the line's operation before it ran."""
        name = self.line.arguments[parameter]
        return self.before.get(name, self.values.get(name))

    # ---- the missing factor

    def factor(self) -> Iterator[Question]:
        for which, factor, others in FACTORS.get(self.line.operation, ()):
            text = re.split("[;,]  ", inspect.cleandoc(self.line.definition).split("\n")[0].partition("   ")[0])[which]
            if factor not in text:
                continue  # an operation of the user's own with the name of ours
            names = {**self.line.arguments, **self.written()}
            name = names.get(formulas.parse(text)[1][1], "")
            array = next((array for array in self.line.writes if array.name == name), None)
            right = self.computed(text, array) if array else None
            if right is None or not np.allclose(right, array.value, rtol=1e-6, atol=1e-9):
                continue
            options = []
            for other in others:
                found = self.computed(text.replace(factor, other), array)
                if (why := self.why_not(array, found)) is not None:
                    options.append(Option(_typeset(other, names), why))
            if options:
                words = f"Which factor is missing in {_typeset(text.replace(factor, BLANK), names)}?"
                yield Question("factor", words, (Option(_typeset(factor, names)), *options[: MOST_OPTIONS - 1]))
            return

    def written(self):
        """{name in the equations of the operation: the array that the line writes}, where it is no argument"""
        return {"dy": array.name for array in self.line.writes if array.name.endswith(".y")}

    def computed(self, text, array):
        """What the equation gives for an array; None where the shapes do not fit."""
        values, rows = {}, self.line.operation == "affine_gradients"
        for parameter, name in self.line.arguments.items():
            if name in self.numbers:
                values[parameter] = self.numbers[name]
            elif name in self.before or name in self.values or re.search(r"\.[Wb]$", name):
                value = self.before.get(name, self.values.get(name))
                value = self.trace.p[name.replace("[", ".").replace("]", "")] if value is None else value
                values[parameter] = value.reshape(-1, value.shape[-1]) if rows and value.ndim > 2 else value
                if _per_sample(parameter):
                    values[parameter] = value[..., None]
        values |= {"L": self.numbers["L"], "K": self.numbers["K"], "sum_l": _summed}
        if {"nll", "kl"} <= values.keys():
            values["w~"] = softmax(-(values["nll"] + values["beta"] * values["kl"]), axis=0)
        relation = formulas.parse(text)
        wanted = array.value[..., None] if _per_sample(array.name) else array.value
        try:
            found = np.asarray(evaluate(relation[-1], values), float)
            found = np.broadcast_to(found, wanted.shape) if found.size < wanted.size else found.reshape(wanted.shape)
        except ValueError:
            return None
        found = found + (self.before[array.name] if relation[2] == "+=" else 0)
        return found.reshape(array.value.shape)

    def why_not(self, array, found):
        """What is wrong with an array that another factor would give, in a sentence; None where it is hardly another one."""
        if found is None:
            return "With this factor the shapes do not fit."
        size = np.abs(array.value)
        off = np.minimum(np.nan_to_num(np.abs(found - array.value), nan=np.inf), size)  # by which the plainest element is found
        if not off.max() > ALIKE * size.max():
            return None
        place = np.unravel_index(off.argmax(), off.shape)
        element = _element(array.name, place)
        return (
            f"With this factor {element} would be {number(found[place])}, but a finite difference of the loss gives "
            f"{number(array.value[place])}."
        )


def _per_sample(name):
    """Whether an array has no axis of inputs or latents: such an axis is added, so that it multiplies what has one."""
    return name in ("nll", "kl", "dnll", "dkl")


def _summed(body, _):
    return body().sum(axis=0, keepdims=True)


def _typeset(text, names):
    """A formula in the names that the line uses; the missing factor is a square."""
    return _bare(formulas.substitute(formulas.parse(text), names)).replace(BLANK, "□")


def _bare(tree):
    """A formula as MathML in which no name leads to its lines, because these are what the reader shall predict."""
    text = re.sub(r' (?:data-name|alttext)=(?:"[^"]*"|\'[^\']*\')', "", typesetting.mathml(tree))
    while text != (text := re.sub(r"<mrow>(<(m\w+)[^>]*>[^<]*</\2>)</mrow>", r"\1", text)):  # a row of one element needs no row
        pass
    return text


def _name(name):
    """The name of an array, as text."""
    return html.escape(typesetting.plain(("name", name)))


def _shape(shape):
    return " × ".join(map(str, shape))


def _element(name, place):
    return f"{_name(name)}<code>[{html.escape(', '.join(map(str, map(int, place))))}]</code>"
