"""The GPU: its kernels, which NVRTC compiles when they are first used, and its matrix products, which are those of cuBLAS.

All work goes to the current stream of CuPy. cuBLAS is called directly, because CuPy's own functions cannot be captured in a
graph.
"""

import ctypes
import functools
import os
import pathlib
import re
import sys
import threading
import warnings
from collections.abc import Iterable, Sequence
from typing import Any

import cupy  # pyright: ignore[reportMissingImports]  # it is installed only where there is a GPU
import numpy as np
from numpy.typing import DTypeLike

from vae_np.kernels import reference
from vae_np.kernels.contract import Array
from vae_np.kernels.gpu.arrays import pointer_to
from vae_np.kernels.gpu.launches import Launch, memory, submit

BLOCK, MOST_BLOCKS = 256, 4096  # threads of a block, and blocks: where there are more elements, each thread takes several
FOLDER = pathlib.Path(__file__).parent
REALS = {"float32": "float", "float64": "double"}
ABSENT = np.uint64(0)  # the address of an array that a kernel may be called without
LARGEST_INDEX = 2**31 - 2**21  # of 32 bits, where a stride over all threads follows
WORKSPACE = 32 * 2**20  # bytes for cuBLAS, which must not allocate any while a graph is captured
_lock = threading.Lock()  # one product at a time: it may be several kernels, and another one would overwrite their workspace


def _series(coefficients: Iterable[float]) -> str:
    """The coefficients as hexadecimal numbers of C, which are exact."""
    return ",".join(float(c).hex() for c in coefficients)


CONTINUOUS_BERNOULLI = {
    "COTH_SERIES": _series(reference.COTH_SERIES),
    "SINH_SERIES": _series(reference.SINH_SERIES),
    "NEAR_0": float(reference.NEAR_0).hex(),
}
CONSTANTS = {  # for the random numbers, exactly those of the reference
    "LOG_SERIES": _series(reference.LOG_SERIES),
    "COS_SERIES": _series(reference.COS_SERIES),
    "SIN_SERIES": _series(reference.SIN_SERIES),
    "LOG_2": float(np.log(2)).hex(),
    "SQRT_HALF": float(np.sqrt(0.5)).hex(),
    "QUARTER_TURN": (2.0**-30 * (np.pi / 2)).hex(),
}
MACROS = {"batches": CONSTANTS, "losses": CONTINUOUS_BERNOULLI}
# The source files, and their own options: without fused multiply-adds the random numbers have the bits of the reference.
SOURCES: dict[str, tuple[str, ...]] = {
    "layers": (),
    "losses": (),
    "updates": (),
    "batches": ("--fmad=false",),
    "steps": (),
    "fused": (),
}


def source(name: str, real: str, index: str = "int") -> tuple[str, tuple[str, ...]]:
    """Return a source file as NVRTC takes it: (text, options).

    Parameters
    ----------
    name
        One of SOURCES.
    real
        The name of a dtype. In single precision subnormal numbers are flushed: CuPy adds --ftz=true to the options.
    index
        "int" or "long long": the type of sizes and indices. Those of 32 bits take fewer instructions and registers.
    """
    text = (FOLDER / "common.cuh").read_text(encoding="utf-8") + (FOLDER / f"{name}.cu").read_text(encoding="utf-8")
    macros = {"REAL": REALS[real], "INDEX": index, **MACROS.get(name, {})}
    return text, ("--std=c++17", *SOURCES[name], *(f"-D{macro}={value}" for macro, value in macros.items()))


@functools.cache
def accesses(name: str) -> dict[str, list[str]]:
    """Return {kernel: for each of its arguments "reads", "writes" or "number"} of a source file: what is const is only read."""
    text, _ = source(name, "float64")
    kinds = {True: "reads", False: "writes"}
    return {
        kernel: [kinds["const" in p] if "*" in p else "number" for p in parameters.split(",")]
        for kernel, parameters in re.findall(r"__global__ void (\w+)\((.*?)\)\s*\{", text, re.DOTALL)
    }


@functools.cache
def module(name: str, real: str, index: str) -> Any:
    """Return a source file compiled, or as CuPy's cache has kept it."""
    text, options = source(name, real, index)
    return cupy.RawModule(code=text, options=options)


