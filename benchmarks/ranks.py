"""How long a training step of several ranks takes under mpiexec, beside one process with as many threads, and what it exchanges.

The file is also the program of each rank: `mpiexec -n 2 python -m benchmarks.ranks example 1 20`.
"""

import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from benchmarks.workloads import ADAM, WORKLOADS
from vae_np import steps
from vae_np.ranks import of_launch

SECONDS = 600  # after which a measurement has failed


class Row(NamedTuple):
    """A way to run the steps of a workload: the seconds of a step, and the bytes that a rank receives in one."""

    workload: str
    ranks: int
    threads: int
    seconds: float
    received: int


def measure(names: Sequence[str], counts: Sequence[int], rounds: int) -> Iterator[Row]:
    """Time the steps of each workload by each number of ranks of one thread, and by one process with as many threads.

    Raises
    ------
    RuntimeError
        There is no mpiexec, or a program of it has failed.
    """
    mpiexec = shutil.which("mpiexec", path=os.path.dirname(sys.executable)) or shutil.which("mpiexec")
    if not mpiexec:
        raise RuntimeError("there is no mpiexec: run `pip install '.[mpi]'` in the clone")
    for name in names:
        for n in counts:
            for ranks, threads in [(n, 1), (1, n)] if n > 1 else [(1, 1)]:
                words = [mpiexec, "-n", ranks, sys.executable, "-m", __name__, name, threads, rounds]
                done = subprocess.run(list(map(str, words)), capture_output=True, text=True, timeout=SECONDS)
                if done.returncode:
                    raise RuntimeError(f"{name} with {ranks} ranks has failed: {done.stderr.strip()[-300:]}")
                yield Row(name, ranks, threads, **json.loads(done.stdout.splitlines()[-1]))


def time_steps(name: str, threads: int, rounds: int) -> dict[str, Any]:
    """The seconds of a step of the workload by the ranks of this launch, and the bytes that this rank receives in one."""
    ranks, workload, n_bytes = of_launch(), WORKLOADS[name], []
    exchange = ranks.exchange

    def counted(received, ends):
        n_bytes.append(ends[-1] - ends[ranks.rank + 1] + ends[ranks.rank])
        exchange(received, ends)

    p = workload.parameters()
    make_steps = steps.stepper(
        p,
        ADAM.initial_state(p),
        ADAM,
        workload.dataset(),
        workload.batch_size,
        workload.objective,
        workload.n_samples,
        backend="numba",
        threads=threads,
        ranks=ranks,
    )
    n = 10
    batches, times = workload.batches(n * (rounds + 1)), []
    for i in range(rounds + 1):
        if i == 1:
            ranks.exchange = counted
        started = time.perf_counter()
        make_steps(batches[i * n : (i + 1) * n], 1 + i * n, 1.0, ADAM.learning_rate)
        times.append((time.perf_counter() - started) / n)
    return {"seconds": statistics.median(times[1:]), "received": sum(n_bytes) // (n * rounds)}


if __name__ == "__main__":
    result = time_steps(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
    if of_launch().rank == 0:
        print(json.dumps(result))
