"""What an operation costs is what the reference does; how fast it is, is held against the machine's own best."""

import numpy as np
import pytest

from benchmarks import machine, measure, operations
from benchmarks.workloads import WORKLOADS
from vae_np import kernels
from vae_np.testing.operations import OPERATIONS, REFERENCE, random_arguments, with_changes

SIZES = operations.Sizes(7, 33, 19, 5, 2)
NAMES = list(operations.costs(SIZES))


# ------------------------------------------------------------------------------------------------------------- costs


class Counted(np.ndarray):
    """An array that adds up, in Counted.operations, what NumPy computes with it."""

    operations = 0

    def __array_ufunc__(self, ufunc, method, *inputs, out=None, **named):
        plain = [np.asarray(i) if isinstance(i, np.ndarray) else i for i in inputs]
        if out is not None:
            named["out"] = tuple(map(np.asarray, out))
        result = getattr(ufunc, method)(*plain, **named)
        each = 2 * plain[0].shape[-1] if ufunc is np.matmul else 1
        Counted.operations += each * np.size(plain[0] if method == "reduce" else result)
        return out[0] if out is not None else np.asarray(result).view(Counted)


def arrays(arguments, kind=np.ndarray):
    return [argument.view(kind) if isinstance(argument, np.ndarray) else argument for argument in arguments]


def test_every_operation_has_its_cost():
    nothing = {"constant_backward_add"}  # it neither reads nor writes
    assert set(NAMES) == set(OPERATIONS) - nothing


def test_operations_are_as_large_as_in_the_example():
    example = WORKLOADS["example"]
    arch = example.architecture
    sizes = operations.Sizes(example.batch_size, arch.n_inputs, *arch.hidden, arch.n_latent, example.n_samples)
    assert operations.EXAMPLE == sizes


@pytest.mark.parametrize("name", [name for name in NAMES if name not in ("normals", "binarize")])
def test_a_cost_is_what_the_reference_computes(name):
    Counted.operations = 0
    getattr(REFERENCE, name)(*arrays(random_arguments(name, "float64", SIZES), Counted))
    assert operations.costs(SIZES)[name].operations == Counted.operations


def test_only_what_computes_with_integers_is_not_counted():
    assert [name for name, cost in operations.costs(SIZES).items() if cost.operations is None] == ["normals", "binarize"]


@pytest.mark.parametrize("name", NAMES)
def test_a_cost_names_the_arrays_that_are_read_and_written(name):
    """Read is what changes a result by another value, written what the operation changes."""

    def result(changed=None):
        arguments = random_arguments(name, "float64", SIZES)
        for parameter, array in zip(OPERATIONS[name], arguments):
            if parameter == changed:
                array[...] = 1.37 * array + 0.11 if array.dtype.kind == "f" else (array + 1) % 7
        getattr(REFERENCE, name)(*arguments)
        return {p: array for p, array in zip(OPERATIONS[name], arguments) if isinstance(array, np.ndarray)}

    before, after = dict(zip(OPERATIONS[name], random_arguments(name, "float64", SIZES))), result()
    written = {p for p, array in after.items() if not np.array_equal(array, before[p])}
    read = {p for p in after if any(not np.array_equal(result(p)[w], after[w]) for w in written)}
    cost = operations.costs(SIZES)[name]
    assert set(cost.writes.split()) == written
    assert set(cost.reads.split()) == read


@pytest.mark.parametrize(
    "name, bytes_, touched",
    [
        ("affine", 4 * (7 * 33 + 33 * 19 + 19 + 7 * 19), 4 * (7 * 33 + 33 * 19 + 19 + 7 * 19)),
        ("tanh_backward", 4 * 3 * 7 * 19, 4 * 2 * 7 * 19),  # dh is read and written
        ("adam", 4 * 7 * 33 * 19, 4 * 4 * 33 * 19),  # p, m and v are read and written, and g is read
        ("gather", 7 * 33 + 8 * 7 + 4 * 7 * 33, 7 * 33 + 8 * 7 + 4 * 7 * 33),  # of the data, one row of bytes for each
        ("elbo_backward", 4 * (2 * 7 + 2 * 7 - 7), 4 * (2 * 7 + 2 * 7 - 7)),  # dnll (L, B), dkl (1, B)
    ],
)
def test_bytes_are_those_of_the_arrays(name, bytes_, touched):
    arguments = random_arguments(name, "float32", SIZES)
    assert operations.moved(name, operations.costs(SIZES)[name], arguments) == (bytes_, touched)


