"""The loss again, twice, from its definitions: independent of the text, of the kernels and of each other.

`reference_elbo` is scalar loops over densities as they stand in a textbook: slow, and open to any kind of number.
`complex_elbo` is arrays, for complex steps through every parameter. Neither knows a derivative.
"""

import math

import numpy as np


def reference_elbo(architecture, p, x, eps, beta=1.0, l2=0.0, objective="elbo", functions=math, number=float):
    """(total, reconstruction, kl, l2, per_example) of `loss`, in nats, by scalar loops.

    p: a mapping of the parameters' names to arrays; x (B, D); eps (L, B, Z). functions and number say what to compute
    with: math and float, of which exp overflows beyond 709, or mpmath and mpmath.mpf, of which it never does. Definitions:
    Kingma & Welling 2014, eq. 2, 3 and 10 and appendix B; Burda et al. 2016, eq. 8.
    """
    _check(architecture, p, x, eps, objective)
    exp, log, log1p, tanh, pi = functions.exp, functions.log, functions.log1p, functions.tanh, functions.pi
    activation = {
        "relu": lambda y: y if y > 0 else number(0),
        "tanh": tanh,
        "softplus": lambda y: log1p(exp(y)),
    }[architecture.activation]
    p = {name: np.vectorize(lambda value: number(float(value)), otypes=[object])(array) for name, array in p.items()}

    def layer(name, inputs):
        W, b = p[f"{name}.W"], p[f"{name}.b"]
        return [b[o] + sum(inputs[i] * W[i, o] for i in range(len(inputs))) for o in range(len(b))]

    def log_normal(value, mean, variance):
        return -(log(2 * pi * variance) + (value - mean) ** 2 / variance) / 2

    def log_bernoulli(value, logit):
        return -value * log1p(exp(-logit)) - (1 - value) * log1p(exp(logit))  # p(1) = 1 / (1 + exp(-logit))

    def encode(x):
        h = x
        for i in range(len(architecture.hidden)):
            h = [activation(y) for y in layer(f"encoder.{i}", h)]
        return layer("mu", h), [exp(y) for y in layer("logvar", h)]

    def log_likelihood(x, z):
        h = z
        for i in range(len(architecture.hidden)):
            h = [activation(y) for y in layer(f"decoder.{i}", h)]
        output = layer("output", h)
        if architecture.likelihood == "bernoulli":
            return sum(log_bernoulli(x[d], output[d]) for d in range(len(x)))
        variances = {
            "fixed": lambda: [number(architecture.noise_std) ** 2] * len(x),
            "shared": lambda: [exp(p["noise.logvar"][0])] * len(x),
            "heteroscedastic": lambda: [exp(y) for y in layer("output_logvar", h)],
        }[architecture.noise]()
        return sum(log_normal(x[d], output[d], variances[d]) for d in range(len(x)))

    L, B, Z = np.shape(eps)
    per_example, nlls, kls = [], [], []
    for b in range(B):
        x_b = [number(float(value)) for value in x[b]]
        mean, variance = encode(x_b)
        closed = sum(variance[j] + mean[j] ** 2 - 1 - log(variance[j]) for j in range(Z)) / 2
        log_w, nll_b, kl_b = [], [], []
        for l in range(L):
            z = [mean[j] + variance[j] ** number(0.5) * number(float(eps[l][b][j])) for j in range(Z)]
            log_ratio = sum(log_normal(z[j], mean[j], variance[j]) - log_normal(z[j], number(0), number(1)) for j in range(Z))
            nll_b.append(-log_likelihood(x_b, z))
            kl_b.append(closed if objective == "elbo" else log_ratio)
            log_w.append(-nll_b[-1] - number(beta) * kl_b[-1])
        if objective == "iwae":
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


def complex_elbo(architecture, p, x, eps, beta=1.0, l2=0.0, objective="elbo"):
    """The total of `loss`, for real or complex parameters (a mapping of names to arrays): analytic all the way.

    Comparisons look at real parts; nothing is conjugated, and no absolute value is taken.
    """
    _check(architecture, p, x, eps, objective)

    def positive(y):
        return np.where(y.real > 0, y, 0)

    def softplus(y):
        return positive(y) + np.log1p(np.exp(np.where(y.real > 0, -y, y)))

    activation = {"relu": positive, "tanh": np.tanh, "softplus": softplus}[architecture.activation]

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
    if architecture.likelihood == "bernoulli":
        # The cross entropy softplus(l) - x l, with the large part of the logit taken out of both.
        log_p = np.sum(x * output - softplus(output), axis=-1)
    else:
        noise = {
            "fixed": lambda: 2 * np.log(architecture.noise_std),
            "shared": lambda: p["noise.logvar"],
            "heteroscedastic": lambda: head("output_logvar", h),
        }[architecture.noise]()
        log_p = -0.5 * np.sum(np.log(2 * np.pi) + noise + (x - output) ** 2 / np.exp(noise), axis=-1)
    if objective == "elbo":
        kl = -0.5 * np.sum(1 + logvar - mu**2 - np.exp(logvar), axis=-1)
    else:
        kl = 0.5 * np.sum(z**2 - eps**2 - logvar, axis=-1)
    log_w = log_p - beta * kl
    if objective == "iwae":
        top = log_w.real.max(axis=0)
        bound = top + np.log(np.mean(np.exp(log_w - top), axis=0))
    else:
        bound = np.mean(log_w, axis=0)
    return -np.mean(bound) + l2 / 2 * sum(np.sum(p[name] ** 2) for name in p if name.endswith(".W"))


def _check(architecture, p, x, eps, objective):
    """ValueError for arguments that fit by accident, and would give another number."""
    if objective not in ("elbo", "elbo_mc", "iwae"):
        raise ValueError(f"objective is {objective!r}; known are elbo, elbo_mc, iwae")
    x, eps, D, Z = np.shape(x), np.shape(eps), architecture.n_inputs, architecture.n_latent
    if x[1:] != (D,) or len(eps) != 3 or eps[1:] != (*x[:1], Z):
        raise ValueError(f"x is {x}, eps {eps}; wanted (B, {D}), (L, B, {Z})")
    missing = [name for name, shape in architecture.shapes.items() if name not in p or np.shape(p[name]) != shape]
    if missing:
        raise ValueError(f"p has no {', '.join(missing)} of this architecture's shapes")
