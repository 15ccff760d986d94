"""Each formula of a derivation is true: its sides agree at random values.

A derivative is a complex step. An integral or a mean over z is a sum over a fine grid, for Gaussians exact to rounding.
"""

import numpy as np
import pytest
from scipy.special import expit
from scipy.stats import bernoulli, norm

from tests.vae_np.study.damages import damages
from vae_np.choices import ACTIVATIONS
from vae_np.kernels import reference
from vae_np.kernels.contract import BATCHES, OPERATIONS, UPDATES
from vae_np.study.derivations import DERIVATIONS, key_of
from vae_np.study.evaluation import evaluate
from vae_np.study.formulas import parse
from vae_np.study.typesetting import plain

# --------------------------------------------------------------------------------------- what the operators of formulas do


def diff(name, element=...):
    """The derivative with respect to a name: of each element of the body with respect to its own, or with respect to one element."""

    def operator(body, values):
        moved = np.array(values[name], complex)
        moved[element] += 1e-30j
        return np.imag(body(**{name: moved})) / 1e-30

    return operator


def along(function, axis):
    return lambda body, _: function(body(), axis=axis, keepdims=True)


GRID, WIDTH = np.linspace(-12, 12, 481, retstep=True)


def integral_over_z(body, _):
    return WIDTH * np.sum(body(z=GRID))


def mean_over_eps(body, _):
    return WIDTH * np.sum(norm.pdf(GRID) * body(eps=GRID))


# ---------------------------------------------------------------------------------- what the names stand for, by the stem


def adjoint(rng):
    x = rng.normal(size=9)
    y, other = np.sin(x), x**3
    return {
        "g": np.sin,
        "g₁": np.sin,
        "g₂": lambda x: x**3,
        "f": lambda y, z=1: np.exp(y) * z**2 + y,
        "diff_x": diff("x"),
        "diff_y": diff("y"),
        "x": x,
        "y": y,
        "loss": np.exp(y) + y,
        "dy": np.exp(y) + 1,
        "dx": (np.exp(y) + 1) * np.cos(x),
        "dy_1": np.exp(y) * other**2 + 1,
        "dy_2": np.exp(y) * 2 * other,
    }


def affine(rng):
    """The axes are n, i, o. The loss is the sum of sin y, and its derivatives are taken element by element."""
    values = {
        "x": rng.normal(size=(3, 4)),
        "W": rng.normal(size=(4, 2)),
        "b": rng.normal(size=2),
        "l2": 0.3,
        "diff_W": diff("W"),
    }
    values |= {f"{name}_{index}": along(f, axis) for name, f in SUMS.items() for axis, index in enumerate("nio")}

    def loss(**moved):
        of = values | moved
        return np.sum(np.sin(of["x"] @ of["W"] + of["b"]))

    def slope(name):
        steps = [diff(name, element)(loss, values) for element in np.ndindex(values[name].shape)]
        return np.reshape(steps, values[name].shape)

    (x, W, b), y = (values[name] for name in "xWb"), values["x"] @ values["W"] + values["b"]
    dy, dx = np.cos(y), slope("x")
    elements = {"x_ni": x[:, :, None], "W_io": W[None], "b_o": b[None, None], "dy_no": dy[:, None]}
    elements |= {"dW_io": slope("W")[None], "db_o": slope("b")[None, None]}
    of_a_row = {"x_i": x[:1, :, None], "y_o": y[:1, None], "dy_o": dy[:1, None], "dx_i": dx[:1, :, None]}
    return values | elements | of_a_row


def constant(rng):
    x, b = rng.normal(size=(3, 4)), rng.normal(size=2)
    y = reference.constant(x, None, b, np.zeros((3, 2)))
    return {"x": x, "b": b, "b_o": b, "y_o": y, "diff_x": diff("x"), "diff_b": diff("b")}


def activation(function):
    def values(rng):
        y = 2 * rng.normal(size=50)
        h = function(y[:, None], np.ones((1, 1)), np.zeros(1), np.zeros((50, 1)), np.zeros((50, 1)))[:, 0]
        return {"y": y, "h": h, "diff_y": diff("y")}

    return values


