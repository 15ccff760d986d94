"""Parameters in any container: each array has a path, such as layers[1].W, and a container is rebuilt from its arrays."""

import dataclasses
import numbers
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np


def leaves(tree: Any, root: str = "params") -> dict[str, Any]:
    """Everything in a container that is no container itself, by its path.

    Parameters
    ----------
    tree : array, number, mapping, list, tuple, named tuple, dataclass
        The container, whose items may be containers. A list of numbers, or of lists of numbers, counts as an array.
    root : str
        What paths start with where the outermost container gives no name: an array alone, or the items of a list.

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
    for path, leaf in _walk(tree, "", root):
        if path in found:
            raise ValueError(f"two parameters are called {path}: give one of them another name")
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
        A new container of the same type.
    """
    return _rebuilt(tree, "", root, arrays)


def _children(tree):
    """[(how the path goes on, child)] of a container, or None for a leaf."""
    if isinstance(tree, Mapping):
        return [(f".{key}" if isinstance(key, str) else f"[{key!r}]", child) for key, child in tree.items()]
    if dataclasses.is_dataclass(tree) and not isinstance(tree, type):
        return [(f".{field.name}", getattr(tree, field.name)) for field in dataclasses.fields(tree)]
    if hasattr(tree, "_fields") and isinstance(tree, tuple):
        return [(f".{name}", child) for name, child in zip(tree._fields, tree)]
    if isinstance(tree, list | tuple) and not _is_array(tree):
        return [(f"[{i}]", child) for i, child in enumerate(tree)]
    return None


def _is_array(tree):
    """Whether a list holds numbers, or lists of numbers, and nothing else."""
    return len(tree) > 0 and all(
        _is_array(item) if isinstance(item, list | tuple) else isinstance(item, numbers.Number) for item in tree
    )


def _path(path, step, root):
    return step[1:] if not path and step.startswith(".") else (path or root) + step


def _walk(tree, path, root) -> Iterator[tuple[str, Any]]:
    children = _children(tree)
    if children is None:
        if tree is not None:
            yield path or root, tree
        return
    for step, child in children:
        yield from _walk(child, _path(path, step, root), root)


def _rebuilt(tree, path, root, arrays):
    children = _children(tree)
    if children is None:
        return arrays.get(path or root, tree)
    new = [_rebuilt(child, _path(path, step, root), root, arrays) for step, child in children]
    if isinstance(tree, Mapping):
        pairs = dict(zip(tree, new))
        return (
            type(tree)(pairs)
            if isinstance(tree, dict) and type(tree) is not dict and not hasattr(tree, "default_factory")
            else pairs
        )
    if dataclasses.is_dataclass(tree):
        return _with_fields(tree, [field.name for field in dataclasses.fields(tree)], new)
    return type(tree)(*new) if hasattr(tree, "_fields") else type(tree)(new)


def _with_fields(tree, names, values):
    """A copy of a dataclass with other fields; its own __init__ may take other arguments, so that it is not called."""
    copy = object.__new__(type(tree))
    for name, value in [*vars(tree).items(), *zip(names, values)] if hasattr(tree, "__dict__") else zip(names, values):
        object.__setattr__(copy, name, value)
    return copy
