"""Training: what it does to the parameters, what it keeps on disk, and that a killed run goes on to the same bits."""

import csv
import inspect
import json
import os

import numpy as np
import pytest
import threadpoolctl
from hypothesis import given, settings
from hypothesis import strategies as st

from vae_np import (
    SGD,
    Adagrad,
    Adam,
    Architecture,
    Parameters,
    evaluation,
    loss_and_gradients,
    ranks,
    runs,
    steps,
    train,
    training,
)
from vae_np.evaluation import evaluate
from vae_np.streams import key, permutation

ARCH = Architecture(6, (5,), 2, "tanh")
RNG = np.random.default_rng(0)
X, VALID = RNG.uniform(size=(23, 6)), RNG.uniform(size=(9, 6))


def quick(**changes):
    settings = {"architecture": ARCH, "x_train": X, "x_valid": VALID, "epochs": 3, "batch_size": 8, "backend": "numpy"}
    return train(**{**settings, **changes})


class Clock:
    """A clock that stands still but for so many seconds each time that it is looked at."""

    def __init__(self, tick):
        self.tick, self.now = tick, 0.0

    def perf_counter(self):
        self.now += self.tick
        return self.now


SLOW, FAST = 1.0, 1e-9  # ticks: a step takes a second and is called alone, or none, and each call has twice as many


@pytest.fixture(autouse=True)
def clock(monkeypatch):
    """clock(tick) sets that of the training: how many steps are made in a call is not for this machine to say."""

    def clock(tick):
        monkeypatch.setattr(training, "time", Clock(tick))

    clock(SLOW)
    return clock


class Killed(BaseException):
    pass


def stop_at(call):
    """A progress that ends the run when it is called for that time, as a kill would: nothing after it is run."""
    calls = []

    def progress(done, of, row):
        calls.append(done)
        if len(calls) == call:
            raise Killed

    return progress


def without_time(history):
    return [{**row, "seconds": 0} for row in history]


def assert_same(run, wanted):
    assert (run.parameters.flat == wanted.parameters.flat).all()
    assert without_time(run.history) == without_time(wanted.history)


def epochs_kept(folder):
    """How many epochs the checkpoint of a folder tells of, and how many its history.csv."""
    checkpoint, table = folder / "checkpoint.npz", folder / "history.csv"
    kept = len(json.loads(str(np.load(checkpoint)["training.state"]))["history"]) if checkpoint.exists() else 0
    return kept, max(0, len(table.read_text().splitlines()) - 1) if table.exists() else 0


# ------------------------------------------------------------------------------------------------------- what it does


def test_the_defaults_are_those_of_the_design():
    given = {name: parameter.default for name, parameter in inspect.signature(train).parameters.items()}
    assert given == {
        "architecture": inspect.Parameter.empty,
        "x_train": inspect.Parameter.empty,
        "x_valid": None,
        "epochs": 10,
        "batch_size": 128,
        "optimizer": Adam(1e-3),
        "objective": "elbo",
        "estimator": "total",
        "n_samples": 1,
        "beta": 1.0,
        "l2": 0.0,
        "binarize": False,
        "seed": 0,
        "dtype": "float32",
        "precision": "float32",
        "backend": "auto",
        "threads": None,
        "ranks": ranks.ALONE,
        "exchange": "rows",
        "out": None,
        "resume": False,
        "beta_warmup": 0.0,
        "schedule": (),
        "patience": None,
        "init": "glorot",
        "initial_parameters": None,
        "progress": None,
        "notes": None,
        "snapshots": 0,
    }
    of_evaluation = inspect.signature(evaluate).parameters
    assert all(of_evaluation[name].default == given[name] for name in of_evaluation.keys() & given.keys())


def updates(kernel_set, optimizer, flat):
    """The update of an optimizer as a function of p, g, step and rate, from the operation itself."""
    states = [np.zeros_like(flat) for _ in range(2)]
    return {
        SGD: lambda p, g, step, rate: kernel_set.sgd(p, g, states[0], rate, 0.9),
        Adagrad: lambda p, g, step, rate: kernel_set.adagrad(p, g, states[0], rate, 1e-3),
        Adam: lambda p, g, step, rate: kernel_set.adam(p, g, *states, step, rate, 0.8, 0.99, 1e-4),
    }[type(optimizer)]


@pytest.mark.parametrize("binarize", [False, True])
@pytest.mark.parametrize(
    "optimizer", [SGD(0.1, 0.9), Adagrad(0.05, 1e-3), Adam(0.01, 0.8, 0.99, 1e-4)], ids=lambda o: type(o).__name__
)
def test_training_is_what_the_text_says(its_kernels, backend, optimizer, binarize):
    """Two epochs by hand, from the public pieces: order, noise, gradient, update and means, the last batch short."""
    run = quick(
        epochs=2,
        beta=0.7,
        l2=0.1,
        n_samples=2,
        seed=5,
        dtype="float64",
        backend=backend,
        optimizer=optimizer,
        binarize=binarize,
        schedule=[(1, 0.1)],
    )
    p, step = Parameters.initialize(ARCH, seed=5), 0
    update = updates(its_kernels, optimizer, p.flat)
    for epoch in range(2):
        order, total = permutation(5, "shuffle", epoch, len(X)), 0.0
        assert sorted(order) == list(range(len(X)))
        for rows in (order[:8], order[8:16], order[16:]):
            step += 1
            eps, x = np.empty((2, len(rows), 2)), X[rows]
            if binarize:
                its_kernels.binarize(X[rows], key(5, "binarize"), step, rows, x)
            its_kernels.normals(key(5, "train"), step, rows, eps)
            value, g = loss_and_gradients(p, x, eps, 0.7, 0.1, backend=backend)
            update(p.flat, g.flat, step, optimizer.learning_rate * (1 if epoch == 0 else 0.1))
            total += value.total * len(rows) / len(X)
        row = run.history[epoch]
        valid = evaluate(p, VALID, "elbo", 2, 0.7, 0.1, binarize, seed=5, step=epoch + 1, backend=backend)
        assert row["train_total"] == pytest.approx(total, rel=1e-13)
        assert [row[f"valid_{term}"] for term in ("total", "reconstruction", "kl", "l2")] == list(valid[:4])
    assert (run.parameters.flat == p.flat).all()


