"""What no derivative can see: that the model is the one it says it is."""

import numpy as np
import pytest
from scipy import integrate, stats

from tests.kernels.gpu import on_host
from vae_np import Architecture, Parameters, decode, encode, loss, loss_and_gradients
from vae_np.choices import LIKELIHOODS
from vae_np.evaluation import evaluate
from vae_np.testing.problems import DECODERS


@pytest.fixture
def rng():
    """The numbers of a test are the same whichever tests ran before it."""
    return np.random.default_rng(0)


def model(likelihood="bernoulli", noise="fixed", noise_std=1.0, n_inputs=4, n_latent=2):
    arch = Architecture(n_inputs, (5,), n_latent, "tanh", likelihood, noise, noise_std)
    p = Parameters.initialize(arch, seed=1)
    p.flat += 0.3 * np.random.default_rng(1).normal(size=p.flat.shape)
    return p


@pytest.fixture
def draws(request):
    """Of a test of statistics: the tolerance follows from them. On the host each thread of a GPU is run by itself."""
    return 5_000 if request.node.callspec.params["kernel_set"] == on_host.NAME else 200_000


def test_z_has_the_mean_and_the_variance_of_q(kernel_set, draws):
    """logvar is the log of the variance: a standard deviation taken for it, or half the noise, is far off here."""
    mu, logvar, n = np.array([[0.5, -1.0]]), np.array([[-1.0, 1.5]]), draws
    eps, z = np.empty((n, 1, 2)), np.empty((n, 1, 2))
    kernel_set.normals(3, 0, np.arange(1), eps)
    kernel_set.reparameterize(mu, logvar, eps, z)
    variance = np.exp(logvar)
    assert (np.abs(z.mean(axis=0) - mu) < 5 * np.sqrt(variance / n)).all()
    assert (np.abs(z.var(axis=0) / variance - 1) < 5 * np.sqrt(2 / n)).all()


def test_closed_form_kl_is_the_integral(kernel_set):
    mu, logvar = np.array([[0.7, 0.0]]), np.array([[-0.8, 1.1]])
    kl, unused = np.empty((1, 1)), np.empty((1, 1, 2))
    kernel_set.gaussian_kl(mu, logvar, unused, unused, kl)
    wanted = 0.0
    for m, s in zip(mu[0], np.exp(logvar[0] / 2)):
        q, prior = stats.norm(m, s), stats.norm()
        wanted += integrate.quad(lambda z: q.pdf(z) * (q.logpdf(z) - prior.logpdf(z)), m - 12 * s, m + 12 * s)[0]
    assert kl[0, 0] == pytest.approx(wanted, rel=1e-9)


def test_closed_form_kl_is_the_mean_of_the_sampled_one(kernel_set, draws, rng):
    mu, logvar, n = rng.normal(size=(3, 2)), rng.normal(size=(3, 2)), draws
    eps, z = rng.normal(size=(n, 3, 2)), np.empty((n, 3, 2))
    kernel_set.reparameterize(mu, logvar, eps, z)
    closed, sampled = np.empty((1, 3)), np.empty((n, 3))
    kernel_set.gaussian_kl(mu, logvar, eps, z, closed)
    kernel_set.sampled_kl(mu, logvar, eps, z, sampled)
    assert (np.abs(sampled.mean(axis=0) - closed[0]) < 5 * sampled.std(axis=0) / np.sqrt(n)).all()


@pytest.mark.parametrize("real", [np.float32, np.float64])
def test_kl_is_zero_at_the_prior_and_positive_elsewhere(kernel_set, real):
    logvar = np.concatenate([np.linspace(-20, 20, 81), 10.0 ** np.arange(-7, 0), -(10.0 ** np.arange(-7, 0))])
    logvar = logvar.astype(real)[:, None]
    kl, unused = np.empty((1, len(logvar)), real), np.empty((1, len(logvar), 1), real)
    kernel_set.gaussian_kl(np.zeros_like(logvar), logvar, unused, unused, kl)
    assert (kl >= 0).all() and (kl[0, logvar[:, 0] == 0] == 0).all() and (kl[0, np.abs(logvar[:, 0]) > 1e-2] > 0).all()


