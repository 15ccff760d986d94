"""Compare every gradient, those of vae_np or those of a function of your own, with derivatives that are found without it."""

import argparse
import itertools

import numpy as np
from rich import box
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from vae_np import elbo, kernels, streams
from vae_np.architecture import Architecture
from vae_np.choices import ACTIVATIONS, ESTIMATORS, LIKELIHOODS, OBJECTIVES
from vae_np.cli.check_function import EXPECTED, check_function
from vae_np.cli.command import AddOption, Command
from vae_np.cli.options import add_estimator, path
from vae_np.console import make_console

WIDTHS = 18, 6  # of the column of names, and of each other one


def _add_options(option: AddOption) -> None:
    option("function", nargs="?", metavar="FILE.py:FUNCTION", help=EXPECTED)
    option("--params", type=path, metavar="FILE.npz", help="For a function of your own: the params are a dict of these arrays.")
    option(
        "--method",
        choices=("auto", "complex", "richardson", "central"),
        default="auto",
        help="For a function of your own: how the derivatives are computed; see check_gradients in docs/testing-gradients.md.",
    )
    known = sorted(kernels.CHECKS)
    option("--backend", choices=known, nargs="*", help="The kernels that are checked. By default all that work here are.")
    add_estimator(option)
    option("--seed", type=int, default=0, help="The seed of the models and of their data, or of a function that draws params.")


def _run(options: argparse.Namespace, status: Console) -> int:
    from vae_np.testing import TOLERANCES
    from vae_np.testing.problems import DECODERS

    streams.check_seed(options.seed)
    if options.function is not None:
        if options.backend:
            raise ValueError(f"--backend chooses kernels of vae_np, which {options.function} does not use")
        if not ESTIMATORS[options.estimator].differentiates_the_loss:
            raise ValueError(f"--estimator chooses a gradient of vae_np's models, of which {options.function} is none")
        return check_function(options.function, options.params, options.method, options.seed, status)
    if options.params is not None:
        raise ValueError("--params are those of a function of your own: name it, as in vae-np check FILE.py:FUNCTION")
    console = make_console()
    backends = options.backend or [name for name, found in kernels.available().items() if found.ok]
    objectives = [objective for objective in OBJECTIVES if objective in ESTIMATORS[options.estimator].operations]
    limit, worst, wrong = TOLERANCES["complex"]["float64"], 0.0, []
    console.print(
        "Each number is the largest relative difference of any element between the hand-written gradient and complex steps\n"
        "through an independent loss, in float64. (An element that is smaller than a hundredth of the largest one of its\n"
        "parameter is compared with that hundredth.)\n"
    )
    for decoder, backend in itertools.product(DECODERS, backends):
        architectures = [Architecture(6, (5, 4), 3, activation, **decoder) for activation in ACTIVATIONS]
        title, columns = f"{_name(architectures[0])}, {backend}", {}
        for architecture, objective in itertools.product(architectures, objectives):
            where = f"{title}, {architecture.activation}, {objective}"
            with status.status(where):
                found = _compare(architecture, objective, options.seed, backend, options.estimator)
            columns[architecture.activation, objective] = found
            worst = max(worst, *(element.error for element in found))
            wrong += (f"{where}: {element}" for element in found if element.error > limit)
        at_once = max(1, (console.width - WIDTHS[0]) // WIDTHS[1])
        for first in range(0, len(columns), at_once):
            console.print(_table(title, dict(list(columns.items())[first : first + at_once]), limit), "")
    right = f"every gradient is right: the worst relative difference is {worst:.1e} (limit {limit:.0e})"
    console.print("\n".join(wrong) or right)
    return 1 if wrong else 0


def _name(architecture):
    likelihood = LIKELIHOODS[architecture.likelihood]
    return f"{likelihood.title}, {architecture.noise} noise" if likelihood.has_noise else likelihood.title


def _compare(architecture, objective, seed, backend, estimator):
    """For each parameter the element whose hand-written derivative is furthest from that of the other loss, or surrogate."""
    from vae_np.testing import complex_elbo, complex_surrogate, random_problem
    from vae_np.testing.gradients import check_with_complex_steps

    p, x, eps, beta, l2, _ = random_problem(architecture, objective, seed=seed)
    gradients = elbo.loss_and_gradients(p, x, eps, beta, l2, objective, backend, estimator=estimator)[1]

    def loss(q):
        if ESTIMATORS[estimator].differentiates_the_loss:
            return complex_elbo(architecture, q, x, eps, beta, l2, objective)
        return complex_surrogate(architecture, p, q, x, eps, beta, l2, objective, estimator)

    return check_with_complex_steps(loss, p, gradients, rtol=np.inf)


def _table(title, columns, limit):
    table = Table(Column("parameter", no_wrap=True), title=title, box=box.SIMPLE_HEAD, padding=0, show_edge=False)
    for activation, objective in columns:  # in four lines, so that as many as possible stand beside each other
        name = "\n".join((activation[:4], activation[4:], objective[:4], objective[4:]))
        table.add_column(name, justify="right", no_wrap=True)
    for row in zip(*columns.values()):
        cells = (Text(f"{element.error:.0e}", "" if element.error <= limit else "bold red") for element in row)
        table.add_row(row[0].name, *cells)
    return table


COMMAND = Command("check", __doc__, _add_options, _run)
