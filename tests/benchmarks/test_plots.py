"""Every number stands at its own place in the plots."""

import numpy as np
import pytest

from benchmarks import plots
from tests.benchmarks.results import DOCUMENTS, SCALING, STEP, STEP_ON_GPU, TRAINING, document


def bars(axes):
    """Return {label: [(middle, height)]} of bars, which begin at the floor."""
    found = {}
    for container in axes.containers:
        assert all(bar.get_y() == 1 and bar.get_width() * len(axes.containers) == pytest.approx(0.8) for bar in container)
        found[container.get_label()] = [
            (round(bar.get_x() + bar.get_width() / 2, 6), round(1 + bar.get_height(), 6)) for bar in container
        ]
    return found


def names(ticks):
    return [label.get_text() for label in ticks]


def test_plot_of_steps():
    """There is a panel for each number of threads and for the GPU, and in it a place for each workload."""
    digits = STEP | {"workload": "digits", "rows": [row | {"ratios": {"floor": 2.5}} for row in STEP["rows"][:4:3]]}
    alone = STEP | {"threads": 1, "workload": "paper"}
    one, two, gpu = plots.draw(document("step", STEP, STEP_ON_GPU, alone, digits)).axes
    assert [axes.get_title() for axes in (one, two, gpu)] == [
        f"a training step, {place}" for place in ("bfloat16, 1 thread", "bfloat16, 2 threads", "float32, the GPU and 1 thread")
    ]
    assert [names(axes.get_xticklabels()) for axes in (one, two, gpu)] == [["paper"], ["example", "digits"], ["wide"]]
    assert bars(one) == {
        "peak": [(-0.3, 0.87)],
        "numba": [(-0.1, 1.11)],
        "torch eager": [(0.1, 3.12)],
        "jax scan": [(0.3, 1.92)],
    }
    assert bars(two) == bars(one) | {"numba": [(-0.1, 1.11), (0.9, 2.5)]}
    assert bars(gpu) == {"cupy": [(0, 1.34)]}
    for axes in (one, two, gpu):
        assert axes.get_yscale() == "log" and axes.get_ylabel() == "time ÷ floor"
        (line,) = axes.lines
        assert list(line.get_ydata()) == [1, 1]
        assert names(axes.get_legend().get_texts()) == list(bars(axes))


def test_plot_of_steps_that_nobody_made():
    (axes,) = plots.draw(document("step", STEP | {"rows": STEP["rows"][:3:2]})).axes
    assert bars(axes) == {} and axes.get_legend() is None


def lines(axes):
    return {line.get_label(): np.round(line.get_xydata(), 6).tolist() for line in axes.lines}


def test_plot_of_scaling():
    width = {"axis": "width", "rounds": 5, "points": [SCALING["points"][1] | {"value": 50}]}
    batch, other = plots.draw(document("scaling", SCALING, width)).axes
    assert lines(batch) == {
        "floor": [[16, 345], [64, 662], [32, 461]],
        "numba": [[16, 313], [64, 636]],
        "numpy": [[64, 3985], [32, 3224]],
    }
    assert lines(other) == {"numpy": [[50, 3985]], "floor": [[50, 662]], "numba": [[50, 636]]}
    assert [axes.get_xlabel() for axes in (batch, other)] == ["batch", "width"]
    assert sorted(batch.get_xticks()) == [16, 32, 64]
    for axes in (batch, other):
        assert axes.get_ylabel() == "µs per step"
        assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")
        assert [line.get_label() for line in axes.lines if line.get_linestyle() == "--"] == ["floor"]
        assert sorted(names(axes.get_legend().get_texts())) == ["floor", "numba", "numpy"]


def test_plot_of_training():
    again = TRAINING | {"rows": [TRAINING["rows"][0] | {"history": [{"epoch": 1, "seconds": 2.25, "test": 99.0}]}]}
    (axes,) = plots.draw(document("training", TRAINING, again)).axes
    *curves, target = axes.lines
    assert [curve.get_xydata().tolist() for curve in curves] == [
        [[2.51, 117.75], [4.98, 105.54]],
        [[5.25, 118.5], [10.75, 111.25], [16.05, 107.58]],
        [[3.625, 119.25]],
        [[2.25, 99.0]],
    ]
    assert list(target.get_ydata()) == [105.6, 105.6]
    assert names(axes.get_legend().get_texts()) == ["numba", "torch eager", "numpy"]  # each once, although there are two seeds
    assert curves[0].get_color() == curves[3].get_color() == plots.COLOURS["numba"]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("seconds of training", "test −ELBO, nats")
    assert axes.get_xscale() == "log"


def test_what_has_no_plot():
    assert plots.draw(DOCUMENTS["kernels"]) is None
    assert plots.draw(document("step")) is None


def test_a_logarithmic_axis_has_plain_numbers():
    (axes, *_) = plots.draw(DOCUMENTS["step"]).axes
    axes.set_ylim(0.5, 60)
    shown = [label.get_text() for label in axes.get_yticklabels() if 0.5 <= label.get_position()[1] <= 60]
    assert shown == ["0.5", "1", "2", "5", "10", "20", "50"]
    assert not any(label.get_text() for label in axes.get_yticklabels(minor=True))
