"""The workloads: a model, its data, its initial parameters and its batches, which are the same for every contestant."""

import dataclasses
from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vae_np import data, streams
from vae_np.architecture import Architecture, check_choice
from vae_np.kernels import reference
from vae_np.optimizers import Adam
from vae_np.parameters import Parameters

ADAM = Adam(1e-3)


class Product(NamedTuple):
    """A matrix product that every training step contains.

    The kind "forward" is y = x @ W, "dx" is dx = dy @ W.T, and "dW" is dW = x.T @ dy, where x is (rows, inputs), W is
    (inputs, outputs) and y is (rows, outputs).
    """

    layer: str
    kind: str
    rows: int
    inputs: int
    outputs: int

    @property
    def flops(self) -> int:
        """The floating-point operations of the product; a multiplication and an addition are two."""
        return 2 * self.rows * self.inputs * self.outputs


class Workload(NamedTuple):
    """A Bernoulli VAE in single precision, which Adam trains on batches of rows of bytes."""

    name: str
    architecture: Architecture
    batch_size: int
    n_samples: int = 1
    n_rows: int = 60_000
    data_set: str = ""  # the name of a data set of `vae_np.data`; synthetic data where it is empty
    seed: int = 0  # of the parameters, the order of the rows and all noise

    @property
    def objective(self) -> str:
        """The bound that is minimised: importance-weighted where there are several samples."""
        return "elbo" if self.n_samples == 1 else "iwae"

    def dataset(self) -> NDArray:
        """Return the training rows, uint8 (N, D)."""
        if self.data_set:
            return data.load(self.data_set).train
        return synthetic(self.n_rows, self.architecture.n_inputs)

    def parameters(self, dtype: str = "float32") -> Parameters:
        """Return the initial parameters, which are float32 numbers in any dtype."""
        return Parameters.initialize(self.architecture, self.seed, "float32").astype(dtype)

    def batches(self, n: int, start: int = 0) -> NDArray:
        """Return the row numbers of n batches, (n, B), the first of which is batch number `start` of the training.

        Batches are parts of shuffled epochs. The last rows of an epoch, if they are too few for a batch, are left out.
        """
        per_epoch = self.n_rows // self.batch_size
        orders = {}
        rows = np.empty((n, self.batch_size), np.int64)
        for i in range(n):
            epoch, k = divmod(start + i, per_epoch)
            if epoch not in orders:
                orders = {epoch: streams.permutation(self.seed, "shuffle", epoch, self.n_rows)}
            rows[i] = orders[epoch][k * self.batch_size : (k + 1) * self.batch_size]
        return rows

    def eps(self, rows: NDArray, first: int = 1) -> NDArray:
        """Return the noise (n, L, B, Z) that vae_np draws in n steps on rows (n, B), the first of which has that number."""
        eps = np.empty((len(rows), self.n_samples, rows.shape[1], self.architecture.n_latent), np.float32)
        for i in range(len(rows)):
            reference.normals(streams.key(self.seed, "train"), first + i, rows[i], eps[i])
        return eps

    def products(self) -> list[Product]:
        """Return every matrix product of a step in the order of the model: forward, backward, gradients of the weights."""
        shapes = {name.removesuffix(".W"): s for name, s in self.architecture.shapes.items() if name.endswith(".W")}
        sizes = {
            layer: (self.batch_size * (self.n_samples if layer.startswith(("decoder", "output")) else 1), *shape)
            for layer, shape in shapes.items()
        }
        first = "encoder.0"  # its input is x, whose derivative nobody needs
        return [
            *(Product(layer, "forward", *size) for layer, size in sizes.items()),
            *(Product(layer, "dx", *size) for layer, size in reversed(sizes.items()) if layer != first),
            *(Product(layer, "dW", *size) for layer, size in sizes.items()),
        ]

    @property
    def flops(self) -> int:
        """The floating-point operations of the matrix products of a step."""
        return sum(product.flops for product in self.products())


