"""cuBLAS: its products, its statuses, and what can go wrong with a workspace."""

import ctypes
import itertools
import pathlib
import re

import numpy as np
import pytest

from tests import host_cuda as cp
from tests.host_cuda import cublas
from tests.host_cuda.tests.sources import REALS


@pytest.fixture
def blas():
    """The library, and a handle."""
    library, handle = cp.Cublas(), ctypes.c_void_p()
    assert library.cublasCreate_v2(ctypes.byref(handle)) == 0
    yield library, handle
    assert library.cublasDestroy_v2(handle) == 0 and library.cublasDestroy_v2(handle) == 1


@pytest.mark.parametrize("ta", [0, 1])
@pytest.mark.parametrize("tb", [0, 1])
def test_gemm_is_that_of_blas(blas, real, ta, tb):
    library, handle = blas
    dtype, m, n, k = REALS[real], 4, 3, 5
    scalar, gemm = (ctypes.c_float, library.cublasSgemm_v2) if real == "float" else (ctypes.c_double, library.cublasDgemm_v2)
    rng = np.random.default_rng(3)
    a, b, c = (rng.random(shape).astype(dtype) for shape in ((6, 8), (6, 8), (n, 6)))  # columns are 8 or 6 apart
    left, right = a[: m if ta else k, : k if ta else m], b[: k if tb else n, : n if tb else k]
    for alpha, beta in ((1, 0), (2, 3), (0, 0.5)):
        device = [cp.asarray(array) for array in (a, b, np.full_like(c, np.nan) if beta == 0 else c)]
        pointers = [array.data.ptr for array in device]
        call = [handle, ta, tb, m, n, k, ctypes.byref(scalar(alpha)), pointers[0], 8, pointers[1], 8]
        assert gemm(*call, ctypes.pointer(scalar(beta)), ctypes.c_void_p(pointers[2]), 6) == 0
        product = (right.T if tb else right) @ (left.T if ta else left)
        expected = alpha * product + (beta * c[:, :m] if beta else 0)
        np.testing.assert_allclose(device[2].get()[:, :m], expected, rtol=1e-5)
        assert gemm(*call, ctypes.byref(scalar(beta)), pointers[2], 3) == 7  # ldc < m
    with pytest.raises(cp.KernelFault, match="are not inside one array"):
        gemm(*call, ctypes.byref(scalar(beta)), pointers[2] + 64, 6)
    with pytest.raises(TypeError, match="alpha and beta have to be"):
        gemm(*call, ctypes.byref(ctypes.c_int(1)), pointers[2], 6)


def in_bfloat16(x):
    """The bits of numbers that bfloat16 holds exactly"""
    bits = x.astype(np.float32).view(np.uint32)
    assert not (bits & 0xFFFF).any()
    return (bits >> 16).astype(np.uint16)


def status_of_mixed(blas, a, b, c, types=(0, 0, 0), computation=68, algorithm=-1):
    """The status of C = 2 A B + C for an m by k and a k by n matrix, stored by columns."""
    library, handle = blas
    (k, m), n = a.shape, b.shape[0]
    two, one = (ctypes.byref(ctypes.c_float(number)) for number in (2, 1))
    operands = two, a.data.ptr, types[0], m, b.data.ptr, types[1], k
    return library.cublasGemmEx(handle, 0, 0, m, n, k, *operands, one, c.data.ptr, types[2], m, computation, algorithm)


U = 2.0**-10  # the distance of 1 from the next number of 11 significant bits
EXACT, LONGER = [1, -0.5, 2**-120], [1 + 0.51 * U, 1 + 0.5 * U, -1 - 1.5 * U]
IN_TF32 = [1 + U, 1, -1 - 2 * U]  # those longer numbers, rounded


@pytest.mark.parametrize(
    "x, multiplied, types, computation",
    [
        (in_bfloat16(np.array(EXACT)), EXACT, (14, 14, 0), 68),
        (np.array(EXACT + LONGER, np.float32), EXACT + IN_TF32, (0, 0, 0), 77),
    ],
)
def test_gemm_of_mixed_types_multiplies_what_its_types_say(blas, x, multiplied, types, computation):
    a, c = cp.asarray(x[None]), cp.asarray(np.ones(x.size, np.float32))
    four = np.full((1, 1), 4, np.float32)
    b = cp.asarray(four if x.dtype == np.float32 else in_bfloat16(four))
    assert status_of_mixed(blas, a, b, c, types, computation) == 0
    np.testing.assert_array_equal(c.get(), 2 * np.array(multiplied, np.float32) * 4 + 1)


def test_gemm_of_mixed_types_takes_no_others(blas):
    x = cp.asarray(np.ones((2, 2), np.float32))
    for types in itertools.product((0, 2, 14), repeat=3):
        for computation, algorithm in itertools.product((0, 64, 68, 69, 74, 75, 77), (-1, 0, 99)):
            known = (types, computation) in [((14, 14, 0), 68), ((0, 0, 0), 77)] and algorithm == -1
            assert status_of_mixed(blas, x, x, x, types, computation, algorithm) == (0 if known else 15)


