"""exp, expm1, log1p, softplus, sigmoid and tanh for compiled loops, made of +, *, / and shifts alone.

`np.exp` in a compiled loop is a call for each element; the functions here have no call and no branch, so that the compiler
makes vector instructions of a loop over them. They sum Taylor series; the two dtypes differ only in how many terms the last
digit needs.

The bound in a docstring is in units in the last place (ulp). It holds for every finite argument, and for subnormal
arguments and results too; "or flushed" says that a result below 2^-125 (float64: 2^-1021) may be 0 instead. NaN stays NaN.
"""

import math
from typing import Any

import numpy as np
from numba import types
from numba.extending import overload

from vae_np.kernels.cpu.jit import NO_WRAPPERS, njit

# `contract` lets a product and a sum round once. Nothing may be reordered, or x - n log 2 would lose its second part.
OPTIONS: Any = {"nogil": True, "error_model": "numpy", "fastmath": {"contract"}, "forceinline": True, **NO_WRAPPERS}
inline = njit(**OPTIONS)


def _series(real, integer, mantissa, log_2, exp_terms, log_terms):
    """The functions for one dtype. log_2 is the sum of two numbers: n times the first is exact, the second is the rest."""
    zero, half, one, two = real(0), real(0.5), real(1), real(2)
    log_2_high, log_2_low = real(log_2[0]), real(log_2[1])
    per_log_2 = real(1 / math.log(2))
    # One less than the bias of the format: it makes 2^(n-1), which does not overflow at n = maxexp.
    bias = np.finfo(real).maxexp - 2
    lowest, highest = real(-bias * math.log(2) - 0.1), real((bias + 2) * math.log(2) + 0.1)
    exp_series = tuple(real(1 / math.factorial(k)) for k in range(exp_terms, 0, -1))
    log_series = tuple(real(2 / (2 * k + 3)) for k in range(log_terms))
    log_even, log_odd = log_series[0::2][::-1], log_series[1::2][::-1]

    @inline
    def polynomial(coefficients, t):
        p = coefficients[0]
        for k in range(1, len(coefficients)):
            p = p * t + coefficients[k]
        return p

    @inline
    def split(x):
        """x = n log 2 + r with |r| <= log(2) / 2: the power 2^(n-1), and expm1(r). A NaN fails both comparisons and stays."""
        x = lowest if x < lowest else highest if x > highest else x
        n = np.floor(x * per_log_2 + half)
        r = x - n * log_2_high - n * log_2_low
        power = integer(integer(np.int32(n) + bias) << mantissa).view(real)
        return power, r * polynomial(exp_series, r)

    @inline
    def exp(x):
        power, q = split(x)
        return two * (power * q + power)

    @inline
    def expm1(x):
        power, q = split(x)
        return two * (power * q + (power - half))

    @inline
    def log1p(x):
        s = x / (two + x)  # log(1 + x) = log((1 + s) / (1 - s)) = sum of 2 s^(2k+1) / (2k+1), of which 2 s = x - s x
        t = s * s
        return x - s * (x - t * (polynomial(log_even, t * t) + t * polynomial(log_odd, t * t)))

    @inline
    def softplus(x):
        return (x if x > zero else zero) + log1p(exp(-abs(x)))

    @inline
    def sigmoids(x):
        e = exp(-abs(x))
        large = one / (one + e)
        return (large, e * large) if x >= zero else (e * large, large)

    @inline
    def tanh(x):
        e = expm1(two * abs(x))
        # Infinity / infinity would be NaN. A branch would keep the loop from being vectorised.
        e = saturated if e > saturated else e
        t = e / (e + two)
        return t if x >= zero else -t

    saturated = real(2.0 ** (mantissa + 3))
    return {f.__name__: f for f in (exp, expm1, log1p, softplus, sigmoids, tanh)}


_SETS = {
    types.float32: _series(np.float32, np.int32, 23, (0.693359375, -2.12194440054690583e-4), 7, 8),
    types.float64: _series(np.float64, np.int64, 52, (6.93147180369123816490e-1, 1.90821492927058770002e-10), 13, 16),
}


def _for_either_dtype(stub):
    overload(stub, jit_options=OPTIONS)(lambda x: _SETS.get(x) and _caller(_SETS[x][stub.__name__]))
    return stub


def _caller(function):
    return lambda x: function(x)


@_for_either_dtype
def exp(x) -> Any:
    """Return e^x, within 1.5 ulp or flushed."""


@_for_either_dtype
def expm1(x) -> Any:
    """Return e^x - 1, within 2.5 ulp."""


@_for_either_dtype
def log1p(x) -> Any:
    """Return log(1 + x) for 0 <= x <= 1, within 1.5 ulp."""


@_for_either_dtype
def softplus(x) -> Any:
    """Return log(1 + e^x), within 2.5 ulp or flushed."""


@_for_either_dtype
def sigmoids(x) -> Any:
    """Return 1 / (1 + e^-x) and 1 / (1 + e^x), each within 3 ulp or flushed."""


@_for_either_dtype
def tanh(x) -> Any:
    """Return tanh x, within 3.5 ulp."""
