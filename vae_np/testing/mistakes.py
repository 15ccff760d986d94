"""Mistakes that published VAEs have made, each as small as it was, with the check that finds it and what it costs.

A mistake replaces one or two operations of the reference, the initial parameters, or the way of reporting. Where its forward
and its backward pass are wrong together, its gradient is that of its own loss, and no gradient check can see it.
"""

import functools
import inspect
import types
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vae_np import closed_form, elbo, optimizers, streams, training
from vae_np.architecture import Architecture
from vae_np.data import load
from vae_np.elbo import Value, loss, loss_and_gradients
from vae_np.kernels import reference as RIGHT
from vae_np.optimizers import Adam
from vae_np.parameters import Parameters
from vae_np.testing import properties
from vae_np.testing.comparison import require
from vae_np.testing.gradients import check_gradients, check_with_complex_steps
from vae_np.testing.operations import check_operation, with_changes
from vae_np.testing.oracles import complex_elbo
from vae_np.testing.problems import Problem, random_problem

ARCH = Architecture(64, (64,), 8)  # the model of the digits
SMALL = Architecture(6, (5,), 3, "tanh")
BATCH, PIXELS, STEPS_AN_EPOCH = 64, 64, 23


class Mistake(NamedTuple):
    """A mistake: what was written, the check that catches it, and what it puts in the place of the right code."""

    name: str
    written: str
    check: Callable[["Mistake"], Any]
    operations: dict[str, Callable[..., Any]] = {}
    start: Callable[[Parameters], Parameters] = lambda p: p  # it changes the initial parameters
    std_of_eps: float = 1.0  # the noise has this size in the ELBO that it reports
    at: Problem = random_problem(SMALL, logvar=2.0)  # its gradient is examined here
    place: tuple[Callable[..., Any], str] | None = None  # a function of vae_np, and how the line begins where it was made

    @property
    def line(self) -> tuple[str, int] | None:
        """The file of vae_np and the number of the line in it where the mistake was made; None for no mistake."""
        if self.place is None:
            return None
        function, beginning = self.place
        lines, first = inspect.getsourcelines(function)
        number = next(i for i, line in enumerate(lines, first) if line.strip().startswith(beginning))
        return inspect.getsourcefile(function) or "", number

    @property
    def kernel_set(self) -> types.ModuleType:
        """The reference, with the mistake in its operations."""
        return with_changes(**self.operations)


# -------------------------------------------------------------------------------------------------- what catches them


def _property(check: properties.Property) -> Callable[[Mistake], None]:
    """A check that tries this property on the loss that the kernels of a mistake compute."""
    return functools.wraps(check)(lambda mistake: check(properties.with_backend(mistake.kernel_set), mistake.at))


VALUE = _property(properties.value_is_that_of_the_definitions)
GRADIENT = _property(properties.gradient_is_the_complex_step)
PARTS = _property(properties.parts_average_to_the_whole)
EDGES = _property(properties.value_is_finite_wherever_it_can_be)


def heads_start_apart(mistake: Mistake) -> None:
    """The heads of mu and logvar have no initial weight in common."""
    p = mistake.start(Parameters.initialize(ARCH))
    require(not np.isin(p["mu.W"], p["logvar.W"]).any(), "mu.W and logvar.W start with the same weights")


def adam_is_the_published_one(mistake: Mistake) -> None:
    """An update of Adam is that of Kingma & Ba 2015, algorithm 1."""
    check_operation(mistake.kernel_set, "adam", "float64")


def reported_elbo_is_the_expectation(mistake: Mistake) -> None:
    """The reported loss of a linear model estimates its expectation over eps, which is known exactly."""
    p = Parameters.initialize(Architecture(5, (), 2, likelihood="gaussian", noise="shared"))
    x = np.random.default_rng(0).normal(size=(2000, 5))
    exact = loss(p, x, closed_form.sigma_points(len(x), 2)).per_example
    difference = reported(mistake, p, x, RIGHT).per_example - exact
    error = difference.std() / len(x) ** 0.5
    off = abs(difference.mean())
    require(off < 5 * error, f"the reported loss is {off:.3f} nats away from its expectation")


# ------------------------------------------------------------------------------------------------------- the mistakes


def std_for_variance(mu: NDArray, logvar: NDArray, eps: NDArray, z: NDArray) -> NDArray:
    return RIGHT.reparameterize(mu, 2 * logvar, eps, z)


def std_for_variance_backward(
    dz: NDArray, mu: NDArray, logvar: NDArray, eps: NDArray, dmu: NDArray, dlogvar: NDArray
) -> tuple[NDArray, NDArray]:
    return RIGHT.reparameterize_backward_add(dz, mu, 2 * logvar, 2 * eps, dmu, dlogvar)


def half_noise(mu: NDArray, logvar: NDArray, eps: NDArray, z: NDArray) -> NDArray:
    return RIGHT.reparameterize(mu, logvar, eps / 2, z)


