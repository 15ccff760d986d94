"""Gradients against derivatives of the loss that no hand has written, element by element."""

import warnings
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
    "central"     (fn(p + h) - fn(p - h)) / 2h: good to 1e-5, and to 1e-9 of the value.

    Below that part of the value, differences are rounding, and say nothing. For these two, fn is given `params` itself, whose float64 arrays are changed in place and put back. rtol: the
    relative error allowed, else TOLERANCES[method] for the gradient's dtype.

    Returns the Worst element of each parameter. AssertionError: elements are off; the worst of each parameter is named,
    with both values. TypeError, ValueError: a gradient is missing or of another shape; fn returns no number, or does not
    take complex input; or it has a kink near params, where differences say nothing.
    """
    check_choice("method", method, DERIVATIVES)
    if gradients is None:
        gradients, both = fn(params)[1], fn
        fn = lambda p: both(p)[0]  # noqa: E731
    found, off, cancelled = [], [], rounding([np.asarray(gradient) for gradient in gradients.values()])
    for name, array in params.items():
        given = np.asarray(gradients[name]) if name in gradients else None
        if given is None or given.shape != np.shape(array):
            what = "nothing" if given is None else given.shape
            raise ValueError(
                f"gradients[{name!r}] has shape {what}; wanted that of params[{name!r}], {np.shape(array)}"
            )
        if not given.size:
            continue
        wanted, resolution = DERIVATIVES[method](fn, params, name)
        limit = TOLERANCES[method].get(given.dtype.name, TOLERANCES[method]["float64"]) if rtol is None else rtol
        errors = relative_errors(given, wanted, max(resolution, cancelled))
        index = np.unravel_index(errors.argmax(), errors.shape)
        found.append(Worst(name, index, float(given[index]), float(wanted[index]), float(errors[index])))
        if not errors.max() <= limit:
            off.append(f"{found[-1]} > {limit:.0e} ({(errors > limit).sum()} of {errors.size} elements are off)")
    if off:
        raise AssertionError("\n".join(off))
    return found


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
            value = np.asarray(fn(point))
    except (TypeError, ValueError, np.exceptions.ComplexWarning) as error:
        raise TypeError(f"fn does not take complex input ({error}): {how}") from error
    if value.shape:
        raise TypeError(f"fn returns an array of shape {value.shape}; it must return a number")
    if value.dtype.kind != "c":
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
    if doubt.max() > 1e-5 * max(1.0, np.abs(numerical).max()):
        raise ValueError(f"the loss is not smooth near {name}: take another point, or method='complex'")
    return numerical, 1e-11 * abs(_real_value(fn, params))


def central_gradient(fn, params, name):
    """d fn(params) / d params[name] as (fn(p + h) - fn(p - h)) / 2h, h = 6e-6 (float64's precision, its cube root), and its resolution."""
    array, gradient = _array64(params, name), np.zeros(np.shape(params[name]))
    for index in np.ndindex(array.shape):
        value, h = array[index], 6e-6 * max(1.0, abs(array[index]))
        array[index] = value + h
        above = _real_value(fn, params)
        array[index] = value - h
        below = _real_value(fn, params)
        array[index] = value
        gradient[index] = (above - below) / (2 * h)
    return gradient, 1e-9 * abs(_real_value(fn, params))


def numerical_gradient(fn, array, step=1e-4):
    """d fn() / d array by central differences, and how far they can be trusted: two arrays of its shape.

    fn is a function of no arguments that reads the array, which is changed in place and put back. From steps h and h/2,
    Richardson: (4 D(h/2) - D(h)) / 3, exact to h^4. Where fn is smooth, D(h) - D(h/2) is of order h^2, and the bend
    B(h) = (fn(+h) - 2 fn(0) + fn(-h)) / h shrinks with h, so that B(h) - 2 B(h/2) is of order h^3. Both are far larger
    where a step crosses a kink or starts on one; the larger is the doubt.
    """
    gradient, doubt = np.zeros(array.shape), np.zeros(array.shape)
    here = fn()

    def difference_and_bend(index, value, h):
        array[index] = value + h
        above = fn()
        array[index] = value - h
        below = fn()
        array[index] = value
        return (above - below) / (2 * h), (above - 2 * here + below) / h

    for index in np.ndindex(array.shape):
        (wide, bend), (narrow, half_bend) = (difference_and_bend(index, array[index], h) for h in (step, step / 2))
        gradient[index] = (4 * narrow - wide) / 3
        doubt[index] = max(abs(wide - narrow), abs(bend - 2 * half_bend))
    return gradient, doubt


def _array64(params, name):
    array = params[name]
    if getattr(array, "dtype", None) != np.float64:
        what = f"dtype {array.dtype}" if hasattr(array, "dtype") else f"type {type(array).__name__}"
        raise TypeError(f"params[{name!r}] has {what}; differences need arrays of float64")
    return array


def _real_value(fn, params):
    value = np.asarray(fn(params))
    if value.shape or value.dtype.kind not in "iuf":
        raise TypeError(f"fn returns {value.dtype} of shape {value.shape}; it must return a real number")
    return float(value)


DERIVATIVES = {"complex": complex_gradient, "richardson": richardson_gradient, "central": central_gradient}
