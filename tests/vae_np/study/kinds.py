"""A few small models in which every choice occurs, and the trace of each: it is made once in a process."""

import functools

from vae_np import Architecture
from vae_np.study import trace
from vae_np.testing import random_problem

KINDS = {
    "closed": random_problem(Architecture(6, (5,), 3, "relu"), "elbo", 4, 2, 1.0, 1e-3),
    "linear": random_problem(Architecture(5, (), 2), "elbo_mc", 3, 2, 0.7),
    "weighted": random_problem(Architecture(5, (4, 3), 2, "tanh", "gaussian", noise="heteroscedastic"), "iwae", 2, 2),
    "shared": random_problem(Architecture(5, (4,), 2, "softplus", "gaussian", noise="shared"), "elbo", 2, 2, 0.0),
    "grey": random_problem(Architecture(5, (4,), 2, "silu", "continuous_bernoulli"), "elbo_mc", 2, 2),
    "fixed": random_problem(Architecture(5, (4,), 1, "gelu", "gaussian"), "elbo", 2, 1),
}


@functools.cache
def traced(kind):
    """The trace of a kind, in which a few elements of each derivative are compared with finite differences."""
    return trace(*KINDS[kind], elements=1)
