"""Random problems on which gradients are tested; each is made by a call that a person can read and repeat."""

import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike, NDArray

from vae_np.architecture import Architecture, check_choice
from vae_np.choices import ACTIVATIONS, LIKELIHOODS, NOISES, OBJECTIVES
from vae_np.parameters import Parameters
from vae_np.testing.frameworks import like, real_arrays
from vae_np.testing.trees import leaves, rebuilt


class Problem(NamedTuple):
    """The arguments of `loss_and_gradients`, in its order.

    Parameters
    ----------
    p : Parameters
        The parameters of the model.
    x : array (B, D)
        The batch.
    eps : array (L, B, Z)
        The noise of the latents.
    beta, l2 : float
        The weight of the KL, and that of half the sum of the squared weights.
    objective : {"elbo", "elbo_mc", "iwae"}
        The bound.
    """

    p: Parameters
    x: NDArray
    eps: NDArray
    beta: float
    l2: float
    objective: str


def random_parameters(
    architecture: Architecture,
    dtype: DTypeLike = "float64",
    seed: int = 0,
    logit: float = 0.0,
    logvar: float = 0.0,
    noise: float = 0.0,
) -> Parameters:
    """Random parameters, none of which is 0.

    Parameters
    ----------
    architecture : Architecture
        The architecture of the model.
    dtype : dtype
        "float32" or "float64".
    seed : int
        The same seed gives the same numbers.
    logit, logvar, noise : float
        Biases of this size and of random signs are added to the output, to the log-variance of q(z|x), and to a learned
        log-variance of x. Large numbers make an edge.

    Returns
    -------
    Parameters
        The parameters.
    """
    rng = np.random.default_rng(seed)
    p = Parameters.initialize(architecture, seed=seed)
    p.flat += 0.2 * rng.normal(size=p.flat.shape)
    edges = {"output.b": logit, "logvar.b": logvar, "noise.logvar": noise, "output_logvar.b": noise}
    for name, size in edges.items():
        if size and name in p:
            p[name][...] += size * rng.choice([-1, 1], p[name].shape)
    return p.astype(dtype)


def random_batch(
    architecture: Architecture, n_examples: int = 3, dtype: DTypeLike = "float64", seed: int = 0, pixels: str = "grey"
) -> NDArray:
    """A random batch x.

    Parameters
    ----------
    architecture : Architecture
        The architecture of the model.
    n_examples : int
        The number of examples, B.
    dtype : dtype
        "float32" or "float64".
    seed : int
        The same seed gives the same numbers.
    pixels : {"grey", "binary"}
        "grey" is uniform in the support of the likelihood, or standard normal where the support is infinite; "binary" is 0
        and 1.

    Returns
    -------
    array (B, D)
        The batch.
    """
    rng, shape = np.random.default_rng(seed + 1), (n_examples, architecture.n_inputs)
    check_choice("pixels", pixels, ("grey", "binary"))
    if pixels == "binary":
        return rng.integers(0, 2, shape).astype(dtype)
    low, high = LIKELIHOODS[architecture.likelihood].support
    x = rng.normal(size=shape) if math.isinf(high) else rng.uniform(low, high, shape)
    return x.astype(dtype)


def random_noise(
    architecture: Architecture, n_examples: int = 3, n_samples: int = 2, dtype: DTypeLike = "float64", seed: int = 0
) -> NDArray:
    """Random noise eps, which is standard normal.

    Parameters
    ----------
    architecture : Architecture
        The architecture of the model.
    n_examples, n_samples : int
        The number of examples, B, and the number of samples of each example, L.
    dtype : dtype
        "float32" or "float64".
    seed : int
        The same seed gives the same numbers.

    Returns
    -------
    array (L, B, Z)
        The noise.
    """
    rng = np.random.default_rng(seed + 2)
    return rng.normal(size=(n_samples, n_examples, architecture.n_latent)).astype(dtype)


