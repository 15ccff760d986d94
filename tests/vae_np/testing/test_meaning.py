"""Samplers, KLs, likelihoods and reductions: right ones pass, however they are written, and known mistakes are named."""

import numpy as np
import pytest

from vae_np.testing import at_the_edges, check_gradients, check_kl, check_likelihood, check_reduction, check_sampler
from vae_np.testing.definitions import SCALES, gaussian_kl


def sigmoid(y):
    return 1 / (1 + np.exp(-y))


def said(check, *arguments, **options):
    with pytest.raises(AssertionError) as caught:
        check(*arguments, **options)
    return str(caught.value)


# --------------------------------------------------------------------------------------------------------- the sampler


def sampler(std):
    return lambda mu, s, eps: mu + std(s) * eps


def drawing(std, draw=np.random.standard_normal):
    return lambda mu, s: mu + std(s) * draw(mu.shape)


def kl_of(std):
    return lambda mu, s: gaussian_kl(mu, std(s))


def half(s):
    return np.exp(s / 2)


@pytest.mark.parametrize("scale", SCALES)
def test_right_samplers_pass_at_every_scale(scale):
    std, _ = SCALES[scale]
    check_sampler(sampler(std), scale=scale)
    check_sampler(sampler(std), kl_of(std), scale=scale)
    check_sampler(drawing(std), kl_of(std), reseed=np.random.seed, scale=scale)
    check_kl(kl_of(std), scale=scale)


@pytest.mark.parametrize("reduce", [np.sum, np.mean, lambda kl: kl, lambda kl: kl[:, None], lambda kl: [[kl.sum()]]])
def test_a_kl_may_be_reduced_over_the_batch(reduce):
    check_sampler(sampler(half), lambda mu, s: reduce(kl_of(half)(mu, s)))
    check_kl(lambda mu, s: reduce(kl_of(half)(mu, s)))


def test_a_kl_may_be_left_unsummed():
    check_kl(lambda mu, s: (np.exp(s) + mu**2 - 1 - s) / 2)


def test_what_is_consistent_is_a_right_vae_whatever_it_is_called():
    check_sampler(sampler(np.exp), kl_of(np.exp), scale="logvar")


@pytest.mark.parametrize(
    "std, name",
    [
        (np.exp, "exp(logvar)"),
        (lambda s: s, "logvar"),
        (lambda s: half(s) / 2, "exp(logvar / 2) / 2"),
        (lambda s: np.log1p(np.exp(s)), "log(1 + exp(logvar))"),
        (lambda s: 0.3 * half(s), "0.3 times what it should be"),
        (lambda s: 0 * s, "0"),
    ],
)
def test_a_wrong_standard_deviation_is_named(std, name):
    line = f"The sampler's standard deviation is {name}: exp(logvar / 2) is meant"
    assert said(check_sampler, sampler(std)) == f"{line}."
    assert said(check_sampler, sampler(std), kl_of(half)) == f"{line}, and the KL is that of exp(logvar / 2)."
    drawn = said(check_sampler, drawing(std), reseed=np.random.seed)
    assert drawn.startswith("The sampler's standard deviation is " if std(0.0) else "The sampler has no noise where")


def test_a_strange_standard_deviation_is_told_by_its_numbers():
    assert "instead of" in said(check_sampler, sampler(lambda s: np.cos(s) + 2))


def test_a_sampler_whose_order_of_draws_depends_on_the_variance():
    def sample(mu, s):
        return np.array([np.random.multivariate_normal(*of_example) for of_example in zip(mu, map(np.diag, np.exp(s)))])

    check_sampler(sample, kl_of(half), reseed=np.random.seed)
    wrong = said(check_sampler, lambda mu, s: sample(mu, 2 * s), reseed=np.random.seed)
    assert wrong == "The sampler's standard deviation is exp(logvar): exp(logvar / 2) is meant."


def test_the_kl_of_another_standard_deviation_is_named():
    line = "The KL is that of a standard deviation exp(logvar): exp(logvar / 2) is meant."
    assert said(check_sampler, sampler(half), kl_of(np.exp)) == said(check_kl, kl_of(np.exp)) == line


