"""Matrix products that keep the vector units busy: c = a @ b in tiles, each held in registers while it is summed.

Every element is one sum over k in its order, fused, whatever tile it falls into: the bits do not depend on how the rows are
dealt out to threads. Where the processor's vectors are not known (or narrower than AVX2's), the product is the BLAS's.
"""

import numpy as np

from vae_np.kernels.cpu.emit import (
    VECTOR,
    ask_for,
    copy,
    copy_in_panels,
    panel,
    panel_turned,
    transpose_block,
)
from vae_np.kernels.cpu.jit import exact
from vae_np.kernels.cpu.mathematics import inline
from vae_np.kernels.cpu.scratch import array_in, give_back, take
from vae_np.kernels.cpu.words import late

ROWS_KEEP_THEIR_BITS = VECTOR > 0  # whatever rows are multiplied with them; a BLAS promises no such thing
MOST_TERMS = 1024  # of a sum at a time
ROWS = 24  # of a product at a time, in whole tiles; more where sums are short
PACKED = 2**19  # bytes of the other matrix, which stay in a core's own cache meanwhile


def about():
    """How matrices are multiplied here."""
    if VECTOR:
        return f"matrix products of its own, for vectors of {VECTOR} bytes"
    return "matrix products of the BLAS, slower: this processor's vectors are not known"


@inline
def divided(buffer):
    """Room for packed panels, and for rows: 768 bytes off a whole page from them, or their lines would share sets of the cache."""
    n = PACKED // buffer.itemsize
    return buffer[:n], buffer[n + 768 // buffer.itemsize :]


@inline
def columns_together(n_terms, width):
    return max(1, PACKED // (2 * VECTOR * n_terms)) * width


@inline
def rows_together(n_terms):
    return ROWS * max(1, (MOST_TERMS + 16) // (n_terms + 16))


@inline
def uncrowded(a, room):
    """a, or a copy of it where its lines are a multiple of 2 kB apart: they fall into a few sets of the cache, and so out of it."""
    if a.strides[1] == a.itemsize and a.strides[0] % 2048 == 0:
        apart = a.shape[1] + 16
        place = room[: a.shape[0] * apart].reshape((a.shape[0], apart))[:, : a.shape[1]]
        copy(a, place)
        return place
    if a.strides[0] == a.itemsize and a.strides[1] % 2048 == 0:
        place = room[: a.size].reshape((a.shape[1], a.shape[0]))
        copy(a.T, place)
        return place.T
    return a


def _product(a, b, c, soon, soon2, soon3):
    """c = a @ b          a (M, K) in any order; b (K, N) and c (M, N), the numbers of a row side by side

    soon: three arrays of the shape of c, or of no rows, that will be wanted next; they are brought near meanwhile.
    """
    width = 2 * VECTOR // b.itemsize
    is_packed = a.shape[0] > 64 and (VECTOR == 32 or b.strides[0] % 2048 == 0)
    buffer = take()
    packed, room = divided(array_in(buffer, b))
    for k in range(0, b.shape[0], MOST_TERMS):
        terms = b[k : k + MOST_TERMS]
        n = terms.shape[0]
        together, height = columns_together(n, width), rows_together(n)
        for first in range(0, b.shape[1], together):
            columns = terms[:, first : first + together]
            if is_packed:
                copy_in_panels(columns, packed)
            for i in range(0, a.shape[0], height):
                some = uncrowded(a[i : i + height, k : k + n], room)
                for j in range(0, columns.shape[1], width):
                    bring((soon[i : i + height], soon2[i : i + height], soon3[i : i + height]), first + j, width)
                    of_b = columns[:, j : j + width]
                    if is_packed:
                        of_b = packed[j * n : (j + width) * n].reshape((n, width))[:, : of_b.shape[1]]
                    panel(some, of_b, c[i : i + height, first + j : first + j + width], k > 0)
    give_back(buffer)


@inline
def bring(soon, first, width):
    """Some columns of all those arrays"""
    for array in soon:
        for i in range(array.shape[0]):
            for j in range(first, min(first + width, array.shape[1]), 64 // array.itemsize):
                ask_for(array, i, j)


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
    """c = a @ b.T          a (M, K), b (N, K) and c (M, N), the numbers of a row side by side

    As c.T = b @ a.T: the rows of a become columns, which are fewer than those of b.T where a layer is larger than a batch.
    """
    width = 2 * VECTOR // a.itemsize
    buffer = take()
    packed, room = divided(array_in(buffer, a))
    for k in range(0, a.shape[1], MOST_TERMS):
        n = min(MOST_TERMS, a.shape[1] - k)
        together, height = columns_together(n, width), rows_together(n)
        for first in range(0, a.shape[0], together):
            rows = a[first : first + together, k : k + n]
            for j in range(0, rows.shape[0], width):
                transpose(rows[j : j + width], packed[j * n : (j + width) * n].reshape((n, width)))
            for i in range(0, b.shape[0], height):
                some = uncrowded(b[i : i + height, k : k + n], room)
                for j in range(0, rows.shape[0], width):
                    of_c = c[first + j : min(first + j + width, a.shape[0]), i : i + height]
                    of_a = packed[j * n : (j + width) * n].reshape((n, width))[:, : of_c.shape[0]]
                    panel_turned(some, of_a, of_c, k > 0)
    give_back(buffer)


def _blas_product(a, b, c, soon, soon2, soon3):
    c[:] = np.dot(a, b)


def _blas_product_transposed(a, b, c):
    c[:] = np.dot(a, b.T)


_late_product, _prepare_product = late(
    "vae_np.product", exact(_product if VECTOR else _blas_product), lambda a, b, c, *soon: np.matmul(a, b, out=c)
)
_late_transposed, _prepare_transposed = late(
    "vae_np.product_transposed",
    exact(_product_transposed if VECTOR else _blas_product_transposed),
    lambda a, b, c: np.matmul(a, b.T, out=c),
)


def prepare(dtype):
    """Compiles the products for a dtype, or reads them from the cache; else their first call does."""
    _prepare_product(dtype)
    _prepare_transposed(dtype)


@inline
def product(a, b, c, soon):
    """c = a @ b          a (M, K) in any order; b (K, N) and c (M, N), the numbers of a row side by side

    soon: three arrays of the shape of c, or of no rows, that will be wanted next; they are brought near meanwhile.
    """
    _late_product((a, b, c, *soon))


@inline
def product_transposed(a, b, c):
    """c = a @ b.T          a (M, K), b (N, K) and c (M, N), the numbers of a row side by side"""
    _late_transposed((a, b, c))
