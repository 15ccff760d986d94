"""The progress of a training: a bar in a terminal, and a line for each epoch in a file or a pipe."""

import contextlib
import logging
from collections.abc import Callable, Iterator
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from vae_np.choices import OBJECTIVES
from vae_np.data import Dataset
from vae_np.stored_rows import StoredRows


def check_rows(dataset: Dataset, status: Console) -> None:
    """Check the rows of a data set that stay in their files, with a bar if they have to be read."""
    if not isinstance(dataset.train, StoredRows):
        return
    bar = Progress(TextColumn("checking the rows"), BarColumn(), TimeRemainingColumn(), console=status)
    task = bar.add_task("")

    def progress(done: int, of: int) -> None:
        bar.start()
        bar.update(task, completed=done, total=of)

    try:
        dataset.train.look(progress)
    finally:
        if bar.live.is_started:
            bar.stop()


@contextlib.contextmanager
def training_progress(
    console: Console, status: Console, objective: str, epochs: int | None = None
) -> Iterator[Callable[[int, int, dict[str, float]], None]]:
    """`with training_progress(...) as show`: show(done, of, row) is the argument `progress` of `vae_np.train`.

    Parameters
    ----------
    console, status : Console
        The consoles of the output and of the progress.
    objective : str
        The bound that is trained.
    epochs : int, optional
        The number of epochs, where it is known.
    """
    bar = Progress(
        TextColumn("{task.fields[epoch]}"),
        BarColumn(),
        TextColumn("{task.fields[terms]}"),
        TimeRemainingColumn(),
        console=status,
        disable=not status.is_terminal,
    )
    task = bar.add_task("", epoch="", terms="")
    of_epochs, valid = f"/{epochs}" if epochs else "", ""

    def show(done: int, of: int, row: dict[str, float]) -> None:
        nonlocal valid
        bar.start()  # only now, because a training that is refused must show no bar
        if "valid_total" in row:
            valid = f"  valid {row['valid_total']:.2f}"
        epoch, terms = f"{row['epoch']}{of_epochs}", _terms(row, objective) + valid
        bar.update(task, completed=done, total=of, epoch=f"epoch {epoch}", terms=terms)
        if "seconds" in row and not (console.is_terminal and status.is_terminal):
            console.print(f"epoch {epoch}  {terms}  {row['seconds']:.2g} s")

    def show_compilation(record: logging.LogRecord) -> bool:
        of_all: Any = record.args or (0, None)
        bar.start()
        bar.update(task, completed=of_all[0], total=of_all[1], terms=record.getMessage(), refresh=True)
        return False  # it is not logged besides

    compilation = logging.getLogger("vae_np.compilation")
    before = compilation.level
    if status.is_terminal:
        compilation.addFilter(show_compilation)
        compilation.setLevel(logging.INFO)
    try:
        yield show
    finally:
        compilation.removeFilter(show_compilation)
        compilation.setLevel(before)
        if bar.live.is_started:
            bar.stop()


def _terms(row, objective):
    equals = "≤" if OBJECTIVES[objective].weighted else "="
    beta = "" if row["beta"] == 1 else f"{row['beta']:.2g} × "
    l2 = f" + L2 {row['train_l2']:.2f}" if row["train_l2"] else ""
    terms = f"reconstruction {row['train_reconstruction']:.2f} + {beta}KL {row['train_kl']:.2f}{l2}"
    return f"loss {row['train_total']:.2f} {equals} {terms}"
