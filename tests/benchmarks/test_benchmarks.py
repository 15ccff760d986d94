"""Who is wrong is called wrong; the floor holds what the text needs and no more; a GPU's contestants are held to it too."""

import contextlib
import ctypes
import dataclasses
import json
import math
import sys
import types

import numpy as np
import pytest

from benchmarks import machine, measure, report
from benchmarks.__main__ import main
from benchmarks.contestants import REFERENCE, Contestant, Floor, Ours, contestants
from benchmarks.workloads import ADAM, SCALES, WORKLOADS, scaled, select, synthetic
from tests.kernels.gpu import on_host
from vae_np import blas, data, kernels, loss_and_gradients, noise
from vae_np.optimizers import initial_state
from vae_np.testing.operations import REFERENCE as REFERENCE_SET
from vae_np.testing.operations import with_changes

DIGITS = WORKLOADS["digits"]
ROWS = DIGITS.batches(measure.CHECKED + 1)
APART = ("floor", "torch compiled", "floor gpu", "torch compiled gpu")
IN_PROCESS = [name for name, c in contestants().items() if not c.reason and name not in APART]


@pytest.fixture(scope="module")
def wanted():
    return REFERENCE.make(DIGITS, 1).losses(ROWS)


# ------------------------------------------------------------------------------------------------------ contestants


@pytest.mark.parametrize("name", IN_PROCESS)
def test_contestants_agree(name, wanted):
    contestant = contestants()[name].make(DIGITS, 1)
    for _ in range(2):  # the second time after other steps: it begins again from the initial parameters
        assert measure.verdict(contestant.losses(ROWS), wanted).get("status") is None
        contestant.restart()
        assert np.array_equal(contestant.parameters(), DIGITS.parameters().flat)
        contestant.ready(ROWS)
        contestant.go()
        assert not np.array_equal(contestant.parameters(), DIGITS.parameters().flat)


@pytest.mark.parametrize("name", [name for name in IN_PROCESS if name not in ("numpy", "cupy")])
def test_contestants_agree_on_weighted_samples(name):
    workload = WORKLOADS["iwae-5"]._replace(n_rows=200)
    rows = workload.batches(4)
    wanted = REFERENCE.make(workload, 1).losses(rows)
    assert measure.verdict(contestants()[name].make(workload, 1).losses(rows), wanted).get("status") is None


def _without_kl(dkl, mu, logvar, eps, z, dz, dmu, dlogvar):
    dmu[...], dlogvar[...] = 0, 0
    return dz, dmu, dlogvar


def _slow_adam(p, g, m, v, step, learning_rate, *rest):
    return REFERENCE_SET.adam(p, g, m, v, step, 0.99 * learning_rate, *rest)


def _no_bias_correction(p, g, m, v, step, *rest):
    return REFERENCE_SET.adam(p, g, m, v, step + 1, *rest)


@pytest.mark.parametrize(
    "changes", [{"gaussian_kl_backward": _without_kl}, {"adam": _slow_adam}, {"adam": _no_bias_correction}]
)
def test_wrong_contestant_is_called_wrong(changes, wanted):
    said = measure.verdict(Ours(DIGITS, 1, with_changes(**changes)).losses(ROWS), wanted)
    assert said["status"] == "wrong"
    assert "the reference's is" in said["reason"]


def test_a_training_goes_on_where_it_stopped():
    """Steps in parts are those in one go: each has its own number, by which noise is drawn and Adam corrects its means."""
    at_once, in_parts = (contestants()["numpy"].make(DIGITS, 1) for _ in range(2))
    for contestant, parts in ((at_once, [ROWS[:5]]), (in_parts, [ROWS[:2], ROWS[2:3], ROWS[3:5]])):
        contestant.restart()
        for rows in parts:
            contestant.ready(rows)
            contestant.go()
    assert np.array_equal(at_once.parameters(), in_parts.parameters())


def test_a_comparison_in_processes_of_their_own():
    """As it is; PyTorch and JAX start slowly, and are tried in this process."""
    chosen = [contestants()["floor"], contestants()["numpy"], Contestant("absent", "not installed")]
    result = json.loads(json.dumps(measure.compare(DIGITS, chosen, REFERENCE, 1, rounds=1)))
    floor, numpy, _ = result["rows"]
    assert [row["status"] for row in result["rows"]] == ["ok", "ok", "missing"]
    assert result["share_of_others"] is None or 0 <= result["share_of_others"]
    for row in (floor, numpy):
        assert 0 < row["minimum"] <= row["p10"] <= row["median"]
        assert row["ratios"].keys() == {"floor", "numpy"}
        assert row["peak_memory_mb"] > 10
        assert row["steps_per_block"] >= 1


