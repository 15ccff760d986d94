"""Only the steps are timed, and ratios are taken within a round, which made-up times show."""

import types

import numpy as np
import pytest

from benchmarks import disturbances, measure, processes
from benchmarks.workloads import WORKLOADS
from tests.benchmarks.conftest import PROBE
from tests.benchmarks.test_disturbances import STATE, blocks

DIGITS = WORKLOADS["digits"]


class MadeUp:
    """A Trainer that computes nothing. What it does takes the seconds that stand here, powers of two that add exactly."""

    note = "made up"
    making, restarting, getting_ready, compiling, losing = 2.0**10, 2.0**9, 2.0**8, 2.0**7, 2.0**6

    def __init__(self, clock, a_step):
        self.clock, self.a_step, self.did, self.lengths = clock, a_step, [], set()
        clock.now += self.making

    def restart(self):
        self.clock.now += self.restarting
        self.did.append("restart")

    def prepare(self, rows):
        self.clock.now += self.getting_ready
        self.rows = rows
        self.did.append(rows)

    def run(self):
        assert len(self.rows) < 50_000 and len(self.did) < 500, "there is no end to it"
        self.clock.now += len(self.rows) * self.a_step
        if self.rows.shape not in self.lengths:  # a compiled loop of another length is another program
            self.clock.now += self.compiling
            self.lengths.add(self.rows.shape)
        self.did.append("run")

    def losses(self, rows):
        self.clock.now += self.losing
        self.did.append(rows)
        return np.float32([3, 2, 1])

    def parameters(self):
        return [len(self.did)]


def session(clock, a_step=2.0**-10):
    def make(workload, threads):
        assert (workload, threads) == (DIGITS, 3)
        return MadeUp(clock, a_step)

    return measure.Session(make, DIGITS, 3)


def test_a_block_is_the_seconds_of_a_step_without_what_prepares_it(clock):
    its = session(clock)
    its.calibrate()
    assert its.n > 1
    assert [its.block()[0] for _ in range(3)] == [2.0**-10] * 3


def test_a_block_tells_what_others_took_from_its_steps(clock, monkeypatch):
    """What is made ready for the steps does not count."""
    its = session(clock)
    its.calibrate()
    monkeypatch.setattr(disturbances, "counters", lambda: clock.now)
    monkeypatch.setattr(disturbances, "taken", lambda before, after: after - before)
    assert its.block() == (2.0**-10, its.n * 2.0**-10)


@pytest.mark.parametrize("a_step", [2.0**-k for k in (-2, 3, 4, 8, 12, 15)])
def test_a_block_is_long_enough_and_not_much_longer(a_step, clock):
    n = session(clock, a_step).calibrate()
    assert n == 1 or measure.BLOCK_SECONDS <= n * a_step <= 2 * measure.BLOCK_SECONDS


def test_a_step_that_the_clock_cannot_see_still_makes_a_block(clock):
    """The clock shows no time for a step or for a hundred: nothing is divided by zero, and few lengths are tried."""
    lengths = []

    def seconds_of(n):
        lengths.append(n)
        return 0.0 if n < 1000 else n * 2.0**-17

    assert measure.BLOCK_SECONDS <= measure.calibrate(seconds_of) * 2.0**-17 <= 2 * measure.BLOCK_SECONDS
    assert len(lengths) < 12


def test_what_takes_no_time_is_not_timed_without_end():
    with pytest.raises(RuntimeError, match="too short to be timed"):
        measure.calibrate(lambda n: 0.0)


def test_blocks_follow_each_other_through_the_data(clock):
    """Each begins at the initial parameters, after a step that is not timed, and takes the batches after the last ones."""
    its = session(clock)
    its.calibrate()
    its.trainer.did.clear()
    done = its.done
    for _ in range(2):
        its.block()
    did, n = its.trainer.did, its.n
    assert [what for what in did if isinstance(what, str)] == ["restart", "run"] * 4
    assert [type(what) for what in did[:3]] == [str, np.ndarray, str]
    rows = [what for what in did if isinstance(what, np.ndarray)]
    assert [len(r) for r in rows] == [1, n, 1, n]
    assert np.array_equal(np.concatenate(rows), DIGITS.batches(2 + 2 * n, done))


def test_all_that_is_timed_has_run_once_before(clock):
    its = session(clock)
    its.calibrate()
    compiled = set(its.trainer.lengths)
    its.block()
    assert its.trainer.lengths == compiled


