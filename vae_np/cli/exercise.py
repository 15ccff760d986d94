"""Write the derivatives yourself: a file with sixteen functions to fill, and a check that names the kind of each mistake."""

import argparse
import json
import os
import sys

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from vae_np.cli.command import AddOption, Command
from vae_np.cli.options import path
from vae_np.console import make_console

ALL = "all"


def _add_options(option: AddOption) -> None:
    option("--file", type=path, default="exercises.py", help="The file of the functions. It is written if it does not exist.")
    option(
        "--check",
        nargs="?",
        const=ALL,
        metavar="NAME",
        help="Check all exercises, or this one, and exit with 0 if everything is right and with 1 if not.",
    )
    option("--json", action="store_true", help="The results of --check are printed as JSON.")
    option("--list", action="store_true", help="List the exercises and what is right.")
    option("--hint", metavar="NAME", help="Print the next hint on this exercise.")
    option("--reset", metavar="NAME", help="Put the function of this exercise back to what it was. A copy of the file is kept.")
    option("--bonus", action="store_true", help="The file also holds exercises on other estimators of the gradient.")
    option("--notebook", action="store_true", help="Write exercises.ipynb, a notebook with a cell for each exercise.")
    option("--train", action="store_true", help="Train on digits with the functions of the file, and with those of vae_np.")


def _run(options: argparse.Namespace, status: Console) -> int:
    from vae_np.study import notebook, workbook
    from vae_np.study.exercises import KNOWN
    from vae_np.study.runner import Checker
    from vae_np.study.session import Session, watch

    console = make_console()
    for name in (options.hint, options.reset, options.check):
        if name and name != ALL and name not in KNOWN:
            raise ValueError(f"there is no exercise {name!r}; known are {', '.join(KNOWN)}")
    if options.notebook:
        out = os.path.splitext(options.file)[0] + ".ipynb"
        notebook.write(out, options.bonus)
        console.print(f"{out} holds a cell for each exercise; open it with `jupyter notebook {out}`")
        return 0
    if not os.path.exists(options.file) or options.bonus:
        workbook.write(options.file, options.bonus)
        status.print(f"{options.file} is written: open it in an editor")
    if options.reset:
        console.print(
            f"{options.reset} is as it was at first; the file as it was is {workbook.reset(options.file, options.reset)}"
        )
        return 0
    watching = not (options.check or options.list or options.hint or options.train or options.json) and sys.stdin.isatty()
    with Checker(ahead=watching) as checker:
        session = Session(options.file, console, checker)
        if options.hint:
            console.print(session.hint(options.hint))
            return 0
        if watching and console.is_terminal:
            watch(session)
            return 0
        session.update([options.check] if options.check not in (None, ALL) else tuple(KNOWN), anew=bool(options.check))
        if options.list and not session.failure:
            console.print(session.listing())
            return 0
        if options.train and not session.failure:
            return _train(session, console, status)
        return _report(session, options, console)


def _report(session, options, console):
    """Print what is said of the exercises that are checked; 0 if all of them are right, else 1."""
    from vae_np.study.answers import NOT_BEGUN, RIGHT, Verdict
    from vae_np.study.runner import record_of

    named = options.check if options.check != ALL else None
    names = [named] if named else session.names
    verdicts = (
        [session.failure] if session.failure else [session.verdicts.get(name, Verdict(name, NOT_BEGUN)) for name in names]
    )
    right = all(verdict.state == RIGHT for verdict in verdicts)
    if options.json:
        print(json.dumps({"right": right, "exercises": [record_of(verdict) for verdict in verdicts]}, indent=1))
        return 0 if right else 1
    for verdict in verdicts:
        if session.failure:
            console.print(Text(verdict.findings[0].sentence))
        else:
            console.print(str(verdict))
    if not named and not session.failure:
        console.print(session.progress())
    return 0 if right else 1


def _train(session, console, status):
    """Train with the student's right answers and with ours, and show both; 0 if all answers are right and the losses agree."""
    import numpy as np

    from vae_np.study import rehearsal
    from vae_np.study.exercises import EXERCISES
    from vae_np.study.runner import loaded

    right = [name for name in EXERCISES if session.is_right(name)]
    console.print(f"{len(right)} of your {len(EXERCISES)} functions train; those of vae_np stand for the others")
    scope, _ = loaded(str(session.path))
    lines, curves, agree = rehearsal.yours(scope, right), {}, True
    for setting in rehearsal.SETTINGS:
        with status.status(f"training: {setting.words}"), np.errstate(all="ignore"):
            pair = [*rehearsal.losses(setting, lines)], [*rehearsal.losses(setting, rehearsal.OURS)]
        curves[setting.words] = pair
        table = Table(box=box.SIMPLE_HEAD, show_edge=False, title=f"loss in nats: {setting.words}", title_justify="left")
        for column in ("epoch", "your lines", "vae_np", "difference"):
            table.add_column(column, justify="right")
        for epoch, (own, ours) in enumerate(zip(*pair), 1):
            table.add_row(str(epoch), f"{own:.4f}", f"{ours:.4f}", f"{own - ours:.0e}")
        console.print(table, "")
        agree = agree and bool(np.allclose(*pair, rtol=1e-6))
    out = session.path.with_name("training.png")
    rehearsal.draw(curves, out)
    console.print(f"{out} shows the curves")
    with status.status("check_kernels compares every operation and every property of the model; this takes half a minute"):
        faults = rehearsal.faults(lines.kernels)
    console.print(f"check_kernels finds:\n{faults}" if faults else "check_kernels finds nothing wrong with your operations")
    return 0 if agree and len(right) == len(EXERCISES) and not faults else 1


COMMAND = Command("exercise", __doc__, _add_options, _run)
