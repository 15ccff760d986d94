"""Training steps as one program: a step's operations are recorded once, and then run many times, by several threads.

A step has two halves. What the examples of a batch go through, each by itself, is recorded once for each part of the
batch; what the weights go through is cut into pieces of their rows. Parts and pieces are tasks that any thread may take,
between the halves all wait for each other, and no two tasks write to the same place: so neither the number of threads nor
their order changes a bit, and nothing is dispatched or locked on the way.

An argument that is an array of no axes is a number that may change from step to step: its value is read when its turn
comes. All others stay what they were when they were recorded.
"""

import contextvars
import math
import platform
import sys
import threading
import types as python_types

import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from vae_np.kernels import contract, reference
from vae_np.kernels.contract import LAYERS, UPDATES
from vae_np.kernels.cpu import batches, operations
from vae_np.kernels.cpu.jit import NO_WRAPPERS, kernel
from vae_np.kernels.cpu.mathematics import inline
from vae_np.kernels.cpu.operations import gradients_of_layer
from vae_np.kernels.cpu.product import ROWS_KEEP_THEIR_BITS, prepare
from vae_np.kernels.cpu.scratch import BYTES, array_in, give_back, take
from vae_np.kernels.cpu.words import address_of, compiled, kind_of, words_of

PIECE_BYTES = 2**17, 2**19  # of weights: more than enough pieces for all threads, and what stays in a core's own cache
SPINS = 2000  # looks at a barrier before a thread lets others have the core

# ----------------------------------------------------------------------------------------------------------- recording

_calls = contextvars.ContextVar("calls")


def _recorder(name):
    def operation(*arguments):
        _calls.get().append((name, tuple(map(_matrix, arguments)) if name in LAYERS else arguments))
        if name in UPDATES:
            return arguments[0]
        with np.errstate(all="ignore"):  # of no interest but for which of its arguments it returns
            result = vars(reference)[name](*arguments)
        for array in result if isinstance(result, tuple) else (result,):
            if not any(array is argument for argument in arguments):
                raise AssertionError(f"{name} returns what is none of its arguments")
        return result

    return operation


def _matrix(array):
    """A layer takes every sample of every example for a row: one compiled operation serves the encoder and the decoder."""
    return array.reshape(-1, array.shape[-1]) if np.ndim(array) > 2 else array


OPERATIONS = contract.exports(operations, batches)
recording = python_types.ModuleType("vae_np.kernels.cpu.recording", "A kernel set that does not compute but notes what to do.")
vars(recording).update({name: _recorder(name) for name in OPERATIONS})


def record(function):
    """The (name, arguments) of the operations that a function calls, in their order."""
    calls = []
    token = _calls.set(calls)
    try:
        function(recording)
    finally:
        _calls.reset(token)
    return calls


