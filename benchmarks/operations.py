"""The time of each operation of a kernel set alone, beside what the machine can do at best."""

import contextlib
import time
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from benchmarks import disturbances, measure, peaks, processes
from benchmarks.contestants import GPU_BACKENDS
from benchmarks.costs import Sizes, cost, costly_operations, traffic
from vae_np import kernels
from vae_np.testing.operations import check_operation, random_arguments

EXAMPLE = Sizes(128, 784, 400, 20, 1)  # those of the workload `example`, whose largest layer the layers have
# After so many calls the arrays that an operation changes get their first values again. Otherwise their numbers would become
# so small, by repeated scaling, that processors compute slowly with them.
CALLS = 8


class OperationSession:
    """What a worker does for a kernel set."""

    def __init__(self, backend: str, sizes: Sizes = EXAMPLE) -> None:
        self.kernel_set, self.sizes = kernels.load(backend), sizes

    def check(self, name: str) -> str:
        """Return what is wrong with an operation; the empty string where nothing is."""
        try:
            check_operation(self.kernel_set, name, "float32", self.sizes, cancelling=True)
        except Exception as error:  # any error that an operation raises is a finding
            return f"{type(error).__name__}: {error}".splitlines()[0]
        return ""

    def choose(self, name: str) -> None:
        """Choose the operation that `block` times from now on."""
        self.function = getattr(self.kernel_set, name)
        self.arguments, self.initial = (random_arguments(name, "float32", self.sizes) for _ in range(2))
        result = self.function(*self.arguments)
        results = result if isinstance(result, tuple) else (result,)
        self.changed = [
            i for i, argument in enumerate(self.arguments) if any(np.shares_memory(argument, array) for array in results)
        ]
        self.n = measure.calibrate(self._seconds)

    def block(self) -> tuple[float, float]:
        """Return the seconds of a call, and the share of its core's time that others took from the block of calls."""
        before = disturbances.counters()
        seconds = self._seconds(self.n) / (self.n * CALLS)
        return seconds, disturbances.taken(before, disturbances.counters())

    def _seconds(self, n: int) -> float:
        total = 0.0
        for _ in range(n):
            for i in self.changed:
                self.arguments[i][...] = self.initial[i]
            started = time.perf_counter()
            for _ in range(CALLS):
                self.function(*self.arguments)
            total += time.perf_counter() - started
        return total


def compare_operations(
    rounds: int,
    backends: Iterable[str],
    show_status: Callable[[str], None] = measure.show_nothing,
    sizes: Sizes = EXAMPLE,
    names: Iterable[str] | None = None,
) -> dict[str, Any]:
    """Check and time operations of kernel sets on one core.

    Parameters
    ----------
    rounds
        The number of blocks that are timed for each operation.
    backends
        The names of the kernel sets.
    show_status
        Is called with a line that says what is being done.
    sizes
        The sizes of the arrays.
    names
        The names of the operations. None: all that do anything.

    Returns
    -------
    dict
        The times and what they are compared with, ready for JSON.

    Raises
    ------
    ValueError
        None of the backends can be timed here.
    """
    cores, workers, missing = processes.choose_cores(1), {}, {}
    with contextlib.ExitStack() as stack:
        for backend in backends:
            status = kernels.available()[backend]
            if not status.ok or backend in GPU_BACKENDS:
                missing[backend] = status.reason or "on a GPU only whole steps are timed, by the command `step`"
                continue
            workers[backend] = processes.Worker(cores, OperationSession, backend, sizes)
            stack.callback(workers[backend].close)
        if not workers:
            reasons = "; ".join(f"{backend}: {reason}" for backend, reason in missing.items())
            raise ValueError(f"none of the chosen backends can be timed here ({reasons})")
        probe, speeds = measure.start_probe(cores, stack)
        levels, rows = probe.call("levels"), []
        for name in costly_operations():
            if names is None or name in names:
                show_status(name)
                rows += _rows(name, workers, probe, rounds, sizes, levels)
    return {
        "sizes": sizes._asdict(),
        "threads": 1,
        "cores": cores,
        "rounds": rounds,
        "peak": {"all": speeds},
        "levels": levels,
        "missing": missing,
        "rows": rows,
    }


def _rows(
    name: str,
    workers: dict[str, processes.Worker],
    probe: processes.Worker,
    rounds: int,
    sizes: Sizes,
    levels: dict[str, dict[str, float]],
) -> list[dict[str, Any]]:
    """Return a row of results for each backend."""
    its_cost = cost(name, sizes)
    moved = traffic(name, its_cost, random_arguments(name, "float32", sizes))
    wrong = {backend: worker.call("check", name) for backend, worker in workers.items()}
    right = {backend: worker for backend, worker in workers.items() if not wrong[backend]}
    for worker in right.values():
        worker.call("choose", name)
    calls = {backend: (lambda worker=worker: worker.call("block")) for backend, worker in right.items()}
    before = probe.call("caches", moved.touched)
    samples, failed = measure.take_turns(calls, rounds, lambda: probe.call("peak"))
    speeds = {way: max(speed, before[way]) for way, speed in probe.call("caches", moved.touched).items()}
    timed = {backend: blocks for backend, blocks in samples.items() if backend not in failed}
    state = disturbances.commonest_state([block for blocks in timed.values() for block in blocks])
    rows = []
    for backend in workers:
        row: dict[str, Any] = {"name": name, "backend": backend, "read": moved.read, "written": moved.written}
        row |= {"level": peaks.level_of(moved.touched, levels), "operations": its_cost.operations, "status": "ok", "reason": ""}
        if wrong[backend]:
            row |= {"status": "wrong", "reason": wrong[backend]}
        elif backend in failed:
            row |= {"status": "failed", "reason": failed[backend]}
        else:
            row |= disturbances.summary(timed[backend], state)
            row["share_of_bandwidth"] = moved.seconds(speeds) / row["median"]
            row["share_of_peak"] = its_cost.operations and disturbances.ratio(
                [block._replace(seconds=its_cost.operations / block.peak) for block in timed[backend]], timed[backend], state
            )
        rows.append(row)
    return rows
