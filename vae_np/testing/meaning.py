"""What no gradient check sees: whether a loss is the one that it is meant to be.

A wrong loss may well have the gradient of a wrong loss. So each definition of a VAE is tested by itself: the sampler, the KL, the
likelihood, and the mean over the batch. A mistake is named if it alone explains all numbers.
"""

import itertools
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import special

from vae_np.architecture import check_choice
from vae_np.choices import LIKELIHOODS
from vae_np.testing.arguments import chosen_paths
from vae_np.testing.comparison import require
from vae_np.testing.definitions import (
    ACCURACY,
    OUTPUTS,
    SCALES,
    UNIT,
    Candidate,
    explained,
    gaussian_kl,
    kls,
    nlls,
    standard_deviations,
    weights,
)
from vae_np.testing.frameworks import array_of, double_precision, like, real_arrays
from vae_np.testing.trees import leaves, rebuilt

LATENTS, EXAMPLES, INPUTS = 5, 7, 3  # different primes, none of which is 2, so that a factor tells where it comes from
DRAWS = 2000  # the examples of which the noise is looked at, of code that draws its own


# ------------------------------------------------------------------------------------------------- the sampler and the KL


def check_sampler(
    sample: Callable[..., Any],
    kl: Callable[..., Any] | None = None,
    *,
    reseed: Callable[[int], Any] | None = None,
    scale: str = "logvar",
    seed: int = 0,
) -> None:
    """Test that z = mu + std * eps, that eps is standard normal, and that the KL is that of the z that is sampled.

    The mean and the standard deviation are read off: z is sampled with the noise 0 and 1, or, if the code draws its own noise,
    at several mu and logvar after the same seed. A standard deviation that is taken for a variance is found in this way; no
    gradient check finds it.

    Parameters
    ----------
    sample : function
        sample(mu, logvar, eps) is z, and all four are (B, Z). If `reseed` is given, it is sample(mu, logvar).
    kl : function, optional
        kl(mu, logvar) is the KL in nats of each example, (B,), or the sum or the mean over a batch.
    reseed : function, optional
        reseed(seed) sets the seed of the generator that draws the noise, such as np.random.seed or torch.manual_seed. The
        generator itself is not replaced: with a constant in its place a second draw would not be noticed.
    scale : {"logvar", "log_std", "variance", "std", "softplus"}
        What the second argument is: the logarithm of the variance of q(z|x), that of the standard deviation, one of these
        themselves, or s where log(1 + exp(s)) is the standard deviation.
    seed : int
        The same seed gives the same mu, logvar and eps.

    Raises
    ------
    AssertionError
        The sampler is off; or the KL is not that of the z that is sampled. If a well-known mistake explains it, it is named.

    Examples
    --------
    >>> import numpy as np
    >>> from vae_np.testing import check_sampler
    >>> check_sampler(lambda mu, logvar, eps: mu + np.exp(logvar) * eps)
    Traceback (most recent call last):
        ...
    AssertionError: The sampler's standard deviation is exp(logvar): exp(logvar / 2) is meant.
    """
    check_choice("scale", scale, SCALES)
    mu, s = random_posteriors(scale, EXAMPLES if reseed is None else DRAWS, seed)
    if reseed is None:
        mean, std = _read_with_noise(sample, mu, s, seed)
    else:
        mean, std = _read_with_seeds(sample, mu, s, reseed, scale, seed)
    _require_close(mean, mu, "The sampler's mean is not mu")
    known = standard_deviations(scale, s)
    found = [name for name, value in known.items() if _close(std, value)]
    meant = f"{SCALES[scale][1]} is meant"
    off = (
        "" if "" in found else f"The sampler's standard deviation is {found[0] if found else _said_of(std, known[''])}: {meant}"
    )
    if kl is None:
        require(not off, f"{off}.")
        return
    few = slice(0, EXAMPLES)
    charged, right = per_example(kl, mu[few], s[few]), gaussian_kl(mean[few], std[few])
    if not _close(charged, right):
        wrong = _mistakes_of_kl(charged, mu[few], known[""][few], scale, s[few])
        both = f"{off}, and the KL is that of {SCALES[scale][1]}." if off and wrong == () else f"{off}."
        require(not off, both)
        raise AssertionError(_said_of_kl(wrong, charged, right))


