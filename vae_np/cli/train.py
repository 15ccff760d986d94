"""Train a model on a data set, and draw pictures of what it has learned."""

import argparse
import contextlib
import itertools
import logging
import os
import shlex
import shutil
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from vae_np import data, kernels, runs, snapshots, training
from vae_np.architecture import Architecture
from vae_np.cli.command import AddOption, Command
from vae_np.cli.interrupts import interrupted_between_steps, unwrapped_interrupts
from vae_np.cli.options import (
    DATA,
    OldName,
    add_backend,
    add_data,
    add_estimator,
    add_exchange,
    add_model,
    default_by_data,
    epoch_and_factor,
    listed,
    path,
)
from vae_np.cli.outputs import add_out
from vae_np.cli.progress import check_rows, training_progress
from vae_np.cli.run_folder import MOVED, load_dataset, stored, stored_options
from vae_np.console import make_console
from vae_np.kernels.contract import FULL
from vae_np.optimizers import OPTIMIZERS
from vae_np.parameters import DTYPES, INITS
from vae_np.ranks import Ranks, of_launch
from vae_np.stored_rows import StoredRows

# What may change when a run is resumed. Its data are recognised by their checksum, wherever and however they are stored.
MAY_CHANGE = ("epochs", "backend", "threads", "stall", *DATA)


def options_of(run: str) -> argparse.Namespace:
    """The options that a run was trained with."""
    return stored_options(run, COMMAND)


def _add_options(option: AddOption) -> None:
    add_data(option, "digits")
    option(
        "--valid-fraction",
        type=float,
        default=0.2,
        help="The share of the rows that is held out for validation; 0 holds none out. MNIST has a validation part of its own.",
    )
    option(
        "--hidden",
        type=int,
        nargs="*",
        default=[400],
        help="The widths of the hidden layers. Without a number the model is linear.",
    )
    option("--latent", type=int, default=2, help="The number of latent dimensions.")
    add_model(option, samples=1, l2=0.0)
    add_estimator(option)
    option("--noise-std", type=float, default=Architecture.noise_std, help="The standard deviation of fixed noise.")
    option(
        "--beta-warmup", type=float, default=0.0, metavar="EPOCHS", help="The number of epochs over which beta rises from 0."
    )
    option("--optimizer", choices=OPTIMIZERS, default="adam", help="The optimizer.")
    rates = listed(f"{optimizer.learning_rate:g} for {name}" for name, optimizer in OPTIMIZERS.items())
    option("--learning-rate", type=float, help=f"The learning rate. By default it is {rates}.")
    option(
        "--schedule",
        type=epoch_and_factor,
        nargs="*",
        default=[],
        metavar="EPOCH:FACTOR",
        help="From this epoch on (the first is 0) the learning rate is multiplied by the factor.",
    )
    option("--epochs", type=int, help=f"The number of epochs. {default_by_data(lambda source: source.epochs)}")
    option("--batch-size", type=int, default=128, help="The number of examples in a minibatch.")
    option("--binarize", action="store_true", help="Grey pixels are drawn black or white, afresh for each minibatch.")
    option(
        "--patience", type=int, metavar="EPOCHS", help="Training ends after this many epochs without a lower validation loss."
    )
    option(
        "--snapshots",
        type=int,
        default=0,
        metavar="N",
        help="The parameters after at most N epochs are kept in the run folder: 0, 1, 2, 4, 8 and so on, or with larger steps between them. vae-np study then shows the course of the training.",
    )
    option("--init", choices=INITS, default="glorot", help="The rule that draws the first weights of the hidden layers.")
    option("--scheme", dest="init", choices=INITS, action=OldName)
    option("--dtype", choices=DTYPES, default="float32", help="The type of all numbers.")
    option(
        "--precision",
        choices=kernels.precisions("numpy"),
        default=FULL,
        help=f"How the operands of the matrix products of a training step are rounded: {FULL} not at all, bfloat16 to 8 significant bits, tfloat32 to 11. Everything else, such as the validation, is not rounded.",
    )
    add_backend(option)
    option(
        "--threads",
        type=int,
        help="The number of threads. By default it is all cores where a step is work enough. On numpy it is 1, and another number changes the last digits.",
    )
    add_exchange(option)
    option(
        "--stall",
        type=float,
        default=Ranks.stall,
        metavar="SECONDS",
        help="Under mpiexec all processes end when one of them has not answered for so long.",
    )
    add_out(option, "The folder of the run. By default a new folder in runs/ is made.", metavar="FOLDER")
    option(
        "--resume",
        type=path,
        metavar="FOLDER",
        help="Training continues in this run folder, with the settings of the run. --epochs may be larger than before.",
    )


