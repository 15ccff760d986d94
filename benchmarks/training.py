"""How long training on MNIST takes to reach a given test -ELBO. The same evaluation judges all contestants' parameters."""

import contextlib
import time
from collections.abc import Iterable
from typing import Any

from benchmarks import measure, processes
from benchmarks.contestants import REFERENCES, Contestant
from benchmarks.workloads import WORKLOADS, Workload
from vae_np import data, evaluation, streams
from vae_np.parameters import Parameters

# PyTorch's own training in this setting ended at 105.26 to 105.85 nats after 10 epochs, with four seeds.
TARGET = 105.6


def train_to(
    target: float,
    contestants: Iterable[Contestant],
    epochs: int,
    threads: int,
    seed: int = 0,
    show_status: measure.ShowStatus = measure.show_nothing,
    workload: Workload | None = None,
    dataset: data.Dataset | None = None,
    precision: str = "float32",
) -> dict[str, Any]:
    """Train each contestant until its test -ELBO, estimated with drawn noise, is at most the target.

    The contestants make one epoch each in turn. The clock runs only while they make training steps: neither while they
    start and compile nor while they are evaluated.

    Parameters
    ----------
    target
        The test -ELBO in nats.
    contestants
        Those that are trained.
    epochs
        The number of epochs after which a contestant that has not reached the target stops.
    threads
        The number of cores that each contestant is pinned to.
    seed
        The seed of the parameters, the order of the rows and all noise.
    show_status
        Is called with a line that says what is being done.
    workload, dataset
        By default the workload `example` on MNIST. The rows that the data set holds out are the test.
    precision
        That of the contestants. The evaluation is in float32.

    Returns
    -------
    dict
        The times and losses by epoch, ready for JSON.

    Raises
    ------
    ValueError
        The data set holds out no rows.
    """
    dataset = dataset or data.load("mnist")
    if dataset.valid is None:
        raise ValueError("the data set has no rows to test on")
    workload = workload or WORKLOADS["example"]._replace(data_set="mnist", n_rows=len(dataset.train))
    workload = workload._replace(seed=seed)
    cores = processes.choose_cores(threads)
    n_whole, rest = divmod(workload.n_rows, workload.batch_size)
    sizes = [(n_whole, workload.batch_size), *([(1, rest)] if rest else [])]

    def warmed_up(worker: processes.Worker) -> dict[str, Any]:
        return {"start_seconds": worker.call("warm_up", sizes)}

    with contextlib.ExitStack() as stack:
        rows, workers = measure.start(
            workload, contestants, REFERENCES[precision], cores, warmed_up, stack, show_status, precision
        )
        for row in rows.values():
            row["history"] = []
        for epoch in range(1, epochs + 1):
            order = streams.permutation(seed, "shuffle", epoch - 1, workload.n_rows)
            n = n_whole * workload.batch_size
            batches = [order[:n].reshape(sizes[0]), *([order[n:][None]] if rest else [])]
            for name, worker in list(workers.items()):
                show_status(f"epoch {epoch}: {name}")
                time.sleep(measure.PAUSE_SECONDS)
                row = rows[name]
                try:
                    seconds, flat = worker.call("train", batches)
                except processes.WorkerError as error:
                    row |= {"status": "failed", "reason": str(error)}
                    del workers[name]
                    continue
                p = Parameters(workload.architecture, flat)
                loss = evaluation.evaluate(
                    p, dataset.valid, workload.objective, workload.n_samples, seed=seed, step=epoch
                ).total
                history = row["history"]
                seconds += history[-1]["seconds"] if history else 0.0
                history.append({"epoch": epoch, "seconds": seconds, "test": loss})
                if loss <= target or epoch == epochs:
                    row |= {"reached": loss <= target, "epochs": epoch, "seconds": seconds, "test": loss}
                    row |= worker.call("describe")
                    del workers[name]
    return {
        "workload": workload.name,
        "seed": seed,
        "target": target,
        "precision": precision,
        "threads": threads,
        "cores": cores,
        "rows": list(rows.values()),
    }
