"""The choices that make a model: each activation, likelihood, noise, objective and estimator is one record here.

Everything else about a choice follows from its record and its name: the operations of the kernel sets that `bind` takes,
the checks of inputs, the help of the commands, the problems of the testing kit, the benchmarks and the study page. The
optimizers stand in `vae_np.optimizers`, the data sets in `vae_np.data`, the commands in `vae_np.cli`.
"""

import math
from typing import NamedTuple


class Activation(NamedTuple):
    """An elementwise function h = f(y) after a hidden layer's sum y: the operations affine_NAME and NAME_backward."""

    name: str
    formula: str
    keeps_y: bool = False  # whether its derivative needs y, and not only h
    homogeneous: bool = False  # whether f(c y) = c f(y) for every c > 0


class Likelihood(NamedTuple):
    """A distribution p(x|z) of the inputs: the operations NAME_nll, NAME_nll_backward and NAME_mean."""

    name: str
    title: str
    output: str  # what the decoder's output is
    support: tuple[float, float] = (-math.inf, math.inf)  # the least and the largest x
    discrete: bool = False  # whether only the two ends of the support have a probability, so that x between them has no density
    has_noise: bool = False  # whether a log-variance of x belongs to it


class Noise(NamedTuple):
    """Where the log-variance of x given z comes from, for a likelihood that has one."""

    name: str
    words: str
    parameter: str = ""  # the name of what is learned: a number, or a layer's W and b; none where the noise is fixed
    per_input: bool = False  # whether every input has a log-variance of its own, computed from z by a layer


class Objective(NamedTuple):
    """A bound on log p(x): its KL, and how an example's samples are weighed, each the name of an operation."""

    name: str
    words: str
    divergence: str
    bound: str
    sampled: bool  # whether the KL is taken from the samples, and so there is one for each
    weighted: bool  # whether samples have importance weights: the total is then at most reconstruction + beta KL
    unweighted: str  # the objective that weighs the same samples equally


class Estimator(NamedTuple):
    """An estimator of the gradient by the encoder's parameters: operations that take the place of others in the text.

    The loss and the gradient by the decoder's parameters are the same for all estimators.
    """

    name: str
    words: str
    operations: dict[str, dict[str, str]]  # for each objective that it works with: {name in the text: the operation}
    biased: tuple[str, ...] = ()  # the objectives for which its mean is not the derivative of the mean loss, if L > 1

    @property
    def differentiates_the_loss(self) -> bool:
        """Whether the gradient is the derivative of the loss of the same samples: no operation takes the place of another."""
        return not any(self.operations.values())


def _by_name(*records):
    return {record.name: record for record in records}


ACTIVATIONS: dict[str, Activation] = _by_name(
    Activation("relu", "max(0, y)", homogeneous=True),
    Activation("tanh", "tanh(y)"),
    Activation("softplus", "log(1 + exp(y))"),
    Activation("silu", "y sigmoid(y)", keeps_y=True),
    Activation("gelu", "y Phi(y), where Phi is the distribution function of N(0, 1)", keeps_y=True),
)

LIKELIHOODS: dict[str, Likelihood] = _by_name(
    Likelihood("bernoulli", "Bernoulli", "the logits of x", support=(0, 1), discrete=True),
    Likelihood("gaussian", "Gaussian", "the mean of x", has_noise=True),
    Likelihood("continuous_bernoulli", "continuous Bernoulli", "the logits of x", support=(0, 1)),
)

NOISES: dict[str, Noise] = _by_name(
    Noise("fixed", "noise_std is its standard deviation"),
    Noise("shared", "one log-variance is learned for all inputs", "noise.logvar"),
    Noise("heteroscedastic", "a log-variance is computed for each input", "output_logvar", per_input=True),
)

OBJECTIVES: dict[str, Objective] = _by_name(
    Objective("elbo", "the ELBO with the KL in closed form", "gaussian_kl", "elbo", False, False, "elbo"),
    Objective("elbo_mc", "the ELBO with the KL of the samples", "sampled_kl", "elbo", True, False, "elbo_mc"),
    Objective("iwae", "the importance-weighted bound", "sampled_kl", "iwae", True, True, "elbo_mc"),
)

_PATH, _SCORE = {"divergence_backward": "sampled_kl_path_backward"}, {"divergence_backward": "score_backward"}
ESTIMATORS: dict[str, Estimator] = _by_name(
    Estimator("total", "the derivative of the loss, along all paths", {objective: {} for objective in OBJECTIVES}),
    Estimator("path", "total without the score of q, which is biased for iwae", {"elbo_mc": _PATH, "iwae": _PATH}, ("iwae",)),
    Estimator("dreg", "doubly reparameterized, without bias", {"iwae": {**_PATH, "path_weight": "dreg_path_weight"}}),
    Estimator(
        "score",
        "the score function, for elbo_mc with a leave-one-out baseline",
        {
            "elbo_mc": {**_SCORE, "bound_backward": "elbo_score_backward"},
            "iwae": {**_SCORE, "bound_backward": "iwae_score_backward"},
        },
    ),
    Estimator(
        "vimco", "the score function with a leave-one-out baseline", {"iwae": {**_SCORE, "bound_backward": "vimco_backward"}}
    ),
)
