"""The harness itself: right kernels come out right in every order, and each kind of wrong one is reported."""

import contextlib
import ctypes
import faulthandler
import functools
import importlib.util
import pathlib
import re
import signal
import subprocess
import sys
import threading

import numpy as np
import pytest

from tests.kernels.gpu import host_cupy as cp

pytestmark = pytest.mark.skipif(cp.COMPILER is None, reason="there is no g++ to compile kernels for the host with")

CODE = r"""
typedef unsigned long long u64;

extern "C" __global__ void total(const REAL* __restrict__ x, REAL* out, int n) {
    __shared__ REAL parts[32];
    REAL sum = 0;
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x) sum += x[i];
    const int lane = threadIdx.x % warpSize, lanes = min(warpSize, int(blockDim.x) - int(threadIdx.x) / 32 * 32);
    for (int by = 16; by; by /= 2) {
        const REAL other = __shfl_down_sync(0xffffffffu, sum, by);
        if (lane + by < lanes) sum += other;
    }
    if (lane == 0) parts[threadIdx.x / warpSize] = sum;
    __syncthreads();
    if (threadIdx.x > 0) return;
    for (int w = 1; w < (blockDim.x + 31) / 32; ++w) sum += parts[w];
    out[blockIdx.x] = sum;
}

extern "C" __global__ void map(const REAL* x, REAL* y, int n, REAL by) {
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x) y[i] = by * exp(x[i]);
}

#define TILE 16
extern "C" __global__ void transpose(const REAL* x, REAL* y, int rows, int columns) {
    __shared__ REAL tile[TILE][TILE + 1];
    const int across = (columns + TILE - 1) / TILE, down = (rows + TILE - 1) / TILE;
    for (int t = blockIdx.x; t < across * down; t += gridDim.x) {
        const int top = t / across * TILE, left = t % across * TILE;
        for (int k = threadIdx.x; k < TILE * TILE; k += blockDim.x) {
            const int i = top + k / TILE, j = left + k % TILE;
            if (i < rows && j < columns) tile[k / TILE][k % TILE] = x[i * columns + j];
        }
        __syncthreads();
        for (int k = threadIdx.x; k < TILE * TILE; k += blockDim.x) {
            const int i = top + k % TILE, j = left + k / TILE;
            if (i < rows && j < columns) y[j * rows + i] = tile[k % TILE][k / TILE];
        }
        AFTER_TILE
    }
}

extern "C" __global__ void votes(int* out) {
    const int lane = threadIdx.x % 32, odd = lane & 1;
    const unsigned mine = odd ? 0xaaaaaaaau : 0x55555555u;
    out[threadIdx.x] = __syncthreads_count(odd) + 1000 * __syncthreads_or(odd) + 2000 * __syncthreads_and(odd);
    if (odd) out[threadIdx.x] += 10000 * __popc(__ballot_sync(mine, lane > 8));
    else out[threadIdx.x] += 10000 * (__any_sync(mine, lane > 8) + 2 * __all_sync(mine, lane < 31));
    __syncwarp();
}

extern "C" __global__ void shuffles(double* out, long long shift) {
    const int lane = threadIdx.x;
    const double value = lane;
    out[lane] = __shfl_sync(~0u, value, 5);
    out[32 + lane] = __shfl_sync(~0u, value, lane + 1, 8);
    out[64 + lane] = __shfl_xor_sync(~0u, value, 3);
    out[96 + lane] = __shfl_up_sync(~0u, value, unsigned(shift), 16);
    out[128 + lane] = __shfl_down_sync(~0u, value, unsigned(shift), 16);
    out[160 + lane] = double(__shfl_xor_sync(~0u, (1ll << 40) + lane, 16));
    if (lane < 4) out[192 + lane] = __shfl_sync(0xfu, value, 4 + lane);
    else out[192 + lane] = -1;
}

extern "C" __global__ void histogram(const int* x, int* counts, float* sum, u64* many, int n) {
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x) {
        atomicAdd(&counts[x[i]], 1);
        atomicAdd(sum, 0.5f);
        atomicAdd(many, u64(1) << 33);
    }
}

extern "C" __global__ void arithmetic(REAL* out) {
    const float f = 1.0f;
    out[0] = sizeof(exp(f)) == 4 && sizeof(exp(1.0)) == 8 && sizeof(sqrt(f)) == 4 && sizeof(max(f, f)) == 4;
    out[1] = __umulhi(0x80000000u, 6u);
    out[2] = __int_as_float(0x40490fdb);
    out[3] = __longlong_as_double(0x3ff8000000000000ll);
    out[4] = __double_as_longlong(1.5) == 0x3ff8000000000000ll;
    out[5] = isfinite(out[3]) && !isfinite(__int_as_float(0x7f800000)) && isnan(__int_as_float(0x7fc00000));
    out[6] = __fmul_rn(0.1f, 3.0f) == 0.1f * 3.0f && __fma_rn(0.1, 10.0, -1.0) != __dadd_rn(__dmul_rn(0.1, 10.0), -1.0);
    out[7] = rsqrt(REAL(4)) + min(3, 4) + max(1.5f, 2.5f) + __ldg(out + 3);
    out[8] = __double2uint_rn(2.5) + __clz(1) + __ffs(8);
    out[9] = fma(f, f, f) + fmaf(f, f, f) + expf(0) + log1pf(0) + fabs(-f);
}
"""
REALS = {"float": np.float32, "double": np.float64}


