"""Gradients against derivatives of the loss that no hand has written, element by element."""

import numbers
import warnings
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from vae_np.architecture import check_choice
from vae_np.testing.comparison import TOLERANCES, label, relative_errors, rounding


class Worst(NamedTuple):
    """The element of a parameter whose gradient is furthest from the derivative of the loss."""

    name: str
    index: tuple
    given: float
    wanted: float
    error: float  # relative: see relative_errors

    def __str__(self):
        return f"{label(self.name, self.index)} is {self.given:.10g}, wanted {self.wanted:.10g}: error {self.error:.1e}"


def check_gradients(fn, params, gradients=None, *, method="complex", rtol=None):
    """Compare every element of every gradient with the derivative of a scalar function of arrays.

    fn(params) is the value, a number; params and gradients map names to arrays. Without gradients, fn returns both:
    (value, gradients). method says where the derivative comes from:

    "complex"     Im fn(p + ih) / h with h = 1e-30 (Squire & Trapp 1998): exact to the last digits, however small h. fn
                  is given a dict of complex arrays, and must compute with them all the way: no abs, conj, float().
    "richardson"  central differences at two steps, extrapolated: good to 1e-6, and to 1e-11 of the value.
    "central"     (fn(p + h) - fn(p - h)) / 2h: good to 1e-5, and to 1e-10 of the value.

    Below that part of the value, differences are rounding, and say nothing; so do differences of 32 units in the last place
    of the largest of all gradients. For the last two methods fn is given `params` itself, whose float64 arrays are changed
    in place and put back. rtol: the relative error allowed, else TOLERANCES[method] for the gradient's dtype.

    Returns the Worst element of each parameter. AssertionError: elements are off; the worst of each parameter is named,
    with both values. TypeError, ValueError: a gradient is missing, of another shape or of no parameter; fn returns no
    number, or does not take complex input; or it has a kink near params, where differences say nothing.
    """
    check_choice("method", method, DERIVATIVES)
    if gradients is None:
        both, result = fn, fn(params)
        if not isinstance(result, tuple) or len(result) != 2:
            raise TypeError(f"fn returns {_kind(result)}; without gradients it must return (value, gradients)")
        fn, gradients = lambda p: both(p)[0], result[1]
    for what, mapping in {"params": params, "gradients": gradients}.items():
        if not isinstance(mapping, Mapping):
            raise TypeError(f"{what} is {_kind(mapping)}; it must map names to arrays, such as {{'W': W}}")
    if not params or set(gradients) - set(params):
        raise ValueError(f"gradients are of {sorted(map(str, gradients))}, params are {sorted(map(str, params))}")
    gradients = {name: _real_array(f"gradients[{name!r}]", array) for name, array in gradients.items()}
    found, off, cancelled = [], [], rounding(gradients.values())
    for name, array in params.items():
        given, shape = gradients.get(name), _real_array(f"params[{name!r}]", array).shape
        if given is None or given.shape != shape:
            what = "nothing" if given is None else given.shape
            raise ValueError(f"gradients[{name!r}] has shape {what}; wanted that of params[{name!r}], {shape}")
        if not given.size:
            continue
        wanted, resolution = DERIVATIVES[method](fn, params, name)
        tolerance = TOLERANCES[method].get(given.dtype.name, TOLERANCES[method]["float64"])
        limit = tolerance if rtol is None else rtol
        errors = relative_errors(given, wanted)
        errors = np.where(errors <= tolerance, errors, relative_errors(given, wanted, max(resolution, cancelled)))
        index = np.unravel_index(errors.argmax(), errors.shape)
        found.append(Worst(name, index, float(given[index]), float(wanted[index]), float(errors[index])))
        if not errors.max() <= limit:
            off.append(f"{found[-1]} > {limit:.0e} ({(errors > limit).sum()} of {errors.size} elements are off)")
    if off:
        raise AssertionError("\n".join(off))
    return found


def _real_array(name, array):
    try:
        found = np.asarray(array)
    except ValueError:  # lists of different lengths
        found = np.asarray(None)
    if found.dtype.kind not in "iuf":
        raise TypeError(f"{name} is {_kind(array)}; it must be an array of real numbers")
    return found


def _number(value):
    value = value[()] if isinstance(value, np.ndarray) else value
    if not isinstance(value, numbers.Number):
        raise TypeError(f"fn returns {_kind(value)}; it must return a number")
    return value


def _kind(value):
    """What something is, in an error: its type, and an array's dtype and shape."""
    if isinstance(value, np.ndarray):
        return f"an array of {value.dtype} {value.shape}"
    return f"a {type(value).__name__}"


# ----------------------------------------------------------------------------------------------------- complex steps

COMPLEX_STEP = 1e-30  # squared it is nothing beside 1, and it is far above the least float


def complex_gradient(fn, params, name):
    """d fn(params) / d params[name] by complex steps, in double precision, and what it is exact to: 0."""
    point = {key: np.array(array, np.complex128) for key, array in params.items()}
    array, gradient = point[name], np.zeros(point[name].shape)
    for index in np.ndindex(array.shape):
        array[index] += 1j * COMPLEX_STEP
        gradient[index] = _complex_value(fn, point).imag / COMPLEX_STEP
        array[index] = array[index].real
    _check_analytic(fn, point, name, gradient)
    return gradient, 0.0


