"""Matrix products that keep the vector units busy: c = a @ b in tiles, each held in registers while it is summed.

Every element is one sum over k in its order, fused, whatever tile it falls into: the bits do not depend on how the rows are
dealt out to threads. Where the processor's vectors are not known (or narrower than AVX2's), the product is the BLAS's.
"""

import numpy as np

from kernels.cpu.emit import HEIGHTS, VECTOR, ask_for, copy, panel, panel_turned, stack_array, transpose_block
from kernels.cpu.jit import exact
from kernels.cpu.mathematics import inline
from kernels.cpu.words import late

PRODUCTS = (
    f"matrix products of its own, for vectors of {VECTOR} bytes"
    if VECTOR
    else "matrix products of the BLAS, slower: this processor's vectors are not known"
)
ROWS_KEEP_THEIR_BITS = VECTOR > 0  # whatever rows are multiplied with them; a BLAS promises no such thing
MOST_TERMS, PANELS = 1024, 4  # of a sum, and of a matrix, at a time
few_panels = stack_array(MOST_TERMS * PANELS * 2 * VECTOR)


@inline
def terms(a):
    """How many columns of a at a time, so that they stay in a core's own cache."""
    return max(256, min(MOST_TERMS, 2**19 // (a.itemsize * max(1, a.shape[0])) // 64 * 64))


@inline
def crowded(a):
    """Rows a multiple of 2 kB apart: all of a column falls into a few sets of the cache, and so out of it."""
    return a.strides[0] % 2048 == 0 and a.shape[0] > 8


def _product(a, b, c, soon, soon2, soon3):
    """c = a @ b          a (M, K) in any order; b (K, N) and c (M, N), the numbers of a row side by side

    soon: three arrays of the shape of c, or of no rows, that will be wanted next; they are brought near meanwhile.
    """
    width, step, N = 2 * VECTOR // b.itemsize, terms(a), b.shape[1]
    a_crowded, b_crowded = crowded(a) and a.strides[1] == a.itemsize, crowded(b) and a.shape[0] > 64
    apart = np.empty((a.shape[0] if a_crowded else 0, step + 16), a.dtype)
    for k in range(0, b.shape[0], step):
        of_a, of_b = a[:, k : k + step], b[k : k + step]
        if a_crowded:
            copy(of_a, apart)
            of_a = apart[:, : of_a.shape[1]]
        for first in range(0, N, PANELS * width):
            columns = of_b[:, first : first + PANELS * width]
            if b_crowded:
                close = few_panels(b)[: columns.size].reshape(columns.shape)
                copy(columns, close)
                columns = close[:, : columns.shape[1]]
            for j in range(0, columns.shape[1], width):
                bring((soon, soon2, soon3), first + j, width)
                panel(of_a, columns[:, j : j + width], c[:, first + j : first + j + width], k > 0)


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
    width, height = 2 * VECTOR // a.itemsize, 4 * HEIGHTS[0]
    apart = np.empty((height if crowded(b) else 0, MOST_TERMS + 16), b.dtype)
    for k in range(0, a.shape[1], MOST_TERMS):
        for first in range(0, a.shape[0], PANELS * width):
            of_a = a[first : first + PANELS * width, k : k + MOST_TERMS]
            columns = few_panels(a)[: of_a.size].reshape((of_a.shape[1], of_a.shape[0]))
            transpose(of_a, columns)
            for i in range(0, b.shape[0], height):
                of_b = b[i : i + height, k : k + MOST_TERMS]
                if crowded(b):
                    copy(of_b, apart)
                    of_b = apart[: of_b.shape[0], : of_b.shape[1]]
                for j in range(0, of_a.shape[0], width):
                    of_c = c[first + j : min(first + j + width, a.shape[0]), i : i + height]
                    panel_turned(of_b, columns[:, j : j + width], of_c, k > 0)


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
