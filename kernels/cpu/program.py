"""Training steps as one program: the operations of a step are recorded once, and then run many times, by several threads.

A step has two halves. The first is what the examples of a batch go through, each by itself: it is recorded once for each
slice of the batch. The second is what the weights go through: it is divided by rows of the weights. Slices and rows are
tasks that any thread may take, and all threads wait for each other between the halves. No two tasks write to the same
place, so that neither the number of threads nor their order changes a bit, and a step needs no dispatch by type and no
lock.

An argument that is an array of no axes is a number that may change from step to step: its value is read when the operation
runs. All other arguments stay what they were when they were recorded.
"""

import contextvars
import math
import platform
import sys
import threading
import types as python_types
from collections.abc import Callable, Sequence
from typing import Any, cast

import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from vae_np.kernels import contract, reference
from vae_np.kernels.contract import LAYERS, UPDATES, Array, KernelSet
from vae_np.kernels.cpu import batches, operations
from vae_np.kernels.cpu.argument_buffer import address_of, compiled, type_of, words_of
from vae_np.kernels.cpu.jit import NO_WRAPPERS, kernel
from vae_np.kernels.cpu.mathematics import inline
from vae_np.kernels.cpu.operations import gradients_of_layer
from vae_np.kernels.cpu.product import ROWS_KEEP_THEIR_BITS, prepare
from vae_np.kernels.cpu.scratch import BYTES, array_in, give_back, take

TASK_BYTES = 2**17, 2**19  # of weights, at least and at most: enough tasks for all threads; one stays in the cache of a core
SPINS = 2000  # a thread reads a barrier so often before it yields its core to others

# ----------------------------------------------------------------------------------------------------------- recording

_calls = contextvars.ContextVar("calls")


def _recorder(name):
    """An operation that notes its name and arguments, and returns those of its arguments that the operation would return."""

    def operation(*arguments):
        _calls.get().append((name, tuple(map(_matrix, arguments)) if name in LAYERS else arguments))
        if name in UPDATES:
            return arguments[0]
        with np.errstate(all="ignore"):  # the reference runs only to show which of its arguments it returns
            result = vars(reference)[name](*arguments)
        for array in result if isinstance(result, tuple) else (result,):
            if not any(array is argument for argument in arguments):
                raise AssertionError(f"{name} returns an array that is not one of its arguments")
        return result

    return operation


def _matrix(array):
    """The array with one axis for samples and examples, so that one compiled operation serves the encoder and the decoder."""
    return array.reshape(-1, array.shape[-1]) if np.ndim(array) > 2 else array


OPERATIONS = contract.exports(operations, batches)
recording = python_types.ModuleType("vae_np.kernels.cpu.recording", "A kernel set whose operations are recorded.")
vars(recording).update(contract.DEFAULTS, **{name: vars(reference)[name] for name in contract.ARRAYS})
vars(recording).update({name: _recorder(name) for name in OPERATIONS})


def record(function: Callable[[KernelSet], object]) -> list[tuple[str, tuple]]:
    """Return (name, arguments) of every operation that the function of a kernel set calls, in order."""
    calls: list[tuple[str, tuple]] = []
    token = _calls.set(calls)
    try:
        function(cast(KernelSet, recording))
    finally:
        _calls.reset(token)
    return calls


