"""One slide, or one sheet of paper: a model so small that every number of its forward and its backward pass is printed on it."""

import html
import itertools
import os
import re
from collections.abc import Iterator, Mapping
from functools import reduce
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from rich.console import Group, RenderableType
from rich.text import Text

from vae_np.architecture import Architecture
from vae_np.elbo import encode
from vae_np.parameters import Parameters, replacing
from vae_np.study import formulas, markup
from vae_np.study.evaluation import evaluate
from vae_np.study.formulas import Tree
from vae_np.study.lines import Line, Lines
from vae_np.study.page import FILES
from vae_np.study.paths import BACKWARD, GRADIENTS
from vae_np.study.proof import agreement
from vae_np.study.typesetting import has, number, plain, plain_name

SIZES = 4, (3,), 1  # inputs, hidden units, latents
X, EPS = np.array([[1.0, 0.0, 1.0, 1.0]]), np.array([[0.5]])
TITLE = "One pass through a VAE of sizes 4-3-1"
NOTE = (
    "The model has 4 inputs, 3 hidden units and 1 latent. One example x and one sample z pass through it. The lines stand in the order "
    "in which they run: each has its number in elbo.py, its code and its equation, first with names and then with numbers. The "
    "numbers are rounded to about three digits."
)
IN_TEXT = "In a matrix such as [1 2; 3 4] a semicolon ends a row."
TITLES = {"": "Forward: the loss", BACKWARD: "Backward: every layer", GRADIENTS: "Backward: every weight"}
SOURCES = {"divergence": "through the KL", "z": "through z"}  # {a path into mu and logvar: its name}


class Row(NamedTuple):
    """An equation of a line, and its right side with the numbers of the pass in place of the names."""

    line: int  # the index of the line
    equation: Tree
    numbers: Tree
    result: NDArray  # what the line wrote, as a matrix


def model(seed: int = 0, activation: str = Architecture.activation) -> Parameters:
    """Parameters of sizes 4-3-1 with one decimal, which are easily multiplied by hand.

    They are drawn until each hidden layer has a unit whose sum y is positive and one whose sum is negative: a rectifier passes the
    derivative of the first on, and stops that of the second. No sum is near 0, where a rectifier has no derivative.
    """
    rng = np.random.default_rng(seed)
    p = Parameters.zeros(Architecture(*SIZES, activation))
    while True:
        p.flat[...] = rng.integers(-9, 10, p.flat.shape) / 10
        mu, logvar = encode(p, X)
        z = mu + np.exp(logvar / 2) * EPS
        sums = X @ p["encoder.0.W"] + p["encoder.0.b"], z @ p["decoder.0.W"] + p["decoder.0.b"]
        if p.flat.all() and all(np.abs(y).min() > 0.05 and y.min() < 0 < y.max() for y in sums):
            return p


# ----------------------------------------------------------------------------------------------------------- the rows


def rows(trace: Lines) -> Iterator[Row]:
    """The Rows of a pass of one example, one sample and one latent, in the order in which they ran; what is constant is left out."""
    values = {"x": trace.a.x, "eps": trace.a.eps} | {
        re.sub(r"\.(\d+)", r"[\1]", name): array for name, array in trace.p.items()
    }
    values |= {name: np.ones(1) for name in ("L", "K", "n_examples")} | {"beta": np.full(1, trace.arguments["beta"])}
    values = {name: _matrix(array) for name, array in values.items()}
    for i, line in enumerate(trace):
        if line.composite or line.operation.startswith("constant"):
            continue
        written = {array.name: _matrix(array.value) for array in line.writes}
        known = written | values  # a line reads what an array held before it ran
        for _, (_, name), sign, right in formulas.equations(line):
            if right[0] == "number":  # it adds 0, or multiplies by 1
                continue
            right = _without_l2(right)
            numbers = _put_in(right, known)
            if sign == "+=":
                numbers = "+", _numbers(values[name]), numbers
            yield Row(i, ("relation", ("name", name), sign, right), numbers, written[name])
        values |= written


def _matrix(array):
    return np.reshape(array, (-1, array.shape[-1]))


def _numbers(matrix):
    return ("value" if np.size(matrix) == 1 else "array"), matrix


def _without_l2(tree):
    """The tree without the derivative of the L2 term, whose weight is 0 here."""
    return tree[1] if tree[0] == "+" and ("name", "l2") in tree[2] else tree


