"""Histograms below each other on one axis, as a small SVG that is part of a page."""

import html
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from vae_np.study.chart import scale, text, tick_text
from vae_np.study.typesetting import number

WIDTH, LEFT, RIGHT, TOP, ROW, HIGH = 360, 10, 350, 40, 52, 26  # of the picture, the axis, the rows, and the highest bar
BINS = 68  # over the whole axis
SHOWN = 0.005, 0.995  # the axis ends at these quantiles of the widest row


def histograms(title: str, axis: str, rows: Mapping[str, NDArray], mark: float, of_mark: str, widest: float = np.inf) -> str:
    """The SVG of several histograms. The highest bar of each row that fits on the axis has the same height.

    Parameters
    ----------
    title, axis : str
        The title, and the label of the axis.
    rows : mapping
        {label: numbers (N,)}
    mark : float
        Where a vertical line stands in each row.
    of_mark : str
        What the line shows.
    widest : float
        A row whose standard deviation is more than this times the median of all does not widen the axis. It says how much of it
        lies beyond.
    """
    deviations = {label: float(draws.std(ddof=1)) for label, draws in rows.items()}
    limit = widest * float(np.median(list(deviations.values()))) if np.isfinite(widest) else np.inf
    ends = [np.quantile(draws, SHOWN) for label, draws in rows.items() if deviations[label] <= limit]
    ends = np.array([*ends, [mark, mark]])
    low, high = float(ends[:, 0].min()), float(ends[:, 1].max())
    if low == high:  # nothing is random
        low, high = low - 1, high + 1
    ticks, x = scale([low, high], LEFT, RIGHT, False)
    edges = np.linspace(ticks[0], ticks[-1], BINS + 1)
    bottom = TOP + ROW * len(rows)
    parts = [text(0, 14, title, "start", ' font-weight="600"')]
    words = [f"The vertical line in each row shows {of_mark}, {number(mark)}."]
    counted = {label: np.histogram(draws, edges)[0] for label, draws in rows.items()}
    usual = float(np.median([counts.max() for label, counts in counted.items() if deviations[label] <= limit]))
    for i, (label, draws) in enumerate(rows.items()):
        base, counts = TOP + ROW * (i + 1) - 6, counted[label]
        outside = len(draws) - int(counts.sum())
        highest = max(counts.max(), usual if deviations[label] > limit else 1)
        tops = (base - HIGH * counts / highest).round(1)
        steps = "".join(f"V{top:g}H{x(edge):g}" for top, edge in zip(tops, edges[1:]))
        parts.append(f'<path class="bars" d="M{x(edges[0]):g} {base}{steps}V{base}z" fill="currentColor" fill-opacity=".55"/>')
        said = f"mean {number(draws.mean())}, s.d. {number(deviations[label])}"
        said += f", {outside / len(draws):.0%} beyond the axis" if deviations[label] > limit else ""
        parts += [text(LEFT, base - HIGH - 5, label, "start"), text(RIGHT, base - HIGH - 5, said, "end", ' font-size="11"')]
        beyond = f" {outside} of {len(draws)} draws lie beyond the ends of the axis." if outside else ""
        words.append(f"{label}: {said}.{beyond}")
    parts.append(f'<path d="M{LEFT} {bottom}H{RIGHT}" stroke="currentColor"/>')
    for tick in ticks:
        parts.append(f'<path d="M{x(tick)} {bottom}v4" stroke="currentColor"/>')
        parts.append(text(x(tick), bottom + 17, tick_text(tick)))
    through = "".join(f"M{x(mark)} {TOP + ROW * i - HIGH - 8}v{HIGH + 2}" for i in range(1, len(rows) + 1))
    parts.append(f'<path class="mark" d="{through}" stroke="currentColor" stroke-dasharray="4 3"/>')
    parts.append(text((LEFT + RIGHT) / 2, bottom + 34, axis))
    parts.append(f'<path d="M{LEFT} {bottom + 50}h26" stroke="currentColor" stroke-dasharray="4 3"/>')
    parts.append(text(LEFT + 34, bottom + 54, of_mark, "start"))
    return (
        f'<svg class="histograms" xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {bottom + 62}" role="img" '
        'overflow="visible" fill="none" font-family="system-ui, sans-serif" font-size="12">'
        f"<title>{html.escape(title)}</title><desc>{html.escape(' '.join(words))}</desc>{''.join(parts)}</svg>"
    )
