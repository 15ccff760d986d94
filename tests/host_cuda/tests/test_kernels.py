"""Correct kernels: their results are right in every order, and functions do what the guide of CUDA says."""

import numpy as np
import pytest

from tests import host_cuda as cp
from tests.host_cuda.tests.sources import REALS, kernel, launch


@pytest.mark.parametrize("block", [1, 32, 33, 128, 256])
def test_correct_kernels_are_right_in_every_order(kernels, real, block, in_order, placed):
    dtype = REALS[real]
    rng = np.random.default_rng(block)
    x = rng.random((37, 53)).astype(dtype)
    device, n = cp.asarray(x), np.int32(x.size)
    for grid in (1, 3):
        sums, mapped, transposed = cp.empty(grid, dtype), cp.empty_like(device), cp.empty((53, 37), dtype)
        kernels.get_function("total")((grid,), (block,), (device, sums, n))
        kernels.get_function("map")((grid,), (block,), (device, mapped, n, dtype(2)))
        kernels.get_function("transpose")((grid,), (block,), (device, transposed, np.int32(37), np.int32(53)))
        np.testing.assert_allclose(sums.get().sum(), x.sum(), rtol=1e-5)
        np.testing.assert_allclose(mapped.get(), 2 * np.exp(x), rtol=1e-6)
        np.testing.assert_array_equal(transposed.get(), x.T)


def test_votes_and_shuffles_are_those_of_the_guide(kernels, in_order):
    out, lane = cp.empty(64, np.int32), np.arange(32)
    kernels.get_function("votes")((1,), (64,), (out,))
    expected = 32 + 1000 + 10000 * np.where(np.arange(64) % 2, 12, 1 + 2)
    np.testing.assert_array_equal(out.get(), expected)
    out = cp.empty((7, 32))
    kernels.get_function("shuffles")((1,), (32,), (out, 3))
    up, down = np.where(lane % 16 >= 3, lane - 3, lane), np.where(lane % 16 < 13, lane + 3, lane)
    expected = [0 * lane + 5, lane // 8 * 8 + (lane + 1) % 8, lane ^ 3, up, down, 2.0**40 + (lane ^ 16)]
    np.testing.assert_array_equal(out.get()[:6], expected)
    outside = np.where(lane < 4, np.nan, -1)  # the value of a lane that is not in the mask is NaN
    np.testing.assert_array_equal(out.get()[6], outside)


def test_atomics_add_up(kernels, in_order):
    x = np.random.default_rng(1).integers(0, 7, 1000).astype(np.int32)
    counts, total, many = cp.zeros(7, np.int32), cp.zeros(1, np.float32), cp.zeros(1, np.uint64)
    kernels.get_function("histogram")((3,), (50,), (cp.asarray(x), counts, total, many, np.int32(1000)))
    np.testing.assert_array_equal(counts.get(), np.bincount(x, minlength=7))
    assert float(total) == 500 and int(many) == 1000 << 33


def test_functions_have_the_types_and_values_of_cuda(kernels, real):
    out = cp.empty(10, REALS[real])
    kernels.get_function("arithmetic")((1,), (1,), (out,))
    expected = [1, 3, np.float32(np.pi), 1.5, 1, 1, 1, 0.5 + 3 + 2.5 + 1.5, 2 + 31 + 4, 2 + 2 + 1 + 0 + 1]
    np.testing.assert_allclose(out.get(), expected, rtol=1e-6)


def test_blocks_and_threads_have_three_dimensions():
    block = "(blockIdx.z * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x"
    body = f"x[({block}) * 24 + (threadIdx.z * 3 + threadIdx.y) * 4 + t] = t + 10 * threadIdx.y + 100 * threadIdx.z"
    body += " + 1000 * blockIdx.z;"
    x = cp.empty((2, 3, 2, 2, 3, 4), np.float32)
    launch(kernel(body), x, grid=(2, 3, 2), block=(4, 3, 2))
    b, _, _, z, y, t = np.indices(x.shape)
    np.testing.assert_array_equal(x.get(), t + 10 * y + 100 * z + 1000 * b)
