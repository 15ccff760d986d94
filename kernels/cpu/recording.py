"""A training step as a list of tasks: the operations that it calls are recorded, and those of the weights divided by rows."""

import contextvars
import types
from collections.abc import Callable
from typing import Any, cast

import numpy as np

from vae_np.kernels import contract, reference
from vae_np.kernels.contract import LAYERS, UPDATES, KernelSet
from vae_np.kernels.cpu import batches, layers, losses, updates
from vae_np.kernels.cpu.argument_buffer import address_of
from vae_np.kernels.cpu.jit import inlined, kernel
from vae_np.kernels.cpu.layers import gradients_of_layer
from vae_np.kernels.cpu.operands import Operands
from vae_np.kernels.cpu.scratch import BYTES, array_in, give_back, take

TASK_BYTES = 2**17, 2**19  # of weights, at least and at most: enough tasks for all threads; one stays in the cache of a core
_calls, _places = contextvars.ContextVar("calls"), {name: [0] for name in UPDATES}


def _recording(name):
    """An operation that notes its name and arguments, and returns those of its arguments that the operation would return."""

    def operation(*arguments):
        _calls.get().append((name, tuple(map(_matrix, arguments)) if name in LAYERS else arguments))
        places = _places_of_results(name, arguments)
        return arguments[places[0]] if len(places) == 1 else tuple(arguments[i] for i in places)

    return operation


def _places_of_results(name, arguments):
    """Which of its arguments an operation returns. The reference runs once, on copies, only to show that."""
    if name not in _places:
        copies = [argument.copy() if isinstance(argument, np.ndarray) else argument for argument in arguments]
        with np.errstate(all="ignore"):
            results = vars(reference)[name](*copies)
        results = results if isinstance(results, tuple) else (results,)
        _places[name] = [next(i for i, copy in enumerate(copies) if copy is result) for result in results]
    return _places[name]


def _matrix(array):
    """The array with one axis for samples and examples, so that one compiled operation serves the encoder and the decoder."""
    return array.reshape(-1, array.shape[-1]) if np.ndim(array) > 2 else array


OPERATIONS = contract.exports(layers, losses, updates, batches)
recorder = types.ModuleType("vae_np.kernels.cpu.recorder", "A kernel set whose operations are recorded and not run.")
vars(recorder).update(contract.DEFAULTS, **{name: vars(reference)[name] for name in contract.ARRAYS})
vars(recorder).update({name: _recording(name) for name in OPERATIONS})


def record(function: Callable[[KernelSet], object]) -> list[tuple[str, tuple]]:
    """Return (name, arguments) of every operation that the function of a kernel set calls, in order."""
    calls: list[tuple[str, tuple]] = []
    token = _calls.set(calls)
    try:
        function(cast(KernelSet, recorder))
    finally:
        _calls.reset(token)
    return calls


def weight_tasks(calls: list[tuple[str, tuple]], operands: Operands) -> list[list[tuple[Any, tuple]]]:
    """Return the second half as tasks: each takes some rows of the weights of a layer from their gradient to their update.

    Where the update is the only call, the gradients are there already, and each task updates some elements.
    """
    ((update, (p, g, *rest)),) = [call for call in calls if call[0] in UPDATES]
    tasks, covered, least, most = [], 0, *TASK_BYTES
    n_bytes = min(max(least, g.nbytes // 64), most)

    def of_update(start, stop):
        state = [array[start:stop] if np.shape(array) == g.shape else array for array in rest]
        return p[start:stop], g[start:stop], *state

    if len(calls) == 1:
        n = n_bytes // g.itemsize
        return [[(update, of_update(start, start + n))] for start in range(0, g.size, n)]
    for name, arguments in calls:
        if name in UPDATES:
            continue
        parts = _rows_of_weights(n_bytes, operands, g, *arguments) if name == "affine_gradients" else [(arguments, [])]
        for (*inputs, dW, db), afterwards in parts:
            start = (address_of(dW if dW.size else db) - address_of(g)) // g.itemsize
            stop = start + dW.size + db.size
            follows = not dW.size or not db.size or address_of(db) == address_of(dW) + dW.nbytes
            if not follows:
                raise AssertionError("a layer's bias must stand right behind its weights")
            if not 0 <= start < g.size:
                continue  # this layer is not learned, or not by this update
            p_rows, g_rows, *state = of_update(start, stop)
            if name == "affine_gradients":
                to_update = [array[: dW.size].reshape(dW.shape) for array in (p_rows, *state) if np.ndim(array)]
                prefetched = tuple((to_update + [dW[:0]])[:3])
                update_rows = UPDATE_ROWS[update], (*inputs, prefetched, g_rows, (p_rows, *state))
                tasks.append([update_rows, *afterwards])
            else:
                tasks.append([(name, arguments), (update, (p_rows, g_rows, *state))])
            covered += stop - start
    if covered != g.size:
        raise AssertionError("some weights are updated by no task, or by more than one")
    return tasks


def _rows_of_weights(n_bytes, operands, g, x, dy, W, l2, dW, db):
    """For some rows of W at a time the arguments of `update_rows`, and what makes the kept copies of these rows anew.

    They are the rows whose gradients lie in g. The bias goes with the last rows, which it follows.
    """
    n = 12 * max(1, n_bytes // (12 * W.itemsize * W.shape[1]))
    before, width = (address_of(dW) - address_of(g)) // g.itemsize, W.shape[1]
    first, last = max(0, -(before // width)), min(len(W), (g.size - before) // width)
    for i in range(first, last, n):
        rows = slice(i, min(i + n, last))
        operand, dy_to_multiply = operands.of_gradient(x), operands.of_gradient(dy)
        inputs = operand, i, dy_to_multiply, dy, W[rows], l2, dW[rows], db if rows.stop == len(W) else db[:0]
        yield inputs, operands.after_update(W, rows.start, rows.stop)


def _update_rows(update):
    update_inlined = inlined(update)

    def update_rows(x, first, dy, dy_to_sum, W, l2, prefetched, g, arguments):
        """Compute the gradient of the rows W of weights, which begins with the row `first`, and update them.

        The bias is updated too if it follows them in p.
        """
        p, buffer = arguments[0], take()
        if g.nbytes <= BYTES:
            g = array_in(buffer, g)[: g.size]
        x = x[:, first : first + W.shape[0]]
        gradients_of_layer(x, dy, dy_to_sum, W, l2, g[: W.size].reshape(W.shape), g[W.size :], prefetched)
        update_inlined(p, g, *arguments[1:])
        give_back(buffer)

    update_rows.__qualname__ += "-" + update.py_func.__name__
    return kernel(update_rows)


UPDATE_ROWS = {name: _update_rows(OPERATIONS[name]) for name in UPDATES}