# ------------------------------------------------------------------------------------------------------------ timing


class Slow(np.ndarray):
    """An array that takes a second to fill."""

    clock = None

    def __setitem__(self, key, value):
        self.clock.now += 1
        super().__setitem__(key, value)


def test_a_block_is_the_seconds_of_a_call_without_what_restores_its_arguments(clock, monkeypatch):
    """What an operation changes is as it was at first every few calls."""
    seen = []

    def tanh_backward(dh, h):
        clock.now += 2.0**-12
        seen.append(dh.sum())
        dh *= 0.5
        return dh

    session = operations.OperationSession(with_changes(tanh_backward=tanh_backward), SIZES)
    session.choose("tanh_backward")
    assert session.changed == [0]
    assert session.n == 1 or measure.BLOCK <= session.n * operations.CALLS * 2.0**-12 <= 2 * measure.BLOCK
    assert session.n > 1
    monkeypatch.setattr(Slow, "clock", clock)
    session.arguments = arrays(session.arguments, Slow)
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
    session = operations.OperationSession(with_changes(tanh_backward=lambda dh, h: dh), SIZES)
    assert session.check("tanh_backward").startswith("AssertionError: tanh_backward")
    assert session.check("relu_backward") == ""


PEAKS = {"a loop": 2e9, "a product": 8e9, "another product": 4e9}


def of_kernels(contestant, name, **script):
    its = {"check": "", "choose": None, "multiply_add_peak": PEAKS, "copy_bandwidth": 2.0**30}
    return contestant(name, **its | script).make


@pytest.fixture
def timed(scripted, contestant, monkeypatch):
    """timed(rounds, names, numpy=script, numba=script): compare_operations, and all that it asked."""
    both = {"numpy": kernels.Status(True), "numba": kernels.Status(True)}
    monkeypatch.setattr(kernels, "available", lambda: both | {"cupy": kernels.Status(False, "no GPU is visible")})
    child = measure.Child

    def compared(rounds, names, **scripts):
        made = {name: of_kernels(contestant, name, **script) for name, script in scripts.items()}
        monkeypatch.setattr(
            measure, "Child", lambda cores, session, backend, *rest: child(cores, session, made[backend], backend, *rest)
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
        numba={"block": measure.Failed("out of memory")},
    )
    wrong, failed = result["rows"]
    its = {"name": "tanh_backward", "bytes": 4 * 3 * 7 * 19, "operations": 4 * 7 * 19}
    assert wrong == its | {"backend": "numpy", "status": "wrong", "reason": "AssertionError: off"}
    assert failed == its | {"backend": "numba", "status": "failed", "reason": "out of memory"}
    assert ("numpy", "choose", "tanh_backward") not in timed.asked


def test_a_copy_is_of_as_many_bytes_as_the_operation_touches(timed, monkeypatch):
    """Of the next power of two, and each size is measured once."""
    touched = {"tanh_backward": 2**16, "gather": 2**16 + 1, "adam": 3 * 2**20, "elbo": 3, "iwae": 2**22}
    monkeypatch.setattr(operations, "moved", lambda name, *_: (1024, touched[name]))
    result = timed(1, list(touched), numpy={"block": iter([0.5] * 5), "copy_bandwidth": iter([2.0, 3.0, 1.0])})
    asked = [size for _, method, *given in timed.asked if method == "copy_bandwidth" for size in given]
    names = [row["name"] for row in result["rows"]]
    assert names == ["tanh_backward", "elbo", "iwae", "adam", "gather"]
    assert asked == [2**16, 2**22, 2**17]
    assert list(result["copy"]["bytes_per_second"].items()) == [(2**16, 2.0), (2**17, 1.0), (2**22, 3.0)]
    assert [row["share_of_copy"] for row in result["rows"]] == [2048 / speed for speed in (2.0, 2.0, 3.0, 3.0, 1.0)]


