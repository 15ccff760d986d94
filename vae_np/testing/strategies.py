"""Hypothesis strategies for everything that a gradient is tested on.

Hypothesis draws only shapes and a seed, and the arrays are filled from these. So a failing example shrinks to the smallest
model, batch and number of samples that still fail, and it is printed as the call that makes it. The first example of a kind
may have to wait for a compiler; use `settings(deadline=None)`.
"""

from collections.abc import Sequence
from typing import Any

from hypothesis import strategies as st
from numpy.typing import NDArray

from vae_np import kernels
from vae_np.architecture import Architecture
from vae_np.choices import ACTIVATIONS, OBJECTIVES
from vae_np.parameters import DTYPES, Parameters
from vae_np.testing.problems import (
    DECODERS,
    Problem,
    ProblemOfOwn,
    random_batch,
    random_like,
    random_noise,
    random_parameters,
    random_problem,
    random_problem_of,
)

seeds = st.integers(0, 2**32 - 1)


def backends() -> st.SearchStrategy[str]:
    """Draw the name of a kernel set that runs here; the simplest is the reference."""
    return st.sampled_from([name for name, status in kernels.available().items() if status.ok])


def dtypes() -> st.SearchStrategy[str]:
    """Draw the name of a dtype: "float64" or "float32"."""
    return st.sampled_from(sorted(DTYPES, reverse=True))


def objectives() -> st.SearchStrategy[str]:
    """Draw the name of an objective, such as "elbo"."""
    return st.sampled_from(list(OBJECTIVES))


@st.composite
def architectures(
    draw: st.DrawFn,
    max_inputs: int = 5,
    max_depth: int = 3,
    max_width: int = 4,
    max_latent: int = 4,
    activations: Sequence[str] = tuple(ACTIVATIONS),
    decoders: Sequence[dict[str, Any]] = DECODERS,
) -> Architecture:
    """Draw an Architecture of any likelihood, noise and activation; the simplest is linear, with one input and one latent.

    Parameters
    ----------
    max_inputs, max_depth, max_width, max_latent : int
        The largest number of inputs, of hidden layers on each side, of units in a layer, and of latents.
    activations : sequence of str
        The names of the activations to choose from.
    decoders : sequence of dict
        The likelihoods and noises to choose from, each as the fields of Architecture that describe it.
    """
    return Architecture(
        n_inputs=draw(st.integers(1, max_inputs)),
        hidden=tuple(draw(st.lists(st.integers(1, max_width), max_size=max_depth))),
        n_latent=draw(st.integers(1, max_latent)),
        activation=draw(st.sampled_from(activations)),
        **draw(st.sampled_from(decoders)),
    )


def parameters(architecture: Architecture, dtypes: st.SearchStrategy[str] = dtypes()) -> st.SearchStrategy[Parameters]:
    """Draw Parameters of an architecture, none of which is 0."""
    return st.builds(random_parameters, st.just(architecture), dtypes, seeds)


def batches(
    architecture: Architecture, max_examples: int = 4, dtypes: st.SearchStrategy[str] = dtypes()
) -> st.SearchStrategy[NDArray]:
    """Draw a batch x (B, D), either grey or of zeros and ones."""
    sizes, pixels = st.integers(1, max_examples), st.sampled_from(["grey", "binary"])
    return st.builds(random_batch, st.just(architecture), sizes, dtypes, seeds, pixels)


def noises(
    architecture: Architecture, n_examples: int, max_samples: int = 3, dtypes: st.SearchStrategy[str] = dtypes()
) -> st.SearchStrategy[NDArray]:
    """Draw the noise eps (L, B, Z)."""
    return st.builds(random_noise, st.just(architecture), st.just(n_examples), st.integers(1, max_samples), dtypes, seeds)


