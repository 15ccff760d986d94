"""Compiled functions that read their arguments from a buffer, so that whoever calls one needs to know only two addresses.

An argument buffer holds numbers of 64 bits ("words"). An array takes an address, a shape and strides in bytes; a number
takes the address of its memory; a tuple takes what its elements take.
"""

import _thread
import contextlib
import ctypes
import functools
import hashlib
import logging
import subprocess
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import llvmlite.binding
import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.ccallback import CFunc
from numba.core.compiler_lock import global_compiler_lock
from numba.np.numpy_support import as_dtype
from numpy.typing import DTypeLike

from vae_np.kernels.contract import Array
from vae_np.kernels.cpu.jit import SOURCES, cache_of, intrinsic, is_kept, njit, one_by_one, python_beside


def address_of(array: Array) -> int:
    """Return the address of an array's first element."""
    return array.__array_interface__["data"][0]


def type_of(argument: Any) -> types.Type:
    """Return the Numba type as which an argument is compiled; an array of no axes is a number."""
    if isinstance(argument, tuple):
        return types.Tuple([type_of(element) for element in argument])
    kind: Any = numba.typeof(argument)
    if not isinstance(argument, np.ndarray):
        return kind
    return kind.dtype if argument.ndim == 0 else types.Array(kind.dtype, kind.ndim, kind.layout)


def types_of(arguments: Iterable[Any]) -> tuple[types.Type, ...]:
    return tuple(map(type_of, arguments))


def words_of(argument: Any, kept: list[Array]) -> list[int]:
    """Return the words of an argument; append to `kept` the memory that they point to, which must live as long as they."""
    if isinstance(argument, tuple):
        return [word for element in argument for word in words_of(element, kept)]
    array = argument if isinstance(argument, np.ndarray) else np.array(argument, as_dtype(type_of(argument)))
    kept.append(array)
    return [address_of(array), *array.shape, *array.strides]


def compiled(operation: Any, kinds: tuple[types.Type, ...]) -> int:
    """Return the address of a compiled function (buffer address -> None) that calls an operation.

    Parameters
    ----------
    operation
        A Numba dispatcher.
    kinds
        The types of its arguments, as `type_of` returns them.
    """
    entry = _entry(operation, kinds)
    if entry.address is None:
        compile_all([(operation, kinds)])
    return entry.address


def call_compiled(operation: Any, arguments: tuple) -> None:
    """Call an operation by its function of `compiled`."""
    call_at(compiled(operation, types_of(arguments)), arguments)


def call_at(address: int, arguments: tuple) -> None:
    """Call the function of `compiled` at an address."""
    kept: list[Array] = []
    buffer = np.array(words_of(arguments, kept), np.int64)
    ENTRY(address)(address_of(buffer))


def compile_all(wanted: Iterable[tuple[Any, tuple[types.Type, ...]]]) -> None:
    """Compile many functions of `compiled`, or read them from the cache; wanted: (operation, kinds) of each."""
    with global_compiler_lock:
        entries = [entry for entry in (_entry(*one) for one in dict.fromkeys(wanted)) if entry.address is None]
        missing = [entry for entry in entries if not entry.is_kept()]
        for entry in entries:
            if entry not in missing:
                entry.compile()
        missing.sort(key=lambda entry: entry.elsewhere is not None)  # the others are compiled meanwhile
        one_by_one([(entry.operation, entry.compile) for entry in missing])


def begin_elsewhere(wanted: Iterable[tuple[Any, tuple[types.Type, ...]]], code: str) -> None:
    """Let another process compile such functions for the cache, where they are not in it; code: what it runs for that."""
    missing = [entry for entry in (_entry(*one) for one in wanted) if entry.address is None and not entry.is_kept()]
    if missing and not any(entry.elsewhere for entry in missing):
        process = python_beside(code)
        for entry in missing:
            entry.elsewhere = process


LONG = 60  # seconds, after which another process is no longer waited for


class Entry(CFunc):
    """A compiled function that reads its arguments from a buffer; at first it is neither compiled nor read from the cache."""

    elsewhere: subprocess.Popen | None = None  # the process that compiles it for the cache, if there is one

    def __init__(self, operation, function, options):
        super().__init__(function, ((types.intp,), types.void), {}, options)
        self.operation, self._cache = operation, cache_of(function)

    def is_kept(self):
        return self.elsewhere is None and is_kept(self._cache, self._sig, self._targetdescr.target_context)

    def compile(self):
        if self.elsewhere:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.elsewhere.wait(LONG)
        super().compile()


@functools.cache
def _entry(operation, kinds) -> Any:
    options = {name: operation.targetoptions[name] for name in ("error_model", "fastmath")}
    # The function is made from text, because Numba does not inline a call with *arguments, and would compile the operation
    # twice.
    names = ", ".join(f"argument_{i}" for i in range(len(kinds)))
    text = f"def entry(buffer):\n    ({names},) = arguments(buffer)\n    operation({names})"
    scope = {"operation": njit(operation.py_func, inline="always"), "arguments": _reader(kinds)}
    exec(compile(text, __file__, "exec"), scope)
    function = scope["entry"]
    # The cache knows a function by its name alone.
    of_kinds = hashlib.sha256(str(kinds).encode()).hexdigest()[:12]
    function.__qualname__ = f"{operation.__qualname__}-{of_kinds}-{SOURCES}"
    function.__module__ = __name__
    return Entry(operation.py_func.__name__, function, options)


