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
from vae_np.kernels.gpu.device import launch

STEPS_AT_A_TIME = 1024  # the number of steps whose numbers are on the device at the same time
SUMMED_BY_A_BLOCK = 4096  # the largest number of elements that a block sums at a time
NOT_SUPPORTED = 801  # cudaErrorNotSupported, from a driver that is too old for graphs
_lock = threading.Lock()  # one graph at a time: they share the workspace of their stream


def stream_of_graphs() -> cupy.cuda.Stream:
    """Return the stream of this device on which all graphs run."""
    return _stream_of(cupy.cuda.Device().id)


@functools.cache
def _stream_of(device):
    return cupy.cuda.Stream(non_blocking=True)


def edges(n_examples: int, n_samples: int, threads: int) -> list[int]:
    """Return where the slices of a batch begin and end: it is one slice, which the threads of the GPU share."""
    return [0, n_examples]


def capture(
    examples: Sequence[Callable[[KernelSet], object]],
    weights: Callable[[KernelSet], object],
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
    counters, kept = cupy.zeros(2, np.int64), cupy.empty((STEPS_AT_A_TIME, len(arrays)), np.float64)
    summed = SUMMED_BY_A_BLOCK, cupy.empty(parts, np.float64), parts, cupy.zeros((), np.uint32)
    must_be_finite = np.array([i == 0 or i >= len(means) for i in range(len(arrays))])
    stream = stream_of_graphs()

    def step():
        launch("steps", "feed", real, len(feeds), feeds, len(feeds), counters, per_block=1)
        for function in examples:
            function(kernel_set)
        launch("steps", "note", real, parts, notes, len(notes), *summed, kept, counters, per_block=1)
        weights(kernel_set)

    @functools.cache
    def replay():
        """Capture a step. Returns a function that makes one on the stream."""
        try:
            stream.begin_capture()
            try:
                step()
            finally:
                graph = stream.end_capture()
            return graph.launch
        except RuntimeError as error:  # an error that does not come from the capture itself comes again from the step
            unexpected = getattr(error, "status", None) != NOT_SUPPORTED
            text = "steps are launched one by one: no graph could be captured (%s)"
            logging.getLogger("vae_np").warning(text, error, exc_info=unexpected)
            return step

    make_step = step  # the first is not captured: it compiles our kernels, and cuBLAS chooses and loads its own

    def run_steps(threads, values):
        nonlocal make_step
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
                    for _ in range(n):
                        make_step()
                        make_step = replay()
                    results.append(kept[:n].get(stream))
            finally:  # an interrupted call has launched steps that still write, so that nobody else may get their arrays yet
                outer.wait_event(stream.record())
        results = np.concatenate(results or [np.empty((0, len(arrays)))])
        stop = ~np.isfinite(results[:, must_be_finite]).all(axis=1)
        return results[: int(np.argmax(stop)) + 1] if stop.any() else results

    return run_steps
