"""The course of a training: what its snapshots make of the same examples."""

import html
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vae_np import blas, elbo
from vae_np.choices import OBJECTIVES
from vae_np.parameters import Parameters
from vae_np.study import chart, controls
from vae_np.study.dials import paths, whole_pass
from vae_np.study.pictures import images
from vae_np.study.typesetting import number

POINTS = 240  # rows in the picture of the latents, at most
MOST_LABELS = 12  # that have a colour each
SIDE, LEFT, TOP = 300, 40, 24  # of that picture: its side, and where it begins


class Moment(NamedTuple):
    """What the parameters after an epoch make of the examples and of the rows."""

    epoch: int
    means: NDArray  #    (B, D)  of p(x|z), where z is the mean of q(z|x)
    latents: NDArray  #  (N, 2)  two of the means of q(z|x) of the rows; (N, 1) for a model with one latent
    loss: float  # of the examples, in nats
    through_z: float  # the norm of the part of dmu that comes through z
    through_kl: float  # and of the part that comes from the KL


class Course(NamedTuple):
    """The Moments of a training, in the order of their epochs."""

    x: NDArray  # (B, D)  the examples
    moments: list[Moment]
    shown: list[int]  # which latents those of the Moments are: the two that vary most over the rows at the end
    labels: NDArray | None  # (N,) of the rows
    rows: str  # what the rows are, in words
    sampled: bool  # whether the objective estimates the KL from the samples


@blas.limited()
def course(
    snapshots: Mapping[int, Parameters],
    x: ArrayLike,
    eps: ArrayLike,
    beta: float,
    l2: float,
    objective: str,
    rows: NDArray,
    labels: NDArray | None,
    of_rows: str,
) -> Course:
    """The Course of a training whose snapshots are {epoch: parameters}, the last of them those that the training gave.

    Parameters
    ----------
    snapshots : mapping
        {epoch: the parameters after it}
    x, eps, beta, l2, objective
        They are those of the page.
    rows : array (N, D)
        Rows of the data, of which at most POINTS are encoded.
    labels : array (N,), optional
        Their labels.
    of_rows : str
        What the rows are, in words.
    """
    some = np.unique(np.linspace(0, len(rows) - 1, min(len(rows), POINTS)).astype(int))
    last = snapshots[max(snapshots)].astype("float64")
    x = elbo.prepare(last, x, eps, beta, l2, objective, "numpy")[2].x
    shown = sorted(np.argsort(-elbo.encode(last, rows[some])[0].std(axis=0))[:2].tolist())
    moments = []
    for epoch, p in sorted(snapshots.items()):
        p = p.astype("float64")
        model, a, d = whole_pass(p, x, eps, beta, objective, len(x))
        (through_z, _), (through_kl, _) = paths(model, objective, a, d)
        moments.append(
            Moment(
                epoch,
                elbo.decode(p, a.mu),
                elbo.encode(p, rows[some])[0][:, shown],
                elbo.value_of(model, p, a, l2).total,
                float(np.linalg.norm(through_z)),
                float(np.linalg.norm(through_kl)),
            )
        )
    return Course(
        x, moments, shown, None if labels is None else np.asarray(labels)[some], of_rows, OBJECTIVES[objective].sampled
    )


