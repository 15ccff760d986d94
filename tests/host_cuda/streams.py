"""Streams, events and graphs, and the calls that wait for the device.

Work that is submitted to a stream is done at once. Within `late` it is done when something waits for it, in an order that
streams and events allow. While the stream captures a graph, it becomes part of the graph, and is done when the graph is
launched.
"""

import collections
import contextlib
import itertools
import random
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator

import numpy as np

from tests.host_cuda.errors import CUDARuntimeError, because
from tests.host_cuda.memory import Allocation, allocations, memory_at
from tests.host_cuda.settings import changed, settings

Operation = Callable[[], object]  # what a piece of work does

NULL, PER_THREAD = 0, 2  # the addresses of the null stream, and of each thread's own default stream
GLOBAL, THREAD_LOCAL, RELAXED = 0, 1, 2  # the modes of a capture
addresses = itertools.count(16, 16)  # for what CUDA and cuBLAS name by an address: streams, and handles
_synchronisations = 0


# ---------------------------------------------------------------------------------------------------- work, and its order


class Work:
    """A piece of work of a stream that is not done yet, and comes after other pieces."""

    def __init__(self, operation: Operation, before: Iterable["Work | None"], queue: "Queue") -> None:
        self.operation, self.number = operation, next(_numbers)
        self.queue: Queue | None = queue  # it exists until then, also where its thread has ended
        self.memory = allocations()  # these arrays must exist until it is done
        self.before = {work for work in before if work in _pending}
        self.after: list[Work] = []
        for work in self.before:
            work.after.append(self)
        _pending.add(self)
        if not self.before:
            _ready.append(self)

    def do(self) -> None:
        _pending.remove(self)
        _ready.remove(self)
        self.operation()
        for work in self.after:
            work.before.remove(self)
            if not work.before:
                _ready.append(work)
        self.after, self.memory, self.queue = [], [], None


_numbers = itertools.count()
_pending: set[Work] = set()
_ready: list[Work] = []  # those that wait for no other


def _finish(works: Iterable[Work | None]) -> None:
    """Do these pieces of work, and before each one what it waits for."""
    needed, found = set(), [work for work in works if work in _pending]
    while found:
        work = found.pop()
        if work not in needed:
            needed.add(work)
            found += work.before
    while needed:
        if isinstance(settings.late, random.Random):  # any that may be done, also those that nothing waits for
            work = settings.late.choice(_ready)
        else:  # the one that was submitted last
            work = max((work for work in _ready if work in needed), key=lambda work: work.number)
        needed.discard(work)
        work.do()


def _nothing() -> None:
    pass


# ------------------------------------------------------------------------------------------------------ streams and events


class Queue:
    """A stream as the device sees it. Its work, and that of the null stream, wait for one another unless it is non-blocking."""

    def __init__(self, waits_for_null: bool = True) -> None:
        self.waits_for_null = waits_for_null
        self.last: Work | None = None
        # While it captures: the graph, and the numbers of those operations of it that directly precede the next one.
        self.graph: Graph | None = None
        self.past: set[int] = set()
        _queues.add(self)

    def submit(self, operation: Operation, *before: Work | None) -> Work:
        others = [null] if self is not null else _queues
        implicit = [queue.last for queue in others if self.waits_for_null and queue.waits_for_null]
        self.last = Work(operation, [self.last, *implicit, *before], self)
        return self.last


_queues: weakref.WeakSet[Queue] = weakref.WeakSet()
null = Queue()


class _OfThread(threading.local):
    """What each thread of the host has of its own."""

    def __init__(self):
        self.queue = Queue()
        self.current: Stream = Stream.null
        self.around: list[Stream] = []  # the streams of the `with` blocks around the current one
        self.in_callback = False