@functools.cache
def module(code, **macros):
    options = ("--std=c++17", "--fmad=false", *(f"-D{name}={value}" for name, value in macros.items()))
    return cp.RawModule(code=code, options=options)


@pytest.fixture(scope="session", params=REALS)
def real(request):
    return request.param


@pytest.fixture(scope="session")
def kernels(real):
    return module(CODE, REAL=real, AFTER_TILE="__syncthreads();")


@pytest.fixture(params=[("forward", 0), ("reverse", 0), ("shuffled", 1), ("shuffled", 2)], ids=lambda p: f"{p[0]}{p[1]}")
def in_order(request):
    with cp.order(*request.param):
        yield


@pytest.fixture(params=["end", "start"])
def placed(request):
    with cp.placement(request.param):
        yield


def launch(code, *args, grid=(1,), block=(64,), name="kernel", **macros):
    module(code, **macros).get_function(name)(grid, block, args)


def kernel(body, parameters="float* x"):
    return f'extern "C" __global__ void kernel({parameters}) {{ const int t = threadIdx.x;\n{body}\n}}'


# ---------------------------------------------------------------------------------------------------- right kernels


@pytest.mark.parametrize("block", [1, 32, 33, 128, 256])
def test_right_kernels_are_right_in_every_order(kernels, real, block, in_order, placed):
    dtype = REALS[real]
    rng = np.random.default_rng(block)
    x = rng.random((37, 53)).astype(dtype)
    device, n = cp.asarray(x), np.int32(x.size)
    for grid in (1, 3):
        sums, mapped, turned = cp.empty(grid, dtype), cp.empty_like(device), cp.empty((53, 37), dtype)
        kernels.get_function("total")((grid,), (block,), (device, sums, n))
        kernels.get_function("map")((grid,), (block,), (device, mapped, n, dtype(2)))
        kernels.get_function("transpose")((grid,), (block,), (device, turned, np.int32(37), np.int32(53)))
        np.testing.assert_allclose(sums.get().sum(), x.sum(), rtol=1e-5)
        np.testing.assert_allclose(mapped.get(), 2 * np.exp(x), rtol=1e-6)
        np.testing.assert_array_equal(turned.get(), x.T)


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
    outside = np.where(lane < 4, np.nan, -1)  # what a lane outside the mask gives is poison
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


def test_a_module_without_kernels_or_shared_memory_compiles():
    module("__device__ int one() { return 1; }").compile()
    launch(kernel("x[t] = t;"), x := cp.empty(64, np.float32))
    np.testing.assert_array_equal(x.get(), np.arange(64))


