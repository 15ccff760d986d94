import collections.abc
import ctypes
import sys
import types

import pytest

from benchmarks import disturbances, measure, operations, peaks, processes, training
from tests.kernels.gpu import on_host
from vae_np import kernels


class Clock:
    """Stands in for the module `time`: its time advances by what is slept and by what a test adds."""

    def __init__(self):
        self.now, self.slept, self.working = 64.0, [], 0.0

    def perf_counter(self):
        return self.now

    def process_time(self):
        return self.working

    def sleep(self, seconds):
        self.now += seconds
        self.slept.append(seconds)


LEVELS = {"L1": {"bytes": 2**12, "read": 4e9, "write": 2e9}, "memory": {"read": 2e9, "write": 1e9}}
PROBE = {
    "name": "probe",
    "peaks": {"product": 2.0**30, "loop": 2.0**31},
    "peak": 2.0**31,
    "levels": LEVELS,
    "caches": {"read": 2.0**30, "write": 2.0**28},
}


class InProcess:
    """Stands in for processes.Worker: it makes and calls the session in this process."""

    def __init__(self, cores, session, *arguments):
        self.session = self.answer(session, *arguments)

    def call(self, method, *given):
        return self.answer(getattr(self.session, method), *given)

    def answer(self, function, *given):
        try:
            return function(*given)
        except Exception as error:
            raise processes.WorkerError(f"{type(error).__name__}: {error}") from error

    def close(self):
        pass


@pytest.fixture
def clock(monkeypatch):
    """A Clock, which the benchmarks read instead of the real one."""
    clock = Clock()
    for module in (disturbances, measure, operations, peaks, processes, training):
        monkeypatch.setattr(module, "time", clock)
    return clock


@pytest.fixture
def in_process(monkeypatch):
    """Make the benchmarks start no process, and what they time as short as possible."""
    monkeypatch.setattr(processes, "Worker", InProcess)
    monkeypatch.setattr(measure, "BLOCK_SECONDS", 1e-9)
    monkeypatch.setattr(peaks, "PIECE_SECONDS", 1e-9)


@pytest.fixture
def scripted(monkeypatch, clock):
    """A list of all calls of workers, each as (name in the script, method, *arguments).

    Instead of starting a process, a worker answers from a script {method: answer}, which stands where Contestant.make would.
    A function is called, an iterator gives another answer in each call, an Exception is raised, and the clock advances by the answer of "block":
    the seconds, or the seconds and the share that others took. The worker that measures the peak answers from PROBE, and
    only its start is listed.
    """
    asked, made = [], []

    class Scripted:
        def __init__(self, cores, session, *arguments):
            self.script, *arguments = (PROBE, *arguments) if session is measure._probe else arguments
            if isinstance(self.script.get("start"), Exception):
                raise self.script["start"]
            self.closed = False
            made.append(self)
            asked.append((self.script["name"], "start", cores, session, *arguments))

        def call(self, method, *given):
            assert not self.closed
            if self.script is not PROBE:
                asked.append((self.script["name"], method, *given))
            answer = self.script[method]
            if callable(answer):
                answer = answer(*given)
            if isinstance(answer, collections.abc.Iterator):
                answer = next(answer)
            if isinstance(answer, Exception):
                raise answer
            if method == "block":
                answer = answer if isinstance(answer, tuple) else (answer, 0.0)
                clock.now += answer[0]
            return answer

        def close(self):
            self.closed = True

    monkeypatch.setattr(processes, "Worker", Scripted)
    monkeypatch.setattr(processes, "allowed_cores", lambda: [0, 1, 4, 5])
    yield asked
    assert all(child.closed for child in made)


@pytest.fixture
def contestant():
    """A function contestant(name, method=answer, ...) that makes a Contestant for `scripted`."""

    def made(name, reason="", device="cpu", **script):
        return types.SimpleNamespace(name=name, reason=reason, device=device, make={"name": name, **script})

    return made


@pytest.fixture
def gpu(monkeypatch, in_process):
    """Let the benchmarks find a GPU; the host runs what they run on it, in this process."""
    if not on_host.KERNELS:
        pytest.skip("no g++")

    class Cublas(on_host.DEVICE.load_cublas):
        def cublasGetProperty(self, part, number):
            ctypes.cast(number, ctypes.POINTER(ctypes.c_int))[0] = (13, 2, 1)[part]
            return 0

    monkeypatch.setattr(kernels, "CHECKS", kernels.CHECKS | {"cupy": lambda: kernels.Status(True)})
    monkeypatch.setattr(measure, "CHECKED_STEPS", 2)
    monkeypatch.setattr(on_host.DEVICE, "load_cublas", Cublas)
    monkeypatch.setitem(sys.modules, "vae_np.kernels.gpu", on_host.KERNELS)
