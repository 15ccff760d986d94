"""Gradients are compared with numerical derivatives of the loss, element by element."""

import contextlib
import itertools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from vae_np.architecture import check_choice
from vae_np.testing.comparison import TOLERANCES, label, relative_errors, rounding
from vae_np.testing.derivatives import METHODS, Params, complex_gradient, copied, derivatives_of, kind_of, real_number


class Worst(NamedTuple):
    """The element of a parameter whose gradient is furthest from the derivative of the loss.

    Parameters
    ----------
    name : str
        The name of the parameter.
    index : tuple of int
        The place of the element in the parameter.
    given, wanted : float
        The gradient that was given, and the numerical derivative.
    error : float
        The relative error of the element: see `relative_errors`.
    method : {"complex", "richardson", "central"}
        The method by which the derivative was computed.
    """

    name: str
    index: tuple[int, ...]  # pyright: ignore[reportIncompatibleMethodOverride]  # it hides tuple.index
    given: float
    wanted: float
    error: float
    method: str

    def __str__(self) -> str:
        return f"{label(self.name, self.index)} is {self.given:.10g}, wanted {self.wanted:.10g}: error {self.error:.1e}"


def check_gradients(
    fn: Callable[[Any], Any],
    params: Params,
    gradients: Params | None = None,
    *,
    method: str = "auto",
    rtol: float | None = None,
) -> list[Worst]:
    """Compare every element of every gradient with the derivative of a scalar function of arrays.

    fn works on copies: `params` stays as it is, whatever fn does. Differences say nothing below 1e-11 of the value (central:
    1e-10), nor below 32 units in the last place of the largest of all derivatives: both are rounding.

    Parameters
    ----------
    fn : function
        fn(params) is the value, a real number. Without gradients it returns both, (value, gradients).
    params : mapping of str to array
        Where the gradients are compared.
    gradients : mapping of str to array, optional
        The gradients by the names of the parameters.
    method : {"auto", "complex", "richardson", "central"}
        Where the derivative comes from.

        - "auto": complex steps where they agree with Richardson's differences, else these; `Worst.method` says which.
        - "complex": Im fn(p + ih) / h with h = 1e-30 (Squire & Trapp 1998), exact to the last digits, however small h is. fn
          is given a dict of complex arrays, and must compute with them all the way: no abs, conj, vdot, float(). Each element
          is held to Richardson's difference, as closely as differences can tell.
        - "richardson": central differences at two steps, extrapolated; they are good to 1e-6.
        - "central": (fn(p + h) - fn(p - h)) / 2h; they are good to 1e-5.
    rtol : float, optional
        The relative error that is allowed; by default it is TOLERANCES[method] for the gradient's dtype.

    Returns
    -------
    list of Worst
        The element of each parameter whose error is the largest.

    Raises
    ------
    AssertionError
        Elements are off; the worst of each parameter is named, with both values.
    TypeError, ValueError
        A gradient is missing, of another shape or of no parameter; two parameters share memory; fn raises an error, returns no
        finite real number, is random, changes its argument or does not read it; it does not take complex input
        (method="complex"); or it has a kink at params, where no derivative is the right one.

    Examples
    --------
    >>> import numpy as np
    >>> from vae_np.testing import check_gradients
    >>> params = {"W": np.array([[1.0, -2.0], [0.5, 3.0]])}
    >>> [worst] = check_gradients(lambda p: np.sum(np.tanh(p["W"])), params, {"W": 1 - np.tanh(params["W"]) ** 2})
    >>> worst.method
    'complex'
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
        method, derivatives = derivatives_of(loss, params, method, constant=not any(g.any() for g in gradients.values()))
    return _compare(gradients, derivatives, method, rtol)


def check_with_complex_steps(
    fn: Callable[[Any], Any], params: Params, gradients: Params, rtol: float | None = None
) -> list[Worst]:
    """Do as `check_gradients` by complex steps, for an fn that is known to be analytic, without a check by differences."""
    gradients = _real_arrays("gradients", gradients)
    _check_gradients_fit(gradients, {name: array.shape for name, array in params.items()})
    derivatives = {name: (complex_gradient(fn, params, name), 0.0, np.bool_(True)) for name in params}
    return _compare(gradients, derivatives, "complex", rtol)


def _compare(gradients, derivatives, method, rtol=None):
    """The Worst element of each gradient.

    It raises an AssertionError if an element is off, and a ValueError if this can only come from a kink. `derivatives` is
    {name: (wanted, resolution, where fn is smooth)}.
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
        if method == "complex":  # it takes one side of a kink, and so may the gradient
            at_kink &= errors > limit
        kinks += [label(name, tuple(index)) for index in np.argwhere(at_kink)]
        errors = np.where(at_kink, 0.0, errors)
        index = tuple(int(i) for i in np.unravel_index(errors.argmax(), errors.shape))
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
    """{name: array} of a mapping; a TypeError is raised if it is no mapping, or a value is no array of real numbers."""
    if not isinstance(mapping, Mapping):
        raise TypeError(f"{what} is {kind_of(mapping)}; it must map names to arrays, such as {{'W': W}}")
    arrays = {}
    for name, given in mapping.items():
        try:
            arrays[name] = np.asarray(given)
        except ValueError:  # lists of different lengths
            arrays[name] = np.asarray(None)
        if arrays[name].dtype.kind not in "iuf":
            raise TypeError(f"{what}[{name!r}] is {kind_of(given)}; it must be an array of real numbers")
    return arrays


