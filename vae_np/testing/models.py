"""`check_vae`: a VAE of one's own, of any architecture, is held to its definitions; what is off is named."""

import itertools
import math
import numbers
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vae_np.architecture import check_choice
from vae_np.testing.arguments import by_places
from vae_np.testing.definitions import (
    ACCURACY,
    SCALES,
    STABILISED,
    UNIT,
    Candidate,
    explained,
    gaussian_kl,
    kls,
    nlls,
    said_of_factor,
    same,
    standard_deviations,
    weights,
)
from vae_np.testing.frameworks import automatic_gradient, double_precision, in_double, like, real_arrays
from vae_np.testing.gradients import check_gradients
from vae_np.testing.meaning import batch_of, check_reduction, check_sampler, numbers_of, per_example
from vae_np.testing.trees import is_object, leaves, rebuilt

BATCHES = 6  # of examples that are drawn again from x; each is tried without noise and with noise
ELEMENTS = 24  # of a parameter whose gradient is off, by which it is found out which part of the gradient is


def check_vae(
    encode: Callable[..., Any],
    decode: Callable[..., Any],
    loss: Callable[..., Any],
    x: Any,
    params: Any = None,
    *,
    gradients: Callable[..., Any] | None = None,
    sample: Callable[..., Any] | None = None,
    reseed: Callable[[int], Any] | None = None,
    likelihood: str | Callable[..., Any] = "bernoulli",
    output: str = "logits",
    scale: str = "logvar",
    reduction: str = "mean",
    beta: float = 1.0,
    elements: int | None = None,
    seed: int = 0,
) -> list[str]:
    """Test a VAE of any architecture, and say which of its definitions is off, or the gradient of which part.

    The loss is compared with its definition, mean over the batch of (-log p(x|z) + beta KL(q(z|x) || N(0, 1))), which is
    computed from what the encoder and the decoder return. Where it differs, a mistake is named if it alone explains the losses of
    many batches. The gradient is compared with numerical derivatives of the loss.

    If `params` are given, every function takes them as its first argument. So a class that keeps its state is tested with
    its own methods: `check_vae(VAE.encode, VAE.decode, loss, x, params=vae)`. The functions are given copies in float64.

    Parameters
    ----------
    encode : function
        encode(params, x) is (mu, logvar), two arrays (B, Z); what else it returns is ignored.
    decode : function
        decode(params, z) is the output, (B, ...), with an element for each of x; what else it returns is ignored.
    loss : function
        loss(params, x, eps) is the loss of the batch, or (the loss, its gradients). The noise eps is standard normal, (B, Z).
        If `reseed` is given, it is loss(params, x).
    x : array (B, ...)
        A batch of at least two different examples. With B, D and Z that are different primes, a factor tells where it comes from.
        Integers other than 0 and 1, such as tokens, are given to the functions as integers; all else is given as float64.
    params : container, optional
        The parameters, as `check_gradients` takes them. Without them the functions are encode(x), decode(z) and loss(x, eps), and
        no gradient is tested.
    gradients : function, optional
        gradients(params, x, eps) are the gradients, if loss returns none. Those of PyTorch and JAX are found without it.
    sample : function, optional
        sample(params, mu, logvar, eps) is z. If `reseed` is given, it must be given, too, as sample(params, mu, logvar).
    reseed : function, optional
        For code that draws its own noise: see `check_sampler`.
    likelihood : {"bernoulli", "continuous_bernoulli", "gaussian", "squared_error"} or function
        The -log p(x|z) that the loss has; or a function nll(x, output) of the numbers of the examples, (B,).
    output : {"logits", "probabilities"}
        What the decoder returns, for a Bernoulli or a continuous Bernoulli likelihood.
    scale : {"logvar", "log_std", "variance", "std", "softplus"}
        What the second output of the encoder is: see `check_sampler`.
    reduction : {"mean", "sum"}
        Whether the loss of a batch is meant to be the mean or the sum over its examples.
    beta : float
        The weight that the KL is meant to have.
    elements : int, optional
        How many elements of the gradients are compared: see `check_gradients`.
    seed : int
        The same seed gives the same batches and the same noise.

    Returns
    -------
    list of str
        What was seen to be right, in sentences.

    Warns
    -----
    UserWarning
        At these params the loss hardly depends on the noise in z or on the KL, so that this was not tested.

    Raises
    ------
    AssertionError
        Something is off: a line for each definition, and one for each part of the gradient.
    TypeError, ValueError
        The functions do not return arrays of these shapes, or change those that they are given; or the gradients cannot be
        compared: see `check_gradients`.

    Examples
    --------
    >>> import numpy as np
    >>> from vae_np.testing import check_vae
    >>> def encode(p, x):
    ...     return x @ p["mu"], x @ p["logvar"]
    >>> def decode(p, z):
    ...     return z @ p["W"]
    >>> def loss(p, x, eps):
    ...     mu, logvar = encode(p, x)
    ...     logits = decode(p, mu + np.exp(logvar) * eps)
    ...     nll = np.sum(np.logaddexp(0, logits) - x * logits)
    ...     return (nll + np.sum(mu**2 + np.exp(logvar) - 1 - logvar) / 2) / len(x)
    >>> rng = np.random.default_rng(0)
    >>> p = {"mu": rng.normal(size=(7, 3)), "logvar": rng.normal(size=(7, 3)), "W": rng.normal(size=(3, 7))}
    >>> check_vae(encode, decode, loss, rng.integers(0, 2, (5, 7)), p)
    Traceback (most recent call last):
        ...
    AssertionError: The sampler's standard deviation is exp(logvar): exp(logvar / 2) is meant.
    """
    check_choice("scale", scale, SCALES)
    check_choice("reduction", reduction, ("mean", "sum"))
    if not isinstance(beta, numbers.Real):
        raise TypeError(f"beta is {beta!r}; it must be a number")
    if reseed is not None and sample is None:
        raise TypeError("with reseed, check_vae also needs sample(params, mu, logvar), which draws the same noise as the loss")
    with double_precision(), np.errstate(all="ignore"):
        vae = Vae(
            encode,
            decode,
            loss,
            x,
            None if params is None else in_double(params),
            params is not None,
            sample,
            reseed,
            scale,
            reduction,
            likelihood,
            output,
            beta,
        )
        lines, right = _off_by_definition(vae, seed)
        lines_of_gradient, said = _off_in_gradient(vae, gradients, elements, seed, loss_is_right=not lines)
    if lines + lines_of_gradient:
        raise AssertionError("\n".join(lines + lines_of_gradient))
    return [*right, said]