@pytest.mark.parametrize("qualified", ["template <int N> __device__", "__device__ __forceinline__", "__device__"])
def test_shared_memory_is_poison_in_whatever_function_it_is(qualified):
    code = f"{qualified} float first(float x) {{ __shared__ float s[2]; s[1] = x; return s[0]; }}\n"
    first = "first<3>" if "template" in qualified else "first"
    launch(code + kernel(f"__shared__ float never; x[t] = t % 2 ? never : {first}(t);"), x := cp.zeros(64, np.float32))
    assert np.isnan(x.get()).all()


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


# ---------------------------------------------------------------------------------------------------- wrong kernels


def orders():
    return [cp.order("forward"), cp.order("reverse"), cp.order("shuffled", 1)]


def test_a_missing_barrier_is_seen_by_an_order():
    x = np.random.default_rng(2).random((64, 64))
    wrong = 0
    for setting in orders():
        with setting:
            turned = cp.empty((64, 64))
            launch(CODE, cp.asarray(x), turned, np.int32(64), np.int32(64), name="transpose", REAL="double", AFTER_TILE="")
            wrong += not np.array_equal(turned.get(), x.T)
    assert wrong


def test_turns_are_taken_in_the_order_that_was_asked_for():
    turns = kernel("x[blockIdx.x * 64 + t] = atomicAdd(turn, 1);", "int* x, int* turn")
    seen = []
    for setting in [*orders(), cp.order("shuffled", 1), cp.order("shuffled", 2)]:
        with setting:
            launch(turns, x := cp.empty(192, np.int32), cp.zeros(1, np.int32), grid=(3,))
        seen.append(x.get().tolist())
    forward, reverse, shuffled, again, other = seen
    assert forward == reverse[::-1] == sorted(shuffled) == sorted(other)
    assert shuffled == again != other and shuffled not in (forward, reverse)


@pytest.mark.parametrize("by", [1, -1, 32, -32])
def test_what_one_order_hides_the_other_shows(by):
    stale = kernel("__shared__ int s[64]; s[t] = 0; __syncthreads(); s[t] = 1; x[t] = s[(t + BY) & 63];", "int* x")
    right = []
    for setting in (cp.order("forward"), cp.order("reverse")):
        with setting:
            launch(stale, x := cp.empty(64, np.int32), BY=by)
        right.append(int(x.get()[16:48].sum()))  # those whose neighbour is not around the corner
    assert sorted(right) == [0, 32] if abs(by) == 1 else sorted(right) == [16, 16]


def test_shared_memory_that_is_not_yet_written_is_poison():
    reads = kernel("__shared__ float s[64]; s[t] = t; BARRIER; x[t] = s[63 - t];")
    for barrier, expected in (("__syncthreads()", 0), ("", 32)):
        with cp.order("forward"):
            launch(reads, x := cp.empty(64, np.float32), BARRIER=barrier)
        assert np.isnan(x.get()).sum() == expected


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("if (t < 40)\n__syncthreads();\nelse\n__syncthreads();", "waits at __syncthreads on line 3, .*on line 5"),
        (
            "if (t == 5) return;\n__syncthreads();",
            r"waits at __syncthreads on line 3, but thread \(5, 0, 0\) has returned",
        ),
        ("for (int i = 0; i < t % 3; ++i)\n__syncthreads();", "on line 3, but thread .* has returned"),
        ("if (t == 40) __syncwarp();\nelse __syncthreads();", "__syncwarp on line 2, .* __syncthreads on line 3"),
        ("if (t % 32 < 16)\nx[t] = __shfl_sync(~0u, x[t], 0);", "waits at __shfl_sync on line 3, .* has returned"),
        (
            "if (t < 16)\n__syncwarp();\nelse\n__ballot_sync(~0u, 1);",
            "__syncwarp on line 3, .* __ballot_sync on line 5",
        ),
        ("__syncwarp(t % 32 < 16 ? ~0u : 0xfffffff0u);", "different masks"),
        (
            "if (t < 17)\nx[t] = __shfl_sync(0xffffu, x[t], 0);",
            r"thread \(16, 0, 0\), line 3: its own lane is not in the mask",
        ),
        ("x[t] = __shfl_sync(~0u, x[t], 0, 7);", "the width is no power of two"),
    ],
)
def test_threads_that_do_not_meet_are_reported(body, words, in_order):
    with pytest.raises(cp.KernelFault, match=words):
        launch(kernel(body), cp.zeros(64, np.float32))


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("__shared__ int s[64];\ns[t + 1] = 1;", r"thread \(63, 0, 0\), line 3: the index is outside the array"),
        ("int own[4] = {};\nx[t] = own[t];", "line 3: the index is outside the array"),
        ("x[t] = 1u << (t + 1);", "the shift is as wide"),
        ("x[t] = 10 / t;", r"thread \(0, 0, 0\), line 2: division"),
        ("x[t] = 0x7fffffff + t;", "a signed sum overflows"),
        ("((double*)(x + t % 2))[t / 2] = 0;", r"line 2: the address is not a multiple"),
        ("volatile char big[200000]; big[t] = 1; x[t] = big[t + 1];", "its stack is full|Segmentation"),
    ],
)
def test_what_a_thread_may_not_do_is_reported(body, words):
    with pytest.raises(cp.KernelFault, match=words):
        launch(kernel(body), cp.zeros(64, np.float32))


