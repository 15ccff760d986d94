"""Ranks: any number of them makes the same bits, and one that fails ends them all."""

import functools
import hashlib
import importlib.util
import itertools
import json
import math
import os
import pathlib
import random
import re
import shutil
import subprocess
import sys
import threading
import time
from fractions import Fraction
from unittest import mock

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.kernels.gpu import on_host
from vae_np import SGD, Adam, AdamW, Architecture, Parameters, cli, data, kernels, log_likelihood, ranks, train
from vae_np.choices import ESTIMATORS
from vae_np.evaluation import evaluate
from vae_np.ranks import ALONE, RankError, exact_sum, in_threads
from vae_np.steps import EXCHANGES, cuts_for_threads, shares_of_weights
from vae_np.testing.comparison import assert_near

ARCH = Architecture(12, (9, 7), 3)
X = np.random.default_rng(0).integers(0, 2, (61, 12)).astype(np.float32)
BACKENDS = [name for name in ("numpy", "numba") if kernels.available()[name].ok]
GPU = [pytest.param(on_host.KERNELS, id=on_host.NAME)] * bool(on_host.KERNELS)
GPU += [pytest.param("cupy", marks=pytest.mark.gpu)] * kernels.available()["cupy"].ok


def digest(run):
    """The bits of all that a training gives, but for its seconds."""
    rows = [{name: value for name, value in row.items() if name != "seconds"} for row in run.history]
    arrays = [run.parameters.flat, *run.optimizer.values()]
    return hashlib.sha256(b"".join(array.tobytes() for array in arrays) + json.dumps(rows).encode()).hexdigest()


def digest_of(size, x=X, valid=X[:9], arch=ARCH, **options):
    """The bits of a training by so many threads, each of which must have the same."""
    options = {"epochs": 2, "batch_size": 20, "backend": "numpy", **options}
    (bits,) = set(in_threads(size, lambda ranks: digest(train(arch, x, valid, ranks=ranks, **options))))
    return bits


ORDINARY = {"size": 3, "batch_size": 30, "n_rows": 61, "n_samples": 1, "bound": ("elbo", "total"), "backend": BACKENDS[-1]}
ORDINARY |= {"dtype": "float32", "binarize": False, "l2": 0.0, "optimizer": SGD(1e-2), "enough": 10**9, "exchange": "rows"}


@settings(max_examples=12)
@given(
    size=st.integers(2, 5),
    batch_size=st.integers(1, 30),
    n_rows=st.integers(1, len(X)),
    n_samples=st.sampled_from([1, 2, 5, 40]),
    bound=st.sampled_from([(name, other) for other, record in ESTIMATORS.items() for name in record.operations]),
    backend=st.sampled_from(BACKENDS),
    dtype=st.sampled_from(["float32", "float64"]),
    binarize=st.booleans(),
    l2=st.sampled_from([0.0, 0.1]),
    optimizer=st.sampled_from([Adam(1e-2), AdamW(1e-2)]),
    enough=st.sampled_from([0, 10**9]),
    exchange=st.sampled_from(EXCHANGES),
)
@example(**ORDINARY)
@example(**{**ORDINARY, "enough": 0, "optimizer": AdamW(1e-2)})  # each rank updates its share of the weights
@example(**{**ORDINARY, "size": 5, "batch_size": 3, "backend": "numpy", "binarize": True})  # fewer rows than ranks
@example(**{**ORDINARY, "n_samples": 40, "bound": ("iwae", "vimco"), "l2": 0.1})  # so many samples that a set cuts by itself
@example(**{**ORDINARY, "exchange": "sums", "n_samples": 5, "bound": ("iwae", "dreg"), "l2": 0.1})
@example(**{**ORDINARY, "exchange": "sums", "size": 5, "batch_size": 3, "backend": "numpy", "dtype": "float64"})
def test_any_number_of_ranks_has_the_same_bits(size, n_rows, bound, enough, **options):
    options["objective"], options["estimator"] = bound
    x = X[:n_rows] * 0.5 if options["binarize"] else X[:n_rows]
    with mock.patch("vae_np.steps.ENOUGH_TO_SHARE", enough):
        assert digest_of(size, x, x[:9], **options) == digest_of(1, x, x[:9], **options)


