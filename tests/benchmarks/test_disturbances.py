"""What others took is found from what the system counts, and blocks that they disturbed are dropped."""

import io
import os
import types

import pytest

from benchmarks import disturbances, processes
from benchmarks.disturbances import Counters, Sample, State

TICK = 1 / os.sysconf("SC_CLK_TCK")


def files(monkeypatch, texts):
    """Let files of such paths hold those texts; no other file can be opened."""

    def opened(path, *_, **__):
        if path not in texts:
            raise FileNotFoundError(path)
        return io.StringIO(texts[path])

    monkeypatch.setattr(disturbances, "open", opened, raising=False)
    threads = [path.split("/")[4] for path in texts if path.startswith("/proc/self/task/")]

    def listed(path):
        if not texts:
            raise FileNotFoundError(path)
        return [*threads, "ended"]

    system = types.SimpleNamespace(
        sysconf=os.sysconf, path=types.SimpleNamespace(isdir=lambda path: bool(texts)), listdir=listed
    )
    monkeypatch.setattr(disturbances, "os", system)


def ticks(core, shift):
    """Return a line of /proc/stat in which each number is another power of two."""
    return f"cpu{core} {' '.join(str(2**k << shift) for k in range(10))}\n"


@pytest.fixture
def system(monkeypatch, clock):
    """Two cores, 0 and 2, which this process may use, two threads, and a made-up clock."""
    clock.now, clock.working = 7.0, 3.0
    usage = types.SimpleNamespace(getrusage=lambda who: types.SimpleNamespace(ru_nivcsw=9), RUSAGE_SELF=0)
    monkeypatch.setattr(disturbances, "resource", usage)
    monkeypatch.setattr(processes, "allowed_cores", lambda: [0, 2])
    return {
        "/proc/stat": ticks("", 30) + ticks(0, 0) + ticks(1, 10) + ticks(2, 20) + "intr 1 2 3\nctxt 5\n",
        "/proc/self/task/11/schedstat": "600000000 250000000 7\n",
        "/proc/self/task/12/schedstat": "100000000 500000000 7\n",
    }


def test_counters_are_those_of_this_process_and_its_cores(system, monkeypatch):
    """Of a core, the fourth and fifth number are idle, and the eighth is stolen."""
    files(monkeypatch, system)
    assert disturbances.counters() == Counters(
        2, 7.0, 3.0, 0.75, 9, [24 * TICK, (24 << 20) * TICK], [128 * TICK, (128 << 20) * TICK]
    )


def test_a_system_may_count_less(system, monkeypatch):
    unknown = Counters(2, 7.0, 3.0, None, 9, [], [])
    files(monkeypatch, {})
    assert disturbances.counters() == unknown
    files(monkeypatch, {"/proc/stat": system["/proc/stat"]})
    monkeypatch.setattr(processes, "allowed_cores", lambda: [0, 7])  # a container may number its cores from 0
    assert disturbances.counters() == unknown


def taken(seconds=10.0, used=20.0, waited=0.0, preempted=0, idle=(0.0, 0.0), stolen=0.0):
    """Return which share of two cores was taken in ten seconds in which these counters went on by so much."""
    before = Counters(2, 100.0, 50.0, None if waited is None else 3.0, 5, [10.0, 20.0], [1.0, 2.0])
    after = Counters(
        2,
        100.0 + seconds,
        50.0 + used,
        None if waited is None else 3.0 + waited,
        5 + preempted,
        [10.0 + idle[0], 20.0 + idle[1]],
        [1.0 + stolen, 2.0],
    )
    return pytest.approx(disturbances.taken(before, after), abs=1e-12)


def test_who_uses_all_cores_has_lost_nothing():
    assert taken() == 0
    assert taken(waited=8.0) == 0  # its threads have waited for each other
    assert taken(used=20.5, waited=1.0) == 0  # the clocks of the system are not the same


def test_what_others_took_is_what_was_neither_used_nor_idle():
    assert taken(used=19.0, waited=5.0) == 1 / 20
    assert taken(used=15.0, waited=5.0, idle=(3.0 - TICK, 0.0)) == 2 / 20
    assert taken(used=15.0, waited=5.0, idle=(2.0 - TICK, 1.0 - TICK)) == 2 / 20  # each may have been idle a tick longer
    assert taken(used=15.0, waited=5.0, idle=(4.0, 1.0)) == 0


def test_what_others_took_while_nobody_waited_is_no_loss():
    assert taken(used=10.0, waited=1.0) == 1 / 20
    assert taken(used=10.0) == 0
    assert taken(used=10.0, waited=-0.5) == 0  # a thread has ended, and its waits are no longer counted


def test_where_waits_are_not_known_a_preemption_tells_of_them():
    assert taken(used=19.0, waited=None) == 0
    assert taken(used=19.0, waited=None, preempted=1) == 1 / 20
    for waits in ((0.0, None), (None, 0.0)):
        before, after = (Counters(1, now, 0.0, waited, 0, [], []) for now, waited in zip((0.0, 1.0), waits))
        assert disturbances.taken(before, after) == 0


def test_the_host_may_have_taken_cores_away():
    assert taken(used=18.0, stolen=2.0) == 2 / 20
    assert taken(used=15.0, stolen=2.0, waited=1.0) == 3 / 20
    assert taken(used=15.0, stolen=2.0, waited=9.0) == 5 / 20