def random_problem(
    architecture: Architecture,
    objective: str = "elbo",
    n_examples: int = 3,
    n_samples: int = 2,
    beta: float = 0.7,
    l2: float = 0.1,
    dtype: DTypeLike = "float64",
    seed: int = 0,
    pixels: str = "grey",
    logit: float = 0.0,
    logvar: float = 0.0,
    noise: float = 0.0,
) -> Problem:
    """A random Problem, which these arguments determine completely.

    Parameters
    ----------
    architecture : Architecture
        The architecture of the model.
    objective : {"elbo", "elbo_mc", "iwae"}
        The bound.
    n_examples, n_samples : int
        The number of examples, B, and the number of samples of each example, L.
    beta, l2 : float
        The weight of the KL, and that of half the sum of the squared weights.
    dtype : dtype
        "float32" or "float64", for all arrays.
    seed : int
        The same seed gives the same numbers.
    pixels : {"grey", "binary"}
        The kind of batch: see `random_batch`.
    logit, logvar, noise : float
        The sizes of additional biases: see `random_parameters`.

    Returns
    -------
    Problem
        The arguments of `loss_and_gradients`.

    Examples
    --------
    >>> from vae_np import Architecture, loss_and_gradients
    >>> from vae_np.testing import random_problem
    >>> problem = random_problem(Architecture(5, (4,), 2), objective="iwae", n_samples=3)
    >>> value, g = loss_and_gradients(*problem)
    >>> value.per_example.shape
    (3,)
    """
    check_choice("objective", objective, OBJECTIVES)
    return Problem(
        random_parameters(architecture, dtype, seed, logit, logvar, noise),
        random_batch(architecture, n_examples, dtype, seed, pixels),
        random_noise(architecture, n_examples, n_samples, dtype, seed),
        beta,
        l2,
        objective,
    )


def random_like(tree: Any, seed: int = 0, scale: float = 1.0) -> Any:
    """A container like this one, with the same paths and shapes, whose arrays of real numbers are random.

    Parameters
    ----------
    tree : container
        The container, as `check_gradients` takes it, such as the parameters of your own model. It stays as it is, and so do
        leaves that are no arrays of floating-point numbers, such as a count, a name or an array of integers.
    seed : int
        The same seed gives the same numbers.
    scale : float
        The standard deviation of the numbers, which are normal with mean 0.

    Returns
    -------
    container
        A new container, whose arrays are of float64.

    Examples
    --------
    >>> import numpy as np
    >>> from vae_np.testing import random_like
    >>> random_like({"layers": [np.zeros((2, 3)), np.zeros(3)], "steps": 7})["steps"]
    7
    """
    rng, found = np.random.default_rng(seed), leaves(tree)
    drawn = {path: scale * np.asarray(rng.normal(size=array.shape)) for path, array in real_arrays(tree).items()}
    return rebuilt(tree, {path: like(found[path], array) for path, array in drawn.items()})


class ProblemOfOwn(NamedTuple):
    """Arguments for a model of your own.

    Parameters
    ----------
    params : container
        The parameters.
    x : array (B, D)
        A batch.
    eps : array (B, Z) or (L, B, Z)
        The noise.
    """

    params: Any
    x: NDArray
    eps: NDArray


def random_problem_of(
    params: Any,
    n_inputs: int,
    n_latent: int,
    n_examples: int = 3,
    n_samples: int | None = None,
    likelihood: str = "bernoulli",
    pixels: str = "grey",
    seed: int = 0,
    scale: float = 1.0,
) -> ProblemOfOwn:
    """A random problem for a model of your own, which these arguments determine completely.

    Parameters
    ----------
    params : container
        Parameters of the model: see `random_like`.
    n_inputs, n_latent : int
        The number of inputs, D, and of latents, Z.
    n_examples : int
        The number of examples, B.
    n_samples : int, optional
        The number of samples of each example, L. By default the noise has no axis for samples.
    likelihood, pixels : str
        The kind of batch: see `random_batch`.
    seed : int
        The same seed gives the same numbers.
    scale : float
        The standard deviation of the parameters.
    """
    sizes = Architecture(n_inputs, (), n_latent, likelihood=likelihood)
    eps = random_noise(sizes, n_examples, n_samples or 1, seed=seed)
    return ProblemOfOwn(
        random_like(params, seed, scale),
        random_batch(sizes, n_examples, seed=seed, pixels=pixels),
        eps[0] if n_samples is None else eps,
    )


