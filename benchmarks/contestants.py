"""Contestants: whoever makes training steps. Each lives in a process of its own and has the methods of `Ours`."""

import importlib
import importlib.util
import itertools
from typing import NamedTuple

import numpy as np

import kernels
from benchmarks.workloads import ADAM
from vae_np import blas, elbo, steps
from vae_np.optimizers import initial_state


class Ours:
    """vae_np on one of its backends."""

    note = ""

    def __init__(self, workload, threads, backend, dtype="float32"):
        self.workload, self.threads, self.backend = workload, threads, backend
        self.data = workload.dataset()
        self.initial = workload.parameters(dtype)
        self.p = self.initial.copy()
        self.state = initial_state(ADAM, self.p.flat)
        self.runs = {}
        self.restart()

    def restart(self):
        """Back to the initial parameters and an optimizer that has seen nothing."""
        self.p.flat[...] = self.initial.flat
        for array in self.state.values():
            array[...] = 0
        self.done = 0

    def ready(self, rows):
        """Take the batches (n, B) that the next `go` makes a step on each. What this takes is not timed."""
        size = rows.shape[1]
        if size not in self.runs:
            w = self.workload
            self.runs[size] = steps.stepper(
                self.p,
                self.state,
                ADAM,
                self.data,
                size,
                w.objective,
                w.n_samples,
                seed=w.seed,
                backend=self.backend,
                threads=self.threads,
            )
        self.rows = rows

    def go(self):
        """Make the steps, each with noise of its own, and return when they are done. This is what is timed."""
        terms = self.runs[self.rows.shape[1]](self.rows, self.done + 1, 1.0, ADAM.learning_rate)
        self.done += len(self.rows)
        return terms

    def losses(self, rows):
        """The loss (n,) of each of n batches before its update, with vae_np's noise, from the initial parameters."""
        self.restart()
        self.ready(rows)
        return self.go()[:, 0]

    def parameters(self):
        """As one array, in the order of vae_np's Parameters."""
        return self.p.flat.copy()


class Floor:
    """The matrix products of a step and nothing else, in NumPy's BLAS: what is left when all the rest costs no time."""

    note = "matrix products alone"

    def __init__(self, workload, threads):
        self.threads = threads
        a, d = (
            elbo.nodes(workload.architecture, workload.objective, workload.n_samples, workload.batch_size, np.float32)
            for _ in range(2)
        )
        p, g = workload.parameters(), workload.parameters()
        inputs = _inputs(workload.architecture)
        rng = np.random.default_rng(0)
        for array in itertools.chain(a.encoder, a.decoder, d.encoder, d.decoder, (d.mu, d.logvar, d.output)):
            array[...] = rng.standard_normal(array.shape, np.float32)
        self.operands = []
        for product in workload.products():
            W, dW = p[f"{product.layer}.W"], g[f"{product.layer}.W"]
            x, dx = (_rows(inputs[product.layer](nodes)) for nodes in (a, d))
            y, dy = (_rows(_result(product.layer, nodes)) for nodes in (a, d))
            self.operands.append({"forward": (x, W, y), "dx": (dy, W.T, dx), "dW": (x.T, dy, dW)}[product.kind])

    def restart(self):
        pass

    def ready(self, rows):
        self.n = len(rows)

    def go(self):
        with blas.limited(self.threads):
            for _ in range(self.n):
                for left, right, out in self.operands:
                    np.matmul(left, right, out=out)

    def losses(self, rows):
        return None  # it computes none


def _inputs(arch):
    """{layer: where among the nodes its input stands}"""
    n = len(arch.hidden)
    return {
        **{f"encoder.{i}": lambda nodes, i=i: nodes.encoder[i] for i in range(n)},
        **dict.fromkeys(("mu", "logvar"), lambda nodes: nodes.encoder[n]),
        **{f"decoder.{i}": lambda nodes, i=i: nodes.decoder[i] for i in range(n)},
        "output": lambda nodes: nodes.decoder[n],
    }


def _result(layer, nodes):
    part, _, i = layer.partition(".")
    return getattr(nodes, part)[int(i) + 1] if i else getattr(nodes, part)


def _rows(array):
    return array.reshape(-1, array.shape[-1])


# ------------------------------------------------------------------------------------------------------------ by name


class Contestant(NamedTuple):
    """How to make one in its own process, or why it cannot run here."""

    name: str
    reason: str = ""
    module: str = "benchmarks.contestants"
    kind: str = "Ours"
    options: tuple = ()

    def make(self, workload, threads):
        return getattr(importlib.import_module(self.module), self.kind)(workload, threads, **dict(self.options))


# Whom the others must agree with; in double precision, so that NumPy's own row is checked too.
REFERENCE = Contestant("reference", options=(("backend", "numpy"), ("dtype", "float64")))


def contestants():
    """{name: Contestant}, the floor first, then every backend, then the peers."""
    backends = [
        Contestant(name, "" if status.ok else status.reason, options=(("backend", name),))
        for name, status in kernels.available().items()
    ]
    missing = {name: "" if importlib.util.find_spec(name) else "not installed" for name in ("torch", "jax")}
    peers = [
        Contestant("torch eager", missing["torch"], "benchmarks.in_torch", "Torch"),
        Contestant("torch compiled", missing["torch"], "benchmarks.in_torch", "Torch", (("compiled", True),)),
        Contestant("jax jit", missing["jax"], "benchmarks.in_jax", "Jit"),
        Contestant("jax scan", missing["jax"], "benchmarks.in_jax", "Scan"),
    ]
    return {c.name: c for c in (Contestant("floor", kind="Floor"), *backends, *peers)}
