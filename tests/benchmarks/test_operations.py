"""The time of an operation is that of its calls alone, and is compared with the machine's best."""

import numpy as np
import pytest

from benchmarks import costs, measure, operations, peaks, processes
from benchmarks.costs import Sizes
from benchmarks.workloads import WORKLOADS
from tests.benchmarks.conftest import LEVELS, PROBE
from vae_np import kernels
from vae_np.testing.operations import OPERATIONS, random_arguments, with_changes

SIZES = Sizes(7, 33, 19, 5, 2)


def test_operations_are_as_large_as_in_the_example():
    example = WORKLOADS["example"]
    arch = example.architecture
    sizes = Sizes(example.batch_size, arch.n_inputs, *arch.hidden, arch.n_latent, example.n_samples)
    assert operations.EXAMPLE == sizes


class Slow(np.ndarray):
    """An array that takes a second to fill."""

    clock = None

    def __setitem__(self, key, value):
        self.clock.now += 1
        super().__setitem__(key, value)


def test_a_block_is_the_seconds_of_a_call_without_what_restores_its_arguments(clock, monkeypatch):
    """After every few calls, what an operation changes gets its first values again."""
    seen = []

    def tanh_backward(dh, y, h):
        clock.now += 2.0**-12
        seen.append(dh.sum())
        dh *= 0.5
        return dh

    session = operations.OperationSession(with_changes(tanh_backward=tanh_backward), SIZES)
    session.choose("tanh_backward")
    assert session.changed == [0]
    assert session.n == 1 or measure.BLOCK_SECONDS <= session.n * operations.CALLS * 2.0**-12 <= 2 * measure.BLOCK_SECONDS
    assert session.n > 1
    monkeypatch.setattr(Slow, "clock", clock)
    session.arguments = [argument.view(Slow) for argument in session.arguments]
    seen.clear()
    assert session.block()[0] == 2.0**-12
    assert len(seen) == session.n * operations.CALLS
    np.testing.assert_allclose(seen[:: operations.CALLS], random_arguments("tanh_backward", "float32", SIZES)[0].sum())


def test_all_results_are_restored():
    session = operations.OperationSession("numpy", SIZES)
    session._seconds = lambda n: 1.0
    session.choose("gaussian_kl_backward")
    assert [OPERATIONS["gaussian_kl_backward"][i] for i in session.changed] == ["dz", "dmu", "dlogvar"]


def test_wrong_operation_is_called_wrong():
    session = operations.OperationSession(with_changes(tanh_backward=lambda dh, y, h: dh), SIZES)
    assert session.check("tanh_backward").startswith("AssertionError: tanh_backward")
    assert session.check("relu_backward") == ""


def test_a_block_tells_what_others_took(monkeypatch):
    session, readings = operations.OperationSession("numpy", SIZES), iter([5, 7])
    monkeypatch.setattr(operations.disturbances, "counters", lambda: next(readings))
    monkeypatch.setattr(operations.disturbances, "taken", lambda before, after: (before, after))
    session.n, session._seconds = 3, lambda n: 6.0 * n
    assert session.block() == (6.0 / operations.CALLS, (5, 7))


def of_kernels(contestant, name, **script):
    return contestant(name, **{"check": "", "choose": None} | script).make


@pytest.fixture
def timed(scripted, contestant, monkeypatch):
    """A function timed(rounds, names, numpy=script, ...) that calls compare_operations; `timed.asked` has the workers' calls."""
    both = {"numpy": kernels.Status(True), "numba": kernels.Status(True)}
    monkeypatch.setattr(kernels, "available", lambda: both | {"cupy": kernels.Status(False, "no GPU is visible")})
    worker = processes.Worker

    def compared(rounds, names, **scripts):
        made = {name: of_kernels(contestant, name, **script) for name, script in scripts.items()}

        def started(cores, session, first, *rest):
            return worker(cores, session, *([made[first]] if first in made else []), first, *rest)

        monkeypatch.setattr(processes, "Worker", started)
        return operations.compare_operations(rounds, [*scripts, "cupy"], sizes=SIZES, names=names)

    compared.asked = scripted
    return compared


def test_each_number_of_an_operation_is_where_it_belongs(timed):
    result = timed(
        3,
        ["gather", "adam", "normals"],
        numpy={"block": iter([2.0**-10, 2.0**-4, 2.0**-9, *[2.0**-7] * 3, *[2.0**-6] * 3])},
        numba={"block": iter([2.0**-14, 2.0**-13, 2.0**-15, *[2.0**-8] * 3, *[2.0**-5] * 3])},
    )
    rows = result.pop("rows")
    assert [(row["name"], row["backend"], row["status"], row["reason"]) for row in rows] == [
        (name, backend, "ok", "") for name in ("adam", "gather", "normals") for backend in ("numpy", "numba")
    ]
    seconds = [2.0**-9, 2.0**-14, 2.0**-7, 2.0**-8, 2.0**-6, 2.0**-5]
    assert [row["median"] for row in rows] == seconds
    assert [row["minimum"] for row in rows] == [2.0**-10, 2.0**-15, *seconds[2:]]
    read = [16 * 33 * 19] * 2 + [7 * 33 + 8 * 7] * 2 + [8 * 7] * 2
    written = [12 * 33 * 19] * 2 + [4 * 7 * 33] * 2 + [4 * 2 * 7 * 5] * 2
    assert [row["read"] for row in rows] == read
    assert [row["written"] for row in rows] == written
    assert [row["level"] for row in rows] == ["memory"] * 2 + ["L1"] * 4
    assert [row["operations"] for row in rows] == [14 * 33 * 19] * 2 + [7 * 33] * 2 + [None] * 2
    assert [row["share_of_bandwidth"] for row in rows] == [w / 2.0**28 / s for w, s in zip(written, seconds)]
    of_peak = [row["operations"] / s / 2.0**31 for row, s in zip(rows[:4], seconds)]
    assert [row["share_of_peak"] for row in rows] == [*of_peak, None, None]
    assert {(row["taken"], row["dropped"], row["disturbed"]) for row in rows} == {(0.0, 0, 0)}
    assert result.pop("peak") == {"all": PROBE["peaks"]}
    assert result == {
        "levels": LEVELS,
        "sizes": {"B": 7, "D": 33, "H": 19, "Z": 5, "L": 2},
        "threads": 1,
        "cores": [5],
        "rounds": 3,
        "missing": {"cupy": "no GPU is visible"},
    }


