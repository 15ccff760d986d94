"""The time of an operation is that of its calls alone, and is compared with the machine's best."""

import numpy as np
import pytest

from benchmarks import measure, operations, processes
from benchmarks.costs import Sizes
from benchmarks.workloads import WORKLOADS
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
    assert session.block() == 2.0**-12
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


PEAKS = {"a loop": 2e9, "a product": 8e9, "another product": 4e9}


def of_kernels(contestant, name, **script):
    its = {"check": "", "choose": None, "multiply_add_peak": PEAKS, "copy_bandwidth": 2.0**30}
    return contestant(name, **its | script).make


@pytest.fixture
def timed(scripted, contestant, monkeypatch):
    """A function timed(rounds, names, numpy=script, ...) that calls compare_operations; `timed.asked` has the workers' calls."""
    both = {"numpy": kernels.Status(True), "numba": kernels.Status(True)}
    monkeypatch.setattr(kernels, "available", lambda: both | {"cupy": kernels.Status(False, "no GPU is visible")})
    worker = processes.Worker

    def compared(rounds, names, **scripts):
        made = {name: of_kernels(contestant, name, **script) for name, script in scripts.items()}
        monkeypatch.setattr(
            processes, "Worker", lambda cores, session, backend, *rest: worker(cores, session, made[backend], backend, *rest)
        )
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
    adam, gather, normals = 4 * 7 * 33 * 19, 5 * 7 * 33 + 8 * 7, 8 * 7 + 4 * 2 * 7 * 5
    assert [row["bytes"] for row in rows] == [adam, adam, gather, gather, normals, normals]
    assert [row["operations"] for row in rows] == [14 * 33 * 19] * 2 + [7 * 33] * 2 + [None] * 2
    assert [row["share_of_copy"] for row in rows] == [row["bytes"] / s / 2.0**30 for row, s in zip(rows, seconds)]
    of_peak = [row["operations"] / s / 8e9 for row, s in zip(rows[:4], seconds)]
    assert [row["share_of_peak"] for row in rows] == [*of_peak, None, None]
    assert result.pop("peak") == {"how": "a product", "flops": 8e9, "all": PEAKS}
    assert result.pop("copy")["bytes_per_second"] == {2**16: 2.0**30}
    assert result == {
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
        ("numpy", "multiply_add_peak"),
        ("numpy", "copy_bandwidth", 2**16),
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
    its = {"name": "tanh_backward", "bytes": 4 * 3 * 7 * 19, "operations": 4 * 7 * 19}
    assert wrong == its | {"backend": "numpy", "status": "wrong", "reason": "AssertionError: off"}
    assert failed == its | {"backend": "numba", "status": "failed", "reason": "out of memory"}
    assert ("numpy", "choose", "tanh_backward") not in timed.asked


def test_a_copy_is_of_as_many_bytes_as_the_operation_touches(timed, monkeypatch):
    """The size is the next power of two, and each size is measured once."""
    touched = {"tanh_backward": 2**16, "gather": 2**16 + 1, "adam": 3 * 2**20, "elbo": 3, "iwae": 2**22}
    monkeypatch.setattr(operations, "bytes_of", lambda name, *_: (1024, touched[name]))
    result = timed(1, list(touched), numpy={"block": iter([0.5] * 5), "copy_bandwidth": iter([2.0, 3.0, 1.0])})
    asked = [size for _, method, *given in timed.asked if method == "copy_bandwidth" for size in given]
    names = [row["name"] for row in result["rows"]]
    assert names == ["tanh_backward", "elbo", "iwae", "adam", "gather"]
    assert asked == [2**16, 2**22, 2**17]
    assert list(result["copy"]["bytes_per_second"].items()) == [(2**16, 2.0), (2**17, 1.0), (2**22, 3.0)]
    assert [row["share_of_copy"] for row in result["rows"]] == [2048 / speed for speed in (2.0, 2.0, 3.0, 3.0, 1.0)]


def test_gpu_kernels_are_left_to_whole_steps(monkeypatch):
    with pytest.raises(ValueError, match=r"none of the chosen backends can be timed here \(cupy: no GPU is visible\)"):
        monkeypatch.setattr(kernels, "available", lambda: {"cupy": kernels.Status(False, "no GPU is visible")})
        operations.compare_operations(1, ["cupy"])
    with pytest.raises(ValueError, match="on a GPU only whole steps are timed"):
        monkeypatch.setattr(kernels, "available", lambda: {"cupy": kernels.Status(True)})
        operations.compare_operations(1, ["cupy"])


def test_operations_are_checked_and_timed(in_process, monkeypatch):
    """Nothing is replaced but the machine's best."""
    monkeypatch.setattr(operations.OperationSession, "multiply_add_peak", lambda self: PEAKS)
    monkeypatch.setattr(operations.OperationSession, "copy_bandwidth", lambda self, size: 1e9)
    names = ["tanh_backward", "gather"]
    result = operations.compare_operations(1, ["numpy", "cupy"], sizes=SIZES, names=names)
    assert [(row["name"], row["status"]) for row in result["rows"]] == [(name, "ok") for name in names]
    assert all(0 <= row["minimum"] <= row["median"] for row in result["rows"])
    assert "cupy" in result["missing"]
