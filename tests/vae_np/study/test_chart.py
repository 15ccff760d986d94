"""The charts: every point lies where its numbers say, measured by the ticks that a reader sees."""

import math
import re
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from vae_np.study import chart
from vae_np.study.histograms import histograms

SVG = "{http://www.w3.org/2000/svg}"
VALUES = [0.0, 0.5, 1.0, 2.0, 4.0]
CURVES = {"loss, nats": [31.5, 20.0, 12.25, 14.0, 55.0], "KL, nats": [0.5, 0.25, 3.0, 40.0, 8.0]}


def drawn(values=VALUES, curves=CURVES, here=None, log=""):
    return ElementTree.fromstring(chart.lines("a title", "an axis", values, curves, here, log))


def of_class(svg, name):
    return svg.findall(f"{SVG}path[@class='{name}']")


def points(d):
    """The pieces of a line, each a list of (x, y)."""
    return [[tuple(map(float, point.split())) for point in piece.split("L")] for piece in d.split("M")[1:]]


def lines_of(svg):
    """The path of each curve, without the lines of the legend, one of which follows each curve."""
    return of_class(svg, "line")[::2]


def axis_of(svg, vertical, log):
    """The function from a place to a number, which two of the ticks and their labels determine, and the numbers of all ticks."""
    numbers = {}
    for text in svg.iter(f"{SVG}text"):
        if text.get("text-anchor") == ("end" if vertical else "middle") and re.fullmatch(r"[-\u2212\d.e+]+", text.text):
            place = float(text.get("y")) - 4 if vertical else float(text.get("x"))
            numbers[place] = float(text.text.replace("\u2212", "-"))
    along, back = (np.log10, lambda v: 10.0**v) if log else (float, float)
    (a, first), *_, (b, last) = sorted(numbers.items())
    return lambda place: back(along(first) + (along(last) - along(first)) * (place - a) / (b - a)), list(numbers.values())


@pytest.mark.parametrize("log", ["", "x", "y", "xy"])
@pytest.mark.parametrize("scale", [1e-5, 1, 3000])
def test_points_lie_where_the_numbers_say(log, scale):
    values = [0.5, 1, 2, 5, 20] if "x" in log else [-4, -1.5, 0, 1, 4]
    curves = {label: [scale * number for number in numbers] for label, numbers in CURVES.items()}
    svg = drawn(values, curves, log=log)
    (x, _), (y, ticks) = axis_of(svg, False, "x" in log), axis_of(svg, True, "y" in log)
    for path, numbers in zip(lines_of(svg), curves.values(), strict=True):
        ((*places,),) = points(path.get("d"))
        assert [x(place) for place, _ in places] == pytest.approx(values, rel=0.01, abs=0.01)
        assert [y(place) for _, place in places] == pytest.approx(numbers, rel=0.01, abs=0.001 * max(ticks))
    assert min(ticks) <= min(min(numbers) for numbers in curves.values())
    assert max(ticks) >= max(max(numbers) for numbers in curves.values())


@pytest.mark.parametrize("log", ["", "y"])
def test_what_cannot_be_drawn_is_a_gap(log):
    numbers = [math.nan, 1.0, 2.0, -math.inf if log == "" else 0.0, 4.0]
    (path,) = lines_of(drawn(curves={"a": numbers}, log=log))
    assert [len(piece) for piece in points(path.get("d"))] == [2, 1]
    (path,) = lines_of(drawn(curves={"a": [0.0] * 5}, log="y"))
    assert path.get("d") == ""


@given(numbers=st.lists(st.floats(-1e30, 1e30), min_size=5, max_size=5), log=st.sampled_from(["", "y"]))
@example([100, 100.0001, 100, 100, 100], "")  # numbers whose ticks would look equal
@example([100, 100.02, 100, 100, 100], "")
@example([0, 0, 0, 0, 5e-324], "")
@example([0, 0, 0, 1e-310, 5e-324], "y")
def test_any_curve_stays_on_the_plot_between_a_few_round_ticks(numbers, log):
    svg = drawn(curves={"a": numbers}, log=log)
    for piece in points(lines_of(svg)[0].get("d")):
        assert all(chart.LEFT <= x <= chart.RIGHT and chart.TOP <= y <= chart.BOTTOM for x, y in piece)
    _, ticks = axis_of(svg, True, log)
    assert 2 <= len(ticks) <= 8 and len(set(ticks)) == len(ticks)


