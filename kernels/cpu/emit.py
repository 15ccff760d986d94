"""The vector instructions of the processor, written as LLVM's intermediate representation, for matrix products and copies."""

from typing import NamedTuple

import llvmlite.binding
from llvmlite import ir
from numba import types
from numba.core import cgutils

from vae_np.kernels.cpu.jit import config

AVX512 = {"skylake-avx512", "cascadelake", "cooperlake", "icelake-server", "sapphirerapids", "znver4", "znver5"}
AVX512_BF16 = {"cooperlake", "sapphirerapids", "znver4", "znver5"}
AVX2 = {"haswell", "broadwell", "skylake", "alderlake", "znver1", "znver2", "znver3"}


def vector_bytes() -> int:
    """Return the width of the vectors for which Numba compiles: 64, 32, 16, or 0 where that is not known."""
    if llvmlite.binding.get_process_triple().startswith(("aarch64", "arm64")):
        return 16  # every such processor has NEON
    name, features = config.CPU_NAME, config.CPU_FEATURES
    if name in (None, "host") and features is None:
        found = llvmlite.binding.get_host_cpu_features()
        return 64 if found.get("avx512f") else 32 if found.get("avx2") and found.get("fma") else 0
    return 64 if name in AVX512 else 32 if name in AVX2 else 0


VECTOR = vector_bytes()
VECTORS = 4 if VECTOR == 16 else 2  # in a row of a tile of a matrix product
TILE = VECTORS * VECTOR


def multiplies_pairs() -> bool:
    """Return whether the processor for which Numba compiles has VDPBF16PS, which multiplies pairs of bfloat16 numbers."""
    name, features = config.CPU_NAME, config.CPU_FEATURES
    if name in (None, "host") and features is None:
        return VECTOR == 64 and bool(llvmlite.binding.get_host_cpu_features().get("avx512bf16"))
    return name in AVX512_BF16


MULTIPLIES_PAIRS = multiplies_pairs()


class Tuning(NamedTuple):
    """What makes matrix products faster on some processors and slower on others. It changes no bit of them."""

    prefetch_results: bool  # whether the arrays that a product fills are prefetched while it is computed
    rows_ahead: int  # how many rows of the right operand are prefetched before they are multiplied
    copy_transposed: bool  # whether a transposed left operand is always copied, and not only where its rows share cache sets


TUNINGS = {"znver4": Tuning(False, 0, False), "znver5": Tuning(True, 0, False)}
INTEL = Tuning(False, 8, True)  # measured on Sapphire Rapids


def tuning() -> Tuning:
    """Return the Tuning of the processor for which Numba compiles."""
    name = config.CPU_NAME or llvmlite.binding.get_host_cpu_name()
    return TUNINGS.get(name, Tuning(False, 0, False) if VECTOR == 16 else INTEL)


TUNING = tuning()


