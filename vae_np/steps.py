"""Training steps: the batch, its noise, the loss and its gradients, and the update.

Every kernel set can make a step by one call after another. A set that has `capture` records these calls once, and then makes
whole steps by itself, on its own threads.
"""

import functools
import itertools
import math
import os
from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vae_np import blas, elbo, streams
from vae_np.buffers import batch_slice, buffers
from vae_np.kernels.contract import FULL, Backend, KernelSet
from vae_np.optimizers import Optimizer
from vae_np.parameters import Parameters
from vae_np.ranks import ALONE, Ranks, exchange_of_rows
from vae_np.runs import TERMS
from vae_np.stored_rows import StoredRows

PARTS = 12  # into which ranks cut a batch whose bits depend on how it is cut; 1, 2, 3, 4, 6 and 12 ranks have equal shares
ENOUGH_FOR_THREADS = 2**22  # the weights times the rows of a batch, about 25 million multiply-adds


def stepper(
    p: Parameters,
    state: dict[str, NDArray],
    optimizer: Optimizer,
    data: NDArray | StoredRows,
    batch_size: int,
    objective: str = "elbo",
    n_samples: int = 1,
    l2: float = 0.0,
    binarize: bool = False,
    seed: int = 0,
    backend: Backend = "auto",
    threads: int | None = None,
    precision: str = FULL,
    estimator: str = "total",
    ranks: Ranks = ALONE,
    parts: int = 1,
) -> Callable[[NDArray, int, ArrayLike, ArrayLike], NDArray]:
    """Make a function that makes whole training steps on batches of one size.

    Parameters
    ----------
    p : Parameters
        The model. The steps change it in place. Its buffer is an array of the backend (`elbo.Model.put`).
    state : dict of str to array
        The optimizer's arrays. The steps change them in place. They are arrays of the backend too.
    optimizer : Optimizer
        The optimizer.
    data : array (N, D) or StoredRows
        The rows of the training data. Of StoredRows those of each step are read before it.
    batch_size : int
        The number of rows in a batch.
    objective, n_samples, l2, binarize, seed, backend, threads, precision, estimator
        They are those of `vae_np.train`.
    ranks : Ranks
        The processes that make the steps together. Each does some parts of a batch, and all make the same update.
    parts : int
        Into how many parts a batch is cut; 1 leaves that to the kernel set. The last digits depend on it.

    Returns
    -------
    function
        run(rows, first, beta, learning_rate) makes n steps and returns terms. `rows` (n, batch_size) holds the positions in
        `data` of the rows of each batch. `first` is the number of the first step, counted from 1 over the whole training.
        `beta` and `learning_rate` are numbers, or arrays (n,) with a number for each step. `terms` (n, 4) holds total,
        reconstruction, kl and l2 of each batch before its update, in nats. If a total is not finite, `terms` ends with that
        step, although a backend may have made further steps.

    Raises
    ------
    ValueError
        The objective, the estimator or the backend is unknown, the objective does not have the estimator, or the backend does not
        have the precision.
    RuntimeError
        The backend cannot run here.
    """
    arch, real = p.architecture, p.flat.dtype.type
    bind = functools.partial(elbo.bind, arch, objective, estimator=estimator)
    model = bind(backend, precision=precision)
    a, d = (buffers(arch, objective, n_samples, batch_size, real, model.zeros) for _ in range(2))
    g, l2 = Parameters(arch, model.zeros(p.flat.shape, real)), real(l2)
    stored = data if isinstance(data, StoredRows) else None
    in_batch = model.put(np.arange(batch_size))
    held = model.put(data) if stored is None else model.zeros((batch_size, arch.n_inputs), stored.dtype)  # all rows, or a batch
    layers, g_layers = p.layers, g.layers
    train_key, binarize_key = streams.key(seed, "train"), streams.key(seed, "binarize")

    n_threads = threads or _threads_for(p.flat.size * batch_size * n_samples // ranks.size, ranks.here)
    cuts = _cuts(model.kernels, ranks.size, batch_size, n_samples, n_threads, parts)
    slices = [(r == ranks.rank, cut) for r, of_rank in enumerate(cuts) for cut in itertools.pairwise(of_rank)]
    exchange = _exchange_for_weights(model, ranks, a, d, cuts)

    def by_example(model, own, cut, rows, step, beta):
        start, stop = cut
        part, d_part = batch_slice(a, start, stop), batch_slice(d, start, stop)
        model.kernels.gather(held, (rows if stored is None else in_batch)[start:stop], part.x)
        if binarize:
            model.kernels.binarize(part.x, binarize_key, step, rows[start:stop], part.x)
        if own:  # of what other ranks do, only x is made here too
            model.kernels.normals(train_key, step, rows[start:stop], part.eps)
            model.forward(layers, part, beta)
            model.backward(layers, part, d_part, beta, batch_size)

    def by_weight(model, step, learning_rate):
        model.weight_gradients(layers, a, d, g_layers, l2)
        optimizer.update(model.kernels, p.flat, g.flat, state, step, learning_rate)

    def line_by_line(rows, first, betas, rates):
        terms, batches = np.empty((len(rows), len(TERMS))), None if stored is None else stored[rows]
        for i in range(len(rows)):
            if batches is not None:
                held[...] = model.put(batches[i])
            for own, cut in slices:
                by_example(model, own, cut, model.put(rows[i]), first + i, real(betas[i]))
            exchange()
            value = elbo.value_of(model, p, a, l2)
            terms[i] = [getattr(value, term) for term in TERMS]
            if not math.isfinite(value.total):
                return terms[: i + 1]
            by_weight(model, first + i, rates[i])
        return terms

    def captured(capture):
        rows, beta, rate = model.zeros(batch_size, np.int64), model.zeros((), real), model.zeros((), np.float64)
        step_of_noise, step_of_update = model.zeros((), np.int64), model.zeros((), np.int64)

        def of_slice(own, cut, kernels):
            by_example(bind(kernels), own, cut, rows, step_of_noise, beta)

        program = (capture if ranks.size == 1 else functools.partial(_in_halves, model, exchange))(
            examples=[functools.partial(of_slice, *part) for part in slices],
            weights=lambda kernels: by_weight(bind(kernels), step_of_update, rate),
            means=(a.loss, a.nll, a.kl),
            squares=[*p.weights.values()] if l2 else [],
            before_examples=(rows, step_of_noise, beta, *([] if stored is None else [held])),
            before_weights=(step_of_update, rate),
        )

        def run(rows, first, betas, rates):
            numbers = np.arange(first, first + len(rows))
            batches = [] if stored is None else [stored[rows]]
            bound, nll, kl, *squares = program(n_threads, (rows, numbers, betas, *batches, numbers, rates)).T
            penalty = np.zeros_like(bound) + float(l2) / 2 * sum(squares)
            return np.stack([bound + penalty, nll, kl, penalty], axis=1)

        return run

    kernel_set = model.kernels
    make_steps = captured(kernel_set.capture) if kernel_set.capture else line_by_line

    def run(rows, first, beta, learning_rate):
        with blas.limited(blas_threads(kernel_set, threads)):
            return make_steps(rows, first, np.broadcast_to(beta, len(rows)), np.broadcast_to(learning_rate, len(rows)))

    return run


def cuts_for_threads(kernel_set: KernelSet, n_samples: int) -> bool:
    """Whether the set by itself cuts a batch into enough slices for several threads, which change no bit."""
    return bool(kernel_set.edges) and len(kernel_set.edges(1024, n_samples, 7)) > 7


def _cuts(kernel_set, n_ranks, n_examples, n_samples, threads, parts):
    """For each rank where the slices of a batch that it does begin and end."""
    if parts == 1 and n_samples == 1 and cuts_for_threads(kernel_set, 1):
        shares = itertools.pairwise(r * n_examples // n_ranks for r in range(n_ranks + 1))
        return [
            [start + i for i in kernel_set.edges(max(1, stop - start), 1, threads)][: 1 + stop - start]
            for start, stop in shares
        ]
    if parts > 1:
        n = min(parts, n_examples)
        edges = [i * n_examples // n for i in range(n + 1)]
    else:
        edges = kernel_set.edges(n_examples, n_samples, threads) if kernel_set.edges else [0, n_examples]
    n = len(edges) - 1
    return [edges[r * n // n_ranks : (r + 1) * n // n_ranks + 1] for r in range(n_ranks)]


def _exchange_for_weights(model, ranks, a, d, cuts):
    """A function by which every rank gets what the second half of a step needs of the examples of the others."""
    if ranks.size == 1:
        return lambda: None
    arrays = []
    for of_rank in cuts:
        at, dt = batch_slice(a, of_rank[0], of_rank[-1]), batch_slice(d, of_rank[0], of_rank[-1])
        values = *at.encoder[1:], *at.decoder, at.nll, at.kl, at.loss
        arrays.append([*values, *dt.encoder[1:], dt.mu, dt.logvar, *dt.decoder[1:], dt.output, dt.output_logvar])
    return exchange_of_rows(ranks, arrays, model.get, model.put)


def _in_halves(model, exchange, examples, weights, means, squares, before_examples, before_weights):
    """The `capture` of the model's kernel set, of two programs with an exchange between them."""
    capture, real = model.kernels.capture, means[0].dtype
    one, p, g, velocity = model.zeros((1, 1), real), *(model.zeros(2, real) for _ in range(3))

    def no_weights(kernels):  # a program has weights: one that is 0 and stays so
        kernels.affine_gradients(one, one, p[:1].reshape(1, 1), real.type(0), g[:1].reshape(1, 1), g[1:])
        kernels.sgd(p, g, velocity, 0.0, 0.0)

    first = capture(examples, no_weights, (one[0],), (), before_examples, ())
    no_number = model.zeros((), np.int64)  # a program has numbers before its examples, too
    second = capture((), weights, means, squares, (no_number,), before_weights)

    def program(threads, values):
        results = np.empty((len(values[0]), len(means) + len(squares)))
        for i in range(len(results)):
            of_step = [value[i : i + 1] for value in values]
            first(threads, of_step[: len(before_examples)])
            exchange()
            results[i] = second(threads, [np.zeros(1, np.int64), *of_step[len(before_examples) :]])
            if not math.isfinite(results[i, 0] + results[i, len(means) :].sum()):
                return results[: i + 1]
        return results

    return program


def blas_threads(kernel_set: KernelSet, threads: int | None) -> int:
    """The number of threads for the BLAS. It is 1 if the kernel set has its own threads."""
    return 1 if kernel_set.capture else threads or 1


def _threads_for(work, n_processes=1):
    """The number of threads for a step: all usable cores, or one if threads would cost more time than they save."""
    return max(1, usable_cores() // n_processes) if work > ENOUGH_FOR_THREADS else 1


def usable_cores() -> int:
    """The number of cores for this process. Its affinity, its container and the user's environment variables limit it."""
    import joblib

    limits = [os.environ.get(name, "").partition(",")[0] for name in ("NUMBA_NUM_THREADS", "OMP_NUM_THREADS")]
    return min([joblib.cpu_count(), *(int(limit) for limit in limits if limit.isdigit() and int(limit))])
