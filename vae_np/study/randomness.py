"""Why randomness does not block the gradient: z drawn from q, beside z computed from mu, sigma and a held eps."""

import html
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vae_np import blas, elbo, streams
from vae_np.buffers import buffers
from vae_np.study import chart, controls
from vae_np.study.dials import Estimators
from vae_np.study.estimates import expectations_of_layers
from vae_np.study.histograms import histograms
from vae_np.study.lines import Lines
from vae_np.study.typesetting import number

OFFSETS = np.linspace(-2, 2, 17)  # numbers that are added to mu
DRAWN, HELD = "nll if z is drawn anew for each mu", "nll if eps is held"


class Moved(NamedTuple):
    """z and nll of the first sample of an example, in nats, while mu of one of its latents changes; z is that of this latent."""

    example: int
    latent: int
    sigma: float
    eps: float
    mu: NDArray  #          (17,)
    z: NDArray  #           (17,)
    nll: NDArray  #         (17,)
    slope: NDArray  #       (17,)  d nll / d mu for held eps, by the lines of `backward`
    z_drawn: NDArray  #     (17,)  with a new draw for each mu
    nll_drawn: NDArray  #   (17,)


@blas.limited()
def moved(trace: Lines, example: int, latent: int) -> Moved:
    """What the slider shows, computed by the model of the trace."""
    n, eps = len(OFFSETS), np.repeat(trace.a.eps[:1, example], len(OFFSETS), axis=0)  # (17, Z)
    drawn = eps.copy()
    drawn[:, latent] = streams.normals(0, "study", 3, (1, n, 1), np.float64)[0, :, 0]
    mu = np.repeat(trace.a.mu[example][None], n, axis=0)
    mu[:, latent] += OFFSETS
    logvar = np.repeat(trace.a.logvar[example][None], n, axis=0)
    x = np.repeat(trace.a.x[example][None], n, axis=0)
    (z, nll, slope), (z_drawn, nll_drawn, _) = (_pass(trace.p, x, mu, logvar, noise, latent) for noise in (eps, drawn))
    sigma = float(np.exp(logvar[0, latent] / 2))
    return Moved(example, latent, sigma, float(eps[0, latent]), mu[:, latent], z, nll, slope, z_drawn, nll_drawn)


def _pass(p, x, mu, logvar, eps, latent):
    """z of the latent, nll, and its derivative by mu, of each row: with the lines of the text from mu and logvar on."""
    model, p, a, *_ = elbo.prepare(p, x, eps, 0.0, 0.0, "elbo", "numpy")
    d = buffers(p.architecture, "elbo", 1, len(x), np.float64)
    model.forward(p.layers, a, 0.0)  # fills the encoder
    a.mu[...], a.logvar[...] = mu, logvar
    model.kernels.reparameterize(a.mu, a.logvar, a.eps, a.z)
    model.decoder(p.layers, a)
    vars(model.kernels)[f"{p.architecture.likelihood}_nll"](a.output, a.output_logvar, a.x, a.nll)
    model.backward(p.layers, a, d, 0.0, 1)  # at beta = 0 and for one example, the loss is nll
    return a.z[0, :, latent].copy(), a.nll[0].copy(), d.mu[:, latent].copy()


