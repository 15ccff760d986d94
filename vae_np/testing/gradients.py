"""Gradients against derivatives of the loss that no hand has written, element by element."""

import contextlib
import copy
import itertools
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
    method: str  # that gave the derivative: "complex", "richardson" or "central"

    def __str__(self):
        return f"{label(self.name, self.index)} is {self.given:.10g}, wanted {self.wanted:.10g}: error {self.error:.1e}"


def check_gradients(fn, params, gradients=None, *, method="auto", rtol=None):
    """Compare every element of every gradient with the derivative of a scalar function of arrays.

    fn(params) is the value, a real number; params and gradients map names to arrays. Without gradients, fn returns both:
    (value, gradients). method says where the derivative comes from:

    "auto"        complex steps where they agree with Richardson's differences, else these; Worst.method says which.
    "complex"     Im fn(p + ih) / h with h = 1e-30 (Squire & Trapp 1998): exact to the last digits, however small h. fn
                  is given a dict of complex arrays, and must compute with them all the way: no abs, conj, vdot, float().
                  Each element is held to Richardson's difference, as closely as differences can tell.
    "richardson"  central differences at two steps, extrapolated: good to 1e-6, and to 1e-11 of the value.
    "central"     (fn(p + h) - fn(p - h)) / 2h: good to 1e-5, and to 1e-10 of the value.

    Below that part of the value, differences are rounding, and say nothing; so do differences of 32 units in the last place
    of the largest of all derivatives. fn works on copies: `params` stays as it is, whatever fn does. rtol: the relative error
    that is allowed, else TOLERANCES[method] for the gradient's dtype.

    Returns the Worst element of each parameter. AssertionError: elements are off; the worst of each parameter is named,
    with both values. TypeError, ValueError: a gradient is missing, of another shape or of no parameter; two parameters share
    memory; fn raises an error, returns no finite real number, is random, changes its argument or does not read it; it does
    not take complex input (method="complex"); or it has a kink at params, where no derivative is the right one.
    """
    check_choice("method", method, METHODS)
    shapes = {name: array.shape for name, array in _real_arrays("params", params).items()}
    if not shapes:
        raise ValueError("params is empty; it must map names to arrays, such as {'W': W}")
    _check_apart(params)
    with _kept(params):
        own = _try_twice(fn, params, with_gradients=gradients is None)
        gradients = _real_arrays("gradients", own if gradients is None else gradients)
        _check_gradients_fit(gradients, shapes)
        loss = fn if own is None else lambda p: fn(p)[0]
        method, derivatives = _derivatives(loss, params, method, constant=not any(g.any() for g in gradients.values()))
    return _compare(gradients, derivatives, method, rtol)


def check_with_complex_steps(fn, params, gradients, rtol=None):
    """As `check_gradients` by complex steps, for an fn that is known to be analytic: nothing is held to differences."""
    gradients = _real_arrays("gradients", gradients)
    _check_gradients_fit(gradients, {name: array.shape for name, array in params.items()})
    derivatives = {name: (complex_gradient(fn, params, name), 0.0, np.bool_(True)) for name in params}
    return _compare(gradients, derivatives, "complex", rtol)


