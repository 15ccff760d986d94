"""The contestant PyTorch: the same model as the library's users write it."""

import itertools
import math
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import nn

from benchmarks.contestants import Trainer, note_of_rounding
from benchmarks.workloads import ADAM, Workload
from vae_np.architecture import Architecture


class VAE(nn.Module):
    """A Bernoulli VAE. PyTorch's functions have the names of the activations."""

    def __init__(self, arch: Architecture) -> None:
        super().__init__()
        widths = (arch.n_inputs, *arch.hidden)
        self.encoder = nn.ModuleList(nn.Linear(i, o) for i, o in itertools.pairwise(widths))
        self.mu = nn.Linear(widths[-1], arch.n_latent)
        self.logvar = nn.Linear(widths[-1], arch.n_latent)
        widths = (arch.n_latent, *reversed(arch.hidden))
        self.decoder = nn.ModuleList(nn.Linear(i, o) for i, o in itertools.pairwise(widths))
        self.output = nn.Linear(widths[-1], arch.n_inputs)
        self.activation = getattr(F, arch.activation)

    def forward(self, data: torch.Tensor, rows: torch.Tensor, n_samples: int, eps: torch.Tensor | None = None) -> torch.Tensor:
        """Return the loss of the batch data[rows], in nats; where eps is None, the noise is drawn here."""
        x = data[rows].float() / 255
        h = x
        for layer in self.encoder:
            h = self.activation(layer(h))
        mu, logvar = self.mu(h), self.logvar(h)
        noise = torch.randn(n_samples, *mu.shape, device=mu.device) if eps is None else eps
        z = h = mu + torch.exp(logvar / 2) * noise
        for layer in self.decoder:
            h = self.activation(layer(h))
        logits = self.output(h)
        if n_samples == 1:
            nll = F.binary_cross_entropy_with_logits(logits[0], x, reduction="sum")
            kl = (mu * mu + logvar.exp() - 1 - logvar).sum() / 2
            return (nll + kl) / len(x)
        nll = F.binary_cross_entropy_with_logits(logits, x.expand_as(logits), reduction="none").sum(-1)
        kl = (z * z - noise * noise - logvar).sum(-1) / 2
        return (math.log(n_samples) - torch.logsumexp(-nll - kl, dim=0)).mean()


def product(x: NDArray, W: NDArray) -> NDArray:
    """Return x @ W as a layer computes it."""
    with torch.no_grad():
        return F.linear(torch.from_numpy(x), torch.from_numpy(W.T), torch.zeros(W.shape[1])).numpy()


