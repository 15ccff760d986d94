"""The loss again, twice, from its definitions: independent of the text, of the kernels and of each other.

`reference_elbo` is scalar loops over densities as they stand in a textbook: slow, and open to any kind of number.
`complex_elbo` is arrays, for complex steps through every parameter. Neither knows a derivative. Each has a table of the
activations and one of the likelihoods, by the names of `vae_np.choices`.
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
# m is a module of functions: math, or mpmath.


def _log_normal(m, value, mean, variance):
    return -(m.log(2 * m.pi * variance) + (value - mean) ** 2 / variance) / 2


SCALAR_ACTIVATIONS: dict[str, Callable[[Any, Any], Any]] = {  # h of (m, y)
    "relu": lambda m, y: y if y > 0 else 0 * y,
    "tanh": lambda m, y: m.tanh(y),
    "softplus": lambda m, y: m.log1p(m.exp(y)),
    "silu": lambda m, y: y / (1 + m.exp(-y)),
    "gelu": lambda m, y: y * m.erfc(-y / m.sqrt(2)) / 2,
}
SCALAR_LIKELIHOODS: dict[str, Callable[..., Any]] = {  # log p(x|z) of one input, of (m, x, output, variance)
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
    """(total, reconstruction, kl, l2, per_example) of `loss`, in nats, by scalar loops.

    p: a mapping of the parameters' names to arrays; x (B, D); eps (L, B, Z). functions and number are what it computes
    with: math and float, of which exp overflows beyond 709, or mpmath and mpmath.mpf, of which it never does. Definitions:
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
            w = [exp(one - top) for one in log_w if one - top > -1e6]  # less is nothing beside the largest, which is 1
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
    near = y / 2 + y**2 / 24 - y**4 / 2880 + y**6 / 181440  # Taylor's series, exact to the last digit
    size = np.where(abs(y) < 0.05, 1, np.where(y.real > 0, y, -y))
    return np.where(abs(y) < 0.05, near, _positive(y) + np.log(-np.expm1(-size)) - np.log(size))


COMPLEX_ACTIVATIONS: dict[str, Callable[[NDArray], NDArray]] = {
    "relu": _positive,
    "tanh": np.tanh,
    "softplus": _softplus,
    "silu": lambda y: y * np.exp(-_softplus(-y)),  # the logarithm of the sigmoid never overflows
    "gelu": lambda y: y * special.erfc(-y / np.sqrt(2)) / 2,
}
COMPLEX_LIKELIHOODS: dict[str, Callable[..., NDArray]] = {  # log p(x|z) of each input, of (x, output, logvar)
    # The cross entropy softplus(l) - x l, with the large part of the logit taken out of both.
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
    """The total of `loss`, for real or complex parameters (a mapping of names to arrays): analytic all the way.

    Comparisons look at real parts; nothing is conjugated, and no absolute value is taken.
    """
    _check(architecture, p, x, eps, objective)
    objective_of, noise = OBJECTIVES[objective], NOISES[architecture.noise]
    activation = COMPLEX_ACTIVATIONS[architecture.activation]

    def network(side, h):
        for i in range(len(architecture.hidden)):
            h = activation(np.einsum("...i,io->...o", h, p[f"{side}.{i}.W"]) + p[f"{side}.{i}.b"])
        return h

    def head(name, h):
        return np.einsum("...i,io->...o", h, p[f"{name}.W"]) + p[f"{name}.b"]

    x, eps = np.asarray(x, np.float64), np.asarray(eps, np.float64)
    h = network("encoder", x)
    mu, logvar = head("mu", h), head("logvar", h)
    z = mu + np.exp(logvar / 2) * eps
    h = network("decoder", z)
    output = head("output", h)
    if noise.per_input:
        output_logvar = head(noise.parameter, h)
    else:
        output_logvar = p[noise.parameter] if noise.parameter else 2 * np.log(architecture.noise_std)
    log_p = np.sum(COMPLEX_LIKELIHOODS[architecture.likelihood](x, output, output_logvar), axis=-1)
    if objective_of.sampled:
        kl = 0.5 * np.sum(z**2 - eps**2 - logvar, axis=-1)
    else:
        kl = -0.5 * np.sum(1 + logvar - mu**2 - np.exp(logvar), axis=-1)
    log_w = log_p - beta * kl
    if objective_of.weighted:
        top = log_w.real.max(axis=0)
        bound = top + np.log(np.mean(np.exp(log_w - top), axis=0))
    else:
        bound = np.mean(log_w, axis=0)
    return -np.mean(bound) + l2 / 2 * sum(np.sum(p[name] ** 2) for name in p if name.endswith(".W"))


def _check(architecture, p, x, eps, objective):
    """ValueError for arguments that fit by accident, and would give another number."""
    check_choice("objective", objective, OBJECTIVES)
    x, eps, D, Z = np.shape(x), np.shape(eps), architecture.n_inputs, architecture.n_latent
    if x[1:] != (D,) or len(eps) != 3 or eps[1:] != (*x[:1], Z):
        raise ValueError(f"x is {x}, eps {eps}; wanted (B, {D}), (L, B, {Z})")
    missing = [name for name, shape in architecture.shapes.items() if name not in p or np.shape(p[name]) != shape]
    if missing:
        raise ValueError(f"p has no {', '.join(missing)} of this architecture's shapes")
