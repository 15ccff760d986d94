"""The estimators of the encoder's gradient: what they give on average, how they vary, and how they follow from each other.

The means and variances are exact: integrals over eps by Gauss-Hermite quadrature. Every element of every estimator is compared
with complex steps in tests/vae_np/test_properties.py.
"""

import mpmath
import numpy as np
import pytest

from vae_np import Architecture, Parameters, kernels, loss_and_gradients
from vae_np.choices import ESTIMATORS, OBJECTIVES
from vae_np.gradient_moments import (
    BIASES,
    exact,
    exact_gradient,
    exact_loss,
    linear_model,
    nodes,
    passes,
    sampled,
    small_model,
)
from vae_np.testing import assert_close, random_problem
from vae_np.testing.problems import every_kind

BIASED = {("iwae", "path")}  # of (objective, estimator)
PAIRS = [
    (objective, estimator)
    for objective in OBJECTIVES
    for estimator in ESTIMATORS
    if objective in ESTIMATORS[estimator].operations
]
OTHERS = [(objective, estimator) for objective, estimator in PAIRS if estimator != "total"]

# --------------------------------------------------------------------------------------------------- exact mean and variance


@pytest.mark.parametrize(
    "objective, beta, loss, gradient",
    [
        ("elbo_mc", 1.0, 11.9564573686, (2.432644504, 0.132380571)),
        ("iwae", 1.0, 11.3170717836, (1.693749209, -0.354850470)),
        ("iwae", 0.5, 11.3330519387, (1.751939053, -0.237410485)),
    ],
)
def test_the_mean_loss_and_its_derivative_of_the_small_model(objective, beta, loss, gradient):
    p, x = small_model()
    assert exact_loss(p, x, beta, objective, 2) == pytest.approx(loss, abs=1e-10)
    assert exact_gradient(p, x, beta, objective, 2) == pytest.approx(gradient, abs=1e-9)


@pytest.mark.parametrize(
    "objective, beta, estimator, bias, variance",
    [
        ("elbo_mc", 1.0, "total", (0, 0), (1.193177, 0.895754)),
        ("elbo_mc", 1.0, "path", (0, 0), (0.052287, 0.513374)),
        ("elbo_mc", 1.0, "score", (0, 0), (11.99238, 6.090386)),
        ("iwae", 1.0, "total", (0, 0), (1.643827, 0.447613)),
        ("iwae", 1.0, "path", (0.584217, 0.008621), (0.072036, 0.512778)),
        ("iwae", 1.0, "dreg", (0, 0), (0.131719, 0.326510)),
        ("iwae", 1.0, "score", (0, 0), (437.34942, 132.309493)),
        ("iwae", 1.0, "vimco", (0, 0), (8.655229, 4.605093)),
        ("iwae", 0.5, "total", (0, 0), (0.864956, 0.323848)),
        ("iwae", 0.5, "path", (0.285448, 0.008308), (0.184727, 0.370797)),
        ("iwae", 0.5, "dreg", (0, 0), (0.130011, 0.279743)),
        ("iwae", 0.5, "vimco", (0, 0), (8.202529, 4.032679)),
    ],
)
def test_bias_and_variance_of_the_small_model(objective, beta, estimator, bias, variance):
    """With two samples. The variances were computed by another program too, from formulas for this model alone."""
    p, x = small_model()
    found = exact(p, x, beta, objective, 2, estimator)
    off = found.mean - exact_gradient(p, x, beta, objective, 2)
    assert off == pytest.approx(bias, abs=1e-9 if not any(bias) else 1e-6)
    assert found.variance == pytest.approx(variance, rel=2e-6, abs=1e-6)


def test_the_score_without_a_baseline():
    """The mean of two independent samples has half the variance of one, for which there is no baseline."""
    p, x = small_model()
    assert exact(p, x, 1.0, "elbo_mc", 1, "score").variance / 2 == pytest.approx((117.4043, 43.98599), rel=1e-6)


