"""Streams, events and graphs."""

import contextlib
import itertools
import threading

import numpy as np
import pytest

from tests import host_cuda as cp
from tests.host_cuda import streams
from tests.host_cuda.tests.sources import kernel, module


@pytest.fixture(autouse=True)
def no_capture_remains():
    yield
    streams.forget_captures()


def test_a_graph_runs_when_it_is_launched():
    add = module(kernel("x[t] += by;", "float* x, float by")).get_function("kernel")
    x, y = cp.zeros(8, np.float32), cp.zeros(8, np.float32)
    stream = cp.Stream(non_blocking=True)
    with stream:
        stream.begin_capture()
        add((1,), (8,), (x, np.float32(2)))
        cp.memcpyAsync(y.data.ptr, x.data.ptr, x.nbytes, 3, stream.ptr)
        x *= 3
        assert stream.is_capturing() and cp.get_current_stream() is stream
        graph = stream.end_capture()
    assert not stream.is_capturing() and not x.get().any()
    for expected in (6, 24):
        graph.launch(stream)
        assert (x.get() == expected).all() and (y.get() == expected / 3).all()
    with pytest.raises(RuntimeError, match="default"):
        cp.get_current_stream().begin_capture()


def captures(mode=None):
    """A stream that captures a graph."""
    stream = cp.Stream(non_blocking=True)
    stream.begin_capture(mode)
    return stream


def test_cupy_refuses_transfers_on_a_stream_that_captures_and_the_capture_goes_on():
    x = cp.zeros(8)
    stream = captures()
    with stream:
        for transfer in (x.get, lambda: float(x[0]), lambda: x.set(np.zeros(8)), lambda: cp.asarray(np.zeros(8))):
            with pytest.raises(RuntimeError, match="the current stream is capturing, so (H2D|D2H) transfers are disallowed"):
                transfer()
        x += 1
    assert not x.get().any()  # on the null stream, which takes no part
    x.set(np.ones(8), cp.Stream())
    stream.end_capture().launch()
    assert (x.get() == 2).all()


REFUSED = {
    "a wait of the host": lambda stream: stream.synchronize(),
    "a wait for the device": lambda stream: cp.Device().synchronize(),
    "a graph": lambda stream: finished(captures()).launch(stream),
    "a wait for work of another capture": lambda stream: stream.wait_event(captures().record()),
    "a wait for work that is not captured": lambda stream: stream.wait_event(cp.Stream().record()),
    "a wait of the null stream": lambda stream: cp.Stream.null.wait_event(stream.record()),
}


def finished(stream):
    return stream.end_capture()


@pytest.mark.parametrize("what", REFUSED)
def test_what_cuda_refuses_makes_the_capture_invalid(what):
    stream, x = captures(), cp.zeros(8)
    with pytest.raises(cp.CUDARuntimeError, match="cudaErrorStreamCapture"):
        REFUSED[what](stream)
    with stream, pytest.raises(cp.CUDARuntimeError, match="cudaErrorStreamCaptureInvalidated"):
        x.fill(1)
    with pytest.raises(RuntimeError, match="has invalidated the capture sequence"):
        stream.is_capturing()
    with pytest.raises(cp.CUDARuntimeError, match="cudaErrorStreamCaptureInvalidated"):
        stream.end_capture()
    stream.begin_capture()
    stream.end_capture()


@pytest.mark.parametrize("mode", [None, 0, 1, 2])
@pytest.mark.parametrize("by_another_thread", [False, True])
def test_a_mode_says_who_may_allocate_during_a_capture(mode, by_another_thread):
    """CuPy captures in the mode "relaxed" (2), where everybody may."""
    stream, refused = captures(mode), []

    def allocate():
        try:
            cp.empty(3)
        except cp.CUDARuntimeError as error:
            refused.append(error.status)

    if by_another_thread:
        thread = threading.Thread(target=allocate)
        thread.start()
        thread.join()
    else:
        with stream:
            allocate()
    assert refused == ([900] if mode == 0 or (mode == 1 and not by_another_thread) else [])
    with pytest.raises(cp.CUDARuntimeError, match="Invalidated") if refused else contextlib.nullcontext():
        stream.end_capture()


def test_memory_that_is_freed_after_a_capture_is_not_there_when_the_graph_runs():
    add = module(kernel("x[t] += y[t];", "float* x, const float* y")).get_function("kernel")
    x = cp.zeros(8, np.float32)
    with captures() as stream:
        add((1,), (8,), (x, cp.empty(8, np.float32)))
    with pytest.raises(cp.KernelFault, match="where no array is"):
        stream.end_capture().launch()


def test_work_on_another_stream_is_no_part_of_a_capture():
    x, other = cp.zeros(8), cp.Stream()
    with captures() as stream:
        x += 1
        with other:
            x += 2
        other.synchronize()
    assert (x.get() == 2).all()
    graph = stream.end_capture()
    graph.launch()
    graph.launch()
    assert (x.get() == 4).all()


