"""The operations of `kernels.reference` for the CPU, compiled by Numba."""

import functools
from collections.abc import Callable
from typing import Any

from vae_np.kernels.cpu.emit import VECTOR
from vae_np.kernels.cpu.operands import layers_of_pairs
from vae_np.kernels.cpu.product import about, about_pairs
from vae_np.kernels.cpu.program import at_once, capture, edges
from vae_np.kernels.cpu.recording import OPERATIONS
from vae_np.kernels.reference import get, layers_of_rounded, put, zeros

globals().update(OPERATIONS)


def precisions() -> dict[str, dict[str, Callable[..., Any] | None]]:
    """Products of pairs of bfloat16 numbers; those of NumPy, call by call, where the vectors of the processor are not known."""
    of_both = {"at_once": None, "about": about_pairs}
    if not VECTOR:
        return {"bfloat16": layers_of_rounded(8) | of_both | {"capture": None, "edges": None}}
    return {"bfloat16": layers_of_pairs() | of_both | {"capture": functools.partial(capture, are_pairs=True)}}