@pytest.mark.parametrize("objective", ["elbo", "elbo_mc"])
@pytest.mark.parametrize(
    "likelihood, noise, noise_std",
    [
        ("bernoulli", "fixed", 1.0),
        ("gaussian", "fixed", 0.5),
        ("gaussian", "shared", 1.0),
        ("gaussian", "heteroscedastic", 1.0),
    ],
)
def test_the_loss_is_made_of_the_densities_it_names(backend, rng, likelihood, noise, noise_std, objective):
    """-log p(x|z) and log q(z|x) - log p(z) by scipy's densities, at the same z."""
    p = model(likelihood, noise, noise_std)
    if noise == "shared":
        p["noise.logvar"][0] = -0.7
    x, eps = rng.integers(0, 2, (3, 4)).astype(float), rng.normal(size=(6, 3, 2))
    mu, logvar = encode(p, x)
    std = np.exp(logvar / 2)
    z = mu + std * eps
    mean = np.stack([decode(p, one) for one in z])
    if likelihood == "bernoulli":
        log_p_x_given_z = stats.bernoulli(mean).logpmf(x).sum(axis=-1)
    else:
        h = np.tanh(z @ p["decoder.0.W"] + p["decoder.0.b"])
        sigma = {
            "fixed": lambda: noise_std,
            "shared": lambda: np.exp(p["noise.logvar"] / 2),
            "heteroscedastic": lambda: np.exp((h @ p["output_logvar.W"] + p["output_logvar.b"]) / 2),
        }[noise]()
        log_p_x_given_z = stats.norm(mean, sigma).logpdf(x).sum(axis=-1)
    log_q_minus_log_p = (stats.norm(mu, std).logpdf(z) - stats.norm().logpdf(z)).sum(axis=-1)
    value = loss(p, x, eps, objective=objective, backend=backend)
    assert value.reconstruction == pytest.approx(-log_p_x_given_z.mean(), rel=1e-10)
    if objective == "elbo_mc":
        assert value.kl == pytest.approx(log_q_minus_log_p.mean(), rel=1e-10)


def test_both_objectives_have_the_same_expectation(backend, rng):
    p, x, n = model(), rng.uniform(size=(2, 4)), 20_000
    closed, sampled = (
        evaluate(p, np.repeat(x, n, axis=0), objective, backend=backend, seed=seed).per_example.reshape(2, n)
        for seed, objective in enumerate(("elbo", "elbo_mc"))
    )
    error = np.sqrt((closed.var(axis=1) + sampled.var(axis=1)) / n)
    assert (np.abs(closed.mean(axis=1) - sampled.mean(axis=1)) < 5 * error).all()


def test_both_objectives_have_the_same_expected_gradient(backend, rng):
    p, x, n, blocks = model(), rng.uniform(size=(2, 4)), 500, 40
    closed, sampled = (
        np.array(
            [loss_and_gradients(p, x, rng.normal(size=(n, 2, 2)), 1.0, 0.0, objective, backend)[1].flat for _ in range(blocks)]
        )
        for objective in ("elbo", "elbo_mc")
    )
    error = np.sqrt((closed.var(axis=0) + sampled.var(axis=0)) / (blocks - 1))
    assert (np.abs(closed.mean(axis=0) - sampled.mean(axis=0)) < 6 * error + 1e-12).all()


@pytest.mark.parametrize("logit", [None, 0.0, 1e-3, -0.7, 2.5, -30.0])
@pytest.mark.parametrize("decoder", DECODERS, ids=lambda decoder: "-".join(map(str, decoder.values())))
def test_p_of_x_given_z_sums_or_integrates_to_one_and_has_the_mean_that_decode_returns(backend, decoder, logit):
    """The constant of the density is not lost. logit: the output, where it is not what the model makes of z."""
    p, z = Parameters.initialize(Architecture(1, (5,), 2, "tanh", **decoder), seed=1), np.array([0.3, -0.8])
    p.flat += 0.3 * np.random.default_rng(1).normal(size=p.flat.shape)
    if logit is not None:
        p["output.W"][...], p["output.b"][...] = 0, logit
    ends = LIKELIHOODS[p.architecture.likelihood].support
    if np.isinf(ends).any():
        ends = (logit or 0) - 15, (logit or 0) + 15
    nodes, weights = np.array([-1.0, 1.0]), np.ones(2)
    if not LIKELIHOODS[p.architecture.likelihood].discrete:
        nodes, weights = np.polynomial.legendre.leggauss(300)
        weights *= (ends[1] - ends[0]) / 2
    x = (np.mean(ends) + nodes * (ends[1] - ends[0]) / 2)[:, None]
    mu, logvar = encode(p, x)
    eps = (z - mu) / np.exp(logvar / 2)  # so that z is the same for every x
    density = np.exp(-loss(p, x, eps, beta=0.0, backend=backend).per_example)
    assert weights @ density == pytest.approx(1, abs=1e-9)
    assert decode(p, z[None], backend)[0, 0] == pytest.approx(weights @ (x[:, 0] * density), abs=1e-8)
