"""The definitions of a VAE, each beside the well-known mistakes that are made in its place, and what explains a number."""

import itertools
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from vae_np.architecture import check_choice
from vae_np.testing.oracles import COMPLEX_LIKELIHOODS

# {what is wrong, in words that follow a noun: the values}; what is right has the name "".
Definitions: TypeAlias = dict[str, NDArray]

# ---------------------------------------------------------------------------------------------------- the sampler

# {what an encoder's second output is: (its standard deviation, as written)}
SCALES: dict[str, tuple[Callable[[Any], Any], str]] = {
    "logvar": (lambda s: np.exp(s / 2), "exp(logvar / 2)"),
    "log_std": (np.exp, "exp(log_std)"),
    "variance": (np.sqrt, "sqrt(variance)"),
    "std": (lambda s: s, "std"),
    "softplus": (lambda s: np.logaddexp(0, s), "log(1 + exp(s))"),
}
UNIT = {"variance": 1.0, "std": 1.0, "softplus": math.log(math.e - 1)}  # where the standard deviation is 1, if that is not at 0


def standard_deviations(scale: str, s: NDArray) -> Definitions:
    """The standard deviations of z that are computed from an encoder's second output s, the wrong ones by how they are written."""
    std, written = SCALES[scale]
    name = "s" if scale == "softplus" else scale
    with np.errstate(all="ignore"):
        wrong = {
            f"exp({name} / 2)": np.exp(s / 2),
            f"exp({name})": np.exp(s),
            name: s,
            f"exp(2 {name})": np.exp(2 * s),
            f"exp({name} / 4)": np.exp(s / 4),
            f"log(1 + exp({name}))": np.logaddexp(0, s),
            f"{name}^2": s**2,
            f"sqrt({name})": np.sqrt(s),
            f"{written} / 2": std(s) / 2,
            f"2 {written}": 2 * std(s),
            "0": 0 * s,
        }
    return {"": std(s)} | {key: value for key, value in wrong.items() if not np.allclose(value, std(s))}


# --------------------------------------------------------------------------------------------------------- the KL


def gaussian_kl(mean: NDArray, std: NDArray) -> NDArray:
    """KL(N(mean, std^2) || N(0, 1)) of each example in nats, summed over the latents.

    It is (std^2 + mean^2 - 1) / 2 - log(std) of each latent (Kingma & Welling 2014, appendix B).
    """
    with np.errstate(all="ignore"):  # a wrong standard deviation may be 0 or negative
        return np.sum((std**2 + mean**2 - 1) / 2 - np.log(std), axis=-1)


def kls(mean: NDArray, std: NDArray, scale: str, s: NDArray) -> Definitions:
    """The KLs of N(mean, std^2) and N(0, 1) that are charged, of each example; s is the encoder's second output."""
    log, written = np.log(std), SCALES[scale][1]
    wrong = {
        "has log(variance) with the wrong sign": (std**2 + mean**2 - 1) / 2 + log,
        "has the standard deviation where its square, the variance, is meant": (std + mean**2 - 1) / 2 - log,
        "has log(std) where log(variance) is meant": (std**2 + mean**2 - 1) / 2 - log / 2,
        "has log(variance) twice": (std**2 + mean**2 - 1) / 2 - 2 * log,
        "lacks mu^2": (std**2 - 1) / 2 - log,
        "has mu where mu^2 is meant": (std**2 + mean - 1) / 2 - log,
        "has mu^2 with the wrong sign": (std**2 - mean**2 - 1) / 2 - log,
        "lacks the variance": (mean**2 - 1) / 2 - log,
        "lacks log(variance)": (std**2 + mean**2 - 1) / 2,
        "is KL(p(z) || q(z|x)): KL(q(z|x) || p(z)) is meant": (1 / std**2 + mean**2 / std**2 - 1) / 2 + log,
    }
    found = {"": gaussian_kl(mean, std)} | {key: value.sum(axis=-1) for key, value in wrong.items()}
    for other, value in standard_deviations(scale, s).items():
        if other and np.all(value > 0):
            found[f"is that of a standard deviation {other}: {written} is meant"] = gaussian_kl(mean, value)
    return found


# ------------------------------------------------------------------------------------------------- the likelihood

OUTPUTS = {"bernoulli": ("logits", "probabilities"), "continuous_bernoulli": ("logits", "probabilities")}
OUTPUTS |= {"gaussian": ("mean",), "squared_error": ("mean",)}