def _compare(gradients, derivatives, method, rtol=None):
    """The Worst element of each gradient. AssertionError where one is off; ValueError where that can only be a kink's doing.

    derivatives: {name: (wanted, resolution, where it is smooth)}
    """
    found, off, kinks = [], [], []
    cancelled = max(rounding([wanted.astype(gradients[name].dtype)]) for name, (wanted, *_) in derivatives.items())
    for name, (wanted, resolution, smooth) in derivatives.items():
        given = gradients[name]
        tolerance = TOLERANCES[method].get(given.dtype.name, TOLERANCES[method]["float64"])
        limit = tolerance if rtol is None else rtol
        errors = relative_errors(given, wanted)
        errors = np.where(errors <= tolerance, errors, relative_errors(given, wanted, np.maximum(resolution, cancelled)))
        if not errors.size:
            continue
        at_kink = ~smooth & np.isfinite(given)
        if method == "complex":  # which takes one side of a kink: where the gradient takes the same, all is well
            at_kink &= errors > limit
        kinks += [label(name, tuple(index)) for index in np.argwhere(at_kink)]
        errors = np.where(at_kink, 0.0, errors)
        index = np.unravel_index(errors.argmax(), errors.shape)
        found.append(Worst(name, index, float(given[index]), float(wanted[index]), float(errors[index]), method))
        if not errors.max() <= limit:
            off.append(f"{found[-1]} > {limit:.0e} ({(errors > limit).sum()} of {errors.size} elements are off)")
    if off:
        raise AssertionError("\n".join(off))
    if kinks:
        raise ValueError(
            f"fn is not smooth near {kinks[0]}: it has a kink there, or computes in single precision; take another point"
            + (", or method='complex'" if method != "complex" else "")
        )
    return found


# ------------------------------------------------------------------------------------------------- what can be compared


def _real_arrays(what, mapping):
    """{name: array} of a mapping; TypeError where it is none, or holds what is no array of real numbers."""
    if not isinstance(mapping, Mapping):
        raise TypeError(f"{what} is {_kind(mapping)}; it must map names to arrays, such as {{'W': W}}")
    arrays = {}
    for name, given in mapping.items():
        try:
            arrays[name] = np.asarray(given)
        except ValueError:  # lists of different lengths
            arrays[name] = np.asarray(None)
        if arrays[name].dtype.kind not in "iuf":
            raise TypeError(f"{what}[{name!r}] is {_kind(given)}; it must be an array of real numbers")
    return arrays


def _check_gradients_fit(gradients, shapes):
    if gradients.keys() - shapes.keys():
        raise ValueError(f"gradients are of {sorted(map(str, gradients))}, params are {sorted(map(str, shapes))}")
    for name, shape in shapes.items():
        if name not in gradients or gradients[name].shape != shape:
            what = gradients[name].shape if name in gradients else "nothing"
            raise ValueError(f"gradients[{name!r}] has shape {what}; wanted that of params[{name!r}], {shape}")


def _check_apart(params):
    """ValueError where two parameters share memory: fn gets copies, in which they would be two."""
    arrays = [(name, array) for name, array in params.items() if isinstance(array, np.ndarray)]
    for (a, of_a), (b, of_b) in itertools.combinations(arrays, 2):
        if np.shares_memory(of_a, of_b):
            raise ValueError(f"params[{a!r}] and params[{b!r}] share memory: give an array once, under one name")


@contextlib.contextmanager
def _kept(params):
    """`with _kept(params)`: afterwards its arrays are as they were, even where fn reaches them by another way."""
    before = [(array, array.copy()) for array in params.values() if isinstance(array, np.ndarray)]
    try:
        yield
    finally:
        for array, kept in before:
            if not _same_bits(array, kept):
                array[...] = kept


def _copy(params):
    """Params again, of the same type, in arrays of float64 that can be changed; a dict where that type cannot be copied so."""
    with contextlib.suppress(Exception):  # whatever a type of the caller's own raises
        point = copy.deepcopy(params)
        if all(isinstance(array, np.ndarray) and array.dtype == np.float64 for array in point.values()):
            return point
    return {name: np.array(array, np.float64) for name, array in params.items()}


def _same_bits(a, b):
    return isinstance(a, np.ndarray) and a.shape == b.shape and a.tobytes() == b.tobytes()