def randomness(trace: Lines, estimators: Estimators | None = None) -> str:
    """The HTML of this part; estimators adds their histograms."""
    example, latent = estimators.element if estimators else _steepest(trace)
    of = moved(trace, example, latent)
    here = len(OFFSETS) // 2
    name = f"mu of example {example}, latent {latent}"
    curves = {HELD: list(of.nll), DRAWN: list(of.nll_drawn)}
    slopes = {HELD: list(of.slope)}
    picture = chart.lines(
        "one sample of an example, in nats",
        name,
        list(of.mu),
        curves,
        of.mu[here],
        colours=controls.colours_of(()),
        slopes=slopes,
    )
    texts = {
        "mu": [number(mu) for mu in of.mu],
        "z, if eps is held": [
            f"{number(mu)} + {number(of.sigma)} × {number(of.eps)} = {number(z)}" for mu, z in zip(of.mu, of.z)
        ],
        "nll, if eps is held": [f"{number(nll)} nats" for nll in of.nll],
        "its slope with respect to mu": [number(slope) for slope in of.slope],
        "z, if it is drawn": [number(z) for z in of.z_drawn],
        "nll, if z is drawn": [f"{number(nll)} nats" for nll in of.nll_drawn],
    }
    numbers = "".join(
        f"<div><dt>{words}</dt><dd {controls.following(of_case)}>{of_case[here]}</dd></div>" for words, of_case in texts.items()
    )
    which = "has the largest mean derivative" if estimators else "has the largest derivative"
    return f"""<p>The derivative of the loss with respect to mu must pass through z, and z is random. How can that be? The two graphs
below have the same distribution of z, and only the right one has a path for the derivative.</p>
<div class="group" id="randomness-dial"><div class="charts">
<figure>{_drawn_graph()}<figcaption>z is drawn from q itself. The draw is no function of mu: the same mu gives another z each time. So
z has no derivative with respect to mu, and no derivative passes through the draw.</figcaption></figure>
<figure>{_held_graph()}<figcaption>eps is drawn first and then held, as an input. Now z = mu + sigma eps is a function of mu and sigma. Its
derivatives are 1 and eps, and the derivative of nll passes through z to both.</figcaption></figure></div>
<p>Move mu of one latent: example {example}, latent {latent}, which {which}. Its sigma is {number(of.sigma)}, and its eps in the first
sample is {number(of.eps)}. If eps is held, nll is a smooth function of mu. The short thick line has the slope that the backward pass
computes. If z is drawn anew for each mu, nll jumps, and the difference of two of its values
tells no slope.</p>
{controls.slider(name, texts["mu"], here)}
<div class="charts">{picture}<dl class="stacked">{numbers}</dl></div></div>
<p>A slope for one eps is itself random. But the distribution of eps does not depend on mu. So the mean of the slope over eps is the
derivative of the mean of nll, and this is what training follows.</p>
{_spread(trace, estimators) if estimators else ""}"""


def _steepest(trace):
    """The example and the latent whose mu has the largest derivative in the loss."""
    dmu = [array.value for line in trace for array in line.writes if array.name == "dmu"][-1]
    return tuple(map(int, np.unravel_index(np.abs(dmu).argmax(), dmu.shape)))


def _spread(trace, estimators):
    """The histograms of the estimators, and the mean that all of them have."""
    b, j = estimators.element
    mean = expectations_of_layers(trace.p, trace.a.x, 1, 0.0, "elbo", ["total"])["total"]["dmu"]
    error = mean.error[b, j]
    what = f"the mean over {mean.n_draws} draws" if mean.n_draws else "the exact mean"
    picture = histograms(
        f"dmu of example {b}, latent {j}, in {estimators.n_draws} draws",
        "derivative of E[nll] by this mu, estimated from one sample",
        {name: estimate.draws for name, estimate in estimators.dmu.items()},
        float(mean.mean[b, j]),
        what,
    )
    exactness = (
        f"The line shows the mean of the reparameterised gradient over {mean.n_draws} other draws: {number(mean.mean[b, j])}, with a "
        f"standard error of {error:.1g}."
        if mean.n_draws
        else f"The line shows the exact mean, {number(mean.mean[b, j])}, which is an integral by Gauss-Hermite quadrature."
    )
    return f"""<h3>How far the estimates spread</h3>
<p>There is a way that needs no path through z: the score function. It multiplies nll by the derivative of log q(z) with respect to mu,
with z held where it was drawn. Its mean is the same, but its draws lie much further apart. Each row below shows the same derivative in
{estimators.n_draws} draws, each from one sample. It is divided by the number of examples, B = {len(trace.a.x)}, as in the loss.
{exactness}</p>
<div class="charts">{picture}</div>
<p>The variances of all derivatives stand <a href="#estimators">in a table among the dials</a>.</p>"""


