"""Training: minibatches, schedules, validation, early stopping, and checkpoints from which a killed run goes on exactly.

All noise is a pure function of the seed, the step and the example (`vae_np.noise`), so a checkpoint needs no state of a
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
from typing import NamedTuple

import numpy as np

from vae_np import blas, elbo, kernels, noise, runs, steps
from vae_np.architecture import Architecture, check_count, check_number
from vae_np.optimizers import OPTIMIZERS, Adam, initial_state
from vae_np.parameters import Parameters, check_dtype
from vae_np.runs import TERMS


class Run(NamedTuple):
    """What training gives: parameters (the best epoch's, with patience), a history row per epoch, and the folder.

    The optimizer's arrays after the last step, and how many steps there were, are for a training that starts from this one.
    """

    parameters: Parameters
    history: list
    path: str | None
    optimizer: dict
    steps: int


def train(
    architecture,
    x_train,
    x_valid=None,
    *,
    # what is minimised
    objective="elbo",
    n_samples=1,
    beta=1.0,
    beta_warmup=0.0,
    l2=0.0,
    binarize=False,
    # how
    epochs=10,
    batch_size=128,
    optimizer=Adam(1e-3),
    schedule=(),
    patience=None,
    scheme="glorot",
    start=None,
    seed=0,
    # where it runs
    dtype="float32",
    backend="auto",
    threads=None,
    # what is kept, and told
    out=None,
    resume=False,
    progress=None,
    notes=None,
):
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
        The bound on log p(x): with the KL in closed form, with the KL of the samples, or with importance weights.
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
    optimizer : SGD, Adagrad or Adam
        The optimizer, with its settings.
    schedule : sequence of (epoch, factor)
        From that epoch on (the first is 0) the optimizer's learning rate is multiplied by the factor.
    patience : int, optional
        Training ends after this many epochs without a lower validation loss, and the parameters of the best epoch are
        returned. It needs x_valid.
    scheme : str
        The scheme by which `Parameters.initialize` draws the first weights.
    start : Parameters or Run, optional
        The first weights, in place of the scheme's. Of a Run, the optimizer's arrays and the count of steps are used too.
    seed : int
        The seed of the first weights, of the shuffling and of all noise.
    dtype : {"float32", "float64"}
        The type of all numbers.
    backend : str or module
        "numpy", "numba", "cupy", "auto" for the fastest of them that works here, or a kernel set of your own.
    threads : int, optional
        The number of threads. By default "numba" uses all cores where a step is work enough for them, and NumPy's BLAS
        uses one; with another number of the BLAS's threads the last digits differ.
    out : path, optional
        A folder for checkpoint.npz, history.csv and config.json.
    resume : bool
        Whether training continues from the checkpoint in `out`, or begins where there is none yet. The result has the
        same bits as a training that was never stopped. `epochs` may have grown.
    progress : function, optional
        progress(done, of, row) is called some ten times a second with the means so far, and after every epoch with its
        row of the history.
    notes : dict, optional
        What is kept in config.json beside the settings.

    Returns
    -------
    Run
        The parameters, the history in nats per example, the folder, and what another training can start from.

    Raises
    ------
    ValueError, TypeError
        An argument cannot be used, or a checkpoint is not whole.
    FileExistsError
        `out` holds a run, and resume is False.
    BlockingIOError
        Another training is running in `out`.
    OSError
        `out` cannot be written.
    RuntimeError
        The backend cannot run here.
    FloatingPointError
        The loss is no longer finite.
        Whatever is raised, the last checkpoint stays as it is.

    References
    ----------
    Kingma & Welling 2014, algorithm 1 (minibatches, L samples); Burda et al. 2016, equation 8 ("iwae").
    """
    if not isinstance(architecture, Architecture):
        raise TypeError(f"architecture is {architecture!r}; it must be an Architecture")
    start, arrays, offset = (*start[:1], *start[3:]) if isinstance(start, Run) else (start, {}, 0)
    if not (start is None or isinstance(start, Parameters)):
        raise TypeError(f"start is a {type(start).__name__}; it must be Parameters, or the Run of a training")
    if start is not None and start.architecture != architecture:
        raise ValueError(f"start has the parameters of {start.architecture}; wanted {architecture}")
    if type(optimizer) not in OPTIMIZERS.values():
        raise TypeError(f"optimizer is {optimizer!r}; it must be one such as Adam(1e-3)")
    x_train = architecture.check_inputs(x_train, "x_train")
    x_valid = None if x_valid is None else architecture.check_inputs(x_valid, "x_valid")
    epochs = check_count("epochs", epochs)
    threads = None if threads is None else check_count("threads", threads)
    patience = None if patience is None else check_count("patience", patience)
    if resume and out is None:
        raise ValueError("resume needs out, the folder of the run to go on with")
    if patience is not None and x_valid is None:
        raise ValueError("patience needs x_valid: without it there is no validation loss to wait for")
    out = type(out)(os.path.expanduser(out)) if isinstance(out, (str, pathlib.Path)) else out
    if resume:
        backend = backend_to_resume(out, backend)
    settings = {
        "architecture": dataclasses.asdict(architecture) | {"hidden": list(architecture.hidden)},
        "batch_size": check_count("batch_size", batch_size),
        "optimizer": {"name": type(optimizer).__name__, **dataclasses.asdict(optimizer)},
        "objective": objective,
        "n_samples": check_count("n_samples", n_samples),
        "beta": check_number("beta", beta),
        "beta_warmup": check_number("beta_warmup", beta_warmup),
        "schedule": _check_schedule(schedule),
        "l2": check_number("l2", l2),
        "binarize": bool(binarize),
        "patience": patience,
        "scheme": scheme if start is None else f"start {zlib.crc32(start.flat)}",
        "seed": noise.check_seed(seed),
        "dtype": check_dtype(dtype),
        "backend": backend_name(kernels.load(backend)),
        "data": [zlib.crc32(x) for x in (x_train, x_valid) if x is not None],
    }
    text = elbo.bind(architecture, objective, backend)
    p = Parameters.initialize(architecture, seed, dtype, scheme) if start is None else start.astype(dtype)
    state = runs.State(p, p.copy(), initial_state(optimizer, p.flat))
    if offset and arrays.keys() != state.optimizer.keys():
        raise ValueError(
            f"start was trained by an optimizer with {', '.join(arrays)}; {optimizer!r} has {', '.join(state.optimizer)}"
        )
    for name, array in arrays.items():
        state.optimizer[name][...] = array

    with contextlib.ExitStack() as stack:
        if out is not None:
            stack.enter_context(runs.locked(out))
            state = runs.begin(out, resume, state, settings, {"epochs": epochs, "threads": threads, **(notes or {})})
        if architecture.likelihood == "bernoulli" and not binarize and _has_grey(x_train):
            _say_grey_once()
        stack.enter_context(blas.limited(steps.blas_threads(text.kernels, threads)))
        state, data, pace = state.moved(text.put), text.put(x_train), {"steps": 1}

        @functools.cache
        def make_stepper(size):
            of_noise = settings["l2"], settings["binarize"], settings["seed"]
            return steps.stepper(
                state.p, state.optimizer, optimizer, data, size, objective, n_samples, *of_noise, backend, threads
            )

        while state.epoch < epochs and not (patience and state.waited >= patience):
            started = time.perf_counter()
            row = _epoch(state, make_stepper, pace, optimizer, settings, x_train, epochs, progress, offset)
            _check_arrays(state.moved(text.get), offset + (state.epoch + 1) * _n_batches(x_train, batch_size))
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
                )
                row |= {f"valid_{term}": getattr(valid, term) for term in TERMS}
            _note_epoch(state, row | {"seconds": time.perf_counter() - started})
            if out is not None:
                runs.save(state.moved(text.get), out, settings)
            if progress:
                progress(
                    state.epoch * _n_batches(x_train, batch_size),
                    epochs * _n_batches(x_train, batch_size),
                    state.history[-1],
                )
    p = (state.best if patience else state.p).moved(text.get)
    if epochs > 1:  # after one, as of an estimator's partial_fit, it is too early to tell
        _say_if_collapsed(p, x_train)
    arrays = {name: text.get(array) for name, array in state.optimizer.items()}
    return Run(p, state.history, out, arrays, offset + state.epoch * _n_batches(x_train, batch_size))


