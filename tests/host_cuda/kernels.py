"""Modules of kernels, and launches with the checks that CUDA and CuPy make, and more."""

import ctypes
import re
import shutil
from typing import Any

import numpy as np

from tests.host_cuda import runtime
from tests.host_cuda.arrays import MemoryPointer, ndarray
from tests.host_cuda.compiler import build_module, flags_of, preprocess, run
from tests.host_cuda.errors import CompileException, CUDADriverError, KernelFault, because
from tests.host_cuda.memory import describe, find_damage, libc, memory_at
from tests.host_cuda.streams import refuse_in_capture, submit

KERNEL = re.compile(  # the declaration of a kernel: (template, the largest number of threads in a block, name)
    r"(template\s*<[^{};]*>\s*)?__global__\s+(?:void\s+)?"
    r"(?:__launch_bounds__\s*\(((?:[^(),]|\([^()]*\))*)(?:,[^;{]*?)?\)\s*)?(?:void\s+)?(\w+)\s*\("
)
# The lines of `nm -S`: (address, bytes, name) of static data in functions, which is shared memory, or the name of a function.
SYMBOL = re.compile(r"(\w+) (\w+) [bB] (_ZZ(?!17host_cuda)\S+)|\w+ \w+ [tT] (\S+)")
MOST_SHARED = 48 << 10  # bytes of shared memory for a kernel
MOST_THREADS = 1024  # in a block


class RawModule:
    """The kernels of a source file. It is compiled when the first kernel is asked for.

    Parameters
    ----------
    code
        The text of the file.
    options
        The options of NVRTC.
    name_expressions
        The kernels that are templates, as in "fill<double, 3>".
    """

    def __init__(
        self,
        code: str | None = None,
        *,
        path: str | None = None,
        options: tuple[str, ...] = (),
        backend: str = "nvrtc",
        name_expressions: Any = None,
    ) -> None:
        if code is None or path is not None or backend != "nvrtc":
            raise TypeError("the stand-in only takes the text of a source file, and the backend nvrtc")
        self._code, self._options, self._flags = code, options, flags_of(options)
        self._expressions = tuple(name_expressions or ())
        self._compiled, self._kernels = False, {}

    def compile(self) -> None:
        """Compile the module, and find its kernels and their shared memory."""
        refuse_in_capture("the loading of a module")
        runtime.library()
        text = preprocess(self._code, self._flags)
        found = {name: bound or "0" for template, bound, name in KERNEL.findall(text) if not template}
        found.update(dict.fromkeys(self._expressions, "0"))
        entries = ", ".join(f'host_cuda::entry("{name}", {name}, {bound})' for name, bound in found.items())
        self._path = build_module(f'{text}\n#line 1 "entries"\nHOST_CUDA_ENTRIES({entries or "{}"})\n')
        library = ctypes.PyDLL(str(self._path))
        library.host_cuda_entries.restype = ctypes.POINTER(runtime.Entry)
        location = (ctypes.c_void_p * 4)()  # the library's file name, where it begins, a symbol and its address
        libc.dladdr(library.host_cuda_entries, location)
        self._base = location[1] or 0
        symbols = SYMBOL.findall(run(["nm", "-S", self._path]))
        shared = [(int(begin, 16), int(size, 16), name) for begin, size, name, _ in symbols if name]
        self.shared = (runtime.Range * len(shared))(*((self._base + begin, size) for begin, size, _ in shared))
        functions = {function for *_, function in symbols}
        for name, entry in zip(found, library.host_cuda_entries()[: len(found)], strict=True):
            if sum(size for _, size, of in shared if of.startswith(f"_ZZ{len(name)}{name}E")) > MOST_SHARED:
                text = f"{name} uses too much shared data: more than {MOST_SHARED} bytes"
                raise CompileException(text, self._code, "kernels.cu", self._options)
            if name in self._expressions or name in functions:  # a kernel that is not extern "C" has a mangled name
                self._kernels[name] = RawKernel(self, entry)
        self._compiled = True

    def get_function(self, name: str) -> "RawKernel":
        """Return a kernel."""
        if not self._compiled:
            self.compile()
        if name not in self._kernels:
            raise because(CUDADriverError(500), f"the module has no kernel {name}")
        return self._kernels[name]

    def line_of(self, instruction: int) -> int:
        """Return the line of the source that an instruction belongs to, or 0 where no tool tells it."""
        if not instruction or not shutil.which("addr2line"):
            return 0
        words = run(["addr2line", "-i", "-e", self._path, hex(max(0, instruction - self._base))])
        found = re.search(r"kernels\.cu:(\d+)", words)
        return int(found[1]) if found else 0


