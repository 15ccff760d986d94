"""Write the means of q(z|x), a row of latents for each row of data, as a .npy file."""

import argparse

from rich.console import Console

from vae_np.cli.command import AddOption, Command
from vae_np.cli.outputs import output_path, save_array
from vae_np.cli.rows import add_rows, encode_all
from vae_np.cli.run_folder import load_parameters
from vae_np.console import make_console

NAME = "latents.npy"


def _add_options(option: AddOption) -> None:
    add_rows(option, "The .npy file that is written, of shape (rows, latents).", NAME)


def _run(options: argparse.Namespace, status: Console) -> None:
    p = load_parameters(options.run)
    out = output_path(options, NAME, ".npy")
    z = encode_all(p, options, status)
    save_array(out, z)
    make_console().print(f"{out} holds {len(z)} rows of {z.shape[1]} latents, the means of q(z|x)")


COMMAND = Command("encode", __doc__, _add_options, _run)