def _check_gradients_fit(gradients, shapes):
    if gradients.keys() - shapes.keys():
        raise ValueError(f"gradients are of {sorted(map(str, gradients))}, params are {sorted(map(str, shapes))}")
    for name, shape in shapes.items():
        if name not in gradients or gradients[name].shape != shape:
            what = gradients[name].shape if name in gradients else "nothing"
            raise ValueError(f"gradients[{name!r}] has shape {what}; wanted that of params[{name!r}], {shape}")


def _check_apart(params):
    """Raise a ValueError if two parameters share memory: fn is given copies, which share none."""
    arrays = [(name, array) for name, array in params.items() if isinstance(array, np.ndarray)]
    for (a, of_a), (b, of_b) in itertools.combinations(arrays, 2):
        if np.shares_memory(of_a, of_b):
            raise ValueError(f"params[{a!r}] and params[{b!r}] share memory: give an array once, under one name")


@contextlib.contextmanager
def _kept(params):
    """After `with _kept(params)` the arrays are as they were before, even if fn has changed them from outside."""
    before = [(array, array.copy()) for array in params.values() if isinstance(array, np.ndarray)]
    try:
        yield
    finally:
        for array, kept in before:
            if not _same_bits(array, kept):
                array[...] = kept


def _same_bits(a, b):
    return isinstance(a, np.ndarray) and a.shape == b.shape and a.tobytes() == b.tobytes()


def _try_twice(fn, params, with_gradients):
    """The gradients that fn returns, or None; an error says why fn cannot be differentiated."""
    (value, own), (again, own_again) = (_try(fn, params, with_gradients) for _ in range(2))
    if not np.isfinite(value):
        raise ValueError(f"fn returns {value:g} at params; it must return a finite number")
    if abs(value - again) > 1e-12 * abs(value):
        raise ValueError(
            f"fn is random: at the same params it returns {value!r}, then {again!r}; give it its noise from outside"
        )
    if own is None or own_again is None:
        return None
    for name in own:
        if own_again.keys() != own.keys() or not np.allclose(own[name], own_again[name], 1e-9, 0, equal_nan=True):
            raise ValueError(f"fn is random: at the same params it returns another gradient of {name} the second time")
    return own


def _try(fn, params, with_gradients):
    point, kept = copied(params), copied(params)
    theirs = {name: array.copy() for name, array in params.items() if isinstance(array, np.ndarray)}
    try:
        result = fn(point)
    except Exception as error:  # fn may raise any error
        raise ValueError(f"fn raises an error at params, {type(error).__name__}: {error}") from error
    for name, array in kept.items():
        moved = name in theirs and not _same_bits(params[name], theirs[name])
        if moved or name not in point or not _same_bits(point[name], array):
            raise ValueError(f"fn changes params[{name!r}]; it must leave its argument as it is")
    if not with_gradients:
        return real_number(result), None
    if not isinstance(result, tuple) or len(result) != 2:
        raise TypeError(f"fn returns {kind_of(result)}; without gradients it must return (value, gradients)")
    value, own = result
    return real_number(value), {name: array.copy() for name, array in _real_arrays("gradients", own).items()}
