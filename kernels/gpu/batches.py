"""The batches of `kernels.reference` and their random numbers on the GPU. No function waits for the GPU."""

import numpy as np

from vae_np.kernels.contract import Array
from vae_np.kernels.gpu.arrays import number
from vae_np.kernels.gpu.device import launch


def _whole_numbers(array):
    """The array, if it holds int64: the kernel would read any other as if it did."""
    if array.dtype != np.int64:
        raise TypeError(f"the numbers of rows are {array.dtype}; they must be int64")
    return array


def gather(data: Array, rows: Array, x: Array) -> Array:
    launch("batches", f"gather_{data.dtype.name}", x.dtype, x.size, data, _whole_numbers(rows), x, *x.shape)
    return x


def normals(key: int | np.uint64, step: int | Array, examples: Array, eps: Array) -> Array:
    L, B, Z = eps.shape
    counters = L * B * -(-Z // 4)
    numbers = np.uint64(key), number(step, np.int64), _whole_numbers(examples)
    launch("batches", "normals", eps.dtype, counters, *numbers, eps, L, B, Z)
    return eps


def binarize(pixels: Array, key: int | np.uint64, step: int | Array, examples: Array, x: Array) -> Array:
    B, D = x.shape
    counters = B * -(-D // 4)
    numbers = np.uint64(key), number(step, np.int64), _whole_numbers(examples)
    launch("batches", "binarize", x.dtype, counters, pixels, *numbers, x, B, D)
    return x
