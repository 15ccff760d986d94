"""Streams, events and graphs."""

import threading

import numpy as np
import pytest

from tests import host_cuda as cp
from tests.host_cuda.tests.sources import kernel, module


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
        for refused in (
            lambda: cp.empty(3),
            lambda: x + 1,
            x.get,
            lambda: float(x),
            stream.synchronize,
            lambda: x.set(np.zeros(8, np.float32)),
            lambda: add((1,), (8,), (x, np.float32(2)), stream=cp.Stream()),
        ):
            with pytest.raises(cp.CUDARuntimeError, match="while a stream captures a graph"):
                refused()
        graph = stream.end_capture()
    assert not stream.is_capturing() and not x.get().any()
    for expected in (6, 24):
        graph.launch(stream)
        assert (x.get() == expected).all() and (y.get() == expected / 3).all()
    with pytest.raises(RuntimeError, match="default"):
        cp.get_current_stream().begin_capture()


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
            refused.append(str(error))
        with stream:
            x.fill(3)

    stream.begin_capture()
    thread = threading.Thread(target=other)
    thread.start()
    thread.join()
    graph = stream.end_capture()
    assert "IllegalState" in refused[0] and not x.get().any()
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
                refused.append(str(error))

        stream.begin_capture()
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
        stream.end_capture()
        assert bool(refused) == blocking == (not x.get().any())


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
