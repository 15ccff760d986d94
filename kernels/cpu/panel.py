"""Products c = a @ b where b is a panel: as narrow as a tile. Matrix products are made of them.

A tile is some rows of c by two or four vectors of columns. For each k it loads these vectors of b once, and multiplies them
by one number of a for each row, so that the multiply-adds, and not the loads, limit the speed. Instructions for vectors of 16
bytes take a number from any lane of a vector. So there one load brings as many numbers of a row as a vector has lanes.

Where a and b hold words, each word is a pair of bfloat16 numbers (`pairs`), and K counts the pairs.
"""

from typing import NamedTuple

from llvmlite import ir
from numba import types
from numba.core import cgutils

from vae_np.kernels.cpu import amx
from vae_np.kernels.cpu.emit import TUNING, VECTOR, VECTORS, Emit
from vae_np.kernels.cpu.jit import intrinsic

# The highest tiles have 2 x 12 sums in the 32 registers of AVX-512, 2 x 6 in the 16 of AVX2, or 4 x 5 in the 32 of NEON, where
# the numbers of the rows and the vectors of b need registers too.
HEIGHTS = {64: (12, 4, 1), 32: (6, 4, 2, 1), 16: (5, 4, 2, 1), 0: ()}[VECTOR]


class Panel(NamedTuple):
    """The arguments of a panel function: pointers, strides in bytes, sizes, and whether the product is added to c."""

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
    """The address of the v-th vector of each row of c[i : i + height]."""
    top = e.at(p.c, e.builder.mul(i, p.c_down), v * e.lanes * e.bytes)
    return [e.at(top, e.builder.mul(e.integer(r), p.c_down)) for r in range(height)]


def columns_of_tile(e, p, i, height, v, mask):
    """The same where the panel makes c.T, so that its rows are columns of c: (address, how many numbers, whether it exists)."""
    for first in range(0, height, e.lanes):
        left = e.at(p.c, e.builder.mul(e.builder.add(i, e.integer(first)), e.integer(e.bytes)))
        for r in range(v * e.lanes, (v + 1) * e.lanes):
            exists = None if mask is None else e.builder.icmp_signed("<", e.integer(r), p.width)
            yield e.at(left, e.builder.mul(e.integer(r), p.c_down)), min(e.lanes, height - first), exists


def load_tile(e, p, i, height, v, mask, is_transposed):
    """The v-th vector of each row of the tile, as c holds it."""
    if not is_transposed:
        return [e.load(row, mask) for row in rows_of_tile(e, p, i, height, v)]
    nothing, found = ir.Constant(e.vector, None), []
    for column, n, exists in columns_of_tile(e, p, i, height, v, mask):
        found += e.choose(exists, lambda: [e.load_first(n, column)], lambda: [nothing])
    return transpose_tile(e, found)[:height]


def store_tile(e, vectors, p, i, height, v, mask, is_transposed):
    """Write the v-th vector of each row of the tile to c."""
    if not is_transposed:
        for vector, row in zip(vectors, rows_of_tile(e, p, i, height, v)):
            e.store(vector, row, mask)
        return
    for vector, (column, n, exists) in zip(transpose_tile(e, vectors), columns_of_tile(e, p, i, height, v, mask)):
        e.choose(exists, lambda: e.store_first(n, vector, column) or [], list)


def transpose_tile(e, vectors):
    """The rows of a tile as its columns, or the other way: square by square, where zeros fill up the last square."""
    vectors = [*vectors, *[ir.Constant(e.vector, None)] * (-len(vectors) % e.lanes)]
    return sum((e.transposed(vectors[i : i + e.lanes]) for i in range(0, len(vectors), e.lanes)), [])


