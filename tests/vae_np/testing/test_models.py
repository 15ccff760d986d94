"""`check_vae`: right models pass, however they are written; planted mistakes are named as what they are, or not at all."""

import dataclasses
import re
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vae_np.testing import check_vae
from vae_np.testing.definitions import Candidate, explained, said_of_factor, weights

D, H, Z, B = 7, 6, 3, 5


def parameters(n_inputs=D, n_latent=Z, seed=0):
    rng = np.random.default_rng(seed)
    sizes = {"W": (n_inputs, H), "mu": (H, n_latent), "logvar": (H, n_latent), "U": (n_latent, H), "V": (H, n_inputs)}
    p = {name: rng.normal(size=size) / 2 for name, size in sizes.items()}
    return p | {"b": rng.normal(size=H), "c": rng.normal(size=n_inputs)}


def batch(n_examples=B, n_inputs=D, seed=1):
    return np.random.default_rng(seed).uniform(size=(n_examples, n_inputs))


def sigmoid(y):
    return 1 / (1 + np.exp(-y))


def encode(p, x):
    h = np.tanh(x @ p["W"] + p["b"])
    return h @ p["mu"], h @ p["logvar"]


def decode(p, z):
    return np.tanh(z @ p["U"]) @ p["V"] + p["c"]


def half(s):
    return np.exp(s / 2)


def cross_entropy(x, logits):
    return np.sum(np.logaddexp(0, logits) - x * logits, axis=1)


def of_probabilities(x, logits, stabiliser=1e-8):
    p = sigmoid(logits)
    return -np.sum(x * np.log(p + stabiliser) + (1 - x) * np.log(1 - p + stabiliser), axis=1)


def squares(x, mean):
    return np.sum((x - mean) ** 2, axis=1)


def closed_kl(mu, s):
    return np.sum(np.exp(s) + mu**2 - 1 - s, axis=1) / 2


@dataclasses.dataclass
class Loss:
    """A loss of the network above; each field is a place for a mistake."""

    std: object = half
    nll: object = cross_entropy
    kl: object = closed_kl
    a: float = 1.0
    b: float = 1.0
    reduce: object = np.mean

    def __call__(self, p, x, eps):
        mu, s = encode(p, x)
        return self.reduce(self.a * self.nll(x, decode(p, mu + self.std(s) * eps)) + self.b * self.kl(mu, s))


def said(loss, x=None, p=None, check=None, **options):
    with pytest.raises(AssertionError) as caught:
        (check or check_vae)(encode, decode, loss, batch() if x is None else x, parameters() if p is None else p, **options)
    return str(caught.value).splitlines()


# -------------------------------------------------------------------------------------------------------- right models


@pytest.mark.parametrize(
    "loss, options",
    [
        (Loss(), {}),
        (Loss(reduce=np.sum), {"reduction": "sum"}),
        (Loss(reduce=lambda each: each), {}),
        (Loss(reduce=lambda each: each), {"reduction": "sum"}),
        (Loss(reduce=lambda each: np.mean(each, keepdims=True)), {}),
        (Loss(b=0.25), {"beta": 0.25}),
        (Loss(b=0), {"beta": 0}),
        (Loss(nll=of_probabilities), {}),
        (Loss(nll=squares), {"likelihood": "squared_error"}),
        (Loss(nll=lambda x, m: squares(x, m) / 2), {"likelihood": "gaussian"}),
        (Loss(nll=lambda x, m: squares(x, m) / 2 + 3), {"likelihood": "gaussian"}),
        (Loss(nll=lambda x, m: squares(x, m) ** 2), {"likelihood": lambda x, m: squares(x, m) ** 2}),
        (Loss(std=np.exp, kl=lambda mu, s: closed_kl(mu, 2 * s)), {"scale": "log_std"}),
        (Loss(std=np.exp, kl=lambda mu, s: closed_kl(mu, 2 * s)), {}),  # it is right, too, under another name
        (Loss(), {"sample": lambda p, mu, s, eps: mu + half(s) * eps}),
    ],
)
def test_right_models_pass(loss, options):
    said = check_vae(encode, decode, loss, batch(), parameters(), **options)
    assert said[0].startswith(f"The loss is the {options.get('reduction', 'mean')} over the batch of -log p(x|z)")
    assert said[-1] == "The gradient was not tested, as loss returns none and no gradients are given."


