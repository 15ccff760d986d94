"""Training steps: the batch, its noise, the text of the model and the update."""

import math

import numpy as np

from vae_np import blas, elbo, noise
from vae_np.parameters import Parameters
from vae_np.runs import TERMS


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
    threads=1,
):
    """A function that makes whole training steps on batches of one size: run(rows, first, beta, learning_rate) -> terms.

    rows (n, batch_size): the numbers in data (N, D) of n batches. first: the number of the first step, counted from 1 over
    the whole training. beta, learning_rate: a number, or one for each step (n,). p and the optimizer's arrays in `state`
    are changed in place. terms (n, 4): total, reconstruction, kl and l2 of each batch before its update, in nats. Where a
    total is not finite, that step is the last.
    """
    arch, real = p.architecture, p.flat.dtype.type
    text = elbo.bind(arch, objective, backend)
    a, d = (elbo.nodes(arch, objective, n_samples, batch_size, real) for _ in range(2))
    g, l2 = Parameters.zeros(arch, real), real(l2)
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

    def run(rows, first, beta, learning_rate):
        n = len(rows)
        betas, rates = np.broadcast_to(beta, n), np.broadcast_to(learning_rate, n)
        terms = np.empty((n, len(TERMS)))
        with blas.limited(threads):
            for i in range(n):
                by_example(text, a, d, rows[i], first + i, real(betas[i]))
                value = elbo.value_of(p, a, l2)
                terms[i] = [getattr(value, term) for term in TERMS]
                if not math.isfinite(value.total):
                    return terms[: i + 1]
                by_weight(text, first + i, rates[i])
        return terms

    return run