@pytest.mark.parametrize(
    "dtype, precision, kind",
    [("float32", "float32", "model"), ("float64", "float32", "model"), ("float32", "bfloat16", "rounded")],
)
@pytest.mark.parametrize("backend", BACKENDS)
def test_sums_and_rows_give_the_same_gradient(backend, dtype, precision, kind):
    options = {"epochs": 1, "batch_size": len(X), "optimizer": SGD(1e-2, momentum=0.0), "objective": "iwae", "n_samples": 5}
    options |= {"l2": 0.1, "backend": backend, "dtype": dtype, "precision": precision}
    arch = Architecture(500, (70,), 3)  # of so many weights that Numba updates them in several tasks
    rows, sums = (train(arch, np.tile(X, 42)[:, :500], exchange=exchange, **options) for exchange in EXCHANGES)
    assert_near(sums.parameters.flat, rows.parameters.flat, "p", kind)
    wanted = Parameters(arch, rows.optimizer["velocity"])  # of one step without momentum: the gradient
    for name, g in Parameters(arch, sums.optimizer["velocity"]).items():
        assert_near(g, wanted[name], name, kind)


@settings(max_examples=30)
@given(
    numbers=st.integers(1, 12).flatmap(
        lambda n: st.lists(st.lists(st.floats(-(2.0**100), 2.0**100, width=32), min_size=n, max_size=n), min_size=2, max_size=6)
    ),
    size=st.integers(2, 5),
    dtype=st.sampled_from(["float32", "float64"]),
)
def test_a_sum_is_exact_where_elements_keep_their_bits(numbers, size, dtype):
    terms = np.array(numbers, dtype).T / 3  # (n, P)
    n, width = terms.shape
    lengths, largest = [1, width - 1], np.abs(terms).max(axis=0)
    largest[1:] = largest[1:].max()

    def of_rank(ranks):
        own = terms[ranks.share(n).start : ranks.share(n).stop]
        return exact_sum(ranks, own, lengths, n)

    sums = exact_sum(ALONE, terms, lengths, n)
    assert {other.tobytes() for other in in_threads(size, of_rank)} == {sums.tobytes()} and sums.dtype == dtype
    for found, column, most in zip(sums, terms.T.tolist(), largest.tolist()):
        error = abs(Fraction(float(found)) - sum(map(Fraction, column)))
        tiny = np.finfo(dtype).smallest_subnormal
        assert error <= n * n * Fraction(most) / 2**62 + Fraction(float(max(tiny, np.spacing(abs(found)))))
        if all(value == 0 or abs(value) >= most * 2.0 ** {"float32": -35, "float64": -6}[dtype] for value in column):
            assert found == np.dtype(dtype).type(math.fsum(column))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("n", [1, 2, 3, 12, 16, 1024])
def test_a_sum_of_the_largest_numbers_has_room(n, dtype):
    real = np.dtype(dtype).type
    least, most = max(2.0**-930, np.finfo(dtype).smallest_subnormal), np.finfo(dtype).max / 2048
    for largest in (np.nextafter(real(1), real(0)), real(1), real(least), real(most)):
        terms = np.full((n, 2), [largest, -largest], dtype)
        assert exact_sum(ALONE, terms, [2], n).tolist() == [real(n * float(largest)), -real(n * float(largest))]


def test_what_is_not_finite_shows_in_a_sum_on_every_rank():
    def once(ranks):
        terms = np.ones((1, 4), np.float32)
        terms[0, 1] = {0: 1, 1: np.nan, 2: np.inf}[ranks.rank]
        return exact_sum(ranks, terms if ranks.rank else terms[:0], [1, 2, 1], 2)

    assert {str(sums.tolist()) for sums in in_threads(3, once)} == {"[2.0, nan, nan, 2.0]"}
    with np.errstate(all="ignore"), pytest.raises(FloatingPointError, match="the loss is no longer finite: .* at step"):
        train(ARCH, X, backend="numpy", exchange="sums", optimizer=SGD(1e30))


