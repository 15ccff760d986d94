"""Write a page that shows each line of the gradients with its equation, its numbers and a check by finite differences."""

import argparse
import contextlib
import logging
import time

import numpy as np
from rich.console import Console

from vae_np import data, kernels, runs, snapshots, streams, training
from vae_np.architecture import Architecture, check_count
from vae_np.cli.command import AddOption, Command
from vae_np.cli.options import add_data, add_estimator, add_model, default_by_data, listed, path
from vae_np.cli.outputs import add_out
from vae_np.cli.run_folder import load_dataset_of, load_parameters
from vae_np.cli.train import COMMAND as TRAIN
from vae_np.cli.train import options_of
from vae_np.console import make_console

BATCH_SIZE = 128  # of the training of a model that is studied
SNAPSHOTS = 6  # of this training
READ_BY_SMALL = "activation", "beta", "seed", "text", "out"  # the other options that --small reads


def _add_options(option: AddOption) -> None:
    option(
        "name",
        nargs="?",
        help="The lines are shown here in the terminal, from the first one that makes or calls this name: KL, dmu, backward, ...",
    )
    option(
        "--text", action="store_true", help="The lines are shown here in the terminal, one after each key. No page is written."
    )
    option(
        "--small",
        action="store_true",
        help="One slide with every number of a model of sizes 4-3-1 is written, or shown here with --text. Of the other options it "
        f"reads {listed(f'--{name}' for name in READ_BY_SMALL)}.",
    )
    option(
        "--run",
        type=path,
        metavar="FOLDER",
        help="The run folder whose model is studied. By default a small model is trained first.",
    )
    add_data(option, None)
    option(
        "--examples",
        type=int,
        nargs="+",
        default=[0, 1, 2, 3],
        metavar="ROW",
        help="The numbers of the held-out rows that the page shows.",
    )
    widths = default_by_data(lambda source: " ".join(map(str, source.hidden)))
    option("--hidden", type=int, nargs="*", help=f"The widths of the hidden layers. {widths}")
    latents = default_by_data(lambda source: source.latent)
    option("--latent", type=int, help=f"The number of latent dimensions. {latents}")
    add_model(option, samples=2, l2=1e-3)
    add_estimator(option, None, " By default it is that of the run, or total.")
    words = "A name that ends in .svg gives the page's first picture alone. By default it is study.html, or slide.html with --small."
    add_out(option, f"The file that is written. {words}")


def _run(options: argparse.Namespace, status: Console) -> int:
    if options.small:
        return _run_small(options)
    from vae_np.study import page, terminal, trace

    console, started = make_console(), time.perf_counter()
    with status.status("a model is trained, and each derivative of its loss is compared with finite differences"):
        p, dataset, settings, words, course_of = _studied(options)
        rows = [check_count("an example", row, 0) for row in options.examples]
        shown, labels = dataset.shown
        if max(rows) >= len(shown):
            raise ValueError(f"example {max(rows)} is beyond the {len(shown)} {dataset.part} rows")
        x, eps = shown[rows], np.empty((settings.samples, len(rows), p.architecture.n_latent))
        kernels.load("numpy").normals(streams.key(settings.seed, "validate"), 0, np.array(rows), eps)
        lines = trace(p, x, eps, settings.beta, settings.l2, settings.objective, estimator=settings.estimator)
    if options.text or options.name:
        terminal.walk(lines, console, terminal.find(lines, options.name) if options.name else None)
    else:
        from vae_np.study import along, dials, estimates

        with status.status("the dials are computed"):
            turned = dials.dials(p, x, eps, settings.beta, settings.l2, settings.objective)
            estimators = dials.estimators(p, x)
            compared = estimates.compared(p, x, eps, settings.beta)
            course = None
            if len(course_of) > 1:
                loss = settings.beta, settings.l2, settings.objective
                course = along.course(course_of, x, eps, *loss, shown, labels, f"{dataset.part} rows")
        out = options.out or "study.html"
        n_bytes = page.write(out, lines, words, dataset.image_shape, turned, estimators, compared, course)
        took = time.perf_counter() - started
        console.print(f"{out}: {len(lines)} lines, {n_bytes / 1e6:.2f} MB, {took:.1f} s; open it in a browser")
    for line in lines.wrong:
        console.print(f"{line.function}, line {line.number} is wrong: {line.source}")
    return 1 if lines.wrong else 0


def _run_small(options):
    """Write or show the slide."""
    from vae_np.study import slide, trace

    given = [name for name, action in COMMAND.options.items() if vars(options)[name] != action.default]
    if unread := [name for name in given if name not in ("small", *READ_BY_SMALL)]:
        words = listed((*COMMAND.options[name].option_strings, f"the name {options.name}")[0] for name in unread)
        raise ValueError(
            f"--small does not read {words}; it has a model of its own, and reads {listed(f'--{name}' for name in READ_BY_SMALL)}"
        )
    console = make_console()
    lines = trace(slide.model(options.seed, options.activation), slide.X, slide.EPS, options.beta)
    if options.text:
        console.print(slide.text(lines))
    else:
        out = options.out or "slide.html"
        slide.write(out, lines)
        console.print(f"{out}: one slide, or one sheet of A4; open it in a browser")
    return 0


def _studied(options):
    """A trained model, its data set, its options, words that say what the page shows, and the snapshots of its training."""
    if options.run:
        trained_with = options_of(options.run)
        dataset = load_dataset_of(trained_with, options)
        words = f"{dataset.part} rows of {options.data or trained_with.data}, by the model in {options.run}"
        p, of_run = load_parameters(options.run), trained_with.estimator
        trained_with.estimator = options.estimator or of_run
        if trained_with.estimator != of_run:
            words += f", which was trained with the estimator {of_run}"
        epoch = runs.epoch_of(options.run)
        return p, dataset, trained_with, words, snapshots.load(options.run, p.architecture, epoch) | {epoch: p}
    options.estimator = options.estimator or "total"
    defaults = TRAIN.defaults()
    dataset = load_dataset_of(defaults, options)
    name = options.data or defaults.data
    source = data.source(name)
    architecture = Architecture(
        dataset.train.shape[1],
        source.hidden if options.hidden is None else tuple(options.hidden),
        source.latent if options.latent is None else options.latent,
        options.activation,
        options.likelihood,
        options.noise,
    )
    n_rows = source.study_steps * BATCH_SIZE
    x = dataset.train[:n_rows]
    with _quiet():
        run = training.train(
            architecture,
            x,
            objective=options.objective,
            estimator=options.estimator,
            n_samples=options.samples,
            beta=options.beta,
            l2=options.l2,
            epochs=max(1, n_rows // len(x)),
            batch_size=BATCH_SIZE,
            seed=options.seed,
            backend="numpy",
            snapshots=SNAPSHOTS,
        )
    return (
        run.parameters,
        dataset,
        options,
        f"{dataset.part} rows of {name}, by a model trained for about {source.study_steps} steps",
        run.snapshots | {len(run.history): run.parameters},
    )


@contextlib.contextmanager
def _quiet():
    """A context without warnings about a training which the user has not asked for; the page says what they would."""
    logger = logging.getLogger("vae_np")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


COMMAND = Command("study", __doc__, _add_options, _run)
