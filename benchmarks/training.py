"""How long training takes to a given test -ELBO on MNIST. One evaluation judges every contestant's parameters."""

import contextlib
import time

from benchmarks import measure
from benchmarks.contestants import REFERENCE
from benchmarks.workloads import WORKLOADS
from vae_np import data, noise, training
from vae_np.parameters import Parameters

# Where PyTorch's own training in this setting ended, over four seeds: 105.26 to 105.85 nats after 10 epochs.
TARGET = 105.6


def train_to(target, contestants, epochs, threads, seed=0, say=lambda words: None, workload=None, dataset=None):
    """Train each contestant, an epoch in turn, until its test -ELBO, eps drawn, is at most the target: a dict for JSON.

    The clock runs while steps are made, and neither while a contestant starts and compiles nor while it is evaluated.
    """
    dataset = dataset or data.load("mnist")
    workload = workload or WORKLOADS["example"]._replace(source="mnist", n_rows=len(dataset.train))
    workload = workload._replace(seed=seed)
    cores, children, rows = measure.choose_cores(threads), {}, {}
    whole, rest = divmod(workload.n_rows, workload.batch_size)
    sizes = [(whole, workload.batch_size), *([(1, rest)] if rest else [])]
    with contextlib.ExitStack() as stack:
        say("the reference")
        wanted = measure.reference_losses(workload, REFERENCE, cores)
        for contestant in contestants:
            say(f"{contestant.name} starts and is checked")
            row = rows[contestant.name] = {"name": contestant.name, "status": "ok", "reason": "", "history": []}
            if contestant.reason:
                row |= {"status": "missing", "reason": contestant.reason}
                continue
            try:
                child = measure.Child(cores, measure.Session, contestant.make, workload, threads)
                stack.callback(child.close)
                row |= measure.verdict(child.ask("losses"), wanted)
                if row["status"] == "ok":
                    row["start_seconds"] = child.ask("warm", sizes)
                    children[contestant.name] = child
            except measure.Failed as error:
                row |= {"status": "failed", "reason": str(error)}
        for epoch in range(1, epochs + 1):
            order = noise.permutation(seed, "shuffle", epoch - 1, workload.n_rows)
            n = whole * workload.batch_size
            parts = [order[:n].reshape(sizes[0]), *([order[n:][None]] if rest else [])]
            for name, child in list(children.items()):
                say(f"epoch {epoch}: {name}")
                time.sleep(measure.GAP)
                try:
                    seconds, flat = child.ask("train", parts)
                except measure.Failed as error:
                    rows[name] |= {"status": "failed", "reason": str(error)}
                    del children[name]
                    continue
                p = Parameters(workload.architecture, flat)
                loss = training.evaluate(p, dataset.valid, workload.objective, workload.n_samples, seed=seed, step=epoch).total
                history = rows[name]["history"]
                before = history[-1]["seconds"] if history else 0.0
                history.append({"epoch": epoch, "seconds": before + seconds, "test": loss})
                if loss <= target or epoch == epochs:
                    rows[name] |= {
                        "reached": loss <= target,
                        "epochs": epoch,
                        "seconds": before + seconds,
                        "test": loss,
                    }
                    rows[name] |= child.ask("about")
                    del children[name]
    return {
        "workload": workload.name,
        "seed": seed,
        "target": target,
        "threads": threads,
        "cores": cores,
        "rows": list(rows.values()),
    }
