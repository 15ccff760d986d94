"""What is true of every right gradient, on every backend, over random models: `vae_np.testing.properties`."""

import pytest
from hypothesis import HealthCheck, given, settings

from vae_np.testing import PROPERTIES, properties
from vae_np.testing.strategies import edge_problems, problems


@pytest.mark.parametrize("check", PROPERTIES, ids=lambda check: check.__name__)
def test_property(backend, check):
    @settings(max_examples=50, suppress_health_check=[HealthCheck.nested_given])
    @given(problem=problems())
    def holds(problem):
        check(properties.with_backend(backend), problem)

    holds()


@settings(max_examples=150)
@given(problem=edge_problems())
def test_edges(backend, problem):
    properties.value_is_finite_wherever_it_can_be(properties.with_backend(backend), problem)
