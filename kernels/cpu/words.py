"""Compiled functions that take their arguments from a list of words, and so can be called knowing nothing but an address.

An array is its address, its shape and its strides in bytes; a number is the address where it stands; a tuple is its parts.
"""

import _thread
import ctypes
import functools
import hashlib
import logging
import threading

import llvmlite.binding
import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.ccallback import CFunc
from numba.extending import intrinsic
from numba.np.numpy_support import as_dtype

from vae_np.kernels.cpu.jit import SOURCES, cache_of


def address_of(array):
    return array.__array_interface__["data"][0]


def kind_of(argument):
    """The type as which an argument is compiled."""
    if isinstance(argument, tuple):
        return types.Tuple([kind_of(part) for part in argument])
    kind = numba.typeof(argument)
    if not isinstance(argument, np.ndarray):
        return kind
    return kind.dtype if argument.ndim == 0 else types.Array(kind.dtype, kind.ndim, kind.layout)


def words_of(argument, kept):
    """What stands for an argument in the list; its memory is put into `kept`, to be held for as long as the words are used."""
    if isinstance(argument, tuple):
        return sum((words_of(part, kept) for part in argument), [])
    array = argument if isinstance(argument, np.ndarray) else np.array(argument, as_dtype(kind_of(argument)))
    kept.append(array)
    return [address_of(array), *array.shape, *array.strides]


@functools.cache
def compiled(operation, kinds):
    """The address of a compiled function that calls the operation, a dispatcher, with arguments of those types."""
    options = {name: operation.targetoptions[name] for name in ("error_model", "fastmath")}
    # As text, because a call with *arguments cannot be inlined: the operation would be compiled twice.
    names = ", ".join(f"argument_{i}" for i in range(len(kinds)))
    text = f"def entry(words):\n    ({names},) = arguments(words)\n    operation({names})"
    scope = {"operation": numba.njit(operation.py_func, inline="always"), "arguments": _reader(kinds)}
    exec(compile(text, __file__, "exec"), scope)
    function = scope["entry"]
    # The cache knows a function by its name alone.
    of_kinds = hashlib.sha256(str(kinds).encode()).hexdigest()[:12]
    function.__qualname__ = f"{operation.__qualname__}-{of_kinds}-{SOURCES}"
    function.__module__ = __name__
    entry = CFunc(function, ((types.intp,), types.void), {}, options)
    entry._cache = cache_of(function)
    entry.compile()
    return entry.address


def _reader(kinds):
    """A function that makes a tuple of arguments of those types from the address of their words."""

    @intrinsic
    def arguments(typingctx, words):
        def emit(context, builder, signature, args):
            pointer, place = builder.inttoptr(args[0], ir.IntType(64).as_pointer()), 0

            def word():
                nonlocal place
                place += 1
                return builder.load(builder.gep(pointer, [ir.Constant(ir.IntType(64), place - 1)]))

            def value_of(kind):
                if isinstance(kind, types.BaseTuple):
                    return context.make_tuple(builder, kind, [value_of(k) for k in kind])
                if not isinstance(kind, types.Array):
                    return builder.load(builder.inttoptr(word(), context.get_value_type(kind).as_pointer()))
                array = context.make_array(kind)(context, builder)
                context.populate_array(
                    array,
                    data=builder.inttoptr(word(), array.data.type),
                    shape=[word() for _ in range(kind.ndim)],
                    strides=[word() for _ in range(kind.ndim)],
                    itemsize=context.get_constant(types.intp, kind.dtype.bitwidth // 8),
                    meminfo=None,
                )
                return array._getvalue()

            return value_of(signature.return_type)

        return types.Tuple(kinds)(words), emit

    return arguments


BY_WORDS = ctypes.CFUNCTYPE(None, ctypes.c_int64)
_for_ever = []


def late(name, operation, plain):
    """(intrinsic, prepare): a function for compiled code to call that is large, and so compiled once, not into each caller.

    All its arguments are arrays of two axes and of one dtype, in any order. The callers find its address in a cell; there
    stands at first that of a function that has it compiled, or, where that fails, leaves the work to `plain` from then on.
    prepare(dtype) does so before.
    """
    n_arguments, cells = operation.py_func.__code__.co_argcount, {}

    def prepare(dtype):
        real = numba.from_dtype(np.dtype(dtype))
        cells[real][0] = compiled(operation, (types.Array(real, 2, "A"),) * n_arguments)

    def first_call(real):
        failed = False

        @BY_WORDS
        def call(words):
            nonlocal failed
            try:
                if not failed:
                    prepare(as_dtype(real))
                    return BY_WORDS(int(cells[real][0]))(words)
            except KeyboardInterrupt:  # nothing can be raised through compiled code: the work is done all the same
                threading.Timer(0.1, _thread.interrupt_main).start()
            except BaseException:
                failed = True
                logging.getLogger("vae_np").exception("%s could not be compiled; NumPy does its work", name)
            plain(*_arrays_at(words, as_dtype(real), n_arguments))

        return call

    for real in (types.float32, types.float64):
        function = first_call(real)
        cells[real] = np.array([ctypes.cast(function, ctypes.c_void_p).value], np.int64)
        _for_ever.append((cells[real], function))
        llvmlite.binding.add_symbol(f"{name}.{real}", address_of(cells[real]))

    def call(typingctx, arrays):
        real = arrays[0].dtype

        def emit(context, builder, signature, args):
            word, words = ir.IntType(64), []
            for kind, value in zip(arrays, cgutils.unpack_tuple(builder, args[0])):
                array = context.make_array(kind)(context, builder, value)
                shape, strides = (cgutils.unpack_tuple(builder, numbers, 2) for numbers in (array.shape, array.strides))
                words += [builder.ptrtoint(array.data, word), *shape, *strides]
            with builder.goto_entry_block():
                place = builder.alloca(word, ir.Constant(word, len(words)))
            for i, value in enumerate(words):
                builder.store(value, builder.gep(place, [ir.Constant(word, i)]))
            cell = cgutils.add_global_variable(builder.module, word, f"{name}.{real}")
            function = ir.FunctionType(ir.VoidType(), [word]).as_pointer()
            builder.call(builder.inttoptr(builder.load(cell), function), [builder.ptrtoint(place, word)])
            return context.get_dummy_value()

        return types.void(arrays), emit

    return intrinsic(call), prepare


def _arrays_at(words, dtype, n):
    """The matrices that stand in a list of words."""
    numbers = np.ctypeslib.as_array(ctypes.cast(words, ctypes.POINTER(ctypes.c_int64)), (n, 5))
    for address, *shape_and_strides in numbers.tolist():
        shape, strides = shape_and_strides[:2], shape_and_strides[2:]
        extent = sum((length - 1) * stride for length, stride in zip(shape, strides)) + dtype.itemsize
        memory = (ctypes.c_char * (extent if all(shape) else 0)).from_address(address)
        yield np.ndarray(shape, dtype, memory, strides=strides)