@pytest.mark.parametrize("meeting", ["__syncthreads()", "__syncwarp()", "x[t] = __shfl_xor_sync(~0u, x[t], 1)"])
def test_threads_that_meet_for_ever_take_too_many_turns(meeting, monkeypatch):
    monkeypatch.setattr(cp, "most_turns", 64 * 1000)
    for turns, ends in ((999, True), (1000, False)):  # one more is that at whose end a thread returns
        with contextlib.nullcontext() if ends else pytest.raises(cp.KernelFault, match="line 2: more turns are taken than"):
            launch(kernel(f"for (int i = 0; i < {turns}; ++i) {meeting};"), cp.zeros(64, np.float32))
    launch(kernel("x[t] = 1;"), x := cp.zeros(64, np.float32), grid=(1000,))
    assert x.get().all()
    with pytest.raises(cp.KernelFault, match="more turns are taken than"):
        launch(kernel("x[t] = 1;"), x, grid=(1001,))


def test_a_thread_that_meets_no_other_for_ever_is_reported(monkeypatch):
    monkeypatch.setattr(cp, "most_seconds", 0.05)
    with pytest.raises(cp.KernelFault, match=r"thread \(0, 0, 0\).*: no turn ends within the seconds"):
        launch(kernel("volatile int stop = 0; while (!stop) {}"), cp.zeros(64, np.float32))


def test_a_launch_may_take_any_time_while_turns_end(monkeypatch):
    monkeypatch.setattr(cp, "most_seconds", 0.01)  # within a launch of some tenths of a second
    launch(kernel("__syncthreads(); x[t] = 1;"), x := cp.zeros(64, np.float32), grid=(40_000,))
    assert x.get().all()


@pytest.mark.parametrize("size", [64, 100, 1024, 5000])
@pytest.mark.parametrize("dtype", REALS.values())
def test_what_is_outside_an_array_is_not_touched(size, dtype, in_order):
    real = {value: key for key, value in REALS.items()}[dtype]
    at = kernel("if (t == 5 && blockIdx.x == 1)\nACCESS;", f"{real}* x, int at, {real}* y")
    width = np.dtype(dtype).itemsize
    for access in ("x[at] = 3", "y[t] = x[at]"):
        for edge, index, words in (("end", size, "0 bytes past the end"), ("start", -1, f"{width} bytes before")):
            with cp.placement(edge), pytest.raises(cp.KernelFault) as caught:
                launch(at, cp.zeros(size, dtype), np.int32(index), cp.zeros(64, dtype), grid=(2,), ACCESS=access)
            assert re.search(
                rf"kernel: block \(1, 0, 0\), thread \(5, 0, 0\), line 3: .*, {words} of argument 0", str(caught.value)
            )
    for edge, index in (("end", -1), ("start", size)):  # the canary's side: seen after the launch
        if size * width % cp.PAGE:
            with cp.placement(edge), pytest.raises(cp.KernelFault, match="kernel: written to, .* of argument 0"):
                launch(at, cp.zeros(size, dtype), np.int32(index), cp.zeros(64, dtype), grid=(2,), ACCESS="x[at] = 3")
            with cp.placement(edge):
                launch(
                    at,
                    cp.zeros(size, dtype),
                    np.int32(index),
                    y := cp.zeros(64, dtype),
                    grid=(2,),
                    ACCESS="y[t] = x[at]",
                )
            assert np.isnan(y.get()[5])


