"""The time of a training step: each contestant runs in a process of its own, and their timed blocks take turns."""

import contextlib
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from benchmarks import disturbances, processes
from benchmarks.contestants import PEAK, Contestant, Trainer
from benchmarks.disturbances import Sample, State, ratio, summary
from benchmarks.workloads import Workload

BLOCK_SECONDS = 0.1  # the least time that a timed block of steps takes
MOST_STEPS = 100_000  # in a block
PAUSE_SECONDS = 0.02  # between two blocks
CHECKED_STEPS = 20  # the losses before and after each of these steps are compared
# The largest relative error of a loss against the reference of the precision. After the checked steps, rounding errors have
# grown to a third of it in float32. In bfloat16, which keeps 8 significant bits, they have grown to a tenth in our own kernel
# sets, and to a quarter in libraries that round the results of layers as well, or that round nothing.
TOLERANCES = {"float32": 1e-4, "bfloat16": 3e-3}

ShowStatus = Callable[[str], None]


def show_nothing(line: str) -> None:
    """Show no status line."""


class Session:
    """What a worker does for a contestant.

    Parameters
    ----------
    make
        Makes the contestant's Trainer of the two other arguments.
    workload
        The model, its data and its batches.
    threads
        The number of threads that the contestant may use.
    """

    def __init__(self, make: Callable[[Workload, int], Trainer], workload: Workload, threads: int) -> None:
        self.workload = workload
        self.trainer = make(workload, threads)
        self.done = 0

    def losses(self) -> list[float] | None:
        """Return the losses before and after each of the checked steps; None where the contestant computes no loss."""
        losses = self.trainer.losses(self.workload.batches(CHECKED_STEPS + 1))
        return None if losses is None else [float(loss) for loss in losses]

    def calibrate(self) -> int:
        """Choose and return the number of steps in a block. Nothing is left to be compiled afterwards."""
        self.n = calibrate(self.seconds_of)
        return self.n

    def block(self) -> tuple[float, float]:
        """Return the seconds per step of a block, and the share of its cores' time that others took meanwhile.

        A step before it brings back the caches that the other contestants have used.
        """
        self.seconds_of(1)
        self.prepare(self.n)
        before = disturbances.counters()
        seconds = self.run()
        return seconds / self.n, disturbances.taken(before, disturbances.counters())

    def seconds_of(self, n: int) -> float:
        """Return the seconds of n steps."""
        self.prepare(n)
        return self.run()

    def prepare(self, n: int) -> None:
        """Make everything ready for n steps.

        They begin at the initial parameters, so that a fast contestant computes with the same numbers as a slow one. They
        take the batches after those of the last call, so that the data pass through the caches as they do in training.
        """
        self.trainer.restart()
        self.trainer.prepare(self.workload.batches(n, self.done))
        self.done += n

    def run(self) -> float:
        """Return the seconds of the steps that `prepare` has made ready."""
        started = time.perf_counter()
        self.trainer.run()
        return time.perf_counter() - started

    def warm_up(self, sizes: Iterable[tuple[int, int]]) -> float:
        """Compile what training needs on such arrays of batches, each (n, B), and return the seconds that it took."""
        started = time.perf_counter()
        for n, batch_size in sizes:
            self.trainer.prepare(np.zeros((n, batch_size), np.int64))
            self.trainer.run()
        self.trainer.restart()
        return time.perf_counter() - started

    def train(self, batches: Iterable[NDArray]) -> tuple[float, NDArray]:
        """Make steps on arrays of batches (n, B) in turn; return the seconds that they took and the parameters then."""
        seconds = 0.0
        for rows in batches:
            self.trainer.prepare(rows)
            started = time.perf_counter()
            self.trainer.run()
            seconds += time.perf_counter() - started
        return seconds, np.array(self.trainer.parameters())

    def describe(self) -> dict[str, Any]:
        """Return the contestant's note and the memory that it has needed."""
        return {"note": self.trainer.note, "peak_memory_mb": processes.peak_memory()}


def calibrate(seconds_of: Callable[[int], float]) -> int:
    """Return a number n for which seconds_of(n) is a block: the least one, or up to twice as large."""
    n = 1
    seconds_of(n)  # the first call may compile or allocate
    while (seconds := seconds_of(n)) < BLOCK_SECONDS:
        n = max(n + 1, min(100 * n, int(1.3 * n * BLOCK_SECONDS / max(seconds, 1e-7)) + 1))
        if n > MOST_STEPS:
            raise RuntimeError(f"a step takes less than {BLOCK_SECONDS / MOST_STEPS:g} seconds, which is too short to be timed")
        seconds_of(n)  # a compiled loop of another length is another program
    return n


