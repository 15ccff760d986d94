"""Every formula of the derivations is held to numbers: both sides are computed, each as it is written."""

import inspect
import itertools

import numpy as np
import pytest

from kernels import reference
from tests.vae_np.study.evaluate import evaluate
from vae_np.study import formulas
from vae_np.study.derivations import DERIVATIONS
from vae_np.study.page import stem_of

X, MU, LOGVAR, NOISE = 0.7, 0.4, -0.6, np.log(0.5)  # a linear model: p(z) = N(0, 1), p(x|z) = N(z, 1/2), q(z|x) = N(MU, ..)
NODES, MASSES = np.polynomial.hermite_e.hermegauss(80)
MASSES = MASSES / MASSES.sum()
GRID = np.linspace(-12, 12, 200_001)


def normal(v, mean, logvar):
    return np.exp(-((v - mean) ** 2) * np.exp(-logvar) / 2) / np.sqrt(2 * np.pi * np.exp(logvar))


def posterior(z, x):
    precision = 1 + np.exp(-NOISE)
    return normal(z, x * np.exp(-NOISE) / precision, -np.log(precision))


def over_q(body, mu=MU):
    return sum(mass * body(z=mu + np.exp(LOGVAR / 2) * node) for node, mass in zip(NODES, MASSES))


def kl(q, p):
    return np.trapezoid(q(GRID) * (np.log(q(GRID)) - np.log(p(GRID))), GRID)


def q_of(z):
    return normal(z, MU, LOGVAR)


MODEL = {
    "x": X, "z": 0.3, "mu": MU, "logvar": LOGVAR, "q": 0.0, "p": 0.0,
    "p(x)": lambda x: normal(x, 0, np.log1p(np.exp(NOISE))),
    "p(z)": lambda z: normal(z, 0, 0.0),
    "p(x|z)": lambda x, z: normal(x, z, NOISE),
    "q(z|x)": lambda z, x: q_of(z),
    "E_q": over_q,
    "int_z": lambda body: np.trapezoid(body(z=GRID), GRID),
    "KL(q ‖ p)": lambda q, p: kl(q_of, lambda z: normal(z, 0, 0.0)),
    "KL(q ‖ p(z|x))": lambda q, p: kl(q_of, lambda z: posterior(z, X)),
    "p(z|x)": lambda z, x: 0.0,
}  # fmt: skip


def slope(name, at):
    """The derivative of a body by a name, by a complex step."""
    return {f"diff_{name}": lambda body: np.imag(body(**{name: at + 1e-30j})) / 1e-30, name: at}


RNG = np.random.default_rng(0)
I, O, R = 3, 4, 5
x_r, W, b = RNG.normal(size=(R, I)), RNG.normal(size=(I, O)), RNG.normal(size=O)
TARGET = RNG.normal(size=(R, O))  # the loss of a layer: half the squared distance to it
dy_r = x_r @ W + b - TARGET


def layer_loss(x, W, b):
    return ((x @ W + b - TARGET) ** 2).sum() / 2


def by_differences(f, array):
    found = np.zeros(array.shape)
    for index in np.ndindex(array.shape):
        step = np.zeros(array.shape)
        step[index] = 1e-5
        found[index] = (f(array + step) - f(array - step)) / 2e-5
    return found


LAYER = {
    "y_o": (x_r @ W + b)[0], "x_i": x_r[0][:, None], "W_io": W, "b_o": b, "dy_o": dy_r[0],
    "sum_i": lambda body: body().sum(axis=0), "sum_o": lambda body: body().sum(axis=1),
    "dx_i": by_differences(lambda x: layer_loss(x, W, b), x_r)[0],
    "x_ri": x_r[:, :, None], "dy_ro": dy_r[:, None, :], "sum_r": lambda body: np.squeeze(body().sum(axis=0)),
    "dW_io": by_differences(lambda V: layer_loss(x_r, V, b), W), "db_o": by_differences(lambda c: layer_loss(x_r, W, c), b),
    "l2": 0.3, **slope("W", 1.7),
}  # fmt: skip
SAMPLE = {"eps": 0.8, "z": MU + np.exp(LOGVAR / 2) * 0.8}
WEIGHTS = np.exp(RNG.normal(size=6) - 3)


def at(**more):
    return {**MODEL, **more}