def test_a_kl_from_samples_is_right_too():
    def loss(p, x, eps):
        mu, s = encode(p, x)
        z = mu + half(s) * eps
        return np.mean(cross_entropy(x, decode(p, z)) + np.sum(z**2 - eps**2 - s, axis=1) / 2)

    check_vae(encode, decode, loss, batch(), parameters())


def test_tokens_stay_integers():
    rng, x = np.random.default_rng(0), np.random.default_rng(1).integers(0, 11, (B, D))
    p = {"E": rng.normal(size=(11, H)), "mu": rng.normal(size=(H, Z)), "logvar": rng.normal(size=(H, Z)) / 2}
    p |= {"V": rng.normal(size=(Z, D * 11))}

    def encode(p, x):
        h = p["E"][x].mean(axis=1)
        return h @ p["mu"], h @ p["logvar"]

    def decode(p, z):
        return (z @ p["V"]).reshape(-1, D, 11)

    def nll(x, y):
        return np.sum(np.log(np.exp(y).sum(axis=2)) - np.take_along_axis(y, x[..., None], 2)[..., 0], axis=1)

    def loss(p, x, eps):
        mu, s = encode(p, x)
        return np.mean(nll(x, decode(p, mu + half(s) * eps)) + closed_kl(mu, s))

    check_vae(encode, decode, loss, x, p, likelihood=nll)


def test_a_function_that_changes_what_it_is_given():
    def loss(p, x, eps):
        x -= x.mean(axis=0)
        return Loss()(p, x, eps)

    with pytest.raises(ValueError, match="loss changes an array that it is given; it must leave its arguments as they are"):
        check_vae(encode, decode, loss, batch(), parameters())


def test_examples_may_be_equal():
    x = batch()
    x[1] = x[0]
    check_vae(encode, decode, Loss(), x, parameters())


def test_functions_without_parameters():
    p, loss = parameters(), Loss()
    said = check_vae(lambda x: encode(p, x), lambda z: decode(p, z), lambda x, eps: loss(p, x, eps), batch())
    assert said[-1] == "The gradient was not tested, as no params are given."


def test_what_else_an_encoder_and_a_decoder_return_is_ignored():
    check_vae(lambda p, x: (*encode(p, x), "cache"), lambda p, z: (decode(p, z), {}), Loss(), batch(), parameters())


def test_what_is_no_array_of_real_numbers_has_no_gradient():
    settings = {"hidden": H, "activation": "tanh", "sizes": [D, H]}
    said = check_vae(encode, decode, with_gradients(), batch(), parameters() | settings)
    assert said[-1].startswith("The gradient agrees")


def test_pictures_and_single_precision_and_the_argument_stay():
    x, p = batch().astype(np.float32).reshape(B, 1, D, 1), {name: a.astype(np.float32) for name, a in parameters().items()}
    before = {name: a.copy() for name, a in p.items()}

    def flat(fn):
        return lambda p, x, *rest: fn(p, x.reshape(len(x), -1), *rest)

    check_vae(flat(encode), lambda p, z: decode(p, z).reshape(len(z), 1, D, 1), flat(Loss()), x, p)
    assert all((p[name] == before[name]).all() and p[name].dtype == np.float32 for name in p)


def test_code_that_draws_its_own_noise():
    def sample(p, mu, s):
        return mu + half(s) * np.random.standard_normal(mu.shape)

    def drawing(p, x, draws=1):
        mu, s = encode(p, x)
        z = [sample(p, mu, s) for _ in range(draws)][-1]
        return np.sum(cross_entropy(x, decode(p, z)) + closed_kl(mu, s))

    options = {"sample": sample, "reseed": np.random.seed, "reduction": "sum"}
    check_vae(encode, decode, drawing, batch(), parameters(), **options)
    twice = said(lambda p, x: drawing(p, x, 2), **options)
    assert twice == ["The loss draws noise a second time, after that of the sampler."]
    with pytest.raises(TypeError, match="with reseed, check_vae also needs sample"):
        check_vae(encode, decode, drawing, batch(), parameters(), reseed=np.random.seed)


# ---------------------------------------------------------------------------------------------- mistakes in the definitions


