"""Who is wrong is called wrong; the floor holds what the text needs and no more; files hold what pages need."""

import ctypes
import importlib.util
import json
import math
import sys

import numpy as np
import pytest

from benchmarks import machine, measure, operations, report, training
from benchmarks.__main__ import main
from benchmarks.contestants import REFERENCE, Contestant, Floor, Ours, contestants
from benchmarks.workloads import WORKLOADS, scaled, select
from tests.kernels.gpu import on_host
from vae_np import data, kernels
from vae_np.testing.operations import OPERATIONS, SIZES, with_changes
from vae_np.testing.operations import REFERENCE as REFERENCE_SET

DIGITS = WORKLOADS["digits"]
ROWS = DIGITS.batches(measure.CHECKED + 1)
APART = ("floor", "torch compiled", "floor gpu", "torch compiled gpu")
IN_PROCESS = [name for name, c in contestants().items() if not c.reason and name not in APART]


@pytest.fixture(scope="module")
def wanted():
    return REFERENCE.make(DIGITS, 1).losses(ROWS)


@pytest.fixture(scope="module")
def compared():
    """A short comparison in processes of their own; PyTorch and JAX start slowly, and are tried in this one."""
    chosen = [contestants()["floor"], contestants()["numpy"], Contestant("absent", "not installed")]
    chosen.append(Contestant("broken", options=(("backend", "no such backend"),)))
    return measure.compare(DIGITS, chosen, REFERENCE, 1, rounds=2)


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


def test_losses_that_are_not_finite_are_wrong(wanted):
    assert measure.verdict([math.nan] * len(wanted), wanted)["status"] == "wrong"


def test_wrong_row_is_not_timed(monkeypatch):
    monkeypatch.setattr(measure, "reference_losses", lambda *_: [1.0] * (measure.CHECKED + 1))
    chosen = [contestants()["floor"], contestants()["numpy"]]
    floor, numpy = measure.compare(DIGITS, chosen, REFERENCE, 1, rounds=1)["rows"]
    assert (floor["status"], numpy["status"]) == ("ok", "wrong")
    assert "median" in floor and "median" not in numpy


def test_reasons_are_told(compared):
    rows = {row["name"]: row for row in compared["rows"]}
    assert (rows["absent"]["status"], rows["absent"]["reason"]) == ("missing", "not installed")
    assert rows["broken"]["status"] == "failed"
    assert "no such backend" in rows["broken"]["reason"]


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


def test_batches_are_pieces_of_shuffled_epochs():
    per_epoch = DIGITS.n_rows // DIGITS.batch_size
    rows = DIGITS.batches(2 * per_epoch)
    assert len(np.unique(rows[:per_epoch])) == per_epoch * DIGITS.batch_size
    assert np.array_equal(rows[5:40], DIGITS.batches(35, 5))
    assert not np.array_equal(rows[:per_epoch], rows[per_epoch:])


def test_scaled():
    assert scaled("batch", 16).batch_size == 16
    assert scaled("samples", 5).objective == "iwae"
    assert scaled("width", 50).architecture.hidden == (50,)
    assert scaled("latent", 2).architecture.n_latent == 2


def test_select():
    assert [w.name for w in select(["iwae", "digits"])] == ["iwae-1", "iwae-5", "iwae-50", "digits"]
    assert {w.name for w in select(["all"])} == WORKLOADS.keys() - {"wide-4096"}
    assert [w.name for w in select(["all"], "gpu")] == list(WORKLOADS)
    assert [w.name for w in select(["wide-4096"])] == ["wide-4096"]


# ------------------------------------------------------------------------------------------- a GPU, in whose place a host


