"""Parameters in any container: each array has a path, such as layers[1].W, and a container is rebuilt from its arrays."""

import collections
import copy
import dataclasses
import functools
import numbers
import types
import weakref
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

REFERENCES = types.MethodType, types.ModuleType, functools.partial, weakref.ref  # they are no containers, and no leaves


def leaves(tree: Any, root: str = "params", *, apart: bool = False) -> dict[str, Any]:
    """Everything in a container that is no container itself, by its path.

    Parameters
    ----------
    tree : array, number, mapping, list, tuple, named tuple, dataclass, torch module, or other object
        The container, whose items may be containers. A list of numbers, or of lists of numbers, counts as an array. Of an
        object that is none of the others, the leaves are the arrays among its attributes.
    root : str
        What a path starts with where the outermost container gives no name: an array alone, or an item of a list.
    apart : bool
        Whether a container that occurs twice counts as two, as it does among values and gradients. Parameters in it are the
        same ones at both places: they are given once, under the shortest path.

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
    for path, leaf in _walk(tree, "", root, None if apart else _places(tree, root), set()):
        if path in found:
            raise ValueError(f"two arrays in the container are called {path}: give one of them another name")
        found[path] = leaf
    return found


def rebuilt(tree: Any, arrays: Mapping[str, Any], root: str = "params", *, apart: bool = False) -> Any:
    """The same container, with these leaves in the places of its own.

    What occurs twice in the container occurs twice in the new one: containers, and arrays of NumPy of which one place is among
    `arrays`. Bound methods, closures and other references to its parts refer to the new parts.

    Parameters
    ----------
    tree : container
        The container, as `leaves` takes it. It stays as it is.
    arrays : mapping of str to object
        What stands at each path. A leaf whose path is not among them stays.
    root, apart
        The same as for `leaves`.

    Returns
    -------
    container
        A new container of the same type; a dict where the container is a mapping that cannot hold such leaves.
    """
    return rebuilder(tree, root, apart=apart)(arrays)


def rebuilder(tree: Any, root: str = "params", *, apart: bool = False) -> Callable[[Mapping[str, Any]], Any]:
    """A function of `arrays` that does as `rebuilt`, for many calls: it looks only once at what occurs twice."""
    places = None if apart else _places(tree, root)
    walked = () if places is None else _walk(tree, "", root, places, set())
    known = [(path, leaf) for path, leaf in walked if isinstance(leaf, np.ndarray)]
    return lambda arrays: _Rebuilding(arrays, root, places, known).new(tree, "", {})


def paths_below(tree: Any, path: str, root: str = "params") -> list[str]:
    """The paths by which `leaves` knows what stands at a path or below it: what occurs twice stands at more than one.

    Parameters
    ----------
    tree, root
        The container, as `leaves` takes it.
    path : str
        The path of a leaf or of a container; there is nothing below an unknown one.
    """
    places, at = _places(tree, root), _at(tree, path, "", root)
    if at is None:
        return []
    parent, step, child = at
    return [below for below, _ in _walk(child, _path(places[id(parent)][0], step, root), root, places, set())]


def leaf_at(tree: Any, path: str, root: str = "params") -> Any:
    """What stands at a path, which need not be the one by which `leaves` knows it; None if nothing does."""
    at = _at(tree, path, "", root)
    return at[-1] if at else tree if path == root else None


def is_part(path: str, name: str) -> bool:
    """Whether a path is this one, or goes on from it."""
    return path == name or path.startswith((f"{name}.", f"{name}["))


def is_object(tree: Any) -> bool:
    """Whether a container is an object with attributes: no array, mapping, dataclass, function or module of Python."""
    known = isinstance(tree, Mapping | list | tuple | type) or dataclasses.is_dataclass(tree) or hasattr(tree, "__array__")
    code = isinstance(tree, (*REFERENCES, types.FunctionType))
    return hasattr(tree, "__dict__") and not known and not code and not _is_module(tree)


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


def _places(tree, root) -> dict[int, tuple[str, Any]]:
    """{id of a container: (its shortest path, the container itself, so that no other one can get its id)}."""
    places, queue = {}, collections.deque([("", tree)])
    while queue:
        path, container = queue.popleft()
        children = None if id(container) in places else _children(container)
        if children is not None:
            places[id(container)] = path, container
            queue.extend((_path(path, step, root), child) for step, child in children)
    return places


def _walk(tree, path, root, places, seen) -> Iterator[tuple[str, Any]]:
    """Yield the leaves by their paths; without places a container is left out only where it is within itself."""
    children = _children(tree)
    if children is None:
        if tree is not None and not isinstance(tree, REFERENCES):
            yield path or root, tree
    elif id(tree) not in seen:
        if places is None:
            seen = {*seen, id(tree)}
        else:
            seen.add(id(tree))
            path, _ = places.get(id(tree), (path, tree))
        for step, child in children:
            yield from _walk(child, _path(path, step, root), root, places, seen)


def _at(tree, path, above, root):
    """(the container, the step from it, what stands there) of a path, or None."""
    for step, child in _children(tree) or ():
        here = _path(above, step, root)
        if here == path:
            return tree, step, child
        if is_part(path, here) and (found := _at(child, path, here, root)):
            return found
    return None


class _Rebuilding:
    """How the parts of a container are rebuilt: `memo` is {id of an old part: (the old part, the new one)}, as in copy.deepcopy."""

    def __init__(self, arrays, root, places, known):
        self.arrays, self.root, self.places, self.apart = arrays, root, places or {}, places is None
        self.same = {id(leaf): arrays[path] for path, leaf in known if path in arrays}

    def new(self, tree, path, memo):
        """The new part at a path; None stands for the path of what `leaves` does not see."""
        if id(tree) in memo:
            return memo[id(tree)][1]
        path, _ = self.places.get(id(tree), (path, tree))
        children = _children(tree)
        if children is None or (path is None and type(tree) not in (dict, list, tuple)):
            return self.new_leaf(tree, path, memo)
        if self.apart:
            memo = dict(memo)  # the same container beside this one is another one
        if _is_module(tree):
            memo[id(tree)] = tree, _module_with(tree, self.new_children(path, children, memo))
        elif isinstance(tree, Mapping):
            self.new_mapping(tree, path, children, memo)
        elif isinstance(tree, tuple):
            items = self.new_children(path, children, memo)
            kind: Any = type(tree)
            memo.setdefault(id(tree), (tree, kind(*items) if hasattr(tree, "_fields") else kind(items)))
        else:
            self.new_object(tree, path, children, memo)
        return memo[id(tree)][1]

    def new_children(self, path, children, memo):
        return [self.new(child, None if path is None else _path(path, step, self.root), memo) for step, child in children]

    def new_mapping(self, tree, path, children, memo):
        try:
            changed = {} if type(tree) is dict else copy.deepcopy(tree)
        except Exception:  # the type is another's, and may raise any error
            changed = {}
        memo[id(tree)] = tree, changed
        items = dict(zip(tree, self.new_children(path, children, memo)))
        try:
            _set_items(changed, items)
        except Exception:
            memo[id(tree)] = tree, items
        if getattr(tree, "__dict__", None) is tree:  # its items are its attributes
            changed.__dict__ = changed

    def new_object(self, tree, path, children, memo):
        """A list, a dataclass or another object: its copy is known before its parts are, which may refer to it."""
        changed = copy.copy(tree)
        memo[id(tree)] = tree, changed
        if changed is tree:  # there is only one such object
            return
        values = self.new_children(path, children, memo)
        if isinstance(tree, list):
            changed[:] = values
            return
        attributes = {step[1:]: value for (step, _), value in zip(children, values)}
        others = {name: value for name, value in getattr(tree, "__dict__", {}).items() if name not in attributes}
        attributes |= {name: self.new(value, None, memo) for name, value in others.items()}  # of a dataclass that are no fields
        for name, value in attributes.items():
            object.__setattr__(changed, name, value)  # a dataclass may be frozen

    def new_leaf(self, leaf, path, memo):
        if path is not None and (path or self.root) in self.arrays:
            return self.arrays[path or self.root]
        if id(leaf) in self.same:
            return self.same[id(leaf)]

        def new(thing) -> Any:
            """The thing itself, if it neither belongs to the container nor refers to it."""
            mine = id(thing) in self.places or isinstance(thing, (*REFERENCES, types.FunctionType, np.ndarray))
            return self.new(thing, None, memo) if mine else thing

        if isinstance(leaf, types.MethodType):
            return types.MethodType(leaf.__func__, new(leaf.__self__))
        if isinstance(leaf, functools.partial):
            keywords = {name: new(value) for name, value in leaf.keywords.items()}
            return functools.partial(new(leaf.func), *map(new, leaf.args), **keywords)
        if isinstance(leaf, weakref.ref) and (thing := leaf()) is not None:
            return weakref.ref(new(thing))
        if isinstance(leaf, types.FunctionType):
            memo[id(leaf)] = leaf, leaf  # it may refer to itself
            memo[id(leaf)] = leaf, _function_with(leaf, new)
            return memo[id(leaf)][1]
        return leaf


def _function_with(function, new):
    """The function whose closure and default arguments are new; itself, if they are not."""

    def new_cell(cell):
        try:
            content = cell.cell_contents
        except ValueError:  # the variable has no value
            return cell
        return cell if (changed := new(content)) is content else types.CellType(changed)

    old_cells, old_defaults = function.__closure__ or (), function.__defaults__ or ()
    cells, defaults = tuple(map(new_cell, old_cells)), tuple(map(new, old_defaults))
    if all(a is b for a, b in zip(cells + defaults, old_cells + old_defaults)):
        return function
    changed = types.FunctionType(function.__code__, function.__globals__, function.__name__, defaults, cells)
    changed.__kwdefaults__ = function.__kwdefaults__
    changed.__dict__.update(function.__dict__)
    return changed


def _set_items(mapping, items):
    for key, value in items.items():
        if key in mapping and isinstance(value, np.ndarray) and isinstance(mapping[key], np.ndarray):
            mapping[key][...] = _of_dtype(value, mapping[key].dtype)  # views of one buffer stay what they are
        else:
            mapping[key] = value


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