@functools.cache
def kernel(name: str, kernel_name: str, real: str, index: str) -> Any:
    """Return a kernel of a source file."""
    return module(name, real, index).get_function(kernel_name)


def launch(
    name: str,
    kernel_name: str,
    real: DTypeLike,
    n: int,
    *arguments: Any,
    block: int = 0,
    per_block: int = 0,
    reads: Sequence[Array] = (),
    writes: Sequence[Array] = (),
) -> None:
    """Run a kernel of a source file on n elements.

    Parameters
    ----------
    real
        The dtype for which the kernel is compiled.
    arguments
        An array is passed as a pointer, an int as an index, a float as a double.
    block
        The number of threads in a block; 0 stands for BLOCK.
    per_block
        The number of elements for a block, if that makes no more than MOST_BLOCKS blocks; 0 stands for one for each thread.
    reads, writes
        Arrays that the kernel finds by addresses in other arrays.
    """
    if n:
        block = block or BLOCK
        blocks = min(-(-n // (per_block or block)), MOST_BLOCKS)
        sizes = [a.size if isinstance(a, cupy.ndarray) else a for a in (*arguments, *reads, *writes)]
        index, to_index = ("int", np.int32) if max(sizes) <= LARGEST_INDEX else ("long long", np.int64)
        passed = tuple(to_index(argument) if type(argument) is int else argument for argument in arguments)
        run = functools.partial(kernel(name, kernel_name, np.dtype(real).name, index), (blocks,), (block,), passed)

        def described():
            used = list(zip(arguments, accesses(name)[kernel_name], strict=True))
            read = [a for a, kind in used if isinstance(a, cupy.ndarray) and kind == "reads"]
            written = [a for a, kind in used if isinstance(a, cupy.ndarray) and kind == "writes"]
            return Launch(kernel_name, arguments, run, memory([*read, *reads]), memory([*written, *writes]))

        submit(run, described)


def over(source: str, array: Array, kernel_name: str, *arguments: Any) -> None:
    """Launch a kernel of a source file with a thread for each element of an array."""
    launch(source, kernel_name, array.dtype, array.size, *arguments)


def by_row(source: str, array: Array, kernel_name: str, *arguments: Any) -> None:
    """Launch a kernel of a source file with a block for each element of an array; the block computes it as a sum."""
    launch(source, kernel_name, array.dtype, array.size, *arguments, per_block=1)


# ----------------------------------------------------------------------------------------------------------- products

AS_IS, TRANSPOSED = 0, 1  # CUBLAS_OP_N, CUBLAS_OP_T
DEFAULT_MATH, TF32_MATH = 0, 3  # CUBLAS_DEFAULT_MATH, CUBLAS_TF32_TENSOR_OP_MATH
FLOAT32, BFLOAT16 = 0, 14  # CUDA_R_32F, CUDA_R_16BF
SUMS_IN_FLOAT32, OF_TF32 = 68, 77  # CUBLAS_COMPUTE_32F, CUBLAS_COMPUTE_32F_FAST_TF32
DEFAULT_ALGORITHM = -1  # CUBLAS_GEMM_DEFAULT
# NumPy knows neither bfloat16 nor TF32, so that their bits are unsigned integers. {dtype of operands: how cuBLAS takes them}
OPERANDS = {np.dtype(np.uint16): (BFLOAT16, SUMS_IN_FLOAT32), np.dtype(np.uint32): (FLOAT32, OF_TF32)}


def math_mode() -> int:
    """Return the math mode of cuBLAS for operands of float32: TF32 where the environment still sets VAE_NP_TF32=1."""
    if os.environ.get("VAE_NP_TF32") != "1":
        return DEFAULT_MATH
    warnings.warn('VAE_NP_TF32=1 goes with vae_np 0.3; use precision="tfloat32" instead', FutureWarning, stacklevel=1)
    return TF32_MATH


def about(rounded_to: str = "") -> str:
    """Return a sentence that names the GPU and says how it multiplies matrices."""
    name = cupy.cuda.runtime.getDeviceProperties(cupy.cuda.Device().id)["name"].decode()
    rounded_to = rounded_to or ("TF32" if math_mode() == TF32_MATH else "")
    how = f"of operands rounded to {rounded_to}" if rounded_to else "in full precision"
    return f"matrix products of cuBLAS on {name}, {how}"


def load_cublas() -> ctypes.CDLL:
    """Return the cuBLAS library that CuPy has loaded."""
    cupy.cuda.device.get_cublas_handle()
    major = cupy.cuda.runtime.runtimeGetVersion() // 1000
    return ctypes.CDLL(f"cublas64_{major}.dll" if sys.platform == "win32" else f"libcublas.so.{major}")


def checked(status: int, what: str) -> None:
    """Raise RuntimeError unless a call of cuBLAS has succeeded."""
    if status:
        raise RuntimeError(f"cuBLAS's {what} failed with status {status}")


def place() -> tuple[int, int, int]:
    """Return (device, address of the current stream, thread).

    The thread is 0, except where CuPy gives each thread a default stream of its own: they all have the same address.
    """
    device, stream = cupy.cuda.Device().id, cupy.cuda.get_current_stream().ptr
    return device, stream, threading.get_ident() if stream == cupy.cuda.runtime.streamPerThread else 0


@functools.cache
def cublas(device: int, stream: int, thread: int) -> tuple[ctypes.CDLL, ctypes.c_void_p, Any]:
    """Return (library, handle, workspace) for the stream of a place. Two streams must not share a workspace."""
    library, handle, workspace = load_cublas(), ctypes.c_void_p(), cupy.empty(WORKSPACE, np.uint8)
    checked(library.cublasCreate_v2(ctypes.byref(handle)), "cublasCreate")
    checked(library.cublasSetMathMode(handle, math_mode()), "cublasSetMathMode")
    checked(library.cublasSetStream_v2(handle, ctypes.c_void_p(stream)), "cublasSetStream")
    # The workspace is set after the stream, because setting a stream removes it.
    space = ctypes.c_void_p(workspace.data.ptr), ctypes.c_size_t(workspace.nbytes)
    checked(library.cublasSetWorkspace_v2(handle, *space), "cublasSetWorkspace")
    return library, handle, workspace


def product(a: Array, b: Array, c: Array, a_as: int = AS_IS, b_as: int = AS_IS, add: bool = False) -> None:
    """c = a @ b, or c += a @ b, where a or b may be TRANSPOSED          c (M, N)

    a and b have the dtype of c. If that is float32, both may also be of uint16, which are the bits of bfloat16, or of uint32,
    which are those of TF32, in the places of a float32. Their products are summed in float32.

    cuBLAS reads a matrix by columns, so that it takes each of these for its transpose: it computes c.T = b.T @ a.T.
    """
    if c.size:
        run = functools.partial(_multiply, a, b, c, a_as, b_as, add)
        submit(run, lambda: Launch("product", (a, b, c, a_as, b_as, add), run, memory((a, b)), memory((c,))))


def _multiply(a, b, c, a_as, b_as, add):
    """The product, on the current stream."""
    (M, N), K = c.shape, a.shape[0] if a_as == TRANSPOSED else a.shape[1]
    real = ctypes.c_float if c.dtype == np.float32 else ctypes.c_double
    one, beta = ctypes.byref(real(1)), ctypes.byref(real(1 if add else 0))
    A, B, C = (ctypes.c_void_p(pointer_to(array)) for array in (a, b, c))
    sizes = b_as, a_as, N, M, K
    with _lock:
        library, handle, _ = cublas(*place())
        if a.dtype in OPERANDS:
            kind, how = OPERANDS[a.dtype]
            operands = one, B, kind, b.shape[1], A, kind, a.shape[1]
            status = library.cublasGemmEx(handle, *sizes, *operands, beta, C, FLOAT32, N, how, DEFAULT_ALGORITHM)
        else:
            gemm = library.cublasSgemm_v2 if c.dtype == np.float32 else library.cublasDgemm_v2
            status = gemm(handle, *sizes, one, B, b.shape[1], A, a.shape[1], beta, C, N)
        checked(status, "gemm")
