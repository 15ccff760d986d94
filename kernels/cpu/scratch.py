"""Scratch memory for compiled code: buffers of one size, kept in a pool. A large array on the caller's stack could overflow it.

buffer = take()
array = array_in(buffer, like)  # an array of the dtype of another array
give_back(buffer)
"""

import llvmlite.binding
import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils

from vae_np.kernels.cpu.jit import intrinsic
from vae_np.kernels.cpu.mathematics import inline

BYTES, ALIGNED = 2**19 + 2**18, 64  # the size of a buffer, and the number of which its address is a multiple
SLOTS, LINE = 64, 8  # how many buffers are kept, each in a slot on its own cache line, and the words of such a line
POOL = "vae_np.scratch_pool"
_pool = np.zeros(SLOTS * LINE, np.int64)  # addresses; 0 where a buffer is in use or was never allocated
llvmlite.binding.add_symbol(POOL, _pool.ctypes.data)


@intrinsic
def _exchange(typingctx, slot, buffer):
    """Put a buffer into a slot and return what was there, in one atomic step."""

    def emit(context, builder, signature, args):
        module, word = builder.module, ir.IntType(64)
        pool = module.globals.get(POOL) or ir.GlobalVariable(module, word, POOL)
        return builder.atomic_rmw("xchg", builder.gep(pool, [args[0]]), args[1], "acq_rel")

    return types.intp(types.intp, types.intp), emit


@intrinsic
def _place_of_thread(typingctx):
    """An address on this thread's stack: by it a thread first searches the slots where it has put its own buffers."""

    def emit(context, builder, signature, args):
        return builder.ptrtoint(cgutils.alloca_once(builder, ir.IntType(64)), ir.IntType(64))

    return types.intp(), emit


@intrinsic
def _allocate(typingctx):
    def emit(context, builder, signature, args):
        size = context.get_constant(types.intp, BYTES + ALIGNED)
        return builder.ptrtoint(context.nrt.allocate(builder, size), ir.IntType(64))

    return types.intp(), emit


@intrinsic
def _free(typingctx, buffer):
    def emit(context, builder, signature, args):
        context.nrt.free(builder, builder.inttoptr(args[0], ir.IntType(8).as_pointer()))
        return context.get_dummy_value()

    return types.void(types.intp), emit


@intrinsic
def array_in(typingctx, buffer, like):
    """Return a whole buffer as an array of one axis, of the dtype of another array."""
    kind = types.Array(like.dtype, 1, "C")

    def emit(context, builder, signature, args):
        number, size, word = context.get_data_type(like.dtype), like.dtype.bitwidth // 8, ir.IntType(64)
        up = builder.add(args[0], ir.Constant(word, ALIGNED - 1))
        start = builder.and_(up, ir.Constant(word, -ALIGNED))
        array = context.make_array(kind)(context, builder)
        context.populate_array(
            array,
            data=builder.inttoptr(start, number.as_pointer()),
            shape=[context.get_constant(types.intp, BYTES // size)],
            strides=[context.get_constant(types.intp, size)],
            itemsize=context.get_constant(types.intp, size),
            meminfo=None,
        )
        return array._getvalue()

    return kind(types.intp, like), emit


@inline
def _slot(i):
    return ((_place_of_thread() >> 20) + i) % SLOTS * LINE


@inline
def take():
    """Return the address of a buffer that nobody else has until it is given back."""
    for i in range(SLOTS):
        buffer = _exchange(_slot(i), 0)
        if buffer != 0:
            return buffer
    return _allocate()


@inline
def give_back(buffer):
    """Put a buffer into the pool, or free it if the pool is full."""
    for i in range(SLOTS):
        buffer = _exchange(_slot(i), buffer)  # a buffer that stood in this slot is put into another slot
        if buffer == 0:
            return
    _free(buffer)
