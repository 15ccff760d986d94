"""The GPU's kernel set where the host stands for the GPU: its lines of Python and its CUDA kernels, without a GPU.

KERNELS is the set, or None where kernels cannot be compiled for the host. DEVICE, GRAPH, LAUNCHES and FUSION are its modules of
these names.
`load_cublas` is the function that loads the real cuBLAS; in DEVICE the stand-in for cuBLAS has its place.
"""

import contextlib
import importlib
import sys
from collections.abc import Iterator
from typing import Any

from tests import host_cuda

NAME = "cupy on the host"


def _take_modules():
    """Remove the modules of the GPU's kernel set from those that are imported, and return them."""
    return {name: sys.modules.pop(name) for name in list(sys.modules) if name.startswith("vae_np.kernels.gpu")}


def _load():
    before = _take_modules()
    try:
        with host_cuda.installed():
            names = [
                "vae_np.kernels.gpu",
                *(f"vae_np.kernels.gpu.{name}" for name in ("device", "graph", "launches", "fusion")),
            ]
            kernel_set, device, graph, launches, fusion = map(importlib.import_module, names)
    finally:
        _take_modules()
        sys.modules.update(before)
    load_cublas, device.load_cublas = device.load_cublas, host_cuda.Cublas
    return kernel_set, device, graph, launches, fusion, load_cublas


KERNELS: Any
DEVICE: Any
GRAPH: Any
LAUNCHES: Any
FUSION: Any
KERNELS, DEVICE, GRAPH, LAUNCHES, FUSION, load_cublas = _load() if host_cuda.COMPILER else (None,) * 6


@contextlib.contextmanager
def blocks(block: int, most: int = 4096, summing: int | None = None) -> Iterator[None]:
    """Within it launches have other sizes.

    Parameters
    ----------
    block
        The number of threads in a block.
    most
        The largest number of blocks.
    summing
        The number of threads that sum columns together. None leaves it as it is.
    """
    if not KERNELS:
        yield
        return
    layers = GRAPH.operations.layers
    before = DEVICE.BLOCK, DEVICE.MOST_BLOCKS, layers.SUMMING
    DEVICE.BLOCK, DEVICE.MOST_BLOCKS, layers.SUMMING = block, most, summing or layers.SUMMING
    try:
        yield
    finally:
        DEVICE.BLOCK, DEVICE.MOST_BLOCKS, layers.SUMMING = before
