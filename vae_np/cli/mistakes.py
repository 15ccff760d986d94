"""Train with mistakes that published VAEs have made, and show what finds each and what it costs on held-out digits."""

import argparse
import difflib
import pathlib
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.style import Style
from rich.table import Column, Table
from rich.text import Text

from vae_np.cli.command import AddOption, Command
from vae_np.cli.options import listed
from vae_np.console import make_console

if TYPE_CHECKING:
    from vae_np.testing.mistakes import Finding, Mistake

TITLE = "−ELBO of held-out digits, nats, mean of three trainings"
COLUMNS = {  # {what stands above a column: its width}
    "mistake, what was written, the\ncheck that catches it, its line": 39,
    "own dif-\nferences": 9,
    "gradient\noff by": 8,
    "reports": 9,
    "is": 8,
    "costs": 8,
}


def _add_options(option: AddOption) -> None:
    option(
        "names",
        nargs="*",
        metavar="NAME",
        help="The mistakes that are made. A name is that in the table, such as 'half the noise', or a part of it that no other name "
        "has. By default all are made. The training without a mistake comes first, because the costs are compared with it.",
    )


def _run(options: argparse.Namespace, status: Console) -> None:
    from vae_np.testing.mistakes import MISTAKES, NONE, find

    chosen = [_called(name, MISTAKES) for name in options.names] or MISTAKES
    console, right = make_console(), None
    console.print(_table(header=True))
    for mistake in (NONE, *{mistake.name: mistake for mistake in chosen}.values()):
        with status.status(mistake.name):
            found = find(mistake)
        right = found.true if right is None else right
        console.print(_table(_cells(mistake, found, right)))
    console.print("Where its own differences agree, the gradient is that of a wrong loss, and no gradient check can see it.")
    console.print(
        "The command vae-np study NUMBER shows the line of elbo.py with that number, with its equation and its derivative."
    )


def _called(name: str, mistakes: "tuple[Mistake, ...]") -> "Mistake":
    """The mistake of this name, or the only one whose name contains it."""
    names = {mistake.name.lower(): mistake for mistake in mistakes}
    found = [name.lower()] if name.lower() in names else [known for known in names if name.lower() in known]
    if len(found) == 1:
        return names[found[0]]
    closest = found or difflib.get_close_matches(name.lower(), names, n=3, cutoff=0.0)
    quoted = listed(repr(names[known].name) for known in closest)
    if found:
        raise ValueError(f"several mistakes have {name!r} in their names: {quoted}")
    raise ValueError(f"no mistake has {name!r} in its name; the closest names are {quoted}")


def _table(*rows, header=False):
    """A table without rows but with a header, or some of its rows, which are printed as soon as they are known."""
    columns = [
        Column(above, width=width, justify="left" if i < 2 else "right") for i, (above, width) in enumerate(COLUMNS.items())
    ]
    table = Table(*columns, title=TITLE if header else None, box=box.SIMPLE_HEAD, show_header=header, show_edge=False)
    for row in rows:
        table.add_row(*row)
    return table


def _cells(mistake: "Mistake", found: "Finding", right: float) -> "list[Text | str]":
    """A row of the table."""
    from vae_np.testing import TOLERANCES

    words = Text("\n  ").join(map(Text, filter(None, (mistake.name, mistake.written, found.caught_by))))
    if mistake.line:
        path, number = mistake.line
        words.append("\n  ").append(f"{_short(path)}:{number}", Style(link=f"{pathlib.Path(path).as_uri()}#L{number}"))
    differences = "disagree" if found.own_error > TOLERANCES["richardson"]["float64"] else "agree"
    numbers = (f"{number:.2f}" for number in (found.reported, found.true, found.true - right))
    return [words, differences, f"{found.gradient_error:.0%}", *numbers]


def _short(path):
    """The path of a file of vae_np from the folder in which the package stands."""
    import vae_np

    return pathlib.Path(path).relative_to(pathlib.Path(vae_np.__file__).parents[1]).as_posix()


COMMAND = Command("mistakes", __doc__, _add_options, _run)