def test_a_kernel_set_is_checked_before_it_is_timed_and_in_turn(timed):
    timed(2, ["tanh_backward"], numpy={"block": iter([1.0] * 2)}, numba={"block": iter([1.0] * 2)})
    name = "tanh_backward"
    assert timed.asked == [
        ("numpy", "start", [5], operations.OperationSession, "numpy", SIZES),
        ("numba", "start", [5], operations.OperationSession, "numba", SIZES),
        ("probe", "start", [5], measure._probe, "float32"),
        ("numpy", "check", name),
        ("numba", "check", name),
        ("numpy", "choose", name),
        ("numba", "choose", name),
        ("numpy", "block"),
        ("numba", "block"),
        ("numba", "block"),
        ("numpy", "block"),
    ]


def test_wrong_and_failed_operations_have_no_times(timed):
    result = timed(
        1,
        ["tanh_backward"],
        numpy={"check": "AssertionError: off"},
        numba={"block": processes.WorkerError("out of memory")},
    )
    wrong, failed = result["rows"]
    its = {"name": "tanh_backward", "read": 8 * 7 * 19, "written": 4 * 7 * 19, "level": "L1", "operations": 4 * 7 * 19}
    assert wrong == its | {"backend": "numpy", "status": "wrong", "reason": "AssertionError: off"}
    assert failed == its | {"backend": "numba", "status": "failed", "reason": "out of memory"}
    assert ("numpy", "choose", "tanh_backward") not in timed.asked


@pytest.mark.parametrize("written, least", [(64, 2.0), (256, 4.0)])
def test_caches_are_measured_as_large_as_the_operation_before_and_after_it(written, least, timed, monkeypatch):
    """The faster measurement counts."""
    asked, speeds = [], iter([{"read": 8.0, "write": 16.0}, {"read": 4.0, "write": 64.0}])

    monkeypatch.setitem(PROBE, "caches", lambda n_bytes: asked.append(n_bytes) or next(speeds))
    monkeypatch.setattr(operations, "traffic", lambda *_: costs.Traffic(16, written, 777))
    (row,) = timed(1, ["elbo"], numpy={"block": iter([8.0])})["rows"]
    assert row["share_of_bandwidth"] == least / 8
    assert asked == [777, 777]


def test_a_share_of_the_peak_is_taken_beside_the_block(timed, monkeypatch):
    """The peak is half as high beside the slow blocks, which are another state, and as many: so the fast ones count."""
    monkeypatch.setitem(PROBE, "peak", iter([2.0**31] * 6 + [2.0**30] * 6))
    (row,) = timed(6, ["tanh_backward"], numpy={"block": iter([2.0**-20] * 3 + [2.0**-19] * 3)})["rows"]
    assert (row["median"], row["dropped"], row["share_of_peak"]) == (2.0**-20, 3, 4 * 7 * 19 * 2.0**20 / 2.0**31)


def test_gpu_kernels_are_left_to_whole_steps(monkeypatch):
    with pytest.raises(ValueError, match=r"none of the chosen backends can be timed here \(cupy: no GPU is visible\)"):
        monkeypatch.setattr(kernels, "available", lambda: {"cupy": kernels.Status(False, "no GPU is visible")})
        operations.compare_operations(1, ["cupy"])
    with pytest.raises(ValueError, match="on a GPU only whole steps are timed"):
        monkeypatch.setattr(kernels, "available", lambda: {"cupy": kernels.Status(True)})
        operations.compare_operations(1, ["cupy"])


def test_operations_are_checked_and_timed(in_process, monkeypatch):
    """Nothing is replaced but the machine's best."""
    for method in ("peaks", "peak", "levels", "caches"):
        monkeypatch.setattr(peaks.Probe, method, lambda self, *_, method=method: PROBE[method])
    names = ["tanh_backward", "gather"]
    result = operations.compare_operations(1, ["numpy", "cupy"], sizes=SIZES, names=names)
    assert [(row["name"], row["status"]) for row in result["rows"]] == [(name, "ok") for name in names]
    assert all(0 <= row["minimum"] <= row["median"] for row in result["rows"])
    assert "cupy" in result["missing"]