def emit_tile(e, w, p, i, height, masks, is_transposed):
    """c[i : i + height] = a[i : i + height] @ b: one loop over k makes all sums, which stay in registers."""
    builder, vectors = e.builder, len(masks)
    zero, multiply_add = ir.Constant(e.vector, None), e.multiply_add if w.vector == e.vector else e.multiply_add_pairs

    def already_there():
        return sum((load_tile(e, p, i, height, v, masks[v], is_transposed) for v in range(vectors)), [])

    sums = e.choose(p.add, already_there, lambda: [zero] * (height * vectors))

    # One pointer serves three rows, with the stride once and twice as offsets: so the registers hold the addresses of all rows.
    twice = builder.mul(p.down, e.integer(2))
    tops = [e.at(p.a, builder.mul(i, p.down))]
    for _ in range(3, height, 3):
        tops.append(e.at(tops[-1], twice, p.down))

    def multiply(n, values):
        """The values after all k that come n at a time: n lanes of one vector of each row, or one number."""

        def more(left, *_):
            enough = builder.icmp_signed(">=", left, e.integer(n))
            return enough if n == 1 else builder.and_(enough, builder.icmp_signed("==", p.along, e.integer(w.bytes)))

        def body(left, *now):
            rows, b_row, sums = now[: len(tops)], now[len(tops)], list(now[len(tops) + 1 :])
            kind, of_a = (w.scalar if n == 1 else w.vector).as_pointer(), {}
            for lane in range(n):
                of_b = [w.load(w.at(b_row, v * w.lanes * w.bytes), mask_of_b[v]) for v in range(vectors)]
                if TUNING.rows_ahead:
                    ahead = builder.mul(p.b_down, e.integer(TUNING.rows_ahead))
                    for v in range(vectors):
                        e.prefetch(e.at(b_row, ahead, v * VECTOR), for_writing=0, locality=3)
                for r in range(height):
                    if lane == 0:
                        address = e.at(rows[r // 3], *[(), (p.down,), (twice,)][r % 3])
                        of_a[r] = builder.load(builder.bitcast(address, kind), align=w.bytes)
                    number = w.repeated(of_a[r]) if n == 1 else w.shuffle(of_a[r], of_a[r], [lane] * w.lanes)
                    for v in range(vectors):
                        place = v * height + r
                        sums[place] = multiply_add(number, of_b[v], sums[place])
                b_row = e.at(b_row, p.b_down)
            following = [e.at(row, builder.mul(p.along, e.integer(n))) for row in rows]
            return [builder.sub(left, e.integer(n)), *following, b_row, *sums]

        return e.loop(values, more, body)

    mask_of_b = [None] * vectors if VECTOR == 16 else masks  # there all b can be read, because what is narrower is packed
    values = [p.K, *tops, p.b, *sums]
    for n in (e.lanes, 1) if VECTOR == 16 and w.vector == e.vector else (1,):  # the halves of pairs would need more registers
        values = multiply(n, values)
    sums = values[len(tops) + 2 :]
    for v in range(vectors):
        store_tile(e, sums[v * height : (v + 1) * height], p, i, height, v, masks[v], is_transposed)


def emit_strips(e, w, p, i, vectors, masked, is_transposed, heights):
    """Multiply the rows of a panel from i on, in the highest tiles that fit, then in lower ones; the first row left over."""
    builder = e.builder
    last = e.first(builder.sub(p.width, e.integer((vectors - 1) * e.lanes))) if masked else None
    masks = [None] * (vectors - 1) + [last]
    for height in heights:

        def fits(i):
            left = builder.sub(p.M, i)
            enough = builder.icmp_signed(">=", left, e.integer(height))
            two_lower_ones_are_faster = builder.icmp_signed("==", left, e.integer(2 * HEIGHTS[1]))
            return builder.and_(enough, builder.not_(two_lower_ones_are_faster)) if height == HEIGHTS[0] else enough

        def body(i):
            emit_tile(e, w, p, i, height, masks, is_transposed)
            return [builder.add(i, e.integer(height))]

        (i,) = e.loop([i], fits, body)
    return [i]


def panel_function(context, module, number, real, is_transposed):
    """The function in an LLVM module that multiplies panels of one dtype into sums of another; the first request emits it."""
    name = f"panel.{number}.{real}{'.transposed' if is_transposed else ''}"
    if name in module.globals:
        return module.globals[name]
    integer, pointer, bit = ir.IntType(64), ir.IntType(8).as_pointer(), ir.IntType(1)
    kinds = [pointer if field in "abc" else bit if field == "add" else integer for field in Panel._fields]
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), kinds), name)
    function.linkage = "internal"
    function.attributes.add("noinline")
    builder = ir.IRBuilder(function.append_basic_block("entry"))
    e, p = Emit(context, builder, real), Panel(*function.args)
    w = Emit(context, builder, number, e.lanes)

    if amx.PERMITTED and w.vector != e.vector and e.bytes == 4:
        amx.emit_panel(e, p, is_transposed)
        builder.ret_void()
        return function

    def wider(n):
        return builder.icmp_signed(">=", p.width, e.integer(n))

    def strips(i, vectors, masked, heights):
        return lambda: emit_strips(e, w, p, i, vectors, masked, is_transposed, heights)

    def with_mask(i, vectors):
        widest = strips(i, vectors, True, HEIGHTS)
        if vectors == 1:
            return widest()
        return e.choose(wider((vectors - 1) * e.lanes + 1), widest, lambda: with_mask(i, vectors - 1))

    start = e.integer(0)
    # Whole tiles need no masks.
    (i,) = e.choose(wider(VECTORS * e.lanes), strips(start, VECTORS, False, HEIGHTS[:1]), lambda: [start])
    with_mask(i, VECTORS)
    builder.ret_void()
    return function


def _panel(is_transposed):
    def panel(typingctx, a, b, c, add):
        def emit(context, builder, signature, args):
            arrays = [context.make_array(kind)(context, builder, value) for kind, value in zip((a, b, c), args)]
            strides = [cgutils.unpack_tuple(builder, array.strides, 2) for array in arrays]
            (M, K), (_, width), _ = (cgutils.unpack_tuple(builder, array.shape, 2) for array in arrays)
            A, B, C = (builder.bitcast(array.data, ir.IntType(8).as_pointer()) for array in arrays)
            fields = A, *strides[0], B, strides[1][0], C, strides[2][0], M, K, width, args[3]
            builder.call(panel_function(context, builder.module, a.dtype, c.dtype, is_transposed), Panel._make(fields))
            return context.get_dummy_value()

        return types.void(a, b, c, types.boolean), emit

    return intrinsic(panel)


# c = a @ b where b is no wider than a tile, or c += a @ b          a (M, K) in any order; b (K, w) and c with contiguous rows;
# c is (M, w), or (w, M) for panel_transposed. Vectors of 16 bytes read whole rows of a tile from b, however narrow it is.
panel, panel_transposed = _panel(False), _panel(True)
