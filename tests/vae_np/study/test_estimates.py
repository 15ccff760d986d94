"""Estimators on the page: each line agrees with the loss or with the surrogate, and what is said of an expectation is true."""

import functools
import re

import numpy as np
import pytest

from tests.vae_np.study.test_trace import changed
from vae_np import Architecture, loss_and_gradients
from vae_np.choices import ESTIMATORS, OBJECTIVES
from vae_np.kernels import reference
from vae_np.study import by_hand, comparison, estimates, page, terminal, trace, typesetting
from vae_np.study.primer import LEGEND
from vae_np.study.proof import TOLERANCE
from vae_np.testing import assert_close, complex_surrogate, random_problem
from vae_np.testing.gradients import check_with_complex_steps

PAIRS = [
    (objective, name) for name, each in ESTIMATORS.items() for objective in each.operations if not each.differentiates_the_loss
]
KINDS = {objective: random_problem(Architecture(3, (2,), 1, "tanh"), objective, 2, 2) for objective in OBJECTIVES}
ENCODER = {"dmu", "dlogvar", "dencoder[1]", "dencoder[1].y"}
ENCODER |= {f"d{layer}.{letter}" for layer in ("encoder[0]", "mu", "logvar") for letter in "Wb"}


@functools.cache
def traced(objective, estimator):
    return trace(*KINDS[objective], 2, estimator)


@functools.cache
def compared(objective):
    return estimates.compared(*KINDS[objective][:4])


def last(lines):
    """{name: its last Array} of all derivatives."""
    return {array.name: array for line in lines for array in line.writes if array.error is not None}


@pytest.mark.parametrize(("objective", "estimator"), PAIRS)
def test_every_line_agrees_with_the_loss_or_with_the_surrogate(objective, estimator):
    problem, lines = KINDS[objective], traced(objective, estimator)
    assert lines.worst < TOLERANCE and not lines.wrong and lines.arguments["estimator"] == estimator
    found, factor_of_score = last(lines), {"dkl"} if "bound_backward" in ESTIMATORS[estimator].operations[objective] else set()
    assert {name for name, array in found.items() if array.of_surrogate} == ENCODER | factor_of_score | {"dz"}
    assert {name for name, array in found.items() if array.expectation} == ENCODER
    g = loss_and_gradients(*problem, estimator=estimator)[1]
    names = {name: re.sub(r"\[(\d)\]", r".\1", name[1:]) for name in found}
    own = {names[name]: array.value for name, array in found.items() if names[name] in g}
    assert own.keys() == set(g)
    for name, value in own.items():
        assert_close(value, g[name], name, rtol=0.0)
    check_with_complex_steps(lambda q: complex_surrogate(g.architecture, problem.p, q, *problem[1:], estimator), problem.p, own)


WRONG = {
    ("iwae", "dreg", "dreg_path_weight"): (
        "dz *= ((1 - beta) + beta * (n_examples * dnll))[:, :, None]",
        "dz *= 1",
        "path_weight",
    ),
    ("elbo_mc", "path", "sampled_kl_path_backward"): ("* (z - eps", "* (z + eps", "divergence_backward"),
    ("iwae", "score", "score_backward"): ("dz[...] = 0", "dz *= 1", "divergence_backward"),
    ("iwae", "vimco", "vimco_backward"): ("(len(log_w) - 1)", "len(log_w)", "bound_backward"),
}


@pytest.mark.parametrize("case", WRONG, ids=lambda case: case[2])
def test_a_mistake_in_an_estimator_is_found_at_its_line(case):
    objective, estimator, operation = case
    old, new, called = WRONG[case]
    planted, _ = changed(vars(reference)[operation], old, new)
    lines = trace(*KINDS[objective], 2, estimator, **{operation: planted})
    assert [line.called for line in lines.wrong] == [called]
    wrong = max(lines.wrong[0].writes, key=lambda array: array.error)
    assert wrong.error > 1e-3 and estimates.said_of(wrong, lines) == ""


def test_where_all_estimators_are_the_derivative_of_the_loss_the_lines_say_so():
    lines = trace(*KINDS["iwae"], 2)
    assert not any(array.of_surrogate or array.expectation for line in lines for array in line.writes)
    with pytest.raises(ValueError, match="estimator is 'dreg', which objective 'elbo' does not have"):
        trace(*KINDS["elbo"], estimator="dreg")


# ------------------------------------------------------------------------------------------------------- expectations