def gaussian(z, mean, variance):
    """The density of a Gaussian for complex numbers, too, which norm.pdf does not take."""
    return np.exp(-((z - mean) ** 2) / (2 * variance)) / np.sqrt(2 * np.pi * variance)


def gaussian_kl(mean, variance, of_mean, of_variance):
    return (np.log(of_variance / variance) + (variance + (mean - of_mean) ** 2) / of_variance - 1) / 2


def model(rng):
    """z ~ N(0, 1) and x ~ N(2 z, 1/2), of which p(x) and p(z|x) are known, and a q(z|x) that is not p(z|x)."""
    mu, logvar, eps, x = rng.normal(size=4) / 2
    variance, z = np.exp(logvar), mu + np.exp(logvar / 2) * eps

    def weights(z):
        nll, kl = -norm.logpdf(x, 2 * z, np.sqrt(1 / 2)), norm.logpdf(z, mu, np.sqrt(variance)) - norm.logpdf(z)
        return {"nll": nll, "kl": kl, "w": np.exp(-nll - kl)}

    def mean_over_q(body, values):
        """The mean over two samples. z, nll and w belong to the first sample, nll_l and w_l belong to both."""
        first, both = GRID[:, None], np.stack(np.broadcast_arrays(GRID[:, None], GRID))
        density = gaussian(GRID, values["mu"], np.exp(values["logvar"]))
        samples = {f"{name}_l": value for name, value in weights(both).items()}
        return WIDTH**2 * np.sum(density[:, None] * density * body(z=first, **weights(first), **samples))

    return {
        "mu": mu,
        "logvar": logvar,
        "eps": eps,
        "x": x,
        "z": z,
        "f": lambda z: np.sin(z) + z**3,
        "N": gaussian,
        **weights(z),
        "p(x)": lambda x: norm.pdf(x, 0, np.sqrt(4 + 1 / 2)),
        "p(x|z)": lambda x, z: norm.pdf(x, 2 * z, np.sqrt(1 / 2)),
        "p(z)": norm.pdf,
        "p(z|x)": lambda z, x: norm.pdf(z, 4 * x / 9, 1 / 3),
        "q(z|x)": lambda z, x: norm.pdf(z, mu, np.sqrt(variance)),
        "KL(q(z|x) ∥ p(z))": lambda *_: gaussian_kl(mu, variance, 0, 1),
        "KL(q(z|x) ∥ p(z|x))": lambda *_: gaussian_kl(mu, variance, 4 * x / 9, 1 / 9),
        "int_z": integral_over_z,
        "E_q": mean_over_q,
        "E_eps": mean_over_eps,
        "mean_l": along(np.mean, 0),
        "sum_l": along(np.sum, 0),
        "diff_mu": diff("mu"),
        "diff_logvar": diff("logvar"),
        "diff_z": diff("z"),
    }


def bernoulli_nll(rng):
    x, logits = np.arange(50.0) % 2, 2 * rng.normal(size=50)
    mean = expit(logits)
    p = {"p(x|z)": lambda x, z: bernoulli.pmf(x, mean), "z": None}
    return {"x": x, "logits": logits, "mean": mean, "diff_logits": diff("logits"), **p}


def continuous_bernoulli_nll(rng):
    nodes, weights = np.polynomial.legendre.leggauss(40)  # of an integral from 0 to 1
    integral = lambda body, _: np.tensordot(weights / 2, body(x=(nodes[:, None] + 1) / 2), 1)  # noqa: E731
    values = {"x": rng.uniform(size=50), "logits": rng.choice([-1, 1], 50) * rng.uniform(0.5, 5, 50)}  # near 0 they cancel
    return values | {"int_x": integral, "diff_logits": diff("logits")}


def gaussian_nll(rng):
    values = {name: rng.normal(size=50) for name in ("x", "mean", "output_logvar")}
    return values | {
        "N": lambda x, mean, v: norm.pdf(x, mean, np.sqrt(v)),
        "diff_mean": diff("mean"),
        "diff_output_logvar": diff("output_logvar"),
    }


