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
            eps = torch.randn(n_samples, *mu.shape)
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
    def __init__(self, workload, threads, compiled=False):
        torch.set_num_threads(threads)
        torch.manual_seed(workload.seed)
        self.workload = workload
        self.data = torch.from_numpy(np.require(workload.dataset(), requirements="W"))
        self.initial = workload.parameters()
        self.model = VAE(workload.architecture)
        self.loss = torch.compile(self.model) if compiled else self.model
        kinds = {"fused": {"fused": True}, "foreach": {"foreach": True}, "single-tensor": {"foreach": False}}
        seconds = {name: self.seconds_of_adam(choice) for name, choice in kinds.items()}
        best = min(seconds, key=seconds.get)
        self.note, self.adam = f"Adam {best}", kinds[best]
        self.restart()

    def restart(self):
        with torch.no_grad():
            for array, parameter in self.pairs():
                parameter.copy_(torch.from_numpy(array.T))
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=ADAM.learning_rate, **self.adam)

    def ready(self, rows):
        self.rows = torch.from_numpy(rows)

    def go(self):
        for rows in self.rows:
            self.step(rows)

    def step(self, rows, eps=None):
        self.optimizer.zero_grad()
        loss = self.loss(self.data, rows, self.workload.n_samples, eps)
        loss.backward()
        self.optimizer.step()
        return loss

    def losses(self, rows):
        self.restart()
        eps = torch.from_numpy(self.workload.eps(rows))
        return [self.step(torch.from_numpy(r), e).item() for r, e in zip(rows, eps)]

    def parameters(self):
        p = self.initial.copy()
        for (name, _), (_, parameter) in zip(p.items(), self.pairs()):
            p[name][...] = parameter.detach().numpy().T
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
            started = time.perf_counter()
            optimizer.step()
            seconds.append(time.perf_counter() - started)
        return sorted(seconds)[3]