OFF = {
    "The sampler's standard deviation is exp(logvar): exp(logvar / 2) is meant.": Loss(std=np.exp),
    "The sampler's standard deviation is exp(logvar / 2) / 2: exp(logvar / 2) is meant.": Loss(std=lambda s: half(s) / 2),
    "The sampler's standard deviation is 0: exp(logvar / 2) is meant.": Loss(std=lambda s: 0 * s),
    "The KL is that of a standard deviation exp(logvar): exp(logvar / 2) is meant.": Loss(kl=lambda m, s: closed_kl(m, 2 * s)),
    "The KL has log(variance) with the wrong sign.": Loss(kl=lambda m, s: closed_kl(m, s) + s.sum(axis=1)),
    "The KL lacks the -1 of each latent.": Loss(kl=lambda m, s: closed_kl(m, s) + Z / 2),
    "The KL is twice what it should be: a factor of 1/2 is missing.": Loss(b=2),
    "The KL has the wrong sign.": Loss(b=-1),
    "The KL is missing.": Loss(b=0),
    "The KL is 0.25 times what it should be.": Loss(b=0.25),
    f"The KL is divided by {D}, which is the number of inputs: a mean stands where a sum is meant.": Loss(b=1 / D),
    f"The KL is divided by {Z}, which is the number of latents: a mean stands where a sum is meant.": Loss(b=1 / Z),
    f"The KL is divided by {B * D}, which is {B} examples * {D} inputs: a mean stands where a sum is meant.": Loss(b=1 / B / D),
    f"The KL is multiplied by {B}, which is the number of examples: a sum stands where a mean is meant.": Loss(b=B),
    f"The reconstruction is divided by {D}, which is the number of inputs: a mean stands where a sum is meant.": Loss(a=1 / D),
    f"The loss is divided by {D}, which is the number of inputs: a mean stands where a sum is meant.": Loss(a=1 / D, b=1 / D),
    f"The loss is multiplied by {B}, which is the number of examples: a sum stands where a mean is meant.": Loss(reduce=np.sum),
    "The loss has the wrong sign.": Loss(a=-1, b=-1),
    "A constant of 1.7 nats is added.": Loss(nll=lambda x, l: cross_entropy(x, l) + 1.7),
    "The reconstruction is that of a continuous_bernoulli likelihood.": Loss(
        nll=lambda x, l: cross_entropy(x, l) - np.sum(np.log(l / np.tanh(l / 2)), axis=1)
    ),
    "The reconstruction lacks the part of the zeros, (1 - x) log(1 - p).": Loss(
        nll=lambda x, l: np.sum(x * np.logaddexp(0, -l), axis=1)
    ),
    "The reconstruction takes the sigmoid twice.": Loss(nll=lambda x, l: cross_entropy(x, sigmoid(l))),
    "The reconstruction is the squared error of the probabilities.": Loss(nll=lambda x, l: squares(x, sigmoid(l))),
}


@pytest.mark.parametrize("line", OFF)
def test_the_definition_that_is_off_is_named(line):
    assert said(OFF[line]) == [line]


def test_two_mistakes_are_both_named():
    assert said(Loss(std=np.exp, a=1 / D)) == [
        "The sampler's standard deviation is exp(logvar): exp(logvar / 2) is meant.",
        f"The reconstruction is divided by {D}, which is the number of inputs: a mean stands where a sum is meant.",
    ]


def test_of_a_strange_loss_it_is_said_what_is_known():
    [kl] = said(Loss(kl=lambda mu, s: np.sum(mu**4 + np.cos(s), axis=1)))
    assert kl.startswith("The loss is ") and " nats, and its definitions give " in kl
    assert kl.endswith("does not depend on the noise, so that the KL is off, or a term that depends on x alone.")
    [of_x] = said(Loss(nll=lambda x, m: squares(x, m) / 2 + np.sum(x**2, axis=1)), likelihood="gaussian")
    assert of_x.endswith(kl[kl.index("the difference") :])
    [sampler] = said(Loss(std=lambda s: half(s) + 0.1 * np.sin(s)))
    assert sampler.endswith("the noise is 0, so that the sampler is off, or the reconstruction of extreme outputs.")
    [clipped] = said(Loss(nll=lambda x, l: cross_entropy(x, np.clip(l, -3, 3))))
    assert clipped.endswith(sampler[sampler.index("they agree") :])
    loss, definitions = re.findall(r"\d+\.\d+", clipped)
    assert loss != definitions
    [both] = said(Loss(std=lambda s: half(s) + np.sin(s), nll=lambda x, l: cross_entropy(x, l**3)))
    assert both.startswith("The loss is ") and "off" not in both


