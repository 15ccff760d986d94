"""The contestants: the implementations of a training step that are compared, and what each of them can do."""

import abc
import importlib
import importlib.util
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks import machine
from benchmarks.workloads import Workload
from vae_np import kernels

FLOORS = {"cpu": "floor", "gpu": "floor gpu"}  # for each device the contestant to which all others on it are compared
PEAK = "peak"  # the row of the same products at the peak of the machine, which no contestant computes
GPU_BACKENDS = ("cupy",)


class Trainer(abc.ABC):
    """Training steps of one implementation on one workload. It is made in a process of its own."""

    note = ""

    @abc.abstractmethod
    def prepare(self, rows: NDArray) -> None:
        """Take the batches (n, B) on which the next `run` makes a step each. This is not timed."""

    @abc.abstractmethod
    def run(self) -> object:
        """Make the steps, each with new noise, and return when they are done. This is what is timed."""

    def restart(self) -> None:  # noqa: B027  a trainer without parameters has nothing to do
        """Go back to the initial parameters and to an optimizer that has made no update."""

    def losses(self, rows: NDArray) -> Sequence[float] | NDArray | None:
        """Return the loss of each of n batches (n, B) before its update, from the initial parameters, with vae_np's noise.

        None where the implementation computes no loss.
        """
        return None

    def parameters(self) -> NDArray:
        """Return all parameters as one array, in the order of `vae_np.parameters.Parameters`."""
        return np.empty(0)


class Contestant(NamedTuple):
    """An implementation by name: how its Trainer is made, or the reason why it cannot run here."""

    name: str
    reason: str = ""
    module: str = "benchmarks.in_vae_np"
    kind: str = "VaeNp"
    options: tuple[tuple[str, Any], ...] = ()
    device: str = "cpu"

    def make(self, workload: Workload, threads: int) -> Trainer:
        """Return a new Trainer; only this imports the library that it needs."""
        return getattr(importlib.import_module(self.module), self.kind)(workload, threads, **dict(self.options))


# The losses of all contestants must agree with this one's. It computes in double precision, so that NumPy's float32 losses
# are checked too.
REFERENCE = Contestant("reference", options=(("backend", "numpy"), ("dtype", "float64")))


def contestants() -> dict[str, Contestant]:
    """Return all contestants by name.

    These are the floor, every backend, PyTorch and JAX. Where a GPU can be used, a floor, PyTorch and JAX on the GPU follow.
    """
    status = kernels.available()
    gpu = any(status[name].ok for name in GPU_BACKENDS)
    backends = [
        Contestant(
            name, state.reason, options=(("backend", name),), device="gpu" if state.ok and name in GPU_BACKENDS else "cpu"
        )
        for name, state in status.items()
    ]
    missing = {name: "" if importlib.util.find_spec(name) else f"{name} is not installed" for name in ("torch", "jax")}
    torch, jax = (missing["torch"], "benchmarks.in_torch"), (missing["jax"], "benchmarks.in_jax")
    compiled, cuda = ("compiled", True), ("device", "cuda")
    found = [
        Contestant("floor", module="benchmarks.floors", kind="Floor"),
        *backends,
        Contestant("torch eager", *torch, "Torch"),
        Contestant("torch compiled", *torch, "Torch", (compiled,)),
        Contestant("jax jit", *jax, "Jit"),
        Contestant("jax scan", *jax, "Scan"),
    ]
    if gpu:
        torch, jax = (missing["torch"] or _torch_lacks_cuda(), torch[1]), (missing["jax"] or _jax_lacks_cuda(), jax[1])
        found += [
            Contestant("floor gpu", module="benchmarks.floors", kind="FloorOfGPU", device="gpu"),
            Contestant("torch eager gpu", *torch, "Torch", (cuda,), "gpu"),
            Contestant("torch compiled gpu", *torch, "Torch", (cuda, compiled), "gpu"),
            Contestant("torch graph gpu", *torch, "Graph", (cuda,), "gpu"),
            Contestant("jax scan gpu", *jax, "Scan", (("device", "gpu"),), "gpu"),
        ]
    return {contestant.name: contestant for contestant in found}


def _torch_lacks_cuda() -> str:
    return "torch is installed without CUDA" if str(machine.version("torch")).endswith("+cpu") else ""


def _jax_lacks_cuda() -> str:
    if any(machine.version(f"jax-cuda{n}-plugin") for n in (12, 13)):
        return ""
    return "jax is installed without CUDA: run `pip install 'jax[cuda13]'` (or cuda12)"
