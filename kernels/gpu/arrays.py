"""Arrays of the GPU: how they are made, and how they come from NumPy and go to it."""

from typing import Any

import cupy  # pyright: ignore[reportMissingImports]  # it is installed only where there is a GPU
import numpy as np
from numpy.typing import DTypeLike

from vae_np.kernels.contract import Array


def zeros(shape: int | tuple[int, ...], dtype: DTypeLike) -> Array:
    return cupy.zeros(shape, dtype)


def put(array: Array) -> Array:
    return array if isinstance(array, cupy.ndarray) else cupy.asarray(np.asarray(array, order="C"))


def get(array: Array) -> Array:
    return cupy.asnumpy(array) if isinstance(array, cupy.ndarray) else array


def pointer_to(array: Any) -> int:
    """Return the address of an array on the GPU."""
    return array.data.ptr


def number(value: Any, dtype: DTypeLike) -> Array:
    """Return a number as an array of no axes: a captured step reads it anew in every replay."""
    return value if isinstance(value, cupy.ndarray) else cupy.asarray(np.asarray(value, dtype))


def rows(x: Array) -> Array:
    """Return the array with one axis for all rows, be they examples or samples."""
    return x.reshape(-1, x.shape[-1])
