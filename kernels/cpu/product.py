"""Matrix products c = a @ b for compiled code, in tiles that stay in the vector registers while they are summed.

Every element is one sum over k in its order, with fused multiply-adds, whatever tile it falls into. So the bits of a row do not
depend on the rows around it, nor on how the rows are shared among threads. Where the vectors of the processor are not known, or
are narrower than those of AVX2 or NEON, the BLAS multiplies.

An operand of words holds pairs of bfloat16 numbers (`pairs`). Where only b does, a is rounded on the way.
"""

from typing import Any

import numpy as np
from numba import types
from numba.extending import overload
from numpy.typing import DTypeLike

from vae_np.kernels.cpu import amx
from vae_np.kernels.cpu.argument_buffer import lazily_compiled
from vae_np.kernels.cpu.copies import copy, pack_panels, prefetch, transpose_block
from vae_np.kernels.cpu.emit import MULTIPLIES_PAIRS, TILE, TUNING, VECTOR
from vae_np.kernels.cpu.jit import exact
from vae_np.kernels.cpu.mathematics import OPTIONS, inline
from vae_np.kernels.cpu.pairs import WORD, fill_with_columns, numbers_of
from vae_np.kernels.cpu.panel import panel, panel_transposed
from vae_np.kernels.cpu.scratch import array_in, give_back, take
from vae_np.kernels.reference import rounded

ROWS_KEEP_THEIR_BITS = VECTOR > 0  # whatever rows are multiplied with them; a BLAS promises no such thing
MOST_TERMS = 1024  # a longer sum over k is made of several
ROWS = 20 if VECTOR == 16 else 24  # rows that are multiplied at a time, in whole tiles; there are more where sums are short
COPY_TRANSPOSED, PREFETCH_RESULTS = TUNING.copy_transposed, TUNING.prefetch_results
PACKED = 2**19  # bytes of packed panels, which stay in the cache of a core


def about() -> str:
    """Return a sentence that says how this kernel set multiplies matrices."""
    if VECTOR:
        name = {64: "AVX-512", 32: "AVX2", 16: "NEON"}[VECTOR]
        return f"matrix products of its own, for vectors of {VECTOR} bytes ({name})"
    return "matrix products of the BLAS, which is slower: the vectors of this processor are not known"


def about_pairs() -> str:
    """Return a sentence that says how this kernel set multiplies matrices of bfloat16 numbers."""
    if not VECTOR:
        return (
            "matrix products of NumPy's BLAS, of operands that are rounded before: the vectors of this processor are not known"
        )
    if amx.PERMITTED:
        how = "in tiles (AMX)"
    else:
        how = "two at a time (VDPBF16PS)" if MULTIPLIES_PAIRS else "as numbers of float32"
    return f"{about()}; bfloat16 numbers are multiplied {how}"


