"""Two more programs of the loss, written from its definitions. They share no code with the model or with each other.

`reference_elbo` runs scalar loops over densities as a textbook writes them. It is slow, and it takes any kind of number.
`complex_elbo` computes with arrays, for complex steps through every parameter. Neither knows a derivative. Each has a table of
the activations and one of the likelihoods, by the names of `vae_np.choices`.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from vae_np.architecture import Architecture, check_choice
from vae_np.choices import NOISES, OBJECTIVES

# -------------------------------------------------------------------------------------------------------- scalar loops
# m is a module of functions, math or mpmath.


def _log_normal(m, value, mean, variance):
    return -(m.log(2 * m.pi * variance) + (value - mean) ** 2 / variance) / 2


SCALAR_ACTIVATIONS: dict[str, Callable[[Any, Any], Any]] = {  # {name: the function h(m, y)}
    "relu": lambda m, y: y if y > 0 else 0 * y,
    "tanh": lambda m, y: m.tanh(y),
    "softplus": lambda m, y: m.log1p(m.exp(y)),
    "silu": lambda m, y: y / (1 + m.exp(-y)),
    "gelu": lambda m, y: y * m.erfc(-y / m.sqrt(2)) / 2,
}
SCALAR_LIKELIHOODS: dict[str, Callable[..., Any]] = {  # {name: log p(x|z) of one input, a function of (m, x, output, variance)}
    "bernoulli": lambda m, x, logit, _: -x * m.log1p(m.exp(-logit)) - (1 - x) * m.log1p(m.exp(logit)),
    "gaussian": lambda m, x, mean, variance: _log_normal(m, x, mean, variance),
    "continuous_bernoulli": lambda m, x, logit, _: (x - 0.5) * logit - (m.log(m.sinh(logit / 2) / (logit / 2)) if logit else 0),
}


def reference_elbo(
    architecture: Architecture,
    p: Mapping[str, NDArray],
    x: ArrayLike,
    eps: ArrayLike,
    beta: float = 1.0,
    l2: float = 0.0,
    objective: str = "elbo",
    functions: Any = math,
    number: Callable[[float], Any] = float,
) -> tuple[Any, Any, Any, Any, list[Any]]:
    """The terms of `loss` in nats, by scalar loops.

    Parameters
    ----------
    architecture : Architecture
        The architecture of the model.
    p : mapping of str to array
        The parameters by their names.
    x : array (B, D)
        The batch.
    eps : array (L, B, Z)
        The noise of the latents.
    beta, l2 : float
        The weight of the KL, and that of half the sum of the squared weights.
    objective : {"elbo", "elbo_mc", "iwae"}
        The bound.
    functions : module
        The functions that it computes with: math, whose exp overflows beyond 709, or mpmath, whose exp never does.
    number : function
        The type of its numbers: float, or mpmath.mpf.

    Returns
    -------
    total, reconstruction, kl, l2 : number
        The loss and its terms.
    per_example : list of number
        The loss of each example.

    References
    ----------
    Kingma & Welling 2014, eq. 2, 3 and 10 and appendix B; Burda et al. 2016, eq. 8.
    """
    _check(architecture, p, x, eps, objective)
    m, bound, noise = functions, OBJECTIVES[objective], NOISES[architecture.noise]
    exp, log = m.exp, m.log
    activation = SCALAR_ACTIVATIONS[architecture.activation]
    log_likelihood_of_input = SCALAR_LIKELIHOODS[architecture.likelihood]
    p = {name: np.vectorize(lambda value: number(float(value)), otypes=[object])(array) for name, array in p.items()}

    def layer(name, inputs):
        W, b = p[f"{name}.W"], p[f"{name}.b"]
        return [b[o] + sum(inputs[i] * W[i, o] for i in range(len(inputs))) for o in range(len(b))]

    def encode(x):
        h = x
        for i in range(len(architecture.hidden)):
            h = [activation(m, y) for y in layer(f"encoder.{i}", h)]
        return layer("mu", h), [exp(y) for y in layer("logvar", h)]

    def log_likelihood(x, z):
        h = z
        for i in range(len(architecture.hidden)):
            h = [activation(m, y) for y in layer(f"decoder.{i}", h)]
        output = layer("output", h)
        if noise.per_input:
            variances = [exp(y) for y in layer(noise.parameter, h)]
        elif noise.parameter:
            variances = [exp(p[noise.parameter][0])] * len(x)
        else:
            variances = [number(architecture.noise_std) ** 2] * len(x)
        return sum(log_likelihood_of_input(m, *of_input) for of_input in zip(x, output, variances))

    x, eps = np.asarray(x), np.asarray(eps)
    L, B, Z = eps.shape
    per_example, nlls, kls = [], [], []
    for b in range(B):
        x_b = [number(float(value)) for value in x[b]]
        mean, variance = encode(x_b)
        closed = sum(variance[j] + mean[j] ** 2 - 1 - log(variance[j]) for j in range(Z)) / 2
        log_w, nll_b, kl_b = [], [], []
        for l in range(L):
            z = [mean[j] + variance[j] ** number(0.5) * number(float(eps[l][b][j])) for j in range(Z)]
            log_ratio = sum(
                _log_normal(m, z[j], mean[j], variance[j]) - _log_normal(m, z[j], number(0), number(1)) for j in range(Z)
            )
            nll_b.append(-log_likelihood(x_b, z))
            kl_b.append(log_ratio if bound.sampled else closed)
            log_w.append(-nll_b[-1] - number(beta) * kl_b[-1])
        if bound.weighted:
            top = max(log_w)
            w = [exp(one - top) for one in log_w if one - top > -1e6]  # a smaller one vanishes beside the largest, 1
            per_example.append(-(top + log(sum(w) / L)))
        else:
            per_example.append(-sum(log_w) / L)
        nlls += nll_b
        kls += kl_b
    weights = [value for name in p if name.endswith(".W") for value in p[name].flat]
    penalty = number(l2) / 2 * sum(value**2 for value in weights)
    return sum(per_example) / B + penalty, sum(nlls) / (L * B), sum(kls) / (L * B), penalty, per_example


# -------------------------------------------------------------------------------------------------- arrays, of complex numbers


def _positive(y):
    return np.where(y.real > 0, y, 0)


def _softplus(y):
    return _positive(y) + np.log1p(np.exp(np.where(y.real > 0, -y, y)))


def _log_of_integral(y):
    """log((exp(y) - 1) / y), the logarithm of the integral of exp(y x) over x from 0 to 1."""
    near = y / 2 + y**2 / 24 - y**4 / 2880 + y**6 / 181440  # this Taylor series is exact to the last digit
    size = np.where(abs(y) < 0.05, 1, np.where(y.real > 0, y, -y))
    return np.where(abs(y) < 0.05, near, _positive(y) + np.log(-np.expm1(-size)) - np.log(size))


COMPLEX_ACTIVATIONS: dict[str, Callable[[NDArray], NDArray]] = {
    "relu": _positive,
    "tanh": np.tanh,
    "softplus": _softplus,
    "silu": lambda y: y * np.exp(-_softplus(-y)),  # the logarithm of the sigmoid never overflows
    "gelu": lambda y: y * special.erfc(-y / np.sqrt(2)) / 2,
}
COMPLEX_LIKELIHOODS: dict[str, Callable[..., NDArray]] = {  # log p(x|z) of each input, from (x, output, logvar)
    # This is -1 times the cross entropy softplus(l) - x l.
    "bernoulli": lambda x, logits, _: x * logits - _softplus(logits),
    "continuous_bernoulli": lambda x, logits, _: x * logits - _log_of_integral(logits),
    "gaussian": lambda x, mean, logvar: -0.5 * (np.log(2 * np.pi) + logvar + (x - mean) ** 2 / np.exp(logvar)),
}


def complex_elbo(
    architecture: Architecture,
    p: Mapping[str, NDArray],
    x: ArrayLike,
    eps: ArrayLike,
    beta: float = 1.0,
    l2: float = 0.0,
    objective: str = "elbo",
) -> Any:
    """The total of `loss`, as an analytic function of real or complex parameters.

    Comparisons look only at real parts. Nothing is conjugated, and no absolute value changes the result.

    Parameters
    ----------
    architecture : Architecture
        The architecture of the model.
    p : mapping of str to array
        The parameters by their names, real or complex.
    x : array (B, D)
        The batch.
    eps : array (L, B, Z)
        The noise of the latents.
    beta, l2 : float
        The weight of the KL, and that of half the sum of the squared weights.
    objective : {"elbo", "elbo_mc", "iwae"}
        The bound.

    Returns
    -------
    float or complex
        The loss in nats.
    """
    _check(architecture, p, x, eps, objective)
    x, eps = np.asarray(x, np.float64), np.asarray(eps, np.float64)
    mu, logvar = _encoded(architecture, p, x)
    z = mu + np.exp(logvar / 2) * eps
    if OBJECTIVES[objective].sampled:
        kl = 0.5 * np.sum(z**2 - eps**2 - logvar, axis=-1)
    else:
        kl = -0.5 * np.sum(1 + logvar - mu**2 - np.exp(logvar), axis=-1)
    log_w = _log_likelihood(architecture, p, x, z) - beta * kl
    if OBJECTIVES[objective].weighted:
        top = log_w.real.max(axis=0)
        bound = top + np.log(np.mean(np.exp(log_w - top), axis=0))
    else:
        bound = np.mean(log_w, axis=0)
    return -np.mean(bound) + _penalty(p, l2)


def complex_surrogate(
    architecture: Architecture,
    at: Mapping[str, NDArray],
    p: Mapping[str, NDArray],
    x: ArrayLike,
    eps: ArrayLike,
    beta: float = 1.0,
    l2: float = 0.0,
    objective: str = "iwae",
    estimator: str = "total",
) -> Any:
    """A function of p whose derivative at p = at is the estimate of an estimator, as an analytic function of p.

    An estimator sums three derivatives over the samples l of an example, with factors c_l, r_l and s_l that are numbers:

        c_l d nll / d decoder  +  r_l d (nll + beta (log q - log p(z))) / dz  dz / d encoder  +  s_l d log q(z|x) / d encoder

    Along the path through z the parameters of log q are those of `at`. In the score, the derivative of log q, z is that of `at`.
    The factors of the estimators are in SURROGATE_FACTORS.

    Parameters
    ----------
    architecture : Architecture
        The architecture of the model.
    at : mapping of str to array
        The real parameters at which the gradient is estimated.
    p : mapping of str to array
        The parameters, real or complex.
    x : array (B, D)
        The batch.
    eps : array (L, B, Z)
        The noise of the latents.
    beta, l2 : float
        The weight of the KL, and that of half the sum of the squared weights.
    objective : {"elbo_mc", "iwae"}
        The bound.
    estimator : {"total", "path", "dreg", "score", "vimco"}
        The estimator, one of those of the objective.

    Returns
    -------
    float or complex
        The surrogate. Its value means nothing.

    References
    ----------
    Schulman, Heess, Weber & Abbeel 2015 (arXiv 1506.05254), for surrogates.
    """
    _check(architecture, p, x, eps, objective)
    check_choice("estimator", estimator, [estimator for of, estimator in SURROGATE_FACTORS if of == objective])
    x, eps = np.asarray(x, np.float64), np.asarray(eps, np.float64)
    mean, logvar = _encoded(architecture, at, x)
    z = mean + np.exp(logvar / 2) * eps
    mean_p, logvar_p = _encoded(architecture, p, x)
    z_p = mean_p + np.exp(logvar_p / 2) * eps
    log_w = _log_likelihood(architecture, at, x, z) + beta * (log_normal(z, 0, np.zeros(())) - log_normal(z, mean, logvar))
    share = special.softmax(log_w, axis=0) if OBJECTIVES[objective].weighted else np.full(log_w.shape, 1 / len(log_w))
    r, s = SURROGATE_FACTORS[objective, estimator](log_w, share, beta)
    of_decoder = -_log_likelihood(architecture, p, x, z)
    cost = -_log_likelihood(architecture, at, x, z_p)
    cost = cost + beta * (log_normal(z_p, mean, logvar) - log_normal(z_p, 0, np.zeros(())))
    total = share * of_decoder + r * cost + s * log_normal(z, mean_p, logvar_p)
    return np.mean(np.sum(total, axis=0)) + _penalty(p, l2)


def log_normal(z: NDArray, mean: NDArray | float, logvar: NDArray) -> NDArray:
    """log N(z; mean, exp(logvar)), summed over the latents, (L, B); the arguments may be complex."""
    return -0.5 * np.sum(np.log(2 * np.pi) + logvar + (z - mean) ** 2 / np.exp(logvar), axis=-1)


def _without(log_w, l):
    return np.delete(log_w, l, axis=0)


def _score(log_w, share, beta):
    """The loss of each sample less the mean of the others."""
    others = [_without(log_w, l).mean(axis=0) if len(log_w) > 1 else 0.0 for l in range(len(log_w))]
    return 0.0, (others - log_w) / len(log_w)


def _weighted_score(log_w, share, beta):
    return 0.0, beta * share - special.logsumexp(log_w, axis=0) + np.log(len(log_w))


def _vimco(log_w, share, beta):
    """The loss less the loss in which the geometric mean of the other weights takes the place of a weight."""
    if len(log_w) == 1:
        return _weighted_score(log_w, share, beta)
    replaced = [np.vstack([_without(log_w, l), _without(log_w, l).mean(axis=0)]) for l in range(len(log_w))]
    return 0.0, beta * share - special.logsumexp(log_w, axis=0) + special.logsumexp(replaced, axis=1)


# {(objective, estimator): the factors r and s of the path and of the score, from (log_w, share, beta)}, where share is the
# weight of a sample in the loss
SURROGATE_FACTORS: dict[tuple[str, str], Callable[..., tuple[Any, Any]]] = {
    **dict.fromkeys([("elbo_mc", "total"), ("iwae", "total")], lambda log_w, share, beta: (share, beta * share)),
    **dict.fromkeys([("elbo_mc", "path"), ("iwae", "path")], lambda log_w, share, beta: (share, 0.0)),
    ("iwae", "dreg"): lambda log_w, share, beta: (share * (1 - beta) + beta * share**2, 0.0),
    ("elbo_mc", "score"): _score,
    ("iwae", "score"): _weighted_score,
    ("iwae", "vimco"): _vimco,
}


def _encoded(architecture, p, x):
    """mu and logvar"""
    h = _network(architecture, p, "encoder", x)
    return _head(p, "mu", h), _head(p, "logvar", h)


def _log_likelihood(architecture, p, x, z):
    """log p(x|z) of each sample of each example"""
    noise, h = NOISES[architecture.noise], _network(architecture, p, "decoder", z)
    output = _head(p, "output", h)
    if noise.per_input:
        output_logvar = _head(p, noise.parameter, h)
    else:
        output_logvar = p[noise.parameter] if noise.parameter else 2 * np.log(architecture.noise_std)
    return np.sum(COMPLEX_LIKELIHOODS[architecture.likelihood](x, output, output_logvar), axis=-1)


def _network(architecture, p, side, h):
    for i in range(len(architecture.hidden)):
        h = COMPLEX_ACTIVATIONS[architecture.activation](_head(p, f"{side}.{i}", h))
    return h


def _head(p, name, h):
    return np.einsum("...i,io->...o", h, p[f"{name}.W"]) + p[f"{name}.b"]


def _penalty(p, l2):
    return l2 / 2 * sum(np.sum(p[name] ** 2) for name in p if name.endswith(".W"))


def _check(architecture, p, x, eps, objective):
    """Raise a ValueError for arguments of other shapes, some of which would broadcast and give another number."""
    check_choice("objective", objective, OBJECTIVES)
    x, eps, D, Z = np.shape(x), np.shape(eps), architecture.n_inputs, architecture.n_latent
    if x[1:] != (D,) or len(eps) != 3 or eps[1:] != (*x[:1], Z):
        raise ValueError(f"x is {x}, eps {eps}; wanted (B, {D}), (L, B, {Z})")
    missing = [name for name, shape in architecture.shapes.items() if name not in p or np.shape(p[name]) != shape]
    if missing:
        raise ValueError(f"p has no {', '.join(missing)} of this architecture's shapes")
