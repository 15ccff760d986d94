"""Launches: the checks of grids, blocks, names and arguments."""

from typing import Any

import numpy as np
import pytest

from tests import host_cuda as cp
from tests.host_cuda.tests.sources import kernel, launch, module


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ((), "takes 4 arguments, not 0"),
        (("x", np.int32(1), 1.0), "takes 4 arguments, not 3"),
        (("x", 1, 1.0, "i"), "argument 1: the kernel takes i4, not np.int64.1., int64"),
        (("x", np.float32(1), 1.0, "i"), "argument 1: the kernel takes i4, not .* float32"),
        (("x", np.int32(1), np.float32(1), "i"), "argument 2: the kernel takes f8, not .* float32"),
        (("x", np.uint32(2**31), 1.0, "i"), "argument 1: the kernel takes i4, not .* uint32"),
        (("x64", np.int32(1), 1.0, "i"), r"argument 0: the kernel takes f4\*, not an array of float64"),
        (("x", np.int32(1), 1.0, "x"), r"argument 3: the kernel takes i8\*, not an array of float32"),
        (("x", "i", 1.0, "i"), "argument 1: the kernel takes i4, not an array of int64"),
        ((np.float32(1), np.int32(1), 1.0, "i"), r"argument 0: the kernel takes f4\*, not .* float32"),
        (("numpy", np.int32(1), 1.0, "i"), "unsupported type <class 'numpy.ndarray'>"),
        (("x", np.int32(1), "text", "i"), "unsupported type <class 'str'>"),
    ],
)
def test_arguments_have_to_be_what_the_kernel_takes(args, words):
    values = {"x": cp.zeros(64, np.float32), "x64": cp.zeros(64), "i": cp.zeros(64, np.int64), "numpy": np.zeros(64)}
    takes = kernel("x[t] = n * by;", "float* x, int n, double by, const long long* i")
    with pytest.raises(TypeError, match=words):
        launch(takes, *(values.get(a, a) if isinstance(a, str) else a for a in args))
    launch(takes, values["x"], np.int32(3), 0.5, values["i"])
    launch(takes, values["x"].data, np.uint32(3), np.float64(0.5), None)
    assert (values["x"].get() == 1.5).all()


def test_launches_that_cuda_refuses_are_refused():
    right = module(kernel("x[t] = 1;") + "\n__global__ void plain(int* x) {}").get_function("kernel")
    x = cp.zeros(2048, np.float32)
    for grid, block in (
        ((0,), (1,)),
        ((1,), (1025,)),
        ((1,), (32, 33)),
        ((1, 65536), (1,)),
        ((1,), (1, 1, 65)),
        ((1,), (0,)),
    ):
        with pytest.raises(cp.CUDADriverError, match="INVALID_VALUE"):
            right(grid, block, (x,))
    wrong: list[Any] = [(1, (1,)), ((1,), 1), ([1], (1,)), ((), (1,))]
    for grid, block in wrong:
        with pytest.raises(TypeError, match="must be a tuple"):
            right(grid, block, (x,))
    bounded = kernel("x[t] = 1;").replace("kernel(", "__launch_bounds__(64, 2) kernel(")
    launch(bounded, x)
    with pytest.raises(cp.CUDADriverError, match="too many threads"):
        launch(bounded, x, block=(65,))
    for name in ("missing", "plain"):  # the name of what is not extern "C" is mangled
        with pytest.raises(cp.CUDADriverError, match="named symbol not found"):
            launch(kernel("x[t] = 1;") + "\n__global__ void plain(float* x) {}", x, name=name)