class Vae(NamedTuple):
    """A user's functions and choices: see `check_vae`. Its methods take and return arrays of NumPy."""

    encoder: Callable[..., Any]
    decoder: Callable[..., Any]
    loss: Callable[..., Any]
    x: Any
    params: Any
    with_params: bool
    sampler: Any  # a function, or None
    reseed: Any  # a function, or None
    scale: str
    reduction: str
    likelihood: str | Callable[..., Any]
    output: str
    beta: float

    def call(self, fn, *arrays):
        """What a user's function returns for arrays of NumPy, which it is given as x is given."""
        given = [like(self.x, array) for array in arrays]
        result = fn(*([self.params] if self.with_params else []), *given)
        for array, after in zip(arrays, given):
            if not np.array_equal(array, numbers_of(after), equal_nan=True):
                name = getattr(fn, "__name__", "a function")
                raise ValueError(f"{name} changes an array that it is given; it must leave its arguments as they are")
        return result

    def encode(self, x):
        """(mu, the second output), each (B, Z)."""
        result = self.call(self.encoder, x)
        if not isinstance(result, list | tuple) or len(result) < 2:
            raise TypeError(f"encode returns a {type(result).__name__}; it must return (mu, {self.scale})")
        mu, s = (numbers_of(array) for array in result[:2])
        if mu.shape != s.shape or mu.ndim != 2 or len(mu) != len(x):
            raise ValueError(f"encode returns arrays {mu.shape} and {s.shape} for {len(x)} examples; (B, Z) twice is wanted")
        if not (np.isfinite(mu).all() and np.isfinite(s).all()):
            raise ValueError("encode returns numbers that are not finite")
        return mu, s

    def decode(self, z):
        """The output, (B, ...)."""
        result = self.call(self.decoder, z)
        output = numbers_of(result[0] if isinstance(result, list | tuple) else result)
        if output.ndim == 0 or len(output) != len(z):
            raise ValueError(f"decode returns an array {output.shape} for {len(z)} examples; (B, ...) is wanted")
        return output

    def value(self, x, eps=None, seed=None):
        """The loss of a batch."""
        if self.reseed is not None and seed is not None:
            self.reseed(seed)
        arguments = [x] if self.reseed is not None else [x, eps]
        return numbers_of(self.reduced(self.call(self.loss, *arguments))).item()

    def reduced(self, result):
        """The number in what the loss returned, as the user's framework has it."""
        value = result[0] if isinstance(result, list | tuple) else result
        if math.prod(np.shape(value)) == 1:
            return value
        return value.mean() if self.reduction == "mean" else value.sum()

    def reduce(self, numbers):
        """The mean or the sum over the batch, which is the last axis."""
        return numbers.mean(axis=-1) if self.reduction == "mean" else numbers.sum(axis=-1)

    def std(self, s):
        """The standard deviation that the second output of the encoder means."""
        return SCALES[self.scale][0](s)

    def draws(self, seed, shape):
        """What the sampler draws after a seed, the first and the second time, (B, Z)."""
        mu, unit = np.zeros(shape), np.full(shape, UNIT.get(self.scale, 0.0))
        self.reseed(seed)
        return [numbers_of(self.call(self.sampler, mu, unit)) for _ in range(2)]

    def nlls(self, x, output):
        """The -log p(x|z) of the examples: see `vae_np.testing.definitions.nlls`."""
        if callable(self.likelihood):
            return {"": per_example(self.likelihood, x, output)}
        flat = x.reshape(len(x), -1)
        if output.size != flat.size:
            raise ValueError(f"decode returns {output.size // len(x)} numbers for an example of x, which has {flat.shape[1]}")
        return nlls(self.likelihood, self.output, flat, output.reshape(flat.shape))