def test_who_cannot_be_made_is_a_row_with_its_reason(in_process):
    broken = Contestant("broken", options=(("backend", "no such backend"),))
    result = measure.compare(DIGITS, [contestants()["floor"], broken], REFERENCE, 1, rounds=1)
    assert result["rows"][1]["status"] == "failed"
    assert "no such backend" in result["rows"][1]["reason"]


# --------------------------------------------------------------------------------------------------------- the floor


def test_flops_are_the_analytic_ones():
    B, D, H, Z = 128, 784, 400, 20
    assert WORKLOADS["example"].flops == 2 * B * (2 * D * H + 3 * (2 * H * Z + Z * H + H * D))
    B, D, H, Z, L = 20, 784, 200, 50, 5
    encoder = 2 * D * H + 3 * (H * H + 2 * H * Z)
    assert WORKLOADS["iwae-5"].flops == 2 * B * (encoder + 3 * L * (Z * H + H * H + H * D))


@pytest.mark.parametrize("name", ["digits", "iwae-5"])
def test_floor_makes_the_products_of_the_text(name, monkeypatch):
    """Of the same shapes as those that the text asks NumPy for, each once."""
    workload, made = WORKLOADS[name]._replace(n_rows=100), []
    matmul = np.matmul

    def noted(a, b, *rest, **named):
        made.append((math.prod(a.shape[:-1]), a.shape[-1], b.shape[-1]))
        return matmul(a, b, *rest, **named)

    monkeypatch.setattr(np, "matmul", noted)
    shapes = []
    for contestant in (Floor(workload, 1), Ours(workload, 1, "numpy")):
        contestant.ready(workload.batches(1))
        made.clear()
        contestant.go()
        shapes.append(sorted(made))
    assert shapes[0] == shapes[1]
    assert sum(2 * math.prod(shape) for shape in shapes[0]) == workload.flops


# --------------------------------------------------------------------------------------------------------- workloads


def test_batches_are_pieces_of_shuffled_epochs():
    """The rest of an epoch, which makes no whole batch, is left out."""
    per_epoch = DIGITS.n_rows // DIGITS.batch_size
    rows = DIGITS.batches(2 * per_epoch)
    assert rows.shape == (2 * per_epoch, DIGITS.batch_size)
    for epoch, own in enumerate(np.split(rows, 2)):
        order = noise.permutation(DIGITS.seed, "shuffle", epoch, DIGITS.n_rows)
        assert np.array_equal(own.ravel(), order[: own.size])
    assert np.array_equal(rows[5:40], DIGITS.batches(35, 5))
    other = DIGITS._replace(seed=1)
    assert not np.array_equal(rows[0], other.batches(1)[0])
    assert not np.array_equal(DIGITS.parameters().flat, other.parameters().flat)


@pytest.mark.parametrize("n_samples", [1, 3])
def test_noise_is_that_of_training(n_samples):
    """With it, and no other, the loss of each step is the reference's."""
    workload = DIGITS._replace(n_samples=n_samples, n_rows=200, seed=7)
    rows, x = workload.batches(3), workload.dataset()
    eps = workload.eps(rows)
    assert eps.shape == (3, n_samples, DIGITS.batch_size, 8) and eps.dtype == np.float32
    wanted = REFERENCE.make(workload, 1).losses(rows)
    p = workload.parameters("float64")
    state = initial_state(ADAM, p.flat)
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
    again = x[4096:]  # another part of the rows, of the same patterns
    np.testing.assert_allclose((again > 0).mean(axis=0), (x[:4096] > 0).mean(axis=0), atol=0.08)
    lit = (x > 0) - (x > 0).mean(axis=0)
    assert np.linalg.eigvalsh(lit.T @ lit / len(x))[-1] > 3 * np.median((x > 0).var(axis=0))  # pixels hang together


