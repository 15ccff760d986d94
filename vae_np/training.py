"""Training: minibatches, schedules, validation, early stopping, and checkpoints from which a killed run goes on exactly.

All noise is a pure function of the seed, the step and the example (`vae_np.streams`), so a checkpoint needs no state of a
random generator, and an epoch that was cut short is simply done again.
"""

import contextlib
import dataclasses
import functools
import logging
import math
import os
import pathlib
import time
import zlib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from vae_np import blas, elbo, kernels, runs, steps, streams
from vae_np.architecture import Architecture, check_choice, check_count, check_number
from vae_np.choices import LIKELIHOODS
from vae_np.deprecation import renamed
from vae_np.evaluation import evaluate
from vae_np.kernels.contract import FULL, Backend, KernelSet
from vae_np.optimizers import OPTIMIZERS, Adam, Optimizer
from vae_np.parameters import Parameters, check_dtype
from vae_np.ranks import ALONE, Ranks
from vae_np.runs import TERMS
from vae_np.snapshots import load as load_snapshots
from vae_np.snapshots import taken as take_snapshot
from vae_np.stored_rows import StoredRows, has_grey, of_map


class Run(NamedTuple):
    """What training gives; another training can start from it."""

    parameters: Parameters  # with patience those of the best epoch
    history: list[dict[str, float]]  # a row for each epoch, in nats
    path: str | os.PathLike | None  # the folder
    optimizer: dict[str, NDArray]  # the optimizer's arrays after the last step
    steps: int  # the number of all steps
    snapshots: dict[int, Parameters] = {}  # {epoch: the parameters after it} for a few epochs, where they were asked for