@pytest.mark.parametrize(
    "beta, end",
    [
        (1 / B, f"multiplied by {B}, which is the number of examples: a sum stands where a mean is meant, or beta is missing."),
        (3.3, "0.303 times what it should be: beta is missing."),
        (0.5, "twice what it should be: a factor of 1/2 is missing or beta is missing."),
        (2, "half of what it should be: beta is missing."),
    ],
)
def test_a_beta_that_is_missing_is_told(beta, end):
    assert said(Loss(), beta=beta) == [f"The KL is {end}"]


def test_a_beta_that_counts_twice_is_told():
    assert said(Loss(b=0.3**2), beta=0.3) == ["The KL is 0.3 times what it should be: beta counts twice."]


@pytest.mark.parametrize("size", [3e-2, 3e-3])
@pytest.mark.parametrize(
    "loss, line",
    [
        (Loss(b=0), "The KL is missing."),
        (Loss(b=3), f"The KL is multiplied by {Z}, which is the number of latents: a sum stands where a mean is meant."),
        (Loss(kl=lambda mu, s: np.sum(np.exp(s) + np.abs(mu) - 1 - s, axis=1) / 2), "The loss is "),
    ],
)
def test_small_parameters_hide_no_kl(loss, line, size):
    """A KL that is a millionth of the loss is seen in double precision; what explains it no better than so is not named."""
    p = {name: array * (size if name in ("mu", "logvar") else 1) for name, array in parameters().items()}
    assert said(loss, p=p)[0].startswith(line)


def test_what_the_loss_does_not_depend_on_is_not_said_to_be_right():
    p = parameters() | {"mu": np.zeros((H, Z)), "logvar": np.zeros((H, Z))}
    with pytest.warns(UserWarning, match="check_vae did not test the KL, on which the loss hardly depends at these params"):
        assert "The KL is that of this z." not in check_vae(encode, decode, Loss(), batch(), p)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_vae(encode, decode, Loss(b=0), batch(), p, beta=0)
    p = parameters() | {"V": np.zeros((H, D))}
    with pytest.warns(UserWarning, match="check_vae did not test the noise in z, on which"):
        assert "z is mu + std * eps." not in check_vae(encode, decode, Loss(), batch(), p)


def test_a_loss_that_is_not_finite():
    assert said(Loss(nll=lambda x, l: of_probabilities(x, 1000 + l, 0.0)))[0] in (
        "The loss is nan: it must be finite.",
        "The loss is inf: it must be finite.",
    )


def test_batch_mates_in_the_encoder():
    def centred(p, x):
        mu, s = encode(p, x)
        return mu - mu.mean(axis=0), s

    def loss(p, x, eps):
        mu, s = centred(p, x)
        return np.mean(cross_entropy(x, decode(p, mu + half(s) * eps)) + closed_kl(mu, s))

    with pytest.raises(AssertionError, match="An example changes the loss of another one"):
        check_vae(centred, decode, loss, batch(), parameters())


def test_a_sampler_that_is_given_is_looked_at():
    lines = said(Loss(), sample=lambda p, mu, s, eps: mu + np.exp(s) * eps)
    assert lines == ["The sampler's standard deviation is exp(logvar): exp(logvar / 2) is meant."]


MISTAKES = {  # {a word of every sentence that may name it: the loss, given the sizes}
    "standard deviation is exp(logvar)": lambda B, D, Z: Loss(std=np.exp),
    "KL is that of a standard deviation exp(logvar)": lambda B, D, Z: Loss(kl=lambda m, s: closed_kl(m, 2 * s)),
    "KL is twice": lambda B, D, Z: Loss(b=2),
    "number of inputs": lambda B, D, Z: Loss(b=1 / D),
    "number of latents": lambda B, D, Z: Loss(b=1 / Z),
    "examples * ": lambda B, D, Z: Loss(b=1 / B / D),
    "KL has log(variance) with the wrong sign": lambda B, D, Z: Loss(kl=lambda m, s: closed_kl(m, s) + s.sum(axis=1)),
    "-1 of each latent": lambda B, D, Z: Loss(kl=lambda m, s: closed_kl(m, s) + Z / 2),
    "part of the zeros": lambda B, D, Z: Loss(nll=lambda x, l: np.sum(x * np.logaddexp(0, -l), axis=1)),
    "the KL alone": lambda B, D, Z: Loss(kl=lambda m, s: np.sum(np.cosh(m) + np.cos(s), axis=1)),
    "number of examples": lambda B, D, Z: Loss(reduce=np.sum),
}


