"""How long a training step of several ranks takes under mpiexec, beside threads, and beside PyTorch's DistributedDataParallel.

The file is also the program of each process: `mpiexec -n 2 python -m benchmarks.ranks rows example 1 5`.
"""

import contextlib
import functools
import importlib.util
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from numpy.typing import NDArray

from benchmarks.processes import allowed_cores
from benchmarks.workloads import ADAM, WORKLOADS, Workload
from vae_np import kernels, steps
from vae_np.ranks import Ranks, of_launch, rank_in_environment

SECONDS = 600  # after which a measurement has failed
BLOCKS, MOST = 5, 20  # blocks of steps that a process times, and the steps in one, if they take less than 0.3 seconds
DDP = "torch DDP"


class Way(NamedTuple):
    """A way to run the steps: how many processes of how many threads make them, and the function of TIMERS that times them."""

    name: str
    timer: str
    processes: int
    threads: int


def ways(counts: Sequence[int]) -> list[Way]:
    """The ways to be compared: each number of ranks of one thread, which exchange rows or sums; as many threads; and DDP."""
    several = [n for n in counts if n > 1]
    return [
        Way("one thread", "rows", 1, 1),
        *(Way(f"{n} ranks", "rows", n, 1) for n in several),
        *(Way(f"{n} ranks, sums", "sums", n, 1) for n in several),
        *(Way(f"{n} threads", "rows", 1, n) for n in several if n <= len(allowed_cores())),
        *(Way(f"{DDP}, {n} rank{'s' * (n > 1)}", "ddp", n, 1) for n in (1, *several)),
    ]


def compare(name: str, counts: Sequence[int], rounds: int, show_status: Callable[[str], object]) -> dict[str, Any]:
    """Time the steps of a workload in each of the ways, one after another in each round.

    Returns
    -------
    dict
        The workload's sizes, and a row for each way: the median and the minimum of the seconds of a step over all blocks of all
        rounds, and the bytes that a process receives in one; or why there are none.

    Raises
    ------
    RuntimeError
        There is no mpiexec.
    """
    mpiexec = shutil.which("mpiexec", path=os.path.dirname(sys.executable)) or shutil.which("mpiexec")
    if not mpiexec:
        raise RuntimeError("there is no mpiexec: run `pip install '.[mpi]'` in the clone")
    workload, seconds, rows = WORKLOADS[name], {}, {}
    for i in range(rounds):
        for way in ways(counts):
            show_status(f"{name}: {way.name}, round {i + 1} of {rounds}")
            row = rows.setdefault(way.name, {"name": way.name, "processes": way.processes, "threads": way.threads})
            if row.get("status", "ok") == "ok":
                row |= _timed([mpiexec, "-n", way.processes, sys.executable, "-m", __name__], way, name)
                seconds.setdefault(way.name, []).extend(row.pop("seconds", []))
    for row in rows.values():
        if row["status"] == "ok":
            row |= {"median": statistics.median(seconds[row["name"]]), "minimum": min(seconds[row["name"]])}
    arch = workload.architecture
    sizes = "-".join(map(str, (arch.n_inputs, *arch.hidden, arch.n_latent)))
    about = {"workload": name, "architecture": sizes, "batch_size": workload.batch_size, "n_samples": workload.n_samples}
    return about | {"bytes_of_weights": workload.parameters().flat.nbytes, "rounds": rounds, "rows": list(rows.values())}


def _timed(words, way, name):
    if way.timer == "ddp" and importlib.util.find_spec("torch") is None:
        return {"status": "missing", "reason": "torch is not installed"}
    with tempfile.TemporaryDirectory() as folder:
        words = [*words, way.timer, name, way.threads, os.path.join(folder, "meeting")]
        try:
            done = subprocess.run(list(map(str, words)), capture_output=True, text=True, timeout=SECONDS)
        except subprocess.TimeoutExpired:
            return {"status": "failed", "reason": f"it took more than {SECONDS} seconds"}
    if done.returncode:
        return {"status": "failed", "reason": " ".join(done.stderr.split())[-300:]}
    return {"status": "ok", "reason": "", **json.loads(done.stdout.splitlines()[-1])}


# ---------------------------------------------------------------------------------------------- in each of the processes