class Stream:
    """A stream as CuPy shows it."""

    null: "Stream"
    ptds: "Stream"

    def __init__(self, null: bool = False, non_blocking: bool = False, ptds: bool = False, priority: int | None = None) -> None:
        self.ptr = NULL if null else PER_THREAD if ptds else next(addresses)
        self._queue = None if null or ptds else Queue(not non_blocking)
        _streams.setdefault(self.ptr, self)

    @property
    def queue(self) -> Queue:
        if self._queue:
            return self._queue
        return null if self.ptr == NULL else _of_thread.queue

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Stream) and self.ptr == other.ptr

    def __hash__(self) -> int:
        return self.ptr

    def __enter__(self) -> "Stream":
        _of_thread.around.append(_of_thread.current)
        return self.use()

    def __exit__(self, *_: object) -> None:
        _of_thread.around.pop().use()

    def use(self) -> "Stream":
        _of_thread.current = self
        return self

    def synchronize(self) -> None:
        self.check_not_capturing("Stream.synchronize")
        synchronise(self)

    def record(self, event: "Event | None" = None) -> "Event":
        event = event or Event()
        event.record(self)
        return event

    def wait_event(self, event: "Event") -> None:
        queue, graph = self.queue, event.graph
        if graph is not queue.graph:
            if queue.graph:
                raise queue.graph.fail(CUDARuntimeError(902 if graph in _captures else 905), "the event is of other work")
            if graph not in _captures:
                raise because(CUDARuntimeError(907), "the event belongs to a capture that has ended")
            if queue is null:
                raise graph.fail(CUDARuntimeError(906), "the null stream cannot be captured")
            queue.graph = graph
            graph.queues.append(queue)
        if graph:
            queue.past = queue.past | event.past
        elif event.work in _pending:
            queue.submit(_nothing, event.work)

    def begin_capture(self, mode: int | None = None) -> None:
        if self.ptr == NULL:
            raise RuntimeError("cannot capture on the default (legacy) stream")
        if self.queue.graph:
            raise because(CUDARuntimeError(401), "the stream already captures a graph")
        self.queue.graph = Graph._of(self.queue, RELAXED if mode is None else mode)
        _captures.append(self.queue.graph)

    def end_capture(self) -> "Graph":
        graph, past = self.queue.graph, self.queue.past
        if graph is None:
            raise because(CUDARuntimeError(401), "the stream captures no graph")
        if graph.queues[0] is not self.queue:
            raise graph.fail(CUDARuntimeError(903), "the capture began on another stream")
        _captures.remove(graph)
        for queue in graph.queues:
            queue.graph, queue.past = None, set()
        graph.queues.clear()
        if graph.failed:
            raise because(CUDARuntimeError(901), graph.failed)
        joined, found = set(), list(past)
        while found:
            node = found.pop()
            if node not in joined:
                joined.add(node)
                found += graph.nodes[node][1]
        if len(joined) < len(graph.nodes):
            raise because(CUDARuntimeError(904), "a stream did not join the one on which the capture began")
        return graph

    def is_capturing(self) -> bool:
        self.check_implicit("Stream.is_capturing")
        if self.queue.graph and self.queue.graph.failed:
            raise RuntimeError("the stream was capturing, but an error has invalidated the capture sequence")
        return self.queue.graph is not None

    def check_not_capturing(self, what: str) -> None:
        """Raise CUDARuntimeError if it captures a graph, which then fails: CUDA refuses `what` on such a stream."""
        if self.queue.graph:
            raise self.queue.graph.fail(CUDARuntimeError(900), f"{what} is not allowed on a stream that captures a graph")
        self.check_implicit(what)

    def check_implicit(self, what: str) -> None:
        """Raise CUDARuntimeError if it is the null stream, and waits for a stream that captures a graph."""
        if self.queue is null:
            for graph in _captures:
                if any(queue.waits_for_null for queue in graph.queues):
                    raise graph.fail(CUDARuntimeError(906), f"{what}: the null stream would wait for a stream that captures")


class Event:
    """A point in the work of a stream, for which others can wait."""

    def __init__(self, block: bool = False, disable_timing: bool = False, interprocess: bool = False) -> None:
        self.graph: Graph | None = None
        self.past: set[int] = set()
        self.work: Work | None = None

    def record(self, stream: Stream | None = None) -> None:
        stream = stream or get_current_stream()
        stream.check_implicit("Event.record")
        queue = stream.queue
        self.graph, self.past = queue.graph, queue.past
        self.work = queue.submit(_nothing) if settings.late and not queue.graph else None

    def synchronize(self) -> None:
        if self.graph:
            raise because(CUDARuntimeError(907), "the event was recorded in a capture")
        _count_synchronisation()
        _finish([self.work])


class Graph:
    """What was submitted to streams while they captured it."""

    nodes: list[tuple[Operation, set[int]]]  # operations, each with the numbers of those that it directly comes after
    queues: list[Queue]  # those that capture it; the capture began on the first one
    mode: int
    thread: int
    failed: str  # why the capture has become invalid
    last: Work | None  # what its latest launch ends with: a graph does not run beside itself

    def __init__(self, *args: object, **kwargs: object) -> None:
        raise NotImplementedError("currently this class cannot be initiated by the user")

    @classmethod
    def _of(cls, queue: Queue, mode: int) -> "Graph":
        graph = cls.__new__(cls)
        graph.nodes, graph.queues, graph.mode, graph.thread = [], [queue], mode, threading.get_ident()
        graph.failed, graph.last = "", None
        return graph

    def fail(self, error: RuntimeError, reason: str) -> RuntimeError:
        """Make the capture invalid, and return the error with its reason."""
        self.failed = reason
        return because(error, reason)

    def add(self, operation: Operation, queue: Queue) -> None:
        self.nodes.append((operation, queue.past))
        queue.past = {len(self.nodes) - 1}

    def launch(self, stream: Stream | None = None) -> None:
        stream = stream or get_current_stream()
        stream.check_not_capturing("the launch of a graph")
        if settings.late:
            first, works = stream.queue.submit(_nothing, self.last), []
            for operation, before in self.nodes:
                works.append(Work(operation, [works[i] for i in before] or [first], stream.queue))
            self.last = stream.queue.submit(_nothing, *works)
        else:
            for operation, _ in self.nodes:
                operation()
        _tell(stream)


