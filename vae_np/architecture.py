"""Architecture: the sizes and choices that fix a model, and with them the names and shapes of its parameters."""

import dataclasses
import functools
import logging
import math
import operator
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vae_np.choices import ACTIVATIONS, LIKELIHOODS, NOISES
from vae_np.stored_rows import StoredRows

ROUNDING = 1e-6  # by how much inputs that were scaled to the support may miss it, in single precision


def check_choice(name: str, value: Any, known: Collection[str]) -> None:
    """ValueError unless value is one of the known names."""
    if not isinstance(value, str) or value not in known:
        raise ValueError(f"{name} is {value!r}; known are {', '.join(map(repr, known))}")


def check_count(name: str, value: Any, least: int = 1) -> int:
    """The value as an int; ValueError unless it is a whole number of at least `least`."""
    try:
        number = operator.index(value)
    except TypeError:
        number = None
    if number is None or number < least or isinstance(value, bool):
        raise ValueError(f"{name} is {value!r}; it must be a whole number, {least} or more")
    return number


def check_number(name: str, value: Any, least: float = 0.0, above: bool = False) -> float:
    """The value as a float; ValueError unless it is finite and at least `least` (or above it)."""
    try:
        number = math.nan if isinstance(value, str) else float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not (math.isfinite(number) and (number > least if above else number >= least)):
        raise ValueError(f"{name} is {value!r}; it must be a finite number, {'above' if above else 'at least'} {least:g}")
    return number


def check_finite(name: str, array: ArrayLike, wanted: str, fits: Callable[[tuple[int, ...]], bool]) -> NDArray:
    """The array; TypeError or ValueError unless it holds finite real numbers, at least one, and its shape fits what is wanted."""
    array = np.asarray(array)
    if array.dtype.kind not in "iuf":
        raise TypeError(f"{name} has dtype {array.dtype}; it must hold real numbers")
    if not fits(array.shape) or not array.size:
        raise ValueError(f"{name} has shape {array.shape}; wanted {wanted}")
    if not np.isfinite(array).all():
        raise ValueError(f"{name} holds NaN or infinite values; every one must be finite")
    return array


@dataclasses.dataclass(frozen=True)
class Architecture:
    """An MLP encoder q(z|x) = N(mu(x), exp(logvar(x))), a prior N(0, 1) and an MLP decoder p(x|z).

    Parameters
    ----------
    n_inputs : int
        D, the number of inputs.
    hidden : sequence of int
        The widths of the encoder's hidden layers; the decoder has the same widths in reverse. () is a linear model.
    n_latent : int
        Z, the number of latents.
    activation : str
        The function that follows every hidden layer: one of `vae_np.choices.ACTIVATIONS`, such as "relu", "tanh" or "gelu".
    likelihood : str
        p(x|z): one of `vae_np.choices.LIKELIHOODS`. "bernoulli" is for x of 0 and 1, "continuous_bernoulli" for x in [0, 1],
        and "gaussian" for any x.
    noise : {"fixed", "shared", "heteroscedastic"}
        The variance of a Gaussian x given z: fixed is noise_std^2 (1 makes it the squared error), shared is one learned
        log-variance, heteroscedastic is a log-variance of each input, computed from z.
    noise_std : float
        The standard deviation of fixed noise.

    Raises
    ------
    ValueError
        A size is not a whole number above 0, a name is unknown, or noise is given to a likelihood that has none.

    Examples
    --------
    >>> from vae_np import Architecture
    >>> Architecture(n_inputs=4, hidden=(3,), n_latent=2).shapes["encoder.0.W"]
    (4, 3)
    """

    n_inputs: int
    hidden: Sequence[int] = (400,)
    n_latent: int = 20
    activation: str = "relu"
    likelihood: str = "bernoulli"
    noise: str = "fixed"
    noise_std: float = 1.0

    def __post_init__(self):
        if isinstance(self.hidden, str) or not isinstance(self.hidden, Iterable):
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
        default = type(self).noise, type(self).noise_std
        if not LIKELIHOODS[self.likelihood].has_noise and (self.noise, self.noise_std) != default:
            with_noise = " or ".join(repr(name) for name, likelihood in LIKELIHOODS.items() if likelihood.has_noise)
            title = LIKELIHOODS[self.likelihood].title
            raise ValueError(f"noise and noise_std belong to likelihood={with_noise}; a {title} likelihood has no noise")

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """{name: shape} of every parameter, in the order of the flat buffer; W is (inputs, outputs)."""
        shapes: dict[str, tuple[int, ...]] = {}

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
        noise = NOISES[self.noise]
        if noise.per_input:
            layer(noise.parameter, width, self.n_inputs)
        elif noise.parameter:
            shapes[noise.parameter] = (1,)
        return shapes

    def check_inputs(self, x: ArrayLike | StoredRows, name: str = "x") -> NDArray:
        """x as a contiguous array (N, n_inputs) of bytes, float32 or float64, copied only where it must be.

        Rows that stay in their files are checked in one pass, and stay there: StoredRows are returned as they are.

        Bytes stand for 0 to 1 in steps of 1/255; bytes of only 0 and 1 are refused, as they are most likely meant as numbers.

        Raises
        ------
        TypeError, ValueError
            x has another shape, no rows, text, NaN or infinities, or values outside the support of the likelihood by more
            than rounding.
        """
        stored = x if isinstance(x, StoredRows) else None
        x = np.asarray(x) if stored is None else cast(NDArray, x)
        if x.dtype.kind not in "buif":
            raise TypeError(f"{name} has dtype {x.dtype}; it must hold real numbers")
        if x.ndim != 2 or x.shape[1] != self.n_inputs or not len(x):
            raise ValueError(f"{name} has shape {x.shape}; wanted (rows, {self.n_inputs}) with at least one row")
        if x.dtype not in (np.uint8, np.float32, np.float64):
            x = x.astype(np.float64)
        if stored is None:
            x = np.ascontiguousarray(x)
            low, high = x.min(), x.max()
        else:
            low, high, *_ = stored.look()
        if x.dtype == np.uint8:
            if high == 1:
                raise ValueError(f"{name} is bytes of 0 and 1, but bytes stand for 0 to 255: pass it as bool or float")
            return x
        if not (np.isfinite(low) and np.isfinite(high)):
            raise ValueError(f"{name} holds NaN or infinite values; every input must be finite")
        likelihood = LIKELIHOODS[self.likelihood]
        least, most = likelihood.support
        if not (low >= least and high <= most):
            if low < least - ROUNDING or high > most + ROUNDING:
                others = [other.name for other in LIKELIHOODS.values() if math.isinf(other.support[0])]
                raise ValueError(
                    f"{name} goes from {str(low).removesuffix('.0')} to {str(high).removesuffix('.0')}; "
                    f"the {likelihood.title} likelihood wants pixels in [{least:g}, {most:g}]: "
                    f"rescale them, or use likelihood={' or '.join(map(repr, others))}"
                )
            _say_clipped_once(least, most)
            if stored is not None:
                stored.clip = least, most
                return x
            return x.clip(least, most)
        return x


@functools.cache
def _say_clipped_once(least, most):
    logging.getLogger("vae_np").warning("pixels that rounding has put just outside [%g, %g] are clipped to it", least, most)
