"""Parameters in any container: each array has a path, such as layers[1].W, and a container is rebuilt from its arrays."""

import copy
import dataclasses
import numbers
import types
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np


def leaves(tree: Any, root: str = "params") -> dict[str, Any]:
    """Everything in a container that is no container itself, by its path.

    Parameters
    ----------
    tree : array, number, mapping, list, tuple, named tuple, dataclass, torch module, or other object
        The container, whose items may be containers. A list of numbers, or of lists of numbers, counts as an array. Of an
        object that is none of the others, the leaves are the arrays among its attributes.
    root : str
        What a path starts with where the outermost container gives no name: an array alone, or an item of a list.

    Returns
    -------
    dict of str to object
        The leaves by their paths, in order. None is left out.

    Raises
    ------
    ValueError
        Two leaves have the same path.

    Examples
    --------
    >>> from vae_np.testing.trees import leaves
    >>> leaves({"layers": [{"W": 1.0}, {"W": 2.0}]})
    {'layers[0].W': 1.0, 'layers[1].W': 2.0}
    """
    found: dict[str, Any] = {}
    for path, leaf in _walk(tree, "", root, ()):
        if path in found:
            raise ValueError(f"two arrays in the container are called {path}: give one of them another name")
        found[path] = leaf
    return found


def rebuilt(tree: Any, arrays: Mapping[str, Any], root: str = "params") -> Any:
    """The same container, with these leaves in the places of its own.

    Parameters
    ----------
    tree : container
        The container, as `leaves` takes it. It stays as it is.
    arrays : mapping of str to object
        What stands at each path. A leaf whose path is not among them stays.
    root : str
        The same as for `leaves`.

    Returns
    -------
    container
        A new container of the same type; a dict where the container is a mapping that cannot hold such leaves.
    """
    return _rebuilt(tree, "", root, arrays, ())


def is_object(tree: Any) -> bool:
    """Whether a container is an object with attributes: no array, no mapping, no dataclass and no function."""
    known = isinstance(tree, Mapping | list | tuple | type) or dataclasses.is_dataclass(tree) or hasattr(tree, "__array__")
    return hasattr(tree, "__dict__") and not known and not _is_module(tree) and not isinstance(tree, types.FunctionType)


def _children(tree):
    """[(how the path goes on, child)] of a container, or None for a leaf."""
    if _is_module(tree):
        return [(f".{name}", array) for name, array in tree.named_parameters()]
    if isinstance(tree, Mapping):
        return [(f".{key}" if isinstance(key, str) else f"[{key!r}]", child) for key, child in tree.items()]
    if dataclasses.is_dataclass(tree) and not isinstance(tree, type):
        return [(f".{field.name}", getattr(tree, field.name)) for field in dataclasses.fields(tree)]
    if isinstance(tree, tuple) and (names := getattr(tree, "_fields", None)):
        return [(f".{name}", child) for name, child in zip(names, tree)]
    if isinstance(tree, list | tuple) and not _is_array(tree):
        return [(f"[{i}]", child) for i, child in enumerate(tree)]
    if is_object(tree):
        return [(f".{name}", child) for name, child in vars(tree).items() if not isinstance(child, numbers.Number | str)]
    return None


def _is_module(tree):
    """Whether this is a module of PyTorch, which is not imported for that."""
    return hasattr(tree, "named_parameters") and not isinstance(tree, type)


def _is_array(items):
    """Whether a list holds numbers, or lists of numbers, and nothing else."""
    return len(items) > 0 and all(
        _is_array(item) if isinstance(item, list | tuple) else isinstance(item, numbers.Number) for item in items
    )


def _path(path, step, root):
    return step[1:] if not path and step.startswith(".") else (path or root) + step


def _walk(tree, path, root, above) -> Iterator[tuple[str, Any]]:
    children = None if id(tree) in above else _children(tree)  # objects may refer to each other in a circle
    if children is not None:
        for step, child in children:
            yield from _walk(child, _path(path, step, root), root, (*above, id(tree)))
    elif tree is not None and not is_object(tree):
        yield path or root, tree


def _rebuilt(tree, path, root, arrays, above):
    children = None if id(tree) in above else _children(tree)
    if children is None:
        return arrays.get(path or root, tree)
    paths = [_path(path, step, root) for step, _ in children]
    new = [_rebuilt(child, at, root, arrays, (*above, id(tree))) for (_, child), at in zip(children, paths)]
    if _is_module(tree):
        return _module_with(tree, new)
    if isinstance(tree, Mapping):
        return _mapping_with(tree, dict(zip(tree, new)))
    if isinstance(tree, list | tuple):
        return type(tree)(*new) if hasattr(tree, "_fields") else type(tree)(new)
    changed = copy.copy(tree)
    for (step, _), value in zip(children, new):
        object.__setattr__(changed, step[1:], value)  # a dataclass may be frozen
    return changed


def _mapping_with(tree, items):
    if type(tree) is dict:
        return items
    try:
        changed = copy.deepcopy(tree)
        for key, value in items.items():
            if isinstance(value, np.ndarray) and isinstance(changed[key], np.ndarray):
                changed[key][...] = _of_dtype(value, changed[key].dtype)  # views of one buffer stay what they are
            else:
                changed[key] = value
    except Exception:  # the type is another's, and may raise any error
        return items
    return changed


def _of_dtype(array, dtype):
    if array.dtype != dtype:
        raise TypeError(f"an array of {dtype} does not hold {array.dtype}")
    return array


def _module_with(module, values):
    """A copy of a module of PyTorch in float64 with other parameters; one that several layers share stays shared."""
    module = copy.deepcopy(module).double()
    new = {id(old): type(old)(value.detach()) for old, value in zip(module.parameters(), values)}
    for layer in module.modules():
        for name, old in layer.named_parameters(recurse=False):
            setattr(layer, name, new[id(old)])
    return module