@pytest.mark.parametrize("n_samples", [1, 5, 40])
@pytest.mark.skipif("numba" not in BACKENDS, reason="numba cannot run here")
def test_numba_has_the_bits_of_a_training_without_ranks(n_samples):
    if not cuts_for_threads(kernels.load("numba"), n_samples):
        pytest.skip("its products depend on how a batch is cut, on this processor")
    alone = digest(train(ARCH, X, X[:9], epochs=2, batch_size=20, n_samples=n_samples, backend="numba"))
    assert digest_of(3, n_samples=n_samples, backend="numba") == alone


@pytest.mark.parametrize("exchange, batch_size", [("rows", 20), ("sums", 4)])
@pytest.mark.parametrize("backend", GPU)
def test_a_gpu_has_the_same_bits(backend, exchange, batch_size):
    turn = threading.Lock()  # the stand-in for a GPU serves one thread at a time

    def once(ranks):
        def between_turns(exchange, *arguments):
            turn.release()
            try:
                return exchange(*arguments)
            finally:
                turn.acquire()

        ranks.exchange = functools.partial(between_turns, ranks.exchange)
        ranks.reduce_scatter = functools.partial(between_turns, ranks.reduce_scatter)
        with turn:
            options = {"l2": 0.1, "objective": "iwae", "n_samples": 2, "epochs": 1, "batch_size": batch_size}
            return digest(train(ARCH, X[: 2 * batch_size], X[:9], backend=backend, ranks=ranks, exchange=exchange, **options))

    assert len({bits for size in (1, 3) for bits in in_threads(size, once)}) == 1


@pytest.mark.parametrize("noise", ["fixed", "shared", "heteroscedastic"])
def test_the_noise_of_a_likelihood_and_a_linear_model(noise):
    arch = Architecture(12, (), 3, likelihood="gaussian", noise=noise)
    for exchange in EXCHANGES:
        assert digest_of(3, arch=arch, exchange=exchange) == digest_of(1, arch=arch, exchange=exchange)


def test_activations_that_keep_y_and_a_lower_precision(monkeypatch):
    monkeypatch.setattr("vae_np.steps.ENOUGH_TO_SHARE", 0)
    arch = Architecture(12, (9,), 3, activation="gelu")
    for backend in BACKENDS:
        options = {"arch": arch, "backend": backend, "precision": kernels.precisions(backend)[1]}
        assert digest_of(4, **options) == digest_of(1, **options)


@pytest.mark.skipif("numba" not in BACKENDS, reason="numba cannot run here")
def test_shares_of_weights_are_whole_rows_and_equal_work():
    p, kernel_set = (
        Parameters.initialize(Architecture(784, (200, 100), 10, likelihood="gaussian", noise="shared")),
        kernels.load("numba"),
    )
    if not cuts_for_threads(kernel_set, 1):
        pytest.skip("the bits of a row depend on the rows beside it, on this processor")
    for n_samples, size in ((1, 2), (1, 5), (50, 3)):
        some = ranks._Thread(0, size, None, None)
        shares = shares_of_weights(p, kernel_set, some, 1, 256, n_samples)
        assert shares is not None and shares == sorted(shares) and (shares[0], shares[-1]) == (0, p.flat.size)
        work = np.concatenate([np.full(a.size, n_samples if name[0] in "do" else 1) for name, a in p.items()])
        of_ranks = [work[start:stop].sum() for start, stop in itertools.pairwise(shares)]
        assert max(of_ranks) < 1.1 * work.sum() / size
        assert shares_of_weights(p, kernel_set, some, 1, 2, 1) is None  # a batch for which the exchange takes longer
        assert shares_of_weights(p, kernel_set, some, 12, 256, n_samples) is None


def test_patience_and_warmup_are_decided_alike():
    options = {"epochs": 30, "patience": 2, "beta_warmup": 3, "schedule": [(3, 0.1)], "optimizer": Adam(0.05)}
    assert digest_of(3, **options) == digest_of(1, **options)


