"""Derivatives of a scalar function of arrays, which no hand has written: by complex steps, and by differences."""

import contextlib
import copy
import numbers
import warnings
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from vae_np.testing.comparison import label

# ------------------------------------------------------------------------------------------------------ by which method

Params: TypeAlias = Mapping[str, Any]
Derivative: TypeAlias = tuple[NDArray, Any, NDArray[np.bool_]]  # its value, its resolution, where the function is smooth

METHODS = ("auto", "complex", "richardson", "central")


def derivatives_of(fn: Callable[[Any], Any], params: Params, method: str, constant: bool) -> tuple[str, dict[str, Derivative]]:
    """(the method that was used, {name: (derivative, its resolution, where it is smooth)}).

    ValueError: fn does not change with params, and is not said to be constant. ValueError, TypeError: method is "complex", and
    fn is not analytic.
    """
    by_differences = {}
    for name in params:
        point = copied(params)
        by_differences[name] = (central_gradient if method == "central" else differences)(_value_at(fn, point), point[name])
    if not constant and not any(gradient.any() for gradient, *_ in by_differences.values()):
        raise ValueError("fn does not change with params: it must compute with the arrays that it is given, and with no others")
    if method in ("auto", "complex"):
        try:
            by_steps = {name: complex_gradient(fn, params, name) for name in params}
            for name, gradient in by_steps.items():
                _check_analytic(name, gradient, *by_differences[name])
            return "complex", {name: (gradient, 0.0, by_differences[name][2]) for name, gradient in by_steps.items()}
        except (TypeError, ValueError):
            if method == "complex":
                raise
    return "central" if method == "central" else "richardson", by_differences


# ----------------------------------------------------------------------------------------------------- complex steps

COMPLEX_STEP = 1e-30  # squared it is nothing beside 1, and it is far above the least float


def complex_gradient(fn: Callable[[Any], Any], params: Params, name: str) -> NDArray:
    """d fn(params) / d params[name] by complex steps, in double precision; TypeError where fn does not take complex arrays."""
    point = {key: np.array(array, np.complex128) for key, array in params.items()}
    array, gradient = point[name], np.zeros(point[name].shape)
    for index in np.ndindex(array.shape):
        array[index] += 1j * COMPLEX_STEP
        gradient[index] = _complex_value(fn, point).imag / COMPLEX_STEP
        array[index] = array[index].real
    return gradient


def _complex_value(fn, point):
    how = "use method='richardson', or write it for complex arrays"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", np.exceptions.ComplexWarning)
            value = fn(point)
    except Exception as error:  # real arrays it has taken
        raise TypeError(f"fn does not take a dict of complex arrays ({error}): {how}") from error
    value = number(value)
    if isinstance(value, numbers.Real):
        raise TypeError(f"fn makes a real number of complex input, so something in it drops the imaginary part: {how}")
    return value


AGREEMENT = 1e-8  # of a complex step and a difference, relative to the array's largest derivative


def _check_analytic(name, gradient, difference, resolution, smooth):
    """ValueError where a complex step is not the difference: something in fn drops imaginary parts. At kinks neither counts."""
    allowed = AGREEMENT * np.max(np.abs(gradient), initial=0.0) + resolution
    apart = smooth & ~(np.abs(gradient - difference) <= allowed)
    if apart.any():
        index = tuple(np.argwhere(apart)[0])
        raise ValueError(
            f"complex steps and differences disagree by {label(name, index)} ({gradient[index]:.10g}, {difference[index]:.10g}): "
            "fn drops imaginary parts (abs, conj, real, vdot); use method='richardson', or write it for complex arrays"
        )


# ------------------------------------------------------------------------------------------------------- differences

STEPS = (1e-4, 1e-5, 1e-6, 1e-7, 1e-8)  # where one crosses a kink, or is too long for what bends so sharply, the next is taken
LAST_STEP = 1e-3  # of the element itself, where that is less: a logarithm bends sharply near 0
SMOOTH = 1e-5  # of the array's largest derivative: a doubt that is no kink
ROUNDING = 1e-15  # of the value, divided by the step: what a quotient of differences is good to


def differences(fn: Callable[[], float], array: NDArray, steps: tuple[float, ...] = STEPS) -> Derivative:
    """d fn() / d array by `numerical_gradient`, its resolution, and where fn is smooth: three arrays of its shape.

    Each element takes the first of the steps that leaves no doubt, or the last, if the doubt has shrunk with the steps, as a
    smooth function's does and a kink's does not.
    """
    value, last = abs(fn()), np.minimum(steps[-1], LAST_STEP * np.abs(array))
    gradient, doubt = numerical_gradient(fn, array, steps[0])
    largest = np.max(np.abs(gradient), where=np.isfinite(gradient), initial=0.0)
    resolution, first_doubt, shrinks = np.full(array.shape, ROUNDING * value / steps[0]), doubt, np.ones(array.shape)
    smooth = _is_small(doubt, gradient, largest, resolution)
    for step in (*steps[1:], last):
        rest = ~smooth & (step > 0)
        if not rest.any():
            continue
        step = np.broadcast_to(step, array.shape)[rest]
        narrow, its_doubt = numerical_gradient(fn, array, step, rest)
        gradient[rest], resolution[rest], shrinks[rest] = narrow[rest], ROUNDING * value / step, step / steps[0]
        doubt = np.where(rest, its_doubt, doubt)
        smooth |= rest & _is_small(doubt, gradient, largest, resolution)
    return gradient, resolution, smooth | (np.isfinite(first_doubt) & (doubt < first_doubt * shrinks))


