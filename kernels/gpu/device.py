"""The GPU: its kernels, compiled by NVRTC when first asked for, and its matrix products, by cuBLAS.

All work goes to CuPy's current stream. cuBLAS is called directly: CuPy's own functions refuse to be captured in a graph.
"""

import ctypes
import functools
import os
import pathlib
import sys
import threading

import cupy
import numpy as np

from vae_np.kernels import reference

BLOCK, MOST_BLOCKS = 256, 4096  # threads; beyond so many blocks each thread takes more elements
FOLDER = pathlib.Path(__file__).parent
REALS = {"float32": "float", "float64": "double"}
WORKSPACE = 32 * 2**20  # bytes for cuBLAS, which in a graph must not look for any itself
_lock = threading.Lock()  # one product at a time: it may be several kernels, and those of another would change its workspace


def _series(coefficients):
    return ",".join(float(c).hex() for c in coefficients)


CONSTANTS = {  # of the random numbers, as exact as the reference has them
    "LOG_SERIES": _series(reference.LOG_SERIES),
    "COS_SERIES": _series(reference.COS_SERIES),
    "SIN_SERIES": _series(reference.SIN_SERIES),
    "LOG_2": float(np.log(2)).hex(),
    "SQRT_HALF": float(np.sqrt(0.5)).hex(),
    "QUARTER_TURN": (2.0**-30 * (np.pi / 2)).hex(),
}
SOURCES = {"operations": (), "batches": ("--fmad=false",), "steps": ()}


def source(name, real):
    """(text, options) of one of the sources for a dtype's name, as NVRTC takes them; CuPy adds --ftz=true, which wins."""
    text = (FOLDER / "common.cuh").read_text(encoding="utf-8") + (FOLDER / f"{name}.cu").read_text(encoding="utf-8")
    macros = {"REAL": REALS[real], **(CONSTANTS if name == "batches" else {})}
    return text, ("--std=c++17", *SOURCES[name], *(f"-D{macro}={value}" for macro, value in macros.items()))


@functools.cache
def module(name, real):
    """One of the sources, compiled, or read from CuPy's cache."""
    text, options = source(name, real)
    return cupy.RawModule(code=text, options=options)


@functools.cache
def kernel(name, kernel_name, real):
    return module(name, real).get_function(kernel_name)


def launch(name, kernel_name, real, n, *arguments, block=None, per_block=None):
    """Run a kernel on n elements, so many of them to a block. Arrays go as pointers, int as long long, float as double."""
    if n:
        block = block or BLOCK
        blocks = min(-(-n // (per_block or block)), MOST_BLOCKS)
        kernel(name, kernel_name, np.dtype(real).name)((blocks,), (block,), arguments)


# ----------------------------------------------------------------------------------------------------------- products

KEEP, TURN = 0, 1  # CUBLAS_OP_N, CUBLAS_OP_T
PLAIN, TF32 = 0, 3  # CUBLAS_DEFAULT_MATH, CUBLAS_TF32_TENSOR_OP_MATH


def math_mode():
    """Products are rounded to TF32 only where the environment sets VAE_NP_TF32=1."""
    return TF32 if os.environ.get("VAE_NP_TF32") == "1" else PLAIN


def about():
    """The GPU, and how it multiplies matrices."""
    name = cupy.cuda.runtime.getDeviceProperties(cupy.cuda.Device().id)["name"].decode()
    return f"matrix products of cuBLAS on {name}, {'rounded to TF32' if math_mode() == TF32 else 'in full precision'}"


def load_cublas():
    """The cuBLAS that CuPy has loaded."""
    cupy.cuda.device.get_cublas_handle()
    major = cupy.cuda.runtime.runtimeGetVersion() // 1000
    return ctypes.CDLL(f"cublas64_{major}.dll" if sys.platform == "win32" else f"libcublas.so.{major}")


def checked(status, what):
    if status:
        raise RuntimeError(f"cuBLAS's {what} failed with status {status}")


@functools.cache
def cublas(device, stream):
    """(library, handle, workspace) for the stream of that address: two streams at work must not share a workspace."""
    library, handle, workspace = load_cublas(), ctypes.c_void_p(), cupy.empty(WORKSPACE, np.uint8)
    checked(library.cublasCreate_v2(ctypes.byref(handle)), "cublasCreate")
    checked(library.cublasSetMathMode(handle, math_mode()), "cublasSetMathMode")
    checked(library.cublasSetStream_v2(handle, ctypes.c_void_p(stream)), "cublasSetStream")
    # After the stream, which takes the workspace away.
    space = ctypes.c_void_p(workspace.data.ptr), ctypes.c_size_t(workspace.nbytes)
    checked(library.cublasSetWorkspace_v2(handle, *space), "cublasSetWorkspace")
    return library, handle, workspace


def product(a, b, c, a_as=KEEP, b_as=KEEP, add=False):
    """c = a @ b, or c += a @ b, of matrices by rows, a or b turned          c (M, N)

    To cuBLAS, which reads by columns, each is its own transpose: it is asked for c.T = b.T @ a.T.
    """
    (M, N), K = c.shape, a.shape[0] if a_as == TURN else a.shape[1]
    if not (M and N):
        return
    real = ctypes.c_float if c.dtype == np.float32 else ctypes.c_double
    one, beta = ctypes.byref(real(1)), ctypes.byref(real(1 if add else 0))
    A, B, C = (ctypes.c_void_p(array.data.ptr) for array in (a, b, c))
    sizes = b_as, a_as, N, M, K
    with _lock:
        library, handle, _ = cublas(cupy.cuda.Device().id, cupy.cuda.get_current_stream().ptr)
        gemm = library.cublasSgemm_v2 if c.dtype == np.float32 else library.cublasDgemm_v2
        checked(gemm(handle, *sizes, one, B, b.shape[1], A, a.shape[1], beta, C, N), "gemm")
