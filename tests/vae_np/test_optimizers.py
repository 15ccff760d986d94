"""What an optimizer takes, keeps and hands on; the updates themselves are tested in tests/kernels/test_operations.py."""

import dataclasses

import numpy as np
import pytest

from vae_np import SGD, Adagrad, Adam, Architecture, Parameters
from vae_np.kernels import reference

FIELDS = [(kind, field.name) for kind in (SGD, Adagrad, Adam) for field in dataclasses.fields(kind)]
MAY_BE_ZERO = {"momentum", "beta1", "beta2"}


def test_defaults_are_plain_descent_and_the_published_ones():
    assert SGD() == SGD(0.01, momentum=0.0)
    assert Adagrad() == Adagrad(0.01, epsilon=1e-8)
    assert Adam() == Adam(0.001, beta1=0.9, beta2=0.999, epsilon=1e-8)  # Kingma & Ba 2015, algorithm 1


@pytest.mark.parametrize("kind, field", FIELDS)
def test_a_number_of_any_kind_is_kept_as_a_float_and_what_is_none_is_refused(kind, field):
    assert type(getattr(kind(**{field: np.float32(0.5)}), field)) is float
    for wrong in (-0.1, np.nan, np.inf, "0.5", None):
        with pytest.raises(ValueError, match=f"{field} is .*; it must be a finite number"):
            kind(**{field: wrong})


@pytest.mark.parametrize("kind, field", FIELDS)
def test_zero_is_refused_where_nothing_would_move_or_a_division_fail(kind, field):
    if field in MAY_BE_ZERO:
        assert getattr(kind(**{field: 0}), field) == 0
    else:
        with pytest.raises(ValueError, match=f"{field} is 0; it must be a finite number, above 0"):
            kind(**{field: 0})


@pytest.mark.parametrize("field", ["beta1", "beta2"])
def test_a_mean_that_never_forgets_is_refused(field):
    assert getattr(Adam(**{field: 0.99999}), field) == 0.99999
    with pytest.raises(ValueError, match=f"{field} is 1.0; it must be below 1"):
        Adam(**{field: 1})


@pytest.mark.parametrize(
    "optimizer, wanted",
    [
        (SGD(), lambda g: {"velocity": g}),
        (Adagrad(), lambda g: {"squares": g**2}),
        (Adam(), lambda g: {"m": 0.1 * g, "v": 0.001 * g**2}),
    ],
    ids=["SGD", "Adagrad", "Adam"],
)
def test_after_one_update_the_state_is_what_its_names_say(optimizer, wanted):
    """Under these names it stands in a checkpoint."""
    p = Parameters(Architecture(1, (), 1), np.array([1.0, 2.0, 3.0, 4.0, 5.0, 6.0]))
    g = np.array([0.5, -1.0, 2.0, 0.0, 1.0, -3.0])
    state = optimizer.initial_state(p)
    assert all(array.shape == p.flat.shape and not array.any() for array in state.values())
    optimizer.update(reference, p.flat, g, state, 1, 0.1)
    assert set(state) == set(wanted(g))
    for name, array in wanted(g).items():
        np.testing.assert_allclose(state[name], array, rtol=1e-12)
