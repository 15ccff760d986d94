"""Results as pictures."""

from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from benchmarks.contestants import FLOORS, PEAK
from benchmarks.tables import device_of, names_in, place_of, precision_of

COLOURS = {  # others get matplotlib's own colours
    "floor": "#222222",
    "peak": "#b8b8b8",
    "numpy": "#8a8a8a",
    "numba": "#1f6f8b",
    "cupy": "#3a9d5d",
    "torch eager": "#d1495b",
    "torch compiled": "#e58a96",
    "torch autocast": "#d1495b",
    "torch compiled autocast": "#e58a96",
    "torch medium": "#8e6c8a",
    "torch compiled medium": "#c0a5bd",
    "torch graph": "#7b2d3b",
    "jax jit": "#b8860b",
    "jax scan": "#e0b84c",
}


def draw(document: dict[str, Any]) -> Figure | None:
    """Return a picture of a document, as `report.save` writes it; None where there is nothing to draw."""
    plot = PLOTS.get(document["benchmark"])
    return plot(document["results"]) if plot and document["results"] else None


def _colour(name: str) -> str | None:
    return COLOURS.get(name.removesuffix(" gpu"))


def _step_plot(results: list[dict[str, Any]]) -> Figure:
    """Draw each contestant's time as a multiple of the floor's: one panel for each number of threads, and for the GPU."""
    places = sorted({(device_of(result), result["threads"]) for result in results})
    figure = Figure(figsize=(11, 3.4 * len(places)), dpi=110, layout="constrained")
    for axes, place in zip(figure.subplots(len(places), 1, squeeze=False)[:, 0], places):
        own = [result for result in results if (device_of(result), result["threads"]) == place]
        floor = FLOORS[place[0]]
        names = dict.fromkeys(row["name"] for result in own for row in result["rows"] if floor in row.get("ratios", {}))
        names = [name for name in names if name != floor]
        for k, name in enumerate(names):
            bars = {
                i: row["ratios"][floor]
                for i, result in enumerate(own)
                for row in result["rows"]
                if row["name"] == name and floor in row.get("ratios", {})
            }
            middles = [i + (k - (len(names) - 1) / 2) * 0.8 / len(names) for i in bars]
            heights = [height - 1 for height in bars.values()]  # bars begin at the floor and go down where they are faster
            axes.bar(middles, heights, 0.8 / len(names), bottom=1, label=name, color=_colour(name))
        axes.axhline(1, color=COLOURS["floor"], lw=0.8)
        axes.set_xticks(range(len(own)), [result["workload"] for result in own])
        _make_logarithmic(axes, "y")
        axes.set_ylabel("time ÷ floor")
        axes.set_title(f"a training step, {precision_of(own[0])}, {place_of(own[0])}")
        if names:
            axes.legend(fontsize=8, ncols=4)
    return figure


def _scaling_plot(results: list[dict[str, Any]]) -> Figure:
    """Draw each contestant's time against the values: one panel for each axis."""
    figure = Figure(figsize=(3.6 * len(results), 3.6), dpi=110, layout="constrained")
    for axes, result in zip(figure.subplots(1, len(results), squeeze=False)[0], results):
        for name in names_in(result["points"]):
            line = {
                point["value"]: 1e6 * row["median"]
                for point in result["points"]
                for row in point["rows"]
                if row["name"] == name and "median" in row
            }
            if line:
                style = "--" if name in (*FLOORS.values(), PEAK) else "-"
                axes.plot(list(line), list(line.values()), style, marker="o", ms=3, label=name, color=_colour(name))
        _make_logarithmic(axes, "x")
        _make_logarithmic(axes, "y")
        axes.set_xticks([point["value"] for point in result["points"]])
        axes.set_xticks([], minor=True)
        axes.set_xlabel(result["axis"])
        axes.set_ylabel("µs per step")
        axes.legend(fontsize=8)
    return figure


def _training_plot(results: list[dict[str, Any]]) -> Figure:
    """Draw the test -ELBO of each contestant against the seconds of its training steps."""
    figure = Figure(figsize=(6, 4), dpi=110, layout="constrained")
    axes = figure.subplots()
    labelled = set()
    for result in results:
        for row in result["rows"]:
            if row["history"]:
                seconds, test = ([point[key] for point in row["history"]] for key in ("seconds", "test"))
                label = None if row["name"] in labelled else row["name"]
                labelled.add(row["name"])
                axes.plot(seconds, test, marker="o", ms=3, label=label, color=_colour(row["name"]))
    axes.axhline(results[0]["target"], color=COLOURS["floor"], lw=0.8, ls="--")
    _make_logarithmic(axes, "x")
    axes.set_xlabel("seconds of training")
    axes.set_ylabel("test −ELBO, nats")
    if labelled:
        axes.legend(fontsize=8)
    return figure


PLOTS = {"step": _step_plot, "scaling": _scaling_plot, "training": _training_plot}


def _make_logarithmic(axes: Axes, which: str) -> None:
    """Make an axis logarithmic, with plain numbers at 1, 2 and 5 times the powers of ten."""
    axis = {"x": axes.xaxis, "y": axes.yaxis}[which]
    axes.set(**{f"{which}scale": "log"})
    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter("{x:g}")
    axis.set_minor_formatter(NullFormatter())
