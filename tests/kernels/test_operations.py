"""Every operation: its derivative is compared with differences, the sets with each other, and it is tried at the edges."""

import math

import numpy as np
import pytest

from vae_np.choices import ACTIVATIONS
from vae_np.kernels import reference
from vae_np.testing import TOLERANCES, assert_close, numerical_gradient, relative_errors
from vae_np.testing.operations import BATCHES, OPERATIONS, cases, check_operation, random_arguments

L, B, D, H, Z = 3, 4, 5, 6, 2
NOISES = {"shared": (L, B, 1), "per input": (L, B, D)}


def normal(*shape, seed=0):
    return np.random.default_rng([seed, *shape]).normal(size=shape)


def filled(kernel_set, name, *arguments, results):
    """The results of an operation that fills its last arguments. They hold NaN before, which shows what it does not write."""
    arrays = [np.full(shape, np.nan, arguments[0].dtype) for shape in results]
    getattr(kernel_set, name)(*arguments, *arrays)
    return arrays


def check(forward, inputs, derivatives, upstream):
    """Compare derivatives[i] with differences of sum(upstream * forward()) by inputs[i], an array that forward reads."""
    for array, derivative in zip(inputs, derivatives, strict=True):
        numerical, _ = numerical_gradient(lambda: float(np.sum(upstream * forward())), array)
        assert relative_errors(derivative, numerical).max() < TOLERANCES["richardson"]["float64"]


@pytest.mark.parametrize("rows", [(B,), (L, B)], ids=["(B, .)", "(L, B, .)"])
def test_affine(kernel_set, rows):
    x, W, b, dy = normal(*rows, D), normal(D, H), normal(H), normal(*rows, H, seed=1)
    (dx,) = filled(kernel_set, "affine_backward", dy, W, results=[x.shape])
    dW, db = filled(kernel_set, "affine_gradients", x, dy, W, 0.0, results=[W.shape, b.shape])
    check(lambda: filled(kernel_set, "affine", x, W, b, results=[dy.shape])[0], [x, W, b], [dx, dW, db], dy)


@pytest.mark.parametrize("rows", [(B,), (L, B)], ids=["(B, .)", "(L, B, .)"])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_hidden_layer(kernel_set, rows, activation):
    x, W, b, dh = normal(*rows, D), normal(D, H), normal(H), normal(*rows, H, seed=1)
    y = np.full((*rows, H) if ACTIVATIONS[activation].keeps_y else [0] * len(rows) + [H], np.nan)

    def forward():
        return filled(kernel_set, f"affine_{activation}", x, W, b, y, results=[dh.shape])[0]

    h = forward()
    assert not y.size or relative_errors(y, x @ W + b).max() < TOLERANCES["operation"]["float64"]
    dy = getattr(kernel_set, f"{activation}_backward")(dh.copy(), y.copy(), h)
    (dx,) = filled(kernel_set, "affine_backward", dy, W, results=[x.shape])
    dW, db = filled(kernel_set, "affine_gradients", x, dy, W, 0.0, results=[W.shape, b.shape])
    check(forward, [x, W, b], [dx, dW, db], dh)


@pytest.mark.parametrize("rows", [(B,), (L, B)], ids=["(B, .)", "(L, B, .)"])
def test_second_layer_adds_to_the_first(kernel_set, rows):
    dy, W, dx = normal(*rows, H), normal(D, H), normal(*rows, D)
    assert_close(kernel_set.affine_backward_add(dy, W, dx.copy()), dx + dy @ W.T, "dx")


@pytest.mark.parametrize("l2", [0.0, 0.3, 1.0])
def test_weight_decay_is_the_derivative_of_half_the_squared_weights(kernel_set, l2):
    x, dy, W = normal(B, D), np.zeros((B, H)), normal(D, H)
    dW, db = filled(kernel_set, "affine_gradients", x, dy, W, l2, results=[W.shape, (H,)])
    check(lambda: l2 / 2 * np.sum(W**2), [W], [dW], 1.0)
    assert not db.any()


