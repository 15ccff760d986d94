"""One latent by hand: every equation from the sample z to the derivatives of mu and logvar, with the numbers of the run put in."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vae_np.study import controls, formulas, markup, primer
from vae_np.study.evaluation import evaluate
from vae_np.study.formulas import Tree
from vae_np.study.lines import Lines
from vae_np.study.paths import BACKWARD

MOST_TERMS = 4  # a longer sum is not written out

WORDS = {  # {an operation by its name in the text: the sentence above its equations}
    "reparameterize": "The sample z is the mean plus the noise, scaled by the standard deviation.",
    "likelihood_nll": "The reconstruction term is a sum over the inputs. This is the share of the chosen example's input {input}.",
    "divergence": "The KL is a sum over the latents. This is the share of the chosen latent.",
    "bound": "The loss of the example is the mean of nll over its samples, plus beta times the KL.",
    "bound_backward": "Now backward. The loss of the batch is the mean over its examples, and so nll and kl have these derivatives.",
    "likelihood_nll_backward": "The derivative of the output, at the same input.",
    "divergence_backward": "The first path into mu and logvar comes directly from the KL.",
    "reparameterize_backward_add": "The second path comes through z. What it brings is added to the first.",
}
OF_OPERATION = {  # the sentence above the equations of an operation for which those of WORDS are not true
    "iwae": "The loss of the example is minus the logarithm of the mean weight w of its samples.",
    "iwae_backward": "Now backward. The derivatives of nll and kl contain the share w~ of the sample in the sum of all weights.",
    "elbo_score_backward": "Now backward. The derivative of nll, and the factor of the score of q, which takes the place of dkl.",
    "iwae_score_backward": "Now backward. The derivative of nll, and the factor of the score of q, which takes the place of dkl.",
    "vimco_backward": "Now backward. The derivative of nll, and the factor of the score of q, which takes the place of dkl.",
    "sampled_kl_path_backward": "The KL acts on mu and logvar only through z: the score of q is left out.",
    "score_backward": "The derivatives of mu and logvar are the score of q, times its factor. Nothing comes through z.",
    "dreg_path_weight": "The path through z gets another weight, in place of the score of q that was left out.",
}
THROUGH_DECODER = {
    "affine_backward": "The decoder's lines lead from there to dz, a sum of {n} products: one for each unit of the layer that reads z.",
    "output_logvar_layer_backward_add": "A second layer reads z. What comes through it, a sum of {n} products, is added.",
}


class Row(NamedTuple):
    """An equation of a line with its numbers: one of each for every case, which is an example and a latent of it."""

    line: int  # the index of the line
    words: str  # HTML
    equation: Tree
    numbers: Tree | None  # its right side with numbers in place of the names; None where the sum is too long to be written out
    result: NDArray  # (B Z,)


def by_hand(trace: Lines) -> str:
    """The HTML of this part: the reader chooses an example and a latent, and all numbers follow."""
    _, B, Z = trace.a.eps.shape
    parts = []
    for row in rows(trace):
        words = f"<p>{row.words}</p>" if row.words else ""
        lines = [[row.equation], *_steps(row)]
        equations = "".join(markup.equation(*parts) for parts in lines)
        parts.append(f'<li class="hand"><p class="where">{markup.link(trace, row.line)}</p>{words}{equations}</li>')
    L = trace.a.eps.shape[0]
    of_samples = f" Where only one of the {L} samples is shown, it is the first." if L > 1 else ""
    return (
        "<p>Choose an example and a latent. Below stand the equations that lead from its mean and variance to the loss, and back to "
        "their derivatives, with the numbers of this run. They are rounded to about three digits, and the program computes with 16: "
        "so the last digit of your own result can differ."
        f'{of_samples}</p><div class="group">{controls.choice("example", list(map(str, range(B))))} '
        f'{controls.choice("latent", list(map(str, range(Z))))}<ol class="hands">{"".join(parts)}</ol></div>'
    )


def _steps(row):
    """The numbers of a row, each step in the parts between which its line may break: as they are put in, with the values of the
    functions, and the result."""
    result = "relation", "", "=", ("value", row.result)
    if row.numbers is None:
        return [[result]]
    simpler = _simplified(row.numbers)
    steps = [row.numbers, simpler] if _differs(row.numbers, simpler) else [row.numbers]
    lines = []
    for first, *others in map(_terms, steps):
        lines.append([("relation", "", "=", first), *(("+", "", term) for term in others)])
    return [*lines[:-1], [*lines[-1], result]]


def rows(trace: Lines) -> Iterator[Row]:
    """The Rows in the order in which their lines ran."""
    axes = {name: axes for name, axes, _ in primer.symbols(trace)}
    L, B, Z = trace.a.eps.shape
    K = len(trace.a.kl)
    inputs = _inputs(trace)
    examples, latents = (axis.ravel() for axis in np.indices((B, Z)))
    texts = [str(inputs[example]) for example in examples]
    input_of_case = f"<span {controls.following(texts)}>{texts[0]}</span>"
    constants = {"L": L, "K": K, "n_examples": B, "beta": trace.arguments["beta"]}
    values: dict[str, NDArray] = {"x": trace.a.x, "eps": trace.a.eps}

    def cases(values, name, sample):
        """The numbers of an array in this sample, one for each case."""
        if name in constants:
            return np.array(constants[name])
        letters = axes[name if name in axes else name.removeprefix("d")].split(", ")
        places = {"L": sample, "K": min(sample, K - 1), "B": examples, "Z": latents, "D": inputs[examples], "1": 0}
        return np.broadcast_to(values[name][tuple(places[letter] for letter in letters)], examples.shape)

    for i, line in enumerate(trace):
        before = dict(values)
        values |= {array.name: array.value for array in line.writes}
        if sentence := OF_OPERATION.get(line.operation, WORDS.get(line.called)):
            now, words = dict(values), sentence.format(input=input_of_case)
            for equation in formulas.equations(line):
                (kind, name, *_), sign, right = equation[1], equation[2], equation[-1]
                value = name.removeprefix("d") if kind == "name" else None
                if right == ("number", "0") or value not in axes or axes[value].endswith(" 1"):  # the last is a sum over inputs
                    continue
                try:
                    numbers = put_in(right, lambda name, sample, now=now: cases(now, name, sample), 0, {"l": L, "k": K})
                except KeyError:  # it names what is no array, or its sum is too long
                    numbers = None
                if numbers is not None and sign == "+=":
                    numbers = _sum([("value", cases(before, name, 0)), *_terms(numbers)])
                elif numbers is not None and sign == "*=":
                    numbers = "product", ("value", cases(before, name, 0)), ("(", numbers, ")")
                of_one = numbers is not None and _has_share(right)
                yield Row(i, words, equation, numbers, _value(numbers) if of_one else cases(now, name, 0))
                words = ""
        elif (
            line.function == BACKWARD
            and line.called in THROUGH_DECODER
            and line.writes[0].name == "dz"
            and (weight := line.arguments["W"].replace("[", ".").replace("]", "")) in trace.p
        ):
            dy, W = values[line.arguments["dy"]], trace.p[weight]
            products = [("product", ("value", dy[0, examples, h]), ("value", W[latents, h])) for h in range(W.shape[1])]
            numbers = _sum(products) if len(products) <= MOST_TERMS else None
            if numbers is not None and line.called != "affine_backward":
                numbers = _sum([("value", cases(before, "dz", 0)), *_terms(numbers)])
            (equation,) = formulas.equations(line)
            yield Row(i, THROUGH_DECODER[line.called].format(n=len(products)), equation, numbers, cases(values, "dz", 0))


def _inputs(trace):
    """(B,): the input of each example at which the derivative of the output is largest, in the first sample."""
    doutput = [array.value for line in trace for array in line.writes if array.name == "doutput"][-1]
    return np.abs(doutput[0]).argmax(axis=-1)


def put_in(tree: Tree, number: Callable[[str, int], NDArray], sample: int, counts: dict[str, int]) -> Tree:
    """The tree with number(name, sample) in place of each name. KeyError where there is none."""
    match tree:
        case str():
            return tree
        case ("number", _) | ("name", "pi"):
            return tree
        case "name", name:
            return "value", number(name, sample)
        case "call", function, *rest:
            return "call", function, *(put_in(part, number, sample, counts) for part in rest)
        case "over", "sum" | "mean" as operator, "l" | "k" as index, body:
            if counts[index] > MOST_TERMS:
                raise KeyError(index)
            terms = [put_in(body, number, each, counts) for each in range(counts[index])]
            total = _sum(terms) if len(terms) == 1 else ("(", _sum(terms), ")")
            return ("/", total, ("number", str(len(terms)))) if operator == "mean" and len(terms) > 1 else total
        case "over", "sum", "d" | "z", body:
            return put_in(body, number, sample, counts)
        case "over" | "index", *_:
            raise KeyError(tree)
    return tree[0], *(put_in(part, number, sample, counts) for part in tree[1:])


def _sum(terms):
    total = terms[0]
    for term in terms[1:]:
        total = "+", total, term
    return total


def _terms(tree):
    """The terms of a sum, also of one in brackets."""
    if tree[0] == "(":
        return _terms(tree[1])
    return [*_terms(tree[1]), tree[2]] if tree[0] == "+" else [tree]


def _has_share(tree):
    """Whether it is a sum over inputs or latents, of which only one share is put in."""
    if isinstance(tree, str):
        return False
    return (tree[0] == "over" and tree[2] in ("d", "z")) or any(map(_has_share, tree))


def _simplified(tree):
    """The tree with the value of each function and of each power in the place of its call."""
    if isinstance(tree, str) or tree[0] == "value":
        return tree
    if tree[0] in ("call", "^", "log"):
        return "value", _value(tree)
    return tree[0], *map(_simplified, tree[1:])


def _differs(tree, simpler):
    if isinstance(tree, str) or isinstance(simpler, str):
        return False
    return tree[0] != simpler[0] or (tree[0] != "value" and any(map(_differs, tree, simpler)))


def _value(tree):
    return np.asarray(evaluate(tree, {}))
