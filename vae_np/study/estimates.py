"""What an estimator of the encoder's gradient gives on average over eps, and how far its draws lie apart."""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vae_np import blas, elbo, streams
from vae_np.buffers import buffers
from vae_np.choices import ESTIMATORS, OBJECTIVES
from vae_np.gradient_moments import nodes
from vae_np.parameters import Parameters
from vae_np.study.lines import Array, Expectation, Lines
from vae_np.study.proof import TOLERANCE
from vae_np.study.typesetting import number
from vae_np.testing.oracles import complex_elbo, complex_surrogate

SAMPLES, FEWEST = 1600, 100  # of each example over all draws; and the least number of draws
ROWS = 200  # samples at a time, so that memory does not grow with the number of draws
NODES, FEWER = 60, 40  # of the quadrature for each number of eps, and those of a second one that says how exact it is
MOST_NUMBERS = 2  # of eps for each example, L Z, over which the quadrature runs
EXACT = 1e-6  # what fewer nodes may change, relative to the largest number of an array


def said_of(array: Array, trace: Lines) -> str:
    """What an array is that agrees with a surrogate, in a sentence or two; "" for any other array."""
    objective, estimator = trace.arguments["objective"], trace.arguments["estimator"]
    if not array.of_surrogate or (array.error or 0.0) > TOLERANCE:
        return ""
    if not array.expectation:
        return f"It is a part of the estimate {estimator}, and not a derivative of the loss of these samples."
    if objective in ESTIMATORS[estimator].biased and len(trace.a.eps) > 1:
        kind = (
            f"It is the estimate {estimator}, which is biased: also its mean over eps is not the derivative of the mean loss."
        )
    else:
        kind = f"It is the estimate {estimator}, which is right only on average over eps."
    return f"{kind} Its expectation, {array.expectation}, has the norm {number(np.linalg.norm(array.expectation.mean))}."


