"""Commands in this process: run one, and read what it printed and wrote."""

import contextlib
import csv
import io
import pathlib
import sys
from typing import NamedTuple

import pytest

from vae_np import cli

SMALL = ("--hidden", 6, "--epochs", 1)
PICTURES = {"losses.png", "reconstructions.png", "samples.png", "manifold.png", "latent.png"}


class Answer(NamedTuple):
    code: int
    out: str
    err: str


def command(*arguments):
    """Run the command in this process; any exception but SystemExit is a traceback to the user and fails the test."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), pytest.raises(SystemExit) as caught:
        cli.main([str(argument) for argument in arguments])
    assert "\x1b" not in out.getvalue() + err.getvalue(), "no colours where there is no terminal"
    code = caught.value.code or 0
    assert isinstance(code, int), "main itself prints what it has to say"
    return Answer(code, out.getvalue(), err.getvalue())


def done(*arguments):
    """What a command prints that must succeed; progress and remarks go to stderr, but no complaint does."""
    answer = command(*arguments)
    assert answer.code == 0 and "vae-np: " not in answer.err
    return answer.out


def refused(*arguments, code=2):
    """The one line in which a command says why it can't be done, after which it says nothing more."""
    answer = command(*arguments)
    assert answer.code == code
    *before, line = answer.err.splitlines()
    assert line.startswith("vae-np: ") and len(line) > len("vae-np: ")
    assert not any(other.startswith("vae-np: ") for other in before)
    return line


def process(*arguments):
    """The words of a process of its own that runs the command."""
    return [sys.executable, "-m", "vae_np", *map(str, arguments)]


def history(folder):
    with open(pathlib.Path(folder, "history.csv"), newline="") as file:
        return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in pathlib.Path(folder).rglob("*") if path.is_file()}


def cells(out):
    """The rows of the table that was printed, as lists of their cells."""
    return [[cell.strip() for cell in line.split("│")[1:-1]] for line in out.splitlines() if line.startswith("│")]
