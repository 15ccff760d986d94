"""Numerical derivatives of a scalar function of arrays, by complex steps and by differences."""

import numbers
import warnings
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from vae_np.testing import frameworks
from vae_np.testing.comparison import TOLERANCES, label

# ------------------------------------------------------------------------------------------------------ by which method

Arrays: TypeAlias = Mapping[str, NDArray]
Derivative: TypeAlias = tuple[NDArray, Any, NDArray[np.bool_]]  # (its value, its resolution, where the function is smooth)

METHODS = ("auto", "complex", "richardson", "central")


def derivatives_of(
    fn: Callable[[Any], Any],
    point: Arrays,
    given: Arrays,
    method: str,
    constant: bool = False,
    where: Mapping[str, Any] | None = None,
) -> tuple[str, dict[str, Derivative]]:
    """Differentiate fn(point), a function of a dict of arrays: (the method used, {name: Derivative}).

    `given` has the gradients that will be compared: a term that complex steps drop may be too small to be seen without them.
    `where` has the wanted elements of each array as an array of bool; by default all are wanted.

    It raises a ValueError if fn does not change with the point though `constant` is False. It raises a ValueError or a TypeError
    if the method is "complex" and fn is not analytic.
    """
    by_differences, where = {}, where or dict.fromkeys(point, True)
    for name in point:
        near = {key: np.array(array, np.float64) for key, array in point.items()}
        by_differences[name] = (central_gradient if method == "central" else differences)(
            _value_at(fn, near), near[name], where=where[name]
        )
    if not constant and not any(gradient.any() for gradient, *_ in by_differences.values()):
        raise ValueError("fn does not change with params: it must compute with the arrays that it is given, and with no others")
    if method in ("auto", "complex"):
        try:
            by_steps = {name: complex_gradient(fn, point, name, where[name]) for name in point}
            for name, gradient in by_steps.items():
                _check_analytic(fn, point, name, gradient, np.where(where[name], given[name], 0.0), *by_differences[name])
            return "complex", {name: (gradient, 0.0, by_differences[name][2]) for name, gradient in by_steps.items()}
        except (TypeError, ValueError):
            if method == "complex":
                raise
    return "central" if method == "central" else "richardson", by_differences


# ----------------------------------------------------------------------------------------------------- complex steps

COMPLEX_STEP = 1e-30  # its square vanishes beside 1, and it is far above the least float


def complex_gradient(fn: Callable[[Any], Any], params: Mapping[str, Any], name: str, where: Any = True) -> NDArray:
    """d fn(params) / d params[name] by complex steps; it raises a TypeError if fn does not take complex arrays."""
    point = {key: np.array(array, np.complex128) for key, array in params.items()}
    array, gradient = point[name], np.zeros(point[name].shape)
    for index in map(tuple, np.argwhere(np.broadcast_to(where, array.shape))):
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
    except Exception as error:  # fn has taken real arrays before
        raise TypeError(f"fn does not take complex arrays ({error}): {how}") from error
    value = number(value)
    if isinstance(value, numbers.Real):
        raise TypeError(f"fn returns a real number for complex input, so something in it drops the imaginary part: {how}")
    return value


AGREEMENT = 1e-8  # a complex step and a difference may be apart by this part of the array's largest derivative


def _check_analytic(fn, point, name, gradient, given, difference, resolution, smooth):
    """Raise a ValueError where complex steps and differences disagree: fn drops imaginary parts. Kinks do not count."""
    allowed = AGREEMENT * np.max(np.abs(gradient), initial=0.0) + resolution
    apart = smooth & ~(np.abs(gradient - difference) <= allowed)
    if not apart.any():
        close = smooth & (np.abs(given - difference) <= allowed)
        change = np.where(close, gradient - given, 0.0)
        if _is_dropped(fn, point, name, gradient, change):
            apart = np.abs(change) == np.max(np.abs(change))
    if apart.any():
        index = tuple(np.argwhere(apart)[0])
        raise ValueError(
            f"complex steps and differences disagree by {label(name, index)} ({gradient[index]:.10g}, {difference[index]:.10g}): "
            "fn drops imaginary parts (abs, conj, real, vdot); use method='richardson', or write it for complex arrays"
        )


LONG_STEPS = 1e-2 / np.sqrt(10.0) ** np.arange(6)  # along a direction whose largest element is 1


