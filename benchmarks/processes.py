"""Worker processes: each is pinned to chosen cores and computes what this process asks it for."""

import contextlib
import multiprocessing
import os
import resource
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from multiprocessing.connection import Connection
from typing import Any


class WorkerError(Exception):
    """A worker could not do what it was asked for; the message says why."""


class Worker:
    """A session that lives in a process of its own.

    Parameters
    ----------
    cores
        The numbers of the cores that the process is pinned to.
    session
        A class, or any function that can be pickled. The process calls it once and keeps the object that it returns.
    *arguments
        What `session` is called with.

    Raises
    ------
    WorkerError
        `session` raised an error, or the process ended.
    """

    def __init__(self, cores: list[int], session: Callable[..., Any], *arguments: Any) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, other_end = context.Pipe()
        self.process = context.Process(target=_serve, args=(other_end, session, arguments), daemon=True)
        with pinned(cores):  # before the process starts: libraries count the cores that they may use when they are loaded
            self.process.start()
        other_end.close()
        try:
            self._receive()
        except WorkerError:
            self.close()
            raise

    def call(self, method: str, *arguments: Any) -> Any:
        """Return what a method of the session returns; WorkerError where it raises an error or the process ends."""
        with contextlib.suppress(BrokenPipeError):
            self.pipe.send((method, arguments))
        return self._receive()

    def _receive(self) -> Any:
        try:
            succeeded, answer = self.pipe.recv()
        except (EOFError, ConnectionResetError):
            self.process.join(5)
            raise WorkerError(f"its process ended with code {self.process.exitcode}") from None
        if not succeeded:
            raise WorkerError(answer)
        return answer

    def close(self) -> None:
        """End the process."""
        with contextlib.suppress(OSError):
            self.pipe.send(None)
        self.process.join(5)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()
        self.pipe.close()


def _serve(pipe: Connection, session: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    """Make the session and answer calls until None comes: what the worker's process runs."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that calls, which then ends this one
    try:
        served = session(*arguments)
        pipe.send((True, None))
        while (request := pipe.recv()) is not None:
            method, given = request
            answer = getattr(served, method)(*given)
            wait_for_idle_threads()
            pipe.send((True, answer))
    except EOFError:  # the process that calls is gone
        pass
    except Exception as error:  # any error of any library is an answer
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        pipe.send((False, f"{type(error).__name__}: {lines[0] if lines else ''}"[:300]))


def wait_for_idle_threads() -> None:
    """Return when the threads of this process sleep, or after a second.

    After a product the threads of OpenBLAS wait actively for a tenth of a second, on cores that other workers need.
    """
    for _ in range(100):
        before = time.process_time()
        time.sleep(0.01)
        if time.process_time() - before < 0.001:
            return


def peak_memory() -> float:
    """Return the largest resident memory that this process has had, in MB (2^20 bytes)."""
    try:  # on Linux the ru_maxrss of a child process begins with that of its parent, which may be larger
        with open("/proc/self/status") as status:
            kilobytes = next(line.split()[1] for line in status if line.startswith("VmHWM:"))
        return int(kilobytes) / 1024
    except (OSError, StopIteration):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if os.uname().sysname == "Darwin" else 2**10)


# ------------------------------------------------------------------------------------------------------------- cores


def allowed_cores() -> list[int]:
    """Return the numbers of the cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def choose_cores(threads: int) -> list[int]:
    """Return as many of the allowed cores as there are threads: the last ones, as the system itself uses the first.

    Raises
    ------
    ValueError
        This process may not use so many cores.
    """
    cores = allowed_cores()
    if not 1 <= threads <= len(cores):
        raise ValueError(f"threads is {threads}, but it must be from 1 to {len(cores)}, the number of cores of this process")
    return cores[-threads:]


@contextlib.contextmanager
def pinned(cores: Iterable[int]) -> Iterator[None]:
    """Pin this thread to the cores; what it starts meanwhile stays pinned. Where the system cannot pin, do nothing."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
