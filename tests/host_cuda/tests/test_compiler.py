"""Modules: what compiles, what NVRTC would refuse, and which kernels are found."""

import contextlib

import numpy as np
import pytest

from tests import host_cuda as cp
from tests.host_cuda.tests.sources import kernel, launch, module


def test_a_module_without_kernels_or_shared_memory_compiles():
    module("__device__ int one() { return 1; }").compile()
    launch(kernel("x[t] = t;"), x := cp.empty(64, np.float32))
    np.testing.assert_array_equal(x.get(), np.arange(64))


def test_a_kernel_has_48_kilobytes_of_shared_memory():
    for size, fits in ((12 << 10, True), ((12 << 10) + 1, False)):
        uses = module(kernel(f"__shared__ float s[{size}]; s[t] = t; __syncthreads(); x[t] = s[63 - t];"))
        with contextlib.nullcontext() if fits else pytest.raises(cp.CompileException, match="too much shared"):
            uses.get_function("kernel")((1,), (64,), (cp.zeros(64, np.float32),))


def test_files_are_included_from_the_given_folder(tmp_path):
    (tmp_path / "one.cuh").write_text("__device__ float one() {\nreturn ONE; }")
    included = cp.RawModule(code='#include "one.cuh"\n' + kernel("x[t] = one();"), options=(f"-I{tmp_path}", "-DONE=1"))
    included.get_function("kernel")((1,), (3,), (x := cp.zeros(3, np.float32),))
    assert x.get().tolist() == [1] * 3


def test_templates_are_kernels_by_their_expressions():
    code = "template <class T, int N> __global__ void fill(T* x) { x[threadIdx.x] = N; }"
    filled = cp.RawModule(code=code, name_expressions=["fill<double, 3>"]).get_function("fill<double, 3>")
    filled((1,), (5,), (x := cp.empty(5),))
    assert x.get().tolist() == [3] * 5


@pytest.mark.parametrize(
    "code",
    [
        "#include <stdint.h>",
        "__device__ uint32_t x;",
        "__device__ float x() { return INFINITY; }",
        "__device__ float x() { return std::exp(1.0f); }",
        "__global__ void k() { threadIdx.x = 1; }",
        "nonsense",
    ],
)
def test_what_nvrtc_does_not_know_does_not_compile(code):
    with pytest.raises(cp.CompileException):
        module(code).compile()


def test_only_options_that_exist_are_taken():
    with pytest.raises(cp.CompileException, match="unrecognized option --fmadd=false"):
        cp.RawModule(code="", options=("--fmadd=false",))
    with pytest.raises(TypeError):
        cp.RawModule(code="", options=["--fmad=false"])  # pyright: ignore[reportArgumentType]  # wrong on purpose
