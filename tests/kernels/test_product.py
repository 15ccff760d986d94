"""The matrix products of the Numba set: for any size and order of memory, at every edge of a tile, with the same bits."""

import itertools
import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vae_np.kernels.cpu import emit, jit, layers, product
from vae_np.testing import assert_close

REALS = ["float32", "float64"]
EDGES = [1, 2, 3, 4, 5, 11, 12, 13, 15, 16, 17, 31, 32, 33, 47, 64, 65, 130]


@pytest.fixture(autouse=True)
def nothing_is_left_to_numpy(caplog):
    yield
    assert "could not be compiled" not in caplog.text


def normal(*shape, real="float64"):
    return np.random.default_rng(shape).normal(size=shape).astype(real)


def guarded(rows, columns, real):
    """An array of NaN inside an array of 7: this shows what is not written, and what is written outside."""
    whole = np.full((rows + 2, columns + 40), 7, real)
    inner = whole[1 : rows + 1, :columns]
    inner[...] = np.nan
    return whole, inner


def check(a, b):
    """The three products of a layer of weights b with a batch a."""
    real, M, N = a.dtype, len(a), b.shape[1]
    zero, dy, c = np.zeros(N, real), normal(M, N, real=real), np.full((M, N), np.nan, real)
    resolution = 64 * np.finfo(real).eps * np.sqrt(max(a.shape + b.shape)) * 4

    def agree(given, wanted, name):
        assert_close(given, wanted.astype(real), name, "operation", resolution=resolution)

    agree(layers.affine(a, b, zero, c), a.astype(float) @ b, "a @ b")
    dx, dW, db = np.full_like(a, np.nan), np.full_like(b, np.nan), np.full(N, np.nan, real)
    agree(layers.affine_backward(dy, b, dx), dy.astype(float) @ b.T, "dy @ b.T")
    agree(layers.affine_gradients(a, dy, b, real.type(0), dW, db)[0], a.T.astype(float) @ dy, "a.T @ dy")


@pytest.mark.parametrize("real", REALS)
def test_every_edge_of_a_tile(real):
    for M, N in itertools.product(EDGES, EDGES):
        check(normal(M, 5, real=real), normal(5, N, real=real))


@pytest.mark.parametrize("real", REALS)
@pytest.mark.parametrize("K", [1, 2, 256, 1023, 1024, 1025, 2048, 2500])
def test_sums_of_any_length(real, K):
    for M in (1, 70, 600):
        check(normal(M, K, real=real), normal(K, 33, real=real))


@pytest.mark.parametrize("real", REALS)
@pytest.mark.parametrize("M, K, N", [(130, 1024, 1024), (66, 512, 512), (9, 2048, 513)])
def test_rows_that_meet_in_the_cache(real, M, K, N):
    check(normal(M, K, real=real), normal(K, N, real=real))


@settings(max_examples=60)
@given(shape=st.tuples(*[st.integers(1, 80)] * 3), real=st.sampled_from(REALS), orders=st.tuples(*[st.booleans()] * 2))
def test_products_of_views_write_what_they_should_and_nothing_else(shape, real, orders):
    M, K, N = shape
    a, b = normal(M, K, real=real), normal(K, N, real=real)
    a = np.asfortranarray(a) if orders[0] else normal(M, K + 3, real=real)[:, 1 : K + 1]
    (whole, c), (whole_t, c_t) = guarded(M, N, real), guarded(M, N, real)
    multiply(a, b, c)
    assert_close(c, (a.astype(float) @ b).astype(real), "c", "operation", resolution=1e-5 if real == "float32" else 1e-13)
    if not orders[0]:
        multiply_transposed(a, np.ascontiguousarray(b.T), c_t)
        assert (c_t == c).all()
    for array in (whole, whole_t):
        assert np.isnan(array).sum() in (0, M * N)
        array[1 : M + 1, :N] = 7
        assert (array == 7).all()


@jit.kernel
def multiply(a, b, c):
    product.product(a, b, c, (c, c[:0], c[:0]))


@jit.kernel
def multiply_transposed(a, b, c):
    product.product_transposed(a, b, c)


