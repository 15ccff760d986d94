"""What an optimizer takes, keeps and hands on; the updates themselves are tested in tests/kernels/test_operations.py."""

import dataclasses

import numpy as np
import pytest

from vae_np import SGD, Adagrad, Adam, AdamW, Architecture, Parameters
from vae_np.kernels import reference

FIELDS = [(kind, field.name) for kind in (SGD, Adagrad, Adam, AdamW) for field in dataclasses.fields(kind)]
MAY_BE_ZERO = {"momentum", "beta1", "beta2", "weight_decay"}


def test_defaults_are_plain_descent_and_the_published_ones():
    assert SGD() == SGD(0.01, momentum=0.0)
    assert Adagrad() == Adagrad(0.01, epsilon=1e-8)
    assert Adam() == Adam(0.001, beta1=0.9, beta2=0.999, epsilon=1e-8)  # Kingma & Ba 2015, algorithm 1
    assert AdamW() == AdamW(0.001, beta1=0.9, beta2=0.999, epsilon=1e-8, weight_decay=0.01)


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


def test_adamw_shrinks_weights_alone_and_by_the_same_factor_whatever_their_gradients(its_kernels):
    """Of a weight without a gradient only the decay is left."""
    arch = Architecture(3, (2,), 2)
    p, g = Parameters.initialize(arch), np.zeros(Parameters.zeros(arch).flat.shape)
    p.flat[...] += 1
    optimizer = AdamW(0.1, weight_decay=0.5)
    after, state = p.copy(), optimizer.initial_state(p)
    for step in (1, 2, 3):
        optimizer.update(its_kernels, after.flat, g, state, step, 0.1)
    for name in p:
        wanted = p[name] * (0.95**3 if name in p.weights else 1)
        np.testing.assert_allclose(after[name], wanted, rtol=1e-14, err_msg=name)


def test_adamw_is_adam_and_a_decay_past_its_running_means():
    """Loshchilov & Hutter 2019, algorithm 2, beside L2, whose part of the gradient Adam divides by its own size."""
    arch, rng = Architecture(3, (2,), 2), np.random.default_rng(0)
    p = Parameters.initialize(arch)
    by_adam, by_adamw = p.copy(), p.copy()
    adam, adamw = Adam(0.01), AdamW(0.01, weight_decay=0.3)
    states = adam.initial_state(p), adamw.initial_state(p)
    for step in range(1, 6):
        g, before = rng.normal(size=p.flat.shape), by_adamw.copy()
        adam.update(reference, by_adam.flat, g, states[0], step, 0.01)
        adamw.update(reference, by_adamw.flat, g, states[1], step, 0.01)
        for name in p:  # Adam from the same point, and the decay of that point
            decay = 0.01 * 0.3 * before[name] * (name in p.weights)
            m, v = (Parameters(arch, states[1][key])[name] for key in ("m", "v"))
            update = 0.01 * (m / (1 - 0.9**step)) / (np.sqrt(v / (1 - 0.999**step)) + 1e-8)
            np.testing.assert_allclose(by_adamw[name], before[name] - decay - update, rtol=1e-12)
    np.testing.assert_array_equal(states[0]["m"], states[1]["m"])  # the decay has no part in the running means
