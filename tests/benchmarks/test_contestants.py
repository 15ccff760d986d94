"""A wrong contestant is called wrong, each is what its name says, and those on a GPU are compared with each other."""

import json
import types

import numpy as np
import pytest

from benchmarks import machine, measure, plots, report, tables
from benchmarks.__main__ import main
from benchmarks.contestants import REFERENCES, Contestant, contestants, note_of_rounding
from benchmarks.in_vae_np import VaeNp
from benchmarks.workloads import WORKLOADS
from vae_np import kernels
from vae_np.kernels import reference
from vae_np.testing.operations import REFERENCE as REFERENCE_SET
from vae_np.testing.operations import with_changes

DIGITS = WORKLOADS["digits"]
SMALL = DIGITS._replace(batch_size=6, n_rows=30)
ROWS = DIGITS.batches(measure.CHECKED_STEPS + 1)
APART = ("floor", "torch compiled", "floor gpu", "torch compiled gpu")
IN_PROCESS = [name for name, c in contestants().items() if not c.reason and name not in APART]


@pytest.fixture(scope="module")
def wanted():
    return REFERENCES["float32"].make(DIGITS, 1).losses(ROWS)


@pytest.mark.parametrize("name", IN_PROCESS)
def test_contestants_agree(name, wanted):
    contestant = contestants()[name].make(DIGITS, 1)
    for _ in range(2):  # the second time other steps have been made, and it begins at the initial parameters again
        assert measure.verdict(contestant.losses(ROWS), wanted).get("status") is None
        contestant.restart()
        assert np.array_equal(contestant.parameters(), DIGITS.parameters().flat)
        contestant.prepare(ROWS)
        contestant.run()
        assert not np.array_equal(contestant.parameters(), DIGITS.parameters().flat)


@pytest.mark.parametrize("name", [name for name in IN_PROCESS if name not in ("numpy", "cupy")])
def test_contestants_agree_on_weighted_samples(name):
    workload = WORKLOADS["iwae-5"]._replace(n_rows=200)
    rows = workload.batches(4)
    wanted = REFERENCES["float32"].make(workload, 1).losses(rows)
    assert measure.verdict(contestants()[name].make(workload, 1).losses(rows), wanted).get("status") is None


def test_contestants_agree_in_bfloat16(wanted):
    """Ours agree more closely than others, which round more or less than the reference."""
    losses = REFERENCES["bfloat16"].make(DIGITS, 1).losses(ROWS)
    of_float32 = measure.verdict(wanted, losses)["loss_error"]
    assert of_float32 > 3e-5
    numpy = contestants("bfloat16")["numpy"].make(DIGITS, 1)
    assert measure.verdict(numpy.losses(ROWS), losses)["loss_error"] < of_float32 / 10


def test_a_library_that_does_not_round_is_told():
    def product(x, W):
        made.append((x.shape, W.shape))
        return x @ W

    made = []
    assert "its products are in float32 here" in note_of_rounding(DIGITS, product)
    assert note_of_rounding(DIGITS, lambda x, W: product(reference.rounded(x, 8), reference.rounded(W, 8))) == ""
    assert note_of_rounding(DIGITS, lambda x, W: product(reference.rounded(x, 10), W)) != ""
    assert made == [((64, 64), (64, 64))] * 3


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
    said = measure.verdict(VaeNp(DIGITS, 1, with_changes(**changes)).losses(ROWS), wanted)
    assert said["status"] == "wrong"
    assert "the reference's is" in said["reason"]


def test_a_training_goes_on_where_it_stopped():
    """Steps in several calls are those of one call: each has a number, which its noise and the correction of Adam depend on."""
    at_once, in_parts = (contestants()["numpy"].make(DIGITS, 1) for _ in range(2))
    for contestant, parts in ((at_once, [ROWS[:5]]), (in_parts, [ROWS[:2], ROWS[2:3], ROWS[3:5]])):
        contestant.restart()
        for rows in parts:
            contestant.prepare(rows)
            contestant.run()
    assert np.array_equal(at_once.parameters(), in_parts.parameters())