VALUES = {  # the names of each derivation's formulas; what else a formula has by its number
    "bound": at(),
    "adjoint": {"f": np.sin, "g": np.exp, "dy": np.exp(np.sin(0.6)), "dv": np.exp(np.sin(0.6)) * np.cos(0.6), **slope("v", 0.6)},
    "affine": LAYER,
    "constant": LAYER,
    "relu": slope("y", 0.6),
    "tanh": {"h": 0.3, **slope("y", 0.6)},
    "softplus": slope("y", 0.6),
    "reparameterize": at(
        f=np.sin, q=lambda z, mu: normal(z, mu, LOGVAR), **SAMPLE,
        E_eps=lambda body: sum(mass * body(eps=node) for node, mass in zip(NODES, MASSES)),
        E_q=lambda body, mu=MU: over_q(body, mu),
        diff_mu=lambda body: np.imag(body(mu=MU + 1e-30j)) / 1e-30, diff_logvar=slope("logvar", LOGVAR)["diff_logvar"],
    ),
    "gaussian_kl": at(diff_mu=slope("mu", MU)["diff_mu"], diff_logvar=slope("logvar", LOGVAR)["diff_logvar"]),
    "sampled_kl": at(**SAMPLE, diff_z=slope("z", SAMPLE["z"])["diff_z"], diff_logvar=slope("logvar", LOGVAR)["diff_logvar"]),
    "bernoulli_nll": {"x": 1, "s": 0.3, "p(x|z)": lambda x, z: 0.3**x * 0.7 ** (1 - x), "z": 0.0, **slope("l", -1.3)},
    "gaussian_nll": {"x": X, "z": 0.1, "p(x|z)": lambda x, z: normal(x, 0.2, -0.4), **slope("m", 0.2), **slope("n", -0.4)},
    "elbo": at(f=np.sin, mean_l=lambda body: np.mean([body() for _ in range(5)])),
    "iwae": at(
        nll=-np.log(normal(X, 0.3, NOISE)), kl=np.log(q_of(0.3)) - np.log(normal(0.3, 0, 0.0)), w_l=WEIGHTS, t=-1.1, v=0.2,
        mean_l=lambda body: np.mean(body()), **slope("u", 0.9),
    ),
}  # fmt: skip


def values_of(stem, formula):
    """VALUES, where E_q moves with mu if it is differentiated by it."""
    values = dict(VALUES[stem])
    if formula.startswith("diff_mu E_q"):
        mean = lambda mu: over_q(lambda z: np.sin(z), mu)  # noqa: E731
        values["diff_mu"] = lambda body: _by_mu(body, values, mean)
    return values


def _by_mu(body, values, mean):
    """The slope by mu of a mean over q, or of what else stands there."""
    step = 1e-30j
    values["E_q"] = lambda _: mean(MU + step)
    return np.imag(body(mu=MU + step)) / 1e-30


STEPS = [(stem, i) for stem, derivation in DERIVATIONS.items() for i, step in enumerate(derivation.steps) if step.formula]


@pytest.mark.parametrize(("stem", "i"), STEPS)
def test_a_formula_holds(stem, i):
    formula = DERIVATIONS[stem].steps[i].formula
    tree = formulas.parse(formula)
    sides = evaluate(tree, values_of(stem, formula))
    assert len(sides) == 2
    left, right = (np.broadcast_to(side, np.broadcast(*sides).shape) for side in sides)
    if tree[2] == ">=":
        assert left > right
    else:
        np.testing.assert_allclose(left, right, rtol=1e-7)


@pytest.mark.parametrize(
    ("stem", "i", "was", "now"),
    [
        ("tanh", 1, "^2", ""),
        ("gaussian_kl", 5, " - 1 - logvar) / 2", " - 1 - logvar)"),
        ("gaussian_nll", 0, "sqrt(2 pi exp(n))", "(2 pi exp(n))"),
        ("bernoulli_nll", 4, "sigmoid(l) - x", "x - sigmoid(l)"),
        ("reparameterize", 3, "/ 2) / 2", "/ 2)"),
        ("reparameterize", 1, "logvar / 2", "logvar"),
        ("affine", 1, "dy_o W_io", "dy_o"),
        ("iwae", 2, "t + log", "log"),
        ("bound", 2, ">=", "="),
    ],
)
def test_a_damaged_formula_does_not(stem, i, was, now):
    formula = DERIVATIONS[stem].steps[i].formula
    assert was in formula
    damaged = formula[::-1].replace(was[::-1], now[::-1], 1)[::-1]
    with pytest.raises((AssertionError, ValueError)):
        left, right = evaluate(formulas.parse(damaged), values_of(stem, damaged))
        np.testing.assert_allclose(left, right, rtol=1e-7)


def test_every_operation_of_the_text_has_one():
    operations = [name for name, f in vars(reference).items() if inspect.isfunction(f)]
    text = list(itertools.takewhile(lambda name: name != "sgd", operations))[
        3:
    ]  # before them zeros, put, get; then updates and noise
    for name in text:
        if not name.endswith("_mean") and name != "sigmoid":
            assert stem_of(name) in DERIVATIONS, name
    assert stem_of("affine_tanh") == "tanh" and stem_of("affine_gradients") == "affine" and stem_of("elbo_backward") == "elbo"
    for derivation in DERIVATIONS.values():
        assert 2 <= len(derivation.steps) <= 8 and derivation.source and derivation.title