def nlls(likelihood: str, output: str, x: NDArray, given: NDArray) -> Definitions:
    """The -log p(x|z) in nats that are computed from a decoder's output, of each example; x and the output are (B, D).

    A Gaussian has variance 1 here, and the squared error is that of variance 1/2; both are without their constants.
    """
    check_choice("likelihood", likelihood, OUTPUTS)
    with np.errstate(all="ignore"):
        if likelihood in ("gaussian", "squared_error"):
            squares = np.sum((x - given) ** 2, axis=-1)
            return {
                "": squares if likelihood == "squared_error" else squares / 2,
                "is the absolute error": np.sum(np.abs(x - given), axis=-1),
                "is the square root of the sum of squares": np.sqrt(squares),
            }
        check_choice("output", output, OUTPUTS[likelihood])
        logits = given if output == "logits" else np.log(given) - np.log1p(-given)
        p = 1 / (1 + np.exp(-logits))
        other = "continuous_bernoulli" if likelihood == "bernoulli" else "bernoulli"
        found = {
            "": -COMPLEX_LIKELIHOODS[likelihood](x, logits, 0.0),
            f"is that of a {other} likelihood": -COMPLEX_LIKELIHOODS[other](x, logits, 0.0),
            "lacks the part of the zeros, (1 - x) log(1 - p)": -x * np.log(p),
            "has (1 - x) log(1 - p) with the wrong sign": -x * np.log(p) + (1 - x) * np.log1p(-p),
            "takes the sigmoid twice": -COMPLEX_LIKELIHOODS[likelihood](x, p, 0.0),
            "is the squared error of the probabilities": (x - p) ** 2,
        }
        return {key: value.sum(axis=-1) for key, value in found.items()}


# ------------------------------------------------------------------------------------- numbers and what explains them

EXACT = 1e-11  # of the largest number, as sums in double precision are, even where they cancel a little
ACCURACY = 1e-5  # the rounding of a sum in single precision
STABILISED = 2e-4  # a stabiliser, such as 1e-7 in a logarithm, may change a loss by this part, and is no mistake
UNSURE = 1e-3  # a weight that is known no better than to this number is not told
MOST = 3  # mistakes at once: what needs more of them is something else
UNNAMED = "times what it should be"  # a factor that nothing explains


class Candidate(NamedTuple):
    """Definitions that may explain numbers: the mistakes in them, as sentences, and {what each term is called: its values}."""

    mistakes: tuple[str, ...]
    terms: dict[str, NDArray]


def explained(
    given: NDArray,
    candidates: Iterable[Candidate],
    sizes: Mapping[str, int],
    constants: Mapping[str, float],
    any_constant: bool = False,
    beta: float = 1.0,
) -> tuple[str, ...] | None:
    """The mistakes that explain all numbers as a sum of terms, or None.

    Parameters
    ----------
    given : array (N,)
        The numbers.
    candidates : iterable of Candidate
        A candidate explains the numbers if its terms add up to them, each with some weight, and with a constant. Weights other
        than 1 and a constant other than 0 are mistakes, too.
    sizes : mapping of str to int
        Lengths by their names, such as {"latents": 5}; a weight that comes from them is told by these names.
    constants : mapping of str to float
        Constants that may be added, by the sentence that says what is wrong then.
    any_constant : bool
        Whether any other constant is no mistake.
    beta : float
        The weight that the term "The KL" has in what is meant; it may be missing or count twice.

    Returns
    -------
    tuple of str, or None
        A sentence for each mistake: none if the numbers are right. None is returned if no candidate explains them, or if two
        different ones do with the same number of mistakes.
    """
    several, size = list(candidates), np.abs(given).max()
    meant = [terms for mistakes, terms in several if not mistakes]
    of_right = [np.abs(sum(terms.values()) - given).max() for terms in meant]
    least = {name: min(np.abs(terms[name]).max() for terms in meant) for name in (meant[0] if meant else ())}
    fits = _fits(given, np.stack([[*terms.values(), np.ones(len(given))] for _, terms in several]))
    for accuracy in (EXACT, ACCURACY, STABILISED):
        if any(error <= min(accuracy, ACCURACY) * size for error in of_right):
            return ()
        found = set()
        for (mistakes, terms), factors, error, spread in zip(several, *fits):
            if not error <= accuracy or spread[:-1].max() * accuracy > UNSURE:
                continue
            known = max(accuracy, spread[:-1].max() * error)
            lacking = [name for name, factor in zip(terms, factors) if abs(factor) < known]
            if any(least.get(name, size) * UNSURE < accuracy * size for name in lacking):
                continue  # nobody would see it if it were there
            if any(mistake.startswith(name) for mistake in mistakes for name in lacking):
                continue  # what is not there has no mistakes
            said = [*mistakes, *_said_of_weights(factors[:-1], list(terms), sizes, known, beta)]
            if abs(factors[-1]) > accuracy * size:
                named = [sentence for sentence, constant in constants.items() if same(factors[-1], constant, accuracy)]
                said += named or ([] if any_constant else [f"A constant of {factors[-1]:.4g} nats is added."])
                if not named and any(UNNAMED in sentence for sentence in said):
                    continue  # two free numbers explain too much
            if len(said) <= MOST:
                found.add(tuple(said))
        if found:
            fewest = [said for said in found if len(said) == min(map(len, found))]
            return fewest[0] if len(fewest) == 1 else None
    return None