def check_kl(kl: Callable[..., Any], *, scale: str = "logvar", seed: int = 0) -> None:
    """Test that a function is the KL of N(mu, variance) and N(0, 1), by numerical integration of its definition.

    So it is never negative, it is 0 at the standard normal, and it is the sum over the latents, not their mean.

    Parameters
    ----------
    kl : function
        kl(mu, logvar), of two arrays (B, Z), is the KL in nats of each example, (B,), or the sum or the mean over a batch.
    scale : {"logvar", "log_std", "variance", "std", "softplus"}
        What the second argument is: see `check_sampler`.
    seed : int
        The same seed gives the same mu and logvar.

    Raises
    ------
    AssertionError
        The KL is off. If a well-known mistake explains all numbers, it is named.

    Examples
    --------
    >>> import numpy as np
    >>> from vae_np.testing import check_kl
    >>> check_kl(lambda mu, logvar: np.mean(mu**2 + np.exp(logvar) - 1 - logvar, axis=1) / 2)
    Traceback (most recent call last):
        ...
    AssertionError: The KL is divided by 5, which is the number of latents: a mean stands where a sum is meant.
    """
    check_choice("scale", scale, SCALES)
    mu, s = random_posteriors(scale, EXAMPLES, seed)
    std = SCALES[scale][0](s)
    charged, right = per_example(kl, mu, s), _integrated_kl(mu, std)
    if not _close(charged, right):
        raise AssertionError(_said_of_kl(_mistakes_of_kl(charged, mu, std, scale, s), charged, right))


def random_posteriors(scale: str, n: int, seed: int) -> tuple[NDArray, NDArray]:
    """Random mu and s, two arrays (n, LATENTS); s is what the scale says."""
    rng = np.random.default_rng(seed)
    low, high = (0.3, 2.0) if scale in ("variance", "std") else (-2.0, 1.5)
    return rng.normal(size=(n, LATENTS)), rng.uniform(low, high, (n, LATENTS))


def _read_with_noise(sample, mu, s, seed):
    """(mean, standard deviation) of what is sampled with the noise 0 and 1; it is also tested that z is linear in the noise."""
    eps = np.random.default_rng(seed + 1).normal(size=mu.shape)
    mean = numbers_of(call(sample, mu, s, np.zeros(mu.shape)))
    require(mean.shape == mu.shape, f"The sampler returns an array {mean.shape}: {mu.shape} is meant.")
    std = numbers_of(call(sample, mu, s, np.ones(mu.shape))) - mean
    require(np.isfinite([mean, std]).all(), "The sampler returns nan or infinity: it must return finite numbers.")
    _require_close(numbers_of(call(sample, mu, s, eps)), mean + std * eps, "z is not mean + std * eps, element by element")
    return mean, std


def _read_with_seeds(sample, mu, s, reseed, scale, seed):
    """(mean, standard deviation) of what is sampled after the same seed; it is also tested that the noise is standard normal."""
    unit = np.full(mu.shape, UNIT.get(scale, 0.0))

    def drawn(mean, s):
        reseed(seed)
        z = numbers_of(call(sample, mean, s))
        require(z.shape == mu.shape, f"The sampler returns an array {z.shape}: {mu.shape} is meant.")
        return z

    eps, z = drawn(0 * mu, unit), drawn(mu, s)
    require(
        np.array_equal(z, drawn(mu, s)),
        "After the same seed the sampler draws other noise: reseed does not reach its generator.",
    )
    around = drawn(0 * mu, s)
    size = eps.std()
    require(size > 0, "The sampler has no noise where the standard deviation should be 1.")
    distinct = len(np.unique(eps))
    require(
        distinct > eps.size / 2,
        f"The sampler draws {distinct} random numbers for {eps.size} latents: each latent of each example needs its own.",
    )
    center = eps.mean()
    require(_is_normal((eps - center) / size), "The sampler's noise is not normal.")
    require(abs(center) < 6 * size / eps.size**0.5, f"The sampler's noise has the mean {center:.3g}: 0 is meant.")
    if abs(size - 1) < 6 / (2 * eps.size) ** 0.5:
        size = 1.0
    std = size * around / np.where(eps == 0, 1, eps)
    if np.mean(np.sign(around) == np.sign(eps)) < 0.75:  # as multivariate_normal of NumPy, whose order of draws depends on s
        for known in standard_deviations(scale, s).values():
            with np.errstate(all="ignore"):
                scaled = around / known
            if np.isfinite(scaled).all() and _is_normal(scaled):
                return z - around, known
    return z - around, std


