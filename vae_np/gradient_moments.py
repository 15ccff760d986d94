"""The mean and the variance of each estimator of the encoder's gradient: exactly on a small model, from draws on a larger one.

A gradient is that of the mean loss over the rows, by the biases mu.b and logvar.b of the encoder and output.b of the decoder.
As every row has the same bias, it is the mean over the rows of d loss / d mu, d loss / d logvar and d loss / d output.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vae_np import blas, elbo
from vae_np.architecture import Architecture
from vae_np.buffers import buffers
from vae_np.kernels.contract import Backend
from vae_np.parameters import Parameters

BIASES: tuple[str, ...] = ("mu.b", "logvar.b", "output.b")


class Pass(NamedTuple):
    """The loss (N,) of each example in nats, and its derivatives by each example's mu, logvar (N, Z) and output (N, D)."""

    loss: NDArray
    mu: NDArray
    logvar: NDArray
    output: NDArray


def passes(
    p: Parameters, x: NDArray, eps: NDArray, beta: float, objective: str, estimators: Sequence[str], backend: Backend = "numpy"
) -> dict[str, Pass]:
    """A Pass for each estimator, all of them with the same samples: x (N, D), eps (L, N, Z)."""
    model, q, a, beta, _ = elbo.prepare(p, x, eps, beta, 0.0, objective, backend)
    d = buffers(p.architecture, objective, len(eps), len(x), p.flat.dtype, model.zeros)
    model.forward(q.layers, a, beta)
    found = {}
    for estimator in estimators:
        elbo.bind(p.architecture, objective, backend, estimator=estimator).backward(q.layers, a, d, beta, 1)
        loss, mu, logvar, output = (model.get(array).copy() for array in (a.loss, d.mu, d.logvar, d.output))
        found[estimator] = Pass(loss, mu, logvar, output.sum(axis=0))
    return found


# -------------------------------------------------------------------------------------------------- exactly, by quadrature


class Exact(NamedTuple):
    """What an estimator gives on average over eps, and the variance around it, by mu.b and logvar.b: (2,) each."""

    mean: NDArray
    variance: NDArray


def small_model() -> tuple[Parameters, NDArray]:
    """A linear model with one latent dimension and fixed Gaussian noise of variance 1/2, and one row x (1, 3)."""
    rng = np.random.default_rng(0)
    p = Parameters.zeros(Architecture(3, (), 1, likelihood="gaussian", noise_std=0.5**0.5))
    p["output.W"][...], p["output.b"][...] = rng.normal(size=(1, 3)), rng.normal(size=3)
    p["mu.b"][...], p["logvar.b"][...] = 0.3, -0.4
    return p, 1.5 * rng.normal(size=(1, 3))


def nodes(n_samples: int, n: int) -> tuple[NDArray, NDArray]:
    """eps (L, N, 1) and the weights (N,) of the Gauss-Hermite quadrature of a mean over L standard normal numbers, N = n^L."""
    at, weights = np.polynomial.hermite_e.hermegauss(n)
    eps = np.stack(np.meshgrid(*[at] * n_samples, indexing="ij")).reshape(n_samples, -1, 1)
    return eps, functools.reduce(np.multiply.outer, [weights / weights.sum()] * n_samples).reshape(-1)


@blas.limited()
def exact_loss(p: Parameters, x: NDArray, beta: float, objective: str, n_samples: int, n: int = 120) -> float:
    """The mean over eps of the loss of one row x (1, D), for a model with one latent dimension, in nats."""
    eps, weights = nodes(n_samples, n)
    return float(weights @ elbo.loss(p, np.repeat(x, len(weights), 0), eps, beta, objective=objective).per_example)


def exact_gradient(p: Parameters, x: NDArray, beta: float, objective: str, n_samples: int, n: int = 120) -> NDArray:
    """The derivatives of `exact_loss` by mu.b and logvar.b, (2,), by a difference quotient of five points."""
    h, gradient = 3e-3, []
    for name in BIASES[:2]:

        def moved(steps, name=name):
            q = p.copy()
            q[name][...] += steps * h
            return exact_loss(q, x, beta, objective, n_samples, n)

        gradient.append((moved(-2) - 8 * moved(-1) + 8 * moved(1) - moved(2)) / (12 * h))
    return np.array(gradient)


@blas.limited()
def exact(p: Parameters, x: NDArray, beta: float, objective: str, n_samples: int, estimator: str, n: int = 120) -> Exact:
    """The mean and the variance of an estimator on one row x (1, D), for a model with one latent dimension.

    Parameters
    ----------
    p : Parameters
        The model.
    x : array (1, D)
        The row.
    beta : float
        The weight of the KL.
    objective, estimator : str
        They are those of `loss_and_gradients`.
    n_samples : int
        L, the number of samples. The quadrature has n^L nodes.
    n : int
        The number of nodes for each sample. With 120 the moments of `small_model` are exact to about 1e-11.
    """
    eps, weights = nodes(n_samples, n)
    found = passes(p, np.repeat(x, len(weights), 0), eps, beta, objective, [estimator])[estimator]
    gradients = np.concatenate([found.mu, found.logvar], axis=1)
    mean = weights @ gradients
    return Exact(mean, weights @ (gradients - mean) ** 2)