def test_validation_pixels_are_drawn_once(monkeypatch):
    from vae_np.kernels import reference

    seen, binarize = [], reference.binarize

    def spy(pixels, key, step, examples, x):
        binarize(pixels, key, step, examples, x)
        seen.append((int(key), step, x.copy()))

    monkeypatch.setattr(reference, "binarize", spy)
    quick(epochs=2, binarize=True)
    of_validation = [x for k, _, x in seen if k == int(key(0, "binarize_validation"))]
    assert len(of_validation) == 2 and (of_validation[0] == of_validation[1]).all()
    assert [step for k, step, _ in seen if k == int(key(0, "binarize"))] == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("optimizer", [SGD(0.01, momentum=0.9), Adagrad(0.05), Adam(0.01)], ids=lambda o: type(o).__name__)
def test_every_optimizer_learns(optimizer):
    history = quick(optimizer=optimizer, epochs=30, dtype="float64").history
    assert history[-1]["valid_total"] < history[0]["valid_total"] - 0.05


def test_backends_train_alike():
    runs = [quick(backend=backend, epochs=5, dtype="float64") for backend in ("numpy", "numba")]
    np.testing.assert_allclose(runs[0].parameters.flat, runs[1].parameters.flat, rtol=1e-9, atol=1e-12)


def test_history_splits_the_loss():
    history = quick(epochs=4, beta=0.5, l2=0.2, dtype="float64").history
    assert [row["epoch"] for row in history] == [1, 2, 3, 4]
    for row in history:
        assert row["seconds"] > 0
        for part in ("train", "valid"):
            terms = row[f"{part}_reconstruction"] + 0.5 * row[f"{part}_kl"] + row[f"{part}_l2"]
            assert row[f"{part}_total"] == pytest.approx(terms)


@pytest.mark.parametrize("tick, reported", [(SLOW, range(1, 13)), (FAST, [1, 2, 3, 5, 6, 9])])
def test_beta_rises_over_the_warm_up(clock, tick, reported):
    clock(tick)
    seen = {}  # at the last batch of each report; three are an epoch, of which those of one size may be made in one call
    quick(beta=0.8, beta_warmup=2, epochs=4, x_valid=None, progress=lambda done, of, row: seen.update({done: row["beta"]}))
    assert seen.keys() >= set(reported)
    for step, beta in seen.items():
        assert beta == pytest.approx(0.8 * min(1, step / 6))


def test_progress_is_told_how_much_is_done_of_how_much(tmp_path):
    """After each call for steps with the means so far, and after an epoch with its row of the history; also when resumed."""
    told, epochs = [], []

    def progress(done, of, row):
        told.append((done, of))
        assert row["epoch"] == (done - 1) // 3 + 1 and np.isfinite(list(row.values())).all()
        if "valid_total" in row:
            epochs.append(row)

    quick(epochs=1, out=tmp_path, progress=progress)
    assert told == [(1, 3), (2, 3), (3, 3), (3, 3)]
    told.clear()
    run = quick(epochs=3, out=tmp_path, resume=True, progress=progress)
    assert told == [(done, 9) for done in (4, 5, 6, 6, 7, 8, 9, 9)] and epochs == run.history


def test_the_means_so_far_are_those_of_the_rows_so_far(monkeypatch):
    """The shorter batch at the end has its share."""
    stepping(monkeypatch, lambda make_steps, p, state, rows, first, *_: np.full((len(rows), 4), [first, 0, 0, 0.0]))
    told = []
    quick(x_valid=None, epochs=1, progress=lambda done, of, row: told.append(row["train_total"]))
    assert told == pytest.approx([1, 1.5, (8 + 16 + 21) / 23, (8 + 16 + 21) / 23])


def test_schedule_multiplies_the_learning_rate_from_its_epochs_on():
    history = quick(schedule=[(3, 0.01), (1, 0.1)], epochs=5).history
    assert [row["learning_rate"] for row in history] == pytest.approx([1e-3, 1e-4, 1e-4, 1e-5, 1e-5])


def validated_as(monkeypatch, totals):
    """From now on the epochs' validations have these totals: floats, or changes to the Value."""
    totals = iter(totals)

    def evaluated(*arguments, **named):
        value, total = evaluate(*arguments, **named), next(totals)
        return value._replace(**total if isinstance(total, dict) else {"total": total})

    monkeypatch.setattr(training, "evaluate", evaluated)


@pytest.mark.parametrize(
    "totals, best, epochs",
    [
        ([3.0, 2.0, 2.0, 2.0, 1.0], 2, 4),  # a tie is no improvement
        ([3.0, 3.0, 3.0, 1.0], 1, 3),
        ([3.0, 2.0, 2.0, 1.5, 1.5, 2.0, 1.0], 4, 6),
        ([3.0, 2.0, 2.5, np.nextafter(2.0, 0), 9.0, 9.0, 1.0], 4, 6),  # the least improvement is one
        ([-1.0, -2.0, -1.5, -2.5, -2.5, 0.0], 4, 6),
    ],
)
@pytest.mark.parametrize("killed_after", [None, 1, 2, 3])
def test_the_best_epoch_is_the_first_of_the_lowest(monkeypatch, tmp_path, totals, best, epochs, killed_after):
    """Training ends two epochs later, be it resumed after any epoch or not."""
    wanted = quick(epochs=best, optimizer=Adam(0.1)).parameters.flat
    last = quick(epochs=epochs, optimizer=Adam(0.1)).parameters.flat
    settings = {"epochs": 100, "patience": 2, "optimizer": Adam(0.1), "out": tmp_path}
    validated_as(monkeypatch, totals)
    if killed_after and killed_after < epochs:
        with pytest.raises(Killed):
            quick(**settings, progress=stop_at(4 * killed_after))
    run = quick(**settings, resume=True)
    assert [row["valid_total"] for row in run.history] == totals[:epochs]
    assert (run.parameters.flat == wanted).all() and (wanted != last).any()
    kept, extra = Parameters.load_with_extra(tmp_path / "checkpoint.npz")
    assert (kept.flat == wanted).all() and (extra["training.flat"] == last).all()


