"""The machine at its best: how many multiply-adds it makes, and how fast each level of its caches is read and written."""

import concurrent.futures
import contextlib
import functools
import mmap
import os
import pathlib
import queue
import statistics
import threading
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir
from numba import types
from numpy.typing import NDArray

from benchmarks import processes
from vae_np import blas
from vae_np.kernels.cpu import amx
from vae_np.kernels.cpu.emit import MULTIPLIES_PAIRS, VECTOR, VECTORS, Emit
from vae_np.kernels.cpu.jit import exact, intrinsic
from vae_np.kernels.cpu.panel import HEIGHTS

PIECES, PIECE_SECONDS = 8, 5e-4  # a loop is timed in such pieces, the fastest of which no other process has interrupted
CACHES = pathlib.Path("/sys/devices/system/cpu/cpu0/cache")
SUMS = VECTORS * sum(HEIGHTS[:1])  # so many vectors stay in the registers: enough to wait for none of them


class Loop(NamedTuple):
    """A loop: how many floating-point operations, or bytes, a turn of it computes, or moves, and a function of turns."""

    per_turn: int
    run: Callable[[int], object]

    def turns(self) -> int:
        """Return how many turns take as long as a piece, or up to twice as long."""
        n = 1
        self.run(n)  # the first call may compile
        while _seconds(self.run, n) < PIECE_SECONDS:
            n *= 2
        return n

    def speed(self, turns: int | None = None) -> float:
        """Return the operations, or bytes, per second of the fastest piece; of so many turns, or of as many as `turns` says."""
        turns = turns or self.turns()
        return self.per_turn * turns / min(_seconds(self.run, turns) for _ in range(PIECES))


def _seconds(run: Callable[[int], object], turns: int) -> float:
    started = time.perf_counter()
    run(turns)
    return time.perf_counter() - started


# ---------------------------------------------------------------------------------------------------------- multiply-adds