class Torch(Trainer):
    """A call of each function for each step; with `compiled`, forward and backward are compiled by torch.compile.

    The precision is one of those of torch.set_float32_matmul_precision, or "autocast", which computes in bfloat16.
    """

    capturable = False  # whether Adam keeps its number of updates on the GPU, as a CUDA graph needs it

    def __init__(
        self, workload: Workload, threads: int, compiled: bool = False, device: str = "cpu", precision: str = "highest"
    ) -> None:
        torch.set_num_threads(threads)
        torch.manual_seed(workload.seed)
        torch.set_float32_matmul_precision("medium" if precision == "medium" else "highest")  # no TF32 on a GPU
        self.workload, self.device = workload, device
        self.data = torch.from_numpy(np.require(workload.dataset(), requirements="W")).to(device)
        self.initial = workload.parameters()
        self.model = VAE(workload.architecture).to(device)
        self.loss: Any = self.model
        if compiled:
            self.loss = torch.compile(self.model, mode="reduce-overhead" if device == "cuda" else None)
        if precision == "autocast":
            self.loss = torch.autocast(device, torch.bfloat16)(self.loss)
        if compiled and device == "cuda":
            torch._dynamo.mark_static_address(self.data)  # otherwise each step copies the data into its CUDA graph
        variants: dict[str, dict[str, Any]] = {
            "fused": {"fused": True},
            "foreach": {"foreach": True},
            "single-tensor": {"foreach": False},
        }
        variants = {name: {**variant, "capturable": self.capturable} for name, variant in variants.items()}
        seconds = {name: self.time_adam(variant) for name, variant in variants.items()}
        best = min(seconds, key=lambda name: seconds[name])
        self.note, self.adam = f"Adam {best}", variants[best]
        if precision == "medium" and (note := note_of_rounding(workload, product)):
            self.note += f"; {note}"
        self.optimizer = self.new_optimizer()
        self.restart()

    def new_optimizer(self) -> torch.optim.Adam:
        """Return the fastest variant of Adam, with no update made."""
        return torch.optim.Adam(self.model.parameters(), lr=ADAM.learning_rate, **self.adam)

    def time_adam(self, variant: dict[str, Any]) -> float:
        """Return the seconds of an update by a variant of Adam, whose gradients are zero."""
        optimizer = torch.optim.Adam(self.model.parameters(), lr=0.0, **variant)
        for parameter in self.model.parameters():
            parameter.grad = torch.zeros_like(parameter)
        seconds = []
        for _ in range(10):
            self.wait()
            started = time.perf_counter()
            optimizer.step()
            self.wait()
            seconds.append(time.perf_counter() - started)
        return sorted(seconds)[3]

    def restart(self) -> None:
        with torch.no_grad():
            for array, parameter in self.pairs():
                parameter.copy_(torch.from_numpy(array.T))
        self.reset_optimizer()

    def reset_optimizer(self) -> None:
        """Make the optimizer one that has made no update."""
        self.optimizer = self.new_optimizer()

    def prepare(self, rows: NDArray) -> None:
        self.rows = torch.from_numpy(rows).to(self.device)
        self.wait()

    def run(self) -> None:
        for rows in self.rows:
            self.step(rows)
        self.wait()

    def wait(self) -> None:
        """Return when the GPU, if there is one, has done its work."""
        if self.device == "cuda":
            torch.cuda.synchronize()

    def step(self, rows: torch.Tensor, eps: torch.Tensor | None = None) -> torch.Tensor:
        """Make a step on the batch data[rows] and return its loss before the update."""
        self.optimizer.zero_grad()
        loss = self.loss(self.data, rows, self.workload.n_samples, eps)
        loss.backward()
        self.optimizer.step()
        return loss

    def losses(self, rows: NDArray) -> list[float]:
        self.restart()
        self.prepare(rows)
        eps = torch.from_numpy(self.workload.eps(rows)).to(self.device)
        return [self.step(r, e).item() for r, e in zip(self.rows, eps)]

    def parameters(self) -> NDArray:
        p = self.initial.copy()
        for (name, _), (_, parameter) in zip(p.items(), self.pairs()):
            p[name][...] = parameter.detach().cpu().numpy().T
        return p.flat

    def pairs(self) -> Iterator[tuple[NDArray, torch.Tensor]]:
        """Yield each array of vae_np's initial parameters with the model's; nn.Linear keeps its W transposed."""
        own_names = {"W": "weight", "b": "bias"}
        for name, array in self.initial.items():
            layer, _, kind = name.rpartition(".")
            yield array, self.model.get_submodule(layer).get_parameter(own_names[kind])


class Graph(Torch):
    """A whole step with its update is captured once as a CUDA graph, which is replayed on each batch."""

    capturable = True

    def __init__(self, workload: Workload, threads: int, device: str) -> None:
        self.graphs = {}
        super().__init__(workload, threads, device=device)

    def reset_optimizer(self) -> None:
        for tensors in self.optimizer.state.values():  # in place, where the graphs read them
            for tensor in tensors.values():
                tensor.zero_()

    def prepare(self, rows: NDArray) -> None:
        if rows.shape[1] not in self.graphs:
            self.graphs[rows.shape[1]] = self.capture(torch.from_numpy(rows[0]).to(self.device))
            self.restart()
        self.graph, self.graph_rows, _ = self.graphs[rows.shape[1]]
        super().prepare(rows)

    def run(self) -> None:
        for rows in self.rows:
            self.graph_rows.copy_(rows)
            self.graph.replay()
        self.wait()

    def losses(self, rows: NDArray) -> list[float]:
        batches, eps = (torch.from_numpy(array).to(self.device) for array in (rows, self.workload.eps(rows)))
        graph_eps = eps[0].clone()
        graph, graph_rows, loss = self.capture(batches[0], graph_eps)
        self.restart()
        values = []
        for r, e in zip(batches, eps):
            graph_rows.copy_(r)
            graph_eps.copy_(e)
            graph.replay()
            values.append(loss.item())
        return values

    def capture(
        self, rows: torch.Tensor, eps: torch.Tensor | None = None
    ) -> tuple[torch.cuda.CUDAGraph, torch.Tensor, torch.Tensor]:
        """Capture a step on a batch as large as `rows`.

        Returns
        -------
        graph, rows, loss
            The graph reads its batch from `rows` and leaves the loss in `loss`.
        """
        rows, stream = rows.clone(), torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(3):  # these make what cannot be made during a capture, above all the optimizer's arrays
                self.step(rows, eps)
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        # Another contestant may have threads of its own. By default their calls would make the capture fail.
        with torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"):
            loss = self.step(rows, eps).detach()
        return graph, rows, loss