def _complex_value(fn, point):
    how = "use method='richardson', or write it for complex arrays"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", np.exceptions.ComplexWarning)
            value = fn(point)
    except (TypeError, ValueError, np.exceptions.ComplexWarning) as error:
        raise TypeError(f"fn does not take a dict of complex arrays ({error}): {how}") from error
    value = _number(value)
    if isinstance(value, numbers.Real):
        raise TypeError(f"fn makes a real number of complex input, so something in it drops the imaginary part: {how}")
    return value


def _check_analytic(fn, point, name, gradient):
    """ValueError where a difference in a random direction is far from the complex steps: an abs or a conj inside fn."""
    real = {key: array.real.copy() for key, array in point.items()}
    array, start = real[name], real[name].copy()
    direction, h, values = np.random.default_rng(0).normal(size=array.shape), 1e-6, []
    for sign in (1, -1):
        array[...] = start + sign * h * direction
        values.append(float(np.real(fn(real))))
    difference, wanted = (values[0] - values[1]) / (2 * h), float(np.sum(gradient * direction))
    if abs(difference - wanted) > 1e-3 * np.sum(np.abs(gradient * direction)) + 1e-8 * (1 + abs(values[0])):
        raise ValueError(
            f"complex steps and differences disagree by {name} ({wanted:.6g}, {difference:.6g}): "
            "fn drops imaginary parts (abs, conj, real), or has a kink here"
        )


# ------------------------------------------------------------------------------------------------------- differences


def richardson_gradient(fn, params, name):
    """d fn(params) / d params[name] by `numerical_gradient`, and its resolution; ValueError where fn is not smooth."""
    numerical, doubt = numerical_gradient(lambda: _real_value(fn, params), _array64(params, name))
    resolution = 1e-11 * abs(_real_value(fn, params))
    if not is_smooth(numerical, doubt, resolution):
        raise ValueError(f"fn is not smooth near {name}: take another point, or method='complex'")
    return numerical, resolution


def is_smooth(numerical, doubt, resolution):
    """Whether no step of `numerical_gradient` crossed a kink."""
    return not doubt.max() > max(1e-5, 1e-5 * np.abs(numerical).max(), 5 * resolution)


def central_gradient(fn, params, name):
    """d fn(params) / d params[name] as (fn(p + h) - fn(p - h)) / 2h, and its resolution.

    h = 6e-6, the cube root of float64's precision, times the element where that is above 1.
    """
    array = _array64(params, name)
    gradient = np.zeros(array.shape)
    for index in np.ndindex(array.shape):
        h = 6e-6 * max(1.0, abs(array[index]))
        above, below = _around(lambda: _real_value(fn, params), array, index, h)
        gradient[index] = (above - below) / (2 * h)
    return gradient, 1e-10 * abs(_real_value(fn, params))


def numerical_gradient(fn, array, step=1e-4):
    """d fn() / d array by central differences, and how far they can be trusted: two arrays of its shape.

    fn is a function of no arguments that reads the array, which is changed in place and put back. From steps h and h/2,
    Richardson: (4 D(h/2) - D(h)) / 3, exact to h^4. Where fn is smooth, D(h) - D(h/2) is of order h^2, and the bend
    B(h) = (fn(+h) - 2 fn(0) + fn(-h)) / h shrinks with h, so that B(h) - 2 B(h/2) is of order h^3. Both are far larger
    where a step crosses a kink or starts on one; the larger is the doubt.
    """
    gradient, doubt = np.zeros(array.shape), np.zeros(array.shape)
    here = fn()

    def difference_and_bend(index, h):
        above, below = _around(fn, array, index, h)
        return (above - below) / (2 * h), (above - 2 * here + below) / h

    for index in np.ndindex(array.shape):
        (wide, bend), (narrow, half_bend) = (difference_and_bend(index, h) for h in (step, step / 2))
        gradient[index] = (4 * narrow - wide) / 3
        doubt[index] = max(abs(wide - narrow), abs(bend - 2 * half_bend))
    return gradient, doubt


def _around(fn, array, index, h):
    """fn() where an element of the array is h more, and where it is h less. It is put back, whatever fn raises."""
    here = array[index]
    try:
        array[index] = here + h
        above = fn()
        array[index] = here - h
        return above, fn()
    finally:
        array[index] = here


def _array64(params, name):
    array = params[name]
    if not isinstance(array, np.ndarray) or array.dtype != np.float64 or not array.flags.writeable:
        what = "is read-only" if isinstance(array, np.ndarray) and array.dtype == np.float64 else f"is {_kind(array)}"
        raise TypeError(f"params[{name!r}] {what}; differences need arrays of float64 that can be changed")
    return array


def _real_value(fn, params):
    value = _number(fn(params))
    if not isinstance(value, numbers.Real):
        raise TypeError(f"fn returns {_kind(value)}; it must return a real number")
    return float(value)


DERIVATIVES = {"complex": complex_gradient, "richardson": richardson_gradient, "central": central_gradient}
