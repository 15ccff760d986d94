"""Models whose answer is known: the linear VAE is probabilistic PCA, and a latent plane can be integrated over."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special, stats
from sklearn.datasets import load_digits

from vae_np import Architecture, Parameters, blas, encode, log_likelihood, loss
from vae_np.bounds import active_units, elbo_gap
from vae_np.closed_form import (
    fit_exactly,
    linear_log_likelihood,
    linear_posterior,
    pca,
    ppca,
    sigma_points,
)


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """The products are small: threads that wait for one another take ten times as long on a busy machine."""
    with blas.limited():
        yield


def linear_model(D, Z, seed):
    p = Parameters.initialize(Architecture(D, (), Z, likelihood="gaussian", noise="shared"), seed=seed)
    p.flat += 0.3 * np.random.default_rng(seed).normal(size=p.flat.shape)
    return p


def kl_between(mu, logvar, mean, covariance):
    """KL(N(mu, exp(logvar)) || N(mean, covariance)) of each row."""
    precision, Z = np.linalg.inv(covariance), mu.shape[1]
    difference = mu - mean
    squares = np.einsum("bi,ij,bj->b", difference, precision, difference)
    log_determinant = np.linalg.slogdet(covariance)[1] - logvar.sum(axis=1)
    return (np.exp(logvar) @ np.diag(precision) + squares - Z + log_determinant) / 2


@settings(max_examples=25)
@given(D=st.integers(1, 6), Z=st.integers(1, 4), seed=st.integers(0, 99))
def test_elbo_plus_its_gap_is_log_p(backend, D, Z, seed):
    """At any parameters of a linear model, to the last digits: the posterior and log p(x) are known in closed form."""
    p, x = linear_model(D, Z, seed), np.random.default_rng(seed).normal(size=(3, D))
    mu, logvar = encode(p, x)
    gap = kl_between(mu, logvar, *linear_posterior(p, x))
    wanted = linear_log_likelihood(p, x)
    # The points have the mean and the variance of N(0, 1), so that a quadratic's mean over them is exact.
    bound = -loss(p, x, sigma_points(3, Z), backend=backend).per_example
    np.testing.assert_allclose(bound + gap, wanted, rtol=1e-10, atol=1e-10)
    assert (gap >= -1e-12).all()


def test_linear_log_likelihood_is_the_density_of_a_gaussian():
    p, x = linear_model(4, 2, 0), np.random.default_rng(0).normal(size=(5, 4))
    W = p["output.W"]
    covariance = W.T @ W + np.exp(p["noise.logvar"]) * np.eye(4)
    wanted = stats.multivariate_normal(p["output.b"], covariance).logpdf(x)
    np.testing.assert_allclose(linear_log_likelihood(p, x), wanted, rtol=1e-12)


def test_importance_sampling_finds_the_known_log_likelihood(backend):
    p, x = linear_model(5, 2, 1), np.random.default_rng(1).normal(size=(40, 5))
    ll = log_likelihood(p, x, 4000, backend=backend)
    deviation = (np.asarray(ll) - linear_log_likelihood(p, x)) / ll.standard_error
    good = ll.effective_sample_size > 100  # below that the error of the error is large
    assert good.mean() > 0.5 and np.abs(deviation[good]).max() < 6 and 0.5 < deviation[good].std() < 1.7
    mu, logvar = encode(p, x)
    gap = kl_between(mu, logvar, *linear_posterior(p, x))
    assert elbo_gap(p, x, 4000, backend=backend).mean() == pytest.approx(gap.mean(), rel=0.1)


@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian"])
def test_importance_sampling_agrees_with_quadrature_over_the_latent_plane(likelihood):
    p = Parameters.initialize(Architecture(6, (8,), 2, "tanh", likelihood), seed=3)
    p.flat += 0.4 * np.random.default_rng(3).normal(size=p.flat.shape)
    x = np.random.default_rng(4).integers(0, 2, (6, 6)).astype(float)
    points, weights = special.roots_hermitenorm(60)
    z = np.stack(np.meshgrid(points, points), axis=-1).reshape(-1, 2)
    log_weights = np.log(np.outer(weights, weights).ravel() / (2 * np.pi))
    mu, logvar = encode(p, x)
    nll_at_z = [loss(p, x, (np.tile(point, (6, 1)) - mu) / np.exp(logvar / 2), beta=0.0).per_example for point in z]
    wanted = special.logsumexp(log_weights[:, None] - np.array(nll_at_z), axis=0)
    ll = log_likelihood(p, x, 20_000)
    assert (np.abs(np.asarray(ll) - wanted) < 5 * ll.standard_error).all()
    assert ll.standard_error.max() < 0.3


def test_bounds_rise_with_the_samples_and_stay_below_log_p(backend):
    p, x = linear_model(5, 3, 2), np.random.default_rng(2).normal(size=(300, 5))
    ll = log_likelihood(p, x, 500, backend=backend)
    means = [ll.bounds[L].mean() for L in (1, 5, 50)] + [linear_log_likelihood(p, x).mean()]
    assert means == sorted(means)


def test_active_units_are_those_whose_mean_varies():
    p = Parameters.zeros(Architecture(4, (), 3))
    p["mu.W"][:, 1] = 1.0
    p["mu.W"][:, 2] = 0.01
    p["mu.b"][0] = 5.0
    x = np.random.default_rng(0).uniform(size=(500, 4))
    assert active_units(p, x).tolist() == [False, True, False]


# ------------------------------------------------------------------------------------------ trained until nothing moves


def digits():
    """Real digits, small: 4 x 4 pixels, each the mean of four."""
    return (load_digits().data / 16).reshape(-1, 4, 2, 4, 2).mean(axis=(2, 4)).reshape(-1, 16)


def test_linear_vae_trained_to_the_end_is_probabilistic_pca():
    """Tipping & Bishop 1999: the maximum of the likelihood, and the noise, are known from the eigenvalues."""
    x = digits()[::4]  # which are enough: any data will do
    known = ppca(x, 3)
    p = fit_exactly(Architecture(16, (), 3, likelihood="gaussian", noise="shared"), x)
    elbo = -loss(p, x, sigma_points(len(x), 3)).total
    assert elbo == pytest.approx(known.log_likelihood, abs=0.01) and elbo < known.log_likelihood + 1e-9
    assert np.exp(p["noise.logvar"][0]) == pytest.approx(known.noise, rel=0.01)


def test_linear_autoencoder_reaches_the_discarded_eigenvalues_and_not_below():
    x = digits()
    _, eigenvalues = pca(x)
    p = fit_exactly(Architecture(16, (), 3, likelihood="gaussian"), x, beta=0.0, eps=np.zeros((1, len(x), 3)))
    squared_error = 2 * (loss(p, x, np.zeros((len(x), 3)), beta=0.0).total - 16 / 2 * np.log(2 * np.pi))
    assert squared_error == pytest.approx(eigenvalues[3:].sum(), rel=1e-3)
    assert squared_error > eigenvalues[3:].sum() * (1 - 1e-9)


def test_an_autoencoder_loses_nothing_of_data_on_a_plane():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 2)) @ rng.normal(size=(2, 10)) + 1
    p = fit_exactly(Architecture(10, (), 2, likelihood="gaussian"), x, beta=0.0, eps=np.zeros((1, 200, 2)))
    squared_error = 2 * (loss(p, x, np.zeros((200, 2)), beta=0.0).total - 10 / 2 * np.log(2 * np.pi))
    assert squared_error < 1e-6 * x.var(axis=0).sum()
