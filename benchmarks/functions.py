"""Right functions with hand-written gradients, which the checkers of gradients are tried on.

Each takes its parameters by name, and returns its value and its gradients, or a function that computes them. `benchmarks.faults`
changes a piece of their text.
"""

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import special

from vae_np.testing.derivatives import complex_gradient

Function: TypeAlias = Callable[[Any], tuple[Any, Any]]  # parameters -> (value, gradients)

B, D, H, Z, L = 7, 11, 5, 3, 13  # different primes, none of which is 2, so that a factor tells where it comes from
SIZES = {"batch": B, "samples": L}
_rng = np.random.default_rng(0)
X = _rng.uniform(0.1, 0.9, (B, D))
TARGETS = _rng.normal(size=(B, H))
LABELS = _rng.integers(0, H, B)
ROWS = np.array([0, 2, 2, 4, 1, 2, 0])  # some rows are used several times
EPS = _rng.normal(size=(L, B, Z))
STATE: dict[str, Any] = {}  # what a function keeps from one call to the next
KEPT = _rng.uniform(size=(B, D)) < 0.8  # what a dropout layer keeps


def sigmoid(x: Any) -> Any:
    return 1 / (1 + np.exp(-x))


def log1pexp(x: Any) -> Any:
    """log(1 + exp(x)), which overflows nowhere; x may be complex."""
    is_positive = x.real > 0
    return np.where(is_positive, x, 0) + np.log1p(np.exp(np.where(is_positive, -x, x)))


# --------------------------------------------------------------------------------------- the parts of a VAE, per example


def encode(p, x):
    h = np.tanh(x @ p["W_h"])
    mu, logvar = h @ p["W_mu"], h @ p["W_logvar"]
    return mu, logvar


def sample(mu, logvar, eps):
    return mu + np.exp(logvar / 2) * eps


def kl(mu, logvar):
    return np.sum(mu * mu + np.exp(logvar) - 1 - logvar, axis=-1) / 2


def decode(p, z):
    return z @ p["W_out"] + p["b_out"]


def nll(logits, x):
    return np.sum(log1pexp(logits) - x * logits, axis=-1)


def loss(p, x, eps):
    mu, logvar = encode(p, x)
    return np.mean(nll(decode(p, sample(mu, logvar, eps)), x) + kl(mu, logvar))


def vae(p):
    """The loss with one sample. Its gradients, a function, are those of whatever the parts above compute, by complex steps."""

    def value(q):
        return loss(q, X, EPS[0])

    return value(p), lambda: {name: complex_gradient(value, p, name) for name in p}


PARTS = (encode, sample, kl, decode, nll, loss, vae)


# -------------------------------------------------------------------------------------------------------- functions


def affine_layer(p):
    y = X @ p["W"] + p["b"]
    h = np.tanh(y)
    difference = h - TARGETS
    value = np.sum(difference * difference) / (2 * B)
    dh = difference / B
    dy = dh * (1 - h * h)
    dW = X.T @ dy
    db = dy.sum(axis=0)
    return value, {"W": dW, "b": db}


def square_layers(p):
    h = np.tanh(TARGETS @ p["A"])
    y = h @ p["C"]
    value = np.sum(y * y) / 2
    dh = y @ p["C"].T
    dC = h.T @ y
    dA = TARGETS.T @ (dh * (1 - h * h))
    return value, {"A": dA, "C": dC}


def log_determinant(p):
    value = np.log(np.linalg.det(p["A"]))
    dA = np.linalg.inv(p["A"]).T
    return value, {"A": dA}


def cross_entropy(p):
    logits = X @ p["W"] + p["b"]
    weights = np.exp(logits)
    sums = weights.sum(axis=1)
    value = np.mean(np.log(sums) - logits[np.arange(B), LABELS])
    dlogits = weights / sums[:, None]
    dlogits[np.arange(B), LABELS] -= 1
    dlogits = dlogits / B
    return value, {"W": X.T @ dlogits, "b": dlogits.sum(axis=0)}