def pieces(calls):
    """The second half as tasks: some rows of a layer's weights each, from their gradient to their update."""
    ((update, (p, g, *rest)),) = [call for call in calls if call[0] in UPDATES]
    tasks, covered, least, most = [], 0, *PIECE_BYTES
    n_bytes = min(max(least, g.nbytes // 64), most)
    for name, arguments in calls:
        if name in UPDATES:
            continue
        for *inputs, dW, db in _rows_of_weights(n_bytes, *arguments) if name == "affine_gradients" else [arguments]:
            start = (address_of(dW if dW.size else db) - address_of(g)) // g.itemsize
            stop = start + dW.size + db.size
            follows = not dW.size or not db.size or address_of(db) == address_of(dW) + dW.nbytes
            if not follows:
                raise AssertionError("a layer's bias must stand right behind its weights")
            if not 0 <= start < g.size:
                continue  # a layer that is not learned
            state = [array[start:stop] if np.shape(array) == g.shape else array for array in rest]
            if name == "affine_gradients":
                soon = [array[: dW.size].reshape(dW.shape) for array in (p[start:stop], *state) if np.ndim(array)]
                soon = tuple((soon + [dW[:0]])[:3])
                tasks.append([(UPDATE_ROWS[update], (*inputs, soon, g[start:stop], (p[start:stop], *state)))])
            else:
                tasks.append([(name, arguments), (update, (p[start:stop], g[start:stop], *state))])
            covered += stop - start
    if covered != g.size:
        raise AssertionError("some weights are updated by no task, or by more than one")
    return tasks


def _rows_of_weights(n_bytes, x, dy, W, l2, dW, db):
    """The arguments for some rows of W, until all are done; the bias goes with the last, which it follows."""
    n = 12 * max(1, n_bytes // (12 * W.itemsize * W.shape[1]))
    for i in range(0, len(W), n):
        rows = slice(i, i + n)
        yield x[:, rows], dy, W[rows], l2, dW[rows], db if i + n >= len(W) else db[:0]


def _update_rows(update):
    # Inlined: where several libraries hold a copy of a function, each optimised in its own surroundings, a process runs the one
    # that it loads first, and its last bits are another's.
    options = {name: update.targetoptions[name] for name in ("error_model", "fastmath")}
    inlined = numba.njit(update.py_func, forceinline=True, **options, **NO_WRAPPERS)

    def update_rows(x, dy, W, l2, soon, g, arguments):
        """The gradient of some rows of a layer's weights, and of its bias if it follows them in p, is used up at once."""
        p, buffer = arguments[0], take()
        if g.nbytes <= BYTES:
            g = array_in(buffer, g)[: g.size]
        gradients_of_layer(x, dy, W, l2, g[: W.size].reshape(W.shape), g[W.size :], soon)
        inlined(p, g, *arguments[1:])
        give_back(buffer)

    update_rows.__qualname__ += "-" + update.py_func.__name__
    return kernel(update_rows)


UPDATE_ROWS = {name: _update_rows(OPERATIONS[name]) for name in UPDATES}


# ------------------------------------------------------------------------------------------------------- the program


@intrinsic
def call(typingctx, function, words):
    def emit(context, builder, signature, args):
        kind = ir.FunctionType(ir.VoidType(), [ir.IntType(64)])
        builder.call(builder.inttoptr(args[0], kind.as_pointer()), [args[1]])
        return context.get_dummy_value()

    return types.void(types.intp, types.intp), emit


@intrinsic
def copy_bytes(typingctx, target, source, n):
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
def add(typingctx, array, i, n):
    """array[i] += n; what stood there before"""
    return _atomic(lambda builder, p, n: builder.atomic_rmw("add", p, n, "acq_rel"), types.intp)(typingctx, array, i)


@intrinsic
def look(typingctx, array, i):
    return _atomic(lambda builder, p: builder.load_atomic(p, "acquire", 8))(typingctx, array, i)


@intrinsic
def pause(typingctx):
    """Tells the core that this is a loop of waiting."""

    def emit(context, builder, signature, args):
        if platform.machine() in ("x86_64", "AMD64"):
            kind = ir.FunctionType(ir.VoidType(), [])
            builder.call(cgutils.get_or_insert_function(builder.module, kind, "llvm.x86.sse2.pause"), [])
        return context.get_dummy_value()

    return types.void(), emit


@intrinsic
def give_way(typingctx):
    """Lets another thread have the core, if one wants it."""

    def emit(context, builder, signature, args):
        name = "SwitchToThread" if sys.platform == "win32" else "sched_yield"
        kind = ir.FunctionType(ir.IntType(32), [])
        builder.call(cgutils.get_or_insert_function(builder.module, kind, name), [])
        return context.get_dummy_value()

    return types.void(), emit


# Each on a line of the cache of its own: who has come to the barrier, how often all had, the next task of either half, and
# whether it is all over, because a thread that the others would wait for cannot come.
ARRIVED, PASSED, NEXT, OVER = 0, 16, (32, 48), 64


@inline
def wait_for_all(shared, n_threads):
    passed = look(shared, PASSED)
    if add(shared, ARRIVED, 1) == n_threads - 1:
        add(shared, ARRIVED, -n_threads)
        add(shared, PASSED, 1)
    else:
        spins = 0
        while look(shared, PASSED) == passed and not look(shared, OVER):
            spins += 1
            if spins < SPINS:
                pause()
            else:
                give_way()


@inline
def do_tasks(shared, following, starts, instructions):
    while True:
        task = add(shared, following, 1)
        if task >= starts.shape[0] - 1:
            break
        for i in range(starts[task], starts[task + 1]):
            call(instructions[i, 0], instructions[i, 1])


@kernel
def feed(feeds, step):
    for i in range(feeds.shape[0]):
        copy_bytes(feeds[i, 0], feeds[i, 1] + step * feeds[i, 2], feeds[i, 2])


@kernel
def run(thread, n_threads, n_steps, shared, instructions, starts, feeds, results, must_be_finite, kept_results):
    """The steps that were done: all, or up to the first of which a result that must be finite is not."""
    first = thread == 0
    for step in range(n_steps):
        do_tasks(shared, NEXT[0], starts[0], instructions)
        if first:
            feed(feeds[1], step)
        wait_for_all(shared, n_threads)
        if look(shared, OVER):
            return step
        if first:
            add(shared, NEXT[0], -look(shared, NEXT[0]))
            if step + 1 < n_steps:
                feed(feeds[0], step + 1)
        do_tasks(shared, NEXT[1], starts[1], instructions)
        wait_for_all(shared, n_threads)
        finite = True
        for i in range(results.shape[0]):
            finite &= math.isfinite(results[i]) or not must_be_finite[i]
        if first:
            add(shared, NEXT[1], -look(shared, NEXT[1]))
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


def edges(n_examples, n_samples, threads):
    """Where the parts of a batch begin and end: so many that their rows, and no others', stay in a core's own cache.

    With one sample the order of the rows is the same whatever the parts, and so are the bits: there are as many for each thread.
    With more it is not, and the parts depend on the batch alone.
    """
    if n_samples == 1:
        threads = threads if ROWS_KEEP_THEIR_BITS else 1
        n = min(n_examples, threads * -(-n_examples // (threads * 512)))
    else:
        rows = n_examples * n_samples
        n = min(n_examples, max(2 if rows >= 64 else 1, 2 ** int(math.log2(max(1, rows / 200)))))
    return [round(i * n_examples / n) for i in range(n + 1)]


def capture(examples, weights, means, squares, before_examples, before_weights):
    """A function that makes the step of these operations any number of times: run(threads, values) -> results.

    examples: functions of a kernel set, one for each part of a batch: the first half. weights: such a function: the second.
    results (n, ..): after each step the mean of every array in `means` and the sum of squares of every one in `squares`, in
    double precision; squares are taken before the update. Where the first mean or a sum is not finite, that step is the last.
    before_examples, before_weights: arrays that take another value before either half of a step; values: those values, an
    array (n, ..) for each, in this order.
    """
    results, sums = np.zeros(len(means) + len(squares)), np.zeros(len(squares))
    must_be_finite = np.array([i == 0 or i >= len(means) for i in range(len(results))])
    first = [[(squares_of, (array.reshape(-1), sums[i : i + 1]))] for i, array in enumerate(squares)]
    first += [record(function) for function in examples]
    # Results are read after the second half, when others may be in the next step's first: only the second half writes them.
    second = [[(mean_of, (array.reshape(-1), results[i : i + 1])) for i, array in enumerate(means)]]
    second[0] += [(copy, (sums, results[len(means) :]))]
    second += pieces(record(weights))
    for dtype in {array.dtype for array in means}:
        prepare(dtype)
    kept, instructions, starts = [results], [], []
    for tasks in (first, second):
        starts.append([len(instructions)])
        for task in tasks:
            for operation, arguments in task:
                words = np.array(sum((words_of(argument, kept) for argument in arguments), []), np.int64)
                kept.append(words)
                address = compiled(OPERATIONS.get(operation, operation), tuple(map(kind_of, arguments)))
                instructions.append((address, address_of(words)))
            starts[-1].append(len(instructions))
    instructions, starts = np.array(instructions, np.int64), tuple(np.array(s, np.int64) for s in starts)
    shared, cells = np.zeros(80, np.int64), [*before_examples, *before_weights]

    def run_steps(threads, values):
        sources = [np.ascontiguousarray(value, cell.dtype) for value, cell in zip(values, cells)]
        rows = [(address_of(cell), address_of(source), cell.nbytes) for cell, source in zip(cells, sources)]
        split, n = len(before_examples), len(sources[0])
        feeds = tuple(np.array(part, np.int64).reshape(-1, 3) for part in (rows[:split], rows[split:]))
        kept_results = np.empty((n, len(results)))
        arguments = shared, instructions, starts, feeds, results, must_be_finite, kept_results
        run(0, 1, 0, *arguments)  # compiled, or read from the cache, before anybody waits for it
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
                if other.ident:  # it did start
                    other.join()
        return kept_results[:done]

    run_steps.kept = kept
    return run_steps