@pytest.mark.parametrize("totals", [[], [5.0], [5.0, 4.0], [1.0] + [2.0] * 30, [3.0, 1.0, 1.0], [2.0, 1.0, 3.0, 0.5] * 5])
def test_waited_are_the_epochs_since_the_first_of_the_lowest(totals):
    p = Parameters.zeros(ARCH)
    state = runs.State(p, p, {}, [{"epoch": i, "valid_total": total} for i, total in enumerate(totals)])
    assert state.waited == (len(totals) - 1 - int(np.argmin(totals)) if totals else 0) and state.epoch == len(totals)
    assert runs.State(p, p, {}, [{"epoch": i} for i in range(3)]).waited == 0


def test_without_patience_the_last_epoch_is_returned_and_kept(monkeypatch, tmp_path):
    wanted = quick(epochs=3).parameters.flat
    validated_as(monkeypatch, [1.0, 2.0, 3.0])
    assert (quick(epochs=3, out=tmp_path).parameters.flat == wanted).all()
    assert (Parameters.load(tmp_path / "checkpoint.npz").flat == wanted).all()


def test_patience_ends_training_and_returns_the_best_epoch():
    run = quick(epochs=200, patience=4, optimizer=Adam(0.1), dtype="float64")
    totals = [row["valid_total"] for row in run.history]
    best = int(np.argmin(totals))
    assert len(totals) == best + 5 < 200
    assert evaluate(run.parameters, VALID, step=best + 1, backend="numpy").total == pytest.approx(totals[best])


def stepping(monkeypatch, around):
    """From now on steps are made by around(make_steps, p, state, rows, first, beta, learning_rate)."""
    stepper = steps.stepper

    def wrapped(p, state, *arguments, **settings):
        make_steps = stepper(p, state, *arguments, **settings)
        return lambda *numbers: around(make_steps, p, state, *numbers)

    monkeypatch.setattr(steps, "stepper", wrapped)


@pytest.mark.parametrize(
    "seconds, wanted",
    [
        (1.0, [1, 1, 1, 1, 1, 1]),
        (0.019, [1, 2, 4, 5, 5, 5]),
        (1e-6, [1, 2, 4, 8, 16, 32]),
    ],
)
def test_so_many_steps_are_made_in_a_call_as_take_a_tenth_of_a_second(monkeypatch, clock, seconds, wanted):
    """And at most twice as many as before, so that the first of them are soon reported."""
    clock(1e-12)
    together = []

    def around(make_steps, p, state, rows, first, beta, rate):
        training.time.now += seconds * len(rows)
        together.append(len(rows))
        return make_steps(rows, first, beta, rate)

    stepping(monkeypatch, around)
    quick(x_train=np.tile(X, (8, 1)), x_valid=None, epochs=1, batch_size=1)
    assert together[:6] == wanted and sum(together) == 8 * len(X)


def test_how_many_steps_are_made_in_a_call_changes_no_bit(clock, backend):
    """Neither of the parameters nor of the means in the history: how fast a machine is does not show."""
    runs_of = []
    for tick in (SLOW, FAST):
        clock(tick)
        runs_of.append(quick(epochs=5, batch_size=1, dtype="float64", beta_warmup=2, backend=backend))
    assert_same(*runs_of)


def test_binarize_draws_afresh_for_each_batch():
    greys = np.full((8, 6), 0.5)
    history = quick(x_train=greys, x_valid=None, binarize=True, epochs=2, optimizer=SGD(1e-12), beta=0).history
    assert history[0]["train_reconstruction"] != history[1]["train_reconstruction"]
    black_or_white = quick(x_train=np.round(X), x_valid=None, binarize=True).parameters
    assert (black_or_white.flat == quick(x_train=np.round(X), x_valid=None).parameters.flat).all()


def test_bytes_train_as_the_pixels_they_are(backend):
    data = (X * 255).astype(np.uint8)
    runs = [quick(x_train=x, x_valid=None, backend=backend) for x in (data, data / np.float32(255))]
    assert (runs[0].parameters.flat == runs[1].parameters.flat).all()


def test_black_pictures_are_learned_as_black(backend):
    """All of a data set, or of one part or batch of it: zeros are zeros, whether they are bytes or numbers."""
    for x, valid in ((np.zeros((23, 6), np.uint8), VALID), ((X * 255).astype(np.uint8), np.zeros((9, 6), np.uint8))):
        as_numbers = [array / np.float32(255) if array.dtype == np.uint8 else array for array in (x, valid)]
        runs_of = [quick(x_train=x, x_valid=valid, backend=backend) for x, valid in ((x, valid), as_numbers)]
        assert_same(*runs_of)
    p = quick(x_train=np.zeros((23, 6), np.uint8), x_valid=None, epochs=60, optimizer=Adam(0.1), backend=backend).parameters
    assert evaluate(p, np.zeros((2, 6), np.uint8), backend=backend).reconstruction < 0.1
    assert evaluate(p, np.full((2, 6), 255, np.uint8), backend=backend).reconstruction > 10


@pytest.mark.parametrize(
    "x, said",
    [
        (np.zeros((23, 6), np.uint8), False),
        (np.full((23, 6), 255, np.uint8), False),
        (np.where(X > 0.5, 255, 0).astype(np.uint8), False),
        (np.where(X > 0.5, 254, 0).astype(np.uint8), True),
        (np.where(X > 0.9, 1, 255).astype(np.uint8), True),
        (np.round(X), False),
        (np.zeros((23, 6)), False),
        (np.where(X == X.max(), np.nextafter(1, 0), 0), True),
        (np.where(X == X.min(), 5e-324, 1), True),
    ],
)
def test_grey_pixels_are_remarked_on_once_and_black_and_white_ones_never(caplog, x, said):
    training._say_no_density_once.cache_clear()
    quick(x_train=x, x_valid=None, epochs=1, binarize=True)
    quick(x_train=x, x_valid=None, epochs=1, architecture=Architecture(6, (5,), 2, likelihood="gaussian"))
    assert not caplog.records
    for _ in range(2):
        quick(x_train=x, x_valid=None, epochs=1)
    assert [record.message[:19] for record in caplog.records] == ["the pixels are grey"] * said


COLLAPSES = {"beta": 100.0, "optimizer": Adam(0.02), "epochs": 60}  # the KL costs more than any latent can earn


