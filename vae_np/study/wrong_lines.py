"""The lines of each exercise, and what students write in place of their parts.

A `Formula` is the value of one output, with a slot for each part that may be wrong. A slot lists what may stand there: first
what is right, then what is wrong, each with the sentence that is said of it. So a wrong answer is compared with every line that
differs from the right one in one slot or in two. The sentences never give the right line away.

The expressions are evaluated with the arguments of the operation as they were before it ran, and with the sizes B, D, H, Z, L
and K. A test holds the right lines to `kernels.reference`.
"""

import ast
import functools
import itertools
import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vae_np.kernels.reference import sigmoid

Slot = dict[str, str]  # {expression: what is said of it}; the first is the right one


class Formula(NamedTuple):
    """A right line with slots, such as "{dnll} * ({mean} - x)"."""

    text: str
    slots: dict[str, Slot]
    also: tuple[str, ...] = ()  # other ways to write the right line

    @property
    def forms(self) -> tuple[str, ...]:
        """The right line, in every way in which it is written here."""
        return (next(expression for _, expression in self.variants(0)), *self.also)

    def variants(self, n_parts: int) -> Iterator[tuple[tuple[str, ...], str]]:
        """Yield the sentences and the expression of each line with so many wrong parts."""
        right = {name: next(iter(slot)) for name, slot in self.slots.items()}
        wrong = [(name, part) for name, slot in self.slots.items() for part in [*slot][1:]]
        for changed in itertools.combinations(wrong, n_parts):
            if len({name for name, _ in changed}) == n_parts:
                yield tuple(self.slots[name][part] for name, part in changed), self._with(right | dict(changed))

    def _with(self, parts):
        text = self.text
        while "{" in text:
            text = re.sub(r"\{(\w+)\}", lambda slot: _bracketed(parts[slot[1]]), text)
        return text


@functools.cache
def _bracketed(part):
    try:
        ast.parse(re.sub(r"[{}]", "", part), mode="eval")
    except SyntaxError:  # a sign, or nothing
        return part
    return f"({part})"


def edits(expression: str) -> Iterator[tuple[str, str]]:
    """Yield what differs from an expression in one sign, number, factor, term or function, and what is said of it."""
    tree = ast.parse(expression, mode="eval")
    for parent in ast.walk(tree):
        for field, child in ast.iter_fields(parent) if not isinstance(parent, ast.keyword) else ():
            children = child if isinstance(child, list) else [child]
            for i, node in enumerate(children):
                for sentence, edited in _edits_of(node) if isinstance(node, ast.expr) else ():
                    setattr(parent, field, [*children[:i], edited, *children[i + 1 :]] if isinstance(child, list) else edited)
                    yield sentence, ast.unparse(ast.fix_missing_locations(tree))
                    setattr(parent, field, child)


def _edits_of(node):
    def named(part, kind):
        return f"the {kind} {part.id}" if isinstance(part, ast.Name) else f"a {kind}"

    def first(words):
        return words[0].upper() + words[1:]

    def operation(kind):
        return ast.BinOp(node.left, kind, node.right)

    match node:
        case ast.BinOp(op=ast.Mult()):
            yield f"It divides by {named(node.right, 'factor')} where it should multiply, in one place.", operation(ast.Div())
            yield (
                f"It divides by {named(node.left, 'factor')} where it should multiply, in one place.",
                ast.BinOp(node.right, ast.Div(), node.left),
            )
            yield f"{first(named(node.right, 'factor'))} is missing in one place.", node.left
            yield f"{first(named(node.left, 'factor'))} is missing in one place.", node.right
        case ast.BinOp(op=ast.Div()):
            yield f"It multiplies by {named(node.right, 'factor')} where it should divide.", operation(ast.Mult())
            yield f"A division by {named(node.right, 'factor')} is missing in one place.", node.left
            yield "A fraction is turned over.", ast.BinOp(node.right, ast.Div(), node.left)
        case ast.BinOp(op=ast.Add() | ast.Sub()):
            other = ast.Sub() if isinstance(node.op, ast.Add) else ast.Add()
            yield f"The sign of {named(node.right, 'term')} is wrong.", operation(other)
            yield f"{first(named(node.right, 'term'))} is missing in one place.", node.left
            yield (
                f"{first(named(node.left, 'term'))} is missing in one place.",
                node.right if other.__class__ is ast.Sub else ast.UnaryOp(ast.USub(), node.right),
            )
        case ast.BinOp(op=ast.Pow()):
            yield "A product stands where a power is meant.", operation(ast.Mult())
            yield "A power is missing.", node.left
        case ast.Call(args=[argument]) if ast.unparse(node.func) in ("np.exp", "np.sqrt", "np.log", "sigmoid"):
            yield f"{ast.unparse(node.func).removeprefix('np.')} is missing.", argument
        case ast.UnaryOp(op=ast.USub()):
            yield f"The sign of {named(node.operand, 'term')} is wrong.", node.operand
        case ast.Constant(value=int(number)) if not isinstance(number, bool):
            for other in {*range(-1, 5), number + 1} - {number}:
                yield f"The number {other} stands where another one is meant.", ast.Constant(other)


def value_of(expression: str, values: Mapping[str, Any], shape: tuple[int, ...]) -> NDArray | None:
    """The value of an expression in this shape; None where it has no value, or one of another shape."""
    try:
        return np.broadcast_to(np.asarray(eval(expression, {"np": np, "sigmoid": sigmoid, **values}), float), shape)
    except (ValueError, IndexError, TypeError, ZeroDivisionError, np.exceptions.AxisError):
        return None


def missing(name: str, more: str = "") -> str:
    """What is said where a factor is missing."""
    return f"The factor {name} is missing{more}."


def unused(given: str, result: str) -> str:
    return missing(given, f": twice the {given} must give twice the {result}, and yours does not move")


REPLACED = "It replaces what stood there before, but two paths lead here: the second one is added to the first."
BEFORE_MEAN = "The only mean over the examples is taken in elbo_backward, so that it is in {} already."
FIRST_SAMPLE = "Only one of the L samples is counted."
MEAN_OF_SAMPLES = "It is divided by L, the number of samples: a mean stands where a sum is meant. The 1 / L is in dz already."


def weights(n_axes: str) -> Slot:
    """The number by which the whole line is multiplied."""
    return {
        "1": "",
        "1 / D": "It is divided by D, the number of inputs. The loss sums over the inputs; the only mean is taken in elbo_backward.",
        "1 / B": "It is divided by B, the number of examples. " + BEFORE_MEAN.format(n_axes),
        "1 / L": f"It is divided by L, the number of samples. The mean over the samples is in {n_axes} already.",
        "1 / (B * D)": f"It is divided by B and by D. The loss sums over the inputs, and the mean over the examples is in {n_axes} already.",
        "1 / (L * B)": f"It is divided by L and by B. Both means are in {n_axes} already.",
        "1 / Z": "It is divided by Z, the number of latents. The loss sums over the latents.",
    }