def test_losses_are_those_before_and_after_each_checked_step(clock):
    its = session(clock)
    assert its.losses() == [3.0, 2.0, 1.0]
    assert np.array_equal(its.trainer.did[-1], DIGITS.batches(measure.CHECKED_STEPS + 1))
    its.trainer.losses = lambda rows: None
    assert its.losses() is None


def test_a_training_is_the_seconds_of_its_steps(clock):
    its = session(clock)
    parts = [np.zeros((3, 4), int), np.ones((1, 2), int)]
    its.warm_up([(3, 4), (1, 2)])
    seconds, parameters = its.train(parts)
    assert seconds == 4 * 2.0**-10
    assert parameters == [len(its.trainer.did)]
    assert [what if isinstance(what, str) else what.tolist() for what in its.trainer.did[-4:]] == [
        parts[0].tolist(),
        "run",
        parts[1].tolist(),
        "run",
    ]


def test_warming_is_all_that_a_start_takes_and_ends_at_the_initial_parameters(clock):
    its = session(clock)
    did = 2 * (MadeUp.getting_ready + MadeUp.compiling) + 4 * 2.0**-10 + MadeUp.restarting
    assert its.warm_up([(3, 4), (1, 2)]) == did
    assert its.trainer.lengths == {(3, 4), (1, 2)}
    assert its.trainer.did[-1] == "restart"


def test_a_session_tells_of_itself(clock, monkeypatch):
    monkeypatch.setattr(processes, "peak_memory", lambda: 17.0)
    its = session(clock)
    assert its.describe() == {"note": "made up", "peak_memory_mb": 17.0}


# ------------------------------------------------------------------------------------------------------- comparisons


def test_everyone_takes_each_place_in_turn(clock):
    asked, peaks = [], iter(range(0, 96, 2))
    asks = {name: (lambda name=name: (asked.append(name) or len(asked), 0.25)) for name in "abc"}
    samples, failed = measure.take_turns(asks, 4, lambda: next(peaks))
    assert "".join(asked) == "abcbcacababc"
    assert {name: [block.seconds for block in blocks] for name, blocks in samples.items()} == {
        "a": [1, 6, 8, 10],
        "b": [2, 4, 9, 11],
        "c": [3, 5, 7, 12],
    }
    assert [block.peak for block in samples["a"]] == [1, 21, 29, 37]  # the mean of the peaks before and after it
    assert {block.taken for blocks in samples.values() for block in blocks} == {0.25}
    assert failed == {}
    assert clock.slept == [measure.PAUSE_SECONDS] * 12


def test_who_fails_is_asked_no_more(clock):
    asked = []

    def failing():
        asked.append("b")
        raise processes.WorkerError("out of memory")

    asks = {"a": lambda: (asked.append("a") or 1.0, 0.0), "b": failing, "c": lambda: (asked.append("c") or 2.0, 0.0)}
    samples, failed = measure.take_turns(asks, 3, lambda: 1.0)
    assert "".join(asked) == "abccaca"
    assert failed == {"b": "out of memory"}
    assert [len(samples[name]) for name in "abc"] == [3, 0, 3]


def test_products_at_the_peak_are_as_fast_as_the_peak_beside_each_block():
    """Ten operations are each core's; in the last round the peak is half as high, beside the floor in another as well."""
    samples = {"floor": blocks(4.0, 5.0, 6.0, 7.0, peak={1: 8.0}), "a": blocks(8.0, 7.0, 6.0, 5.0, peak={3: 5.0})}
    found = measure.summaries(samples, STATE, 10.0)
    assert {name: entries["ratios"] for name, entries in found.items()} == {
        "floor": {"floor": 1.0, "a": 5 / 7, "peak": 5.0},  # of 4, 4, 6 and 7
        "a": {"floor": 1.4, "a": 1.0, "peak": 7.0},  # of 8, 7 and 6
        "peak": {"floor": pytest.approx(0.2083333), "a": 1 / 7, "peak": 1.0},
    }
    assert found["peak"]["median"] == 1.0 and found["peak"]["minimum"] == 1.0
    assert found["floor"]["dropped"] == 0 and found["a"]["dropped"] == 1
    assert "peak" not in measure.summaries(samples, STATE)
    assert "peak" not in measure.summaries(samples, STATE)["a"]["ratios"]
    assert measure.summaries({}, STATE, 10.0) == {}


WANTED = [200.0, 100.0, 50.0, 25.0]


