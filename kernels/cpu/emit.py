"""What matrix products are made of, as the processor's own vector instructions: tiles, copies, transpositions, prefetches.

A tile is some rows by two vectors of columns. For each k it loads the two vectors of b once and multiplies them by one
number of a for each row, so that the multiply-adds, not the loads, are what takes the time.
"""

from typing import NamedTuple

import llvmlite.binding
from llvmlite import ir
from numba import types
from numba.core import cgutils, config
from numba.extending import intrinsic

AVX512 = {"skylake-avx512", "cascadelake", "cooperlake", "icelake-server", "sapphirerapids", "znver4", "znver5"}
AVX2 = {"haswell", "broadwell", "skylake", "alderlake", "znver1", "znver2", "znver3"}


def vector_bytes():
    """How wide the vectors are for which Numba compiles: 64, 32, or 0 where that is not known."""
    name, features = config.CPU_NAME, config.CPU_FEATURES
    if name in (None, "host") and features is None:
        found = llvmlite.binding.get_host_cpu_features()
        return 64 if found.get("avx512f") else 32 if found.get("avx2") and found.get("fma") else 0
    return 64 if name in AVX512 else 32 if name in AVX2 else 0


VECTOR = vector_bytes()
HEIGHTS = (12, 4, 1) if VECTOR == 64 else (6, 4, 2, 1)  # 2 x 12 sums in the 32 registers, or 2 x 6 in the 16


# ---------------------------------------------------------------------------------------------- one tile, in registers


class Emit:
    """The instructions of a tile or a transposition: a builder, and the vectors of one dtype."""

    def __init__(self, context, builder, real):
        self.context, self.builder, self.bytes = context, builder, real.bitwidth // 8
        self.lanes = VECTOR // self.bytes
        self.scalar = context.get_value_type(real)
        self.vector = ir.VectorType(self.scalar, self.lanes)
        self.suffix = f"v{self.lanes}f{real.bitwidth}"

    def array(self, type, value):
        return self.context.make_array(type)(self.context, self.builder, value)

    def integer(self, number):
        return ir.Constant(ir.IntType(64), number)

    def at(self, pointer, *offsets):
        """The address that many bytes further."""
        pointer = self.builder.bitcast(pointer, ir.IntType(8).as_pointer())
        for offset in offsets:
            pointer = self.builder.gep(pointer, [self.integer(offset) if isinstance(offset, int) else offset])
        return pointer

    def call(self, name, result, *arguments):
        kind = ir.FunctionType(result, [argument.type for argument in arguments])
        return self.builder.call(cgutils.get_or_insert_function(self.builder.module, kind, name), arguments)

    def load(self, pointer, mask=None):
        pointer = self.builder.bitcast(pointer, self.vector.as_pointer())
        if mask is None:
            return self.builder.load(pointer, align=self.bytes)
        align, zero = ir.Constant(ir.IntType(32), self.bytes), ir.Constant(self.vector, None)
        return self.call(f"llvm.masked.load.{self.suffix}.p0", self.vector, pointer, align, mask, zero)

    def store(self, value, pointer, mask=None):
        pointer = self.builder.bitcast(pointer, self.vector.as_pointer())
        if mask is None:
            self.builder.store(value, pointer, align=self.bytes)
        else:
            align = ir.Constant(ir.IntType(32), self.bytes)
            self.call(f"llvm.masked.store.{self.suffix}.p0", ir.VoidType(), value, pointer, align, mask)

    def load_first(self, n, pointer):
        """A vector whose first n lanes are read, and no more; pieces are faster than masks with vectors of 32 bytes."""
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
        """(address, first lane, number of lanes) for powers of two that are n together"""
        first = 0
        while first < n:
            size = 1 << (n - first).bit_length() - 1
            kind = ir.VectorType(self.scalar, size).as_pointer()
            yield self.builder.bitcast(self.at(pointer, first * self.bytes), kind), first, size
            first += size

    def repeated(self, value):
        """A vector of one number."""
        vector = ir.VectorType(value.type, self.lanes)
        undefined, first = ir.Constant(vector, ir.Undefined), ir.Constant(ir.IntType(32), 0)
        return self.shuffle(self.builder.insert_element(undefined, value, first), undefined, [0] * self.lanes)

    def shuffle(self, a, b, places):
        return self.builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(ir.IntType(32), len(places)), places))

    def loop(self, start, more, body):
        """The values after `while more(*values): values = body(*values)`"""
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
        """The values of this() where the condition holds, or is None, else those of that()."""
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
        """As many vectors as they have lanes, turned. Bit by bit, a row's number changes places with a column's."""
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
        """The mask of a vector's first n lanes."""
        lane = ir.Constant(ir.VectorType(ir.IntType(32), self.lanes), list(range(self.lanes)))
        return self.builder.icmp_signed("<", lane, self.repeated(self.builder.trunc(n, ir.IntType(32))))