def _is_small(doubt, gradient, largest, resolution):
    limit = np.maximum(SMOOTH * np.maximum(np.abs(gradient), largest), 5 * resolution)
    return np.isfinite(doubt) & (doubt <= limit)


def numerical_gradient(fn: Callable[[], float], array: NDArray, step: Any = 1e-4, where: Any = True) -> tuple[NDArray, NDArray]:
    """d fn() / d array by central differences, and how far they can be trusted: two arrays of its shape.

    From steps h and h/2 by Richardson: (4 D(h/2) - D(h)) / 3, exact to h^4. Where fn is smooth, D(h) - D(h/2) is of order
    h^2, and the bend B(h) = (fn(+h) - 2 fn(0) + fn(-h)) / h shrinks with h, so that B(h) - 2 B(h/2) is of order h^3. Both
    are far larger where a step crosses a kink or starts on one; the larger is the doubt.

    Parameters
    ----------
    fn : function of no arguments
        It reads the array, which is changed in place and put back.
    array : array
        The array, of float64.
    step : float or array
        The step h: one number, or one for each wanted element.
    where : array of bool
        The wanted elements; the others are 0.

    Examples
    --------
    >>> import numpy as np
    >>> from vae_np.testing import numerical_gradient
    >>> x = np.array([1.0, 2.0])
    >>> gradient, doubt = numerical_gradient(lambda: float(np.sum(x**3)), x)
    >>> np.allclose(gradient, 3 * x**2)
    True
    """
    gradient, doubt, here = np.zeros(array.shape), np.zeros(array.shape), fn()
    wanted = np.argwhere(np.broadcast_to(where, array.shape))
    for index, h in zip(map(tuple, wanted), np.broadcast_to(step, len(wanted))):
        wide, narrow, doubt[index] = _two_steps(fn, array, index, h, here)
        gradient[index] = (4 * narrow - wide) / 3
    return gradient, doubt


def central_gradient(fn: Callable[[], float], array: NDArray) -> Derivative:
    """d fn() / d array as (fn(+h) - fn(-h)) / 2h, its resolution, and where fn is smooth.

    h = 6e-6, the cube root of float64's precision.
    """
    gradient, doubt, here = np.zeros(array.shape), np.zeros(array.shape), fn()
    for index in np.ndindex(array.shape):
        gradient[index], _, doubt[index] = _two_steps(fn, array, index, 6e-6, here)
    resolution = 1e-10 * abs(here)
    return gradient, resolution, _is_small(doubt, gradient, np.max(np.abs(gradient), initial=0.0), resolution)


def _value_at(fn, point):
    """A function of no arguments: fn's value at the point, wherever that is moved; NaN where it has none."""

    def value():
        try:
            with np.errstate(all="ignore"):
                return real_number(fn(point))
        except (ArithmeticError, ValueError):  # such as the logarithm of a number below 0
            return np.nan

    return value


def _two_steps(fn, array, index, h, here):
    """D(h), D(h/2) and the doubt of them at one element of the array, as `numerical_gradient` has them."""
    (wide, bend), (narrow, half_bend) = (_difference_and_bend(fn, array, index, step, here) for step in (h, h / 2))
    return wide, narrow, max(abs(wide - narrow), abs(bend - 2 * half_bend))


def _difference_and_bend(fn, array, index, h, here):
    """(fn(+h) - fn(-h)) / 2h and (fn(+h) - 2 here + fn(-h)) / h; the element is put back, whatever fn raises."""
    start = array[index]
    h = max(h, 1e-9 * abs(start))  # beside a large number a small one is lost
    try:
        array[index] = start + h
        after, above = array[index], fn()
        array[index] = start - h
        before, below = array[index], fn()
    finally:
        array[index] = start
    return (above - below) / (after - before), (above - 2 * here + below) / h


# ------------------------------------------------------------------------------------------------- values and arguments


def copied(params: Params) -> Any:
    """Params again, of the same type, in arrays of float64 that can be changed; a dict where that type cannot be copied so."""
    with contextlib.suppress(Exception):  # whatever a type of the caller's own raises
        point = copy.deepcopy(params)
        if all(isinstance(array, np.ndarray) and array.dtype == np.float64 for array in point.values()):
            return point
    return {name: np.array(array, np.float64) for name, array in params.items()}


def number(value: Any) -> Any:
    """The number that fn returned; TypeError where it returned something else."""
    value = value[()] if isinstance(value, np.ndarray) else value
    if not isinstance(value, numbers.Number):
        raise TypeError(f"fn returns {kind_of(value)}; it must return a number")
    return value


def real_number(value: Any) -> float:
    """The real number that fn returned, in double precision; TypeError where it returned something else."""
    found = number(value)
    if not isinstance(found, numbers.Real):
        raise TypeError(f"fn returns {kind_of(value)}; it must return a real number")
    if np.asarray(found).dtype in (np.float16, np.float32):
        raise TypeError(f"fn returns {kind_of(value)}; its derivatives can only be told in double precision")
    return float(found)


def kind_of(value: Any) -> str:
    """What something is, for an error: its type, and an array's dtype and shape."""
    if isinstance(value, np.ndarray):
        return f"an array of {value.dtype} {value.shape}"
    return f"a {type(value).__name__}"