def _emitted(emit: Callable[[Any, Any], Any]) -> Any:
    """What an intrinsic of a number of turns returns: its types, and an emitter, which is given an Emit and this number."""

    def write(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return emit(Emit(context, builder, types.float32), args[0])

    return types.float32(types.int64), write


def _repeat(e: Any, turns: Any, start: list[Any], body: Callable[..., list[Any]]) -> list[Any]:
    """The values after so many turns of values = body(*values)."""

    def more(left: Any, *_: Any) -> Any:
        return e.builder.icmp_signed(">", left, e.integer(0))

    def turn(left: Any, *values: Any) -> list[Any]:
        return [e.builder.sub(left, e.integer(1)), *body(*values)]

    return e.loop([turns, *start], more, turn)[1:]


def _summed(e: Any, turns: Any, change: Callable[[Any], Any]) -> Any:
    """The sum of all vectors that stay in the registers, each of which every turn changes: its first number."""
    start = [e.repeated(ir.Constant(e.scalar, i)) for i in range(SUMS)]
    vectors = _repeat(e, turns, start, lambda *vectors: [change(vector) for vector in vectors])
    return e.builder.extract_element(functools.reduce(e.builder.fadd, vectors), ir.Constant(ir.IntType(32), 0))


@intrinsic
def _multiply_adds(typingctx: Any, turns: Any) -> Any:
    def emit(e: Any, turns: Any) -> Any:
        half = e.repeated(ir.Constant(e.scalar, 0.5))
        return _summed(e, turns, lambda vector: e.multiply_add(vector, half, half))

    return _emitted(emit)


@intrinsic
def _multiply_add_pairs(typingctx: Any, turns: Any) -> Any:
    def emit(e: Any, turns: Any) -> Any:
        halves = e.repeated(ir.Constant(ir.IntType(32), 0x3F003F00))
        return _summed(e, turns, lambda vector: e.multiply_add_pairs(halves, halves, vector))

    return _emitted(emit)


@intrinsic
def _multiply_tiles(typingctx: Any, turns: Any) -> Any:
    def emit(e: Any, turns: Any) -> Any:
        def instruction(name: str, *arguments: Any) -> None:
            given = [ir.Constant(ir.IntType(8), a) if isinstance(a, int) else a for a in arguments]
            e.call(amx.INSTRUCTIONS + name, ir.VoidType(), *given)

        # The configuration: palette 1, then the bytes of a row of each tile, and then the number of its rows.
        words = [1, 0, 0x0040004000400040, 0x0040004000400040, 0, 0, 0x1010101010101010, 0]
        configuration = e.builder.alloca(ir.ArrayType(ir.IntType(64), len(words)))
        configuration.align = 64
        e.builder.store(ir.Constant(configuration.type.pointee, words), configuration)
        instruction("ldtilecfg", e.at(configuration))
        for tile in (*amx.A, *amx.B, *amx.C):
            instruction("tilezero", tile)

        def turn() -> list[Any]:
            for i, tile in enumerate(amx.C):
                instruction("tdpbf16ps", tile, amx.A[i // 2], amx.B[i % 2])
            return []

        _repeat(e, turns, [], turn)
        instruction("tilerelease")
        return ir.Constant(e.scalar, 0.0)

    return _emitted(emit)


@exact
def multiply_adds(turns):
    """Multiply each vector by a half and add a half, in each turn."""
    return _multiply_adds(turns)


@exact
def multiply_add_pairs(turns):
    """Add to each number of each vector the product of two pairs of bfloat16 halves, in each turn."""
    return _multiply_add_pairs(turns)


@exact
def multiply_tiles(turns):
    """Add to each of four tiles of AMX the product of two others, whose numbers are bfloat16, in each turn."""
    return _multiply_tiles(turns)


def products(n: int) -> Loop:
    """Return NumPy's products of float32 matrices of n x n."""
    x, out = np.ones((n, n), np.float32), np.empty((n, n), np.float32)

    def run(turns: int) -> None:
        with blas.limited(1):
            for _ in range(turns):
                np.matmul(x, x, out=out)

    return Loop(2 * n**3, run)


def multiplying(precision: str) -> dict[str, Loop]:
    """Return loops of multiply-adds by what they are; each is two operations. The fastest shows the peak of the precision."""
    loops = {f"NumPy's product of {n} x {n}": products(n) for n in (256, 512, 1024)}
    if VECTOR:
        loops |= {"multiply-adds in registers": Loop(2 * SUMS * VECTOR // 4, multiply_adds)}
    if MULTIPLIES_PAIRS and precision == "bfloat16":
        loops |= {"multiply-adds of pairs (VDPBF16PS)": Loop(4 * SUMS * VECTOR // 4, multiply_add_pairs)}
    if amx.PERMITTED and precision == "bfloat16":
        loops |= {"products of tiles (AMX)": Loop(2 * len(amx.C) * amx.ROWS * 2 * amx.PAIRS * 16, multiply_tiles)}
    return loops


# ----------------------------------------------------------------------------------------------------------------- caches


@exact
def _read(array, turns):
    found = 0
    for _ in range(turns):
        for i in range(array.shape[0]):
            found |= array[i]
    return found


@exact
def _update(array, turns):
    for turn in range(turns):
        for i in range(array.shape[0]):
            array[i] += turn


@exact
def _fill(array, turns):
    for turn in range(turns):
        for i in range(array.shape[0]):
            array[i] = turn


def reading(n_bytes: int) -> Loop:
    """Return the loop that reads so many bytes in each turn."""
    array = _aligned(n_bytes)
    return Loop(array.nbytes, lambda turns: _read(array, turns))


def writing(n_bytes: int) -> list[Loop]:
    """Return loops that write so many bytes in each turn: after reading them, and without."""
    array = _aligned(n_bytes)
    return [Loop(array.nbytes, lambda turns, write=write: write(array, turns)) for write in (_update, _fill)]


def _aligned(n_bytes: int) -> NDArray:
    """Return at least so many bytes in whole lines of the cache, as integers; the first line begins where a page does."""
    lines = -(-n_bytes // 64)
    return np.frombuffer(mmap.mmap(-1, 64 * lines), np.int64)


def cache_sizes() -> dict[str, int]:
    """Return the bytes of each level of the caches, such as {"L1": 32768}, the smallest first; nothing where unknown."""
    found = {}
    for index in CACHES.glob("index*"):
        with contextlib.suppress(OSError):  # some systems know no sizes
            kind, level, size = ((index / name).read_text().strip() for name in ("type", "level", "size"))
            if kind != "Instruction":
                found[f"L{level}"] = int(size[:-1]) << {"K": 10, "M": 20}[size[-1]]
    return dict(sorted(found.items()))


def level_of(n_bytes: int, levels: dict[str, dict[str, float]]) -> str:
    """Return the first level that holds so many bytes; the memory has no size. Nothing where no level is known."""
    return next((name for name, level in levels.items() if n_bytes <= level.get("bytes", n_bytes)), "")


# ---------------------------------------------------------------------------------------------------------------- a worker


class Probe:
    """What a worker does that measures the machine. It multiplies on all its cores at once."""

    def __init__(self, precision: str) -> None:
        self.precision = precision
        cores = processes.allowed_cores()
        self.waiting = queue.SimpleQueue()
        for core in cores:
            self.waiting.put(core)
        self.barrier = threading.Barrier(len(cores))
        self.threads = concurrent.futures.ThreadPoolExecutor(len(cores), initializer=self._pin)
        self.n_cores = len(cores)

    def _pin(self) -> None:
        core = self.waiting.get_nowait()
        if hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(0, [core])  # this thread alone

    def peaks(self) -> dict[str, float]:
        """Return the operations per second of a core in each loop of multiply-adds, and choose the fastest for `peak`."""
        loops = multiplying(self.precision)
        turns = {name: loop.turns() for name, loop in loops.items()}
        speeds = {name: self._on_all_cores(loop, turns[name]) for name, loop in loops.items()}
        fastest = max(speeds, key=lambda name: speeds[name])
        self.loop, self.turns = loops[fastest], turns[fastest]
        return speeds

    def peak(self) -> float:
        """Return the operations per second of a core at this moment."""
        return self._on_all_cores(self.loop, self.turns)

    def caches(self, n_bytes: int) -> dict[str, float]:
        """Return how many bytes per second one core reads, and how many it writes, where it uses so many bytes again and again.

        What it writes it may read before or not; the faster of the two counts.
        """
        return {
            "read": reading(n_bytes).speed(),
            "write": max(loop.speed() for loop in writing(n_bytes)),
        }

    def levels(self) -> dict[str, dict[str, float]]:
        """Return the size and the speeds of each level of the caches, and the speeds of the memory; nothing where unknown."""
        sizes = cache_sizes()
        found = {name: {"bytes": size} | self.caches(size * 3 // 4) for name, size in sizes.items()}
        return found | ({"memory": self.caches(4 * max(sizes.values()))} if sizes else {})

    def _on_all_cores(self, loop: Loop, turns: int) -> float:
        def speed(_: int) -> float:
            self.barrier.wait()
            return loop.speed(turns)

        return statistics.fmean(self.threads.map(speed, range(self.n_cores)))