def synthetic(n_rows: int, n_inputs: int) -> NDArray:
    """Return rows uint8 (N, D) of ten dim patterns, the grey value of each pixel drawn at random.

    The patterns can be learned, so that a wrong training step shows in the loss.
    """
    rng = np.random.default_rng(0)
    patterns = rng.random((10, n_inputs), np.float32) ** 3
    which = rng.integers(0, 10, n_rows)
    x = np.empty((n_rows, n_inputs), np.uint8)
    for start in range(0, n_rows, 4096):  # in parts, so that making them is not what needs the most memory
        part = slice(start, start + 4096)
        grey = rng.random((len(which[part]), n_inputs), np.float32)
        x[part] = 255 * (grey < patterns[which[part]]) * grey
    return x


def _workload(name: str, sizes: str, batch_size: int, activation: str, n_samples: int = 1, n_rows: int = 60_000) -> Workload:
    n_inputs, *hidden, n_latent = map(int, sizes.split("-"))
    return Workload(name, Architecture(n_inputs, tuple(hidden), n_latent, activation), batch_size, n_samples, n_rows)


WORKLOADS = {
    workload.name: workload
    for workload in (
        _workload("digits", "64-64-8", 64, "relu", n_rows=1797),
        _workload("example", "784-400-20", 128, "relu"),  # the example of PyTorch
        _workload("paper", "784-500-20", 100, "tanh"),  # Kingma & Welling 2014
        *(_workload(f"iwae-{L}", "784-200-200-50", 20, "tanh", L) for L in (1, 5, 50)),  # Burda et al. 2016
        _workload("wide", "3072-1024-1024-128", 512, "relu", n_rows=10_000),
        _workload("wide-4096", "3072-1024-1024-128", 4096, "relu", n_rows=20_480),
    )
}


FOR_GPU = ("wide-4096",)  # they take so long on a CPU that the group "all" leaves them out there


class Axis(NamedTuple):
    """What `scaling` varies: a function that changes one size of a workload, and the values that the size gets.

    Where there are no values, the workload is unchanged, and it is the number of threads that varies.
    """

    change: Callable[[Workload, int], Workload]
    values: tuple[int, ...] = ()


def _with_architecture(workload: Workload, **sizes: object) -> Workload:
    return workload._replace(architecture=dataclasses.replace(workload.architecture, **sizes))


AXES = {
    "batch": Axis(lambda workload, n: workload._replace(batch_size=n), (16, 32, 64, 128, 256, 512, 1024)),
    "width": Axis(lambda workload, n: _with_architecture(workload, hidden=(n,)), (50, 100, 200, 400, 800, 1600)),
    "latent": Axis(lambda workload, n: _with_architecture(workload, n_latent=n), (2, 5, 10, 20, 50, 100, 200)),
    "samples": Axis(lambda workload, n: workload._replace(n_samples=n), (1, 2, 5, 10, 20, 50)),
    "threads": Axis(lambda workload, n: workload),
}


def scaled(axis: str, value: int) -> Workload:
    """Return the workload `example` with another value of one of the AXES; the name says which."""
    return AXES[axis].change(WORKLOADS["example"], value)._replace(name=f"example, {axis} {value}")


def select(names: Iterable[str], device: str = "cpu") -> list[Workload]:
    """Return the workloads of those names; "all" are those of the device, "iwae" those whose names begin with it.

    Raises
    ------
    ValueError
        There is no workload of such a name.
    """
    every = [name for name in WORKLOADS if device == "gpu" or name not in FOR_GPU]
    groups = {"all": every, "iwae": [name for name in WORKLOADS if name.startswith("iwae")]}
    chosen = {}
    for name in names:
        check_choice("workload", name, [*WORKLOADS, *groups])
        chosen |= {member: WORKLOADS[member] for member in groups.get(name, [name])}
    return list(chosen.values())
