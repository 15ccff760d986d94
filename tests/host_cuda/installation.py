"""The module `cupy` that code under test imports."""

import contextlib
import importlib.machinery
import sys
import types
from collections.abc import Iterator
from typing import Any

import numpy as np

from tests.host_cuda import arrays, errors, kernels, streams

DTYPES = "bool_ uint8 int8 uint16 int16 uint32 int32 uint64 int64 float32 float64"
ARRAYS = "ndarray empty full zeros empty_like zeros_like array asarray asnumpy copyto"
CUDA_VERSION = 13000


def _module(name: str, **contents: Any) -> types.ModuleType:
    module = types.ModuleType(name)
    module.__spec__, module.__path__ = importlib.machinery.ModuleSpec(name, None), []
    vars(module).update(contents)
    return module


def _modules() -> list[types.ModuleType]:
    """The module cupy and its submodules."""
    runtime = _module(
        "cupy.cuda.runtime",
        CUDARuntimeError=errors.CUDARuntimeError,
        memcpyAsync=streams.memcpyAsync,
        memsetAsync=streams.memsetAsync,
        deviceSynchronize=streams.device_synchronize,
        getDeviceCount=lambda: 1,
        getDevice=lambda: 0,
        runtimeGetVersion=lambda: CUDA_VERSION,
        driverGetVersion=lambda: CUDA_VERSION,
        getDeviceProperties=lambda device: {"name": b"host", "multiProcessorCount": 4, "major": 9, "minor": 0},
        streamLegacy=1,
        streamPerThread=streams.PER_THREAD,
        memcpyDeviceToDevice=streams.MEMCPY_DEVICE_TO_DEVICE,
        memcpyDefault=streams.MEMCPY_DEFAULT,
        streamCaptureModeGlobal=streams.GLOBAL,
        streamCaptureModeThreadLocal=streams.THREAD_LOCAL,
        streamCaptureModeRelaxed=streams.RELAXED,
    )
    cuda = _module(
        "cupy.cuda",
        runtime=runtime,
        Stream=streams.Stream,
        Event=streams.Event,
        Graph=streams.Graph,
        Device=streams.Device,
        get_current_stream=streams.get_current_stream,
        MemoryPointer=arrays.MemoryPointer,
        is_available=lambda: True,
        device=types.SimpleNamespace(get_cublas_handle=lambda: 1),
        compiler=types.SimpleNamespace(CompileException=errors.CompileException),
        driver=types.SimpleNamespace(CUDADriverError=errors.CUDADriverError),
    )
    cupy = _module(
        "cupy",
        __version__="14.0.0",
        cuda=cuda,
        RawModule=kernels.RawModule,
        RawKernel=kernels.RawKernel,
        **{name: vars(arrays)[name] for name in ARRAYS.split()},
        **{name: vars(np)[name] for name in DTYPES.split()},
    )
    return [cupy, cuda, runtime]


def _remove() -> dict[str, types.ModuleType]:
    """Remove CuPy and its submodules from the modules that are imported, and return them."""
    return {name: sys.modules.pop(name) for name in list(sys.modules) if name.split(".")[0] == "cupy"}


@contextlib.contextmanager
def installed() -> Iterator[types.ModuleType]:
    """Within it `import cupy` gives the stand-in."""
    modules = _modules()
    before = _remove()
    sys.modules.update({module.__name__: module for module in modules})
    try:
        yield modules[0]
    finally:
        _remove()
        sys.modules.update(before)
        streams.forget_captures()
