"""cuBLAS as ctypes shows it, on the memory of the stand-in."""

import ctypes
import functools
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.host_cuda.errors import KernelFault
from tests.host_cuda.memory import memory_at
from tests.host_cuda.streams import Stream, addresses, stream_at, submit

SUCCESS, NOT_INITIALIZED, ALLOC_FAILED, INVALID_VALUE, NOT_SUPPORTED = 0, 1, 3, 7, 15  # CUBLAS_STATUS_...
OPERATIONS = {0, 1, 2}  # CUBLAS_OP_N, CUBLAS_OP_T, CUBLAS_OP_C
FUNCTIONS = {  # the functions of every handle, and the methods that do their work
    "cublasDestroy_v2": "destroy",
    "cublasSetStream_v2": "set_stream",
    "cublasSetWorkspace_v2": "set_workspace",
    "cublasSetMathMode": "set_math_mode",
    "cublasGemmEx": "gemm_ex",
}
CUDA_R_32F, CUDA_R_16BF = 0, 14  # of library_types.h
CUBLAS_COMPUTE_32F, CUBLAS_COMPUTE_32F_FAST_TF32, CUBLAS_GEMM_DEFAULT = 68, 77, -1  # of cublas_api.h


def _of_bfloat16(bits):
    """The float32 numbers whose upper halves are these bits"""
    return (bits.astype(np.uint32) << 16).view(np.float32)


def _to_tf32(x):
    """Numbers of float32, rounded to 11 significant bits: cuBLAS may, and here it does"""
    bits = np.ascontiguousarray(x).view(np.uint32)
    rounded = (bits + 0xFFF + (bits >> 13 & 1)) & ~np.uint32(0x1FFF)
    return np.where(np.isnan(x), x, rounded.view(np.float32))


# cublasGemmEx: {(types of A, B and C, type of the computation): (dtype of A and B, the numbers that are multiplied)}
MIXED = {
    (CUDA_R_16BF, CUDA_R_16BF, CUDA_R_32F, CUBLAS_COMPUTE_32F): (np.uint16, _of_bfloat16),
    (CUDA_R_32F, CUDA_R_32F, CUDA_R_32F, CUBLAS_COMPUTE_32F_FAST_TF32): (np.float32, _to_tf32),
}


