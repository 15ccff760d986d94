"""Two threads of the host in turns."""

import contextlib

import numpy as np
import pytest

from tests import host_cuda as cp


def test_a_turn_ends_with_each_submission():
    """Each submission of a fill is seen by the other thread before the next one."""
    turns, seen = cp.Turns(), []

    def fill(name):
        for _ in range(3):
            seen.append(name)
            cp.empty(1).fill(0)
        return name

    assert turns.results(lambda: fill("a"), lambda: fill("b")) == ["a", "b"]
    assert seen == ["a", "b"] * 3


def test_the_same_update_without_a_lock_is_lost_and_with_one_is_not():
    for locked, total in ((False, 1), (True, 2)):
        turns, x = cp.Turns(), np.zeros(1)
        lock = cp.Lock(turns) if locked else contextlib.nullcontext()

        def update():
            with lock:
                before = x[0]
                cp.empty(1).fill(0)
                x[0] = before + 1

        turns.results(update, update)
        assert x[0] == total


def test_an_error_in_a_thread_is_raised():
    def fails():
        cp.empty(1).fill(0)
        raise ValueError("wrong")

    with pytest.raises(ValueError, match="wrong"):
        cp.Turns().results(fails, lambda: cp.empty(1).fill(0))


def test_submissions_of_the_callback_do_not_call_it_again():
    seen, x = [], cp.zeros(1)

    def callback(stream):
        seen.append(stream)
        x.fill(1)

    with cp.after_each_submission(callback):
        x.fill(2)
    x.fill(3)
    assert seen == [cp.Stream.null] and x.get() == 3
