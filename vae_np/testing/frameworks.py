"""Arrays, values and gradients of PyTorch and JAX. Neither is imported here: an object of theirs is there only if they are."""

import contextlib
import numbers
import sys
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vae_np.testing.trees import is_object, leaves, rebuilt


def array_of(leaf: Any) -> NDArray | None:
    """The array of numbers that a leaf of a container is.

    Parameters
    ----------
    leaf : number, list of numbers, NumPy array, PyTorch tensor, JAX array, or any other object
        What `vae_np.testing.trees.leaves` finds. An object with the method `__array__`, such as a tensor of TensorFlow, counts.

    Returns
    -------
    array or None
        An array of NumPy: a NumPy array itself, and a copy of everything else. bfloat16, which NumPy does not have, becomes
        float32. None is returned for an object that is no array of numbers.
    """
    if is_torch(leaf):
        torch = sys.modules["torch"]
        tensor = leaf.detach().cpu().resolve_conj().resolve_neg()
        return np.array((tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy())
    if is_jax(leaf):
        with contextlib.suppress(TypeError):  # such as the key of a random generator
            array = np.array(leaf)
            return array.astype(np.float32) if array.dtype.name == "bfloat16" else array
        return None
    if not (isinstance(leaf, numbers.Number | list | tuple) or hasattr(leaf, "__array__")):
        return None
    with contextlib.suppress(ValueError):  # lists of different lengths
        array = np.asarray(leaf)
        return array if array.dtype.kind in "biufc" else None
    return None


def like(leaf: Any, array: NDArray) -> Any:
    """An array of NumPy as the leaf's own framework has it, with the dtype of the array and on the device of the leaf.

    Parameters
    ----------
    leaf : number, list of numbers, NumPy array, PyTorch tensor or JAX array
        An object of the wanted kind.
    array : array
        The numbers, such as those of float64 or complex128.

    Returns
    -------
    number, array or tensor
        A number if the leaf is one, else a copy in an array or a tensor.
    """
    if is_torch(leaf):
        return sys.modules["torch"].tensor(np.asarray(array), device=leaf.device)
    if is_jax(leaf):
        with double_precision():
            return sys.modules["jax"].device_put(np.array(array))
    return np.asarray(array)[()] if isinstance(leaf, numbers.Number) else np.array(array)


def value_of(value: Any) -> Any:
    """The number that a function returned as a number, or as an array or a tensor of one element; anything else as it is."""
    array = array_of(value)
    return value if array is None or array.size != 1 or isinstance(value, list | tuple) else array.reshape(())[()]


def real_arrays(tree: Any) -> dict[str, NDArray]:
    """The arrays of real numbers in a container by their paths, which may have gradients; other leaves are settings.

    Parameters
    ----------
    tree : container
        The container, as `vae_np.testing.trees.leaves` takes it.
    """
    arrays = {path: array_of(leaf) for path, leaf in leaves(tree).items()}
    return {path: array for path, array in arrays.items() if array is not None and array.dtype.kind == "f"}


def doubles(tree: Any) -> dict[str, Any]:
    """The arrays of real numbers in a container by their paths, in float64 and of their own frameworks; numbers are left out."""
    found = leaves(tree)
    arrays = {path: array for path, array in real_arrays(tree).items() if not isinstance(found[path], numbers.Number)}
    return {path: like(found[path], array.astype(np.float64)) for path, array in arrays.items()}


def in_double(tree: Any) -> Any:
    """A copy of a container in which arrays of real numbers are of float64; a number stays what it is.

    If an object has several names for one array of NumPy, the copy has them for one array, too.
    """
    arrays = doubles(tree)
    if is_object(tree):
        found = leaves(tree)
        first = {id(leaf): path for path, leaf in reversed(found.items()) if isinstance(leaf, np.ndarray)}
        arrays = {path: array for path, array in arrays.items() if first.get(id(found[path]), path) == path}
    return rebuilt(tree, arrays)


def automatic_gradient(fn: Callable[[Any], Any], params: Any) -> Any:
    """The gradient of a function by the automatic differentiation of its framework, in double precision.

    Parameters
    ----------
    fn : function
        fn(params) is a scalar of PyTorch or of JAX.
    params : container, or module of PyTorch
        The parameters. Leaves that are no tensors, or no JAX arrays, are constants.

    Returns
    -------
    dict of str to array, or None
        The gradients by the paths of `vae_np.testing.trees.leaves`: 0 where fn does not read a parameter. None is returned if no
        leaf is of PyTorch or of JAX.
    """
    found = {path: leaf for path, leaf in leaves(params).items() if of_framework(leaf)}
    real = {path: array for path, array in real_arrays(params).items() if path in found}
    if not real:
        return None
    with double_precision():
        point = {path: like(found[path], array.astype(np.float64)) for path, array in real.items()}
        by_framework = _by_torch if any(map(is_torch, point.values())) else _by_jax
        return {path: np.array(array_of(g)) for path, g in by_framework(fn, params, point).items()}


def _by_torch(fn, params, point):
    torch = sys.modules["torch"]
    params = rebuilt(params, point)
    inputs = {path: leaf.requires_grad_() for path, leaf in leaves(params).items() if path in point}
    gradients = torch.autograd.grad(fn(params).reshape(()), list(inputs.values()), allow_unused=True)
    return {path: torch.zeros_like(leaf) if g is None else g for (path, leaf), g in zip(inputs.items(), gradients)}


def _by_jax(fn, params, point):
    return sys.modules["jax"].grad(lambda leaves: fn(rebuilt(params, leaves)).reshape(()))(point)


@contextlib.contextmanager
def double_precision() -> Iterator[None]:
    """Within `with double_precision()` PyTorch and JAX compute in float64, where they have been imported.

    A function of a user holds data of float32, which would be a wrong dtype beside parameters of float64 (PyTorch), or would
    turn these into float32 (JAX). So tensors of float32 are raised to float64 wherever they are read.
    """
    torch: Any = sys.modules.get("torch")
    jax: Any = sys.modules.get("jax")
    with contextlib.ExitStack() as undo:
        if hasattr(jax, "jit"):
            undo.enter_context(jax.enable_x64(True) if hasattr(jax, "enable_x64") else jax.experimental.enable_x64())
        if hasattr(torch, "Tensor"):
            undo.callback(torch.set_default_dtype, torch.get_default_dtype())
            torch.set_default_dtype(torch.float64)
            undo.enter_context(_reading_in_double(torch))
        yield


IN_PLACE = ("__get__", "__set__", "__setitem__", "backward")  # the tensor itself is meant, and not its numbers


def _reading_in_double(torch):
    """A mode of PyTorch in which each function reads tensors of float32 as tensors of float64."""

    def raised(value):
        if isinstance(value, torch.Tensor):
            return value.double() if value.dtype == torch.float32 else value
        if isinstance(value, list | tuple) and type(value) in (list, tuple):
            return type(value)(map(raised, value))
        return torch.float64 if value is torch.float32 else value

    class Mode(torch.overrides.TorchFunctionMode):
        def __torch_function__(self, func, types, args=(), kwargs=None):
            kwargs, name = kwargs or {}, getattr(func, "__name__", "")
            in_place = name in IN_PLACE or (name.endswith("_") and not name.endswith("__")) or name.startswith("__i")
            if in_place or "out" in kwargs:
                return func(*args, **kwargs)
            func = torch.Tensor.double if func is torch.Tensor.float else func
            return func(*map(raised, args), **{key: raised(value) for key, value in kwargs.items()})

    return Mode()


def is_torch(leaf: Any) -> bool:
    """Whether an object is a tensor of PyTorch."""
    return isinstance(leaf, getattr(sys.modules.get("torch"), "Tensor", ()))


def is_jax(leaf: Any) -> bool:
    """Whether an object is an array of JAX."""
    return isinstance(leaf, getattr(sys.modules.get("jax"), "Array", ()))


def of_framework(leaf: Any) -> bool:
    """Whether an object is a tensor of PyTorch or an array of JAX."""
    return is_torch(leaf) or is_jax(leaf)