@settings(max_examples=40)
@given(st.sampled_from(sorted(MISTAKES)), st.integers(2, 6), st.integers(2, 6), st.integers(1, 5), st.integers(0, 5))
def test_a_mistake_is_never_taken_for_another(name, n_examples, n_inputs, n_latent, seed):
    loss = MISTAKES[name](n_examples, n_inputs, n_latent)
    try:
        check_vae(encode, decode, loss, batch(n_examples, n_inputs, seed), parameters(n_inputs, n_latent, seed))
    except AssertionError as error:
        first = str(error).splitlines()[0]
        factor = {1 / n_inputs, 1 / n_latent, 1 / n_examples / n_inputs, float(n_examples)} & {loss.b, 2.0, 0.5, 2 * loss.b}
        unnamed = first.startswith("The loss is ") and " nats" in first
        assert name in first or unnamed or (factor and ("twice" in first or "half" in first)), first
    else:
        assert loss.b == 1 and name == "number of latents"  # of one latent


SMALL_MISTAKES = {  # {what every sentence about it must hold: the loss}; "" is a right one
    "": Loss(),
    "The KL is missing": Loss(b=0),
    "lacks mu^2": Loss(kl=lambda mu, s: closed_kl(mu, s) - np.sum(mu**2, axis=1) / 2),
    "standard deviation is exp(logvar)": Loss(std=np.exp),
    "nothing": Loss(nll=lambda x, l: cross_entropy(x, np.clip(l, -1, 1))),
}


@pytest.mark.filterwarnings("ignore:check_vae did not test")
@settings(max_examples=40)
@given(st.sampled_from(sorted(SMALL_MISTAKES)), st.floats(-3, 0), st.booleans(), st.integers(0, 50))
def test_a_small_kl_is_given_no_mistake_that_it_does_not_have(name, exponent, single, seed):
    """Where q(z|x) is nearly standard normal, the losses tell little of the KL, and less in single precision."""
    p = {key: array * (10**exponent if key in ("mu", "logvar") else 1) for key, array in parameters(seed=seed).items()}

    def loss(p, x, eps):
        arrays = [np.asarray(array, np.float32 if single else np.float64) for array in (x, eps)]
        return SMALL_MISTAKES[name]({key: np.asarray(array, arrays[0].dtype) for key, array in p.items()}, *arrays)

    try:
        check_vae(encode, decode, loss, batch(seed=seed), p)
    except AssertionError as error:
        first, *more = str(error).splitlines()
        unnamed = first.startswith("The loss is ") and " nats, and its definitions give " in first
        assert name and not more and (unnamed or name in first), error


# -------------------------------------------------------------------------------------------------------- the gradient


def with_gradients(through_z_to_mu=1, through_z_to_logvar=1, through_kl_to_mu=1, through_kl_to_logvar=1, decoder=1, hidden=1):
    """A right loss with its gradient, whose parts are multiplied by these numbers."""

    def loss(p, x, eps):
        n, g = len(x), {}
        h = np.tanh(x @ p["W"] + p["b"])
        mu, s = h @ p["mu"], h @ p["logvar"]
        z = mu + half(s) * eps
        k = np.tanh(z @ p["U"])
        logits = k @ p["V"] + p["c"]
        dlogits = (sigmoid(logits) - x) / n
        g["V"], g["c"] = decoder * k.T @ dlogits, decoder * dlogits.sum(axis=0)
        dk = (dlogits @ p["V"].T) * (1 - k**2)
        g["U"], dz = decoder * z.T @ dk, dk @ p["U"].T
        dmu = through_z_to_mu * dz + through_kl_to_mu * mu / n
        ds = through_z_to_logvar * dz * eps * half(s) / 2 + through_kl_to_logvar * (np.exp(s) - 1) / 2 / n
        g["mu"], g["logvar"] = h.T @ dmu, h.T @ ds
        dh = (dmu @ p["mu"].T + hidden * ds @ p["logvar"].T) * (1 - h**2)
        g["W"], g["b"] = x.T @ dh, dh.sum(axis=0)
        return np.mean(cross_entropy(x, logits) + closed_kl(mu, s)), g

    return loss