def layer_norm(p):
    x = p["x"]
    centred = x - x.mean(axis=1, keepdims=True)
    std = np.sqrt(np.mean(centred * centred, axis=1, keepdims=True) + 1e-3)
    n = centred / std
    y = n * p["gamma"] + p["beta"]
    value = np.sum(np.sin(y))
    dy = np.cos(y)
    dn = dy * p["gamma"]
    dx = (dn - dn.mean(axis=1, keepdims=True) - n * np.mean(dn * n, axis=1, keepdims=True)) / std
    return value, {"x": dx, "gamma": np.sum(dy * n, axis=0), "beta": dy.sum(axis=0)}


def gaussian_nll(p):
    difference = TARGETS - p["mu"]
    precision = np.exp(-p["s"])
    value = np.sum(difference * difference * precision + p["s"] + np.log(2 * np.pi)) / 2
    dmu = -difference * precision
    ds = (1 - difference * difference * precision) / 2
    return value, {"mu": dmu, "s": ds}


def elbo(p):
    h = np.tanh(X @ p["W_h"])
    mu, logvar = h @ p["W_mu"], h @ p["W_logvar"]
    std, eps = np.exp(logvar / 2), EPS
    z = sample(mu, logvar, eps)
    logits = decode(p, z)
    l2 = 0.1 * np.sum(p["W_out"] ** 2) / 2
    value = np.mean(nll(logits, X)) + np.mean(kl(mu, logvar)) + l2
    dlogits = (sigmoid(logits) - X) / (L * B)
    dW_out = np.einsum("lbz,lbd->zd", z, dlogits) + 0.1 * p["W_out"]
    db_out = dlogits.sum(axis=(0, 1))
    dz = dlogits @ p["W_out"].T
    dmu = dz.sum(axis=0) + mu / B
    dlogvar = np.sum(dz * eps, axis=0) * std / 2 + (np.exp(logvar) - 1) / (2 * B)
    dh = dmu @ p["W_mu"].T + dlogvar @ p["W_logvar"].T
    dW_h = X.T @ (dh * (1 - h * h))
    return value, {"W_h": dW_h, "W_mu": h.T @ dmu, "W_logvar": h.T @ dlogvar, "W_out": dW_out, "b_out": db_out}


def importance_weights(p):
    log_w = p["log_w"]
    weights = np.exp(log_w)
    value = -np.mean(np.log(np.mean(weights, axis=0)))
    dlog_w = -weights / weights.sum(axis=0) / B
    return value, {"log_w": dlog_w}


def relu_layer(p):
    y = X @ p["W"] - 0.3
    h = y * (y.real > 0)
    value = np.sum(h * TARGETS)
    dh = TARGETS
    dy = dh * (y > 0)
    return value, {"W": X.T @ dy}


def gelu(p):
    x, c = p["x"], np.sqrt(2 / np.pi)
    t = np.tanh(c * (x + 0.044715 * x**3))
    value = np.sum(x * (1 + t)) / 2
    dx = (1 + t) / 2 + x * (1 - t * t) / 2 * c * (1 + 3 * 0.044715 * x**2)
    return value, {"x": dx}


def silu(p):
    s = sigmoid(p["x"])
    value = np.sum(p["x"] * s)
    dx = s + p["x"] * s * (1 - s)
    return value, {"x": dx}


def softplus(p):
    value = np.sum(np.log1p(np.exp(p["x"])))
    dx = sigmoid(p["x"])
    return value, {"x": dx}


def convolution(p):
    windows = np.stack([X[:, i : i + 5] for i in range(D - 4)])
    y = windows @ p["K"]
    value = np.sum(y * y) / 2
    dK = np.einsum("tbk,tb->k", windows, y)
    return value, {"K": dK}


def recurrence(p):
    states = [TARGETS]
    for _ in range(3):
        states.append(np.tanh(states[-1] @ p["W"]))
    value = np.sum(states[-1] ** 2) / 2
    dW, dh = 0, states[-1]
    for before, after in zip(states[-2::-1], states[:0:-1]):
        dy = dh * (1 - after * after)
        dW += before.T @ dy
        dh = dy @ p["W"].T
    return value, {"W": dW}


def embedding(p):
    rows = p["E"][ROWS]
    value = np.sum(np.sin(rows) * TARGETS)
    dE = np.zeros(p["E"].shape)
    np.add.at(dE, ROWS, np.cos(rows) * TARGETS)
    return value, {"E": dE}


