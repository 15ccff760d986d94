"""How tight the bound is: log p(x) by importance sampling, the gap log p(x) - ELBO, and which latent units are active.

log p(x) = ELBO + KL(q(z|x) || p(z|x)). The expectation of w = p(x, z) / q(z|x) over z ~ q(z|x) is p(x). The expectation of
log (mean of L weights) is a lower bound on log p(x), which is the ELBO at L = 1 and rises towards log p(x) with L (Burda,
Grosse & Salakhutdinov 2016, arXiv 1509.00519, theorem 1).
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vae_np import blas, elbo, streams
from vae_np.architecture import check_count, check_number
from vae_np.buffers import buffers
from vae_np.elbo import CHUNK, chunks
from vae_np.kernels.contract import Backend
from vae_np.parameters import Parameters
from vae_np.ranks import ALONE, Ranks

BLOCK = 50  # the number of samples drawn at a time; 1, 5 and 50 divide it, so that every group of samples lies in one block
GROUPS = (1, 5, 50)  # the numbers of weights L of the bounds


class LogLikelihood(np.ndarray):
    """An estimate of log p(x) of each row in nats, (N,), and measures of its accuracy.

    Attributes
    ----------
    effective_sample_size : array (N,)
        (sum w)^2 / sum w^2 of the importance weights w.
    standard_error : array (N,)
        The standard error of the estimate, in nats.
    bounds : dict of int to array (N,)
        The bound for each L of 1, 5 and 50 that n_samples reaches: the mean over groups of L samples of log (mean w), in nats.
    """

    effective_sample_size: Any = None  # a slice has None, because the measures belong to the whole array
    standard_error: Any = None
    bounds: Any = None

    def __array_wrap__(self, array, context=None, return_scalar=False):
        # The result of a computation is no longer an estimate of log p(x), so it is a plain number or array.
        return array[()] if return_scalar else np.asarray(array)


@blas.limited()
def log_likelihood(
    p: Parameters,
    x: ArrayLike,
    n_samples: int = 5000,
    seed: int = 0,
    binarize: bool = False,
    backend: Backend = "auto",
    progress: Callable[[int, LogLikelihood], object] | None = None,
    ranks: Ranks = ALONE,
) -> LogLikelihood:
    """Estimate log p(x) of each row by importance sampling: log mean_l w_l, where w = p(x, z) / q(z|x) and z ~ q(z|x).

    On average the estimate is below log p(x), and the difference falls as the number of samples grows. The rows are taken in
    chunks and the samples in blocks, so that memory does not grow with their numbers.

    Parameters
    ----------
    p : Parameters
        The model.
    x : array (N, D)
        The rows.
    n_samples : int
        The number of importance weights per row.
    seed : int
        The seed of the noise.
    binarize : bool
        Whether each grey pixel is first drawn as black or white.
    backend : str or module
        The kernel set, as for `loss_and_gradients`.
    progress : function, optional
        progress(done, chunk) is called after each chunk with the number of rows done and the chunk's LogLikelihood.
    ranks : Ranks
        The processes that take a chunk each at a time. Each of them returns the same.

    Returns
    -------
    LogLikelihood
        The estimates in nats, an array (N,), with their effective sample sizes, standard errors and bounds.

    Raises
    ------
    ValueError, TypeError
        An argument cannot be used.
    RuntimeError
        The backend cannot run here.

    References
    ----------
    Burda, Grosse & Salakhutdinov 2016 (arXiv 1509.00519), theorem 1 and section 5.
    """
    x = p.architecture.check_inputs(x)
    n_samples, seed = check_count("n_samples", n_samples), streams.check_seed(seed)
    model = elbo.bind(p.architecture, "iwae", backend)
    p, done = p.moved(model.put), []
    places = list(chunks(len(x), 4 * CHUNK // BLOCK))
    for i in range(0, len(places), ranks.size):
        own = None
        for chunk in places[i + ranks.rank : i + ranks.rank + 1]:
            rows = np.arange(chunk.start, chunk.stop)
            sums = _Sums(len(rows))
            for log_w in _log_weights(p, model, x, rows, n_samples, seed, binarize):
                sums.add(log_w)
            own = sums.result()
        for chunk, part in zip(places[i:], _of_all(ranks, own, [L for L in GROUPS if n_samples >= L])):
            done.append(part)
            if progress:
                progress(chunk.stop, part)
    return join(done)


def elbo_gap(
    p: Parameters,
    x: ArrayLike,
    n_samples: int = 5000,
    seed: int = 0,
    binarize: bool = False,
    backend: Backend = "auto",
) -> NDArray:
    """Estimate the gap log p(x) - ELBO = KL(q(z|x) || p(z|x)) of each row of x.

    The arguments and the errors are those of `log_likelihood`.

    Returns
    -------
    array (N,)
        The gap of each row in nats.
    """
    ll = log_likelihood(p, x, n_samples, seed, binarize, backend)
    return ll - ll.bounds[1]


def active_units(p: Parameters, x: ArrayLike, threshold: float = 0.01, backend: Backend = "auto") -> NDArray[np.bool_]:
    """Find the latent units that are active: the mean of q(z|x) varies over the rows of x.

    Parameters
    ----------
    p : Parameters
        The model.
    x : array (N, D)
        The rows.
    threshold : float
        A unit is active if the variance of its mean over the rows is above this number.
    backend : str or module
        The kernel set, as for `loss_and_gradients`.

    Returns
    -------
    array (Z,) of bool
        Whether each unit is active.

    References
    ----------
    Burda, Grosse & Salakhutdinov 2016 (arXiv 1509.00519), section 5.
    """
    return elbo.encode(p, x, backend)[0].var(axis=0, dtype=np.float64) > check_number("threshold", threshold)


def join(parts: Sequence[LogLikelihood]) -> LogLikelihood:
    """Join the LogLikelihoods of chunks of rows into the LogLikelihood of all rows."""
    joined = np.concatenate(parts).view(LogLikelihood)
    joined.effective_sample_size = np.concatenate([part.effective_sample_size for part in parts])
    joined.standard_error = np.concatenate([part.standard_error for part in parts])
    joined.bounds = {L: np.concatenate([part.bounds[L] for part in parts]) for L in parts[0].bounds}
    return joined


def _of_all(ranks, own, groups):
    """The LogLikelihood of each rank, in their order; of those that have one."""
    measures = () if own is None else (own, own.effective_sample_size, own.standard_error, *own.bounds.values())
    parts = []
    for content in filter(None, ranks.gather(np.array(measures, np.float64).tobytes())):
        ll, sizes, errors, *bounds = np.frombuffer(content).reshape(3 + len(groups), -1)
        part = ll.view(LogLikelihood)
        part.effective_sample_size, part.standard_error, part.bounds = sizes, errors, dict(zip(groups, bounds))
        parts.append(part)
    return parts


def _log_weights(p, model, x, rows, n_samples, seed, binarize) -> Iterator[NDArray]:
    """Yield blocks of log w = log p(x|z) + log p(z) - log q(z|x). A block is (at most BLOCK, B), and all have n_samples rows."""
    a = buffers(p.architecture, "iwae", BLOCK, len(rows), p.flat.dtype, model.zeros)
    numbers = model.put(rows)
    model.kernels.gather(model.put(x[rows]), model.put(np.arange(len(rows))), a.x)
    if binarize:
        model.kernels.binarize(a.x, streams.key(seed, "binarize_validation"), 0, numbers, a.x)
    for block in range(-(-n_samples // BLOCK)):
        model.kernels.normals(streams.key(seed, "importance"), block, numbers, a.eps)
        model.forward(p.layers, a, p.flat.dtype.type(1))
        yield -(model.get(a.nll).astype(np.float64) + model.get(a.kl))[: n_samples - block * BLOCK]


class _Sums:
    """Running sums for B rows: of w, of w^2 and of the log of each group's mean. w is divided by the largest w so far."""

    def __init__(self, B):
        self.n, self.top, self.w, self.w2 = 0, np.full(B, -np.inf), np.zeros(B), np.zeros(B)
        self.groups = {L: [np.zeros(B), 0] for L in GROUPS}

    def add(self, log_w):
        top = np.maximum(self.top, log_w.max(axis=0))
        shrink, w = np.exp(self.top - top), np.exp(log_w - top)
        self.w, self.w2 = self.w * shrink + w.sum(axis=0), self.w2 * shrink**2 + (w * w).sum(axis=0)
        self.top, self.n = top, self.n + len(log_w)
        for L, group in self.groups.items():
            whole = log_w[: len(log_w) // L * L].reshape(-1, L, log_w.shape[1])
            peak = whole.max(axis=1, initial=-np.inf)
            group[0] += (peak + np.log(np.exp(whole - peak[:, None]).mean(axis=1))).sum(axis=0)
            group[1] += len(whole)

    def result(self):
        ll = (self.top + np.log(self.w / self.n)).view(LogLikelihood)
        ll.effective_sample_size = self.w**2 / self.w2
        # To first order the log of a mean has the mean's relative variance: (mean w^2 / (mean w)^2 - 1) / n.
        ll.standard_error = np.sqrt(np.maximum(1 / ll.effective_sample_size - 1 / self.n, 0))
        ll.bounds = {L: total / count for L, (total, count) in self.groups.items() if count}
        return ll