def test_right_gradients_pass():
    right = check_vae(encode, decode, with_gradients(), batch(), parameters())
    assert right[-1].startswith("The gradient agrees with derivatives of the loss, up to ")
    separate = check_vae(
        encode, decode, Loss(), batch(), parameters(), gradients=lambda p, x, eps: with_gradients()(p, x, eps)[1]
    )
    assert separate[-1] == right[-1]


@pytest.mark.parametrize(
    "line, factors",
    [
        ("encoder is off: what comes through z to mu has the wrong sign (mu, W, b)", {"through_z_to_mu": -1}),
        ("encoder is off: what comes through z to logvar is missing (logvar, W, b)", {"through_z_to_logvar": 0}),
        ("encoder is off: what comes through the KL to mu is half of what it should be (mu, W, b)", {"through_kl_to_mu": 0.5}),
        (
            "encoder is off: what comes through the KL to logvar is multiplied by 5, which is the number of examples: a sum "
            "stands where a mean is meant (logvar, W, b)",
            {"through_kl_to_logvar": B},
        ),
        (
            "encoder is off: what comes through the KL has the wrong sign (mu, logvar, W, b)",
            {"through_kl_to_mu": -1, "through_kl_to_logvar": -1},
        ),
        (
            "encoder is off: what comes through z is missing (mu, logvar, W, b)",
            {"through_z_to_mu": 0, "through_z_to_logvar": 0},
        ),
        ("encoder is off: what comes to logvar is missing (W, b)", {"hidden": 0}),
        (
            "encoder is off: what comes through z to mu has the wrong sign, and what comes through the KL to logvar is missing "
            "(mu, logvar, W, b)",
            {"through_z_to_mu": -1, "through_kl_to_logvar": 0},
        ),
        (
            "decoder is divided by 5, which is the number of examples: a mean stands where a sum is meant (V, c, U)",
            {"decoder": 1 / B},
        ),
    ],
)
def test_the_part_of_the_gradient_is_named(line, factors):
    lines = said(with_gradients(**factors))
    assert lines[0] == f"The gradient of the {line}."
    assert len(lines) > 1 and not any(other.startswith("The ") for other in lines[1:2])  # the elements follow


@settings(max_examples=12)
@given(
    st.sampled_from(["z to mu", "z to logvar", "kl to mu", "kl to logvar"]),
    st.sampled_from([-1.0, 0.0, 0.5]),
    st.integers(2, 5),
    st.integers(2, 6),
    st.integers(1, 4),
    st.integers(0, 5),
)
def test_a_part_is_never_taken_for_another(part, factor, n_examples, n_inputs, n_latent, seed):
    loss = with_gradients(**{f"through_{part.replace(' ', '_')}": factor})
    lines = said(loss, batch(n_examples, n_inputs, seed), parameters(n_inputs, n_latent, seed))
    for line in lines:
        if line.startswith("The gradient of the encoder is off: "):
            assert f"what comes through {part.replace('kl', 'the KL')} {said_of_factor(factor, {})}" in line
            assert line.count("what comes") == 1
        else:
            assert line.startswith("The gradient of the encoder is off (") or " is " in line


@pytest.mark.parametrize("integers", [["W"], ["W", "mu", "logvar", "b", "U", "V", "c"]])
def test_parameters_of_integers_are_compared_too(integers):
    p = parameters() | {name: np.rint(2 * parameters()[name]).astype(int) for name in integers}

    def loss(p, x, eps):
        value, g = with_gradients()(p, x, eps)
        return value, g | {"W": 5 * g["W"]}

    assert "(W)" in said(loss, p=p)[0]


def test_gradients_are_given_once():
    def gradients(p, x, eps):
        return with_gradients()(p, x, eps)[1]

    with pytest.raises(TypeError, match="loss returns gradients, and gradients are given besides: give them once"):
        check_vae(encode, decode, with_gradients(decoder=2), batch(), parameters(), gradients=gradients)