def normalized(p):
    norm = np.sqrt(np.sum(p["x"] * p["x"]))
    value = np.sum(TARGETS[0] * p["x"]) / norm
    dx = TARGETS[0] / norm - value * p["x"] / norm**2
    return value, {"x": dx}


def smooth_norm(p):
    norms = np.sqrt(np.sum(p["x"] * p["x"], axis=1) + 1e-6)
    value = norms.sum()
    dx = p["x"] / norms[:, None]
    return value, {"x": dx}


def gates(p):
    u, v, w = p["u"], p["v"], p["w"]
    value = np.sum(u * np.tanh(v) * sigmoid(w))
    t, s = np.tanh(v), sigmoid(w)
    return value, {"u": t * s, "v": u * (1 - t * t) * s, "w": u * t * s * (1 - s)}


def dropout(p):
    h = X * KEPT / 0.8
    y = h @ p["W"]
    value = np.sum(np.sin(y))
    dW = h.T @ np.cos(y)
    return value, {"W": dW}


def clipped(p):
    x = p["x"]
    inside = (x.real > -1) & (x.real < 1)
    y = np.where(inside, x, np.sign(x.real))
    value = np.sum(np.exp(y))
    dx = np.exp(y) * inside
    return value, {"x": dx}


def faint(p):
    value = 1e-7 * np.sum(p["x"] ** 3)
    dx = 3e-7 * p["x"] ** 2
    return value, {"x": dx}


def large_and_small(p):
    value = np.sum(np.exp(p["W1"])) + 3e-6 * np.sum(np.sin(p["W2"]))
    return value, {"W1": np.exp(p["W1"]), "W2": 3e-6 * np.cos(p["W2"])}


def cosine_of_angles(p):
    value = np.sum(TARGETS * np.cos(p["theta"]))
    dtheta = -TARGETS * np.sin(p["theta"])
    return value, {"theta": dtheta}


# ------------------------------------------------------------------------------- functions that invite false alarms


def ramps(p):
    x = p["x"]
    return np.sum(x * (x.real > 0)), {"x": (x > 0) * 1.0}


def square_with_its_sign(p):
    return float(np.sum(p["x"] * np.abs(p["x"]))), {"x": 2 * np.abs(p["x"])}


def in_single_precision(p):
    x = p["x"].astype(np.float32)
    return float(np.sum(np.sin(x))), {"x": np.cos(x)}


def sine(p):
    return np.sum(np.sin(p["x"])), {"x": np.cos(p["x"])}


def beside_a_constant(p):
    return np.sum(np.sin(p["x"])) + 1e8, {"x": np.cos(p["x"])}


def saturated(p):
    x = p["x"]
    return np.sum(np.log1p(np.exp(x))), {"x": 1 / (1 + np.exp(-x))}


def squared_length(p):
    return float(np.sum(np.abs(p["x"]) ** 2)), {"x": 2 * p["x"]}


def with_an_unused_parameter(p):
    return np.sum(np.cos(p["x"])), {"x": -np.sin(p["x"]), "V": np.zeros(p["V"].shape)}


def steep(p):
    return np.sum(np.sin(300 * p["x"])), {"x": 300 * np.cos(300 * p["x"])}


def narrow(p):
    t = np.tanh(p["x"] / 1e-4)
    return np.sum(t), {"x": (1 - t * t) / 1e-4}


def logarithm(p):
    return np.sum(np.log(p["x"])), {"x": 1 / p["x"]}


def arccosine(p):
    return np.sum(np.arccos(p["x"])), {"x": -1 / np.sqrt(1 - p["x"] ** 2)}


def in_a_matrix(p):
    return np.sum(np.sin(p["x"])).reshape(1, 1), {"x": np.cos(p["x"])}


def with_single_gradients(p):
    return np.sum(np.sin(p["x"])), {"x": np.cos(p["x"]).astype(np.float32)}


def in_its_own_buffer(p):
    buffer = STATE.setdefault("buffer", np.empty(p["x"].shape))
    value = np.sum(np.sin(p["x"]))
    return value, {"x": np.cos(p["x"].real, out=buffer)}


