"""Gradients are compared with numerical derivatives of the loss, element by element."""

import contextlib
import numbers
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vae_np.architecture import check_choice, check_count
from vae_np.console import make_console
from vae_np.testing import arguments, frameworks
from vae_np.testing.comparison import TOLERANCES, label, relative_errors, rounding
from vae_np.testing.derivatives import METHODS, ROUNDING, STEPS, complex_gradient, derivatives_of, is_coarse
from vae_np.testing.diagnosis import diagnose


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
    params: Any,
    gradients: Any = None,
    *,
    method: str = "auto",
    rtol: float | None = None,
    only: str | Sequence[str] | None = None,
    elements: int | None = None,
    sizes: Mapping[str, int] | None = None,
    seed: int = 0,
) -> list[Worst]:
    """Compare every element of every gradient with the derivative of a function of arrays.

    fn works on copies in float64: `params` stays as it is, whatever fn does. Differences say nothing below 1e-11 of the value
    (central: 1e-10), nor below 32 units in the last place of the largest of all derivatives: both are rounding.

    Parameters
    ----------
    fn : function
        fn(params) is the value: a real number, or arrays of real numbers (an array, or a container of arrays). Arrays are held
        along random cotangents dvalue, which have their shapes: what is differentiated is the sum of dvalue * value. Without
        gradients fn returns both, (value, gradients), or (value, a function of dvalue that returns the gradients). Where
        params are of PyTorch or of JAX it may return the value alone: the gradient is then that of their own differentiation.
    params : container
        Where the gradients are compared: an array or a number; a dict, list, tuple, named tuple or dataclass of arrays or of
        containers; a module of PyTorch; or an object whose attributes are arrays. The arrays may be of PyTorch or of JAX.
        Errors name an array by its path, such as layers[1].W.
    gradients : container or function, optional
        The gradients, in a container like that of params or in a dict by the paths; or a function gradients(params) of a
        number's gradients, or gradients(params, dvalue) of those of arrays.
    method : {"auto", "complex", "richardson", "central"}
        Where the derivative comes from.

        - "auto": complex steps where they agree with Richardson's differences, else these; `Worst.method` says which. Complex
          steps may drop a term that is too small for a difference of each element to see. So where the gradient has something
          that they have not, one difference along it decides, as far as it can tell.
        - "complex": Im fn(p + ih) / h with h = 1e-30 (Squire & Trapp 1998), exact to the last digits, however small h is. fn
          is given complex arrays, and must compute with them all the way: no abs, conj, vdot, float(). Each element is held to
          Richardson's difference, as closely as differences can tell.
        - "richardson": central differences at two steps, extrapolated; they are good to 1e-6.
        - "central": (fn(p + h) - fn(p - h)) / 2h; they are good to 1e-5.
    rtol : float, optional
        The relative error that is allowed; by default it is TOLERANCES[method] for the gradient's dtype.
    only : str or sequence of str, optional
        The paths of the arrays that are compared, or beginnings of paths. By default all are compared.
    elements : int, optional
        How many elements are compared, chosen at random; by default all are. The derivatives along four random directions of
        +-1 are compared besides. If a part q of all elements is wrong, n elements miss it with probability (1 - q)^n at most. A
        fault in a single element is never missed by a direction, if it is larger than rtol times the norm of the gradient; one
        in many elements is missed by all four with probability (rtol |gradient| / |fault|)^4 at most.
    sizes : mapping of str to int, optional
        Names of lengths, such as {"batch": 6}. If a gradient is 6 times too large, the error says that 6 is the batch.
    seed : int
        The same seed gives the same elements, directions and cotangents.

    Returns
    -------
    list of Worst
        The element of each parameter whose error is the largest; and the worst direction, if there are directions.

    Raises
    ------
    AssertionError
        Elements are off. The worst of each parameter is named, with both values, and with what is wrong where `diagnose` finds
        it. What is far off is named first.
    TypeError, ValueError
        A gradient is missing, of another shape or of no parameter; a parameter shares memory with another array of params; fn
        raises an error, returns no finite real number, returns another one when it is called again, changes its argument or does
        not read it; it computes in single precision, and differences do not agree with the gradient; it does not take complex
        input (method="complex"); or it has a kink at params, where no derivative is the right one.

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
    if rtol is not None and not (isinstance(rtol, numbers.Real) and rtol >= 0):
        raise ValueError(f"rtol is {rtol!r}; it must be a number of at least 0")
    if elements is not None:
        check_count("elements", elements)
    point = arguments.selected(params, gradients, only)
    where = _chosen(point, elements, seed)
    found = {}
    with frameworks.double_precision(), arguments.kept(params):
        for value, at_point, given in arguments.comparisons(fn, params, gradients, point, seed):
            with _progress(value, point, where, method) as counted:
                unseen = ROUNDING * abs(at_point) / STEPS[0]  # what differences cannot tell from 0
                constant = all(np.all(np.abs(g) <= unseen) for g in given.values())
                worst = _compare_with_derivatives(counted, point, given, method, constant, rtol, where, sizes, seed)
            for one in worst:
                found[one.name] = max(one, found.get(one.name, one), key=lambda worst: worst.error)
    return list(found.values())


def check_with_complex_steps(
    fn: Callable[[Any], Any],
    params: Mapping[str, NDArray],
    gradients: Mapping[str, NDArray],
    rtol: float | None = None,
    sizes: Mapping[str, int] | None = None,
) -> list[Worst]:
    """Do as `check_gradients` by complex steps, for an fn of a dict that is known to be analytic, without differences."""
    derivatives = {name: (complex_gradient(fn, params, name), 0.0, np.bool_(True)) for name in params}
    return _compare(gradients, derivatives, "complex", rtol, sizes=sizes)


def _compare_with_derivatives(value, point, given, method, constant, rtol, where, sizes, seed):
    """The Worst element of each gradient, and the worst direction if only some elements are compared."""
    used = None
    try:
        used, derivatives = derivatives_of(value, point, given, method, constant, where)
        worst = _compare(given, derivatives, used, rtol, where, sizes)
        if where:
            worst += _compare(*_along_directions(value, point, given, method, used, seed), rtol, of_elements=False)
        return worst
    except (AssertionError, ValueError):  # what differences say of a coarse function is no reason to call anything wrong
        if used != "complex" and is_coarse(value, point):
            raise TypeError(
                "fn computes in single precision, or rounds as coarsely: its derivatives can only be computed in double precision"
            ) from None
        raise


# ------------------------------------------------------------------------------------------------ some of many elements

DIRECTIONS = 4


def _chosen(point, elements, seed):
    """{path: array of bool}: where elements are compared; None stands for everywhere."""
    ends = np.cumsum([array.size for array in point.values()])
    if elements is None or elements >= ends[-1]:
        return None
    chosen = np.zeros(ends[-1], bool)
    chosen[np.random.default_rng(seed).permutation(ends[-1])[:elements]] = True
    parts = np.split(chosen, ends[:-1])
    return {path: part.reshape(array.shape) for (path, array), part in zip(point.items(), parts)}


def _along_directions(value, point, gradients, method, used, seed):
    """The derivatives along random directions of +-1, from the gradients and from `value`, as arguments of `_compare`.

    `used` is how the derivatives by elements were found.
    """
    rng = np.random.default_rng(seed)
    signs = {path: rng.choice([-1.0, 1.0], (DIRECTIONS, *array.shape)) for path, array in point.items()}

    def value_along(steps):
        return value({path: array + np.tensordot(steps["direction"], signs[path], 1) for path, array in point.items()})

    given = np.asarray(sum(np.tensordot(signs[path], gradients[path], gradients[path].ndim) for path in point))
    norm = np.sqrt(sum(np.sum(np.square(gradients[path], dtype=np.float64)) for path in point))
    used, derivatives = derivatives_of(
        value_along, {"direction": np.zeros(DIRECTIONS)}, {"direction": given}, method if used == "complex" else used, True
    )
    dtype = np.result_type(*gradients.values())
    tolerance = TOLERANCES[used][_held_to(dtype, used)]
    wanted, resolution, smooth = derivatives["direction"]
    return {"direction": given.astype(dtype)}, {"direction": (wanted, np.maximum(resolution, tolerance * norm), smooth)}, used


LONG = 3.0  # seconds; a check that takes longer says so
EVALUATIONS = {"complex": 5, "auto": 5, "richardson": 4, "central": 4}  # of fn, for an element that needs no smaller step


@contextlib.contextmanager
def _progress(value, point, where, method) -> Iterator[Callable[[Any], Any]]:
    """Yield `value`. If all of its evaluations take long, say how long, and show how far they are."""
    started = time.perf_counter()
    value(point)
    times = EVALUATIONS[method] * sum(np.sum(where[path]) if where else array.size for path, array in point.items())
    seconds = times * (time.perf_counter() - started)
    if seconds < LONG:
        yield value
        return
    from rich.progress import Progress

    console = make_console(stderr=True)
    console.print(f"check_gradients evaluates fn {times:,} times or more, which takes about {seconds:.0f} s.")
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("Evaluations of fn", total=int(times))

        def counted(arrays):
            bar.advance(task)
            return value(arrays)

        yield counted


# -------------------------------------------------------------------------------------------------------- the comparison

SMALL = 1e-3  # an error below it is told after those that are larger


def _compare(gradients, derivatives, method, rtol=None, where=None, sizes=None, of_elements=True):
    """The Worst element of each gradient.

    It raises an AssertionError if an element is off, and a ValueError if this can only come from a kink. `derivatives` is
    {name: (wanted, resolution, where fn is smooth)}. Only what is wrong with elements, and not with directions, is diagnosed.
    """
    found, off, kinks = [], [], []
    dtypes = {name: _held_to(gradient.dtype, method) for name, gradient in gradients.items()}
    cancelled = max(rounding([wanted.astype(dtypes[name])]) for name, (wanted, *_) in derivatives.items())
    for name, (wanted, resolution, smooth) in derivatives.items():
        given, resolution = gradients[name], np.maximum(resolution, cancelled)
        tolerance = TOLERANCES[method][dtypes[name]]
        limit = tolerance if rtol is None else rtol
        compared = np.broadcast_to(True if where is None else where[name], given.shape)
        if not compared.any():
            continue
        pair = np.where(compared, given, 0.0), np.where(compared, wanted, 0.0)
        errors = relative_errors(*pair)
        errors = np.where(errors <= tolerance, errors, relative_errors(*pair, resolution))
        at_kink = compared & ~smooth & np.isfinite(given)
        if method == "complex":  # it takes one side of a kink, and so may the gradient
            at_kink &= errors > limit
        kinks += [label(name, tuple(index)) for index in np.argwhere(at_kink)]
        errors = np.where(at_kink, 0.0, errors)
        index = tuple(int(i) for i in np.unravel_index(errors.argmax(), errors.shape))
        found.append(Worst(name, index, float(given[index]), float(wanted[index]), float(errors[index]), method))
        if not errors.max() <= limit:
            wrong, cause = (errors > limit).sum(), None
            if wrong > 1 and of_elements:  # of a single one the line says all
                seen = (given, wanted) if compared.all() else (given[compared], wanted[compared])
                cause = diagnose(*seen, sizes=sizes, resolution=float(np.max(resolution)), rtol=max(tolerance, 1e-9))
            line = f"{found[-1]} > {limit:.0e} ({wrong} of {compared.sum()} elements are off)"
            off.append((found[-1].error < SMALL, cause.sentence if cause else "", name, line))
    if off:
        raise AssertionError(_report(off))
    if kinks:
        raise ValueError(
            f"fn is not smooth near {kinks[0]}: it has a kink there, or computes in single precision; take another point"
            + (", or method='complex'" if method != "complex" else "")
        )
    return found


def _held_to(dtype, method):
    """The name of the dtype whose tolerance holds for gradients of a dtype: this one, or float64."""
    return dtype.name if dtype.name in TOLERANCES[method] else "float64"


def _report(off):
    """The message of what is off, (is it small, its cause or "", name, line): what is large first, equal causes together."""
    off = sorted(off, key=lambda one: one[0])
    lines = {}
    for _, cause, name, line in off:
        lines.setdefault(cause or line, []).append((name, line))
    report = []
    for cause, of_names in lines.items():
        if cause != of_names[0][1]:
            report.append(f"{', '.join(name for name, _ in of_names)}: {cause}")
        report += (line for _, line in of_names)
    return "\n".join(report)