@pytest.mark.parametrize("backend, exchange", [*itertools.product(BACKENDS, ["rows"]), ("numpy", "sums")])
def test_each_step_has_the_same_exchanges_whatever_the_clock_says(backend, exchange, monkeypatch):
    monkeypatch.setattr("vae_np.steps.ENOUGH_TO_SHARE", 0)
    shared = backend == "numba" and cuts_for_threads(kernels.load(backend), 1)

    def calls_of(ranks, epochs):
        calls = []

        def counted(function):
            return lambda *arguments: (calls.append(0), function(*arguments))[1]

        ranks.exchange, ranks.reduce_scatter = counted(ranks.exchange), counted(ranks.reduce_scatter)
        progress = (lambda *_: time.sleep(0.01)) if ranks.rank == 1 else None  # its calls of the stepper are of other lengths
        options = {"batch_size": 4, "backend": backend, "exchange": exchange, "progress": progress}
        train(ARCH, X, epochs=epochs, ranks=ranks, **options)
        return len(calls)

    one, two, three = (in_threads(3, lambda ranks: calls_of(ranks, epochs)) for epochs in (1, 2, 3))
    steps, of_checks, of_adam = 16, 2, 2  # the bytes of the checksums, and how many they are; m and v
    wanted = 2 * steps + of_checks + of_adam if shared else steps + of_checks  # of rows, and of weights
    if exchange == "sums":
        wanted = 4 * steps + of_checks  # of terms, and of the largest gradients; of integers to add up, and of sums
    assert len(set(one)) == 1 and two[0] - one[0] == three[0] - two[0] == wanted


@pytest.mark.parametrize("n_rows", [1, 9, 61])
def test_evaluation_and_importance_sampling_are_dealt_in_chunks(n_rows, monkeypatch):
    monkeypatch.setattr("vae_np.elbo.CHUNK", 10)
    monkeypatch.setattr("vae_np.bounds.CHUNK", 200)
    p = Parameters.initialize(ARCH)
    alone, ll = evaluate(p, X[:n_rows], "iwae", 2), log_likelihood(p, X[:n_rows], 70)
    for size in (1, 2, 5):
        for value in in_threads(size, lambda ranks: evaluate(p, X[:n_rows], "iwae", 2, ranks=ranks)):
            assert value[:4] == alone[:4] and value.per_example.tobytes() == alone.per_example.tobytes()
        for other in in_threads(size, lambda ranks: log_likelihood(p, X[:n_rows], 70, ranks=ranks)):
            assert other.tobytes() == ll.tobytes() and other.standard_error.tobytes() == ll.standard_error.tobytes()
            assert other.effective_sample_size.tobytes() == ll.effective_sample_size.tobytes()
            assert {L: bound.tobytes() for L, bound in other.bounds.items()} == {L: b.tobytes() for L, b in ll.bounds.items()}


def test_a_run_goes_on_with_any_number_of_ranks(tmp_path):
    for backend, exchange in [*itertools.product(BACKENDS, ["rows"]), ("numpy", "sums")]:
        out, bits, options = tmp_path / (backend + exchange), "", {"backend": backend, "exchange": exchange, "patience": 9}
        for i, size in enumerate((3, 1, 2)):
            bits = digest_of(size, epochs=i + 1, out=out, resume=i > 0, **options)
        whole = digest_of(1, epochs=3, **options)
        assert bits == whole
        alone = train(ARCH, X, X[:9], epochs=3, batch_size=20, out=out, resume=True, **options)
        assert digest(alone) == whole
        other = options | {"exchange": "rows" if exchange == "sums" else "sums"}
        with pytest.raises(ValueError, match=f"was trained with exchange '{exchange}', not '{other['exchange']}'"):
            train(ARCH, X, X[:9], epochs=3, batch_size=20, out=out, resume=True, **other)


def test_a_run_that_was_begun_without_ranks_goes_on_with_some(tmp_path):
    options = {"batch_size": 20, "backend": "numpy"}
    train(ARCH, X, X[:9], epochs=1, out=tmp_path / "run", **options)
    assert digest_of(3, out=tmp_path / "run", resume=True) == digest(train(ARCH, X, X[:9], epochs=2, **options))