def _said_of_weights(factors, names, sizes, accuracy, beta):
    if len(factors) > 1 and all(same(factor, factors[0], accuracy) for factor in factors):
        factors, names = factors[:1], ["The loss"]
    return [
        f"{name} {said_of_factor(factor, sizes, accuracy, beta if name == 'The KL' else 1.0)}."
        for name, factor in zip(names, factors)
        if not same(factor, 1, accuracy)
    ]


def weights(given: NDArray, *terms: NDArray) -> NDArray | None:
    """The weights by which the terms add up to what is given, or None if they do not."""
    [fitted], [error], [spread] = _fits(given, np.stack(terms)[None])
    return fitted if error <= ACCURACY and spread.max() * error <= UNSURE else None


def _fits(given, terms):
    """(weights (C, k), errors (C,), spreads (C, k)) of C sums of k terms, (C, k, N).

    An error is relative to the largest number. It is infinite where fewer than k + 1 numbers tell something about the weights, or
    where they do not tell them apart. An error of the numbers times the spread of a weight is the error of the weight.
    """
    finite = np.isfinite(terms).all(axis=(1, 2)) & np.isfinite(given).all()
    terms = np.where(finite[:, None, None], terms, 0.0)
    terms_of_1 = terms / np.maximum(np.abs(terms).max(axis=2, keepdims=True), 1e-300)
    telling = np.count_nonzero(np.abs(terms_of_1).max(axis=1) > 1e-9, axis=1) > terms.shape[1]
    apart = np.linalg.matrix_rank(terms_of_1, rtol=1e-9) == terms.shape[1]
    inverse = np.linalg.pinv(terms_of_1)  # (C, N, k)
    weights_of_1 = np.einsum("cnk,n->ck", inverse, given)
    off = np.abs(np.einsum("ck,ckn->cn", weights_of_1, terms_of_1) - given).max(axis=1)
    errors = np.where(finite & telling & apart, off / np.abs(given).max(initial=1e-300), np.inf)
    sizes = np.maximum(np.abs(terms).max(axis=2), 1e-300)
    return weights_of_1 / sizes, errors, np.abs(inverse).sum(axis=1) * np.abs(given).max(initial=1e-300) / sizes


def same(a: float, b: float, accuracy: float = ACCURACY) -> bool:
    """Whether two weights are the same number, as far as a fit can tell."""
    return abs(a - b) <= 10 * accuracy * max(abs(a), abs(b))


def said_of_factor(factor: float, sizes: Mapping[str, int], accuracy: float = ACCURACY, beta: float = 1.0) -> str:
    """What a factor that should be 1 comes from, in words that follow a noun.

    sizes are such as {"latents": 5}; beta is a weight that is meant and may be missing.
    """
    longer = [name for name, size in sizes.items() if size > 1]
    of_beta = "beta is missing" if beta and same(factor, 1 / beta, accuracy) else ""
    of_beta = of_beta or ("beta counts twice" if same(factor, beta, accuracy) else "")
    for exponent, what in (
        (-1, "divided by {}: a mean stands where a sum is meant"),
        (1, "multiplied by {}: a sum stands where a mean is meant"),
    ):
        known = {}
        for names in (those for count in (1, 2, 3) for those in itertools.combinations(longer, count)):
            product = math.prod(sizes[name] for name in names)
            if product > 2 and same(factor, float(product) ** exponent, accuracy):
                known[names] = (
                    f"the number of {names[0]}" if len(names) == 1 else " * ".join(f"{sizes[name]} {name}" for name in names)
                )
        if known:
            said = "is " + what.format(f"{round(factor**exponent)}, which is {' or '.join(known.values())}")
            return said + f", or {of_beta}" * bool(of_beta)
    if abs(factor) < accuracy:
        return "is missing"
    if same(factor, -1, accuracy):
        return "has the wrong sign"
    if same(factor, 2, accuracy):
        of_half = "" if 2 in sizes.values() else "a factor of 1/2 is missing"
        reasons = " or ".join(filter(None, (of_half, of_beta)))
        return "is twice what it should be" + f": {reasons}" * bool(reasons)
    if same(factor, 0.5, accuracy):
        return "is half of what it should be" + f": {of_beta}" * bool(of_beta)
    return f"is {factor:.4g} {UNNAMED}" + f": {of_beta}" * bool(of_beta)