@pytest.mark.parametrize(
    "numbers, log, ticks",
    [
        ([0.1, 0.9], "", [0, 0.2, 0.4, 0.6, 0.8, 1]),
        ([97.2, 178.1], "", [80, 100, 120, 140, 160, 180]),
        ([12, 178], "", [0, 50, 100, 150, 200]),
        ([-31, 60], "", [-40, -20, 0, 20, 40, 60]),
        ([7, 7], "", [2, 4, 6, 8, 10, 12]),
        ([0, 0], "", [-0.6, -0.4, -0.2, 0, 0.2, 0.4, 0.6]),
        ([1.1, 1.3], "y", [1, 2]),
        ([0.3, 15], "y", [0.2, 0.5, 1, 2, 5, 10, 20]),
        ([0.3, 40], "y", [0.1, 1, 10, 100]),
        ([0.03, 40], "y", [0.01, 0.1, 1, 10, 100]),
        ([1e-9, 1e3], "y", [1e-9, 1e-6, 1e-3, 1, 1e3]),
    ],
)
def test_ticks_are_those_a_person_would_draw(numbers, log, ticks):
    assert axis_of(drawn([0, 1], {"a": numbers}, log=log), True, log)[1] == pytest.approx(ticks)


def test_the_mark_stands_at_here_and_knows_the_places_of_all_values():
    for here in VALUES:
        svg = drawn(here=here)
        (mark,) = of_class(svg, "here")
        ((*places,),) = points(lines_of(svg)[0].get("d"))
        assert list(map(float, mark.get("data-at").split())) == [x for x, _ in places]
        assert mark.get("transform") == f"translate({mark.get('data-at').split()[VALUES.index(here)]} 0)"
    assert not of_class(drawn(), "here")


def test_curves_are_told_apart_without_colour_and_named():
    curves = {f"curve {i}": [i + value for value in VALUES] for i in range(6)}
    svg = drawn(curves=curves)
    strokes = [(path.get("stroke-dasharray"), path.get("stroke")) for path in of_class(svg, "line")]
    assert strokes[::2] == strokes[1::2], "the legend shows the line as it is drawn"
    assert len({dashes for dashes, _ in strokes}) == 6
    texts = {text.text: text for text in svg.iter(f"{SVG}text")}
    legends = [path.get("d") for path in of_class(svg, "line")[1::2]]
    for label, legend in zip(curves, legends, strict=True):
        y = float(texts[label].get("y"))
        assert legend == f"M{chart.LEFT} {y - 4:.0f}h30" and y < float(svg.get("viewBox").split()[3])


def test_it_can_be_read_aloud():
    svg = drawn(here=1.0)
    assert svg.get("role") == "img" and svg.find(f"{SVG}title").text == "a title"
    assert svg.find(f"{SVG}desc").text == (
        "Over an axis, from 0 to 4: loss, nats goes from 31.5 to 55, 12.2 at 1. KL, nats goes from 0.5 to 8, 3 at 1."
    )


def test_words_are_words_whatever_is_in_them():
    words = "<b>\"'&amp;"
    svg = ElementTree.fromstring(chart.lines(words, words, [0, 1], {words: [1, 2]}, 1))
    assert [text.text for text in svg.iter(f"{SVG}text")].count(words) == 3
    assert svg.find(f"{SVG}title").text == words


def test_colours_are_those_of_the_text_or_the_given_ones():
    labels = list(CURVES)
    text = chart.lines("a title", "an axis", VALUES, CURVES, 1.0, colours={labels[1]: "var(--kl)"})
    assert set(re.findall(r'(?:stroke|fill)="([^"]+)"', text)) == {"currentColor", "none", "var(--kl)"}
    first, second = (path for path in lines_of(ElementTree.fromstring(text)))
    assert (first.get("stroke"), second.get("stroke")) == ("currentColor", "var(--kl)")
    assert first.get("stroke-dasharray") != second.get("stroke-dasharray")


def test_a_bar_reaches_one_error_up_and_one_down():
    label, errors = "loss, nats", [1.0, 2.0, 0.0, 4.0, 60.0]
    svg = ElementTree.fromstring(chart.lines("a title", "an axis", VALUES, CURVES, errors={label: errors}))
    (x, _), (y, ticks) = axis_of(svg, False, False), axis_of(svg, True, False)
    bars = [re.fullmatch(r"M([\d.]+) ([\d.]+)V([\d.]+)", path.get("d")).groups() for path in of_class(svg, "error")]
    for bar, value, number, error in zip(bars, VALUES, CURVES[label], errors, strict=True):
        assert x(float(bar[0])) == pytest.approx(value, abs=0.02)
        assert [y(float(end)) for end in bar[1:]] == pytest.approx([number - error, number + error], abs=0.5)
    assert min(ticks) <= -5 and max(ticks) >= 115