# ------------------------------------------------------------------------------------------------- the definitions


class Trials(NamedTuple):
    """T batches of B examples, the noise or the seed of each, what the encoder returns for them, and their losses."""

    x: NDArray  # (T, B, ...)
    eps: NDArray  # (T, B, Z)
    seeds: list[int]
    mu: NDArray
    s: NDArray  # the second output of the encoder
    losses: NDArray  # (T,)


def _trials(vae, seed):
    """Trials on x itself and on examples that are drawn again from it, their inputs in another order; with and without noise."""
    rng, x = np.random.default_rng(seed), batch_of(vae.x)
    batches = [x]
    for _ in range(BATCHES - 1):
        drawn = x.reshape(len(x), -1)[rng.integers(len(x), size=len(x))]
        batches.append(rng.permuted(drawn, axis=1).reshape(x.shape))
    batches, seeds = np.repeat(batches, 2, axis=0), [seed + i for i in range(2 * BATCHES)]
    mu, s = map(np.stack, zip(*[vae.encode(batch) for batch in batches]))
    eps = rng.normal(size=mu.shape)
    eps[1::2] = 0
    losses = np.array([vae.value(*trial) for trial in zip(batches, eps, seeds)])
    return Trials(batches, eps, seeds, mu, s, losses)


def _off_by_definition(vae, seed):
    """(a line for each definition that is off, sentences about what is right)."""
    trials = _trials(vae, seed)
    losses, x = trials.losses, trials.x[0]
    if not np.isfinite(losses).all():
        return [f"The loss is {losses[~np.isfinite(losses)][0]:g}: it must be finite."], []
    sizes = {"examples": len(x), "inputs": x[0].size, "latents": trials.mu.shape[-1]}
    lacking = vae.beta * vae.reduce(np.full(sizes["examples"], sizes["latents"] / 2))
    constants, any_constant = {"The KL lacks the -1 of each latent.": lacking}, vae.likelihood in ("gaussian", "squared_error")
    candidates = list(_candidates(vae, trials))
    mistakes = explained(losses, candidates, sizes, constants, any_constant, vae.beta)
    lines = [_what_is_known(vae, trials)] if mistakes is None else list(mistakes)
    if vae.sampler is not None and not any("sampler" in line for line in lines):
        lines.append(_error(check_sampler, lambda *arrays: vae.call(vae.sampler, *arrays), reseed=vae.reseed, scale=vae.scale))
    if not mistakes:
        noise = {"reseed": vae.reseed} if vae.reseed else {"eps": trials.eps[0]}
        lines.append(_error(check_reduction, vae.value, x, reduction=vae.reduction, **noise))
    if found := list(filter(None, lines)):
        return found, []
    return [], [
        f"The loss is the {vae.reduction} over the batch of -log p(x|z) + {vae.beta:g} KL.",
        *_of_z(losses, [terms for mistakes, terms in candidates if not mistakes], any_constant),
        "No example changes the loss of another one.",
    ]


