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
from numpy.typing import NDArray
from scipy.special import softmax

from vae_np.study import formulas, primer, typesetting
from vae_np.study.by_hand import put_in
from vae_np.study.evaluation import evaluate
from vae_np.study.lines import Array, Line, Lines
from vae_np.study.proof import TOLERANCE
from vae_np.study.typesetting import number

MOST_FACTORS, MOST_SHAPES = 4, 3  # among which a reader chooses
ALIKE = 0.02  # factors whose numbers differ by less than this part of the largest are not told apart
PER_SAMPLE = "nll", "kl", "dnll", "dkl"  # these get an axis in place of inputs or latents, so that they multiply what has one
BLANK = "blank"  # the name of the missing factor in a formula; it is shown as a square

FACTORS = {  # {operation: (which of its equations, the factor that is left out, what else might stand there)}
    "elbo_backward": (0, "1 / (L n_examples)", ("1 / n_examples", "1 / L", "1")),
    "iwae_backward": (0, "w~", ("1 / L", "1", "L w~")),
    "bernoulli_nll_backward": (
        0,
        "(sigmoid(logits) - x)",
        ("(logits - x)", "(x - sigmoid(logits))", "(sigmoid(logits) - x) sigmoid(logits)"),
    ),
    "gaussian_nll_backward": (0, "(mean - x)", ("(x - mean)", "(mean - x)^2", "2 (mean - x)")),
    "continuous_bernoulli_nll_backward": (
        0,
        "(1/2 + 1 / (2 tanh(logits / 2)) - 1 / logits - x)",
        ("(sigmoid(logits) - x)", "(logits - x)", "(x - sigmoid(logits))"),
    ),
    "affine_backward": (0, "W.T", ("W", "(1 / W.T)")),
    "affine_backward_add": (0, "W.T", ("W", "(1 / W.T)")),
    "affine_gradients": (0, "x.T", ("x", "dy.T", "W.T")),
    "tanh_backward": (0, "(1 - h^2)", ("(1 - h)", "h (1 - h)", "h^2")),
    "softplus_backward": (0, "(1 - exp(-h))", ("exp(-h)", "(1 - h^2)", "h (1 - h)")),
    "silu_backward": (
        0,
        "sigmoid(y) (1 + y sigmoid(-y))",
        ("sigmoid(y)", "sigmoid(y) sigmoid(-y)", "(1 + y sigmoid(-y))"),
    ),
    "gelu_backward": (
        0,
        "(Phi(y) + y exp(-y^2 / 2) / sqrt(2 pi))",
        ("Phi(y)", "y Phi(y)", "exp(-y^2 / 2) / sqrt(2 pi)"),
    ),
    "gaussian_kl_backward": (1, "(exp(logvar) - 1) / 2", ("(exp(logvar) - 1)", "exp(logvar) / 2", "logvar / 2")),
    "sampled_kl_backward": (0, "z", ("(z - mu)", "eps", "z^2")),
    "reparameterize_backward_add": (1, "exp(logvar / 2) / 2", ("exp(logvar / 2)", "exp(logvar) / 2", "1 / 2")),
}


class Option(NamedTuple):
    """What a reader may choose, and what is wrong with it, in a sentence; "" where it is right. Both are HTML."""

    words: str
    why: str = ""
    name: str = ""  # the words as text, for those who do not see a formula


class Question(NamedTuple):
    """A question in HTML and what may be chosen; exactly one option is right."""

    kind: str
    words: str
    options: tuple[Option, ...]
    name: str = ""  # the words as text


def questions(trace: Lines, i: int) -> str:
    """The HTML of the questions on a line: templates, which a browser does not show before a script takes them."""
    asked = list(ask(trace, i))
    repeated = sum(line.operation == trace[i].operation for line in trace[:i])
    asked = asked[repeated % len(asked) :] + asked[: repeated % len(asked)] if asked else []
    return "".join(_form(question, f"q{i}-{k}", random.Random(31 * i + k)) for k, question in enumerate(asked))


def ask(trace: Lines, i: int) -> Iterator[Question]:
    """The Questions on a line of the backward pass."""
    now = moment(trace, i)
    yield from _factor(now)
    yield from _sign(now)
    yield from _shape(now)


def _form(question, name, shuffled):
    options = list(question.options)
    shuffled.shuffle(options)
    right = [not option.why for option in options].index(True)
    choices = "".join(
        f'<label><input type="radio" name="{name}" value="{k}"{_labelled(option.name)}> {option.words}</label>'
        for k, option in enumerate(options)
    )
    reasons: dict[str, list[str]] = {}
    for k, option in enumerate(options):
        if option.why:
            reasons.setdefault(option.why, []).append(str(k))
    whys = "".join(f'<p data-of="{" ".join(of)}" hidden>{why}</p>' for why, of in reasons.items())
    return (
        f'<template data-right="{right}"><fieldset{_labelled(question.name)}><legend>{question.words}</legend>{choices}</fieldset>'
        f'<div role="status">{whys}</div></template>'
    )


