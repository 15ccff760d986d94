"""Print the terms of a trained model's loss on its data, in nats per example."""

import argparse

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from vae_np.cli.command import AddOption, Command
from vae_np.cli.interrupts import unwrapped_interrupts
from vae_np.cli.options import add_backend, add_data, add_objective, add_run
from vae_np.cli.progress import check_rows
from vae_np.cli.run_folder import load_dataset_of, load_parameters
from vae_np.cli.train import options_of
from vae_np.console import make_console
from vae_np.evaluation import evaluate
from vae_np.ranks import of_launch


def _add_options(option: AddOption) -> None:
    add_run(option)
    add_data(option, None, " By default the data of the run are used.")
    add_objective(option, None, " By default it is the one that the run was trained with.")
    option("--samples", type=int, default=1, help="Samples of z per example.")
    option(
        "--importance-samples",
        type=int,
        metavar="N",
        help="log p(x) is estimated too, with N importance weights per row. After Ctrl-C the rows that are done are reported.",
    )
    option("--seed", type=int, default=0, help="The seed of the noise.")
    add_backend(option)


def _run(options: argparse.Namespace, status: Console) -> None:
    trained_with = options_of(options.run)
    p = load_parameters(options.run)
    dataset = load_dataset_of(trained_with, options)
    check_rows(dataset, status)
    objective = options.objective or trained_with.objective
    table = Table("nats per example", "rows", "loss = −ELBO", "± standard error", "reconstruction", "KL")
    for name, x in {"train": dataset.train, "valid": dataset.valid}.items():
        if x is None:
            continue
        with status.status(f"{name}: {len(x)} rows"):
            value = evaluate(
                p,
                x,
                objective,
                options.samples,
                binarize=trained_with.binarize,
                seed=options.seed,
                backend=options.backend,
                ranks=of_launch(),
            )
        error = value.per_example.std(dtype=np.float64) / len(x) ** 0.5
        numbers = value.total, error, value.reconstruction, value.kl
        table.add_row(name, str(len(x)), *(f"{number:.3f}" for number in numbers))
    console = make_console()
    console.print(table)
    samples = f"{options.samples} sample{'s' * (options.samples > 1)}"
    console.print(f"The objective is {objective} with {samples} of z per example, beta 1 and no L2 term.")
    if options.importance_samples:
        _print_bounds(console, status, p, dataset, trained_with.binarize, options)


def _print_bounds(console, status, p, dataset, binarize, options):
    """log p(x) of the held-out rows and the bounds below it; after Ctrl-C, of the rows that are done."""
    from vae_np import bounds

    x, rows, parts = dataset.shown[0], "training" if dataset.valid is None else "validation", []
    bar = Progress(TextColumn("{task.completed}/{task.total} rows"), BarColumn(), TimeRemainingColumn(), console=status)
    task = bar.add_task("", total=len(x))

    def progress(done, part):
        parts.append(part)
        bar.update(task, completed=done)

    try:
        with bar, unwrapped_interrupts():
            bounds.log_likelihood(
                p, x, options.importance_samples, options.seed, binarize, options.backend, progress, ranks=of_launch()
            )
    except KeyboardInterrupt:
        if not parts:
            raise
    ll = bounds.join(parts)
    table = Table("nats per example", "mean", "± over rows", "± of sampling", title=f"{len(ll)} of {len(x)} {rows} rows")
    for n_samples, bound in ll.bounds.items():
        name = "ELBO, 1 sample" if n_samples == 1 else f"bound of {n_samples} samples"
        table.add_row(name, f"{bound.mean():.3f}", f"{bound.std() / len(ll) ** 0.5:.3f}", "")
    of_sampling = np.sqrt(np.mean(ll.standard_error**2) / len(ll))
    numbers = ll.mean(), ll.std() / len(ll) ** 0.5, of_sampling
    table.add_row(f"log p(x), {options.importance_samples} samples", *(f"{number:.3f}" for number in numbers))
    console.print(table)
    console.print(
        f"The gap log p(x) - ELBO is {(ll - ll.bounds[1]).mean():.3f} nats. The effective sample size is "
        f"{np.median(ll.effective_sample_size):.1f} (median). {bounds.active_units(p, x).sum()} of {p.architecture.n_latent} "
        "latents active."
    )


COMMAND = Command("evaluate", __doc__, _add_options, _run, by_ranks=True)
