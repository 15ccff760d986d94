"""What a user gives to `check_gradients`, as a scalar function of arrays by their paths, with gradients by these paths."""

import contextlib
import itertools
import numbers
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vae_np.testing import frameworks
from vae_np.testing.comparison import label
from vae_np.testing.derivatives import Arrays, kind_of, real_number
from vae_np.testing.trees import is_object, is_part, leaf_at, leaves, paths_below, rebuilder, rebuilt

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
        only = list(leaves(gradients, apart=True))
    compared = found
    if only is not None:
        compared = {path: found[path] for path in chosen_paths(params, only)}
    arrays = real_arrays(compared)
    if not arrays:
        raise ValueError("params is empty; it must hold arrays, such as {'W': W}")
    _check_apart(compared, found)
    return {path: np.array(array, np.float64) for path, array in arrays.items()}


def chosen_paths(params: Any, only: str | Sequence[str]) -> list[str]:
    """The paths of the leaves that are named, or that stand below a name; a ValueError is raised if a name is unknown."""
    found, names = leaves(params), [only] if isinstance(only, str) else list(only)
    if not names:
        raise ValueError("only is empty; it must name a path, such as 'W'")
    paths = {name: [path for path in found if is_part(path, name)] + paths_below(params, name) for name in names}
    if unknown := [name for name in names if not paths[name]]:
        raise ValueError(f"params has no {unknown[0]}; it has {', '.join(found)}")
    chosen = {path for several in paths.values() for path in several}
    return [path for path in found if path in chosen]


def real_arrays(found: Mapping[str, Any], what: str = "") -> dict[str, NDArray]:
    """The leaves as arrays; a TypeError is raised if one of them is no array of real numbers."""
    arrays = {}
    for path, leaf in found.items():
        array = frameworks.array_of(leaf)
        if array is None or array.dtype.kind not in "iuf":
            raise TypeError(f"{what}{path} is {kind_of(leaf)}; it must be an array of real numbers")
        arrays[path] = array
    return arrays


def _check_apart(compared, found):
    """Raise a ValueError if an array that is compared shares memory with another one: fn is given copies, which share none."""
    arrays = {path: leaf for path, leaf in found.items() if isinstance(leaf, np.ndarray)}
    for a, b in itertools.combinations(arrays, 2):
        if (a in compared or b in compared) and np.shares_memory(arrays[a], arrays[b]):
            if a in compared and b in compared:
                raise ValueError(f"{a} and {b} share memory: give an array once, under one name")
            if arrays[a] is not arrays[b]:
                of, by = (b, a) if a in compared else (a, b)
                raise ValueError(
                    f"{by} and {of} share memory, but the copies that fn is given do not: compute {of} inside of fn, or make it "
                    "a property"
                )


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
    template, with_arrays = leaves(params), rebuilder(params)
    moved = {id(template[path]) for path in point if isinstance(template[path], np.ndarray)}  # elsewhere they move, too
    constants = {path: leaf for path, leaf in frameworks.doubles(params).items() if id(template[path]) not in moved}

    def params_at(arrays):
        return with_arrays(constants | {path: frameworks.like(template[path], array) for path, array in arrays.items()})

    def value_at(arrays):
        result = fn(params_at(arrays))
        return result[0] if gradients is None and _has_gradients(result) else result

    (value, backward), (again, backward_again) = (
        _split(fn, gradients, *_called(fn, params_at(point), point, template)) for _ in range(2)
    )
    if isinstance(frameworks.value_of(value), numbers.Number):
        _check_same({"": np.float64(real_number(value))}, {"": np.float64(real_number(again))})
        given = (own() if callable(own) else own for own in (backward, backward_again))
        yield Comparison(value_at, real_number(value), _same_gradients(params, point, template, *given))
        return
    rng, outputs = np.random.default_rng(seed), _outputs(value)
    _check_same(outputs, _outputs(again))
    if not callable(backward):
        must = "its gradients must be a function of dvalue: return (value, backward), with backward(dvalue)"
        if gradients is not None:
            must = "gradients must be a function: gradients(params, dvalue)"
        raise TypeError(f"fn returns {kind_of(value)}, so {must}")
    for _ in range(COTANGENTS):
        along = {path: rng.normal(size=array.shape) for path, array in outputs.items()}
        dvalue = rebuilt(
            value,
            {path: frameworks.like(array, along[path]) for path, array in leaves(value, "value", apart=True).items()},
            "value",
            apart=True,
        )

        def product(outputs, along=along):
            return sum(np.sum(along[path] * array) for path, array in outputs.items())

        def product_at(arrays, product=product):
            return product(_outputs(value_at(arrays)))

        yield Comparison(
            product_at, product(outputs), _same_gradients(params, point, template, backward(dvalue), backward_again(dvalue))
        )


