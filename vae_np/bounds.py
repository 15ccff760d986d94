"""How tight the bound is: log p(x) by importance sampling, the gap log p(x) - ELBO, and which latents are in use.

log p(x) = ELBO + KL(q(z|x) || p(z|x)). Over z ~ q(z|x) the mean of w = p(x, z) / q(z|x) is p(x) itself, and the mean of
log (mean of L weights) is a bound that rises with L, from the ELBO at L = 1 towards log p(x): Burda, Grosse &
Salakhutdinov 2016 (arXiv 1509.00519), theorem 1.
"""

import numpy as np

from vae_np import blas, elbo, noise
from vae_np.architecture import check_count, check_number
from vae_np.elbo import CHUNK, chunks

BLOCK = 50  # samples drawn at a time; 1, 5 and 50 divide it, so that every group of samples stands in one block
GROUPS = (1, 5, 50)


class LogLikelihood(np.ndarray):
    """log p(x) of each row in nats, (N,), and how far to trust it.

    effective_sample_size (N,): (sum w)^2 / sum w^2. standard_error (N,): of the estimate, in nats. bounds {L: (N,)}: the
    mean over groups of L samples of log (mean w), for those L of 1, 5, 50 that n_samples reaches.
    """

    effective_sample_size = standard_error = bounds = None

    def __array_wrap__(self, array, context=None, return_scalar=False):
        # What is computed from it is an estimate of something else, so a plain number or array.
        return array[()] if return_scalar else np.asarray(array)


@blas.limited()
def log_likelihood(p, x, n_samples=5000, seed=0, binarize=False, backend="auto", progress=None):
    """log p(x) = log mean_l w_l of each row of x (N, D), w = p(x, z) / q(z|x), z ~ q(z|x): a LogLikelihood.

    In chunks of rows and blocks of samples, so that memory grows with neither. On average the estimate lies below
    log p(x), the less the more samples. progress(done, part) is called after each chunk with the number of rows done and
    their LogLikelihood. Errors as `loss_and_gradients`.
    """
    x = p.architecture.check_inputs(x)
    n_samples, seed = check_count("n_samples", n_samples), noise.check_seed(seed)
    text = elbo.bind(p.architecture, "iwae", backend)
    p, parts = p.moved(text.put), []
    for part in chunks(len(x), 4 * CHUNK // BLOCK):
        rows = np.arange(part.start, part.stop)
        sums = _Sums(len(rows))
        for log_w in _log_weights(p, text, x, rows, n_samples, seed, binarize):
            sums.add(log_w)
        parts.append(sums.result())
        if progress:
            progress(part.stop, parts[-1])
    return join(parts)


def elbo_gap(p, x, n_samples=5000, seed=0, binarize=False, backend="auto"):
    """log p(x) - ELBO = KL(q(z|x) || p(z|x)) of each row of x (N, D) in nats, estimated with n_samples weights: (N,)"""
    ll = log_likelihood(p, x, n_samples, seed, binarize, backend)
    return ll - ll.bounds[1]


def active_units(p, x, threshold=0.01, backend="auto"):
    """Which latents are in use: those whose posterior mean has a variance over the rows of x above threshold, (Z,) bool

    Burda et al. 2016, section 5.
    """
    return elbo.encode(p, x, backend)[0].var(axis=0, dtype=np.float64) > check_number("threshold", threshold)


def join(parts):
    """The LogLikelihood of all rows, from those of its parts."""
    joined = np.concatenate(parts).view(LogLikelihood)
    joined.effective_sample_size = np.concatenate([part.effective_sample_size for part in parts])
    joined.standard_error = np.concatenate([part.standard_error for part in parts])
    joined.bounds = {L: np.concatenate([part.bounds[L] for part in parts]) for L in parts[0].bounds}
    return joined


def _log_weights(p, text, x, rows, n_samples, seed, binarize):
    """Blocks of log w = log p(x|z) + log p(z) - log q(z|x): (up to BLOCK, B) each, n_samples in all."""
    a = elbo.nodes(p.architecture, "iwae", BLOCK, len(rows), p.flat.dtype, text.zeros)
    counted = text.put(rows)
    text.kernels.gather(text.put(x[rows]), text.put(np.arange(len(rows))), a.x)
    if binarize:
        text.kernels.binarize(a.x, noise.key(seed, "binarize_validation"), 0, counted, a.x)
    for block in range(-(-n_samples // BLOCK)):
        text.kernels.normals(noise.key(seed, "importance"), block, counted, a.eps)
        text.forward(p.layers, a, p.flat.dtype.type(1))
        yield -(text.get(a.nll).astype(np.float64) + text.get(a.kl))[: n_samples - block * BLOCK]


class _Sums:
    """Running sums of w and w^2 over a largest w so far, and of the logs of the groups' means; B rows at once."""

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
