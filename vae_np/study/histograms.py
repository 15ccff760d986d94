"""Histograms below each other on one axis, as a small SVG that is part of a page."""

import html
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from vae_np.study.chart import scale, text
from vae_np.study.typesetting import number

WIDTH, LEFT, RIGHT, TOP, ROW, HIGH = 360, 10, 350, 40, 52, 26  # of the picture, the axis, the rows, and the highest bar
BINS = 68  # over the whole axis
SHOWN = 0.005, 0.995  # the axis ends at these quantiles of the widest row


def histograms(title: str, axis: str, rows: Mapping[str, NDArray], mark: float, of_mark: str) -> str:
    """The SVG of several histograms. The highest bar of each row has the same height.

    Parameters
    ----------
    title, axis : str
        The title, and the label of the axis.
    rows : mapping
        {label: numbers (N,)}
    mark : float
        Where a vertical line stands through all rows.
    of_mark : str
        What the line shows.
    """
    ends = np.array([np.quantile(draws, SHOWN) for draws in rows.values()] + [[mark, mark]])
    low, high = float(ends[:, 0].min()), float(ends[:, 1].max())
    if low == high:  # nothing is random
        low, high = low - 1, high + 1
    ticks, x = scale([low, high], LEFT, RIGHT, False)
    edges = np.linspace(ticks[0], ticks[-1], BINS + 1)
    bottom = TOP + ROW * len(rows)
    parts = [text(0, 14, title, "start", ' font-weight="600"')]
    words = [f"The line through all rows shows {of_mark}, {number(mark)}."]
    for i, (label, draws) in enumerate(rows.items()):
        base, (counts, _) = TOP + ROW * (i + 1) - 6, np.histogram(draws, edges)
        outside = len(draws) - int(counts.sum())
        tops = (base - HIGH * counts / max(counts.max(), 1)).round(1)
        steps = "".join(f"V{top:g}H{x(edge):g}" for top, edge in zip(tops, edges[1:]))
        parts.append(f'<path class="bars" d="M{x(edges[0]):g} {base}{steps}V{base}z" fill="currentColor" fill-opacity=".55"/>')
        said = f"mean {number(draws.mean())}, s.d. {number(draws.std(ddof=1))}"
        parts += [text(LEFT, base - HIGH - 5, label, "start"), text(RIGHT, base - HIGH - 5, said, "end", ' font-size="11"')]
        beyond = f" {outside} of {len(draws)} draws lie beyond the ends of the axis." if outside else ""
        words.append(f"{label}: {said}.{beyond}")
    parts.append(f'<path d="M{LEFT} {bottom}H{RIGHT}" stroke="currentColor"/>')
    for tick in ticks:
        parts.append(f'<path d="M{x(tick)} {bottom}v4" stroke="currentColor"/>')
        parts.append(text(x(tick), bottom + 17, f"{tick:g}".replace("-", "−")))
    parts.append(f'<path class="mark" d="M{x(mark)} {TOP - 6}V{bottom}" stroke="currentColor" stroke-dasharray="4 3"/>')
    parts.append(text((LEFT + RIGHT) / 2, bottom + 34, axis))
    parts.append(f'<path d="M{LEFT} {bottom + 50}h26" stroke="currentColor" stroke-dasharray="4 3"/>')
    parts.append(text(LEFT + 34, bottom + 54, of_mark, "start"))
    return (
        f'<svg class="histograms" xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {bottom + 62}" role="img" '
        'overflow="visible" fill="none" font-family="system-ui, sans-serif" font-size="12">'
        f"<title>{html.escape(title)}</title><desc>{html.escape(' '.join(words))}</desc>{''.join(parts)}</svg>"
    )
