"""The floor makes the matrix products of a training step, and no others."""

import contextlib
import math
import types

import numpy as np
import pytest

from benchmarks.contestants import contestants
from benchmarks.floors import Floor
from benchmarks.in_vae_np import VaeNp
from benchmarks.workloads import WORKLOADS
from vae_np import blas

DIGITS = WORKLOADS["digits"]
SMALL = DIGITS._replace(batch_size=6, n_rows=30)


@pytest.mark.parametrize("name", ["digits", "iwae-5"])
def test_floor_makes_the_products_of_the_text(name, monkeypatch):
    """The shapes are those of the products that the model asks NumPy for, each once."""
    workload, made = WORKLOADS[name]._replace(n_rows=100), []
    matmul = np.matmul

    def noted(a, b, *rest, **named):
        made.append((math.prod(a.shape[:-1]), a.shape[-1], b.shape[-1]))
        return matmul(a, b, *rest, **named)

    monkeypatch.setattr(np, "matmul", noted)
    shapes = []
    for contestant in (Floor(workload, 1), VaeNp(workload, 1, "numpy")):
        contestant.prepare(workload.batches(1))
        made.clear()
        contestant.run()
        shapes.append(sorted(made))
    assert shapes[0] == shapes[1]
    assert sum(2 * math.prod(shape) for shape in shapes[0]) == workload.flops


def test_floor_has_as_many_threads_and_steps_as_it_is_told(monkeypatch):
    limits, made, matmul = [], [], np.matmul

    @contextlib.contextmanager
    def limited(threads):
        limits.append(threads)
        yield
        limits.append("any")

    monkeypatch.setattr(blas, "limited", limited)
    monkeypatch.setattr(np, "matmul", lambda *arrays, out: made.append(limits[-1]) or matmul(*arrays, out=out))
    floor = Floor(DIGITS, 3)
    assert all(np.ptp(operand) > 0 for left, right, _ in floor.operands for operand in (left, right))
    floor.prepare(DIGITS.batches(4))
    floor.run()
    assert made == [3] * 4 * len(DIGITS.products())
    assert limits == [3, "any"]
    assert floor.losses(DIGITS.batches(1)) is None


@pytest.mark.parametrize("n_samples", [1, 3])
def test_the_floor_of_the_gpu_makes_the_products(gpu, n_samples):
    workload = SMALL._replace(n_samples=n_samples)
    on_cpu, on_gpu = (contestants()[name].make(workload, 1) for name in ("floor", "floor gpu"))
    for *_, out in on_gpu.operands:
        out.fill(0)
    for floor in (on_cpu, on_gpu):
        floor.prepare(workload.batches(1))
        floor.run()
    assert len(on_cpu.operands) == len(on_gpu.operands) == len(list(workload.products()))
    for (*_, wanted), (*_, out) in zip(on_cpu.operands, on_gpu.operands):
        np.testing.assert_allclose(out.get(), wanted, rtol=1e-4, atol=1e-4)


def test_the_floor_of_the_gpu_makes_all_steps_and_waits_for_them(gpu):
    floor, did = contestants()["floor gpu"].make(SMALL, 1), []
    floor.graph = types.SimpleNamespace(launch=lambda stream: did.append("launch"))
    floor.stream = types.SimpleNamespace(synchronize=lambda: did.append("synchronize"))
    floor.prepare(SMALL.batches(3))
    assert did == []
    floor.run()
    assert did == ["launch"] * 3 + ["synchronize"]
    assert floor.losses(SMALL.batches(1)) is None
