"""The trace in a terminal: a line of the text at a time, a key for the next."""

import contextlib
import sys

import numpy as np
from rich.console import Group
from rich.padding import Padding
from rich.syntax import Syntax
from rich.table import Table
from rich.text import Text

from vae_np.study import formulas
from vae_np.study.proof import TOLERANCE

KEYS = "space, n: next   p: previous   u: the line that this one undoes, or that undoes it   q: end"


def find(trace, name):
    """The index of the first line that makes or calls what has that name, or has that number; ValueError if there is none."""
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
        raise ValueError(f"no line makes or calls {name!r}; known are {known}, and the numbers of lines")
    return min(beginning)


def walk(trace, console, start=None):
    """Show the lines one at a time, each at a key, from that index on; all at once where nobody can press one."""
    shown = [i for i, line in enumerate(trace) if not line.composite]
    at = 0 if start is None else shown.index(start)
    if not (sys.stdin.isatty() and console.is_terminal):
        for i in shown[at:]:
            console.print(card(trace, i))
        return
    console.print(Text(KEYS, "dim"))
    with _single_keys() as key:
        while True:
            console.print(card(trace, shown[at]))
            pressed = key()
            if pressed in ("q", "\x1b", "\x04", ""):
                return
            if pressed == "\x03":
                raise KeyboardInterrupt
            partners = trace[shown[at]].undoes or [j for j, line in enumerate(trace) if shown[at] in line.undoes]
            if pressed == "u" and partners:
                at = shown.index(partners[0])
            elif pressed in ("p", "k", "b"):
                at = max(at - 1, 0)
            elif at + 1 < len(shown):
                at += 1
            else:
                return


def card(trace, i):
    """All that is known of a line, for rich to print."""
    line = trace[i]
    parts = [Text(f"\n{line.function}, line {line.number}", "dim")]
    parts.append(Syntax(line.source, "python", background_color="default", word_wrap=True))
    parts += [Text(f"    {formulas.plain(tree)}", "bold") for tree in formulas.equations(line)]
    for j in line.undoes:
        undone = "; ".join(formulas.plain(tree) for tree in formulas.equations(trace[j]))
        parts.append(Text(f"    undoes line {trace[j].number}:  {undone}", "dim"))
    if line.misshapen:
        parts.append(Text(f"    {line.misshapen}", "red"))
    table = Table.grid(padding=(0, 2))
    for array in line.writes if line.called else ():
        value = array.value
        numbers = f"{value.min():.3g} … {value.max():.3g}", f"norm {np.linalg.norm(value):.3g}"
        table.add_row(
            formulas.plain(("name", array.name)), " × ".join(map(str, value.shape)), *numbers, _proof(trace, line, array)
        )
    return Group(*parts, Padding(table, (0, 0, 0, 4)))


def _proof(trace, line, array):
    if array.error is None:
        return Text("")
    through = ", ".join(str(trace[j].number) for j in array.through)
    words = f"off by {array.error:.0e}" + (f", through line {through}" if through else "")
    if array.lacks:
        words += f"; lacks the path through line {', '.join(str(trace[j].number) for j in array.lacks)}"
    if array.error <= TOLERANCE:
        return Text(f"✓ {words}", "green")
    return Text(f"✗ {words}" + ("" if line.wrong else ", from what it reads"), "bold red")


@contextlib.contextmanager
def _single_keys():
    """`with _single_keys() as key`: key() waits for one key, and needs no Enter."""
    try:
        import termios
        import tty
    except ImportError:
        import msvcrt

        yield msvcrt.getwch
        return
    before = termios.tcgetattr(sys.stdin)
    try:
        tty.setcbreak(sys.stdin)
        yield lambda: sys.stdin.read(1)
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)