@inline
def divided(buffer):
    """Room for packed panels and for rows, whole pages and 768 bytes apart: else their lines would share sets of the cache."""
    n = PACKED // buffer.itemsize
    return buffer[:n], buffer[n + 768 // buffer.itemsize :]


@inline
def columns_at_a_time(n_terms, width):
    return max(1, PACKED // (TILE * n_terms)) * width


def rows_at_a_time(b, n_terms) -> Any:
    """Return how many rows are multiplied at a time: whole tiles, which fit into the room for them."""


@overload(rows_at_a_time, jit_options=OPTIONS)
def _rows_at_a_time(b, n_terms):
    rows, room = (2 * amx.ROWS, 2000) if amx.PERMITTED and b.dtype == types.uint32 else (ROWS, MOST_TERMS + 16)
    return lambda b, n_terms: rows * max(1, room // (n_terms + 16))


def pack_rows(a, i, n_rows, k, n, room) -> Any:
    """Return rows i to i + n_rows of a, and of their terms n from the k-th on: as numbers, or as pairs if room is for words."""


@overload(pack_rows, jit_options=OPTIONS)
def _pack_rows(a, i, n_rows, k, n, room):
    # One load brings several numbers of a row to vectors of 16 bytes, and to the tiles of AMX.
    needs_rows = VECTOR == 16 or (amx.PERMITTED and a.dtype == types.uint32)

    def numbers(a, i, n_rows, k, n, room):
        a = a[i : i + n_rows, k : k + n]
        if needs_rows and a.strides[1] != a.itemsize and a.strides[0] == a.itemsize:
            place = matrix_in(room, a.shape[0], a.shape[1])
            transpose(a.T, place)
            return place
        if a.strides[1] == a.itemsize and a.strides[0] % 2048 == 0:
            place = matrix_in(room, a.shape[0], a.shape[1])
            copy(a, place)
            return place
        if a.strides[0] == a.itemsize and (COPY_TRANSPOSED or a.strides[1] % 2048 == 0):
            place = room[: a.size].reshape((a.shape[1], a.shape[0]))
            copy(a.T, place)
            return place.T
        return a

    def pairs(a, i, n_rows, k, n, room):
        a = a[i : i + n_rows, 2 * k : 2 * (k + n)]
        place = matrix_in(room, a.shape[0], n)
        fill_with_columns(a, place)
        return place

    return numbers if a.dtype == room.dtype else pairs


@inline
def matrix_in(room, rows, columns):
    """A matrix whose rows are not a multiple of 2 kB apart: such rows fall into a few sets of the cache."""
    apart = columns + 16
    return room[: rows * apart].reshape((rows, apart))[:, :columns]


def _product(a, b, c, prefetched, prefetched2, prefetched3):
    """c = a @ b, as `product` says."""
    width = TILE // c.itemsize
    is_packed = a.shape[0] > 64 and (VECTOR < 64 or b.strides[0] % 2048 == 0)
    buffer = take()
    packed, room = divided(array_in(buffer, b))
    for k in range(0, b.shape[0], MOST_TERMS):
        terms = b[k : k + MOST_TERMS]
        n = terms.shape[0]
        n_columns, n_rows = columns_at_a_time(n, width), rows_at_a_time(b, n)
        for first in range(0, b.shape[1], n_columns):
            columns = terms[:, first : first + n_columns]
            # Vectors of 16 bytes have no masks, so that the columns that do not fill a tile are packed in any case.
            first_packed = 0 if is_packed else columns.shape[1] // width * width if VECTOR == 16 else columns.shape[1]
            if first_packed < columns.shape[1]:
                pack_panels(columns[:, first_packed:], packed[first_packed * n :], c)
            for i in range(0, a.shape[0], n_rows):
                rows = pack_rows(a, i, n_rows, k, n, room)
                for j in range(0, columns.shape[1], width):
                    to_come = prefetched[i : i + n_rows], prefetched2[i : i + n_rows], prefetched3[i : i + n_rows]
                    prefetch_columns(to_come, first + j, width)
                    of_b = columns[:, j : j + width]
                    if j >= first_packed:
                        of_b = packed[j * n : (j + width) * n].reshape((n, width))[:, : of_b.shape[1]]
                    panel(rows, of_b, c[i : i + n_rows, first + j : first + j + width], k > 0)
    give_back(buffer)


@inline
def prefetch_columns(arrays, first, width):
    """Prefetch the columns from `first` on, `width` of them, of every array, where that is faster."""
    if PREFETCH_RESULTS:
        for array in arrays:
            for i in range(array.shape[0]):
                for j in range(first, min(first + width, array.shape[1]), 64 // array.itemsize):
                    prefetch(array, i, j)


@inline
def transpose(a, b):
    """b = a.T"""
    lanes = VECTOR // a.itemsize
    rows, columns = a.shape[0] // lanes * lanes, a.shape[1] // lanes * lanes
    for i in range(0, rows, lanes):
        for j in range(0, columns, lanes):
            transpose_block(a, b, i, j)
    for i in range(a.shape[0]):
        for j in range(columns if i < rows else 0, a.shape[1]):
            b[j, i] = a[i, j]


def _product_transposed(a, b, c):
    """c = a @ b.T, as `product_transposed` says.

    It is computed as c.T = b @ a.T: so the rows of a are transposed, which are fewer than those of b where a layer is
    larger than a batch.
    """
    width = TILE // c.itemsize
    buffer = take()
    packed, room = divided(array_in(buffer, b))
    for k in range(0, b.shape[1], MOST_TERMS):
        n = min(MOST_TERMS, b.shape[1] - k)
        n_columns, n_rows = columns_at_a_time(n, width), rows_at_a_time(b, n)
        for first in range(0, a.shape[0], n_columns):
            last = min(first + n_columns, a.shape[0])
            for j in range(0, last - first, width):
                rows_of_a = pack_rows(a, first + j, min(width, last - first - j), k, n, room)
                transpose(rows_of_a, packed[j * n : (j + width) * n].reshape((n, width)))
            for i in range(0, b.shape[0], n_rows):
                rows = pack_rows(b, i, n_rows, k, n, room)
                for j in range(0, last - first, width):
                    of_c = c[first + j : min(first + j + width, last), i : i + n_rows]
                    of_a = packed[j * n : (j + width) * n].reshape((n, width))[:, : of_c.shape[0]]
                    panel_transposed(rows, of_a, of_c, k > 0)
    give_back(buffer)


def _blas_product(a, b, c, prefetched, prefetched2, prefetched3):
    c[:] = np.dot(a, b)


def _blas_product_transposed(a, b, c):
    c[:] = np.dot(a, b.T)


def _numpy_product(a, b, c, *prefetched):
    if a.dtype == WORD:
        a = numbers_of(a, 1, 2 * a.shape[1])
    if b.dtype == WORD:
        a, b = rounded(a, 8), numbers_of(b, 0, a.shape[1])
    np.matmul(a, b, out=c, dtype=c.dtype)


def _numpy_product_transposed(a, b, c):
    if b.dtype == WORD:
        a, b = rounded(a, 8), numbers_of(b, 1, a.shape[1])
    np.matmul(a, b.T, out=c)


if not VECTOR:
    _product, _product_transposed = _blas_product, _blas_product_transposed

REALS = np.dtype(np.float32), np.dtype(np.float64)
_lazy_product = lazily_compiled(
    "vae_np.product",
    exact(_product),
    _numpy_product,
    [(a, b, *(real,) * 4) for real in REALS for a, b in ((real, real), (real, WORD), (WORD, WORD))],
)
_lazy_product_transposed = lazily_compiled(
    "vae_np.product_transposed",
    exact(_product_transposed),
    _numpy_product_transposed,
    [(real, b, real) for real in REALS for b in (real, WORD)],
)


_call_product, _call_product_transposed = _lazy_product.call, _lazy_product_transposed.call


def _of_training(dtype, are_pairs):
    """(product, the dtypes of its arguments) of every product that a training makes."""
    for left, right in ((dtype, WORD), (WORD, WORD)) if are_pairs else ((dtype, dtype),):
        yield _lazy_product, (left, right, *(dtype,) * 4)
    yield _lazy_product_transposed, (dtype, WORD if are_pairs else dtype, dtype)


def wanted_products(dtype: DTypeLike, are_pairs: bool) -> list[tuple]:
    """Return what `argument_buffer.compile_all` takes for the products of a training."""
    return [lazy.wanted(*dtypes) for lazy, dtypes in _of_training(dtype, are_pairs)]


def prepare(dtype: DTypeLike, are_pairs: bool) -> None:
    """Compile these products, or read them from the cache, before their first call would."""
    for lazy, dtypes in _of_training(dtype, are_pairs):
        lazy.prepare(*dtypes)


@inline
def product(a, b, c, prefetched):
    """c = a @ b          a (M, K) in any order; b (K, N) and c (M, N) with contiguous rows

    prefetched: three arrays that are used next, and so loaded into the cache meanwhile; each has the shape of c, or no rows.
    b may hold words that `pair_rows` has made, and then a too (of its transpose).
    """
    _call_product((a, b, c, *prefetched))


@inline
def product_transposed(a, b, c):
    """c = a @ b.T          a (M, K), b (N, K) and c (M, N), all with contiguous rows; b may hold words (`pair_columns`)"""
    _call_product_transposed((a, b, c))
