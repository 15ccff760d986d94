"""What disturbs a block while it is timed, and which blocks count.

Other processes and other virtual machines take the time of its cores. The speed of the cores itself has states as well: the
clock changes, or a neighbour shares a core with us. A block of another state than most blocks is not compared with them.
"""

import contextlib
import os
import resource
import statistics
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from benchmarks import processes

DISTURBED = 0.02  # a block counts where it has lost no more than this share
FEWEST = 3  # so many blocks of a contestant count in any case, those that have lost the least
SAME_STATE = 0.05  # peaks that differ by no more than this share belong to one state

# ------------------------------------------------------------------------------------------------ what others have taken


class Counters(NamedTuple):
    """What the system has counted until now, in seconds.

    Attributes
    ----------
    n_cores
        The number of cores that this process may use.
    now, used
        The time, and how much time this process has used on all its cores.
    waited
        How long its threads have been ready to run while they had no core; None where the system does not say it.
    preemptions
        How often one of its threads has lost its core.
    idle, stolen
        For each of its cores how long it was idle, and how long the host of a virtual machine gave it to others. They are
        empty where the system does not say it.
    """

    n_cores: int
    now: float
    used: float
    waited: float | None
    preemptions: int
    idle: list[float]
    stolen: list[float]


def counters() -> Counters:
    """Return the Counters of this process and its cores."""
    cores, tick = processes.allowed_cores(), os.sysconf("SC_CLK_TCK")
    try:
        with open("/proc/stat") as file:
            lines = {name: numbers for name, *numbers in map(str.split, file)}
        ticks = [[int(n) for n in lines[f"cpu{core}"]] for core in cores]
    except (OSError, KeyError):  # a container may number its cores in another way than the file does
        ticks = []
    return Counters(
        len(cores),
        time.perf_counter(),
        time.process_time(),
        _waited(),
        resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw,
        idle=[(own[3] + own[4]) / tick for own in ticks],  # with the waits for a disk
        stolen=[own[7] / tick for own in ticks],
    )


def _waited() -> float | None:
    waited = []
    for thread in os.listdir("/proc/self/task") if os.path.isdir("/proc/self/task") else ():
        with contextlib.suppress(OSError):  # the thread has ended, or the system keeps no such file
            with open(f"/proc/self/task/{thread}/schedstat") as file:
                waited.append(int(file.read().split()[1]) / 1e9)
    return sum(waited) if waited else None


def taken(before: Counters, after: Counters) -> float:
    """Return which share of its cores' time others took from a process between two readings of its counters.

    They took no more than what the process did not use while its cores were not idle, and no more than what its threads
    waited, which also wait for each other. Of a thread whose waits are not known, a preemption says that it waited. Idle time
    is counted in ticks of a clock, so that it may be a tick longer than it seems.
    """
    tick = 1 / os.sysconf("SC_CLK_TCK")
    all_time = before.n_cores * (after.now - before.now)
    stolen = sum(after.stolen) - sum(before.stolen)
    idle = sum(late - early + tick for early, late in zip(before.idle, after.idle) if late > early)
    unused = max(0.0, all_time - (after.used - before.used) - idle - stolen)
    if before.waited is None or after.waited is None:
        waited = unused if after.preemptions > before.preemptions else 0.0
    else:
        waited = max(0.0, after.waited - before.waited)  # it falls when a thread ends
    return (stolen + min(waited, unused)) / all_time


# ------------------------------------------------------------------------------------------------------ which blocks count


class Sample(NamedTuple):
    """A timed block: its seconds per step, the share of its cores' time that others took, and the peak beside it.

    The peak is in floating-point operations per second of a core.
    """

    seconds: float
    taken: float
    peak: float


class State(NamedTuple):
    """The state of most blocks: their peaks are from `low` to `high`."""

    low: float
    high: float

    def lost(self, sample: Sample) -> float:
        """Return the share of its speed that a block lost to others, and by which its peak lies outside of this state."""
        return sample.taken + max(0.0, 1 - sample.peak / self.low, 1 - self.high / sample.peak)


def commonest_state(samples: Sequence[Sample]) -> State:
    """Return the state that most samples are in; the fastest where there are several."""
    peaks = sorted((sample.peak for sample in samples), reverse=True)
    states = [State(low, low / (1 - SAME_STATE)) for low in peaks]
    return max(states, key=lambda state: sum(state.low <= peak <= state.high for peak in peaks), default=State(0, np.inf))


def counting(lost: Sequence[float]) -> list[int]:
    """Return which of the blocks that have lost such shares count, in their order."""
    n = max(FEWEST, sum(share <= DISTURBED for share in lost))
    return sorted(sorted(range(len(lost)), key=lambda i: lost[i])[:n])


def describe_states(samples: Sequence[Sample], state: State) -> dict[str, Any]:
    """Return how many samples are in the state, and in faster and in slower ones, and their median peak, ready for JSON."""
    peaks = [sample.peak for sample in samples]
    groups = {
        "commonest": [peak for peak in peaks if state.low <= peak <= state.high],
        "faster": [peak for peak in peaks if peak > state.high],
        "slower": [peak for peak in peaks if peak < state.low],
    }
    return {
        name: {"share": len(group) / len(peaks), "flops": statistics.median(group)} for name, group in groups.items() if group
    }


def summary(blocks: Sequence[Sample], state: State) -> dict[str, Any]:
    """Return the median, the tenth percentile and the minimum of the blocks that count, and what disturbed the blocks."""
    lost = [state.lost(block) for block in blocks]
    counted = counting(lost)
    seconds = [blocks[i].seconds for i in counted]
    median, tenth = np.percentile(seconds, (50, 10))
    return {
        "median": median,
        "p10": tenth,
        "minimum": min(seconds),
        "taken": statistics.fmean(block.taken for block in blocks),
        "dropped": len(blocks) - len(counted),
        "disturbed": sum(lost[i] > DISTURBED for i in counted),
    }


def ratio(blocks: Sequence[Sample], of_other: Sequence[Sample], state: State) -> float:
    """Return the median of the ratios of the seconds within a round, in the rounds in which both blocks count."""
    rounds = counting([max(map(state.lost, pair)) for pair in zip(blocks, of_other)])
    return statistics.median(blocks[i].seconds / of_other[i].seconds for i in rounds)
