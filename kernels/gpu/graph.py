"""Training steps as a CUDA graph: the launches of a step are captured once, and replayed with the numbers of each step.

Where no graph can be captured (the driver is old) the same launches are made one by one, with the same bits.
"""

import functools
import itertools
import logging
import threading
from collections.abc import Callable, Sequence
from typing import cast

import cupy  # pyright: ignore[reportMissingImports]  # it is installed only where there is a GPU
import numpy as np

from vae_np.kernels.contract import Array, KernelSet
from vae_np.kernels.gpu import operations
from vae_np.kernels.gpu.arrays import pointer_to
from vae_np.kernels.gpu.device import cublas, launch, place
from vae_np.kernels.gpu.fusion import fewer
from vae_np.kernels.gpu.launches import in_lanes, in_order, recorded, run_in_lanes

STEPS_AT_A_TIME = 1024  # the number of steps whose numbers are on the device at the same time
STEPS_IN_A_GRAPH = 8  # the number of steps of a graph: the GPU begins a step before the previous one has ended
MOST_STREAMS = 6  # the number of launches that run at the same time. Each stream has a workspace of cuBLAS.
SUMMED_BY_A_BLOCK = 4096  # the largest number of elements that a block sums at a time
NOT_SUPPORTED = 801  # cudaErrorNotSupported, from a driver that is too old for graphs
_lock = threading.Lock()  # one graph at a time: they share the workspace of their stream


def stream_of_graphs() -> cupy.cuda.Stream:
    """Return the stream of this device on which all graphs run."""
    return _stream_of(cupy.cuda.Device().id, 0)


@functools.cache
def _stream_of(device, lane):
    return cupy.cuda.Stream(non_blocking=True)


def edges(n_examples: int, n_samples: int, threads: int) -> list[int]:
    """Return where the slices of a batch begin and end: it is one slice, which the threads of the GPU share."""
    return [0, n_examples]


def capture(
    examples: Sequence[Callable[[KernelSet], object]],
    weights: Callable[[KernelSet], object] | None,
    means: Sequence[Array],
    squares: Sequence[Array],
    before_examples: Sequence[Array],
    before_weights: Sequence[Array],
    kernel_set: KernelSet = cast(KernelSet, operations),
) -> Callable[[int, Sequence[Array]], Array]:
    """Return a function that makes many steps of these operations: `contract.Capture` says what it takes and returns.
    kernel_set is the set whose operations are captured.

    A step whose results are not finite does not end the steps here: only the results that follow it are left out. The number of
    threads has no meaning.
    """
    cells, real = [*before_examples, *before_weights], means[0].dtype
    room = [cupy.empty((STEPS_AT_A_TIME, *cell.shape), cell.dtype) for cell in cells]
    arrays = [(array, 0) for array in means] + [(array, 1) for array in squares]
    feeds = [(pointer_to(cell), pointer_to(values), cell.nbytes) for cell, values in zip(cells, room)]
    *parts_before, parts = itertools.accumulate((-(-array.size // SUMMED_BY_A_BLOCK) for array, _ in arrays), initial=0)
    notes = [(pointer_to(array), array.size, squared, before) for (array, squared), before in zip(arrays, parts_before)]
    feeds, notes = (cupy.asarray(np.array(table, np.int64)) for table in (feeds, notes))
    fed, fed_later = feeds[: len(before_examples)], feeds[len(before_examples) :]
    counters, kept = cupy.zeros(2, np.int64), cupy.empty((STEPS_AT_A_TIME, len(arrays)), np.float64)
    summed = SUMMED_BY_A_BLOCK, cupy.empty(parts, np.float64), parts, cupy.zeros((), np.uint32)
    must_be_finite = np.array([i == 0 or i >= len(means) for i in range(len(arrays))])
    stream = stream_of_graphs()

    def step():
        memory = {"reads": room, "writes": before_examples}
        launch("steps", "feed", real, max(1, len(fed)), fed, len(fed), counters, per_block=1, **memory)
        for function in examples:
            function(kernel_set)
        memory = {"reads": [*means, *squares, *room], "writes": before_weights}
        numbers = notes, len(notes), *summed, kept, fed_later, len(fed_later), counters
        launch("steps", "note", real, parts, *numbers, per_block=1, **memory)
        if weights:
            weights(kernel_set)

    @functools.cache
    def of_a_step():
        return fewer(recorded(step), before_examples, room[: len(before_examples)], not weights)

    @functools.cache
    def planned(n):
        """A function that launches n steps. Each launch waits for those whose memory it uses, and for no others."""
        launches, before = in_order(of_a_step() * n)
        lanes = in_lanes(before, MOST_STREAMS)
        streams = [stream, *(_stream_of(cupy.cuda.Device().id, lane) for lane in range(1, max(lanes) + 1))]
        for of_lane in streams:
            with of_lane:
                cublas(*place())  # no handle can be made during a capture
        return functools.partial(run_in_lanes, launches, before, lanes, streams)

    @functools.cache
    def replay(n):
        """Capture n steps. Returns a function that makes them on the stream."""
        make_steps = planned(n)
        try:
            stream.begin_capture()
            try:
                make_steps()
            finally:
                graph = stream.end_capture()
            return graph.launch
        except RuntimeError as error:  # an error that does not come from the capture itself comes again from the step
            unexpected = not isinstance(error, cupy.cuda.runtime.CUDARuntimeError) or error.status != NOT_SUPPORTED
            text = "steps are launched one by one: no graph could be captured (%s)"
            logging.getLogger("vae_np").warning(text, error, exc_info=unexpected)
            return make_steps

    is_first = True  # the first step is not captured: it compiles our kernels, and cuBLAS chooses and loads its own

    def make_steps(n):
        nonlocal is_first
        if n and is_first:
            planned(1)()
            is_first, n = False, n - 1
        for size in [STEPS_IN_A_GRAPH] * (n // STEPS_IN_A_GRAPH) + [1] * (n % STEPS_IN_A_GRAPH):
            replay(size)()

    def run_steps(threads, values):
        results, outer = [], cupy.cuda.get_current_stream()
        values = [np.ascontiguousarray(value, cell.dtype) for value, cell in zip(values, cells)]  # kept until they are copied
        with _lock, stream:
            stream.wait_event(outer.record())
            try:
                for first in range(0, len(values[0]), STEPS_AT_A_TIME):
                    n = min(STEPS_AT_A_TIME, len(values[0]) - first)
                    for place, value in zip(room, values):
                        place[:n].set(value[first : first + n], stream)
                    counters.fill(0)
                    make_steps(n)
                    results.append(kept[:n].get(stream))
            finally:  # an interrupted call has launched steps that still write, so that nobody else may get their arrays yet
                outer.wait_event(stream.record())
        results = np.concatenate(results or [np.empty((0, len(arrays)))])
        stop = ~np.isfinite(results[:, must_be_finite]).all(axis=1)
        return results[: int(np.argmax(stop)) + 1] if stop.any() else results

    return run_steps