def _labelled(name):
    return f' aria-label="{html.escape(name)}"' if name else ""


class Moment(NamedTuple):
    """A line at the moment when it runs."""

    line: Line
    before: dict[str, NDArray]  # {name: its value before the line runs}; parameters, too
    after: dict[str, NDArray]
    numbers: dict[str, float]  # {name of a number, such as beta: its value}
    axes: dict[str, list[str]]  # {name: the letters of its shape}

    def axes_of(self, name):
        name = name.removesuffix(".y")
        return self.axes.get(name) or self.axes.get(name.removeprefix("d"), [])

    def written(self, name):
        """The array of that name which the line writes."""
        return next((array for array in self.line.writes if array.name == name), None)


def moment(trace: Lines, i: int) -> Moment:
    """The values of all names before and after a line."""
    parameters = {re.sub(r"\.(\d+)\.", r"[\1].", name): value for name, value in trace.p.items()}
    before = {"x": trace.a.x, "eps": trace.a.eps, **parameters}
    for line in trace[:i]:
        before |= {array.name: array.value for array in line.writes}
    after = before | {array.name: array.value for array in trace[i].writes}
    L, B, _ = trace.a.eps.shape
    numbers = {"L": L, "K": len(trace.a.kl), "n_examples": B, "beta": trace.arguments["beta"], "l2": trace.arguments["l2"]}
    return Moment(trace[i], before, after, numbers, {name: axes.split(", ") for name, axes, _ in primer.symbols(trace)})


# ----------------------------------------------------------------------------------------------------------- the shape


def _shape(now):
    changed = [array for array in now.line.writes if np.any(array.value != now.before.get(array.name, 0))]
    for array in changed[:1]:
        right, found = array.value.shape, {}
        if len(right) == 2:
            found[right[::-1]] = "This is the shape of its transpose"
        for name in (*now.line.reads, *now.after):
            if name in now.after and now.after[name].ndim >= min(2, len(right)):
                found.setdefault(now.after[name].shape, f"This is the shape of {text_of(name)}")
        found.pop(right, None)
        why = f"; {text_of(array.name)} has one number for each number of {text_of(array.name.removeprefix('d'))}."
        options = [Option(_times(shape), words + why) for shape, words in found.items()][: MOST_SHAPES - 1]
        yield Question("shape", f"What is the shape of {text_of(array.name)}?", (Option(_times(right)), *options))


def _times(shape):
    return " × ".join(map(str, shape))


# ------------------------------------------------------------------------------------------------- the sign of a number


def _sign(now):
    for equation in formulas.equations(now.line):
        name, right = equation[1][-1], equation[-1]
        array = now.written(name)
        if array is None or right == ("number", "0") or "@" in repr(right) or not now.axes_of(name):
            continue
        size = np.abs(array.value)
        if right[0] == "where" and not size.all():  # an element at which the derivative stops is the more telling one
            size = np.where(size == 0, np.abs(now.before[now.line.arguments["dh"]]), 0)
        place = tuple(map(int, np.unravel_index(size.argmax(), size.shape)))
        value, places = array.value[place], dict(zip(now.axes_of(name), place))
        facts = {f"{_element(name, place)} before this line": now.before[name][place]} if equation[2] == "+=" else {}
        try:
            numbers = put_in(
                right, _number_at(now, places, facts), places.get("L", 0), {"l": now.numbers["L"], "k": now.numbers["K"]}
            )
        except KeyError:  # the equation names what is no array of the trace, or its sum is too long
            continue
        if equation[2] == "+=":
            numbers = "+", ("value", now.before[name][place]), numbers
        told = ", ".join(f"{words} = {number(fact)}" for words, fact in facts.items())
        why = f"With these numbers the line computes {_bare(('relation', numbers, '=', ('value', value)))}."
        if numbers[0] == "where":
            truth = "true" if evaluate(("where", ("number", "1"), numbers[2], ("number", "0")), {}) else "not true"
            why = f"Here {_bare(numbers[2])} is {truth}, and so the line computes {number(value)}."
        signs = {1: "positive", -1: "negative", 0: "0"}
        options = tuple(Option(words, "" if np.sign(value) == sign else why) for sign, words in signs.items())
        yield Question("sign", f"Is {_element(name, place)} positive, negative or 0? Here {told}.", options)
        return


def _number_at(now, places, facts):
    """A function of a name and a sample: the number that belongs to a place, which it also notes in facts."""

    def at(name, sample):
        if name in now.numbers:
            facts[text_of(name)] = value = now.numbers[name]
        elif not now.axes_of(name):
            raise KeyError(name)
        else:
            indices = {**places, "L": sample, "K": min(sample, now.numbers["K"] - 1), "1": 0}
            index = tuple(indices[letter] for letter in now.axes_of(name))
            facts[_element(name, index)] = value = now.after[name][index]
        return np.array(value)

    return at