def test_data_of_mnist(monkeypatch):
    monkeypatch.setattr(data, "load", {"mnist": types.SimpleNamespace(train="the training rows")}.get)
    assert WORKLOADS["example"]._replace(source="mnist").dataset() == "the training rows"
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
    """One size is another; all else is as in `example`."""
    example = WORKLOADS["example"]
    arch = example.architecture
    changed = {
        "batch": {"batch_size": 3},
        "samples": {"n_samples": 3},
        "width": {"architecture": dataclasses.replace(arch, hidden=(3,))},
        "latent": {"architecture": dataclasses.replace(arch, n_latent=3)},
    }
    assert changed.keys() == SCALES.keys()
    for axis, sizes in changed.items():
        assert scaled(axis, 3) == example._replace(name=f"example, {axis} 3", **sizes)
    assert scaled("samples", 5).objective == "iwae"


def test_select():
    assert [w.name for w in select(["iwae", "digits"])] == ["iwae-1", "iwae-5", "iwae-50", "digits"]
    assert {w.name for w in select(["all"])} == WORKLOADS.keys() - {"wide-4096"}
    assert [w.name for w in select(["all"], "gpu")] == list(WORKLOADS)
    assert [w.name for w in select(["wide-4096"])] == ["wide-4096"]


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
    floor.ready(DIGITS.batches(4))
    floor.go()
    assert made == [3] * 4 * len(DIGITS.products())
    assert limits == [3, "any"]
    assert floor.losses(DIGITS.batches(1)) is None


# ------------------------------------------------------------------------------------------- a GPU, in whose place a host


@pytest.fixture
def gpu(monkeypatch, in_process):
    """A GPU can be used, as far as the benchmarks know; what runs on it is run by the host, and in this process."""
    if not on_host.KERNELS:
        pytest.skip("no g++")

    class Cublas(on_host.DEVICE.load_cublas):
        def cublasGetProperty(self, part, number):
            ctypes.cast(number, ctypes.POINTER(ctypes.c_int))[0] = (13, 2, 1)[part]
            return 0

    monkeypatch.setattr(kernels, "CHECKS", kernels.CHECKS | {"cupy": lambda: kernels.Status(True)})
    monkeypatch.setattr(measure, "CHECKED", 2)
    monkeypatch.setattr(on_host.DEVICE, "load_cublas", Cublas)
    monkeypatch.setitem(sys.modules, "vae_np.kernels.gpu", on_host.KERNELS)


SMALL = DIGITS._replace(batch_size=6, n_rows=30)


@pytest.mark.parametrize("n_samples", [1, 3])
def test_our_steps_on_the_gpu_agree(gpu, n_samples):
    workload = SMALL._replace(n_samples=n_samples)
    rows = workload.batches(3)
    wanted = REFERENCE.make(workload, 1).losses(rows)
    contestant = contestants()["cupy"].make(workload, 1)
    for _ in range(2):
        assert measure.verdict(contestant.losses(rows), wanted).get("status") is None
        assert not np.array_equal(contestant.parameters(), workload.parameters().flat)
        contestant.restart()
        assert np.array_equal(contestant.parameters(), workload.parameters().flat)


@pytest.mark.parametrize("n_samples", [1, 3])
def test_the_floor_of_the_gpu_makes_the_products(gpu, n_samples):
    workload = SMALL._replace(n_samples=n_samples)
    on_cpu, on_gpu = (contestants()[name].make(workload, 1) for name in ("floor", "floor gpu"))
    for *_, out in on_gpu.operands:
        out.fill(0)
    for floor in (on_cpu, on_gpu):
        floor.ready(workload.batches(1))
        floor.go()
    assert len(on_cpu.operands) == len(on_gpu.operands) == len(list(workload.products()))
    for (*_, wanted), (*_, out) in zip(on_cpu.operands, on_gpu.operands):
        np.testing.assert_allclose(out.get(), wanted, rtol=1e-4, atol=1e-4)


def test_the_floor_of_the_gpu_makes_all_steps_and_waits_for_them(gpu):
    floor, did = contestants()["floor gpu"].make(SMALL, 1), []
    floor.graph = types.SimpleNamespace(launch=lambda stream: did.append("launch"))
    floor.stream = types.SimpleNamespace(synchronize=lambda: did.append("synchronize"))
    floor.ready(SMALL.batches(3))
    assert did == []
    floor.go()
    assert did == ["launch"] * 3 + ["synchronize"]
    assert floor.losses(SMALL.batches(1)) is None


def test_steps_are_timed_after_a_device_has_done_what_came_before(monkeypatch):
    """Only the values of an array tell that."""
    ours, asked = Ours(SMALL, 1, "numpy"), []
    text = types.SimpleNamespace(get=lambda array: asked.append(array))
    monkeypatch.setattr(ours, "text", text)
    ours.ready(SMALL.batches(1))
    assert len(asked) == 1 and np.shares_memory(asked[0], ours.p.flat)