def test_losses_are_compared_each_with_its_own():
    assert measure.verdict(None, WANTED) == {}
    said = measure.verdict([200.0, 100.009, 50.0, 25.001], WANTED)
    assert said == {"loss": 25.001, "loss_error": pytest.approx(9e-5)}
    assert measure.verdict([200.0, 100.009, 50.0, 25.001], WANTED, 8e-5)["status"] == "wrong"


@pytest.mark.parametrize("off", [0.003, -0.003, np.nan, np.inf])
def test_the_first_loss_that_is_off_is_told(off):
    said = measure.verdict([200.0, 100.009, 50.0, 25.0 + off], WANTED)
    assert said["status"] == "wrong"
    assert said["reason"] == f"its loss after 3 steps is {25 + off:.6g}, but the reference's is 25"
    said = measure.verdict([200.0, 100.0 + 4 * off, 50.0 + 4 * off, 25.0], WANTED)
    assert said["reason"] == f"its loss after 1 steps is {100 + 4 * off:.6g}, but the reference's is 100"
    assert measure.verdict([200.0 + 16 * off, *WANTED[1:]], WANTED)["reason"].startswith("its loss after 0 steps")


ABOUT = {"note": "", "peak_memory_mb": 64.0}
FLOOR = {"losses": None, "calibrate": 9, "describe": {"note": "alone", "peak_memory_mb": 32.0}}


WEIGHTED = DIGITS._replace(batch_size=50, n_samples=3)


def compare(*contestants, rounds=3, threads=2, precision="float32"):
    reference = types.SimpleNamespace(make={"name": "reference", "losses": WANTED})
    return measure.compare(WEIGHTED, contestants, reference, threads, rounds, precision=precision)


def test_a_comparison_has_each_number_where_it_belongs(scripted, contestant):
    """The times are such that a ratio upside down, of medians, of means or of the wrong contestants is another number."""
    at_peak = WEIGHTED.flops / 2 / PROBE["peak"]
    result = compare(
        contestant("floor", **FLOOR, block=iter([1.0, 4.0, 2.0])),
        contestant(
            "a", losses=[200.0, 100.005, 50.0, 25.001], calibrate=17, block=iter([8.0, (8.0, 0.015), 10.0]), describe=ABOUT
        ),
        contestant("b", losses=WANTED, calibrate=33, block=iter([64.0, 16.0, 256.0]), describe=ABOUT | {"note": "slow"}),
    )
    floor, peak, a, b = rows = result.pop("rows")
    ratios = [row.pop("ratios") for row in rows]
    of_peak = {"floor": 2.0, "peak": at_peak, "a": 8.0, "b": 64.0}
    assert [each.pop("peak") for each in ratios] == [pytest.approx(of_peak[row["name"]] / at_peak) for row in rows]
    assert ratios == [
        {"floor": 1.0, "a": 0.2, "b": 1 / 64},
        {name: pytest.approx(at_peak / of_peak[name]) for name in ("floor", "a", "b")},
        {"floor": 5.0, "a": 1.0, "b": 0.125},
        {"floor": 64.0, "a": 8.0, "b": 1.0},
    ]
    undisturbed = {"taken": 0.0, "dropped": 0, "disturbed": 0}
    assert peak == {
        "name": "peak",
        "status": "ok",
        "reason": "",
        "note": "the same products at the peak of the loop",
        **dict.fromkeys(("median", "p10", "minimum"), pytest.approx(at_peak)),
    }
    fine = {"status": "ok", "reason": ""}
    seconds = {"median": 2.0, "p10": pytest.approx(1.2), "minimum": 1.0}
    assert floor == {"name": "floor", **fine, "steps_per_block": 9, **seconds, **undisturbed, **FLOOR["describe"]}
    checked = {"loss": 25.001, "loss_error": pytest.approx(5e-5)}
    seconds = {"median": 8.0, "p10": 8.0, "minimum": 8.0}
    assert a == {"name": "a", **fine, **checked, "steps_per_block": 17, **seconds, **undisturbed, **ABOUT, "taken": 0.005}
    checked, seconds = {"loss": 25.0, "loss_error": 0.0}, {"median": 64.0, "p10": pytest.approx(25.6), "minimum": 16.0}
    slow = ABOUT | {"note": "slow"}
    assert b == {"name": "b", **fine, **checked, "steps_per_block": 33, **seconds, **undisturbed, **slow}
    assert result == {
        "workload": "digits",
        "architecture": "64-64-8",
        "activation": "relu",
        "batch_size": 50,
        "n_samples": 3,
        "objective": "iwae",
        "flops": WEIGHTED.flops,
        "device": "cpu",
        "precision": "float32",
        "threads": 2,
        "cores": [4, 5],
        "rounds": 3,
        "peak": {"all": PROBE["peaks"], "states": {"commonest": {"share": 1.0, "flops": PROBE["peak"]}}},
    }