def test_other_parts_of_the_sampler():
    assert said(check_sampler, lambda mu, s, eps: 2 * mu + half(s) * eps).startswith("The sampler's mean is not mu: it is ")
    assert "element by element" in said(check_sampler, lambda mu, s, eps: mu + half(s) * eps[0])
    assert "element by element" in said(check_sampler, lambda mu, s, eps: mu + half(s) * eps[::-1])
    assert "(7, 1): (7, 5) is meant" in said(check_sampler, lambda mu, s, eps: (mu + half(s) * eps)[:, :1])
    with np.errstate(all="ignore"):
        assert "nan" in said(check_sampler, lambda mu, s, eps: mu + np.sqrt(s) * eps)


@pytest.mark.parametrize(
    "draw, part",
    [
        (np.random.random_sample, "not normal"),
        (lambda shape: np.random.standard_normal(shape) + 0.5, "has the mean 0.4"),
        (lambda shape: np.random.standard_normal(shape[1]), "draws 5 random numbers for 10000 latents"),
        (lambda shape: np.random.standard_normal((shape[0], 1)), "draws 2000 random numbers for 10000 latents"),
        (lambda shape: np.random.normal(0, 0.1, shape), "0.0"),
        (np.random.default_rng(0).standard_normal, "reseed does not reach its generator"),
        (np.zeros, "The sampler has no noise"),
    ],
)
def test_the_noise_is_looked_at(draw, part):
    assert part in said(check_sampler, drawing(half, draw), reseed=np.random.seed)


# -------------------------------------------------------------------------------------------------------------- the KL


KLS = {
    "is twice what it should be: a factor of 1/2 is missing": lambda mu, s: np.exp(s) + mu**2 - 1 - s,
    "has the wrong sign": lambda mu, s: (1 + s - mu**2 - np.exp(s)) / 2,
    "is 0.25 times what it should be": lambda mu, s: (np.exp(s) + mu**2 - 1 - s) / 8,
    "is divided by 5, which is the number of latents: a mean stands where a sum is meant": lambda mu, s: (
        (np.exp(s) + mu**2 - 1 - s) / 10
    ),
    "has log(variance) with the wrong sign": lambda mu, s: (np.exp(s) + mu**2 - 1 + s) / 2,
    "has the standard deviation where its square, the variance, is meant": lambda mu, s: (np.exp(s / 2) + mu**2 - 1 - s) / 2,
    "has log(std) where log(variance) is meant": lambda mu, s: (np.exp(s) + mu**2 - 1 - s / 2) / 2,
    "has log(variance) twice": lambda mu, s: (np.exp(s) + mu**2 - 1 - 2 * s) / 2,
    "lacks mu^2": lambda mu, s: (np.exp(s) - 1 - s) / 2,
    "has mu where mu^2 is meant": lambda mu, s: (np.exp(s) + mu - 1 - s) / 2,
    "has mu^2 with the wrong sign": lambda mu, s: (np.exp(s) - mu**2 - 1 - s) / 2,
    "lacks the variance": lambda mu, s: (mu**2 - 1 - s) / 2,
    "lacks log(variance)": lambda mu, s: (np.exp(s) + mu**2 - 1) / 2,
    "lacks the -1 of each latent": lambda mu, s: (np.exp(s) + mu**2 - s) / 2,
    "is KL(p(z) || q(z|x)): KL(q(z|x) || p(z)) is meant": lambda mu, s: ((1 + mu**2) / np.exp(s) - 1 + s) / 2,
}


@pytest.mark.parametrize("name", KLS)
def test_a_wrong_kl_is_named(name):
    assert said(check_kl, lambda mu, s: KLS[name](mu, s).sum(axis=1)) == f"The KL {name}."
    assert said(check_sampler, sampler(half), lambda mu, s: KLS[name](mu, s).sum()) == f"The KL {name}."


def test_two_mistakes_in_a_kl_are_both_named():
    assert said(check_kl, lambda mu, s: (np.exp(s) + mu - s).sum(axis=1)) == (
        "The KL has mu where mu^2 is meant. The KL is twice what it should be: a factor of 1/2 is missing. "
        "A constant of 5 nats is added."
    )