def half_noise_backward(
    dz: NDArray, mu: NDArray, logvar: NDArray, eps: NDArray, dmu: NDArray, dlogvar: NDArray
) -> tuple[NDArray, NDArray]:
    return RIGHT.reparameterize_backward_add(dz, mu, logvar, eps / 2, dmu, dlogvar)


def divided_kl(nll: NDArray, kl: NDArray, beta: float, loss: NDArray) -> NDArray:
    return RIGHT.elbo(nll, kl, beta / (nll.shape[1] * PIXELS), loss)


def divided_kl_backward(
    nll: NDArray, kl: NDArray, beta: float, n_examples: int, dnll: NDArray, dkl: NDArray
) -> tuple[NDArray, NDArray]:
    return RIGHT.elbo_backward(nll, kl, beta / (n_examples * PIXELS), n_examples, dnll, dkl)


def clipped(operation: Callable[..., Any], n_before: int) -> Callable[..., Any]:
    """An operation that clips the log-variance. The derivatives forget that of the clip, which is 1 inside and 0 outside."""

    def at_clipped(*arguments):
        logvar = np.clip(arguments[n_before], -2, 2)
        return operation(*arguments[:n_before], logvar, *arguments[n_before + 1 :])

    return at_clipped


def cross_entropy_of_probabilities(logits: NDArray, output_logvar: NDArray, x: NDArray, nll: NDArray) -> NDArray:
    p = RIGHT.sigmoid(logits)
    log_p, log_1_p = (np.maximum(np.log(q), -100) for q in (p, 1 - p))
    return np.sum(-x * log_p - (1 - x) * log_1_p, axis=-1, out=nll)


def cross_entropy_of_probabilities_backward(
    dnll: NDArray, logits: NDArray, output_logvar: NDArray, x: NDArray, dlogits: NDArray, doutput_logvar: NDArray
) -> tuple[NDArray, NDArray]:
    p = RIGHT.sigmoid(logits)
    dp = (p - x) / np.maximum(p * (1 - p), 1e-12)
    return np.multiply(dnll[:, :, None], dp * p * (1 - p), out=dlogits), doutput_logvar


def heads_alike(p: Parameters) -> Parameters:
    p["logvar.W"][...] = p["mu.W"]
    return p