def test_gpu_kernels_are_left_to_whole_steps(monkeypatch):
    with pytest.raises(ValueError, match=r"no backend is left to be timed \(cupy: no GPU is visible\)"):
        monkeypatch.setattr(kernels, "available", lambda: {"cupy": kernels.Status(False, "no GPU is visible")})
        operations.compare_operations(1, ["cupy"])
    with pytest.raises(ValueError, match="on a GPU only whole steps are timed"):
        monkeypatch.setattr(kernels, "available", lambda: {"cupy": kernels.Status(True)})
        operations.compare_operations(1, ["cupy"])


def test_operations_are_checked_and_timed(in_process, monkeypatch):
    """As they are, but for the machine's best."""
    monkeypatch.setattr(operations.OperationSession, "multiply_add_peak", lambda self: PEAKS)
    monkeypatch.setattr(operations.OperationSession, "copy_bandwidth", lambda self, size: 1e9)
    names = ["tanh_backward", "gather"]
    result = operations.compare_operations(1, ["numpy", "cupy"], sizes=SIZES, names=names)
    assert [(row["name"], row["status"]) for row in result["rows"]] == [(name, "ok") for name in names]
    assert all(0 <= row["minimum"] <= row["median"] for row in result["rows"])
    assert "cupy" in result["missing"]


# ------------------------------------------------------------------------------------------- the machine at its best


def test_the_fastest_call_is_that_of_the_fastest_series(clock):
    """The first call, which may compile, counts for nothing; nor does what else is slow."""
    calls = []

    def function():
        calls.append(1)
        n = len(calls)
        clock.now += 2.0**6 if n == 1 else 2.0**-12 if 40 < n <= 60 else 2.0**-11

    assert machine._fastest(function) == 2.0**-12
    assert clock.now - 128 == pytest.approx(0.1, rel=0.1)


def test_a_call_that_takes_long_is_made_a_few_times(clock):
    calls = []

    def function():
        calls.append(1)
        clock.now += 4.0 if len(calls) < 5 else 3.0

    assert machine._fastest(function) == 3.0
    assert len(calls) == 5


@pytest.fixture
def half_a_second(monkeypatch):
    """So long takes whatever is measured at its fastest."""

    def fastest(function):
        function()
        return 0.5

    monkeypatch.setattr(machine, "_fastest", fastest)


def test_the_speed_of_a_copy_counts_what_is_read_and_what_is_written(half_a_second, monkeypatch):
    copied = []

    def copyto(target, source):
        assert not np.shares_memory(target, source)
        copied.append((target.nbytes, source.nbytes))

    monkeypatch.setattr(np, "copyto", copyto)
    session = operations.OperationSession("numpy", SIZES)
    assert session.copy_bandwidth(1000) == 2000
    assert session.copy_bandwidth(1) == 4
    assert copied == [(500, 500), (1, 1)]


def test_the_peak_counts_a_multiply_add_as_two(half_a_second, monkeypatch):
    """In single precision, all of it."""
    made = []

    def noted(*arrays, out=np.float32(0)):
        assert {array.dtype.name for array in (*arrays, out)} == {"float32"}
        made.append([array.shape for array in (*arrays, out)])

    monkeypatch.setattr(machine, "_multiply_adds", lambda: noted)
    monkeypatch.setattr(np, "matmul", noted)
    sizes = (256, 512, 1024)
    assert operations.OperationSession("numpy", SIZES).multiply_add_peak() == {
        "multiply-adds in a Numba loop": 2 * 2 * 16 * 2**17,
        **{f"NumPy's product of {n} x {n}": 2 * 2 * n**3 for n in sizes},
    }
    assert made == [[(8, 2**14), (), (), ()], *([(n, n)] * 3 for n in sizes)]


def test_the_loop_makes_the_multiply_adds_that_are_counted():
    x = np.linspace(0.5, 1, 24, dtype=np.float32).reshape(8, 3)
    wanted = x.astype(np.float64)
    for _ in range(machine.CHAIN):
        wanted = wanted * 0.75 + 0.125
    assert machine._multiply_adds()(x, np.float32(0.75), np.float32(0.125)) == pytest.approx(wanted.sum(), rel=1e-5)
