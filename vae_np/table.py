"""Tables of numbers in text files (.csv, .tsv).

The reader finds out whether a file has a line of names and a column that numbers the rows. An error names the line.
"""

import codecs
import csv
import os
import re
from typing import Any

import numpy as np
from numpy.typing import NDArray

SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs"}
INDEX_NAMES = {"", "index", "id", "row", "unnamed: 0"}


def read(path: str | os.PathLike, header: bool | None = None, index: bool | None = None) -> tuple[NDArray, str]:
    """Read the numbers of a file.

    Parameters
    ----------
    path : path
        The file. Its cells stand between commas, semicolons or tabs.
    header : bool, optional
        Whether the first line holds the names of the columns. By default the content of the file decides.
    index : bool, optional
        Whether the first column numbers the rows and is left out. By default the content of the file decides.

    Returns
    -------
    x : array (N, D)
        The numbers.
    words : str
        A description of how the file was read, with its header and its index.

    Raises
    ------
    ValueError
        A cell is not a finite number, or the lines differ in length; the message names the line. Or the content does not
        decide about the header or the index; the message names the option that does.
    OSError
        The file cannot be read.
    """
    with open(path, "rb") as file:
        wide = file.read(2) in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)  # spreadsheets write "Unicode text" so
    with open(
        path, encoding="utf-16" if wide else "utf-8-sig", errors="replace", newline=""
    ) as file:  # names may be in any encoding
        lines = [(number, line) for number, line in enumerate(file, 1) if line.partition("#")[0].strip()]
    if not lines:
        raise ValueError("it has no line of numbers")
    separator = _separator(*lines[0])
    first = _cells(lines[0][1], separator)
    if header is None:
        header = ('"' in lines[0][1] and not any('"' in line for _, line in lines[1:])) or _is_header(lines[0][0], first)
    x = _numbers(lines[header:], separator, bool(index))
    if header and len(first) == x.shape[1] - 1:
        first = ["", *first]  # R writes no name above the index
    if header and len(first) != x.shape[1]:
        raise ValueError(f"line {lines[0][0]} has {len(first)} names, and the lines after it have {x.shape[1]} cells")
    if index is None:
        index = _is_index(first if header else None, x)
    words = f"{len(x)} rows of {x.shape[1] - index} columns between {SEPARATORS[separator]}, "
    words += ("the first line taken for names" if header else "no line taken for names") + (
        ", the first column for the rows' index" if index else ""
    )
    return (np.ascontiguousarray(x[:, 1:]) if index else x), words


def _separator(number, line):
    line = re.sub('"[^"]*"', "", line)  # a name between quotes may hold any separator
    found = [separator for separator in SEPARATORS if separator in line]
    if "," in found and ";" in found:
        raise ValueError(f"line {number} has commas and semicolons: save it with commas, and with points inside numbers")
    return found[-1] if found else ","


def _cells(line, separator):
    return [cell.strip() for cell in next(csv.reader([line.strip("\r\n")], delimiter=separator))]


def _is_header(number, cells):
    """Return whether the first line holds names. ValueError says that this is not certain."""
    numeric, names = [_is_number(cell) for cell in cells], cells[1:] if cells[0] == "" else cells
    if "" in names and all(numeric[i] or cell == "" for i, cell in enumerate(cells)):
        raise _no_number(number, cells)
    counts, counts_from_1 = (names == [str(i) for i in range(first, first + len(names))] for first in (0, 1))
    if not any(numeric) or (counts and (len(names) > 2 or cells[0] == "")):
        return True
    if all(numeric) and not counts and not counts_from_1:
        return False
    raise ValueError(
        f"line {number} may be names or numbers ({', '.join(cells[:4])}{', ...' if len(cells) > 4 else ''}): "
        "say which with --csv-header yes or no"
    )


def _is_index(names, x):
    """Return whether the first column numbers the rows. ValueError says that this is not certain."""
    counts = len(x) > 1 and x.shape[1] > 1 and any((x[:, 0] == np.arange(first, first + len(x))).all() for first in (0, 1))
    name = None if names is None else names[0].lower()
    if name == "":
        if not counts:
            raise ValueError(
                "its first column has no name and does not count the rows: say what it is with --csv-index yes or no"
            )
        return True
    if counts and ((names is None and len(x) > 2) or name in INDEX_NAMES):
        raise ValueError(
            "its first column counts the rows, and may be their index: say whether it is with --csv-index yes or no"
        )
    return False


def _is_number(text):
    try:
        float(text)
    except ValueError:
        return False
    return True


def _numbers(lines, separator, has_index):
    """The cells of all lines as numbers (N, D), with 0 for an index. ValueError names the first wrong line and its wrong cell."""
    if not lines:
        raise ValueError("it has a line of names, and no line of numbers")
    passed_over: Any = {0: lambda cell: 0.0} if has_index else None  # an index may be dates or words
    try:
        x = np.loadtxt((line for _, line in lines), delimiter=separator, quotechar='"', converters=passed_over, ndmin=2)
    except ValueError as error:
        width = len(_cells(lines[0][1].partition("#")[0], separator))
        for number, line in lines:
            cells = _cells(line.partition("#")[0], separator)
            if len(cells) != width:
                raise ValueError(f"line {number} has {len(cells)} cells, and those before it have {width}") from None
            if not all(map(_is_number, cells[has_index:])):
                raise _no_number(number, cells, has_index) from None
        raise error
    if not np.isfinite(x).all():
        row, column = np.argwhere(~np.isfinite(x))[0]
        raise ValueError(
            f"line {lines[row][0]} has {x[row, column]} in cell {column + 1}, which is NaN or infinite: fill it, or leave the line out"
        )
    return x


def _no_number(number, cells, has_index=False):
    """The ValueError for the first cell of a line that is no number. Its message says what to do about it."""
    i, cell = next((i, cell) for i, cell in enumerate(cells) if i >= has_index and not _is_number(cell))
    message = f"line {number} has {cell!r} in cell {i + 1}, which is no number"
    if cell == "":
        message = f"line {number} has nothing in cell {i + 1}: fill it, or leave the line out"
    elif _is_number(cell.replace(",", ".")):
        message += ": save it with points inside numbers"
    elif len(cells) == 1 and all(map(_is_number, cell.split())):
        message += ": save it with commas between cells"
    elif i == 0 and len(cells) > 1 and all(map(_is_number, cells[1:])):
        message += ": if the first column is the rows' index, say so with --csv-index yes"
    return ValueError(message)