def _of_z(losses, definitions, any_constant):
    """What right losses tell about z and its KL, in sentences; a warning says what changes them too little to be tested."""

    def size(numbers):
        return np.ptp(numbers) if any_constant else np.abs(numbers).max()

    terms = min(definitions, key=lambda terms: size(losses - sum(terms.values())))
    least = 100 * max(size(losses - sum(terms.values())), 1e-15 * np.abs(losses).max())
    of_noise = np.diff(terms["The reconstruction"])[::2]  # the two trials of a batch differ in the noise alone
    told = [("z is mu + std * eps.", "the noise in z", size(of_noise))]
    told += [("The KL is that of this z.", "the KL", size(terms[name])) for name in terms if name == "The KL"]
    if untested := [name for _, name, change in told if change <= least]:
        warnings.warn(
            f"check_vae did not test {' and '.join(untested)}, on which the loss hardly depends at these params; give other "
            "params, such as those of a trained model",
            stacklevel=4,
        )
    return [sentence for sentence, _, change in told if change > least]


def _error(check, *arguments, **options):
    """The message of a check's AssertionError, or "" if it passes."""
    try:
        check(*arguments, **options)
    except AssertionError as error:
        return str(error)
    return ""


def _candidates(vae, trials) -> Iterator[Candidate]:
    """Every definition, right or with a well-known mistake in the sampler, the noise, the likelihood and the KL."""
    x, _, _, mu, s, _ = trials
    stds, meant = standard_deviations(vae.scale, s), SCALES[vae.scale][1]
    of_kl = [(f"The KL {name}." if name else "", kl) for name, kl in kls(mu, stds[""], vae.scale, s).items()]
    for (second_draw, eps), (wrong, std) in itertools.product(_noises(vae, trials).items(), stds.items()):
        z = mu + std * eps
        if not np.isfinite(z).all():
            continue
        of_sampler = f"The sampler's standard deviation is {wrong}: {meant} is meant." if wrong else ""
        of_nll = [(f"The reconstruction {name}." if name else "", nll) for name, nll in _nlls(vae, x, z).items()]
        with np.errstate(all="ignore"):
            from_samples = np.sum((z**2 - eps**2) / 2 - np.log(std), axis=-1)
        # A KL of what is sampled is right, whatever the second output of the encoder is called.
        charged = [(of_sampler, name, kl) for name, kl in of_kl] + [("", "", kl) for kl in (gaussian_kl(mu, std), from_samples)]
        for (off_in_nll, nll), (off_in_sampler, off_in_kl, kl) in itertools.product(of_nll, charged):
            terms = {"The reconstruction": vae.reduce(nll)} | ({"The KL": vae.beta * vae.reduce(kl)} if vae.beta else {})
            yield Candidate(tuple(filter(None, (off_in_sampler, second_draw, off_in_nll, off_in_kl))), terms)


def _noises(vae, trials):
    """{what is wrong, "" if nothing is: the noise of all trials}; code that draws its own may have drawn twice."""
    if vae.reseed is None:
        return {"": trials.eps}
    first, second = zip(*[vae.draws(seed, trials.mu.shape[1:]) for seed in trials.seeds])
    return {"": np.stack(first), "The loss draws noise a second time, after that of the sampler.": np.stack(second)}


