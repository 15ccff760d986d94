"""The consoles that commands print on: they show paths and brackets as they are, on any terminal, file or pipe."""

import codecs
import io
import sys
import unicodedata
from typing import Any

from rich.console import Console

WIDTH = 120  # of a line in a file or a pipe
ASCII = {"−": "-", "±": "+-", "≤": "<=", "≥": ">=", "×": "x", "·": "*", "÷": "/", "…": "...", "‖": "||", "∥": "||", "ℓ": "l"}
ASCII |= {"Σ": "sum", "∑": "sum", "∂": "d", "∫": "integral", "µ": "u", "✓": "right:", "✗": "wrong:", "→": "->", "√": "sqrt"}


def make_console(width: int = WIDTH, **settings: Any) -> Console:
    """A rich Console that neither colours numbers nor reads markup.

    Parameters
    ----------
    width : int
        The width of a line where the output is not a terminal.
    settings
        Other arguments of `rich.console.Console`.
    """
    made = Console(highlight=False, markup=False, soft_wrap=True, **settings)
    if not made.is_terminal:
        made.width = width
    return made


def print_in_any_encoding() -> None:
    """From now on a character that the encoding of the output lacks (a minus sign, in ASCII) is spelled with others."""
    codecs.register_error("vae_np", _spell)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="vae_np")


def _spell(error):
    return "".join(map(_spelled, error.object[error.start : error.end])), error.end


def _spelled(character):
    if character in ASCII:
        return ASCII[character]
    name, kind = unicodedata.name(character, ""), unicodedata.decomposition(character)
    if kind.startswith("<"):  # an index or a power
        return (
            "^" * name.startswith("SUPERSCRIPT")
            + unicodedata.normalize("NFKD", character).encode("ascii", "backslashreplace").decode()
        )
    if name.startswith("BOX DRAWINGS"):
        return {"HORIZONTAL": "-", "VERTICAL": "|"}.get(name.removeprefix("BOX DRAWINGS ").split(" ", 1)[1], "+")
    if name.startswith("GREEK"):
        return name.split()[-1].lower()
    return character.encode("ascii", "backslashreplace").decode()  # so that the letters of a file's name can be told apart