def test_a_capture_forks_and_has_to_join():
    x, one, other = cp.zeros(8, np.float32), cp.Stream(non_blocking=True), cp.Stream(non_blocking=True)

    def captured(x, joins):
        with one:
            one.begin_capture()
            x += 1
            other.wait_event(one.record())
            with other:
                x *= 2
            if joins:
                one.wait_event(other.record())
                x += 5
            return one.end_capture()

    graph = captured(x, joins=True)
    with pytest.raises(cp.CUDARuntimeError, match="Unjoined"):
        captured(x, joins=False)
    graph.launch()
    assert (x.get() == 7).all() and not other.is_capturing()


def test_a_stream_that_is_capturing_takes_no_other_capture_and_the_work_of_any_thread():
    x, stream, refused = cp.zeros(8, np.float32), cp.Stream(non_blocking=True), []

    def other():
        try:
            stream.begin_capture()
        except cp.CUDARuntimeError as error:
            refused.append(error.status)
        with stream:
            x.fill(3)

    stream.begin_capture()
    thread = threading.Thread(target=other)
    thread.start()
    thread.join()
    graph = stream.end_capture()
    assert refused == [401] and not x.get().any()
    graph.launch(stream)
    assert (x.get() == 3).all()


def test_the_null_stream_does_not_wait_for_a_capture():
    """If the null stream and the capturing one wait for each other, no thread may use the null stream."""
    for blocking in (False, True):
        stream, x, refused = cp.Stream(non_blocking=not blocking), cp.zeros(8, np.float32), []

        def other():
            try:
                x.fill(3)
            except cp.CUDARuntimeError as error:
                refused.append(error.status)

        stream.begin_capture()
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
        assert refused == [906] * blocking
        streams.forget_captures()
        assert x.get().any() != blocking


def test_each_thread_has_a_current_stream_of_its_own():
    stream, entered, seen = cp.Stream(), threading.Event(), []

    def other():
        entered.wait()
        with stream:
            seen.append(cp.get_current_stream())
        seen.append(cp.get_current_stream())

    thread = threading.Thread(target=other)
    thread.start()
    with cp.Stream() as outer, stream:
        entered.set()
        thread.join()
        assert cp.get_current_stream() is stream
    assert seen == [stream, cp.Stream.null] and cp.get_current_stream() is cp.Stream.null is not outer


# What two streams do between the work of the first one and that of the second one, and whether the second one then waits.
# Within `late` work is done in the order that streams and events demand, and not before something waits for it.
EVENTS = {
    "none": (lambda one, other: None, False),
    "an event": (lambda one, other: other.wait_event(one.record()), True),
    "an event of an object": (lambda one, other: (event := cp.Event()).record(one) or other.wait_event(event), True),
    "an event recorded too early": (None, False),
    "a wait of the host": (lambda one, other: one.synchronize(), True),
    "a wait for the device": (lambda one, other: cp.Device().synchronize(), True),
    "a wait of the host for the wrong stream": (lambda one, other: other.synchronize(), False),
}


@pytest.mark.parametrize("between", EVENTS)
def test_a_missing_event_is_seen_where_work_is_done_late(between):
    join, right = EVENTS[between]
    with cp.late():
        one, other = cp.Stream(non_blocking=True), cp.Stream(non_blocking=True)
        cp.Device().synchronize()
        early = one.record()
        with one:
            x = cp.full(8, 3.0)
        (join or (lambda one, other: other.wait_event(early)))(one, other)
        with other:
            assert (x.get() == 3).all() == right
        with one:
            assert (x.get() == 3).all()


@pytest.mark.parametrize("blocking", [True, False])
@pytest.mark.parametrize("on_null", [True, False])
def test_the_null_stream_and_blocking_ones_wait_for_one_another(blocking, on_null):
    with cp.late():
        stream, x = cp.Stream(non_blocking=not blocking), cp.full(8, 1.0)
        with stream:
            y = x + 1
        with cp.Stream.null if on_null else stream:
            assert (y.get() == 2).all() == blocking


def test_what_is_done_late_is_what_was_submitted():
    """Meanwhile an array of the host may change, an array of the device may be freed, and an error may end the block."""
    host, add = np.ones(8, np.float32), module(kernel("x[t] += y[t];", "float* x, const float* y")).get_function("kernel")
    with cp.late():
        x = cp.asarray(host)
        y = cp.asarray(host)
        host[:] = 5
        add((1,), (8,), (x, y))
        del y
        assert (x.get() == 2).all()
        x.set(host)
        host[:] = 7
        x += 1
        assert (x.get() == 6).all()
        unread = cp.zeros(8)
        assert np.isnan(unread._host).all()
    assert not unread._host.any()
    with pytest.raises(cp.KernelFault), cp.late():
        add((1,), (9,), (x, cp.zeros(9, np.float32)))
    assert (x.get() == 6).all()


