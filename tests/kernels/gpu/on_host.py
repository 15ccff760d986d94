"""The GPU's kernel set with the host in the GPU's place: its lines of Python and its kernels, all run, but by no GPU."""

import contextlib
import importlib
import sys

from tests import host_cuda

NAME = "cupy on the host"


def _load():
    ours = [name for name in sys.modules if name.startswith("vae_np.kernels.gpu")]
    real = {name: sys.modules.pop(name) for name in ours}
    try:
        with host_cuda.installed():
            names = ("vae_np.kernels.gpu", "vae_np.kernels.gpu.device", "vae_np.kernels.gpu.graph")
            kernel_set, device, graph = map(importlib.import_module, names)
    finally:
        for name in [name for name in sys.modules if name.startswith("vae_np.kernels.gpu")]:
            del sys.modules[name]
        sys.modules.update(real)
    load_cublas, device.load_cublas = device.load_cublas, host_cuda.Cublas
    return kernel_set, device, graph, load_cublas


KERNELS, DEVICE, GRAPH, load_cublas = _load() if host_cuda.COMPILER else (None,) * 4


@contextlib.contextmanager
def blocks(block, most=4096, summing=None):
    """Within it launches are of so many threads a block, and of at most so many blocks; `summing` threads sum columns."""
    if not KERNELS:
        yield
        return
    operations = GRAPH.operations.layers
    before = DEVICE.BLOCK, DEVICE.MOST_BLOCKS, operations.SUMMING
    DEVICE.BLOCK, DEVICE.MOST_BLOCKS, operations.SUMMING = block, most, summing or operations.SUMMING
    try:
        yield
    finally:
        DEVICE.BLOCK, DEVICE.MOST_BLOCKS, operations.SUMMING = before
