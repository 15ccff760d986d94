"""The same model in PyTorch, as its users write it."""

import itertools
import math
import time

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from benchmarks.workloads import ADAM

ACTIVATIONS = {"relu": torch.relu, "tanh": torch.tanh, "softplus": F.softplus}


class VAE(nn.Module):
    def __init__(self, arch):
        super().__init__()
        widths = (arch.n_inputs, *arch.hidden)
        self.encoder = nn.ModuleList(nn.Linear(i, o) for i, o in itertools.pairwise(widths))
        self.mu = nn.Linear(widths[-1], arch.n_latent)
        self.logvar = nn.Linear(widths[-1], arch.n_latent)
        widths = (arch.n_latent, *reversed(arch.hidden))
        self.decoder = nn.ModuleList(nn.Linear(i, o) for i, o in itertools.pairwise(widths))
        self.output = nn.Linear(widths[-1], arch.n_inputs)
        self.activation = ACTIVATIONS[arch.activation]

    def forward(self, data, rows, n_samples, eps=None):
        """The loss of the batch data[rows], in nats."""
        x = data[rows].float() / 255
        h = x
        for layer in self.encoder:
            h = self.activation(layer(h))
        mu, logvar = self.mu(h), self.logvar(h)
        if eps is None:
            eps = torch.randn(n_samples, *mu.shape, device=mu.device)
        z = h = mu + torch.exp(logvar / 2) * eps
        for layer in self.decoder:
            h = self.activation(layer(h))
        logits = self.output(h)
        if n_samples == 1:
            nll = F.binary_cross_entropy_with_logits(logits[0], x, reduction="sum")
            kl = (mu * mu + logvar.exp() - 1 - logvar).sum() / 2
            return (nll + kl) / len(x)
        nll = F.binary_cross_entropy_with_logits(logits, x.expand_as(logits), reduction="none").sum(-1)
        kl = (z * z - eps * eps - logvar).sum(-1) / 2
        return (math.log(n_samples) - torch.logsumexp(-nll - kl, dim=0)).mean()


class Torch:
    capturable = False

    def __init__(self, workload, threads, compiled=False, device="cpu"):
        torch.set_num_threads(threads)
        torch.manual_seed(workload.seed)
        torch.set_float32_matmul_precision("highest")  # on a GPU: no TF32
        self.workload, self.device, self.optimizer = workload, device, None
        self.data = torch.from_numpy(np.require(workload.dataset(), requirements="W")).to(device)
        self.initial = workload.parameters()
        self.model = self.loss = VAE(workload.architecture).to(device)
        if compiled:
            self.loss = torch.compile(self.model, mode="reduce-overhead" if device == "cuda" else None)
        if compiled and device == "cuda":
            torch._dynamo.mark_static_address(self.data)  # else each step begins with a copy of it to its CUDA graph
        kinds = {"fused": {"fused": True}, "foreach": {"foreach": True}, "single-tensor": {"foreach": False}}
        kinds = {name: {**choice, "capturable": self.capturable} for name, choice in kinds.items()}
        seconds = {name: self.seconds_of_adam(choice) for name, choice in kinds.items()}
        best = min(seconds, key=seconds.get)
        self.note, self.adam = f"Adam {best}", kinds[best]
        self.restart()

    def restart(self):
        with torch.no_grad():
            for array, parameter in self.pairs():
                parameter.copy_(torch.from_numpy(array.T))
        self.forget()

    def forget(self):
        """An optimizer that has seen nothing."""
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=ADAM.learning_rate, **self.adam)

    def ready(self, rows):
        self.rows = torch.from_numpy(rows).to(self.device)
        self.wait()

    def go(self):
        for rows in self.rows:
            self.step(rows)
        self.wait()

    def wait(self):
        """Until a GPU has done what it was given."""
        if self.device == "cuda":
            torch.cuda.synchronize()

    def step(self, rows, eps=None):
        self.optimizer.zero_grad()
        loss = self.loss(self.data, rows, self.workload.n_samples, eps)
        loss.backward()
        self.optimizer.step()
        return loss

    def losses(self, rows):
        self.restart()
        self.ready(rows)
        eps = torch.from_numpy(self.workload.eps(rows)).to(self.device)
        return [self.step(r, e).item() for r, e in zip(self.rows, eps)]

    def parameters(self):
        p = self.initial.copy()
        for (name, _), (_, parameter) in zip(p.items(), self.pairs()):
            p[name][...] = parameter.detach().cpu().numpy().T
        return p.flat

    def pairs(self):
        """Each array of vae_np's Parameters and the model's own that stands for it; nn.Linear keeps W transposed."""
        own = {"W": "weight", "b": "bias"}
        for name, array in self.initial.items():
            layer, _, kind = name.rpartition(".")
            yield array, self.model.get_submodule(layer).get_parameter(own[kind])

    def seconds_of_adam(self, choice):
        """Of an update, with gradients of zeros."""
        optimizer = torch.optim.Adam(self.model.parameters(), lr=0.0, **choice)
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


class Graph(Torch):
    """A whole step, its update included, captured once as a CUDA graph and replayed on the next batch."""

    capturable = True

    def __init__(self, workload, threads, device):
        self.graphs = {}
        super().__init__(workload, threads, device=device)

    def forget(self):
        if self.optimizer is None:
            super().forget()
        for tensors in self.optimizer.state.values():  # which stay where the graphs find them
            for tensor in tensors.values():
                tensor.zero_()

    def ready(self, rows):
        if rows.shape[1] not in self.graphs:
            self.graphs[rows.shape[1]] = self.capture(torch.from_numpy(rows[0]).to(self.device))
            self.restart()
        self.graph, self.cell, _ = self.graphs[rows.shape[1]]
        super().ready(rows)

    def go(self):
        for rows in self.rows:
            self.cell.copy_(rows)
            self.graph.replay()
        self.wait()

    def losses(self, rows):
        rows, eps = (torch.from_numpy(array).to(self.device) for array in (rows, self.workload.eps(rows)))
        noise = eps[0].clone()
        graph, cell, loss = self.capture(rows[0], noise)
        self.restart()
        values = []
        for r, e in zip(rows, eps):
            cell.copy_(r)
            noise.copy_(e)
            graph.replay()
            values.append(loss.item())
        return values

    def capture(self, rows, eps=None):
        """(graph, rows, loss): a step on such rows, and where the graph reads them and leaves the loss."""
        rows, stream = rows.clone(), torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(3):  # which make what must not be made in a capture, the optimizer's arrays above all
                self.step(rows, eps)
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=stream):
            loss = self.step(rows, eps).detach()
        return graph, rows, loss
