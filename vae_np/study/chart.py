"""A line chart as a small SVG that is part of a page and takes the colour of its text, in light and in dark."""

import html
import math
from collections.abc import Callable, Mapping, Sequence

WIDTH, LEFT, RIGHT, TOP, BOTTOM = 360, 48, 350, 32, 182  # the width of the chart, and the edges of the plot in it
DASHES = "none", "8 3", "2 2", "9 3 2 3", "15 4", "5 5"
N_TICKS = 5
SMALLEST = 1e-300  # a smaller number is drawn as 0, because half of it may be 0


def lines(
    title: str,
    axis: str,
    values: Sequence[float],
    curves: Mapping[str, Sequence[float]],
    here: float | None = None,
    log: str = "",
    errors: Mapping[str, Sequence[float]] | None = None,
    colours: Mapping[str, str] | None = None,
    slopes: Mapping[str, Sequence[float]] | None = None,
) -> str:
    """The SVG of a chart. Curves differ by their dashes; a colour is for what it means on the page.

    Parameters
    ----------
    title, axis : str
        The title, and the label of the horizontal axis.
    values : sequence of float
        The places on the horizontal axis, in ascending order.
    curves : mapping
        {label: a number for each of the values}. A curve has a gap where a number cannot be drawn.
    here : float, optional
        The value at which a vertical mark stands. The mark is a path of class "here", which a translation puts in its place; its
        attribute data-at holds the places of all values, so that a script can move it.
    log : str
        The axes that are logarithmic: "x", "y", "xy" or "".
    errors : mapping, optional
        {label: the standard error of each number}. A vertical bar shows one standard error up and one down.
    colours : mapping, optional
        {label: a colour of CSS}. Other curves have the colour of the text.
    slopes : mapping, optional
        {label: the slope of the curve at each of the values}, on axes that are not logarithmic. The tangent at the value `here` is
        drawn. Its attribute data-transforms holds where it stands at every value.
    """
    errors, colours = errors or {}, colours or {}
    ticks_x, x = scale(values, LEFT, RIGHT, "x" in log, tight=True)
    ends = {label: _ends(curves[label], bars) for label, bars in errors.items()}
    heights = [number for numbers in curves.values() for number in numbers] + [
        end for bars in ends.values() for end in sum(bars, ())
    ]
    ticks_y, y = scale(heights, BOTTOM, TOP, "y" in log)
    parts = [text(0, 14, title, "start", ' font-weight="600"'), text((LEFT + RIGHT) / 2, BOTTOM + 34, axis)]
    for tick in ticks_y:
        parts.append(f'<path class="grid" d="M{LEFT} {y(tick)}H{RIGHT}" stroke="currentColor" stroke-opacity=".18"/>')
        parts.append(text(LEFT - 6, y(tick) + 4, tick_text(tick), "end"))
    for tick in ticks_x:
        parts.append(f'<path class="tick" d="M{x(tick)} {BOTTOM}v4" stroke="currentColor"/>')
        parts.append(text(x(tick), BOTTOM + 17, tick_text(tick)))
    if here is not None:
        at = " ".join(str(x(value)) for value in values)
        mark = f'd="M0 {BOTTOM}V{TOP}l-4 -7h8l-4 7" transform="translate({x(here)} 0)" data-at="{at}"'
        parts.append(f'<path class="here" {mark} stroke="currentColor" fill="currentColor"/>')
    for i, (label, numbers) in enumerate(curves.items()):
        k, legend = i % len(DASHES), BOTTOM + 56 + 17 * i
        colour = colours.get(label, "currentColor")
        line = f'class="line" stroke="{colour}" stroke-dasharray="{DASHES[k]}" stroke-width="2"'
        points = [(x(value), y(number)) if _drawn(number, "y" in log) else None for value, number in zip(values, numbers)]
        parts.append(f'<path {line} d="{_path(points)}"/><path {line} d="M{LEFT} {legend}h30"/>')
        parts.append(text(LEFT + 38, legend + 4, label, "start"))
        for value, (low, high) in zip(values, ends.get(label, ())):
            if _drawn(low, "y" in log):
                parts.append(f'<path class="error" d="M{x(value)} {y(low)}V{y(high)}" stroke="{colour}" stroke-width="1.5"/>')
        if here is not None and slopes and label in slopes:
            stretch = (y(ticks_y[-1]) - y(ticks_y[0])) / (ticks_y[-1] - ticks_y[0])
            stretch /= (x(values[-1]) - x(values[0])) / (values[-1] - values[0])
            places = [
                f"translate({x(value)} {y(number)}) rotate({math.degrees(math.atan(stretch * slope)):.1f})"
                for value, number, slope in zip(values, numbers, slopes[label])
            ]
            moved = f'transform="{places[values.index(here)]}" data-transforms="{"|".join(places)}"'
            parts.append(
                f'<path class="tangent" d="M-55 0H55" {moved} stroke="{colour}" stroke-width="4" stroke-opacity=".5"/>'
            )
    return (
        f'<svg class="chart" xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {BOTTOM + 50 + 17 * len(curves)}" role="img" '
        f'overflow="visible" fill="none" font-family="system-ui, sans-serif" font-size="12"><title>{html.escape(title)}</title>'
        f"<desc>{html.escape(_described(axis, values, curves, here))}</desc>{''.join(parts)}</svg>"
    )