def _put_in(tree: Tree, values: Mapping[str, NDArray]) -> Tree:
    """The tree with numbers in place of its names, and of its functions unless these are of a product of matrices."""
    match tree:
        case str() | ("number", _) | ("name", "pi"):
            return tree
        case "name", name:
            return _numbers(values[name])
        case "T", matrix:
            return _numbers(evaluate(_put_in(matrix, values), {}).T)
        case "over", _, "d", body:
            terms = [("value", term) for term in np.ravel(evaluate(_put_in(body, values), {}))]
            return "(", reduce(lambda left, right: ("+", left, right), terms), ")"
        case "over", _, _, body:  # samples, rows and latents: there is one of each
            return _put_in(body, values)
        case "call", function, *rest:
            put_in = "call", function, *(_put_in(part, values) for part in rest)
            return put_in if has(tree, "@") else _numbers(evaluate(put_in, {}))
    put_in = tree[0], *(_put_in(part, values) for part in tree[1:])
    return _numbers(evaluate(put_in, {})) if tree[0] in ("^", "log") else put_in


def two_paths(line: Line) -> list[tuple[str, float, float, float]]:
    """(name, through the KL, through z, their sum) of dmu and dlogvar, at the line that adds the second path; else nothing."""
    if line.called != "reparameterize_backward_add":
        return []
    return [(array.name, *(array.parts[path].item() for path in SOURCES), array.value.item()) for array in line.writes]


# ------------------------------------------------------------------------------------------------- the slide, the text


def write(path: str | os.PathLike, trace: Lines) -> int:
    """Write the slide to a file, and return its size in bytes."""
    text = slide(trace).encode()
    with replacing(path) as file:
        file.write(text)
    return len(text)


def slide(trace: Lines) -> str:
    """The HTML of the slide: one file without a script, whose letters grow with the window."""
    style = "".join((FILES / name).read_text(encoding="utf-8") for name in ("page.css", "slide.css"))
    parts = dict.fromkeys(TITLES.values(), "")
    for line, of_line in _by_line(trace):
        where = f'<span class="number">{line.number}</span>'
        equations = "".join(markup.equation(row.equation, *_put_in_and_result(row)) for row in of_line)
        parts[_title(line)] += f"<li>{where}<code>{html.escape(_code(line))}</code>{equations}{_paths_table(line)}</li>"
    sections = "".join(f"<section><h2>{title}</h2><ol>{items}</ol></section>" for title, items in parts.items())
    return f"""<!DOCTYPE html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{TITLE}</title>
<style>{style}</style>
<body class="study slide">
<h1>{TITLE}</h1>
<main>{sections}</main>
<p>{NOTE} {_checked(trace)}</p>
</body>
</html>
"""


def text(trace: Lines) -> RenderableType:
    """The same lines for a terminal, for rich to print."""
    parts, title = [Text(TITLE, "bold"), Text(f"{NOTE} {IN_TEXT} {_checked(trace)}")], None
    for line, of_line in _by_line(trace):
        if _title(line) != title:
            title = _title(line)
            parts.append(Text(f"\n{title}", "bold"))
        parts.append(Text(f"\nline {line.number}   {_code(line)}", "dim"))
        for row in of_line:
            parts.append(Text(f"    {plain(row.equation)}\n       {''.join(map(plain, _put_in_and_result(row)))}"))
        for name, *paths, total in two_paths(line):
            words = " + ".join(f"{number(part)} {source}" for part, source in zip(paths, SOURCES.values()))
            parts.append(Text(f"    {plain_name(name)}: {words} = {number(total)}", "bold"))
    return Group(*parts)


def _by_line(trace):
    """(line, its Rows) of each line that has any."""
    for i, of_line in itertools.groupby(rows(trace), lambda row: row.line):
        yield trace[i], list(of_line)


def _put_in_and_result(row):
    """What follows an equation: the numbers that are put in, and the result unless it is these numbers."""
    yield "relation", "", "=", row.numbers
    if row.numbers[0] not in ("value", "array"):
        yield "relation", "", "=", _numbers(row.result)


def _title(line):
    return TITLES.get(line.function, TITLES[""])


def _code(line):
    return " ".join(line.source.partition("  #")[0].split()).replace("( ", "(")


def _checked(trace):
    return f"Each derivative {agreement(trace.worst)}{' or better' * (not trace.wrong)}."


def _paths_table(line):
    """The two paths into mu and logvar beside each other, and their sum."""
    found = two_paths(line)
    if not found:
        return ""
    columns = SOURCES | {"sum": "sum"}
    heads = "".join(f'<th scope="col" class="{path}">{words}</th>' for path, words in columns.items())
    rows = "".join(
        f'<tr><th scope="row">{markup.math(name)}</th>'
        f'{"".join(f"""<td class="{path}">{number(each)}</td>""" for path, each in zip(columns, numbers))}</tr>'
        for name, *numbers in found
    )
    return f'<table aria-label="the two paths into mu and logvar"><thead><tr><td></td>{heads}</tr></thead><tbody>{rows}</tbody></table>'
