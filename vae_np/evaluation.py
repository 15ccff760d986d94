"""The loss of a trained model on many rows, in chunks. The noise of a row does not depend on its position."""

import functools

import numpy as np
from numpy.typing import ArrayLike

from vae_np import blas, elbo, streams
from vae_np.architecture import check_count, check_number
from vae_np.buffers import buffers
from vae_np.kernels.contract import Backend
from vae_np.parameters import Parameters
from vae_np.ranks import ALONE, Ranks
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
    ranks: Ranks = ALONE,
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
    ranks : Ranks
        The processes among which the chunks are dealt. Each of them returns the same.

    Returns
    -------
    Value
        The means over all rows, and the loss of each row, in nats.
    """
    arch = p.architecture
    x = arch.check_inputs(x)
    model = elbo.bind(arch, objective, backend)
    beta, l2, seed = p.flat.dtype.type(check_number("beta", beta)), check_number("l2", l2), streams.check_seed(seed)
    examples = None if examples is None else np.asarray(examples).astype(np.int64)
    if examples is not None and examples.shape != (len(x),):
        raise ValueError(f"examples has shape {examples.shape}; wanted a number for each row, ({len(x)},)")
    size = max(1, min(len(x), elbo.CHUNK // check_count("n_samples", n_samples)))
    buffers_of = functools.cache(lambda n: buffers(arch, objective, n_samples, n, p.flat.dtype, model.zeros))
    p, places = p.moved(model.put), list(elbo.chunks(len(x), size))
    losses, terms = np.empty(len(x), p.flat.dtype), np.empty((len(places), len(TERMS)))

    def forward(a, chunk, places, numbers, kernel_set):
        kernel_set.gather(chunk, places, a.x)
        if binarize:
            kernel_set.binarize(a.x, streams.key(seed, "binarize_validation"), 0, numbers, a.x)
        kernel_set.normals(streams.key(seed, use), step, numbers, a.eps)
        elbo.bind(arch, objective, kernel_set).forward(p.layers, a, beta)

    at_once = model.kernels.at_once or (lambda function: function(model.kernels))
    for i in ranks.share(len(places)):
        chunk = x[places[i]]
        numbers = np.arange(places[i].start, places[i].stop) if examples is None else examples[places[i]]
        a = buffers_of(len(chunk))
        at_once(functools.partial(forward, a, *map(model.put, (chunk, np.arange(len(chunk)), numbers))))
        value = elbo.value_of(model, p, a, l2)
        losses[places[i]], terms[i] = value.per_example, [getattr(value, term) for term in TERMS]
    of_ranks = ranks.bounds(len(places))
    ranks.complete(terms, of_ranks)
    ranks.complete(losses, [min(i * size, len(x)) for i in of_ranks])
    means = np.average(terms, axis=0, weights=[place.stop - place.start for place in places])
    return elbo.Value(*means.tolist(), per_example=losses)