DY = {
    "dy": "",
    "np.ones_like(dy)": unused("dy", "result"),
    "np.abs(dy)": "The sign of dy is lost.",
    "dy**2": "dy counts twice, as a square.",
    "dy.sum(axis=1, keepdims=True) + 0 * dy": "dy is summed before the product. Each output has a weight of its own.",
    "dy.mean(axis=0) + 0 * dy": "dy is averaged over the rows. Each row has a derivative of its own.",
}
W_T = {
    "W.T": "",
    "np.ones_like(W.T)": "W is missing: each path counts as if its weight were 1.",
    "np.abs(W).T": "The sign of W is lost.",
    "(W**2).T": "W is squared.",
    "np.linalg.pinv(W)": "The inverse of W stands there. A derivative goes back over the same weights; it does not undo the layer.",
    "np.flip(W).T": "W is reversed, not transposed.",
}
DH = {
    "dh": "",
    "1": unused("dh", "dy"),
    "np.maximum(dh, 0)": "It is not linear in dh: it looks at the sign of dh itself. What counts is which y passed.",
    "h": "h stands where dh is meant.",
    "np.abs(dh)": "The sign of dh is lost.",
    "dh**2": "dh counts twice, as a square.",
}
PER_EXAMPLE = {"dkl[0][:, None]": "", "1": unused("dkl", "result"), "dkl[0][:, None]**2": "dkl counts twice, as a square."}
LOG_W = {
    "-(nll + beta * kl)": "",
    "(nll + beta * kl)": "log w has the wrong sign: a sample that explains x badly gets the largest weight.",
    "-(nll + kl)": "beta is missing in log w.",
    "-nll": "The kl is missing in log w.",
    "-beta * kl": "The nll is missing in log w.",
    "-kl": "The nll and beta are missing in log w.",
    "-(nll - beta * kl)": "The kl has the wrong sign in log w.",
    "-beta * (nll + kl)": "beta multiplies the nll, too, in log w.",
    "-(beta * nll + kl)": "beta multiplies the nll, and not the kl, in log w.",
    "0 * nll": "Every sample has the same weight. This is the derivative of the ELBO; here a sample counts by its share of w.",
    "-nll - beta * kl - nll": "The nll counts twice in log w.",
    "-2 * (nll + beta * kl)": "log w counts twice, so that w is squared.",
    "-(nll + beta * kl) / 2": "log w is halved, so that w is a square root.",
}
SHARES = {
    "w / w.sum(axis=0)": "",
    "w / w.sum(axis=1, keepdims=True)": "The weights of one example do not add up; those of one sample do. Over what is the mean "
    "in the bound?",
    "w / w.sum()": "The weights are shared among all samples of all examples. Each example has a bound of its own.",
    "w / w": "The weights are divided by themselves, and not by their sum.",
    "np.log(w) / np.log(w).sum(axis=0)": "The exp is missing: log w stands where w is meant.",
    "(np.log(w) - np.log(w).max(axis=0)) / (np.log(w) - np.log(w).max(axis=0)).sum(axis=0)": "The exp is missing: log w stands "
    "where w is meant.",
    "w.sum(axis=0) / w": "The sum is divided by the weight, and not the weight by the sum.",
    "np.log(w)": "The exp is missing: log w stands where w is meant.",
    "w": "The weights are not divided by their sum: the derivative of a logarithm divides.",
    "w / w.mean(axis=0)": "It is L times too much: the weights of an example add up to L, and not to 1.",
    "w / w.max(axis=0)": "The weights are divided by the largest one, and not by their sum.",
    "(w / w.sum(axis=0)) ** 2": "The share of each sample is squared.",
    "w / w.sum(axis=0) * (1 - w / w.sum(axis=0))": "This is the derivative of a softmax. The bound is a logarithm of a sum, whose "
    "derivative is the softmax itself.",
    "np.log(w / w.sum(axis=0))": "The logarithm of the weights stands where the weights are meant.",
    "1.0 * (w == w.max(axis=0))": "Only the sample with the largest weight counts. Each sample counts by its share.",
}
MEAN_OF_EXAMPLES = {
    "n_examples": "",
    "B": "It is divided by B. The loss is the mean over n_examples, which is more where a holds a part of the batch.",
    "1": "The mean over the examples is missing.",
    "(L * n_examples)": "It is divided by L as well.",
    "(L * B)": "It is divided by L and by B. The loss is the mean over n_examples.",
    "n_examples**2": "It is divided by n_examples twice.",
}

