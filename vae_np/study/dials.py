"""How the gradients answer when one thing about a run is changed, and how much noise is in them, computed ahead.

Every number comes from the text of the model itself, run forward and backward in NumPy's double precision. The parameters
stay what they are: a dial shows the derivatives elsewhere, not where training would go.
"""

from typing import NamedTuple

import numpy as np

from vae_np import blas, elbo, noise
from vae_np.architecture import check_count
from vae_np.parameters import Parameters

BETAS, SHIFTS, FACTORS = np.linspace(0, 4, 17), np.linspace(-4, 4, 17), np.linspace(0, 3, 13)
SAMPLES = 1, 2, 5, 10, 20, 50
DRAWS = 400  # of eps for each example and each number of samples, however they are grouped
ROWS = 200  # samples at a time, so that memory does not grow with the draws


class Chart(NamedTuple):
    """Curves that go together: {label: a number for each of the dial's values}. log: its logarithmic axes, of "x" and "y"."""

    title: str
    curves: dict
    log: str = ""


class Dial(NamedTuple):
    """What moves, and what each of its values makes of the derivatives; `here` is the value of the run itself."""

    name: str
    title: str
    words: str
    axis: str
    values: list
    here: float
    charts: tuple

    @property
    def curves(self):
        """{label: curve} of all charts"""
        return {label: curve for chart in self.charts for label, curve in chart.curves.items()}


# --------------------------------------------------------------------------------------------------------------- dials

WORDS = {  # of a dial: what moves, and what each form of the KL makes of it
    "beta": {
        "moves": "The KL is multiplied by beta.",
        "gaussian_kl": "What comes through it into mu and logvar grows in proportion. What comes through z does not know beta, and "
        "neither does any gradient of the decoder.",
        "sampled_kl": "This objective takes the KL from the samples: what it gives mu and logvar comes through z, too, and directly "
        "only -beta / (2 B) into each logvar. So both paths depend on beta.",
    },
    "logvar": {
        "moves": "A number is added to logvar, and all that follows is computed anew: to the right more of z is noise.",
        "gaussian_kl": "Through the KL come beta mu / B into mu, whatever the width, and beta (exp(logvar) - 1) / (2 B) into logvar: "
        "nothing where q is as wide as the prior.",
        "sampled_kl": "This objective takes the KL from the samples: directly from it come 0 into mu and -beta / (2 B) into each "
        "logvar, whatever the width. What tells one width from another comes through z.",
    },
    "eps": {
        "moves": "The noise is multiplied by a number. At 0 every z is mu, and nothing reaches logvar through z.",
        "gaussian_kl": "The KL, in closed form, does not look at eps.",
        "sampled_kl": "This objective takes the KL from the samples, which is right on average for noise of variance 1: at the "
        "factor 1, and at no other.",
    },
}


@blas.limited()
def dials(p, x, eps, beta=1.0, l2=0.0, objective="elbo"):
    """The Dials "beta", "logvar", "eps" and "samples" of a run; the arguments and errors of `vae_np.loss_and_gradients`."""
    elbo._check_parameters(p)
    _, p, a, beta, l2 = elbo._prepare(p.astype("float64"), x, eps, beta, l2, objective, "numpy")
    x, eps, divergence = a.x, a.eps, elbo.OBJECTIVES[objective]["divergence"]

    def dial(name, title, axis, values, here, changed, logs=("", "", "")):
        values = sorted({*map(float, values), float(here)})
        settings = [{"p": p, "eps": eps, "beta": beta, **changed(value)} for value in values]
        charts = _charts([_measured(x=x, l2=l2, objective=objective, **setting) for setting in settings], logs)
        words = f"{WORDS[name]['moves']} {WORDS[name][divergence]}"
        return Dial(name, title, words, axis, values, float(here), charts)

    def wider(shift):
        q = p.copy()
        q["logvar.b"][...] += shift  # adds the number to logvar itself
        return {"p": q}

    return [
        dial("beta", "The weight of the KL", "beta", BETAS, beta, lambda value: {"beta": value}),
        dial("logvar", "The width of q(z|x)", "added to logvar", SHIFTS, 0, wider, ("", "y", "y")),
        dial("eps", "The size of the noise", "factor on eps", FACTORS, 1, lambda factor: {"eps": factor * eps}),
        _samples(p, x, beta, len(eps)),
    ]


