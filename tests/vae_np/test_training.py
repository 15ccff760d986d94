"""Training: what it does to the parameters, what it keeps on disk, and that a killed run goes on to the same bits."""

import csv
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
    loss_and_gradients,
    train,
)
from vae_np.noise import key, permutation
from vae_np.training import evaluate

ARCH = Architecture(6, (5,), 2, "tanh")
RNG = np.random.default_rng(0)
X, VALID = RNG.uniform(size=(23, 6)), RNG.uniform(size=(9, 6))


def quick(**changes):
    settings = {"architecture": ARCH, "x_train": X, "x_valid": VALID, "epochs": 3, "batch_size": 8, "backend": "numpy"}
    return train(**{**settings, **changes})


class Killed(BaseException):
    pass


def stop_at(batch):
    """A progress that ends the run once so many batches are done, as a kill would: nothing after it is run."""
    calls = []

    def progress(done, of, row):
        calls.append(done)
        if len(calls) == batch:
            raise Killed

    return progress


# ------------------------------------------------------------------------------------------------------- what it does


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
        epochs=2, beta=0.7, l2=0.1, n_samples=2, seed=5, dtype="float64", backend=backend, optimizer=optimizer,
        binarize=binarize, schedule=[(1, 0.1)],
    )  # fmt: skip
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


@pytest.mark.parametrize(
    "optimizer", [SGD(0.01, momentum=0.9), Adagrad(0.05), Adam(0.01)], ids=lambda o: type(o).__name__
)
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


def test_beta_rises_over_the_warm_up():
    seen = {}  # at the last batch of each report; three are an epoch
    quick(beta=0.8, beta_warmup=2, epochs=3, x_valid=None, progress=lambda done, of, row: seen.update({done: row["beta"]}))
    assert {1, 3, 6, 9} <= seen.keys()
    for step, beta in seen.items():
        assert beta == pytest.approx(0.8 * min(1, step / 6))


def test_schedule_multiplies_the_learning_rate_from_its_epochs_on():
    history = quick(schedule=[(3, 0.01), (1, 0.1)], epochs=5).history
    assert [row["learning_rate"] for row in history] == pytest.approx([1e-3, 1e-4, 1e-4, 1e-5, 1e-5])


def test_patience_ends_training_and_returns_the_best_epoch():
    run = quick(epochs=200, patience=4, optimizer=Adam(0.1), dtype="float64")
    totals = [row["valid_total"] for row in run.history]
    best = int(np.argmin(totals))
    assert len(totals) == best + 5 < 200
    assert evaluate(run.parameters, VALID, step=best + 1, backend="numpy").total == pytest.approx(totals[best])


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
        patch.setattr("vae_np.training.CHUNK", chunk)
        parts = evaluate(p, x, n_samples=n_samples, backend="numpy")
    np.testing.assert_allclose(parts.per_example, whole.per_example, rtol=1e-12)
    assert parts.total == pytest.approx(whole.total) and parts.total == pytest.approx(whole.per_example.mean())


@pytest.mark.parametrize("threads, wanted", [(None, {1}), (1, {1}), (3, {3})])
def test_matrix_products_run_on_the_threads_asked_for(threads, wanted):
    seen = set()

    def look(done, of, row):
        seen.update(i["num_threads"] for i in threadpoolctl.threadpool_info() if i["user_api"] == "blas")

    before = threadpoolctl.threadpool_info()
    quick(threads=threads, epochs=1, progress=look, backend="numpy")
    assert seen == wanted and threadpoolctl.threadpool_info() == before


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
    run = quick(epochs=6, backend=backend, out=tmp_path, resume=True, **changes)
    assert (run.parameters.flat == wanted.parameters.flat).all()
    without_time = [[{**row, "seconds": 0} for row in history] for history in (run.history, wanted.history)]
    assert without_time[0] == without_time[1]


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


def test_numbers_of_numpy_are_numbers(tmp_path):
    run = quick(
        epochs=np.int64(2), patience=np.int64(3), batch_size=np.int32(8), optimizer=Adam(np.float32(1e-3)), out=tmp_path
    )
    assert len(run.history) == 2


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
    ],
)
def test_a_run_is_resumed_only_as_it_was(tmp_path, changes, sentence):
    quick(out=tmp_path)
    with pytest.raises(
        ValueError, match="was trained with .*: resume it as it was, or choose another folder"
    ) as caught:
        quick(out=tmp_path, resume=True, **changes)
    assert sentence in str(caught.value)


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
        ({"threads": 0}, ValueError, "threads is 0"),
        ({"patience": 0}, ValueError, "patience is 0"),
        ({"patience": 2, "x_valid": None}, ValueError, "patience needs x_valid"),
        ({"schedule": [(0, -1)]}, ValueError, "a factor in schedule is -1"),
        ({"schedule": 0.5}, ValueError, r"schedule is 0.5; it must be a sequence of \(epoch, factor\) pairs"),
        ({"backend": "nothing"}, ValueError, "backend is 'nothing'"),
        ({"optimizer": "adam"}, TypeError, r"optimizer is 'adam'; it must be one such as Adam\(1e-3\)"),
        ({"dtype": "foo"}, ValueError, "dtype is 'foo'; known are 'float32', 'float64'"),
        ({"objective": ["elbo"]}, ValueError, r"objective is \['elbo'\]; known are"),
        ({"resume": True, "out": None}, ValueError, "resume needs out"),
        ({"start": Parameters.zeros(Architecture(6, (4,), 2))}, ValueError, "start has the parameters of"),
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
