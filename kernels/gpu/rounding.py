"""The layers at lower precisions: the operands of their products are rounded, and nothing else (see `kernels.reference`).

cuBLAS would round to TF32 by itself, but does not say in which direction: tensor cores may cut the last bits off. So a kernel
rounds to nearest before, and cuBLAS has nothing left to round.
"""

import functools
import threading
import types
from collections.abc import Callable
from typing import Any, cast

import cupy  # pyright: ignore[reportMissingImports]  # it is installed only where there is a GPU
import numpy as np

from vae_np.kernels.contract import LAYERS, Array, KernelSet, Number
from vae_np.kernels.gpu import layers, operations
from vae_np.kernels.gpu.device import about, launch, place
from vae_np.kernels.gpu.graph import capture

BFLOAT16, TF32 = 8, 11  # their significant bits
KERNELS = {BFLOAT16: ("to_bfloat16", np.uint16), TF32: ("to_tf32", np.uint32)}  # {bits: what rounds float32, and to what}
_lock = threading.Lock()  # one layer at a time: another one would overwrite its operands


@functools.cache
def _room(place: tuple[int, int, int], dtype: type[np.generic], operand: int, size: int) -> Any:
    """The array for the first or the second operand of the products of a place. It is kept, because graphs use it."""
    return cupy.empty(size, dtype)


def operands(bits: int, left: Array, right: Array) -> tuple[Array, Array]:
    """Return two operands, rounded to so many significant bits, as `device.product` takes them. The next call overwrites them.

    Nothing is allocated where the same operands were rounded before, as in a step that is captured. Rooms of powers of 2 take
    no more than four times the memory of the largest operand.
    """
    kernel, dtype, *more = KERNELS[bits] if left.dtype == np.float32 else ("to_bits", np.float64, bits)
    where = place()
    a, b = (
        _room(where, dtype, operand, 1 << array.size.bit_length())[: array.size].reshape(array.shape)
        for operand, array in enumerate((left, right))
    )
    launch("layers", kernel, left.dtype, a.size + b.size, left, a, a.size, right, b, b.size, *more)
    return a, b


def _layers(bits):
    """The layers that multiply, with their operands rounded to so many bits."""

    def of_rounded(layer):
        @functools.wraps(layer)
        def at_bits(left, right, *rest):
            with _lock:
                return layer(*operands(bits, left, right), *rest)

        return at_bits

    def affine_gradients(x: Array, dy: Array, W: Array, l2: Number, dW: Array, db: Array) -> tuple[Array, Array]:
        with _lock:
            layers.weight_gradient(*operands(bits, x, dy), W, l2, dW)
        layers.sum_rows(dy, db)
        return dW, db

    multiply = {name: of_rounded(vars(layers)[name]) for name in LAYERS if name.startswith("affine")}
    return multiply | {"affine_gradients": affine_gradients}


@functools.cache
def precisions() -> dict[str, dict[str, Callable[..., Any]]]:
    """Return the functions that take the place of the set's own at each precision."""
    return {"bfloat16": _at(BFLOAT16, "bfloat16"), "tfloat32": _at(TF32, "TF32")}


def _at(bits, name):
    own, functions = types.ModuleType(operations.__name__), _layers(bits)
    vars(own).update(vars(operations), **functions)
    captured = functools.partial(capture, kernel_set=cast(KernelSet, own))
    return functions | {"capture": captured, "about": functools.partial(about, name)}
