"""The whole loss: its gradient, element by element, over random models; what its terms are; what it refuses."""

import numba
import numpy as np
import pytest
from hypothesis import given, reject, settings
from hypothesis import strategies as st
from scipy import special
from sklearn.datasets import load_digits

from vae_np import (
    Architecture,
    Parameters,
    decode,
    elbo,
    encode,
    loss,
    loss_and_gradients,
    train,
)
from vae_np.buffers import buffers
from vae_np.testing import TOLERANCES, Problem, assert_close, check_gradients, random_problem
from vae_np.testing.comparison import assert_near, relative_norm, rounding
from vae_np.testing.problems import every_kind
from vae_np.testing.strategies import architectures, dtypes, problems

MEANS = ["elbo", "elbo_mc"]  # the objectives whose loss is a mean over the samples
MODELS = [("bernoulli", "fixed"), ("gaussian", "fixed"), ("gaussian", "shared"), ("gaussian", "heteroscedastic")]


def problem(arch, B=3, L=2, seed=0, dtype="float64"):
    return random_problem(arch, n_examples=B, n_samples=L, seed=seed, dtype=dtype)[:3]


# ---------------------------------------------------------------------------------------------------- the gradient


@settings(max_examples=20)
@given(problem=problems(max_examples=2))
def test_gradient_is_the_difference_quotient_element_by_element(backend, problem):
    """Differences of the very loss that is differentiated; complex steps of another are in test_properties.py."""
    p, *rest = problem
    g = loss_and_gradients(*problem, backend)[1]
    try:
        check_gradients(lambda p: loss(p, *rest, backend).total, p, g, method="richardson")
    except ValueError as error:
        assert "not smooth" in str(error)
        reject()  # a relu near its kink


@settings(max_examples=60)
@given(problem=problems(dtypes=dtypes(), max_examples=7))
def test_backends_agree(backend, problem):
    (given_, g), (wanted, g_wanted) = loss_and_gradients(*problem, backend), loss_and_gradients(*problem)
    assert_close(given_.per_example, wanted.per_example, "per_example")
    for name in g:
        assert_close(g[name], g_wanted[name], name, resolution=rounding([g_wanted.flat]))


def test_a_planted_error_is_found():
    p, x, eps = problem(Architecture(4, (3,), 2))
    g = loss_and_gradients(p, x, eps)[1]
    g["mu.W"].flat[np.abs(g["mu.W"]).argmax()] *= 1.0001
    with pytest.raises(AssertionError, match=r"^mu.W\[\d, \d\] is .* wanted .* \(1 of 6 elements are off\)$"):
        check_gradients(lambda p: loss(p, x, eps).total, p, g, method="richardson")


# ------------------------------------------------------------------------------------------------- a lower precision
# What an operation rounds is in tests/kernels/test_precisions.py; that a backend does as the reference, in test_properties.py.


@pytest.fixture(scope="module")
def of_digits():
    """Two problems in single precision: a model of digits as it is drawn, and after some hundred steps."""
    x = load_digits().data.astype("float32") / 16
    arch, eps = Architecture(64, (200,), 16), np.random.default_rng(0).normal(size=(1, 128, 16)).astype("float32")
    models = Parameters.initialize(arch, dtype="float32"), train(arch, x, epochs=8, backend="numpy").parameters
    return [Problem(p, x[:128], eps, 1.0, 0.0, "elbo") for p in models]


def exact_gradient(problem):
    doubled = {name: getattr(problem, name).astype("float64") for name in ("p", "x", "eps")}
    return loss_and_gradients(*problem._replace(**doubled))[1]


@pytest.mark.parametrize("precision, least", [("bfloat16", 1e-3), ("tfloat32", 1e-4)])
def test_rounding_moves_the_gradient_a_little(of_digits, precision, least):
    """The noise of a minibatch is some hundred times as large. A small parameter, such as a bias, may move further."""
    for problem in every_kind():
        assert_near(
            loss_and_gradients(*problem, precision=precision)[1].flat, exact_gradient(problem).flat, "gradient", precision
        )
    for problem in of_digits:
        g, exact = loss_and_gradients(*problem, precision=precision)[1], exact_gradient(problem)
        assert_near(g.flat, exact.flat, "the gradient", precision)
        assert least < relative_norm(g.flat, exact.flat)
        assert max(relative_norm(g[name], exact[name]) for name in g) < 5 * TOLERANCES[precision]["float32"]