@pytest.mark.parametrize("n_samples, n", [(1, 80), (2, 50), pytest.param(3, 44, marks=pytest.mark.slow)])
@pytest.mark.parametrize("objective, estimator", PAIRS)
def test_the_mean_is_the_derivative_of_the_mean_loss(backend, objective, estimator, n_samples, n):
    """For a model with hidden layers, whose posterior is no Gaussian; for any beta and any number of samples."""
    arch = Architecture(3, (4,), 1, "tanh", "gaussian", noise="shared")
    problem = random_problem(arch, n_examples=1, seed=3)
    p, x, beta = problem.p, problem.x, 0.7
    p["logvar.b"][...] -= 3  # the narrower q is, the fewer nodes are enough
    eps, weights = nodes(n_samples, n)
    found = passes(p, np.repeat(x, len(weights), 0), eps, beta, objective, [estimator], backend)[estimator]
    mean = weights @ np.concatenate([found.mu, found.logvar], axis=1)
    off = np.abs(mean - exact_gradient(p, x, beta, objective, n_samples, n)).max()
    if n_samples > 1 and (objective, estimator) in BIASED:
        assert off > 1e-3
    else:
        assert off < 1e-9


@pytest.mark.parametrize("objective, estimator", OTHERS)
def test_draws_agree_with_total_in_every_coordinate(objective, estimator):
    """The mean difference of a pair of estimates, divided by its standard error, is a standard normal number, or far from it."""
    p, x = linear_model(0.1, n_rows=4, n_latent=5)
    of = sampled(p, x, 5, 4000, ["total", estimator], "total", objective)[estimator]
    for name in BIASES[:2]:
        t = of.difference[name] / np.sqrt(of.variance_of_difference[name] / of.n_draws)
        assert (np.sqrt(np.mean(t**2)) > 10) if (objective, estimator) in BIASED else np.abs(t).max() < 4
    assert (of.difference["output.b"] == 0).all() and (of.variance["output.b"] > 0).all()


def test_moments_of_draws_are_those_of_all_gradients():
    p, x = linear_model(0.5, n_rows=2, n_latent=3)
    eps = np.random.default_rng([7, 4]).standard_normal((4, 2 * 50, 3))
    steps = []
    found = sampled(p, x, 4, 50, ["total", "dreg"], "dreg", seed=7, step=steps.append)
    gradients = {
        name: [loss_and_gradients(p, x, eps[:, 2 * i : 2 * i + 2], objective="iwae", estimator=name)[1] for i in range(50)]
        for name in found
    }
    assert sum(steps) == 50
    for estimator, of in found.items():
        for name in BIASES:
            values, base = (np.array([g[name] for g in gradients[key]]) for key in (estimator, "dreg"))
            assert_close(of.mean[name], values.mean(axis=0), name, rtol=1e-10)
            assert_close(of.variance[name], values.var(axis=0), name, rtol=1e-9)
            assert_close(of.difference[name], (values - base).mean(axis=0), name, rtol=1e-9)
            assert_close(of.variance_of_difference[name], (values - base).var(axis=0), name, rtol=1e-9)


def test_the_linear_model_at_its_optimum():
    """The derivative of log p(x) by m is 0 on average over many rows, and q(z|x) has the mean of the posterior."""
    p, x = linear_model(0.0, n_rows=50_000, n_latent=2)
    mean = x @ p["mu.W"] + p["mu.b"]
    np.testing.assert_allclose(mean, (x - p["output.b"]) / 2)
    np.testing.assert_allclose(np.cov((x - p["output.b"]).T), 2 * np.eye(2), atol=0.05)
    np.testing.assert_allclose(x.mean(axis=0), p["output.b"], atol=0.03)
    np.testing.assert_allclose(np.exp(p["logvar.b"]), 2 / 3)


# ------------------------------------------------------------------------------------------------------------- identities


def of_encoder(g):
    return np.concatenate([g[name].reshape(-1) for name in g if name.startswith(("encoder", "mu", "logvar"))])


