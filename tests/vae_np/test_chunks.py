"""Rows go through the model in chunks: memory does not grow with their number, and no bit depends on where a chunk ends."""

import tracemalloc

import numpy as np
import pytest

from vae_np import VAE, Architecture, Parameters, decode, elbo, encode
from vae_np.testing import TOLERANCES, assert_close

N, D, H = 6000, 100, 500  # all activations of a layer would be five times the rows
X = np.random.default_rng(0).random((N, D))
Z = np.random.default_rng(1).normal(size=(N, 3))
P = Parameters.initialize(Architecture(D, (H,), 3))


def fitted(x, **settings):
    return VAE(hidden=(H,), n_latent=3, epochs=1, random_state=0, **settings).fit(x[:100])


def peak(function, *arguments):
    """How many bytes more a call has taken at any one time than what it returns."""
    tracemalloc.start()
    try:
        returned = function(*arguments)
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    return most - sum(array.nbytes for array in (returned if isinstance(returned, tuple) else (returned,)))


@pytest.mark.parametrize("dtype", ["float64", pytest.param("float32", marks=pytest.mark.slow)])
@pytest.mark.parametrize("what", ["encode", "decode", "transform", "inverse_transform", "score_samples"])
def test_memory_does_not_grow_with_the_rows(what, dtype, backend):
    p, x, z = P.astype(dtype), np.concatenate([X] * 3).astype(dtype), np.concatenate([Z] * 3).astype(dtype)
    vae = fitted(x, backend=backend)
    call, of = {
        "encode": (lambda x: encode(p, x, backend), x),
        "decode": (lambda z: decode(p, z, backend), z),
        "transform": (vae.transform, x),
        "inverse_transform": (vae.inverse_transform, z),
        "score_samples": (vae.score_samples, x),
    }[what]
    call(of[:10])  # what is kept for later calls is no part of it
    few, many = peak(call, of[:N]), peak(call, of)
    assert many - few < 0.2 * (x.nbytes - x[:N].nbytes)


@pytest.mark.parametrize("n", [1, 2, 1023, 1024, 1025, 2049])
def test_chunks_are_all_rows_once(n):
    slices = list(elbo.chunks(n))
    assert [row for rows in slices for row in range(n)[rows]] == list(range(n))
    assert all(rows.stop - rows.start <= elbo.CHUNK for rows in slices)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_no_result_depends_on_the_chunks(dtype, backend, monkeypatch):
    """NumPy's own products may round a row otherwise beside others; those of the other kernels do not."""
    p, x, z = P.astype(dtype), X[:700].astype(dtype), Z[:700].astype(dtype)
    vae = fitted(x, backend=backend)

    def results():
        return *encode(p, x, backend), decode(p, z, backend), vae.transform(x), vae.score_samples(x)

    whole = results()
    monkeypatch.setattr(elbo, "CHUNK", 99)
    for found, wanted in zip(results(), whole):
        if backend == "numba":
            np.testing.assert_array_equal(found, wanted)
        assert_close(found, wanted, resolution=1e-3 * TOLERANCES["model"][dtype])
