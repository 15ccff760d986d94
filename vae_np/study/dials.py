"""How the gradients change when one setting of a run is changed, and how noisy they are.

Every number is computed by the model itself, which runs forward and backward in NumPy's double precision. The parameters are
kept: a dial shows the derivatives at another setting, not what training would do there.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vae_np import blas, elbo, streams
from vae_np.architecture import check_count
from vae_np.buffers import Buffers, buffers
from vae_np.choices import OBJECTIVES
from vae_np.parameters import Parameters
from vae_np.study.estimates import some_at_a_time

BETAS, SHIFTS, FACTORS = np.linspace(0, 4, 17), np.linspace(-4, 4, 17), np.linspace(0, 3, 13)
SAMPLES = 1, 2, 5, 10, 20, 50
DRAWS = 800  # of eps for each example, in groups of L


class Chart(NamedTuple):
    """Curves that are drawn together."""

    title: str
    curves: dict[str, list[float]]  # {label: a number for each of the dial's values}
    log: str = ""  # the axes that are logarithmic: "x", "y", "xy" or ""
    errors: dict[str, list[float]] = {}  # {label: the standard error of each number}, where the numbers are means over draws


class Dial(NamedTuple):
    """A setting that can be changed, and the derivatives at each of its values."""

    name: str
    title: str
    words: str
    axis: str
    values: list[float]
    here: float  # the value that the run itself has
    charts: tuple[Chart, ...]

    @property
    def curves(self) -> dict[str, list[float]]:
        """{label: curve} of all charts"""
        return {label: curve for chart in self.charts for label, curve in chart.curves.items()}

    @property
    def errors(self) -> dict[str, list[float]]:
        """{label: standard errors} of all charts"""
        return {label: errors for chart in self.charts for label, errors in chart.errors.items()}


# --------------------------------------------------------------------------------------------------------------- dials


class Words(NamedTuple):
    """What a dial changes, and the effect where the KL is in closed form or estimated from the samples."""

    change: str
    closed_form: str
    sampled: str


WORDS = {
    "beta": Words(
        "The slider changes beta, the factor of the KL.",
        "The parts of dmu and dlogvar that come through the KL are proportional to beta. The parts that come through z do not depend "
        "on beta, and neither does any gradient of the decoder.",
        "This objective estimates the KL from the samples, so the KL acts on mu and logvar through z as well. Its direct "
        "contribution is only -beta / (2 B) to each element of dlogvar. Both paths therefore depend on beta.",
    ),
    "logvar": Words(
        "The slider adds a number to logvar, and everything after it is computed again. The further to the right it stands, the more of z "
        "is noise.",
        "The KL contributes beta mu / B to dmu, which does not depend on the width of q. It contributes beta (exp(logvar) - 1) / (2 B) "
        "to dlogvar, which is 0 where q is as wide as the prior.",
        "This objective estimates the KL from the samples. Its direct contributions do not depend on the width of q: 0 to dmu, and "
        "-beta / (2 B) to each element of dlogvar. The width acts through z.",
    ),
    "eps": Words(
        "The slider multiplies the noise eps by a number. At 0, every z is equal to mu, and no derivative reaches logvar through z.",
        "The KL in closed form does not depend on eps.",
        "This objective estimates the KL from the samples. The estimate is correct on average only for noise of variance 1: at the "
        "factor 1, and at no other factor.",
    ),
}


@blas.limited()
def dials(
    p: Parameters, x: ArrayLike, eps: ArrayLike, beta: float = 1.0, l2: float = 0.0, objective: str = "elbo"
) -> list[Dial]:
    """The Dials "beta", "logvar", "eps" and "samples" of a run.

    Parameters
    ----------
    p, x, eps, beta, l2, objective
        As for `vae_np.loss_and_gradients`, which also says when they are refused.
    """
    elbo.check_parameters(p)
    _, p, a, beta, l2 = elbo.prepare(p.astype("float64"), x, eps, beta, l2, objective, "numpy")
    x, eps, sampled = a.x, a.eps, OBJECTIVES[objective].sampled

    def dial(name, title, axis, values, here, changed, logs=("", "", "")):
        values = sorted({*map(float, values), float(here)})
        settings = [{"p": p, "eps": eps, "beta": beta, **changed(value)} for value in values]
        charts = _charts([_measured(x=x, l2=l2, objective=objective, **setting) for setting in settings], logs)
        words = f"{WORDS[name].change} {WORDS[name].sampled if sampled else WORDS[name].closed_form}"
        return Dial(name, title, words, axis, values, float(here), charts)

    def wider(shift):
        q = p.copy()
        q["logvar.b"][...] += shift  # a bias is added to logvar itself
        return {"p": q}

    return [
        dial("beta", "The weight of the KL", "beta", BETAS, beta, lambda value: {"beta": value}),
        dial("logvar", "The width of q(z|x)", "number added to logvar", SHIFTS, 0, wider, ("", "y", "y")),
        dial("eps", "The size of the noise", "factor on eps", FACTORS, 1, lambda factor: {"eps": factor * eps}),
        _samples(p, x, beta, len(eps)),
    ]


def _measured(p, x, eps, beta, l2, objective):
    """What the charts show at one setting: {title of a chart: {label: number}}"""
    model, a, d = whole_pass(p, x, eps, beta, objective, len(x))
    g = Parameters.zeros(p.architecture)
    model.weight_gradients(p.layers, a, d, g.layers, l2)
    value, first = elbo.value_of(model, p, a, l2), next(iter(g))
    terms = {"loss, nats": value.total, "reconstruction, nats": value.reconstruction, "KL, nats": value.kl}
    (dmu_z, dlogvar_z), (dmu_kl, dlogvar_kl) = paths(model, objective, a, d)
    into = {"dmu through z": dmu_z, "dmu through the KL": dmu_kl}
    into |= {"dlogvar through z": dlogvar_z, "dlogvar through the KL": dlogvar_kl}
    others = {"dz": d.z, f"the gradient of {first}": g[first], "the gradient of output.W": g["output.W"]}
    return {
        "the loss and its terms": terms,
        "the two paths to mu and logvar": _norms(into),
        "dz, and the first and the last weights": _norms(others),
    }


def paths(model: elbo.Model, objective: str, a: Buffers, d: Buffers) -> tuple[tuple[NDArray, NDArray], tuple[NDArray, NDArray]]:
    """The derivatives of mu and logvar along each of their two paths, after `backward` has filled d.

    Returns
    -------
    through_z, through_kl : tuple
        (dmu, dlogvar) of each path. Their sums are d.mu and d.logvar.
    """
    zeros, kernels = np.zeros_like, model.kernels
    through_z = kernels.reparameterize_backward_add(d.z, a.mu, a.logvar, a.eps, zeros(d.mu), zeros(d.logvar))
    divergence_backward = vars(kernels)[f"{OBJECTIVES[objective].divergence}_backward"]
    _, *through_kl = divergence_backward(d.kl, a.mu, a.logvar, a.eps, a.z, zeros(d.z), zeros(d.mu), zeros(d.logvar))
    return through_z, tuple(through_kl)


def _norms(arrays):
    return {f"norm of {name}": float(np.linalg.norm(array)) for name, array in arrays.items()}


def _charts(measured, logs):
    """The Charts of what was measured at each value; logs holds the logarithmic axes of each chart."""
    return tuple(
        Chart(title, {label: [float(at[title][label]) for at in measured] for label in numbers}, log)
        for (title, numbers), log in zip(measured[0].items(), logs)
    )


def _samples(p, x, beta, here):
    """The Dial of L: the loss by each bound, and the spread of its gradient over repeated draws of eps."""
    values, losses, errors, spreads = sorted({*SAMPLES, here}), {}, {}, {}
    for L in values:
        n = max(DRAWS // L, 2)
        # Every L gets the same noise, in groups of L.
        eps = streams.normals(0, "study", 0, (n * L, len(x), p.architecture.n_latent), np.float64)
        for objective in OBJECTIVES:
            per_draw, dmu, _ = _repeated(p, x, eps.reshape(n, L, *eps.shape[1:]), beta, objective)
            spreads.setdefault(f"standard deviation of dmu with {objective}", []).append(
                float(np.sqrt(dmu.var(axis=0, ddof=1).sum()))
            )
            if OBJECTIVES[objective].sampled:  # with one sample, these two are the same number
                of_draw, label = per_draw.mean(axis=1), f"loss with {objective}, nats"
                losses.setdefault(label, []).append(float(of_draw.mean()))
                errors.setdefault(label, []).append(float(of_draw.std(ddof=1) / n**0.5))
    words = (
        "Each gradient is estimated from L samples per example, many times over. Its standard deviation falls about as 1 / sqrt(L). "
        "The loss with elbo_mc keeps its mean, which is also that of elbo. The loss with iwae is the same number at L = 1, and it "
        "falls as L grows: the bound on -log p(x) becomes tighter. A bar shows one standard error of a mean up and one down. "
        "All points come from the same draws, so that their differences are more exact than the bars."
    )
    charts = (
        Chart("the loss without L2, averaged over the draws", losses, "x", errors),
        Chart("the spread of dmu over the draws", spreads, "xy"),
    )
    return Dial(
        "samples", "The number of samples", words, "L, the samples per example", list(map(float, values)), float(here), charts
    )


# ---------------------------------------------------------------------------------------------------------- estimators


class Estimate(NamedTuple):
    """An estimator of a derivative, over many draws of eps."""

    mean: NDArray  #            (B, Z)
    standard_error: NDArray  #  (B, Z)  of the mean
    variance: NDArray  #        (B, Z)  of one draw
    ratio: float  # the sum of its variances, divided by that of the reparameterised gradient
    draws: NDArray  #           (n_draws,)  of the element that `Estimators.element` names


class Estimators(NamedTuple):
    """{name: Estimate} of dmu and of dlogvar: "reparameterised", "score function" and "score function with baseline"."""

    n_draws: int
    dmu: dict[str, Estimate]
    dlogvar: dict[str, Estimate]
    element: tuple[int, int]  # the example and the latent whose mean dmu is largest


@blas.limited()
def estimators(p: Parameters, x: ArrayLike, n_draws: int = 2000, seed: int = 0) -> Estimators:
    """Three estimators of one gradient from the same draws: d E_q[nll] / d mu and d logvar, where nll is the mean over the batch.

    reparameterised: of each draw, the model's own dmu and dlogvar at beta = 0. It needs d nll / dz.
    score function: nll d log q(z) / dmu = nll eps / exp(logvar / 2), and nll d log q(z) / dlogvar = nll (eps^2 - 1) / 2, because
    log q = -1/2 sum (log 2 pi + logvar + (z - mu)^2 / exp(logvar)) and eps = (z - mu) / exp(logvar / 2). Here z is held where it
    was drawn, and nll need not have a derivative: d/dmu of the integral of q nll is the integral of q (d log q / dmu) nll.
    score function with baseline: the same, after the mean nll of the other draws is subtracted from nll. The score of a draw has
    the mean 0 and is independent of the other draws, so the mean of the estimator does not change.

    Parameters
    ----------
    p : Parameters
        The parameters of the model.
    x : array (B, D)
        The examples.
    n_draws : int
        The number of draws of eps, at least 2.
    seed : int
        The seed of the draws.

    Raises
    ------
    TypeError, ValueError
        An argument is of the wrong kind, shape or range.

    References
    ----------
    Williams 1992 (REINFORCE); Kingma & Welling 2014, section 2.2; Rezende et al. 2014; Mohamed et al. 2020 (arXiv 1906.10652).
    """
    elbo.check_parameters(p)
    n_draws, seed, x = check_count("n_draws", n_draws, least=2), streams.check_seed(seed), p.architecture.check_inputs(x)
    p, B = p.astype("float64"), len(x)
    eps = streams.normals(seed, "study", 1, (n_draws, B, p.architecture.n_latent), np.float64)
    nll, dmu, dlogvar = _repeated(p, x, eps[:, None], 0.0, "elbo")
    above_others = (nll - nll.mean(axis=0)) * n_draws / (n_draws - 1)  # nll minus its mean over the other draws

    b, j = map(int, np.unravel_index(np.abs(dmu.mean(axis=0)).argmax(), dmu.shape[1:]))

    def compared(reparameterised, score):
        draws = {
            "reparameterised": reparameterised,
            "score function": nll[:, :, None] / B * score,
            "score function with baseline": above_others[:, :, None] / B * score,
        }
        variances = {name: gradients.var(axis=0, ddof=1) for name, gradients in draws.items()}
        unit = variances["reparameterised"].sum()
        return {
            name: Estimate(
                of.mean(axis=0), np.sqrt((v := variances[name]) / n_draws), v, float(v.sum() / unit), of[:, b, j].copy()
            )
            for name, of in draws.items()
        }

    std = np.exp(elbo.encode(p, x)[1] / 2)
    return Estimators(n_draws, compared(dmu, eps / std), compared(dlogvar, (eps**2 - 1) / 2), (b, j))


# ------------------------------------------------------------------------------------------------- passes of the model


def whole_pass(
    p: Parameters, x: ArrayLike, eps: ArrayLike, beta: float, objective: str, n_examples: int
) -> tuple[elbo.Model, Buffers, Buffers]:
    """The model and its buffers of values and of derivatives, after `forward` and `backward`."""
    model, p, a, *_ = elbo.prepare(p, x, eps, beta, 0.0, objective, "numpy")
    L, B, _ = a.eps.shape
    d = buffers(p.architecture, objective, L, B, np.float64)
    model.forward(p.layers, a, beta)
    model.backward(p.layers, a, d, beta, n_examples)
    return model, a, d


def _repeated(p, x, eps, beta, objective):
    """The losses (N, B), dmu and dlogvar (N, B, Z) of N passes over x, each with its own eps: (N, L, B, Z).

    Several passes are run at once, as if the batch had more examples. The loss of each pass is the mean over x alone.
    """
    *_, B, Z = eps.shape
    parts = []
    for rows, some in some_at_a_time(x, eps):
        _, a, d = whole_pass(p, rows, some, beta, objective, B)
        parts.append((a.loss.reshape(-1, B), d.mu.reshape(-1, B, Z), d.logvar.reshape(-1, B, Z)))
    return tuple(map(np.concatenate, zip(*parts)))