def _measured(p, x, eps, beta, l2, objective):
    """What the charts show at one setting: {title of a chart: {label: number}}"""
    text, a, d = _passed(p, x, eps, beta, objective, len(x))
    g = Parameters.zeros(p.architecture)
    text.weight_gradients(p.layers, a, d, g.layers, l2)
    value, first = elbo.value_of(text, p, a, l2), next(iter(g))
    terms = {"loss, nats": value.total, "reconstruction, nats": value.reconstruction, "KL, nats": value.kl}
    (dmu_z, dlogvar_z), (dmu_kl, dlogvar_kl) = paths(text, objective, a, d)
    into = {"dmu through z": dmu_z, "dmu through the KL": dmu_kl}
    into |= {"dlogvar through z": dlogvar_z, "dlogvar through the KL": dlogvar_kl}
    others = {"dz": d.z, f"the gradient of {first}": g[first], "the gradient of output.W": g["output.W"]}
    return {
        "the loss and its terms": terms,
        "the two paths into mu and logvar": _norms(into),
        "dz, and the first and the last weights": _norms(others),
    }


def paths(text, objective, a, d):
    """(dmu, dlogvar) through z, and (dmu, dlogvar) through the KL, after `backward` has filled d: their sums are d.mu, d.logvar."""
    zeros, divergence = np.zeros_like, elbo.OBJECTIVES[objective]["divergence"]
    through_z = text.kernels.reparameterize_backward_add(d.z, a.mu, a.logvar, a.eps, zeros(d.mu), zeros(d.logvar))
    divergence_backward = getattr(text.kernels, f"{divergence}_backward")
    _, *through_kl = divergence_backward(d.kl, a.mu, a.logvar, a.eps, a.z, zeros(d.z), zeros(d.mu), zeros(d.logvar))
    return through_z, tuple(through_kl)


def _norms(arrays):
    return {f"norm of {name}": float(np.linalg.norm(array)) for name, array in arrays.items()}


def _charts(measured, logs):
    """The Charts of what was measured at each value, and their logarithmic axes."""
    return tuple(
        Chart(title, {label: [float(at[title][label]) for at in measured] for label in numbers}, log)
        for (title, numbers), log in zip(measured[0].items(), logs)
    )


