"""The records of the commands: each file is listed, the help is in sentences, and what few commands need is imported late."""

import importlib
import pathlib
import subprocess
import sys

import pytest

from vae_np import cli, optimizers
from vae_np.choices import ACTIVATIONS, LIKELIHOODS, NOISES, OBJECTIVES
from vae_np.cli.train import COMMAND as TRAIN
from vae_np.data import DATASETS

FILES = [path.stem for path in pathlib.Path(cli.__file__).parent.glob("[!_]*.py")]


def test_every_command_is_listed_once():
    modules = [importlib.import_module(f"vae_np.cli.{name}") for name in FILES]
    made = [vars(module)["COMMAND"] for module in modules if "COMMAND" in vars(module)]
    assert len(made) == len(cli.COMMANDS) == 13 and all(command in cli.COMMANDS for command in made)
    assert {command.name.replace("-", "_") for command in made} <= set(FILES)


@pytest.mark.parametrize("command", cli.COMMANDS, ids=lambda command: command.name)
def test_help_is_in_sentences(command):
    helps = [command.help, *(action.help for action in command.options.values())]
    assert all(text and text[0].isupper() | text.startswith("log p") and text.endswith(".") for text in helps)


def test_the_help_names_all_that_the_records_hold():
    helps = {name: action.help or "" for name, action in TRAIN.options.items()}
    assert all(f"{name} is {record.formula}" in helps["activation"] for name, record in ACTIVATIONS.items())
    assert all(record.output in helps["likelihood"] for record in LIKELIHOODS.values())
    for records, name in ((NOISES, "noise"), (OBJECTIVES, "objective")):
        assert all(f"{key}: {record.words}" in helps[name] for key, record in records.items())
    assert all(name in helps["data"] for name in DATASETS)
    rates = {name: optimizer.learning_rate for name, optimizer in optimizers.OPTIMIZERS.items()}
    assert all(f"{rate:g} for {name}" in helps["learning_rate"] for name, rate in rates.items())
    assert "200 for digits and 20 for other data" in helps["epochs"]


def test_what_few_commands_need_is_not_imported_by_all():
    late = {"matplotlib", "sklearn", "vae_np.testing", "vae_np.study", "hypothesis", "numba"}
    code = f"import sys; from vae_np import cli; cli.parser(); print({late!r} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=600)
    assert done.stdout.strip() == "set()"
