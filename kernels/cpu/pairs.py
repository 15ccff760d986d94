"""Pairs of bfloat16 numbers in words of 32 bits, as a product of this precision takes them: both belong to one sum over k.

The left operand has words of neighbours in a row, the right operand has words of neighbours in a column.
"""

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils

from vae_np.kernels.contract import Array
from vae_np.kernels.cpu import amx
from vae_np.kernels.cpu.emit import Emit
from vae_np.kernels.cpu.jit import exact, intrinsic

WORD = np.dtype(np.uint32)


def bits_of(e, x):
    """The bits of a vector's numbers, each rounded to 8 significant bits, ties to even, as float32: they end in 16 zeros.

    NaN stays NaN. What is beyond the range of float32 becomes infinite.
    """
    builder, size = e.builder, 8 * e.bytes
    dropped = {32: 16, 64: 45}[size]  # of the 24 significant bits, or of the 53

    def all_lanes(vector, number):
        return ir.Constant(vector, [number] * e.lanes)

    long = ir.VectorType(ir.IntType(size), e.lanes)
    bits = builder.bitcast(x, long)
    is_odd = builder.and_(builder.lshr(bits, all_lanes(long, dropped)), all_lanes(long, 1))
    bits = builder.add(bits, builder.add(is_odd, all_lanes(long, 2 ** (dropped - 1) - 1)))
    bits = builder.and_(bits, all_lanes(long, -(2**dropped)))
    words = ir.VectorType(ir.IntType(32), e.lanes)
    if size == 64:
        bits = builder.fptrunc(builder.bitcast(bits, e.vector), ir.VectorType(ir.FloatType(), e.lanes))
        bits = builder.and_(builder.bitcast(bits, words), all_lanes(words, -(2**16)))  # for numbers below 2^-126
    return builder.select(builder.fcmp_unordered("uno", x, x), all_lanes(words, 0x7FC00000), bits)


def pairs_of(e, x, y):
    """The words that hold x, rounded to bfloat16, in their lower halves, and y in their upper halves."""
    x, y = bits_of(e, x), bits_of(e, y)
    return e.builder.or_(e.builder.lshr(x, ir.Constant(x.type, [16] * e.lanes)), y)


def _for_rows(vector_of_words):
    """An intrinsic of x and words that fills each row of words with the vectors that an emitter returns, both contiguous."""

    def fill(typingctx, x, words):
        def emit(context, builder, signature, args):
            e = Emit(context, builder, x.dtype)
            w = Emit(context, builder, types.uint32, e.lanes)
            X, W = e.array(x, args[0]), w.array(words, args[1])
            (x_down, _), (w_down, _) = (cgutils.unpack_tuple(builder, array.strides, 2) for array in (X, W))
            sizes, (rows, columns) = (cgutils.unpack_tuple(builder, array.shape, 2) for array in (X, W))

            def row(i, w_row):
                def vector(j, target):
                    value = vector_of_words(e, e.at(X.data), x_down, sizes, i, j)
                    w.store(value, target, e.first(builder.sub(columns, j)))
                    return [builder.add(j, e.integer(e.lanes)), e.at(target, e.lanes * w.bytes)]

                e.loop([e.integer(0), w_row], lambda j, _: builder.icmp_signed("<", j, columns), vector)
                return [builder.add(i, e.integer(1)), e.at(w_row, w_down)]

            e.loop([e.integer(0), e.at(W.data)], lambda i, _: builder.icmp_signed("<", i, rows), row)
            return context.get_dummy_value()

        return types.void(x, words), emit

    return intrinsic(fill)


def _neighbours_in_row(e, x, down, sizes, i, j):
    first = e.builder.mul(j, e.integer(2))
    at, found = e.at(x, e.builder.mul(i, down), e.builder.mul(first, e.integer(e.bytes))), []
    for v in range(2):
        left = e.builder.sub(sizes[1], e.builder.add(first, e.integer(v * e.lanes)))
        found.append(e.load(e.at(at, v * e.lanes * e.bytes), e.first(left)))
    even, odd = (e.shuffle(*found, range(start, 2 * e.lanes, 2)) for start in range(2))
    return pairs_of(e, even, odd)


def _neighbours_in_column(e, x, down, sizes, i, j):
    first, found = e.builder.mul(i, e.integer(2)), []
    for v in range(2):
        row = e.builder.add(first, e.integer(v))
        at = e.at(x, e.builder.mul(row, down), e.builder.mul(j, e.integer(e.bytes)))
        exists = e.builder.icmp_signed("<", row, sizes[0])
        left = e.builder.select(exists, e.builder.sub(sizes[1], j), e.integer(0))
        found.append(e.load(at, e.first(left)))
    return pairs_of(e, *found)


# words (M, at least K / 2) = neighbours in the rows of x (M, K), rounded; what is left over is 0
fill_with_columns = _for_rows(_neighbours_in_row)
# words (at least K / 2, N) = neighbours in the columns of x (K, N), rounded; what is left over is 0
fill_with_rows = _for_rows(_neighbours_in_column)


@exact
def pair_columns(x, words):
    fill_with_columns(x, words)


@exact
def pair_rows(x, words):
    fill_with_rows(x, words)


def number_of_pairs(n: int) -> int:
    """Return how many words hold n numbers that are neighbours, with the zeros that fill up a tile of AMX."""
    multiple = amx.PAIRS if amx.PERMITTED else 1
    return -(-n // (2 * multiple)) * multiple


def numbers_of(words: Array, axis: int, n: int) -> Array:
    """Return the first n numbers along an axis of words."""
    halves = [(words << WORD.type(16)).view(np.float32), (words & WORD.type(0xFFFF0000)).view(np.float32)]
    shape = [*words.shape]
    shape[axis] *= 2
    return np.stack(halves, axis + 1).reshape(shape).take(range(n), axis)