def test_tfloat32_lies_between(of_digits):
    for problem in of_digits:
        exact = exact_gradient(problem).flat
        precisions = "float32", "tfloat32", "bfloat16"
        full, between, low = (relative_norm(loss_and_gradients(*problem, precision=each)[1].flat, exact) for each in precisions)
        assert 100 * full < between < low / 1.5


def test_backends_agree_at_a_lower_precision_in_single_precision(of_digits, lower):
    """Up to the rare operands that another last digit before them rounds in another way."""
    for problem in of_digits:
        (value, g), (wanted, g_wanted) = (loss_and_gradients(*problem, name, lower[1]) for name in (lower[0], "numpy"))
        assert_near(value.per_example, wanted.per_example, "per_example", "rounded")
        assert_near(g.flat, g_wanted.flat, "the gradient", "rounded")
        assert loss(*problem, *lower).total == value.total != loss(*problem, lower[0]).total


def test_operands_of_few_digits_give_the_gradient_of_full_precision(lower):
    """All that the products of this linear model read is a small number of halves; to the last bit, in any order of a sum."""
    p = Parameters.zeros(Architecture(3, (), 2, likelihood="gaussian"), "float32")
    p["output.W"][...] = [[1, -2, 3], [0.5, 1, 0]]
    x, eps = np.array([[1, 0, 2], [0, 3, 1]], "float32"), np.array([[1, 2], [-1, 3]], "float32")
    for moved, same in ((0, True), (1 / 3, False)):
        (value, g), (wanted, g_wanted) = (
            loss_and_gradients(p, x, eps + np.float32(moved), backend=lower[0], precision=each)
            for each in (lower[1], "float32")
        )
        assert (g.flat == g_wanted.flat).all() == (value.per_example == wanted.per_example).all() == same


@pytest.mark.slow
def test_numba_compiles_the_text_whole():
    """The text is bound by name so that a compiler can take all of it at once; with the same numbers."""
    arch = Architecture(5, (4, 3), 2, "tanh", "gaussian", "heteroscedastic")
    p, x, eps = problem(arch)
    bound = elbo.bind(arch, "elbo_mc", "numba")
    names = bound.forward.__globals__
    whole = dict(names)
    for function in elbo.TEXT:
        whole[function.__name__] = numba.njit(type(function)(function.__code__, whole, function.__name__))
    a, d = (buffers(arch, "elbo_mc", 2, 3, "float64") for _ in range(2))
    a.x[...], a.eps[...] = x, eps
    g = Parameters.zeros(arch)
    whole["forward"](p.layers, a, 0.7)
    whole["backward"](p.layers, a, d, 0.7, 3)
    whole["weight_gradients"](p.layers, a, d, g.layers, 0.1)
    wanted = loss_and_gradients(p, x, eps, 0.7, 0.1, "elbo_mc", "numba")[1]
    for name in g:
        assert_close(g[name], wanted[name], name)


# ------------------------------------------------------------------------------------------------------ its terms


@settings(max_examples=40)
@given(arch=architectures(), objective=st.sampled_from(MEANS), seed=st.integers(0, 99))
def test_terms_add_up(backend, arch, objective, seed):
    p, x, eps = problem(arch, seed=seed)
    value = loss(p, x, eps, 0.7, 0.1, objective, backend)
    weights = sum(np.sum(W**2) for name, W in p.items() if name.endswith(".W"))
    assert all(type(term) is float for term in (value.total, value.reconstruction, value.kl, value.l2))
    assert value.l2 == pytest.approx(0.05 * weights)
    assert value.total == pytest.approx(value.reconstruction + 0.7 * value.kl + value.l2)
    assert value.total == pytest.approx(value.per_example.mean() + value.l2)
    assert loss_and_gradients(p, x, eps, 0.7, 0.1, objective, backend)[0].total == value.total


