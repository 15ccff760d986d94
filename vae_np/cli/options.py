"""Options that several commands share. Each function adds a group of them to one command."""

import argparse
import os
import sys
from collections.abc import Callable, Iterable
from typing import Any

from vae_np import data, kernels
from vae_np.architecture import Architecture
from vae_np.choices import ACTIVATIONS, ESTIMATORS, LIKELIHOODS, NOISES, OBJECTIVES
from vae_np.cli.command import AddOption
from vae_np.deprecation import now_called
from vae_np.steps import EXCHANGES

DATA = ("data", "data_dir", "csv_header", "csv_index")  # the options of add_data, which say where the data are
path = os.path.expanduser  # the type of an option that is a path: a shell leaves the ~ of --out=~/run as it is


def epoch_and_factor(text: str) -> tuple[int, float]:
    """The type of an option such as 10:0.1."""
    try:
        epoch, factor = text.split(":")
        return int(epoch), float(factor)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form EPOCH:FACTOR, such as 10:0.1") from None


class OldName(argparse.Action):
    """An option under the name that it had before. It works, the help does not show it, and a warning says the new name."""

    def __init__(self, option_strings: list[str], dest: str, **settings: Any):
        super().__init__(option_strings, dest, default=argparse.SUPPRESS, help=argparse.SUPPRESS, **settings)

    def __call__(self, parser, namespace, values, option_string=None):
        new = f"--{self.dest.replace('_', '-')}"
        print(f"{parser.prog}: {now_called(str(option_string), new)}", file=sys.stderr)
        setattr(namespace, self.dest, values)


def add_run(option: AddOption, what: str = "The run folder.") -> None:
    """The run that a command reads."""
    option("run", type=path, help=what)


def add_backend(option: AddOption) -> None:
    """The kernel set that computes."""
    option(
        "--backend",
        choices=["auto", *sorted(kernels.CHECKS)],
        default="auto",
        help="The kernels that compute: auto takes the fastest that work here.",
    )


def add_data_dir(option: AddOption) -> None:
    """The folder of MNIST."""
    option(
        "--data-dir",
        type=path,
        help="The folder of MNIST's files. By default it is $VAE_NP_DATA or a cache folder; files that are missing are downloaded.",
    )


def add_data(option: AddOption, default: str | None, by_default: str = "") -> None:
    """The data set; by_default is a sentence for the help, where there is no default."""
    option(
        "--data",
        type=path,
        default=default,
        help=f"The data: {', '.join(data.DATASETS)}, a .npz, .npy, .csv or .tsv file, or a folder of .npy files. Bytes stand for 0 to 1 in steps of 1/255.{by_default}",
    )
    add_data_dir(option)
    for name, what in (("header", "first line holds the names of the columns"), ("index", "first column numbers the rows")):
        option(
            f"--csv-{name}",
            choices=("yes", "no"),
            help=f"Whether the {what} in a .csv or .tsv file. By default the program decides by what the file holds.",
        )


def add_model(option: AddOption, samples: int, l2: float) -> None:
    """The model and its loss."""
    formulas = listed(f"{name} is {activation.formula}" for name, activation in ACTIVATIONS.items())
    option(
        "--activation",
        choices=ACTIVATIONS,
        default=Architecture.activation,
        help=f"The activation of the hidden layers: {formulas}.",
    )
    outputs = listed(f"{likelihood.output} for {name}" for name, likelihood in LIKELIHOODS.items())
    option(
        "--likelihood",
        choices=LIKELIHOODS,
        default=Architecture.likelihood,
        help=f"The distribution of x given z, p(x|z). The decoder's output is {outputs}.",
    )
    with_noise = listed(likelihood.title for likelihood in LIKELIHOODS.values() if likelihood.has_noise)
    noises = "; ".join(f"{name}: {noise.words}" for name, noise in NOISES.items())
    option("--noise", choices=NOISES, default=Architecture.noise, help=f"The noise of a {with_noise} likelihood. {noises}.")
    add_objective(option, "elbo")
    option("--samples", type=int, default=samples, help="Samples of z per example.")
    option("--beta", type=float, default=1.0, help="The weight of the KL. The ELBO has 1.")
    option("--l2", type=float, default=l2, help="The weight of the L2 term, which is half the sum of the squared weights.")
    option("--seed", type=int, default=0, help="The seed of the first weights, of the order of the rows and of all noise.")


def add_objective(option: AddOption, default: str | None, by_default: str = "") -> None:
    """The bound on log p(x)."""
    bounds = "; ".join(f"{name}: {objective.words}" for name, objective in OBJECTIVES.items())
    option("--objective", choices=OBJECTIVES, default=default, help=f"The bound on log p(x). {bounds}.{by_default}")


def add_estimator(option: AddOption, default: str | None = "total", by_default: str = "") -> None:
    """The estimator of the gradient by the encoder's parameters."""
    known = "; ".join(f"{name}: {estimator.words} ({listed(estimator.operations)})" for name, estimator in ESTIMATORS.items())
    option(
        "--estimator",
        choices=ESTIMATORS,
        default=default,
        help=f"The estimator of the gradient by the encoder's parameters, and the objectives that have it. {known}.{by_default}",
    )


def add_exchange(option: AddOption) -> None:
    """What the processes of mpiexec exchange."""
    option(
        "--exchange",
        choices=EXCHANGES,
        default="rows",
        help="What the processes of mpiexec exchange in a training step: the rows of a minibatch, or sums of the gradients of 12 slices of it. Sums are shorter where a minibatch has many samples. Each way gives the same bits for any number of processes, and the last digits of the two differ.",
    )


def default_by_data(value: Callable[[data.Source], object]) -> str:
    """The sentence of help that tells what is taken by default for which data set."""
    others = value(data.source("a file"))
    named = [f"{value(source)} for {name}" for name, source in data.DATASETS.items() if value(source) != others]
    return f"By default it is {listed([*named, f'{others} for other data'])}."


def listed(items: Iterable[str]) -> str:
    """The items as people list them: "a, b and c"."""
    *before, last = items
    return f"{', '.join(before)} and {last}" if before else last
