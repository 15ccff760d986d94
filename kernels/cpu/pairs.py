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


def _fill(vector_of_words, words_without_masks):
    """An intrinsic that fills words, row by row, with a function of x; both have contiguous rows.

    Parameters
    ----------
    vector_of_words
        (e, x, sizes of x, i, j, masked) -> the words from j on in row i. Only with masks may they be beyond the end of x.
    words_without_masks
        (builder, sizes of x, i) -> how many words of row i need none.
    """

    def fill(typingctx, x, words):
        def emit(context, builder, signature, args):
            e = Emit(context, builder, x.dtype)
            w = Emit(context, builder, types.uint32, e.lanes)
            X, W = e.array(x, args[0]), w.array(words, args[1])
            (x_down, _), (w_down, _) = (cgutils.unpack_tuple(builder, array.strides, 2) for array in (X, W))
            sizes, (rows, columns) = (cgutils.unpack_tuple(builder, array.shape, 2) for array in (X, W))

            def place_in_x(row, column):
                return e.at(X.data, builder.mul(row, x_down), builder.mul(column, e.integer(e.bytes)))

            def row(i, w_row):
                whole, j = words_without_masks(builder, sizes, i), e.integer(0)
                for masked, last in ((False, builder.sub(whole, e.integer(e.lanes - 1))), (True, columns)):

                    def vector(j):
                        mask = e.first(builder.sub(columns, j)) if masked else None
                        value = vector_of_words(e, place_in_x, sizes, i, j, masked)
                        w.store(value, w.at(w_row, builder.mul(j, e.integer(w.bytes))), mask)
                        return [builder.add(j, e.integer(e.lanes))]

                    (j,) = e.loop([j], lambda j: builder.icmp_signed("<", j, last), vector)
                return [builder.add(i, e.integer(1)), e.at(w_row, w_down)]

            e.loop([e.integer(0), e.at(W.data)], lambda i, _: builder.icmp_signed("<", i, rows), row)
            return context.get_dummy_value()

        return types.void(x, words), emit

    return intrinsic(fill)


def _neighbours_in_row(e, place, sizes, i, j, masked):
    first, found = e.builder.mul(j, e.integer(2)), []
    for v in range(2):
        column = e.builder.add(first, e.integer(v * e.lanes))
        found.append(e.load(place(i, column), e.first(e.builder.sub(sizes[1], column)) if masked else None))
    return pairs_of(e, *(e.shuffle(*found, range(start, 2 * e.lanes, 2)) for start in range(2)))


def _neighbours_in_column(e, place, sizes, i, j, masked):
    first, found = e.builder.mul(i, e.integer(2)), []
    for v in range(2):
        row = e.builder.add(first, e.integer(v))
        exists = e.builder.icmp_signed("<", row, sizes[0])
        left = e.builder.select(exists, e.builder.sub(sizes[1], j), e.integer(0))
        found.append(e.load(place(row, j), e.first(left) if masked else None))
    return pairs_of(e, *found)


def _pairs_in_row(builder, sizes, i):
    return builder.lshr(sizes[1], ir.Constant(sizes[1].type, 1))


def _pairs_in_two_rows(builder, sizes, i):
    both = builder.icmp_signed("<", i, builder.lshr(sizes[0], ir.Constant(i.type, 1)))
    return builder.select(both, sizes[1], ir.Constant(i.type, 0))


# words (M, at least K / 2) = neighbours in the rows of x (M, K), rounded; what is left over is 0
fill_with_columns = _fill(_neighbours_in_row, _pairs_in_row)
# words (at least K / 2, N) = neighbours in the columns of x (K, N), rounded; what is left over is 0
fill_with_rows = _fill(_neighbours_in_column, _pairs_in_two_rows)


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