@pytest.mark.parametrize("likelihood, noise", MODELS)
def test_reconstruction_kl_and_l2_have_gradients_of_their_own_that_add_up(backend, likelihood, noise):
    """Weight decay is no reconstruction: each term's gradient alone, against its own differences, and their sum."""
    p, x, eps = problem(Architecture(4, (3,), 2, "tanh", likelihood, noise))
    beta, l2 = 0.7, 0.3
    whole = loss_and_gradients(p, x, eps, beta, l2, backend=backend)[1].flat
    of_reconstruction = loss_and_gradients(p, x, eps, 0.0, 0.0, backend=backend)[1]
    with_kl = loss_and_gradients(p, x, eps, 1.0, 0.0, backend=backend)[1]
    of_kl, of_l2 = Parameters(p.architecture, with_kl.flat - of_reconstruction.flat), Parameters.zeros(p.architecture)
    for name, W in p.items():
        of_l2[name][...] = l2 * W if name.endswith(".W") else 0
    np.testing.assert_allclose(whole, of_reconstruction.flat + beta * of_kl.flat + of_l2.flat, rtol=1e-12, atol=1e-14)
    for term, g in {"reconstruction": of_reconstruction, "kl": of_kl, "l2": of_l2}.items():
        check_gradients(lambda p: getattr(loss(p, x, eps, 0.0, l2, backend=backend), term), p, g, method="richardson")
    assert not any(of_kl[name].any() for name in p if name.startswith(("decoder", "output", "noise")))


@settings(max_examples=40)
@given(arch=architectures(), beta=st.sampled_from([0.0, 0.7, 1.0]), seed=st.integers(0, 99))
def test_one_importance_weighted_sample_is_the_sampled_elbo(backend, arch, beta, seed):
    p, x, eps = problem(arch, L=1, seed=seed)
    value, g = loss_and_gradients(p, x, eps, beta, 0.1, "iwae", backend)
    wanted, g_wanted = loss_and_gradients(p, x, eps, beta, 0.1, "elbo_mc", backend)
    assert_close(value.per_example, wanted.per_example, "per_example")
    for name in g:
        assert_close(g[name], g_wanted[name], name)


@settings(max_examples=40)
@given(arch=architectures(), seed=st.integers(0, 99))
def test_importance_weighted_loss_and_gradient_are_those_of_the_weights(backend, arch, seed):
    """-log mean w, and the gradient of every sample weighted by its share of the sum of w, each sample taken alone."""
    p, x, eps = problem(arch, B=2, L=3, seed=seed)
    value, g = loss_and_gradients(p, x, eps, objective="iwae", backend=backend)
    log_w = -np.stack([loss(p, x, one, objective="elbo_mc", backend=backend).per_example for one in eps])
    np.testing.assert_allclose(value.per_example, -special.logsumexp(log_w, axis=0) + np.log(3), rtol=1e-10)
    assert (value.per_example <= -log_w.mean(axis=0) + 1e-9).all()
    shares = special.softmax(log_w, axis=0)
    flat = np.zeros_like(g.flat)
    for (l, b), share in np.ndenumerate(shares):
        one = loss_and_gradients(p, x[b : b + 1], eps[l : l + 1, b : b + 1], objective="elbo_mc", backend=backend)[1]
        flat += share / 2 * one.flat
    np.testing.assert_allclose(g.flat, flat, rtol=1e-9, atol=1e-11)


def test_plain_autoencoder_is_the_loss_without_noise_and_kl(backend):
    arch = Architecture(5, (4,), 3, "tanh", "gaussian")
    p, x, eps = problem(arch)
    value, g = loss_and_gradients(p, x, 0 * eps, beta=0.0, backend=backend)
    reconstruction = decode(p, encode(p, x, backend)[0], backend)
    half_squares = np.sum((x - reconstruction) ** 2, axis=1) / 2
    np.testing.assert_allclose(value.per_example, half_squares + 5 / 2 * np.log(2 * np.pi), rtol=1e-12)
    assert not g["logvar.W"].any() and not g["logvar.b"].any()


def test_bytes_are_pixels(backend):
    p, _, eps = problem(Architecture(5, (4,), 3))
    pixels = np.random.default_rng(0).integers(0, 256, (3, 5), dtype=np.uint8)
    assert loss(p, pixels, eps, backend=backend).total == pytest.approx(
        loss(p, pixels / 255, eps, backend=backend).total, rel=1e-14
    )


def test_lists_are_arrays():
    p, x, eps = problem(Architecture(5, (4,), 3))
    assert loss(p, x.tolist(), eps.tolist()).total == loss(p, x, eps).total
    assert (decode(p, eps[0].tolist()) == decode(p, eps[0])).all()


def test_one_sample_needs_no_axis(backend):
    p, x, eps = problem(Architecture(5, (4,), 3), L=1)
    assert loss(p, x, eps[0], backend=backend).total == loss(p, x, eps, backend=backend).total