def _every_decoder():
    for likelihood in LIKELIHOODS.values():
        for noise in NOISES.values() if likelihood.has_noise else ():
            fixed = {} if noise.parameter else {"noise_std": 0.8}
            yield {"likelihood": likelihood.name, "noise": noise.name, **fixed}
        if not likelihood.has_noise:
            yield {"likelihood": likelihood.name}


DECODERS: tuple[dict[str, Any], ...] = tuple(_every_decoder())  # each likelihood and noise, as fields of Architecture


def every_kind(
    dtype: DTypeLike = "float64",
    activations: Sequence[str] = tuple(ACTIVATIONS),
    decoders: Sequence[dict[str, Any]] = DECODERS,
    objectives: Sequence[str] = tuple(OBJECTIVES),
    hidden: Sequence[tuple[int, ...]] = ((4,), (), (5, 3)),
    betas: Sequence[float] = (0.7, 1.0, 0.0),
    l2s: Sequence[float] = (0.1, 0.0),
) -> Iterator[Problem]:
    """Yield a problem for every combination of likelihood, noise, activation and objective.

    The problems differ in sizes, too, and take `hidden`, `betas` and `l2s` in turn.

    Parameters
    ----------
    dtype : dtype
        "float32" or "float64".
    activations, objectives : sequence of str
        The names to combine.
    decoders : sequence of dict
        The likelihoods and noises to combine, each as the fields of Architecture that describe it.
    hidden : sequence of tuple of int
        The widths of the hidden layers. (4,) is one hidden layer of four units.
    betas, l2s : sequence of float
        The weights of the KL, and those of half the sum of the squared weights.
    """
    for name, several in {"hidden": hidden, "betas": betas, "l2s": l2s}.items():
        if not len(several):
            raise ValueError(f"{name} is empty")
    for i, noise in enumerate(decoders):
        for j, activation in enumerate(activations):
            for k, objective in enumerate(objectives):
                arch = Architecture(5, hidden[(i + j + k) % len(hidden)], 1 + (i + k) % 3, activation, **noise)
                beta, l2 = betas[(i + 2 * j) % len(betas)], l2s[(i + k) % len(l2s)]
                yield random_problem(arch, objective, 2 + (j + k) % 3, 1 + (i + j) % 3, beta, l2, dtype, seed=i)


EDGES: tuple[dict[str, float], ...] = (
    {"logit": 1e4},
    {"logit": 100.0},
    {"logit": 17.0, "logvar": 12.0},
    {"noise": 8.0},
    {"logvar": 80.0},
    {"noise": 80.0},
)
SATURATED = EDGES[:4]  # the loss is large or flat there, but its differences still mean something


def at_the_edges(dtype: DTypeLike = "float64", edges: Sequence[dict[str, float]] = EDGES) -> Iterator[Problem]:
    """Yield problems at each of the edges, for every likelihood, noise and activation.

    They have logits of +-1e4, log-variances of +-80, pixels of exactly 0 and 1, one example, or one latent.
    """
    for i, noise in enumerate(DECODERS):
        for j, edge in enumerate(edges):
            for k, activation in enumerate(ACTIVATIONS):
                arch = Architecture(3, ((), (2,))[(i + j + k) % 2], 1 + i % 2, activation, **noise)
                objective, n = list(OBJECTIVES)[(i + j + k) % 3], 1 + (j + k) % 2
                yield random_problem(arch, objective, n, n, dtype=dtype, seed=j, pixels="binary", **edge)


def edges_of(problems: Sequence[Problem], edges: Sequence[dict[str, float]] = EDGES) -> Iterator[Problem]:
    """Yield problems at each of the edges, for the architecture, objective, beta and l2 of each of the given problems."""
    kinds = {(problem.p.architecture, *problem[3:], problem.x.dtype.name): len(problem.x) for problem in problems}
    for (architecture, beta, l2, objective, dtype), n in kinds.items():
        for seed, edge in enumerate(edges):
            yield random_problem(architecture, objective, n, n, beta, l2, dtype, seed, "binary", **edge)
