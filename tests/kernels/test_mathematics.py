"""The errors of exp and the like, and of a Bernoulli pixel, are within the bounds that their docstrings state.

float32 is held against the C library's float64, whose last place is 2^-29 ulp of float32; float64 against mpmath.
The bounds hold without fused multiply-add too: NUMBA_CPU_NAME=generic has the compiler do without it.
"""

import functools
import math
import re
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import mpmath
import numpy as np
import pytest
from numba import njit

from vae_np.kernels import reference
from vae_np.kernels.cpu import losses, mathematics

MP: Any = mpmath.MPContext()
MP.prec = 120


def loop(function, part=None):
    """A loop that calls the function for each element, inlined as in a kernel; `part` chooses one of two results."""
    call = mathematics.inline((lambda x: function(x)) if part is None else (lambda x: function(x)[part]))

    @njit(nogil=True)
    def over(x, pixel, y):
        for i in range(x.size):
            y[i] = call(x[i])

    return over


def pixel_nll(logits, pixel, nll):
    logits, x = logits.reshape(1, -1, 1), np.full((logits.size, 1), pixel)
    losses.bernoulli_nll(logits, logits, x, nll.reshape(1, -1))


def pixel_derivative(logits, pixel, dlogits):
    logits, x = logits.reshape(1, 1, -1), np.full((1, logits.size), pixel)
    losses.bernoulli_nll_backward(np.ones_like(x[:, :1]), logits, logits, x, dlogits.reshape(1, 1, -1), logits)


def grey_nll(logits, pixel, nll):
    logits, x = logits.reshape(1, -1, 1), np.full((logits.size, 1), pixel)
    losses.continuous_bernoulli_nll(logits, logits, x, nll.reshape(1, -1))


def grey_derivative(logits, pixel, dlogits):
    logits, x = logits.reshape(1, 1, -1), np.full((1, logits.size), pixel)
    losses.continuous_bernoulli_nll_backward(np.ones_like(x[:, :1]), logits, logits, x, dlogits.reshape(1, 1, -1), logits)


def reference_grey_nll(logits, pixel, nll):
    reference.continuous_bernoulli_nll(logits.reshape(1, -1, 1), logits, np.full((logits.size, 1), pixel), nll.reshape(1, -1))


def reference_grey_derivative(logits, pixel, dlogits):
    logits, x = logits.reshape(1, 1, -1), np.full((1, logits.size), pixel)
    dnll = np.ones_like(x[:, :1])
    reference.continuous_bernoulli_nll_backward(dnll, logits, logits, x, dlogits.reshape(1, 1, -1), logits)


def reference_sigmoid(x, pixel, y):
    y[:] = reference.sigmoid(x)


def reference_softplus(x, pixel, y):
    layer = x[:, None], np.ones((1, 1), x.dtype), np.zeros(1, x.dtype)
    reference.affine_softplus(*layer, np.zeros((0, 1), x.dtype), y[:, None])


FUNCTIONS = {  # the function whose docstring states the bound, and what is run
    "exp": (mathematics.exp, loop(mathematics.exp)),
    "expm1": (mathematics.expm1, loop(mathematics.expm1)),
    "log1p": (mathematics.log1p, loop(mathematics.log1p)),
    "softplus": (mathematics.softplus, loop(mathematics.softplus)),
    "sigmoid": (mathematics.sigmoids, loop(mathematics.sigmoids, 0)),
    "sigmoid of -x": (mathematics.sigmoids, loop(mathematics.sigmoids, 1)),
    "tanh": (mathematics.tanh, loop(mathematics.tanh)),
    "silu": (mathematics.silu, loop(mathematics.silu)),
    "slope of silu": (mathematics.silu_slope, loop(mathematics.silu_slope)),
    "gelu": (mathematics.gelu, loop(mathematics.gelu)),
    "slope of gelu": (mathematics.gelu_slope, loop(mathematics.gelu_slope)),
    "nll": (losses.bernoulli_nll, pixel_nll),
    "derivative": (losses.bernoulli_nll_backward, pixel_derivative),
    "lesser mean": (mathematics.lesser_mean, loop(mathematics.lesser_mean)),
    "grey nll": (losses.continuous_bernoulli_nll, grey_nll),
    "grey derivative": (losses.continuous_bernoulli_nll_backward, grey_derivative),
    "reference grey nll": (losses.continuous_bernoulli_nll, reference_grey_nll),
    "reference grey derivative": (losses.continuous_bernoulli_nll_backward, reference_grey_derivative),
    "reference sigmoid": (reference.sigmoid, reference_sigmoid),
    "reference softplus": (reference.affine_softplus, reference_softplus),
}


