"""What is true of every right gradient, on every backend, over random models: `vae_np.testing.properties`."""

import pytest
from hypothesis import HealthCheck, given, settings

from vae_np import Architecture
from vae_np.choices import ESTIMATORS
from vae_np.testing import PROPERTIES, check_elbo, properties, random_problem
from vae_np.testing.problems import every_kind
from vae_np.testing.properties import at_precision
from vae_np.testing.strategies import edge_problems, problems


@pytest.mark.parametrize("check", PROPERTIES, ids=lambda check: check.__name__)
def test_property(backend, check):
    @settings(max_examples=50, suppress_health_check=[HealthCheck.nested_given])
    @given(problem=problems())
    def holds(problem):
        check(properties.with_backend(backend), problem)

    holds()


@pytest.mark.parametrize(
    "place", range(len(at_precision("bfloat16"))), ids=lambda place: at_precision("bfloat16")[place].__name__
)
def test_property_at_a_lower_precision(lower, place):
    @settings(max_examples=10, suppress_health_check=[HealthCheck.nested_given])
    @given(problem=problems())
    def holds(problem):
        at_precision(lower[1])[place](properties.with_backend(*lower), problem)

    holds()


@pytest.mark.parametrize("estimator", [name for name in ESTIMATORS if name != "total"])
def test_other_estimators(backend, estimator):
    """Every element is the complex step of the surrogate, for every likelihood, activation, number of samples and beta."""
    problems = None if backend == "numpy" else [*every_kind()][::4]  # the text of the model is the same in every set
    tried = check_elbo(properties.with_backend(backend, estimator=estimator), problems=problems, estimator=estimator)
    assert len(tried) > 8 and max(tried.values()) >= (25 if problems is None else 6)


@settings(max_examples=75)
@given(problem=edge_problems())
def test_edges(backend, problem):
    properties.value_is_finite_wherever_it_can_be(properties.with_backend(backend), problem)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_large_products_have_the_same_bits_on_any_number_of_threads(backend, dtype):
    """Large enough for a BLAS to split them."""
    problem = random_problem(Architecture(500, (300,), 20), n_examples=101, dtype=dtype)
    properties.a_call_changes_nothing_and_repeats_to_the_bit(properties.with_backend(backend), problem)


def test_large_products_of_rounded_operands_have_the_same_bits_on_any_number_of_threads(lower):
    problem = random_problem(Architecture(500, (300,), 20), n_examples=101, dtype="float32")
    properties.a_call_changes_nothing_and_repeats_to_the_bit(properties.with_backend(*lower), problem)
