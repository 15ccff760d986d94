"""Workloads are the published ones, and all contestants get the same data, batches and noise."""

import dataclasses
import types

import numpy as np
import pytest

from benchmarks.contestants import REFERENCES
from benchmarks.workloads import ADAM, AXES, WORKLOADS, scaled, select, synthetic
from vae_np import data, loss_and_gradients, streams
from vae_np.testing.operations import REFERENCE as REFERENCE_SET

DIGITS = WORKLOADS["digits"]


def test_batches_are_pieces_of_shuffled_epochs():
    """The last rows of an epoch, which are too few for a batch, are left out."""
    per_epoch = DIGITS.n_rows // DIGITS.batch_size
    rows = DIGITS.batches(2 * per_epoch)
    assert rows.shape == (2 * per_epoch, DIGITS.batch_size)
    for epoch, own in enumerate(np.split(rows, 2)):
        order = streams.permutation(DIGITS.seed, "shuffle", epoch, DIGITS.n_rows)
        assert np.array_equal(own.ravel(), order[: own.size])
    assert np.array_equal(rows[5:40], DIGITS.batches(35, 5))
    other = DIGITS._replace(seed=1)
    assert not np.array_equal(rows[0], other.batches(1)[0])
    assert not np.array_equal(DIGITS.parameters().flat, other.parameters().flat)


def test_flops_are_the_analytic_ones():
    B, D, H, Z = 128, 784, 400, 20
    assert WORKLOADS["example"].flops == 2 * B * (2 * D * H + 3 * (2 * H * Z + Z * H + H * D))
    B, D, H, Z, L = 20, 784, 200, 50, 5
    encoder = 2 * D * H + 3 * (H * H + 2 * H * Z)
    assert WORKLOADS["iwae-5"].flops == 2 * B * (encoder + 3 * L * (Z * H + H * H + H * D))


@pytest.mark.parametrize("n_samples", [1, 3])
def test_noise_is_that_of_training(n_samples):
    """With this noise the loss of each step is the reference's."""
    workload = DIGITS._replace(n_samples=n_samples, n_rows=200, seed=7)
    rows, x = workload.batches(3), workload.dataset()
    eps = workload.eps(rows)
    assert eps.shape == (3, n_samples, DIGITS.batch_size, 8) and eps.dtype == np.float32
    wanted = REFERENCES["float32"].make(workload, 1).losses(rows)
    p = workload.parameters("float64")
    state = ADAM.initial_state(p)
    for step in range(3):
        value, g = loss_and_gradients(p, x[rows[step]] / 255, eps[step].astype(np.float64), objective=workload.objective)
        assert value.total == pytest.approx(wanted[step], rel=1e-6)
        REFERENCE_SET.adam(p.flat, g.flat, state["m"], state["v"], step + 1, 1e-3, ADAM.beta1, ADAM.beta2, ADAM.epsilon)
    assert np.array_equal(workload.eps(rows[1:], 2), eps[1:])


def test_data_are_dim_patterns():
    x = synthetic(5000, 30)
    assert x.shape == (5000, 30) and x.dtype == np.uint8
    assert np.array_equal(x[:100], synthetic(5000, 30)[:100])
    assert 0.05 < (x > 0).mean() < 0.4  # most pixels are black
    again = x[4096:]  # another part of the rows has the same patterns
    np.testing.assert_allclose((again > 0).mean(axis=0), (x[:4096] > 0).mean(axis=0), atol=0.08)
    lit = (x > 0) - (x > 0).mean(axis=0)
    assert np.linalg.eigvalsh(lit.T @ lit / len(x))[-1] > 3 * np.median((x > 0).var(axis=0))  # the pixels are correlated


def test_data_of_mnist(monkeypatch):
    monkeypatch.setattr(data, "load", {"mnist": types.SimpleNamespace(train="the training rows")}.get)
    assert WORKLOADS["example"]._replace(data_set="mnist").dataset() == "the training rows"
    assert DIGITS.dataset().shape == (1797, 64)


def test_a_step_is_of_the_products_that_its_shapes_say():
    workload = scaled("batch", 7)._replace(n_samples=3)
    rows = {"encoder.0": 7, "mu": 7, "logvar": 7, "decoder.0": 21, "output": 21}
    sizes = {"encoder.0": (784, 400), "mu": (400, 20), "logvar": (400, 20), "decoder.0": (20, 400), "output": (400, 784)}
    wanted = [(layer, "forward") for layer in rows]
    wanted += [(layer, "dx") for layer in ("output", "decoder.0", "logvar", "mu")]
    wanted += [(layer, "dW") for layer in rows]
    assert workload.products() == [(layer, kind, rows[layer], *sizes[layer]) for layer, kind in wanted]
    assert workload.products()[0].flops == 2 * 7 * 784 * 400


def test_workloads_are_the_published_ones():
    found = {
        w.name: (
            "-".join(map(str, (w.architecture.n_inputs, *w.architecture.hidden, w.architecture.n_latent))),
            w.batch_size,
            w.architecture.activation,
            w.n_samples,
            w.n_rows,
        )
        for w in WORKLOADS.values()
    }
    assert found == {
        "digits": ("64-64-8", 64, "relu", 1, 1797),
        "example": ("784-400-20", 128, "relu", 1, 60_000),
        "paper": ("784-500-20", 100, "tanh", 1, 60_000),
        "iwae-1": ("784-200-200-50", 20, "tanh", 1, 60_000),
        "iwae-5": ("784-200-200-50", 20, "tanh", 5, 60_000),
        "iwae-50": ("784-200-200-50", 20, "tanh", 50, 60_000),
        "wide": ("3072-1024-1024-128", 512, "relu", 1, 10_000),
        "wide-4096": ("3072-1024-1024-128", 4096, "relu", 1, 20_480),
    }
    assert {w.objective for w in WORKLOADS.values() if w.n_samples == 1} == {"elbo"}


def test_scaled():
    """One size is changed, and all else is as in `example`."""
    example = WORKLOADS["example"]
    arch = example.architecture
    changed = {
        "batch": {"batch_size": 3},
        "samples": {"n_samples": 3},
        "width": {"architecture": dataclasses.replace(arch, hidden=(3,))},
        "latent": {"architecture": dataclasses.replace(arch, n_latent=3)},
    }
    assert changed.keys() | {"threads"} == AXES.keys()
    for axis, sizes in changed.items():
        assert scaled(axis, 3) == example._replace(name=f"example, {axis} 3", **sizes)
    assert scaled("samples", 5).objective == "iwae"


def test_select():
    assert [w.name for w in select(["iwae", "digits"])] == ["iwae-1", "iwae-5", "iwae-50", "digits"]
    assert {w.name for w in select(["all"])} == WORKLOADS.keys() - {"wide-4096"}
    assert [w.name for w in select(["all"], "gpu")] == list(WORKLOADS)
    assert [w.name for w in select(["wide-4096"])] == ["wide-4096"]
