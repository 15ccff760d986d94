"""Training steps as one program: the operations of a step are recorded once, and then run many times, by several threads.

A step has two halves. The first is what the examples of a batch go through, each by itself: it is recorded once for each
slice of the batch. The second is what the weights go through: it is divided by rows of the weights. Between them, products
of rounded numbers need copies of the results of the first half. Slices and rows are tasks that any thread may take, and all
threads wait for each other after each of these phases. No two tasks write to the same
place, so that neither the number of threads nor their order changes a bit, and a step needs no dispatch by type and no
lock.

An argument that is an array of no axes is a number that may change from step to step: its value is read when the operation
runs. All other arguments stay what they were when they were recorded.
"""

import math
import threading
from collections.abc import Callable, Sequence

import numba
import numpy as np
from numba import types
from numpy.typing import DTypeLike

from vae_np.kernels.contract import Array, KernelSet
from vae_np.kernels.cpu.argument_buffer import (
    address_of,
    begin_elsewhere,
    call,
    call_at,
    call_compiled,
    compile_all,
    compiled,
    types_of,
    words_of,
)
from vae_np.kernels.cpu.barrier import NEXT, OVER, atomic_add, atomic_load, wait_for_all
from vae_np.kernels.cpu.copies import copy_bytes
from vae_np.kernels.cpu.jit import kernel
from vae_np.kernels.cpu.mathematics import inline
from vae_np.kernels.cpu.operands import Operands
from vae_np.kernels.cpu.product import ROWS_KEEP_THEIR_BITS, prepare, wanted_products
from vae_np.kernels.cpu.recording import OPERATIONS, record, weight_tasks


@inline
def do_tasks(shared, next_task, starts, instructions):
    """Take one task after another, until none is left."""
    while True:
        task = atomic_add(shared, next_task, 1)
        if task >= starts.shape[0] - 1:
            break
        for i in range(starts[task], starts[task + 1]):
            call(instructions[i, 0], instructions[i, 1])


@inline
def feed(feeds, step):
    """Copy the values of a step into the arrays that hold its numbers."""
    for i in range(feeds.shape[0]):
        copy_bytes(feeds[i, 0], feeds[i, 1] + step * feeds[i, 2], feeds[i, 2])


@kernel
def run(thread, n_threads, n_steps, shared, instructions, starts, feeds, results, must_be_finite, kept_results, made):
    """Run the steps, all or up to the first with a result that is not finite but must be; `made` counts them."""
    first = thread == 0
    for step in range(n_steps):
        do_tasks(shared, NEXT[0], starts[0], instructions)
        if first:
            feed(feeds[1], step)
        wait_for_all(shared, n_threads)
        if atomic_load(shared, OVER):
            break
        if first:
            atomic_add(shared, NEXT[0], -atomic_load(shared, NEXT[0]))
            if step + 1 < n_steps:
                feed(feeds[0], step + 1)
        if starts[1].shape[0] > 1:
            do_tasks(shared, NEXT[1], starts[1], instructions)
            wait_for_all(shared, n_threads)
        do_tasks(shared, NEXT[2], starts[2], instructions)
        wait_for_all(shared, n_threads)
        finite = True
        for i in range(results.shape[0]):
            finite &= math.isfinite(results[i]) or not must_be_finite[i]
        if first:
            for phase in (1, 2):
                atomic_add(shared, NEXT[phase], -atomic_load(shared, NEXT[phase]))
            for i in range(results.shape[0]):
                kept_results[step, i] = results[i]
            made[0] = step + 1
        if not finite:
            break


_word, _real = types.int64, types.float64
_words, _table, _reals, _rows = (types.Array(of, n, "C") for of in (_word, _real) for n in (1, 2))
_starts, _feeds = types.Tuple([_words] * 3), types.Tuple([_table] * 2)
TYPES_OF_RUN = (*[_word] * 3, _words, _table, _starts, _feeds, _reals, _words, _rows, _words)


@kernel
def mean_of(array, result):
    total = 0.0
    for i in range(array.shape[0]):
        total += array[i]
    result[0] = total / array.shape[0]


@kernel
def squares_of(array, result):
    total = 0.0
    for i in range(array.shape[0]):
        total += np.float64(array[i]) * np.float64(array[i])
    result[0] = total


@kernel
def copy(array, result):
    for i in range(array.shape[0]):
        result[i] = array[i]