# ------------------------------------------------------------------------------------------------------ which blocks count


def of_peaks(*peaks):
    return [Sample(1.0, 0.0, peak) for peak in peaks]


def test_the_commonest_state_has_the_most_blocks():
    samples = of_peaks(70.0, 100.0, 98.0, 71.0, 96.0, 130.0)
    state = disturbances.commonest_state(samples)
    assert state == State(96.0, 96.0 / 0.95)
    assert disturbances.describe_states(samples, state) == {
        "commonest": {"share": 0.5, "flops": 98.0},
        "faster": {"share": 1 / 6, "flops": 130.0},
        "slower": {"share": 1 / 3, "flops": 70.5},
    }
    assert disturbances.describe_states(of_peaks(71.0, 100.0, 101.0, 102.0), State(71.0, 100.0)) == {
        "commonest": {"share": 0.5, "flops": 85.5},
        "faster": {"share": 0.5, "flops": 101.5},
    }
    steady = of_peaks(100.0, 99.0)
    assert disturbances.describe_states(steady, disturbances.commonest_state(steady)) == {
        "commonest": {"share": 1.0, "flops": 99.5}
    }


def test_of_states_as_common_the_fastest_counts():
    assert disturbances.commonest_state(of_peaks(70.0, 100.0, 71.0, 99.0)).low == 99.0


def test_a_state_has_its_ends():
    assert disturbances.commonest_state(of_peaks(100.0, 99.0, 70.0, 70.0, 70.0)).low == 70.0
    assert disturbances.commonest_state(of_peaks(70.0, 95.0, 100.0, 69.0)) == State(95.0, 100.0)


def test_without_blocks_there_is_no_state():
    assert disturbances.commonest_state([]) == State(0.0, float("inf"))
    assert disturbances.describe_states([], State(0.0, float("inf"))) == {}


def test_a_block_has_lost_what_others_took_and_what_its_peak_is_off():
    state = State(80.0, 100.0)
    assert [state.lost(Sample(1.0, 0.25, peak)) for peak in (80.0, 100.0, 40.0, 200.0)] == [0.25, 0.25, 0.75, 0.75]


@pytest.mark.parametrize(
    "lost, kept",
    [
        ([0.0, 0.5, 0.02, 0.021, 0.0, 0.0], [0, 2, 4, 5]),
        ([0.0, 0.5, 0.03, 0.04, 0.02], [0, 2, 4]),  # two are undisturbed, and one more is kept
        ([0.6, 0.5, 0.3, 0.3, 0.4], [2, 3, 4]),
        ([0.6, 0.5], [0, 1]),
        ([0.6, 0.0], [0, 1]),
        ([0.0], [0]),
    ],
)
def test_disturbed_blocks_are_dropped_but_for_a_few(lost, kept):
    assert disturbances.counting(lost) == kept


STATE = State(8.0, 10.0)


def blocks(*seconds, taken=(), peak=()):
    """Blocks of such times; the shares that others took are 0, and the peaks 10, where nothing else is said."""
    taken, peak = dict(taken), dict(peak)
    return [Sample(s, taken.get(i, 0.0), peak.get(i, 10.0)) for i, s in enumerate(seconds)]


def test_a_ratio_is_the_median_within_a_round():
    """The median of 8, 2 and 5; the ratio of the medians is 4, and that of the means is 3.71."""
    ours, floor = blocks(8.0, 8.0, 10.0), blocks(1.0, 4.0, 2.0)
    assert disturbances.ratio(ours, floor, STATE) == 5
    assert disturbances.ratio(floor, ours, STATE) == 0.2


def test_a_ratio_is_taken_in_rounds_in_which_nothing_disturbed_either():
    ours = blocks(90.0, 8.0, 8.0, 10.0, 8.0, taken={0: 0.1})
    floor = blocks(1.0, 1.0, 4.0, 2.0, 90.0, peak={4: 4.0})
    assert disturbances.ratio(ours, floor, STATE) == 5
    assert disturbances.ratio(floor, ours, STATE) == 0.2
    assert disturbances.ratio(ours[:1], floor[:1], STATE) == 90


def test_a_summary_has_the_median_the_tenth_and_the_least():
    found = disturbances.summary(blocks(70.0, 10.0, 0.0, 20.0, 100.0, 40.0, 30.0, 80.0, 90.0, 50.0, 60.0), STATE)
    assert found == {"median": 50.0, "p10": 10.0, "minimum": 0.0, "taken": 0.0, "dropped": 0, "disturbed": 0}


def test_a_summary_is_of_the_blocks_that_count():
    found = disturbances.summary(blocks(1.0, 4.0, 2.0, 3.0, 99.0, taken={0: 0.5, 1: 0.02}, peak={4: 20.0}), STATE)
    assert found == {
        "median": 3.0,
        "p10": pytest.approx(2.2),
        "minimum": 2.0,
        "taken": pytest.approx(0.104),
        "dropped": 2,
        "disturbed": 0,
    }
    found = disturbances.summary(blocks(1.0, 4.0, 2.0, 3.0, taken={0: 0.5, 1: 0.25, 2: 0.03}), STATE)
    assert found == {
        "median": 3.0,
        "p10": pytest.approx(2.2),
        "minimum": 2.0,
        "taken": pytest.approx(0.195),
        "dropped": 1,
        "disturbed": 2,
    }