def test_encode_and_decode(backend):
    p, x, _ = problem(Architecture(5, (4,), 3), B=4)
    mu, logvar = encode(p, x, backend)
    assert mu.shape == logvar.shape == (4, 3)
    mean = decode(p, mu, backend)
    assert mean.shape == (4, 5) and (mean > 0).all() and (mean < 1).all()
    assert (encode(p, x[2:3], backend)[0] == pytest.approx(mu[2:3], rel=1e-12)) and not np.shares_memory(mu, x)


# -------------------------------------------------------------------------------------------------- what it refuses


@pytest.mark.parametrize(
    "change, error, sentence",
    [
        ({"x": np.zeros((3, 4))}, ValueError, r"x has shape \(3, 4\); wanted \(rows, 5\)"),
        ({"x": np.zeros((0, 5))}, ValueError, r"x has shape \(0, 5\); wanted \(rows, 5\) with at least one row"),
        ({"x": np.full((3, 5), np.nan)}, ValueError, "x holds NaN or infinite values"),
        (
            {"x": np.full((3, 5), 2.0)},
            ValueError,
            r"x goes from 2 to 2; the Bernoulli likelihood wants pixels in \[0, 1\]",
        ),
        ({"x": np.full((3, 5), -0.1)}, ValueError, r"x goes from -0.1 to -0.1"),
        ({"x": np.eye(3, 5, dtype=np.uint8)}, ValueError, "x is bytes of 0 and 1, but bytes stand for 0 to 255"),
        ({"x": np.full((3, 5), "a")}, TypeError, "x has dtype <U1; it must hold real numbers"),
        ({"x": np.zeros((3, 5), complex)}, TypeError, "x has dtype complex128"),
        ({"eps": np.zeros((2, 3, 4))}, ValueError, r"eps has shape \(2, 3, 4\); wanted \(3, 3\) or \(L, 3, 3\)"),
        ({"eps": np.zeros((4, 3))}, ValueError, r"eps has shape \(4, 3\)"),
        ({"eps": np.zeros((0, 3, 3))}, ValueError, r"eps has shape \(0, 3, 3\)"),
        ({"eps": np.full((3, 3), np.inf)}, ValueError, "eps holds NaN or infinite values"),
        ({"eps": np.where(np.eye(3), np.nan, 0)}, ValueError, "eps holds NaN or infinite values"),
        ({"eps": np.array([[None] * 3] * 3)}, TypeError, "eps has dtype object"),
        ({"beta": -1}, ValueError, "beta is -1; it must be a finite number, at least 0"),
        ({"beta": "high"}, ValueError, "beta is 'high'"),
        ({"l2": np.nan}, ValueError, "l2 is nan"),
        ({"objective": "vae"}, ValueError, "objective is 'vae'; known are 'elbo', 'elbo_mc', 'iwae'"),
        ({"backend": "torch"}, ValueError, "backend is 'torch'; known are 'auto', 'numpy', 'numba', 'cupy'"),
        ({"p": {}}, TypeError, "p is a dict; it must be Parameters"),
    ],
)
def test_wrong_arguments_get_one_clear_sentence(change, error, sentence):
    p, x, eps = problem(Architecture(5, (4,), 3))
    for function in (loss, loss_and_gradients):
        with pytest.raises(error, match=sentence) as caught:
            function(**{"p": p, "x": x, "eps": eps, **change})
        assert "\n" not in str(caught.value)


def test_encode_and_decode_refuse_what_is_no_model():
    for function in (encode, decode):
        with pytest.raises(TypeError, match="p is a dict; it must be Parameters"):
            function({}, np.zeros((1, 5)))


@pytest.mark.parametrize("x", [np.zeros((3, 4)), np.full((3, 5), 2.0), np.full((3, 5), np.nan)])
def test_encode_refuses_what_is_no_input(x):
    p, *_ = problem(Architecture(5, (4,), 3))
    with pytest.raises(ValueError, match="^x (has shape|goes from|holds NaN)"):
        encode(p, x)


def test_decode_refuses_what_is_no_latent():
    p, *_ = problem(Architecture(5, (4,), 3))
    with pytest.raises(ValueError, match=r"z has shape \(2, 4\); wanted \(B, 3\)"):
        decode(p, np.zeros((2, 4)))