@pytest.mark.parametrize(
    "changes, said",
    [
        (COLLAPSES, True),
        (COLLAPSES | {"x_valid": None, "x_train": np.where(X > 0.5, 255, 0).astype(np.uint8)}, True),
        (COLLAPSES | {"beta": 0.01}, False),
    ],
    ids=["grey", "bytes", "a small beta"],
)
def test_a_collapsed_model_is_said_in_one_sentence(changes, said, caplog):
    quick(**changes)
    words = [record.getMessage() for record in caplog.records if "latents" in record.getMessage()]
    assert len(words) == said and all("usually helps" in word for word in words)


def test_after_one_epoch_it_is_too_early_to_tell_a_collapse(monkeypatch):
    told = []
    monkeypatch.setattr(training, "_say_if_collapsed", lambda *_: told.append(1))
    quick(epochs=1)
    assert not told
    quick(epochs=2)
    assert told == [1]


@pytest.mark.parametrize(
    "unit, of_mu, of_output, said",
    [
        (1.0, 1.0, 1.0, False),
        (1e-5, 1e5, 1e-5, False),  # as far apart as such data are
        (255, 1.0, 0.05, False),  # bytes, that stand for 0 to 1
        (1.0, 1.0, 0.0, True),  # a decoder that does not listen
        (1.0, 0.03, 1.0, True),  # an encoder that says next to nothing
    ],
)
def test_a_collapse_is_a_small_kl_or_reconstructions_alike_in_the_unit_of_the_data(unit, of_mu, of_output, said, caplog):
    p = Parameters.initialize(Architecture(6, (), 2, likelihood="gaussian"), seed=1)
    p["logvar.W"][...] = 0
    p["mu.W"][...] *= of_mu
    p["output.W"][...] *= of_output
    training._say_if_collapsed(p, (unit * X).astype(np.uint8) if unit == 255 else unit * X)
    assert len(caplog.records) == said


def test_validation_draws_eps():
    """At the mean of q the reconstruction is better than it is on average: reporting that as the ELBO is a known mistake."""
    p = quick(epochs=50, optimizer=Adam(0.02), dtype="float64").parameters
    drawn = evaluate(p, VALID, n_samples=2000, backend="numpy")
    at_the_mean = loss_and_gradients(p, VALID, np.zeros((1, 9, 2)))[0]
    assert drawn.kl == pytest.approx(at_the_mean.kl) and drawn.reconstruction > at_the_mean.reconstruction


@given(n=st.integers(1, 40), n_samples=st.integers(1, 3), chunk=st.integers(1, 50))
@settings(max_examples=20)
def test_evaluation_does_not_depend_on_the_chunks(n, n_samples, chunk):
    p, x = Parameters.initialize(ARCH), np.random.default_rng(n).uniform(size=(n, 6))
    whole = evaluate(p, x, n_samples=n_samples, backend="numpy")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("vae_np.elbo.CHUNK", chunk)
        parts = evaluate(p, x, n_samples=n_samples, backend="numpy")
    np.testing.assert_allclose(parts.per_example, whole.per_example, rtol=1e-12)
    assert parts.total == pytest.approx(whole.total) and parts.total == pytest.approx(whole.per_example.mean())


@pytest.mark.parametrize("n_samples, chunk, wanted", [(1, 10, [9]), (1, 4, [4, 1]), (3, 10, [3]), (3, 7, [2, 1]), (8, 7, [1])])
def test_evaluation_holds_no_more_rows_at_a_time_than_a_chunk(monkeypatch, n_samples, chunk, wanted):
    sizes, buffers = [], evaluation.buffers
    monkeypatch.setattr(training.elbo, "CHUNK", chunk)
    monkeypatch.setattr(evaluation, "buffers", lambda *of: sizes.append(of[2:4]) or buffers(*of))
    evaluate(Parameters.initialize(ARCH), VALID, n_samples=n_samples, backend="numpy")
    assert sizes == [(n_samples, n) for n in wanted]


@pytest.mark.parametrize("use", ["validate", "score"])
@pytest.mark.parametrize("examples", [None, [4, 3, 2**40, 0, 1, 7, 7, 9, 8]])
def test_evaluation_is_the_loss_at_the_noise_of_its_seed_use_step_and_examples(its_kernels, backend, examples, use):
    p, eps = Parameters.initialize(ARCH, seed=1), np.empty((2, 9, 2))
    its_kernels.normals(key(7, use), 3, np.array(examples or range(9)), eps)
    wanted, _ = loss_and_gradients(p, VALID, eps, 0.7, 0.1, "iwae", backend)
    found = evaluate(p, VALID, "iwae", 2, 0.7, 0.1, seed=7, step=3, examples=examples, use=use, backend=backend)
    assert found[:4] == pytest.approx(wanted[:4], rel=1e-13)
    np.testing.assert_allclose(found.per_example, wanted.per_example, rtol=1e-13)


@pytest.mark.parametrize("examples", [[1] * 8, [1] * 10, 1, [[1] * 9]])
def test_evaluation_wants_a_number_for_each_row(examples):
    with pytest.raises(ValueError, match=r"examples has shape .*; wanted a number for each row, \(9,\)"):
        evaluate(Parameters.initialize(ARCH), VALID, examples=examples, backend="numpy")


@pytest.mark.parametrize("threads, wanted", [(None, {1}), (1, {1}), (3, {3})])
def test_matrix_products_run_on_the_threads_asked_for(threads, wanted):
    seen = set()

    def look(done, of, row):
        seen.update(i["num_threads"] for i in threadpoolctl.threadpool_info() if i["user_api"] == "blas")

    before = threadpoolctl.threadpool_info()
    quick(threads=threads, epochs=1, progress=look, backend="numpy")
    assert seen == wanted and threadpoolctl.threadpool_info() == before


def test_evaluation_runs_its_matrix_products_on_one_thread(monkeypatch, backend):
    """So that its bits are the same on any machine, also where it is called by itself."""
    seen, value_of = set(), training.elbo.value_of

    def look(*arguments):
        seen.update(i["num_threads"] for i in threadpoolctl.threadpool_info() if i["user_api"] == "blas")
        return value_of(*arguments)

    monkeypatch.setattr(training.elbo, "value_of", look)
    with threadpoolctl.threadpool_limits(3):
        evaluate(Parameters.initialize(ARCH), VALID, backend=backend)
    assert seen == {1}