def terms(m, name):
    """name(x) as the difference of two terms, in the arithmetic of m (math or mpmath); the larger term sets the ulp."""
    half_log = lambda x: m.log(m.sinh(x / 2) / (x / 2)) if abs(x) > 1e-3 else x * x / 24 - x**4 / 2880  # noqa: E731
    near_mean = lambda a: 0.5 - a / 12 + a**3 / 720 if a < 1e-3 else 1 / a - 1 / m.expm1(min(a, 1e3))  # noqa: E731
    if m is math:
        half_log, near_mean = njit(half_log), njit(near_mean)
    far = 1e3  # beyond it a probability is 0 or 1, and mpmath cannot hold the square of x
    return {
        "exp": lambda x, pixel: (m.exp(x), 0.0),
        "expm1": lambda x, pixel: (m.expm1(x), 0.0),
        "log1p": lambda x, pixel: (m.log1p(x), 0.0),
        "softplus": lambda x, pixel: (max(x, 0.0) + m.log1p(m.exp(-abs(x))), 0.0),
        "sigmoid": lambda x, pixel: (1 / (1 + m.exp(-x)), 0.0),
        "sigmoid of -x": lambda x, pixel: (1 / (1 + m.exp(x)), 0.0),
        "tanh": lambda x, pixel: (m.tanh(x), 0.0),
        "silu": lambda x, pixel: (x / (1 + m.exp(-x)), 0.0),
        "gelu": lambda x, pixel: (x * m.erfc(-max(min(x, far), -far) / m.sqrt(2.0)) / 2, 0.0),
        "slope of gelu": lambda x, pixel: (
            m.erfc(-max(min(x, far), -far) / m.sqrt(2.0)) / 2,
            -x * m.exp(-(min(abs(x), far) ** 2) / 2) / m.sqrt(2 * m.pi),
        ),
        "lesser mean": lambda x, pixel: (near_mean(x), 0.0),
        "grey nll": lambda x, pixel: (
            ((0.5 - pixel) * x, -half_log(x))
            if abs(x) < 2
            else ((1 - pixel) * x if x > 0 else -pixel * x, m.log(abs(x)) - m.log1p(-m.exp(-min(abs(x), far))))
        ),
        "grey derivative": lambda x, pixel: (1 - pixel, near_mean(x)) if x > 0 else (near_mean(-x), pixel),
        "slope of silu": lambda x, pixel: (1 / (1 + m.exp(-x)), -x / (1 + m.exp(-x)) / (1 + m.exp(x))),
        "nll": lambda x, pixel: (((1 - pixel) * x if x > 0 else -pixel * x) + m.log1p(m.exp(-abs(x))), 0.0),
        "derivative": lambda x, pixel: ((1 - pixel) / (1 + m.exp(-x)), pixel / (1 + m.exp(x))),
    }[name.removeprefix("reference ")]


def arithmetic(real):
    """(math or mpmath, the type of its numbers, what compiles a function of them): more exact than `real`."""
    return (math, np.float64, njit(nogil=True)) if real is np.float32 else (MP, MP.mpf, lambda function: function)


@functools.cache
def exact_terms(name, real):
    """A function that fills two arrays with the terms of name(x)."""
    m, number, compiled = arithmetic(real)
    exact = compiled(terms(m, name))

    @compiled
    def fill(x, pixel, more, less):
        for i in range(x.size):
            more[i], less[i] = exact(number(x[i]), number(pixel))

    return fill


@functools.cache
def searching(real):
    """A function that searches the results y for the largest error, in ulps, and returns it with its argument."""
    m, number, compiled = arithmetic(real)
    info = np.finfo(real)
    overflow, smallest_normal, digits = m.ldexp(1.0, info.maxexp), float(info.smallest_normal), info.nmant + 1

    @compiled
    def search(x, y, more, less, flushed, times_x):
        largest, at = 0.0, 0.0
        for i in range(x.size):
            wanted, got, larger = more[i] - less[i], number(y[i]), max(abs(more[i]), abs(less[i]))
            if (wanted != wanted and got != got) or (larger < flushed * (abs(x[i]) if times_x else 1.0) and got == 0):
                continue
            if wanted != wanted or got != got:
                return math.inf, x[i]
            least = smallest_normal * (max(1.0, abs(x[i])) if times_x else 1.0)  # a factor of |x| may be smaller than that
            ulp = m.ldexp(1.0, m.frexp(min(max(larger, least), overflow))[1] - digits)
            error = abs(min(got, overflow) - min(wanted, overflow)) / ulp
            if error > largest:
                largest, at = error, x[i]
        return largest, at

    return search


