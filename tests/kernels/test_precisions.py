"""Lower precisions: what the rounding is, what of an operation it meets, and that every set rounds the same."""

from fractions import Fraction

import numpy as np
import pytest

from vae_np import kernels
from vae_np.kernels import reference
from vae_np.kernels.contract import LAYERS
from vae_np.testing.operations import cases, changed_operations, check_operation, on_numpy, random_arguments

BITS = {"bfloat16": 8, "tfloat32": 11}
FULL = kernels.load("numpy")


def nearest(x, bits):
    """The nearest number of so many significant bits, of two equally near ones the one that ends in 0."""
    if not np.isfinite(x) or x == 0:
        return x
    exponent = 0
    while abs(Fraction(float(x))) / Fraction(2) ** exponent >= 2**bits:
        exponent += 1
    while abs(Fraction(float(x))) / Fraction(2) ** exponent < 2 ** (bits - 1):
        exponent -= 1
    return float(round(Fraction(float(x)) / Fraction(2) ** exponent) * Fraction(2) ** exponent)  # `round` is half to even


def test_the_reference_has_these_precisions_which_change_the_layers_that_multiply():
    assert kernels.precisions("numpy") == ("float32", *BITS)
    for changes in reference.precisions().values():
        assert changes.keys() == {name for name in LAYERS if name.startswith("affine")} | {"about"}


@pytest.mark.parametrize("bits", BITS.values())
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_rounding_is_to_nearest_and_of_ties_to_even(dtype, bits):
    rng, tie = np.random.default_rng(0), 2.0**-bits
    ties = [1 + tie, 1 + 3 * tie, 1 + tie * (1 + 1e-6), 1 + tie * (1 - 1e-6), 2 - tie, 2 - tie / 2]
    tiny = [np.finfo(dtype).tiny, np.finfo(dtype).tiny / 8 * (1 + tie), np.finfo(dtype).smallest_subnormal]
    x = np.array([0, -0.0, np.inf, np.nan, 1, *ties, *tiny, *np.exp(20 * rng.normal(size=100))], dtype)
    for signed in (x, -x):
        given = reference.rounded(signed, bits)
        assert given.dtype == dtype and (np.signbit(given) == np.signbit(signed)).all()
        np.testing.assert_array_equal(given, np.array([nearest(one, bits) for one in signed], dtype))


def test_a_bfloat16_is_the_upper_half_of_a_float32():
    """Half a unit of the upper half is added, and a little less where that half is even; below the normal numbers, where a
    bfloat16 has fewer significant bits, the two differ."""
    words = np.random.default_rng(1).integers(0x00800000, 0x7F7F0000, 10000).astype(np.uint32)
    words[:100] &= 0xFFFF8000  # half of these are ties
    upper = (words + 0x7FFF + (words >> 16 & 1)) & 0xFFFF0000
    np.testing.assert_array_equal(reference.rounded(words.view(np.float32), 8), upper.view(np.float32))


def test_sets_agree_at_a_lower_precision(lower):
    backend, precision = lower
    names = changed_operations(backend, precision)
    assert {name for name in LAYERS if name.startswith("affine")} <= set(names)
    for name in names:
        for case in cases(name):
            check_operation(on_numpy(kernels.load(*lower)), name, *case, precision=precision)


def test_every_set_says_how_it_multiplies_at_each_precision(lower):
    said = kernels.load(*lower).about()
    assert "matrix products" in said and said != kernels.load(lower[0]).about()


@pytest.mark.parametrize("precision", BITS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", sorted(name for name in LAYERS if name.startswith("affine")))
def test_a_product_is_that_of_the_rounded_operands(name, dtype, precision):
    given, rounded, whole = (random_arguments(name, dtype) for _ in range(3))
    rounded[:2] = [reference.rounded(operand, BITS[precision]) for operand in rounded[:2]]
    sets = kernels.load("numpy", precision), FULL, FULL
    results = [getattr(of, name)(*arguments) for of, arguments in zip(sets, (given, rounded, whole))]
    given, rounded, whole = (result[0] if isinstance(result, tuple) else result for result in results)
    np.testing.assert_array_equal(given, rounded)
    assert (given != whole).any()


@pytest.mark.parametrize("precision", BITS)
def test_biases_sums_of_rows_and_the_l2_term_are_not_rounded(precision):
    rounded = kernels.load("numpy", precision)
    x, dy, W, l2, dW, db = random_arguments("affine_gradients", "float64")
    rounded.affine_gradients(x, dy, W, l2, dW, db)
    np.testing.assert_array_equal(db, dy.sum(axis=0))
    without = rounded.affine_gradients(x, dy, W, 0.0, np.empty_like(dW), np.empty_like(db))[0]
    np.testing.assert_array_equal(dW, without + l2 * W)
    x, W, b, y = random_arguments("affine", "float64")
    np.testing.assert_array_equal(rounded.affine(0 * x, W, b, y), np.broadcast_to(b, y.shape))


@pytest.mark.parametrize("precision", BITS)
def test_what_is_added_to_is_not_rounded(precision):
    dy, W, dx = random_arguments("affine_backward_add", "float64")
    before = dx.copy()
    kernels.load("numpy", precision).affine_backward_add(0 * dy, W, dx)
    np.testing.assert_array_equal(dx, before)
