"""The surrogate of an estimator: a forward pass whose derivative is the estimate, where that is not the derivative of the loss.

An estimator gives each sample a factor of the derivative along the path through z, and a factor of the score of q. In the
surrogate these factors are numbers, which stay as they are when a value changes. The lines of `forward` compute it, with three
other operations.
"""

import types
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import special

from vae_np.buffers import Buffers
from vae_np.choices import OBJECTIVES
from vae_np.testing.oracles import SURROGATE_FACTORS, log_normal


class Surrogate(NamedTuple):
    """A kernel set that computes a surrogate, and what of it a derivative needs besides."""

    operations: types.ModuleType
    path_factor: NDArray  # (L, B, 1)  the factor of the derivative by z, divided by what the sample weighs in the loss
    size: float  # the sum of the sizes of its terms


def surrogate(operations: types.ModuleType, a: Buffers, beta: float, objective: str, estimator: str) -> Surrogate:
    """The surrogate of an estimator for the samples of one pass.

    In the names of `SURROGATE_FACTORS`, a sample weighs c in the loss, its path through z has the factor r, and the score of q
    the factor s. The surrogate of an example is the sum over its samples of

        c (nll(z) + beta (log q(z) - log p(z)))  +  s log q(z held; mu, logvar),

    of which one estimator has only one of the terms in log q. In the first, mu and logvar of log q are held. Each z is computed
    as z held + (r / c) (mu + exp(logvar / 2) eps - z held).

    Parameters
    ----------
    operations : module
        The kernel set with the other operations.
    a : Buffers
        The values of the pass, which `forward` has filled.
    beta, objective, estimator
        They are those of `vae_np.loss_and_gradients`.
    """
    log_w = -(a.nll + beta * a.kl)
    weighted = OBJECTIVES[objective].weighted
    c = special.softmax(log_w, axis=0) if weighted else np.full_like(log_w, 1 / len(log_w))
    r, s = SURROGATE_FACTORS[objective, estimator](log_w, c, beta)
    along_path = bool(np.any(r))
    factor = np.divide(r, c, out=np.zeros_like(c), where=c > 0)[:, :, None]
    weight_of_kl = beta * c if along_path else s
    z_held, mu_held, logvar_held = a.z.copy(), a.mu.copy(), a.logvar.copy()

    def reparameterize(mu, logvar, eps, out):
        out[...] = z_held + factor * (mu + np.exp(logvar / 2) * eps - z_held)
        return out

    def divergence(mu, logvar, eps, z, out):
        if along_path:
            out[...] = log_normal(z, mu_held, logvar_held) - log_normal(z, 0, np.zeros(()))
        else:
            out[...] = log_normal(z_held, mu, logvar)
        return out

    def bound(nll, kl, beta, out):
        np.sum(c * nll + weight_of_kl * kl, axis=0, out=out)
        return out

    changed = types.ModuleType("vae_np.kernels.surrogate")
    names = OBJECTIVES[objective].divergence, OBJECTIVES[objective].bound
    vars(changed).update({**vars(operations), "reparameterize": reparameterize, **dict(zip(names, (divergence, bound)))})
    of_kl = np.abs(weight_of_kl) * np.maximum(np.abs(a.kl), np.abs(log_normal(z_held, mu_held, logvar_held)))
    return Surrogate(changed, factor, float(np.mean(np.sum(c * np.abs(a.nll) + of_kl, axis=0))))
