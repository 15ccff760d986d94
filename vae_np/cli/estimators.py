"""Compare the estimators of the encoder's gradient: their exact bias and variance, and how these change with more samples."""

import argparse
import os

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Column, Table

from vae_np.architecture import check_count
from vae_np.choices import ESTIMATORS
from vae_np.cli.command import AddOption, Command
from vae_np.cli.options import add_backend
from vae_np.cli.outputs import add_out
from vae_np.console import make_console

LOSSES = (("elbo_mc", 1.0), ("iwae", 1.0), ("iwae", 0.5))  # (objective, beta) of the exact table
SAMPLES = 2  # of the exact table
MODELS = {  # {title: the standard deviation of the errors of the parameters}
    "near the optimum: parameters off by 0.01": 0.01,
    "far from it, by 0.5: dreg is not always better": 0.5,
}
CLOSE_TO_0 = 1e-9  # the quadrature and the difference quotient are exact to a hundredth of it


def _add_options(option: AddOption) -> None:
    option(
        "--samples",
        type=int,
        nargs="+",
        default=[1, 3, 10, 30, 100, 300],
        metavar="K",
        help="The numbers of samples that the pictures compare.",
    )
    option(
        "--draws",
        type=int,
        default=20_000,
        help="The number of gradients that are drawn with one sample. With K samples it is divided by K^0.7.",
    )
    option("--seed", type=int, default=0, help="The seed of the draws.")
    add_backend(option)
    add_out(option, "The folder of the two pictures.", ".", "FOLDER")


def _run(options: argparse.Namespace, status: Console) -> None:
    from vae_np import gradient_moments, plots, streams

    streams.check_seed(options.seed)
    draws, console = check_count("draws", options.draws, 2), make_console()
    numbers = {K: max(2, round(draws / K**0.7)) for K in sorted(check_count("a number of samples", K) for K in options.samples)}
    console.print(_exact_table())
    console.print(
        "The gradient is by mu.b and logvar.b of a linear model with one latent dimension, for one row of data and the mean loss "
        f"of {SAMPLES} samples. Means and variances are integrals over the noise, by Gauss-Hermite quadrature; the true gradient is "
        f"a difference quotient of the integrated loss. A bias below {CLOSE_TO_0:.0e} is shown as 0.\n"
    )
    bar = Progress(
        TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn(), console=status, disable=not status.is_terminal
    )
    moments = {}
    with bar:
        task = bar.add_task("", total=sum(K * n for K, n in numbers.items()) * len(MODELS))
        for title, std in MODELS.items():
            p, x = gradient_moments.linear_model(std)
            moments[title] = {}
            for K, n in numbers.items():
                bar.update(task, description=f"{title.partition(',')[0].partition(':')[0]}, {K} samples")
                moments[title][K] = gradient_moments.sampled(
                    p,
                    x,
                    K,
                    n,
                    tuple(plots.ESTIMATOR_COLOURS),
                    "dreg",
                    seed=options.seed,
                    backend=options.backend,
                    step=lambda n, K=K: bar.advance(task, n * K),
                )
    os.makedirs(options.out, exist_ok=True)
    near = next(iter(moments.values()))
    pictures = {"signal-to-noise.png": plots.signal_to_noise(near), "estimators.png": plots.estimators(moments)}
    for name, figure in pictures.items():
        console.print(plots.write(figure, os.path.join(options.out, name)))


def _exact_table():
    """The exact bias and variance of each estimator of each loss."""
    from vae_np import gradient_moments

    p, x = gradient_moments.small_model()
    columns = ("bias by mu.b", "by logvar.b", "variance by mu.b", "by logvar.b")
    table = Table("loss", "estimator", *(Column(name, justify="right") for name in columns))
    for objective, beta in LOSSES:
        loss = gradient_moments.exact_loss(p, x, beta, objective, SAMPLES)
        gradient = gradient_moments.exact_gradient(p, x, beta, objective, SAMPLES)
        by_mu, by_logvar = (f"{value:.6f}" for value in gradient)
        words = iter((f"{objective}, beta {beta:g}", f"{loss:.6f} nats", f"d mu.b {by_mu}", f"d logvar.b {by_logvar}"))
        known = [name for name, estimator in ESTIMATORS.items() if objective in estimator.operations]
        for estimator in known:
            found = gradient_moments.exact(p, x, beta, objective, SAMPLES, estimator)
            bias = (f"{value:+.6f}" if abs(value) > CLOSE_TO_0 else "0" for value in found.mean - gradient)
            table.add_row(next(words, ""), estimator, *bias, *(f"{value:.6f}" for value in found.variance))
        for rest in words:
            table.add_row(rest)
        table.add_section()
    return table


COMMAND = Command("estimators", __doc__, _add_options, _run)