def draws_of_eps(n_examples: int, n_latent: int, n_samples: int) -> NDArray:
    """The eps of all draws, (N, L, B, Z): the same for every estimator."""
    n = max(SAMPLES // n_samples, FEWEST)
    eps = streams.normals(0, "study", 2, (n * n_samples, n_examples, n_latent), np.float64)
    return eps.reshape(n, n_samples, n_examples, n_latent)


def some_at_a_time(x: ArrayLike, eps: NDArray) -> Iterator[tuple[NDArray, NDArray]]:
    """The rows x (B, D) with some draws of eps (N, L, B, Z) at a time, as if they were n B examples: (n B, D) and (L, n B, Z)."""
    _, L, B, Z = eps.shape
    n = max(ROWS // (L * B), 1)
    for start in range(0, len(eps), n):
        some = eps[start : start + n]
        yield np.tile(x, (len(some), 1)), some.transpose(1, 0, 2, 3).reshape(L, -1, Z)


@blas.limited()
def gradients(
    p: Parameters, x: NDArray, eps: NDArray, beta: float, objective: str, estimators: Sequence[str]
) -> dict[str, dict[str, NDArray]]:
    """The encoder's derivatives in every draw of eps (N, L, B, Z), for each estimator.

    Returns
    -------
    dict
        {estimator: {name: array (N, B, ..)}}. The names are dmu, dlogvar and, for each hidden layer i of the encoder,
        dencoder[i] and dencoder[i].y.
    """
    _, L, B, _ = eps.shape
    found = {estimator: [] for estimator in estimators}
    for rows, some in some_at_a_time(x, eps):
        model, q, a, beta, _ = elbo.prepare(p, rows, some, beta, 0.0, objective, "numpy")
        d = buffers(p.architecture, objective, L, len(a.x), np.float64)
        model.forward(q.layers, a, beta)
        for estimator in estimators:
            elbo.bind(p.architecture, objective, estimator=estimator).backward(q.layers, a, d, beta, B)
            dh = d.mu @ q.layers.mu.W.T + d.logvar @ q.layers.logvar.W.T
            arrays = {"dmu": d.mu, "dlogvar": d.logvar}
            for i in range(len(p.architecture.hidden), 0, -1):
                arrays |= {f"dencoder[{i}]": dh, f"dencoder[{i}].y": d.encoder[i]}
                if i > 1:
                    dh = d.encoder[i] @ q.layers.encoder[i - 1].W.T
            found[estimator].append({name: array.reshape(-1, B, array.shape[-1]).copy() for name, array in arrays.items()})
    return {
        estimator: {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        for estimator, parts in found.items()
    }


def expectations(
    p: Parameters, x: NDArray, n_samples: int, beta: float, l2: float, objective: str, estimator: str
) -> dict[str, Expectation]:
    """{name: Expectation} of the derivatives by mu, logvar, the hidden layers, the weights and the biases of the encoder."""
    of_layers = expectations_of_layers(p, x, n_samples, beta, objective, [estimator])[estimator]
    return of_layers | _of_weights(p, x, l2, of_layers)


def expectations_of_layers(
    p: Parameters, x: NDArray, n_samples: int, beta: float, objective: str, estimators: Sequence[str]
) -> dict[str, dict[str, Expectation]]:
    """{estimator: {name: Expectation}} for the names of `gradients`.

    They are integrals where L Z is small and the quadrature is exact, which it is not for relu, whose derivative jumps. Otherwise
    they are means over draws.
    """
    if exact := integrals(p, x, n_samples, beta, objective, estimators):
        return exact
    eps = draws_of_eps(len(x), p.architecture.n_latent, n_samples)
    return {
        estimator: {name: mean_of(draws) for name, draws in of.items()}
        for estimator, of in gradients(p, x, eps, beta, objective, estimators).items()
    }


def integrals(
    p: Parameters, x: NDArray, n_samples: int, beta: float, objective: str, estimators: Sequence[str]
) -> dict[str, dict[str, Expectation]]:
    """The same by quadrature; none where there are too many numbers of eps, or where fewer nodes give another value."""
    if n_samples * p.architecture.n_latent > MOST_NUMBERS:
        return {}
    fine, rough = (_integrals(p, x, n_samples, beta, objective, estimators, n_nodes) for n_nodes in (NODES, FEWER))
    found = {
        estimator: {name: Expectation(mean, np.abs(mean - rough[estimator][name]), 0) for name, mean in of.items()}
        for estimator, of in fine.items()
    }
    errors = [each.error.max() / np.abs(each.mean).max() for of in found.values() for each in of.values() if each.mean.any()]
    return found if max(errors, default=0.0) <= EXACT else {}


def mean_of(draws: NDArray) -> Expectation:
    """The mean over draws (N, ..) and its standard error."""
    return Expectation(draws.mean(axis=0), draws.std(axis=0, ddof=1) / len(draws) ** 0.5, len(draws))


def _integrals(p, x, n_samples, beta, objective, estimators, n_nodes):
    """The means of `gradients` over eps, one example at a time."""
    at, weights = nodes(n_samples * p.architecture.n_latent, n_nodes)
    eps = at[:, :, 0].T.reshape(len(weights), n_samples, 1, -1)
    of_examples = [gradients(p, row[None], eps, beta, objective, estimators) for row in x]

    def mean(estimator, name):
        return np.concatenate([np.tensordot(weights, of[estimator][name], 1) for of in of_examples]) / len(x)

    return {estimator: {name: mean(estimator, name) for name in of_examples[0][estimator]} for estimator in estimators}


def _of_weights(p: Parameters, x: NDArray, l2: float, of_layers: Mapping[str, Expectation]) -> dict[str, Expectation]:
    """The Expectations of the gradients of the encoder's weights and biases.

    x and the values of the encoder do not depend on eps. So the gradient of its weights is a sum over the examples, whose draws are
    independent, and its mean and variance follow from those of the derivatives of the layers.
    """
    n_hidden = len(p.architecture.hidden)
    _, q, a, *_ = elbo.prepare(p, x, np.zeros((1, len(x), p.architecture.n_latent)), 1.0, 0.0, "elbo", "numpy")
    elbo.bind(p.architecture).encoder(q.layers, a)
    layers = {f"encoder[{i}]": (a.encoder[i], q.layers.encoder[i].W, f"dencoder[{i + 1}].y") for i in range(n_hidden)}
    layers |= {name: (a.encoder[n_hidden], getattr(q.layers, name).W, f"d{name}") for name in ("mu", "logvar")}
    found = {}
    for name, (h, W, of) in layers.items():
        dy, n = of_layers[of], of_layers[of].n_draws
        error = np.sqrt(h.T**2 @ dy.error**2) if n else np.abs(h.T) @ dy.error
        found[f"d{name}.W"] = Expectation(h.T @ dy.mean + l2 * W, error, n)
        error = np.sqrt((dy.error**2).sum(axis=0)) if n else dy.error.sum(axis=0)
        found[f"d{name}.b"] = Expectation(dy.mean.sum(axis=0), error, n)
    return found


# ----------------------------------------------------------------------------------------------- all estimators side by side


class Compared(NamedTuple):
    """An estimator of dmu or of dlogvar, beside the others of the objective."""

    here: NDArray  #   (B, Z)     with the eps of the page
    draws: NDArray  #  (N, B, Z)
    expectation: Expectation  #   of it (B, Z)
    apart: float  # the distance of its mean from that of "total", in standard errors of this distance; about 1 is chance
    error: float  # of `here`, relative: the largest over the directions that complex steps of the surrogate have tried


@blas.limited()
def compared(p: Parameters, x: ArrayLike, eps: ArrayLike, beta: float = 1.0) -> dict[str, dict[str, dict[str, Compared]]]:
    """{objective: {estimator: {"dmu": Compared, "dlogvar": Compared}}} of every estimator that each objective has.

    Parameters
    ----------
    p, x, eps, beta
        As for `vae_np.loss_and_gradients`. All draws have as many samples as eps.
    """
    elbo.check_parameters(p)
    p, found = p.astype("float64"), {}
    for objective in OBJECTIVES:
        _, _, a, beta, _ = elbo.prepare(p, x, eps, beta, 0.0, objective, "numpy")
        x_here, eps_here = a.x, a.eps
        names = [name for name, estimator in ESTIMATORS.items() if objective in estimator.operations]
        L, B, Z = eps_here.shape
        of_draws = gradients(p, x_here, draws_of_eps(B, Z, L), beta, objective, names)
        here = gradients(p, x_here, eps_here[None], beta, objective, names)
        exact = integrals(p, x_here, L, beta, objective, names)
        found[objective] = {}
        for estimator in names:
            wanted = _directional(p, x_here, eps_here, beta, objective, estimator)
            found[objective][estimator] = {
                name: Compared(
                    here[estimator][name][0],
                    draws := of_draws[estimator][name],
                    exact[estimator][name] if exact else mean_of(draws),
                    _distance(mean_of(draws - of_draws["total"][name])),
                    _error(here[estimator][name][0], *wanted[name]),
                )
                for name in ("dmu", "dlogvar")
            }
    return found


def _distance(difference):
    """The norm of a mean difference divided by that of its standard error."""
    error = np.linalg.norm(difference.error)
    return float(np.linalg.norm(difference.mean) / error) if error else 0.0


DIRECTIONS, STEP = 2, 1e-30  # of each example, in which complex steps are tried, and their size


def _directional(p, x, eps, beta, objective, estimator):
    """{name: (directions (n, B, Z), derivatives along them (n, B))} of dmu and dlogvar, by complex steps, one example at a time."""
    arch, B, found = p.architecture, len(x), {}
    directions = np.random.default_rng(0).normal(size=(DIRECTIONS, B, arch.n_latent))
    for name in ("mu", "logvar"):
        derivatives = np.empty(directions.shape[:2])
        for i, b in np.ndindex(*derivatives.shape):
            q = dict(p) | {f"{name}.b": p[f"{name}.b"] + 1j * STEP * directions[i, b]}
            of_example = x[b : b + 1], eps[:, b : b + 1], beta, 0.0, objective
            if ESTIMATORS[estimator].differentiates_the_loss:
                value = complex_elbo(arch, q, *of_example)
            else:
                value = complex_surrogate(arch, p, q, *of_example, estimator)
            derivatives[i, b] = np.imag(value) / STEP / B
        found[f"d{name}"] = directions, derivatives
    return found


def _error(given, directions, wanted):
    sizes = np.linalg.norm(given, axis=-1) * np.linalg.norm(directions, axis=-1)
    errors = np.abs((given * directions).sum(axis=-1) - wanted)
    return float(np.max(np.divide(errors, sizes, out=errors, where=sizes > 0)))