def test_a_comparison_in_processes_of_their_own():
    """Nothing is replaced here. PyTorch and JAX start slowly, so that other tests try them in this process."""
    chosen = [contestants()["floor"], contestants()["numpy"], Contestant("absent", "not installed")]
    result = json.loads(json.dumps(measure.compare(DIGITS, chosen, REFERENCES["float32"], 1, rounds=1)))
    floor, peak, numpy, _ = result["rows"]
    assert [row["status"] for row in result["rows"]] == ["ok", "ok", "ok", "missing"]
    assert peak["note"].startswith("the same products at the peak of the ") and peak["median"] > 0
    assert result["peak"]["states"]["commonest"]["flops"] > 0
    for row in (floor, numpy):
        assert 0 < row["minimum"] <= row["p10"] <= row["median"]
        assert row["ratios"].keys() == {"floor", "peak", "numpy"}
        assert row["taken"] >= 0 and row["dropped"] == 0
        assert row["peak_memory_mb"] > 10
        assert row["steps_per_block"] >= 1


def test_who_cannot_be_made_is_a_row_with_its_reason(in_process):
    broken = Contestant("broken", options=(("backend", "no such backend"),))
    result = measure.compare(DIGITS, [contestants()["floor"], broken], REFERENCES["float32"], 1, rounds=1)
    assert result["rows"][2]["status"] == "failed"
    assert "no such backend" in result["rows"][2]["reason"]


@pytest.mark.parametrize("n_samples", [1, 3])
def test_our_steps_on_the_gpu_agree(gpu, n_samples):
    workload = SMALL._replace(n_samples=n_samples)
    rows = workload.batches(3)
    wanted = REFERENCES["float32"].make(workload, 1).losses(rows)
    contestant = contestants()["cupy"].make(workload, 1)
    for _ in range(2):
        assert measure.verdict(contestant.losses(rows), wanted).get("status") is None
        assert not np.array_equal(contestant.parameters(), workload.parameters().flat)
        contestant.restart()
        assert np.array_equal(contestant.parameters(), workload.parameters().flat)


def test_steps_are_timed_after_a_device_has_done_what_came_before(monkeypatch):
    """Only reading values of an array waits for a device."""
    ours, asked = VaeNp(SMALL, 1, "numpy"), []
    model = types.SimpleNamespace(get=lambda array: asked.append(array))
    monkeypatch.setattr(ours, "model", model)
    ours.prepare(SMALL.batches(1))
    assert len(asked) == 1 and np.shares_memory(asked[0], ours.p.flat)


NO_TORCH, NO_JAX = "torch is not installed", "jax is not installed"
TORCH_WITHOUT_CUDA = "torch is installed without CUDA"
JAX_WITHOUT_CUDA = "jax is installed without CUDA: run `pip install 'jax[cuda13]'` (or cuda12)"


