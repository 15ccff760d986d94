"""Train models whose best loss is known in closed form, and show that they reach it and do not pass it."""

import argparse

import numpy as np
from rich.console import Console
from rich.table import Table

from vae_np.cli.command import AddOption, Command
from vae_np.cli.outputs import add_out
from vae_np.console import make_console


def _add_options(option: AddOption) -> None:
    add_out(option, "The picture that is written.", "bound.png")


def _run(options: argparse.Namespace, status: Console) -> None:
    from vae_np import closed_form, plots

    x, n_latent, rng = closed_form.linear_digits(), 2, np.random.default_rng(0)
    plane = rng.normal(size=(200, 2)) @ rng.normal(size=(2, 16)) + 1
    with status.status("a linear VAE and two linear autoencoders are trained until their losses no longer fall"):
        elbo, log_p, p = closed_form.bound_of_a_linear_model(x, n_latent)
        on_digits = closed_form.error_of_a_linear_autoencoder(x, n_latent)
        on_a_plane = closed_form.error_of_a_linear_autoencoder(plane, n_latent)
    noise, noise_limit = np.exp(p["noise.logvar"][0]), closed_form.ppca(x, n_latent).noise
    table = Table("model", "reached", "known", "which is")
    for name, reached, limit, which in (
        ("linear VAE on digits: ELBO", f"{max(elbo.reached):.6f}", f"{elbo.limit:.6f}", "the maximum of probabilistic PCA"),
        ("   its log p(x)", f"{log_p.reached[-1]:.6f}", f"{log_p.limit:.6f}", "the same, because q is the posterior"),
        ("   its noise", f"{noise:.6f}", f"{noise_limit:.6f}", "the mean discarded eigenvalue"),
        (
            "linear autoencoder on digits: error",
            f"{min(on_digits.reached):.6f}",
            f"{on_digits.limit:.6f}",
            "the sum of the discarded eigenvalues",
        ),
        (
            "   on a plane of data: error",
            f"{min(on_a_plane.reached):.1e}",
            f"{abs(on_a_plane.limit):.1e}",
            "zero, because no eigenvalue is discarded",
        ),
    ):
        table.add_row(name, reached, limit, which)
    console = make_console()
    console.print(table)
    console.print("A loss that does not reach zero is not a failure: the rest is what so few latents cannot express.")
    console.print(plots.write(plots.known_answers(elbo, log_p, on_digits, on_a_plane), options.out))


COMMAND = Command("explain-bound", __doc__, _add_options, _run)
