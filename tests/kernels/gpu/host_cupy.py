"""A stand-in for CuPy: runs CUDA kernels on the host, thread after thread, to prove them where there is no GPU.

`with installed():` makes it the module `cupy`. A thread runs until it meets others, at a barrier or in its warp;
`order` says whose turn is next, and what depends on it is wrong. Memory is poison before it is written to, and
forbidden next to an array; `placement` says on which side at once. What is submitted to a stream is done at once or,
within `late`, when it is waited for. A launch that breaks a rule raises KernelFault, a call that CUDA refuses
CUDARuntimeError.

It does not see an update that two threads lose (for none is interrupted in it), a write into another array than the one
that was meant, what only NVIDIA's compiler refuses, and where its functions round otherwise.
"""

import collections
import contextlib
import ctypes
import functools
import hashlib
import importlib.machinery
import itertools
import math
import mmap
import os
import pathlib
import random
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import types
import weakref

import numpy as np

COMPILER = sys.platform == "linux" and shutil.which("nm") and shutil.which("g++")
HEADER = pathlib.Path(__file__).with_name("host_cuda.h")
FLAGS = (
    "-x c++ -std=c++17 -O1 -g1 -gdwarf-4 -fPIC -shared -fvisibility=hidden "
    "-fno-gnu-unique -w -ffp-contract=off -fno-strict-aliasing -fno-threadsafe-statics "
    "-U_FORTIFY_SOURCE -fstack-clash-protection "
    "-fsanitize=bounds,shift-exponent,integer-divide-by-zero,signed-integer-overflow,alignment "
    "-nodefaultlibs"  # what -fsanitize calls is in host_cuda.h
).split()
LIBRARIES = "-lm -lpthread -lrt -lc -lgcc".split()
PREPROCESS = "-E -nostdinc -x c++ -D__CUDACC__ -D__CUDACC_RTC__ -D__CUDA_ARCH__=900".split()
KERNEL = re.compile(
    r"(template\s*<[^{};]*>\s*)?__global__\s+(?:void\s+)?"
    r"(?:__launch_bounds__\s*\(((?:[^(),]|\([^()]*\))*)(?:,[^;{]*?)?\)\s*)?(?:void\s+)?(\w+)\s*\("
)
OPTIONS = set(  # those of NVRTC that change nothing here
    "std fmad ftz prec-div prec-sqrt maxrregcount use_fast_math extra-device-vectorization device-debug G dopt "
    "lineinfo generate-line-info restrict w disable-warnings default-device device-as-default-execution-space "
    "device-int128 builtin-move-forward builtin-initializer-list diag-error diag-suppress diag-warn ptxas-options "
    "Xptxas no-source-include split-compile minimal modify-stack-limit".split()
)
ORDERS = ("forward", "reverse", "shuffled")
PAGE = mmap.PAGESIZE
CANARY = np.full(PAGE // 4 + 1, 0xFFF7A5A5, np.uint32)  # not a number, be it read as float or as double
CANARY_AT = CANARY.ctypes.data

synchronisations = 0  # how often the host has waited for the device
most_turns = 2**32  # of all threads in a launch, which is endless if it takes more: this depends on no machine's speed
most_seconds = 60.0  # of computing without the end of a turn: a guard, far away, for a loop in which no thread meets others
_settings = {"order": "forward", "random": random.Random(0), "placement": "end", "alignment": 1, "late": False}


class KernelFault(RuntimeError):
    """What a kernel did that it may not do."""


class CompileException(Exception):
    """The module does not compile."""


class CUDARuntimeError(RuntimeError):
    """CUDA refuses the call."""


@contextlib.contextmanager
def _setting(**changes):
    before = dict(_settings)
    _settings.update(changes)
    try:
        yield
    finally:
        _settings.update(before)


def order(name, seed=0):
    """Within it threads, warps and blocks take their turns "forward", "reverse" or "shuffled"."""
    if name not in ORDERS:
        raise ValueError(f"order is {name!r}; known are {', '.join(ORDERS)}")
    return _setting(order=name, random=random.Random(seed))


def placement(edge, alignment=1):
    """Within it new arrays touch forbidden memory with their "end", or with their "start".

    An end stays as far from it as the beginning needs to be a multiple of `alignment` bytes.
    """
    if edge not in ("end", "start"):
        raise ValueError(f"edge is {edge!r}; known are end, start")
    return _setting(placement=edge, alignment=alignment)


@contextlib.contextmanager
def late():
    """Within it work is done as late as CUDA may do it: nothing before it is waited for, and then only what that needs.

    What forgets an event, or uses the wrong stream, then reads what is not there yet.
    """
    try:
        with _setting(late=True):
            yield
        for stream in list(_at_work):
            stream._finish()
    finally:
        for stream in list(_at_work):
            stream._queue.clear()
        _at_work.clear()


# ------------------------------------------------------------------------------------------------------------- memory

_libc = ctypes.CDLL(None)
_libc.memcmp.argtypes = _libc.mprotect.argtypes = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_size_t
_living = {}  # {address: weak reference} of the allocations


def _allocations():
    return [allocation for reference in list(_living.values()) if (allocation := reference())]


class _Allocation(mmap.mmap):
    """Memory between two forbidden pages; what of it is not the array's holds the canary."""

    def __new__(cls, nbytes):
        room = max(1, -(-nbytes // PAGE)) * PAGE
        self = super().__new__(cls, -1, room + 2 * PAGE)
        self.low = np.frombuffer(self, np.uint8).ctypes.data + PAGE
        self.high = self.low + room
        last = self.high - nbytes
        self.start = last - last % _settings["alignment"] if _settings["placement"] == "end" else self.low
        self.stop = self.start + nbytes
        self.slack = [  # (address, canary, bytes)
            (begin, CANARY_AT + begin % 4, end - begin)
            for begin, end in ((self.low, self.start), (self.stop, self.high))
            if begin < end
        ]
        for slack in self.slack:
            ctypes.memmove(*slack)
        self.view(self.start, nbytes)[:] = 0xFF  # not a number, or -1
        for guard in (self.low - PAGE, self.high):
            if _libc.mprotect(guard, PAGE, 0):
                raise MemoryError("mprotect failed")
        low = self.low
        _living[low] = weakref.ref(self, lambda _: _living.pop(low))
        return self

    def view(self, pointer, nbytes):
        return np.frombuffer(self, np.uint8, nbytes, pointer - self.low + PAGE)


def _damage():
    """An address next to an array that was written to, or 0; heals what it finds."""
    found = 0
    for allocation in _allocations():
        for begin, canary, nbytes in allocation.slack:
            if _libc.memcmp(begin, canary, nbytes):
                now, before = (np.frombuffer(ctypes.string_at(at, nbytes), np.uint8) for at in (begin, canary))
                ctypes.memmove(begin, canary, nbytes)
                found = begin + int(np.flatnonzero(now != before)[0 if begin == allocation.stop else -1])
    return found


def _memory(pointer, nbytes):
    """NumPy's view of device memory"""
    for allocation in _allocations():
        if allocation.start <= pointer and pointer + nbytes <= allocation.stop:
            return allocation.view(pointer, nbytes)
    raise KernelFault(f"{nbytes} bytes at {pointer:#x} are not inside one array of the device")


def _refuse_in_capture(what):
    # As CUDA does in all modes but the global one.
    if _captures and any(graph.thread == threading.get_ident() for graph in _captures):
        raise CUDARuntimeError(f"cudaErrorStreamCaptureUnsupported: {what} while a stream is capturing")


def _synchronise(what, *streams):
    global synchronisations
    _refuse_in_capture(what)
    synchronisations += 1
    for stream in streams:
        stream._finish()


class MemoryPointer:
    def __init__(self, pointer):
        self.ptr = pointer


class ndarray(np.lib.mixins.NDArrayOperatorsMixin):
    """An array of the device. The NumPy array that it holds it keeps to itself."""

    def __init__(self, shape, dtype=float, order="C"):
        _refuse_in_capture("an allocation")
        shape = tuple(shape) if isinstance(shape, (tuple, list)) else (shape,)
        allocation = _Allocation(math.prod(shape) * np.dtype(dtype).itemsize)
        self._host = np.ndarray(shape, dtype, allocation, allocation.start - allocation.low + PAGE, order=order)

    def _view(self, host):
        if host.size and not np.may_share_memory(host, self._host):
            raise NotImplementedError("the stand-in has only views, and this would be a copy")
        view = ndarray.__new__(ndarray)
        view._host = host
        return view

    def __getattr__(self, name):
        if name not in ("shape", "dtype", "size", "ndim", "strides", "nbytes", "itemsize", "flags"):
            raise AttributeError(f"the stand-in's arrays have no {name}")
        return getattr(self._host, name)

    @property
    def data(self):
        return MemoryPointer(self._host.__array_interface__["data"][0])

    @property
    def T(self):
        return self._view(self._host.T)

    def reshape(self, *shape):
        return self._view(self._host.reshape(*shape))

    def ravel(self):
        return self._view(self._host.ravel())

    def view(self, dtype):
        return self._view(self._host.view(dtype))

    def __len__(self):
        return len(self._host)

    def __array__(self, *_, **__):
        raise TypeError("Implicit conversion to a NumPy array is not allowed. Please use `.get()`")

    def __array_function__(self, function, *_):
        raise TypeError(f"the stand-in has no {function.__name__}")

    def __array_ufunc__(self, ufunc, method, *inputs, out=None, **kwargs):
        if method != "__call__":
            raise TypeError(f"the stand-in has no {ufunc.__name__}.{method}")
        inputs = [_operand(value) for value in inputs]
        if out is None:
            _refuse_in_capture("an allocation")
            with np.errstate(all="ignore"):  # of what is perhaps not there yet
                made = ufunc(*inputs, **kwargs)
            out = (empty(made.shape, made.dtype),)
        target = _operand(out[0])
        _submit(lambda: ufunc(*inputs, out=target, **kwargs))
        return out[0]

    def __getitem__(self, key):
        key = key if isinstance(key, tuple) else (key,)
        if not all(part is None or part is ... or isinstance(part, (slice, int, np.integer)) for part in key):
            raise TypeError("the stand-in has only indices that make a view")
        return self._view(self._host[key if any(part is ... for part in key) else (*key, ...)])

    def __setitem__(self, key, value):
        copyto(self[key], value, casting="unsafe")

    def fill(self, value):
        self[...] = value

    def copy(self):
        return array(self)

    def astype(self, dtype):
        return array(self, dtype)

    def get(self, stream=None, order="C", out=None, blocking=True):
        _synchronise("a copy to the host", stream or get_current_stream())
        if out is None:
            return self._host.copy(order)
        out[...] = self._host
        return out

    def set(self, host, stream=None):
        if not isinstance(host, np.ndarray) or host.dtype != self.dtype:
            raise TypeError(f"only a NumPy array of {self.dtype} can be set to an array of {self.dtype}")
        if host.shape != self.shape:
            raise ValueError(f"an array of {host.shape} cannot be set to one of {self.shape}")
        if not (self.flags.c_contiguous or self.flags.f_contiguous):
            raise RuntimeError("Cannot set to non-contiguous array")
        if stream is None:
            _refuse_in_capture("a copy that waits")
        host = _as_it_is(host)
        _submit(lambda: np.copyto(self._host, host), stream)

    def item(self):
        return self.get().item()

    def __float__(self):
        return float(self.item())

    def __int__(self):
        return int(self.item())

    def __bool__(self):
        return bool(self.item())


def _as_it_is(host):
    """An array of the host that stays what it is now, whatever becomes of the one given before it is read."""
    return host.copy("K") if _settings["late"] else host


def _operand(value):
    if isinstance(value, ndarray):
        return value._host
    if isinstance(value, (int, float, np.generic)):
        return value
    raise TypeError(f"Unsupported type {type(value)}")


def empty(shape, dtype=float, order="C"):
    return ndarray(shape, dtype, order)


def full(shape, fill_value, dtype=float):
    result = empty(shape, dtype)
    result.fill(fill_value)
    return result


def zeros(shape, dtype=float):
    return full(shape, 0, dtype)


def empty_like(a, dtype=None):
    return empty(a.shape, dtype or a.dtype)


def zeros_like(a, dtype=None):
    return zeros(a.shape, dtype or a.dtype)


def array(obj, dtype=None):
    host = obj._host if isinstance(obj, ndarray) else _as_it_is(np.asarray(obj))
    result = empty(host.shape, dtype or host.dtype, "F" if host.flags.fnc else "C")
    _submit(lambda: np.copyto(result._host, host, "unsafe"))
    return result


def asarray(a, dtype=None):
    return a if isinstance(a, ndarray) and dtype in (None, a.dtype) else array(a, dtype)


def asnumpy(a, stream=None, order="C", out=None, *, blocking=True):
    return a.get(stream, order, out) if isinstance(a, ndarray) else np.asarray(a)


def copyto(dst, src, casting="same_kind"):
    target, source = dst._host, _operand(src)
    _submit(lambda: np.copyto(target, source, casting))


# ------------------------------------------------------------------------------------------------- streams and graphs

_streams = weakref.WeakValueDictionary()
_at_work = set()  # streams whose work is not all done
_pointers = itertools.count(16, 16)
_captures = []  # the graph that is being captured, if there is one
_local = threading.local()  # of each thread of the host: its current stream, and those around it


class Stream:
    """What is submitted is done at once, or late; while the stream is capturing, whenever the graph is launched."""

    def __init__(self, null=False, non_blocking=False, ptds=False):
        self.ptr = 0 if null else next(_pointers)
        self._graph, self._past = None, set()  # of the graph's operations, those that precede the next one of this stream
        self._with_null = not non_blocking  # its work and that of the null stream wait for one another
        self._queue, self._submitted, self._done = collections.deque(), 0, 0
        _streams[self.ptr] = self

    def __enter__(self):
        if not hasattr(_local, "around"):
            _local.around = []
        _local.around.append(get_current_stream())
        return self.use()

    def __exit__(self, *_):
        _local.around.pop().use()

    def use(self):
        _local.current = self
        return self

    def _submit(self, operation):
        if not _settings["late"]:
            return operation()
        others = list(_streams.values()) if self.ptr == 0 else [_null]
        before = [(stream, stream._submitted) for stream in others if self._with_null and stream._with_null]
        self._queue.append((before, operation, _allocations()))  # an array that is freed is kept for what comes before
        self._submitted += 1
        _at_work.add(self)

    def _finish(self, n=None):
        """Do the first n operations that were ever submitted, or all, and what they wait for."""
        if n is None:
            self._submit(lambda: None)
            n = self._submitted
        while self._done < n:
            before, operation, _ = self._queue.popleft()
            self._done += 1
            for stream, m in before:
                stream._finish(m)
            operation()
        if not self._queue:
            _at_work.discard(self)

    def synchronize(self):
        _synchronise("Stream.synchronize", self)

    def record(self, event=None):
        event = event or Event()
        event._graph, event._past, event._after = self._graph, set(self._past), (self, self._submitted)
        return event

    def wait_event(self, event):
        if event._graph is not self._graph:
            if self._graph or event._graph not in _captures:
                raise CUDARuntimeError("cudaErrorStreamCaptureIsolation: the event is not of this capture")
            self._graph = event._graph
            self._graph.streams.append(self)
        self._past |= event._past
        if event._graph is None and event._after:
            stream, n = event._after
            self._submit(lambda: stream._finish(n))

    def begin_capture(self, mode=None):
        if self.ptr == 0:
            raise RuntimeError("cannot capture on the default (legacy) stream")
        _refuse_in_capture("another capture")
        if self._graph:
            raise CUDARuntimeError("cudaErrorIllegalState: the stream is capturing")
        self._graph = Graph(self)
        _captures.append(self._graph)

    def end_capture(self):
        graph, past = self._graph, self._past
        if graph is None or graph.streams[0] is not self:
            raise CUDARuntimeError("cudaErrorIllegalState: no capture began on this stream")
        _captures.remove(graph)
        for stream in graph.streams:
            stream._graph, stream._past = None, set()
        graph.streams.clear()
        if len(past) < len(graph.operations):
            raise CUDARuntimeError("cudaErrorStreamCaptureUnjoined: a stream has not come back to the one that began")
        return graph

    def is_capturing(self):
        return self._graph is not None


class Graph:
    def __init__(self, origin):
        self.streams, self.operations, self.thread = [origin], [], threading.get_ident()

    def launch(self, stream=None):
        _refuse_in_capture("the launch of a graph")
        for operation in self.operations:
            _submit(operation, stream)


class Event:
    def __init__(self, block=False, disable_timing=False, interprocess=False):
        self._graph, self._past, self._after = None, set(), None

    def record(self, stream=None):
        (stream or get_current_stream()).record(self)

    def synchronize(self):
        _synchronise("Event.synchronize")
        if self._after:
            stream, n = self._after
            stream._finish(n)


_null = Stream.null = Stream(null=True)


def get_current_stream():
    return getattr(_local, "current", _null)


def _submit(operation, stream=None):
    stream = get_current_stream() if stream is None else stream
    if stream._graph:
        stream._past.add(len(stream._graph.operations))
        stream._graph.operations.append(operation)
    else:
        _refuse_in_capture("work on a stream outside the capture")
        if stream.ptr == 0 and any(captured._with_null for graph in _captures for captured in graph.streams):
            raise CUDARuntimeError("cudaErrorStreamCaptureImplicit: the null stream would wait for one that is capturing")
        stream._submit(operation)


def memcpyAsync(dst, src, size, kind, stream):
    if kind not in (3, 4):  # device to device, or as the addresses say
        raise CUDARuntimeError("the stand-in copies only from device to device")
    _submit(lambda: np.copyto(_memory(dst, size), _memory(src, size)), _streams[stream])


def memsetAsync(ptr, value, size, stream):
    _submit(lambda: _memory(ptr, size).fill(value), _streams[stream])


class Device:
    id, compute_capability = 0, "90"

    def __init__(self, device=0):
        if device:
            raise CUDARuntimeError("cudaErrorInvalidDevice: invalid device ordinal")

    def synchronize(self):
        _synchronise("Device.synchronize", *_at_work)


# ------------------------------------------------------------------------------------------------------------ kernels


def _structure(**fields):
    return type("Structure", (ctypes.Structure,), {"_fields_": list(fields.items())})


_Argument = _structure(kind=ctypes.c_char, pointer=ctypes.c_bool, size=ctypes.c_short)
_Entry = _structure(
    name=ctypes.c_char_p,
    kernel=ctypes.c_void_p,
    call=ctypes.c_void_p,
    bound=ctypes.c_int,
    count=ctypes.c_int,
    arguments=ctypes.POINTER(_Argument),
)
_Range = _structure(begin=ctypes.c_size_t, size=ctypes.c_size_t)
_Report = _structure(
    address=ctypes.c_size_t,
    instruction=ctypes.c_size_t,
    line=ctypes.c_int,
    block=ctypes.c_uint * 3,
    thread=ctypes.c_uint * 3,
    text=ctypes.c_char * 256,
)


def _command(words, text=""):
    run = subprocess.run(words, input=text, capture_output=True, text=True)
    if run.returncode:
        raise CompileException(run.stderr)
    return run.stdout


def _build(text, *flags):
    """The library of a C++ text: compiled once, and kept in the folder for temporary files."""
    folder = pathlib.Path(tempfile.gettempdir()) / f"host_cupy_{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.stat().st_uid != os.getuid():
        raise PermissionError(f"{folder} is another user's")
    key = repr((text, HEADER.read_text(), FLAGS, flags, os.stat(COMPILER).st_mtime))
    path = folder / f"{hashlib.sha256(key.encode()).hexdigest()}.so"
    if not path.exists():
        unfinished = path.with_suffix(f".{os.getpid()}")
        _command([COMPILER, *FLAGS, *flags, "-include", HEADER, "-", "-o", unfinished, *LIBRARIES], text)
        unfinished.replace(path)
    return path


@functools.cache
def _runtime():
    runtime = ctypes.PyDLL(_build("", "-DHOST_CUDA_RUNTIME", "-fvisibility=default"), mode=ctypes.RTLD_GLOBAL)
    runtime.host_cuda_launch.argtypes = (
        [ctypes.c_void_p] * 2 + [ctypes.c_size_t] + [ctypes.c_void_p] * 3 + [ctypes.c_int, ctypes.c_ulonglong]
    ) + [ctypes.c_ulonglong, ctypes.c_double, ctypes.c_void_p]
    return runtime


class RawModule:
    def __init__(self, *, code=None, path=None, options=(), backend="nvrtc", name_expressions=None):
        if code is None or path is not None or backend != "nvrtc":
            raise TypeError("the stand-in takes source text, for NVRTC")
        if not isinstance(options, tuple):
            raise TypeError(f"options must be a tuple, not {type(options)}")
        self._code, self._expressions, self._kernels = code, tuple(name_expressions or ()), None
        self._flags = []
        for option in options:
            name, _, value = option.lstrip("-").partition("=")
            if re.match("-[DI].", option):
                self._flags.append(option)
            elif name in ("define-macro", "include-path"):
                self._flags.append(("-D" if name == "define-macro" else "-I") + value)
            elif not option.startswith("-") or name not in OPTIONS:
                raise CompileException(f"nvrtc: error: invalid value for or unrecognized option {option}")

    def compile(self):
        _runtime()
        text = _command([COMPILER, *PREPROCESS, *self._flags, "-"], '#line 1 "kernels.cu"\n' + self._code)
        found = {name: bound or "0" for template, bound, name in KERNEL.findall(text) if not template}
        found.update(dict.fromkeys(self._expressions, "0"))
        entries = ", ".join(f'host_cuda::entry("{name}", {name}, {bound})' for name, bound in found.items())
        self.path = _build(f'{text}\n#line 1 "entries"\nHOST_CUDA_ENTRIES({entries or "{}"})\n')
        library = ctypes.PyDLL(self.path)
        library.host_cuda_entries.restype = ctypes.POINTER(_Entry)
        location = (ctypes.c_void_p * 4)()  # of the library's file name, its beginning, a symbol and its address
        _libc.dladdr(library.host_cuda_entries, location)
        self.base = location[1]
        symbols = re.findall(r"(\w+) (\w+) [bB] (_ZZ(?!17host_cuda)\S+)|\w+ \w+ [tT] (\S+)", _command(["nm", "-S", self.path]))
        shared = [(int(begin, 16), int(size, 16), name) for begin, size, name, _ in symbols if name]
        self.shared = (_Range * len(shared))(*((self.base + begin, size) for begin, size, _ in shared))
        self._kernels = {}
        for name, entry in zip(found, library.host_cuda_entries()[: len(found)], strict=True):
            if sum(size for _, size, of in shared if of.startswith(f"_ZZ{len(name)}{name}E")) > 48 << 10:
                raise CompileException(f"{name} uses too much shared data")
            if name in self._expressions or name in [function for *_, function in symbols]:  # or its name is mangled
                self._kernels[name] = RawKernel(self, entry)

    def get_function(self, name):
        if self._kernels is None:
            self.compile()
        if name not in self._kernels:
            raise CUDARuntimeError(f"CUDA_ERROR_NOT_FOUND: named symbol not found: {name}")
        return self._kernels[name]


def _three(size, name, limits):
    if not isinstance(size, tuple) or not 1 <= len(size) <= 3:
        raise TypeError(f"{name} must be a tuple of one to three integers, not {size!r}")
    if not all(1 <= n <= limit for n, limit in zip(size, limits, strict=False)):
        raise CUDARuntimeError(f"CUDA_ERROR_INVALID_VALUE: {name} is {size}, each from 1 to {limits}")
    return (*size, 1, 1)[:3]


class RawKernel:
    def __init__(self, module, entry):
        self._module, self._entry, self.name = module, entry, entry.name.decode()
        self._arguments = entry.arguments[: entry.count]

    def __call__(self, grid, block, args, *, shared_mem=0, stream=None):
        grid = _three(grid, "grid", (2**31 - 1, 65535, 65535))
        block = _three(block, "block", (1024, 1024, 64))
        if int(np.prod(block)) > (self._entry.bound or 1024):
            raise CUDARuntimeError(f"CUDA_ERROR_INVALID_VALUE: {self.name}: block is {block}, too many threads")
        if shared_mem:
            raise NotImplementedError("the stand-in has no dynamic shared memory")
        if len(args) != len(self._arguments):
            raise TypeError(f"{self.name} takes {len(self._arguments)} arguments, not {len(args)}")
        values = np.zeros(max(1, len(args)), np.uint64)
        for i, (value, argument) in enumerate(zip(args, self._arguments, strict=True)):
            packed = self._pack(i, value, argument)
            values[i : i + 1].view(np.uint8)[: packed.nbytes] = np.frombuffer(packed.tobytes(), np.uint8)
        _submit(lambda: self._run(grid, block, values), stream)

    def _pack(self, i, value, argument):
        """The value as the scalar that CuPy would pass, which has to be what the kernel takes."""
        kind, pointer = argument.kind.decode(), argument.pointer
        wanted = f"{self.name}: argument {i}: the kernel takes {kind}{argument.size}{'*' * pointer}, not"
        if isinstance(value, ndarray):
            if not pointer or (kind != "V" and (kind, argument.size) != (value.dtype.kind, value.itemsize)):
                raise TypeError(f"{wanted} an array of {value.dtype}")
            return np.uint64(value.data.ptr)
        if value is None or isinstance(value, MemoryPointer):
            value = np.uint64(value.ptr if value else 0)
        elif not isinstance(value, np.generic):
            scalar = {bool: np.int64, int: np.int64, float: np.float64}.get(type(value))
            if scalar is None:
                raise TypeError(f"{wanted} what is an Unsupported type {type(value)}")
            value = scalar(value)
        if pointer and value.dtype.kind in "iu" and value.itemsize == 8:
            if value:
                _memory(int(value), 1)
            return value
        sign_fits = {"ui": value < 2 ** (8 * argument.size - 1), "iu": value >= 0}
        given = value.dtype.kind
        if pointer or value.itemsize != argument.size or not (given == kind or sign_fits.get(given + kind)):
            raise TypeError(f"{wanted} {value!r}, {value.dtype}")
        return value

    def _run(self, grid, block, values):
        report = _Report()
        pointers = (ctypes.c_void_p * len(values))(*range(values.ctypes.data, values.ctypes.data + values.nbytes, 8))
        failed = _runtime().host_cuda_launch(
            ctypes.byref(self._entry),
            self._module.shared,
            len(self._module.shared),
            (ctypes.c_uint * 3)(*grid),
            (ctypes.c_uint * 3)(*block),
            pointers,
            ORDERS.index(_settings["order"]),
            _settings["random"].getrandbits(64),
            most_turns,
            most_seconds,
            ctypes.byref(report),
        )
        damage = _damage()
        if failed:
            line = report.line or self._line(report.instruction)
            place = f"block {tuple(report.block)}, thread {tuple(report.thread)}{f', line {line}' if line else ''}"
            words = report.text.decode() + (_whereabouts(report.address, values) if report.address else "")
            raise KernelFault(f"{self.name}: {place}: {words}")
        if damage:
            raise KernelFault(f"{self.name}: written to{_whereabouts(damage, values)}")

    def _line(self, instruction):
        """The source line of an instruction, if there is a tool to tell it"""
        if not instruction or not shutil.which("addr2line"):
            return 0
        words = _command(["addr2line", "-i", "-e", self._module.path, hex(max(0, instruction - self._module.base))])
        found = re.search(r"kernels\.cu:(\d+)", words)
        return int(found[1]) if found else 0


def _whereabouts(address, values):
    for a in _allocations():
        if a.low - PAGE <= address < a.high + PAGE:
            distance = f"{address - a.stop} bytes past the end" if address >= a.stop else f"{a.start - address} bytes before"
            which = [i for i, value in enumerate(values.tolist()) if a.start <= value <= a.stop]
            return f", {distance} of {f'argument {which[0]}' if which else 'an array that it was not given'}"
    return f", at {address:#x}"


# ------------------------------------------------------------------------------------------------------------- cuBLAS


def _plain(value):
    return getattr(value, "value", value) or 0  # of a ctypes scalar, or what it already is


def _target(reference):
    return reference._obj if hasattr(reference, "_obj") else reference.contents


def _vector(dtype, pointer, n, step):
    if pointer % dtype.itemsize:
        raise KernelFault(f"{pointer:#x} is no address of {dtype}")
    elements = _memory(pointer, ((n - 1) * abs(step) + 1) * dtype.itemsize if n else 0).view(dtype)[:: abs(step)]
    return elements[::-1] if step < 0 else elements


def _matrix(dtype, pointer, rows, columns, leading, transposed=False):
    """A matrix of columns that begin `leading` elements after one another"""
    flat = _vector(dtype, pointer, (columns - 1) * leading + rows if rows and columns else 0, 1)
    strides = dtype.itemsize, leading * dtype.itemsize
    matrix = np.lib.stride_tricks.as_strided(flat, (rows, columns), strides)
    return matrix.T if transposed else matrix


class Cublas:
    """cuBLAS as ctypes shows it, on the stand-in's memory.

    A product is made by two kernels, as cuBLAS makes some: the first leaves it in the workspace that the handle was given,
    the second takes it from there. Status 1 is of an unknown handle, 7 of a wrong value, 3 of a workspace that cuBLAS would
    have to allocate in a capture. (It does so, for each product of each graph; here it must not be needed.)
    """

    def __init__(self):
        self._streams, self._workspaces = {}, {}  # {handle: stream}, {handle: (address, bytes)}
        for type_ in (ctypes.c_float, ctypes.c_double):
            letter = "S" if type_ is ctypes.c_float else "D"
            setattr(self, f"cublas{letter}gemm_v2", functools.partial(self._call, self._gemm, type_))
            setattr(self, f"cublas{letter}gemv_v2", functools.partial(self._call, self._gemv, type_))
        self.cublasCreate_v2 = functools.partial(self._create)  # functions that argtypes can be set of, as ctypes' can
        for name in ("cublasDestroy_v2", "cublasSetStream_v2", "cublasSetWorkspace_v2", "cublasSetMathMode"):
            setattr(
                self,
                name,
                functools.partial(self._call, getattr(self, "_" + name[6:].lower().removesuffix("_v2")), None),
            )

    def _create(self, handle):
        _target(handle).value = pointer = next(_pointers)
        self._streams[pointer], self._workspaces[pointer] = _null, None
        return 0

    def _call(self, function, type_, handle, *args):
        handle = _plain(handle)
        if handle not in self._streams:
            return 1
        return function(*([type_] if type_ else []), handle, *map(_plain, args)) or 0

    def _destroy(self, handle):
        del self._streams[handle], self._workspaces[handle]

    def _setstream(self, handle, stream):
        self._streams[handle], self._workspaces[handle] = _streams[stream], None  # as NVIDIA's documentation says

    def _setworkspace(self, handle, workspace, size):
        _memory(workspace, size)
        if workspace % 256:
            return 7
        self._workspaces[handle] = workspace, size

    def _setmathmode(self, handle, mode):
        return 0

    def _combine(self, handle, type_, alpha, product, beta, out):
        """out() = alpha product() + beta out(); what is taken 0 times is not read."""
        alpha, beta = _target(alpha), _target(beta)
        if not (isinstance(alpha, type_) and isinstance(beta, type_)):
            raise TypeError(f"alpha and beta have to be {type_.__name__}")
        alpha, beta = np.dtype(type_).type(alpha.value), np.dtype(type_).type(beta.value)
        stream, workspace, own = self._streams[handle], self._workspaces[handle], []
        if workspace is None and stream.is_capturing():
            return 3

        def multiply():
            result = alpha * product() if alpha else np.zeros_like(out())
            if workspace is None or workspace[1] < result.nbytes:
                own[:] = [result]
            else:
                _memory(workspace[0], result.nbytes).view(result.dtype)[:] = result.ravel()
                own.clear()

        def finish():
            target = out()
            result = own[0] if own else _memory(workspace[0], target.nbytes).view(target.dtype).reshape(target.shape)
            target[...] = result + beta * target if beta else result

        _submit(multiply, stream)
        _submit(finish, stream)

    def _gemm(self, type_, handle, ta, tb, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc):
        right = {ta, tb} <= {0, 1, 2} and min(m, n, k) >= 0 and alpha and beta
        if not right or lda < max(1, k if ta else m) or ldb < max(1, n if tb else k) or ldc < max(1, m):
            return 7
        left = np.dtype(type_), a, k if ta else m, m if ta else k, lda, ta
        right = np.dtype(type_), b, n if tb else k, k if tb else n, ldb, tb
        if m and n:
            out = functools.partial(_matrix, np.dtype(type_), c, m, n, ldc)
            return self._combine(handle, type_, alpha, lambda: _matrix(*left) @ _matrix(*right), beta, out)

    def _gemv(self, type_, handle, trans, m, n, alpha, a, lda, x, incx, beta, y, incy):
        if trans not in (0, 1, 2) or min(m, n) < 0 or not (alpha and beta and incx and incy) or lda < max(1, m):
            return 7
        matrix, vector = (np.dtype(type_), a, m, n, lda, trans), (np.dtype(type_), x, m if trans else n, incx)
        if m and n:
            out = functools.partial(_vector, np.dtype(type_), y, n if trans else m, incy)
            return self._combine(handle, type_, alpha, lambda: _matrix(*matrix) @ _vector(*vector), beta, out)


# ------------------------------------------------------------------------------------------------------- installation


@contextlib.contextmanager
def installed():
    """Within it `import cupy` gives the stand-in."""
    cupy, cuda, runtime = modules = [types.ModuleType(name) for name in ("cupy", "cupy.cuda", "cupy.cuda.runtime")]
    exported = {
        cupy: "ndarray empty full zeros empty_like zeros_like array asarray asnumpy copyto RawModule RawKernel",
        cuda: "Stream Event Graph Device MemoryPointer get_current_stream",
        runtime: "memcpyAsync memsetAsync CUDARuntimeError",
    }
    for module, names in exported.items():
        vars(module).update({name: globals()[name] for name in names.split()})
    for name in "bool_ uint8 int8 uint16 int16 uint32 int32 uint64 int64 float32 float64".split():
        setattr(cupy, name, getattr(np, name))
    vars(cupy).update(__version__="14.0.0", cuda=cuda)
    vars(cuda).update(runtime=runtime, is_available=lambda: True, alloc_pinned_memory=bytearray)
    cuda.device = types.SimpleNamespace(get_cublas_handle=lambda: 1)
    cuda.compiler = types.SimpleNamespace(CompileException=CompileException)
    vars(runtime).update(
        getDeviceCount=lambda: 1,
        getDevice=lambda: 0,
        runtimeGetVersion=lambda: 13000,
        driverGetVersion=lambda: 13000,
        getDeviceProperties=lambda device: {"name": b"host", "multiProcessorCount": 4, "major": 9, "minor": 0},
        deviceSynchronize=lambda: _synchronise("deviceSynchronize", *_at_work),
        memcpyDeviceToDevice=3,
        memcpyDefault=4,
        streamCaptureModeGlobal=0,
        streamCaptureModeThreadLocal=1,
        streamCaptureModeRelaxed=2,
    )
    before = {name: sys.modules.pop(name) for name in list(sys.modules) if name.split(".")[0] == "cupy"}
    for module in modules:
        module.__spec__, module.__path__ = importlib.machinery.ModuleSpec(module.__name__, None), []
        sys.modules[module.__name__] = module
    try:
        yield cupy
    finally:
        for name in [name for name in sys.modules if name.split(".")[0] == "cupy"]:
            del sys.modules[name]
        sys.modules.update(before)
        _captures.clear()
