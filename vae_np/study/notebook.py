"""The exercises as a notebook, with a cell for each, and what a notebook shows of a Verdict: heat maps of signs and ratios."""

import html
import json
import os

import numpy as np
from numpy.typing import NDArray

from vae_np.study import workbook
from vae_np.study.answers import RIGHT, WRONG, Verdict
from vae_np.study.exercises import EXERCISES, KNOWN, hints

CHECKED = """\
The last line of a cell checks it. It runs in the process of the notebook: stop a loop without an end by the button that
interrupts the kernel. `hint("adam")` in a cell of its own prints the next hint on that exercise."""
START = f"""\
{workbook.IMPORTS}from vae_np.study.answers import check
from vae_np.study.notebook import hint"""
COLOURS = {
    "right": "#2e7d32",
    "other sign": "#c62828",
    "too small": "#1565c0",
    "too large": "#ef6c00",
    "not a number": "#6a1b9a",
}
ROWS, COLUMNS = 24, 64  # of a picture, at most
ALIKE = 1e-6  # the relative error up to which an element is right
_taken: dict[str, int] = {}


def write(path: str | os.PathLike, bonus: bool = False) -> None:
    """Write the notebook, which must not exist.

    Raises
    ------
    FileExistsError
        There is a file already.
    """
    exercises = list((KNOWN if bonus else EXERCISES).values())
    introduction = workbook.INTRODUCTION.format(n=len(exercises), checked=CHECKED)
    cells = [_cell("markdown", introduction), _cell("code", START)]
    for number, exercise in enumerate(exercises, 1):
        function = workbook.function(exercise, number).partition("\n\n\n")[2].rstrip()
        cells += [_cell("markdown", f"## {number}. {exercise.title}"), _cell("code", f"{function}\n\n\ncheck({exercise.name})")]
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    for i, cell in enumerate(cells):
        cell["id"] = f"cell-{i}"
    with open(path, "x", encoding="utf-8") as file:
        json.dump({"cells": cells, "metadata": {"kernelspec": kernel}, "nbformat": 4, "nbformat_minor": 5}, file, indent=1)


def _cell(kind, source):
    more = {"execution_count": None, "outputs": []} if kind == "code" else {}
    return {"cell_type": kind, "metadata": {}, "source": source.splitlines(keepends=True), **more}


def hint(name: str) -> None:
    """Print the next hint on an exercise."""
    found = hints(KNOWN[name])
    i = _taken.get(name, 0) % len(found)
    _taken[name] = i + 1
    print(f"Hint {i + 1} of {len(found)}: {found[i]}")


def html_of(verdict: Verdict) -> str:
    """What is said of an answer, as HTML; of wrong arrays a picture of signs and one of ratios, without any value."""
    colour = {RIGHT: COLOURS["right"], WRONG: COLOURS["other sign"]}.get(verdict.state, "inherit")
    first, *lines = str(verdict).splitlines()
    parts = [f'<p style="color:{colour}"><b>{html.escape(first)}</b></p>', *(f"<p>{html.escape(line)}</p>" for line in lines)]
    if verdict.printed:
        parts.append(f"<pre>{html.escape(verdict.printed)}</pre>")
    maps = [_maps(name, given, wanted) for name, given, wanted in verdict.arrays if np.shape(given) == np.shape(wanted)]
    if maps:
        legend = ", ".join(f'<span style="color:{colour}">■</span> {words}' for words, colour in COLOURS.items())
        parts += [
            *maps,
            f"<p><small>Each square is an element: {legend}. The paler a size, the nearer it is to the right one.</small></p>",
        ]
    return "\n".join(parts)


def _maps(name, given, wanted):
    """Two pictures of an array: for each element whether its sign is right, and what it is times the right one."""
    given, wanted = _flat(given), _flat(wanted)
    return (
        '<div style="display:flex;gap:2em;flex-wrap:wrap">'
        + "".join(
            _map(f"{name}: {what}", [[kind_of(*pair) for pair in zip(*rows)] for rows in zip(given, wanted)])
            for what, kind_of in (("signs", sign_of), ("sizes", size_of))
        )
        + "</div>"
    )


def _map(title, kinds):
    side = 9  # of a square, in pixels
    squares = "".join(
        f'<rect x="{j * side}" y="{i * side}" width="{side - 1}" height="{side - 1}" fill="{COLOURS[kind]}" '
        f'fill-opacity="{strength:.2f}"><title>{html.escape(said)}</title></rect>'
        for i, row in enumerate(kinds)
        for j, (kind, strength, said) in enumerate(row)
    )
    size = f'width="{len(kinds[0]) * side}" height="{len(kinds) * side}"'
    picture = f'<svg role="img" aria-label="{html.escape(title)}" {size}>{squares}</svg>'
    return f'<figure style="margin:0.5em 0"><figcaption>{html.escape(title)}</figcaption>{picture}</figure>'


def sign_of(given: float, wanted: float) -> tuple[str, float, str]:
    """Which of COLOURS tells how the sign of an element compares with the right one, how strong it is, and in words.

    Examples
    --------
    >>> sign_of(-1.0, 2.0)
    ('other sign', 1.0, 'the sign is wrong')
    """
    if not np.isfinite(given):
        return "not a number", 1.0, "not a number"
    right = given * wanted > 0 or abs(given - wanted) <= ALIKE * max(abs(given), abs(wanted))
    return ("right", 1.0, "the sign is right") if right else ("other sign", 1.0, "the sign is wrong")


def size_of(given: float, wanted: float) -> tuple[str, float, str]:
    """The same of the size, without the sign; the colour is strongest where the size is 16 times too large or too small.

    Examples
    --------
    >>> size_of(-1.0, 2.0), size_of(2.0, 2.0)
    (('too small', 0.4, '0.5 times the right size'), ('right', 1.0, 'the size is right'))
    """
    if not np.isfinite(given):
        return "not a number", 1.0, "not a number"
    if abs(abs(given) - abs(wanted)) <= ALIKE * max(abs(given), abs(wanted)):
        return "right", 1.0, "the size is right"
    if not given or not wanted:
        return ("too small", 1.0, "it is 0") if wanted else ("too large", 1.0, "it should be 0")
    ratio = abs(given / wanted)
    strength = 0.2 + 0.8 * min(1.0, abs(float(np.log2(ratio))) / 4)
    return "too small" if ratio < 1 else "too large", round(strength, 2), f"{ratio:.3g} times the right size"


def _flat(array: NDArray) -> NDArray:
    """The array as rows and columns, at most ROWS and COLUMNS of them."""
    array = np.asarray(array, float)
    rows = array.reshape(-1, array.shape[-1]) if array.ndim > 1 else array.reshape(1, -1)
    return rows[:ROWS, :COLUMNS]
