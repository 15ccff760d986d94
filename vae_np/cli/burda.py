"""Reproduce a row of Burda, Grosse & Salakhutdinov 2016, table 1, on MNIST: log p(x) after each stage."""

import argparse

from rich.console import Console

from vae_np import data
from vae_np.cli.command import AddOption, Command
from vae_np.cli.options import add_backend, add_data_dir, add_estimator, add_exchange, add_objective
from vae_np.cli.outputs import add_out
from vae_np.cli.progress import training_progress
from vae_np.console import make_console
from vae_np.ranks import of_launch


def _add_options(option: AddOption) -> None:
    add_data_dir(option)
    option("--stages", type=int, default=8, help="The number of stages that are trained. They have 1, 3, 9, ... 2187 epochs.")
    add_objective(option, "elbo", " In the table elbo gives the rows of the VAE, and iwae those of the IWAE.")
    add_estimator(option)
    option("--samples", type=int, default=1, help="Samples of z per example, k in the table.")
    option(
        "--importance-samples", type=int, default=5000, help="The number of importance weights by which log p(x) is estimated."
    )
    option("--rows", type=int, default=10_000, help="The number of rows of the test part on which log p(x) is estimated.")
    option("--seed", type=int, default=0, help="The seed of the first weights, of the order of the rows and of all noise.")
    add_backend(option)
    add_exchange(option)
    add_out(option, "The folder of the run. An existing run is resumed.", "runs/burda", "FOLDER")


def _run(options: argparse.Namespace, status: Console) -> None:
    from vae_np import burda2016

    console = make_console()
    dataset = data.load("mnist", options.data_dir)
    dataset = dataset._replace(valid=dataset.shown[0][: options.rows])
    with training_progress(console, status, options.objective) as show:
        stages = burda2016.burda(
            dataset,
            options.stages,
            options.objective,
            options.samples,
            options.importance_samples,
            options.seed,
            options.backend,
            options.out,
            show,
            options.estimator,
            of_launch(),
            options.exchange,
        )
        for stage, epochs, ll, active, ratios in stages:
            console.print(
                f"stage {stage}, {epochs} epochs: -log p(x) {-ll.mean():.2f} ± {ll.std() / len(ll) ** 0.5:.2f} nats "
                f"({len(ll)} test digits), -ELBO {-ll.bounds[1].mean():.2f}, {active.sum()} of {len(active)} latents active, "
                f"signal to noise by mu.b {', '.join(f'{ratio:.3f} ({name})' for name, ratio in ratios.items())}"
            )
    console.print(
        "The published values after all 8 stages, 3280 epochs, are 86.76 nats with 1 sample (VAE) and 84.78 nats with 50 weighted "
        "samples (IWAE)."
    )


COMMAND = Command("burda", __doc__, _add_options, _run, by_ranks=True)