def _samples(p, x, beta, here):
    """The Dial of L: the loss by each bound, and the spread of its gradient over repeated draws of eps."""
    values, measured = sorted({*SAMPLES, here}), []
    for L in values:
        n = max(DRAWS // L, 2)
        # The same noise for every L, in groups of L.
        eps = noise.normals(0, "study", 0, (n * L, len(x), p.architecture.n_latent), np.float64)
        loss, spread = {}, {}
        for objective in ("elbo", "iwae"):
            losses, dmu, _ = _repeated(p, x, eps.reshape(n, L, *eps.shape[1:]), beta, objective)
            loss[f"loss by {objective}, nats"] = losses.mean()
            spread[f"standard deviation of dmu by {objective}"] = np.sqrt(dmu.var(axis=0, ddof=1).sum())
        measured.append(
            {"the loss without L2, its mean over the draws": loss, "how far one draw's dmu is from its mean": spread}
        )
    words = (
        "Each gradient is taken from L samples of each example, many times over. By elbo its standard deviation falls as "
        "1 / sqrt(L), and the loss keeps its mean. By iwae the loss falls as L grows: the bound on -log p(x) becomes tighter."
    )
    axis, values = "L, the samples of each example", list(map(float, values))
    return Dial("samples", "The number of samples", words, axis, values, float(here), _charts(measured, ("x", "xy")))


# ---------------------------------------------------------------------------------------------------------- estimators


class Estimate(NamedTuple):
    """An estimator of a derivative, over many draws of eps."""

    mean: np.ndarray  #            (B, Z)
    standard_error: np.ndarray  #  (B, Z)  of the mean
    variance: np.ndarray  #        (B, Z)  of one draw
    ratio: float  # all its variances, summed, in units of the reparameterised gradient's


class Estimators(NamedTuple):
    """{name: Estimate} of dmu and of dlogvar: "reparameterised", "score function" and "score function with baseline"."""

    n_draws: int
    dmu: dict
    dlogvar: dict


@blas.limited()
def estimators(p, x, n_draws=2000, seed=0):
    """Three estimators of one gradient, d E_q[nll] / d mu and d logvar (the batch's mean of nll), from the same draws: Estimators.

    reparameterised: of each draw the text's own dmu and dlogvar at beta = 0. It needs d nll / dz.
    score function: nll d log q(z) / dmu = nll eps / exp(logvar / 2), and nll d log q(z) / dlogvar = nll (eps^2 - 1) / 2, as
    log q = -1/2 sum (log 2 pi + logvar + (z - mu)^2 / exp(logvar)) and eps = (z - mu) / exp(logvar / 2). z is held where it
    was drawn, and nll need not have a derivative: d/dmu of the integral of q nll is that of q (d log q / dmu) nll.
    score function with baseline: the same with nll less its mean over the other draws. A draw's score has the mean 0 and is
    independent of the other draws, so that the mean stays what it is.

    Williams 1992 (REINFORCE); Kingma & Welling 2014, section 2.2; Rezende et al. 2014; Mohamed et al. 2020 (arXiv 1906.10652).
    """
    elbo._check_parameters(p)
    n_draws, seed, x = check_count("n_draws", n_draws, least=2), noise.check_seed(seed), p.architecture.check_inputs(x)
    p, B = p.astype("float64"), len(x)
    eps = noise.normals(seed, "study", 1, (n_draws, B, p.architecture.n_latent), np.float64)
    nll, dmu, dlogvar = _repeated(p, x, eps[:, None], 0.0, "elbo")
    above = (nll - nll.mean(axis=0)) * n_draws / (n_draws - 1)  # nll less its mean over the other draws

    def compared(reparameterised, score):
        draws = {
            "reparameterised": reparameterised,
            "score function": nll[:, :, None] / B * score,
            "score function with baseline": above[:, :, None] / B * score,
        }
        variances = {name: gradients.var(axis=0, ddof=1) for name, gradients in draws.items()}
        unit = variances["reparameterised"].sum()
        return {
            name: Estimate(draws[name].mean(axis=0), np.sqrt(variance / n_draws), variance, float(variance.sum() / unit))
            for name, variance in variances.items()
        }

    std = np.exp(elbo.encode(p, x)[1] / 2)
    return Estimators(n_draws, compared(dmu, eps / std), compared(dlogvar, (eps**2 - 1) / 2))


# ------------------------------------------------------------------------------------------------- passes of the text


def _passed(p, x, eps, beta, objective, n_examples):
    """The text and its nodes, values and derivatives, after `forward` and `backward`."""
    text, p, a, *_ = elbo._prepare(p, x, eps, beta, 0.0, objective, "numpy")
    d = elbo.nodes(p.architecture, objective, *a.eps.shape[:2], np.float64)
    text.forward(p.layers, a, beta)
    text.backward(p.layers, a, d, beta, n_examples)
    return text, a, d


def _repeated(p, x, eps, beta, objective):
    """The losses (N, B), dmu and dlogvar (N, B, Z) of N passes over x, each with its own eps: (N, L, B, Z).

    To the text a pass is some more examples; each pass's loss is the mean over x alone.
    """
    _, L, B, Z = eps.shape
    n, parts = max(ROWS // (L * B), 1), []
    for start in range(0, len(eps), n):
        some = eps[start : start + n]
        as_examples = some.transpose(1, 0, 2, 3).reshape(L, -1, Z)
        _, a, d = _passed(p, np.tile(x, (len(some), 1)), as_examples, beta, objective, B)
        parts.append((a.loss.reshape(-1, B), d.mu.reshape(-1, B, Z), d.logvar.reshape(-1, B, Z)))
    return tuple(map(np.concatenate, zip(*parts)))