class Cublas:
    """The library. Its functions return the status of cuBLAS, and take numbers or ctypes scalars.

    A product is made by two kernels, as cuBLAS makes some: the first one leaves it in the workspace of the handle, and the
    second one takes it from there. So a workspace that is shared, or freed too early, is seen.

    In a capture a handle without a workspace is refused. cuBLAS would allocate one for each product of each graph, and nothing
    would tell.
    """

    cublasDgemm_v2: Callable[..., int]
    cublasDgemv_v2: Callable[..., int]
    cublasGemmEx: Callable[..., int]
    cublasSgemm_v2: Callable[..., int]
    cublasSgemv_v2: Callable[..., int]
    cublasDestroy_v2: Callable[..., int]
    cublasSetStream_v2: Callable[..., int]
    cublasSetWorkspace_v2: Callable[..., int]
    cublasSetMathMode: Callable[..., int]

    def __init__(self) -> None:
        self._streams: dict[int, Stream] = {}  # of each handle
        self._workspaces: dict[int, tuple[int, int] | None] = {}  # of each handle: (address, bytes)
        # Partial functions have attributes that can be set, such as argtypes.
        self.cublasCreate_v2 = functools.partial(self.create)
        for name, method in FUNCTIONS.items():
            setattr(self, name, functools.partial(self._call, getattr(self, method)))
        for letter, real in (("S", ctypes.c_float), ("D", ctypes.c_double)):
            setattr(self, f"cublas{letter}gemm_v2", functools.partial(self._call, functools.partial(self.gemm, real)))
            setattr(self, f"cublas{letter}gemv_v2", functools.partial(self._call, functools.partial(self.gemv, real)))

    def _call(self, function, handle, *args):
        handle = _plain(handle)
        return function(handle, *map(_plain, args)) if handle in self._streams else NOT_INITIALIZED

    def create(self, handle: Any) -> int:
        _target(handle).value = address = next(addresses)
        self._streams[address], self._workspaces[address] = Stream.null, None
        return SUCCESS

    def destroy(self, handle: int) -> int:
        del self._streams[handle], self._workspaces[handle]
        return SUCCESS

    def set_stream(self, handle: int, stream: int) -> int:
        """Set the stream. As NVIDIA's documentation says, this takes the workspace away."""
        self._streams[handle], self._workspaces[handle] = stream_at(stream), None
        return SUCCESS

    def set_workspace(self, handle: int, workspace: int, size: int) -> int:
        memory_at(workspace, size)
        if workspace % 256:
            return INVALID_VALUE
        self._workspaces[handle] = workspace, size
        return SUCCESS

    def set_math_mode(self, handle: int, mode: int) -> int:
        return SUCCESS

    def gemm(self, real: Any, handle: int, *arguments: Any) -> int:
        """C = alpha A B + beta C, where a matrix is stored by columns, and A and B may be transposed"""
        return self._gemm(real, real, np.asarray, handle, *arguments)

    def gemm_ex(self, handle: int, *arguments: Any) -> int:
        """The same for A and B of another type than C, or with a computation of another precision"""
        *sizes, a, type_a, lda, b, type_b, ldb, beta, c, type_c, ldc, computation, algorithm = arguments
        types = type_a, type_b, type_c, computation
        if types not in MIXED or algorithm != CUBLAS_GEMM_DEFAULT:
            return NOT_SUPPORTED
        return self._gemm(ctypes.c_float, *MIXED[types], handle, *sizes, a, lda, b, ldb, beta, c, ldc)

    def _gemm(self, real, of_operands, numbers, handle, *arguments):
        """The product of A and B of the dtype `of_operands`; numbers(A) are the numbers that are multiplied"""
        ta, tb, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc = arguments
        right = {ta, tb} <= OPERATIONS and min(m, n, k) >= 0 and alpha and beta
        if not right or lda < max(1, k if ta else m) or ldb < max(1, n if tb else k) or ldc < max(1, m):
            return INVALID_VALUE
        left = np.dtype(of_operands), a, k if ta else m, m if ta else k, lda, ta
        right = np.dtype(of_operands), b, n if tb else k, k if tb else n, ldb, tb
        if not (m and n):
            return SUCCESS
        out = functools.partial(_matrix, np.dtype(real), c, m, n, ldc)
        return self._combine(handle, real, alpha, lambda: numbers(_matrix(*left)) @ numbers(_matrix(*right)), beta, out)

    def gemv(self, real: Any, handle: int, *arguments: Any) -> int:
        """y = alpha A x + beta y, where A is stored by columns, and may be transposed"""
        trans, m, n, alpha, a, lda, x, incx, beta, y, incy = arguments
        if trans not in OPERATIONS or min(m, n) < 0 or not (alpha and beta and incx and incy) or lda < max(1, m):
            return INVALID_VALUE
        matrix, vector = (np.dtype(real), a, m, n, lda, trans), (np.dtype(real), x, m if trans else n, incx)
        if not (m and n):
            return SUCCESS
        out = functools.partial(_vector, np.dtype(real), y, n if trans else m, incy)
        return self._combine(handle, real, alpha, lambda: _matrix(*matrix) @ _vector(*vector), beta, out)

    def _combine(self, handle, real, alpha, product, beta, out):
        """out() = alpha product() + beta out(), but what is multiplied by 0 is not read."""
        alpha, beta = _target(alpha), _target(beta)
        if not (isinstance(alpha, real) and isinstance(beta, real)):
            raise TypeError(f"alpha and beta have to be {real.__name__}")
        alpha, beta = np.dtype(real).type(alpha.value), np.dtype(real).type(beta.value)
        stream, workspace = self._streams[handle], self._workspaces[handle]
        if workspace is None and stream.is_capturing():
            return ALLOC_FAILED
        address, size = workspace or (0, 0)
        own = []  # a product for which the workspace is too small

        def multiply():
            result = alpha * product() if alpha else np.zeros_like(out())
            if size < result.nbytes:
                own[:] = [result]
            else:
                memory_at(address, result.nbytes).view(result.dtype)[:] = result.ravel()

        def finish():
            target = out()
            result = own[0] if own else memory_at(address, target.nbytes).view(target.dtype).reshape(target.shape)
            target[...] = result + beta * target if beta else result

        submit(multiply, stream)
        submit(finish, stream)
        return SUCCESS


def _plain(value):
    """The number in a ctypes scalar, or what is given."""
    return (value.value if isinstance(value, ctypes._SimpleCData) else value) or 0


def _target(reference):
    """What a pointer, or the result of `ctypes.byref`, points to."""
    return reference.contents if isinstance(reference, ctypes._Pointer) else reference._obj


def _vector(dtype: np.dtype, address: int, n: int, step: int) -> NDArray[Any]:
    """A vector of n elements; a negative step goes from its last element to its first"""
    if address % dtype.itemsize:
        raise KernelFault(f"{address:#x} is not an address of {dtype}: it is not aligned")
    elements = memory_at(address, ((n - 1) * abs(step) + 1) * dtype.itemsize if n else 0).view(dtype)[:: abs(step)]
    return elements[::-1] if step < 0 else elements


def _matrix(dtype: np.dtype, address: int, rows: int, columns: int, leading: int, transposed: int = 0) -> NDArray[Any]:
    """A matrix whose columns begin `leading` elements after one another"""
    flat = _vector(dtype, address, (columns - 1) * leading + rows if rows and columns else 0, 1)
    strides = dtype.itemsize, leading * dtype.itemsize
    matrix = np.lib.stride_tricks.as_strided(flat, (rows, columns), strides)
    return matrix.T if transposed else matrix
