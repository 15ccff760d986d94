"""A worker runs on its cores and answers every call, with one line where it fails."""

import contextlib
import importlib
import io
import os
import signal
import types

import pytest

from benchmarks import processes

# --------------------------------------------------------------------------------------------- a process of its own


def test_a_session_runs_in_a_process_on_its_cores():
    """The session is a module here, whose functions show where they run."""
    core, here = processes.allowed_cores()[-1], processes.allowed_cores()
    child = processes.Worker([core], importlib.import_module, "os")
    with contextlib.closing(child):
        assert child.call("getpid") == child.process.pid != os.getpid()
        if hasattr(os, "sched_getaffinity"):
            assert child.call("sched_getaffinity", 0) == {core}
            assert processes.allowed_cores() == here
        os.kill(child.process.pid, signal.SIGINT)  # Ctrl-C reaches all processes of a terminal
        assert child.call("fspath", "still there") == "still there"
        with pytest.raises(processes.WorkerError, match="ended with code 7"):
            child.call("_exit", 7)
        with pytest.raises(processes.WorkerError, match="ended with code 7"):
            child.call("getpid")
    assert not child.process.is_alive()


def test_an_error_in_a_process_is_told_in_a_line():
    child = processes.Worker(processes.allowed_cores(), importlib.import_module, "math")
    with contextlib.closing(child), pytest.raises(processes.WorkerError, match=r"^ValueError: .*domain"):
        child.call("sqrt", -1.0)
    with pytest.raises(processes.WorkerError, match="^ModuleNotFoundError: No module named 'no_such_module'$"):
        processes.Worker(processes.allowed_cores(), importlib.import_module, "no_such_module")


def served(monkeypatch, session, arguments, *requests):
    """Return what a worker does in turn with such requests, and the requests that it has not read."""
    did, waiting = [], list(requests)

    def recv():
        if not waiting:
            raise EOFError
        return waiting.pop(0)

    signals = types.SimpleNamespace(signal=lambda *words: did.append(words), SIGINT="Ctrl-C", SIG_IGN="ignored")
    monkeypatch.setattr(processes, "signal", signals)
    monkeypatch.setattr(processes, "wait_for_idle_threads", lambda: did.append("quiet"))
    processes._serve(types.SimpleNamespace(send=did.append, recv=recv), session, arguments)
    return did, waiting


def test_a_process_answers_when_its_threads_sleep(monkeypatch):
    """Otherwise they would take the cores from the worker that is called next."""
    ask = [("index", ("b",)), ("count", ("b",)), None, ("index", ("a",))]
    started = [("Ctrl-C", "ignored"), (True, None)]
    answers = ["quiet", (True, 1), "quiet", (True, 2)]
    assert served(monkeypatch, list, ["abbc"], *ask) == ([*started, *answers], ask[3:])
    assert served(monkeypatch, list, ["abbc"], ask[0]) == ([*started, *answers[:2]], [])  # the process that calls is gone


@pytest.mark.parametrize(
    "error, said",
    [
        (ValueError(" \n  off: \n much more"), "ValueError: off:"),
        (MemoryError(), "MemoryError: "),
        (OSError("x" * 500), "OSError: " + "x" * 291),
    ],
)
def test_what_a_library_raises_is_an_answer(error, said, monkeypatch):
    def fails(*_):
        raise error

    assert served(monkeypatch, fails, [])[0][1:] == [(False, said)]
    did, _ = served(monkeypatch, lambda: types.SimpleNamespace(run=fails), [], ("run", (3,)), ("run", (4,)))
    assert did[1:] == [(True, None), (False, said)]


@pytest.mark.parametrize("end", [lambda pipe: pipe.send(None), lambda pipe: pipe.close()])
def test_a_process_ends_with_whom_it_serves(end):
    child = processes.Worker(processes.allowed_cores(), importlib.import_module, "os")
    assert child.process.is_alive()
    end(child.pipe)
    child.process.join()
    assert child.process.exitcode == 0
    child.close()