def _is_normal(eps):
    """Whether numbers may be drawn from the standard normal, by the statistic of Kolmogorov and Smirnov."""
    far = np.abs(special.ndtr(np.sort(eps.ravel())) - (np.arange(eps.size) + 0.5) / eps.size).max()
    return far * eps.size**0.5 < 3  # it is above 3 once in 30 million times


def _said_of(std, right):
    factor = weights(std.ravel(), right.ravel())
    i = np.unravel_index(np.abs(std - right).argmax(), std.shape)
    return f"{factor[0]:.4g} times what it should be" if factor is not None else f"{std[i]:.4g} instead of {right[i]:.4g}"


def _mistakes_of_kl(charged, mu, std, scale, s):
    candidates = [
        Candidate((f"The KL {name}.",) if name else (), {"The KL": values}) for name, values in kls(mu, std, scale, s).items()
    ]
    return explained(charged, candidates, {"latents": LATENTS}, {"The KL lacks the -1 of each latent.": LATENTS / 2})


def _said_of_kl(mistakes, charged, right):
    i = np.abs(charged - right).argmax()
    return " ".join(mistakes or [f"The KL is {charged[i]:.6g} nats where it should be {right[i]:.6g}."])


def _integrated_kl(mean, std):
    """The integral of q(z) log(q(z) / p(z)), summed over the latents, by the trapezoidal rule over 20 standard deviations."""
    t = np.linspace(-10, 10, 401)
    z, log_of_t = mean[..., None] + std[..., None] * t, -(t**2 + np.log(2 * np.pi)) / 2
    log_q, log_p = log_of_t - np.log(std)[..., None], -(z**2 + np.log(2 * np.pi)) / 2
    return np.sum(np.exp(log_of_t) * (log_q - log_p), axis=-1).sum(axis=-1) * (t[1] - t[0])


# ------------------------------------------------------------------------------------------------------ the likelihood


def check_likelihood(
    nll: Callable[..., Any],
    likelihood: str = "bernoulli",
    output: str = "logits",
    *,
    constant: bool = False,
    seed: int = 0,
) -> None:
    """Test that exp(-nll) is a distribution of x: it sums or integrates to 1, and nll still learns where the output is extreme.

    Parameters
    ----------
    nll : function
        nll(x, output), of two arrays (B, D), is -log p(x|z) in nats of each example, (B,), or the sum or the mean over a batch.
    likelihood : {"bernoulli", "continuous_bernoulli", "gaussian", "squared_error"}
        Which x have a probability or a density, and which mistakes are looked for. A squared error may lack its constant.
    output : {"logits", "probabilities"}
        What the second argument is, for a Bernoulli or a continuous Bernoulli likelihood; for the others it is the mean.
    constant : bool
        Whether a constant may be missing: the integral may then be any number that is the same for all outputs.
    seed : int
        The same seed gives the same outputs.

    Raises
    ------
    AssertionError
        It does not sum or integrate to 1; it does not change with the logit at a logit of 40, so that its gradient is 0 there; or
        it is not finite at a logit of 1000, or at a probability of 0 or 1.

    Examples
    --------
    >>> import numpy as np
    >>> from vae_np.testing import check_likelihood
    >>> check_likelihood(lambda x, logits: np.sum(np.logaddexp(0, logits) - x * logits, axis=1))
    """
    check_choice("likelihood", likelihood, OUTPUTS)
    output = output if len(OUTPUTS[likelihood]) > 1 else "mean"
    check_choice("output", output, OUTPUTS[likelihood])
    constant = constant or likelihood == "squared_error"
    points, volumes = _every_x(likelihood)
    rng, n_inputs = np.random.default_rng(seed), points.shape[1]
    some = rng.integers(len(points), size=40)
    totals, given, known = [], [], []
    for outputs in rng.normal(size=(3, n_inputs)):
        outputs = np.broadcast_to(1 / (1 + np.exp(-outputs)) if output == "probabilities" else outputs, points.shape)
        x = points + outputs if output == "mean" else points
        given.append(per_example(nll, x, outputs))
        known.append(nlls(likelihood, output, x[some], outputs[some]))
        with np.errstate(over="ignore"):
            totals.append(float(np.sum(np.exp(-given[-1]) * volumes)))
    candidates = [
        Candidate((f"The nll {name}.",) if name else (), {"The nll": np.concatenate([one[name] for one in known])})
        for name in known[0]
    ]
    mistakes = explained(
        np.concatenate([one[some] for one in given]), candidates, {"inputs": n_inputs}, {}, any_constant=output == "mean"
    )
    how = "sums" if likelihood == "bernoulli" else "integrates"
    wanted = totals[0] if constant else 1.0
    far = [total for total in totals if not abs(total - wanted) <= 10 * ACCURACY * wanted < np.inf]
    if far and mistakes == ():
        mistakes = ("The nll lacks the constant log(2 pi) / 2 of each input.",)
    if far:
        meant = f"{wanted:.6g}, as for another output," if constant else "1"
        raise AssertionError(
            " ".join([f"exp(-nll) {how} to {far[0]:.6g} over all x, and {meant} is meant.", *(mistakes or ())])
        )
    if likelihood != "gaussian" and mistakes != ():
        raise AssertionError(
            " ".join(mistakes or [f"exp(-nll) {how} to {totals[0]:.6g} over all x, but it is no {likelihood}."])
        )
    if output == "logits":
        _check_saturated(nll)
    elif output == "probabilities":
        _check_certain(nll)


