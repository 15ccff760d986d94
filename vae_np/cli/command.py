"""What a command of `vae-np` is: a name, a sentence of help, its options, and a function that runs it."""

import argparse
import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from rich.console import Console


class AddOption(Protocol):
    """`argparse.ArgumentParser.add_argument` of the parser that an option is added to."""

    def __call__(self, *names: str, **settings: Any) -> argparse.Action: ...


class HelpWithDefaults(argparse.ArgumentDefaultsHelpFormatter):
    """Shows the default of each option that has one."""

    def _get_help_string(self, action):
        return action.help if action.default is None else super()._get_help_string(action)


@dataclasses.dataclass(frozen=True)
class Command:
    """A command of `vae-np`. Each one is made in a file of its own, and listed in `vae_np.cli.COMMANDS`."""

    name: str
    help: str | None  # the docstring of the command's file, which `python -OO` takes away
    add_options: Callable[[AddOption], object]  # calls its argument once for each option
    run: Callable[[argparse.Namespace, Console], int | None]  # (options, console of the progress) -> exit code, or None for 0
    by_ranks: bool = False  # whether the ranks of mpiexec share the work; else rank 0 does it

    @functools.cached_property
    def options(self) -> dict[str, argparse.Action]:
        """{name: Action} of all options, in the order of the help; without old names."""
        parser, found = argparse.ArgumentParser(), {}

        def add(*names: str, **settings: Any) -> argparse.Action:
            action = parser.add_argument(*names, **settings)
            if action.help is not argparse.SUPPRESS:
                found[action.dest] = action
            return action

        self.add_options(add)
        return found

    def defaults(self) -> argparse.Namespace:
        """The options of the command where the user gives none."""
        return argparse.Namespace(**{name: action.default for name, action in self.options.items()})

    def parse(self, words: Sequence[str]) -> argparse.Namespace:
        """The options that the words after the command's name give.

        Raises
        ------
        SystemExit
            The words cannot be parsed. The reason was printed to the standard error.
        """
        parser = argparse.ArgumentParser(prog=f"vae-np {self.name}")
        self.add_options(parser.add_argument)
        return parser.parse_args(words)

    def words(self, options: argparse.Namespace) -> list[str]:
        """The words after the command's name that give these options, without those that have their default."""
        words = []
        for name, action in self.options.items():
            value = vars(options)[name]
            if value != action.default:
                values = [] if action.nargs == 0 else value if isinstance(value, list) else [value]
                words += [action.option_strings[0], *map(_word, values)]
        return words


def _word(value):
    """The word of a command line that gives an option this value, such as 10:0.1 for (10, 0.1)."""
    return ":".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