def single(problem, l, estimator):
    """The gradient by the encoder of one sample, and its loss, as if it were the only one."""
    one = problem._replace(eps=problem.eps[l : l + 1], objective="elbo_mc", l2=0.0)
    value, g = loss_and_gradients(*one, estimator=estimator)
    return value.per_example[0], of_encoder(g)


@pytest.fixture(params=range(4))
def problem(request):
    """A problem of one example, so that a gradient is that of its samples."""
    arch = Architecture(5, [(), (4,)][request.param % 2], 2, "tanh")
    return random_problem(arch, "iwae", 1, 4, beta=(1.0, 0.7, 0.0, 1.5)[request.param], l2=0.0, seed=request.param)


def test_weighted_estimators_are_sums_over_samples(problem):
    """The path has the factor w~, and with dreg w~ (1 - beta) + beta w~^2."""
    losses, gradients = zip(*(single(problem, l, "path") for l in range(len(problem.eps))))
    w = np.exp(np.min(losses) - np.array(losses))
    w /= w.sum()
    path, dreg = (of_encoder(loss_and_gradients(*problem, estimator=name)[1]) for name in ("path", "dreg"))
    assert_close(path, w @ np.array(gradients), "path")
    assert_close(dreg, (w * (1 - problem.beta) + problem.beta * w**2) @ np.array(gradients), "dreg")


