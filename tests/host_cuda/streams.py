"""Streams, events and graphs, and the calls that wait for the device.

Work that is submitted to a stream is done at once. Within `late` it is done only when something waits for it. While the stream
captures a graph, it becomes part of the graph, and is done when the graph is launched.
"""

import collections
import contextlib
import itertools
import threading
import weakref
from collections.abc import Callable, Iterator

import numpy as np

from tests.host_cuda.errors import CUDARuntimeError
from tests.host_cuda.memory import Allocation, allocations, memory_at
from tests.host_cuda.settings import changed, settings

Operation = Callable[[], object]  # a piece of work

addresses = itertools.count(16, 16)  # for what CUDA and cuBLAS name by an address: streams, and handles
_streams: weakref.WeakValueDictionary[int, "Stream"] = weakref.WeakValueDictionary()  # by their addresses
_at_work: set["Stream"] = set()  # the streams that have not done all their work
_captures: list["Graph"] = []  # the graphs that are being captured
_after_submission: list[Callable[["Stream"], object]] = []
_synchronisations = 0


class _OfThread(threading.local):
    """What each thread of the host has of its own."""

    def __init__(self):
        self.current: Stream = null
        self.around: list[Stream] = []  # the streams of the `with` blocks around the current one
        self.in_callback = False


class Stream:
    """A stream. Its work, and that of the null stream, wait for one another unless it is non-blocking."""

    null: "Stream"

    def __init__(self, null: bool = False, non_blocking: bool = False, ptds: bool = False) -> None:
        self.ptr = 0 if null else next(addresses)
        self.waits_for_null = not non_blocking
        # While it captures: the graph, and the numbers of those operations of it that precede the next one of this stream.
        self.graph: Graph | None = None
        self.past: set[int] = set()
        # Work that is not done yet: what it waits for, the operation, and arrays that must exist until then.
        self._queue: collections.deque[tuple[list[tuple[Stream, int]], Operation, list[Allocation]]] = collections.deque()
        self._submitted, self._done = 0, 0
        _streams[self.ptr] = self

    def __enter__(self) -> "Stream":
        _of_thread.around.append(_of_thread.current)
        return self.use()

    def __exit__(self, *_: object) -> None:
        _of_thread.around.pop().use()

    def use(self) -> "Stream":
        _of_thread.current = self
        return self

    def submit(self, operation: Operation) -> None:
        """Do the operation, or put it into the queue within `late`."""
        if not settings.late:
            operation()
            return
        others = list(_streams.values()) if self.ptr == 0 else [null]
        before = [(stream, stream._submitted) for stream in others if self.waits_for_null and stream.waits_for_null]
        self._queue.append((before, operation, allocations()))
        self._submitted += 1
        _at_work.add(self)

    def finish(self, n: int | None = None) -> None:
        """Do the first n operations that were ever submitted, or all, and before each one what it waits for."""
        if n is None:
            self.submit(lambda: None)  # it waits for the null stream
            n = self._submitted
        while self._done < n:
            before, operation, _ = self._queue.popleft()
            self._done += 1
            for stream, m in before:
                stream.finish(m)
            operation()
        if not self._queue:
            _at_work.discard(self)

    def forget(self) -> None:
        """Drop the work that is not done."""
        self._queue.clear()
        self._done = self._submitted

    def synchronize(self) -> None:
        synchronise("Stream.synchronize", self)

    def record(self, event: "Event | None" = None) -> "Event":
        event = event or Event()
        event.graph, event.past, event.after = self.graph, set(self.past), (self, self._submitted)
        return event

    def wait_event(self, event: "Event") -> None:
        if event.graph is not self.graph:
            if self.graph or event.graph not in _captures:
                raise CUDARuntimeError("cudaErrorStreamCaptureIsolation: the event does not belong to the capture")
            self.graph = event.graph
            self.graph.streams.append(self)
        self.past |= event.past
        if event.graph is None and event.after:
            stream, n = event.after
            self.submit(lambda: stream.finish(n))

    def begin_capture(self, mode: int | None = None) -> None:
        if self.ptr == 0:
            raise RuntimeError("cannot capture on the default (legacy) stream")
        refuse_in_capture("another capture")
        if self.graph:
            raise CUDARuntimeError("cudaErrorIllegalState: the stream already captures a graph")
        self.graph = Graph(self)
        _captures.append(self.graph)

    def end_capture(self) -> "Graph":
        graph, past = self.graph, self.past
        if graph is None or graph.streams[0] is not self:
            raise CUDARuntimeError("cudaErrorIllegalState: no capture began on this stream")
        _captures.remove(graph)
        for stream in graph.streams:
            stream.graph, stream.past = None, set()
        graph.streams.clear()
        if len(past) < len(graph.operations):
            raise CUDARuntimeError("cudaErrorStreamCaptureUnjoined: a stream did not join the one on which the capture began")
        return graph

    def is_capturing(self) -> bool:
        return self.graph is not None