def test_training_gives_the_same_bits_whatever_threads_the_blas_has():
    x = np.random.default_rng(0).uniform(size=(200, 300))
    flats = []
    for n in (1, 2):
        with threadpoolctl.threadpool_limits(n):
            run = train(Architecture(300, (200,), 20), x, x[:50], epochs=1)
        flats.append((run.parameters.flat, run.history[0]["valid_total"]))
    assert (flats[0][0] == flats[1][0]).all() and flats[0][1] == flats[1][1]


# ------------------------------------------------------------------------------------------------------ run and resume


def test_a_run_folder_holds_checkpoint_history_and_config(tmp_path):
    run = quick(out=tmp_path / "run", l2=0.1, notes={"who": "me"})
    assert sorted(os.listdir(run.path)) == [".lock", "checkpoint.npz", "config.json", "history.csv"]
    assert (Parameters.load(run.path / "checkpoint.npz").flat == run.parameters.flat).all()
    with open(run.path / "history.csv") as file:
        rows = list(csv.DictReader(file))
    assert [{name: float(value) for name, value in row.items()} for row in rows] == run.history
    config = json.loads((run.path / "config.json").read_text())
    assert (config["l2"], config["batch_size"], config["who"], config["epochs"]) == (0.1, 8, "me", 3)


@pytest.mark.parametrize(
    "changes", [{}, {"patience": 2, "optimizer": Adam(0.1)}, {"optimizer": SGD(0.1, 0.9), "binarize": True}]
)
@pytest.mark.parametrize("batch", [1, 4, 5, 9, 11])
def test_resume_is_exact(tmp_path, batch, changes, backend):
    """Whether the kill came in an epoch, after its last batch, or after its checkpoint."""
    wanted = quick(epochs=6, backend=backend, **changes)
    with pytest.raises(Killed):
        quick(epochs=6, backend=backend, out=tmp_path, progress=stop_at(batch), **changes)
    assert_same(quick(epochs=6, backend=backend, out=tmp_path, resume=True, **changes), wanted)


def test_resume_is_exact_at_a_lower_precision(tmp_path, lower):
    settings = dict(zip(("backend", "precision"), lower), epochs=4)
    wanted = quick(**settings)
    assert (wanted.parameters.flat != quick(**settings | {"precision": "float32"}).parameters.flat).any()
    with pytest.raises(Killed):
        quick(**settings, out=tmp_path, progress=stop_at(5))
    assert_same(quick(**settings, out=tmp_path, resume=True), wanted)


def test_resume_is_exact_with_another_estimator(tmp_path, backend):
    settings = {"backend": backend, "epochs": 4, "objective": "iwae", "n_samples": 3, "estimator": "dreg"}
    wanted = quick(**settings)
    assert (wanted.parameters.flat != quick(**settings | {"estimator": "total"}).parameters.flat).any()
    with pytest.raises(Killed):
        quick(**settings, out=tmp_path, progress=stop_at(5))
    assert_same(quick(**settings, out=tmp_path, resume=True), wanted)
    assert runs.settings_of(tmp_path)["estimator"] == "dreg"
    with pytest.raises(ValueError, match="was trained with estimator 'dreg', not 'total': resume it as it was"):
        quick(**settings | {"estimator": "total"}, out=tmp_path, resume=True)


@pytest.mark.parametrize("estimator", ["path", "score"])
def test_training_with_any_estimator_lowers_the_loss(estimator):
    """From the same first weights and with the same noise, but not to the same parameters."""
    settings = {"objective": "elbo_mc", "n_samples": 4, "epochs": 8}
    rows = [quick(**settings, estimator=name).history for name in ("total", estimator)]
    assert rows[0][0]["train_total"] != rows[1][0]["train_total"]
    assert all(history[-1]["train_total"] < history[0]["train_total"] - 0.1 for history in rows)


def test_validation_is_in_full_precision(lower):
    backend, precision = lower
    run = quick(epochs=1, backend=backend, precision=precision)
    valid = evaluate(run.parameters, VALID, step=1, backend=backend)
    assert run.history[0]["valid_total"] == valid.total


def test_patience_goes_on_where_it_was(tmp_path):
    settings = {"epochs": 200, "patience": 4, "optimizer": Adam(0.1), "dtype": "float64"}
    wanted = quick(**settings)
    with pytest.raises(Killed):  # two epochs before the end, so two into the waiting
        quick(**settings, out=tmp_path, progress=stop_at(4 * (len(wanted.history) - 2) + 1))
    run = quick(**settings, out=tmp_path, resume=True)
    assert len(run.history) == len(wanted.history) and (run.parameters.flat == wanted.parameters.flat).all()


def test_a_history_that_a_kill_left_short_is_made_whole(tmp_path):
    quick(out=tmp_path)
    whole = (tmp_path / "history.csv").read_text()
    (tmp_path / "history.csv").write_text(whole[: whole.rindex("3,")])
    quick(out=tmp_path, resume=True)
    assert (tmp_path / "history.csv").read_text() == whole


@pytest.mark.parametrize("killed_at", range(1, 9))
@pytest.mark.parametrize("when", ["before", "after"])
def test_the_history_is_never_ahead_of_its_checkpoint(tmp_path, monkeypatch, killed_at, when):
    """Nor more than an epoch behind it, at whatever renaming of a file a kill comes; and so too when that is resumed."""
    wanted, replace, behind = quick(epochs=4), os.replace, []

    def counted(new, old):
        counted.left -= 1
        if not counted.left and when == "before":
            raise Killed
        replace(new, old)
        checkpoint, history = epochs_kept(tmp_path)
        behind.append(checkpoint - history)
        if not counted.left:
            raise Killed

    monkeypatch.setattr(os, "replace", counted)
    counted.left = killed_at
    with pytest.raises(Killed):
        quick(epochs=4, out=tmp_path)
    counted.left = 0
    run = quick(epochs=4, out=tmp_path, resume=True)
    assert set(behind) == {0, 1} and epochs_kept(tmp_path) == (4, 4)
    assert_same(run, wanted)