def test_an_exact_expectation_is_that_of_the_total_derivative_but_for_what_is_said_to_be_biased():
    for objective, of in compared("iwae").items():
        for name in ("dmu", "dlogvar"):
            wanted = of["total"][name].expectation
            assert wanted.n_draws == 0 and np.abs(wanted.error).max() < 1e-7
            for estimator, each in of.items():
                off = np.abs(each[name].expectation.mean - wanted.mean).max() / np.abs(wanted.mean).max()
                assert off > 1e-3 if objective in ESTIMATORS[estimator].biased else off < 1e-6, (objective, estimator)


def test_the_expectation_of_every_gradient_is_the_mean_of_the_gradients():
    p, x, _, beta, l2, _ = KINDS["iwae"]
    at, weights = np.polynomial.hermite_e.hermegauss(12)
    single, wanted = x[:1], 0.0
    for i, j in np.ndindex(12, 12):
        g = loss_and_gradients(p, single, [[[at[i]]], [[at[j]]]], beta, l2, "iwae", estimator="dreg")[1]
        wanted = wanted + weights[i] * weights[j] / weights.sum() ** 2 * g.flat
    found = estimates.expectations(p, single, 2, beta, l2, "iwae", "dreg")
    flat = np.concatenate([found[f"d{name}"].mean.ravel() for name in ("encoder[0].W", "encoder[0].b", "mu.W", "mu.b")])
    np.testing.assert_allclose(flat, wanted[: flat.size], rtol=1e-4)


def test_a_standard_error_is_the_spread_of_means_over_draws(monkeypatch):
    problem = random_problem(Architecture(3, (2,), 2, "relu"), "elbo_mc", 2)
    found = estimates.expectations(problem.p, problem.x, 3, 1.0, 0.0, "elbo_mc", "path")
    means, eps = [], np.random.default_rng(0)
    for _ in range(80):
        draws = eps.normal(size=(1, 100, 3, 2, 2))
        monkeypatch.setattr(estimates, "draws_of_eps", lambda *_, draws=draws: draws[0])
        means.append(estimates.expectations(problem.p, problem.x, 3, 1.0, 0.0, "elbo_mc", "path"))
    for name in ENCODER:
        each = np.array([of[name].mean for of in means])
        error = np.linalg.norm(each.std(axis=0)) / (found[name].n_draws / 100) ** 0.5
        assert np.linalg.norm(found[name].error) == pytest.approx(error, rel=0.35), name
        assert np.linalg.norm(found[name].mean - each.mean(axis=0)) < 4 * error + 1e-12


def test_a_kink_is_no_exact_integral_and_neither_are_many_latents():
    for architecture in (Architecture(3, (2,), 1, "relu"), Architecture(3, (2,), 2, "tanh")):
        problem = random_problem(architecture, "iwae", 2, 2)
        assert estimates.integrals(problem.p, problem.x, 2, 1.0, "iwae", ["dreg"]) == {}
        found = estimates.expectations_of_layers(problem.p, problem.x, 2, 1.0, "iwae", ["dreg"])["dreg"]["dmu"]
        assert found.n_draws == 800 and str(found).startswith("by the mean over 800 draws")


# ----------------------------------------------------------------------------------------------------------- what is said


@pytest.mark.parametrize(("objective", "estimator"), [("iwae", "path"), ("iwae", "dreg"), ("iwae", "vimco")])
def test_the_page_and_the_terminal_say_what_is_right_only_on_average_and_nothing_is_red(objective, estimator):
    lines = traced(objective, estimator)
    text, notebook = page.page(lines, "noise"), page.fragment(lines)
    kind = "which is biased" if estimator == "path" else "which is right only on average over eps"
    for shown in (text, notebook):
        assert shown.count(f"It is the estimate {estimator}, {kind}") == len(ENCODER)
        assert shown.count("an exact integral over eps by quadrature") == len(ENCODER)
        assert f"It is a part of the estimate {estimator}" in shown and "✗" not in shown.replace(LEGEND["wrong"], "")
        n = sum(array.of_surrogate for line in lines for array in line.writes)
        assert f"✓ {n} arrays are estimates by {estimator}" in shown and shown.count("of its surrogate to") >= n - 3
    assert f"<dd>{estimator}: {ESTIMATORS[estimator].words}</dd>" in text
    assert ("through the score of q</label>" in text) == (estimator == "vimco")
    dmu = last(lines)["dmu"]
    i = max(i for i, line in enumerate(lines) if "dmu" in [array.name for array in line.writes])
    words = str(terminal._proof(lines, lines[i], dmu))
    assert words.startswith("✓ dμ agrees with a finite difference of its surrogate to ") and kind in words


