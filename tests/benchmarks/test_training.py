"""The clock of a training runs while steps are made, and stops at the end of the epoch that reaches the target."""

import functools
import types

import numpy as np
import pytest

from benchmarks import measure, processes, training
from benchmarks.contestants import contestants
from benchmarks.workloads import WORKLOADS, synthetic
from vae_np import data, streams

ROWS, BATCH = 10, 4
WORKLOAD = WORKLOADS["digits"]._replace(batch_size=BATCH, n_rows=ROWS)
DATASET = types.SimpleNamespace(train=np.zeros((ROWS, 64), np.uint8), valid="the rows that are held out")
DATASET_WITHOUT_TEST = types.SimpleNamespace(train=DATASET.train, valid=None)
WANTED = [3.0, 2.0]
SIZES = [(2, BATCH), (1, 2)]  # whole batches, and a smaller one


@pytest.fixture
def made_up(scripted, contestant, monkeypatch):
    """A function made_up(name, seconds, test) that makes a Contestant with such times and test losses of its epochs."""
    losses, asked = {}, []

    def evaluate(p, x, objective, n_samples, seed, step):
        assert (x, objective, n_samples) == (DATASET.valid, WORKLOAD.objective, WORKLOAD.n_samples)
        asked.append((seed, step))
        return types.SimpleNamespace(total=next(losses[p.flat[0]]))

    def made(name, seconds, test, **script):
        own = np.full(WORKLOAD.parameters().flat.size, float(len(losses)), np.float32)
        losses[own[0]] = iter(test)
        epochs = [s if isinstance(s, Exception) else (s, own) for s in seconds]
        its = {"losses": WANTED, "warm_up": 2.0 ** len(losses), "describe": {"note": name.upper(), "peak_memory_mb": 1.0}}
        return contestant(name, **its | {"train": iter(epochs)} | script)

    monkeypatch.setattr(training.evaluation, "evaluate", evaluate)
    made.evaluated, made.asked = asked, scripted
    return made


def train(*chosen, target=100.0, epochs=3, threads=2, seed=0, workload=WORKLOAD, precision="float32"):
    reference = types.SimpleNamespace(make={"name": "reference", "losses": WANTED})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "REFERENCES", {precision: reference})
        return training.train_to(target, chosen, epochs, threads, seed, workload=workload, dataset=DATASET, precision=precision)


@pytest.mark.parametrize("precision, status", [("float32", "wrong"), ("bfloat16", "ok")])
def test_losses_are_those_of_the_precision(precision, status, made_up):
    result = train(made_up("a", [1.0], [99.0], losses=[3.003, 2.0]), precision=precision)
    assert (result["precision"], result["rows"][0]["status"]) == (precision, status)


def test_a_training_ends_with_the_epoch_that_reaches_the_target(made_up):
    """Its time is that of all epochs until then."""
    result = train(
        made_up("slow", [16.0, 32.0, 64.0], [130.0, 120.0, 110.0]),
        made_up("fast", [1.0, 2.0, 4.0], [101.0, 100.0, 90.0]),
    )
    slow, fast = result.pop("rows")
    about = {"workload": "digits", "seed": 0, "target": 100.0, "precision": "float32", "threads": 2, "cores": [4, 5]}
    assert result == about
    checked = {"status": "ok", "reason": "", "loss": 2.0, "loss_error": 0.0}
    history = [
        {"epoch": 1, "seconds": 16.0, "test": 130.0},
        {"epoch": 2, "seconds": 48.0, "test": 120.0},
        {"epoch": 3, "seconds": 112.0, "test": 110.0},
    ]
    ended = {"reached": False, "epochs": 3, "seconds": 112.0, "test": 110.0, "start_seconds": 2.0}
    assert slow == {"name": "slow", **checked, **ended, "history": history, "note": "SLOW", "peak_memory_mb": 1.0}
    history = [{"epoch": 1, "seconds": 1.0, "test": 101.0}, {"epoch": 2, "seconds": 3.0, "test": 100.0}]
    ended = {"reached": True, "epochs": 2, "seconds": 3.0, "test": 100.0, "start_seconds": 4.0}
    assert fast == {"name": "fast", **checked, **ended, "history": history, "note": "FAST", "peak_memory_mb": 1.0}
    assert [words[0] for words in made_up.asked if words[1] == "train"] == ["slow", "fast", "slow", "fast", "slow"]
    assert made_up.evaluated == [(0, 1), (0, 1), (0, 2), (0, 2), (0, 3)]