FORMULAS: dict[str, dict[str, Formula]] = {
    "elbo_backward": {
        "dnll": Formula(
            "{beta} / ({L} * {n})",
            {
                "beta": {
                    "1": "",
                    "beta": "beta weighs the KL only, and not the nll.",
                    "nll": "nll is not a factor of its own derivative.",
                },
                "L": {
                    "L": "",
                    "1": "The mean over the L samples is missing.",
                    "B": "It is divided by B. The mean over the samples divides by L.",
                    "L**2": "It is divided by L twice.",
                },
                "n": MEAN_OF_EXAMPLES,
            },
        ),
        "dkl": Formula(
            "{beta} / ({K} * {n})",
            {
                "beta": {
                    "beta": "",
                    "1": missing("beta"),
                    "beta**2": "beta counts twice.",
                    "1 / beta": "It is divided by beta.",
                    "beta * kl": "kl is not a factor of its own derivative.",
                },
                "K": {
                    "K": "",
                    "L": "It is divided by L. There are K kl of each example: one here, and L where the KL is sampled.",
                    "1": "The mean over the K kl of an example is missing.",
                    "B": "It is divided by B. The mean over the kl of an example divides by K.",
                    "Z": "It is divided by Z. The loss sums over the latents.",
                },
                "n": MEAN_OF_EXAMPLES,
            },
        ),
    },
    "bernoulli_nll_backward": {
        "dlogits": Formula(
            "{dnll} * ({mean} - {x}) * {slope} * {weight}",
            {
                "dnll": {
                    "dnll[:, :, None]": "",
                    "1": unused("dnll", "dlogits"),
                    "dnll[:, :, None] ** 2": "dnll counts twice, as a square.",
                    "dnll.sum(axis=0)[None, :, None]": "dnll is summed over the samples. Each sample has a nll of its own.",
                    "dnll.mean(axis=0)[None, :, None]": "dnll is averaged over the samples. Each sample has a nll of its own.",
                    "dnll.sum(axis=1)[:, None, None]": "dnll is summed over the examples. Each example has a nll of its own.",
                    "dnll.mean(axis=1)[:, None, None]": "dnll is averaged over the examples. Each example has a nll of its own.",
                    "dnll[:1, :, None]": "The dnll of the first sample stands for that of all samples.",
                    "dnll.sum()": "dnll is summed. Each sample has a nll of its own.",
                },
                "mean": {
                    "sigmoid(logits)": "",
                    "logits": "The logits stand where the probability is meant that they are the logits of.",
                    "np.exp(logits)": "exp(logits) are the odds, and not the probability.",
                    "sigmoid(-logits)": "sigmoid(-logits) is the probability of a 0. Which one belongs to a 1?",
                    "sigmoid(sigmoid(logits))": "The sigmoid is taken twice.",
                    "0": "One of the two terms is missing: the derivative of the term with 1 - x depends on the logits.",
                    "1": "The predicted probability is missing: 1 stands in its place.",
                    "np.tanh(logits)": "tanh stands where the sigmoid is meant.",
                    "sigmoid(logits) ** 2": "The sigmoid is squared.",
                    "1.0 * (sigmoid(logits) > 0.5)": "The probability is rounded to 0 or 1.",
                    "np.log(sigmoid(logits))": "The logarithm of the probability stands where the probability is meant.",
                    "(1 - x) * sigmoid(logits) + x * sigmoid(-logits) + x": "One of the two terms has the wrong sign.",
                    "x - x * np.log(sigmoid(logits)) - (1 - x) * np.log(sigmoid(-logits))": "These are the terms of the nll "
                    "itself, and not their derivatives.",
                    "(1 - x) * sigmoid(logits) + x": "The term with x is missing.",
                    "x - x * sigmoid(-logits)": "The term with 1 - x is missing.",
                    "x * sigmoid(logits) - (1 - x) * sigmoid(-logits) + x": "x and 1 - x are exchanged.",
                },
                "x": {
                    "x": "",
                    "(1 - x)": "1 - x stands where x is meant.",
                    "0": "x is missing: the derivative must depend on what was observed.",
                    "(-x)": "x has the wrong sign.",
                    "x[0]": "The x of the first example stands for that of all examples.",
                    "x.mean(axis=0)": "x is averaged over the examples. Each example has an x of its own.",
                    "x * sigmoid(logits)": "x is multiplied by the sigmoid.",
                    "1.0 * (x > 0.5)": "x is rounded to 0 or 1.",
                    "0.5": "x is missing: 1/2 stands in its place.",
                },
                "slope": {
                    "1": "",
                    "sigmoid(logits) * sigmoid(-logits)": "The slope of the sigmoid is a factor too much: it cancels against that of the logarithms.",
                    "1 / (sigmoid(logits) * sigmoid(-logits))": "This is the derivative by the mean: the slope of the mean by the logits is missing.",
                    "(sigmoid(logits) - x)": "The error is squared: it is the derivative already.",
                    "logits": "The logits are a factor too much.",
                    "x": "x is a factor too much.",
                    "sigmoid(logits)": "The sigmoid is a factor too much.",
                },
                "weight": weights("dnll"),
            },
            (
                "dnll[:, :, None] * ((1 - x) * sigmoid(logits) - x * sigmoid(-logits))",
                "dnll[:, :, None] * (1 / (1 + np.exp(-logits)) - x)",
                "dnll[:, :, None] * (np.exp(logits) / (1 + np.exp(logits)) - x)",
            ),
        ),
    },
    "gaussian_nll_backward": {
        "dmean": Formula(
            "{dnll} * {error} * {precision} * {weight}",
            {
                "dnll": {
                    "dnll[:, :, None]": "",
                    "1": unused("dnll", "dmean"),
                    "dnll[:, :, None] / 2": "It is halved: the square has a factor 2 in its slope.",
                    "dnll.sum(axis=0)[None, :, None]": "dnll is summed over the samples. Each sample has a nll of its own.",
                },
                "error": {
                    "(mean - x)": "",
                    "(x - mean)": "The sign is wrong: dmean is positive where the mean is too large.",
                    "(mean + x)": "x has the wrong sign.",
                    "mean": "x is missing.",
                    "-x": "The mean is missing.",
                    "(mean - x) ** 2": "The error is squared: this is not yet the derivative of the square.",
                    "np.abs(mean - x)": "The sign of the error is lost.",
                    "np.sign(mean - x)": "Only the sign of the error is left: this is the derivative of an absolute value.",
                    "(sigmoid(mean) - x)": "There is no sigmoid: the output is the mean itself.",
                },
                "precision": {
                    "np.exp(-output_logvar)": "",
                    "1": "The division by the variance is missing.",
                    "np.exp(-output_logvar / 2)": "It is divided by the standard deviation, where the nll divides by the variance.",
                    "np.exp(output_logvar)": "It is multiplied by the variance, where the nll divides by it.",
                    "np.exp(output_logvar / 2)": "It is multiplied by the standard deviation, where the nll divides by the variance.",
                    "np.exp(-2 * output_logvar)": "It is divided by the variance twice.",
                    "1 / output_logvar": "It is divided by the logarithm of the variance, where the nll divides by the variance.",
                    "-output_logvar": "The exp is missing: output_logvar is a logarithm.",
                },
                "weight": weights("dnll"),
            },
        ),
        "doutput_logvar": Formula(
            "{sum}({dnll} / {two} * ({one} {minus} {square} * {precision}) * {slope})",
            {
                "sum": {
                    "(lambda a: a if doutput_logvar.shape == mean.shape else a.sum(axis=-1, keepdims=True))": "",
                    "(lambda a: a if doutput_logvar.shape == mean.shape else a.mean(axis=-1, keepdims=True))": "A mean over the inputs stands where a sum is meant: the paths add.",
                    "(lambda a: a if doutput_logvar.shape == mean.shape else a[..., :1])": "Only the first input is counted. All inputs share this log-variance, and their paths add.",
                    "(lambda a: a * 0 + a.sum(axis=-1, keepdims=True))": "It is summed over the inputs, although each of them has a log-variance of its own.",
                    "(lambda a: a * 0 + a.mean(axis=-1, keepdims=True))": "It is averaged over the inputs, although each of them has a log-variance of its own.",
                },
                "dnll": {
                    "dnll[:, :, None]": "",
                    "1": unused("dnll", "doutput_logvar"),
                    "dnll[:, :, None] ** 2": "dnll counts twice, as a square.",
                },
                "two": {
                    "2": "",
                    "1": "The 1/2 of the nll is missing.",
                    "4": "It is halved twice.",
                    "-2": "The sign is wrong: it must be positive where the variance is larger than the squared error.",
                },
                "one": {
                    "1": "",
                    "0": "The slope of the term output_logvar itself is missing.",
                    "-1": "The slope of the term output_logvar itself has the wrong sign.",
                    "output_logvar": "output_logvar stands where its slope is meant.",
                    "2": "The slope of the term output_logvar itself counts twice.",
                    "(np.log(2 * np.pi) + 1)": "log 2 pi is a constant: its derivative is 0.",
                    "(np.log(2 * np.pi) + output_logvar)": "These are the terms of the nll itself, and not their derivatives.",
                    "np.exp(-output_logvar)": "The slope of the logarithm is taken by the variance, and not by its logarithm.",
                },
                "slope": {
                    "1": "",
                    "np.exp(-output_logvar)": "This is the derivative by the variance, and not by output_logvar.",
                    "2 * np.exp(-output_logvar / 2)": "This is the derivative by the standard deviation, and not by output_logvar.",
                },
                "minus": {"-": "", "+": "The sign of the slope of exp(-output_logvar) is wrong."},
                "square": {
                    "(x - mean) ** 2": "",
                    "(x + mean) ** 2": "The sign of x is wrong in the error.",
                    "(x - mean)": "The error is not squared.",
                    "(mean - x)": "The error is not squared.",
                    "np.abs(x - mean)": "The error is not squared.",
                    "0": "The squared error is missing.",
                    "1": "The squared error is missing: only the precision is left.",
                    "2 * (x - mean) ** 2": "The squared error counts twice.",
                },
                "precision": {
                    "np.exp(-output_logvar)": "",
                    "1": "The division by the variance is missing.",
                    "np.exp(-output_logvar / 2)": "It is divided by the standard deviation, where the nll divides by the variance.",
                    "np.exp(output_logvar)": "It is multiplied by the variance, where the nll divides by it.",
                    "np.exp(-2 * output_logvar)": "It is divided by the variance twice.",
                },
            },
        ),
    },
    "affine_backward": {"dx": Formula("{dy} @ {W} * {weight}", {"dy": DY, "W": W_T, "weight": weights("dy")})},
    "affine_gradients": {
        "dW": Formula(
            "{x}.T @ {dy} * {weight} + {l2}",
            {
                "x": {
                    "x": "",
                    "np.ones_like(x)": "The factor x is missing: the slope of W_io is x_i.",
                    "x**2": "x is squared.",
                    "x * (np.arange(B) == 0)[:, None]": "Only the first row is counted.",
                    "x.mean(axis=0) + 0 * x": "x is averaged over the rows before the product. The product belongs to each row.",
                },
                "dy": {
                    **DY,
                    "dy * (np.arange(B) == 0)[:, None]": "Only the first row is counted.",
                    "dy.sum(axis=0) + 0 * dy": "dy is summed over the rows before the product. The product belongs to each row.",
                },
                "weight": {
                    **weights("dy"),
                    "l2": "The part of the data is multiplied by l2.",
                    "(1 - l2)": "The part of the data is multiplied by 1 - l2: the penalty is added, and nothing is weighed against it.",
                    "-1": "The part of the data has the wrong sign: l2 W is right.",
                    "0": "Only l2 W is left.",
                    "1 / 2": "The part of the data is halved.",
                    "2": "The part of the data counts twice.",
                },
                "l2": {
                    "l2 * W": "",
                    "0": "The derivative of the penalty on large weights is missing.",
                    "W": missing("l2", " in the derivative of the penalty"),
                    "2 * l2 * W": "The derivative of the penalty counts twice: the loss holds l2 / 2 times the squares.",
                    "l2 / 2 * W": "The derivative of the penalty is halved: a square has a factor 2 in its slope.",
                    "-l2 * W": "The derivative of the penalty has the wrong sign.",
                    "l2": "The derivative of the penalty depends on W, and yours adds the same number to all.",
                    "l2 * W**2": "The weights are squared: this is not yet the derivative of the square.",
                    "l2 / 2 * W**2": "This is the penalty itself, and not its derivative.",
                    "l2 * np.sign(W)": "Only the sign of W is left in the penalty: this is the derivative of absolute values.",
                    "l2 * np.abs(W)": "The sign of W is lost in the derivative of the penalty.",
                    "l2 * W / B": "The derivative of the penalty is divided by B. The penalty is added to the loss once, and not for each example.",
                    "l2 * W * B": "The derivative of the penalty counts B times. The penalty is added to the loss once, and not for each example.",
                    "l2 * W.sum()": "The derivative of the penalty is summed over the weights. Each weight has a derivative of its own.",
                    "l2**2 * W": "l2 is squared in the derivative of the penalty.",
                },
            },
        ),
        "db": Formula(
            "{sum} * {weight}",
            {
                "sum": {
                    "dy.sum(axis=0)": "",
                    "dy.mean(axis=0)": "It is divided by B, the number of rows: a mean stands where a sum is meant. "
                    + BEFORE_MEAN.format("dy"),
                    "dy[0]": "Only the first row is counted. b acts in every row.",
                    "dy[-1]": "Only the last row is counted. b acts in every row.",
                    "dy.sum()": "The sum is over everything. Each output has a bias of its own.",
                    "dy.mean()": "The mean is over everything. Each output has a bias of its own.",
                    "dy.max(axis=0)": "The largest row stands where the sum over the rows is meant.",
                    "np.abs(dy).sum(axis=0)": "The sign of dy is lost.",
                    "B": unused("dy", "db"),
                    "(dy.sum(axis=0) + l2)": "The biases are not decayed: l2 does not belong here.",
                    "(dy.sum(axis=0) + l2 * W.sum(axis=0))": "The penalty holds no biases: l2 does not belong here.",
                    "(x.sum() * dy.sum(axis=0))": "b has the slope 1, and not x.",
                    "(dy * x.sum(axis=1, keepdims=True)).sum(axis=0)": "b has the slope 1, and not x.",
                    "dy.sum(axis=0) / 2": "It is halved.",
                },
                "weight": weights("dy"),
            },
        ),
    },
    "relu_backward": {
        "dh": Formula(
            "np.where({passed}, {dh}, {else})",
            {
                "passed": {
                    "h > 0": "",
                    "h >= 0": "Everything passes: h is never below 0. Where h is 0, y did not pass.",
                    "h == 0": "The two cases are exchanged: it passes where y did not.",
                    "h < 0": "Nothing passes: h is never below 0.",
                    "dh > 0": "It is not linear in dh: it looks at the sign of dh itself. What counts is which y passed.",
                    "dh < 0": "It is not linear in dh: it looks at the sign of dh itself. What counts is which y passed.",
                    "(h > 0) & (dh > 0)": "It is not linear in dh: it looks at the sign of dh, too. What counts is which y passed.",
                    "h > 1": "The slope changes where h is above 1. y passes above 0.",
                    "h > 0.5": "The slope changes where h is above 1/2. y passes above 0.",
                    "h > dh": "It compares h with dh. What counts is which y passed.",
                    "h < 1": "Small h pass and large ones do not. y passes above 0.",
                },
                "dh": {
                    **DH,
                    "dh * h": "h is a factor too much: the slope is 1 where y passed, and not h.",
                    "dh / np.where(h > 0, h, 1)": "It is divided by h: the slope is 1 where y passed.",
                    "-dh": "The sign is wrong.",
                    "dh / 2": "It is halved.",
                    "2 * dh": "It counts twice.",
                },
                "else": {
                    "0": "",
                    "0.01 * dh": "A hundredth passes where h is 0: this is the derivative of a leaky rectifier.",
                    "0.1 * dh": "A tenth passes where h is 0: this is the derivative of a leaky rectifier.",
                    "-dh": "dh passes with the other sign where h is 0: this is the derivative of an absolute value.",
                    "dh / 2": "Half of dh passes where h is 0.",
                    "1": "It is 1 where h is 0. Nothing passes there.",
                    "h - 1": "It is -1 where h is 0. Nothing passes there.",
                },
            },
        ),
    },
    "tanh_backward": {
        "dh": Formula(
            "{dh} * {slope}",
            {
                "dh": DH,
                "slope": {
                    "(1 - h**2)": "",
                    "(1 - h)": "The square of h is missing.",
                    "(1 + h)": "The square of h is missing, and its sign is wrong.",
                    "1 / (1 - h**2)": "It is divided by the slope, and not multiplied.",
                    "(1 + h) ** 2": "The square is taken of 1 + h, and not of h alone.",
                    "(1 - h) / (1 + h)": "It is divided by 1 + h where it should be multiplied.",
                    "(1 + h) / (1 - h)": "It is divided by 1 - h where it should be multiplied.",
                    "(1 + h**2)": "The sign of the square is wrong: the slope is never above 1.",
                    "(1 - np.tanh(h) ** 2)": "tanh is taken twice: h is the value of tanh already.",
                    "(1 - np.tanh(h))": "tanh is taken twice, and the square is missing: h is the value of tanh already.",
                    "h * (1 - h)": "This is the slope of the sigmoid.",
                    "h": "This is the value of tanh, and not its slope.",
                    "np.tanh(h)": "tanh is taken twice, and it is not the slope: h is the value of tanh already.",
                    "-(h**2)": "The 1 of the slope is missing.",
                    "h**2": "The 1 of the slope is missing, and the sign.",
                    "(h**2 - 1)": "The sign is wrong: tanh rises everywhere.",
                    "(1 - h) ** 2": "The square is taken of 1 - h, and not of h alone.",
                    "(1 - h**3)": "The power of h is another one.",
                    "np.sqrt(1 - h**2)": "A square root is too much.",
                    "(1 - h**2) ** 2": "The slope is squared.",
                    "1": "The slope of tanh is missing: dh passes unchanged.",
                    "1.0 * (h > 0)": "This is the slope of the rectifier.",
                    "(1 - 2 * h)": "The derivative of the square was taken: h^2 itself belongs there.",
                    "(1 - 2 * h**2)": "The square counts twice.",
                    "(1 - h**2) / 2": "It is halved.",
                    "2 * (1 - h**2)": "It counts twice.",
                    "-2 * h * (1 - h**2)": "This is the second derivative of tanh.",
                    "np.cosh(h)": "The slope is one by the square of cosh(y), and y is not h.",
                    "(1 - np.arctanh(h) ** 2)": "y stands where its tanh is meant.",
                },
            },
            ("dh * (1 - h) * (1 + h)", "dh - dh * h**2"),
        ),
    },
    "softplus_backward": {
        "dh": Formula(
            "{dh} * {slope}",
            {
                "dh": DH,
                "slope": {
                    "(1 - np.exp(-h))": "",
                    "np.exp(-h)": "This is 1 minus the slope.",
                    "sigmoid(h)": "The slope is the sigmoid of y, and h is not y.",
                    "sigmoid(-h)": "The slope is the sigmoid of y, and not that of -h.",
                    "sigmoid(h) * sigmoid(-h)": "This is the slope of a sigmoid. The slope of softplus is a sigmoid itself, of y.",
                    "(1 - np.exp(h))": "The sign in the exponent is wrong.",
                    "(np.exp(h) - 1)": "This is exp(y): a division by 1 + exp(y) is missing.",
                    "np.exp(h)": "This is 1 + exp(y), and not the slope.",
                    "(1 + np.exp(-h))": "A sign is wrong: the slope is never above 1.",
                    "(np.exp(-h) - 1)": "The sign is wrong: softplus rises everywhere.",
                    "(1 - np.exp(-h)) * np.exp(-h)": "This is the second derivative of softplus.",
                    "1": "The slope of softplus is missing: dh passes unchanged.",
                    "1.0 * (h > 0)": "This is the slope of the rectifier.",
                    "h": "This is the value of softplus, and not its slope.",
                    "(1 - h**2)": "This is the slope of tanh.",
                    "(1 - np.tanh(h) ** 2)": "This is a slope of tanh.",
                    "h * (1 - h)": "This is the slope of a sigmoid in its own value; h is the value of softplus.",
                    "(1 - h)": "The exp is missing.",
                    "np.log1p(np.exp(h))": "softplus is taken again; its slope is wanted.",
                    "(1 - np.exp(-2 * h))": "The exponent counts twice.",
                    "(1 - np.exp(-h / 2))": "The exponent is halved.",
                    "1 / (1 - np.exp(-h))": "It is divided by the slope, and not multiplied.",
                    "(1 - np.exp(-h)) ** 2": "The slope is squared.",
                    "(1 - np.exp(-h)) / 2": "It is halved.",
                    "np.tanh(h)": "tanh stands where the sigmoid of y is meant.",
                    "(1 - np.log1p(np.exp(-h)))": "The logarithm does not belong to the slope.",
                },
            },
            ("dh * (np.exp(h) - 1) / np.exp(h)", "dh - dh * np.exp(-h)"),
        ),
    },
    "gaussian_kl_backward": {
        "dz": Formula(
            "{dz} + {kl}",
            {
                "dz": {
                    "dz": "",
                    "0": "What came through the decoder is lost. The formula contains no z, so that the KL changes nothing in it.",
                },
                "kl": {
                    "0": "",
                    "dkl[0][:, None] * z": "The KL of the samples would add this. The closed form contains no z.",
                    "dkl[0][:, None]": "The closed form contains no z: nothing is added to dz.",
                    "dkl[0][:, None] * mu": "The closed form contains no z: nothing is added to dz.",
                },
            },
        ),
        "dmu": Formula(
            "{dkl} * {mu} * {weight}",
            {
                "dkl": PER_EXAMPLE,
                "mu": {
                    "mu": "",
                    "2 * mu": "It counts twice: the 1/2 before the sum is forgotten.",
                    "mu / 2": "It is halved: a square has a factor 2 in its slope.",
                    "-mu": "The sign is wrong: the KL pulls mu towards 0.",
                    "mu**2": "mu is squared: this is not yet the derivative of the square.",
                    "(mu - 1)": "1 is subtracted from mu: the prior has the mean 0.",
                    "(mu + 1)": "1 is added to mu: the prior has the mean 0.",
                    "mu**2 / 2": "This is the term of the KL itself, and not its derivative.",
                    "1": "The factor mu is missing.",
                    "np.abs(mu)": "The sign of mu is lost.",
                    "np.sign(mu)": "Only the sign of mu is left.",
                    "mu * np.exp(-logvar)": "It is divided by the variance. The prior has the variance 1.",
                    "mu * np.exp(logvar)": "It is multiplied by the variance.",
                    "mu * np.exp(logvar / 2)": "It is multiplied by the standard deviation.",
                    "mu * np.exp(-logvar / 2)": "It is divided by the standard deviation. The prior has the variance 1.",
                    "z.mean(axis=0)": "z stands where mu is meant.",
                    "z.sum(axis=0)": "z stands where mu is meant.",
                    "z[0]": "z stands where mu is meant.",
                    "mu.sum(axis=1, keepdims=True)": "mu is summed over the latents. Each of them has a path of its own.",
                    "0": "mu has a path through the KL: its derivative is not 0.",
                },
                "weight": weights("dkl"),
            },
        ),
        "dlogvar": Formula(
            "{dkl} / {two} * ({variance} - {one}) * {slope} * {weight}",
            {
                "dkl": PER_EXAMPLE,
                "two": {
                    "2": "",
                    "1": "It counts twice: the 1/2 before the sum is forgotten.",
                    "4": "It is halved twice.",
                    "-2": "The sign is wrong: a variance above 1 makes the KL larger.",
                    "-1": "The sign is wrong, and the 1/2 before the sum is forgotten.",
                },
                "variance": {
                    "np.exp(logvar)": "",
                    "np.exp(logvar / 2)": "A standard deviation stands where a variance is meant.",
                    "np.exp(2 * logvar)": "The variance is squared.",
                    "2 * np.exp(2 * logvar)": "The variance is squared: exp(logvar) is the variance already.",
                    "np.exp(logvar / 2) / 2": "A standard deviation stands where a variance is meant.",
                    "(np.exp(logvar) + 2 * mu)": "mu does not depend on logvar.",
                    "np.exp(-logvar)": "The sign in the exponent is wrong.",
                    "logvar": "The exp is missing: logvar is a logarithm.",
                    "logvar * np.exp(logvar)": "logvar is a factor too much: the slope of exp is exp.",
                    "0": "The slope of the variance is missing.",
                    "np.exp(logvar) / 2": "The slope of the variance is halved twice.",
                    "2 * np.exp(logvar)": "The slope of the variance counts twice.",
                    "-np.exp(logvar)": "The slope of the variance has the wrong sign.",
                    "(np.exp(logvar) + mu**2)": "mu^2 does not depend on logvar: its derivative is 0.",
                    "(np.exp(logvar) + mu)": "mu does not depend on logvar.",
                },
                "one": {
                    "1": "",
                    "0": "The slope of the term -logvar is missing. It is that of the entropy of q.",
                    "-1": "The slope of the term -logvar has the wrong sign. It is that of the entropy of q.",
                    "logvar": "logvar stands where its slope is meant.",
                    "(1 + logvar)": "The terms of the KL stand there. The 1 is a constant, and logvar is not yet its own derivative.",
                    "2": "The constant -1 of the KL is kept as well: its derivative is 0.",
                    "1 / 2": "The slope of the term -logvar is halved twice.",
                    "np.exp(-logvar)": "The logarithm is differentiated by the variance, and not by logvar.",
                    "1 / logvar": "logvar is the logarithm already: its slope is not that of another logarithm.",
                },
                "slope": {
                    "1": "",
                    "2 * np.exp(-logvar / 2)": "This is the derivative by the standard deviation, and not by logvar.",
                    "np.exp(-logvar)": "This is the derivative by the variance, and not by logvar.",
                    "np.exp(logvar)": "The variance is a factor too much.",
                    "np.exp(logvar / 2)": "The standard deviation is a factor too much.",
                    "logvar": "logvar is a factor too much.",
                },
                "weight": weights("dkl"),
            },
        ),
    },
    "reparameterize_backward_add": {
        "dmu": Formula(
            "{dmu} + {sign} {paths}",
            {
                "dmu": {
                    "dmu": "",
                    "0": REPLACED,
                    "2 * dmu": "What stood there before is added to itself: `a += a + b` adds it twice.",
                    "-dmu": "What stood there before has the wrong sign.",
                },
                "sign": {"": "", "-": "The sign of what is added is wrong."},
                "paths": {
                    "dz.sum(axis=0)": "",
                    "dz.mean(axis=0)": MEAN_OF_SAMPLES,
                    "dz[0]": FIRST_SAMPLE,
                    "dz[-1]": FIRST_SAMPLE,
                    "(dz - dz.mean(axis=1, keepdims=True)).sum(axis=0)": "The mean over the examples is subtracted. Each example has a "
                    "path of its own.",
                    "dz.max(axis=0)": "The largest sample stands where the sum over the samples is meant.",
                    "dz.sum()": "The sum is over everything. It belongs to the samples only.",
                    "dz.sum(axis=0) / B": "What is added is divided by B. The mean over the examples is in dz already.",
                    "dz.sum(axis=0) / Z": "What is added is divided by Z, the number of latents.",
                    "(dz * eps).sum(axis=0)": "eps is a factor too much: the slope of z by mu does not contain it.",
                    "dz.sum(axis=0) * np.exp(logvar / 2)": "The standard deviation is a factor too much: mu is not multiplied by it.",
                    "dz.sum(axis=0) * np.exp(logvar)": "The variance is a factor too much: mu is not multiplied by it.",
                    "dz.sum(axis=0) * np.exp(-logvar / 2)": "It is divided by the standard deviation: mu is not.",
                    "(dz * eps).sum(axis=0) * np.exp(logvar / 2)": "eps and the standard deviation are factors too much: the slope of z by mu does not contain them.",
                    "dz.sum(axis=0) * mu": "mu is a factor too much: the slope of z by mu does not contain it.",
                    "0": "The path through z is missing: nothing is added.",
                    "2 * dz.sum(axis=0)": "What is added counts twice.",
                    "dz.sum(axis=0) / 2": "What is added is halved.",
                    "L": unused("dz", "change of dmu"),
                    "1": unused("dz", "change of dmu"),
                    "np.abs(dz).sum(axis=0)": "The sign of dz is lost.",
                },
            },
        ),
        "dlogvar": Formula(
            "{dlogvar} + {sign} {sum} * {std} / {two}",
            {
                "dlogvar": {
                    "dlogvar": "",
                    "0": REPLACED,
                    "2 * dlogvar": "What stood there before is added to itself: `a += a + b` adds it twice.",
                    "-dlogvar": "What stood there before has the wrong sign.",
                },
                "sign": {
                    "": "",
                    "-": "The sign of what is added is wrong.",
                    "0 *": "The path through z is missing: nothing is added.",
                },
                "sum": {
                    "(dz * eps).sum(axis=0)": "",
                    "(dz * eps).mean(axis=0)": MEAN_OF_SAMPLES,
                    "dz.sum(axis=0)": "eps is missing: a draw that is far from mu is moved further by the standard deviation.",
                    "(dz * eps)[0]": FIRST_SAMPLE,
                    "(dz * eps)[-1]": FIRST_SAMPLE,
                    "dz.sum(axis=0) * eps.sum(axis=0)": "The sums are taken before the product. Each sample has a dz and an eps of its own.",
                    "dz.sum(axis=0) * eps.mean(axis=0)": "The sums are taken before the product. Each sample has a dz and an eps of its own.",
                    "dz.mean(axis=0) * eps.mean(axis=0)": "Means are taken before the product. Each sample has a dz and an eps of its own.",
                    "dz.mean(axis=0) * eps.sum(axis=0)": "The sums are taken before the product. Each sample has a dz and an eps of its own.",
                    "dz.sum(axis=0) * eps[0]": "The eps of one sample stands for that of all. Each sample has an eps of its own.",
                    "eps.sum(axis=0)": unused("dz", "change of dlogvar"),
                    "(dz * eps**2).sum(axis=0)": "eps is squared.",
                    "(dz * mu).sum(axis=0)": "mu stands where eps is meant.",
                    "(dz * (mu + np.exp(logvar / 2) * eps)).sum(axis=0)": "z stands where eps is meant.",
                    "(dz * np.abs(eps)).sum(axis=0)": "The sign of eps is lost.",
                    "(dz * eps).sum()": "The sum is over everything. It belongs to the samples only.",
                    "(dz * eps).sum(axis=0) / B": "What is added is divided by B. The mean over the examples is in dz already.",
                    "(dz * eps).sum(axis=0) / Z": "What is added is divided by Z, the number of latents.",
                },
                "std": {
                    "np.exp(logvar / 2)": "",
                    "1": "The standard deviation is missing.",
                    "np.exp(logvar)": "A variance stands where a standard deviation is meant: z has exp(logvar / 2).",
                    "np.exp(2 * logvar)": "A squared variance stands where a standard deviation is meant.",
                    "np.exp(-logvar / 2)": "The sign in the exponent is wrong.",
                    "np.exp(-logvar)": "It is divided by the variance, where z has the factor exp(logvar / 2).",
                    "np.exp(logvar / 4)": "The root of a standard deviation stands where the standard deviation is meant.",
                    "logvar": "The exp is missing: logvar is a logarithm.",
                    "logvar / 2": "The exp is missing: logvar is a logarithm.",
                    "np.exp(logvar / 2) * logvar": "logvar is a factor too much: the slope of exp is exp.",
                    "(mu + np.exp(logvar / 2))": "mu does not depend on logvar.",
                },
                "two": {
                    "2": "",
                    "1": "It is twice what is to be added: what is the slope of exp(u / 2)?",
                    "4": "It is half of what is to be added.",
                    "(1 / 2)": "It is 4 times what is to be added: the slope of exp(u / 2) is not 2 exp(u / 2).",
                },
            },
        ),
    },
    "sampled_kl_backward": {
        "dz": Formula(
            "{dz} + {sign} {dkl} * {z}",
            {
                "dz": {
                    "dz": "",
                    "0": REPLACED,
                    "2 * dz": "What stood there before is added to itself: `a += a + b` adds it twice.",
                },
                "sign": {
                    "": "",
                    "-": "The sign of what is added is wrong.",
                    "0 *": "The path from z to the KL is missing: nothing is added.",
                },
                "dkl": {
                    "dkl[:, :, None]": "",
                    "1": unused("dkl", "change of dz"),
                    "dkl.sum(axis=0)[:, None]": "dkl is summed over the samples. Each sample has a kl of its own.",
                    "dkl.mean(axis=0)[:, None]": "dkl is averaged over the samples. Each sample has a kl of its own.",
                    "dkl[:, :, None] / L": "What is added is divided by L. The 1 / L is in dkl already.",
                    "dkl[:, :, None] / B": "What is added is divided by B. The mean over the examples is in dkl already.",
                },
                "z": {
                    "z": "",
                    "2 * z": "What is added counts twice: the 1/2 before the sum is forgotten.",
                    "z / 2": "What is added is halved: a square has a factor 2 in its slope.",
                    "z**2": "z is squared: this is not yet the derivative of the square.",
                    "z**2 / 2": "This is the term of the KL itself, and not its derivative.",
                    "1": "The factor z is missing.",
                    "eps": "eps stands where z is meant.",
                    "mu": "mu stands where z is meant.",
                    "(z - mu)": "The mean of q is subtracted: the prior has the mean 0.",
                    "(z - eps)": "eps^2 is differentiated, too. eps is a fixed number.",
                    "(z + eps)": "eps^2 is differentiated, too. eps is a fixed number.",
                    "(z - (z - mu) * np.exp(-logvar))": "log q(z|x) is differentiated by z, too. There (z - mu)^2 / exp(logvar) is eps^2, which is fixed.",
                    "(-(z - mu) * np.exp(-logvar))": "This is the slope of log q(z|x). (z - mu)^2 / exp(logvar) is eps^2, which is fixed.",
                    "z * np.exp(-logvar)": "It is divided by the variance. The prior has the variance 1.",
                },
            },
        ),
        "dmu": Formula(
            "{none}",
            {
                "none": {
                    "0": "",
                    "dkl.sum(axis=0)[:, None] * mu": "This is the derivative of the closed form. Here mu acts only through z, whose path comes later.",
                    "(dkl[:, :, None] * z).sum(axis=0)": "This is the path through z. It is added later, by reparameterize_backward_add, and would count twice.",
                    "-(dkl[:, :, None] * z).sum(axis=0)": "mu acts only through z, and that path comes later.",
                    "(dz + dkl[:, :, None] * z).sum(axis=0)": "This is the path through z. It is added later, by reparameterize_backward_add, and would count twice.",
                    "dz.sum(axis=0)": "This is the path through z. It is added later, by reparameterize_backward_add, and would count twice.",
                    "(dkl[:, :, None] * eps * np.exp(-logvar / 2)).sum(axis=0)": "log q(z|x) is differentiated by mu. There (z - mu)^2 / exp(logvar) is eps^2, which is fixed.",
                    "-(dkl[:, :, None] * eps * np.exp(-logvar / 2)).sum(axis=0)": "log q(z|x) is differentiated by mu. There (z - mu)^2 / exp(logvar) is eps^2, which is fixed.",
                    "mu": "mu itself stands there. The formula contains no mu besides z.",
                    "dkl.sum(axis=0)[:, None]": "The formula contains no mu besides z, and that path comes later.",
                    "1": "The formula contains no mu besides z, and that path comes later.",
                },
            },
        ),
        "dlogvar": Formula(
            "{sign} {dkl} / {two} + {path}",
            {
                "sign": {"-": "", "": "The sign is wrong: the formula has -logvar."},
                "dkl": {
                    "dkl.sum(axis=0)[:, None]": "",
                    "dkl.mean(axis=0)[:, None]": "It is divided by L, the number of samples: a mean stands where a sum is meant. The 1 / L is in dkl already.",
                    "dkl[0][:, None]": FIRST_SAMPLE,
                    "dkl[-1][:, None]": FIRST_SAMPLE,
                    "L": unused("dkl", "dlogvar"),
                    "1": unused("dkl", "dlogvar"),
                    "dkl.sum()": "The sum is over everything. Each example has a logvar of its own.",
                    "dkl.sum(axis=0)[:, None] / B": "It is divided by B. The mean over the examples is in dkl already.",
                    "dkl.sum(axis=0)[:, None] * logvar": "logvar is a factor too much: the slope of logvar is 1.",
                    "dkl.sum(axis=0)[:, None] * np.exp(logvar)": "The variance is a factor too much: the formula contains logvar itself.",
                    "dkl.sum(axis=0)[:, None] * Z": "It is multiplied by Z. Each latent has a logvar of its own.",
                    "dkl.sum(axis=0)[:, None] * (1 - np.exp(logvar))": "This is the derivative of the closed form.",
                    "(dkl[:, :, None] * (1 - eps**2)).sum(axis=0)": "eps^2 is differentiated, too. eps is a fixed number.",
                    "(dkl[:, :, None] * (1 - z * eps * np.exp(logvar / 2))).sum(axis=0)": "The path through z is counted here. It is added later, by reparameterize_backward_add, and would count twice.",
                    "0": "logvar itself stands in the formula: its derivative is not 0.",
                },
                "two": {"2": "", "1": "It counts twice: the 1/2 before the sum is forgotten.", "4": "It is halved twice."},
                "path": {
                    "0": "",
                    "(dz * eps).sum(axis=0) * np.exp(logvar / 2) / 2": "The path through z is counted here. It is added later, by reparameterize_backward_add, and would count twice.",
                },
            },
        ),
    },
    "affine_backward_add": {
        "dx": Formula(
            "{dx} + {sign} {dy} @ {W} * {weight}",
            {
                "dx": {
                    "dx": "",
                    "0": REPLACED,
                    "2 * dx": "What stood there before is added to itself: `a += a + b` adds it twice.",
                    "-dx": "What stood there before has the wrong sign.",
                },
                "sign": {
                    "": "",
                    "-": "The sign of what is added is wrong.",
                    "2 *": "What is added counts twice.",
                    "0 *": "Nothing is added.",
                    "0.5 *": "What is added is halved: the paths add, and no mean is taken.",
                },
                "dy": DY,
                "W": W_T,
                "weight": weights("dy"),
            },
        ),
    },
    "iwae_backward": {
        "dnll": Formula(
            "(lambda w: {share})(np.exp({log_w})) / {n} * {beta}",
            {
                "share": SHARES,
                "log_w": LOG_W,
                "n": MEAN_OF_EXAMPLES,
                "beta": {
                    "1": "",
                    "beta": "beta weighs the KL only, and not the nll.",
                    "-1": "The sign is wrong: a larger nll makes the loss larger.",
                },
            },
        ),
        "dkl": Formula(
            "(lambda w: {share})(np.exp({log_w})) / {n} * {beta}",
            {
                "share": SHARES,
                "log_w": LOG_W,
                "n": MEAN_OF_EXAMPLES,
                "beta": {
                    "beta": "",
                    "1": missing("beta"),
                    "-beta": "The sign is wrong: a larger kl makes the loss larger.",
                    "beta**2": "beta counts twice.",
                    "1 / beta": "It is divided by beta.",
                    "0": "The kl has a path to the loss: its derivative is not 0.",
                },
            },
        ),
    },
    "sampled_kl_path_backward": {
        "dz": Formula(
            "{dz} + {sign} {dkl} * {slope}",
            {
                "dz": {"dz": "", "0": REPLACED},
                "sign": {"": "", "-": "The sign of what is added is wrong.", "0 *": "Nothing is added."},
                "dkl": {"dkl[:, :, None]": "", "1": unused("dkl", "change of dz")},
                "slope": {
                    "(z - eps * np.exp(-logvar / 2))": "",
                    "z": "The slope of log q(z|x) is missing: this is the whole derivative of the sampled KL, before the score is left out.",
                    "(-eps * np.exp(-logvar / 2))": "The slope of -log p(z) is missing.",
                    "(z + eps * np.exp(-logvar / 2))": "The sign of the slope of log q(z|x) is wrong.",
                    "(z - eps)": "The standard deviation is missing in the slope of log q(z|x).",
                    "(z - eps * np.exp(logvar / 2))": "The slope of log q(z|x) is multiplied by the standard deviation, and not divided.",
                    "(z - eps * np.exp(-logvar))": "A variance stands where a standard deviation is meant: z - mu has a factor exp(logvar / 2).",
                    "(z - (z - mu) * np.exp(-logvar / 2))": "A standard deviation stands where the variance of q is meant.",
                },
            },
        ),
        "dmu": Formula(
            "{none}",
            {
                "none": {
                    "0": "",
                    "(dkl[:, :, None] * eps * np.exp(-logvar / 2)).sum(axis=0)": "This is the score: mu inside log q is held fixed here.",
                    "-(dkl[:, :, None] * eps * np.exp(-logvar / 2)).sum(axis=0)": "This is the score: mu inside log q is held fixed here.",
                }
            },
        ),
        "dlogvar": Formula(
            "{none}",
            {
                "none": {
                    "0": "",
                    "-dkl.sum(axis=0)[:, None] / 2": "logvar inside log q is held fixed here.",
                    "(dkl[:, :, None] * (eps**2 - 1)).sum(axis=0) / 2": "This is the score: logvar inside log q is held fixed here.",
                }
            },
        ),
    },
    "dreg_path_weight": {
        "dz": Formula(
            "dz * {weight}",
            {
                "weight": {
                    "((1 - beta) + beta * n_examples * dnll)[:, :, None]": "",
                    "1": "Nothing has changed in it.",
                    "(n_examples * dnll)[:, :, None]": "beta is missing: this is right where beta is 1.",
                    "(beta * n_examples * dnll)[:, :, None]": "The part that weighs 1 - beta is missing.",
                    "((1 - beta) + beta * dnll)[:, :, None]": "dnll is a share divided by n_examples: n_examples is missing.",
                    "dnll[:, :, None]": "dnll is a share divided by n_examples: n_examples is missing. So is beta.",
                    "(beta + (1 - beta) * n_examples * dnll)[:, :, None]": "beta and 1 - beta are exchanged.",
                    "((1 - beta) + beta * (n_examples * dnll) ** 2)[:, :, None]": "The share is squared. dz already holds it once.",
                    "((n_examples * dnll) ** 2)[:, :, None]": "The share is squared. dz already holds it once. beta is missing, too.",
                    "((1 + beta) + beta * n_examples * dnll)[:, :, None]": "A sign of beta is wrong.",
                    "((1 - beta) - beta * n_examples * dnll)[:, :, None]": "A sign of beta is wrong.",
                }
            },
        ),
    },
    "adam": {
        "m": Formula(
            "{b1} * {m} + {b2} * {g}",
            {
                "b1": {
                    "beta1": "",
                    "beta2": "beta2 stands where beta1 is meant: beta1 is that of m.",
                    "(1 - beta1)": "beta1 and 1 - beta1 are exchanged: the past is what beta1 keeps.",
                    "1": "The past is not decayed by beta1.",
                    "beta1**step": "beta1 has no power here: the running mean is decayed by beta1 in each step.",
                },
                "b2": {
                    "(1 - beta1)": "",
                    "1": missing("1 - beta1"),
                    "beta1": "1 - beta1 weighs g, and not beta1.",
                    "(1 - beta2)": "1 - beta2 stands where 1 - beta1 is meant.",
                    "0": "g is missing.",
                    "(1 + beta1)": "The sign of beta1 is wrong.",
                    "-(1 - beta1)": "The sign of g is wrong.",
                    "learning_rate": "The learning rate does not belong to m.",
                },
                "m": {
                    "m": "",
                    "0": "m keeps nothing of the past: it is a running mean.",
                    "v": "v stands where m is meant.",
                    "p": "p stands where m is meant.",
                },
                "g": {"g": "", "g**2": "g is squared: this is the mean of v.", "np.abs(g)": "The sign of g is lost."},
            },
        ),
        "v": Formula(
            "{b1} * {v} + {b2} * {g}",
            {
                "b1": {
                    "beta2": "",
                    "beta1": "beta1 stands where beta2 is meant: beta2 is that of v.",
                    "(1 - beta2)": "beta2 and 1 - beta2 are exchanged: the past is what beta2 keeps.",
                    "1": "The past is not decayed by beta2.",
                    "beta2**step": "beta2 has no power here: the running mean is decayed by beta2 in each step.",
                },
                "b2": {
                    "(1 - beta2)": "",
                    "1": missing("1 - beta2"),
                    "beta2": "1 - beta2 weighs g^2, and not beta2.",
                    "(1 - beta1)": "1 - beta1 stands where 1 - beta2 is meant.",
                    "(1 - beta2) ** 2": "1 - beta2 is squared together with g.",
                },
                "v": {
                    "v": "",
                    "0": "v keeps nothing of the past: it is a running mean.",
                    "m": "m stands where v is meant.",
                    "v**2": "v is squared: it holds squares already.",
                },
                "g": {
                    "g**2": "",
                    "g": "g is not squared: v is the running mean of the squares.",
                    "np.abs(g)": "g is not squared: v is the running mean of the squares.",
                    "m**2": "The square of m stands where that of g is meant.",
                    "(beta1 * m + (1 - beta1) * g) ** 2": "The square of m stands where that of g is meant.",
                    "2 * g": "2 g stands where the square of g is meant.",
                    "(g - (beta1 * m + (1 - beta1) * g)) ** 2": "m is subtracted before the square: v is the running mean of g^2 itself.",
                },
            },
            ("beta2 * v + (1 - beta2) * g * g",),
        ),
        "p": Formula(
            "p {sign} {rate} * ({m} / {c1}) / {root} - {decay}",
            {
                "sign": {
                    "-": "",
                    "+": "The sign of the step is wrong: it climbs.",
                    "* 0 +": "The step replaces p. It is to be subtracted from it.",
                    "* 0 -": "The step replaces p. It is to be subtracted from it.",
                },
                "rate": {
                    "learning_rate": "",
                    "1": missing("learning_rate"),
                    "learning_rate / step": "The learning rate is divided by step.",
                },
                "m": {
                    "(beta1 * m + (1 - beta1) * g)": "",
                    "m": "The m of before is used. m is updated first.",
                    "g": "g stands where its running mean is meant.",
                    "(beta1 * (beta1 * m + (1 - beta1) * g) + (1 - beta1) * g)": "m is updated twice.",
                },
                "c1": {
                    "(1 - beta1**step)": "",
                    "(1 + beta1**step)": "The sign of beta1^step is wrong in the correction of m.",
                    "1": "The correction of m by 1 - beta1^step is missing.",
                    "(1 - beta1)": "The power is missing in the correction of m: it depends on step.",
                    "(1 - beta2**step)": "The correction of m has beta2 where beta1 is meant.",
                    "(1 - beta1 ** (step + 1))": "The correction of m is one step ahead: step counts from 1.",
                    "(1 - beta1 ** (step - 1))": "The correction of m is one step behind: step counts from 1.",
                    "(1 - beta1 * step)": "A product stands where a power is meant in the correction of m.",
                    "beta1**step": "The correction of m divides by 1 - beta1^step, and not by the power itself.",
                    "(1 / (1 - beta1**step))": "The correction of m multiplies where it should divide.",
                },
                "root": {
                    "(np.sqrt({v} / {c2}) + epsilon)": "",
                    "np.sqrt({v} / {c2} + epsilon)": "epsilon stands inside the square root, and it is added after it.",
                    "np.sqrt({v} / {c2})": "epsilon is missing.",
                    "np.sqrt({v} / {c2} + epsilon**2)": "epsilon stands inside the square root, and it is added after it.",
                    "({v} / {c2} + epsilon)": "The square root is missing.",
                    "1": "The division by the root of v is missing.",
                    "epsilon": "The root of v is missing: only epsilon is left.",
                    "(np.sqrt({v}) / {c2} + epsilon)": "v is corrected after its square root, and it is corrected before.",
                    "(np.sqrt({v} / {c2}) * epsilon)": "epsilon is multiplied, and it is added.",
                    "(np.sqrt({v} / {c2}) - epsilon)": "epsilon is subtracted, and it is added.",
                    "(1 / (np.sqrt({v} / {c2}) + epsilon))": "It multiplies by the root of v where it should divide.",
                },
                "v": {
                    "(beta2 * v + (1 - beta2) * g**2)": "",
                    "v": "The v of before is used. v is updated first.",
                    "g**2": "The square of g stands where its running mean is meant.",
                },
                "c2": {
                    "(1 - beta2**step)": "",
                    "(1 + beta2**step)": "The sign of beta2^step is wrong in the correction of v.",
                    "1": "The correction of v by 1 - beta2^step is missing.",
                    "(1 - beta2)": "The power is missing in the correction of v: it depends on step.",
                    "(1 - beta1**step)": "The correction of v has beta1 where beta2 is meant.",
                    "(1 - beta2 ** (step + 1))": "The correction of v is one step ahead: step counts from 1.",
                    "(1 - beta2 ** (step - 1))": "The correction of v is one step behind: step counts from 1.",
                    "(1 - beta2 * step)": "A product stands where a power is meant in the correction of v.",
                    "beta2**step": "The correction of v divides by 1 - beta2^step, and not by the power itself.",
                    "(1 / (1 - beta2**step))": "The correction of v multiplies where it should divide.",
                },
                "decay": {"0": "", "0.01 * p": "The weights are decayed, too: this is the update of AdamW."},
            },
        ),
    },
}
