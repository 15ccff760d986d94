"""Contestants: whoever makes training steps. Each lives in a process of its own and has the methods of `Ours`."""

import importlib
import importlib.util
import itertools
from typing import NamedTuple

import numpy as np

from benchmarks import machine
from benchmarks.workloads import ADAM
from vae_np import blas, elbo, kernels, steps
from vae_np.optimizers import initial_state


class Ours:
    """vae_np on one of its backends."""

    note = ""

    def __init__(self, workload, threads, backend, dtype="float32"):
        self.workload, self.threads, self.backend = workload, threads, backend
        self.text = elbo.bind(workload.architecture, backend=backend)
        self.data = self.text.put(workload.dataset())
        self.initial = workload.parameters(dtype)
        self.p = self.initial.copy().moved(self.text.put)
        self.state = {name: self.text.put(array) for name, array in initial_state(ADAM, self.initial.flat).items()}
        self.runs = {}
        self.restart()

    def restart(self):
        """Back to the initial parameters and an optimizer that has seen nothing."""
        self.p.flat[...] = self.text.put(self.initial.flat)
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
        self.text.get(self.p.flat[:1])  # which waits for a device that is still at what came before

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
        return np.array(self.text.get(self.p.flat))


class Floor:
    """The matrix products of a step and nothing else, in NumPy's BLAS: what is left when all the rest costs no time."""

    note = "matrix products alone"

    def __init__(self, workload, threads):
        self.threads, self.operands = threads, []
        for kind, left, right, out in operands(workload, "numpy"):
            turned = {"forward": (left, right), "dx": (left, right.T), "dW": (left.T, right)}[kind]
            self.operands.append((*turned, out))

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


class FloorOfGPU:
    """The same products by cuBLAS, as `kernels.gpu` calls it: a step of them is a CUDA graph, replayed."""

    note = "matrix products alone, by cuBLAS in a CUDA graph"

    def __init__(self, workload, threads, backend="cupy"):
        gpu = kernels.load(backend)
        turned = {"forward": {}, "dx": {"b_as": gpu.device.TURN}, "dW": {"a_as": gpu.device.TURN}}
        self.stream = gpu.graph.stream_of_graphs()
        with self.stream:
            self.operands = operands(workload, backend)

            def products():
                for kind, left, right, out in self.operands:
                    gpu.device.product(left, right, out, **turned[kind])

            products()  # before the capture, in which cuBLAS can load nothing
            self.stream.begin_capture()
            try:
                products()
            finally:
                self.graph = self.stream.end_capture()

    def restart(self):
        pass

    def ready(self, rows):
        self.n = len(rows)

    def go(self):
        for _ in range(self.n):
            self.graph.launch(self.stream)
        self.stream.synchronize()

    def losses(self, rows):
        return None  # it computes none


def operands(workload, backend):
    """(kind, left, right, result) of each of the workload's products, random numbers where the backend's arrays live.

    Of "dx", dx = dy @ W.T, the right one is W, and of "dW", dW = x.T @ dy, the left one is x.
    """
    arch, text = workload.architecture, elbo.bind(workload.architecture, backend=backend)
    sizes = workload.objective, workload.n_samples, workload.batch_size, np.float32
    a, d = (elbo.nodes(arch, *sizes, text.zeros) for _ in range(2))
    p, g = (workload.parameters().moved(text.put) for _ in range(2))
    inputs = _inputs(arch)
    rng = np.random.default_rng(0)
    for array in itertools.chain(a.encoder, a.decoder, d.encoder, d.decoder, (d.mu, d.logvar, d.output)):
        array[...] = text.put(rng.standard_normal(array.shape, np.float32))
    found = []
    for kind, layer in ((product.kind, product.layer) for product in workload.products()):
        W, dW = p[f"{layer}.W"], g[f"{layer}.W"]
        x, dx = (_rows(inputs[layer](nodes)) for nodes in (a, d))
        y, dy = (_rows(_result(layer, nodes)) for nodes in (a, d))
        found.append((kind, *{"forward": (x, W, y), "dx": (dy, W, dx), "dW": (x, dy, dW)}[kind]))
    return found


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
    device: str = "cpu"

    def make(self, workload, threads):
        return getattr(importlib.import_module(self.module), self.kind)(workload, threads, **dict(self.options))


# Whom the others must agree with; in double precision, so that NumPy's own row is checked too.
REFERENCE = Contestant("reference", options=(("backend", "numpy"), ("dtype", "float64")))


FLOORS = {"cpu": "floor", "gpu": "floor gpu"}  # of each device, whose rows are compared among themselves


def contestants():
    """{name: Contestant}, the floor first, then every backend, then the peers; and the same of a GPU that can be used."""
    status = kernels.available()
    gpu = status["cupy"].ok
    backends = [
        Contestant(name, state.reason, options=(("backend", name),), device="gpu" if gpu and name == "cupy" else "cpu")
        for name, state in status.items()
    ]
    missing = {name: "" if importlib.util.find_spec(name) else "not installed" for name in ("torch", "jax")}
    peers = [
        Contestant("torch eager", missing["torch"], "benchmarks.in_torch", "Torch"),
        Contestant("torch compiled", missing["torch"], "benchmarks.in_torch", "Torch", (("compiled", True),)),
        Contestant("jax jit", missing["jax"], "benchmarks.in_jax", "Jit"),
        Contestant("jax scan", missing["jax"], "benchmarks.in_jax", "Scan"),
    ]
    if not missing["torch"] and str(machine.version("torch")).endswith("+cpu"):
        missing["torch"] = "installed without CUDA"
    if not missing["jax"] and not any(machine.version(f"jax-cuda{n}-plugin") for n in (12, 13)):
        missing["jax"] = "installed without CUDA: run `pip install 'jax[cuda13]'` (or cuda12)"
    torch, jax = (missing["torch"], "benchmarks.in_torch"), (missing["jax"], "benchmarks.in_jax")
    cuda, compiled = ("device", "cuda"), ("compiled", True)
    of_gpu = [
        Contestant("floor gpu", kind="FloorOfGPU", device="gpu"),
        Contestant("torch eager gpu", *torch, "Torch", (cuda,), "gpu"),
        Contestant("torch compiled gpu", *torch, "Torch", (cuda, compiled), "gpu"),
        Contestant("torch graph gpu", *torch, "Graph", (cuda,), "gpu"),
        Contestant("jax scan gpu", *jax, "Scan", (("device", "gpu"),), "gpu"),
    ]
    return {c.name: c for c in (Contestant("floor", kind="Floor"), *backends, *peers, *(of_gpu if gpu else ()))}