# ------------------------------------------------------------------------------------------------------- comparisons


def compare(
    workload: Workload,
    contestants: Sequence[Contestant],
    reference: Contestant,
    threads: int,
    rounds: int,
    show_status: ShowStatus = show_nothing,
    precision: str = "float32",
) -> dict[str, Any]:
    """Time a step of each contestant.

    Parameters
    ----------
    workload
        The model, its data and its batches.
    contestants
        Those that are compared; the first is the floor.
    reference
        The losses of all contestants must agree with this one's.
    threads
        The number of cores that each contestant is pinned to.
    rounds
        The number of blocks that are timed for each contestant.
    show_status
        Is called with a line that says what is being done.
    precision
        That of the contestants and of the reference.

    Returns
    -------
    dict
        The times and what they depend on, ready for JSON.
    """
    cores = processes.choose_cores(threads)

    def calibrated(worker: processes.Worker) -> dict[str, Any]:
        return {"steps_per_block": worker.call("calibrate")}

    def show(line: str) -> None:
        show_status(f"{workload.name}, {threads} threads: {line}")

    with contextlib.ExitStack() as stack:
        rows, workers = start(workload, contestants, reference, cores, calibrated, stack, show, precision)
        probe, speeds = start_probe(cores, stack, precision)
        show(f"{rounds} rounds of {', '.join(workers)}")
        calls = {name: (lambda worker=worker: worker.call("block")) for name, worker in workers.items()}
        samples, failed = take_turns(calls, rounds, lambda: probe.call("peak"))
        for name, reason in failed.items():
            rows[name] |= {"status": "failed", "reason": reason}
        timed = {name: of for name, of in samples.items() if name not in failed}
        for name in timed:
            rows[name] |= workers[name].call("describe")
    every, device = [block for blocks in timed.values() for block in blocks], contestants[0].device
    state = disturbances.commonest_state(every)
    found = summaries(timed, state, workload.flops / threads if device == "cpu" else None)
    for name in timed:
        rows[name] |= found[name]
    listed = list(rows.values())
    if PEAK in found:
        note = f"the same products at the peak of the {max(speeds, key=lambda how: speeds[how])}"
        listed.insert(1, {"name": PEAK, "status": "ok", "reason": "", "note": note} | found[PEAK])
    arch = workload.architecture
    return {
        "workload": workload.name,
        "architecture": "-".join(map(str, (arch.n_inputs, *arch.hidden, arch.n_latent))),
        "activation": arch.activation,
        "batch_size": workload.batch_size,
        "n_samples": workload.n_samples,
        "objective": workload.objective,
        "flops": workload.flops,
        "device": device,
        "precision": precision,
        "threads": threads,
        "cores": cores,
        "rounds": rounds,
        "peak": {"all": speeds, "states": disturbances.describe_states(every, state)},
        "rows": listed,
    }


def start(
    workload: Workload,
    contestants: Iterable[Contestant],
    reference: Contestant,
    cores: list[int],
    prepare: Callable[[processes.Worker], dict[str, Any]],
    stack: contextlib.ExitStack,
    show_status: ShowStatus,
    precision: str,
) -> tuple[dict[str, dict[str, Any]], dict[str, processes.Worker]]:
    """Start a worker for each contestant, check its losses, and call `prepare` for those that are right.

    Returns
    -------
    rows : dict
        For each name a row of results: its status, the reason for a bad one, and what `prepare` has returned.
    workers : dict
        For each name the worker of a contestant that is right. The stack closes them.
    """
    rows, workers, threads = {}, {}, len(cores)
    show_status("the reference computes the losses")
    wanted = reference_losses(workload, reference, cores)
    for contestant in contestants:
        show_status(f"{contestant.name} starts and is checked")
        row = rows[contestant.name] = {"name": contestant.name, "status": "ok", "reason": ""}
        if contestant.reason:
            row |= {"status": "missing", "reason": contestant.reason}
            continue
        try:
            worker = processes.Worker(cores, Session, contestant.make, workload, threads)
            stack.callback(worker.close)
            row |= verdict(worker.call("losses"), wanted, TOLERANCES[precision])
            if row["status"] == "ok":
                row |= prepare(worker)
                workers[contestant.name] = worker
        except processes.WorkerError as error:
            row |= {"status": "failed", "reason": str(error)}
    return rows, workers