def test_constant_layer(kernel_set):
    b, dy, h = normal(1), normal(L, B, 1), normal(L, B, H)
    no_weights = np.zeros((0, 1))
    _, db = kernel_set.constant_gradients(h, dy, no_weights, 0.5, no_weights, np.full(1, np.nan))
    check(lambda: filled(kernel_set, "constant", h, no_weights, b, results=[dy.shape])[0], [b], [db], dy)
    assert (kernel_set.constant_backward_add(dy, no_weights, h.copy()) == h).all()


def test_reparameterize(kernel_set):
    mu, logvar, eps, dz = normal(B, Z), normal(B, Z, seed=1), normal(L, B, Z), normal(L, B, Z, seed=1)
    start = normal(B, Z, seed=2), normal(B, Z, seed=3)
    dmu, dlogvar = kernel_set.reparameterize_backward_add(dz, mu, logvar, eps, *(array.copy() for array in start))
    derivatives = [dmu - start[0], dlogvar - start[1]]
    check(
        lambda: filled(kernel_set, "reparameterize", mu, logvar, eps, results=[dz.shape])[0],
        [mu, logvar],
        derivatives,
        dz,
    )


@pytest.mark.parametrize("name, K", [("gaussian_kl", 1), ("sampled_kl", L)])
def test_kl(kernel_set, name, K):
    mu, logvar, eps, z = normal(B, Z), normal(B, Z, seed=1), normal(L, B, Z), normal(L, B, Z, seed=1)
    dkl, start = normal(K, B), normal(L, B, Z, seed=2)
    dz = start.copy()
    dmu, dlogvar = (np.full((B, Z), np.nan) for _ in range(2))
    getattr(kernel_set, f"{name}_backward")(dkl, mu, logvar, eps, z, dz, dmu, dlogvar)
    derivatives = [dmu, dlogvar, dz - start]
    check(lambda: filled(kernel_set, name, mu, logvar, eps, z, results=[(K, B)])[0], [mu, logvar, z], derivatives, dkl)


def test_bernoulli_nll(kernel_set):
    logits, output_logvar, dnll = 3 * normal(L, B, D), np.zeros((L, B, 1)), normal(L, B)
    x = np.random.default_rng(0).uniform(size=(B, D))
    dlogits, _ = filled(
        kernel_set, "bernoulli_nll_backward", dnll, logits, output_logvar, x, results=[logits.shape, output_logvar.shape]
    )
    check(lambda: filled(kernel_set, "bernoulli_nll", logits, output_logvar, x, results=[(L, B)])[0], [logits], [dlogits], dnll)


@pytest.mark.parametrize("shape", NOISES.values(), ids=NOISES)
def test_gaussian_nll(kernel_set, shape):
    mean, output_logvar, x, dnll = normal(L, B, D), normal(*shape, seed=1), normal(B, D), normal(L, B)
    derivatives = filled(
        kernel_set, "gaussian_nll_backward", dnll, mean, output_logvar, x, results=[mean.shape, output_logvar.shape]
    )
    check(
        lambda: filled(kernel_set, "gaussian_nll", mean, output_logvar, x, results=[(L, B)])[0],
        [mean, output_logvar],
        derivatives,
        dnll,
    )


@pytest.mark.parametrize("name, K", [("elbo", 1), ("elbo", L), ("iwae", L)])
def test_bound(kernel_set, name, K):
    nll, kl, beta = normal(L, B), normal(K, B), 0.7
    derivatives = filled(kernel_set, f"{name}_backward", nll, kl, beta, B, results=[(L, B), (K, B)])
    # The mean over the batch is taken here, once: the derivatives are those of the mean of the loss.
    check(lambda: filled(kernel_set, name, nll, kl, beta, results=[(B,)])[0], [nll, kl], derivatives, 1 / B)


# ------------------------------------------------------------------------------------------------ the sets agree


@pytest.mark.parametrize("name", OPERATIONS)
def test_sets_agree(kernel_set, name):
    for case in cases(name):
        check_operation(kernel_set, name, *case)


@pytest.mark.parametrize("name", sorted(OPERATIONS.keys() - BATCHES))
def test_single_precision_is_double_precision_rounded(kernel_set, name):
    exact, rounded = random_arguments(name, "float64"), random_arguments(name, "float32")
    for i, array in enumerate(rounded):
        if np.asarray(array).dtype == np.float32:
            exact[i] = array.astype(np.float64)
    getattr(kernel_set, name)(*exact)
    getattr(kernel_set, name)(*rounded)
    for parameter, w, g in zip(OPERATIONS[name], exact, rounded):
        if np.asarray(g).dtype == np.float32:
            assert_close(g, w.astype(np.float32), f"{name}: {parameter}", "operation")


