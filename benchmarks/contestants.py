"""The contestants: the implementations of a training step that are compared, and what each of them can do."""

import abc
import importlib
import importlib.util
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

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


def note_of_rounding(workload: Workload, product: Callable[[NDArray, NDArray], ArrayLike]) -> str:
    """Return a note where a library that was asked for bfloat16 multiplies as in float32; else the empty string.

    `product` is its product of matrices, which is tried on one as large as the workload's first.
    """
    arch = workload.architecture
    x = np.full((workload.batch_size, arch.n_inputs), 1 + 2.0**-9, np.float32)  # 10 significant bits
    rounded = np.asarray(product(x, np.ones((arch.n_inputs, arch.hidden[0]), np.float32))) == arch.n_inputs
    return "" if rounded.all() else "its products are in float32 here, although it was asked for bfloat16"


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


# The losses of all contestants of a precision must agree with those of its reference. It computes in double precision, except
# that the operands of products are rounded, so that NumPy's losses are checked too.
_NUMPY = ("backend", "numpy"), ("dtype", "float64")
REFERENCES = {
    "float32": Contestant("reference", options=_NUMPY),
    "bfloat16": Contestant("reference", options=(*_NUMPY, ("precision", "bfloat16"))),
}


def contestants(precision: str = "float32") -> dict[str, Contestant]:
    """Return all contestants of a precision by name.

    These are the floor, every backend, PyTorch and JAX. Where a GPU can be used, a floor, PyTorch and JAX on the GPU follow, the
    latter two in float32 only. Contestants of different precisions are never compared with each other; the floor of either is
    in float32.
    """
    status = kernels.available()
    gpu = any(status[name].ok for name in GPU_BACKENDS)
    is_full = precision == "float32"
    at_precision = () if is_full else (("precision", precision),)
    backends = [
        Contestant(
            name,
            state.reason,
            options=(("backend", name), *at_precision),
            device="gpu" if state.ok and name in GPU_BACKENDS else "cpu",
        )
        for name, state in status.items()
    ]
    missing = {name: "" if importlib.util.find_spec(name) else f"{name} is not installed" for name in ("torch", "jax")}
    torch, jax = (missing["torch"], "benchmarks.in_torch"), (missing["jax"], "benchmarks.in_jax")
    compiled, cuda = ("compiled", True), ("device", "cuda")
    # PyTorch has two ways to compute with bfloat16: its tensors have this type, or only the operands of products are rounded.
    ways = {"eager": ()} if is_full else {way: (("precision", way),) for way in ("autocast", "medium")}
    names_of_compiled = {"eager": "compiled", "autocast": "compiled autocast", "medium": "compiled medium"}
    found = [
        Contestant("floor", module="benchmarks.floors", kind="Floor"),
        *backends,
        *(Contestant(f"torch {way}", *torch, "Torch", options) for way, options in ways.items()),
        *(Contestant(f"torch {names_of_compiled[way]}", *torch, "Torch", (compiled, *ways[way])) for way in ways),
        Contestant("jax jit", *jax, "Jit", at_precision),
        Contestant("jax scan", *jax, "Scan", at_precision),
    ]
    if gpu:
        found.append(Contestant("floor gpu", module="benchmarks.floors", kind="FloorOfGPU", device="gpu"))
    if gpu and is_full:
        torch, jax = (missing["torch"] or _torch_lacks_cuda(), torch[1]), (missing["jax"] or _jax_lacks_cuda(), jax[1])
        found += [
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
