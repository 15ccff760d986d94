"""Training steps as a CUDA graph: a step's launches are recorded once and replayed, the numbers of each step with them.

Where no graph can be captured (an old driver) the same launches are made one by one, to the same bits.
"""

import functools
import logging
import threading

import cupy
import numpy as np

from vae_np.kernels.gpu import operations
from vae_np.kernels.gpu.device import launch

TOGETHER = 1024  # steps whose numbers are on the device at a time
_lock = threading.Lock()  # one graph at a time: their stream has one workspace


def stream_of_graphs():
    """The stream of this device on which all graphs run."""
    return _stream_of(cupy.cuda.Device().id)


@functools.cache
def _stream_of(device):
    return cupy.cuda.Stream(non_blocking=True)


def edges(n_examples, n_samples, threads):
    """A batch is one part: the GPU's threads share it out by themselves."""
    return [0, n_examples]


def capture(examples, weights, means, squares, before_examples, before_weights):
    """A function that makes the step of these operations any number of times: run(threads, values) -> results.

    As `kernels.cpu.capture`, but that a step whose results are not finite does not end the steps: only what follows it
    in the results is left out. threads: of no meaning here.
    """
    cells, real = [*before_examples, *before_weights], means[0].dtype
    room = [cupy.empty((TOGETHER, *cell.shape), cell.dtype) for cell in cells]
    arrays = [(array, 0) for array in means] + [(array, 1) for array in squares]
    feeds = [(cell.data.ptr, values.data.ptr, cell.nbytes) for cell, values in zip(cells, room)]
    sums = [(array.data.ptr, array.size, is_squares) for array, is_squares in arrays]
    feeds, sums = (cupy.asarray(np.array(table, np.int64)) for table in (feeds, sums))
    counters, kept = cupy.zeros(2, np.int64), cupy.empty((TOGETHER, len(arrays)), np.float64)
    must_be_finite = np.array([i == 0 or i >= len(means) for i in range(len(arrays))])
    stream = stream_of_graphs()

    def step():
        launch("steps", "feed", real, len(feeds), feeds, len(feeds), counters, per_block=1)
        for function in examples:
            function(operations)
        launch("steps", "note", real, len(sums), sums, len(sums), kept, counters, per_block=1)
        weights(operations)

    @functools.cache
    def replay():
        """A function that makes a step on the stream."""
        try:
            stream.begin_capture()
            try:
                step()
            finally:
                graph = stream.end_capture()
            return graph.launch
        except RuntimeError as error:
            logging.getLogger("vae_np").warning("steps are launched one by one: no graph could be captured (%s)", error)
            return step

    make_step = step  # the very first is not captured: with it kernels are compiled, and cuBLAS chooses and loads its own

    def run_steps(threads, values):
        nonlocal make_step
        results, outer = [], cupy.cuda.get_current_stream()
        values = [np.ascontiguousarray(value, cell.dtype) for value, cell in zip(values, cells)]  # kept while they are copied
        with _lock, stream:
            stream.wait_event(outer.record())
            try:
                for first in range(0, len(values[0]), TOGETHER):
                    n = min(TOGETHER, len(values[0]) - first)
                    for place, value in zip(room, values):
                        place[:n].set(value[first : first + n], stream)
                    counters.fill(0)
                    for _ in range(n):
                        make_step()
                        make_step = replay()
                    results.append(kept[:n].get(stream))
            finally:  # also where it was interrupted, with steps still to come: their arrays may not be given to others before
                outer.wait_event(stream.record())
        results = np.concatenate(results or [np.empty((0, len(arrays)))])
        stop = ~np.isfinite(results[:, must_be_finite]).all(axis=1)
        return results[: int(np.argmax(stop)) + 1] if stop.any() else results

    return run_steps
