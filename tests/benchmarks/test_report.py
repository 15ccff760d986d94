"""Every figure stands in its own column of the tables, and at its own place in the plots."""

import json

import numpy as np
import pytest

from benchmarks import report
from tests.benchmarks.results import DOCUMENTS, GPU, KERNELS, SCALING, STEP, STEP_ON_GPU, TRAINING, document


def test_table_of_steps():
    table, on_gpu = report.tables(DOCUMENTS["step"])
    assert table.title == "example: 784-400-20 tanh, batch 128, L = 5, 2 threads; µs a step"
    assert table.columns == [
        "contestant",
        "median",
        "p10",
        "min",
        "÷ floor",
        "÷ torch eager",
        "÷ jax scan",
        "loss off by",
        "peak MB",
    ]
    assert table.rows == [
        ["floor", "1500", "1400", "1300", "1.00", "0.32", "0.52", "", "61"],
        ["numpy", "wrong", "", "", "", "", "", "3e-02", ""],
        ["numba", "1650", "1550", "1450", "1.11", "0.33", "0.53", "4e-08", "238"],
        ["cupy", "missing", "", "", "", "", "", "", ""],
        ["torch eager", "4650", "4550", "4450", "3.12", "1.00", "1.54", "5e-07", "320"],
        ["torch compiled", "failed", "", "", "", "", "", "6e-07", ""],
        ["jax scan", "2850", "2750", "2650", "1.92", "0.65", "1.00", "7e-07", "371"],
    ]
    assert table.notes == [
        "products of 321 MFLOP a step, 214 GFLOP/s at the floor; 8 rounds; a ratio is the median of those within a round",
        "WARNING: other processes took 7% of these cores meanwhile; measure again when there are none",
        "numpy: its loss is off",
        "cupy: no GPU is visible",
        "torch compiled: out of memory",
        "floor: alone",
        "torch eager: Adam fused",
    ]
    assert on_gpu.title == "wide: 784-400-20 tanh, batch 128, L = 5, the GPU and 1 thread; µs a step"
    assert on_gpu.columns == ["contestant", "median", "p10", "min", "÷ floor gpu", "loss off by", "peak MB"]
    assert on_gpu.rows == [
        ["floor gpu", "150", "140", "130", "1.00", "", "401"],
        ["cupy", "210", "200", "190", "1.34", "8e-07", "402"],
    ]
    assert on_gpu.notes == [
        "products of 321 MFLOP a step, 2140 GFLOP/s at the floor; 8 rounds; a ratio is the median of those within a round"
    ]


def test_table_of_steps_without_a_floor_or_a_device():
    """As files of before there was a GPU have it."""
    old = {key: value for key, value in STEP.items() if key != "device"} | {"rows": STEP["rows"][1:]}
    (table,) = report.tables(document("step", old))
    assert "2 threads" in table.title and "÷ floor" not in table.columns
    assert table.notes[0].startswith("products of 321 MFLOP a step; 8 rounds")


@pytest.mark.parametrize("share, told", [(None, []), (0.0, []), (0.029, []), (0.03, ["3%"]), (1.25, ["125%"])])
def test_others_are_told_of_where_they_count(share, told):
    (table,) = report.tables(document("step", STEP | {"share_of_others": share}))
    found = [note.split()[4] for note in table.notes if note.startswith("WARNING")]
    assert found == told


def test_table_of_kernels():
    (table,) = report.tables(DOCUMENTS["kernels"])
    assert table.title == "operations at B 128, D 784, H 400, Z 20, L 1; float32, one thread, called from Python"
    assert table.columns == [
        "operation",
        "backend",
        "µs",
        "min µs",
        "kB",
        "GB/s",
        "of copy",
        "kFLOP",
        "GFLOP/s",
        "of peak",
    ]
    assert table.rows == [
        ["affine", "numpy", "20.25", "18.75", "810", "40.0", "31%", "40500", "2000.0", "77%"],
        ["normals", "numba", "162.50", "157.50", "11", "0.1", "2%", "", "", ""],
        ["adam", "numpy", "wrong", "", "", "", "", "", "", ""],
    ]
    copy, peak, bytes_, *rest = table.notes
    assert copy == "copy: np.copyto: GB/s of 64 KiB 144, 4096 KiB 124"
    assert peak == "peak: 261 GFLOP/s, the most of: a loop 261, a product 245"
    assert bytes_.startswith("bytes: each array that is needed once")
    assert rest == ["cupy: only whole steps", "adam: AssertionError: adam"]


def test_table_of_scaling():
    """By name: the rows of the points stand in another order each."""
    (table,) = report.tables(DOCUMENTS["scaling"])
    assert table.title == "example with another batch; µs a step, median, 2 threads"
    assert table.columns == ["batch", "floor", "numba", "numpy"]
    assert table.rows == [
        ["16", "345", "313", "failed"],
        ["64", "662", "636", "3985"],
        ["32", "461", "missing", "3224"],
    ]
    assert table.notes == [
        "WARNING: other processes took 6% of these cores meanwhile; measure again when there are none",
        "numpy: out of memory",
        "numba: no compiler",
    ]
    (table,) = report.tables(document("scaling", SCALING | {"axis": "threads"}))
    assert table.title == "example with another threads; µs a step, median"
    assert table.columns[0] == "threads"
    unknown = [point | {"share_of_others": None} for point in SCALING["points"]]
    (table,) = report.tables(document("scaling", SCALING | {"points": unknown}))
    assert len(table.notes) == 2