def weight_tasks(calls: list[tuple[str, tuple]]) -> list[list[tuple[Any, tuple]]]:
    """Return the second half as tasks: each takes some rows of the weights of a layer from their gradient to their update."""
    ((update, (p, g, *rest)),) = [call for call in calls if call[0] in UPDATES]
    tasks, covered, least, most = [], 0, *TASK_BYTES
    n_bytes = min(max(least, g.nbytes // 64), most)
    for name, arguments in calls:
        if name in UPDATES:
            continue
        for *inputs, dW, db in _rows_of_weights(n_bytes, *arguments) if name == "affine_gradients" else [arguments]:
            start = (address_of(dW if dW.size else db) - address_of(g)) // g.itemsize
            stop = start + dW.size + db.size
            follows = not dW.size or not db.size or address_of(db) == address_of(dW) + dW.nbytes
            if not follows:
                raise AssertionError("the bias of a layer must stand right behind its weights")
            if not 0 <= start < g.size:
                continue  # this layer is not learned
            state = [array[start:stop] if np.shape(array) == g.shape else array for array in rest]
            if name == "affine_gradients":
                to_update = [array[: dW.size].reshape(dW.shape) for array in (p[start:stop], *state) if np.ndim(array)]
                prefetched = tuple((to_update + [dW[:0]])[:3])
                tasks.append([(UPDATE_ROWS[update], (*inputs, prefetched, g[start:stop], (p[start:stop], *state)))])
            else:
                tasks.append([(name, arguments), (update, (p[start:stop], g[start:stop], *state))])
            covered += stop - start
    if covered != g.size:
        raise AssertionError("some weights are updated by no task, or by more than one")
    return tasks


def _rows_of_weights(n_bytes, x, dy, W, l2, dW, db):
    """The arguments of `affine_gradients` for some rows of W at a time; the bias goes with the last rows, which it follows."""
    n = 12 * max(1, n_bytes // (12 * W.itemsize * W.shape[1]))
    for i in range(0, len(W), n):
        rows = slice(i, i + n)
        yield x[:, rows], dy, W[rows], l2, dW[rows], db if i + n >= len(W) else db[:0]


def _update_rows(update):
    # The update is inlined. As a function of its own it would be copied into several libraries and optimised differently in
    # each; a process runs the copy that it loads first, so that the last bits would depend on which that is.
    options = {name: update.targetoptions[name] for name in ("error_model", "fastmath")}
    inlined = numba.njit(update.py_func, forceinline=True, **options, **NO_WRAPPERS)

    def update_rows(x, dy, W, l2, prefetched, g, arguments):
        """Compute the gradient of some rows of weights, and of the bias if it follows them in p, and update both at once."""
        p, buffer = arguments[0], take()
        if g.nbytes <= BYTES:
            g = array_in(buffer, g)[: g.size]
        gradients_of_layer(x, dy, W, l2, g[: W.size].reshape(W.shape), g[W.size :], prefetched)
        inlined(p, g, *arguments[1:])
        give_back(buffer)

    update_rows.__qualname__ += "-" + update.py_func.__name__
    return kernel(update_rows)


UPDATE_ROWS = {name: _update_rows(OPERATIONS[name]) for name in UPDATES}


# ------------------------------------------------------------------------------------------------------- the program


@intrinsic
def call(typingctx, function, buffer):
    """Call a compiled function with an argument buffer, both given by their addresses."""

    def emit(context, builder, signature, args):
        kind = ir.FunctionType(ir.VoidType(), [ir.IntType(64)])
        builder.call(builder.inttoptr(args[0], kind.as_pointer()), [args[1]])
        return context.get_dummy_value()

    return types.void(types.intp, types.intp), emit


@intrinsic
def copy_bytes(typingctx, target, source, n):
    """Copy n bytes from one address to another."""

    def emit(context, builder, signature, args):
        pointers = [builder.inttoptr(address, ir.IntType(8).as_pointer()) for address in args[:2]]
        cgutils.raw_memcpy(builder, *pointers, args[2], 1)
        return context.get_dummy_value()

    return types.void(types.intp, types.intp, types.intp), emit


def _atomic(emit_one, *numbers):
    """An atomic operation on one number of an array."""

    def operation(typingctx, array, i, *_):
        def emit(context, builder, signature, args):
            kind = signature.args[0]
            memory = context.make_array(kind)(context, builder, args[0])
            pointer = cgutils.get_item_pointer(context, builder, kind, memory, [args[1]])
            return emit_one(builder, pointer, *args[2:])

        return types.intp(array, types.intp, *numbers), emit

    return operation


@intrinsic
def atomic_add(typingctx, array, i, n):
    """Add n to array[i], and return what stood there before."""
    return _atomic(lambda builder, p, n: builder.atomic_rmw("add", p, n, "acq_rel"), types.intp)(typingctx, array, i)


@intrinsic
def atomic_load(typingctx, array, i):
    """Return array[i] as the last thread has left it."""
    return _atomic(lambda builder, p: builder.load_atomic(p, "acquire", 8))(typingctx, array, i)


@intrinsic
def pause(typingctx):
    """Tell the core that this thread waits in a loop."""

    def emit(context, builder, signature, args):
        if platform.machine() in ("x86_64", "AMD64"):
            kind = ir.FunctionType(ir.VoidType(), [])
            builder.call(cgutils.get_or_insert_function(builder.module, kind, "llvm.x86.sse2.pause"), [])
        return context.get_dummy_value()

    return types.void(), emit


@intrinsic
def yield_core(typingctx):
    """Let another thread have the core, if one waits for it."""

    def emit(context, builder, signature, args):
        name = "SwitchToThread" if sys.platform == "win32" else "sched_yield"
        kind = ir.FunctionType(ir.IntType(32), [])
        builder.call(cgutils.get_or_insert_function(builder.module, kind, name), [])
        return context.get_dummy_value()

    return types.void(), emit


# What the threads share, each number on a cache line of its own: how many have come to the barrier, how often all have
# passed it, the next task of either half, and whether all must stop, because a thread that the others would wait for cannot
# come.
ARRIVED, PASSED, NEXT, OVER = 0, 16, (32, 48), 64


@inline
def wait_for_all(shared, n_threads):
    """Return when every thread has come here."""
    passed = atomic_load(shared, PASSED)
    if atomic_add(shared, ARRIVED, 1) == n_threads - 1:
        atomic_add(shared, ARRIVED, -n_threads)
        atomic_add(shared, PASSED, 1)
    else:
        spins = 0
        while atomic_load(shared, PASSED) == passed and not atomic_load(shared, OVER):
            spins += 1
            if spins < SPINS:
                pause()
            else:
                yield_core()


@inline
def do_tasks(shared, next_task, starts, instructions):
    """Take one task after another, until none is left."""
    while True:
        task = atomic_add(shared, next_task, 1)
        if task >= starts.shape[0] - 1:
            break
        for i in range(starts[task], starts[task + 1]):
            call(instructions[i, 0], instructions[i, 1])


@kernel
def feed(feeds, step):
    """Copy the values of a step into the arrays that hold its numbers."""
    for i in range(feeds.shape[0]):
        copy_bytes(feeds[i, 0], feeds[i, 1] + step * feeds[i, 2], feeds[i, 2])


@kernel
def run(thread, n_threads, n_steps, shared, instructions, starts, feeds, results, must_be_finite, kept_results):
    """Run the steps, and return how many were made: all, or up to the first with a result that is not finite but must be."""
    first = thread == 0
    for step in range(n_steps):
        do_tasks(shared, NEXT[0], starts[0], instructions)
        if first:
            feed(feeds[1], step)
        wait_for_all(shared, n_threads)
        if atomic_load(shared, OVER):
            return step
        if first:
            atomic_add(shared, NEXT[0], -atomic_load(shared, NEXT[0]))
            if step + 1 < n_steps:
                feed(feeds[0], step + 1)
        do_tasks(shared, NEXT[1], starts[1], instructions)
        wait_for_all(shared, n_threads)
        finite = True
        for i in range(results.shape[0]):
            finite &= math.isfinite(results[i]) or not must_be_finite[i]
        if first:
            atomic_add(shared, NEXT[1], -atomic_load(shared, NEXT[1]))
            for i in range(results.shape[0]):
                kept_results[step, i] = results[i]
        if not finite:
            return step + 1
    return n_steps


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


def capture(
    examples: Sequence[Callable[[KernelSet], object]],
    weights: Callable[[KernelSet], object],
    means: Sequence[Array],
    squares: Sequence[Array],
    before_examples: Sequence[Array],
    before_weights: Sequence[Array],
) -> Callable[[int, Sequence[Array]], Array]:
    """Return a function that makes many steps of these operations: `contract.Capture` says what it takes and returns."""
    results, sums = np.zeros(len(means) + len(squares)), np.zeros(len(squares))
    must_be_finite = np.array([i == 0 or i >= len(means) for i in range(len(results))])
    first = [[(squares_of, (array.reshape(-1), sums[i : i + 1]))] for i, array in enumerate(squares)]
    first += [record(function) for function in examples]
    # Results are read after the second half, when other threads may be in the first half of the next step: so only the
    # second half writes them.
    second = [[(mean_of, (array.reshape(-1), results[i : i + 1])) for i, array in enumerate(means)]]
    second[0] += [(copy, (sums, results[len(means) :]))]
    second += weight_tasks(record(weights))
    for dtype in {array.dtype for array in means}:
        prepare(dtype)
    kept, instructions, starts = [results], [], []
    for tasks in (first, second):
        starts.append([len(instructions)])
        for task in tasks:
            for operation, arguments in task:
                buffer = np.array(words_of(arguments, kept), np.int64)
                kept.append(buffer)
                address = compiled(OPERATIONS.get(operation, operation), tuple(map(type_of, arguments)))
                instructions.append((address, address_of(buffer)))
            starts[-1].append(len(instructions))
    instructions, starts = np.array(instructions, np.int64), tuple(np.array(s, np.int64) for s in starts)
    shared, cells = np.zeros(80, np.int64), [*before_examples, *before_weights]

    def run_steps(threads, values):
        sources = [np.ascontiguousarray(value, cell.dtype) for value, cell in zip(values, cells)]
        rows = [(address_of(cell), address_of(source), cell.nbytes) for cell, source in zip(cells, sources)]
        split, n = len(before_examples), len(sources[0])
        feeds = tuple(np.array(half, np.int64).reshape(-1, 3) for half in (rows[:split], rows[split:]))
        kept_results = np.empty((n, len(results)))
        arguments = shared, instructions, starts, feeds, results, must_be_finite, kept_results
        run(
            0, 1, 0, *arguments
        )  # no step: so that it is compiled, or read from the cache, before other threads wait for this one
        if n == 0:
            return kept_results
        feed(feeds[0], 0)
        shared[:] = 0
        others = [threading.Thread(target=run, args=(i, threads, n, *arguments)) for i in range(1, threads)]
        try:
            for other in others:
                other.start()
            done = run(0, threads, n, *arguments)
        except BaseException:
            shared[OVER] = 1
            raise
        finally:
            for other in others:
                if other.ident:  # else it was never started
                    other.join()
        return kept_results[:done]

    run_steps.kept = kept  # the memory to which the instructions point
    return run_steps
