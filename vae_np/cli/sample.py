"""Draw latents from the prior and decode them: the mean of p(x|z) is written as a picture or as numbers."""

import argparse
import math
import os

from rich.console import Console

from vae_np import data, elbo, runs, streams
from vae_np.architecture import check_count
from vae_np.cli.command import AddOption, Command
from vae_np.cli.options import add_backend, add_run
from vae_np.cli.outputs import add_out, check_image_shape, output_path, save_array
from vae_np.cli.rows import MODEL
from vae_np.cli.run_folder import load_parameters
from vae_np.console import make_console

NAME = "samples.png"


def _add_options(option: AddOption) -> None:
    add_run(option, MODEL)
    option("--n", type=int, default=144, help="The number of samples.")
    add_out(
        option,
        f"The file that is written: .png is a picture and .npy holds the numbers. By default it is {NAME} in the run folder.",
    )
    option("--seed", type=int, default=0, help="The seed of the samples.")
    add_backend(option)


def _run(options: argparse.Namespace, status: Console) -> None:
    p = load_parameters(options.run)
    out = output_path(options, NAME, ".png", ".npy")
    shape = 1, check_count("n", options.n), p.architecture.n_latent
    z = streams.normals(streams.check_seed(options.seed), "sample", 1, shape, p.flat.dtype)[0]
    x = elbo.decode(p, z, options.backend)
    if out.endswith(".npy"):
        save_array(out, x)
    else:
        from vae_np import plots

        plots.write(plots.samples(x, _image_shape(options.run, p)), out)
    make_console().print(f"{out} holds {options.n} samples")


def _image_shape(run, p):
    """The shape of the run's images, or else that of a square picture."""
    n_inputs = p.architecture.n_inputs
    stored = runs.read_config(run)["image_shape"] if os.path.isdir(run) else None
    image_shape = check_image_shape(stored or data.square(n_inputs), p)
    if len(image_shape) != 2 or math.prod(image_shape) != n_inputs:
        raise ValueError(f"{run} has images of shape {image_shape} in its {runs.CONFIG}, but {n_inputs} inputs")
    return image_shape


COMMAND = Command("sample", __doc__, _add_options, _run)