def _nlls(vae, x, z):
    """{what is wrong, "" if nothing is: -log p(x|z) of the examples of all trials, (T, B)}."""
    several = [vae.nlls(batch, vae.decode(latents)) for batch, latents in zip(x, z)]
    return {name: np.stack([one[name] for one in several]) for name in several[0]}


def _what_is_known(vae, trials):
    """A sentence about a loss that no mistake explains: both numbers, and where these agree."""
    losses, std = trials.losses, vae.std(trials.s)
    nll = vae.reduce(_nlls(vae, trials.x, trials.mu + std * _noises(vae, trials)[""])[""])
    kl = vae.beta * vae.reduce(gaussian_kl(trials.mu, std))
    i = np.argmax(np.abs(losses - nll - kl))
    said = f"The loss is {losses[i]:.6g} nats, and its definitions give {nll[i] + kl[i]:.6g}"
    if _are_one(weights(np.diff(losses)[::2], np.diff(nll)[::2])):  # the two trials of a batch differ in the noise alone
        return f"{said}: the difference does not depend on the noise, so that the KL is off, or a term that depends on x alone."
    if vae.reseed is None and _are_one(weights((losses - kl)[1::2], nll[1::2])):
        return f"{said}: they agree where the noise is 0, so that the sampler is off, or the reconstruction of extreme outputs."
    return f"{said}."


def _are_one(fitted):
    return fitted is not None and all(same(factor, 1) for factor in fitted)


# -------------------------------------------------------------------------------------------------------- the gradient


def _off_in_gradient(vae, gradients, elements, seed, loss_is_right):
    """(a line for each part of the gradient that is off, a sentence about a gradient that is right)."""
    if not vae.with_params:
        return [], "The gradient was not tested, as no params are given."
    x = batch_of(vae.x)
    mu, _ = vae.encode(x)
    eps = np.random.default_rng(seed).normal(size=mu.shape)
    arguments = [x] if vae.reseed else [x, eps]

    def result(p):
        if vae.reseed is not None:
            vae.reseed(seed)
        return vae._replace(params=p).call(vae.loss, *arguments)

    def value(p):
        return vae.reduced(result(p))

    returned = result(vae.params)
    own = returned[1] if isinstance(returned, list | tuple) and len(returned) == 2 else None
    if gradients is not None:
        if isinstance(own, Mapping) and own.keys() & leaves(vae.params).keys():
            raise TypeError("loss returns gradients, and gradients are given besides: give them once")
        own = vae.call(gradients, *arguments)
    elif own is None:
        own = automatic_gradient(value, vae.params)
    if own is None:
        return [], "The gradient was not tested, as loss returns none and no gradients are given."
    own = by_places(vae.params, own)  # copies: the next call may overwrite them
    # Of an object its gradients tell what is compared; in another container that are all arrays of real numbers besides.
    only = None if is_object(vae.params) else [*{**real_arrays(vae.params), **own}]
    B, D = len(x), x[0].size
    try:
        worst = check_gradients(value, vae.params, own, only=only, elements=elements, sizes={"batch": B, "inputs": D})
    except AssertionError as error:
        eps = eps if vae.reseed is None else vae.draws(seed, mu.shape)[0]
        return [
            *_parts_that_are_off(vae, own, x, eps, {"examples": B, "inputs": D}, loss_is_right),
            *str(error).splitlines(),
        ], ""
    return [], f"The gradient agrees with derivatives of the loss, up to {max(one.error for one in worst):.0e}."


class Off(NamedTuple):
    """Some elements of a gradient that is off, what each path of the loss contributes, and by which factors, if these are known."""

    given: NDArray
    paths: dict[str, NDArray]
    factors: dict[str, float] | None