def _reader(kinds):
    """A function for compiled code that makes a tuple of arguments of those types from the address of a buffer."""

    @intrinsic
    def arguments(typingctx, buffer):
        def emit(context, builder, signature, args):
            pointer, place = builder.inttoptr(args[0], ir.IntType(64).as_pointer()), 0

            def word():
                nonlocal place
                place += 1
                return builder.load(builder.gep(pointer, [ir.Constant(ir.IntType(64), place - 1)]))

            def value_of(kind):
                if isinstance(kind, types.Tuple | types.UniTuple):
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

        return types.Tuple(kinds)(buffer), emit

    return arguments


@intrinsic
def call(typingctx, function, buffer):
    """Call a compiled function with an argument buffer, both given by their addresses."""

    def emit(context, builder, signature, args):
        kind = ir.FunctionType(ir.VoidType(), [ir.IntType(64)])
        builder.call(builder.inttoptr(args[0], kind.as_pointer()), [args[1]])
        return context.get_dummy_value()

    return types.void(types.intp, types.intp), emit


ENTRY = ctypes.CFUNCTYPE(None, ctypes.c_int64)
_callbacks = []  # compiled code holds their addresses, so that they must never be freed


class LazilyCompiled(NamedTuple):
    """A large function that compiled code can call, and that is compiled once and not into every caller."""

    call: Any  # an intrinsic for compiled code; it takes a tuple of the arguments
    wanted: Callable[..., tuple]  # wanted(*dtypes of the arguments) is what `compiled` takes
    prepare: Callable[..., None]  # prepare(*dtypes of the arguments) compiles it, or reads it, before anyone calls it


def lazily_compiled(
    name: str, operation: Any, fallback: Callable[..., object], dtypes: Iterable[tuple[DTypeLike, ...]]
) -> LazilyCompiled:
    """Make a LazilyCompiled function.

    The callers find the function's address in a variable. At first this is the address of a function that compiles the
    operation and then calls it.

    Parameters
    ----------
    name
        The symbol of the variable, without the dtypes.
    operation
        A Numba dispatcher. Its arguments are arrays of two axes, in any order of memory.
    fallback
        A Python function with the same arguments, which does the work where the operation cannot be compiled.
    dtypes
        What the arguments may be: for each possibility the dtype of every argument.
    """
    cells = {}

    def wanted(*of_arguments):
        kinds = tuple(numba.from_dtype(np.dtype(dtype)) for dtype in of_arguments)
        return operation, tuple(types.Array(kind, 2, "A") for kind in kinds)

    def prepare(*of_arguments):
        kinds = tuple(numba.from_dtype(np.dtype(dtype)) for dtype in of_arguments)
        cells[kinds][0] = compiled(*wanted(*of_arguments))

    def first_call(kinds):
        failed = False

        @ENTRY
        def call(buffer):
            nonlocal failed
            try:
                if not failed:
                    prepare(*map(as_dtype, kinds))
                    return ENTRY(int(cells[kinds][0]))(buffer)
            except (
                KeyboardInterrupt
            ):  # an exception cannot pass through compiled code: the work is done, and Ctrl-C comes after it
                threading.Timer(0.1, _thread.interrupt_main).start()
            except BaseException:
                failed = True
                logging.getLogger("vae_np").exception("%s could not be compiled; NumPy does its work", name)
            fallback(*_arrays_in(buffer, [as_dtype(kind) for kind in kinds]))

        return call

    for of_arguments in dtypes:
        kinds = tuple(numba.from_dtype(np.dtype(dtype)) for dtype in of_arguments)
        function = first_call(kinds)
        cells[kinds] = np.array([ctypes.cast(function, ctypes.c_void_p).value], np.int64)
        _callbacks.append((cells[kinds], function))
        llvmlite.binding.add_symbol(_symbol(name, kinds), address_of(cells[kinds]))

    def call(typingctx, arrays):
        symbol = _symbol(name, [array.dtype for array in arrays])

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
            cell = cgutils.add_global_variable(builder.module, word, symbol)
            function = ir.FunctionType(ir.VoidType(), [word]).as_pointer()
            builder.call(builder.inttoptr(builder.load(cell), function), [builder.ptrtoint(place, word)])
            return context.get_dummy_value()

        return types.void(arrays), emit

    return LazilyCompiled(intrinsic(call), wanted, prepare)


def _symbol(name, kinds):
    return ".".join([name, *map(str, kinds)])


def _arrays_in(buffer: int, dtypes: Sequence[np.dtype]) -> Iterator[Array]:
    """The matrices of those dtypes whose words are in a buffer."""
    numbers = np.ctypeslib.as_array(ctypes.cast(buffer, ctypes.POINTER(ctypes.c_int64)), (len(dtypes), 5))
    for dtype, (address, *shape_and_strides) in zip(dtypes, numbers.tolist()):
        shape, strides = shape_and_strides[:2], shape_and_strides[2:]
        extent = sum((length - 1) * stride for length, stride in zip(shape, strides)) + dtype.itemsize
        memory: Any = (ctypes.c_char * (extent if all(shape) else 0)).from_address(address)
        yield np.ndarray(shape, dtype, memory, strides=strides)