def test_terms_that_an_estimator_mixes_cannot_be_followed():
    for estimator, known in {"dreg": {"reconstruction", "kl", "z", "divergence"}, "vimco": {"z", "divergence"}}.items():
        dmu = last(traced("iwae", estimator))["dmu"]
        assert dmu.parts.keys() == known
        np.testing.assert_allclose(dmu.parts["z"] + dmu.parts["divergence"], dmu.value, rtol=1e-12)
        if "kl" in known:
            np.testing.assert_allclose(dmu.parts["reconstruction"] + dmu.parts["kl"], dmu.value, rtol=1e-9)


# --------------------------------------------------------------------------------------------------------------- the dial


def test_the_dial_shows_the_estimates_of_the_page_and_their_errors_are_those_of_rounding():
    for objective, of in compared("iwae").items():
        assert list(of) == [name for name, each in ESTIMATORS.items() if objective in each.operations]
        for estimator, each in of.items():
            if (objective, estimator) in PAIRS and objective == "iwae":
                assert_close(each["dmu"].here, last(traced("iwae", estimator))["dmu"].value, estimator)
            for one in each.values():
                assert one.error < 1e-11 and one.draws.shape == (800, 2, 1)
                assert abs(one.draws.mean() - one.expectation.mean.mean()) < 5 * one.draws.mean(axis=(1, 2)).std() / 800**0.5
    directions, wanted = estimates._directional(*KINDS["iwae"][:4], "iwae", "dreg")["dmu"]
    right = compared("iwae")["iwae"]["dreg"]["dmu"].here
    assert estimates._error(right, directions, wanted) < 1e-13 < 1e-7 < estimates._error(right * (1 + 1e-6), directions, wanted)


def test_only_what_is_biased_is_far_from_total():
    p, x, eps, *_ = random_problem(Architecture(4, (3,), 3, "tanh", "gaussian"), "iwae", 2, 4)
    found = estimates.compared(p, x, 3 * eps)["iwae"]
    assert found["total"]["dmu"].apart == 0
    assert max(found[name]["dmu"].apart for name in ("dreg", "vimco")) < 2.2 < found["path"]["dmu"].apart


def test_the_dial_begins_with_the_objective_of_the_page_and_names_every_estimator():
    text = comparison.comparison(traced("iwae", "dreg"), compared("iwae"))
    assert re.findall(r"<option[^>]*>([^<,]*)", text) == ["iwae", "elbo", "elbo_mc"]
    cases = text.split("<div data-case=")[1:]
    for objective, case in zip(("iwae", "elbo", "elbo_mc"), cases, strict=True):
        names = [name for name, each in ESTIMATORS.items() if objective in each.operations]
        rows = re.findall(r'<th scope="row"><code>(\w+)</code>', case)
        assert rows == (2 * names if len(names) > 1 else []) and case.startswith('"0">') == (objective == "iwae")
    assert "For path it grows with the number of draws" in cases[0] and "it grows" not in cases[2]
    number = re.search(r"<code>dreg</code></th><td>([\d.]+)", cases[0])[1]
    assert float(number) == pytest.approx(np.linalg.norm(last(traced("iwae", "dreg"))["dmu"].value), rel=0.01)


@pytest.mark.parametrize("estimator", ["dreg", "vimco"])
def test_by_hand_the_numbers_of_an_estimator_give_its_arrays(estimator):
    lines = traced("iwae", estimator)
    rows = {(row.line, typesetting.plain(row.equation[1])): row for row in by_hand.rows(lines)}
    b, j = np.indices((2, 1)).reshape(2, -1)
    for row in rows.values():
        if row.numbers is not None:
            np.testing.assert_allclose(by_hand._value(row.numbers), row.result, rtol=1e-9)
    (at, dmu) = max((i, row) for (i, name), row in rows.items() if name == "dμ")
    assert lines[at].called == "reparameterize_backward_add"
    np.testing.assert_allclose(dmu.result, last(lines)["dmu"].value[b, j], rtol=1e-12)
    text = by_hand.by_hand(lines)
    assert ("gets another weight" in text) == (estimator == "dreg") and ("factor of the score of q" in text) == (
        estimator == "vimco"
    )