class Graph:
    """What was submitted to streams while they captured it. The first stream is the one on which the capture began."""

    def __init__(self, origin: Stream) -> None:
        self.streams, self.thread = [origin], threading.get_ident()
        self.operations: list[Operation] = []

    def launch(self, stream: Stream | None = None) -> None:
        refuse_in_capture("the launch of a graph")
        for operation in self.operations:
            submit(operation, stream)


class Event:
    """A point in the work of a stream, for which others can wait."""

    def __init__(self, block: bool = False, disable_timing: bool = False, interprocess: bool = False) -> None:
        self.graph: Graph | None = None
        self.past: set[int] = set()
        self.after: tuple[Stream, int] | None = None  # the stream, and how much had been submitted to it

    def record(self, stream: Stream | None = None) -> None:
        (stream or get_current_stream()).record(self)

    def synchronize(self) -> None:
        synchronise("Event.synchronize")
        if self.after:
            stream, n = self.after
            stream.finish(n)


null = Stream.null = Stream(null=True)
_of_thread = _OfThread()


def get_current_stream() -> Stream:
    return _of_thread.current


def stream_at(address: int) -> Stream:
    return _streams[address]


def submit(operation: Operation, stream: Stream | None = None) -> None:
    """Give an operation to a stream, or to the current one."""
    stream = stream or get_current_stream()
    if stream.graph:
        stream.past.add(len(stream.graph.operations))
        stream.graph.operations.append(operation)
    else:
        refuse_in_capture("work on a stream outside the capture")
        if stream.ptr == 0 and any(captured.waits_for_null for graph in _captures for captured in graph.streams):
            raise CUDARuntimeError("cudaErrorStreamCaptureImplicit: the null stream would wait for a stream that captures")
        stream.submit(operation)
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


@contextlib.contextmanager
def late() -> Iterator[None]:
    """Within it work is done as late as CUDA may do it: when something waits for it, and then no more than that needs.

    Code that forgets an event, or uses the wrong stream, then reads what is not there yet.
    """
    try:
        with changed(late=True):
            yield
        for stream in list(_at_work):
            stream.finish()
    finally:
        for stream in _at_work:
            stream.forget()
        _at_work.clear()


def refuse_in_capture(what: str) -> None:
    """Raise CUDARuntimeError if this thread captures a graph. CUDA refuses the same, except in the mode "relaxed"."""
    if any(graph.thread == threading.get_ident() for graph in _captures):
        raise CUDARuntimeError(f"cudaErrorStreamCaptureUnsupported: {what} is not allowed while a stream captures a graph")


def forget_captures() -> None:
    """End all captures that have not come to their end."""
    _captures.clear()


def synchronise(what: str, *streams: Stream) -> None:
    """Let the host wait until streams have done all their work. what: the call that waits."""
    global _synchronisations
    refuse_in_capture(what)
    _synchronisations += 1
    for stream in streams:
        stream.finish()


def synchronisations() -> int:
    """Return how often the host has waited for the device."""
    return _synchronisations


def device_synchronize() -> None:
    synchronise("Device.synchronize", *_at_work)


class Device:
    """The only device, number 0."""

    id, compute_capability = 0, "90"

    def __init__(self, device: int = 0) -> None:
        if device:
            raise CUDARuntimeError("cudaErrorInvalidDevice: invalid device ordinal")

    def synchronize(self) -> None:
        device_synchronize()


MEMCPY_DEVICE_TO_DEVICE, MEMCPY_DEFAULT = 3, 4


def memcpyAsync(dst: int, src: int, size: int, kind: int, stream: int) -> None:
    if kind not in (MEMCPY_DEVICE_TO_DEVICE, MEMCPY_DEFAULT):
        raise CUDARuntimeError("the stand-in can only copy from the device to the device")
    submit(lambda: np.copyto(memory_at(dst, size), memory_at(src, size)), stream_at(stream))


def memsetAsync(ptr: int, value: int, size: int, stream: int) -> None:
    submit(lambda: memory_at(ptr, size).fill(value), stream_at(stream))
