"""What a user gives to `check_gradients`, as a scalar function of arrays by their paths, with gradients by these paths."""

import contextlib
import itertools
import numbers
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vae_np.testing import frameworks
from vae_np.testing.derivatives import Arrays, kind_of, real_number
from vae_np.testing.trees import is_object, leaves, rebuilt

COTANGENTS = 2  # along which the arrays that a function returns are held


class Comparison(NamedTuple):
    """Gradients, and the scalar function whose gradients they should be.

    Parameters
    ----------
    value : function
        value(arrays) is a number, for arrays of float64 or complex128 by their paths.
    at_point : float
        Its value where the gradients are compared.
    gradients : dict of str to array
        The gradients by the same paths.
    """

    value: Callable[[Arrays], Any]
    at_point: float
    gradients: dict[str, NDArray]


# ------------------------------------------------------------------------------------------------------- parameters


def selected(params: Any, gradients: Any, only: str | Sequence[str] | None) -> dict[str, NDArray]:
    """The arrays of `params` that are compared, in float64, by their paths; the arguments are those of `check_gradients`."""
    found = leaves(params)
    if only is None and is_object(params) and gradients is not None and not callable(gradients):
        only = list(leaves(gradients))
    if only is not None:
        found = {path: found[path] for path in chosen_paths(found, only)}
    arrays = real_arrays(found)
    if not arrays:
        raise ValueError("params is empty; it must hold arrays, such as {'W': W}")
    _check_apart(found)
    return {path: np.array(array, np.float64) for path, array in arrays.items()}


def chosen_paths(found: Collection[str], only: str | Sequence[str]) -> list[str]:
    """The paths that are named, or that begin with a name; a ValueError is raised if a name is unknown."""
    names = [only] if isinstance(only, str) else list(only)
    if not names:
        raise ValueError("only is empty; it must name a path, such as 'W'")
    if unknown := [name for name in names if not any(_is_part(path, name) for path in found)]:
        raise ValueError(f"params has no {unknown[0]}; it has {', '.join(found)}")
    return [path for path in found if any(_is_part(path, name) for name in names)]


def _is_part(path, name):
    return path == name or path.startswith((f"{name}.", f"{name}["))


def real_arrays(found: Mapping[str, Any], what: str = "") -> dict[str, NDArray]:
    """The leaves as arrays; a TypeError is raised if one of them is no array of real numbers."""
    arrays = {}
    for path, leaf in found.items():
        array = frameworks.array_of(leaf)
        if array is None or array.dtype.kind not in "iuf":
            raise TypeError(f"{what}{path} is {kind_of(leaf)}; it must be an array of real numbers")
        arrays[path] = array
    return arrays


def _check_apart(found):
    """Raise a ValueError if two parameters share memory: fn is given copies, which share none."""
    arrays = [(path, leaf) for path, leaf in found.items() if isinstance(leaf, np.ndarray)]
    for (a, of_a), (b, of_b) in itertools.combinations(arrays, 2):
        if np.shares_memory(of_a, of_b):
            raise ValueError(f"{a} and {b} share memory: give an array once, under one name")


@contextlib.contextmanager
def kept(params: Any) -> Iterator[None]:
    """After `with kept(params)` the arrays are as they were before, even if fn has changed them from outside."""
    before = [(leaf, leaf.copy()) for leaf in leaves(params).values() if isinstance(leaf, np.ndarray)]
    try:
        yield
    finally:
        for array, copy in before:
            if not _same_bits(array, copy):
                array[...] = copy


def _same_bits(a, b):
    return isinstance(a, np.ndarray) and a.shape == b.shape and a.tobytes() == b.tobytes()


# ------------------------------------------------------------------------------------------- the function and its gradients