# ------------------------------------------------------------------------------------------------------- the edges


@pytest.mark.parametrize("real", [np.float32, np.float64])
def test_bernoulli_nll_is_exact_for_any_logit(kernel_set, real):
    logits = np.array([1e4, -1e4, 1e4, -1e4, 0, 88, -745], real)
    x = np.array([1, 0, 0, 1, 0.5, 0.25, 0.25], real)
    wanted = np.array([0, 0, 1e4, 1e4, math.log(2), 66, 745 * 0.25])
    for logit, target, nll in zip(logits, x, wanted):
        (given,) = filled(
            kernel_set,
            "bernoulli_nll",
            np.full((1, 1, 1), logit),
            np.zeros((1, 1, 1), real),
            np.full((1, 1), target),
            results=[(1, 1)],
        )
        assert given[0, 0] == pytest.approx(nll, rel=4 * float(np.finfo(real).eps))


@pytest.mark.parametrize("real", [np.float32, np.float64])
@pytest.mark.parametrize("logit", [1e4, 100.0, 3.0, -3.0, -100.0, -1e4])
@pytest.mark.parametrize("target", [0.999, 254 / 255, 1 / 255])
def test_bernoulli_nll_of_grey_pixels_loses_no_digit(kernel_set, logit, target, real):
    arrays = np.full((1, 1, 1), logit, real), np.zeros((1, 1, 1), real), np.full((1, 1), target, real)
    (given,) = filled(kernel_set, "bernoulli_nll", *arrays, results=[(1, 1)])
    x = np.longdouble(real(target))
    wanted = (1 - x) * max(logit, 0) + x * max(-logit, 0) + np.log1p(np.exp(-np.longdouble(abs(logit))))
    assert given[0, 0] == pytest.approx(float(wanted), rel=4 * float(np.finfo(real).eps))


@pytest.mark.parametrize("logit", [1e4, 40.0, 17.0, 0.0, -17.0, -40.0, -1e4])
@pytest.mark.parametrize("target", [0.0, 1.0, 0.3])
def test_bernoulli_gradient_is_never_lost_to_rounding(kernel_set, logit, target):
    real = np.float32
    output_logvar = np.zeros((1, 1, 1), real)
    dlogits, _ = filled(
        kernel_set,
        "bernoulli_nll_backward",
        np.ones((1, 1), real),
        np.full((1, 1, 1), logit, real),
        output_logvar,
        np.full((1, 1), target, real),
        results=[(1, 1, 1), (1, 1, 1)],
    )
    e = math.exp(-abs(logit))
    one, zero = (1 / (1 + e), e / (1 + e)) if logit >= 0 else (e / (1 + e), 1 / (1 + e))
    x = float(real(target))
    assert dlogits[0, 0, 0] == pytest.approx((1 - x) * one - x * zero, rel=1e-6)


@pytest.mark.parametrize("real", [np.float32, np.float64])
@pytest.mark.parametrize("logvar", [80.0, -80.0])
def test_extreme_log_variances_stay_finite(kernel_set, logvar, real):
    mu, logvar = np.zeros((1, 1), real), np.full((1, 1), logvar, real)
    eps = np.ones((1, 1, 1), real)
    (z,) = filled(kernel_set, "reparameterize", mu, logvar, eps, results=[(1, 1, 1)])
    for name in ("gaussian_kl", "sampled_kl"):
        (kl,) = filled(kernel_set, name, mu, logvar, eps, z, results=[(1, 1)])
        derivatives = [np.zeros((1, 1, 1), real), np.zeros((1, 1), real), np.zeros((1, 1), real)]
        getattr(kernel_set, f"{name}_backward")(np.ones((1, 1), real), mu, logvar, eps, z, *derivatives)
        assert all(np.isfinite(array).all() for array in (z, kl, *derivatives))
    output_logvar = logvar[None]
    (nll,) = filled(kernel_set, "gaussian_nll", z * 0, output_logvar, mu, results=[(1, 1)])
    assert np.isfinite(nll).all()


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_what_is_not_finite_is_not_hidden(kernel_set, activation):
    x, W, b, y = np.ones((1, 1)), np.full((1, 1), np.nan), np.zeros(1), np.zeros((int(ACTIVATIONS[activation].keeps_y), 1))
    (h,) = filled(kernel_set, f"affine_{activation}", x, W, b, y, results=[(1, 1)])
    assert np.isnan(h).all()
    for logit in (np.nan, np.inf):
        with np.errstate(invalid="ignore"):
            (nll,) = filled(
                kernel_set,
                "bernoulli_nll",
                np.full((1, 1, 1), logit),
                np.zeros((1, 1, 1)),
                np.ones((1, 1)),
                results=[(1, 1)],
            )
        assert not np.isfinite(nll).all()