def time_ranks(workload: Workload, threads: int, meeting: str, exchange: str) -> dict[str, Any]:
    """The seconds of a step in each block, by the ranks of this launch, and the most bytes that a rank receives in one."""
    ranks, p, kernel_set = of_launch(), workload.parameters(), kernels.load("numba")
    parts = steps.parts_for_ranks(kernel_set, ranks, workload.n_samples, exchange)
    make_steps = steps.stepper(
        p,
        ADAM.initial_state(p),
        ADAM,
        workload.dataset(),
        workload.batch_size,
        workload.objective,
        workload.n_samples,
        backend=kernel_set,
        threads=threads,
        ranks=ranks,
        parts=parts,
        shares=steps.shares_of_weights(p, kernel_set, ranks, parts, workload.batch_size, workload.n_samples),
        exchange=exchange,
    )

    def run(rows):
        make_steps(rows, 1, 1.0, ADAM.learning_rate)

    with received_by(ranks) as n_bytes:
        run(workload.batches(1))
    return {"seconds": _seconds(workload, run, ranks.gather_json), "received": max(ranks.gather_json(sum(n_bytes)))}


@contextlib.contextmanager
def received_by(ranks: Ranks) -> Iterator[list[int]]:
    """`with received_by(ranks) as n_bytes`: the bytes that this rank receives in each exchange are added to the list.

    Of sums it receives the others' integers for its share.
    """
    exchange, reduce_scatter, n_bytes = ranks.exchange, ranks.reduce_scatter, []

    def counted_exchange(received, ends):
        n_bytes.append(ends[-1] - (ends[ranks.rank + 1] - ends[ranks.rank]))
        exchange(received, ends)

    def counted_reduce_scatter(numbers, bounds):
        share = reduce_scatter(numbers, bounds)
        n_bytes.append((ranks.size - 1) * share.nbytes)
        return share

    ranks.exchange, ranks.reduce_scatter = counted_exchange, counted_reduce_scatter
    yield n_bytes
    ranks.exchange, ranks.reduce_scatter = exchange, reduce_scatter


def time_ddp(workload: Workload, threads: int, meeting: str) -> dict[str, Any]:
    """The same of PyTorch's DistributedDataParallel with gloo, where each rank has its part of every batch.

    The bytes are computed: those of a ring, in which a rank receives its part of the sums and then all sums.
    """
    import torch
    from torch.distributed import all_gather_object, destroy_process_group, init_process_group

    from benchmarks.in_torch import Torch

    rank, size = rank_in_environment(), int(os.environ.get("PMI_SIZE", 1))
    init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=size)
    trainer = Torch(workload, threads)
    trainer.loss = torch.nn.parallel.DistributedDataParallel(trainer.model)
    bounds = [workload.batch_size * r // size for r in (rank, rank + 1)]

    def run(rows):
        trainer.prepare(rows[:, slice(*bounds)])
        trainer.run()

    def gather(own):
        all_gather_object(of_all := [None] * size, own)
        return of_all

    seconds = _seconds(workload, run, gather)
    destroy_process_group()
    return {"seconds": seconds, "received": 2 * (size - 1) * workload.parameters().flat.nbytes // size}


def _seconds(workload: Workload, run: Callable[[NDArray], object], gather: Callable[[float], list]) -> list[float]:
    """The seconds of a step in each of the blocks, which all processes begin together."""
    rows = workload.batches(MOST)
    run(rows[:2])
    started = time.perf_counter()
    run(rows[:1])
    n, times = min(MOST, max(2, int(0.3 / max(gather(time.perf_counter() - started))))), []
    for _ in range(BLOCKS):
        gather(0.0)
        started = time.perf_counter()
        run(rows[:n])
        times.append(max(gather(time.perf_counter() - started)) / n)
    return times


TIMERS = {exchange: functools.partial(time_ranks, exchange=exchange) for exchange in steps.EXCHANGES} | {"ddp": time_ddp}

if __name__ == "__main__":
    timer, of, of_threads, place = sys.argv[1:]
    result = TIMERS[timer](WORKLOADS[of], int(of_threads), place)
    if rank_in_environment() == 0:
        print(json.dumps(result))
