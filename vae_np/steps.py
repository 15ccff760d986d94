"""Training steps: the batch, its noise, the text of the model and the update.

Any kernel set makes a step line by line. One that can `capture` is given the same lines once, and from then on makes whole
steps by itself, on threads of its own.
"""

import functools
import itertools
import math
import os

import numpy as np

from vae_np import blas, elbo, noise
from vae_np.parameters import Parameters
from vae_np.runs import TERMS

ENOUGH_FOR_THREADS = 2**22  # weights times rows of a batch: some 25 million multiply-adds


def stepper(
    p,
    state,
    optimizer,
    data,
    batch_size,
    objective="elbo",
    n_samples=1,
    l2=0.0,
    binarize=False,
    seed=0,
    backend="auto",
    threads=None,
):
    """A function that makes whole training steps on batches of one size: run(rows, first, beta, learning_rate) -> terms.

    rows (n, batch_size): the numbers in data (N, D) of n batches. first: the number of the first step, counted from 1 over
    the whole training. beta, learning_rate: a number, or one for each step (n,). p and the optimizer's arrays in `state`
    are changed in place; they live where the backend's arrays do (`elbo.Bound.put`). terms (n, 4): total, reconstruction,
    kl and l2 of each batch before its update, in nats. Where a total is not finite, that step is the last
    of the terms, though a backend may have gone on. threads: as in `vae_np.train`.
    """
    arch, real = p.architecture, p.flat.dtype.type
    text = elbo.bind(arch, objective, backend)
    a, d = (elbo.nodes(arch, objective, n_samples, batch_size, real, text.zeros) for _ in range(2))
    g, l2, data = Parameters(arch, text.zeros(p.flat.shape, real)), real(l2), text.put(data)
    layers, g_layers = p.layers, g.layers
    of_training, of_pixels = noise.key(seed, "train"), noise.key(seed, "binarize")

    def by_example(text, a, d, rows, step, beta):
        text.kernels.gather(data, rows, a.x)
        if binarize:
            text.kernels.binarize(a.x, of_pixels, step, rows, a.x)
        text.kernels.normals(of_training, step, rows, a.eps)
        text.forward(layers, a, beta)
        text.backward(layers, a, d, beta, batch_size)

    def by_weight(text, step, learning_rate):
        text.weight_gradients(layers, a, d, g_layers, l2)
        optimizer.update(text.kernels, p.flat, g.flat, state, step, learning_rate)

    def line_by_line(rows, first, betas, rates):
        terms = np.empty((len(rows), len(TERMS)))
        for i in range(len(rows)):
            by_example(text, a, d, text.put(rows[i]), first + i, real(betas[i]))
            value = elbo.value_of(text, p, a, l2)
            terms[i] = [getattr(value, term) for term in TERMS]
            if not math.isfinite(value.total):
                return terms[: i + 1]
            by_weight(text, first + i, rates[i])
        return terms

    def captured():
        rows, beta, rate = text.zeros(batch_size, np.int64), text.zeros((), real), text.zeros((), np.float64)
        step_of_noise, step_of_update = text.zeros((), np.int64), text.zeros((), np.int64)
        n_threads = threads or _threads_for(p.flat.size * batch_size * n_samples)
        edges = text.kernels.edges(batch_size, n_samples, n_threads)

        def of_part(start, stop, kernels):
            text = elbo.bind(arch, objective, kernels)
            by_example(text, elbo.part(a, start, stop), elbo.part(d, start, stop), rows[start:stop], step_of_noise, beta)

        program = text.kernels.capture(
            examples=[functools.partial(of_part, *edge) for edge in itertools.pairwise(edges)],
            weights=lambda kernels: by_weight(elbo.bind(arch, objective, kernels), step_of_update, rate),
            means=(a.loss, a.nll, a.kl),
            squares=[W for name, W in p.items() if name.endswith(".W")] if l2 else [],
            before_examples=(rows, step_of_noise, beta),
            before_weights=(step_of_update, rate),
        )

        def run(rows, first, betas, rates):
            numbers = np.arange(first, first + len(rows))
            bound, nll, kl, *squares = program(n_threads, (rows, numbers, betas, numbers, rates)).T
            penalty = np.zeros_like(bound) + float(l2) / 2 * sum(squares)
            return np.stack([bound + penalty, nll, kl, penalty], axis=1)

        return run

    make_steps = captured() if hasattr(text.kernels, "capture") else line_by_line

    def run(rows, first, beta, learning_rate):
        with blas.limited(blas_threads(text.kernels, threads)):
            return make_steps(rows, first, np.broadcast_to(beta, len(rows)), np.broadcast_to(learning_rate, len(rows)))

    return run


def blas_threads(kernel_set, threads):
    """How many of the threads are the BLAS's: none but one where a kernel set has threads of its own."""
    return 1 if hasattr(kernel_set, "capture") else threads or 1


def _threads_for(work):
    """All cores that this process may use, or one for a step of so few products that waiting for each other costs more."""
    return usable_cores() if work > ENOUGH_FOR_THREADS else 1


def usable_cores():
    """How many cores this process may use: by its affinity, its container's quota, and what the user asks of all libraries."""
    import joblib

    said = [os.environ.get(name, "").partition(",")[0] for name in ("NUMBA_NUM_THREADS", "OMP_NUM_THREADS")]
    return min(joblib.cpu_count(), *(int(number) for number in said if number.isdigit() and int(number)), math.inf)
