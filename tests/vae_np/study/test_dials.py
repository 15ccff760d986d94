"""The dials show what the model computes, and what they say in words is true; the estimators all estimate the same gradient."""

import numpy as np
import pytest

from vae_np import Architecture, Parameters, closed_form, elbo, encode, loss, loss_and_gradients, train
from vae_np.choices import OBJECTIVES
from vae_np.data import load
from vae_np.study import dials as module
from vae_np.study.dials import dials, estimators, paths
from vae_np.testing import random_problem
from vae_np.testing.problems import every_kind

PROBLEMS = list(every_kind())
PROBLEM = random_problem(Architecture(6, (5, 4), 3, "tanh"))
LINEAR = Architecture(5, (), 3, likelihood="gaussian", noise="shared")
NAMES = "beta", "logvar", "eps", "samples"


def by_name(problem):
    found = {dial.name: dial for dial in dials(*problem)}
    assert tuple(found) == NAMES
    return found


def curve(dial, label):
    return np.array(dial.curves[label])


def norm(array):
    return np.linalg.norm(array)


# ------------------------------------------------------------------------------------------------- what the numbers are


@pytest.mark.parametrize("problem", PROBLEMS[::3] + PROBLEMS[1::7])
def test_where_the_run_is_every_dial_shows_the_run(problem):
    (value, g), first = loss_and_gradients(*problem), next(iter(problem.p))
    wanted = {"loss, nats": value.total, "reconstruction, nats": value.reconstruction, "KL, nats": value.kl}
    wanted |= {f"norm of the gradient of {name}": norm(g[name]) for name in (first, "output.W")}
    here = {"beta": problem.beta, "logvar": 0, "eps": 1, "samples": len(problem.eps)}
    for name, dial in by_name(problem).items():
        assert dial.here == here[name] and dial.values == sorted(set(dial.values))
        assert {len(numbers) for numbers in dial.curves.values()} == {len(dial.values)}
        if name != "samples":
            shown = {label: numbers[dial.values.index(dial.here)] for label, numbers in dial.curves.items()}
            assert {label: shown[label] for label in wanted} == pytest.approx(wanted, rel=1e-12)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_elsewhere_they_show_the_run_that_is_elsewhere(objective):
    problem = PROBLEM._replace(objective=objective)
    wider = problem.p.copy()
    wider["logvar.b"][...] += -2.5
    assert encode(wider, problem.x)[1] == pytest.approx(encode(problem.p, problem.x)[1] - 2.5)
    found = by_name(problem)
    for name, value, there in (
        ("beta", 3.25, problem._replace(beta=3.25)),
        ("logvar", -2.5, problem._replace(p=wider)),
        ("eps", 0.25, problem._replace(eps=0.25 * problem.eps)),
    ):
        dial, (wanted, g) = found[name], loss_and_gradients(*there)
        at = dial.values.index(value)
        assert curve(dial, "loss, nats")[at] == pytest.approx(wanted.total, rel=1e-12)
        assert curve(dial, "norm of the gradient of encoder.0.W")[at] == pytest.approx(norm(g["encoder.0.W"]), rel=1e-12)