def _run(options: argparse.Namespace, status: Console) -> None:
    console, backend, moved, ranks = make_console(), options.backend, "", of_launch()
    ranks.stall = options.stall
    if options.resume:
        options, moved = _resumed(options), MOVED
        backend = _backend_to_resume(options, backend)
    kernel_set = kernels.load(backend, options.precision)
    if kernel_set.begin:
        kernel_set.begin(options.dtype)  # and the data are loaded meanwhile
    dataset = load_dataset(options, moved)
    if options.resume:
        _check_files(options, dataset)
    check_rows(dataset, status)
    if options.epochs is None:
        options.epochs = data.source(options.data).epochs
    held_out = "none" if dataset.valid is None else len(dataset.valid)
    console.print(
        f"{options.data}: {len(dataset.train)} rows to train on, {held_out} to validate with, "
        f"{dataset.train.shape[1]} inputs; backend {training.backend_name(kernel_set)}"
        + (f", precision {options.precision}" if options.precision != FULL else "")
    )
    if ranks.together:
        console.print(f"   {ranks.size} rank{'s' * (ranks.size > 1)} on {', '.join(dict.fromkeys(ranks.hosts))}")
    if dataset.taken:
        console.print(f"   {dataset.taken}")
    given = options.resume or options.out
    out = given or ranks.from_first(lambda: _claim_folder(os.path.join("runs", os.path.basename(options.data).split(".")[0])))
    try:
        run = _train(options, dataset, backend, out, console, status, ranks)
    except KeyboardInterrupt as interrupt:
        begun = os.path.exists(os.path.join(out, runs.CONFIG))
        how = f"resume the run with: vae-np train --resume {shlex.quote(out)}" if begun else "nothing was begun"
        raise type(interrupt)(f"; {how}") from None
    finally:
        if not given and ranks.rank == 0:
            _give_up_folder(out)
    if ranks.rank:
        return
    _print_last_epoch(console, run, backend)
    from vae_np import plots

    files = [*runs.FILES, *([snapshots.FILE] if run.snapshots else [])]
    console.print(f"{run.path} holds {', '.join(files)} and these pictures:")
    for picture in plots.draw_run(run.parameters, run.history, dataset, out, options.seed):
        console.print(f"   {picture}")


def _resumed(options):
    """The options of the run that is resumed, with those that may change as they are given now."""
    before = options_of(options.resume)
    for name, action in COMMAND.options.items():
        value = vars(options)[name]
        if name == "resume" or value == action.default:
            continue
        if name not in MAY_CHANGE:
            raise ValueError(f"--resume keeps the run's own settings: --{name.replace('_', '-')} cannot be given with it")
        setattr(before, name, value)
    before.resume = options.resume
    return before


def _files(dataset):
    """{"files": {name: [the number of its rows, the time of its last change]}}, where the rows stay in files."""
    if not isinstance(dataset.train, StoredRows):
        return {}
    arrays: Any = dataset.train.arrays
    files = {array.filename: len(array) for array in arrays}
    return {"files": {os.path.basename(path): [n, os.stat(path).st_mtime_ns] for path, n in files.items()}}