def assert_within_bound(name, x, pixel):
    (statement, run), real = FUNCTIONS[name], x.dtype.type
    if name in SUPPORT:
        x = x[(x >= SUPPORT[name][0]) & (x <= SUPPORT[name][1])]
    y, pixel = np.full_like(x, np.nan), real(pixel)
    with np.errstate(invalid="ignore"):  # NumPy warns of a signalling NaN
        run(x, pixel, y)
    more, less = np.empty((2, x.size), np.float64 if real is np.float32 else object)
    exact_terms(name, real)(x, pixel, more, less)
    flushed = 2 * float(np.finfo(real).smallest_normal) if "flushed" in statement.__doc__ else 0.0
    largest, at = searching(real)(x, y, more, less, flushed, "|x|" in statement.__doc__)
    stated = re.search(r"within ([\d.]+) ulp", statement.__doc__)
    assert stated, f"{name} states no bound"
    assert largest <= float(stated[1]), f"{float(largest)} ulp at {at!r}, pixel {pixel!r}"


def arguments(real):
    """Arguments where n of `split` changes, powers of two, a sweep and infinity, with the neighbours of each and both signs."""
    info = np.finfo(real)
    turns = math.log(2) / 4 * np.arange(6 * info.maxexp)
    powers = np.ldexp(1.0, np.arange(info.minexp - info.nmant, info.maxexp))
    places = np.concatenate([turns, powers, np.geomspace(2.0**-60, 2.0**11, 5000), [np.inf]]).astype(real)
    bits = places.view(f"u{places.itemsize}")
    x = np.concatenate([bits - 1, bits, bits + 1]).view(real)  # beyond infinity lies NaN
    return np.concatenate([x, -x])


OF_A_PIXEL = ["nll", "derivative", "grey nll", "grey derivative", "reference grey nll", "reference grey derivative"]
FINITE = -np.finfo(np.float64).max, np.finfo(np.float64).max  # an infinite logit makes a loss that is not finite, or NaN
SUPPORT = {"log1p": (0, 1), "lesser mean": (0, np.inf), "grey nll": FINITE, "reference grey nll": FINITE}
SUPPORT |= {
    "gelu": FINITE,
    "slope of gelu": FINITE,
}  # of 0 times infinity mpmath, whose numbers do not underflow, knows a limit
CASES = [(name, k / 255) for name in FUNCTIONS for k in ([0, 1, 128, 255] if name in OF_A_PIXEL else [0])]


@pytest.mark.parametrize("name, pixel", CASES)
def test_single_precision(name, pixel):
    assert_within_bound(name, arguments(np.float32), pixel)
    assert_within_bound(name, np.arange(0, 2**32, 4001, dtype=np.uint32).view(np.float32), pixel)


@pytest.mark.parametrize("step", [5, pytest.param(1, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", OF_A_PIXEL)
def test_single_precision_of_every_pixel(name, step):
    for k in range(0, 256, step):
        assert_within_bound(name, arguments(np.float32), k / 255)


@pytest.mark.slow
@pytest.mark.parametrize("name, pixel", CASES)
def test_every_single_precision_number(name, pixel):
    def block(i):
        assert_within_bound(name, np.arange(i << 24, i + 1 << 24, dtype=np.uint32).view(np.float32), pixel)

    with ThreadPoolExecutor() as pool:
        list(pool.map(block, range(256)))


@pytest.mark.parametrize("thinned", [101, pytest.param(1, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name, pixel", CASES)
def test_double_precision(name, pixel, thinned):
    assert_within_bound(name, arguments(np.float64)[::thinned], pixel)


@pytest.mark.parametrize("real", [np.float32, np.float64])
def test_limits(real):
    x = np.array([np.nan, np.inf, -np.inf, 1e4, -1e4], real)
    limits = {
        "exp": [np.nan, np.inf, 0, np.inf, 0],
        "expm1": [np.nan, np.inf, -1, np.inf, -1],
        "softplus": [np.nan, np.inf, 0, 1e4, 0],
        "sigmoid": [np.nan, 1, 0, 1, 0],
        "sigmoid of -x": [np.nan, 0, 1, 0, 1],
        "tanh": [np.nan, 1, -1, 1, -1],
        "silu": [np.nan, np.inf, np.nan, 1e4, 0],
        "slope of silu": [np.nan, np.nan, np.nan, 1, 0],
        "gelu": [np.nan, np.inf, np.nan, 1e4, 0],
        "slope of gelu": [np.nan, np.nan, np.nan, 1, 0],
    }
    for name, wanted in limits.items():
        y = np.empty_like(x)
        FUNCTIONS[name][1](x, real(0), y)
        np.testing.assert_array_equal(y, np.array(wanted, real), err_msg=name)
