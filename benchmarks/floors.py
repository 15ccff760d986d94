"""The floors: the matrix products of a training step and nothing else, which is the time of a step if all else were free."""

import itertools
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.contestants import Trainer
from benchmarks.workloads import Workload
from vae_np import blas, elbo, kernels
from vae_np.architecture import Architecture
from vae_np.buffers import Buffers, buffers


class Floor(Trainer):
    """The products in NumPy's BLAS."""

    note = "the matrix products alone, by NumPy in float32"

    def __init__(self, workload: Workload, threads: int) -> None:
        self.threads, self.operands = threads, []
        for kind, left, right, out in operands(workload, "numpy"):
            factors = {"forward": (left, right), "dx": (left, right.T), "dW": (left.T, right)}[kind]
            self.operands.append((*factors, out))

    def prepare(self, rows: NDArray) -> None:
        self.n = len(rows)

    def run(self) -> None:
        with blas.limited(self.threads):
            for _ in range(self.n):
                for left, right, out in self.operands:
                    np.matmul(left, right, out=out)


class FloorOfGPU(Trainer):
    """The products in cuBLAS, called as `kernels.gpu` calls it: those of a step are a CUDA graph, which is replayed."""

    note = "the matrix products alone, by cuBLAS in a CUDA graph"

    def __init__(self, workload: Workload, threads: int, backend: str = "cupy") -> None:
        gpu: Any = kernels.load(backend)
        transposed = {"forward": {}, "dx": {"b_as": gpu.device.TRANSPOSED}, "dW": {"a_as": gpu.device.TRANSPOSED}}
        self.stream = gpu.graph.stream_of_graphs()
        with self.stream:
            self.operands = operands(workload, backend)

            def products() -> None:
                for kind, left, right, out in self.operands:
                    gpu.device.product(left, right, out, **transposed[kind])

            products()  # before the capture, during which cuBLAS cannot load anything
            self.stream.begin_capture()
            try:
                products()
            finally:
                self.graph = self.stream.end_capture()

    def prepare(self, rows: NDArray) -> None:
        self.n = len(rows)

    def run(self) -> None:
        for _ in range(self.n):
            self.graph.launch(self.stream)
        self.stream.synchronize()


def operands(workload: Workload, backend: str) -> list[tuple[str, NDArray, NDArray, NDArray]]:
    """Return the operands of each of the workload's products: random numbers in arrays of the backend.

    Returns
    -------
    list of (kind, left, right, result)
        For the kind "forward", y = x @ W, left is x and right is W. For "dx", dx = dy @ W.T, right is W, which is still to
        be transposed. For "dW", dW = x.T @ dy, left is x, which is still to be transposed.
    """
    arch, model = workload.architecture, elbo.bind(workload.architecture, backend=backend)
    sizes = workload.objective, workload.n_samples, workload.batch_size, np.float32
    a, d = (buffers(arch, *sizes, model.zeros) for _ in range(2))
    p, g = (workload.parameters().moved(model.put) for _ in range(2))
    rng = np.random.default_rng(0)
    for array in itertools.chain(a.encoder, a.decoder, d.encoder, d.decoder, (d.mu, d.logvar, d.output)):
        array[...] = model.put(rng.standard_normal(array.shape, np.float32))
    found = []
    for product in workload.products():
        W, dW = p[f"{product.layer}.W"], g[f"{product.layer}.W"]
        (x, y), (dx, dy) = (_input_and_result(product.layer, values, arch) for values in (a, d))
        found.append((product.kind, *{"forward": (x, W, y), "dx": (dy, W, dx), "dW": (x, dy, dW)}[product.kind]))
    return found


def _input_and_result(layer: str, values: Buffers, arch: Architecture) -> tuple[NDArray, NDArray]:
    """Return where the input and the result of a layer stand among the values of a pass, each as a matrix of rows."""
    top = len(arch.hidden)
    part, _, i = layer.partition(".")
    if i:
        layers = getattr(values, part)
        found = layers[int(i)], layers[int(i) + 1]
    else:
        found = (values.decoder if part == "output" else values.encoder)[top], getattr(values, part)
    x, y = (array.reshape(-1, array.shape[-1]) for array in found)
    return x, y
