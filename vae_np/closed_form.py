"""Models whose best loss has a closed form.

They are linear. A linear autoencoder is PCA, and a linear VAE is probabilistic PCA (Tipping & Bishop 1999).
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from vae_np.architecture import Architecture
from vae_np.data import digits
from vae_np.elbo import loss_and_gradients
from vae_np.parameters import Parameters


def linear_log_likelihood(p: Parameters, x: NDArray) -> NDArray:
    """Compute log p(x) of each row under a linear Gaussian model, where p(x) is N(output.b, W.T W + s^2 1).

    Parameters
    ----------
    p : Parameters
        A model with hidden=(), likelihood="gaussian" and noise="shared".
    x : array (N, D)
        The rows.

    Returns
    -------
    array (N,)
        log p(x) of each row in nats.
    """
    W, noise = p["output.W"], np.exp(p["noise.logvar"][0])
    covariance = W.T @ W + noise * np.eye(W.shape[1])
    error = x - p["output.b"]
    squares = np.sum(error * np.linalg.solve(covariance, error.T).T, axis=1)
    return -(squares + np.linalg.slogdet(2 * np.pi * covariance)[1]) / 2


def linear_posterior(p: Parameters, x: NDArray) -> tuple[NDArray, NDArray]:
    """Compute p(z|x), which is normal, under the model of `linear_log_likelihood`.

    Parameters
    ----------
    p : Parameters
        A model with hidden=(), likelihood="gaussian" and noise="shared".
    x : array (N, D)
        The rows.

    Returns
    -------
    mean : array (N, Z)
        The mean of p(z|x) for each row.
    covariance : array (Z, Z)
        The covariance of p(z|x), which is the same for all rows.
    """
    W, noise = p["output.W"], np.exp(p["noise.logvar"][0])
    covariance = np.linalg.inv(np.eye(len(W)) + W @ W.T / noise)
    return (x - p["output.b"]) @ W.T @ covariance / noise, covariance


def pca(x: NDArray) -> tuple[NDArray, NDArray]:
    """Compute the principal components' variances.

    Parameters
    ----------
    x : array (N, D)
        The rows.

    Returns
    -------
    mean : array (D,)
        The mean of the rows.
    eigenvalues : array (D,)
        The eigenvalues of their covariance matrix, in which the sum is divided by N. The largest is the first.
    """
    mean = x.mean(axis=0)
    return mean, np.linalg.eigvalsh((x - mean).T @ (x - mean) / len(x))[::-1]


class Ppca(NamedTuple):
    """The maximum of the likelihood of probabilistic PCA, in nats per row, and the variance of the noise there."""

    log_likelihood: float
    noise: float


def ppca(x: NDArray, n_latent: int) -> Ppca:
    """Maximise the likelihood of x ~ N(b, W.T W + s^2 1) over all W (Z, D), b and s.

    Parameters
    ----------
    x : array (N, D)
        The rows.
    n_latent : int
        Z, the number of latent units, which is less than D.

    Returns
    -------
    Ppca
        The log-likelihood in nats per row, and the variance s^2, which is the mean of the discarded eigenvalues.

    References
    ----------
    Tipping & Bishop 1999, equation 8 for the variance; the likelihood follows from equation 4.
    """
    _, eigenvalues = pca(x)
    D, noise = x.shape[1], eigenvalues[n_latent:].mean()
    log_determinant = np.log(eigenvalues[:n_latent]).sum() + (D - n_latent) * np.log(noise)
    return Ppca(float(-(D * np.log(2 * np.pi) + log_determinant + D) / 2), float(noise))


def sigma_points(B: int, Z: int) -> NDArray:
    """Points eps (2 Z, B, Z). The mean of a quadratic function over them is its expectation over N(0, 1)."""
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

    Parameters
    ----------
    architecture : Architecture
        The architecture of the model.
    x : array (N, D)
        The rows.
    beta : float
        The weight of the KL.
    eps : array (L, N, Z), optional
        The points over which the expectation is taken. By default they are `sigma_points`, which are exact for linear models.
    seed : int
        The seed of the first weights.
    callback : function, optional
        callback(p, total) is called at every evaluation of the loss.

    Returns
    -------
    Parameters
        The fitted model.
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
    """The values that a model reached, one at each evaluation of its loss, and their limit in closed form."""

    reached: list[float]
    limit: float


def linear_digits() -> NDArray:
    """The digits of scikit-learn as 4 x 4 pixels in [0, 1], (1797, 16). They are so small that an exact fit takes seconds."""
    return (digits()[0] / 16).reshape(-1, 4, 2, 4, 2).mean(axis=(2, 4)).reshape(-1, 16)


def bound_of_a_linear_model(x: NDArray, n_latent: int) -> tuple[Curve, Curve, Parameters]:
    """Fit a linear VAE to x. Its ELBO and its log p(x) both reach the maximum of probabilistic PCA.

    At the maximum q(z|x) is equal to p(z|x), so that the gap is 0.

    Parameters
    ----------
    x : array (N, D)
        The rows.
    n_latent : int
        The number of latent units.

    Returns
    -------
    elbo, log_p : Curve
        The ELBO and log p(x), in nats per row.
    p : Parameters
        The fitted model.
    """
    elbo, log_p = [], []

    def record(p, total):
        elbo.append(-total)
        log_p.append(float(linear_log_likelihood(p, x).mean()))

    p = fit_exactly(Architecture(x.shape[1], (), n_latent, likelihood="gaussian", noise="shared"), x, callback=record)
    limit = ppca(x, n_latent).log_likelihood
    return Curve(elbo, limit), Curve(log_p, limit), p


def error_of_a_linear_autoencoder(x: NDArray, n_latent: int) -> Curve:
    """Fit a linear autoencoder (eps = 0, beta = 0) to x. Its squared error reaches that of PCA.

    The error of PCA is the sum of the discarded eigenvalues, which is 0 only if the rows lie on a plane of n_latent dimensions.

    Parameters
    ----------
    x : array (N, D)
        The rows.
    n_latent : int
        The number of latent units.

    Returns
    -------
    Curve
        The squared error per row.
    """
    constant, errors = x.shape[1] / 2 * np.log(2 * np.pi), []
    no_noise = np.zeros((1, len(x), n_latent))
    arch = Architecture(x.shape[1], (), n_latent, likelihood="gaussian")
    fit_exactly(arch, x, 0.0, no_noise, callback=lambda p, total: errors.append(max(0.0, 2 * (total - constant))))
    return Curve(errors, float(pca(x)[1][n_latent:].sum()))