def test_an_alignment_leaves_room_at_the_end_and_is_guarded_there_too():
    with cp.placement("end", alignment=16):
        x = cp.zeros(7, np.float32)
        assert x.data.ptr % 16 == 0
        with pytest.raises(cp.KernelFault, match="written to, 0 bytes past the end of argument 0"):
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


def test_lost_updates_are_not_seen():
    """The limit of the harness: a fiber is interrupted only where threads meet, so `+=` loses nothing."""
    for setting in orders():
        with setting:
            launch(kernel("x[0] += 1;"), x := cp.zeros(1, np.float32))
            assert float(x) == 64


def test_a_fault_leaves_signals_and_fibers_as_they_were():
    faulthandler.enable()
    for _ in range(3):
        with pytest.raises(cp.KernelFault):
            launch(kernel("__syncthreads(); x[t + 1] = 1;"), cp.zeros(64, np.float32))
        launch(kernel("__syncthreads(); x[t] = t;"), x := cp.zeros(64, np.float32))
        assert x.get().tolist() == list(range(64))
    assert faulthandler.is_enabled()


def test_a_fault_of_python_is_its_own_after_a_launch():
    code = (
        "import ctypes, faulthandler, numpy; faulthandler.enable(); from tests.kernels.gpu import host_cupy as cp\n"
        "code = 'extern \"C\" __global__ void kernel(float* x, int n) { x[threadIdx.x + n] = 1; }'\n"
        "kernel, x = cp.RawModule(code=code).get_function('kernel'), cp.zeros(64, numpy.float32)\n"
        "kernel((1,), (64,), (x, numpy.int32(0)))\n"
        "try: kernel((1,), (64,), (x, numpy.int32(1)))\n"
        "except cp.KernelFault: print('reported', flush=True)\n"
        "ctypes.string_at(0)"
    )
    root = pathlib.Path(__file__).parents[3]
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=root, timeout=600)
    assert run.returncode == -signal.SIGSEGV and run.stdout == "reported\n"
    assert "Fatal Python error: Segmentation fault" in run.stderr