def test_a_strange_kl_is_told_by_its_numbers():
    assert "nats where it should be" in said(check_kl, lambda mu, s: (np.exp(s) + mu**4 - 1 - s).sum(axis=1))


# ------------------------------------------------------------------------------------------------------ the likelihood


def cross_entropy(x, logits):
    return np.sum(np.logaddexp(0, logits) - x * logits, axis=1)


def of_probabilities(x, p, stabiliser=0.0):
    return -np.sum(x * np.log(p + stabiliser) + (1 - x) * np.log(1 - p + stabiliser), axis=1)


def squares(x, mean):
    return np.sum((x - mean) ** 2, axis=1)


def continuous(x, logits):
    constant = np.log(np.where(abs(logits) < 1e-3, 1, np.sinh(logits / 2) / (logits / 2)))
    return cross_entropy(x, logits) - np.logaddexp(0, logits).sum(axis=1) + np.sum(constant + logits / 2, axis=1)


@pytest.mark.parametrize("reduce", [np.sum, np.mean, lambda nll: nll])
def test_right_likelihoods_pass(reduce):
    check_likelihood(lambda x, logits: reduce(cross_entropy(x, logits)))
    check_likelihood(lambda x, p: reduce(of_probabilities(x, p, 1e-8)), output="probabilities")


@pytest.mark.parametrize("std", [0.01, 0.05, 0.3, 4, 8])
def test_a_gaussian_of_any_standard_deviation_passes(std):
    def nll(x, mean):
        return np.sum((x - mean) ** 2 / (2 * std**2) + np.log(std) + np.log(2 * np.pi) / 2, axis=1)

    check_likelihood(nll, "gaussian")
    assert "integrates to" in said(check_likelihood, lambda x, mean: 1.01 * nll(x, mean), "gaussian")


def test_right_densities_pass():
    check_likelihood(lambda x, mean: squares(x, mean) / 2 + x.shape[1] * np.log(2 * np.pi) / 2, "gaussian")
    check_likelihood(lambda x, mean: squares(x, mean) / 0.18 + x.shape[1] * np.log(2 * np.pi * 0.09) / 2, "gaussian")
    check_likelihood(lambda x, mean: squares(x, mean) / 2, "gaussian", constant=True)
    check_likelihood(squares, "squared_error")


@pytest.mark.parametrize(
    "nll, likelihood, output, part",
    [
        (lambda x, l: cross_entropy(x, l) / 3, "bernoulli", "logits", "The nll is divided by 3, which is the number of inputs"),
        (lambda x, l: -cross_entropy(x, l), "bernoulli", "logits", "The nll has the wrong sign"),
        (lambda x, p: -np.sum(x * np.log(p), axis=1), "bernoulli", "probabilities", "lacks the part of the zeros"),
        (cross_entropy, "bernoulli", "probabilities", "takes the sigmoid twice"),
        (cross_entropy, "continuous_bernoulli", "logits", "is that of a bernoulli likelihood"),
        (lambda x, p: squares(x, p), "bernoulli", "probabilities", "is the squared error of the probabilities"),
        (squares, "gaussian", "mean", "integrates to 3.14159 over all x, and 1 is meant. The nll is twice what it should be"),
        (lambda x, m: squares(x, m) / 2, "gaussian", "mean", "lacks the constant log(2 pi) / 2 of each input"),
        (lambda x, m: squares(x, m) / 2, "squared_error", "mean", "The nll is half of what it should be"),
        (lambda x, m: np.abs(x - m).sum(axis=1), "squared_error", "mean", "is the absolute error"),
        (lambda x, m: np.sqrt(squares(x, m)), "squared_error", "mean", "is the square root of the sum of squares"),
        (lambda x, l: np.full(len(x), np.nan), "bernoulli", "logits", "sums to nan"),
        (
            lambda x, l: np.full(len(x), 3 * np.log(2)),
            "bernoulli",
            "logits",
            "The nll is missing. A constant of 2.079 nats is added.",
        ),
    ],
)
def test_a_wrong_likelihood_is_named(nll, likelihood, output, part):
    assert part in said(check_likelihood, nll, likelihood, output)


