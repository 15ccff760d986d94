import collections.abc
import ctypes
import sys
import types

import pytest

from benchmarks import machine, measure, operations, processes, training
from tests.kernels.gpu import on_host
from vae_np import kernels


class Clock:
    """In place of the module `time`: it goes on by what is slept, and by what a test adds."""

    def __init__(self):
        self.now, self.slept, self.working = 64.0, [], 0.0

    def perf_counter(self):
        return self.now

    def process_time(self):
        return self.working

    def sleep(self, seconds):
        self.now += seconds
        self.slept.append(seconds)


class InProcess:
    """In place of processes.Worker: the session is made and asked in this process."""

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
    """No benchmark looks at a real clock."""
    clock = Clock()
    for module in (measure, operations, machine, processes, training):
        monkeypatch.setattr(module, "time", clock)
    return clock


@pytest.fixture
def in_process(monkeypatch):
    """No benchmark starts a process, and a block is as short as can be."""
    monkeypatch.setattr(processes, "Worker", InProcess)
    monkeypatch.setattr(measure, "BLOCK_SECONDS", 1e-9)


@pytest.fixture
def scripted(monkeypatch, clock):
    """In place of a contestant's process stands its script, {method: answer}: what Contestant.make would have been.

    Of an iterator each answer is another; an Exception is raised; a block takes as long as it says. The fixture is the
    list of all that is asked, as (name in the script, method, *arguments).
    """
    asked, made = [], []

    class Scripted:
        def __init__(self, cores, session, script, *arguments):
            if isinstance(script.get("start"), Exception):
                raise script["start"]
            self.script, self.closed = script, False
            made.append(self)
            asked.append((script["name"], "start", cores, session, *arguments))

        def call(self, method, *given):
            assert not self.closed
            asked.append((self.script["name"], method, *given))
            answer = self.script[method]
            if isinstance(answer, collections.abc.Iterator):
                answer = next(answer)
            if isinstance(answer, Exception):
                raise answer
            if method == "block":
                clock.now += answer
            return answer

        def close(self):
            self.closed = True

    monkeypatch.setattr(processes, "Worker", Scripted)
    monkeypatch.setattr(processes, "allowed_cores", lambda: [0, 1, 4, 5])
    yield asked
    assert all(child.closed for child in made)


@pytest.fixture
def contestant():
    """contestant(name, method=answer, ...): a Contestant for `scripted`."""

    def made(name, reason="", device="cpu", **script):
        return types.SimpleNamespace(name=name, reason=reason, device=device, make={"name": name, **script})

    return made


@pytest.fixture
def gpu(monkeypatch, in_process):
    """A GPU can be used, as far as the benchmarks know; what runs on it is run by the host, and in this process."""
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