@pytest.mark.parametrize("alive, ended", [(False, []), (True, ["kill", "join"])])
def test_a_process_that_does_not_end_is_killed(alive, ended):
    did = []
    child = object.__new__(processes.Worker)
    names = "join", "kill"
    child.process = types.SimpleNamespace(**{name: lambda *_, name=name: did.append(name) for name in names})
    child.process.is_alive = lambda: alive
    child.pipe = types.SimpleNamespace(send=did.append, close=lambda: did.append("close"))
    child.close()
    assert did == [None, "join", *ended, "close"]


# ------------------------------------------------------------------------------------------------------- the machine


def files(monkeypatch, **texts):
    """Let files of such names hold those texts; no other file can be opened."""

    def opened(path, *_, **__):
        if os.path.basename(path) not in texts:
            raise FileNotFoundError(path)
        return io.StringIO(texts[os.path.basename(path)])

    monkeypatch.setattr(processes, "open", opened, raising=False)


def test_peak_memory_is_in_units_of_2_to_the_20(monkeypatch):
    files(monkeypatch, status="Name:\tpython\nVmPeak:\t 9999 kB\nVmHWM:\t 3072 kB\nVmRSS:\t 8 kB\n")
    assert processes.peak_memory() == 3
    usage = types.SimpleNamespace(getrusage=lambda who: types.SimpleNamespace(ru_maxrss=2**22), RUSAGE_SELF=0)
    monkeypatch.setattr(processes, "resource", usage)
    for system, megabytes in (("Linux", 2**12), ("Darwin", 4)):  # the one counts in kB and the other in bytes
        monkeypatch.setattr(os, "uname", lambda system=system: types.SimpleNamespace(sysname=system))
        files(monkeypatch)
        assert processes.peak_memory() == megabytes
        files(monkeypatch, status="Name:\tpython\n")
        assert processes.peak_memory() == megabytes


def test_quiet_is_waited_for_and_not_for_ever(clock):
    asleep = clock.sleep

    def spinning_until(end):
        def sleep(seconds):
            clock.working += seconds if clock.now < end else seconds / 100
            asleep(seconds)

        return sleep

    clock.sleep = spinning_until(64.1)
    processes.wait_for_idle_threads()
    assert clock.now >= 64.1
    assert len(clock.slept) < 15
    clock.sleep = spinning_until(1e9)
    processes.wait_for_idle_threads()


def test_cores_are_those_that_this_process_may_use(monkeypatch):
    asked = []
    monkeypatch.setattr(os, "sched_getaffinity", lambda who: {5, 2}, raising=False)
    monkeypatch.setattr(os, "sched_setaffinity", lambda who, cores: asked.append(cores), raising=False)
    assert processes.allowed_cores() == [2, 5]
    with contextlib.suppress(ZeroDivisionError), processes.pinned([5]):
        assert asked == [[5]]
        raise ZeroDivisionError
    assert asked == [[5], {5, 2}]
    monkeypatch.delattr(os, "sched_getaffinity")  # a system that has no affinity
    monkeypatch.delattr(os, "sched_setaffinity")
    for n, cores in ((3, [0, 1, 2]), (None, [0])):
        monkeypatch.setattr(os, "cpu_count", lambda n=n: n)
        assert processes.allowed_cores() == cores
    with processes.pinned([0]):
        pass


def test_cores_are_the_last_ones(monkeypatch):
    monkeypatch.setattr(processes, "allowed_cores", lambda: [0, 1, 4, 5])
    assert processes.choose_cores(1) == [5]
    assert processes.choose_cores(2) == [4, 5]
    assert processes.choose_cores(4) == [0, 1, 4, 5]
    for threads in (0, 5, -1):
        with pytest.raises(
            ValueError, match=rf"threads is {threads}, but it must be from 1 to 4, the number of cores of this process"
        ):
            processes.choose_cores(threads)