@pytest.fixture
def gpu(monkeypatch):
    """A GPU can be used, as far as the benchmarks know; what runs on it is run by the host, and in this process."""
    if not on_host.KERNELS:
        pytest.skip("no g++")

    class InProcess:
        def __init__(self, cores, session, *arguments):
            self.session = session(*arguments)

        def ask(self, method, *given):
            return getattr(self.session, method)(*given)

        def close(self):
            pass

    class Cublas(on_host.DEVICE.load_cublas):
        def cublasGetProperty(self, part, number):
            ctypes.cast(number, ctypes.POINTER(ctypes.c_int))[0] = (13, 2, 1)[part]
            return 0

    monkeypatch.setattr(kernels, "CHECKS", kernels.CHECKS | {"cupy": lambda: kernels.Status(True)})
    monkeypatch.setattr(measure, "Child", InProcess)
    monkeypatch.setattr(measure, "BLOCK", 1e-6)
    monkeypatch.setattr(on_host.DEVICE, "load_cublas", Cublas)
    monkeypatch.setitem(sys.modules, "vae_np.kernels.gpu", on_host.KERNELS)


SMALL = DIGITS._replace(batch_size=20, n_rows=100)


@pytest.mark.parametrize("n_samples", [1, 3])
def test_our_steps_on_the_gpu_agree(gpu, n_samples):
    workload = SMALL._replace(n_samples=n_samples)
    rows = workload.batches(4)
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


def test_who_is_on_the_gpu(gpu):
    on_gpu = [c.name for c in contestants().values() if c.device == "gpu"]
    others = ["floor gpu", "torch eager gpu", "torch compiled gpu", "torch graph gpu", "jax scan gpu"]
    assert on_gpu == ["cupy", *others]


def test_peers_without_cuda_are_rows_with_their_reasons(gpu, monkeypatch):
    monkeypatch.setattr(machine, "version", {"torch": "2.13.0+cpu", "jax": "0.10.2"}.get)
    for name in ("torch graph gpu", "jax scan gpu"):
        assert contestants()[name].reason
    monkeypatch.setattr(machine, "version", {"torch": "2.13.0", "jax-cuda13-plugin": "0.10.2"}.get)
    for name, module in (("torch graph gpu", "torch"), ("jax scan gpu", "jax")):
        assert bool(contestants()[name].reason) == (importlib.util.find_spec(module) is None)


def test_without_a_gpu_cupy_is_a_row_with_its_reason(monkeypatch):
    monkeypatch.setattr(kernels, "CHECKS", kernels.CHECKS | {"cupy": lambda: kernels.Status(False, "no GPU is visible")})
    assert contestants()["cupy"].reason == "no GPU is visible"
    assert {c.device for c in contestants().values()} == {"cpu"}
    assert machine.gpu() is None


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


# -------------------------------------------------------------------------------------------------------- operations


def test_every_operation_has_its_cost():
    nothing = {"constant_backward_add"}  # it neither reads nor writes
    assert set(operations.costs(operations.EXAMPLE)) == set(OPERATIONS) - nothing
    for name, cost in operations.costs(operations.EXAMPLE).items():
        assert set(f"{cost.reads} {cost.writes}".split()) <= set(OPERATIONS[name])


def test_operations_are_checked_and_timed():
    names = ("tanh_backward", "gather")
    result = operations.compare_operations(1, ["numpy", "cupy"], sizes=operations.Sizes(*SIZES[0]), names=names)
    assert [row["name"] for row in result["rows"]] == list(names)
    assert all(row["status"] == "ok" and row["minimum"] <= row["median"] for row in result["rows"])
    assert result["peak"]["flops"] == max(result["peak"]["all"].values())
    assert "cupy" in result["missing"] or not any(row["backend"] == "cupy" for row in result["rows"])


def test_wrong_operation_is_called_wrong():
    session = operations.OperationSession(with_changes(tanh_backward=lambda dh, h: dh), operations.Sizes(*SIZES[0]))
    assert "tanh_backward" in session.check("tanh_backward")
    assert session.check("relu_backward") == ""


# ------------------------------------------------------------------------------------------------- files and the page


def _document(benchmark, results):
    return {"benchmark": benchmark, "date": "2026-01-01", "machine": machine.describe(), "results": results}