# --------------------------------------------------------------------------------------------------- the missing factor


def _factor(now):
    which, factor, others = FACTORS.get(now.line.operation, (0, "", ()))
    text = formula(now.line, which)
    if not factor or replaced(text, factor, BLANK) == text:
        return  # it may be an operation of the user's own with the name of ours
    names = dict(now.line.arguments)
    for array in now.line.writes:
        if array.name.endswith(".y"):
            names["dy"] = array.name
    array = now.written(names.get(formulas.parse(text)[1][-1], ""))
    if array is None or array.error is None or array.error > TOLERANCE:
        return
    options = []
    for other in others:
        why = _why_not(array, computed(now, replaced(text, factor, other), array))
        if why:
            shown, plain = _typeset(other, names)
            options.append(Option(shown, why, plain))
    if options:
        words, name = (f"Which factor is missing in {shown}?" for shown in _typeset(replaced(text, factor, BLANK), names))
        shown, plain = _typeset(factor, names)
        yield Question("factor", words, (Option(shown, "", plain), *options[: MOST_FACTORS - 1]), name)


def replaced(text: str, factor: str, other: str) -> str:
    """A formula with something else in the place of a factor."""
    return re.sub(rf"(?<!\w){re.escape(factor)}(?!\w)", lambda _: other, text)


def formula(line: Line, which: int) -> str:
    """One of the equations with which the docstring of a line's operation begins; "" where there are fewer."""
    found = re.split("[;,]  ", inspect.cleandoc(line.definition).split("\n")[0].partition("   ")[0])
    return found[which] if which < len(found) else ""


def computed(now: Moment, text: str, array: Array) -> NDArray | None:
    """What an equation of a line gives for an array that the line writes; None where the shapes do not fit."""
    values: dict = {"L": now.numbers["L"], "K": now.numbers["K"], "sum_l": lambda body, _: body().sum(axis=0, keepdims=True)}
    for parameter, name in now.line.arguments.items():
        if name in now.numbers:
            values[parameter] = now.numbers[name]
        elif name in now.before:
            value = now.before[name]
            if now.line.operation == "affine_gradients":  # every sample of every example is a row
                value = value.reshape(-1, value.shape[-1])
            values[parameter] = value[..., None] if parameter in PER_SAMPLE else value
    if {"nll", "kl"} <= values.keys():
        values["w~"] = softmax(-(values["nll"] + values["beta"] * values["kl"]), axis=0)
    relation = formulas.parse(text)
    shape = array.value[..., None].shape if array.name in PER_SAMPLE else array.value.shape
    try:
        found = np.asarray(evaluate(relation[-1], values), float)
        found = found.reshape(shape) if found.ndim > len(shape) else np.broadcast_to(found, shape)
    except ValueError:
        return None
    return found.reshape(array.value.shape) + (now.before[array.name] if relation[2] == "+=" else 0)


def _why_not(array, found):
    """What is wrong with an array that another factor would give, in a sentence; "" where it is hardly another one."""
    if found is None:
        return "With this factor the shapes do not fit."
    size = np.abs(array.value)
    off = np.minimum(np.nan_to_num(np.abs(found - array.value), nan=np.inf), size)  # it is largest where a large number is off
    if off.max() <= ALIKE * size.max():
        return ""
    place = tuple(map(int, np.unravel_index(off.argmax(), off.shape)))
    return (
        f"With this factor {_element(array.name, place)} would be {number(found[place])}, but finite differences agree with "
        f"{number(array.value[place])}."
    )


# ------------------------------------------------------------------------------------------------------------- in HTML


def _typeset(text, names):
    """A formula in the names that the line uses, as MathML and as text; the missing factor is a square."""
    tree = formulas.substitute(formulas.parse(text), names)
    return tuple(shown.replace(BLANK, "□") for shown in (_bare(tree), typesetting.plain(tree)))


def _bare(tree):
    """A formula as MathML in which no name leads to its lines, because these are what the reader shall predict."""
    text = re.sub(r' (?:data-name|alttext)=(?:"[^"]*"|\'[^\']*\')', "", typesetting.mathml(tree))
    while text != (text := re.sub(r"<mrow>(<(m\w+)[^>]*>[^<]*</\2>)</mrow>", r"\1", text)):  # a row of one element needs no row
        pass
    return text


def text_of(name: str) -> str:
    """The name of an array, as text."""
    return html.escape(typesetting.plain_name(name))


def _element(name, place):
    return f"{text_of(name)}<code>[{html.escape(', '.join(map(str, place)))}]</code>"
