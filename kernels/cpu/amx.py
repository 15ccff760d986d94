"""Panels of pairs of bfloat16 numbers by AMX, whose registers are tiles: 16 rows of 64 bytes.

One instruction, TDPBF16PS, multiplies 16 rows of 16 pairs by 16 pairs of 16 columns, and adds the products to 16 x 16 sums
(Intel, Software Developer's Manual, volume 1, chapter 18). So K must be a multiple of 16 pairs; zeros fill it up. Rows and
columns need not be: the configuration of the tiles says how many there are. Every sum is made in the same order, whatever the
rows and columns around it.
"""

import ctypes
import platform
from typing import Any

import llvmlite.binding
import numba.core.config
from llvmlite import ir

ROWS, PAIRS, BYTES = 16, 16, 64  # of a tile; the bytes are those of a row
C, A, B = (0, 1, 2, 3), (4, 5), (6, 7)  # the tiles: two by two of sums, two of rows of a, and two of columns of b
INSTRUCTIONS = "llvm.x86."  # the prefix of the functions that are these instructions


def is_permitted() -> bool:
    """Return whether the processor for which Numba compiles has AMX, and Linux lets this process use it, which it must ask."""
    config: Any = numba.core.config
    if config.CPU_NAME not in (None, "host") or config.CPU_FEATURES is not None or platform.system() != "Linux":
        return False
    features = llvmlite.binding.get_host_cpu_features()
    if not all(features.get(name) for name in ("amx-tile", "amx-bf16", "avx512f")):
        return False
    arch_prctl, request_permission, tile_data = 158, 0x1023, 18
    return ctypes.CDLL(None).syscall(arch_prctl, request_permission, tile_data) == 0


PERMITTED = is_permitted()


def emit_panel(e, p, is_transposed):
    """c = a @ b, or c += a @ b, for the arguments of a panel function whose a and b hold pairs."""
    builder = e.builder
    memory = builder.alloca(ir.IntType(64), 8, "configuration"), builder.alloca(e.vector, ROWS, "tile")
    for place in memory:
        place.align = 64
    configuration, square = (e.at(place) for place in memory)
    zero, sixteen = e.integer(0), e.integer(16)

    def less(a, b):
        return builder.icmp_signed("<", a, b)

    def least(a, b):
        return builder.select(less(a, b), a, b)

    widths = [least(p.width, sixteen), builder.sub(p.width, least(p.width, sixteen))]

    def instruction(name, *arguments):
        numbers = [ir.Constant(ir.IntType(8), a) if isinstance(a, int) else a for a in arguments]
        e.call(INSTRUCTIONS + name, ir.VoidType(), *numbers)

    def configure(heights):
        for word in range(8):
            value = ir.Constant(ir.IntType(64), 1 if word == 0 else 0)  # palette 1: tiles as above
            builder.store(value, builder.bitcast(e.at(configuration, 8 * word), value.type.as_pointer()))
        shapes = {C[2 * r + v]: (heights[r], widths[v]) for r in range(2) for v in range(2)}
        shapes |= {A[r]: (heights[r], sixteen) for r in range(2)} | {B[v]: (sixteen, widths[v]) for v in range(2)}
        for tile, (rows, columns) in shapes.items():
            exists = builder.and_(less(zero, rows), less(zero, columns))  # else both must be 0
            row_bytes = builder.mul(columns, e.integer(4))
            for value, offset, bits in ((row_bytes, 16 + 2 * tile, 16), (rows, 48 + tile, 8)):
                value = builder.trunc(builder.select(exists, value, zero), ir.IntType(bits))
                builder.store(value, builder.bitcast(e.at(configuration, offset), value.type.as_pointer()))
        instruction("ldtilecfg", configuration)

    def columns_of_c(i, r, v):
        """(address, whether it exists) of those columns of c.T that the rows of a transposed square are."""
        for n in range(v * ROWS, (v + 1) * ROWS):
            row = builder.mul(e.integer(n), p.c_down)
            yield (
                e.at(p.c, row, builder.mul(builder.add(i, e.integer(r * ROWS)), e.integer(e.bytes))),
                less(e.integer(n), p.width),
            )

    def load_sums(i, r, v, height):
        tile = C[2 * r + v]
        if not is_transposed:
            instruction("tileloadd64", tile, place_of_sums(i, r, v), p.c_down)
            return []
        found = []
        for address, exists in columns_of_c(i, r, v):
            nothing = ir.Constant(e.vector, None)
            found += e.choose(exists, lambda: [e.load(address, e.first(height))], lambda: [nothing])
        for row, vector in enumerate(e.transposed(found)):
            e.store(vector, e.at(square, row * BYTES))
        instruction("tileloadd64", tile, square, e.integer(BYTES))
        return []

    def store_sums(i, r, v, height):
        tile = C[2 * r + v]
        if not is_transposed:
            instruction("tilestored64", tile, place_of_sums(i, r, v), p.c_down)
            return
        instruction("tilestored64", tile, square, e.integer(BYTES))
        rows = [e.load(e.at(square, row * BYTES)) for row in range(ROWS)]
        for vector, (address, exists) in zip(e.transposed(rows), columns_of_c(i, r, v)):
            e.choose(exists, lambda: e.store(vector, address, e.first(height)) or [], list)

    def place_of_sums(i, r, v):
        return e.at(p.c, builder.mul(builder.add(i, e.integer(r * ROWS)), p.c_down), v * BYTES)

    def block(i, heights, n_columns):
        """Rows i to i + sum(heights) of c, by one or two tiles of columns."""
        squares = [(r, v) for r in range(len(heights)) for v in range(n_columns)]

        def zeros():
            for r, v in squares:
                instruction("tilezero", C[2 * r + v])
            return []

        e.choose(p.add, lambda: sum((load_sums(i, r, v, heights[r]) for r, v in squares), []), zeros)
        down = builder.mul(p.down, sixteen)
        a = [e.at(p.a, builder.mul(i, p.down)), e.at(p.a, builder.mul(i, p.down), down)][: len(heights)]

        def multiply(k, b, *a):
            for r, rows in enumerate(a):
                instruction("tileloadd64", A[r], rows, p.down)
            for v in range(n_columns):
                instruction("tileloadd64", B[v], e.at(b, v * BYTES), p.b_down)
            for r, v in squares:
                instruction("tdpbf16ps", C[2 * r + v], A[r], B[v])
            return [builder.add(k, sixteen), e.at(b, builder.mul(p.b_down, sixteen)), *(e.at(rows, BYTES) for rows in a)]

        e.loop([zero, p.b, *a], lambda k, *_: less(k, p.K), multiply)
        for r, v in squares:
            store_sums(i, r, v, heights[r])
        return []

    def rows_from(i, heights):
        return e.choose(less(zero, widths[1]), lambda: block(i, heights, 2), lambda: block(i, heights, 1))

    def whole_blocks():
        configure([sixteen, sixteen])

        def body(i):
            rows_from(i, [sixteen, sixteen])
            return [builder.add(i, e.integer(2 * ROWS))]

        return e.loop([zero], lambda i: less(builder.add(i, e.integer(2 * ROWS - 1)), p.M), body)

    (i,) = e.choose(less(e.integer(2 * ROWS - 1), p.M), whole_blocks, lambda: [zero])
    left = builder.sub(p.M, i)

    def last_rows():
        heights = [least(left, sixteen), builder.sub(left, least(left, sixteen))]
        configure(heights)
        return e.choose(less(zero, heights[1]), lambda: rows_from(i, heights), lambda: rows_from(i, heights[:1]))

    e.choose(less(zero, left), last_rows, list)
    instruction("tilerelease")
