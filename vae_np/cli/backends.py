"""Print which kernel sets work on this machine and how they multiply matrices, and what keeps the others from it."""

import argparse

from rich.console import Console
from rich.table import Table
from rich.text import Text

from vae_np import kernels, training
from vae_np.cli.command import Command
from vae_np.console import make_console


def _run(options: argparse.Namespace, status: Console) -> None:
    table, found = Table("backend", "runs here", "why not", "what to do"), kernels.available()
    for name, answer in found.items():
        table.add_row(name, "yes" if answer.ok else "no", Text(answer.reason), Text(answer.remedy))
    console = make_console()
    console.print(table)
    console.print(f"auto is {training.backend_name(kernels.load('auto'))}")
    for name, answer in found.items():
        for precision in kernels.precisions(name) if answer.ok else ():
            console.print(f"{name}, precision {precision}: {kernels.load(name, precision).about()}")


COMMAND = Command("backends", __doc__, lambda option: None, _run)