class Emit:
    """Writes the instructions of an intrinsic: an LLVM builder, and the vectors of one dtype, by default of the whole width."""

    def __init__(self, context, builder, number, lanes=None):
        self.context, self.builder, self.bytes = context, builder, number.bitwidth // 8
        self.lanes = lanes or VECTOR // self.bytes
        self.scalar = context.get_value_type(number)
        self.vector = ir.VectorType(self.scalar, self.lanes)
        self.suffix = f"v{self.lanes}{'f' if isinstance(number, types.Float) else 'i'}{number.bitwidth}"

    def array(self, type, value):
        return self.context.make_array(type)(self.context, self.builder, value)

    def integer(self, number):
        return ir.Constant(ir.IntType(64), number)

    def at(self, pointer, *offsets):
        """The address that lies the offsets, in bytes, behind the pointer."""
        pointer = self.builder.bitcast(pointer, ir.IntType(8).as_pointer())
        for offset in offsets:
            pointer = self.builder.gep(pointer, [self.integer(offset) if isinstance(offset, int) else offset])
        return pointer

    def call(self, name, result, *arguments):
        kind = ir.FunctionType(result, [argument.type for argument in arguments])
        return self.builder.call(cgutils.get_or_insert_function(self.builder.module, kind, name), arguments)

    def multiply_add(self, a, b, c):
        """a * b + c, rounded once"""
        return self.call(f"llvm.fma.{self.suffix}", self.vector, a, b, c)

    def multiply_add_pairs(self, a, b, c):
        """c + a_0 b_0 + a_1 b_1, where each word of a and b holds two bfloat16 numbers: first the one in its lower half."""
        if MULTIPLIES_PAIRS and self.bytes == 4:
            return self.call("llvm.x86.avx512bf16.dpbf16ps.512", self.vector, c, a, b)
        for half in (self.lower_half, self.upper_half):
            c = self.multiply_add(half(a), half(b), c)
        return c

    def lower_half(self, words):
        """The bfloat16 numbers in the lower halves of words, as numbers of this dtype."""
        return self.upper_half(self.builder.shl(words, ir.Constant(words.type, [16] * self.lanes)))

    def upper_half(self, words):
        numbers = ir.VectorType(ir.FloatType(), self.lanes)
        found = self.builder.and_(words, ir.Constant(words.type, [0xFFFF0000] * self.lanes))
        found = self.builder.bitcast(found, numbers)
        return found if self.bytes == 4 else self.builder.fpext(found, self.vector)

    def load(self, pointer, mask=None):
        """A vector from memory; of those lanes that a mask leaves out nothing is read, and they are 0."""
        if mask is not None and VECTOR == 16:
            place = cgutils.alloca_once(self.builder, self.vector)
            self.builder.store(ir.Constant(self.vector, None), place)
            cgutils.raw_memcpy(self.builder, place, pointer, mask, self.bytes)
            return self.builder.load(place)
        pointer = self.builder.bitcast(pointer, self.vector.as_pointer())
        if mask is None:
            return self.builder.load(pointer, align=self.bytes)
        align, zero = ir.Constant(ir.IntType(32), self.bytes), ir.Constant(self.vector, None)
        return self.call(f"llvm.masked.load.{self.suffix}.p0", self.vector, pointer, align, mask, zero)

    def store(self, value, pointer, mask=None):
        if mask is not None and VECTOR == 16:
            place = cgutils.alloca_once(self.builder, self.vector)
            self.builder.store(value, place)
            cgutils.raw_memcpy(self.builder, pointer, place, mask, self.bytes)
            return
        pointer = self.builder.bitcast(pointer, self.vector.as_pointer())
        if mask is None:
            self.builder.store(value, pointer, align=self.bytes)
        else:
            align = ir.Constant(ir.IntType(32), self.bytes)
            self.call(f"llvm.masked.store.{self.suffix}.p0", ir.VoidType(), value, pointer, align, mask)

    def prefetch(self, pointer, for_writing, locality):
        """Load a cache line while something else is computed; locality: 3 for the first cache, 2 for the second."""
        of_data = 1
        numbers = [ir.Constant(ir.IntType(32), n) for n in (for_writing, locality, of_data)]
        self.call("llvm.prefetch.p0", ir.VoidType(), pointer, *numbers)

    def load_first(self, n, pointer):
        """A vector of which only the first n lanes are read. Vectors of 32 bytes are read faster in pieces than with a mask."""
        vector = ir.Constant(self.vector, None)
        for place, first, size in self.pieces(n, pointer):
            part, other = self.builder.load(place, align=self.bytes), ir.Constant(place.type.pointee, ir.Undefined)
            part = self.shuffle(part, other, [min(lane, size) for lane in range(self.lanes)])
            lanes = [lane - first + self.lanes if first <= lane < first + size else lane for lane in range(self.lanes)]
            vector = self.shuffle(vector, part, lanes)
        return vector

    def store_first(self, n, value, pointer):
        for place, first, size in self.pieces(n, pointer):
            part = self.shuffle(value, value, list(range(first, first + size)))
            self.builder.store(part, place, align=self.bytes)

    def pieces(self, n, pointer):
        """(address, first lane, number of lanes) for powers of two whose sum is n."""
        first = 0
        while first < n:
            size = 1 << (n - first).bit_length() - 1
            kind = ir.VectorType(self.scalar, size).as_pointer()
            yield self.builder.bitcast(self.at(pointer, first * self.bytes), kind), first, size
            first += size

    def repeated(self, value):
        """A vector with the value in every lane."""
        vector = ir.VectorType(value.type, self.lanes)
        undefined, first = ir.Constant(vector, ir.Undefined), ir.Constant(ir.IntType(32), 0)
        return self.shuffle(self.builder.insert_element(undefined, value, first), undefined, [0] * self.lanes)

    def shuffle(self, a, b, places):
        return self.builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(ir.IntType(32), len(places)), list(places)))

    def loop(self, start, more, body):
        """The values after `while more(*values): values = body(*values)`."""
        builder, before = self.builder, self.builder.block
        test, inside, after = (builder.append_basic_block(name) for name in ("test", "inside", "after"))
        builder.branch(test)
        builder.position_at_end(test)
        values = [builder.phi(value.type) for value in start]
        builder.cbranch(more(*values), inside, after)
        builder.position_at_end(inside)
        new = body(*values)
        builder.branch(test)
        for phi, first, then in zip(values, start, new):
            phi.add_incoming(first, before)
            phi.add_incoming(then, builder.block)
        builder.position_at_end(after)
        return values

    def choose(self, condition, this, that):
        """The values of this() where the condition holds or is None, else those of that()."""
        if condition is None:
            return this()
        builder, made = self.builder, []
        inside, others, after = (builder.append_basic_block(name) for name in ("this", "that", "chosen"))
        builder.cbranch(condition, inside, others)
        for block, values in ((inside, this), (others, that)):
            builder.position_at_end(block)
            made.append((values(), builder.block))
            builder.branch(after)
        builder.position_at_end(after)
        (these, from_this), (those, from_that) = made
        chosen = [builder.phi(value.type) for value in these]
        for phi, one, other in zip(chosen, these, those):
            phi.add_incoming(one, from_this)
            phi.add_incoming(other, from_that)
        return chosen

    def transposed(self, rows):
        """The transpose of as many rows as a vector has lanes: each step exchanges one bit of the row and column numbers."""
        rows, bit = list(rows), 1
        while bit < self.lanes:
            upper = [c if not c & bit else self.lanes + c - bit for c in range(self.lanes)]
            lower = [c + bit if not c & bit else self.lanes + c for c in range(self.lanes)]
            for r in range(self.lanes):
                if not r & bit:
                    pair = rows[r], rows[r + bit]
                    rows[r], rows[r + bit] = self.shuffle(*pair, upper), self.shuffle(*pair, lower)
            bit *= 2
        return rows

    def first(self, n):
        """The mask of the first n lanes of a vector. Vectors of 16 bytes have no masks in hardware: theirs is the number of lanes."""
        if VECTOR == 16:
            n = self.builder.select(self.builder.icmp_signed("<", n, self.integer(self.lanes)), n, self.integer(self.lanes))
            return self.builder.select(self.builder.icmp_signed(">", n, self.integer(0)), n, self.integer(0))
        lane = ir.Constant(ir.VectorType(ir.IntType(32), self.lanes), list(range(self.lanes)))
        return self.builder.icmp_signed("<", lane, self.repeated(self.builder.trunc(n, ir.IntType(32))))
