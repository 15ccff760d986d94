"""Random problems for a gradient to be tested on, each made by a call that a person can read and repeat."""

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike, NDArray

from vae_np.architecture import Architecture, check_choice
from vae_np.choices import ACTIVATIONS, LIKELIHOODS, NOISES, OBJECTIVES
from vae_np.parameters import Parameters


class Problem(NamedTuple):
    """The arguments of `loss_and_gradients`, in its order."""

    p: Parameters
    x: NDArray  #    (B, D)
    eps: NDArray  #  (L, B, Z)
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
    """Parameters none of which is 0.

    logit, logvar and noise make edges: biases of that size and of random signs are added to the output, to the log-variance of
    q(z|x), and to a learned log-variance of x.
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
    """x (B, D): "grey" is uniform in the support of the likelihood, or standard normal where it has no ends; "binary" is 0 and 1."""
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
    """eps (L, B, Z), standard normal"""
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
    """A Problem of that size; everything in it follows from these arguments.

    Examples
    --------
    >>> from vae_np import Architecture, loss_and_gradients
    >>> from vae_np.testing import random_problem
    >>> problem = random_problem(Architecture(5, (4,), 2), objective="iwae", n_samples=3)
    >>> value, g = loss_and_gradients(*problem)
    >>> value.per_example.shape
    (3,)
    """
    return Problem(
        random_parameters(architecture, dtype, seed, logit, logvar, noise),
        random_batch(architecture, n_examples, dtype, seed, pixels),
        random_noise(architecture, n_examples, n_samples, dtype, seed),
        beta,
        l2,
        objective,
    )


def _every_decoder():
    for likelihood in LIKELIHOODS.values():
        for noise in NOISES.values() if likelihood.has_noise else ():
            fixed = {} if noise.parameter else {"noise_std": 0.8}
            yield {"likelihood": likelihood.name, "noise": noise.name, **fixed}
        if not likelihood.has_noise:
            yield {"likelihood": likelihood.name}


DECODERS: tuple[dict[str, Any], ...] = tuple(_every_decoder())  # the fields of Architecture of every likelihood and noise


def every_kind(dtype="float64"):
    """Problems of every likelihood, activation and objective, of different depths, sizes, beta and l2: as many as there are combinations."""
    depths = ((4,), (), (5, 3))
    for i, noise in enumerate(DECODERS):
        for j, activation in enumerate(ACTIVATIONS):
            for k, objective in enumerate(OBJECTIVES):
                arch = Architecture(5, depths[(i + j + k) % 3], 1 + (i + k) % 3, activation, **noise)
                beta, l2 = (0.7, 1.0, 0.0)[(i + 2 * j) % 3], (0.1, 0.0)[(i + k) % 2]
                yield random_problem(arch, objective, 2 + (j + k) % 3, 1 + (i + j) % 3, beta, l2, dtype, seed=i)


EDGES = (
    {"logit": 1e4},
    {"logit": 100.0},
    {"logit": 17.0, "logvar": 12.0},
    {"noise": 8.0},
    {"logvar": 80.0},
    {"noise": 80.0},
)
SATURATED = EDGES[:4]  # where the loss is large or flat, but differences of it still say something


def at_the_edges(dtype="float64", edges=EDGES):
    """Problems with logits of +-1e4, log-variances of +-80, pixels of exactly 0 and 1, one example, one latent: 12 an edge."""
    for i, noise in enumerate(DECODERS):
        for j, edge in enumerate(edges):
            for k, activation in enumerate(ACTIVATIONS):
                arch = Architecture(3, ((), (2,))[(i + j + k) % 2], 1 + i % 2, activation, **noise)
                objective, n = list(OBJECTIVES)[(i + j + k) % 3], 1 + (j + k) % 2
                yield random_problem(arch, objective, n, n, dtype=dtype, seed=j, pixels="binary", **edge)