def test_a_run_with_every_setting_is_resumed_to_the_same_bits(tmp_path):
    other = Parameters.initialize(ARCH, seed=9)
    settings = {
        "objective": "iwae",
        "n_samples": 3,
        "beta": 0.7,
        "beta_warmup": 3,
        "schedule": [(3, 0.1), (1, 0.5)],
        "l2": 0.1,
        "binarize": True,
        "patience": 5,
        "seed": 2**64 - 1,
        "dtype": "float64",
        "precision": "bfloat16",
        "initial_parameters": other,
        "threads": 1,
        "batch_size": 5,
        "optimizer": SGD(0.1, 0.9),
    }
    wanted = quick(epochs=4, **settings)
    quick(epochs=2, **settings, out=tmp_path)
    assert_same(quick(epochs=4, **settings, out=tmp_path, resume=True), wanted)


def test_numbers_of_numpy_are_numbers(tmp_path):
    numbers = {
        "epochs": np.int64(2),
        "patience": np.int64(3),
        "batch_size": np.int32(8),
        "optimizer": Adam(np.float32(1e-3)),
        "n_samples": np.uint8(2),
        "beta": np.float32(0.5),
        "beta_warmup": np.int8(1),
        "l2": np.float32(0.25),
        "seed": np.uint64(7),
        "binarize": np.True_,
        "schedule": np.array([[1, 2]]),
        "threads": np.int64(1),
    }
    run = quick(**numbers, out=tmp_path)
    assert len(run.history) == 2
    plain = {name: value.item() for name, value in numbers.items() if isinstance(value, np.generic)}
    resumed = {**numbers, **plain, "schedule": [(1, 2.0)], "epochs": 3}
    assert_same(quick(**resumed, out=tmp_path, resume=True), quick(**resumed))


def test_a_finished_run_goes_on_for_more_epochs_and_not_for_fewer(tmp_path):
    quick(epochs=2, out=tmp_path)
    assert (quick(epochs=5, out=tmp_path, resume=True).parameters.flat == quick(epochs=5).parameters.flat).all()
    assert len(quick(epochs=1, out=tmp_path, resume=True).history) == 5


# ------------------------------------------------------------------------------------------------------ what it refuses


def test_a_folder_that_holds_a_run_is_not_overwritten(tmp_path):
    quick(out=tmp_path)
    before = (tmp_path / "checkpoint.npz").read_bytes()
    with pytest.raises(FileExistsError, match="already holds a run: resume it, or choose another folder"):
        quick(out=tmp_path)
    assert (tmp_path / "checkpoint.npz").read_bytes() == before


@pytest.mark.parametrize(
    "changes, sentence",
    [
        ({"batch_size": 4}, "batch_size 8, not 4"),
        ({"x_train": X[::-1]}, "other data"),
        ({"optimizer": Adam(0.5)}, "optimizer {"),
        ({"seed": 1}, "seed 0, not 1"),
        ({"architecture": Architecture(6, (4,), 2, "tanh")}, "architecture {"),
        ({"architecture": Architecture(6, (5,), 2, "relu")}, "architecture {"),
        ({"objective": "elbo_mc"}, "objective 'elbo', not 'elbo_mc'"),
        ({"n_samples": 2}, "n_samples 1, not 2"),
        ({"beta": 0.5}, "beta 1.0, not 0.5"),
        ({"beta_warmup": 1}, "beta_warmup 0.0, not 1.0"),
        ({"schedule": [(2, 0.1)]}, "schedule [], not [[2, 0.1]]"),
        ({"l2": 0.1}, "l2 0.0, not 0.1"),
        ({"binarize": True}, "binarize False, not True"),
        ({"patience": 2}, "patience None, not 2"),
        ({"init": "he"}, "scheme 'glorot', not 'he'"),
        ({"dtype": "float64"}, "dtype 'float32', not 'float64'"),
        ({"precision": "bfloat16"}, "precision 'float32', not 'bfloat16'"),
        ({"x_valid": VALID[::-1]}, "other data"),
        ({"x_valid": None}, "other data"),
        ({"x_train": X[:-1]}, "other data"),
        ({"initial_parameters": Parameters.initialize(ARCH, 1)}, "scheme 'glorot', not 'start "),
    ],
)
def test_a_run_is_resumed_only_as_it_was(tmp_path, changes, sentence):
    quick(out=tmp_path)
    with pytest.raises(ValueError, match="was trained with .*: resume it as it was, or choose another folder") as caught:
        quick(out=tmp_path, resume=True, **changes)
    assert sentence in str(caught.value)


def test_a_run_of_a_version_without_precisions_and_estimators_is_resumed_in_full(tmp_path):
    run = quick(out=tmp_path, epochs=2)
    model = runs.settings_of(tmp_path)
    assert [model.pop(name) for name in runs.LATER] == list(runs.LATER.values())
    state = runs.State(run.parameters, run.parameters, run.optimizer, run.history)
    runs.save(state, tmp_path, model)
    assert "precision" not in runs.settings_of(tmp_path)
    with pytest.raises(
        ValueError, match="was trained with precision 'float32', not 'bfloat16': resume it as it was, or choose"
    ):
        quick(out=tmp_path, epochs=3, resume=True, precision="bfloat16")
    assert_same(quick(out=tmp_path, epochs=3, resume=True), quick(epochs=3))
    assert [runs.settings_of(tmp_path)[name] for name in ("precision", "estimator")] == ["float32", "total"]


def test_a_run_is_resumed_only_from_its_own_start(tmp_path):
    start, other = Parameters.initialize(ARCH, seed=1), Parameters.initialize(ARCH, seed=1)
    other["output.b"][-1] = 1e-9
    wanted = quick(epochs=2, initial_parameters=start)
    quick(epochs=1, initial_parameters=start, out=tmp_path)
    before = (tmp_path / "checkpoint.npz").read_bytes()
    for changes in ({"initial_parameters": other}, {}, {"seed": 1}):
        with pytest.raises(ValueError, match="was trained with .*: resume it as it was, or choose another folder"):
            quick(epochs=2, out=tmp_path, resume=True, **changes)
        assert (tmp_path / "checkpoint.npz").read_bytes() == before
    assert_same(quick(epochs=2, initial_parameters=start.copy(), out=tmp_path, resume=True), wanted)
    assert (wanted.parameters.flat != quick(epochs=2, initial_parameters=other).parameters.flat).any()


def test_training_leaves_its_start_as_it_was():
    start = Parameters.initialize(ARCH, dtype="float32")
    before = start.flat.copy()
    run = quick(initial_parameters=start)
    assert (start.flat == before).all() and (run.parameters.flat != before).any()


