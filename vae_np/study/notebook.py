"""The exercises as a notebook, with a cell for each, and what a notebook shows of a Verdict: heat maps of signs and ratios."""

import html
import json
import os
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vae_np.study import workbook
from vae_np.study.answers import RIGHT, WRONG, Verdict
from vae_np.study.exercises import EXERCISES, KNOWN

START = """\
import numpy as np

from vae_np.kernels.reference import sigmoid
from vae_np.study.answers import check
from vae_np.study.notebook import hint"""
COLOURS = {"right": "#2e7d32", "other size": "#f9a825", "other sign": "#c62828", "not a number": "#6a1b9a"}
ROWS, COLUMNS = 24, 64  # of a heat map, at most
_taken: dict[str, int] = {}


def write(path: str | os.PathLike, bonus: bool = False) -> None:
    """Write the notebook, which must not exist.

    Raises
    ------
    FileExistsError
        There is a file already.
    """
    exercises = list((KNOWN if bonus else EXERCISES).values())
    told = (
        workbook.HEAD.format(n=len(exercises))
        .split('"""')[1]
        .replace(
            "While `vae-np exercise` runs, this file is checked whenever you save it.",
            "The last line of a cell checks it, in this process: stop an endless loop with the menu's Interrupt.\n`hint(NAME)` in a cell of its own prints the next hint.",
        )
    )
    cells = [_cell("markdown", told), _cell("code", START)]
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
    from vae_np.study.exercises import hints

    found = hints(KNOWN[name])
    i = _taken.get(name, 0) % len(found)
    _taken[name] = i + 1
    print(f"Hint {i + 1} of {len(found)}: {found[i]}")


def html_of(verdict: Verdict) -> str:
    """What is said of an answer, as HTML; of wrong arrays a heat map of signs and one of ratios, without any value."""
    colour = {RIGHT: COLOURS["right"], WRONG: COLOURS["other sign"]}.get(verdict.state, "inherit")
    first, *lines = str(verdict).splitlines()
    parts = [f'<p style="color:{colour}"><b>{html.escape(first)}</b></p>', *(f"<p>{html.escape(line)}</p>" for line in lines)]
    if verdict.printed:
        parts.append(f"<pre>{html.escape(verdict.printed)}</pre>")
    maps = [_maps(name, given, wanted) for name, given, wanted in verdict.arrays if np.shape(given) == np.shape(wanted)]
    if maps:
        legend = ", ".join(f'<span style="color:{colour}">■</span> {words}' for words, colour in COLOURS.items())
        parts += [*maps, f"<p><small>Each square is an element: {legend}.</small></p>"]
    return "\n".join(parts)


def _maps(name, given, wanted):
    """The heat map of an array: for each element whether its sign and its size are right, and what it is times the right one."""
    given, wanted = _flat(given), _flat(wanted)
    with np.errstate(all="ignore"):
        ratios = given / wanted
    size, cells = 9, []
    for i, j in np.ndindex(given.shape):
        kind, ratio = kind_of(given[i, j], wanted[i, j]), ratios[i, j]
        said = f"{name}: {kind}" + (f", {ratio:.3g} times" if np.isfinite(ratio) else "")
        cells.append(
            f'<rect x="{j * size}" y="{i * size}" width="{size - 1}" height="{size - 1}" fill="{COLOURS[kind]}">'
            f"<title>{html.escape(said)}</title></rect>"
        )
    width, height = given.shape[1] * size, given.shape[0] * size
    return (
        f'<figure style="margin:0.5em 0"><figcaption>{html.escape(name)}</figcaption><svg role="img" '
        f'aria-label="signs and ratios of {html.escape(name)}" width="{width}" height="{height}">{"".join(cells)}</svg></figure>'
    )


def _flat(array: NDArray) -> NDArray:
    """The array as rows and columns, at most ROWS and COLUMNS of them."""
    array = np.asarray(array, float)
    rows = array.reshape(-1, array.shape[-1]) if array.ndim > 1 else array.reshape(1, -1)
    return rows[:ROWS, :COLUMNS]


def kind_of(given: Any, wanted: Any) -> str:
    """Which of COLOURS tells how an element compares with the right one.

    Examples
    --------
    >>> kind_of(2.0, 2.0), kind_of(1.0, 2.0), kind_of(-2.0, 2.0), kind_of(float("nan"), 2.0)
    ('right', 'other size', 'other sign', 'not a number')
    """
    if not np.isfinite(given):
        return "not a number"
    if abs(given - wanted) <= 1e-6 * max(abs(given), abs(wanted)):
        return "right"
    return "other size" if given * wanted > 0 or wanted == 0 else "other sign"