@pytest.mark.parametrize("real", REALS)
def test_a_row_has_the_same_bits_whatever_rows_stand_around_it(real):
    """So neither the number of threads nor the slices of a batch change a result."""
    a, b = normal(67, 301, real=real), normal(301, 70, real=real)
    whole, whole_t = np.empty((67, 70), real), np.empty((67, 70), real)
    multiply(a, b, whole)
    multiply_transposed(a, np.ascontiguousarray(b.T), whole_t)
    assert (whole == whole_t).all()
    for start, stop in [(0, 1), (3, 20), (11, 67), (66, 67)]:
        part = np.empty((stop - start, 70), real)
        multiply(a[start:stop], b, part)
        assert (part == whole[start:stop]).all()
        multiply_transposed(a[start:stop], np.ascontiguousarray(b.T), part)
        assert (part == whole[start:stop]).all()


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_not_finite_stays_in_its_row(bad):
    a, b, c = normal(30, 9), normal(9, 40), np.empty((30, 40))
    a[13, 4] = bad
    multiply(a, b, c)
    assert not np.isfinite(c[13]).any() and np.isfinite(np.delete(c, 13, axis=0)).all()


def run(code, folder, **environment):
    """Run Python in a process of its own, which compiles everything anew."""
    environment = {**os.environ, **environment, "NUMBA_CACHE_DIR": str(folder)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


IN_BFLOAT16 = """
ours, reference = (kernels.load(name, "bfloat16") for name in ("numba", "numpy"))
for name, arguments, result in (("affine", (x, W, b), h), ("affine_backward", (dy, W), dx), ("affine_gradients", (x, dy, W, 0), dW)):
    results = [(np.empty_like(result), np.empty_like(b))[: 1 + (result is dW)] for _ in range(2)]
    for kernel_set, filled in zip((ours, reference), results):
        vars(kernel_set)[name](*arguments, *filled)
    np.testing.assert_allclose(*[filled[0] for filled in results], rtol=2e-5, atol=2e-5)
assert "bfloat16" in ours.about() or emit.VECTOR == 0
"""


@pytest.mark.skipif(emit.VECTOR == 16, reason="the names are those of x86")
@pytest.mark.parametrize(
    "name, vector, more",
    [
        ("haswell", 32, ""),
        pytest.param("haswell", 32, IN_BFLOAT16, id="haswell-bfloat16", marks=pytest.mark.slow),
        pytest.param("generic", 0, IN_BFLOAT16, id="generic-bfloat16", marks=pytest.mark.slow),
    ],
)
def test_other_processors(name, vector, more, tmp_path):
    """The products are right for AVX2, and for a processor of which nothing is known, where the BLAS multiplies."""
    code = f"""
import numpy as np
from vae_np import kernels
from vae_np.kernels.cpu import emit, layers
assert emit.VECTOR == {vector}, emit.VECTOR
x, W, b = (np.random.default_rng(0).normal(size=s).astype("float32") for s in ((70, 37), (37, 50), (50,)))
dy, h = x[:, :1] + b, np.empty((70, 50), "float32")
dx, dW, db = (np.empty_like(array) for array in (x, W, b))
layers.affine_tanh(x, W, b, h[:0], h), layers.affine_backward(dy, W, dx)
layers.affine_gradients(x, dy, W, np.float32(0), dW, db)
for given, wanted in ((h, np.tanh(x @ W + b)), (dx, dy @ W.T), (dW, x.T @ dy), (db, dy.sum(axis=0))):
    np.testing.assert_allclose(given, wanted, rtol=2e-5, atol=2e-5)
"""
    run(code + more, tmp_path, NUMBA_CPU_NAME=name, NUMBA_CPU_FEATURES="")


@pytest.mark.slow
@pytest.mark.skipif(emit.VECTOR == 16, reason="all tests of this file run with these tiles")
def test_the_tiles_of_neon(tmp_path):
    """Their code is right on any processor, though fast only on arm64: so the tests of this file are run with it."""
    code = f"""
import sys
import llvmlite.binding, pytest
from numba.core.registry import cpu_target
compiles_for_this_machine, triple = cpu_target.target_context, llvmlite.binding.get_process_triple
llvmlite.binding.get_process_triple = lambda: "aarch64"
from vae_np.kernels.cpu import emit
llvmlite.binding.get_process_triple = triple
assert emit.VECTOR == 16, emit.VECTOR
sys.exit(pytest.main([{__file__!r}, {__file__.replace("product", "pairs")!r}, "-n", "0", "-p", "no:cacheprovider", "-k", "float32 or hold"]))
"""
    run(code, tmp_path)
