"""The files that commands write: arrays as .npy, pictures as .png."""

import argparse
import os

import numpy as np
from numpy.typing import NDArray

from vae_np.cli.command import AddOption
from vae_np.cli.options import path
from vae_np.parameters import Parameters, replacing


def add_out(option: AddOption, help: str, default: str | None = None, metavar: str = "FILE") -> None:
    """Where a command writes."""
    option("--out", type=path, default=default, metavar=metavar, help=help)


def output_path(options: argparse.Namespace, name: str, *endings: str) -> str:
    """The file to write: the one that --out names, or else one of that name in the run folder.

    Raises
    ------
    ValueError
        The file that --out names has none of the endings.
    """
    out = options.out or os.path.join(options.run if os.path.isdir(options.run) else ".", name)
    if not out.endswith(endings):
        raise ValueError(f"--out is {out!r}; it must end in {' or '.join(endings)}")
    return out


def save_array(out: str, array: NDArray) -> None:
    """Write a .npy file, whole or not at all."""
    with replacing(out) as file:
        np.save(file, array)


def check_image_shape(image_shape: tuple[int, ...] | None, p: Parameters) -> tuple[int, ...]:
    """The shape; ValueError where the rows of the model's data are not pictures."""
    if not image_shape:
        raise ValueError(f"rows of {p.architecture.n_inputs} inputs are not pictures: write the numbers, with --out NAME.npy")
    return image_shape