@pytest.mark.parametrize("real", [np.float32, np.float64])
@pytest.mark.parametrize("in_kl", [0, 1])
def test_importance_weights_of_any_size_neither_overflow_nor_vanish(kernel_set, real, in_kl):
    """This holds wherever the largest weight stands, and whether the nll or the KL makes it."""
    loss = np.array([[1e4, 90.0, -3e4, 1e4], [1e4 + 1, 95.0, 1e4, -3e4], [2e4, -3e4, 2e4, 2e4]], real)
    nll, kl = (1 - in_kl) * loss, in_kl * loss
    (given,) = filled(kernel_set, "iwae", nll, kl, real(1), results=[(4,)])
    wanted = [1e4 - math.log((1 + math.exp(-1)) / 3), *[-3e4 + math.log(3)] * 3]
    np.testing.assert_allclose(given, wanted, rtol=4 * np.finfo(real).eps)
    dnll, _ = filled(kernel_set, "iwae_backward", nll, kl, real(1), 4, results=[(3, 4), (3, 4)])
    np.testing.assert_allclose(dnll.sum(axis=0), 1 / 4, rtol=8 * np.finfo(real).eps)


def test_adam_follows_the_published_algorithm(kernel_set):
    """The algorithm is that of Kingma & Ba 2015, algorithm 1, for one number at a time."""
    rng, lr, beta1, beta2, epsilon = np.random.default_rng(0), 0.01, 0.9, 0.99, 1e-8
    p, m, v = np.array([1.0]), np.zeros(1), np.zeros(1)
    theta, first, second = 1.0, 0.0, 0.0
    for t in range(1, 6):
        g = rng.normal(size=1)
        kernel_set.adam(p, g, m, v, t, lr, beta1, beta2, epsilon)
        first = beta1 * first + (1 - beta1) * g[0]
        second = beta2 * second + (1 - beta2) * g[0] ** 2
        theta -= lr * (first / (1 - beta1**t)) / (math.sqrt(second / (1 - beta2**t)) + epsilon)
        assert p[0] == pytest.approx(theta, rel=1e-14)


@pytest.mark.parametrize("beta2", [0.999, 0.9999, 0.99999999])
def test_adam_keeps_small_rates_of_change_in_single_precision(kernel_set, beta2):
    single, double = ([np.array([1.0], t), np.zeros(1, t), np.zeros(1, t)] for t in (np.float32, np.float64))
    for t in range(1, 4):
        kernel_set.adam(single[0], np.array([0.5], np.float32), *single[1:], t, 1e-3, 0.9, beta2, 1e-8)
        p, m, v = double
        reference.adam(p, np.array([0.5]), m, v, t, 1e-3, 0.9, beta2, 1e-8)
    np.testing.assert_allclose(single[2], double[2], rtol=1e-6)
    np.testing.assert_allclose(single[0], double[0], rtol=1e-6)


def test_sgd_and_adagrad(kernel_set):
    p, g, velocity = np.array([1.0, 2.0]), np.array([0.5, -1.0]), np.array([0.1, 0.2])
    kernel_set.sgd(p, g, velocity, 0.1, 0.9)
    np.testing.assert_allclose(velocity, [0.59, -0.82])
    np.testing.assert_allclose(p, [1 - 0.059, 2 + 0.082])
    p, squares = np.array([1.0]), np.array([3.0])
    kernel_set.adagrad(p, np.array([1.0]), squares, 0.1, 1e-8)
    np.testing.assert_allclose((p[0], squares[0]), (1 - 0.1 / (2 + 1e-8), 4.0))