class Panel(NamedTuple):
    """What a panel works on: pointers, strides in bytes, sizes, and whether to add to what stands in c."""

    a: ir.Value
    down: ir.Value  # from a row of a to the next
    along: ir.Value
    b: ir.Value
    b_down: ir.Value
    c: ir.Value
    c_down: ir.Value
    M: ir.Value
    K: ir.Value
    width: ir.Value
    add: ir.Value


def rows_of_tile(e, p, i, height, v):
    """The address of the v-th vector of each row of c[i : i + height]"""
    top = e.at(p.c, e.builder.mul(i, p.c_down), v * e.lanes * e.bytes)
    return [e.at(top, e.builder.mul(e.integer(r), p.c_down)) for r in range(height)]


def columns_of_tile(e, p, i, height, v, mask):
    """The same where it is c.T that the panel makes: its rows are columns of c. (address, how many numbers, if it exists)"""
    for first in range(0, height, e.lanes):
        left = e.at(p.c, e.builder.mul(e.builder.add(i, e.integer(first)), e.integer(e.bytes)))
        for r in range(v * e.lanes, (v + 1) * e.lanes):
            exists = None if mask is None else e.builder.icmp_signed("<", e.integer(r), p.width)
            yield e.at(left, e.builder.mul(e.integer(r), p.c_down)), min(e.lanes, height - first), exists


def load_tile(e, p, i, height, v, mask, is_turned):
    """The v-th vector of each row of the tile, as c holds it"""
    if not is_turned:
        return [e.load(row, mask) for row in rows_of_tile(e, p, i, height, v)]
    nothing, found = ir.Constant(e.vector, None), []
    for column, n, exists in columns_of_tile(e, p, i, height, v, mask):
        found += e.choose(exists, lambda: [e.load_first(n, column)], lambda: [nothing])
    return turned(e, found)[:height]


def store_tile(e, vectors, p, i, height, v, mask, is_turned):
    if not is_turned:
        for vector, row in zip(vectors, rows_of_tile(e, p, i, height, v)):
            e.store(vector, row, mask)
        return
    for vector, (column, n, exists) in zip(turned(e, vectors), columns_of_tile(e, p, i, height, v, mask)):
        e.choose(exists, lambda: e.store_first(n, vector, column) or [], list)


def turned(e, vectors):
    """Vectors of a tile's rows as those of its columns, or the other way: in squares, the last filled up."""
    vectors = [*vectors, *[ir.Constant(e.vector, None)] * (-len(vectors) % e.lanes)]
    return sum((e.transposed(vectors[i : i + e.lanes]) for i in range(0, len(vectors), e.lanes)), [])


