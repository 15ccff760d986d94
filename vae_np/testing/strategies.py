"""Hypothesis strategies for everything a gradient is tested on.

Shapes and a seed are drawn, and arrays filled from them, so that a failing example shrinks to the smallest model, batch and
number of samples that still fail, and is printed as the call that makes it. The first example of a kind may wait for a
compiler: `settings(deadline=None)`.
"""

from hypothesis import strategies as st

from vae_np import kernels
from vae_np.architecture import Architecture
from vae_np.choices import ACTIVATIONS, OBJECTIVES
from vae_np.parameters import DTYPES
from vae_np.testing.problems import DECODERS, random_batch, random_noise, random_parameters, random_problem

seeds = st.integers(0, 2**32 - 1)


def backends():
    """The names of the kernel sets that run here, the reference first."""
    return st.sampled_from([name for name, status in kernels.available().items() if status.ok])


def dtypes():
    """ "float64", or "float32" """
    return st.sampled_from(sorted(DTYPES, reverse=True))


def objectives():
    """The names of the objectives, such as "elbo" """
    return st.sampled_from(list(OBJECTIVES))


@st.composite
def architectures(
    draw, max_inputs=5, max_depth=3, max_width=4, max_latent=4, activations=tuple(ACTIVATIONS), decoders=DECODERS
):
    """Architectures of any likelihood, noise and activation; the simplest is linear, with one input and one latent.

    decoders: dicts of the fields of Architecture that make a likelihood and its noise.
    """
    return Architecture(
        n_inputs=draw(st.integers(1, max_inputs)),
        hidden=tuple(draw(st.lists(st.integers(1, max_width), max_size=max_depth))),
        n_latent=draw(st.integers(1, max_latent)),
        activation=draw(st.sampled_from(activations)),
        **draw(st.sampled_from(decoders)),
    )


def parameters(architecture, dtypes=dtypes()):
    """Parameters of an architecture, none of them 0."""
    return st.builds(random_parameters, st.just(architecture), dtypes, seeds)


def batches(architecture, max_examples=4, dtypes=dtypes()):
    """x (B, D): grey, or exactly 0 and 1."""
    sizes, pixels = st.integers(1, max_examples), st.sampled_from(["grey", "binary"])
    return st.builds(random_batch, st.just(architecture), sizes, dtypes, seeds, pixels)


def noises(architecture, n_examples, max_samples=3, dtypes=dtypes()):
    """eps (L, B, Z)"""
    return st.builds(random_noise, st.just(architecture), st.just(n_examples), st.integers(1, max_samples), dtypes, seeds)


def problems(architectures=architectures(), objectives=objectives(), dtypes=st.just("float64"), max_examples=4, max_samples=3):
    """Problems for `loss_and_gradients(*problem)`."""
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


def edge_problems(dtypes=dtypes()):
    """Problems at the edges of what a model meets: logits of +-1e4, log-variances of +-80, pixels of exactly 0 and 1, one
    example, one latent, no hidden layer."""
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
