"""Numerical derivatives of a scalar function of arrays, by complex steps and by differences."""

import numbers
import warnings
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from vae_np.testing import frameworks
from vae_np.testing.comparison import label

# ------------------------------------------------------------------------------------------------------ by which method

Arrays: TypeAlias = Mapping[str, NDArray]
Derivative: TypeAlias = tuple[NDArray, Any, NDArray[np.bool_]]  # (its value, its resolution, where the function is smooth)

METHODS = ("auto", "complex", "richardson", "central")


def derivatives_of(
    fn: Callable[[Any], Any], point: Arrays, method: str, constant: bool = False, where: Mapping[str, Any] | None = None
) -> tuple[str, dict[str, Derivative]]:
    """Differentiate fn(point), a function of a dict of arrays: (the method used, {name: Derivative}).

    `where` has the wanted elements of each array as an array of bool; by default all are wanted.

    It raises a ValueError if fn does not change with the point though `constant` is False, and a TypeError if fn computes in
    single precision. It raises a ValueError or a TypeError if the method is "complex" and fn is not analytic.
    """
    by_differences, where, seen = {}, where or dict.fromkeys(point, True), set()
    for name in point:
        near = {key: np.array(array, np.float64) for key, array in point.items()}
        by_differences[name] = (central_gradient if method == "central" else differences)(
            _value_at(fn, near, seen), near[name], where=where[name]
        )
    if _are_single(seen):
        raise TypeError("fn computes in single precision; its derivatives can only be computed in double precision")
    if not constant and not any(gradient.any() for gradient, *_ in by_differences.values()):
        raise ValueError("fn does not change with params: it must compute with the arrays that it is given, and with no others")
    if method in ("auto", "complex"):
        try:
            by_steps = {name: complex_gradient(fn, point, name, where[name]) for name in point}
            for name, gradient in by_steps.items():
                _check_analytic(name, gradient, *by_differences[name])
            return "complex", {name: (gradient, 0.0, by_differences[name][2]) for name, gradient in by_steps.items()}
        except (TypeError, ValueError):
            if method == "complex":
                raise
    return "central" if method == "central" else "richardson", by_differences


def _are_single(values):
    """Whether numbers in double precision, of which there are several, hold no more digits than single precision has."""
    values = np.array(list(values))
    with np.errstate(over="ignore"):
        return len(values) > 1 and bool(np.all(values.astype(np.float32) == values))


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


def _check_analytic(name, gradient, difference, resolution, smooth):
    """Raise a ValueError where complex steps and differences disagree: fn drops imaginary parts. Kinks do not count."""
    allowed = AGREEMENT * np.max(np.abs(gradient), initial=0.0) + resolution
    apart = smooth & ~(np.abs(gradient - difference) <= allowed)
    if apart.any():
        index = tuple(np.argwhere(apart)[0])
        raise ValueError(
            f"complex steps and differences disagree by {label(name, index)} ({gradient[index]:.10g}, {difference[index]:.10g}): "
            "fn drops imaginary parts (abs, conj, real, vdot); use method='richardson', or write it for complex arrays"
        )


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


def _value_at(fn, point, seen):
    """A function of no arguments: the value of fn at the point, wherever that has moved; NaN where fn has none.

    The values are added to the set `seen`.
    """

    def value():
        try:
            with np.errstate(all="ignore"):
                found = real_number(fn(point))
        except (ArithmeticError, ValueError):  # such as the logarithm of a number below 0
            found = np.nan
        seen.add(found)
        return found

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
