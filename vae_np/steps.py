"""Training steps: the batch, its noise, the loss and its gradients, and the update.

Every kernel set can make a step by one call after another. A set that has `capture` records these calls once, and then makes
whole steps by itself, on its own threads.
"""

import functools
import itertools
import math
import os
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vae_np import blas, elbo, streams
from vae_np.buffers import batch_slice, buffers
from vae_np.kernels.contract import FULL, Backend, KernelSet
from vae_np.optimizers import Optimizer
from vae_np.parameters import Parameters
from vae_np.ranks import ALONE, Ranks, exact_sum, exchange_of_rows
from vae_np.runs import TERMS
from vae_np.stored_rows import StoredRows

EXCHANGES = ("rows", "sums")  # what ranks exchange between the halves of a step
PARTS = 12  # into which ranks cut a batch whose bits depend on how it is cut; 1, 2, 3, 4, 6 and 12 ranks have equal shares
ROWS_TOGETHER = 12  # rows of weights that one rank updates: those of a tile of the compiled products
# Multiply-adds for the gradient of a weight: with fewer, 4 bytes of an updated weight arrive at 1.1 GB/s (10 Gbit/s) no sooner
# than a processor of 100 GFLOP/s has computed it by itself.
ENOUGH_TO_SHARE = 200
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
    shares: Sequence[int] | None = None,
    exchange: str = "rows",
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
        The processes that make the steps together. Each does some parts of a batch.
    parts : int
        Into how many parts a batch is cut; 1 leaves that to the kernel set. The last digits depend on it.
    shares : sequence of int, optional
        Where in p.flat the weights begin and end that each rank updates (`shares_of_weights`); each changes the optimizer's arrays
        there only. By default each rank makes the whole update.
    exchange : {"rows", "sums"}
        What the ranks exchange. With "sums" `parts` must be more than 1, and each rank makes the whole update.

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
    slices = [
        (rank == ranks.rank, slice(*cut), batch_slice(a, *cut), batch_slice(d, *cut))
        for rank, of_rank in enumerate(cuts)
        for cut in itertools.pairwise(of_rank)
        if rank == ranks.rank or exchange == "rows"  # of what other ranks do, sums do not even need x
    ]
    n_slices = sum(len(of_rank) - 1 for of_rank in cuts)
    g_slices = model.zeros((len(slices) if exchange == "sums" else 0, p.flat.size), real)
    layers_of_slices = [Parameters(arch, flat).layers for flat in g_slices] or [None] * len(slices)
    slices = [(*part, g_slice) for part, g_slice in zip(slices, layers_of_slices)]
    exchange_rows = _exchange_of_rows(model, ranks, a, d, cuts, exchange)
    own_weights = slice(None) if shares is None else slice(*shares[ranks.rank : ranks.rank + 2])
    own_p, own_g, own_state = p.flat[own_weights], g.flat[own_weights], {name: x[own_weights] for name, x in state.items()}

    def by_example(model, own, cut, a, d, g_slice, rows, step, beta):
        model.kernels.gather(held, (rows if stored is None else in_batch)[cut], a.x)
        if binarize:
            model.kernels.binarize(a.x, binarize_key, step, rows[cut], a.x)
        if own:  # of what other ranks do, only x is made here too
            model.kernels.normals(train_key, step, rows[cut], a.eps)
            model.forward(layers, a, beta)
            model.backward(layers, a, d, beta, batch_size)
        if g_slice:
            model.weight_gradients(layers, a, d, g_slice, real(0) if cut.start else l2)  # one slice has the L2 term

    def between_halves():
        exchange_rows()
        if exchange == "sums":
            g.flat[...] = model.put(exact_sum(ranks, model.get(g_slices), [array.size for array in p.values()], n_slices))

    def by_weight(model, step, learning_rate):
        if exchange == "rows":
            model.weight_gradients(layers, a, d, g_layers, l2)
        optimizer.update(model.kernels, own_p, own_g, own_state, step, learning_rate)

    def exchange_weights():
        if shares is not None:
            ranks.complete(p.flat, shares)

    def line_by_line(rows, first, betas, rates):
        terms, batches = np.empty((len(rows), len(TERMS))), None if stored is None else stored[rows]
        for i in range(len(rows)):
            if batches is not None:
                held[...] = model.put(batches[i])
            numbers = model.put(rows[i])
            for part in slices:
                by_example(model, *part, numbers, first + i, real(betas[i]))
            between_halves()
            value = elbo.value_of(model, p, a, l2)
            terms[i] = [getattr(value, term) for term in TERMS]
            if not math.isfinite(value.total):
                return terms[: i + 1]
            by_weight(model, first + i, rates[i])
            exchange_weights()
        return terms

    def captured(capture):
        rows, beta, rate = model.zeros(batch_size, np.int64), model.zeros((), real), model.zeros((), np.float64)
        step_of_noise, step_of_update = model.zeros((), np.int64), model.zeros((), np.int64)

        def of_slice(own, cut, a, d, g_slice, kernels):
            by_example(bind(kernels), own, cut, a, d, g_slice, rows, step_of_noise, beta)

        if ranks.size > 1 or parts > 1:
            capture = functools.partial(_in_halves, capture, between_halves, exchange_weights)
        program = capture(
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


def parts_for_ranks(kernel_set: KernelSet, ranks: Ranks, n_samples: int, exchange: str = "rows") -> int:
    """Into how many parts ranks cut a batch; 1 where they exchange rows, and the set's own cuts change no bit."""
    return PARTS if exchange == "sums" or (ranks.together and not cuts_for_threads(kernel_set, n_samples)) else 1


def shares_of_weights(
    p: Parameters, kernel_set: KernelSet, ranks: Ranks, parts: int, batch_size: int, n_samples: int
) -> list[int] | None:
    """Where in p.flat the weights begin and end that each rank updates, so that all have about as many multiply-adds to make.

    None says that each rank updates all of them: there is one rank, or the bits of a row of weights depend on the rows beside it,
    or their gradients take less time than the exchange of the weights. The choice changes no bit.
    """
    if ranks.size == 1 or parts > 1 or not cuts_for_threads(kernel_set, 1):
        return None
    ends, work = [0], [0]
    for name, array in p.items():
        if array.ndim < 2:
            ends[-1] += array.size  # a bias belongs to the last rows of its layer
            continue
        factor = batch_size * (n_samples if name.startswith(("decoder", "output")) else 1)
        for start in range(0, len(array), ROWS_TOGETHER):
            size = array[start : start + ROWS_TOGETHER].size
            ends.append(ends[-1] + size)
            work.append(work[-1] + factor * size)
    if work[-1] < ENOUGH_TO_SHARE * p.flat.size:
        return None
    inner = np.searchsorted(work, [work[-1] * r // ranks.size for r in range(1, ranks.size)])
    return [0, *(ends[i] for i in inner), ends[-1]]


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


def _exchange_of_rows(model, ranks, a, d, cuts, exchange):
    """A function by which every rank gets what the second half of a step needs of the examples of the others."""
    if ranks.size == 1:
        return lambda: None
    arrays = []
    for of_rank in cuts:
        at, dt = batch_slice(a, of_rank[0], of_rank[-1]), batch_slice(d, of_rank[0], of_rank[-1])
        arrays.append([at.nll, at.kl, at.loss])
        if exchange == "rows":
            derivatives = *dt.encoder[1:], dt.mu, dt.logvar, *dt.decoder[1:], dt.output, dt.output_logvar
            arrays[-1] += [*at.encoder[1:], *at.decoder, *derivatives]
    return exchange_of_rows(ranks, arrays, model.get, model.put)


def _in_halves(capture, between_halves, exchange_weights, examples, weights, means, squares, before_examples, before_weights):
    """The `capture` of a kernel set, of two programs with an exchange after each."""
    first = capture(examples, None, means, (), before_examples, ())
    second = capture((), weights, means, squares, (), before_weights)

    def program(threads, values):
        results = np.empty((len(values[0]), len(means) + len(squares)))
        for i in range(len(results)):
            of_step = [value[i : i + 1] for value in values]
            first(threads, of_step[: len(before_examples)])
            between_halves()
            results[i] = second(threads, of_step[len(before_examples) :])
            if not math.isfinite(results[i, 0] + results[i, len(means) :].sum()):
                return results[: i + 1]
            exchange_weights()
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