def start_probe(
    cores: list[int], stack: contextlib.ExitStack, precision: str = "float32"
) -> tuple[processes.Worker, dict[str, float]]:
    """Start a worker that measures the peak of the cores; return it, and the peaks of several loops. The stack closes it."""
    worker = processes.Worker(cores, _probe, precision)
    stack.callback(worker.close)
    return worker, worker.call("peaks")


def _probe(precision: str) -> Any:
    from benchmarks.peaks import Probe  # only this worker needs Numba

    return Probe(precision)


def reference_losses(workload: Workload, reference: Contestant, cores: list[int]) -> list[float]:
    """Return the losses of the reference, which a worker of its own computes."""
    worker = processes.Worker(cores, Session, reference.make, workload, len(cores))
    try:
        return worker.call("losses")
    finally:
        worker.close()


def verdict(losses: ArrayLike | None, wanted: ArrayLike, tolerance: float = TOLERANCES["float32"]) -> dict[str, Any]:
    """Compare the losses before and after each checked step with those of the reference; return entries for a row."""
    if losses is None:
        return {}
    losses, wanted = np.asarray(losses), np.asarray(wanted)
    errors = np.abs(losses - wanted) / np.abs(wanted)
    found = {"loss": float(losses[-1]), "loss_error": float(errors.max())}
    if losses.shape == wanted.shape and np.all(errors <= tolerance):
        return found
    step = int(np.argmax(~(errors <= tolerance)))
    reason = f"its loss after {step} steps is {losses[step]:.6g}, but the reference's is {wanted[step]:.6g}"
    return found | {"status": "wrong", "reason": reason}


def take_turns(
    calls: dict[str, Callable[[], tuple[float, float]]], rounds: int, peak: Callable[[], float]
) -> tuple[dict[str, list[Sample]], dict[str, str]]:
    """Call each function once in every round, each time in another order.

    Parameters
    ----------
    calls
        For each name a function that times a block, and returns its seconds and the share of the time that others took.
    rounds
        How often each is called.
    peak
        Measures the peak of the machine, before and after each block.

    Returns
    -------
    samples : dict
        For each name its blocks, each with the mean of the peaks before and after it.
    failed : dict
        For each name whose function has raised a WorkerError the message; it was not called again.
    """
    samples, failed, names = {name: [] for name in calls}, {}, list(calls)
    for i in range(rounds):
        for k in range(len(names)):
            name = names[(i + k) % len(names)]  # so that no function is always called after the same other one
            if name in failed:
                continue
            time.sleep(PAUSE_SECONDS)
            before = peak()
            try:
                seconds, taken = calls[name]()
            except processes.WorkerError as error:
                failed[name] = str(error)
                continue
            samples[name].append(Sample(seconds, taken, (before + peak()) / 2))
    return samples, failed


def summaries(samples: dict[str, list[Sample]], state: State, flops_of_core: float | None = None) -> dict[str, dict[str, Any]]:
    """Return entries for rows: times and ratios in the blocks that count, and what disturbed the others.

    Parameters
    ----------
    samples
        For each name its blocks, one in each round.
    state
        The state of the machine in which times are compared.
    flops_of_core
        The operations of a step's matrix products that each core makes. With it there are entries for one more row: these
        products at the peak that was measured beside the blocks.

    Returns
    -------
    dict
        The entries by name.
    """
    found = {name: summary(blocks, state) for name, blocks in samples.items()}
    for name, blocks in samples.items():
        found[name]["ratios"] = {peer: ratio(blocks, of_peer, state) for peer, of_peer in samples.items()}
    if flops_of_core is not None and samples:
        at_peak = {name: [b._replace(seconds=flops_of_core / b.peak) for b in blocks] for name, blocks in samples.items()}
        of_all = summary([block for blocks in at_peak.values() for block in blocks], state)
        found[PEAK] = {time: of_all[time] for time in ("median", "p10", "minimum")}
        found[PEAK]["ratios"] = {name: ratio(at_peak[name], blocks, state) for name, blocks in samples.items()} | {PEAK: 1.0}
        for name, blocks in samples.items():
            found[name]["ratios"][PEAK] = ratio(blocks, at_peak[name], state)
    return found