_captures: list[Graph] = []  # the graphs that are being captured
_streams: weakref.WeakValueDictionary[int, Stream] = weakref.WeakValueDictionary()  # by their addresses
Stream.null, Stream.ptds = Stream(null=True), Stream(ptds=True)
_of_thread = _OfThread()


def get_current_stream(device_id: int = -1) -> Stream:
    return _of_thread.current


def stream_at(address: int) -> Stream:
    if address not in _streams:
        raise because(CUDARuntimeError(400), f"no stream has the address {address}")
    return _streams[address]


def refuse_in_capture(what: str) -> None:
    """Raise CUDARuntimeError if the mode of a capture forbids this thread what CUDA calls potentially unsafe."""
    for graph in _captures:
        own = graph.thread == threading.get_ident()
        if graph.mode == GLOBAL or (graph.mode == THREAD_LOCAL and own):
            raise graph.fail(CUDARuntimeError(900), f"{what} is not allowed in the mode of this capture")


def forget_captures() -> None:
    """End all captures that have not come to their end."""
    for graph in _captures:
        for queue in graph.queues:
            queue.graph, queue.past = None, set()
    _captures.clear()


# ------------------------------------------------------------------------------------------- submissions, and who is told

_after_submission: list[Callable[[Stream], object]] = []
_freed: collections.deque[tuple[Allocation, Queue]] = collections.deque()


def submit(operation: Operation, stream: Stream | None = None) -> None:
    """Give an operation to a stream, or to the current one."""
    stream = stream or get_current_stream()
    queue = stream.queue
    stream.check_implicit("work")
    reuse_freed_memory()
    if queue.graph:
        if queue.graph.failed:
            raise because(CUDARuntimeError(901), queue.graph.failed)
        queue.graph.add(operation, queue)
    elif settings.late:
        queue.submit(operation)
    else:
        operation()
    _tell(stream)


def _tell(stream: Stream) -> None:
    """Call the functions of `after_each_submission`."""
    if _after_submission and not _of_thread.in_callback:
        _of_thread.in_callback = True
        try:
            for function in _after_submission:
                function(stream)
        finally:
            _of_thread.in_callback = False


@contextlib.contextmanager
def after_each_submission(function: Callable[[Stream], object]) -> Iterator[None]:
    """Within it the function is called with the stream each time something is submitted, but not for what it submits itself."""
    _after_submission.append(function)
    try:
        yield
    finally:
        _after_submission.remove(function)


def free(allocation: Allocation, queue: Queue) -> None:
    """Take note that the memory of an array is free: CuPy gives it to the next array on the stream where it was made."""
    if settings.late:
        _freed.append((allocation, queue))


def reuse_freed_memory() -> None:
    """Submit what the next array of the same stream may do to memory that is free: write into it."""
    while _freed:
        allocation, queue = _freed.popleft()
        if not queue.graph:
            queue.submit(allocation.clear)


@contextlib.contextmanager
def late(seed: int | None = None) -> Iterator[None]:
    """Within it work is done when something waits for it, in an order that streams and events allow.

    Code that forgets an event, or uses the wrong stream, then reads what is not there yet. The memory of an array that is freed
    is overwritten, in the order of the stream on which it was made.

    Parameters
    ----------
    seed
        None: work is done as late as CUDA may do it, and no more of it than is needed. A number: each time any piece of work
        that waits for no other is drawn, and done, until what is needed is done.
    """
    try:
        with changed(late=True if seed is None else random.Random(seed)):
            yield
            _finish(list(_pending))
    finally:
        _pending.clear()
        _ready.clear()
        _freed.clear()


# ------------------------------------------------------------------------------------------------------- calls that wait


def _count_synchronisation() -> None:
    global _synchronisations
    _synchronisations += 1


def synchronise(stream: Stream) -> None:
    """Let the host wait until a stream has done all its work."""
    _count_synchronisation()
    reuse_freed_memory()
    if settings.late:
        _finish([stream.queue.submit(_nothing)])


def synchronisations() -> int:
    """Return how often the host has waited for the device."""
    return _synchronisations


def device_synchronize() -> None:
    for graph in _captures:
        raise graph.fail(CUDARuntimeError(900), "Device.synchronize would wait for a stream that captures a graph")
    _count_synchronisation()
    _finish(list(_pending))


class Device:
    """The only device, number 0."""

    id, compute_capability = 0, "90"

    def __init__(self, device: int | None = None) -> None:
        if device:
            raise CUDARuntimeError(101)

    def synchronize(self) -> None:
        device_synchronize()


MEMCPY_DEVICE_TO_DEVICE, MEMCPY_DEFAULT = 3, 4


def memcpyAsync(dst: int, src: int, size: int, kind: int, stream: int) -> None:
    if kind not in (MEMCPY_DEVICE_TO_DEVICE, MEMCPY_DEFAULT):
        raise NotImplementedError("the stand-in can only copy from the device to the device")
    submit(lambda: np.copyto(memory_at(dst, size), memory_at(src, size)), stream_at(stream))


def memsetAsync(ptr: int, value: int, size: int, stream: int) -> None:
    submit(lambda: memory_at(ptr, size).fill(value), stream_at(stream))