def test_what_is_off_in_no_known_way_is_still_placed():
    def loss(p, x, eps):
        value, g = with_gradients()(p, x, eps)
        return value, g | {"V": g["V"][::-1], "mu": np.tanh(g["mu"])}

    assert said(loss)[:2] == ["The gradient of the decoder is off (V).", "The gradient of the encoder is off (mu)."]


def test_a_wrong_loss_with_its_own_gradient_is_off_by_definition_alone():
    def loss(p, x, eps):
        value, g = with_gradients()(p, x, eps)
        return value / D, {name: array / D for name, array in g.items()}

    assert said(loss) == [f"The loss is divided by {D}, which is the number of inputs: a mean stands where a sum is meant."]


# ------------------------------------------------------------------------------------------------------- wrong arguments


@pytest.mark.parametrize(
    "change, error, match",
    [
        ({"encode": lambda p, x: encode(p, x)[0]}, TypeError, "encode returns a ndarray"),
        ({"encode": lambda p, x: (encode(p, x)[0][:, :1], encode(p, x)[1])}, ValueError, "encode returns arrays"),
        ({"decode": lambda p, z: decode(p, z)[:, :-1]}, ValueError, "decode returns 6 numbers for an example"),
        ({"decode": lambda p, z: decode(p, z).sum(axis=0)}, ValueError, "decode returns an array"),
        ({"loss": lambda p, x, eps: "loss"}, TypeError, "a function returns a str"),
        ({"x": batch()[:1]}, ValueError, "at least two different examples"),
        ({"x": None}, TypeError, "x is a NoneType; it must be an array"),
        ({"x": 1.0}, TypeError, "x is a float; it must be an array"),
        ({"encode": lambda p, x: (np.nan * x[:, :Z], x[:, :Z])}, ValueError, "encode returns numbers that are not finite"),
        ({"decode": lambda p, z: 1.0}, ValueError, r"decode returns an array \(\)"),
        ({"beta": "1"}, TypeError, "beta is '1'; it must be a number"),
        ({"likelihood": "poisson"}, ValueError, "likelihood"),
        ({"output": "mean"}, ValueError, "output"),
        ({"scale": "sigma"}, ValueError, "scale"),
        ({"reduction": "max"}, ValueError, "reduction"),
    ],
)
def test_wrong_arguments_get_a_sentence(change, error, match):
    arguments = {"encode": encode, "decode": decode, "loss": Loss(), "x": batch(), "params": parameters()} | change
    with pytest.raises(error, match=match):
        check_vae(**arguments)


# ---------------------------------------------------------------------------------------------------- what explains numbers


def test_sizes_that_are_equal_are_all_named():
    sizes = {"examples": 6, "inputs": 6, "latents": 3}
    assert said_of_factor(1 / 6, sizes) == (
        "is divided by 6, which is the number of examples or the number of inputs: a mean stands where a sum is meant"
    )
    assert said_of_factor(2, {"latents": 2}) == "is twice what it should be"
    assert said_of_factor(1 / 7, {"latents": 1}) == "is 0.1429 times what it should be"


def test_what_two_mistakes_explain_is_not_named():
    numbers = np.arange(1.0, 6.0)
    candidates = [Candidate(("The first.",), {"A": numbers}), Candidate(("The second.",), {"A": numbers})]
    assert explained(numbers, candidates, {}, {}) is None
    assert explained(numbers, candidates[:1], {}, {}) == ("The first.",)
    assert explained(numbers**2, candidates, {}, {}) is None
    assert explained(numbers, [*candidates, Candidate((), {"A": numbers})], {}, {}) == ()


def test_too_few_numbers_tell_no_weights():
    assert weights(np.ones(3), *np.eye(3)) is None  # each weight is told by one number, and no number is left
    assert weights(np.ones(4), np.ones(4), np.ones(4)) is None
    assert weights(np.r_[1.0, 1.0, 0.0], np.r_[1.0, 0.0, 0.0], np.r_[0.0, 1.0, 0.0]) is None
    assert np.allclose(weights(np.full(2, 3.0), np.ones(2)), 3)


def test_weights_of_numbers_that_are_not_finite():
    assert weights(np.array([1.0, np.nan]), np.ones(2)) is None and weights(np.ones(2), np.array([1.0, np.inf])) is None