def _split(fn, gradients, result, params):
    """(The value, its gradients or a function that returns them), of what fn has returned for params.

    The function takes the cotangent of a value that is no number.
    """
    if callable(gradients):
        return result, lambda *dvalue: _raising("gradients", gradients, params, *dvalue)
    if gradients is not None:
        if _has_gradients(result):
            raise TypeError(
                "fn returns a tuple of two, such as (value, gradients), and gradients are given besides: give them once"
            )
        return result, gradients
    if _has_gradients(result):
        return result
    if any(map(frameworks.of_framework, leaves(params).values())):
        return result, lambda *dvalue: frameworks.automatic_gradient(_along(fn, *dvalue), params)
    raise TypeError(f"fn returns {kind_of(result)}; without gradients it must return (value, gradients)")


def _along(fn, dvalue=None):
    """fn itself; or, along a cotangent dvalue of what it returns, the sum of dvalue * fn(params)."""
    if dvalue is None:
        return fn
    along = leaves(dvalue, "value", apart=True)
    return lambda params: sum((along[path] * array).sum() for path, array in leaves(fn(params), "value", apart=True).items())


def _has_gradients(result):
    """Whether fn has returned (value, gradients)."""
    return isinstance(result, tuple) and len(result) == 2


def _called(fn, params, point, template):
    """(What fn returns, params); a ValueError is raised if fn raises an error or changes its argument."""
    theirs = {path: leaf.copy() for path, leaf in template.items() if isinstance(leaf, np.ndarray)}
    result = _raising("fn", fn, params)
    for path, array in point.items():
        moved = path in theirs and not _same_bits(template[path], theirs[path])
        if moved or not _same_bits(frameworks.array_of(leaf_at(params, path)), array):
            raise ValueError(f"fn changes {path}; it must leave its argument as it is")
    return result, params


def _raising(name, function, *arguments):
    """What a user's function returns; where it raises an error, a ValueError with the name says so."""
    try:
        return function(*arguments)
    except Exception as error:  # it may raise any error
        raise ValueError(f"{name} raises an error at params, {type(error).__name__}: {error}") from error


def _outputs(value):
    """{path: array} of what fn returns."""
    outputs = {}
    for path, leaf in leaves(value, "value", apart=True).items():
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


MUST = "give the function its noise from outside, and let it leave its data as they are"


def _check_same(value, again):
    """Raise a ValueError if fn has not returned finite numbers, and the same ones twice; both arguments are {path: array}."""
    for path, array in value.items():
        if not np.all(np.isfinite(array)):
            raise ValueError(f"fn returns {array[~np.isfinite(array)][0]:g} at params; it must return finite numbers")
        if path not in again or again[path].shape != array.shape:
            raise ValueError(f"fn returns arrays of other shapes when it is called again with the same params: {MUST}")
        apart = ~(np.abs(array - again[path]) <= 1e-12 * np.max(np.abs(array), initial=0.0))
        if apart.any():
            index = tuple(np.argwhere(apart)[0])
            place = f"{label(path, index)} = " if path else ""
            raise ValueError(
                f"fn returns {place}{array[index].item()!r} at params, and {again[path][index].item()!r} when it is called again "
                f"with the same params: {MUST}"
            )


def _same_gradients(params, point, template, own, again):
    """{path: array} of gradients that fit the point; `again` are those of a second call."""
    first, second = (by_places(params, gradients) for gradients in (own, again))
    if first.keys() - template.keys():
        raise ValueError(f"gradients are of {', '.join(sorted(first))}; params are {', '.join(sorted(template))}")
    for path, array in point.items():
        if path not in first:
            raise ValueError(f"there is no gradient of {path}; if it is meant to have none, say only=[...]")
        if first[path].shape != array.shape:
            raise ValueError(f"the gradient of {path} has shape {first[path].shape}; {path} has {array.shape}")
        if path not in second or second[path].shape != array.shape:
            raise ValueError(f"the gradient of {path} has another shape when it is computed again with the same params: {MUST}")
        apart = ~np.isclose(first[path], second[path], 1e-9, 0, equal_nan=True)
        if apart.any():
            index = tuple(np.argwhere(apart)[0])
            raise ValueError(
                f"the gradient of {label(path, index)} is {first[path][index].item()!r} at params, and "
                f"{second[path][index].item()!r} when it is computed again with the same params: {MUST}"
            )
    return {path: first[path] for path in point}


def by_places(params: Any, gradients: Any) -> dict[str, NDArray]:
    """Copies of the gradients by the paths of params: where a container occurs twice, they may be given under either path."""
    template, found, names = leaves(params), {}, {}
    for name, array in real_arrays(leaves(gradients, apart=True), "the gradient of ").items():
        paths = [name] if name in template else paths_below(params, name)
        path = paths[0] if len(paths) == 1 else name
        if path in found and not np.array_equal(found[path], array, equal_nan=True):
            raise ValueError(f"{names[path]} and {name} are one array, but they have different gradients: give one of them")
        found[path], names[path] = array.copy(), name
    return found