def test_rank_0_alone_writes(tmp_path):
    def once(ranks):
        before = threading.get_ident()
        return train(ARCH, X, epochs=1, backend="numpy", out=tmp_path / str(ranks.rank), ranks=ranks), before

    in_threads(3, once)
    assert [path.name for path in tmp_path.iterdir()] == ["0"]
    assert json.loads((tmp_path / "0" / "config.json").read_text())["ranks"] == 3


@pytest.mark.parametrize(
    "what, change",
    {
        "seed": {"seed": 7},
        "data": {"x_train": X[::-1]},
        "dtype": {"dtype": "float64"},
        "backend": {"backend": "numba"},
        "epochs": {"epochs": 3},
    }.items(),
)
def test_ranks_that_differ_are_named(what, change):
    def once(ranks):
        own = change if ranks.rank == 2 else {}
        train(ARCH, **{"x_train": X, "epochs": 1, "backend": "numpy", **own}, ranks=ranks)

    with pytest.raises(RankError, match=f"^rank 2 of 4 on .* has {what} .*, and rank 0 has .*: give every rank the same"):
        in_threads(4, once)


def test_a_rank_that_computes_other_bits_is_named():
    def once(ranks):
        p = Parameters.initialize(ARCH, dtype="float32")

        def disturb(done, of, row):
            if ranks.rank == 1 and done == 3 and "seconds" not in row:
                next(iter(frames()))["state"].p.flat[0] += 1

        train(ARCH, X, epochs=2, batch_size=20, backend="numpy", ranks=ranks, initial_parameters=p, progress=disturb)

    def frames():
        frame = sys._getframe()
        while frame:
            if "state" in frame.f_locals:
                yield frame.f_locals
            frame = frame.f_back

    with pytest.raises(RankError, match=r"^rank 1 of 3 on .* the checksum of the parameters .*: its processor"):
        in_threads(3, once)


def test_an_error_in_one_thread_ends_all():
    def once(ranks):
        if ranks.rank == 1:
            raise ZeroDivisionError("of rank 1")
        ranks.gather(b"")

    with pytest.raises(ZeroDivisionError, match="of rank 1"):
        in_threads(3, once)


def test_what_ranks_exchange():
    def once(ranks):
        table = np.full((5, 2), ranks.rank, np.int32)
        ranks.complete(table, ranks.bounds(5))
        other = np.arange(3.0) + ranks.rank
        ranks.spread(other)
        words = ranks.gather(b"x" * ranks.rank)
        return table[:, 0].tolist(), other.tolist(), words, ranks.from_first(lambda: ["of", ranks.rank]), list(ranks.share(5))

    shares = [[0], [1, 2], [3, 4]]
    wanted = [0, 1, 1, 2, 2], [0, 1, 2], [b"", b"x", b"xx"], ["of", 0]
    assert in_threads(3, once) == [(*wanted, share) for share in shares]
    assert once(ALONE) == ([0] * 5, [0, 1, 2], [b""], ["of", 0], [0, 1, 2, 3, 4])


# ---------------------------------------------------------------------------------------------------------- under mpiexec

MPIEXEC = shutil.which("mpiexec", path=os.path.dirname(sys.executable)) or shutil.which("mpiexec")
WITHOUT = "mpi4py is not installed" * (not importlib.util.find_spec("mpi4py")) or "there is no mpiexec" * (not MPIEXEC)
needs_mpi = pytest.mark.skipif(bool(WITHOUT), reason=WITHOUT)
ROOT = pathlib.Path(__file__).resolve().parents[2]


def mpiexec(*words, cwd, size=2, seconds=60):
    line = [MPIEXEC, "-n", size, *words]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(list(map(str, line)), cwd=cwd, env=env, capture_output=True, text=True, timeout=seconds)