def scale(
    numbers: Sequence[float], start: float, end: float, log: bool, tight: bool = False
) -> tuple[list[float], Callable[[float], float]]:
    """Some round ticks, and the function from a number to its place between start and end; tight: the axis ends with the numbers."""
    shown = [number for number in numbers if _drawn(number, log)] or [1]
    low, high = min(shown), max(shown)
    if math.isclose(low, high, rel_tol=1e-4, abs_tol=SMALLEST):  # ticks are written with six digits, and would look equal
        half = (abs(low) if abs(low) > SMALLEST else 1) / 2
        low, high = (low / 2, high * 2) if log else (low - half, high + half)
    elif not tight and not log and 0 < low < high / 2:
        low = 0
    ticks = _decades(low, high) if log else _steps(low, high)
    if tight:
        ticks = [tick for tick in ticks if low <= tick <= high]
    else:
        low, high = ticks[0], ticks[-1]
    along = math.log10 if log else float
    return ticks, lambda number: round(start + (end - start) * (along(number) - along(low)) / (along(high) - along(low)), 1)


def _steps(low, high):
    """Multiples of 1, 2 or 5 times a power of ten. The first is at most low, the last is at least high."""
    power = 10.0 ** math.floor(math.log10((high - low) / N_TICKS))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power * N_TICKS >= high - low)
    return [step * i for i in range(math.floor(low / step), math.ceil(high / step) + 1)]


def _decades(low, high):
    """1, 2 and 5 times powers of ten, or only powers of ten where those are too many, around low and high."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    ticks = [factor * 10.0**power for power in range(first - 1, last + 2) for factor in (1, 2, 5)]
    below, above = max(tick for tick in ticks if tick <= low), min(tick for tick in ticks if tick >= high)
    ticks = [tick for tick in ticks if below <= tick <= above]
    every = math.ceil((last - first) / N_TICKS)
    return ticks if len(ticks) <= N_TICKS + 2 else [10.0**power for power in range(first, last + every, every)]


def _ends(numbers, errors):
    return [(number - error, number + error) for number, error in zip(numbers, errors)]


def _drawn(number, log):
    return math.isfinite(number) and (number > SMALLEST or not log)


def _path(points):
    """The attribute d of a line through the points, where None is a gap."""
    return "".join(f"{'ML'[i > 0 and points[i - 1] is not None]}{p[0]} {p[1]}" for i, p in enumerate(points) if p)


def text(x: float, y: float, words: str, anchor: str = "middle", more: str = "") -> str:
    """An element <text>."""
    return f'<text x="{x}" y="{y}" text-anchor="{anchor}" fill="currentColor"{more}>{html.escape(words)}</text>'


def tick_text(number: float) -> str:
    """A number at an axis, with a true minus sign."""
    return f"{number:g}".replace("-", "\N{MINUS SIGN}")


def _described(axis, values, curves, here):
    """What the chart shows, in words for those who do not see it."""
    words = [f"Over {axis}, from {tick_text(values[0])} to {tick_text(values[-1])}:"]
    for label, numbers in curves.items():
        at_here = "" if here is None else f", {numbers[values.index(here)]:.3g} at {tick_text(here)}"
        words.append(f"{label} goes from {numbers[0]:.3g} to {numbers[-1]:.3g}{at_here}.")
    return " ".join(words)
