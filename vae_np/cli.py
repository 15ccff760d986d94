"""The command `vae-np`: train, evaluate, encode, reconstruct, sample, study, check, backends."""

import argparse
import contextlib
import io
import itertools
import logging
import math
import os
import shlex
import shutil
import signal
import sys
import threading
import time

import numpy as np
from rich import box
from rich.logging import RichHandler
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Column, Table
from rich.text import Text

import vae_np
from vae_np import architecture, data, elbo, kernels, noise, optimizers, runs, training
from vae_np.architecture import Architecture
from vae_np.console import make_console, print_in_any_encoding
from vae_np.parameters import SCHEMES, Parameters, parse, reading, replacing

RUN = "a description of a run of `vae-np train`"  # what config.json must be
EPOCHS = {"digits": 200}  # where --epochs is not given; 20 for others


class Terminated(KeyboardInterrupt):
    """SIGTERM: the same clean end as that of Ctrl-C."""


def _terminate(*_):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # a second one would come into the end that the first began
    raise Terminated


def main(arguments=None):
    """Run one command; exit code 2 and one sentence where it cannot be done, 130 after Ctrl-C and 143 after SIGTERM."""
    arguments = sys.argv[1:] if arguments is None else arguments
    print_in_any_encoding()
    status = make_console(stderr=True)  # of progress, and of the log's words, which it keeps out of the bar's way
    words = RichHandler(console=status, show_time=False, show_level=False, show_path=False)
    logging.basicConfig(format="%(message)s", handlers=[words], force=True)
    before = _handle(signal.SIGTERM, _terminate)
    try:
        options = parser().parse_args(arguments)
        options.words, options.status = list(arguments[1:]), status
        sys.exit(options.command(options))
    except (ValueError, TypeError, OSError, RuntimeError, ArithmeticError, MemoryError) as error:
        print(f"vae-np: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt as interrupt:
        print(f"vae-np: stopped{interrupt}", file=sys.stderr)
        sys.exit(143 if isinstance(interrupt, Terminated) else 130)
    finally:
        _handle(signal.SIGTERM, before)  # what Python does at its own end is no place for an exception


def _handle(kind, handler):
    """signal.signal, but that it does nothing where a thread other than the main one calls: that may not handle signals."""
    if threading.current_thread() is threading.main_thread():
        return signal.signal(kind, handler)
    return None


# -------------------------------------------------------------------------------------------------------------- train


def train(options):
    """Train a model on a data set, and draw pictures of what it has learnt."""
    console = make_console()
    if options.resume:
        options = _as_before(options)
    dataset = _dataset(options)
    arch = Architecture(
        dataset.train.shape[1],
        tuple(options.hidden),
        options.latent,
        options.activation,
        options.likelihood,
        options.noise,
        options.noise_std,
    )
    rate = {} if options.learning_rate is None else {"learning_rate": options.learning_rate}
    epochs = EPOCHS.get(options.data, 20) if options.epochs is None else options.epochs
    if options.resume:
        options.backend = training.backend_to_resume(options.resume, options.backend)
    held_out = "none" if dataset.valid is None else len(dataset.valid)
    console.print(
        f"{options.data}: {len(dataset.train)} rows to train on, {held_out} to validate with, "
        f"{arch.n_inputs} inputs; backend {_backend_name(options.backend)}"
    )
    if dataset.taken:
        console.print(f"   {dataset.taken}")
    words = options.words  # in the folder's config.json, so with paths that hold from anywhere
    if options.data not in data.NAMES:
        words = [*words, "--data", os.path.abspath(options.data)]
    for name in ("csv_header", "csv_index"):
        if said := getattr(options, name):
            words = [*words, f"--{name.replace('_', '-')}", said]
    if options.data_dir:
        words = [*words, "--data-dir", os.path.abspath(options.data_dir)]
    given = options.resume or options.out
    out = given or _claim_folder(os.path.join("runs", os.path.basename(options.data).split(".")[0]))
    try:
        with (
            _interrupts_named(),
            _shown(console, options.status, options.objective, epochs) as show,
            _stopped_between_steps() as step,
        ):
            run = training.train(
                arch,
                dataset.train,
                dataset.valid,
                epochs=epochs,
                batch_size=options.batch_size,
                optimizer=optimizers.OPTIMIZERS[options.optimizer](**rate),
                objective=options.objective,
                n_samples=options.samples,
                beta=options.beta,
                l2=options.l2,
                binarize=options.binarize,
                seed=options.seed,
                dtype=options.dtype,
                backend=options.backend,
                threads=options.threads,
                out=out,
                resume=bool(options.resume),
                beta_warmup=options.beta_warmup,
                schedule=options.schedule,
                patience=options.patience,
                scheme=options.scheme,
                progress=lambda *state: (step(), show(*state)),
                notes={"command": shlex.join(["vae-np", "train", *words]), "image_shape": dataset.image_shape},
            )
    except KeyboardInterrupt as interrupt:
        begun = os.path.exists(os.path.join(out, runs.CONFIG))
        how = f"go on with: vae-np train --resume {shlex.quote(out)}" if begun else "nothing was begun"
        raise type(interrupt)(f"; {how}") from None
    finally:
        if not given:
            _give_up_folder(out)
    last = run.history[-1]
    table = Table("nats per example", "total", "reconstruction", "KL", "L2", title=f"epoch {last['epoch']}")
    for part in ("train", "valid"):
        if f"{part}_total" in last:
            table.add_row(part, *(f"{last[f'{part}_{term}']:.3f}" for term in training.TERMS))
    console.print(table)
    seconds = np.median([row["seconds"] for row in run.history])
    console.print(f"median {seconds:.3g} s an epoch, validation included, on {_backend_name(options.backend)}")
    from vae_np import plots

    console.print(f"in {run.path}: checkpoint.npz, history.csv, config.json")
    for path in plots.draw_run(run.parameters, run.history, dataset, run.path, options.seed):
        console.print(f"   {path}")


@contextlib.contextmanager
def _stopped_between_steps():
    """`with _stopped_between_steps() as step`: once step() was called, Ctrl-C and SIGTERM are raised by its next call.

    So neither comes into the middle of a write, where zipfile would make another error of it. A second one does not wait.
    """
    kinds, before, wanted = {signal.SIGINT: KeyboardInterrupt, signal.SIGTERM: Terminated}, {}, []

    def note(kind, _):
        wanted.append(kinds[kind])
        if len(wanted) > 1:
            raise wanted[0]

    def step():
        for kind in kinds if not before else ():
            before[kind] = _handle(kind, note)
        if wanted:
            raise wanted[0]

    try:
        yield step
    finally:
        for kind, handler in before.items():
            _handle(kind, handler)
    if wanted:
        raise wanted[0]


@contextlib.contextmanager
def _interrupts_named():
    """Ctrl-C while Numba loads a kernel comes out as a SystemError with a KeyboardInterrupt behind it: as the latter."""
    try:
        yield
    except SystemError as error:
        cause = error
        while cause is not None and not isinstance(cause, KeyboardInterrupt):
            cause = cause.__cause__ or cause.__context__
        raise cause or error from None


@contextlib.contextmanager
def _shown(console, status, objective, epochs=None):
    """`with _shown(...) as show`: show(done, of, row), a training's progress, moves a bar; in a file or pipe each epoch is a line."""
    bar = Progress(
        TextColumn("epoch {task.fields[epoch]}"),
        BarColumn(),
        TextColumn("{task.fields[terms]}"),
        TimeRemainingColumn(),
        console=status,
        disable=not status.is_terminal,
    )
    task = bar.add_task("", epoch="", terms="")
    of_epochs, valid = f"/{epochs}" if epochs else "", ""

    def show(done, of, row):
        nonlocal valid
        bar.start()  # not before: by the first batch it is known that nothing was refused
        if "valid_total" in row:
            valid = f"  valid {row['valid_total']:.2f}"
        epoch, terms = f"{row['epoch']}{of_epochs}", _terms(row, objective) + valid
        bar.update(task, completed=done, total=of, epoch=epoch, terms=terms)
        if "seconds" in row and not (console.is_terminal and status.is_terminal):
            console.print(f"epoch {epoch}  {terms}  {row['seconds']:.2g} s")

    try:
        yield show
    finally:
        if bar.live.is_started:
            bar.stop()


def _terms(row, objective):
    equals = "≤" if objective == "iwae" else "="
    beta = "" if row["beta"] == 1 else f"{row['beta']:.2g} × "
    l2 = f" + L2 {row['train_l2']:.2f}" if row["train_l2"] else ""
    terms = f"reconstruction {row['train_reconstruction']:.2f} + {beta}KL {row['train_kl']:.2f}{l2}"
    return f"loss {row['train_total']:.2f} {equals} {terms}"


def _claim_folder(stem):
    """The first of stem, stem-2, stem-3, ... that is not there, made: so no other training takes it at the same moment."""
    for i in itertools.count(1):
        path = stem if i == 1 else f"{stem}-{i}"
        with contextlib.suppress(FileExistsError):
            os.makedirs(path)
            return path


def _give_up_folder(folder):
    """Remove a claimed folder in which nothing was begun."""
    if not os.path.exists(os.path.join(folder, runs.CONFIG)):
        shutil.rmtree(folder, ignore_errors=True)
        with contextlib.suppress(OSError):  # where other runs are beside it
            os.rmdir(os.path.dirname(folder))


# A run may go on elsewhere; its data are known by their checksum, wherever they lie and however they are written.
WHERE_IT_RUNS = ("backend", "threads", "data", "data_dir", "csv_header", "csv_index")


def _as_before(options):
    """The options that the run was started with, but for where it runs, and the epochs last asked for, or asked for now."""
    before = _started_with(options.resume)
    if before.backend != "auto" and (runs.settings_of(options.resume) or not kernels.CHECKS[before.backend]().ok):
        before.backend = "auto"  # that of the checkpoint, which may be another by now, or one that can run here
    for name, default in vars(parser().parse_args(["train"])).items():
        if name in ("resume", "epochs", "command") or getattr(options, name) == default:
            continue
        if name not in WHERE_IT_RUNS:
            raise ValueError(f"--resume keeps the run's own settings: --{name.replace('_', '-')} cannot be given with it")
        setattr(before, name, getattr(options, name))
    before.epochs = _config(options.resume)["epochs"] if options.epochs is None else options.epochs
    before.resume, before.status = options.resume, options.status
    return before


def _dataset(options, before=None):
    """The data set that the options name, or else those of the training before."""
    before = before or options
    header, index = (
        None if said is None else said == "yes"
        for said in (options.csv_header or before.csv_header, options.csv_index or before.csv_index)
    )
    try:
        return data.load(options.data or before.data, options.data_dir or before.data_dir, before.valid_fraction, header, index)
    except FileNotFoundError as error:
        of_a_run = (before is not options and not options.data) or getattr(options, "resume", None)
        raise FileNotFoundError(f"{error}; if it has moved, say where it is with --data" if of_a_run else error) from None


def _started_with(run):
    """The options of the `vae-np train` that made the run folder, read from the command in its config.json."""
    config, said = _config(run), io.StringIO()
    with reading(os.path.join(run, runs.CONFIG), RUN):
        words = shlex.split(config["command"] + "")  # a text, or a TypeError: None would make it read from stdin
        if words[:2] != ["vae-np", "train"]:
            raise ValueError("its command is another")
        try:
            with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
                options = parser().parse_args(words[1:])
        except SystemExit:
            raise ValueError(f"its command is none: {said.getvalue().splitlines()[-1]}") from None
    options.words = words[2:]
    return options


def _config(run):
    """What config.json says of a run, made by whatever caller of `training.train`."""
    path = os.path.join(run, runs.CONFIG)
    if not os.path.isfile(path):
        raise ValueError(f"{run} is not a run folder: it has no {runs.CONFIG}")
    with reading(path, RUN), open(path, encoding="utf-8") as file:
        config = parse("text", file.read())
        architecture.check_count("its epochs", config["epochs"])
        for side in config.setdefault("image_shape", None) or ():
            architecture.check_count("a side of its image_shape", side)
    return config


def _backend_name(backend):
    return training.backend_name(kernels.load(backend))


# ------------------------------------------------------------------------------------- evaluate, encode and sample


def evaluate(options):
    """Print the terms of a trained model's loss on its data, in nats per example."""
    before = _started_with(options.run)
    p = _parameters(options.run)
    dataset = _dataset(options, before)
    objective = options.objective or before.objective
    table = Table("nats per example", "rows", "loss = −ELBO", "± standard error", "reconstruction", "KL")
    for name in ("train", "valid"):
        rows = getattr(dataset, name)
        if rows is None:
            continue
        with options.status.status(f"{name}: {len(rows)} rows"):
            value = training.evaluate(
                p,
                rows,
                objective,
                options.samples,
                binarize=before.binarize,
                seed=options.seed,
                backend=options.backend,
            )
        error = value.per_example.std(dtype=np.float64) / len(rows) ** 0.5
        table.add_row(
            name, str(len(rows)), f"{value.total:.3f}", f"{error:.3f}", f"{value.reconstruction:.3f}", f"{value.kl:.3f}"
        )
    console = make_console()
    console.print(table)
    console.print(f"objective {objective}, eps drawn {options.samples} times a row, beta 1, no L2")
    if options.importance_samples:
        _print_bounds(console, p, dataset, before, options)


def _print_bounds(console, p, dataset, before, options):
    """log p(x) of the validation rows and the bounds below it; of those done so far where it is stopped."""
    from vae_np import bounds

    x, part, parts = dataset.shown[0], "training" if dataset.valid is None else "validation", []
    bar = Progress(TextColumn("{task.completed}/{task.total} rows"), BarColumn(), TimeRemainingColumn(), console=options.status)
    task = bar.add_task("", total=len(x))

    def progress(done, part):
        parts.append(part)
        bar.update(task, completed=done)

    try:
        with bar, _interrupts_named():
            bounds.log_likelihood(
                p, x, options.importance_samples, options.seed, before.binarize, options.backend, progress=progress
            )
    except KeyboardInterrupt:
        if not parts:
            raise
    ll = bounds.join(parts)
    table = Table("nats per example", "mean", "± over rows", "± of sampling", title=f"{len(ll)} of {len(x)} {part} rows")
    for L, bound in ll.bounds.items():
        name = "ELBO, 1 sample" if L == 1 else f"bound of {L} samples"
        table.add_row(name, f"{bound.mean():.3f}", f"{bound.std() / len(ll) ** 0.5:.3f}", "")
    of_sampling = np.sqrt(np.mean(ll.standard_error**2) / len(ll))
    row = f"{ll.mean():.3f}", f"{ll.std() / len(ll) ** 0.5:.3f}", f"{of_sampling:.3f}"
    table.add_row(f"log p(x), {options.importance_samples} samples", *row)
    console.print(table)
    console.print(
        f"gap log p(x) - ELBO {(ll - ll.bounds[1]).mean():.3f} nats; effective sample size {np.median(ll.effective_sample_size):.1f} "
        f"(median); {bounds.active_units(p, x).sum()} of {p.architecture.n_latent} latents active"
    )


def encode(options):
    """Write the means of q(z|x), a row of latents for each row of data, as a .npy file."""
    p = _parameters(options.run)
    out = _out(options, "latents.npy", ".npy")
    z = _means(p, _rows(options), options)
    _save(out, z)
    make_console().print(f"{len(z)} rows of {z.shape[1]} latents, the means of q(z|x), in {out}")


def reconstruct(options):
    """Write the mean of p(x|z) at the mean of q(z|x), a row for each row of data, or draw some of them."""
    p = _parameters(options.run)
    out = _out(options, "reconstructions.png", ".png", ".npy")
    if out.endswith(".npy"):
        x = elbo.decode(p, _means(p, _rows(options), options), options.backend)
        _save(out, x)
        make_console().print(f"{len(x)} reconstructions of {x.shape[1]} numbers in {out}")
        return
    dataset = _dataset(options, _before(options))
    image_shape = _check_image_shape(dataset.image_shape, p)
    from vae_np import plots

    plots.write(plots.reconstructions(p, dataset.shown[0], image_shape, options.seed), out)
    make_console().print(f"some rows and their reconstructions in {out}")


def _before(options):
    """The options of the training that made the run; those by default, where it was none of the command and the data are named."""
    of_command = os.path.isdir(options.run) and "command" in _config(options.run)
    if not (of_command or options.data):
        raise ValueError(f"{options.run} does not say what data it was trained on: name them with --data")
    return _started_with(options.run) if of_command else parser().parse_args(["train"])


def _rows(options):
    """All rows of the data set that the options name, or else of the run's own, in its order: in a list of its one or two parts."""
    before = _before(options)
    before.valid_fraction = 0
    dataset = _dataset(options, before)
    return [rows for rows in (dataset.train, dataset.valid) if rows is not None]


def _means(p, parts, options):
    """The means of q(z|x) of all rows, (N, Z)."""
    with options.status.status(f"{sum(map(len, parts))} rows"):
        return np.concatenate([elbo.encode(p, x, options.backend)[0] for x in parts])


def _out(options, name, *endings):
    """The file to write: the one that is named, else one of that name in the run folder."""
    out = options.out or os.path.join(options.run if os.path.isdir(options.run) else ".", name)
    if not out.endswith(endings):
        raise ValueError(f"--out is {out!r}; it must end in {' or '.join(endings)}")
    return out


def _save(out, array):
    with replacing(out) as file:
        np.save(file, array)


def _check_image_shape(image_shape, p):
    if not image_shape:
        raise ValueError(f"rows of {p.architecture.n_inputs} inputs are no pictures: write the numbers, with --out NAME.npy")
    return image_shape


def sample(options):
    """Draw latents from the prior and decode them: the mean of p(x|z) is written as a picture or as numbers."""
    p = _parameters(options.run)
    out = _out(options, "samples.png", ".png", ".npy")
    shape = 1, architecture.check_count("n", options.n), p.architecture.n_latent
    x = elbo.decode(p, noise.normals(noise.check_seed(options.seed), "sample", 1, shape, p.flat.dtype)[0], options.backend)
    if out.endswith(".npy"):
        _save(out, x)
    else:
        n_inputs, folder = p.architecture.n_inputs, os.path.isdir(options.run)
        image_shape = (_config(options.run)["image_shape"] if folder else None) or data.square(n_inputs)
        _check_image_shape(image_shape, p)
        if len(image_shape) != 2 or math.prod(image_shape) != n_inputs:
            raise ValueError(f"{options.run} has images of shape {image_shape} in its {runs.CONFIG}, but {n_inputs} inputs")
        from vae_np import plots

        plots.write(plots.samples(x, image_shape), out)
    make_console().print(f"{options.n} samples in {out}")


def _parameters(run):
    path = os.path.join(run, "checkpoint.npz") if os.path.isdir(run) else run
    if not os.path.isfile(path):
        raise FileNotFoundError(f"there is no trained model at {path}")
    return Parameters.load(path)


# ---------------------------------------------------------------------------------------------------- check and backends


def check(options):
    """Compare every hand-written gradient with complex steps through a loss written independently, element by element."""
    from vae_np.testing import TOLERANCES, complex_elbo, random_problem
    from vae_np.testing.gradients import check_with_complex_steps
    from vae_np.testing.problems import NOISES

    console = make_console()
    noise.check_seed(options.seed)
    backends = options.backend or [name for name, status in kernels.available().items() if status.ok]
    limit, worst, off = TOLERANCES["complex"]["float64"], 0.0, []
    console.print(
        "worst relative difference of any element: hand-written gradient, complex steps through another loss, in float64\n"
        "(an element under a hundredth of its parameter's largest is compared to that hundredth)"
    )
    for choice, backend in itertools.product(NOISES, backends):
        likelihood = f"Gaussian, {choice.get('noise', 'fixed')} noise" if choice["likelihood"] == "gaussian" else "Bernoulli"
        title = f"{likelihood}, {backend}"
        table = Table(Column("parameter", no_wrap=True), title=title, box=box.SIMPLE_HEAD, padding=0, show_edge=False)
        columns = []
        for activation, objective in itertools.product(architecture.ACTIVATIONS, elbo.OBJECTIVES):
            # In four lines, so that a terminal of 80 columns has room.
            title = "\n".join((activation[:4], activation[4:], objective[:4], objective[4:]))
            table.add_column(title, justify="right", no_wrap=True)
            arch = Architecture(6, (5, 4), 3, activation, **choice)
            with options.status.status(f"{likelihood}: {backend}, {activation}, {objective}"):
                p, *rest = random_problem(arch, objective, seed=options.seed)
                gradients = elbo.loss_and_gradients(p, *rest, backend)[1]
                found = check_with_complex_steps(lambda q: complex_elbo(arch, q, *rest), p, gradients, rtol=np.inf)
                columns.append(found)
            for element in columns[-1]:
                worst = max(worst, element.error)
                if element.error > limit:
                    off.append(f"{likelihood}, {backend}, {activation}, {objective}: {element}")
        for row in zip(*columns):
            cells = (Text(f"{element.error:.0e}", "" if element.error <= limit else "bold red") for element in row)
            table.add_row(row[0].name, *cells)
        console.print(table, "")
    console.print(
        "\n".join(off) if off else f"every gradient is right: the worst relative difference is {worst:.1e} (limit {limit:.0e})"
    )
    return 1 if off else 0


def mistakes(options):
    """Train with mistakes that published VAEs have made, and show what finds each and what it costs on held-out digits."""
    from vae_np.testing import TOLERANCES
    from vae_np.testing.mistakes import MISTAKES, NONE, find

    table = Table(
        Column("mistake, what was written,\nand the check that catches it", max_width=39),
        "own dif-\nferences",
        *(Column(name, justify="right") for name in ("gradient\noff by", "reports", "is", "costs")),
        title="−ELBO of held-out digits, nats, mean of three trainings",
        box=box.SIMPLE_HEAD,
        padding=(0, 0, 1, 0),
        show_edge=False,
    )
    for mistake in (NONE, *MISTAKES):
        with options.status.status(mistake.name):
            found = find(mistake)
        if mistake is NONE:
            right = found.true
        differences = "disagree" if found.own_error > TOLERANCES["richardson"]["float64"] else "agree"
        numbers = (f"{number:.2f}" for number in (found.reported, found.true, found.true - right))
        lines = filter(None, (mistake.name, mistake.written, found.caught_by))
        table.add_row("\n  ".join(lines), differences, f"{found.gradient_error:.0%}", *numbers)
    console = make_console()
    console.print(table)
    console.print("Where its own differences agree, the gradient is that of a wrong loss, and no gradient check can see it.")


def explain_bound(options):
    """Train models whose best loss is known in closed form, and show that they reach it and do not pass it."""
    from vae_np import known, plots

    console = make_console()
    x, n_latent = known.linear_digits(), 2
    with options.status.status("a linear VAE and two linear autoencoders, until nothing moves"):
        elbo_curve, log_p, p = known.bound_of_a_linear_model(x, n_latent)
        on_digits = known.error_of_a_linear_autoencoder(x, n_latent)
        rng = np.random.default_rng(0)
        on_a_plane = known.error_of_a_linear_autoencoder(rng.normal(size=(200, 2)) @ rng.normal(size=(2, 16)) + 1, n_latent)
    table = Table("model", "reached", "known", "")
    table.add_row(
        "linear VAE on digits: ELBO",
        f"{max(elbo_curve.reached):.6f}",
        f"{elbo_curve.limit:.6f}",
        "maximum of probabilistic PCA",
    )
    table.add_row("   its log p(x)", f"{log_p.reached[-1]:.6f}", f"{log_p.limit:.6f}", "the same: q is the posterior")
    noise_reached, noise_known = np.exp(p["noise.logvar"][0]), known.ppca(x, n_latent).noise
    table.add_row("   its noise", f"{noise_reached:.6f}", f"{noise_known:.6f}", "mean discarded eigenvalue")
    table.add_row(
        "linear autoencoder on digits: error",
        f"{min(on_digits.reached):.6f}",
        f"{on_digits.limit:.6f}",
        "sum of the discarded eigenvalues",
    )
    table.add_row(
        "   on a plane of data: error",
        f"{min(on_a_plane.reached):.1e}",
        f"{abs(on_a_plane.limit):.1e}",
        "nothing is discarded",
    )
    console.print(table)
    console.print("A loss that does not reach zero is not a failure: what is left is what so few latents cannot say.")
    console.print(plots.write(plots.known_answers(elbo_curve, log_p, on_digits, on_a_plane), options.out))


def burda(options):
    """Reproduce a row of Burda, Grosse & Salakhutdinov 2016, table 1, on MNIST: log p(x) after each stage."""
    from vae_np import published

    console = make_console()
    dataset = data.load("mnist", options.data_dir)
    dataset = dataset._replace(valid=dataset.valid[: options.rows])
    with _shown(console, options.status, options.objective) as show:
        stages = published.burda(
            dataset,
            options.stages,
            options.objective,
            options.samples,
            options.importance_samples,
            options.seed,
            options.backend,
            options.out,
            show,
        )
        for stage, epochs, ll, active in stages:
            console.print(
                f"stage {stage}, {epochs} epochs: -log p(x) {-ll.mean():.2f} ± {ll.std() / len(ll) ** 0.5:.2f} nats "
                f"({len(ll)} test digits), -ELBO {-ll.bounds[1].mean():.2f}, {active.sum()} of 50 latents active"
            )
    console.print("published after all 8 stages, 3280 epochs: 86.76 with 1 sample (VAE), 84.78 with 50 weighted ones (IWAE)")


# --------------------------------------------------------------------------------------------------------------- study

STUDIED = {"digits": ([64], 8)}  # hidden and latent where nothing is said; for others ([400], 20)
STEPS, AT_ONCE = {"digits": 2000}, 128  # of training for a model to study, and examples of each; 200 for others


def study(options):
    """Write a page on which each line of the gradients stands with its equation, its numbers and its proof."""
    from vae_np.study import page, terminal, trace

    console, started = make_console(), time.perf_counter()
    with options.status.status("a model, one pass of it, and the proof of every line"):
        p, dataset, said, words = _to_study(options)
        rows = [architecture.check_count("an example", row, 0) for row in options.examples]
        shown, _ = dataset.shown
        if max(rows) >= len(shown):
            raise ValueError(f"example {max(rows)} is beyond the {len(shown)} {dataset.part} rows")
        x, eps = shown[rows], np.empty((said.samples, len(rows), p.architecture.n_latent))
        kernels.load("numpy").normals(noise.key(said.seed, "validate"), 0, np.array(rows), eps)
        lines = trace(p, x, eps, said.beta, said.l2, said.objective)
    if options.text or options.name:
        terminal.walk(lines, console, terminal.find(lines, options.name) if options.name else None)
    else:
        from vae_np.study import dials

        with options.status.status("the dials"):
            turned = dials.dials(p, x, eps, said.beta, said.l2, said.objective)
            estimators = dials.estimators(p, x)
        n_bytes = page.write(options.out, lines, words, dataset.image_shape, turned, estimators)
        took = time.perf_counter() - started
        console.print(f"{options.out}: {len(lines)} lines, {n_bytes / 1e6:.2f} MB, {took:.1f} s; open it in a browser")
    for line in lines.wrong:
        console.print(f"{line.function}, line {line.number} is wrong: {line.source}")
    return 1 if lines.wrong else 0


def _to_study(options):
    """A trained model, its data set, the options that it was trained with, and words for what is looked at."""
    if options.run:
        before = _started_with(options.run)
        dataset = _dataset(options, before)
        words = f"{dataset.part} rows of {options.data or before.data}, by the model in {options.run}"
        return _parameters(options.run), dataset, before, words
    name = options.data or "digits"
    dataset = _dataset(options, parser().parse_args(["train"]))
    hidden, latent = STUDIED.get(name, ([400], 20))
    arch = Architecture(
        dataset.train.shape[1],
        tuple(hidden if options.hidden is None else options.hidden),
        latent if options.latent is None else options.latent,
        options.activation,
        options.likelihood,
        options.noise,
    )
    steps = STEPS.get(name, 200)
    x = dataset.train[: steps * AT_ONCE]
    settings = {"objective": options.objective, "beta": options.beta, "l2": options.l2, "seed": options.seed}
    epochs = max(1, steps * AT_ONCE // len(x))
    run = training.train(arch, x, epochs=epochs, batch_size=AT_ONCE, backend="numpy", n_samples=options.samples, **settings)
    return run.parameters, dataset, options, f"{dataset.part} rows of {name}, by a model trained for some {steps} steps"


def backends(options):
    """Print which kernel sets work on this machine, and what keeps the others from it."""
    table, found = Table("backend", "runs here", "why not", "what to do"), kernels.available()
    for name, status in found.items():
        table.add_row(name, "yes" if status.ok else "no", Text(status.reason), Text(status.remedy))
    console = make_console()
    console.print(table)
    console.print(f"auto is {_backend_name('auto')}")
    for name in ("numba", "cupy"):
        if found[name].ok:
            console.print(f"{name}: {kernels.load(name).about()}")


# ------------------------------------------------------------------------------------------------------------- options


class _Help(argparse.ArgumentDefaultsHelpFormatter):
    """Tells a default where there is one."""

    def _get_help_string(self, action):
        return action.help if action.default is None else super()._get_help_string(action)


def parser():
    top = argparse.ArgumentParser(prog="vae-np", description="A variational autoencoder, every derivative written by hand.")
    top.add_argument("--version", action="version", version=f"%(prog)s {vae_np.__version__}")
    commands = top.add_subparsers(required=True, metavar="COMMAND")

    def command(function):
        sub = commands.add_parser(
            function.__name__.replace("_", "-"),
            help=function.__doc__,
            description=function.__doc__,
            formatter_class=_Help,
        )
        sub.set_defaults(command=function)
        return sub.add_argument

    known = sorted(kernels.CHECKS)

    def of_backend(option):
        option(
            "--backend",
            choices=["auto", *known],
            default="auto",
            help="The kernels that compute: auto takes the fastest that work here.",
        )

    def of_folder(option):
        option(
            "--data-dir",
            type=os.path.expanduser,
            help="The folder of MNIST's files. By default it is $VAE_NP_DATA or a cache folder; files that are missing are downloaded.",
        )

    def of_data(option, default, otherwise=""):
        option(
            "--data",
            type=os.path.expanduser,
            default=default,
            help=f"The data: digits, mnist, or a .npz, .npy, .csv or .tsv file. Bytes stand for 0 to 1 in steps of 1/255.{otherwise}",
        )
        of_folder(option)
        for name, what in (("header", "first line holds the names of the columns"), ("index", "first column numbers the rows")):
            option(
                f"--csv-{name}",
                choices=("yes", "no"),
                help=f"Whether the {what} in a .csv or .tsv file. By default the file itself tells.",
            )

    def of_model(option, samples, l2):
        option("--activation", choices=architecture.ACTIVATIONS, default="relu", help="The activation of the hidden layers.")
        option(
            "--likelihood", choices=architecture.LIKELIHOODS, default="bernoulli", help="The distribution of x given z, p(x|z)."
        )
        option(
            "--noise",
            choices=architecture.NOISES,
            default="fixed",
            help="How the noise of a Gaussian likelihood is found: it is fixed, shared by all rows, or predicted for each.",
        )
        option(
            "--objective",
            choices=elbo.OBJECTIVES,
            default="elbo",
            help="The bound on log p(x): with the KL in closed form, with the KL of the samples, or with importance weights.",
        )
        option("--samples", type=int, default=samples, help="Samples of z per example.")
        option("--beta", type=float, default=1.0, help="The weight of the KL. The ELBO has 1.")
        option("--l2", type=float, default=l2, help="The weight of the L2 term, which is half the sum of the squared weights.")
        option("--seed", type=int, default=0, help="The seed of the first weights, of the order of the rows and of all noise.")

    option = command(train)
    of_data(option, "digits")
    option(
        "--valid-fraction",
        type=float,
        default=0.2,
        help="The share of the rows that is held out for validation; 0 holds none out. MNIST has a validation part of its own.",
    )
    option(
        "--hidden", type=int, nargs="*", default=[400], help="The widths of the hidden layers. No number makes a linear model."
    )
    option("--latent", type=int, default=2, help="The number of latent dimensions.")
    of_model(option, samples=1, l2=0.0)
    option("--noise-std", type=float, default=1.0, help="The standard deviation of fixed noise.")
    option(
        "--beta-warmup", type=float, default=0.0, metavar="EPOCHS", help="The number of epochs over which beta rises from 0."
    )
    option("--optimizer", choices=optimizers.OPTIMIZERS, default="adam", help="The optimizer.")
    option("--learning-rate", type=float, help="The learning rate. By default it is 1e-3 for adam and 1e-2 for the others.")
    option(
        "--schedule",
        type=_pair,
        nargs="*",
        default=[],
        metavar="EPOCH:FACTOR",
        help="From this epoch on (the first is 0) the learning rate is multiplied by the factor.",
    )
    option("--epochs", type=int, help="The number of epochs. By default it is 200 for digits and 20 for other data.")
    option("--batch-size", type=int, default=128, help="The number of examples in a minibatch.")
    option("--binarize", action="store_true", help="Grey pixels are drawn black or white, afresh for each minibatch.")
    option(
        "--patience", type=int, metavar="EPOCHS", help="Training ends after this many epochs without a lower validation loss."
    )
    option("--scheme", choices=SCHEMES, default="glorot", help="The scheme that draws the first weights of the hidden layers.")
    option("--dtype", choices=("float32", "float64"), default="float32", help="The type of all numbers.")
    of_backend(option)
    option(
        "--threads",
        type=int,
        help="The number of threads. By default it is all cores where a step is work enough. On numpy it is 1, and another number changes the last digits.",
    )
    option(
        "--out",
        type=os.path.expanduser,
        metavar="FOLDER",
        help="The folder of the run. By default a new folder in runs/ is made.",
    )
    option(
        "--resume",
        type=os.path.expanduser,
        metavar="FOLDER",
        help="Training continues in this run folder, with the settings of the run. --epochs may be larger than before.",
    )

    option = command(evaluate)
    option("run", type=os.path.expanduser, help="The run folder.")
    of_data(option, None, " By default the data of the run are used.")
    option("--objective", choices=elbo.OBJECTIVES, help="The bound. By default it is the one that the run was trained with.")
    option("--samples", type=int, default=1, help="Samples of z per example.")
    option(
        "--importance-samples",
        type=int,
        metavar="N",
        help="log p(x) is estimated too, with N importance weights per row. After Ctrl-C the rows that are done are reported.",
    )
    option("--seed", type=int, default=0, help="The seed of the noise.")
    of_backend(option)

    def of_rows(option, endings, name):
        option("run", type=os.path.expanduser, help="A run folder, or an .npz file of parameters.")
        of_data(
            option,
            None,
            " By default all rows of the run's data are taken in their order; a validation part of its own comes last.",
        )
        option("--out", type=os.path.expanduser, metavar="FILE", help=f"{endings} By default it is {name} in the run folder.")
        of_backend(option)

    option = command(encode)
    of_rows(option, "The .npy file that is written, of shape (rows, latents).", "latents.npy")

    option = command(reconstruct)
    of_rows(
        option, "The file that is written: .npy holds all rows, and .png is a picture of 16 of them.", "reconstructions.png"
    )
    option("--seed", type=int, default=0, help="The seed of the choice of rows for a picture.")

    option = command(sample)
    option("run", type=os.path.expanduser, help="A run folder, or an .npz file of parameters.")
    option("--n", type=int, default=144, help="The number of samples.")
    option(
        "--out",
        type=os.path.expanduser,
        metavar="FILE",
        help="The file that is written: .png is a picture and .npy holds the numbers. By default it is samples.png in the run folder.",
    )
    option("--seed", type=int, default=0, help="The seed of the samples.")
    of_backend(option)

    option = command(check)
    option("--backend", choices=known, nargs="*", help="The kernels that are checked. By default all that work here are.")
    option("--seed", type=int, default=0, help="The seed of the models and of their data.")

    option = command(study)
    option(
        "name",
        nargs="?",
        help="The lines are shown here in the terminal, from the first one that makes or calls this name: KL, dmu, backward, ...",
    )
    option(
        "--text", action="store_true", help="The lines are shown here in the terminal, one after each key. No page is written."
    )
    option(
        "--run",
        type=os.path.expanduser,
        metavar="FOLDER",
        help="The run folder whose model is studied. By default a small model is trained first.",
    )
    of_data(option, None)
    option(
        "--examples",
        type=int,
        nargs="+",
        default=[0, 1, 2, 3],
        metavar="ROW",
        help="The numbers of the held-out rows that are looked at.",
    )
    option(
        "--hidden",
        type=int,
        nargs="*",
        help="The widths of the hidden layers. By default it is 64 for digits and 400 for other data.",
    )
    option("--latent", type=int, help="The number of latent dimensions. By default it is 8 for digits and 20 for other data.")
    of_model(option, samples=2, l2=1e-3)
    option("--out", type=os.path.expanduser, default="study.html", metavar="FILE", help="The page that is written.")

    command(mistakes)

    option = command(explain_bound)
    option("--out", type=os.path.expanduser, default="bound.png", metavar="FILE", help="The picture that is written.")

    option = command(burda)
    of_folder(option)
    option("--stages", type=int, default=8, help="The number of stages that are trained. They have 1, 3, 9, ... 2187 epochs.")
    option(
        "--objective",
        choices=elbo.OBJECTIVES,
        default="elbo",
        help="The bound: elbo gives the rows of the VAE in the table, and iwae those of the IWAE.",
    )
    option("--samples", type=int, default=1, help="Samples of z per example, k in the table.")
    option(
        "--importance-samples", type=int, default=5000, help="The number of importance weights by which log p(x) is estimated."
    )
    option("--rows", type=int, default=10_000, help="The number of rows of the test part on which log p(x) is estimated.")
    option("--seed", type=int, default=0, help="The seed of the first weights, of the order of the rows and of all noise.")
    of_backend(option)
    option(
        "--out",
        type=os.path.expanduser,
        default="runs/burda",
        metavar="FOLDER",
        help="The folder of the run. An existing run is resumed.",
    )

    command(backends)
    return top


def _pair(text):
    try:
        epoch, factor = text.split(":")
        return int(epoch), float(factor)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form EPOCH:FACTOR, such as 10:0.1") from None