NO_JAX = "installed without CUDA: run `pip install 'jax[cuda13]'` (or cuda12)"


@pytest.mark.parametrize(
    "versions, on_cpu, torch_on_gpu, jax_on_gpu",
    [
        ({}, "not installed", "not installed", "not installed"),
        ({"torch": "2.13.0+cpu", "jax": "0.10.2"}, "", "installed without CUDA", NO_JAX),
        ({"torch": "2.13.0", "jax": "0.10.2", "jax-cuda12-plugin": "0.10.2"}, "", "", ""),
        ({"torch": "2.13.0", "jax": "0.10.2", "jax-cuda13-plugin": "0.10.2"}, "", "", ""),
    ],
)
def test_who_is_compared(versions, on_cpu, torch_on_gpu, jax_on_gpu, monkeypatch):
    """The floor first; each with what makes it one of its kind, and why it cannot run where it cannot."""
    status = {"numpy": kernels.Status(True), "numba": kernels.Status(False, "no LLVM"), "cupy": kernels.Status(True)}
    monkeypatch.setattr(kernels, "available", lambda: status)
    monkeypatch.setattr(machine, "version", versions.get)
    util = types.SimpleNamespace(find_spec=versions.get)
    monkeypatch.setattr("benchmarks.contestants.importlib", types.SimpleNamespace(util=util))
    torch, jax, ours, cuda = "benchmarks.in_torch", "benchmarks.in_jax", "benchmarks.contestants", ("device", "cuda")
    of_cpu = [
        ("floor", "", ours, "Floor", (), "cpu"),
        ("numpy", "", ours, "Ours", (("backend", "numpy"),), "cpu"),
        ("numba", "no LLVM", ours, "Ours", (("backend", "numba"),), "cpu"),
        ("cupy", "", ours, "Ours", (("backend", "cupy"),), "gpu"),
        ("torch eager", on_cpu, torch, "Torch", (), "cpu"),
        ("torch compiled", on_cpu, torch, "Torch", (("compiled", True),), "cpu"),
        ("jax jit", on_cpu, jax, "Jit", (), "cpu"),
        ("jax scan", on_cpu, jax, "Scan", (), "cpu"),
    ]
    of_gpu = [
        ("floor gpu", "", ours, "FloorOfGPU", (), "gpu"),
        ("torch eager gpu", torch_on_gpu, torch, "Torch", (cuda,), "gpu"),
        ("torch compiled gpu", torch_on_gpu, torch, "Torch", (cuda, ("compiled", True)), "gpu"),
        ("torch graph gpu", torch_on_gpu, torch, "Graph", (cuda,), "gpu"),
        ("jax scan gpu", jax_on_gpu, jax, "Scan", (("device", "gpu"),), "gpu"),
    ]
    assert list(contestants().items()) == [(row[0], row) for row in of_cpu + of_gpu]
    status["cupy"] = kernels.Status(False, "no GPU is visible")
    of_cpu[3] = ("cupy", "no GPU is visible", ours, "Ours", (("backend", "cupy"),), "cpu")
    assert list(contestants().items()) == [(row[0], row) for row in of_cpu]


def test_step_on_the_gpu_has_its_own_table(gpu, monkeypatch, tmp_path, capsys):
    monkeypatch.setitem(WORKLOADS, "digits", SMALL)
    path = str(tmp_path / "step.json")
    who = ["--contestant", "numpy", "cupy"]
    with pytest.raises(SystemExit) as end:
        main(["step", "--workload", "digits", "--threads", "1", "--rounds", "1", *who, "--json", path])
    assert not end.value.code
    assert "GPU: host" in capsys.readouterr().out
    document = report.load(path)
    assert document["machine"]["gpu"]["cublas"] == "13.2.1"
    on_cpu, on_gpu = document["results"]
    assert [row["name"] for row in on_cpu["rows"]] == ["floor", "numpy"]
    assert [row["name"] for row in on_gpu["rows"]] == ["floor gpu", "cupy"]
    assert on_gpu["rows"][1]["ratios"].keys() == {"floor gpu", "cupy"}
    table = report.tables(document)[1]
    assert "÷ floor gpu" in table.columns and "the GPU" in table.title and "at the floor" in table.notes[0]
    assert len(report.plot(document).axes) == 2