def _try_twice(fn, params, with_gradients):
    """The gradients that fn returns, or None; an error says what keeps its derivatives from meaning anything."""
    (value, own), (again, own_again) = (_try(fn, params, with_gradients) for _ in range(2))
    if not np.isfinite(value):
        raise ValueError(f"fn returns {value:g} at params; it must return a finite number")
    if abs(value - again) > 1e-12 * abs(value):
        raise ValueError(
            f"fn is random: at the same params it returns {value!r}, then {again!r}; give it its noise from outside"
        )
    for name in own or ():
        if own_again.keys() != own.keys() or not np.allclose(own[name], own_again[name], 1e-9, 0, equal_nan=True):
            raise ValueError(f"fn is random: at the same params it returns another gradient of {name} the second time")
    return own


def _try(fn, params, with_gradients):
    point, kept = _copy(params), _copy(params)
    theirs = {name: array.copy() for name, array in params.items() if isinstance(array, np.ndarray)}
    try:
        result = fn(point)
    except Exception as error:  # whatever fn raises is its own
        raise ValueError(f"fn raises an error at params, {type(error).__name__}: {error}") from error
    for name, array in kept.items():
        moved = name in theirs and not _same_bits(params[name], theirs[name])
        if moved or name not in point or not _same_bits(point[name], array):
            raise ValueError(f"fn changes params[{name!r}]; it must leave its argument as it is")
    if not with_gradients:
        return _real_number(result), None
    if not isinstance(result, tuple) or len(result) != 2:
        raise TypeError(f"fn returns {_kind(result)}; without gradients it must return (value, gradients)")
    value, own = result
    return _real_number(value), {name: array.copy() for name, array in _real_arrays("gradients", own).items()}


def _number(value):
    value = value[()] if isinstance(value, np.ndarray) else value
    if not isinstance(value, numbers.Number):
        raise TypeError(f"fn returns {_kind(value)}; it must return a number")
    return value


def _real_number(value):
    number = _number(value)
    if not isinstance(number, numbers.Real):
        raise TypeError(f"fn returns {_kind(value)}; it must return a real number")
    if isinstance(number, (np.float16, np.float32)):
        raise TypeError(f"fn returns {_kind(value)}; its derivatives can only be told in double precision")
    return float(number)


def _kind(value):
    """What something is, in an error: its type, and an array's dtype and shape."""
    if isinstance(value, np.ndarray):
        return f"an array of {value.dtype} {value.shape}"
    return f"a {type(value).__name__}"


# ------------------------------------------------------------------------------------------------------ by which method

METHODS = ("auto", "complex", "richardson", "central")


def _derivatives(fn, params, method, constant):
    """(the method that was used, {name: (derivative, its resolution, where it is smooth)}).

    ValueError: fn does not change with params, and is not said to be constant. ValueError, TypeError: method is "complex", and
    fn is not analytic.
    """
    by_differences = {}
    for name in params:
        point = _copy(params)
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


def complex_gradient(fn, params, name):
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
    value = _number(value)
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


def differences(fn, array, steps=STEPS):
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


def numerical_gradient(fn, array, step=1e-4, where=True):
    """d fn() / d array by central differences, and how far they can be trusted: two arrays of its shape.

    fn is a function of no arguments that reads the array, which is changed in place and put back. From steps h and h/2,
    Richardson: (4 D(h/2) - D(h)) / 3, exact to h^4. Where fn is smooth, D(h) - D(h/2) is of order h^2, and the bend
    B(h) = (fn(+h) - 2 fn(0) + fn(-h)) / h shrinks with h, so that B(h) - 2 B(h/2) is of order h^3. Both are far larger
    where a step crosses a kink or starts on one; the larger is the doubt. where: the
    elements that are wanted, the others being 0; step: a number, or one for each of them.
    """
    gradient, doubt, here = np.zeros(array.shape), np.zeros(array.shape), fn()
    wanted = np.argwhere(np.broadcast_to(where, array.shape))
    for index, h in zip(map(tuple, wanted), np.broadcast_to(step, len(wanted))):
        wide, narrow, doubt[index] = _two_steps(fn, array, index, h, here)
        gradient[index] = (4 * narrow - wide) / 3
    return gradient, doubt


def central_gradient(fn, array):
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
                return _real_number(fn(point))
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
