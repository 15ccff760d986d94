"""The series of `kernels.cpu.mathematics` against long double, in units in the last place."""

import numpy as np
import pytest
from numba import njit

from kernels.cpu import mathematics

BOUNDS = {"exp": 1.5, "expm1": 2.5, "log1p": 1.5, "softplus": 2, "sigmoids": 3, "tanh": 3.5}  # as the docstrings say


def exact(name, x):
    e = np.exp(-np.abs(x))
    return {
        "exp": lambda: np.exp(x),
        "expm1": lambda: np.expm1(x),
        "log1p": lambda: np.log1p(x),
        "softplus": lambda: np.maximum(x, 0) + np.log1p(e),
        "sigmoids": lambda: np.where(x >= 0, 1, e) / (1 + e),
        "tanh": lambda: np.tanh(x),
    }[name]()


def compiled(name):
    function = getattr(mathematics, name)
    first = njit(lambda x: function(x)[0]) if name == "sigmoids" else njit(lambda x: function(x))

    @njit
    def over(x, y):
        for i in range(x.shape[0]):
            y[i] = first(x[i])

    return over


@pytest.mark.parametrize("real", [np.float32, np.float64])
@pytest.mark.parametrize("name", BOUNDS)
def test_bound(name, real):
    rng, limit = np.random.default_rng(0), 86 if real is np.float32 else 700
    x = np.concatenate(
        [rng.uniform(-limit, limit, 200_000), rng.normal(size=200_000), 10.0 ** rng.uniform(-30, 0, 100_000)]
    )
    x = np.concatenate([x[: x.size // 2], -x[x.size // 2 :]]).astype(real)
    x = np.abs(x[np.abs(x) <= 1]) if name == "log1p" else x
    y = np.empty_like(x)
    compiled(name)(x, y)
    wanted = exact(name, x.astype(np.longdouble))
    errors = np.abs(y - wanted) / np.spacing(np.abs(wanted.astype(real))).astype(np.longdouble)
    assert errors.max() <= BOUNDS[name], f"at {x[errors.argmax()]!r}"


@pytest.mark.parametrize("real", [np.float32, np.float64])
def test_limits(real):
    x = np.array([np.nan, np.inf, -np.inf, 1e4, -1e4], real)
    y = np.empty_like(x)
    limits = {
        "exp": [np.nan, np.inf, 0, np.inf, 0],
        "expm1": [np.nan, np.inf, -1, np.inf, -1],
        "softplus": [np.nan, np.inf, 0, 1e4, 0],
        "sigmoids": [np.nan, 1, 0, 1, 0],
        "tanh": [np.nan, 1, -1, 1, -1],
    }
    for name, wanted in limits.items():
        compiled(name)(x, y)
        np.testing.assert_array_equal(y, np.array(wanted, real), err_msg=name)