def test_table_of_training():
    (table,) = report.tables(DOCUMENTS["training"])
    assert table.title == "example on MNIST to a test -ELBO of 105.6 nats, 2 threads, seed 3"
    assert table.columns == ["contestant", "reached", "seconds", "epochs", "s an epoch", "test -ELBO", "start s"]
    assert table.rows == [
        ["numba", "yes", "4.98", "2", "2.49", "105.54", "0.5"],
        ["torch eager", "no", "16.05", "3", "5.35", "107.58", "1.8"],
        ["cupy", "missing", "", "", "", "", ""],
        ["numpy", "failed", "", "", "", "", ""],
    ]
    assert table.notes[1:] == ["cupy: no GPU is visible", "numpy: out of memory"]


def test_lines_about_the_machine():
    of = "openblas 0.3 of numpy, architecture Zen, 12 threads; mkl 2026 of system, architecture Lake, 13 threads"
    lines = [
        "A Processor, 16 of 64 cores, Linux x86_64",
        f"BLAS: {of}",
        "Python 3.14.1, numpy 2.9, numba 0.99",
        "commit 0123456789ab+, 2026-01-02",
    ]
    assert report.about(DOCUMENTS["kernels"]) == lines
    gpu = "GPU: A GPU, driver 580.1 (CUDA 13.1), CUDA 13.2, cuBLAS 13.3.4, CuPy 14.5"
    assert report.about(DOCUMENTS["step"]) == [lines[0], gpu, *lines[1:]]
    settings = {"OMP_NUM_THREADS": "2", "BLAS": "slow"}
    bare = report.about(document("step", environment=settings, blas=[], commit=None, gpu=GPU | {"driver": None}))
    assert "BLAS: unknown" in bare and "commit unknown, 2026-01-02" in bare
    assert "driver unknown (CUDA 13.1)" in bare[1]
    assert bare[-1] == "environment: OMP_NUM_THREADS=2 BLAS=slow"


# -------------------------------------------------------------------------------------------------------------- plots


def bars(axes):
    """{label: [(middle, height)]}, which begin at the floor."""
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
    """A panel for each number of threads, and for the GPU; a place on its axis for each workload."""
    digits = STEP | {"workload": "digits", "rows": [row | {"ratios": {"floor": 2.5}} for row in STEP["rows"][:3:2]]}
    alone = STEP | {"threads": 1, "workload": "paper"}
    one, two, gpu = report.plot(document("step", STEP, STEP_ON_GPU, alone, digits)).axes
    assert [axes.get_title() for axes in (one, two, gpu)] == [
        f"a training step, {place}" for place in ("1 thread", "2 threads", "the GPU and 1 thread")
    ]
    assert [names(axes.get_xticklabels()) for axes in (one, two, gpu)] == [["paper"], ["example", "digits"], ["wide"]]
    third = round(0.8 / 3, 6)
    assert bars(one) == {"numba": [(-third, 1.11)], "torch eager": [(0, 3.12)], "jax scan": [(third, 1.92)]}
    assert bars(two) == {
        "numba": [(-third, 1.11), (round(1 - third, 6), 2.5)],
        "torch eager": [(0, 3.12)],
        "jax scan": [(third, 1.92)],
    }
    assert bars(gpu) == {"cupy": [(0, 1.34)]}
    for axes in (one, two, gpu):
        assert axes.get_yscale() == "log" and axes.get_ylabel() == "time ÷ floor"
        (line,) = axes.lines
        assert list(line.get_ydata()) == [1, 1]
        assert names(axes.get_legend().get_texts()) == list(bars(axes))


def test_plot_of_steps_that_nobody_made():
    (axes,) = report.plot(document("step", STEP | {"rows": STEP["rows"][:2]})).axes
    assert bars(axes) == {} and axes.get_legend() is None


def lines(axes):
    return {line.get_label(): np.round(line.get_xydata(), 6).tolist() for line in axes.lines}


def test_plot_of_scaling():
    width = {"axis": "width", "rounds": 5, "points": [SCALING["points"][1] | {"value": 50}]}
    batch, other = report.plot(document("scaling", SCALING, width)).axes
    assert lines(batch) == {
        "floor": [[16, 345], [64, 662], [32, 461]],
        "numba": [[16, 313], [64, 636]],
        "numpy": [[64, 3985], [32, 3224]],
    }
    assert lines(other) == {"numpy": [[50, 3985]], "floor": [[50, 662]], "numba": [[50, 636]]}
    assert [axes.get_xlabel() for axes in (batch, other)] == ["batch", "width"]
    assert sorted(batch.get_xticks()) == [16, 32, 64]
    for axes in (batch, other):
        assert axes.get_ylabel() == "µs a step"
        assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")
        assert [line.get_label() for line in axes.lines if line.get_linestyle() == "--"] == ["floor"]
        assert sorted(names(axes.get_legend().get_texts())) == ["floor", "numba", "numpy"]