# ----------------------------------------------------------------------------------------------------------- from draws


def linear_model(std: float, n_rows: int = 32, n_latent: int = 20, seed: int = 0) -> tuple[Parameters, NDArray]:
    """The model of Rainforth et al. 2018, with parameters that are off their optimum by Gaussian noise of this size.

    z ~ N(0, 1), x ~ N(z + m, 1) and q(z|x) = N(x A + b, 2/3), where the data are drawn from the model. At the optimum A is half
    of the identity and b is -m/2, and the posterior has the variance 1/2.

    Returns
    -------
    p : Parameters
        output.W is the identity, output.b is m, mu.W is A, and mu.b is b.
    x : array (n_rows, n_latent)
        The data.
    """
    rng, D = np.random.default_rng(seed), n_latent
    m = rng.normal(size=D)
    x = rng.normal(size=(n_rows, D)) + m + rng.normal(size=(n_rows, D))
    p = Parameters.zeros(Architecture(D, (), D, likelihood="gaussian"))
    p["output.W"][...], p["logvar.b"][...] = np.eye(D), np.log(2 / 3)
    p["mu.W"][...] = np.eye(D) / 2 + std * rng.normal(size=(D, D))
    p["mu.b"][...] = -m / 2 + std * rng.normal(size=D)
    p["output.b"][...] = m + std * rng.normal(size=D)
    return p, x


AT_ONCE = 400_000  # elements of z, so that the arrays of a pass stay in a cache


class Sampled(NamedTuple):
    """The moments of an estimator from draws, {name: array} for each of BIASES.

    The difference is that from another estimator in the same draw.
    """

    n_draws: int
    mean: dict[str, NDArray]
    variance: dict[str, NDArray]
    difference: dict[str, NDArray]
    variance_of_difference: dict[str, NDArray]


def sampled(
    p: Parameters,
    x: NDArray,
    n_samples: int,
    n_draws: int,
    estimators: Sequence[str],
    compared_with: str,
    objective: str = "iwae",
    seed: int = 0,
    backend: Backend = "numpy",
    step: Callable[[int], object] = lambda n_draws: None,
) -> dict[str, Sampled]:
    """The moments of several estimators from the same draws of eps.

    Parameters
    ----------
    p : Parameters
        The model.
    x : array (N, D)
        The rows.
    n_samples : int
        L, the number of samples of each row.
    n_draws : int
        How often eps (L, N, Z) is drawn.
    estimators : sequence of str
        The estimators of the objective.
    compared_with : str
        The estimator from which the differences are taken; it is one of them.
    objective, backend
        They are those of `loss_and_gradients`.
    seed : int
        The seed of the draws.
    step : function
        step(n_draws) is called after some of the draws, with their number.

    Returns
    -------
    dict of str to Sampled
        The moments of each estimator.
    """
    rng, (N, _), Z = np.random.default_rng([seed, n_samples]), x.shape, p.architecture.n_latent
    at_once = max(1, AT_ONCE // (n_samples * N * Z))
    sums: dict[str, Any] = dict.fromkeys(estimators, 0.0)
    origin = None  # the first gradient: subtracted from all, so that the difference of sums of squares loses no digits
    for start in range(0, n_draws, at_once):
        n = min(at_once, n_draws - start)
        eps = rng.standard_normal((n_samples, n * N, Z))
        found = passes(p, np.tile(x, (n, 1)), eps, 1.0, objective, estimators, backend)
        gradients = {
            name: np.concatenate([array.reshape(n, N, -1).mean(axis=1) for array in of[1:]], axis=1)
            for name, of in found.items()
        }
        base = gradients[compared_with]
        origin = base[0] if origin is None else origin
        for name, gradient in gradients.items():
            parts = gradient - origin, gradient - base
            sums[name] += np.array([power.sum(axis=0) for part in parts for power in (part, part**2)])
        step(n)

    def by_name(array):
        ends = np.cumsum([p[name].size for name in BIASES])
        return dict(zip(BIASES, np.split(array, ends[:-1])))

    results = {}
    for name, of in sums.items():
        mean, square, difference, square_of_difference = of / n_draws
        variances = by_name(square - mean**2), by_name(square_of_difference - difference**2)
        results[name] = Sampled(n_draws, by_name(origin + mean), variances[0], by_name(difference), variances[1])
    return results


def signal_to_noise(of: Sampled, gradient: Sampled, name: str) -> float:
    """|gradient| / standard deviation of an estimator, the mean over the coordinates of the bias of this name."""
    return float(np.mean(np.abs(gradient.mean[name]) / np.sqrt(of.variance[name])))


def squared_bias(of: Sampled, name: str) -> float:
    """The mean square of the bias over the coordinates of this name; NaN where it is not above what chance gives.

    The bias is the mean difference from the estimator that was compared with. Chance gives a square of its variance divided by
    the number of draws, which is subtracted.
    """
    chance = np.mean(of.variance_of_difference[name]) / of.n_draws
    square = np.mean(of.difference[name] ** 2) - chance
    return float(square) if square > 3 * chance else np.nan
