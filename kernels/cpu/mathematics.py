"""exp, log1p, tanh, the activations and the continuous Bernoulli for compiled loops, made of +, *, / and shifts alone.

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
from vae_np.kernels.reference import COTH_SERIES, NEAR_0, SINH_SERIES

# `contract` lets a product and a sum round once. Nothing may be reordered, or x - n log 2 would lose its second part.
OPTIONS: Any = {"nogil": True, "error_model": "numpy", "fastmath": {"contract"}, "forceinline": True, **NO_WRAPPERS}
inline = njit(**OPTIONS)


# P(z > a) of z ~ N(0, 1) is exp(-a^2 / 2) t S(2t - 1) with t = 4 / (4 + a): the Chebyshev series of S, which is smooth on [-1, 1].
TAIL_SERIES = (
    0.24261280114151915,
    0.18792720420989265,
    0.05554838891881276,
    0.012129438315111521,
    0.0017314801240606202,
    8.014961859953749e-05,
    -2.5136847908026697e-05,
    -4.725842254926741e-06,
    2.5258922136865774e-07,
    1.536333687349456e-07,
    -8.452550300172939e-10,
    -5.171627015435708e-09,
    -2.8206509081173767e-11,
    1.9435038070971737e-10,
    -2.485356047851177e-12,
    -7.936207374645758e-12,
    4.606201711176235e-13,
    3.2821541166777413e-13,
    -4.353840663163703e-14,
    -1.2268185079261061e-14,
    3.232846081541394e-15,
    3.0451658804315853e-16,
    -2.0130368431552333e-16,
    7.151235360654053e-18,
)


def _series(real, integer, mantissa, log_2, exp_terms, log_terms, tail_terms, bernoulli_terms):
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
    def chebyshev(coefficients, u):
        """sum_k coefficients[-1 - k] T_k(u), by Clenshaw's rule"""
        p, before = coefficients[0], zero
        for k in range(1, len(coefficients) - 1):
            following = coefficients[k] + two * u * p - before
            before = p
            p = following
        return coefficients[-1] + u * p - before

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
    def log(x):
        """For normal numbers above 0: x = m 2^n with m from sqrt(1/2) to sqrt(2)."""
        bits = real(x).view(integer)
        m, n = integer((bits & fraction) | exponent_of_1).view(real), real((bits >> mantissa) - (bias + 1))
        halved = m > root_2
        m = half * m if halved else m
        n = n + one if halved else n
        return n * log_2_high + (log1p(m - one) + n * log_2_low)

    @inline
    def log_sinh_ratio(x):
        return x * x * polynomial(sinh_series, x * x)

    @inline
    def log_exp_ratio(x):
        return log1p(-exp(-x)) - log(x)

    @inline
    def lesser_mean(x):
        e = exp(-x)
        near, far = half - x * polynomial(coth_series, x * x), one / x - e / (one - e)
        return near if x < near_0 else far

    @inline
    def softplus(x):
        return (x if x > zero else zero) + log1p(exp(-abs(x)))

    @inline
    def sigmoids(x):
        e = exp(-abs(x))
        large = one / (one + e)
        return (large, e * large) if x >= zero else (e * large, large)

    @inline
    def silu(x):
        return x * sigmoids(x)[0]

    @inline
    def silu_slope(x):
        large, small = sigmoids(x)
        return large + large * (x * small)

    @inline
    def normal_tail(a):
        """P(z > a) of z ~ N(0, 1), and exp(-a^2 / 2), for a >= 0. a^2 is taken in two parts, of which the first is exact."""
        a = far if a > far else a
        high = integer(real(a).view(integer) & upper_half).view(real)
        e = exp(-half * high * high) * exp(-half * (a - high) * (a + high))
        t = four / (four + a)
        return e * t * chebyshev(tail_series, two * t - one), e

    @inline
    def gelu(x):
        tail, _ = normal_tail(abs(x))
        below = one - tail if x >= zero else tail
        return x * below

    @inline
    def gelu_slope(x):
        tail, e = normal_tail(abs(x))
        below = one - tail if x >= zero else tail
        return below + x * (e * per_sqrt_2pi)

    @inline
    def tanh(x):
        e = expm1(two * abs(x))
        # Infinity / infinity would be NaN. A branch would keep the loop from being vectorised.
        e = saturated if e > saturated else e
        t = e / (e + two)
        return t if x >= zero else -t

    four, far, per_sqrt_2pi = real(4), real(math.sqrt(-3 * lowest)), real(1 / math.sqrt(2 * math.pi))
    upper_half = integer(-1 << (mantissa + 2) // 2)  # of the bits of a number: no more than half of its digits
    tail_series = tuple(map(real, TAIL_SERIES[:tail_terms]))[::-1]
    fraction, exponent_of_1, root_2 = integer((1 << mantissa) - 1), integer((bias + 1) << mantissa), real(math.sqrt(2))
    sinh_series, coth_series = (tuple(map(real, series[:bernoulli_terms]))[::-1] for series in (SINH_SERIES, COTH_SERIES))
    near_0 = real(NEAR_0)
    continuous = log_sinh_ratio, log_exp_ratio, lesser_mean
    saturated = real(2.0 ** (mantissa + 3))
    functions = exp, expm1, log1p, softplus, sigmoids, silu, silu_slope, gelu, gelu_slope, tanh, *continuous
    return {f.__name__: f for f in functions}


_SETS = {
    types.float32: _series(np.float32, np.int32, 23, (0.693359375, -2.12194440054690583e-4), 7, 8, 12, 9),
    types.float64: _series(np.float64, np.int64, 52, (6.93147180369123816490e-1, 1.90821492927058770002e-10), 13, 16, 24, 17),
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
    """Return log(1 + x) for 0 <= x <= 1, within 1.5 ulp. It is used a little below 0 too, inside of functions with bounds of their own."""


@_for_either_dtype
def softplus(x) -> Any:
    """Return log(1 + e^x), within 2.5 ulp or flushed."""


@_for_either_dtype
def sigmoids(x) -> Any:
    """Return 1 / (1 + e^-x) and 1 / (1 + e^x), each within 3 ulp or flushed."""


@_for_either_dtype
def silu(x) -> Any:
    """Return x / (1 + e^-x), within 4 ulp, or flushed below 2^-125 |x|."""


@_for_either_dtype
def silu_slope(x) -> Any:
    """Return the derivative of silu, a sum of two terms: within 5 ulp of the larger one, or flushed below 2^-125 |x|."""


@_for_either_dtype
def gelu(x) -> Any:
    """Return x P(z < x) of z ~ N(0, 1), within 10 ulp; below 2^-125 |x| digits are lost, or it is flushed."""


@_for_either_dtype
def gelu_slope(x) -> Any:
    """Return the derivative of gelu, a sum of two terms, within 10 ulp of the larger one.

    Below 2^-125 |x| digits are lost, or it is flushed.
    """


@_for_either_dtype
def log_sinh_ratio(x) -> Any:
    """Return log(sinh(x / 2) / (x / 2)) for |x| <= 2, within 3 ulp."""


@_for_either_dtype
def log_exp_ratio(x) -> Any:
    """Return log((1 - e^-x) / x) for x >= 2, within 3 ulp."""


@_for_either_dtype
def lesser_mean(x) -> Any:
    """Return 1 / x - 1 / (e^x - 1) for x >= 0, within 5 ulp or flushed."""


@_for_either_dtype
def tanh(x) -> Any:
    """Return tanh x, within 3.5 ulp."""