@renamed(scheme="init", start="initial_parameters")
def train(
    architecture: Architecture,
    x_train: ArrayLike,
    x_valid: ArrayLike | None = None,
    *,
    # what is minimised
    objective: str = "elbo",
    estimator: str = "total",
    n_samples: int = 1,
    beta: float = 1.0,
    beta_warmup: float = 0.0,
    l2: float = 0.0,
    binarize: bool = False,
    # how
    epochs: int = 10,
    batch_size: int = 128,
    optimizer: Optimizer = Adam(1e-3),
    schedule: Sequence[tuple[int, float]] = (),
    patience: int | None = None,
    init: str = "glorot",
    initial_parameters: Parameters | Run | None = None,
    seed: int = 0,
    # where it runs
    dtype: DTypeLike = "float32",
    precision: str = FULL,
    backend: Backend = "auto",
    threads: int | None = None,
    ranks: Ranks = ALONE,
    exchange: str = "rows",
    # what is kept, and reported
    out: str | os.PathLike | None = None,
    resume: bool = False,
    progress: Callable[[int, int, dict[str, float]], Any] | None = None,
    notes: dict[str, Any] | None = None,
    snapshots: int = 0,
) -> Run:
    """Minimise the loss of `loss_and_gradients` over shuffled minibatches.

    Every epoch shuffles the rows and uses each of them once; its last minibatch may be smaller than the others. The same
    arguments give the same bits, on any number of threads of the backend "numba".

    Parameters
    ----------
    architecture : Architecture
        The sizes of the model, its activation and its likelihood.
    x_train : array (N, D)
        The rows to train on. Bytes stand for 0 to 1 in steps of 1/255, and stay bytes until a minibatch is gathered.
    x_valid : array (M, D), optional
        Rows that are not trained on. Their loss is measured after every epoch.
    objective : {"elbo", "elbo_mc", "iwae"}
        The bound on log p(x): the KL in closed form, the KL of the samples, or importance weights.
    estimator : {"total", "path", "dreg", "score", "vimco"}
        The estimator of the gradient by the encoder's parameters, of those that the objective has: see `loss_and_gradients`.
    n_samples : int
        Samples of z per example.
    beta, beta_warmup : float
        The weight of the KL, and the number of epochs over which it rises from 0 to beta.
    l2 : float
        The loss contains l2 / 2 times the sum of the squared weights.
    binarize : bool
        Whether grey pixels are drawn black or white, afresh for each minibatch.
    epochs, batch_size : int
        The number of epochs, and of rows in a minibatch.
    optimizer : Optimizer
        An optimizer with its settings, such as Adam(1e-3).
    schedule : sequence of (epoch, factor)
        From that epoch on (the first is 0) the optimizer's learning rate is multiplied by the factor.
    patience : int, optional
        Training ends after this many epochs without a lower validation loss, and the parameters of the best epoch are
        returned. It needs x_valid.
    init : {"glorot", "he"}
        The rule by which `Parameters.initialize` draws the first weights.
    initial_parameters : Parameters or Run, optional
        The first weights, in place of drawn ones. Of a Run, the optimizer's arrays and the count of steps are used too.
    seed : int
        The seed of the first weights, of the shuffling and of all noise.
    dtype : {"float32", "float64"}
        The type of all numbers.
    precision : {"float32", "bfloat16", "tfloat32"}
        How the steps of the training round the operands of their matrix products: see `loss_and_gradients`. The parameters,
        their updates and the validation are not rounded.
    backend : str or module
        "numpy", "numba", "cupy", "auto" for the fastest of them that works here, or a kernel set of your own.
    threads : int, optional
        The number of threads. By default "numba" uses all cores where a step is work enough for them, and NumPy's BLAS
        uses one; with another number of the BLAS's threads the last digits differ.
    ranks : Ranks
        The processes that make this training together, such as `vae_np.ranks.of_launch()` under mpiexec: each of them calls
        `train` with the same arguments, and rank 0 alone writes files. Their number changes no bit.
    exchange : {"rows", "sums"}
        What ranks exchange in each step: the rows of their parts of the minibatch, or sums of the gradients of 12 slices of it,
        on one rank too. Sums are fewer numbers than rows where a minibatch has many samples. They are exact but for the last
        digits (`vae_np.ranks.exact_sum`), which differ from those of "rows".
    out : path, optional
        A folder for checkpoint.npz, history.csv, config.json and, where snapshots are kept, snapshots.npz.
    resume : bool
        Whether training continues from the checkpoint in `out`, or begins where there is none yet. The result has the
        same bits as a training that was never stopped. `epochs` may have grown.
    progress : function, optional
        progress(done, of, row) is called some ten times a second with the means so far, and after every epoch with its
        row of the history.
    notes : dict, optional
        What is kept in config.json beside the settings.
    snapshots : int
        The largest number of epochs whose parameters are kept, in the Run and in the file snapshots.npz of the folder: those
        before the first epoch and after the epochs 1, 2, 4, 8 and so on, or with larger steps between them. The training is the
        same to the bit with any number of them.

    Returns
    -------
    Run
        The parameters, the history in nats per example, the folder, and what another training can start from.

    Raises
    ------
    ValueError, TypeError
        An argument cannot be used, the backend does not have the precision, or a checkpoint is not whole.
    FileExistsError
        `out` holds a run, and resume is False.
    BlockingIOError
        Another training is running in `out`.
    OSError
        `out` cannot be written.
    RuntimeError
        The backend cannot run here, or a rank has ended, or has other data or settings.
    FloatingPointError
        The loss is no longer finite.
        Whatever is raised, the last checkpoint stays as it is.

    References
    ----------
    Kingma & Welling 2014, algorithm 1 (minibatches, L samples); Burda et al. 2016, equation 8 ("iwae").

    Examples
    --------
    >>> import numpy as np
    >>> from vae_np import Adam, Architecture, train
    >>> x = np.random.default_rng(0).integers(0, 2, (100, 6)).astype(float)
    >>> run = train(Architecture(6, (5,), 2), x, epochs=3, optimizer=Adam(1e-2), backend="numpy")
    >>> len(run.history), run.parameters["mu.W"].shape
    (3, (5, 2))
    """
    if not isinstance(architecture, Architecture):
        raise TypeError(f"architecture is {architecture!r}; it must be an Architecture")
    given, arrays, steps_before = initial_parameters, {}, 0
    if isinstance(given, Run):
        given, arrays, steps_before = given.parameters, given.optimizer, given.steps
    if not (given is None or isinstance(given, Parameters)):
        raise TypeError(f"initial_parameters is a {type(given).__name__}; it must be Parameters, or the Run of a training")
    if given is not None and given.architecture != architecture:
        raise ValueError(f"initial_parameters are those of {given.architecture}; wanted {architecture}")
    if type(optimizer) not in OPTIMIZERS.values():
        raise TypeError(f"optimizer is {optimizer!r}; it must be one such as Adam(1e-3)")
    x_train = architecture.check_inputs(of_map(x_train), "x_train")
    x_valid = None if x_valid is None else architecture.check_inputs(of_map(x_valid), "x_valid")
    check_choice("exchange", exchange, steps.EXCHANGES)
    epochs = check_count("epochs", epochs)
    threads = None if threads is None else check_count("threads", threads)
    patience = None if patience is None else check_count("patience", patience)
    if resume and out is None:
        raise ValueError("resume needs out, the folder of the run that is resumed")
    if patience is not None and x_valid is None:
        raise ValueError("patience needs x_valid: without it there is no validation loss to wait for")
    out = type(out)(os.path.expanduser(out)) if isinstance(out, (str, pathlib.Path)) else out
    if resume and out is not None:
        backend = backend_to_resume(out, backend)
    settings = {
        "architecture": dataclasses.asdict(architecture) | {"hidden": list(architecture.hidden)},
        "batch_size": check_count("batch_size", batch_size),
        "optimizer": {"name": type(optimizer).__name__, **dataclasses.asdict(optimizer)},
        "objective": objective,
        "estimator": estimator,
        "n_samples": check_count("n_samples", n_samples),
        "beta": check_number("beta", beta),
        "beta_warmup": check_number("beta_warmup", beta_warmup),
        "schedule": _check_schedule(schedule),
        "l2": check_number("l2", l2),
        "binarize": bool(binarize),
        "patience": patience,
        "scheme": init if given is None else f"start {zlib.crc32(given.flat)}",  # a name of the file's format
        "seed": streams.check_seed(seed),
        "dtype": check_dtype(dtype),
        "precision": precision,
        "backend": backend_name(kernels.load(backend, precision)),
        "exchange": exchange,
        "parts": _parts(kernels.load(backend, precision), ranks, n_samples, exchange, out if resume else None),
        "snapshots": check_count("snapshots", snapshots, 0),
        "data": [_checksum(x) for x in (x_train, x_valid) if x is not None],
    }
    ranks.check_same(settings | {"epochs": epochs}, ": give every rank the same data and settings")
    model = elbo.bind(architecture, objective, backend, estimator=estimator)
    p = Parameters.initialize(architecture, seed, dtype, init) if given is None else given.astype(dtype)
    state = runs.State(p, p.copy(), optimizer.initial_state(p))
    if steps_before and arrays.keys() != state.optimizer.keys():
        kept = ", ".join(arrays)
        raise ValueError(f"the optimizer of initial_parameters keeps {kept}; {optimizer!r} keeps {', '.join(state.optimizer)}")
    for name, array in arrays.items():
        state.optimizer[name][...] = array

    with contextlib.ExitStack() as stack:
        more = {"epochs": epochs, "threads": threads} | ({"ranks": ranks.size} if ranks.together else {}) | (notes or {})
        own_out = out if ranks.rank == 0 else None  # where this rank writes
        if own_out is not None:
            stack.enter_context(runs.locked(own_out))
            state = runs.begin(own_out, resume, state, settings, more)
        _spread(state, ranks)
        if not binarize:
            _say_if_no_density(architecture.likelihood, x_train)
        stack.enter_context(blas.limited(steps.blas_threads(model.kernels, threads)))
        shares = steps.shares_of_weights(p, model.kernels, ranks, settings["parts"], batch_size, n_samples)
        data = x_train if isinstance(x_train, StoredRows) else model.put(x_train)
        kept = {} if out is None or not (snapshots and state.epoch) else load_snapshots(out, architecture, state.epoch)
        if snapshots and not state.epoch:
            kept = take_snapshot({}, snapshots, 0, state.p, own_out)
        state, n_batches = state.moved(model.put), -(-len(x_train) // batch_size)

        @functools.cache
        def make_stepper(size):
            return steps.stepper(
                state.p,
                state.optimizer,
                optimizer,
                data,
                size,
                objective,
                n_samples,
                l2=settings["l2"],
                binarize=settings["binarize"],
                seed=settings["seed"],
                backend=backend,
                threads=threads,
                precision=precision,
                estimator=estimator,
                ranks=ranks,
                parts=settings["parts"],
                shares=shares,
                exchange=exchange,
            )

        together = 1  # steps in a call of the stepper: as many as take a tenth of a second, which is found on the way
        while state.epoch < epochs and not (patience and state.waited >= patience):
            started = time.perf_counter()
            row, together = _epoch(
                state,
                make_stepper,
                together,
                optimizer.learning_rate,
                settings,
                data,
                steps_before,
                lambda batch, row: progress and progress(state.epoch * n_batches + batch, epochs * n_batches, row),
            )
            if shares is not None:
                for array in state.optimizer.values():
                    ranks.complete(array, shares)
            _check_arrays(state.moved(model.get), steps_before + (state.epoch + 1) * n_batches)
            if x_valid is not None:
                valid = evaluate(
                    state.p,
                    x_valid,
                    objective,
                    n_samples,
                    beta,
                    l2,
                    binarize,
                    seed,
                    state.epoch + 1,
                    backend=backend,
                    ranks=ranks,
                )
                row |= {f"valid_{term}": getattr(valid, term) for term in TERMS}
            _note_epoch(state, row | {"seconds": time.perf_counter() - started})
            bits = zlib.crc32(np.ascontiguousarray(model.get(state.p.flat)))
            ranks.check_same(
                {"the checksum of the parameters": bits}, ": its processor or its libraries may be of another kind"
            )
            if snapshots:  # before the checkpoint: a training that is killed between the two does this epoch again
                kept = take_snapshot(kept, snapshots, state.epoch, state.p.moved(model.get), own_out)
            if own_out is not None:
                runs.save(state.moved(model.get), own_out, settings)
            if progress:
                progress(state.epoch * n_batches, epochs * n_batches, state.history[-1])
    p = (state.best if patience else state.p).moved(model.get)
    if epochs > 1:  # after one, as of an estimator's partial_fit, it is too early to tell
        _say_if_collapsed(p, x_train)
    arrays = {name: model.get(array) for name, array in state.optimizer.items()}
    return Run(p, state.history, out, arrays, steps_before + state.epoch * n_batches, kept)


def _parts(kernel_set, ranks, n_samples, exchange, out):
    """Into how many parts the training cuts a batch, as it was begun: 1 where the ranks change no bit by cutting as they like."""
    before = runs.settings_of(out) if out is not None else {}
    if before:
        return int((runs.LATER | before)["parts"])
    return steps.parts_for_ranks(kernel_set, ranks, n_samples, exchange)


def _spread(state, ranks):
    """Give all ranks the state of rank 0, which may have read it from a checkpoint."""
    state.history[:] = ranks.from_first(lambda: state.history)
    for array in (state.p.flat, state.best.flat, *state.optimizer.values()):
        ranks.spread(array)


def _epoch(state, make_stepper, together, learning_rate, settings, data, steps_before, progress):
    """One pass over the shuffled rows, which changes state.p and state.optimizer: (the means of its terms as a row, together)."""
    size, n_rows = settings["batch_size"], len(data)
    n_batches = -(-n_rows // size)
    order = streams.permutation(settings["seed"], "shuffle", steps_before // n_batches + state.epoch, n_rows)
    rate = learning_rate * _factor(settings["schedule"], state.epoch)
    sums, batch, row, rows_ahead = np.zeros(len(TERMS)), 0, {}, None

    def following(batch):
        n = max(1, min(together, n_rows // size - batch))  # all batches but the last are of one size
        return order[batch * size : (batch + n) * size].reshape(n, -1)

    while batch < n_batches:
        rows = following(batch) if rows_ahead is None else rows_ahead
        n = len(rows)
        if isinstance(data, StoredRows) and batch + n < n_batches:
            rows_ahead = following(batch + n)
            data.ask(rows_ahead)  # they are read from the disk while the steps before them are made
        first, started = state.epoch * n_batches + batch + 1, time.perf_counter()
        beta = settings["beta"] * np.minimum(1.0, np.arange(first, first + n) / (settings["beta_warmup"] * n_batches or 1))
        terms = make_stepper(rows.shape[1])(rows, steps_before + first, beta, rate)
        _check_finite(terms, steps_before + first)
        sums = sum(terms * rows.shape[1], start=sums)  # step by step: the same bits however many are together
        batch += len(terms)
        if n == together:
            together = max(1, min(2 * n, int(0.1 * n / (time.perf_counter() - started))))
        row = {"epoch": state.epoch + 1, "beta": float(beta[-1]), "learning_rate": rate}
        row |= dict(zip((f"train_{term}" for term in TERMS), (sums / min(n_rows, batch * size)).tolist()))
        progress(batch, row)
    return row, together


def _check_arrays(state, step):
    for what, arrays in {"parameters": [state.p.flat], "optimizer's arrays": state.optimizer.values()}.items():
        if not all(np.isfinite(array).all() for array in arrays):
            raise FloatingPointError(f"the {what} are no longer finite after step {step}")


def _check_finite(terms, first):
    """FloatingPointError where one of the steps, the first of which has the number `first`, has no finite loss."""
    wrong = np.flatnonzero(~np.isfinite(terms[:, 0]))
    if len(wrong):
        at: dict[str, float] = dict(zip(TERMS, terms[wrong[0]].tolist()))
        term = next((t for t in ("reconstruction", "kl", "l2") if not math.isfinite(at[t])), "total")
        raise FloatingPointError(f"the loss is no longer finite: its term {term} is {at[term]} at step {first + wrong[0]}")


def _note_epoch(state, row):
    column = runs.not_finite(row)
    if column:
        part = "validation" if column.startswith("valid") else "training"
        raise FloatingPointError(f"the {part} loss is no longer finite after epoch {row['epoch']}")
    state.history.append(row)
    if state.waited == 0:
        state.best.flat[...] = state.p.flat


def _checksum(x):
    return x.look().checksum if isinstance(x, StoredRows) else zlib.crc32(x)


def _check_schedule(schedule):
    try:
        pairs = [(epoch, factor) for epoch, factor in schedule]
    except (TypeError, ValueError):
        raise ValueError(f"schedule is {schedule!r}; it must be a sequence of (epoch, factor) pairs") from None
    return sorted([check_count("an epoch in schedule", e, 0), check_number("a factor in schedule", f)] for e, f in pairs)


def _factor(schedule, epoch):
    return next((factor for start, factor in reversed(schedule) if start <= epoch), 1.0)


def _say_if_no_density(likelihood, x):
    if not LIKELIHOODS[likelihood].discrete:
        return
    if isinstance(x, StoredRows):
        grey = x.look().has_grey
    else:
        grey = any(has_grey(x[rows]) for rows in elbo.chunks(len(x)))
    if grey:
        _say_no_density_once(LIKELIHOODS[likelihood].title)


@functools.cache
def _say_no_density_once(title):
    densities = [repr(other.name) for other in LIKELIHOODS.values() if not other.discrete and math.isfinite(other.support[0])]
    logging.getLogger("vae_np").warning(
        "the pixels are grey: a %s likelihood of them is not a density (binarize draws black or white from them%s)",
        title,
        "".join(f"; likelihood={name} is a density of grey pixels" for name in densities),
    )


COLLAPSED = 0.01, 1e-3  # nats of KL, and a share of the data's own range: what carries nothing keeps below


def _say_if_collapsed(p, x):
    """A warning where the decoder has learnt to do without the latents: a local optimum of every VAE."""
    x = x[np.linspace(0, len(x) - 1, min(len(x), 256)).astype(int)]
    mu, logvar = elbo.encode(p, x)
    unread = np.empty((0, *mu.shape))
    kl = float(kernels.load("numpy").gaussian_kl(mu, logvar, unread, unread, np.empty((1, len(x)))).mean())
    apart = float(np.ptp(elbo.decode(p, mu), axis=0).max())
    of_data = float(np.ptp(x, axis=0).max()) / (255 if x.dtype == np.uint8 else 1)
    if len(x) > 1 and (kl < COLLAPSED[0] or apart < COLLAPSED[1] * of_data):
        logging.getLogger("vae_np").warning(
            "the latents carry nothing (KL %.2g nats; reconstructions differ by at most %.2g): a longer training, a warm-up of "
            "beta or a smaller beta usually helps",
            kl,
            apart,
        )


def backend_to_resume(out: str | os.PathLike, backend: Backend) -> Backend:
    """The backend for a resumed run: the one that is named, or else that of the folder; RuntimeError if it cannot run here."""
    if backend != "auto":
        return backend
    before = str(runs.settings_of(out).get("backend"))
    if before not in kernels.CHECKS:
        return backend
    if not (status := kernels.CHECKS[before]()).ok:
        others = " or ".join(name for name, other in kernels.available().items() if other.ok)
        raise RuntimeError(
            f"{out} was trained on {before!r}, which cannot run here: {status.reason}. Name another one with "
            f"--backend ({others}) to resume it there; the last digits will then differ"
        )
    return before


def backend_name(kernel_set: KernelSet) -> str:
    """The name under which `kernels.load` knows the set, or the set's own name."""
    names = {module: name for name, module in kernels.MODULES.items()}
    return names.get(kernel_set.__name__, kernel_set.__name__)
