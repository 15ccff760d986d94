"""Functions that are compiled when compiled code first calls them: an error then loses neither work nor a Ctrl-C."""

import signal
import time

import numpy as np
import pytest
from numba import njit

from vae_np.kernels.cpu import argument_buffer, jit


def doubled(a, b):
    for i in range(a.shape[0]):
        for j in range(a.shape[1]):
            b[i, j] = 2 * a[i, j]


DTYPES = [("float32", "float32"), ("float64", "float64"), ("uint32", "float64")]


def caller_of(name, fallback=np.multiply):
    function, prepare = argument_buffer.lazily_compiled(name, jit.kernel(doubled), fallback, DTYPES)

    @njit
    def caller(a, b):
        function((a, b))

    return caller, prepare


@pytest.mark.parametrize("real", ["float32", "float64"])
@pytest.mark.parametrize("prepared", [True, False])
def test_it_is_called_whether_it_was_prepared_or_not(real, prepared):
    caller, prepare = caller_of(f"test.{real}.{prepared}")
    if prepared:
        prepare(real, real)
    a, b = np.arange(12, dtype=real).reshape(3, 4), np.zeros((4, 3), real)
    for view in (a, a[::2], a[:, 1:], a[:0]):
        b = np.zeros(view.shape[::-1], real).T
        caller(view, b)
        assert (b == 2 * view).all()


@pytest.fixture
def interruptible():
    """A Ctrl-C is a KeyboardInterrupt, also in a process that a shell started in the background, where it is ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("error", [OSError("no space left"), KeyboardInterrupt()])
def test_what_cannot_be_compiled_is_computed_all_the_same(error, interruptible, monkeypatch, caplog):
    """An interrupted compilation is tried again; one that failed is not."""
    tried = []

    def fails(*_):
        tried.append(error)
        raise error

    caller, _ = caller_of(f"test.fails.{type(error).__name__}", lambda a, b: np.multiply(2, a, out=b))
    monkeypatch.setattr(argument_buffer, "compiled", fails)
    a, b = np.arange(12.0).reshape(3, 4)[:, 1:], np.zeros((3, 3))
    try:
        caller(a, b)
        assert (b == 2 * a).all()
        if isinstance(error, KeyboardInterrupt):
            for _ in range(60_000):  # a Ctrl-C comes a little later
                time.sleep(0.01)
        interrupted = False
    except KeyboardInterrupt:
        interrupted = True
    assert (b == 2 * a).all() and interrupted == isinstance(error, KeyboardInterrupt)
    assert interrupted or "could not be compiled" in caplog.text
    monkeypatch.setattr(argument_buffer._thread, "interrupt_main", lambda: None)
    b[...] = 0
    caller(a, b)
    assert (b == 2 * a).all() and len(tried) == 1 + interrupted
