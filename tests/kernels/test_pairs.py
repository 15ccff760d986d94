"""Products of pairs of bfloat16 numbers: the pairs, the products at every edge of a tile, and the copies that a step keeps."""

import itertools

import numpy as np
import pytest

from vae_np.kernels import reference
from vae_np.kernels.cpu import emit, jit, operands, pairs, product
from vae_np.kernels.cpu.operands import paired
from vae_np.kernels.cpu.pairs import numbers_of, pair_columns, pair_rows

pytestmark = pytest.mark.skipif(not emit.VECTOR, reason="NumPy multiplies where the vectors of the processor are not known")
REALS = ["float32", "float64"]
AXES = {"columns": (pair_columns, 1), "rows": (pair_rows, 0)}


def normal(*shape, real="float64"):
    return np.random.default_rng(shape).normal(size=shape).astype(real)


def rounded(x):
    return reference.rounded(x, 8).astype(np.float64)


@pytest.mark.parametrize("real", REALS)
@pytest.mark.parametrize("pairing, axis", AXES.values(), ids=AXES)
def test_pairs_hold_the_rounded_numbers_and_zeros(real, pairing, axis):
    for shape in itertools.product((1, 2, 3, 16, 33), (1, 2, 7, 32, 63, 65)):
        x = normal(shape[0], shape[1] + 3, real=real)[:, 1:-2]  # its rows are not side by side
        words = paired(pairing, x)
        n = 2 * words.shape[axis]
        numbers = np.moveaxis(numbers_of(words, axis, n), axis, 0)
        np.testing.assert_array_equal(numbers[: x.shape[axis]], np.moveaxis(rounded(x), axis, 0))
        assert not numbers[x.shape[axis] :].any()
        around = np.full((len(words) + 1, words.shape[1] + 9), 7, pairs.WORD)
        inner = around[:-1, :-9]
        pairing(x, inner)
        assert (inner == words).all()
        inner[...] = 7
        assert (around == 7).all()


@pytest.mark.parametrize("real", REALS)
@pytest.mark.parametrize("pairing, axis", AXES.values(), ids=AXES)
def test_rounding_is_that_of_the_reference_for_every_kind_of_number(real, pairing, axis):
    tie, rng = 2.0**-8, np.random.default_rng(0)
    ties = [1 + tie, 1 + 3 * tie, 1 + tie * (1 + 1e-6), 1 + tie * (1 - 1e-6), 2 - tie, 2 - tie / 2]
    kinds = [0.0, np.inf, np.nan, *ties, 3.4e38, 1.2e-38, *np.exp(20 * rng.normal(size=300))]
    x = np.array([*kinds, *(-number for number in kinds)], real).reshape(2, -1)
    with np.errstate(over="ignore"):
        wanted = reference.rounded(x, 8).astype(np.float32)
    np.testing.assert_array_equal(numbers_of(paired(pairing, x), axis, x.shape[axis]), wanted)
    assert (np.signbit(numbers_of(paired(pairing, x), axis, x.shape[axis])) == np.signbit(x))[~np.isnan(x)].all()


@jit.kernel
def multiply(a, b, c):
    product.product(a, b, c, (c[:0], c[:0], c[:0]))


@jit.kernel
def multiply_transposed(a, b, c):
    product.product_transposed(a, b, c)


def products(x, W, dy):
    """The three products of a layer: y = x @ W, dx = dy @ W.T and dW = x.T @ dy."""
    y, dx, dW = np.full_like(dy, np.nan), np.full_like(x, np.nan), np.full_like(W, np.nan)
    multiply(x, paired(pair_rows, W), y)
    multiply_transposed(dy, paired(pair_columns, W), dx)
    multiply(paired(pair_rows, x).T, paired(pair_rows, dy), dW)
    return y, dx, dW


@pytest.mark.parametrize("real", REALS)
def test_products_at_every_edge_of_a_tile(real):
    edges = [1, 2, 3, 5, 12, 13, 16, 17, 31, 33, 65][:: 1 if real == "float32" else 3]
    for M, K, N in [*itertools.product(edges, (5, 34), edges), (70, 2500, 33), (130, 512, 512)]:
        x, W, dy = (normal(*shape, real=real) for shape in ((M, K), (K, N), (M, N)))
        for found, left, right in zip(products(x, W, dy), (x, dy, x.T), (W, W.T, dy)):
            left, right = rounded(left), rounded(right)
            # Products of two bfloat16 numbers are exact, so that only the sums round.
            bound = 2 * np.finfo(real).eps * np.sqrt(left.shape[1]) * (abs(left) @ abs(right))
            assert (abs(found - left @ right) <= bound).all(), (M, K, N)


def test_a_row_has_the_same_bits_whatever_rows_stand_around_it():
    x, W = normal(67, 301, real="float32"), normal(301, 70, real="float32")
    rows, columns = paired(pair_rows, W), paired(pair_columns, np.ascontiguousarray(W.T))
    whole, whole_t = np.empty((67, 70), np.float32), np.empty((67, 70), np.float32)
    multiply(x, rows, whole)
    multiply_transposed(x, columns, whole_t)
    for start, stop in [(0, 1), (3, 20), (11, 67), (66, 67)]:
        part = np.empty((stop - start, 70), np.float32)
        multiply(x[start:stop], rows, part)
        assert (part == whole[start:stop]).all()
        multiply_transposed(x[start:stop], columns, part)
        assert (part == whole_t[start:stop]).all()


def test_numpy_does_the_work_of_a_product_that_cannot_be_compiled():
    x, W, dy = normal(9, 7), normal(7, 5), normal(9, 5)
    y, dx, dW = np.empty((9, 5)), np.empty((9, 7)), np.empty((7, 5))
    product._numpy_product(x, paired(pair_rows, W), y)
    product._numpy_product_transposed(dy, paired(pair_columns, W), dx)
    product._numpy_product(paired(pair_rows, x).T, paired(pair_rows, dy), dW)
    for found, left, right in zip((y, dx, dW), (x, dy, x.T), (W, W.T, dy)):
        np.testing.assert_allclose(found, rounded(left) @ rounded(right), rtol=1e-14)


def test_the_copies_of_a_step_are_made_again_where_their_originals_change():
    kept, W, x = operands.Operands(are_pairs=True), normal(30, 6, real="float32"), normal(5, 6, real="float32")
    (_, (_, rows, *_)), (_, (_, columns, _)) = kept.of_layers(
        [("affine", (x, W, None, None)), ("affine_backward", (x, W, None))]
    )
    words = kept.of_gradient(x)
    kept.refresh()
    assert (rows == paired(pair_rows, W)).all() and (columns == paired(pair_columns, W)).all()
    W[:], x[:] = 2 * W + 1, x - 1
    for pairing, arguments in sum((kept.after_update(W, i, i + 12) for i in range(0, 30, 12)), []):
        pairing(*arguments)
    for ((pairing, arguments),) in kept.between_halves():
        pairing(*arguments)
    assert (rows == paired(pair_rows, W)).all() and (columns == paired(pair_columns, W)).all()
    assert (words == paired(pair_rows, x)).all()
    assert kept.after_update(normal(3, 6, real="float32"), 0, 3) == []


def test_nothing_is_copied_at_full_precision():
    kept, W = operands.Operands(are_pairs=False), normal(3, 6)
    calls = [("affine", (W, W, None, None))]
    assert kept.of_layers(calls) is calls and kept.of_gradient(W) is W
    assert kept.between_halves() == [] == kept.after_update(W, 0, 3)
    assert pairs.number_of_pairs(3) >= 2
