"""What commands print on: consoles that show paths and brackets as they are, on any terminal, file or pipe."""

import codecs
import sys
import unicodedata

from rich.console import Console

WIDTH = 120  # where nobody looks
ASCII = {"−": "-", "±": "+-", "≤": "<=", "≥": ">=", "×": "x", "·": "*", "÷": "/", "…": "...", "‖": "||", "∥": "||", "ℓ": "l"}
ASCII |= {"Σ": "sum", "∑": "sum", "∂": "d", "∫": "integral", "µ": "u", "✓": "right:", "✗": "wrong:", "→": "->", "√": "sqrt"}


def make_console(width=WIDTH, **which):
    """A rich Console; where no terminal is, its lines are that wide."""
    made = Console(highlight=False, markup=False, soft_wrap=True, **which)
    if not made.is_terminal:
        made.width = width
    return made


def print_in_any_encoding():
    """From now on standard output and errors write what their encoding lacks (a minus sign, in ASCII) in other characters."""
    codecs.register_error("vae_np", lambda error: ("".join(map(_spelled, error.object[error.start : error.end])), error.end))
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="vae_np")


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
    return character.encode("ascii", "backslashreplace").decode()  # a letter of a file's name can be told from others'
