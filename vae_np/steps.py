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
from vae_np.runs import TERMS

ENOUGH_FOR_THREADS = 2**22  # the weights times the rows of a batch, about 25 million multiply-adds


def stepper(
    p: Parameters,
    state: dict[str, NDArray],
    optimizer: Optimizer,
    data: NDArray,
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
    data : array (N, D)
        The rows of the training data.
    batch_size : int
        The number of rows in a batch.
    objective, n_samples, l2, binarize, seed, backend, threads, precision, estimator
        They are those of `vae_np.train`.

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
    g, l2, data = Parameters(arch, model.zeros(p.flat.shape, real)), real(l2), model.put(data)
    layers, g_layers = p.layers, g.layers
    train_key, binarize_key = streams.key(seed, "train"), streams.key(seed, "binarize")

    def by_example(model, a, d, rows, step, beta):
        model.kernels.gather(data, rows, a.x)
        if binarize:
            model.kernels.binarize(a.x, binarize_key, step, rows, a.x)
        model.kernels.normals(train_key, step, rows, a.eps)
        model.forward(layers, a, beta)
        model.backward(layers, a, d, beta, batch_size)

    def by_weight(model, step, learning_rate):
        model.weight_gradients(layers, a, d, g_layers, l2)
        optimizer.update(model.kernels, p.flat, g.flat, state, step, learning_rate)

    def line_by_line(rows, first, betas, rates):
        terms = np.empty((len(rows), len(TERMS)))
        for i in range(len(rows)):
            by_example(model, a, d, model.put(rows[i]), first + i, real(betas[i]))
            value = elbo.value_of(model, p, a, l2)
            terms[i] = [getattr(value, term) for term in TERMS]
            if not math.isfinite(value.total):
                return terms[: i + 1]
            by_weight(model, first + i, rates[i])
        return terms

    def captured(capture, edges):
        rows, beta, rate = model.zeros(batch_size, np.int64), model.zeros((), real), model.zeros((), np.float64)
        step_of_noise, step_of_update = model.zeros((), np.int64), model.zeros((), np.int64)
        n_threads = threads or _threads_for(p.flat.size * batch_size * n_samples)

        def of_slice(start, stop, kernels):
            model = bind(kernels)
            a_slice, d_slice = batch_slice(a, start, stop), batch_slice(d, start, stop)
            by_example(model, a_slice, d_slice, rows[start:stop], step_of_noise, beta)

        program = capture(
            examples=[
                functools.partial(of_slice, *edge) for edge in itertools.pairwise(edges(batch_size, n_samples, n_threads))
            ],
            weights=lambda kernels: by_weight(bind(kernels), step_of_update, rate),
            means=(a.loss, a.nll, a.kl),
            squares=[*p.weights.values()] if l2 else [],
            before_examples=(rows, step_of_noise, beta),
            before_weights=(step_of_update, rate),
        )

        def run(rows, first, betas, rates):
            numbers = np.arange(first, first + len(rows))
            bound, nll, kl, *squares = program(n_threads, (rows, numbers, betas, numbers, rates)).T
            penalty = np.zeros_like(bound) + float(l2) / 2 * sum(squares)
            return np.stack([bound + penalty, nll, kl, penalty], axis=1)

        return run

    kernel_set = model.kernels
    make_steps = captured(kernel_set.capture, kernel_set.edges) if kernel_set.capture else line_by_line

    def run(rows, first, beta, learning_rate):
        with blas.limited(blas_threads(kernel_set, threads)):
            return make_steps(rows, first, np.broadcast_to(beta, len(rows)), np.broadcast_to(learning_rate, len(rows)))

    return run


def blas_threads(kernel_set: KernelSet, threads: int | None) -> int:
    """The number of threads for the BLAS. It is 1 if the kernel set has its own threads."""
    return 1 if kernel_set.capture else threads or 1


def _threads_for(work):
    """The number of threads for a step: all usable cores, or one if threads would cost more time than they save."""
    return usable_cores() if work > ENOUGH_FOR_THREADS else 1


def usable_cores() -> int:
    """The number of cores for this process. Its affinity, its container and the user's environment variables limit it."""
    import joblib

    limits = [os.environ.get(name, "").partition(",")[0] for name in ("NUMBA_NUM_THREADS", "OMP_NUM_THREADS")]
    return min([joblib.cpu_count(), *(int(limit) for limit in limits if limit.isdigit() and int(limit))])