def problems(
    architectures: st.SearchStrategy[Architecture] = architectures(),
    objectives: st.SearchStrategy[str] = objectives(),
    dtypes: st.SearchStrategy[str] = st.just("float64"),
    max_examples: int = 4,
    max_samples: int = 3,
) -> st.SearchStrategy[Problem]:
    """Draw a Problem for `loss_and_gradients(*problem)`."""
    return st.builds(
        random_problem,
        architectures,
        objective=objectives,
        n_examples=st.integers(1, max_examples),
        n_samples=st.integers(1, max_samples),
        beta=st.sampled_from([1.0, 0.0, 0.7]),
        l2=st.sampled_from([0.0, 0.1]),
        dtype=dtypes,
        seed=seeds,
        pixels=st.sampled_from(["grey", "binary"]),
    )


def edge_problems(dtypes: st.SearchStrategy[str] = dtypes()) -> st.SearchStrategy[Problem]:
    """Draw a Problem at the edges of what a model meets.

    It has, for example, logits of +-1e4, log-variances of +-80, pixels of exactly 0 and 1, one example, one latent, or no
    hidden layer.
    """
    return st.builds(
        random_problem,
        architectures(max_inputs=3, max_depth=1, max_width=3, max_latent=2),
        objective=objectives(),
        n_examples=st.integers(1, 2),
        n_samples=st.integers(1, 2),
        beta=st.sampled_from([1.0, 0.0]),
        l2=st.just(0.0),
        dtype=dtypes,
        seed=seeds,
        pixels=st.sampled_from(["binary", "grey"]),
        logit=st.sampled_from([0.0, 17.0, 100.0, 1e4]),
        logvar=st.sampled_from([0.0, 20.0, 80.0]),
        noise=st.sampled_from([0.0, 8.0, 80.0]),
    )


# ------------------------------------------------------------------------------------------------- a model of one's own


def arrays_like(tree: Any, scale: float = 1.0) -> st.SearchStrategy[Any]:
    """Draw a container like one of yours, such as the parameters of your model, with other numbers.

    Parameters
    ----------
    tree : container
        The container: see `random_like`.
    scale : float
        The standard deviation of the numbers.
    """
    return st.builds(random_like, st.just(tree), seeds, st.just(scale))


def problems_of(
    params: Any,
    n_inputs: int,
    n_latent: int,
    max_examples: int = 4,
    max_samples: int | None = None,
    likelihood: str = "bernoulli",
    scale: float = 1.0,
) -> st.SearchStrategy[ProblemOfOwn]:
    """Draw (params, x, eps) for a model of your own.

    Parameters
    ----------
    params : container
        Parameters of your model. Their shapes and their container are kept, and their numbers are drawn.
    n_inputs, n_latent : int
        The number of inputs, D, and of latents, Z, of your model.
    max_examples : int
        The largest number of examples, B.
    max_samples : int, optional
        The largest number of samples of each example, L. By default the noise is (B, Z), without an axis for samples.
    likelihood : str
        What x is besides zeros and ones: numbers between 0 and 1 for "bernoulli", real numbers for "gaussian".
    scale : float
        The standard deviation of the parameters.

    Examples
    --------
    >>> import numpy as np
    >>> from hypothesis import given, settings
    >>> from vae_np.testing.strategies import problems_of
    >>> def loss(params, x, eps):
    ...     mu, std = x @ params["mu"], np.exp(params["logvar"] / 2)
    ...     return np.mean((x - (mu + std * eps) @ params["mu"].T) ** 2)
    >>> @settings(max_examples=10, database=None)
    ... @given(problem=problems_of({"mu": np.zeros((5, 2)), "logvar": np.zeros(2)}, n_inputs=5, n_latent=2))
    ... def test_no_loss_is_negative(problem):
    ...     assert loss(*problem) >= 0
    >>> test_no_loss_is_negative()
    """
    return st.builds(
        random_problem_of,
        st.just(params),
        n_inputs=st.just(n_inputs),
        n_latent=st.just(n_latent),
        n_examples=st.integers(1, max_examples),
        n_samples=st.none() if max_samples is None else st.integers(1, max_samples),
        likelihood=st.just(likelihood),
        pixels=st.sampled_from(["grey", "binary"]),
        seed=seeds,
        scale=st.just(scale),
    )
