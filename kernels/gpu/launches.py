"""What runs on the GPU: kernels and products, each with the memory that it reads and writes.

Where nothing is recorded they run at once, on the current stream. `recorded` collects them, and `in_order` says which of them
have to wait for which. Their memory tells that: nothing else is known of an operation.
"""

import dataclasses
import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Any

Range = tuple[int, int]  # addresses: the first byte, and the one behind the last


@dataclasses.dataclass(eq=False)
class Launch:
    """A kernel or a product.

    Parameters
    ----------
    name
        The name of the kernel, or "product".
    arguments
        What the kernel, or `device.product`, is called with.
    run
        A function that launches it on the current stream.
    reads, writes
        The memory that it reads, and the memory that it may read and writes.
    """

    name: str
    arguments: tuple[Any, ...]
    run: Callable[[], object]
    reads: list[Range]
    writes: list[Range]


class _OfThread(threading.local):
    recording: list[Launch] | None = None


_of_thread = _OfThread()


def submit(run: Callable[[], object], described: Callable[[], Launch]) -> None:
    """Run something, or record the Launch that describes it."""
    if _of_thread.recording is None:
        run()
    else:
        _of_thread.recording.append(described())


def recorded(function: Callable[[], object]) -> list[Launch]:
    """Return the launches of a function, in their order. None of them has run."""
    before, _of_thread.recording = _of_thread.recording, []
    try:
        function()
        return _of_thread.recording
    finally:
        _of_thread.recording = before


def memory(arrays: Iterable[Any]) -> list[Range]:
    """Return the memory of arrays."""
    return [(array.data.ptr, array.data.ptr + array.nbytes) for array in arrays if array.nbytes]


def overlap(some: Sequence[Range], others: Sequence[Range]) -> bool:
    """Return whether two lists of memory have a byte in common."""
    return any(first < stop and start < last for first, last in some for start, stop in others)


def in_order(launches: Sequence[Launch]) -> tuple[list[Launch], list[set[int]]]:
    """Sort launches by when they can run at the earliest, and then by how many wait for them, one after another.

    Returns
    -------
    launches, before
        before has for each launch the numbers of those that it has to wait for, without those for which these wait themselves.
    """
    before = waits(launches)
    depths, left = _depths(before), _left(before)
    order = sorted(range(len(launches)), key=lambda i: (depths[i], -left[i]))
    place = {i: k for k, i in enumerate(order)}
    return [launches[i] for i in order], [{place[j] for j in before[i]} for i in order]


def waits(launches: Sequence[Launch]) -> list[set[int]]:
    """Return for each launch the numbers of the earlier ones that it has to wait for, without those for which these wait."""
    before: list[set[int]] = []
    earlier: list[set[int]] = []  # all of them
    for i, launch in enumerate(launches):
        before.append(set())
        earlier.append(set())
        for j in range(i - 1, -1, -1):
            other = launches[j]
            if j not in earlier[i] and (
                overlap(launch.writes, other.writes)
                or overlap(launch.writes, other.reads)
                or overlap(launch.reads, other.writes)
            ):
                before[i].add(j)
                earlier[i] |= earlier[j] | {j}
    return before


def longest_path(before: Sequence[Iterable[int]]) -> int:
    """Return the largest number of launches that wait for one another, where each waits for those of smaller numbers."""
    return max(_depths(before), default=0)


def _depths(before):
    """For each launch the number of those of the longest path that ends with it"""
    depths = []
    for needed in before:
        depths.append(1 + max((depths[j] for j in needed), default=0))
    return depths


def _left(before):
    """For each launch the number of those of the longest path that begins with it"""
    left = [1] * len(before)
    for i in reversed(range(len(before))):
        for j in before[i]:
            left[j] = max(left[j], left[i] + 1)
    return left


def in_lanes(before: Sequence[set[int]], most: int) -> list[int]:
    """Return the number of a lane for each launch, of at most so many lanes. The launches of a lane run one after another.

    What waits for a launch can follow it in its lane. Of several the one does so after which most is left to do.
    """
    left, heirs = _left(before), {}
    for i in sorted(range(len(before)), key=lambda i: left[i]):
        heirs |= dict.fromkeys(before[i], i)
    lanes, last, earlier = [], [], []
    for i, needed in enumerate(before):
        earlier.append(needed.union(*(earlier[j] for j in needed)))
        follows = [lane for lane, j in enumerate(last) if heirs.get(j) == i]
        free = [lane for lane, j in enumerate(last) if j in earlier[i] and heirs.get(j, -1) < i]
        if not (follows or free) and len(last) < most:
            last.append(i)
            lane = len(last) - 1
        else:  # where no lane is free, the launch waits for one that it need not wait for: the earliest
            lane = (follows or free or [last.index(min(last))])[0]
        if last[lane] < i:
            earlier[i] |= earlier[last[lane]] | {last[lane]}
        last[lane] = i
        lanes.append(lane)
    return lanes


def with_lanes(before: Sequence[set[int]], lanes: Sequence[int]) -> list[set[int]]:
    """Return what each launch waits for where it also waits for the previous one of its lane."""
    last: dict[int, int] = {}
    found = []
    for i, (needed, lane) in enumerate(zip(before, lanes, strict=True)):
        found.append(needed | ({last[lane]} if lane in last else set()))
        last[lane] = i
    return found


def run_in_lanes(launches: Sequence[Launch], before: Sequence[set[int]], lanes: Sequence[int], streams: Sequence[Any]) -> None:
    """Run launches on a stream for each lane. Those of the other streams come between what the first stream did and will do."""
    needed = {j for i, of_launch in enumerate(before) for j in of_launch if lanes[j] != lanes[i]}
    started, start, events = {0}, streams[0].record(), {}
    try:
        for i, (launch, lane) in enumerate(zip(launches, lanes, strict=True)):
            stream = streams[lane]
            if lane not in started:
                started.add(lane)
                stream.wait_event(start)
            for j in sorted(before[i]):
                if lanes[j] != lane:
                    stream.wait_event(events[j])
            with stream:
                launch.run()
            if i in needed:
                events[i] = stream.record()
    finally:  # also what was launched before an interruption
        for lane in started - {0}:
            streams[0].wait_event(streams[lane].record())