def test_what_is_clipped_does_not_learn():
    def clipped(x, logits):
        return of_probabilities(x, np.clip(sigmoid(logits), 1e-7, 1 - 1e-7))

    assert "At a logit of 40 where x is 0 the gradient is 0: 1 is meant" in said(check_likelihood, clipped)
    assert "gradient is nan" in said(check_likelihood, lambda x, logits: of_probabilities(x, sigmoid(logits)))


def test_what_overflows_is_not_finite():
    def overflowing(x, logits):
        return np.sum(np.log(1 + np.exp(logits)) - x * logits, axis=1)

    assert "nll is inf at a logit of 1000" in said(check_likelihood, overflowing)
    assert "at a probability of 0 where x is 0" in said(check_likelihood, of_probabilities, output="probabilities")


# ------------------------------------------------------------------------------------------------- the mean over the batch


X = np.random.default_rng(0).normal(size=(5, 3))
EPS = np.random.default_rng(1).normal(size=(5, 3))


def of_each(x, eps):
    return np.sum((x + eps) ** 2, axis=1)


def noisy(reduce):
    return lambda x: reduce(of_each(x, np.random.standard_normal(x.shape)))


def test_right_reductions_pass():
    check_reduction(lambda x, eps: of_each(x, eps).mean(), X, EPS)
    check_reduction(of_each, X, EPS)
    check_reduction(lambda x, eps: of_each(x, eps).sum(), X, EPS, reduction="sum")
    check_reduction(lambda x: of_each(x, 0).mean(), X)
    check_reduction(noisy(np.mean), X, reseed=np.random.seed)
    check_reduction(noisy(np.sum), X, reseed=np.random.seed, reduction="sum")


def test_single_precision_is_no_mistake():
    check_reduction(lambda x: np.float32(1e3) + of_each(x.astype(np.float32), 0).mean(), X)


def test_a_wrong_reduction_is_named():
    doubles = "The loss doubles where every example is given twice: it is a sum over the batch, and a mean is meant."
    stays = "The loss stays the same where every example is given twice: it is a mean over the batch, and a sum is meant."
    assert said(check_reduction, lambda x, eps: of_each(x, eps).sum(), X, EPS) == doubles
    assert said(check_reduction, noisy(np.sum), X, reseed=np.random.seed) == doubles
    assert said(check_reduction, lambda x, eps: of_each(x, eps).mean(), X, EPS, reduction="sum") == stays
    assert "a part of it is a sum" in said(check_reduction, lambda x, eps: of_each(x, eps).mean() + of_each(x, 0).sum(), X, EPS)


@pytest.mark.parametrize("loss", [lambda x: of_each(x[:-1], 0).sum() / len(x), lambda x: of_each(x, 0).sum() / (len(x) - 1)])
def test_what_is_neither_a_sum_nor_a_mean_is_not_said_to_be_both(loss):
    assert said(check_reduction, loss, X).endswith("where every example is given twice, and should stay the same.")
    assert said(check_reduction, loss, X, reduction="sum").endswith("where every example is given twice, and should double.")


def test_batch_mates_are_seen():
    def centred(x):
        return np.mean(np.sum((x - x.mean(axis=0)) ** 2, axis=1))

    assert said(check_reduction, centred, X).startswith("An example changes the loss of another one, by ")
    assert "another one" in said(check_reduction, lambda x: centred(x) + np.random.rand(), X, reseed=np.random.seed)


def test_the_order_is_seen():
    def ordered(x, eps):
        return np.mean(np.where(np.arange(len(x)) % 5 == 4, 2, 1) * of_each(x, eps))

    assert said(check_reduction, ordered, X, EPS).endswith("where the examples have another order.")


def test_what_is_not_finite_is_said():
    assert said(check_reduction, lambda x: np.nan, X) == "The loss is not finite."
    assert said(check_sampler, lambda mu, s, eps: np.nan * mu) == (
        "The sampler returns nan or infinity: it must return finite numbers."
    )