def test_threads_of_the_host_take_turns():
    faults = []

    def work(k):
        for _ in range(20):
            launch(kernel("__syncthreads(); x[t] = t;"), x := cp.zeros(64, np.float32))
            faults.extend(x.get() != np.arange(64))

    threads = [threading.Thread(target=work, args=(k,)) for k in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not any(faults) and len(faults) == 3 * 20 * 64


# -------------------------------------------------------------------------------------------------------- the launch


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
        (("numpy", np.int32(1), 1.0, "i"), "Unsupported type <class 'numpy.ndarray'>"),
        (("x", np.int32(1), "text", "i"), "Unsupported type <class 'str'>"),
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
        with pytest.raises(cp.CUDARuntimeError, match="INVALID_VALUE"):
            right(grid, block, (x,))
    for grid, block in ((1, (1,)), ((1,), 1), ([1], (1,)), ((), (1,))):
        with pytest.raises(TypeError, match="must be a tuple"):
            right(grid, block, (x,))
    bounded = kernel("x[t] = 1;").replace("kernel(", "__launch_bounds__(64, 2) kernel(")
    launch(bounded, x)
    with pytest.raises(cp.CUDARuntimeError, match="too many threads"):
        launch(bounded, x, block=(65,))
    for name in ("missing", "plain"):  # the name of what is not extern "C" is mangled
        with pytest.raises(cp.CUDARuntimeError, match="named symbol not found"):
            launch(kernel("x[t] = 1;") + "\n__global__ void plain(float* x) {}", x, name=name)


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
        cp.RawModule(code="", options=["--fmad=false"])


# ---------------------------------------------------------------------------------------------- arrays and streams


def test_device_arrays_do_not_mix_with_those_of_numpy():
    device, host = cp.zeros((4, 3), np.float32), np.ones((4, 3), np.float32)
    for mix in (
        lambda: device + host,
        lambda: host + device,
        lambda: np.asarray(device),
        lambda: np.sum(device),
        lambda: device.__setitem__(0, host[0]),
        lambda: cp.copyto(device, host),
        lambda: np.exp(host, out=device),
    ):
        with pytest.raises((TypeError, ValueError)):
            mix()
    with pytest.raises(TypeError):
        host[...] = device
    assert type(device + 1) is cp.ndarray and (2 * (device + 1) == device + 2).get().all()


def test_a_copy_has_the_order_of_what_it_is_a_copy_of():
    host = np.arange(12.0).reshape(3, 4)
    for right in (host, host.T, host[:, ::2]):
        copy = cp.asarray(right)
        assert copy.flags.f_contiguous == right.flags.f_contiguous and (copy.get() == right).all()


def test_views_share_their_memory():
    device = cp.asarray(np.arange(12.0).reshape(3, 4))
    view = device[1:, 2]
    view[...] = -1
    device.T[0].fill(-2)
    device.reshape(-1)[1] = 7
    assert view.data.ptr == device.data.ptr + 6 * 8 and not view.flags.c_contiguous and device[2, 3].shape == ()
    np.testing.assert_array_equal(device.get(), [[-2, 7, 2, 3], [-2, 5, -1, 7], [-2, 9, -1, 11]])
    device.set(np.ones((3, 4)))
    assert device.view(np.uint8).reshape(3, -1).shape == (3, 32) and (device.copy().get() == 1).all()
    for wrong in (np.ones((4, 3)), np.ones((3, 4), np.float32)):
        with pytest.raises((TypeError, ValueError)):
            device.set(wrong)


def test_synchronisations_are_counted():
    x = cp.full((), 1, np.float32)
    before = cp.synchronisations
    x += 1
    x.set(np.array(3, np.float32))
    assert cp.synchronisations == before
    waits = (x.get, lambda: cp.asnumpy(x), lambda: float(x), lambda: bool(x), x.item, cp.Stream().synchronize)
    for n, wait in enumerate(waits, 1):
        wait()
        assert cp.synchronisations == before + n


def test_a_graph_runs_when_it_is_launched():
    add = module(kernel("x[t] += by;", "float* x, float by")).get_function("kernel")
    x, y = cp.zeros(8, np.float32), cp.zeros(8, np.float32)
    stream = cp.Stream(non_blocking=True)
    with stream:
        stream.begin_capture()
        add((1,), (8,), (x, np.float32(2)))
        cp.memcpyAsync(y.data.ptr, x.data.ptr, x.nbytes, 3, stream.ptr)
        x *= 3
        assert stream.is_capturing() and cp.get_current_stream() is stream
        for refused in (
            lambda: cp.empty(3),
            lambda: x + 1,
            x.get,
            lambda: float(x),
            stream.synchronize,
            lambda: x.set(np.zeros(8, np.float32)),
            lambda: add((1,), (8,), (x, np.float32(2)), stream=cp.Stream()),
        ):
            with pytest.raises(cp.CUDARuntimeError, match="while a stream is capturing"):
                refused()
        graph = stream.end_capture()
    assert not stream.is_capturing() and not x.get().any()
    for expected in (6, 24):
        graph.launch(stream)
        assert (x.get() == expected).all() and (y.get() == expected / 3).all()
    with pytest.raises(RuntimeError, match="default"):
        cp.get_current_stream().begin_capture()


def test_a_capture_forks_and_has_to_join():
    x, one, other = cp.zeros(8, np.float32), cp.Stream(non_blocking=True), cp.Stream(non_blocking=True)
    for joins in (True, False):
        with one:
            one.begin_capture()
            x += 1
            other.wait_event(one.record())
            with other:
                x *= 2
            if joins:
                one.wait_event(other.record())
                x += 5
                graph = one.end_capture()
            else:
                with pytest.raises(cp.CUDARuntimeError, match="Unjoined"):
                    one.end_capture()
    graph.launch()
    assert (x.get() == 7).all() and not other.is_capturing()


def test_a_stream_that_is_capturing_takes_no_other_capture_and_the_work_of_any_thread():
    x, stream, refused = cp.zeros(8, np.float32), cp.Stream(non_blocking=True), []

    def other():
        try:
            stream.begin_capture()
        except cp.CUDARuntimeError as error:
            refused.append(str(error))
        with stream:
            x.fill(3)

    stream.begin_capture()
    thread = threading.Thread(target=other)
    thread.start()
    thread.join()
    graph = stream.end_capture()
    assert "IllegalState" in refused[0] and not x.get().any()
    graph.launch(stream)
    assert (x.get() == 3).all()


def test_the_null_stream_does_not_wait_for_a_capture():
    """With a stream that waits for it, and that it waits for, nothing may be done on it, in any thread."""
    for blocking in (False, True):
        stream, x, refused = cp.Stream(non_blocking=not blocking), cp.zeros(8, np.float32), []

        def other():
            try:
                x.fill(3)
            except cp.CUDARuntimeError as error:
                refused.append(str(error))

        stream.begin_capture()
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
        stream.end_capture()
        assert bool(refused) == blocking == (not x.get().any())


def test_each_thread_has_a_current_stream_of_its_own():
    stream, entered, seen = cp.Stream(), threading.Event(), []

    def other():
        entered.wait()
        with stream:
            seen.append(cp.get_current_stream())
        seen.append(cp.get_current_stream())

    thread = threading.Thread(target=other)
    thread.start()
    with cp.Stream() as outer, stream:
        entered.set()
        thread.join()
        assert cp.get_current_stream() is stream
    assert seen == [stream, cp.Stream.null] and cp.get_current_stream() is cp.Stream.null is not outer


# What is done late is done in the order of its stream and of the events, and no earlier than it is waited for.
EVENTS = {
    "none": (lambda one, other: None, False),
    "an event": (lambda one, other: other.wait_event(one.record()), True),
    "an event of an object": (lambda one, other: (event := cp.Event()).record(one) or other.wait_event(event), True),
    "an event recorded too early": (None, False),
    "a wait of the host": (lambda one, other: one.synchronize(), True),
    "a wait for the device": (lambda one, other: cp.Device().synchronize(), True),
    "a wait of the host for the wrong stream": (lambda one, other: other.synchronize(), False),
}


@pytest.mark.parametrize("between", EVENTS)
def test_a_missing_event_is_seen_where_work_is_done_late(between):
    join, right = EVENTS[between]
    with cp.late():
        one, other = cp.Stream(non_blocking=True), cp.Stream(non_blocking=True)
        cp.Device().synchronize()
        early = one.record()
        with one:
            x = cp.full(8, 3.0)
        (join or (lambda one, other: other.wait_event(early)))(one, other)
        with other:
            assert (x.get() == 3).all() == right
        with one:
            assert (x.get() == 3).all()


@pytest.mark.parametrize("blocking", [True, False])
@pytest.mark.parametrize("on_null", [True, False])
def test_the_null_stream_and_blocking_ones_wait_for_one_another(blocking, on_null):
    with cp.late():
        stream, x = cp.Stream(non_blocking=not blocking), cp.full(8, 1.0)
        with stream:
            y = x + 1
        with cp.Stream.null if on_null else stream:
            assert (y.get() == 2).all() == blocking


def test_what_is_done_late_is_what_was_submitted():
    """Arrays of the host may change, arrays of the device be freed, and the stream be left in an error."""
    host, add = np.ones(8, np.float32), module(kernel("x[t] += y[t];", "float* x, const float* y")).get_function("kernel")
    with cp.late():
        x = cp.asarray(host)
        y = cp.asarray(host)
        host[:] = 5
        add((1,), (8,), (x, y))
        del y
        assert (x.get() == 2).all()
        x.set(host)
        host[:] = 7
        x += 1
        assert (x.get() == 6).all()
        unread = cp.zeros(8)
        assert np.isnan(unread._host).all()
    assert not unread._host.any()
    with pytest.raises(cp.KernelFault), cp.late():
        add((1,), (9,), (x, cp.zeros(9, np.float32)))
    assert (x.get() == 6).all()


def test_a_graph_is_done_late_on_the_stream_of_its_launch():
    with cp.late():
        one, other, x = cp.Stream(non_blocking=True), cp.Stream(non_blocking=True), cp.zeros(8)
        cp.Device().synchronize()
        with one:
            one.begin_capture()
            x += 1
            graph = one.end_capture()
        graph.launch(other)
        one.synchronize()
        assert not x._host.any()
        other.synchronize()
        assert (x._host == 1).all()


# ------------------------------------------------------------------------------------------------------------- cuBLAS


@pytest.fixture
def blas():
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


@pytest.mark.parametrize("trans", [0, 1])
@pytest.mark.parametrize("incx", [1, 2, -1])
def test_gemv_is_that_of_blas(blas, trans, incx):
    library, handle = blas
    rng = np.random.default_rng(4)
    a, x, y = rng.random((3, 6)), rng.random(12), rng.random(6)  # 3 columns of 4, which are 6 apart
    device = [cp.asarray(array) for array in (a, x, y)]
    one, half = ctypes.c_double(1), ctypes.c_double(0.5)
    pa, px, py = (array.data.ptr for array in device)
    assert (
        library.cublasDgemv_v2(handle, trans, 4, 3, one_p := ctypes.byref(one), pa, 6, px, incx, ctypes.byref(half), py, 1) == 0
    )
    matrix, count = (a[:, :4], 4) if trans else (a[:, :4].T, 3)
    vector = x[: count * abs(incx) : abs(incx)][:: 1 if incx > 0 else -1]
    expected = y.copy()
    expected[: 7 - count] = matrix @ vector + 0.5 * y[: 7 - count]
    np.testing.assert_allclose(device[2].get(), expected)
    assert library.cublasDgemv_v2(handle, trans, 4, 3, one_p, pa, 3, px, incx, one_p, py, 1) == 7
    assert library.cublasDgemv_v2(handle, trans, 4, 3, one_p, pa, 6, px, 0, one_p, py, 1) == 7


def test_products_are_captured_with_their_scalars(blas):
    library, handle = blas
    stream = cp.Stream(non_blocking=True)
    x, workspace = cp.asarray(np.ones(4)), cp.empty(4096, np.uint8)
    assert library.cublasSetStream_v2(handle, stream.ptr) == 0 and library.cublasSetMathMode(handle, 0) == 0
    assert library.cublasSetWorkspace_v2(handle, workspace.data.ptr, workspace.nbytes) == 0
    alpha = ctypes.c_double(2)
    stream.begin_capture()
    p = x.data.ptr
    assert (
        library.cublasDgemm_v2(handle, 0, 0, 2, 2, 2, ctypes.byref(alpha), p, 2, p, 2, ctypes.byref(ctypes.c_double(0)), p, 2)
        == 0
    )
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


def test_a_workspace_that_is_gone_or_shared_is_seen(blas, monkeypatch):
    library, handle = blas
    x, y, workspaces = cp.full((2, 2), 1.0), cp.empty((2, 2)), [cp.empty(4096, np.uint8)]
    assert library.cublasSetWorkspace_v2(handle, workspaces[0].data.ptr, 4096) == 0
    submit = cp._submit

    def disturbed(operation, stream=None):
        submit(operation, stream)
        submit(lambda: workspaces[0]._host.fill(0), stream)

    with monkeypatch.context() as patch:
        patch.setattr(cp, "_submit", disturbed)
        assert product(blas, x, y) == 0
    assert not y.get().any()
    workspaces.clear()
    with pytest.raises(cp.KernelFault, match="are not inside one array"):
        product(blas, x, y)


def test_it_is_cupy_while_it_is_installed():
    before = sys.modules.get("cupy")
    with cp.installed():
        import cupy
        from cupy.cuda import runtime

        assert cupy.ndarray is cp.ndarray and cupy.cuda.runtime is runtime and runtime.getDeviceCount() == 1
        assert importlib.util.find_spec("cupy") and runtime.getDeviceProperties(0)["name"] == b"host"
    assert sys.modules.get("cupy") is before and "cupy.cuda" not in sys.modules
