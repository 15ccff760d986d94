"""The importance sampler's bookkeeping; what it estimates is tested in tests/meaning/test_known_answers.py."""

import numpy as np
import pytest
from scipy import special

from vae_np import Architecture, Parameters, log_likelihood, loss
from vae_np.bounds import BLOCK, active_units, elbo_gap
from vae_np.kernels import reference
from vae_np.streams import key

ARCH = Architecture(6, (5,), 3, "tanh")
X = np.random.default_rng(0).uniform(size=(9, 6))


def log_weights(p, x, n_samples, kernel_set):
    """log w of every sample, from the public loss and the same noise, block by block."""
    blocks = []
    for block in range(-(-n_samples // BLOCK)):
        eps = np.empty((BLOCK, len(x), 3))
        kernel_set.normals(key(0, "importance"), block, np.arange(len(x)), eps)
        blocks += [-loss(p, x, one, objective="elbo_mc").per_example for one in eps]
    return np.array(blocks[:n_samples])


@pytest.mark.parametrize("n_samples", [1, 3, 50, 60, 173])
def test_estimate_error_and_bounds_are_those_of_the_weights(backend, its_kernels, n_samples):
    p = Parameters.initialize(ARCH, seed=2)
    p.flat += 0.5 * np.random.default_rng(2).normal(size=p.flat.shape)
    ll, log_w = log_likelihood(p, X, n_samples, backend=backend), log_weights(p, X, n_samples, its_kernels)
    np.testing.assert_allclose(ll, special.logsumexp(log_w, axis=0) - np.log(n_samples), rtol=1e-10)
    share = special.softmax(log_w, axis=0)
    np.testing.assert_allclose(ll.effective_sample_size, 1 / (share**2).sum(axis=0), rtol=1e-8)
    relative = np.exp(log_w - log_w.max(axis=0))
    error = relative.std(axis=0) / relative.mean(axis=0) / np.sqrt(n_samples)
    np.testing.assert_allclose(ll.standard_error, error, rtol=1e-6, atol=1e-7)
    assert set(ll.bounds) == {L for L in (1, 5, 50) if L <= n_samples}
    np.testing.assert_allclose(ll.bounds[1], log_w.mean(axis=0), rtol=1e-10)
    assert (ll.bounds[1] <= np.asarray(ll) + 1e-9).all()


def test_groups_of_samples_make_the_bounds(kernel_set):
    p = Parameters.initialize(ARCH)
    ll, log_w = log_likelihood(p, X, 100, backend="numpy"), log_weights(p, X, 100, kernel_set)
    for L in (1, 5, 50):
        groups = special.logsumexp(log_w.reshape(-1, L, len(X)), axis=1) - np.log(L)
        np.testing.assert_allclose(ll.bounds[L], groups.mean(axis=0), rtol=1e-10)


def test_weights_thousands_of_nats_apart_neither_overflow_nor_vanish(kernel_set):
    p = Parameters.initialize(Architecture(6, (), 3, likelihood="gaussian", noise_std=0.01))
    ll, log_w = log_likelihood(p, X, 100, backend="numpy"), log_weights(p, X, 100, kernel_set)
    assert np.ptp(log_w, axis=0).min() > 5000
    np.testing.assert_allclose(ll, special.logsumexp(log_w, axis=0) - np.log(100), rtol=1e-10)
    for L in (1, 5, 50):
        groups = special.logsumexp(log_w.reshape(-1, L, len(X)), axis=1) - np.log(L)
        np.testing.assert_allclose(ll.bounds[L], groups.mean(axis=0), rtol=1e-10)


def test_rows_are_estimated_alone_whatever_the_chunks(monkeypatch):
    p = Parameters.initialize(ARCH)
    whole, done = log_likelihood(p, X, 70), []
    monkeypatch.setattr("vae_np.bounds.CHUNK", BLOCK)
    parts = log_likelihood(p, X, 70, progress=lambda n, part: done.append((n, len(part))))
    assert done == [(4, 4), (8, 4), (9, 1)]
    np.testing.assert_allclose(parts, whole, rtol=1e-12)
    np.testing.assert_allclose(parts.bounds[5], whole.bounds[5], rtol=1e-12)
    np.testing.assert_allclose(elbo_gap(p, X, 70), whole - whole.bounds[1], rtol=1e-10)
    assert (active_units(p, X) == active_units(p, X[::-1])).all()


def test_where_the_posterior_is_the_prior_every_sample_counts_alike():
    """All parameters 0: x tells nothing of z, so that no weight differs; and the default is 5000 samples."""
    ll = log_likelihood(Parameters.zeros(ARCH), X[:2])
    np.testing.assert_allclose(ll, -6 * np.log(2), rtol=1e-12)
    np.testing.assert_allclose(ll.effective_sample_size, 5000, rtol=1e-12)
    np.testing.assert_allclose(ll.standard_error, 0, atol=1e-8)


def test_the_gap_is_that_of_the_same_estimate():
    p = Parameters.initialize(ARCH)
    ll = log_likelihood(p, X[:2])
    gap = elbo_gap(p, X[:2])
    assert type(gap) is np.ndarray and (gap == np.asarray(ll) - ll.bounds[1]).all()


def test_binarized_rows_are_those_of_validation(its_kernels, backend):
    p, drawn = Parameters.initialize(ARCH), np.empty_like(X)
    its_kernels.binarize(X, key(3, "binarize_validation"), 0, np.arange(len(X)), drawn)
    for function in (log_likelihood, elbo_gap):
        given = function(p, X, 60, seed=3, binarize=True, backend=backend)
        assert (given == function(p, drawn, 60, seed=3, backend=backend)).all()


def test_weights_of_a_single_precision_model_are_summed_in_double():
    p, eps = Parameters.initialize(ARCH, dtype="float32"), np.empty((1, 1, 3), np.float32)
    reference.normals(key(0, "importance"), 0, np.arange(1), eps)
    value = loss(p, X[:1], eps, objective="elbo_mc")
    ll = log_likelihood(p, X[:1], 1, backend="numpy")
    assert ll.dtype == np.float64 and ll[0] == pytest.approx(-(value.reconstruction + value.kl), rel=1e-15)


def test_active_units_vary_by_more_than_a_hundredth_whatever_the_chunks(monkeypatch):
    x = np.repeat([[0.0], [1.0]], 5, axis=0)  # a variance of 1/4, to which no part comes alone
    p = Parameters.zeros(Architecture(1, (), 3))
    p["mu.W"][0] = 2 * np.sqrt([0.0099, 0.0101, 1.0])
    for chunk in (2, 3, 100):
        monkeypatch.setattr("vae_np.bounds.CHUNK", chunk)
        assert active_units(p, x).tolist() == [False, True, True]
        assert active_units(p, x, 0.02).tolist() == [False, False, True]
    assert active_units(p, np.full((4, 1), 0.5), 0).tolist() == [False, False, False]  # above, not at
    with pytest.raises(ValueError, match="threshold is -1"):
        active_units(p, x, -1)


def test_results_are_plain_numbers():
    ll = log_likelihood(Parameters.initialize(ARCH), X, 5)
    assert ll.shape == (9,) and round(float(ll.mean()), 6) == round(float(np.asarray(ll).mean()), 6)
    assert type(-ll) is np.ndarray and type(ll - ll.bounds[1]) is np.ndarray and type(ll.mean()) is np.float64
    assert ll[:2].bounds is ll[:2].standard_error is None  # of the rows of a part nothing more is known


def test_memory_does_not_grow_with_rows_or_samples():
    import tracemalloc

    p, peaks = Parameters.initialize(ARCH, dtype="float32"), []
    for n, n_samples in ((100, 100), (1000, 400)):
        x = np.random.default_rng(0).uniform(size=(n, 6)).astype(np.float32)
        log_likelihood(p, x, n_samples, backend="numpy")
        tracemalloc.start()
        log_likelihood(p, x, n_samples, backend="numpy")
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.5 * peaks[0]


@pytest.mark.parametrize(
    "change, sentence",
    [
        ({"n_samples": 0}, "n_samples is 0; it must be a whole number, 1 or more"),
        ({"x": X * 3}, "x goes from"),
        ({"seed": -1}, "seed is -1"),
        ({"backend": "torch"}, "backend is 'torch'"),
    ],
)
def test_wrong_arguments_get_one_clear_sentence(change, sentence):
    with pytest.raises(ValueError, match=sentence):
        log_likelihood(**{"p": Parameters.initialize(ARCH), "x": X, "n_samples": 5, **change})
