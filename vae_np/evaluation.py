"""The loss of a trained model on many rows, in chunks. The noise of a row does not depend on its position."""

import functools

import numpy as np
from numpy.typing import ArrayLike

from vae_np import blas, elbo, streams
from vae_np.architecture import check_count, check_number
from vae_np.buffers import buffers
from vae_np.kernels.contract import Backend
from vae_np.parameters import Parameters
from vae_np.runs import TERMS


@blas.limited()
def evaluate(
    p: Parameters,
    x: ArrayLike,
    objective: str = "elbo",
    n_samples: int = 1,
    beta: float = 1.0,
    l2: float = 0.0,
    binarize: bool = False,
    seed: int = 0,
    step: int = 0,
    examples: ArrayLike | None = None,
    use: str = "validate",
    backend: Backend = "auto",
) -> elbo.Value:
    """Evaluate the loss on all rows of x, with random eps. The rows are taken in chunks, so that memory does not grow with N.

    With the same seed, step and example number a row has the same noise, whatever the other rows are. Binarized pixels do not
    depend on the step. The errors are those of `vae_np.train`.

    Parameters
    ----------
    p : Parameters
        The model.
    x : array (N, D)
        The rows.
    objective, n_samples, beta, l2, binarize, seed, backend
        They are those of `vae_np.train`.
    step : int
        The number of the evaluation, for example of its epoch. Another number gives other noise.
    examples : array (N,) of int, optional
        The example numbers, by which the noise of the rows is drawn. By default they are the positions of the rows.
    use : str
        The random stream that eps is drawn from, which is one of `vae_np.streams.USES`.

    Returns
    -------
    Value
        The means over all rows, and the loss of each row, in nats.
    """
    arch = p.architecture
    x = arch.check_inputs(x)
    model = elbo.bind(arch, objective, backend)
    beta, l2, seed = p.flat.dtype.type(check_number("beta", beta)), check_number("l2", l2), streams.check_seed(seed)
    examples = np.arange(len(x)) if examples is None else np.asarray(examples).astype(np.int64)
    if examples.shape != (len(x),):
        raise ValueError(f"examples has shape {examples.shape}; wanted a number for each row, ({len(x)},)")
    size = max(1, min(len(x), elbo.CHUNK // check_count("n_samples", n_samples)))
    buffers_of = functools.cache(lambda n: buffers(arch, objective, n_samples, n, p.flat.dtype, model.zeros))
    p, values, weights = p.moved(model.put), [], []

    def forward(a, chunk, places, numbers, kernel_set):
        kernel_set.gather(chunk, places, a.x)
        if binarize:
            kernel_set.binarize(a.x, streams.key(seed, "binarize_validation"), 0, numbers, a.x)
        kernel_set.normals(streams.key(seed, use), step, numbers, a.eps)
        elbo.bind(arch, objective, kernel_set).forward(p.layers, a, beta)

    at_once = model.kernels.at_once or (lambda function: function(model.kernels))
    for rows in elbo.chunks(len(x), size):
        chunk, numbers = x[rows], examples[rows]
        a = buffers_of(len(chunk))
        at_once(functools.partial(forward, a, *map(model.put, (chunk, np.arange(len(chunk)), numbers))))
        value = elbo.value_of(model, p, a, l2)
        values.append(value._replace(per_example=value.per_example.copy()))
        weights.append(len(chunk))
    means = {term: float(np.average([getattr(value, term) for value in values], weights=weights)) for term in TERMS}
    return elbo.Value(**means, per_example=np.concatenate([value.per_example for value in values]))