def comparisons(fn: Callable, params: Any, gradients: Any, point: Arrays, seed: int) -> Iterator[Comparison]:
    """Yield what is compared: one Comparison if fn returns a number, or one for each random cotangent if it returns arrays.

    The arguments are those of `check_gradients`; `point` is what `selected` has returned. An error says why fn cannot be
    differentiated.
    """
    template = leaves(params)
    constants = {path: leaf for path, leaf in leaves(frameworks.in_double(params)).items() if path not in point}

    def params_at(arrays):
        return rebuilt(params, constants | {path: frameworks.like(template[path], array) for path, array in arrays.items()})

    def value_at(arrays):
        result = fn(params_at(arrays))
        return result[0] if gradients is None and _has_gradients(result) else result

    (value, backward), (again, backward_again) = (
        _split(fn, gradients, *_called(fn, params_at(point), point, template)) for _ in range(2)
    )
    if isinstance(frameworks.value_of(value), numbers.Number):
        _check_same(real_number(value), real_number(again))
        yield Comparison(value_at, real_number(value), _same_gradients(point, template, backward(), backward_again()))
        return
    rng, outputs = np.random.default_rng(seed), _outputs(value)
    for path, array in _outputs(again).items():
        _check_same(outputs[path], array)
    if gradients is not None and not callable(gradients):
        raise TypeError(f"fn returns {kind_of(value)}, so gradients must be a function: gradients(params, dvalue)")
    for _ in range(COTANGENTS):
        along = {path: rng.normal(size=array.shape) for path, array in outputs.items()}
        dvalue = rebuilt(
            value, {path: frameworks.like(array, along[path]) for path, array in leaves(value, "value").items()}, "value"
        )

        def product(outputs, along=along):
            return sum(np.sum(along[path] * array) for path, array in outputs.items())

        def product_at(arrays, product=product):
            return product(_outputs(value_at(arrays)))

        yield Comparison(
            product_at, product(outputs), _same_gradients(point, template, backward(dvalue), backward_again(dvalue))
        )


def _split(fn, gradients, result, params):
    """(The value, a function of the value's cotangent that returns the gradients), of what fn has returned for params."""
    if callable(gradients):
        return result, lambda *dvalue: gradients(params, *dvalue)
    if gradients is not None:
        return result, lambda *_: gradients
    if _has_gradients(result):
        value, own = result
        return value, own if callable(own) else lambda *_: own
    if any(map(frameworks.of_framework, leaves(params).values())):
        return result, lambda *_: frameworks.automatic_gradient(fn, params)
    raise TypeError(f"fn returns {kind_of(result)}; without gradients it must return (value, gradients)")


def _has_gradients(result):
    """Whether fn has returned (value, gradients)."""
    return isinstance(result, tuple) and len(result) == 2


def _called(fn, params, point, template):
    """(What fn returns, params); a ValueError is raised if fn raises an error or changes its argument."""
    theirs = {path: leaf.copy() for path, leaf in template.items() if isinstance(leaf, np.ndarray)}
    try:
        result = fn(params)
    except Exception as error:  # fn may raise any error
        raise ValueError(f"fn raises an error at params, {type(error).__name__}: {error}") from error
    after = leaves(params)
    for path, array in point.items():
        moved = path in theirs and not _same_bits(template[path], theirs[path])
        if moved or path not in after or not _same_bits(frameworks.array_of(after[path]), array):
            raise ValueError(f"fn changes {path}; it must leave its argument as it is")
    return result, params


def _outputs(value):
    """{path: array} of what fn returns."""
    outputs = {}
    for path, leaf in leaves(value, "value").items():
        array = frameworks.array_of(leaf)
        if array is None or array.dtype.kind not in "fc":
            break
        if array.dtype.itemsize < 8:
            raise TypeError(f"fn returns {kind_of(array)}; its derivatives can only be computed in double precision")
        outputs[path] = array
    else:
        if outputs:
            return outputs
    raise TypeError(f"fn returns {kind_of(value)}; it must return a number, or arrays of real numbers")


def _check_same(value, again):
    if not np.all(np.isfinite(value)):
        raise ValueError(f"fn returns {np.asarray(value)[~np.isfinite(value)][0]:g} at params; it must return finite numbers")
    if np.any(np.abs(value - again) > 1e-12 * np.max(np.abs(value), initial=0.0)):
        raise ValueError(
            f"fn is random: at the same params it returns {value!r}, then {again!r}; give it its noise from outside"
        )


def _same_gradients(point, template, own, again):
    """{path: array} of gradients that fit the point; `again` are those of a second call."""
    first, second = (
        {path: array.copy() for path, array in real_arrays(leaves(g), "the gradient of ").items()} for g in (own, again)
    )
    if first.keys() - template.keys():
        raise ValueError(f"gradients are of {', '.join(sorted(first))}; params are {', '.join(sorted(template))}")
    for path, array in point.items():
        if path not in first:
            raise ValueError(f"there is no gradient of {path}; if it is meant to have none, say only=[...]")
        if first[path].shape != array.shape:
            raise ValueError(f"the gradient of {path} has shape {first[path].shape}; {path} has {array.shape}")
        if path not in second or not np.allclose(first[path], second[path], 1e-9, 0, equal_nan=True):
            raise ValueError(f"fn is random: at the same params it returns another gradient of {path} the second time")
    return {path: first[path] for path in point}