def test_parameters_alone_are_nothing_to_resume(tmp_path):
    Parameters.initialize(ARCH).save(tmp_path / "checkpoint.npz")
    with pytest.raises(ValueError, match="holds parameters but no training to resume"):
        quick(out=tmp_path, resume=True)


def test_a_loss_that_is_no_longer_finite_ends_training_and_leaves_the_last_checkpoint(tmp_path, backend):
    # A linear Gaussian model diverges as any does whose step is too long.
    settings = {
        "architecture": Architecture(6, (), 2, likelihood="gaussian"),
        "optimizer": SGD(10.0),
        "backend": backend,
    }
    with np.errstate(all="ignore"), pytest.raises(FloatingPointError, match="no longer finite"):
        quick(out=tmp_path, epochs=200, dtype="float32", **settings)
    if (tmp_path / "checkpoint.npz").exists():
        assert np.isfinite(Parameters.load(tmp_path / "checkpoint.npz").flat).all()


@pytest.mark.parametrize("stops", [True, False], ids=["which is the last", "which others follow"])
@pytest.mark.parametrize("step", [1, 2, 3, 4, 5, 7, 8, 11, 12, 13, 16, 24])
def test_no_step_without_a_finite_loss_goes_unseen(monkeypatch, tmp_path, clock, step, stops):
    """First, in the midst or last of those made in a call, whether a backend stops there or not."""
    clock(FAST)
    together = []

    def around(make_steps, p, state, rows, first, beta, rate):
        terms = make_steps(rows, first, beta, rate)
        together.append(len(rows))
        if 0 <= step - first < len(terms):
            terms[step - first, :2] = np.inf
            return terms[: step - first + 1] if stops else terms
        return terms

    stepping(monkeypatch, around)
    with pytest.raises(FloatingPointError) as caught:
        quick(out=tmp_path, batch_size=2, epochs=2)
    assert str(caught.value) == f"the loss is no longer finite: its term reconstruction is inf at step {step}"
    assert epochs_kept(tmp_path) == ((step - 1) // 12,) * 2
    assert together == [1, 2, 4, 4, 1, 8, 3, 1][: len(together)]


@pytest.mark.parametrize(
    "terms, words",
    [
        ([np.nan, 1, np.nan, 0], "kl is nan"),
        ([-np.inf, -np.inf, 1, 0], "reconstruction is -inf"),
        ([np.inf, np.inf, np.inf, np.inf], "reconstruction is inf"),
        ([np.inf, 1, 1, np.inf], "l2 is inf"),
        ([np.inf, 1, 1, 0], "total is inf"),
    ],
)
def test_the_term_that_is_not_finite_is_named(monkeypatch, terms, words):
    stepping(monkeypatch, lambda make_steps, p, state, rows, *numbers: np.array([terms] * len(rows)))
    with pytest.raises(FloatingPointError, match=f"its term {words} at step 1$"):
        quick()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("what, place", [("parameters", 0), ("parameters", -1), ("m", 0), ("v", 7), ("v", -1)])
def test_arrays_that_are_not_finite_are_not_kept(monkeypatch, tmp_path, what, place, value):
    """Though the loss before them was finite: a checkpoint of them would be refused when it is resumed."""
    wanted, harm = quick(epochs=3), []

    def around(make_steps, p, state, rows, first, beta, rate):
        terms = make_steps(rows, first, beta, rate)
        if first == 6 and harm:
            (p.flat if what == "parameters" else state[what])[place] = value
        return terms

    stepping(monkeypatch, around)
    harm.append(True)
    with pytest.raises(FloatingPointError) as caught:
        quick(epochs=3, out=tmp_path)
    name = what if what == "parameters" else "optimizer's arrays"
    assert str(caught.value) == f"the {name} are no longer finite after step 6" and epochs_kept(tmp_path) == (1, 1)
    harm.clear()
    assert_same(quick(epochs=3, out=tmp_path, resume=True), wanted)


def test_an_optimizer_that_overflows_alone_ends_training(tmp_path, backend):
    """The square of a gradient of 1e21 is infinite in single precision. It divides, so that the parameters stay finite."""
    architecture = Architecture(1, (), 2, likelihood="gaussian", noise_std=0.01)
    settings = {
        "architecture": architecture,
        "initial_parameters": Parameters.zeros(architecture),
        "backend": backend,
        "x_valid": None,
    }
    with np.errstate(over="ignore"), pytest.raises(FloatingPointError, match="optimizer's arrays are no longer finite"):
        quick(x_train=np.full((8, 1), 1e17), out=tmp_path, epochs=1, optimizer=Adagrad(1e-3), **settings)
    assert epochs_kept(tmp_path) == (0, 0)


@pytest.mark.parametrize(
    "changes", [np.nan, np.inf, -np.inf, {"l2": np.inf}, {"reconstruction": np.nan}, {"kl": np.nan}], ids=str
)
@pytest.mark.parametrize("patience", [None, 2])
def test_a_validation_that_is_not_finite_is_not_kept(monkeypatch, tmp_path, changes, patience):
    wanted = quick(epochs=3, patience=patience)
    with monkeypatch.context() as patch:
        validated_as(patch, [{}, changes])
        with pytest.raises(FloatingPointError) as caught:
            quick(epochs=3, patience=patience, out=tmp_path)
    assert str(caught.value) == "the validation loss is no longer finite after epoch 2" and epochs_kept(tmp_path) == (1, 1)
    assert_same(quick(epochs=3, patience=patience, out=tmp_path, resume=True), wanted)


def test_a_mean_of_finite_losses_that_overflows_is_not_kept(monkeypatch, tmp_path):
    stepping(monkeypatch, lambda make_steps, p, state, rows, *numbers: np.full((len(rows), 4), 1e308))
    with np.errstate(over="ignore"), pytest.raises(FloatingPointError) as caught:
        quick(out=tmp_path)
    assert str(caught.value) == "the training loss is no longer finite after epoch 1"
    assert epochs_kept(tmp_path) == (0, 0)


def test_what_may_be_infinite_is_kept_and_resumed(tmp_path, backend):
    """Under "iwae" a sample may have an infinite loss, and so the mean of all, while the bound is finite."""
    architecture = Architecture(1, (), 1, likelihood="gaussian")
    start = Parameters.initialize(architecture, dtype="float32")
    start["output.W"][...], start["logvar.b"][...] = 1e19, 4.0
    settings = {
        "architecture": architecture,
        "x_train": np.zeros((3, 1)),
        "x_valid": np.zeros((2, 1)),
        "initial_parameters": start,
    }
    settings |= {"objective": "iwae", "n_samples": 400, "optimizer": SGD(1e-60), "batch_size": 1, "backend": backend}
    with np.errstate(all="ignore"):
        wanted = quick(epochs=2, **settings)
        quick(epochs=1, out=tmp_path, **settings)
        run = quick(epochs=2, out=tmp_path, resume=True, **settings)
    assert_same(run, wanted)
    assert [row["valid_reconstruction"] for row in run.history] == [np.inf] * 2
    assert all(np.isfinite([row["train_total"], row["valid_total"]]).all() for row in run.history)


@pytest.mark.parametrize("term", ["reconstruction", "kl"])
def test_either_term_of_a_finite_validation_may_be_infinite(monkeypatch, tmp_path, term):
    validated_as(monkeypatch, [{term: np.inf}, {term: -np.inf}, {}])
    quick(epochs=2, out=tmp_path)
    run = quick(epochs=3, out=tmp_path, resume=True)
    assert [row[f"valid_{term}"] for row in run.history[:2]] == [np.inf, -np.inf]


def test_the_term_and_the_step_are_named(monkeypatch, tmp_path):
    from vae_np import elbo
    from vae_np.kernels import reference

    calls = []

    def broken(mu, logvar, eps, z, kl):
        calls.append(1)
        kl[...] = np.nan if len(calls) == 6 else 0
        return kl

    monkeypatch.setattr(reference, "gaussian_kl", broken)
    elbo._bind.cache_clear()
    try:
        with pytest.raises(FloatingPointError, match="no longer finite: its term kl is nan at step 6"):
            quick(out=tmp_path, x_valid=None)
    finally:
        elbo._bind.cache_clear()
    assert len(quick(out=tmp_path, x_valid=None, epochs=1, resume=True).history) == 1


@pytest.mark.parametrize(
    "changes, error, sentence",
    [
        ({"x_train": X[:, :5]}, ValueError, r"x_train has shape \(23, 5\)"),
        ({"x_valid": VALID * 9}, ValueError, "x_valid goes from"),
        ({"epochs": 0}, ValueError, "epochs is 0"),
        ({"batch_size": 1.5}, ValueError, "batch_size is 1.5"),
        ({"n_samples": 0}, ValueError, "n_samples is 0"),
        ({"objective": "vae"}, ValueError, "objective is 'vae'"),
        ({"dtype": "int8"}, ValueError, "dtype is 'int8'"),
        ({"seed": -1}, ValueError, "seed is -1"),
        ({"seed": -1, "initial_parameters": Parameters.zeros(ARCH)}, ValueError, "seed is -1"),
        ({"init": "xavier"}, ValueError, "init is 'xavier'"),
        ({"beta": -1}, ValueError, "beta is -1; it must be a finite number, at least 0"),
        ({"beta": np.nan}, ValueError, "beta is nan"),
        ({"beta_warmup": -0.5}, ValueError, "beta_warmup is -0.5"),
        ({"l2": -0.1}, ValueError, "l2 is -0.1"),
        ({"l2": "0.1"}, ValueError, "l2 is '0.1'"),
        ({"threads": 0}, ValueError, "threads is 0"),
        ({"patience": 0}, ValueError, "patience is 0"),
        ({"patience": 2, "x_valid": None}, ValueError, "patience needs x_valid"),
        ({"schedule": [(0, -1)]}, ValueError, "a factor in schedule is -1"),
        ({"schedule": [(1.5, 0.1)]}, ValueError, "an epoch in schedule is 1.5; it must be a whole number, 0 or more"),
        ({"schedule": [(-1, 0.1)]}, ValueError, "an epoch in schedule is -1"),
        ({"schedule": [(0, 0.1, 2)]}, ValueError, r"schedule is \[\(0, 0.1, 2\)\]; it must be a sequence of"),
        ({"schedule": 0.5}, ValueError, r"schedule is 0.5; it must be a sequence of \(epoch, factor\) pairs"),
        ({"backend": "nothing"}, ValueError, "backend is 'nothing'"),
        ({"precision": "half"}, ValueError, "precision is 'half'; backend 'numpy' has 'float32', 'bfloat16', 'tfloat32'"),
        ({"estimator": "stl"}, ValueError, "estimator is 'stl'; known are 'total', 'path', 'dreg', 'score', 'vimco'"),
        ({"estimator": "dreg"}, ValueError, "estimator is 'dreg', which objective 'elbo' does not have; it has 'total'"),
        ({"optimizer": "adam"}, TypeError, r"optimizer is 'adam'; it must be one such as Adam\(1e-3\)"),
        ({"dtype": "foo"}, ValueError, "dtype is 'foo'; known are 'float32', 'float64'"),
        ({"objective": ["elbo"]}, ValueError, r"objective is \['elbo'\]; known are"),
        ({"resume": True, "out": None}, ValueError, "resume needs out"),
        ({"initial_parameters": Parameters.zeros(Architecture(6, (4,), 2))}, ValueError, "initial_parameters are those of"),
        (
            {"initial_parameters": dict(Parameters.zeros(ARCH))},
            TypeError,
            "initial_parameters is a dict; it must be Parameters",
        ),
        ({"architecture": 6}, TypeError, "architecture is 6; it must be an Architecture"),
    ],
)
def test_wrong_settings_are_refused_before_anything_is_written(tmp_path, changes, error, sentence):
    with pytest.raises(error, match=sentence) as caught:
        quick(**{"out": tmp_path / "run", **changes})
    assert "\n" not in str(caught.value) and not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "make",
    [
        lambda: Adam(0),
        lambda: SGD(momentum=-1),
        lambda: Adam(beta1=1.0),
        lambda: Adam("0.1"),
        lambda: Adagrad(epsilon=0),
    ],
)
def test_optimizers_refuse_what_cannot_work(make):
    with pytest.raises(ValueError, match="; it must be"):
        make()