@blas.limited()
def evaluate(
    p,
    x,
    objective="elbo",
    n_samples=1,
    beta=1.0,
    l2=0.0,
    binarize=False,
    seed=0,
    step=0,
    examples=None,
    use="validate",
    backend="auto",
):
    """The Value of all rows of x (N, D) in nats, eps drawn; in chunks, so memory does not grow with N.

    examples (N,): the numbers by which the rows' noise is counted, else their positions. With the same seed, step and
    examples a row meets the same noise, whatever stands beside it. Binarized pixels stay the same from step to step.
    """
    arch = p.architecture
    x = arch.check_inputs(x)
    text = elbo.bind(arch, objective, backend)
    beta, l2, seed = check_number("beta", beta), check_number("l2", l2), noise.check_seed(seed)
    examples = np.arange(len(x)) if examples is None else np.asarray(examples).astype(np.int64)
    if examples.shape != (len(x),):
        raise ValueError(f"examples has shape {examples.shape}; wanted a number for each row, ({len(x)},)")
    size = max(1, min(len(x), elbo.CHUNK // check_count("n_samples", n_samples)))
    nodes = functools.cache(lambda n: elbo.nodes(arch, objective, n_samples, n, p.flat.dtype, text.zeros))
    p, parts, weights = p.moved(text.put), [], []
    for rows in elbo.chunks(len(x), size):
        some, counted = x[rows], text.put(examples[rows])
        a = nodes(len(some))
        text.kernels.gather(text.put(some), text.put(np.arange(len(some))), a.x)
        if binarize:
            text.kernels.binarize(a.x, noise.key(seed, "binarize_validation"), 0, counted, a.x)
        text.kernels.normals(noise.key(seed, use), step, counted, a.eps)
        text.forward(p.layers, a, p.flat.dtype.type(beta))
        value = elbo.value_of(text, p, a, l2)
        parts.append(value._replace(per_example=value.per_example.copy()))
        weights.append(len(some))
    means = {term: float(np.average([getattr(part, term) for part in parts], weights=weights)) for term in TERMS}
    return elbo.Value(**means, per_example=np.concatenate([part.per_example for part in parts]))


def _epoch(state, make_stepper, pace, optimizer, settings, x_train, epochs, progress, offset):
    """One pass over the shuffled training set: updates state.p and state.optimizer; the means of its terms as a row.

    pace["steps"]: so many in a call as take a tenth of a second; it is found on the way. offset: the steps of trainings before.
    """
    size, n_batches = settings["batch_size"], _n_batches(x_train, settings["batch_size"])
    order = noise.permutation(settings["seed"], "shuffle", offset // n_batches + state.epoch, len(x_train))
    rate = optimizer.learning_rate * _factor(settings["schedule"], state.epoch)
    sums, batch = np.zeros(len(TERMS)), 0
    while batch < n_batches:
        together = max(1, min(pace["steps"], len(x_train) // size - batch))  # all batches but the last are of one size
        rows = order[batch * size : (batch + together) * size].reshape(together, -1)
        first, started = state.epoch * n_batches + batch + 1, time.perf_counter()
        beta = settings["beta"] * np.minimum(
            1.0, np.arange(first, first + together) / (settings["beta_warmup"] * n_batches or 1)
        )
        terms = make_stepper(rows.shape[1])(rows, offset + first, beta, rate)
        _check_finite(terms, offset + first)
        sums = sum(terms * rows.shape[1], start=sums)  # step by step: the same bits however many are together
        batch += len(terms)
        if together == pace["steps"]:
            pace["steps"] = max(1, min(2 * together, int(0.1 * together / (time.perf_counter() - started))))
        row = {"epoch": state.epoch + 1, "beta": float(beta[-1]), "learning_rate": rate}
        row |= dict(zip((f"train_{term}" for term in TERMS), (sums / min(len(x_train), batch * size)).tolist()))
        if progress:
            progress(state.epoch * n_batches + batch, epochs * n_batches, row)
    return row


def _check_arrays(state, step):
    for what, arrays in {"parameters": [state.p.flat], "optimizer's arrays": state.optimizer.values()}.items():
        if not all(np.isfinite(array).all() for array in arrays):
            raise FloatingPointError(f"the {what} are no longer finite after step {step}")


def _check_finite(terms, first):
    """FloatingPointError where one of the steps, the first of which has the number `first`, has no finite loss."""
    wrong = np.flatnonzero(~np.isfinite(terms[:, 0]))
    if len(wrong):
        at = dict(zip(TERMS, terms[wrong[0]].tolist()))
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


def _n_batches(x, batch_size):
    return -(-len(x) // batch_size)


def _check_schedule(schedule):
    try:
        pairs = [(epoch, factor) for epoch, factor in schedule]
    except (TypeError, ValueError):
        raise ValueError(f"schedule is {schedule!r}; it must be a sequence of (epoch, factor) pairs") from None
    return sorted([check_count("an epoch in schedule", e, 0), check_number("a factor in schedule", f)] for e, f in pairs)


def _factor(schedule, epoch):
    return next((factor for start, factor in reversed(schedule) if start <= epoch), 1.0)


def _has_grey(x):
    top = 255 if x.dtype == np.uint8 else 1
    return bool(((x > 0) & (x < top)).any())


@functools.cache
def _say_grey_once():
    logging.getLogger("vae_np").warning(
        "the pixels are grey: a Bernoulli likelihood of them is not a density (binarize draws black or white from them)"
    )


COLLAPSED = 0.01, 1e-3  # nats of KL, and a share of the data's own range: what carries nothing keeps below


def _say_if_collapsed(p, x):
    """A word where the decoder has learnt to do without the latents: a local optimum of every VAE."""
    x = x[np.linspace(0, len(x) - 1, min(len(x), 256)).astype(int)]
    mu, logvar = elbo.encode(p, x)
    kl = float(kernels.load("numpy").gaussian_kl(mu, logvar, None, None, np.empty((1, len(x)))).mean())
    apart = float(np.ptp(elbo.decode(p, mu), axis=0).max())
    of_data = float(np.ptp(x, axis=0).max()) / (255 if x.dtype == np.uint8 else 1)
    if len(x) > 1 and (kl < COLLAPSED[0] or apart < COLLAPSED[1] * of_data):
        logging.getLogger("vae_np").warning(
            "the latents carry nothing (KL %.2g nats; reconstructions differ by at most %.2g): a longer training, a warm-up of "
            "beta or a smaller beta usually helps",
            kl,
            apart,
        )


def backend_to_resume(out, backend):
    """The backend to go on with: the one that is named, else that of the run in the folder; RuntimeError if it cannot run here."""
    if backend != "auto":
        return backend
    before = runs.settings_of(out).get("backend")
    if str(before) not in kernels.CHECKS:
        return backend
    if not (status := kernels.CHECKS[before]()).ok:
        others = " or ".join(name for name, other in kernels.available().items() if other.ok)
        raise RuntimeError(
            f"{out} was trained on {before!r}, which cannot run here: {status.reason}. To go on on another, name it with "
            f"--backend ({others}); the last digits will then differ"
        )
    return before


def backend_name(kernel_set):
    """The name under which `kernels.load` knows the set, or its own."""
    names = {module: name for name, module in kernels.MODULES.items()}
    return names.get(kernel_set.__name__, kernel_set.__name__)