def test_numbers_on_an_axis_do_not_run_into_each_other_and_the_chart_is_small():
    for values, log in ((np.linspace(-4, 4, 17), ""), (np.linspace(0, 4, 17), ""), ([1, 2, 5, 10, 20, 50], "x")):
        text = chart.lines("a title", "an axis", list(values), {f"curve {i}": list(values) for i in range(4)}, log=log)
        places = sorted(float(x) for x in re.findall(r'<path class="tick" d="M([\d.]+)', text))
        assert len(places) >= 3 and np.diff(places).min() > 30
        assert len(text) < 5000


# ---------------------------------------------------------------------------------------------------- tangents, histograms


def test_a_tangent_has_the_slope_of_the_curve_as_it_is_drawn():
    curve, slopes = [value**2 for value in VALUES], [2 * value for value in VALUES]
    svg = ElementTree.fromstring(chart.lines("a title", "an axis", VALUES, {"a": curve}, 1.0, slopes={"a": slopes}))
    (tangent,) = of_class(svg, "tangent")
    places = tangent.get("data-transforms").split("|")
    assert tangent.get("transform") == places[VALUES.index(1.0)]
    ((*points_of_curve,),) = points(lines_of(svg)[0].get("d"))
    (across, _), (up, _) = (axis_of(svg, vertical, "") for vertical in (False, True))
    for place, at, slope in zip(places, points_of_curve, slopes, strict=True):
        x, y, angle = map(float, re.fullmatch(r"translate\((\S+) (\S+)\) rotate\((\S+)\)", place).groups())
        assert (x, y) == at
        run, rise = math.cos(math.radians(angle)), math.sin(math.radians(angle))
        drawn_slope = (up(y + rise) - up(y)) / (across(x + run) - across(x))
        assert drawn_slope == pytest.approx(slope, rel=0.02, abs=0.05)


def heights_of(svg):
    """For each row of histograms, the (left end, right end, height) of its bars in pixels."""
    rows = []
    for path in of_class(svg, "bars"):
        first, base = map(float, re.match(r"M(\S+) (\S+?)(?=V)", path.get("d")).groups())
        steps = [(float(top), float(right)) for top, right in re.findall(r"V([\d.]+)H([\d.]+)", path.get("d"))]
        lefts = [first, *(right for _, right in steps)]
        rows.append([(left, right, base - top) for left, (top, right) in zip(lefts, steps)])
    return rows


def test_histograms_share_an_axis_and_a_bar_is_as_high_as_its_share():
    rng = np.random.default_rng(0)
    rows = {"narrow": rng.normal(1, 0.5, 4000), "wide": rng.normal(1, 2, 4000), "huge": rng.normal(1, 90, 4000)}
    svg = ElementTree.fromstring(histograms("a title", "an axis", rows, 1.0, "the mean", 4.0))
    ticks = {
        float(text.text.replace("−", "-")): float(text.get("x")) for text in svg.iter(f"{SVG}text") if text.get("y") == "213"
    }
    (low, left), (high, right) = min(ticks.items()), max(ticks.items())
    assert -8 <= low <= -3 and 5 <= high <= 10

    def number(x):
        return low + (x - left) * (high - low) / (right - left)

    for (label, draws), bars in zip(rows.items(), heights_of(svg), strict=True):
        counts = np.array([np.sum((draws >= number(start)) & (draws < number(end))) for start, end, _ in bars])
        heights = np.array([height for *_, height in bars])
        if label != "huge":
            assert np.corrcoef(counts, heights)[0, 1] > 0.99 and heights.max() == pytest.approx(26, abs=0.1)
    assert max(height for *_, height in heights_of(svg)[2]) < 10
    marks = re.findall(r"M(\S+) \d+v28", of_class(svg, "mark")[0].get("d"))
    assert [number(float(x)) for x in marks] == pytest.approx([1.0] * 3, abs=0.1)
    said = [text.text for text in svg.iter(f"{SVG}text") if text.text.startswith("mean ")]
    assert "beyond the axis" in said[2] and "beyond" not in said[0] + said[1] and "s.d. 2.0" in said[1]
    assert "draws lie beyond the ends of the axis" in svg.find(f"{SVG}desc").text


def test_a_histogram_of_equal_numbers_is_drawn():
    svg = ElementTree.fromstring(histograms("a title", "an axis", {"a": np.zeros(9)}, 0.0, "the mean"))
    assert max(height for *_, height in heights_of(svg)[0]) == 26
