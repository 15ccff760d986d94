"""The operations of `kernels.reference` for the CPU, compiled by Numba."""

import functools
from collections.abc import Callable
from typing import Any

from vae_np.kernels.cpu.emit import VECTOR
from vae_np.kernels.cpu.operands import layers_of_pairs
from vae_np.kernels.cpu.product import about, about_pairs
from vae_np.kernels.cpu.program import at_once, begin, capture, edges
from vae_np.kernels.cpu.recording import OPERATIONS
from vae_np.kernels.reference import get, layers_of_rounded, put, zeros

globals().update(OPERATIONS)


def precisions() -> dict[str, dict[str, Callable[..., Any] | None]]:
    """Products of pairs of bfloat16 numbers; those of NumPy, call by call, where the vectors of the processor are not known."""
    if not VECTOR:
        without_programs = dict.fromkeys(("begin", "capture", "edges", "at_once"))
        return {"bfloat16": layers_of_rounded(8) | without_programs | {"about": about_pairs}}
    of_programs = {"begin": begin, "capture": capture}
    of_programs = {name: functools.partial(function, are_pairs=True) for name, function in of_programs.items()}
    return {"bfloat16": layers_of_pairs() | of_programs | {"at_once": None, "about": about_pairs}}