def test_a_comparison_asks_in_turn_and_in_one_place(scripted, contestant):
    """All have the same cores and as many threads, and none is timed before all have been checked and calibrated."""
    its = {"losses": WANTED, "calibrate": 9, "describe": ABOUT}
    compare(contestant("a", **its, block=iter([1.0] * 3)), contestant("b", **its, block=iter([1.0] * 3)), rounds=3)
    start = ("start", [4, 5], measure.Session, WEIGHTED, 2)
    assert scripted == [
        ("reference", *start),
        ("reference", "losses"),
        ("a", *start),
        ("a", "losses"),
        ("a", "calibrate"),
        ("b", *start),
        ("b", "losses"),
        ("b", "calibrate"),
        ("probe", "start", [4, 5], measure._probe, "float32"),
        ("a", "block"),
        ("b", "block"),
        ("b", "block"),
        ("a", "block"),
        ("a", "block"),
        ("b", "block"),
        ("a", "describe"),
        ("b", "describe"),
    ]


@pytest.mark.parametrize("precision, status", [("float32", "wrong"), ("bfloat16", "ok")])
def test_losses_and_the_peak_are_those_of_the_precision(precision, status, scripted, contestant):
    off = [200.0, 100.0, 50.0, 25.05]
    result = compare(contestant("a", losses=off, calibrate=9, block=iter([1.0] * 3), describe=ABOUT), precision=precision)
    assert result["precision"] == precision
    assert [row["status"] for row in result["rows"] if row["name"] == "a"] == [status]
    assert ("probe", "start", [4, 5], measure._probe, precision) in scripted


def test_the_peak_of_a_processor_is_no_floor_of_a_gpu(scripted, contestant):
    result = compare(contestant("floor gpu", **FLOOR, device="gpu", block=iter([1.0])), rounds=1)
    assert [row["ratios"] for row in result["rows"]] == [{"floor gpu": 1.0}]


def test_who_is_missing_wrong_or_failed_has_no_time_and_no_ratio(scripted, contestant):
    failed = processes.WorkerError("out of memory")
    result = compare(
        contestant("floor", **FLOOR, block=iter([1.0, 1.0, 1.0])),
        contestant("absent", "not installed"),
        contestant("wrong", losses=[1.0] * 4, calibrate=9, block=iter([])),
        contestant("not started", start=failed),
        contestant("fails early", losses=WANTED, calibrate=failed),
        contestant("fails late", losses=WANTED, calibrate=9, block=iter([2.0, failed, 2.0]), describe=ABOUT),
        contestant("a", losses=WANTED, calibrate=9, block=iter([3.0, 3.0, 3.0]), describe=ABOUT),
    )
    rows = {row["name"]: row for row in result["rows"]}
    assert list(rows) == ["floor", "peak", "absent", "wrong", "not started", "fails early", "fails late", "a"]
    assert [row["status"] for row in rows.values()] == ["ok", "ok", "missing", "wrong", "failed", "failed", "failed", "ok"]
    assert rows["absent"]["reason"] == "not installed"
    assert rows["wrong"]["reason"] == "its loss after 0 steps is 1, but the reference's is 200"
    assert {rows[name]["reason"] for name in ("not started", "fails early", "fails late")} == {"out of memory"}
    assert [name for name, row in rows.items() if "median" in row] == ["floor", "peak", "a"]
    assert rows["floor"]["ratios"].keys() == rows["a"]["ratios"].keys() == {"floor", "peak", "a"}
    assert rows["a"]["ratios"]["floor"] == 3
    assert not {"absent", "not started"} & {words[0] for words in scripted}
    assert ("wrong", "calibrate") not in scripted


def test_a_reference_that_cannot_run_ends_the_comparison(scripted, contestant):
    reference = types.SimpleNamespace(make={"name": "reference", "losses": processes.WorkerError("no memory")})
    with pytest.raises(processes.WorkerError, match="no memory"):
        measure.compare(DIGITS, [contestant("floor", **FLOOR)], reference, 1, 1)