def _check_files(options, dataset):
    """ValueError if other files are in the folder of the data than when the run was begun; their content is compared later."""
    config = runs.read_config(options.resume)
    before, now = config.get("files"), _files(dataset).get("files")
    if not (before and now) or options.data != config["options"]["data"]:
        return
    for name in sorted(before.keys() | now.keys()):
        if name not in now:
            raise ValueError(f"{name} is no longer in {options.data}, but {options.resume} was trained with it: put it back")
        if name not in before:
            raise ValueError(f"{name} is new in {options.data}, and {options.resume} was trained without it: take it away")
        if before[name][0] != now[name][0]:
            raise ValueError(f"{name} holds {now[name][0]} rows, but {options.resume} was trained with {before[name][0]} of it")
        if before[name] != now[name]:
            logging.getLogger("vae_np").warning("%s was changed after the training was begun", name)


def _backend_to_resume(options, given):
    """The backend that is given now, or else that of the checkpoint, or else the one that the run was to begin with."""
    begun, asked_for = runs.settings_of(options.resume), options.backend
    can_run = asked_for in kernels.CHECKS and kernels.CHECKS[asked_for]().ok
    return training.backend_to_resume(options.resume, asked_for if given == asked_for or (can_run and not begun) else given)


def _train(options, dataset, backend, out, console, status, ranks):
    rate = {} if options.learning_rate is None else {"learning_rate": options.learning_rate}
    architecture = Architecture(
        dataset.train.shape[1],
        tuple(options.hidden),
        options.latent,
        options.activation,
        options.likelihood,
        options.noise,
        options.noise_std,
    )
    with (
        unwrapped_interrupts(),
        training_progress(console, status, options.objective, options.epochs) as show,
        interrupted_between_steps() as step,
    ):
        return training.train(
            architecture,
            dataset.train,
            dataset.valid,
            objective=options.objective,
            estimator=options.estimator,
            n_samples=options.samples,
            beta=options.beta,
            beta_warmup=options.beta_warmup,
            l2=options.l2,
            binarize=options.binarize,
            epochs=options.epochs,
            batch_size=options.batch_size,
            optimizer=OPTIMIZERS[options.optimizer](**rate),
            schedule=options.schedule,
            patience=options.patience,
            init=options.init,
            seed=options.seed,
            dtype=options.dtype,
            precision=options.precision,
            backend=backend,
            threads=options.threads,
            ranks=ranks,
            exchange=options.exchange,
            out=out,
            resume=bool(options.resume),
            snapshots=options.snapshots,
            progress=lambda *state: (step(), show(*state)),
            notes={**stored(COMMAND, options), "image_shape": dataset.image_shape, **_files(dataset)},
        )


def _print_last_epoch(console, run, backend):
    last = run.history[-1]
    table = Table("nats per example", "total", "reconstruction", "KL", "L2", title=f"epoch {last['epoch']}")
    for part in ("train", "valid"):
        if f"{part}_total" in last:
            table.add_row(part, *(f"{last[f'{part}_{term}']:.3f}" for term in runs.TERMS))
    console.print(table)
    seconds = np.median([row["seconds"] for row in run.history])
    name = training.backend_name(kernels.load(backend))
    console.print(f"an epoch took {seconds:.3g} s (the median), validation included, on {name}")


def _claim_folder(stem: str) -> str:
    """Make the first of stem, stem-2, stem-3, ... that does not exist; no other training can then take it at the same moment."""
    folders = itertools.chain([stem], (f"{stem}-{i}" for i in itertools.count(2)))
    while True:
        folder = next(folders)
        with contextlib.suppress(FileExistsError):
            os.makedirs(folder)
            return folder


def _give_up_folder(folder):
    """Remove a claimed folder in which no training has begun."""
    if not os.path.exists(os.path.join(folder, runs.CONFIG)):
        shutil.rmtree(folder, ignore_errors=True)
        with contextlib.suppress(OSError):  # other runs may stand beside it
            os.rmdir(os.path.dirname(folder))


COMMAND = Command("train", __doc__, _add_options, _run, by_ranks=True)