# ------------------------------------------------------------------------------------------------------------ the graphs


def _drawn_graph():
    parts = _node(70, 40, "μ") + _node(70, 130, "σ") + _node(190, 85, "z ~ N(μ, σ²)", 96, True) + _node(310, 85, "nll")
    parts += _edge(90, 47, 142, 70) + _edge(90, 123, 142, 100) + _edge(238, 85, 288, 85) + _back(288, 99, 238, 99)
    for y, to_y in ((60, 26), (110, 144)):
        parts += _back(158, y, 92, to_y)
        parts += f'<path d="M119 {(y + to_y) // 2 - 6}l12 12m0 -12l-12 12" stroke="currentColor" stroke-width="2.5"/>'
    words = (
        "Arrows lead from mu and sigma to z, which is drawn, and from z to nll. The derivative comes back from nll to z, and ends there: "
        "crosses stand on the way to mu and sigma."
    )
    return _graph("z is drawn from q", words, parts)


def _held_graph():
    parts = _node(70, 20, "μ") + _node(70, 85, "σ") + _node(70, 150, "ε, held", 64, True) + _node(190, 85, "z = μ + σ ε", 96)
    parts += (
        _node(310, 85, "nll")
        + _edge(90, 26, 150, 66)
        + _edge(90, 85, 142, 85)
        + _edge(102, 146, 150, 104)
        + _edge(238, 85, 288, 85)
    )
    parts += _back(288, 99, 238, 99) + _back(168, 62, 92, 12) + _back(142, 97, 92, 97)
    parts += chart.text(146, 26, "× 1", "start") + chart.text(112, 116, "× ε")
    words = (
        "Arrows lead from mu, sigma and the held eps to z, and from z to nll. The derivative comes back from nll to z, and from there to mu, "
        "where it is multiplied by 1, and to sigma, where it is multiplied by eps."
    )
    return _graph("z is computed from mu, sigma and eps", words, parts)


def _graph(title, words, parts):
    legend = _edge(8, 196, 38, 196) + chart.text(46, 200, "value", "start") + _back(132, 196, 102, 196)
    legend += chart.text(140, 200, "derivative of nll", "start")
    return (
        '<svg class="graph" xmlns="http://www.w3.org/2000/svg" viewBox="0 -4 360 214" role="img" overflow="visible" fill="none" '
        f'font-family="system-ui, sans-serif" font-size="13"><title>{html.escape(title)}</title><desc>{html.escape(words)}</desc>'
        f"{parts}{legend}</svg>"
    )


def _node(x, y, words, width=40, dashed=False):
    dash = ' stroke-dasharray="5 3"' if dashed else ""
    box = f'<rect x="{x - width / 2:g}" y="{y - 15}" width="{width}" height="30" rx="6" stroke="currentColor"{dash}/>'
    return box + chart.text(x, y + 5, words)


def _edge(x, y, to_x, to_y):
    return _arrow(x, y, to_x, to_y, 'class="value" stroke-width="1.5"')


def _back(x, y, to_x, to_y):
    return _arrow(x, y, to_x, to_y, 'class="derivative" stroke-width="1.5" stroke-dasharray="6 3"')


def _arrow(x, y, to_x, to_y, style):
    """A line with a head at its end."""
    angle = np.degrees(np.arctan2(to_y - y, to_x - x))
    head = f'<path d="M-8 -4L0 0L-8 4" transform="translate({to_x} {to_y}) rotate({angle:.0f})" stroke="currentColor" stroke-width="1.5"/>'
    return f'<path d="M{x} {y}L{to_x} {to_y}" {style} stroke="currentColor"/>{head}'