def test_a_target_can_be_reached_in_the_last_epoch(made_up):
    (row,) = train(made_up("a", [1.0, 2.0], [101.0, 99.0]), epochs=2)["rows"]
    assert row["reached"] is True and row["epochs"] == 2


@pytest.mark.parametrize("n_rows, sizes", [(ROWS, SIZES), (8, SIZES[:1])])
def test_every_epoch_has_each_row_once_in_the_order_of_vae_np(n_rows, sizes, made_up):
    train(made_up("a", [1.0, 1.0], [300.0, 200.0]), epochs=2, seed=7, workload=WORKLOAD._replace(n_rows=n_rows))
    start, _, warm, *epochs, _ = made_up.asked[2:]
    assert start[1:4] == ("start", [4, 5], measure.Session) and start[5] == 2
    assert start[4].seed == 7
    assert warm == ("a", "warm_up", sizes)
    for k, (_, method, parts) in enumerate(epochs):
        assert method == "train" and [part.shape for part in parts] == sizes
        order = np.concatenate([part.ravel() for part in parts])
        assert np.array_equal(order, streams.permutation(7, "shuffle", k, n_rows))
    assert len(epochs) == 2
    assert made_up.evaluated == [(7, 1), (7, 2)]


def test_who_is_missing_wrong_or_failed_is_not_trained(made_up, contestant, clock):
    failed = processes.WorkerError("out of memory")
    result = train(
        contestant("absent", "not installed"),
        made_up("wrong", [], [], losses=[1.0, 1.0]),
        made_up("fails early", [], [], warm_up=failed),
        made_up("fails late", [1.0, failed], [300.0]),
        made_up("a", [8.0, 8.0, 8.0], [300.0, 200.0, 150.0]),
    )
    rows = {row["name"]: row for row in result["rows"]}
    assert [row["status"] for row in rows.values()] == ["missing", "wrong", "failed", "failed", "ok"]
    assert [row["reason"] for row in rows.values()][2:] == ["out of memory", "out of memory", ""]
    assert [name for name, row in rows.items() if "seconds" in row] == ["a"]
    assert [len(row["history"]) for row in rows.values()] == [0, 0, 0, 1, 3]
    assert clock.slept == [measure.PAUSE_SECONDS] * 5


def test_without_a_workload_it_is_mnist(monkeypatch):
    """The reference gets the default workload."""
    seen = []
    dataset = types.SimpleNamespace(train=np.zeros((30, 784), np.uint8), valid="held out")
    monkeypatch.setattr(measure, "reference_losses", lambda workload, *_: seen.append(workload))
    monkeypatch.setattr(data, "load", {"mnist": dataset}.get)
    training.train_to(100.0, [], 1, 1, 3)
    assert seen == [WORKLOADS["example"]._replace(data_set="mnist", n_rows=30, seed=3)]


def test_data_without_rows_to_test_on_are_refused():
    with pytest.raises(ValueError, match="no rows to test on"):
        training.train_to(100.0, [], 1, 1, dataset=DATASET_WITHOUT_TEST)


def test_a_contestant_learns(in_process, monkeypatch):
    monkeypatch.setattr(training.evaluation, "evaluate", functools.partial(training.evaluation.evaluate, backend="numpy"))
    workload = WORKLOADS["digits"]._replace(n_rows=300)
    held_out = types.SimpleNamespace(valid=synthetic(350, 64)[300:])
    (row,) = training.train_to(40.0, [contestants()["numpy"]], 3, 1, workload=workload, dataset=held_out)["rows"]
    assert row["status"] == "ok"
    assert row["test"] == row["history"][-1]["test"] < row["history"][0]["test"]
