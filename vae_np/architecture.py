"""Architecture: the sizes and choices that fix a model, and with them the names and shapes of its parameters."""

import dataclasses
import functools
import logging
import math
import operator

import numpy as np

ACTIVATIONS = ("relu", "tanh", "softplus")
LIKELIHOODS = ("bernoulli", "gaussian")
NOISES = ("fixed", "shared", "heteroscedastic")
ROUNDING = 1e-6  # by how much pixels that were scaled to [0, 1] may miss it, in single precision


def check_choice(name, value, known):
    """ValueError unless value is one of the known texts."""
    if not isinstance(value, str) or value not in known:
        raise ValueError(f"{name} is {value!r}; known are {', '.join(map(repr, known))}")


def check_count(name, value, least=1):
    """The value as an int; ValueError unless it is a whole number of at least `least`."""
    try:
        number = operator.index(value)
    except TypeError:
        number = None
    if number is None or number < least or isinstance(value, bool):
        raise ValueError(f"{name} is {value!r}; it must be a whole number, {least} or more")
    return number


def check_number(name, value, least=0.0, above=False):
    """The value as a float; ValueError unless it is finite and at least `least` (or above it)."""
    try:
        number = math.nan if isinstance(value, str) else float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not (math.isfinite(number) and (number > least if above else number >= least)):
        raise ValueError(f"{name} is {value!r}; it must be a finite number, {'above' if above else 'at least'} {least:g}")
    return number


@dataclasses.dataclass(frozen=True)
class Architecture:
    """An MLP encoder q(z|x) = N(mu(x), exp(logvar(x))), a prior N(0, 1) and an MLP decoder p(x|z).

    hidden: the widths of the encoder's hidden layers; the decoder has the same ones in reverse. () is a linear model.
    likelihood "bernoulli": output are the logits of x in [0, 1]. "gaussian": output is the mean of x, and noise is
    "fixed" (noise_std for all, 1 makes it the squared error), "shared" (one learned log-variance) or "heteroscedastic"
    (a log-variance for each input, computed from z).
    """

    n_inputs: int
    hidden: tuple = (400,)
    n_latent: int = 20
    activation: str = "relu"
    likelihood: str = "bernoulli"
    noise: str = "fixed"
    noise_std: float = 1.0

    def __post_init__(self):
        if isinstance(self.hidden, str) or not hasattr(self.hidden, "__iter__"):
            raise ValueError(f"hidden is {self.hidden!r}; it must be a sequence of layer widths such as (400,), or ()")
        checked = {
            "n_inputs": check_count("n_inputs", self.n_inputs),
            "hidden": tuple(check_count("a width in hidden", width) for width in self.hidden),
            "n_latent": check_count("n_latent", self.n_latent),
            "noise_std": check_number("noise_std", self.noise_std, above=True),
        }
        for name, value in checked.items():
            object.__setattr__(self, name, value)
        check_choice("activation", self.activation, ACTIVATIONS)
        check_choice("likelihood", self.likelihood, LIKELIHOODS)
        check_choice("noise", self.noise, NOISES)
        if self.likelihood == "bernoulli" and (self.noise, self.noise_std) != ("fixed", 1.0):
            raise ValueError("noise and noise_std belong to likelihood='gaussian'; a Bernoulli likelihood has no noise")

    @property
    def shapes(self):
        """{name: shape} of every parameter, in the order of the flat buffer; W is (inputs, outputs)."""
        shapes = {}

        def layer(name, inputs, outputs):
            shapes[f"{name}.W"], shapes[f"{name}.b"] = (inputs, outputs), (outputs,)
            return outputs

        width = self.n_inputs
        for i, n_units in enumerate(self.hidden):
            width = layer(f"encoder.{i}", width, n_units)
        layer("mu", width, self.n_latent)
        layer("logvar", width, self.n_latent)
        width = self.n_latent
        for i, n_units in enumerate(reversed(self.hidden)):
            width = layer(f"decoder.{i}", width, n_units)
        layer("output", width, self.n_inputs)
        if self.noise == "shared":
            shapes["noise.logvar"] = (1,)
        if self.noise == "heteroscedastic":
            layer("output_logvar", width, self.n_inputs)
        return shapes

    def check_inputs(self, x, name="x"):
        """x as a contiguous array (N, n_inputs) of bytes, float32 or float64, copied only where it must be.

        TypeError or ValueError, in one sentence, for what this model can't take: another shape, no rows, text, NaN,
        infinities, or under the Bernoulli likelihood anything outside [0, 1] by more than rounding. Bytes stand for 0..1 in
        steps of 1/255; bytes of only 0 and 1 are refused, as they are most likely meant as numbers.
        """
        x = np.asarray(x)
        if x.dtype.kind not in "buif":
            raise TypeError(f"{name} has dtype {x.dtype}; it must hold real numbers")
        if x.ndim != 2 or x.shape[1] != self.n_inputs or not len(x):
            raise ValueError(f"{name} has shape {x.shape}; wanted (rows, {self.n_inputs}) with at least one row")
        if x.dtype not in (np.uint8, np.float32, np.float64):
            x = x.astype(np.float64)
        x = np.ascontiguousarray(x)
        if x.dtype == np.uint8:
            if x.max() == 1:
                raise ValueError(f"{name} is bytes of 0 and 1, but bytes stand for 0 to 255: pass it as bool or float")
            return x
        low, high = x.min(), x.max()
        if not (np.isfinite(low) and np.isfinite(high)):
            raise ValueError(f"{name} holds NaN or infinite values; every input must be finite")
        if self.likelihood == "bernoulli" and not (low >= 0 and high <= 1):
            if low < -ROUNDING or high > 1 + ROUNDING:
                raise ValueError(
                    f"{name} goes from {str(low).removesuffix('.0')} to {str(high).removesuffix('.0')}; "
                    "the Bernoulli likelihood wants pixels in [0, 1]: "
                    "rescale them, or use likelihood='gaussian'"
                )
            _say_clipped_once()
            return x.clip(0, 1)
        return x


@functools.cache
def _say_clipped_once():
    logging.getLogger("vae_np").warning("pixels that rounding has put just outside [0, 1] are taken for 0 and 1")