def test_plot_of_training():
    again = TRAINING | {"rows": [TRAINING["rows"][0] | {"history": [{"epoch": 1, "seconds": 2.25, "test": 99.0}]}]}
    (axes,) = report.plot(document("training", TRAINING, again)).axes
    *curves, target = axes.lines
    assert [curve.get_xydata().tolist() for curve in curves] == [
        [[2.51, 117.75], [4.98, 105.54]],
        [[5.25, 118.5], [10.75, 111.25], [16.05, 107.58]],
        [[3.625, 119.25]],
        [[2.25, 99.0]],
    ]
    assert list(target.get_ydata()) == [105.6, 105.6]
    assert names(axes.get_legend().get_texts()) == ["numba", "torch eager", "numpy"]  # each once, whatever the seeds
    assert curves[0].get_color() == curves[3].get_color() == report.COLOURS["numba"]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("seconds of training", "test −ELBO, nats")
    assert axes.get_xscale() == "log"


def test_what_has_no_plot():
    assert report.plot(DOCUMENTS["kernels"]) is None
    assert report.plot(document("step")) is None


def test_a_logarithmic_axis_has_plain_numbers():
    (axes, *_) = report.plot(DOCUMENTS["step"]).axes
    axes.set_ylim(0.5, 60)
    shown = [label.get_text() for label in axes.get_yticklabels() if 0.5 <= label.get_position()[1] <= 60]
    assert shown == ["0.5", "1", "2", "5", "10", "20", "50"]
    assert not any(label.get_text() for label in axes.get_yticklabels(minor=True))


# -------------------------------------------------------------------------------------------------------------- files


@pytest.fixture
def kept(tmp_path):
    """The paths of the documents, one of each benchmark."""
    paths = []
    for benchmark, of_it in DOCUMENTS.items():
        paths.append(str(tmp_path / f"{benchmark}.json"))
        report.save(of_it, paths[-1])
    return paths


def test_files_hold_what_was_saved(kept):
    assert [report.load(path) for path in kept] == list(DOCUMENTS.values())


def test_page(kept, tmp_path):
    """Of all documents; each has its lines about the machine, its plot beside the page, and its tables."""
    out = tmp_path / "docs" / "page.md"
    written = report.page(kept, out)
    plots = [out.parent / f"page-{name}.png" for name in ("1-step", "3-scaling", "4-training")]
    assert written == [str(path) for path in (out, *plots)]
    assert all((tmp_path / path).read_bytes().startswith(b"\x89PNG") for path in written[1:])
    text = out.read_text()
    assert [line for line in text.splitlines() if line.startswith("#")] == [
        "# Benchmarks",
        "## step",
        "## kernels",
        "## scaling",
        "## training",
    ]
    end = text[text.index("## scaling") :]
    about = "\n".join(f"* {line}" for line in report.about(DOCUMENTS["scaling"]))
    assert end.startswith(f"""## scaling

{about}

![scaling](page-3-scaling.png)

**example with another batch; µs a step, median, 2 threads**

| batch | floor | numba | numpy |
|---|---:|---:|---:|
| 16 | 345 | 313 | failed |
| 64 | 662 | 636 | 3985 |
| 32 | 461 | missing | 3224 |

* WARNING: other processes took 6% of these cores meanwhile; measure again when there are none
* numpy: out of memory
* numba: no compiler

## training
""")
    assert "GPU: A GPU" in text[: text.index("## kernels")] and "GPU: A GPU" not in end


def test_a_bar_in_a_cell_does_not_end_it(tmp_path):
    row = KERNELS["rows"][2] | {"name": "a|b"}
    report.save(document("kernels", KERNELS | {"rows": [row]}), tmp_path / "kernels.json")
    report.page([tmp_path / "kernels.json"], tmp_path / "page.md")
    assert "| a\\|b | numpy | wrong |" in (tmp_path / "page.md").read_text()


@pytest.mark.parametrize(
    "benchmark, where",
    [
        ("step", ["machine", "blas"]),
        ("step", ["results", 1, "rows", 0, "minimum"]),
        ("step", ["results", 0, "flops"]),
        ("kernels", ["results", 0, "rows", 1, "share_of_copy"]),
        ("scaling", ["results", 0, "points", 2, "rows", 1]),
        ("training", ["results", 0, "rows", 1, "history"]),
        ("training", ["results", 0, "rows", 3, "history", 0, "test"]),
    ],
)
def test_a_file_that_lacks_something_is_refused_in_a_sentence(benchmark, where, tmp_path):
    """Whether a line, a table or a plot would ask for it."""
    path = tmp_path / "kept.json"
    report.save(DOCUMENTS[benchmark], path)
    lacking = json.loads(path.read_text())
    *outer, last = where
    within = lacking
    for key in outer:
        within = within[key]
    del within[last]
    path.write_text(json.dumps(lacking))
    with pytest.raises(ValueError, match="kept.json"):
        report.load(path)