class RawKernel:
    """A kernel of a module."""

    def __init__(self, module: RawModule, entry: Any) -> None:
        self._module, self._entry, self.name = module, entry, entry.name.decode()
        self._arguments = entry.arguments[: entry.count]

    def __call__(self, grid: tuple[int, ...], block: tuple[int, ...], args: Any, *, shared_mem: int = 0) -> None:
        """Launch it. Arguments must be scalars of NumPy or Python and arrays of the device, of the types of the kernel."""
        grid = _three(grid, "grid", (2**31 - 1, 65535, 65535))
        block = _three(block, "block", (1024, 1024, 64))
        if int(np.prod(block)) > (self._entry.bound or MOST_THREADS):
            raise because(CUDADriverError(1), f"{self.name}: block is {block}, which is too many threads")
        if shared_mem:
            raise NotImplementedError("the stand-in does not have dynamic shared memory")
        if len(args) != len(self._arguments):
            raise TypeError(f"{self.name} takes {len(self._arguments)} arguments, not {len(args)}")
        values = np.zeros(max(1, len(args)), np.uint64)
        for i, (value, argument) in enumerate(zip(args, self._arguments, strict=True)):
            packed = self._pack(i, value, argument)
            values[i : i + 1].view(np.uint8)[: packed.nbytes] = np.frombuffer(packed.tobytes(), np.uint8)
        submit(lambda: self._run(grid, block, values))

    def _pack(self, i, value, argument):
        """The scalar that CuPy would pass for a value. It must have the type that the kernel takes."""
        kind, pointer = argument.kind.decode(), argument.pointer
        wanted = f"{self.name}: argument {i}: the kernel takes {kind}{argument.size}{'*' * pointer}, not"
        if isinstance(value, ndarray):
            if not pointer or (kind != "V" and (kind, argument.size) != (value.dtype.kind, value.itemsize)):
                raise TypeError(f"{wanted} an array of {value.dtype}")
            return np.uint64(value.data.ptr)
        scalar = _scalar(value)
        if scalar is None:
            raise TypeError(f"{wanted} a value of the unsupported type {type(value)}")
        if pointer and scalar.dtype.kind in "iu" and scalar.itemsize == 8:
            if scalar:
                memory_at(int(scalar), 1)
            return scalar
        sign_fits = {"ui": scalar < 2 ** (8 * argument.size - 1), "iu": scalar >= 0}
        given = scalar.dtype.kind
        if pointer or scalar.itemsize != argument.size or not (given == kind or sign_fits.get(given + kind)):
            raise TypeError(f"{wanted} {scalar!r}, {scalar.dtype}")
        return scalar

    def _run(self, grid, block, values):
        addresses = (ctypes.c_void_p * len(values))(*range(values.ctypes.data, values.ctypes.data + values.nbytes, 8))
        report = runtime.launch(self._entry, self._module.shared, grid, block, addresses)
        damage = find_damage()
        if report:
            line = report.line or self._module.line_of(report.instruction)
            place = f"block {tuple(report.block)}, thread {tuple(report.thread)}{f', line {line}' if line else ''}"
            words = report.text.decode()
            if report.address:
                words += f": the address is {describe(report.address, values.tolist())}"
            raise KernelFault(f"{self.name}: {place}: {words}")
        if damage:
            raise KernelFault(f"{self.name}: a thread wrote outside an array, {describe(damage, values.tolist())}")


def _scalar(value: Any) -> Any:
    """The scalar of NumPy as which CuPy passes a value, or None if there is no such scalar."""
    if isinstance(value, np.generic):
        return value
    if value is None or isinstance(value, MemoryPointer):
        return np.uint64(value.ptr if value else 0)
    dtypes = {bool: np.int64, int: np.int64, float: np.float64}
    return dtypes[type(value)](value) if type(value) in dtypes else None


def _three(size, name, limits):
    """The size of a grid or a block along three axes, if CUDA allows it."""
    if not isinstance(size, tuple) or not 1 <= len(size) <= 3:
        raise TypeError(f"{name} is {size!r}; it must be a tuple of one to three integers")
    if not all(1 <= n <= limit for n, limit in zip(size, limits, strict=False)):
        raise because(CUDADriverError(1), f"{name} is {size}; each number must be from 1 to that in {limits}")
    return (*size, 1, 1)[:3]