def test_nan_and_infinity_stay_what_they_are_in_tf32(blas):
    x = np.array([0x7FFFFFFF, 0x7F800001, 0x7F800000, 0xFF800000, 0x7F7FFFFF], np.uint32).view(np.float32)
    one, c = cp.asarray(np.ones((1, 1), np.float32)), cp.asarray(np.zeros(5, np.float32))
    assert status_of_mixed(blas, one, cp.asarray(x[:, None]), c, (0, 0, 0), 77) == 0
    np.testing.assert_array_equal(c.get(), [np.nan, np.nan, np.inf, -np.inf, np.inf])


def test_the_constants_are_those_of_nvidias_headers():
    pathfinder = pytest.importorskip("cuda.pathfinder")
    folder = pathfinder.find_nvidia_header_directory("cublas")
    if folder is None:
        pytest.skip("the headers of cuBLAS are not installed")
    text = "".join((pathlib.Path(folder) / name).read_text() for name in ("library_types.h", "cublas_api.h"))
    values = dict(re.findall(r"^ *(CU\w+) *= *(-?\d+)\b", text, re.MULTILINE))
    constants = {name: value for name, value in vars(cublas).items() if name.startswith(("CUDA_R", "CUBLAS_"))}
    assert len(constants) == 5 and constants == {name: int(values[name]) for name in constants}


@pytest.mark.parametrize("trans", [0, 1])
@pytest.mark.parametrize("incx", [1, 2, -1])
def test_gemv_is_that_of_blas(blas, trans, incx):
    library, handle = blas
    rng = np.random.default_rng(4)
    a, x, y = rng.random((3, 6)), rng.random(12), rng.random(6)  # 3 columns of 4, which are 6 apart
    device = [cp.asarray(array) for array in (a, x, y)]
    one, half = (ctypes.byref(ctypes.c_double(number)) for number in (1, 0.5))
    pa, px, py = (array.data.ptr for array in device)
    assert library.cublasDgemv_v2(handle, trans, 4, 3, one, pa, 6, px, incx, half, py, 1) == 0
    matrix, count = (a[:, :4], 4) if trans else (a[:, :4].T, 3)
    vector = x[: count * abs(incx) : abs(incx)][:: 1 if incx > 0 else -1]
    expected = y.copy()
    expected[: 7 - count] = matrix @ vector + 0.5 * y[: 7 - count]
    np.testing.assert_allclose(device[2].get(), expected)
    assert library.cublasDgemv_v2(handle, trans, 4, 3, one, pa, 3, px, incx, one, py, 1) == 7
    assert library.cublasDgemv_v2(handle, trans, 4, 3, one, pa, 6, px, 0, one, py, 1) == 7


def test_products_are_captured_with_their_scalars(blas):
    library, handle = blas
    stream = cp.Stream(non_blocking=True)
    x, workspace = cp.asarray(np.ones(4)), cp.empty(4096, np.uint8)
    assert library.cublasSetStream_v2(handle, stream.ptr) == 0 and library.cublasSetMathMode(handle, 0) == 0
    assert library.cublasSetWorkspace_v2(handle, workspace.data.ptr, workspace.nbytes) == 0
    alpha, beta, p = ctypes.c_double(2), ctypes.byref(ctypes.c_double(0)), x.data.ptr
    stream.begin_capture()
    assert library.cublasDgemm_v2(handle, 0, 0, 2, 2, 2, ctypes.byref(alpha), p, 2, p, 2, beta, p, 2) == 0
    alpha.value = 100
    graph = stream.end_capture()
    assert (x.get() == 1).all()
    graph.launch()
    assert (x.get() == 4).all()


def product(blas, x, y):
    """The status of y = x @ x, of matrices of two by two."""
    library, handle = blas
    one, zero = (ctypes.byref(ctypes.c_double(number)) for number in (1, 0))
    return library.cublasDgemm_v2(handle, 0, 0, 2, 2, 2, one, x.data.ptr, 2, x.data.ptr, 2, zero, y.data.ptr, 2)


@pytest.mark.parametrize("order", ["stream, workspace", "workspace, stream", "stream"])
def test_a_stream_takes_the_workspace_away_and_a_capture_needs_one(blas, order):
    library, handle = blas
    stream, x, workspace = cp.Stream(non_blocking=True), cp.full((2, 2), 1.0), cp.empty(4096, np.uint8)
    for part in order.split(", "):
        if part == "stream":
            assert library.cublasSetStream_v2(handle, stream.ptr) == 0
        else:
            assert library.cublasSetWorkspace_v2(handle, workspace.data.ptr + 1, 64) == 7
            assert library.cublasSetWorkspace_v2(handle, workspace.data.ptr, workspace.nbytes) == 0
    assert product(blas, x, y := cp.empty((2, 2))) == 0 and (y.get() == 2).all()
    used = not (workspace.get() == 0xFF).all()
    stream.begin_capture()
    assert product(blas, x, y) == (0 if order.endswith("workspace") else 3)
    stream.end_capture()
    assert used == order.endswith("workspace")


def test_a_workspace_that_is_gone_or_shared_is_seen(blas):
    library, handle = blas
    x, y, workspaces = cp.full((2, 2), 1.0), cp.empty((2, 2)), [cp.empty(4096, np.uint8)]
    assert library.cublasSetWorkspace_v2(handle, workspaces[0].data.ptr, 4096) == 0

    def disturb(stream):
        with stream:
            workspaces[0].fill(0)

    with cp.after_each_submission(disturb):
        assert product(blas, x, y) == 0
    assert not y.get().any()
    workspaces.clear()
    with pytest.raises(cp.KernelFault, match="are not inside one array"):
        product(blas, x, y)