def emit_tile(e, p, i, height, masks, is_turned):
    """c[i : i + height] = a[i : i + height] @ b: the sums stay in registers, and one loop over k makes them all."""
    builder, vectors = e.builder, len(masks)
    zero = ir.Constant(e.vector, None)

    def already_there():
        return sum((load_tile(e, p, i, height, v, masks[v], is_turned) for v in range(vectors)), [])

    sums = e.choose(p.add, already_there, lambda: [zero] * (height * vectors))

    # A pointer for every three rows: with the strides once and twice as offsets, all rows of a fit the registers.
    twice = builder.mul(p.down, e.integer(2))
    tops = [e.at(p.a, builder.mul(i, p.down))]
    for _ in range(3, height, 3):
        tops.append(e.at(tops[-1], twice, p.down))

    def more(left, *_):
        return builder.icmp_signed(">", left, e.integer(0))

    def body(left, *now):
        rows, b_row, sums = now[: len(tops)], now[len(tops)], list(now[len(tops) + 1 :])
        of_b = [e.load(e.at(b_row, v * e.lanes * e.bytes), masks[v]) for v in range(vectors)]
        for r in range(height):
            address = e.at(rows[r // 3], *[(), (p.down,), (twice,)][r % 3])
            number = e.repeated(builder.load(builder.bitcast(address, e.scalar.as_pointer()), align=e.bytes))
            for v in range(vectors):
                place = v * height + r
                sums[place] = e.call(f"llvm.fma.{e.suffix}", e.vector, number, of_b[v], sums[place])
        following = [e.at(row, p.along) for row in rows]
        return [builder.sub(left, e.integer(1)), *following, e.at(b_row, p.b_down), *sums]

    sums = e.loop([p.K, *tops, p.b, *sums], more, body)[len(tops) + 2 :]
    for v in range(vectors):
        store_tile(e, sums[v * height : (v + 1) * height], p, i, height, v, masks[v], is_turned)


def emit_strips(e, p, i, vectors, masked, is_turned, heights):
    """The rows of a panel from i on: in the highest tiles, then in lower ones; the first row that is left."""
    builder = e.builder
    masks = [e.first(builder.sub(p.width, e.integer(v * e.lanes))) if masked else None for v in range(vectors)]
    for height in heights:

        def fits(i):
            left = builder.sub(p.M, i)
            enough = builder.icmp_signed(">=", left, e.integer(height))
            two_equal_ones_do_better = builder.icmp_signed("==", left, e.integer(2 * HEIGHTS[1]))
            return builder.and_(enough, builder.not_(two_equal_ones_do_better)) if height == HEIGHTS[0] else enough

        def body(i):
            emit_tile(e, p, i, height, masks, is_turned)
            return [builder.add(i, e.integer(height))]

        (i,) = e.loop([i], fits, body)
    return [i]


def panel_function(context, module, real, is_turned):
    """The function in a module that multiplies panels of one dtype, emitted when first asked for."""
    name = f"panel.{real}.turned" if is_turned else f"panel.{real}"
    if name in module.globals:
        return module.globals[name]
    integer, pointer, bit = ir.IntType(64), ir.IntType(8).as_pointer(), ir.IntType(1)
    kinds = [pointer if field in "abc" else bit if field == "add" else integer for field in Panel._fields]
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), kinds), name)
    function.linkage = "internal"
    function.attributes.add("noinline")
    builder = ir.IRBuilder(function.append_basic_block("entry"))
    e, p = Emit(context, builder, real), Panel(*function.args)

    def wider(n):
        return builder.icmp_signed(">=", p.width, e.integer(n))

    def strips(i, vectors, masked, heights):
        return lambda: emit_strips(e, p, i, vectors, masked, is_turned, heights)

    start = e.integer(0)
    (i,) = e.choose(wider(2 * e.lanes), strips(start, 2, False, HEIGHTS[:1]), lambda: [start])  # whole tiles: no masks
    e.choose(wider(e.lanes + 1), strips(i, 2, True, HEIGHTS), strips(i, 1, True, HEIGHTS))
    builder.ret_void()
    return function


def _panel(is_turned):
    def panel(typingctx, a, b, c, add):
        def emit(context, builder, signature, args):
            arrays = [context.make_array(kind)(context, builder, value) for kind, value in zip((a, b, c), args)]
            strides = [cgutils.unpack_tuple(builder, array.strides, 2) for array in arrays]
            (M, K), (_, width), _ = (cgutils.unpack_tuple(builder, array.shape, 2) for array in arrays)
            A, B, C = (builder.bitcast(array.data, ir.IntType(8).as_pointer()) for array in arrays)
            p = Panel(A, *strides[0], B, strides[1][0], C, strides[2][0], M, K, width, args[3])
            builder.call(panel_function(context, builder.module, a.dtype, is_turned), p)
            return context.get_dummy_value()

        return types.void(a, b, c, types.boolean), emit

    return intrinsic(panel)


# c = a @ b for a b no wider than a tile, or c += a @ b          a (M, K) in any order; the numbers of a row of b (K, w) and
# of c, (M, w) or turned (w, M), stand side by side
panel, panel_turned = _panel(False), _panel(True)


