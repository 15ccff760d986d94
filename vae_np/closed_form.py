"""Models with an answer in closed form: linear ones, which are PCA and probabilistic PCA (Tipping & Bishop 1999)."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from vae_np.architecture import Architecture
from vae_np.elbo import loss_and_gradients
from vae_np.parameters import Parameters


def linear_log_likelihood(p: Parameters, x: NDArray) -> NDArray:
    """log p(x) of each row under a linear Gaussian model (hidden=(), noise="shared"): N(output.b, W.T W + s^2 1)"""
    W, noise = p["output.W"], np.exp(p["noise.logvar"][0])
    covariance = W.T @ W + noise * np.eye(W.shape[1])
    error = x - p["output.b"]
    squares = np.sum(error * np.linalg.solve(covariance, error.T).T, axis=1)
    return -(squares + np.linalg.slogdet(2 * np.pi * covariance)[1]) / 2


def linear_posterior(p: Parameters, x: NDArray) -> tuple[NDArray, NDArray]:
    """The mean (N, Z) and covariance (Z, Z) of p(z|x) under the same model; the covariance is one for all x."""
    W, noise = p["output.W"], np.exp(p["noise.logvar"][0])
    covariance = np.linalg.inv(np.eye(len(W)) + W @ W.T / noise)
    return (x - p["output.b"]) @ W.T @ covariance / noise, covariance


def pca(x: NDArray) -> tuple[NDArray, NDArray]:
    """The mean of the rows and the eigenvalues of their covariance (divided by N), the largest first."""
    mean = x.mean(axis=0)
    return mean, np.linalg.eigvalsh((x - mean).T @ (x - mean) / len(x))[::-1]


class Ppca(NamedTuple):
    """Probabilistic PCA at its maximum: nats per row, and the variance of the noise."""

    log_likelihood: float
    noise: float


def ppca(x: NDArray, n_latent: int) -> Ppca:
    """The maximum of the likelihood of x ~ N(b, W.T W + s^2 1) over all W (Z, D), b and s

    The noise is the mean discarded eigenvalue: Tipping & Bishop 1999, eq. 8; the likelihood follows from eq. 4.
    """
    _, eigenvalues = pca(x)
    D, noise = x.shape[1], eigenvalues[n_latent:].mean()
    log_determinant = np.log(eigenvalues[:n_latent]).sum() + (D - n_latent) * np.log(noise)
    return Ppca(float(-(D * np.log(2 * np.pi) + log_determinant + D) / 2), float(noise))


def sigma_points(B: int, Z: int) -> NDArray:
    """eps (2 Z, B, Z) with mean 0 and covariance 1: over them the mean of a quadratic is its mean over N(0, 1)."""
    points = np.sqrt(Z) * np.concatenate([np.eye(Z), -np.eye(Z)])
    return np.broadcast_to(points[:, None], (2 * Z, B, Z)).copy()


def fit_exactly(
    architecture: Architecture,
    x: NDArray,
    beta: float = 1.0,
    eps: NDArray | None = None,
    seed: int = 0,
    callback: Callable[[Parameters, float], object] | None = None,
) -> Parameters:
    """Minimise the loss over all rows at once by L-BFGS, without random draws, until it no longer falls.

    eps: the points over which the expectation is taken, by default sigma points, which are exact for linear models.
    callback(p, total) is called at every evaluation of the loss.
    """
    p = Parameters.initialize(architecture, seed=seed)
    eps = sigma_points(len(x), architecture.n_latent) if eps is None else eps

    def value_and_gradient(flat):
        p.flat[...] = flat
        value, g = loss_and_gradients(p, x, eps, beta)
        if callback:
            callback(p, value.total)
        return value.total, g.flat

    limits = {"maxiter": 20_000, "maxfun": 30_000, "maxcor": 50, "ftol": 1e-14, "gtol": 1e-8}
    p.flat[...] = minimize(value_and_gradient, p.flat.copy(), jac=True, method="L-BFGS-B", options=limits).x
    return p


class Curve(NamedTuple):
    """What a model reached at each evaluation of its loss, and the limit in closed form."""

    reached: list[float]
    limit: float


def linear_digits() -> NDArray:
    """The digits, averaged to 4 x 4 pixels so that a fit to the last digit takes seconds: (1797, 16) in [0, 1]"""
    from sklearn.datasets import load_digits

    return (load_digits(return_X_y=True)[0] / 16).reshape(-1, 4, 2, 4, 2).mean(axis=(2, 4)).reshape(-1, 16)


def bound_of_a_linear_model(x: NDArray, n_latent: int) -> tuple[Curve, Curve, Parameters]:
    """Fit a linear VAE to x: the Curves of its ELBO and of its log p(x), nats per row, and its Parameters.

    Both end at the maximum of probabilistic PCA: there q(z|x) is the posterior, and the gap is 0.
    """
    elbo, log_p = [], []

    def record(p, total):
        elbo.append(-total)
        log_p.append(float(linear_log_likelihood(p, x).mean()))

    p = fit_exactly(Architecture(x.shape[1], (), n_latent, likelihood="gaussian", noise="shared"), x, callback=record)
    limit = ppca(x, n_latent).log_likelihood
    return Curve(elbo, limit), Curve(log_p, limit), p


def error_of_a_linear_autoencoder(x: NDArray, n_latent: int) -> Curve:
    """Fit a linear autoencoder (eps = 0, beta = 0) to x: the Curve of its squared error per row.

    It ends at what PCA leaves, the sum of the discarded eigenvalues; that is 0 only where x lies on a plane.
    """
    constant, errors = x.shape[1] / 2 * np.log(2 * np.pi), []
    no_noise = np.zeros((1, len(x), n_latent))
    arch = Architecture(x.shape[1], (), n_latent, likelihood="gaussian")
    fit_exactly(arch, x, 0.0, no_noise, callback=lambda p, total: errors.append(max(0.0, 2 * (total - constant))))
    return Curve(errors, float(pca(x)[1][n_latent:].sum()))
