"""Workloads: which model is trained on what, from which parameters and batches. The same for every contestant."""

import dataclasses
from typing import NamedTuple

import numpy as np

from vae_np import data, noise
from vae_np.architecture import Architecture, check_choice
from vae_np.kernels import reference
from vae_np.optimizers import Adam
from vae_np.parameters import Parameters

ADAM = Adam(1e-3)


class Product(NamedTuple):
    """A matrix product that a training step cannot do without: (rows, inputs) and (inputs, outputs) in some order."""

    layer: str
    kind: str  # "forward": y = x @ W; "dx": dx = dy @ W.T; "dW": dW = x.T @ dy
    rows: int
    inputs: int
    outputs: int

    @property
    def flops(self):
        return 2 * self.rows * self.inputs * self.outputs


class Workload(NamedTuple):
    """A Bernoulli VAE in single precision, trained by Adam on batches of rows of bytes."""

    name: str
    architecture: Architecture
    batch_size: int
    n_samples: int = 1
    n_rows: int = 60_000
    source: str = "synthetic"  # or "mnist"
    seed: int = 0  # of the parameters, the order of the rows and all noise

    @property
    def objective(self):
        return "elbo" if self.n_samples == 1 else "iwae"

    def dataset(self):
        """uint8 (N, D)"""
        if self.source == "mnist":
            return data.load("mnist").train
        return synthetic(self.n_rows, self.architecture.n_inputs)

    def parameters(self, dtype="float32"):
        return Parameters.initialize(self.architecture, self.seed, "float32").astype(dtype)

    def batches(self, n, start=0):
        """The numbers of the rows of n batches, (n, B): pieces of shuffled epochs, from batch `start` on."""
        per_epoch = self.n_rows // self.batch_size
        orders = {}
        rows = np.empty((n, self.batch_size), np.int64)
        for i in range(n):
            epoch, k = divmod(start + i, per_epoch)
            if epoch not in orders:
                orders = {epoch: noise.permutation(self.seed, "shuffle", epoch, self.n_rows)}
            rows[i] = orders[epoch][k * self.batch_size : (k + 1) * self.batch_size]
        return rows

    def eps(self, rows, first=1):
        """The noise (n, L, B, Z) that vae_np draws in steps on `rows` (n, B), the first of which has that number."""
        eps = np.empty((len(rows), self.n_samples, rows.shape[1], self.architecture.n_latent), np.float32)
        for i in range(len(rows)):
            reference.normals(noise.key(self.seed, "train"), first + i, rows[i], eps[i])
        return eps

    def products(self):
        """Every product of the text, in its order: forward, then backward, then the gradients of the weights."""
        shapes = {name.removesuffix(".W"): s for name, s in self.architecture.shapes.items() if name.endswith(".W")}
        sizes = {
            layer: (self.batch_size * (self.n_samples if layer.startswith(("decoder", "output")) else 1), *shape)
            for layer, shape in shapes.items()
        }
        unasked = "encoder.0"  # its input is x, which takes no derivative
        return [
            *(Product(layer, "forward", *size) for layer, size in sizes.items()),
            *(Product(layer, "dx", *size) for layer, size in reversed(sizes.items()) if layer != unasked),
            *(Product(layer, "dW", *size) for layer, size in sizes.items()),
        ]

    @property
    def flops(self):
        """Of the matrix products of a step; a multiplication and an addition are two."""
        return sum(product.flops for product in self.products())


def synthetic(n_rows, n_inputs):
    """uint8 (N, D): ten dim patterns, each pixel's grey drawn. There is something to learn, so a wrong step shows."""
    rng = np.random.default_rng(0)
    patterns = rng.random((10, n_inputs), np.float32) ** 3
    which = rng.integers(0, 10, n_rows)
    x = np.empty((n_rows, n_inputs), np.uint8)
    for start in range(0, n_rows, 4096):  # so that the process's peak of memory is not this one
        part = slice(start, start + 4096)
        grey = rng.random((len(which[part]), n_inputs), np.float32)
        x[part] = 255 * (grey < patterns[which[part]]) * grey
    return x


def _workload(name, sizes, batch_size, activation, n_samples=1, n_rows=60_000):
    n_inputs, *hidden, n_latent = map(int, sizes.split("-"))
    return Workload(name, Architecture(n_inputs, hidden, n_latent, activation), batch_size, n_samples, n_rows)


WORKLOADS = {
    workload.name: workload
    for workload in (
        _workload("digits", "64-64-8", 64, "relu", n_rows=1797),
        _workload("example", "784-400-20", 128, "relu"),  # pytorch/examples
        _workload("paper", "784-500-20", 100, "tanh"),  # Kingma & Welling 2014
        *(_workload(f"iwae-{L}", "784-200-200-50", 20, "tanh", L) for L in (1, 5, 50)),  # Burda et al. 2016
        _workload("wide", "3072-1024-1024-128", 512, "relu", n_rows=10_000),
        _workload("wide-4096", "3072-1024-1024-128", 4096, "relu", n_rows=20_480),
    )
}


FOR_GPU = ("wide-4096",)  # so much for a CPU that it takes them only by name

SCALES = {
    "batch": (16, 32, 64, 128, 256, 512, 1024),
    "width": (50, 100, 200, 400, 800, 1600),
    "latent": (2, 5, 10, 20, 50, 100, 200),
    "samples": (1, 2, 5, 10, 20, 50),
}


def scaled(axis, value):
    """The workload `example`, but for one of its sizes."""
    example = WORKLOADS["example"]
    arch, name = example.architecture, f"example, {axis} {value}"
    if axis == "width":
        arch = dataclasses.replace(arch, hidden=(value,))
    if axis == "latent":
        arch = dataclasses.replace(arch, n_latent=value)
    changed = {"batch": {"batch_size": value}, "samples": {"n_samples": value}}.get(axis, {})
    return example._replace(name=name, architecture=arch, **changed)


def select(names, device="cpu"):
    """The workloads of those names: "all" are all of the device, "iwae" those that begin so. ValueError for others."""
    every = [name for name in WORKLOADS if device == "gpu" or name not in FOR_GPU]
    groups = {"all": every, "iwae": [name for name in WORKLOADS if name.startswith("iwae")]}
    chosen = {}
    for name in names:
        check_choice("workload", name, [*WORKLOADS, *groups])
        chosen |= {member: WORKLOADS[member] for member in groups.get(name, [name])}
    return list(chosen.values())