def by_threads(p):
    order = np.random.default_rng().permutation(p["x"].size)  # threads add in whatever order they end
    terms = np.sin(p["x"]).ravel()[order]
    value = terms[0]
    for term in terms[1:]:
        value = value + term
    return value, {"x": np.cos(p["x"]) * (1 + 1e-16 * order[0])}


def reseeded(p):
    eps = np.random.default_rng(3).normal(size=p["x"].shape)
    return np.sum(np.sin(p["x"] + eps)), {"x": np.cos(p["x"] + eps)}


def masked_softmax(p):
    scores = p["x"] + np.array([0.0, 0.0, -np.inf])
    weights = np.exp(scores) / np.sum(np.exp(scores), axis=1, keepdims=True)
    first = weights[:, :1]
    return np.sum(first * first), {"x": 2 * first * first * (np.eye(3)[0] - weights)}


def far_from_0(p):
    return np.sum(np.sin(1e-12 * p["x"])), {"x": 1e-12 * np.cos(1e-12 * p["x"])}


def log_gamma(p):
    return np.sum(special.gammaln(p["x"])), {"x": special.digamma(p["x"])}


def largest_eigenvalue(p):
    values, vectors = np.linalg.eigh((p["A"] + p["A"].T).real / 2)
    return float(values[-1]), {"A": np.outer(vectors[:, -1], vectors[:, -1])}


def by_bisection(p):
    low, high = np.full((2, *p["x"].shape), [[[-2.0]], [[2.0]]])  # between which y + y^3 = x has its solution
    for _ in range(45):
        middle = (low + high) / 2
        low, high = np.where(middle + middle**3 < p["x"], [middle, high], [low, middle])
    y = (low + high) / 2
    return float(np.sum(y)), {"x": 1 / (1 + 3 * y * y)}


def in_place_and_back(p):
    x = p["x"]
    x += 1
    value, gradient = np.sum(np.sin(x)), np.cos(x)
    x -= 1
    return value, {"x": gradient}


# ----------------------------------------------------------------------------------------------- where they are checked


def noisy(scale, *shape):
    return scale * np.random.default_rng(1).normal(size=shape)


WEIGHTS = {
    "W_h": noisy(0.4, D, H),
    "W_mu": noisy(0.6, H, Z),
    "W_logvar": noisy(0.5, H, Z),
    "W_out": noisy(0.8, Z, D),
    "b_out": noisy(0.3, D),
}
POINTS: dict[Callable[..., Any], dict[str, NDArray]] = {
    affine_layer: {"W": noisy(0.5, D, H), "b": noisy(0.3, H)},
    square_layers: {"A": noisy(0.5, H, H), "C": noisy(0.7, H, H)},
    log_determinant: {"A": 2 * np.eye(H) + noisy(0.4, H, H)},
    cross_entropy: {"W": noisy(0.5, D, H), "b": noisy(0.3, H)},
    layer_norm: {"x": noisy(1.0, B, H), "gamma": 1 + noisy(0.3, H), "beta": noisy(0.3, H)},
    gaussian_nll: {"mu": noisy(1.0, B, H), "s": noisy(0.7, B, H)},
    elbo: WEIGHTS,
    vae: WEIGHTS,
    importance_weights: {"log_w": noisy(1.0, L, B)},
    relu_layer: {"W": noisy(0.5, D, H)},
    gelu: {"x": noisy(1.0, B, H)},
    silu: {"x": noisy(1.0, B, H)},
    softplus: {"x": noisy(1.0, B, H)},
    convolution: {"K": noisy(1.0, 5)},
    recurrence: {"W": noisy(0.5, H, H)},
    embedding: {"E": noisy(1.0, H, H)},
    normalized: {"x": noisy(1.0, H)},
    smooth_norm: {"x": noisy(0.3, B, H)},
    gates: {"u": noisy(1.0, H), "v": noisy(0.9, H), "w": noisy(0.8, H)},
    dropout: {"W": noisy(0.5, D, H)},
    clipped: {"x": noisy(1.3, B, H)},
    faint: {"x": noisy(1.0, B, H)},
    large_and_small: {"W1": noisy(1.0, H), "W2": noisy(1.0, H)},
    cosine_of_angles: {"theta": noisy(1.0, B, H)},
}
