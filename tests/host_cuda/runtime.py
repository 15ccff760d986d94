"""The library that runs the threads of a kernel, for Python: the structures of interface.h, and one function."""

import ctypes
import functools
from typing import Any

from tests.host_cuda.compiler import build_runtime
from tests.host_cuda.settings import ORDERS, settings


def _structure(**fields: Any) -> Any:
    return type("Structure", (ctypes.Structure,), {"_fields_": list(fields.items())})


Argument = _structure(kind=ctypes.c_char, pointer=ctypes.c_bool, size=ctypes.c_short)
Entry = _structure(
    name=ctypes.c_char_p,
    kernel=ctypes.c_void_p,
    call=ctypes.c_void_p,
    bound=ctypes.c_int,
    count=ctypes.c_int,
    arguments=ctypes.POINTER(Argument),
)
Range = _structure(begin=ctypes.c_size_t, size=ctypes.c_size_t)
Report = _structure(
    address=ctypes.c_size_t,
    instruction=ctypes.c_size_t,
    line=ctypes.c_int,
    block=ctypes.c_uint * 3,
    thread=ctypes.c_uint * 3,
    text=ctypes.c_char * 256,
)


@functools.cache
def library() -> ctypes.PyDLL:
    """Return the library. It keeps Python's lock, so that one kernel runs at a time, and it is open for the modules."""
    runtime = ctypes.PyDLL(str(build_runtime()), mode=ctypes.RTLD_GLOBAL)
    runtime.host_cuda_launch.argtypes = [
        *[ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t],  # the kernel; the shared memory of its module
        *[ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p],  # the grid, the block and the arguments
        *[ctypes.c_int, ctypes.c_ulonglong, ctypes.c_ulonglong, ctypes.c_double],  # the order, its seed and the limits
        ctypes.c_void_p,  # the report
    ]
    return runtime


def launch(entry: Any, shared: Any, grid: tuple[int, ...], block: tuple[int, ...], arguments: Any) -> Any:
    """Run a kernel. Returns a Report if a thread broke a rule.

    Parameters
    ----------
    entry
        The Entry of the kernel.
    shared
        An array of Range: the shared memory of its module.
    arguments
        A ctypes array with the addresses of the arguments.
    """
    report = Report()
    failed = library().host_cuda_launch(
        ctypes.byref(entry),
        shared,
        len(shared),
        (ctypes.c_uint * 3)(*grid),
        (ctypes.c_uint * 3)(*block),
        arguments,
        ORDERS.index(settings.order),
        settings.generator.getrandbits(64),
        settings.most_turns,
        settings.most_seconds,
        ctypes.byref(report),
    )
    return report if failed else None
