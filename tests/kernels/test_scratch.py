"""Scratch memory: no two threads have the same buffer, and a buffer that is given back is taken again."""

import threading

import numpy as np
import pytest

from vae_np.kernels.cpu import scratch
from vae_np.kernels.cpu.jit import kernel


@kernel
def fill(n, like, number, differences):
    """Take n buffers, write a number of its own into each, and count the numbers that another thread has changed."""
    buffers = np.empty(n, np.int64)
    for i in range(n):
        buffers[i] = scratch.take()
        scratch.array_in(buffers[i], like)[:] = number + i
    for i in range(n):
        array = scratch.array_in(buffers[i], like)
        for j in range(array.size):
            differences[0] += array[j] != number + i
        scratch.give_back(buffers[i])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_buffer_has_its_size_and_begins_a_line_of_the_cache(dtype):
    @kernel
    def look(like, found):
        buffer = scratch.take()
        array = scratch.array_in(buffer, like)
        found[0], found[1] = array.nbytes, array.ctypes.data % scratch.ALIGNED
        scratch.give_back(buffer)

    found = np.zeros(2, np.int64)
    look(np.zeros(1, dtype), found)
    assert found.tolist() == [scratch.BYTES, 0]


@pytest.mark.parametrize("n", [1, 2, scratch.SLOTS + 3], ids=["one", "two", "more than are kept"])
def test_threads_share_no_buffer(n):
    like, differences = np.zeros(1), np.zeros((4, 1), np.int64)
    fill(1, like, 0.0, differences[0])  # compiled
    threads = [threading.Thread(target=fill, args=(n, like, 1000.0 * i, differences[i])) for i in range(len(differences))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not differences.any()
    kept = scratch._pool[:: scratch.LINE]
    assert len(set(kept[kept != 0].tolist())) == np.count_nonzero(kept), "one buffer is kept twice"


def test_what_is_given_back_is_taken_again():
    fill(3, np.zeros(1), 0.0, np.zeros(1, np.int64))
    before = scratch._pool.copy()
    for _ in range(5):
        fill(3, np.zeros(1), 0.0, np.zeros(1, np.int64))
    assert sorted(scratch._pool) == sorted(before) and np.count_nonzero(before) >= 3