@pytest.mark.parametrize(
    "versions, torch_on_cpu, jax_on_cpu, torch_on_gpu, jax_on_gpu",
    [
        ({}, NO_TORCH, NO_JAX, NO_TORCH, NO_JAX),
        ({"torch": "2.13.0+cpu", "jax": "0.10.2"}, "", "", TORCH_WITHOUT_CUDA, JAX_WITHOUT_CUDA),
        ({"torch": "2.13.0", "jax": "0.10.2", "jax-cuda12-plugin": "0.10.2"}, "", "", "", ""),
        ({"torch": "2.13.0", "jax": "0.10.2", "jax-cuda13-plugin": "0.10.2"}, "", "", "", ""),
    ],
)
def test_who_is_compared(versions, torch_on_cpu, jax_on_cpu, torch_on_gpu, jax_on_gpu, monkeypatch):
    """The floor comes first. Each has its own options, and a reason where it cannot run."""
    status = {"numpy": kernels.Status(True), "numba": kernels.Status(False, "no LLVM"), "cupy": kernels.Status(True)}
    monkeypatch.setattr(kernels, "available", lambda: status)
    monkeypatch.setattr(machine, "version", versions.get)
    util = types.SimpleNamespace(find_spec=versions.get)
    monkeypatch.setattr("benchmarks.contestants.importlib", types.SimpleNamespace(util=util))
    torch, jax, ours, cuda = "benchmarks.in_torch", "benchmarks.in_jax", "benchmarks.in_vae_np", ("device", "cuda")
    floors = "benchmarks.floors"
    of_cpu = [
        ("floor", "", floors, "Floor", (), "cpu"),
        ("numpy", "", ours, "VaeNp", (("backend", "numpy"),), "cpu"),
        ("numba", "no LLVM", ours, "VaeNp", (("backend", "numba"),), "cpu"),
        ("cupy", "", ours, "VaeNp", (("backend", "cupy"),), "gpu"),
        ("torch eager", torch_on_cpu, torch, "Torch", (), "cpu"),
        ("torch compiled", torch_on_cpu, torch, "Torch", (("compiled", True),), "cpu"),
        ("jax jit", jax_on_cpu, jax, "Jit", (), "cpu"),
        ("jax scan", jax_on_cpu, jax, "Scan", (), "cpu"),
    ]
    of_gpu = [
        ("floor gpu", "", floors, "FloorOfGPU", (), "gpu"),
        ("torch eager gpu", torch_on_gpu, torch, "Torch", (cuda,), "gpu"),
        ("torch compiled gpu", torch_on_gpu, torch, "Torch", (cuda, ("compiled", True)), "gpu"),
        ("torch graph gpu", torch_on_gpu, torch, "Graph", (cuda,), "gpu"),
        ("jax scan gpu", jax_on_gpu, jax, "Scan", (("device", "gpu"),), "gpu"),
    ]
    assert list(contestants().items()) == [(row[0], row) for row in of_cpu + of_gpu]
    status["cupy"] = kernels.Status(False, "no GPU is visible")
    of_cpu[3] = ("cupy", "no GPU is visible", ours, "VaeNp", (("backend", "cupy"),), "cpu")
    assert list(contestants().items()) == [(row[0], row) for row in of_cpu]


def test_who_is_compared_in_bfloat16(monkeypatch):
    """On the GPU only ours are. The floor is that of float32."""
    status = {"numpy": kernels.Status(True), "numba": kernels.Status(False, "no LLVM"), "cupy": kernels.Status(True)}
    monkeypatch.setattr(kernels, "available", lambda: status)
    monkeypatch.setattr("benchmarks.contestants.importlib", types.SimpleNamespace(util=types.SimpleNamespace(find_spec=str)))
    torch, jax, ours = "benchmarks.in_torch", "benchmarks.in_jax", "benchmarks.in_vae_np"
    at, autocast, medium, compiled = (
        *(("precision", way) for way in ("bfloat16", "autocast", "medium")),
        ("compiled", True),
    )
    found = contestants("bfloat16")
    assert list(found.values()) == [
        contestants()["floor"],
        ("numpy", "", ours, "VaeNp", (("backend", "numpy"), at), "cpu"),
        ("numba", "no LLVM", ours, "VaeNp", (("backend", "numba"), at), "cpu"),
        ("cupy", "", ours, "VaeNp", (("backend", "cupy"), at), "gpu"),
        ("torch autocast", "", torch, "Torch", (autocast,), "cpu"),
        ("torch medium", "", torch, "Torch", (medium,), "cpu"),
        ("torch compiled autocast", "", torch, "Torch", (compiled, autocast), "cpu"),
        ("torch compiled medium", "", torch, "Torch", (compiled, medium), "cpu"),
        ("jax jit", "", jax, "Jit", (at,), "cpu"),
        ("jax scan", "", jax, "Scan", (at,), "cpu"),
        contestants()["floor gpu"],
    ]
    assert list(found) == [contestant.name for contestant in found.values()]


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
    assert [row["name"] for row in on_cpu["rows"]] == ["floor", "peak", "numpy"]
    assert [row["name"] for row in on_gpu["rows"]] == ["floor gpu", "cupy"]
    assert on_gpu["rows"][1]["ratios"].keys() == {"floor gpu", "cupy"}
    table = tables.make_tables(document)[1]
    assert "÷ floor gpu" in table.columns and "the GPU" in table.title and "at the floor" in table.notes[0]
    assert len(plots.draw(document).axes) == 2
