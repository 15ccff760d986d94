"""Train with mistakes that published VAEs have made, and show what finds each and what it costs on held-out digits."""

import argparse

from rich import box
from rich.console import Console
from rich.table import Column, Table

from vae_np.cli.command import Command
from vae_np.console import make_console


def _run(options: argparse.Namespace, status: Console) -> None:
    from vae_np.testing import TOLERANCES
    from vae_np.testing.mistakes import MISTAKES, NONE, find

    table = Table(
        Column("mistake, what was written,\nand the check that catches it", max_width=39),
        "own dif-\nferences",
        *(Column(name, justify="right") for name in ("gradient\noff by", "reports", "is", "costs")),
        title="−ELBO of held-out digits, nats, mean of three trainings",
        box=box.SIMPLE_HEAD,
        padding=(0, 0, 1, 0),
        show_edge=False,
    )
    right = None
    for mistake in (NONE, *MISTAKES):
        with status.status(mistake.name):
            found = find(mistake)
        right = found.true if right is None else right
        differences = "disagree" if found.own_error > TOLERANCES["richardson"]["float64"] else "agree"
        numbers = (f"{number:.2f}" for number in (found.reported, found.true, found.true - right))
        lines = filter(None, (mistake.name, mistake.written, found.caught_by))
        table.add_row("\n  ".join(lines), differences, f"{found.gradient_error:.0%}", *numbers)
    console = make_console()
    console.print(table)
    console.print("Where its own differences agree, the gradient is that of a wrong loss, and no gradient check can see it.")


COMMAND = Command("mistakes", __doc__, lambda option: None, _run)
