"""Tools for testing gradients, those of vae_np and yours. `vae_np.testing.strategies` draws problems with Hypothesis."""

from vae_np.testing.comparison import TOLERANCES, assert_close, relative_errors
from vae_np.testing.derivatives import numerical_gradient
from vae_np.testing.diagnosis import KINDS, Diagnosis, diagnose
from vae_np.testing.gradients import Worst, check_gradients
from vae_np.testing.meaning import at_the_edges, check_kl, check_likelihood, check_reduction, check_sampler
from vae_np.testing.models import check_vae
from vae_np.testing.operations import check_kernels
from vae_np.testing.oracles import complex_elbo, complex_surrogate, reference_elbo
from vae_np.testing.problems import (
    Problem,
    ProblemOfOwn,
    every_kind,
    random_batch,
    random_like,
    random_noise,
    random_parameters,
    random_problem,
    random_problem_of,
)
from vae_np.testing.properties import PROPERTIES
from vae_np.testing.suite import check_elbo

__all__ = [
    "KINDS",
    "PROPERTIES",
    "TOLERANCES",
    "Diagnosis",
    "Problem",
    "ProblemOfOwn",
    "Worst",
    "assert_close",
    "at_the_edges",
    "check_elbo",
    "check_gradients",
    "check_kernels",
    "check_kl",
    "check_likelihood",
    "check_reduction",
    "check_sampler",
    "check_vae",
    "complex_elbo",
    "complex_surrogate",
    "diagnose",
    "every_kind",
    "numerical_gradient",
    "random_batch",
    "random_like",
    "random_noise",
    "random_parameters",
    "random_problem",
    "random_problem_of",
    "reference_elbo",
    "relative_errors",
]