def _every_x(likelihood):
    """(points (N, D), their volumes): every x of a discrete likelihood, or points by which a density is integrated.

    Of a density on all real numbers they are the distances of x from its mean, in sinh(t) at even steps of t: so the trapezoidal
    rule is exact for standard deviations from 0.005 to 8.
    """
    record = LIKELIHOODS.get(likelihood)
    if record and record.discrete:
        return np.array(list(itertools.product([0.0, 1.0], repeat=INPUTS))), 1.0
    if record and record.support == (0, 1):
        nodes, volumes = np.polynomial.legendre.leggauss(30)
        nodes, volumes = (nodes + 1) / 2, volumes / 2
    else:
        t, width = np.linspace(-10, 10, 251), 0.006
        nodes, volumes = width * np.sinh(t), width * np.cosh(t) * (t[1] - t[0])
    return np.array(list(itertools.product(nodes, repeat=2))), np.outer(volumes, volumes).ravel()


def _check_saturated(nll):
    """At logits that are far from x, the nll must still change with the logit, and it must be finite."""
    for x, logit in ((0.0, 40.0), (1.0, -40.0)):
        wrong, change = np.full((2, 1), x), np.array([[logit - 0.5], [logit + 0.5]])
        below, above = per_example(nll, wrong, change)
        slope = above - below if np.isfinite([below, above]).all() else np.nan
        require(
            abs(slope - np.sign(logit)) < 0.05,
            f"At a logit of {logit:g} where x is {x:g} the gradient is {slope:.3g}: {np.sign(logit):g} is meant. Something is "
            "clipped or rounded there; -log p(x|z) = log(1 + exp(logit)) - x logit is not.",
        )
    for x, logit in itertools.product((0.0, 1.0), (-1e3, 1e3)):
        [given] = per_example(nll, np.full((1, 1), x), np.full((1, 1), logit))
        require(np.isfinite(given), f"nll is {given:g} at a logit of {logit:g} where x is {x:g}: it must be finite.")


def _check_certain(nll):
    for x, p in itertools.product((0.0, 1.0), (0.0, 1.0)):
        [given] = per_example(nll, np.full((1, 1), x), np.full((1, 1), p))
        require(
            np.isfinite(given),
            f"nll is {given:g} at a probability of {p:g} where x is {x:g}, and sigmoid(40) is 1: it must be finite.",
        )


# -------------------------------------------------------------------------------------------------- the mean over the batch


