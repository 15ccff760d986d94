"""The command `vae-np`. To add a command, write a file that makes a `Command`, and name it in the list below."""

import argparse
import contextlib
import io
import logging
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from rich.logging import RichHandler

import vae_np
from vae_np.cli import (
    backends,
    burda,
    check,
    encode,
    estimators,
    evaluate,
    exercise,
    explain_bound,
    mistakes,
    reconstruct,
    sample,
    study,
    train,
)
from vae_np.cli.command import Command, HelpWithDefaults
from vae_np.cli.interrupts import Terminated, sigterm_raises
from vae_np.console import make_console, print_in_any_encoding
from vae_np.ranks import RankError, of_launch, rank_in_environment

COMMANDS: tuple[Command, ...] = (
    train.COMMAND,
    evaluate.COMMAND,
    encode.COMMAND,
    reconstruct.COMMAND,
    sample.COMMAND,
    check.COMMAND,
    study.COMMAND,
    exercise.COMMAND,
    mistakes.COMMAND,
    explain_bound.COMMAND,
    estimators.COMMAND,
    burda.COMMAND,
    backends.COMMAND,
)


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run one command, and exit.

    Parameters
    ----------
    arguments : sequence of str, optional
        The words after `vae-np`. By default they are those of this process.

    Raises
    ------
    SystemExit
        Always. Its code is that of the command (0 where all is right), 2 where the command cannot be done, which one
        sentence on the standard error explains, 130 after Ctrl-C, or 143 after SIGTERM. Under mpiexec a code that is not 0 in
        one process ends all of them.
    """
    print_in_any_encoding()
    try:
        ranks = of_launch()
    except RankError as error:
        if rank_in_environment() == 0:
            print(f"vae-np: {error}", file=sys.stderr)
        sys.exit(2)
    others = ranks.rank > 0
    status = make_console(stderr=True, quiet=others)  # of the progress bar and of the log, which would else mix
    handler = RichHandler(console=status, show_time=False, show_level=False, show_path=False)
    logging.basicConfig(format="%(message)s", handlers=[handler], force=True)
    with contextlib.ExitStack() as stack:
        stack.enter_context(sigterm_raises())
        if others:
            stack.enter_context(contextlib.redirect_stdout(stack.enter_context(open(os.devnull, "w"))))
        try:
            with contextlib.redirect_stderr(io.StringIO()) if others else contextlib.nullcontext():
                options = parser().parse_args(arguments)
            code = None if others and not options.command.by_ranks else options.command.run(options, status)
            message = ""
        except (ValueError, TypeError, OSError, RuntimeError, ArithmeticError, MemoryError) as error:
            code, message = 2, f"vae-np: {error}"
        except KeyboardInterrupt as interrupt:
            code, message = 143 if isinstance(interrupt, Terminated) else 130, f"vae-np: stopped{interrupt}"
        except SystemExit as end:
            code, message = end.code, ""
        if code:
            ranks.end_all(int(code), message)
        sys.exit(code)


def parser() -> argparse.ArgumentParser:
    """The parser of all commands; `command` of the options that it returns is the Command that was named."""
    top = argparse.ArgumentParser(
        prog="vae-np", description="A variational autoencoder whose every derivative is written by hand."
    )
    top.add_argument("--version", action="version", version=f"%(prog)s {vae_np.__version__}")
    commands = top.add_subparsers(required=True, metavar="COMMAND")
    for command in COMMANDS:
        sub = commands.add_parser(command.name, help=command.help, description=command.help, formatter_class=HelpWithDefaults)
        command.add_options(sub.add_argument)
        sub.set_defaults(command=command)
    return top