TRAIN = f"train --data {{rows}} --hidden 5 --latent 3 --batch-size 8 --backend numpy --epochs 3 --patience {10**6}"
FAULTY = """
import os, signal, sys, time
from vae_np import cli, ranks, training
what, who, after, *words = sys.argv[1:]
rank, epoch, left = ranks.of_launch().rank, training._epoch, int(after)

def fail():
    {"kill": lambda: os.kill(os.getpid(), signal.SIGKILL), "raise": lambda: 1 / 0, "exit": lambda: sys.exit(3),
     "bug": lambda: (_ for _ in ()).throw(AssertionError("a mistake")), "stall": lambda: time.sleep(50),
     "interrupt": lambda: os.kill(os.getpid(), signal.SIGINT)}[what]()

def epoch_with_fault(state, make_stepper, *others):
    def make(size):
        run = make_stepper(size)
        def steps(rows, *others):
            global left
            left -= len(rows)
            if left <= 0 and rank == int(who):
                fail()
            return run(rows, *others)
        return steps
    return epoch(state, make, *others)

training._epoch = epoch_with_fault
cli.main(words)
"""


@pytest.fixture
def rows(tmp_path):
    np.savez(tmp_path / "rows.npz", train=X, valid=X[:9])
    return tmp_path / "rows.npz"


TRAININGS = """
import sys, zlib
import numpy as np
from mpi4py import MPI
from vae_np import Architecture, ranks, train
x, world, bits = np.load(sys.argv[1]), ranks.of_launch(), set()
for group in (0, world.rank // 3, world.rank // 2):  # of 4 ranks; of 3 and of 1; of 2 and of 2
    some = ranks._Mpi(MPI, MPI.COMM_WORLD.Split(group))
    for arch, rows, settings in (
        (Architecture(64, (64,), 8), x[:1200], {"batch_size": 60}),
        (Architecture(64, (32, 32), 8), x[:400], {"batch_size": 20, "objective": "iwae", "n_samples": 5}),
        (Architecture(64, (32, 32), 8), x[:400], {"batch_size": 20, "objective": "iwae", "n_samples": 5, "exchange": "sums"}),
    ):
        run = train(arch, rows, x[-100:], epochs=1, ranks=some, **settings)
        arrays = [run.parameters.flat, *run.optimizer.values()]
        bits.add(" ".join(map(str, [settings, run.history[-1]["valid_total"], *map(zlib.crc32, arrays)])))
lines = {line for of_rank in world.gather_json(sorted(bits)) for line in of_rank}
if world.rank == 0:
    print(*lines, sep="\\n")
"""


@needs_mpi
def test_digits_and_iwae_have_one_hash_under_mpiexec(tmp_path):
    np.save(tmp_path / "digits.npy", data.load("digits").train)
    done = mpiexec(sys.executable, "-c", TRAININGS, tmp_path / "digits.npy", cwd=tmp_path, size=4)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("\n") == 3, done.stdout  # one line of bits for each training, whatever the number of ranks


def kill_and_resume(kills, rows, tmp_path, seed):
    chance, out, n_steps, exchange = random.Random(seed), tmp_path / "run", 8, EXCHANGES[1 - seed % 2]
    words = [*TRAIN.format(rows=rows).split(), "--out", out, "--exchange", exchange]
    for i in range(kills):
        size, step = 2 + i % 2, chance.randint(1, 2 * n_steps)
        who = chance.randrange(size)
        killed = mpiexec(sys.executable, "-c", FAULTY, "kill", who, step, *words, cwd=tmp_path, size=size)
        assert killed.returncode or (out / "checkpoint.npz").exists()
        words = ["train", "--resume", out, "--epochs", 3 + i] if (out / "config.json").exists() else words
    settings = {
        "arch": Architecture(12, (5,), 3),
        "epochs": 4 + kills,
        "batch_size": 8,
        "patience": 10**6,
        "exchange": exchange,
    }
    assert digest_of(4, out=out, resume=(out / "config.json").exists(), **settings) == digest_of(1, **settings)


@needs_mpi
def test_killed_ranks_go_on_with_another_number_of_ranks(rows, tmp_path):
    kill_and_resume(3, rows, tmp_path, seed=0)


@needs_mpi
@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 41))
def test_many_killed_ranks(rows, tmp_path, seed):
    kill_and_resume(5, rows, tmp_path, seed)