def check_reduction(
    loss: Callable[..., Any],
    x: Any,
    eps: Any = None,
    *,
    reseed: Callable[[int], Any] | None = None,
    reduction: str = "mean",
) -> None:
    """Test that a loss is a mean over the batch: a batch twice has the same loss, and no example changes that of another.

    Parameters
    ----------
    loss : function
        loss(x, eps), or loss(x) if there is no eps, is the loss of a batch: a number, or the numbers of the examples.
    x : array (B, ...)
        A batch of at least two different examples.
    eps : array (B, ...), optional
        The noise of each example.
    reseed : function, optional
        reseed(seed) sets the seed of the generator, if loss(x) draws its own noise. A loss twice as large is then told from
        the same loss by the mean of 64 seeds or more.
    reduction : {"mean", "sum"}
        Whether the loss of a batch is the mean or the sum of the losses of its examples.

    Raises
    ------
    AssertionError
        Something else happens when the batch is doubled; an example changes the loss of another one; or the order counts.

    Examples
    --------
    >>> import numpy as np
    >>> from vae_np.testing import check_reduction
    >>> check_reduction(lambda x: np.sum(x**2), np.array([[1.0, 2.0], [3.0, 4.0]]))
    Traceback (most recent call last):
        ...
    AssertionError: The loss doubles where every example is given twice: it is a sum over the batch, and a mean is meant.
    """
    check_choice("reduction", reduction, ("mean", "sum"))
    batch = batch_of(x)
    noise = None if eps is None else numbers_of(eps)

    def at(rows, seed=0):
        if reseed is not None:
            reseed(seed)
        given = [like(x, batch[rows])] + ([] if noise is None else [like(eps, noise[rows])])
        try:
            with double_precision(), np.errstate(all="ignore"):
                value = numbers_of(loss(*given))
        except Exception as error:  # loss may raise any error, such as one of a batch size that is fixed
            raise ValueError(f"loss raises an error for {len(rows)} examples, {type(error).__name__}: {error}") from error
        require(np.isfinite(value).all(), "The loss is not finite.")
        return float(value.mean() if reduction == "mean" else value.sum())

    rows = np.arange(len(batch))
    one, two, is_mean, is_sum = _doubled(at, rows, 1 if reseed is None else 64)
    if not (is_mean if reduction == "mean" else is_sum):
        twice = "where every example is given twice"
        require(not is_sum, f"The loss doubles {twice}: it is a sum over the batch, and a mean is meant.")
        require(not is_mean, f"The loss stays the same {twice}: it is a mean over the batch, and a sum is meant.")
        is_mixed = reseed is None and abs(at(np.tile(rows, 3)) - 2 * two + one) <= ACCURACY * max(abs(one), abs(two))
        parts = ": a part of it is a sum over the batch, and another part is a mean" if is_mixed else ""
        neither = "" if is_mixed else f", and should {'stay the same' if reduction == 'mean' else 'double'}"
        raise AssertionError(f"The loss goes from {one:.6g} to {two:.6g} {twice}{parts}{neither}.")
    pair = 0, next(i for i in range(len(batch)) if not np.array_equal(batch[i], batch[0]))
    first, second = (np.where(np.isin(rows, pair), i, rows) for i in pair)
    swapped = first + second - rows
    mixed = np.array([at(rows), -at(first), -at(second), at(swapped)])  # each place has both examples twice, with both signs
    require(
        abs(mixed.sum()) <= ACCURACY * np.abs(mixed).max(),
        f"An example changes the loss of another one, by {abs(mixed.sum()):.3g}: something is computed over the batch.",
    )
    if reseed is None:
        again, order = at(rows), at(np.roll(rows, 1))
        require(
            abs(again - order) <= ACCURACY * abs(again),
            f"The loss goes from {again:.6g} to {order:.6g} where the examples have another order.",
        )


def _doubled(at, rows, n_seeds):
    """(the loss of a batch, that of the batch twice, whether these may be the same, whether one may be twice the other)."""
    while True:
        one, two = (np.array([at(several, seed) for seed in range(n_seeds)]) for several in (rows, np.r_[rows, rows]))
        tolerance = ACCURACY * abs(one.mean()) + 6 * np.hypot(2 * one.std(), two.std()) / n_seeds**0.5
        is_mean, is_sum = (abs(two.mean() - times * one.mean()) <= tolerance for times in (1, 2))
        if not (is_mean and is_sum) or n_seeds in (1, 4096):
            return one.mean(), two.mean(), is_mean, is_sum
        n_seeds *= 2


# ------------------------------------------------------------------------------------------------------------ the edges