def adam_by_epochs(p: NDArray, g: NDArray, m: NDArray, v: NDArray, step: int, *rest: Any) -> NDArray:
    return RIGHT.adam(p, g, m, v, 1 + (step - 1) // STEPS_AN_EPOCH, *rest)


def batch_centred(mu: NDArray, logvar: NDArray, eps: NDArray, z: NDArray) -> NDArray:
    return RIGHT.reparameterize(mu - mu.mean(axis=0), logvar, eps, z)


def batch_centred_backward(
    dz: NDArray, mu: NDArray, logvar: NDArray, eps: NDArray, dmu: NDArray, dlogvar: NDArray
) -> tuple[NDArray, NDArray]:
    from_z = np.zeros_like(dmu)
    RIGHT.reparameterize_backward_add(dz, mu, logvar, eps, from_z, dlogvar)
    dmu += from_z - from_z.mean(axis=0)
    return dmu, dlogvar


def whole_logvar_backward(
    dz: NDArray, mu: NDArray, logvar: NDArray, eps: NDArray, dmu: NDArray, dlogvar: NDArray
) -> tuple[NDArray, NDArray]:
    return RIGHT.reparameterize_backward_add(dz, mu, logvar, 2 * eps, dmu, dlogvar)


def entropy_subtracted(mu: NDArray, logvar: NDArray, eps: NDArray, z: NDArray, kl: NDArray) -> NDArray:
    np.sum(mu * mu + np.expm1(logvar) + logvar, axis=-1, out=kl[0])
    kl /= 2
    return kl


def entropy_subtracted_backward(
    dkl: NDArray, mu: NDArray, logvar: NDArray, eps: NDArray, z: NDArray, dz: NDArray, dmu: NDArray, dlogvar: NDArray
) -> tuple[NDArray, NDArray, NDArray]:
    np.multiply(dkl[0][:, None], mu, out=dmu)
    np.multiply(dkl[0][:, None], (np.exp(logvar) + 1) / 2, out=dlogvar)
    return dz, dmu, dlogvar


NONE = Mistake("none", "", VALUE)
MISTAKES = (
    Mistake(
        "standard deviation taken for variance",
        "z = mu + exp(logvar) * eps",
        VALUE,
        {"reparameterize": std_for_variance, "reparameterize_backward_add": std_for_variance_backward},
        place=(elbo.forward, "z = reparameterize("),
    ),
    Mistake(
        "half the noise",
        "z = mu + exp(logvar / 2) * 0.5 * eps",
        VALUE,
        {"reparameterize": half_noise, "reparameterize_backward_add": half_noise_backward},
        place=(elbo.forward, "z = reparameterize("),
    ),
    Mistake(
        "KL divided by batch and pixels",
        "kl / (B * D)",
        VALUE,
        {"elbo": divided_kl, "elbo_backward": divided_kl_backward},
        place=(elbo.forward, "return bound("),
    ),
    Mistake(
        "the KL's entropy has the wrong sign",
        "(mu**2 + exp(logvar) - 1 + logvar)/2",
        VALUE,
        {"gaussian_kl": entropy_subtracted, "gaussian_kl_backward": entropy_subtracted_backward},
        place=(elbo.forward, "kl = divergence("),
    ),
    Mistake(
        "batch-mates in q(z|x)",
        "mu = mu - mu.mean(axis=0)",
        PARTS,
        {"reparameterize": batch_centred, "reparameterize_backward_add": batch_centred_backward},
        place=(elbo.forward, "z = reparameterize("),
    ),
    Mistake(
        "cross entropy of probabilities",
        "log(sigmoid(l)), log(1 - sigmoid(l))",
        EDGES,
        {
            "bernoulli_nll": cross_entropy_of_probabilities,
            "bernoulli_nll_backward": cross_entropy_of_probabilities_backward,
        },
        at=random_problem(SMALL, logit=100.0),
        place=(elbo.forward, "nll = likelihood_nll("),
    ),
    Mistake(
        "log-variance clipped, its gradient not",
        "logvar = clip(logvar, -2, 2)",
        GRADIENT,
        {
            "reparameterize": clipped(RIGHT.reparameterize, 1),
            "gaussian_kl": clipped(RIGHT.gaussian_kl, 1),
            "reparameterize_backward_add": clipped(RIGHT.reparameterize_backward_add, 2),
            "gaussian_kl_backward": clipped(RIGHT.gaussian_kl_backward, 2),
        },
        place=(elbo.backward, "dmu, dlogvar = reparameterize_backward_add("),
    ),
    Mistake(
        "1/2 missing in the gradient of logvar",
        "dlogvar += dz * eps * exp(logvar / 2)",
        GRADIENT,
        {"reparameterize_backward_add": whole_logvar_backward},
        place=(elbo.backward, "dmu, dlogvar = reparameterize_backward_add("),
    ),
    Mistake(
        "heads of mu and logvar seeded alike",
        "W_logvar = W_mu",
        heads_start_apart,
        start=heads_alike,
        place=(elbo.encoder, "logvar = affine("),
    ),
    Mistake(
        "Adam's step counted in epochs",
        "m / (1 - beta1**epoch)",
        adam_is_the_published_one,
        {"adam": adam_by_epochs},
        place=(optimizers.Adam.update, "kernels.adam("),
    ),
    Mistake(
        "evaluated at the mean of q",
        "loss(p, x, eps=0)",
        reported_elbo_is_the_expectation,
        std_of_eps=0.0,
        place=(elbo.forward, "z = reparameterize("),
    ),
)


# ------------------------------------------------------------------------------------------------ what they do and cost


class Finding(NamedTuple):
    """What a mistake does."""

    own_error: float  # the largest relative error of its gradient, compared with differences of its own loss
    gradient_error: float  # the same, compared with complex steps through the right loss
    caught_by: str  # the check that fails
    reported: float  # -ELBO of held-out digits after training with it, in nats, as it reports it
    true: float  # the same -ELBO as it really is


def reported(mistake: Mistake, p: Parameters, x: NDArray, kernel_set: types.ModuleType) -> Value:
    """The Value of all rows of x, with noise of the size that the mistake uses."""
    eps = streams.normals(0, "validate", 0, (1, len(x), p.architecture.n_latent), p.flat.dtype)
    return loss(p, x, mistake.std_of_eps * eps, backend=kernel_set)


def gradient_errors(mistake: Mistake) -> tuple[float, float]:
    """The own_error and the gradient_error of a mistake."""
    p, at, own_kernels = mistake.at.p, mistake.at, mistake.kernel_set
    g = loss_and_gradients(*at, own_kernels)[1]
    own = check_gradients(lambda p: loss(*at._replace(p=p), own_kernels).total, p, g, method="richardson", rtol=np.inf)
    right = check_with_complex_steps(lambda p: complex_elbo(SMALL, p, *at[1:]), p, g, rtol=np.inf)
    return max(worst.error for worst in own), max(worst.error for worst in right)


def find(mistake: Mistake, seeds: Sequence[int] = (0, 1, 2), epochs: int = 60) -> Finding:
    """Make a mistake, try its check, and train with it on digits in black and white."""
    digits = load("digits")
    x_train, x = digits.train.round(), digits.shown[0].round()
    caught_by, ends = "", []
    with np.errstate(all="ignore"):
        try:
            mistake.check(mistake)
        except AssertionError:
            caught_by = mistake.check.__name__.replace("_", " ")
        for seed in seeds:
            start = mistake.start(Parameters.initialize(ARCH, seed, "float32"))
            p = training.train(
                ARCH,
                x_train,
                epochs=epochs,
                batch_size=BATCH,
                optimizer=Adam(1e-3),
                seed=seed,
                initial_parameters=start,
                backend=mistake.kernel_set,
            ).parameters
            ends.append([reported(of, p, x, of.kernel_set).total for of in (mistake, NONE)])
        own, right = gradient_errors(mistake)
        as_reported, true = np.mean(ends, axis=0).tolist()
        return Finding(own, right, caught_by, as_reported, true)