def test_an_array_of_another_length_is_refused():
    with pytest.raises(ValueError, match=r"returns an array \(3,\) for 7 examples; \(B,\) or a single number is wanted"):
        check_kl(lambda mu, s: np.ones(3))


def test_a_batch_of_one_says_nothing():
    for x in (X[:1], np.ones((3, 2))):
        with pytest.raises(ValueError, match="at least two different examples"):
            check_reduction(lambda x: 0.0, x)


def test_a_batch_size_that_is_fixed_is_said():
    with pytest.raises(ValueError, match="loss raises an error for 10 examples, ValueError: cannot reshape"):
        check_reduction(lambda x: x.reshape(5, 3).sum(axis=1).mean(), X)


# ----------------------------------------------------------------------------------------------------------- the edges


def test_a_clip_without_a_derivative_is_only_seen_at_the_edges():
    rng = np.random.default_rng(0)
    params = {"W": rng.normal(size=(3, 2)), "b": rng.normal(size=2)}

    def loss(p):
        y = X @ p["W"] + p["b"]
        logvar = np.clip(y, -10, 10)
        dy = (1 - np.exp(-logvar)) + y  # the derivative of the clip is forgotten
        return np.sum(np.exp(-logvar) + logvar + y**2 / 2), {"W": X.T @ dy, "b": dy.sum(axis=0)}

    check_gradients(loss, params)
    found = {}
    for where, edge in at_the_edges(params):
        try:
            check_gradients(loss, edge)
        except AssertionError as error:
            found[where] = error
    assert {"b +- 100"} <= found.keys() <= {"b +- 12", "b +- 100"}


@pytest.mark.parametrize(
    "params, only, match",
    [
        ({"b": np.ones(2)}, "a", "params has no a; it has b"),
        ({"b": np.ones(2)}, [], "only is empty"),
        ({"W": np.ones((2, 2))}, None, "params hold no array of one dimension"),
        ({}, None, "params hold no array of one dimension"),
    ],
)
def test_edges_of_no_bias_are_refused(params, only, match):
    with pytest.raises(ValueError, match=match):
        list(at_the_edges(params, only=only))


def test_edges_of_a_part():
    params = {"layers": [{"W": np.ones((2, 2)), "b": np.ones(2)}, {"b": np.ones(2)}]}
    assert [where for where, _ in at_the_edges(params, (3,), only="layers[0]")] == ["layers[0].W +- 3", "layers[0].b +- 3"]


def test_edges_leave_the_parameters_as_they_are():
    params = [np.ones((2, 2)), np.zeros(3), "name", np.zeros((1, 4))]
    edges = list(at_the_edges(params, sizes=(7.0,)))
    assert [where for where, _ in edges] == ["params[1] +- 7", "params[3] +- 7"]
    assert (np.abs(edges[0][1][1]) == 7).all() and not params[1].any() and edges[0][1][2] == "name"
    assert [where for where, _ in at_the_edges(params, sizes=(7.0,), only="params[0]")] == ["params[0] +- 7"]


# ---------------------------------------------------------------------------------------------------------- frameworks


def test_functions_of_pytorch_take_tensors():
    torch = pytest.importorskip("torch", reason="needs PyTorch, which is not installed")

    def sample(mu, logvar):
        return mu + torch.exp(logvar) * torch.randn_like(mu)

    check_kl(lambda mu, logvar: -0.5 * torch.sum(1 + logvar - mu.pow(2) - logvar.exp()))
    bce = torch.nn.functional.binary_cross_entropy_with_logits
    check_likelihood(lambda x, logits: bce(logits, x, reduction="sum"))
    assert said(check_sampler, sample, reseed=torch.manual_seed) == (
        "The sampler's standard deviation is exp(logvar): exp(logvar / 2) is meant."
    )


def test_what_returns_no_numbers_is_refused():
    with pytest.raises(TypeError, match="a function returns a str"):
        check_kl(lambda mu, s: "kl")
    with pytest.raises(ValueError, match="scale"):
        check_kl(kl_of(half), scale="sigma")
