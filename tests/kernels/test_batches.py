"""Random numbers: the published vectors of Philox, the same bits from every set, and the right distributions."""

import hashlib

import numpy as np
import pytest
from scipy import stats

from vae_np import streams
from vae_np.kernels import reference

KEY = streams.key(7, "train")

VECTORS = [  # counter, key, result: kat_vectors of Random123, the authors' own distribution
    ("00000000 00000000 00000000 00000000", "00000000 00000000", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1"),
]


def hexadecimal(text):
    return [int(word, 16) for word in text.split()]


@pytest.mark.parametrize("counter, key, result", VECTORS)
def test_philox_gives_the_published_words(counter, key, result):
    low, high = hexadecimal(key)
    words = reference.philox([np.uint64(word) for word in hexadecimal(counter)], high << 32 | low)
    assert [int(word) for word in words] == hexadecimal(result)


def test_normals_are_the_same_bits_on_every_machine_and_for_ever(kernel_set):
    """A saved seed keeps its meaning. There are so many numbers that one more term of a series would change some."""
    eps = np.empty((2, 10_000, 4))
    kernel_set.normals(KEY, 9, np.arange(10_000), eps)
    assert hashlib.sha256(eps.astype("<f8").tobytes()).hexdigest()[:16] == "d143dbd90e56ce49"


@pytest.mark.parametrize("n_latent", [1, 4, 7])
def test_every_set_gives_the_same_bits(kernel_set, n_latent):
    examples = np.array([5, 0, 123456, 2**31])
    given, wanted = np.empty((3, 4, n_latent)), np.empty((3, 4, n_latent))
    kernel_set.normals(KEY, 9, examples, given)
    reference.normals(KEY, 9, examples, wanted)
    assert (given == wanted).all()


def test_single_precision_is_the_same_noise_rounded(kernel_set):
    single, double = np.empty((2, 3, 5), np.float32), np.empty((2, 3, 5))
    kernel_set.normals(KEY, 1, np.arange(3), single)
    kernel_set.normals(KEY, 1, np.arange(3), double)
    assert (single == double.astype(np.float32)).all()


def test_an_example_meets_the_same_noise_in_any_batch_and_any_number_of_samples(kernel_set):
    whole, part = np.empty((3, 10, 6)), np.empty((2, 2, 6))
    kernel_set.normals(KEY, 4, np.arange(10), whole)
    kernel_set.normals(KEY, 4, np.array([7, 2]), part)
    assert (part == whole[:2, [7, 2]]).all()


def test_steps_samples_examples_latents_and_uses_do_not_repeat():
    eps = [np.empty((3, 50, 9)) for _ in range(4)]
    for array, (seed, use, step) in zip(eps, [(7, "train", 0), (7, "train", 1), (8, "train", 0), (7, "validate", 0)]):
        reference.normals(streams.key(seed, use), step, np.arange(50), array)
    # Two pairs of words may give the same number; thousands of them may not.
    assert len(np.unique(np.concatenate([array.ravel() for array in eps]))) > 4 * 3 * 50 * 9 - 3


def test_normals_are_standard_normal_and_independent():
    eps = np.empty((2, 50_000, 4))
    reference.normals(KEY, 0, np.arange(50_000), eps)
    assert stats.kstest(eps.ravel(), "norm").pvalue > 1e-3
    columns = eps.transpose(0, 2, 1).reshape(8, -1)
    correlation, squared = np.corrcoef(columns), np.corrcoef(columns**2)
    assert np.abs(correlation - np.eye(8)).max() < 5 / np.sqrt(50_000)
    assert np.abs(squared - np.eye(8)).max() < 5 / np.sqrt(50_000)


def test_binarize_draws_ones_with_the_pixels_probability(kernel_set):
    pixels = np.tile(np.array([0.0, 0.1, 0.5, 0.9, 1.0]), (40_000, 1))
    x = np.empty_like(pixels)
    kernel_set.binarize(pixels, KEY, 3, np.arange(40_000), x)
    assert set(np.unique(x)) == {0.0, 1.0}
    np.testing.assert_allclose(x.mean(axis=0), [0, 0.1, 0.5, 0.9, 1], atol=5 * 0.5 / 200)
    assert x[:, 0].max() == 0 and x[:, 4].min() == 1


def test_a_pixel_is_one_where_its_word_lies_below_it_and_not_where_it_meets_it(kernel_set):
    """A pixel of 0 is therefore never drawn as 1, whatever the word is."""
    u = reference.words(KEY, 3, 1, np.arange(5), 6)[0, :, :6] * 2.0**-32
    for pixels, wanted in ((u, 0), (np.nextafter(u, 1), 1)):
        x = np.full((5, 6), np.nan)
        kernel_set.binarize(pixels, KEY, 3, np.arange(5), x)
        assert (x == wanted).all()


def test_as_many_pixels_and_latents_as_are_not_made_at_a_time(kernel_set):
    pixels = np.random.default_rng(0).uniform(size=(3, 700))
    given, wanted = np.full((3, 700), np.nan), np.full((3, 700), np.nan)
    kernel_set.binarize(pixels, KEY, 3, np.array([9, 1, 4]), given)
    reference.binarize(pixels, KEY, 3, np.array([9, 1, 4]), wanted)
    assert (given == wanted).all()
    given, wanted = np.full((2, 3, 301), np.nan), np.full((2, 3, 301), np.nan)
    kernel_set.normals(KEY, 3, np.array([9, 1, 4]), given)
    reference.normals(KEY, 3, np.array([9, 1, 4]), wanted)
    assert (given == wanted).all()


def test_gather_turns_bytes_into_pixels(kernel_set):
    data = np.arange(256, dtype=np.uint8).reshape(4, 64)
    x = np.empty((2, 64), np.float32)
    kernel_set.gather(data, np.array([3, 0]), x)
    assert (x == (data[[3, 0]] / np.float32(255)).astype(np.float32)).all()
    assert (x.max(), x[1, 0]) == (1, 0)


@pytest.mark.parametrize("real", [np.float32, np.float64])
def test_gather_leaves_real_numbers_as_they_are(kernel_set, real):
    data = np.random.default_rng(0).normal(size=(4, 5)).astype(real)
    assert (kernel_set.gather(data, np.array([3, 0]), np.empty((2, 5), real)) == data[[3, 0]]).all()


def test_the_key_of_a_seed_and_a_use_never_changes():
    """A saved seed must keep its meaning, and every bit of it counts."""
    zero = np.uint64(0)
    low, high, _, _ = reference.philox((np.uint64(4), zero, zero, zero), 2**40 + 7)  # "train" is the fourth use
    assert int(streams.key(2**40 + 7, "train")) == int(high) << 32 | int(low)
    assert len({int(streams.key(seed, use)) for seed in (7, 2**40 + 7, 2**63) for use in streams.USES}) == 3 * len(streams.USES)


def test_logarithm_cosine_and_sine_are_exact_to_the_last_digits():
    w = np.concatenate([np.arange(1000), 2**32 - 1 - np.arange(1000), np.random.default_rng(0).integers(0, 2**32, 100_000)])
    w = w.astype(np.uint64)
    log = np.log((2 * w.astype(np.longdouble) + 1) / np.longdouble(2**33))
    assert (np.abs(reference.log_uniform(w) - log) <= 2.5 * np.spacing(np.abs(log.astype(float)))).all()
    angle = 2 * np.longdouble("3.14159265358979323846264338327950288") * w.astype(np.longdouble) / np.longdouble(2**32)
    cosine, sine = reference.circle(w)
    assert max(np.abs(cosine - np.cos(angle)).max(), np.abs(sine - np.sin(angle)).max()) < 2e-16


def test_permutation_is_one_and_depends_on_seed_use_and_step():
    orders = [
        streams.permutation(*which, 1000)
        for which in ((0, "shuffle", 0), (0, "shuffle", 1), (1, "shuffle", 0), (0, "split", 0))
    ]
    assert all((np.sort(order) == np.arange(1000)).all() for order in orders)
    assert len({tuple(order) for order in orders}) == 4
    assert (orders[0] == streams.permutation(0, "shuffle", 0, 1000)).all()


@pytest.mark.parametrize("seed", [-1, 2**64, 1.5, "0", True, None])
def test_a_seed_that_is_none_is_refused(seed):
    with pytest.raises(ValueError, match="seed is .*; it must be a whole number from 0 to 2\\^64 - 1"):
        streams.check_seed(seed)
