"""Functions that are compiled when compiled code first calls them: an error then loses neither work nor a Ctrl-C."""

import signal
import subprocess
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
    function, _, prepare = argument_buffer.lazily_compiled(name, jit.kernel(doubled), fallback, DTYPES)

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


@jit.kernel
def tripled(a, b):
    for i in range(a.shape[0]):
        b[i] = 3 * a[i]


@jit.kernel
def copied(a, b):
    for i in range(a.shape[0]):
        b[i] = a[i]


TRIPLED, COPIED = ((operation, argument_buffer.types_of((np.zeros(1), np.zeros(1)))) for operation in (tripled, copied))


@pytest.fixture
def empty_cache(tmp_path, monkeypatch, caplog):
    """The folder of the cache; this process has nothing compiled, and notes what it compiles."""
    monkeypatch.setattr(jit.config, "CACHE_DIR", str(tmp_path))
    argument_buffer._entry.cache_clear()
    caplog.set_level("INFO", "vae_np.compilation")
    yield tmp_path
    argument_buffer._entry.cache_clear()


def compiled_in(caplog):
    """What was compiled since this was asked before."""
    names = [record.args for record in caplog.records if record.name == "vae_np.compilation"]
    caplog.clear()
    return names


def test_what_is_kept_is_read_and_not_counted(empty_cache, caplog):
    argument_buffer.compile_all([TRIPLED])
    assert compiled_in(caplog) == [(1, 1, "tripled")]
    argument_buffer._entry.cache_clear()
    argument_buffer.compile_all([TRIPLED, COPIED, COPIED])
    assert compiled_in(caplog) == [(1, 1, "copied")] and argument_buffer._entry(*TRIPLED).cache_hits == 1
    argument_buffer._entry.cache_clear()
    for index in empty_cache.rglob("*tripled*.nbi"):
        index.write_bytes(b"")
    b = np.zeros(3)
    argument_buffer.call_compiled(tripled, (np.arange(3.0), b))
    assert compiled_in(caplog) == [(1, 1, "tripled")] and list(b) == [0, 3, 6]


@pytest.mark.parametrize("how", ["it works at once", "it works slowly", "it fails", "it hangs"])
def test_what_another_process_has_compiled_is_read_and_else_it_is_compiled_here(how, empty_cache, monkeypatch, caplog):
    processes = []

    class Process:
        def __init__(self, code):
            processes.append(code)
            if how == "it works at once":
                argument_buffer._entry.__wrapped__(*TRIPLED).compile()

        def wait(self, timeout):
            if how == "it hangs":
                raise subprocess.TimeoutExpired("python", timeout)
            if how == "it works slowly":
                argument_buffer._entry.__wrapped__(*TRIPLED).compile()

    monkeypatch.setattr(argument_buffer, "python_beside", Process)
    for wanted in ([TRIPLED], [TRIPLED], [TRIPLED, COPIED]):
        argument_buffer.begin_elsewhere(wanted, "code")
    argument_buffer.compile_all([TRIPLED, COPIED])
    assert compiled_in(caplog) == [(1, 2, "copied"), (2, 2, "tripled")]
    assert argument_buffer._entry(*TRIPLED).cache_hits == ("works" in how)
    argument_buffer.begin_elsewhere([TRIPLED, COPIED], "code")
    argument_buffer._entry.cache_clear()
    argument_buffer.begin_elsewhere([TRIPLED, COPIED], "code")
    assert processes == ["code"]


def test_a_process_beside_this_one_has_its_modules_and_its_cache(empty_cache, monkeypatch):
    monkeypatch.setattr(jit.config, "NUMBA_NUM_THREADS", 2)
    code = f"from vae_np.kernels.cpu import argument_buffer; from {__name__} import TRIPLED; argument_buffer.compile_all([TRIPLED])"
    process = jit.python_beside(code)
    assert process and process.wait() == 0
    assert [path.suffix for path in sorted(empty_cache.rglob("*tripled*"))] == [".nbc", ".nbi"]


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