def elbo(rng):
    samples = {"nll_l": rng.normal(size=3), "kl_k": rng.normal(size=4), "L": 3, "K": 4, "beta": 0.7}
    by = {"diff_nll_1": diff("nll_l", 0), "diff_kl_1": diff("kl_k", 0)}
    return model(rng) | samples | by | {"mean_k": along(np.mean, 0), "sum_k": along(np.sum, 0)}


def iwae(rng):
    nll, kl, beta = rng.normal(size=3), rng.normal(size=3), 0.7
    w = np.exp(-(nll + beta * kl))
    by = {"diff_nll_1": diff("nll_l", 0), "diff_kl_1": diff("kl_l", 0)}
    return model(rng) | {"nll_l": nll, "kl_l": kl, "beta": beta, "L": 3, "w_l": w, "w_1": w[0], "top": np.log(w).max()} | by


def path(rng):
    w, beta = rng.uniform(1, 3, 2), 0.7
    w_tilde = w[0] / w.sum()
    return model(rng) | {"a": 0.0, "diff_a": diff("a"), "w_1": w[0], "w_2": w[1], "w~": w_tilde, "beta": beta}


def score(rng):
    values = iwae(rng)
    return values | {"nll_1": values["nll_l"][0]}


SUMS = {"sum": np.sum, "mean": np.mean}
VALUES = {
    **dict.fromkeys(("bound", "reparameterize", "gaussian_kl", "sampled_kl"), model),
    **{name: activation(getattr(reference, f"affine_{name}")) for name in ACTIVATIONS},
    **{
        f.__name__: f
        for f in (adjoint, affine, constant, bernoulli_nll, continuous_bernoulli_nll, gaussian_nll, elbo, iwae, path, score)
    },
    "vimco": iwae,
}
FORMULAS = [
    pytest.param(name, parse(step.formula), id=f"{name}: {step.formula}")
    for name, derivation in DERIVATIONS.items()
    for step in derivation.steps
    if step.formula
]
TRUE_TOO = parse("E_q[f(z)] = E_eps[f(mu - exp(logvar / 2) eps)]")  # -eps is as likely as eps


def holds(tree, values):
    with np.errstate(all="ignore"):
        sides = evaluate(tree, values)
        return all(
            np.allclose(left, right, rtol=1e-11, atol=1e-12) if sign == "=" else np.all(left < right)
            for left, sign, right in zip(sides, tree[2::2], sides[1:])
        )


# ------------------------------------------------------------------------------------------------------------- the tests


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name, tree", FORMULAS)
def test_a_formula_is_true(name, tree, seed):
    assert holds(tree, VALUES[name](np.random.default_rng(seed)))


@pytest.mark.parametrize("name, tree", FORMULAS)
def test_and_a_damaged_one_is_not(name, tree):
    values = VALUES[name](np.random.default_rng(0))
    if "<=" in tree:
        assert not holds((tree[0], *tree[:0:-1]), values)
    else:
        for wrong in damages(tree):
            try:
                assert wrong == TRUE_TOO or not holds(wrong, values), plain(wrong)
            except ValueError:  # the shapes do not fit
                pass


def test_every_operation_of_the_model_has_a_derivation_and_each_derivation_an_operation():
    keys = {name: key_of(name) for name in OPERATIONS}
    assert {name for name, key in keys.items() if key is None} <= UPDATES | BATCHES
    assert set(filter(None, keys.values())) | {"bound", "adjoint"} == DERIVATIONS.keys()
    assert keys["affine_relu"] == keys["relu_backward"] == "relu"
    assert keys["bernoulli_mean"] == keys["bernoulli_nll_backward"] == "bernoulli_nll"


@pytest.mark.parametrize("name", DERIVATIONS)
def test_a_derivation_is_short_and_leads_up_to_its_line(name):
    title, steps, source, _ = DERIVATIONS[name]
    assert title and source and 3 <= len(steps) <= 8
    assert steps[-1].formula is None
    assert name in ("bound", "adjoint") or steps[-1].sentence.endswith(("line:", "lines:"))