def along(of: Course, image_shape: tuple[int, ...] | None) -> str:
    """The HTML of this part: a slider over the snapshots, and what follows it."""
    epochs, last = [moment.epoch for moment in of.moments], len(of.moments) - 1
    places = [float(epoch + 1) for epoch in epochs]
    norms = {
        "norm of dmu through z": [moment.through_z for moment in of.moments],
        "norm of dmu through the KL": [moment.through_kl for moment in of.moments],
    }
    losses = {"loss, nats": [moment.loss for moment in of.moments]}
    axis = "1 + epochs of training"
    charts = "".join(
        chart.lines(title, axis, places, curves, places[last], "x", colours=controls.colours_of(curves))
        for title, curves in (("the two paths into mu", norms), ("the loss of the examples", losses))
    )
    numbers = ""
    for label, values in (norms | losses).items():
        texts = [number(value) for value in values]
        numbers += f"<div><dt>{label}</dt><dd {controls.following(texts)}>{texts[last]}</dd></div>"
    pictures = ""
    if image_shape:
        strips = "".join(
            _case(i, last, images(moment.means, image_shape, f"the mean of p(x|z) after {moment.epoch} epochs"))
            for i, moment in enumerate(of.moments)
        )
        after = f"<span {controls.following(list(map(str, epochs)))}>{epochs[last]}</span>"
        pictures = (
            f"<figure>{images(of.x, image_shape, 'the examples x')}{strips}<figcaption>The first row shows the examples x. The second "
            f"row shows what the decoder makes of the mean of q(z|x) of each, after {after} epochs.</figcaption></figure>"
        )
    plane = ""
    if of.moments[0].latents.shape[1] == 2:
        of_colours = " The colour of a point is its label." if _colours(of) else ""
        drawn = "".join(_case(i, last, _latents(of, moment)) for i, moment in enumerate(of.moments))
        plane = f"<figure>{drawn}{_legend(of)}<figcaption>Each point is the mean of q(z|x) for one of {_size(of)}{of_colours}</figcaption></figure>"
    sampled = (
        "This objective estimates the KL from the samples, so the KL acts on mu through z, and the path from the KL itself is 0."
        if of.sampled
        else "The KL is in closed form here, so the norm along the path from it is the norm of mu, times beta / B."
    )
    return f"""<p>The training kept its parameters after a few epochs, which lie further and further apart. Move the slider to see what each
of them makes of the same examples, with the same eps. {sampled}</p>
<div class="group" id="course">{controls.slider("epochs of training", list(map(str, epochs)), last)}
<div class="charts">{pictures}{plane}<div>{charts}</div></div><dl>{numbers}</dl></div>"""


def _case(i, last, content):
    return f'<div data-case="{i}"{" hidden" * (i != last)}>{content}</div>'


def _size(of):
    which = " Of all latents, these two vary most over the rows at the end of the training." if of.shown != [0, 1] else ""
    return f"{len(of.moments[0].latents)} {html.escape(of.rows)}: latent {of.shown[0]} to the right and latent {of.shown[1]} up.{which}"


def _colours(of):
    """{label: its colour}; one colour for all where there are no labels, or too many."""
    labels = [] if of.labels is None else sorted(set(of.labels.tolist()))
    if not 1 < len(labels) <= MOST_LABELS:
        return {}
    return {label: f"oklch(0.62 0.16 {360 * i // len(labels)})" for i, label in enumerate(labels)}


def _legend(of):
    items = "".join(
        f'<li><i class="colour" style="background: {colour}"></i>{html.escape(str(label))}</li>'
        for label, colour in _colours(of).items()
    )
    return f'<ul class="legend" aria-label="In this picture a colour is a label">{items}</ul>' if items else ""


def _latents(of, moment):
    """The SVG of the latents at one moment, on axes that all moments share."""
    everywhere, colours = np.concatenate([each.latents for each in of.moments]), _colours(of)
    (ticks_x, x), (ticks_y, y) = (
        chart.scale([float(axis.min()), float(axis.max())], *ends, False)
        for axis, ends in zip(everywhere.T, ((LEFT, LEFT + SIDE), (TOP + SIDE, TOP)))
    )
    bottom, parts = TOP + SIDE, [chart.text(0, 12, f"the latents after {moment.epoch} epochs", "start", ' font-weight="600"')]
    parts.append(f'<rect x="{LEFT}" y="{TOP}" width="{SIDE}" height="{SIDE}" stroke="currentColor" stroke-width="1"/>')
    parts += [chart.text(x(tick), bottom + 16, chart.tick_text(tick)) for tick in ticks_x]
    parts += [chart.text(LEFT - 6, y(tick) + 4, chart.tick_text(tick), "end") for tick in ticks_y]
    of_label = {label: of.labels == label for label in colours} or {None: np.full(len(moment.latents), True)}
    for label, chosen in of_label.items():
        points = "".join(f"M{x(first):.0f} {y(second):.0f}h0" for first, second in moment.latents[chosen])
        parts.append(f'<path d="{points}" stroke="{colours.get(label, "currentColor")}"/>')
    spread = ", ".join(
        f"latent {i} from {number(axis.min())} to {number(axis.max())}" for i, axis in zip(of.shown, moment.latents.T)
    )
    return (
        f'<svg class="latents" xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {LEFT + SIDE + 10} {bottom + 24}" role="img" fill="none" '
        'stroke-width="4.5" stroke-linecap="round" font-family="system-ui, sans-serif" font-size="12">'
        f"<title>the latents after {moment.epoch} epochs</title><desc>{len(moment.latents)} points: {spread}.</desc>{''.join(parts)}</svg>"
    )
