"""Wrong kernels: each kind is reported, or its result depends on the order of the threads."""

import contextlib

import numpy as np
import pytest

from tests import host_cuda as cp
from tests.host_cuda.tests.sources import CODE, kernel, launch


def orders():
    """The orders, one after the other."""
    return [cp.order("forward"), cp.order("reverse"), cp.order("shuffled", 1)]


def test_a_missing_barrier_is_seen_by_an_order():
    x = np.random.default_rng(2).random((64, 64))
    wrong = 0
    for setting in orders():
        with setting:
            transposed = cp.empty((64, 64))
            launch(CODE, cp.asarray(x), transposed, np.int32(64), np.int32(64), name="transpose", REAL="double", AFTER_TILE="")
            wrong += not np.array_equal(transposed.get(), x.T)
    assert wrong


def test_threads_run_in_the_order_that_was_asked_for():
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
        right.append(int(x.get()[16:48].sum()))  # threads whose neighbour is not at the other end of the block
    assert sorted(right) == [0, 32] if abs(by) == 1 else sorted(right) == [16, 16]


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
        ("x[t] = __shfl_sync(~0u, x[t], 0, 7);", "the width is not a power of two"),
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
        ("x[t] = 10 / t;", r"thread \(0, 0, 0\), line 2: an integer is divided by zero"),
        ("x[t] = 0x7fffffff + t;", "a signed sum overflows"),
        ("((double*)(x + t % 2))[t / 2] = 0;", r"line 2: the address is not aligned for its type"),
        ("volatile char big[200000]; big[t] = 1; x[t] = big[t + 1];", "its stack overflows|Segmentation"),
    ],
)
def test_what_a_thread_may_not_do_is_reported(body, words):
    with pytest.raises(cp.KernelFault, match=words):
        launch(kernel(body), cp.zeros(64, np.float32))


@pytest.mark.parametrize("meeting", ["__syncthreads()", "__syncwarp()", "x[t] = __shfl_xor_sync(~0u, x[t], 1)"])
def test_a_loop_without_end_in_which_threads_meet_takes_too_many_turns(meeting):
    too_many = "the launch takes more turns than allowed"
    with cp.limits(turns=64 * 1000):
        for meetings, ends in ((999, True), (1000, False)):  # the last turn of a thread ends where it returns
            with contextlib.nullcontext() if ends else pytest.raises(cp.KernelFault, match=f"line 2: {too_many}"):
                launch(kernel(f"for (int i = 0; i < {meetings}; ++i) {meeting};"), cp.zeros(64, np.float32))
        launch(kernel("x[t] = 1;"), x := cp.zeros(64, np.float32), grid=(1000,))
        assert x.get().all()
        with pytest.raises(cp.KernelFault, match=too_many):
            launch(kernel("x[t] = 1;"), x, grid=(1001,))


def test_a_loop_without_end_in_which_a_thread_is_alone_takes_too_long():
    words = r"thread \(0, 0, 0\).*: its turn does not end within the allowed seconds"
    with cp.limits(seconds=0.05), pytest.raises(cp.KernelFault, match=words):
        launch(kernel("volatile int stop = 0; while (!stop) {}"), cp.zeros(64, np.float32))


def test_a_launch_may_take_any_time_while_turns_end():
    with cp.limits(seconds=0.01):  # the launch takes some tenths of a second
        launch(kernel("__syncthreads(); x[t] = 1;"), x := cp.zeros(64, np.float32), grid=(40_000,))
    assert x.get().all()


def test_lost_updates_are_not_seen():
    """This is a limit of the stand-in: a thread is only interrupted where it meets others, so that `+=` loses nothing."""
    for setting in orders():
        with setting:
            launch(kernel("x[0] += 1;"), x := cp.zeros(1, np.float32))
            assert float(x) == 64