def test_path_is_total_without_the_score(problem):
    """Sample by sample, the difference is beta w~ times the score of q, which has a formula."""
    p = problem.p.copy()
    for name in p:
        if name.startswith(("mu.W", "logvar.W")):
            p[name][...] = 0  # so that the biases are mu and logvar themselves
    problem = problem._replace(p=p)
    losses = np.array([single(problem, l, "total")[0] for l in range(len(problem.eps))])
    w = np.exp(losses.min() - losses)
    w /= w.sum()
    total, path = (loss_and_gradients(*problem, estimator=name)[1] for name in ("total", "path"))
    eps, factor = problem.eps[:, 0], problem.beta * w[:, None]
    score = {"mu.b": eps * np.exp(-p["logvar.b"] / 2), "logvar.b": (eps**2 - 1) / 2}
    for name, of_q in score.items():
        np.testing.assert_allclose(total[name] - path[name], np.sum(factor * of_q, axis=0), rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("objective, estimator", OTHERS)
def test_the_loss_and_the_gradient_of_the_decoder_are_those_of_total_to_the_bit(backend, objective, estimator):
    for problem in every_kind():
        if problem.objective == objective:
            (value, g), (wanted, g_total) = (
                loss_and_gradients(*problem, backend, estimator=name) for name in (estimator, "total")
            )
            assert value[:4] == wanted[:4] and (value.per_example == wanted.per_example).all()
            for name in g:
                if name.startswith(("decoder", "output", "noise")):
                    assert (g[name] == g_total[name]).all()


@pytest.mark.parametrize("beta", [0.0, 0.3, 0.7, 1.0, 1.9])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_of_one_sample_dreg_is_path_to_the_bit_and_vimco_is_score(backend, dtype, beta):
    arch = Architecture(5, (4,), 3, "tanh")
    problem = random_problem(arch, "iwae", n_examples=4, n_samples=1, beta=beta, dtype=dtype)
    g = {name: loss_and_gradients(*problem, backend, estimator=name)[1].flat for name in ("path", "dreg", "score", "vimco")}
    assert (g["dreg"] == g["path"]).all()
    assert_close(g["vimco"], g["score"], "vimco")


def test_where_q_is_the_posterior_path_and_dreg_are_0_for_every_draw(backend):
    """All weights are equal there. So vimco has the variance of total, and gives the same in every draw."""
    D, Z = 4, 2
    p = Parameters.zeros(Architecture(D, (), Z, likelihood="gaussian"))
    W = np.array([[2.0, 0, 1, 0], [0, 1, 0, -3]])  # orthogonal rows: the posterior has independent latents
    variance = 1 / (1 + np.sum(W**2, axis=1))
    p["output.W"][...], p["output.b"][...] = W, [0.3, -1, 2, 0.5]
    p["mu.W"][...], p["mu.b"][...] = W.T * variance, -(W @ p["output.b"]) * variance
    p["logvar.b"][...] = np.log(variance)
    rng = np.random.default_rng(0)
    x, eps = rng.normal(size=(6, D)), rng.normal(size=(5, 6, Z))
    g = {
        name: of_encoder(loss_and_gradients(p, x, eps, objective="iwae", backend=backend, estimator=name)[1])
        for name in ESTIMATORS
    }
    assert np.abs(g["path"]).max() < 1e-13 and np.abs(g["dreg"]).max() < 1e-13
    assert np.abs(g["total"]).max() > 0.1
    np.testing.assert_allclose(g["vimco"], g["total"], atol=1e-12)
    path = of_encoder(loss_and_gradients(p, x, eps, objective="elbo_mc", backend=backend, estimator="path")[1])
    assert np.abs(path).max() < 1e-13


# -------------------------------------------------------------------------------------------------------- numbers of any size


@pytest.mark.parametrize("real", [np.float32, np.float64])
@pytest.mark.parametrize(
    "costs", [[0, 900, 950], [900, 0, 950], [1e5, 0], [3, 3, 3, 3], [0, 1e-3, 40, 2e4], [-5e4, 5e4, 0, 1, 2]]
)
def test_vimco_is_exact_where_one_weight_dominates(kernel_set, real, costs):
    """The sum of the other weights vanishes beside it: the total less the own weight would be 0, and its logarithm infinite."""
    nll = np.stack([costs, costs[::-1], costs], axis=1).astype(real)
    kl = np.full_like(nll, 8) * np.arange(len(costs))[:, None].astype(real)
    dnll, dkl = (np.full(nll.shape, np.nan, real) for _ in range(2))
    kernel_set.vimco_backward(nll - kl / 2, kl, real(0.5), 2, dnll, dkl)
    eps = float(np.finfo(real).eps)
    with mpmath.workdps(60):
        for b in range(3):
            w = [mpmath.exp(-mpmath.mpf(float(cost))) for cost in nll[:, b]]
            for l in range(len(w)):
                others = w[:l] + w[l + 1 :]
                mean = mpmath.exp(sum(map(mpmath.log, others)) / len(others))
                wanted = (0.5 * w[l] / sum(w) - mpmath.log(sum(w)) + mpmath.log(sum(others) + mean)) / 2
                rounding = 20 * eps * max(1, abs(float(wanted))) + eps * np.abs(nll - kl / 2).max()
                assert abs(dkl[l, b] - float(wanted)) < rounding
                assert dnll[l, b] == pytest.approx(float(w[l] / sum(w) / 2), rel=1e4 * eps, abs=1e-30)


# ------------------------------------------------------------------------------------------------------------ what is refused


@pytest.mark.parametrize(
    "objective, estimator, sentence",
    [
        ("elbo", "dreg", "estimator is 'dreg', which objective 'elbo' does not have; it has 'total'"),
        ("elbo_mc", "vimco", "which objective 'elbo_mc' does not have; it has 'total', 'path', 'score'"),
        ("iwae", "stl", "estimator is 'stl'; known are 'total', 'path', 'dreg', 'score', 'vimco'"),
    ],
)
def test_an_estimator_that_the_objective_does_not_have_is_refused(objective, estimator, sentence):
    p, x, eps = random_problem(Architecture(4, (3,), 2))[:3]
    with pytest.raises(ValueError, match=sentence):
        loss_and_gradients(p, x, eps, objective=objective, estimator=estimator)


def test_every_operation_of_the_records_is_one_of_the_kernels():
    for estimator in ESTIMATORS.values():
        for operations in estimator.operations.values():
            assert set(operations.values()) <= kernels.contract.OPERATIONS.keys()