@needs_mpi
@pytest.mark.parametrize(
    "what, size, code, said",
    [
        ("raise", 2, {2, 9}, r"\[rank 1 of 2 on .*\] vae-np: division by zero"),
        pytest.param(
            "bug", 2, {1, 9}, r"\[rank 1 of 2 on .*\] ends all ranks after this AssertionError", marks=pytest.mark.slow
        ),
        ("exit", 2, {3, 9}, ""),
        ("stall", 3, {2, 9}, r"\[rank 0 of 3 on .*\] vae-np: rank 1 of 3 on .* has not answered for 3 seconds"),
        ("interrupt", 2, {130, 9}, r"vae-np: stopped; resume the run with: vae-np train --resume "),
    ],
)
def test_a_rank_that_fails_ends_all(what, size, code, said, rows, tmp_path):
    words = *TRAIN.format(rows=rows).split(), "--out", tmp_path / "run", "--stall", "3" if what == "stall" else "50"
    done = mpiexec(sys.executable, "-c", FAULTY, what, 1, 10, *words, cwd=tmp_path, size=size, seconds=40)
    assert done.returncode in code
    assert done.stderr.count("vae-np: ") <= 1 + ("resume" in said)
    assert re.search(said, done.stderr)


LEAVES = """
import os, sys
from vae_np import ranks
of_launch = ranks.of_launch()
if not (child := os.fork()):
    os._exit(0)  # of a child, which is no rank
assert os.waitpid(child, 0)[1] == 0
if of_launch.rank == 1:
    {"exit": sys.exit, "_exit": os._exit}[sys.argv[1]](0)
of_launch.gather(b"")
"""


@needs_mpi
@pytest.mark.parametrize("how, said", [("exit", "has ended before the others"), ("_exit", "was left by os._exit")])
def test_a_rank_that_leaves_is_missed(how, said, tmp_path):
    done = mpiexec(sys.executable, "-c", LEAVES, how, cwd=tmp_path, seconds=40)
    assert done.returncode and "rank 1 of 2 on" in done.stderr and said in done.stderr


@needs_mpi
def test_other_settings_and_mistakes_are_said_once(rows, tmp_path):
    words = [
        str(word) for word in (sys.executable, "-m", "vae_np", *TRAIN.format(rows=rows).split(), "--out", tmp_path / "run")
    ]
    done = mpiexec(*words, ":", "-n", 1, *words, "--seed", 1, cwd=tmp_path, size=1)
    assert done.returncode and "rank 1 of 2" in done.stderr and "has seed 1, and rank 0 has 0: give every" in done.stderr
    assert not (tmp_path / "run").exists()
    done = mpiexec(*words, "--batch-size", 0, cwd=tmp_path)
    assert done.returncode and done.stderr.count("batch_size is 0") == 1 and "[rank 0 of 2 on " in done.stderr


@pytest.mark.parametrize("rank", [0, 1])
def test_a_command_that_ranks_do_not_share_is_run_by_rank_0(rank, monkeypatch, capsys):
    of_launch = ranks._Thread(rank, 2, None, None)
    monkeypatch.setattr(cli, "of_launch", lambda: of_launch)
    with pytest.raises(SystemExit) as caught:
        cli.main(["estimators", "--help"] if rank == 0 else ["sample", "no-such-run"])
    assert not caught.value.code and (capsys.readouterr().out == "") == (rank == 1)


def test_without_mpi4py_there_is_one_sentence(monkeypatch, capsys):
    ranks.of_launch.cache_clear()
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *others: None if name == "mpi4py" else find(name, *others))
    for variable, rank in (("PMI", 0), ("OMPI_COMM_WORLD", 0), ("PMI", 1), ("PMIX", 3)):
        for name in (*ranks.SIZES, *ranks.RANKS):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv(f"{variable}_SIZE", "4")
        monkeypatch.setenv(f"{variable}_RANK", str(rank))
        with pytest.raises(SystemExit) as caught:
            cli.main(["train"])
        assert caught.value.code == 2
        said = capsys.readouterr().err
        assert said == "" if rank else said.count("\n") == 1 and "mpi4py is not installed" in said
    ranks.of_launch.cache_clear()
