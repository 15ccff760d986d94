"""The trace in a terminal: one line at a time, with a key for the next."""

import sys

import numpy as np
from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.syntax import Syntax
from rich.table import Table
from rich.text import Text

from vae_np.kernels import reference
from vae_np.kernels.contract import OPERATIONS
from vae_np.study import estimates, formulas, typesetting
from vae_np.study.derivations import DERIVATIONS, key_of
from vae_np.study.keyboard import keys
from vae_np.study.lines import Array, Line, Lines
from vae_np.study.proof import TOLERANCE, agreement

KEYS = (
    "space or n: next line   p: previous line   d: from a line to its derivative, and back   w: why, its derivation   q: quit"
)


def find(trace: Lines, name: str) -> int:
    """The index of the first line that belongs to a name.

    Parameters
    ----------
    trace : Lines
        The lines.
    name : str
        An array that the line computes, the operation or function that it calls, the function in which it stands, or its number.
        The beginning of such a name is enough.

    Raises
    ------
    ValueError
        No line belongs to the name.
    """
    places = {}
    for i, line in enumerate(trace):
        if line.composite:
            continue
        for key in (*(array.name for array in line.writes), line.called, line.operation, line.function, str(line.number)):
            places.setdefault(key.lower(), i)
    places.pop("", None)
    if name.lower() in places:
        return places[name.lower()]
    beginning = [i for key, i in places.items() if key.startswith(name.lower())]
    if not beginning:
        known = ", ".join(key for key in places if not key.isdigit())
        raise ValueError(f"no line computes or calls {name!r}; known are {known}, and the numbers of the lines")
    return min(beginning)


def walk(trace: Lines, console: Console, start: int | None = None) -> None:
    """Show the lines one at a time, from that index on, and wait for a key after each.

    Where nobody can press a key, because input or output is no terminal, all lines are shown at once.
    """
    shown = [i for i, line in enumerate(trace) if not line.composite]
    at = 0 if start is None else shown.index(start)
    if not (sys.stdin.isatty() and console.is_terminal):
        explained = set()
        for i in shown[at:]:
            console.print(card(trace, i))
            key = key_of(trace[i].operation)
            if key and key not in explained:
                console.print(derivation(key))
                explained.add(key)
        return
    console.print(Text(KEYS, "dim"))
    with keys() as key:
        printed = None
        while True:
            if at != printed:
                console.print(card(trace, shown[at]))
                printed = at
            pressed = key(None)
            if pressed in ("q", "\x1b", "\x04"):
                return
            if pressed == "\x03":
                raise KeyboardInterrupt
            here = shown[at]
            if pressed in ("w", "h"):
                key_of_derivation = key_of(trace[here].operation)
                console.print(derivation(key_of_derivation) if key_of_derivation else "    This line has no derivation.")
                continue
            partners = trace[here].differentiates or [j for j, line in enumerate(trace) if here in line.differentiates]
            if pressed in ("d", "u") and partners:
                at = shown.index(partners[0])
            elif pressed in ("p", "k", "b"):
                at = max(at - 1, 0)
            elif at + 1 < len(shown):
                at += 1
            else:
                return


def card(trace: Lines, i: int) -> RenderableType:
    """All that is known of a line, for rich to print."""
    line = trace[i]
    parts: list[RenderableType] = [Text(f"\n{line.function}, line {line.number}: step {i + 1} of {len(trace)}", "dim")]
    parts.append(Syntax(line.source, "python", background_color="default", word_wrap=True))
    parts += [Text(f"    {typesetting.plain(tree)}", "bold") for tree in formulas.equations(line)]
    for j in line.differentiates:
        equations = "; ".join(typesetting.plain(tree) for tree in formulas.equations(trace[j]))
        parts.append(Text(f"    differentiates line {trace[j].number}:  {equations}", "dim"))
    if line.misshapen:
        parts.append(Padding(_sentence(line.misshapen, "red"), (0, 0, 0, 4)))
    arrays = line.writes if line.called else ()
    table = Table.grid(padding=(0, 2))
    for array in arrays:
        value, shape = array.value, " × ".join(map(str, array.value.shape))
        numbers = f"min {value.min():.3g}", f"max {value.max():.3g}", f"norm {np.linalg.norm(value):.3g}"
        table.add_row(typesetting.plain_name(array.name), shape, *numbers)
    proofs = [_proof(trace, line, array) for array in arrays if array.error is not None]
    return Group(*parts, Padding(Group(table, *proofs), (0, 0, 0, 4)))


def derivation(key: str) -> RenderableType:
    """The steps of a derivation in `DERIVATIONS`, and the formulas to which it leads, for rich to print."""

    def shown(tree):
        return Padding(_sentence(typesetting.plain(tree), "bold"), (0, 0, 0, 7))

    title, steps, source, _ = DERIVATIONS[key]
    parts: list[RenderableType] = [_sentence(f"Derivation: {title}", "bold")]
    for i, (sentence, formula) in enumerate(steps, 1):
        parts.append(_sentence(f"{i}. {sentence}"))
        if formula:
            parts.append(shown(formulas.parse(formula)))
    parts += [shown(tree) for name in OPERATIONS if key_of(name) == key for tree in formulas.of(vars(reference)[name].__doc__)]
    parts.append(_sentence(source, "dim"))
    return Padding(Group(*parts), (1, 0, 0, 4))


def _proof(trace: Lines, line: Line, array: Array) -> Text:
    """A sentence on the error of a derivative, the paths that it contains, and those that are missing."""

    def numbers(lines):
        return ", ".join(str(trace[j].number) for j in lines)

    error = array.error or 0.0
    right, words = error <= TOLERANCE, f"{typesetting.plain(('name', array.name))} {agreement(error, array.of_surrogate)}"
    if array.through:
        words += f", through line {numbers(array.through)}"
    if array.missing_paths:
        words += f"; the path through line {numbers(array.missing_paths)} is missing"
    if not (right or line.wrong):
        words += "; the line reads a wrong derivative"
    words += f". {array.cause}" if array.cause else ""
    words += f". {estimates.said_of(array, trace)}" if array.of_surrogate else ""
    return _sentence(f"{'✓' if right else '✗'} {words}", "green" if right else "bold red")


def _sentence(words: str, style: str = "") -> Text:
    """Words that go on in a new line where the terminal ends."""
    return Text(words, style, no_wrap=False, overflow="fold")