def test_a_stream_can_be_used_again_after_an_error():
    stream, x = cp.Stream(), cp.zeros(8)
    with pytest.raises(ZeroDivisionError), cp.late(), stream:
        x += 1
        raise ZeroDivisionError
    with cp.late(), stream:
        x += 2
        assert (x.get() == 2).all()


def test_a_graph_is_done_late_on_the_stream_of_its_launch():
    with cp.late():
        one, other, x = cp.Stream(non_blocking=True), cp.Stream(non_blocking=True), cp.zeros(8)
        cp.Device().synchronize()
        with one:
            one.begin_capture()
            x += 1
            graph = one.end_capture()
        graph.launch(other)
        one.synchronize()
        assert not x._host.any()
        other.synchronize()
        assert (x._host == 1).all()


def test_a_graph_does_not_run_beside_itself():
    one, other, x = (*(cp.Stream(non_blocking=True) for _ in range(2)), cp.zeros(8))
    with one:
        one.begin_capture()
        x += 1
        x *= 2
        graph = one.end_capture()
    for seed in range(5):
        x.fill(0)
        with cp.late(seed):
            graph.launch(one)
            graph.launch(other)
            other.synchronize()
            assert (x._host == 6).all()


def forked(joins):
    """A graph with two branches, which write into x and y. Where they do not join, the second branch is read too early."""
    one, other = cp.Stream(non_blocking=True), cp.Stream(non_blocking=True)
    x, y = cp.zeros(8), cp.zeros(8)
    with one:
        one.begin_capture()
        fork = one.record()
        other.wait_event(fork)
        x += 1
        with other:
            y += 1
        if joins:
            one.wait_event(other.record())
        x += 2 * y
        if not joins:
            one.wait_event(other.record())
        return one.end_capture(), x, y


def test_branches_of_a_graph_run_in_every_order_and_a_missing_join_is_seen():
    found = {joins: set() for joins in (True, False)}
    for joins, seed in itertools.product(found, (None, *range(8))):
        with cp.late(seed):
            graph, x, _ = forked(joins)
            graph.launch()
            found[joins].add(float(x[0]))
    assert found == {True: {3}, False: {1, 3}}


def test_work_is_done_in_every_order_that_streams_allow():
    """Two streams of two pieces each can be interleaved in six ways, and what nothing waits for may be done or not."""
    orders = set()
    for seed in range(200):
        done = []
        with cp.late(seed):
            one, other = (cp.Stream(non_blocking=True) for _ in range(2))
            for name, stream in itertools.product("ab", (one, other)):
                streams.submit(lambda text=f"{name}{stream is one:d}": done.append(text), stream)
            one.synchronize()
            orders.add(tuple(done))
    of_one = ("a1", "b1")
    for n in range(3):
        for places in itertools.combinations(range(n + 2), 2):
            rest = iter(("a0", "b0"))
            order = tuple(of_one[places.index(i)] if i in places else next(rest) for i in range(n + 2))
            assert order in orders, order
            orders.remove(order)
    assert not orders


def test_the_same_seed_gives_the_same_order():
    def order(seed):
        done = []
        with cp.late(seed):
            for i in range(20):
                streams.submit(lambda i=i: done.append(i), cp.Stream(non_blocking=True))
            cp.Device().synchronize()
        return done

    assert order(1) == order(1) != order(2) and order(None) == list(range(19, -1, -1))


def test_memory_that_is_freed_too_early_is_overwritten():
    """It is free in the order of the stream on which it was made. Another stream has to be waited for before."""
    for waits in (False, True):
        with cp.late():
            other = cp.Stream(non_blocking=True)
            x = cp.full(8, 3.0)
            other.wait_event(cp.Stream.null.record())
            with other:
                y = cp.empty(8)
                y[...] = x
            if waits:
                cp.Stream.null.wait_event(other.record())
            del x
            cp.Stream.null.synchronize()
            with other:
                assert (y.get() == 3).all() == waits


def test_each_thread_has_a_default_stream_of_its_own():
    """Their address is the same."""
    entered, seen = threading.Event(), []
    with cp.late():
        x = cp.zeros(8)
        cp.Device().synchronize()

        def other():
            with cp.Stream(ptds=True):
                x.fill(1)
                entered.set()
                assert cp.get_current_stream() == cp.Stream.ptds

        thread = threading.Thread(target=other)
        thread.start()
        entered.wait()
        with cp.Stream.ptds as own:
            own.synchronize()
            seen.append(x._host.any())
        cp.Stream.null.synchronize()
        seen.append(x._host.any())
        thread.join()
    assert seen == [False, True] and cp.Stream.ptds.ptr == 2 and hash(cp.Stream.ptds) == 2


def test_a_copy_to_the_host_that_does_not_block_is_done_late():
    with cp.late():
        x, out = cp.full(8, 3.0), np.zeros(8)
        assert x.get(out=out, blocking=False) is out and not out.any()
        cp.Stream.null.synchronize()
        assert (out == 3).all()