def _is_dropped(fn, point, name, gradient, change):
    """Whether differences clearly say that the derivative is gradient - change, which complex steps say is the gradient.

    One difference along the change shows both as far apart as can be. It may also take longer steps than that of each element,
    whose rounding is larger.
    """
    largest = np.max(np.abs(change), initial=0.0)
    if not largest > TOLERANCES["complex"]["float64"] * np.max(np.abs(gradient), initial=0.0):
        return False
    direction, along = change / largest, np.zeros(())
    value = _value_at(lambda at: fn({**point, name: point[name] + at["along"] * direction}), {"along": along})
    slopes = np.array([float(numerical_gradient(value, along, step)[0]) for step in LONG_STEPS])
    apart = np.abs(np.diff(slopes))
    doubts = np.maximum(apart[:-1], apart[1:]) + ROUNDING * abs(value()) / LONG_STEPS[2:]
    best = np.argmin(np.where(np.isfinite(doubts), doubts, np.inf))
    dropped = np.sum(change * direction)
    return bool(abs(slopes[2 + best] - np.sum((gradient - change) * direction)) + doubts[best] < dropped / 4)


# ------------------------------------------------------------------------------------------------------- differences

STEPS = (1e-4, 1e-5, 1e-6, 1e-7, 1e-8)  # where one crosses a kink, or fn bends too sharply for it, the next one is taken
LAST_STEP = 1e-3  # the last step is at most this part of the element itself, as a logarithm bends sharply near 0
SMOOTH = 1e-6  # a doubt up to this part of the array's largest derivative is not a kink
ROUNDING = 1e-15  # a quotient of differences is exact to this part of the value, divided by the step


def differences(fn: Callable[[], float], array: NDArray, steps: tuple[float, ...] = STEPS, where: Any = True) -> Derivative:
    """d fn() / d array by `numerical_gradient`, its resolution, and where fn is smooth: three arrays of the array's shape.

    Each element takes the first step that leaves no doubt. If every step leaves one, it takes the last step. There fn still
    counts as smooth if the doubt has become smaller with the steps, which it does not do at a kink.
    """
    value, last = abs(fn()), np.minimum(steps[-1], LAST_STEP * np.abs(array))
    gradient, doubt = numerical_gradient(fn, array, steps[0], where)
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
    # Where fn has no second derivative, as x |x| has none at 0, the difference is off by as much as the doubt.
    resolution = np.maximum(resolution, np.where(np.isfinite(doubt), doubt, 0.0))
    return gradient, resolution, smooth | (np.isfinite(first_doubt) & (doubt < first_doubt * shrinks))


def _is_small(doubt, gradient, largest, resolution):
    limit = np.maximum(SMOOTH * np.maximum(np.abs(gradient), largest), 5 * resolution)
    return np.isfinite(doubt) & (doubt <= limit)


def numerical_gradient(fn: Callable[[], float], array: NDArray, step: Any = 1e-4, where: Any = True) -> tuple[NDArray, NDArray]:
    """The gradient d fn() / d array by central differences, and how far it can be trusted.

    D(h) = (fn(+h) - fn(-h)) / 2h is taken at h and h/2, and Richardson's (4 D(h/2) - D(h)) / 3 is exact to h^4. Where fn is
    smooth, D(h) - D(h/2) is of order h^2, and the bend B(h) = (fn(+h) - 2 fn(0) + fn(-h)) / h shrinks with h, so that
    B(h) - 2 B(h/2) is of order h^3. Both are far larger where a step crosses a kink or starts on one. The larger of the two is
    the doubt.

    Parameters
    ----------
    fn : function of no arguments
        It returns the value. It must read the array, which is changed in place and put back.
    array : array
        The array, of float64.
    step : float or array
        The step h: one number, or one for each wanted element.
    where : array of bool
        The wanted elements; the others are 0.

    Returns
    -------
    gradient : array
        The derivative by each element, of the array's shape.
    doubt : array
        The doubt about each derivative, of the same shape: small where fn is smooth, large at a kink.

    Examples
    --------
    >>> import numpy as np
    >>> from vae_np.testing import numerical_gradient
    >>> x = np.array([1.0, 2.0])
    >>> gradient, doubt = numerical_gradient(lambda: float(np.sum(x**3)), x)
    >>> np.allclose(gradient, 3 * x**2)
    True
    """
    if np.asarray(array).dtype != np.float64:
        raise TypeError(f"array is {kind_of(array)}; it must be an array of float64, which small steps change")
    gradient, doubt, here = np.zeros(array.shape), np.zeros(array.shape), fn()
    wanted = np.argwhere(np.broadcast_to(where, array.shape))
    for index, h in zip(map(tuple, wanted), np.broadcast_to(step, len(wanted))):
        wide, narrow, doubt[index] = _two_steps(fn, array, index, h, here)
        gradient[index] = (4 * narrow - wide) / 3
    return gradient, doubt


