"""Random problems for a gradient to be tested on, each made by a call that a person can read and repeat."""

from typing import NamedTuple

import numpy as np

from vae_np.architecture import ACTIVATIONS, Architecture, check_choice
from vae_np.elbo import OBJECTIVES
from vae_np.parameters import Parameters


class Problem(NamedTuple):
    """The arguments of `loss_and_gradients`, in its order."""

    p: Parameters
    x: np.ndarray  #    (B, D)
    eps: np.ndarray  #  (L, B, Z)
    beta: float
    l2: float
    objective: str


def random_parameters(architecture, dtype="float64", seed=0, logit=0.0, logvar=0.0, noise=0.0):
    """Parameters none of which is 0. The rest sets edges: biases of that size and random signs are added to the output,
    to the heads of q's log-variance, and to that of a learned noise."""
    rng = np.random.default_rng(seed)
    p = Parameters.initialize(architecture, seed=seed)
    p.flat += 0.2 * rng.normal(size=p.flat.shape)
    edges = {"output.b": logit, "logvar.b": logvar, "noise.logvar": noise, "output_logvar.b": noise}
    for name, size in edges.items():
        if size and name in p:
            p[name][...] += size * rng.choice([-1, 1], p[name].shape)
    return p.astype(dtype)


def random_batch(architecture, n_examples=3, dtype="float64", seed=0, pixels="grey"):
    """x (B, D): "grey" in [0, 1], "binary" of exactly 0 and 1; with Gaussian noise, "grey" is standard normal."""
    rng, shape = np.random.default_rng(seed + 1), (n_examples, architecture.n_inputs)
    check_choice("pixels", pixels, ("grey", "binary"))
    if pixels == "binary":
        return rng.integers(0, 2, shape).astype(dtype)
    return (rng.uniform(size=shape) if architecture.likelihood == "bernoulli" else rng.normal(size=shape)).astype(dtype)


def random_noise(architecture, n_examples=3, n_samples=2, dtype="float64", seed=0):
    """eps (L, B, Z), standard normal"""
    rng = np.random.default_rng(seed + 2)
    return rng.normal(size=(n_samples, n_examples, architecture.n_latent)).astype(dtype)


def random_problem(
    architecture,
    objective="elbo",
    n_examples=3,
    n_samples=2,
    beta=0.7,
    l2=0.1,
    dtype="float64",
    seed=0,
    pixels="grey",
    logit=0.0,
    logvar=0.0,
    noise=0.0,
):
    """A Problem of that size; everything in it follows from these arguments."""
    return Problem(
        random_parameters(architecture, dtype, seed, logit, logvar, noise),
        random_batch(architecture, n_examples, dtype, seed, pixels),
        random_noise(architecture, n_examples, n_samples, dtype, seed),
        beta,
        l2,
        objective,
    )


NOISES = (  # likelihood and noise of every kind of decoder
    {"likelihood": "bernoulli"},
    {"likelihood": "gaussian", "noise_std": 0.8},
    {"likelihood": "gaussian", "noise": "shared"},
    {"likelihood": "gaussian", "noise": "heteroscedastic"},
)


def every_kind(dtype="float64"):
    """Problems of every likelihood, activation and objective, of different depths, sizes, beta and l2: 36 of them."""
    depths = ((4,), (), (5, 3))
    for i, noise in enumerate(NOISES):
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
    for i, noise in enumerate(NOISES):
        for j, edge in enumerate(edges):
            for k, activation in enumerate(ACTIVATIONS):
                arch = Architecture(3, ((), (2,))[(i + j + k) % 2], 1 + i % 2, activation, **noise)
                objective, n = list(OBJECTIVES)[(i + j + k) % 3], 1 + (j + k) % 2
                yield random_problem(arch, objective, n, n, dtype=dtype, seed=j, pixels="binary", **edge)
