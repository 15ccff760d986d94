"""What the slider of mu moves is what the model computes, and the histograms show the estimators of one derivative."""

import re

import numpy as np
import pytest

from tests.vae_np.study.test_trace import PROBLEM
from vae_np import Architecture
from vae_np.study import dials, randomness, trace
from vae_np.study.randomness import OFFSETS
from vae_np.testing import complex_elbo, random_problem

STEP = 1e-30


@pytest.fixture(scope="module")
def lines():
    return trace(*PROBLEM, elements=1)


def nll_of(lines, example, latent, shift, eps):
    """nll of one sample and its derivative by mu, by a complex step of the second writing of the loss."""
    q = dict(lines.p)
    q["mu.b"] = q["mu.b"] + (np.arange(len(q["mu.b"])) == latent) * (shift + 1j * STEP)
    value = complex_elbo(lines.p.architecture, q, lines.a.x[example][None], eps[None, None], beta=0.0)
    return value.real, value.imag / STEP


def test_z_nll_and_the_slope_are_those_of_the_model(lines):
    for example, latent in ((0, 2), (2, 0)):
        of, eps = randomness.moved(lines, example, latent), lines.a.eps[0, example]
        assert of.sigma == pytest.approx(np.exp(lines.a.logvar[example, latent] / 2)) and of.eps == eps[latent]
        np.testing.assert_allclose(of.mu, lines.a.mu[example, latent] + OFFSETS, rtol=1e-12)
        np.testing.assert_allclose(of.z, of.mu + of.sigma * of.eps, rtol=1e-12)
        wanted = np.array([nll_of(lines, example, latent, shift, eps) for shift in OFFSETS])
        np.testing.assert_allclose(np.stack([of.nll, of.slope], axis=1), wanted, rtol=1e-10, atol=1e-13)
        here = len(OFFSETS) // 2
        assert OFFSETS[here] == 0 and of.nll[here] == pytest.approx(lines.a.nll[0, example])


def test_what_is_drawn_anew_is_another_sample_at_every_mu(lines):
    of = randomness.moved(lines, 1, 1)
    noise = (of.z_drawn - of.mu) / of.sigma
    assert len(set(noise.round(9))) == len(noise) and abs(noise.mean()) < 1 and 0.5 < noise.std() < 1.6
    for i in (0, 9):
        eps = lines.a.eps[0, 1].copy()
        eps[1] = noise[i]
        assert of.nll_drawn[i] == pytest.approx(nll_of(lines, 1, 1, OFFSETS[i], eps)[0], rel=1e-10)
    assert np.abs(np.diff(of.nll_drawn, 2)).max() > 3 * np.abs(np.diff(of.nll, 2)).max()


def test_the_slider_begins_at_the_run_and_shows_these_numbers(lines):
    text = randomness.randomness(lines)
    example, latent = randomness._steepest(lines)
    dmu = [array.value for line in lines for array in line.writes if array.name == "dmu"][-1]
    assert abs(dmu[example, latent]) == np.abs(dmu).max()
    of = randomness.moved(lines, example, latent)
    shown = dict(re.findall(r"<dt>([^<]*)</dt><dd data-values=\"([^\"]*)\"", text))
    number = [float(each.replace("−", "-")) for each in shown["its slope with respect to mu"].split("|")]
    np.testing.assert_allclose(number, of.slope, rtol=0.006, atol=1e-3)
    assert 'value="8" data-count="17"' in text and text.count("data-transforms") == 1
    assert "How far the estimates spread" not in text and "#estimators" not in text


@pytest.mark.parametrize(("activation", "exact"), [("tanh", True), ("relu", False)])
def test_the_histograms_show_one_derivative_and_its_mean(activation, exact):
    p, x, eps, *rest = random_problem(Architecture(4, (3,), 1, activation), n_examples=2, logit=1.0)
    lines, found = trace(p, x, eps, *rest, elements=1), dials.estimators(p, x, n_draws=500)
    b, j = found.element
    assert abs(found.dmu["reparameterised"].mean[b, j]) == np.abs(found.dmu["reparameterised"].mean).max()
    for of in (found.dmu, found.dlogvar):
        for estimate in of.values():
            assert estimate.draws.shape == (500,)
            assert estimate.draws.mean() == pytest.approx(estimate.mean[b, j], rel=1e-10)
            assert estimate.draws.var(ddof=1) == pytest.approx(estimate.variance[b, j], rel=1e-10)
    text = randomness.randomness(lines, found)
    said = re.search(
        r"The line shows [^:]*exact mean, ([−\d.]+)" if exact else r"other draws: ([−\d.]+), with a\s+standard error", text
    )
    mark = float(said[1].replace("−", "-"))
    off = abs(found.dmu["reparameterised"].draws.mean() - mark)
    assert off < 4 * found.dmu["reparameterised"].standard_error[b, j] and f"dmu of example {b}, latent {j}" in text