def _parts_that_are_off(vae, own, x, eps, sizes, loss_is_right):
    """Lines that say in which network the gradient is off, and by which of its paths, if that explains all numbers."""
    second = "std" if vae.scale == "softplus" else vae.scale
    mu, s = vae.encode(x)
    z = mu + vae.std(s) * eps

    def parts_at(there):
        """The loss by its paths: in each term only one argument is taken from an encoder or decoder with other parameters."""
        mu_there, s_there = there.encode(x)

        def nll(vae, z):
            return vae.reduce(vae.nlls(x, vae.decode(z))[""])

        def kl(mu, s):
            return vae.beta * vae.reduce(gaussian_kl(mu, vae.std(s)))

        return {
            "": nll(there, z),  # the decoder itself
            "through z to mu": nll(vae, mu_there + vae.std(s) * eps),
            f"through z to {second}": nll(vae, mu + vae.std(s_there) * eps),
            "through the KL to mu": kl(mu_there, s),
            f"through the KL to {second}": kl(mu, s_there),
        }

    rng, found = np.random.default_rng(0), {}
    for path, gradient in own.items():
        given = gradient.ravel()
        chosen = rng.permutation(given.size)[:ELEMENTS]
        paths = _derivatives(vae, path, chosen, parts_at)
        if not np.allclose(given[chosen], sum(paths.values()), 0, STABILISED * np.abs(given).max()):
            paths = {name: values for name, values in paths.items() if np.abs(values).max() > 1e-9}
            network = " and ".join(["the decoder"] * ("" in paths) + ["the encoder"] * (len(paths) > ("" in paths)))
            fitted = weights(given[chosen], *paths.values()) if loss_is_right and paths else None
            factors = None if fitted is None else dict(zip(paths, np.where(np.abs(fitted) < ACCURACY, 0.0, fitted)))
            found.setdefault(network or "the parameters", {})[path] = Off(given[chosen], paths, factors)
    return [line for network in sorted(found) for line in _said_of_network(network, found[network], sizes)]


def _derivatives(vae, path, chosen, parts_at, h=1e-5):
    """{path of the loss: its derivatives by the chosen elements of a parameter}, by central differences."""
    leaf = leaves(vae.params)[path]
    array, columns = numbers_of(leaf), []
    for i in chosen:
        ends = []
        for step in (h, -h):
            moved = array.copy()
            moved.flat[i] += step
            ends.append(parts_at(vae._replace(params=rebuilt(vae.params, {path: like(leaf, moved)}))))
        columns.append({name: (ends[0][name] - ends[1][name]) / (2 * h) for name in ends[0]})
    return {name: np.array([column[name] for column in columns]) for name in columns[0]}


def _said_of_network(network, found, sizes):
    """Yield a line about the gradient of a network; found is {parameter: Off}."""
    together = {}
    for off in found.values():
        for name, factor in (off.factors or {}).items():
            together.setdefault(name, []).append(factor)
    first = {name: several[0] for name, several in together.items()}
    if all(same(factor, first[name]) for name, several in together.items() for factor in several):
        groups = [([path for path, off in found.items() if _agrees(off, first)], first)]
    else:
        groups = [([path], off.factors) for path, off in found.items() if off.factors]
    unknown = found.keys() - {path for paths, _ in groups for path in paths}
    if unknown:
        yield f"The gradient of {network} is off ({', '.join(path for path in found if path in unknown)})."
    for paths, factors in groups:
        wrong = _grouped(factors)
        if paths and wrong:
            all_of_it = said_of_factor(wrong[""], sizes) if list(wrong) == [""] else "is off"
            parts = ", and ".join(
                f"what comes {name} {said_of_factor(factor, sizes)}" for name, factor in wrong.items() if name
            )
            yield f"The gradient of {network} {all_of_it}{': ' * bool(parts)}{parts} ({', '.join(paths)})."


def _agrees(off, factors):
    """Whether these factors of the paths explain a gradient; it may have too few elements to tell them by itself."""
    if off.paths.keys() - factors.keys():
        return False
    explained = sum(factors[name] * values for name, values in off.paths.items())
    return np.allclose(off.given, explained, 0, STABILISED * np.abs(off.given).max())


def _grouped(factors):
    """The factors that are not 1; paths that share a beginning or an end, and a factor, are told as one."""
    wrong = {name: factor for name, factor in factors.items() if not same(factor, 1)}
    for group in ("", "through z", "through the KL", *sorted({name[name.find("to ") :] for name in factors if name})):
        names = [name for name in factors if group in name]
        if len(names) > 1 and set(names) == set(wrong) and all(same(wrong[name], wrong[names[0]]) for name in names):
            return {group: wrong[names[0]]}
    return wrong