@intrinsic
def ask_for(typingctx, array, i, j):
    """Has array[i, j] and what stands beside it brought near, while something else is computed."""

    def emit(context, builder, signature, args):
        e = Emit(context, builder, array.dtype)
        pointer = e.at(cgutils.get_item_pointer(context, builder, array, e.array(array, args[0]), args[1:]))
        to_write_into_the_second_cache_data = [ir.Constant(ir.IntType(32), n) for n in (1, 2, 1)]
        e.call("llvm.prefetch.p0", ir.VoidType(), pointer, *to_write_into_the_second_cache_data)
        return context.get_dummy_value()

    return types.void(array, types.intp, types.intp), emit


@intrinsic
def copy(typingctx, a, b):
    """The first rows and columns of b = a, the numbers of a row side by side in either"""

    def emit(context, builder, signature, args):
        e = Emit(context, builder, a.dtype)
        A, B = e.array(a, args[0]), e.array(b, args[1])
        (a_down, _), (b_down, _) = (cgutils.unpack_tuple(builder, array.strides, 2) for array in (A, B))
        rows, columns = cgutils.unpack_tuple(builder, A.shape, 2)

        def row(i, a_row, b_row):
            cgutils.raw_memcpy(builder, b_row, a_row, builder.mul(columns, e.integer(e.bytes)), 1)
            return [builder.add(i, e.integer(1)), e.at(a_row, a_down), e.at(b_row, b_down)]

        e.loop([e.integer(0), e.at(A.data), e.at(B.data)], lambda i, *_: builder.icmp_signed("<", i, rows), row)
        return context.get_dummy_value()

    return types.void(a, b), emit


@intrinsic
def copy_in_panels(typingctx, a, b):
    """Columns of a, as many as a tile has, row after row, and then the next ones: in b, which has one axis"""

    def emit(context, builder, signature, args):
        e = Emit(context, builder, a.dtype)
        A, B = e.array(a, args[0]), e.array(b, args[1])
        a_down, _ = cgutils.unpack_tuple(builder, A.strides, 2)
        rows, columns = cgutils.unpack_tuple(builder, A.shape, 2)
        panel = builder.mul(rows, e.integer(2 * VECTOR))

        def row(i, a_row, b_row):
            def both_vectors(j, target):
                for v in range(2):
                    from_j = builder.add(j, e.integer(v * e.lanes))
                    mask, source = e.first(builder.sub(columns, from_j)), e.at(a_row, builder.mul(from_j, e.integer(e.bytes)))
                    e.store(e.load(source, mask), e.at(target, v * VECTOR))
                return [builder.add(j, e.integer(2 * e.lanes)), e.at(target, panel)]

            e.loop([e.integer(0), b_row], lambda j, _: builder.icmp_signed("<", j, columns), both_vectors)
            return [builder.add(i, e.integer(1)), e.at(a_row, a_down), e.at(b_row, 2 * VECTOR)]

        e.loop([e.integer(0), e.at(A.data), e.at(B.data)], lambda i, *_: builder.icmp_signed("<", i, rows), row)
        return context.get_dummy_value()

    return types.void(a, b), emit


@intrinsic
def transpose_block(typingctx, a, b, i, j):
    """b[j : j + n, i : i + n] = a[i : i + n, j : j + n].T of as many rows as a vector has lanes"""

    def emit(context, builder, signature, args):
        e = Emit(context, builder, a.dtype)
        A, B = e.array(a, args[0]), e.array(b, args[1])
        (a_down, _), (b_down, _) = (cgutils.unpack_tuple(builder, array.strides, 2) for array in (A, B))

        def corner(array, down, row, column):
            return e.at(array.data, builder.mul(row, down), builder.mul(column, e.integer(e.bytes)))

        address, rows = corner(A, a_down, args[2], args[3]), []
        for _ in range(e.lanes):
            rows.append(e.load(address))
            address = e.at(address, a_down)
        address = corner(B, b_down, args[3], args[2])
        for row in e.transposed(rows):
            e.store(row, address)
            address = e.at(address, b_down)
        return context.get_dummy_value()

    return types.void(a, b, i, j), emit
