"""What threads that run compiled code need to work together: atomic numbers, and a barrier where they wait for each other."""

import platform
import sys

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils

from vae_np.kernels.cpu.jit import intrinsic
from vae_np.kernels.cpu.mathematics import inline

SPINS = 2000  # how often a thread reads a barrier before it yields its core to others


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
# passed it, the next task of each phase, and whether all must stop, because a thread that the others would wait for cannot
# come. For each number of a tuple, unlike an array, Numba would compile a function anew.
ARRIVED, PASSED, NEXT, OVER = 0, 16, np.array([32, 48, 64]), 80


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
