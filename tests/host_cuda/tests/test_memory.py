"""Memory: nothing is in it before it is written, and nothing outside an array is touched unseen."""

import re

import numpy as np
import pytest

from tests import host_cuda as cp
from tests.host_cuda.memory import PAGE
from tests.host_cuda.tests.sources import REALS, kernel, launch


@pytest.mark.parametrize("qualified", ["template <int N> __device__", "__device__ __forceinline__", "__device__"])
def test_shared_memory_is_poison_in_whatever_function_it_is(qualified):
    code = f"{qualified} float first(float x) {{ __shared__ float s[2]; s[1] = x; return s[0]; }}\n"
    first = "first<3>" if "template" in qualified else "first"
    launch(code + kernel(f"__shared__ float never; x[t] = t % 2 ? never : {first}(t);"), x := cp.zeros(64, np.float32))
    assert np.isnan(x.get()).all()


def test_shared_memory_that_is_not_yet_written_is_poison():
    reads = kernel("__shared__ float s[64]; s[t] = t; BARRIER; x[t] = s[63 - t];")
    for barrier, expected in (("__syncthreads()", 0), ("", 32)):
        with cp.order("forward"):
            launch(reads, x := cp.empty(64, np.float32), BARRIER=barrier)
        assert np.isnan(x.get()).sum() == expected


@pytest.mark.parametrize("size", [64, 100, 1024, 5000])
@pytest.mark.parametrize("dtype", REALS.values())
def test_what_is_outside_an_array_is_not_touched(size, dtype, in_order):
    real = {value: key for key, value in REALS.items()}[dtype]
    at = kernel("if (t == 5 && blockIdx.x == 1)\nACCESS;", f"{real}* x, int at, {real}* y")
    width = np.dtype(dtype).itemsize
    write, read = "x[at] = 3", "y[t] = x[at]"

    def touch(edge, index, access):
        with cp.placement(edge):
            x, y = cp.zeros(size, dtype), cp.zeros(64, dtype)
            launch(at, x, np.int32(index), y, grid=(2,), ACCESS=access)
        return y.get()

    for access in (write, read):  # on the side of the forbidden page
        for edge, index, where in (("end", size, "0 bytes past the end"), ("start", -1, f"{width} bytes before")):
            with pytest.raises(cp.KernelFault) as caught:
                touch(edge, index, access)
            place = r"kernel: block \(1, 0, 0\), thread \(5, 0, 0\), line 3"
            assert re.search(f"{place}: .*: the address is {where} of argument 0", str(caught.value))
    for edge, index in (("end", -1), ("start", size)):  # on the side of the canary, if the array does not fill its pages
        if size * width % PAGE:
            with pytest.raises(cp.KernelFault, match="kernel: a thread wrote outside an array, .* of argument 0"):
                touch(edge, index, write)
            assert np.isnan(touch(edge, index, read)[5])


def test_an_alignment_leaves_room_at_the_end_and_is_guarded_there_too():
    with cp.placement("end", alignment=16):
        x = cp.zeros(7, np.float32)
        assert x.data.ptr % 16 == 0
        with pytest.raises(cp.KernelFault, match="wrote outside an array, 0 bytes past the end of argument 0"):
            launch(kernel("x[7] = 3;"), x)
        launch(kernel("x[t + 4] = ((float4*)x)->w + t;"), x, block=(3,))
        assert x.get().tolist() == [0] * 4 + [0, 1, 2]


def test_nothing_is_in_an_array_before_it_is_written():
    x, y = cp.empty(64, np.float32), cp.empty(64, np.float32)
    launch(kernel("y[t] = 2 * x[t];", "const float* x, float* y"), x, y)
    assert np.isnan(y.get()).all() and (cp.empty(3, np.int64).get() == -1).all()


def test_freed_arrays_are_gone():
    gone = cp.zeros(64, np.float32).data.ptr
    with pytest.raises(cp.KernelFault, match="are not inside one array"):
        launch(kernel("x[t] = 1;"), gone)