@pytest.mark.parametrize("problem", PROBLEMS[::5])
def test_the_two_paths_are_the_whole_gradient(problem):
    p, x, eps, beta, _, objective = problem
    model, a, d = module.whole_pass(p, x, eps, beta, objective, len(x))
    (dmu_z, dlogvar_z), (dmu_kl, dlogvar_kl) = paths(model, objective, a, d)
    np.testing.assert_allclose(dmu_z + dmu_kl, d.mu, rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(dlogvar_z + dlogvar_kl, d.logvar, rtol=1e-12, atol=1e-15)
    shown = by_name(problem)["eps"]
    for label, array in (("dmu through z", dmu_z), ("dlogvar through the KL", dlogvar_kl), ("dz", d.z)):
        assert curve(shown, f"norm of {label}")[shown.values.index(1.0)] == pytest.approx(norm(array), rel=1e-12)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_repeated_passes_are_the_passes_one_by_one(objective, monkeypatch):
    monkeypatch.setattr("vae_np.study.estimates.ROWS", 12)  # two passes at a time, and then the one that is left
    p, x, *_ = PROBLEM
    eps = np.random.default_rng(0).normal(size=(5, 2, 3, 3))
    for i, (losses, dmu, dlogvar) in enumerate(zip(*module._repeated(p, x, eps, 0.7, objective), strict=True)):
        _, a, d = module.whole_pass(p, x, eps[i], 0.7, objective, len(x))
        for given, wanted in ((losses, a.loss), (dmu, d.mu), (dlogvar, d.logvar)):
            np.testing.assert_allclose(given, wanted, rtol=1e-12, atol=1e-15)


def test_the_same_run_gives_the_same_numbers_however_it_is_cut(monkeypatch):
    once = dials(*PROBLEM), estimators(*PROBLEM[:2], n_draws=50)
    assert repr((dials(*PROBLEM), estimators(*PROBLEM[:2], n_draws=50))) == repr(once)
    monkeypatch.setattr("vae_np.study.estimates.ROWS", 7)
    cut = dials(*PROBLEM), estimators(*PROBLEM[:2], n_draws=50)
    for label, numbers in once[0][3].curves.items():
        assert cut[0][3].curves[label] == pytest.approx(numbers, rel=1e-10)
    for name, estimate in once[1].dmu.items():
        np.testing.assert_allclose(cut[1].dmu[name].variance, estimate.variance, rtol=1e-10)


def test_bytes_and_a_single_precision_model_are_taken_as_doubles():
    p, x = PROBLEM.p.astype("float32"), np.round(255 * PROBLEM.x).astype(np.uint8)
    given, wanted = (p, x, PROBLEM.eps), (p.astype("float64"), x / 255, PROBLEM.eps)
    assert repr(dials(*given)) == repr(dials(*wanted))
    assert repr(estimators(*given[:2], n_draws=9)) == repr(estimators(*wanted[:2], n_draws=9))


@pytest.mark.parametrize(
    "function, change, sentence",
    [
        (dials, {"p": {}}, "p is a dict; it must be Parameters"),
        (dials, {"x": PROBLEM.x[:, 1:]}, "x has shape"),
        (dials, {"objective": "vae"}, "objective is 'vae'"),
        (estimators, {"p": {}}, "p is a dict; it must be Parameters"),
        (estimators, {"x": PROBLEM.x * np.nan}, "x holds NaN"),
        (estimators, {"n_draws": 1}, "n_draws is 1; it must be a whole number, 2 or more"),
        (estimators, {"seed": -1}, "seed is -1"),
    ],
)
def test_wrong_arguments_get_one_clear_sentence(function, change, sentence):
    rest = {"eps": PROBLEM.eps} if function is dials else {}
    with pytest.raises((TypeError, ValueError), match=sentence):
        function(**{"p": PROBLEM.p, "x": PROBLEM.x, **rest, **change})


# ------------------------------------------------------------------------------------------------- what the words claim


def test_with_the_kl_in_closed_form():
    p, x, _, beta, *_ = PROBLEM
    found, (mu, logvar), B = by_name(PROBLEM), encode(p, x), len(x)

    dial = found["beta"]
    for label in ("norm of dmu through the KL", "norm of dlogvar through the KL"):
        assert curve(dial, label)[0] == 0 < curve(dial, label)[-1]
        np.testing.assert_allclose(curve(dial, label), np.array(dial.values) / 4 * curve(dial, label)[-1], rtol=1e-12)
    for label in ("norm of dmu through z", "norm of dlogvar through z", "norm of dz", "norm of the gradient of output.W"):
        assert len(set(dial.curves[label])) == 1
    assert len(set(dial.curves["norm of the gradient of encoder.0.W"])) == len(dial.values)

    dial = found["logvar"]
    np.testing.assert_allclose(curve(dial, "norm of dmu through the KL"), beta * norm(mu) / B, rtol=1e-12)
    into_logvar = [beta * norm(np.exp(logvar + shift) - 1) / (2 * B) for shift in dial.values]
    np.testing.assert_allclose(curve(dial, "norm of dlogvar through the KL"), into_logvar, rtol=1e-10)
    kl = [np.sum(mu**2 + np.exp(logvar + shift) - 1 - logvar - shift) / (2 * B) for shift in dial.values]
    np.testing.assert_allclose(curve(dial, "KL, nats"), kl, rtol=1e-10)

    dial = found["eps"]
    assert dial.values[0] == dial.curves["norm of dlogvar through z"][0] == 0 < dial.curves["norm of dlogvar through z"][1]
    assert curve(dial, "reconstruction, nats")[0] == pytest.approx(loss(p, x, 0 * PROBLEM.eps).reconstruction)
    for label in ("KL, nats", "norm of dmu through the KL", "norm of dlogvar through the KL"):
        assert len(set(dial.curves[label])) == 1


@pytest.mark.parametrize("objective", ["elbo_mc", "iwae"])
def test_with_the_kl_from_samples(objective):
    beta, found = PROBLEM.beta, by_name(PROBLEM._replace(objective=objective))
    B, Z = PROBLEM.eps.shape[1:]
    for name in ("beta", "logvar", "eps"):
        dial = found[name]
        betas = np.array(dial.values) if name == "beta" else beta
        np.testing.assert_allclose(curve(dial, "norm of dlogvar through the KL"), betas / (2 * B) * np.sqrt(B * Z), rtol=1e-12)
        assert set(dial.curves["norm of dmu through the KL"]) == {0.0}
        assert len(set(dial.curves["norm of dmu through z"])) == len(dial.values)
    assert found["eps"].curves["norm of dlogvar through z"][0] == 0


def test_the_kl_from_samples_is_right_at_the_factor_1_alone():
    p, x = PROBLEM[:2]
    eps = np.random.default_rng(0).normal(size=(4000, len(x), 3))
    dial, wanted = by_name((p, x, eps, 1.0, 0.0, "elbo_mc"))["eps"], loss(p, x, eps).kl
    off = np.abs(curve(dial, "KL, nats") - wanted)
    assert off[dial.values.index(1.0)] < 0.02 < 0.15 < np.delete(off, dial.values.index(1.0)).min()


def test_more_samples_mean_less_spread_and_a_tighter_bound():
    p, x = Parameters.initialize(LINEAR, seed=1), np.random.default_rng(0).normal(size=(4, 5))
    p.flat += 0.3 * np.random.default_rng(1).normal(size=p.flat.shape)
    dial = by_name((p, x, np.zeros((1, 4, 3)), 0.5, 0.0, "elbo"))["samples"]

    # In a linear model dmu = ((mu + std eps) G + ..) / B, G = W W.T / noise: a spread of std G / B.
    std, noise = np.exp(encode(p, x)[1] / 2), np.exp(p["noise.logvar"][0])
    G = p["output.W"] @ p["output.W"].T / noise
    exact = np.sqrt(sum(norm(s[:, None] * G) ** 2 for s in std)) / len(x)
    by_elbo, by_iwae = (curve(dial, f"standard deviation of dmu with {name}") for name in ("elbo", "iwae"))
    np.testing.assert_allclose(by_elbo, exact / np.sqrt(dial.values), rtol=0.12)
    assert by_elbo[0] == pytest.approx(exact, rel=0.05) and (np.diff(by_elbo) < 0).all() and (np.diff(by_iwae) < 0).all()

    by_elbo, by_iwae = (curve(dial, f"loss with {name}, nats") for name in ("elbo_mc", "iwae"))
    assert np.ptp(by_elbo) < 1e-10 and (np.diff(by_iwae) < 0).all() and by_iwae[0] == by_elbo[0]
    wanted = loss(p, x, closed_form.sigma_points(4, 3), beta=0.5).total
    assert abs(by_elbo[0] - wanted) < 3 * dial.errors["loss with elbo_mc, nats"][0]

    dial = by_name((p, x, np.zeros((1, 4, 3)), 1.0, 0.0, "elbo"))["samples"]
    above = curve(dial, "loss with iwae, nats") + closed_form.linear_log_likelihood(p, x).mean()
    assert above[0] > 4 * abs(above[-1])


def test_a_bar_is_the_error_of_the_mean():
    """Means over other draws are as far from each other as the standard error says."""
    p, x, *_ = PROBLEM
    dial = by_name((p, x, np.zeros((1, 3, 3)), 1.0, 0.0, "elbo"))["samples"]
    eps = np.random.default_rng(0).normal(size=(100, module.DRAWS, 1, 3, 3))
    means = [module._repeated(p, x, some, 1.0, "elbo_mc")[0].mean() for some in eps]
    assert dial.errors["loss with elbo_mc, nats"][0] == pytest.approx(np.std(means), rel=0.25)
    assert abs(dial.curves["loss with elbo_mc, nats"][0] - np.mean(means)) < 4 * np.std(means)


def test_a_run_of_any_number_of_samples_is_on_its_dial():
    for L in (3, 50, 401):
        dial = by_name(PROBLEM._replace(eps=np.zeros((L, 3, 3))))["samples"]
        assert dial.here == L and set(dial.values) == {1, 2, 5, 10, 20, 50, L}
        assert np.isfinite(list(dial.curves.values())).all()


# ---------------------------------------------------------------------------------------------------------- estimators


def linear_problem():
    """A linear Gaussian model and rows, and the gradient of E_q[nll] with respect to mu and to logvar.

    nll = |x - b - z W|^2 / (2 noise) + const and z = mu + std eps, so that its expectation is
    (|x - b - mu W|^2 + sum_z exp(logvar_z) |W_z|^2) / (2 noise) + const.
    """
    p, x = Parameters.initialize(LINEAR, seed=2), np.random.default_rng(0).normal(size=(2, 5))
    p.flat += 0.4 * np.random.default_rng(1).normal(size=p.flat.shape)
    mu, logvar = encode(p, x)
    W, noise = p["output.W"], np.exp(p["noise.logvar"][0])
    dmu = (mu @ W + p["output.b"] - x) @ W.T / noise / len(x)
    dlogvar = np.exp(logvar) * np.sum(W * W, axis=1) / (2 * noise) / len(x)
    return p, x, dmu, dlogvar


def errors(estimates, wanted):
    """{name: the largest distance of a mean from the wanted value, in standard errors}"""
    return {name: np.max(np.abs(e.mean - wanted) / e.standard_error) for name, e in estimates.items()}


def test_all_estimate_the_gradient_that_is_known():
    p, x, dmu, dlogvar = linear_problem()
    found = estimators(p, x, n_draws=20_000)
    for estimates, wanted in ((found.dmu, dmu), (found.dlogvar, dlogvar)):
        assert max(errors(estimates, wanted).values()) < 4
        for (name, estimate), limit in zip(estimates.items(), (0.03, 0.4, 0.1), strict=True):
            assert norm(estimate.standard_error) < limit * norm(wanted), name
            np.testing.assert_allclose(estimate.standard_error, np.sqrt(estimate.variance / 20_000), rtol=1e-12)
            total = estimate.variance.sum() / estimates["reparameterised"].variance.sum()
            assert estimate.ratio == pytest.approx(total, rel=1e-12)


def test_the_variance_of_the_reparameterised_gradient_is_the_known_one():
    p, x, *_ = linear_problem()
    std, W, noise = np.exp(encode(p, x)[1] / 2), p["output.W"], np.exp(p["noise.logvar"][0])
    exact = [(s[:, None] * (W @ W.T)).T ** 2 @ np.ones(3) / (noise * len(x)) ** 2 for s in std]
    np.testing.assert_allclose(estimators(p, x, 20_000).dmu["reparameterised"].variance, exact, rtol=0.05)


def test_the_baseline_leaves_its_own_draw_out():
    """With two draws, a baseline that contained the draw itself would halve the gradient."""
    p, x, dmu, _ = linear_problem()
    means = [estimators(p, x, n_draws=2, seed=seed).dmu["score function with baseline"].mean for seed in range(1000)]
    error = np.std(means, axis=0) / 1000**0.5
    assert np.max(np.abs(np.mean(means, axis=0) - dmu) / error) < 4 < np.max(np.abs(np.mean(means, axis=0) - dmu / 2) / error)


@pytest.mark.parametrize("planted", ["score without 1 / std", "half the noise in z"])
def test_a_planted_error_is_seen(planted, monkeypatch):
    p, x, dmu, dlogvar = linear_problem()
    if planted == "score without 1 / std":
        monkeypatch.setattr(elbo, "encode", lambda p, x: (None, 0 * dmu))
    else:
        right = module._repeated
        monkeypatch.setattr(module, "_repeated", lambda p, x, eps, *rest: right(p, x, eps / 2, *rest))
    found = estimators(p, x, n_draws=20_000)
    assert errors(found.dmu, dmu)["score function with baseline"] > 6
    assert (errors(found.dlogvar, dlogvar)["reparameterised"] > 6) == (planted == "half the noise in z")


def test_on_digits_the_trick_saves_most_of_the_variance():
    digits = load("digits")
    p = train(Architecture(64, (64,), 8), digits.train, epochs=3, batch_size=64, backend="numpy").parameters
    found = estimators(p, digits.valid[:4])
    for estimates in (found.dmu, found.dlogvar):
        trick = estimates["reparameterised"]
        for name, factor in (("score function", 100), ("score function with baseline", 2)):
            off = (estimates[name].mean - trick.mean) / np.hypot(estimates[name].standard_error, trick.standard_error)
            assert 0.6 < np.sqrt(np.mean(off**2)) < 1.4 and np.abs(off).max() < 4.5
            assert estimates[name].ratio > factor