def edges(n_examples: int, n_samples: int, threads: int) -> list[int]:
    """Return where the slices of a batch begin and end. The rows of a slice stay in the cache of a core.

    With one sample the order of the rows is the same whatever the slices are, and so are the bits: there are as many slices
    for each thread. With more samples it is not, and the slices depend on the batch alone.
    """
    if n_samples == 1:
        threads = threads if ROWS_KEEP_THEIR_BITS else 1
        n = min(n_examples, threads * -(-n_examples // (threads * 512)))
    else:
        rows = n_examples * n_samples
        n = min(n_examples, max(2 if rows >= 64 else 1, 2 ** int(math.log2(max(1, rows / 200)))))
    return [round(i * n_examples / n) for i in range(n + 1)]


def _always_wanted(dtype, are_pairs):
    """What `compile_all` takes for the functions that every training needs; they are half of the work."""
    normals = OPERATIONS["normals"], (types.uint64, _word, _words, types.Array(numba.from_dtype(np.dtype(dtype)), 3, "C"))
    return [*wanted_products(dtype, are_pairs), normals, (run, TYPES_OF_RUN)]


def compile_always_wanted(dtype: DTypeLike, are_pairs: bool) -> None:
    """Compile these functions."""
    compile_all(_always_wanted(dtype, are_pairs))


def begin(dtype: DTypeLike, are_pairs: bool = False) -> None:
    """Begin to compile these functions in another process."""
    code = f"from {__name__} import compile_always_wanted as compile; compile({np.dtype(dtype).name!r}, {are_pairs})"
    begin_elsewhere(_always_wanted(dtype, are_pairs), code)


def at_once(function: Callable[[KernelSet], object]) -> None:
    """Do what a function of a kernel set does, by the compiled functions of `capture`."""
    calls = [(OPERATIONS[name], arguments) for name, arguments in record(function)]
    compile_all((operation, types_of(arguments)) for operation, arguments in calls)
    for operation, arguments in calls:
        call_compiled(operation, arguments)


def capture(
    examples: Sequence[Callable[[KernelSet], object]],
    weights: Callable[[KernelSet], object] | None,
    means: Sequence[Array],
    squares: Sequence[Array],
    before_examples: Sequence[Array],
    before_weights: Sequence[Array],
    are_pairs: bool = False,
) -> Callable[[int, Sequence[Array]], Array]:
    """Return a function that makes many steps of these operations: `contract.Capture` says what it takes and returns.

    are_pairs: whether the operands of products are rounded to bfloat16.
    """
    results, sums = np.zeros(len(means) + len(squares)), np.zeros(len(squares))
    must_be_finite = np.array([i == 0 or i >= len(means) for i in range(len(results))], np.int64)
    first = [[(squares_of, (array.reshape(-1), sums[i : i + 1]))] for i, array in enumerate(squares)]
    operands = Operands(are_pairs)
    first += [operands.of_layers(record(function)) for function in examples]
    # Results are read after the second half, when other threads may be in the first half of the next step: so only the
    # second half writes them.
    second = [[(mean_of, (array.reshape(-1), results[i : i + 1])) for i, array in enumerate(means)]]
    second[0] += [(copy, (sums, results[len(means) :]))] if squares else []
    second += weight_tasks(record(weights), operands) if weights else []
    kept: list[Array] = [results]
    calls, starts = [], []
    for tasks in (first, operands.between_halves(), second):
        starts.append([len(calls)])
        for task in tasks:
            calls += [(OPERATIONS.get(operation, operation), arguments) for operation, arguments in task]
            starts[-1].append(len(calls))
    dtypes = {array.dtype for array in means}
    for dtype in dtypes:
        begin(dtype, are_pairs)
    wanted = [(operation, types_of(arguments)) for operation, arguments in calls]
    copies = [(operation, types_of(arguments)) for operation, arguments in operands.of_weights()]
    compile_all([*wanted, *copies, *(one for dtype in dtypes for one in _always_wanted(dtype, are_pairs))])
    for dtype in dtypes:
        prepare(dtype, are_pairs)
    buffers = [np.array(words_of(arguments, kept), np.int64) for _, arguments in calls]
    kept += buffers
    instructions = np.array([(compiled(*one), address_of(buffer)) for one, buffer in zip(wanted, buffers)], np.int64)
    starts = tuple(np.array(s, np.int64) for s in starts)
    address, shared, cells = compiled(run, TYPES_OF_RUN), np.zeros(96, np.int64), [*before_examples, *before_weights]

    def run_steps(threads, values):
        sources = [np.ascontiguousarray(value, cell.dtype) for value, cell in zip(values, cells)]
        rows = [(address_of(cell), address_of(source), cell.nbytes) for cell, source in zip(cells, sources)]
        split, n = len(before_examples), len(sources[0])
        feeds = tuple(np.array(half, np.int64).reshape(-1, 3) for half in (rows[:split], rows[split:]))
        kept_results, made = np.empty((n, len(results))), np.zeros(1, np.int64)
        arguments = shared, instructions, starts, feeds, results, must_be_finite, kept_results, made
        if n == 0:
            return kept_results
        operands.refresh()
        for cell, source in zip(before_examples, sources):
            cell[...] = source[0]
        shared[:] = 0
        others = [threading.Thread(target=call_at, args=(address, (i, threads, n, *arguments))) for i in range(1, threads)]
        try:
            for other in others:
                other.start()
            call_at(address, (0, threads, n, *arguments))
        except BaseException:
            shared[OVER] = 1
            raise
        finally:
            for other in others:
                if other.ident:  # else it was never started
                    other.join()
        return kept_results[: made[0]]

    run_steps.kept = kept  # pyright: ignore[reportFunctionMemberAccess]  # it holds the memory to which the instructions point
    return run_steps