def central_gradient(fn: Callable[[], float], array: NDArray, where: Any = True) -> Derivative:
    """d fn() / d array as (fn(+h) - fn(-h)) / 2h, its resolution, and where fn is smooth.

    h = 6e-6, the cube root of float64's precision.
    """
    gradient, doubt, here = np.zeros(array.shape), np.zeros(array.shape), fn()
    for index in map(tuple, np.argwhere(np.broadcast_to(where, array.shape))):
        gradient[index], _, doubt[index] = _two_steps(fn, array, index, 6e-6, here)
    resolution = 1e-10 * abs(here)
    return gradient, resolution, _is_small(doubt, gradient, np.max(np.abs(gradient), initial=0.0), resolution)


def _value_at(fn, point):
    """A function of no arguments: the value of fn at the point, wherever that has moved; NaN where fn has none."""

    def value():
        try:
            with np.errstate(all="ignore"):
                return real_number(fn(point))
        except (ArithmeticError, ValueError):  # such as the logarithm of a number below 0
            return np.nan

    return value


def _two_steps(fn, array, index, h, here):
    """D(h), D(h/2) and the doubt about them at one element of the array, as `numerical_gradient` describes them."""
    (wide, bend), (narrow, half_bend) = (_difference_and_bend(fn, array, index, step, here) for step in (h, h / 2))
    return wide, narrow, max(abs(wide - narrow), abs(bend - 2 * half_bend))


def _difference_and_bend(fn, array, index, h, here):
    """(fn(+h) - fn(-h)) / 2h and (fn(+h) - 2 here + fn(-h)) / h; the element is put back, even if fn raises an error."""
    start = array[index]
    h = max(h, 1e-9 * abs(start))  # a smaller step would vanish beside a large number
    try:
        array[index] = start + h
        after, above = array[index], fn()
        array[index] = start - h
        before, below = array[index], fn()
    finally:
        array[index] = start
    return (above - below) / (after - before), (above - 2 * here + below) / h


# --------------------------------------------------------------------------------------------------------- precision

POINTS = 33  # on each line
NEAR, CHANGE = 1e-4, 1e-6  # a line this short is straight, if the value changes on it by no more than this part of the largest
COARSE = 5e-11  # of the largest value, or of the slope: fourth differences are far below it in float64, near 1e-8 in float32


def is_coarse(fn: Callable[[Any], Any], point: Arrays) -> bool:
    """Whether fn computes in single precision, or rounds as coarsely: then differences do not tell its derivatives.

    fn is evaluated at equal distances on a line through the point, which is made shorter until fn is nearly straight on it. fn is
    coarse if one of its values changes between two pairs of equal values, as on a staircase; or if most of its fourth differences
    are large. A smooth fn has none that are large, and a kink makes few of them so.
    """
    rng, largest = np.random.default_rng(0), 0.0
    directions = {name: rng.normal(size=array.shape) * np.maximum(np.abs(array), 1.0) for name, array in point.items()}
    at = {name: np.array(array, np.float64) for name, array in point.items()}
    value = _value_at(fn, at)
    for length in 1e-2 / 4.0 ** np.arange(20):
        values = np.empty(POINTS)
        for i, part in enumerate(np.linspace(0.0, length, POINTS)):
            for name, array in point.items():
                at[name][...] = array + part * directions[name]
            values[i] = value()
        if not np.isfinite(values).all():
            continue
        largest = max(largest, np.max(np.abs(values)))
        changes = np.diff(values) != 0
        if np.ptp(values) > COARSE * largest and np.any(changes[1:-1] & ~changes[:-2] & ~changes[2:]):
            return True
        if length <= NEAR and np.ptp(values) <= CHANGE * largest:
            slope = np.ptp(values) / length
            return bool(np.median(np.abs(np.diff(values, 4))) > COARSE * max(largest, slope))
    return False


# ------------------------------------------------------------------------------------------------------------ values


def number(value: Any) -> Any:
    """The number that fn returned, also as an array of one element or as a scalar of torch or jax; else a TypeError."""
    found = frameworks.value_of(value)
    if not isinstance(found, numbers.Number):
        raise TypeError(f"fn returns {kind_of(value)}; it must return a number")
    return found


def real_number(value: Any) -> float:
    """The real number that fn returned, in double precision; if it returned something else, a TypeError is raised."""
    found = number(value)
    if not isinstance(found, numbers.Real):
        raise TypeError(f"fn returns {kind_of(value)}; it must return a real number")
    if np.asarray(found).dtype in (np.float16, np.float32):
        raise TypeError(f"fn returns {kind_of(value)}; its derivatives can only be computed in double precision")
    return float(found)


def kind_of(value: Any) -> str:
    """The type of a value, for an error message; an array is described by its dtype and shape."""
    if isinstance(value, np.ndarray):
        return f"an array of {value.dtype} {value.shape}"
    return f"a {type(value).__name__}"