def at_the_edges(
    params: Any, sizes: Sequence[float] = (3.0, 12.0, 100.0), only: str | Sequence[str] | None = None, seed: int = 0
) -> Iterator[tuple[str, Any]]:
    """Yield parameters whose biases are so large that a clip or a clamp acts. The gradient may lack it.

    Parameters
    ----------
    params : container
        Parameters, as `check_gradients` takes them.
    sizes : sequence of float
        What is added to the elements of a bias, each with a random sign.
    only : str or sequence of str, optional
        The paths of the arrays that count as biases, or beginnings of paths; by default these are the arrays of one dimension,
        of one row or of one column.
    seed : int
        The same seed gives the same signs.

    Yields
    ------
    where : str
        The path of the bias, and what was added to it.
    params : container
        A copy of the parameters with this bias.

    Raises
    ------
    ValueError
        params hold no bias, or nothing of a name in `only`.

    Examples
    --------
    >>> import numpy as np
    >>> from vae_np.testing import at_the_edges
    >>> [where for where, params in at_the_edges({"W": np.ones((2, 2)), "b": np.zeros(2)}, sizes=(12,))]
    ['b +- 12']
    """
    rng, found = np.random.default_rng(seed), leaves(params)
    arrays = {path: array for path, array in real_arrays(params).items() if array.size}
    if only is None:
        biases = [path for path, array in arrays.items() if array.ndim == 1 or (array.ndim == 2 and 1 in array.shape)]
    else:
        biases = [path for path in chosen_paths(params, only) if path in arrays]
    if not biases:
        raise ValueError("params hold no array of one dimension, one row or one column: name the biases, only=[...]")
    for path in biases:
        for size in sizes:
            shifted = arrays[path] + size * rng.choice([-1.0, 1.0], arrays[path].shape)
            yield f"{path} +- {size:g}", rebuilt(params, {path: like(found[path], shifted.astype(arrays[path].dtype))})


# ------------------------------------------------------------------------------------------------------- a user's functions


def per_example(fn: Callable[..., Any], *arrays: NDArray) -> NDArray[np.float64]:
    """The number that fn gives to each row of arrays, whether it returns one a row, some a row, or one for a whole batch."""
    value, n = numbers_of(call(fn, *arrays)), len(arrays[0])
    if value.ndim and len(value) == n > 1:
        return value.reshape(n, -1).sum(axis=1)
    if value.size != 1 and n not in value.shape:
        raise ValueError(f"a function returns an array {value.shape} for {n} examples; (B,) or a single number is wanted")
    return np.array([numbers_of(call(fn, *(array[i : i + 1] for array in arrays))).sum() for i in range(n)])


def numbers_of(value: Any) -> NDArray[np.float64]:
    """What a user's function returned, as an array of float64; a TypeError is raised if it is no array of real numbers."""
    array = array_of(value)
    if array is None or array.dtype.kind not in "biuf":
        raise TypeError(f"a function returns a {type(value).__name__}; it must return real numbers")
    return array.astype(np.float64)


def batch_of(x: Any) -> NDArray:
    """A batch of a user as an array of float64, or of integers if it holds integers other than 0 and 1, such as tokens.

    It must hold at least two different examples, without which nothing can be said about a batch.
    """
    array = array_of(x)
    if array is None or array.dtype.kind not in "biuf" or array.ndim == 0:
        raise TypeError(f"x is a {type(x).__name__}; it must be an array (B, ...) of real numbers")
    if not len(array) or np.all(array == array[:1]):
        raise ValueError("x must hold at least two different examples")
    of_integers = array.dtype.kind in "iu" and np.any((array != 0) & (array != 1))
    return array.astype(np.int64 if of_integers else np.float64)


def call(fn: Callable[..., Any], *arrays: NDArray) -> Any:
    """Call a user's function with arrays of NumPy, or with tensors of PyTorch if it takes nothing else."""
    torch: Any = sys.modules.get("torch")
    with double_precision(), np.errstate(all="ignore"):
        try:
            return fn(*arrays)
        except (TypeError, AttributeError):
            if torch is None:
                raise
        return fn(*map(torch.tensor, arrays))


# --------------------------------------------------------------------------------------------------------- comparisons


def _close(given, wanted):
    limit = ACCURACY * np.abs(wanted).max()
    return given.shape == wanted.shape and bool(np.isfinite(limit) and np.all(np.abs(given - wanted) <= limit))


def _require_close(given, wanted, message):
    if not _close(given, wanted):
        i = np.unravel_index(np.argmax(np.nan_to_num(np.abs(given - wanted), nan=np.inf)), given.shape)
        raise AssertionError(f"{message}: it is {given[i]:.6g} where {wanted[i]:.6g} is meant.")
