"""All rows of a data set, for the commands that write a row for each of them."""

import argparse

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from vae_np import elbo
from vae_np.cli.command import AddOption
from vae_np.cli.options import add_backend, add_data, add_run
from vae_np.cli.outputs import add_out
from vae_np.cli.progress import check_rows
from vae_np.cli.run_folder import is_described, load_dataset_of
from vae_np.cli.train import COMMAND as TRAIN
from vae_np.cli.train import options_of
from vae_np.parameters import Parameters

MODEL = "A run folder, or an .npz file of parameters."


def add_rows(option: AddOption, endings: str, name: str) -> None:
    """A model, rows, and a file to write."""
    add_run(option, MODEL)
    add_data(
        option,
        None,
        " By default all rows of the run's data are taken in their order; a validation part of its own comes last.",
    )
    add_out(option, f"{endings} By default it is {name} in the run folder.")
    add_backend(option)


def trained_with(options: argparse.Namespace) -> argparse.Namespace:
    """The options that the run was trained with; where the folder does not tell them and the data are named, the defaults.

    Raises
    ------
    ValueError
        The folder does not tell them, and the data are not named.
    """
    if is_described(options.run):
        return options_of(options.run)
    if not options.data:
        raise ValueError(f"{options.run} does not say what data it was trained on: name them with --data")
    return TRAIN.defaults()


def encode_all(p: Parameters, options: argparse.Namespace, status: Console) -> NDArray:
    """The means of q(z|x), (N, Z), of all rows of the data set in its order."""
    before = trained_with(options)
    before.valid_fraction = 0
    dataset = load_dataset_of(before, options)
    check_rows(dataset, status)
    parts = [rows for rows in (dataset.train, dataset.valid) if rows is not None]
    with status.status(f"{sum(map(len, parts))} rows"):
        return np.concatenate([elbo.encode(p, x, options.backend)[0] for x in parts])
