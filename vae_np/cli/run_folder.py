"""What commands read from a run folder: the options that the run was trained with, its data set, and its parameters."""

import argparse
import contextlib
import io
import json
import os
import shlex
from typing import Any

from vae_np import data, runs
from vae_np.cli.command import Command
from vae_np.cli.options import DATA
from vae_np.data import Dataset
from vae_np.parameters import Parameters, reading

MOVED = "; if it has moved, say where it is with --data"
NOT_STORED = ("out", "resume", "stall")  # options of `vae-np train` that name the folder itself, or belong to one start of it


def stored(command: Command, options: argparse.Namespace) -> dict[str, Any]:
    """What a run folder keeps of the options of its training: the options for the program, and a command line for people.

    Paths become absolute, so that the run can be resumed from any folder.
    """
    kept = command.defaults()
    for name in command.options.keys() - set(NOT_STORED):
        setattr(kept, name, vars(options)[name])
    if kept.data not in data.DATASETS:
        kept.data = os.path.abspath(kept.data)
    if kept.data_dir:
        kept.data_dir = os.path.abspath(kept.data_dir)
    values = {name: value for name, value in vars(kept).items() if name not in NOT_STORED}
    return {"options": values, "command": shlex.join(["vae-np", command.name, *command.words(kept)])}


def stored_options(run: str, command: Command) -> argparse.Namespace:
    """The options that a run was trained with, and the number of epochs that it was last asked for.

    Versions before 0.2 kept the command line alone, which is parsed.

    Raises
    ------
    ValueError
        The folder is not a run folder, or its config.json does not hold options of the command.
    """
    config = runs.read_config(run)
    with reading(os.path.join(run, runs.CONFIG), runs.DESCRIPTION):
        if "options" in config:
            options = _from_json(command, config["options"])
        else:
            options = _from_line(command, config["command"])
    options.epochs = config["epochs"]
    return options


def is_described(run: str) -> bool:
    """Whether the run was trained by a command, so that its folder tells with which options."""
    return os.path.isdir(run) and not {"options", "command"}.isdisjoint(runs.read_config(run))


def _from_json(command, values):
    if not isinstance(values, dict):
        raise ValueError("its options are not a JSON object")
    options = command.defaults()
    for name, value in values.items():
        if name in NOT_STORED or name not in options:
            raise ValueError(f"it has an option {name!r}, which this version does not know")
        setattr(options, name, _as_given(command, name, value))
    return options


def _as_given(command, name, value):
    """The option's value, from what JSON made of it; ValueError if the command would not take that value."""
    alone = command.defaults()
    setattr(alone, name, value)
    with contextlib.suppress(ValueError):
        given = vars(_parsed(command, command.words(alone)))[name]
        if json.loads(json.dumps(given)) == value:
            return given
    raise ValueError(f"its option {name} cannot be {value!r}")


def _from_line(command, line):
    words = shlex.split(line + "")  # a TypeError if it is not a text: shlex would read None from the standard input
    if words[:2] != ["vae-np", command.name]:
        raise ValueError(f"its command is not `vae-np {command.name}`")
    return _parsed(command, words[2:])


def _parsed(command, words):
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
            return command.parse(words)
    except SystemExit:
        raise ValueError(f"its command cannot be parsed: {said.getvalue().splitlines()[-1]}") from None


# ------------------------------------------------------------------------------------------- the data and the parameters


def load_dataset(options: argparse.Namespace, hint: str = "") -> Dataset:
    """The data set that the options name; the hint is added to the error where its file is missing."""
    header, index = (None if given is None else given == "yes" for given in (options.csv_header, options.csv_index))
    try:
        return data.load(options.data, options.data_dir, options.valid_fraction, header, index)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{error}{hint}") from None


def load_dataset_of(trained_with: argparse.Namespace, options: argparse.Namespace) -> Dataset:
    """The data set of a run, unless the options name another one."""
    given = {name: vars(options)[name] for name in DATA if vars(options)[name] is not None}
    return load_dataset(argparse.Namespace(**(vars(trained_with) | given)), "" if options.data else MOVED)


def load_parameters(run: str) -> Parameters:
    """The parameters in a run folder, or in an .npz file.

    Raises
    ------
    FileNotFoundError
        There are none.
    ValueError
        The file is not whole.
    """
    path = os.path.join(run, runs.CHECKPOINT) if os.path.isdir(run) else run
    if not os.path.isfile(path):
        raise FileNotFoundError(f"there is no trained model at {path}")
    return Parameters.load(path)