def test_json_has_what_it_must(compared):
    document = json.loads(json.dumps(_document("step", [compared])))
    assert {"processor", "blas", "python", "versions", "commit", "environment"} <= document["machine"].keys()
    assert {"numpy", "numba"} <= document["machine"]["versions"].keys()
    for pool in document["machine"]["blas"]:
        assert {"internal_api", "architecture", "num_threads"} <= pool.keys()
    result = document["results"][0]
    assert result["flops"] == DIGITS.flops
    assert result["share_of_others"] is None or 0 <= result["share_of_others"] <= 1
    for row in result["rows"][:2]:
        assert row["minimum"] <= row["p10"] <= row["median"]
        assert row["ratios"].keys() == {"floor", "numpy"}
        assert row["peak_memory_mb"] > 10


def test_report(compared, tmp_path, capsys):
    points = [{**compared, "value": value, "share_of_others": 0.5} for value in (64, 128)]
    x = data.load("digits")
    bytes_ = x._replace(train=(255 * x.train[:300]).astype(np.uint8), valid=x.valid[:50])
    trained = training.train_to(
        40.0, [contestants()["numpy"]], 2, 1, workload=DIGITS._replace(source="synthetic", n_rows=300), dataset=bytes_
    )
    assert len(trained["rows"][0]["history"]) == trained["rows"][0]["epochs"]
    timed = operations.compare_operations(1, ["numpy"], sizes=operations.Sizes(*SIZES[0]), names=["gather"])
    results = {
        "step": [compared],
        "scaling": [{"axis": "batch", "rounds": 2, "points": points}],
        "training": [trained],
        "kernels": [timed],
    }
    files = []
    for benchmark, of_it in results.items():
        files.append(str(tmp_path / f"{benchmark}.json"))
        report.save(_document(benchmark, of_it), files[-1])
    with pytest.raises(SystemExit) as end:
        main(["report", *files, "--out", str(tmp_path / "docs" / "page.md")])
    assert not end.value.code
    page = (tmp_path / "docs" / "page.md").read_text()
    written = capsys.readouterr().out.split()
    for benchmark in results:
        assert f"## {benchmark}" in page
        assert benchmark == "kernels" or any(f"{benchmark}.png" in path for path in written)
    assert "absent: not installed" in page
    assert "other processes took 50% of these cores" in page


@pytest.mark.parametrize(
    "words, told",
    [
        (["step", "--workload", "huge"], "huge"),
        (["step", "--threads", "1000000"], "1000000"),
        (["step", "--contestant", "theano"], "theano"),
        (["step", "--rounds", "0"], "rounds"),
        (["kernels", "--operation", "gamma"], "gamma"),
        (["training", "--target", "nan"], "target"),
        (["report", "no-such-file.json"], "no-such-file.json"),
    ],
)
def test_bad_input_is_one_sentence(words, told, capsys):
    with pytest.raises(SystemExit) as end:
        main(words)
    assert end.value.code == 2
    said = capsys.readouterr().err.strip()
    assert told in said and "Traceback" not in said and len(said.splitlines()) == 1


def test_report_of_another_file(tmp_path, capsys):
    for text in ("no JSON", "{}", '{"benchmark": "step"}', '{"benchmark": "other", "results": []}', "[]"):
        (tmp_path / "other.json").write_text(text)
        with pytest.raises(SystemExit) as end:
            main(["report", str(tmp_path / "other.json"), "--out", str(tmp_path / "page.md")])
        assert end.value.code == 2
        assert "other.json" in capsys.readouterr().err


def test_warning_of_the_environment(monkeypatch):
    monkeypatch.setenv("OPENBLAS_CORETYPE", "Haswell")
    assert machine.settings()["OPENBLAS_CORETYPE"] == "Haswell"
    assert any("OPENBLAS_CORETYPE=Haswell" in line for line in report.about(_document("step", [])))
