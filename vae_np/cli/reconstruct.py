"""Write the mean of p(x|z) at the mean of q(z|x), a row for each row of data, or draw some of them."""

import argparse

from rich.console import Console

from vae_np import elbo
from vae_np.cli.command import AddOption, Command
from vae_np.cli.outputs import check_image_shape, output_path, save_array
from vae_np.cli.rows import add_rows, encode_all, trained_with
from vae_np.cli.run_folder import load_dataset_of, load_parameters
from vae_np.console import make_console

NAME = "reconstructions.png"


def _add_options(option: AddOption) -> None:
    add_rows(option, "The file that is written: .npy holds all rows, and .png is a picture of 16 of them.", NAME)
    option("--seed", type=int, default=0, help="The seed of the choice of rows for a picture.")


def _run(options: argparse.Namespace, status: Console) -> None:
    p = load_parameters(options.run)
    out = output_path(options, NAME, ".png", ".npy")
    if out.endswith(".npy"):
        x = elbo.decode(p, encode_all(p, options, status), options.backend)
        save_array(out, x)
        make_console().print(f"{out} holds {len(x)} reconstructions of {x.shape[1]} numbers")
        return
    dataset = load_dataset_of(trained_with(options), options)
    image_shape = check_image_shape(dataset.image_shape, p)
    from vae_np import plots

    plots.write(plots.reconstructions(p, dataset.shown[0], image_shape, options.seed), out)
    make_console().print(f"{out} shows some rows and their reconstructions")


COMMAND = Command("reconstruct", __doc__, _add_options, _run)
