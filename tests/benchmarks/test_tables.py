"""Every number stands in its own column of the tables."""

import pytest

from benchmarks import tables
from tests.benchmarks.results import DOCUMENTS, GPU, KERNELS, SCALING, STEP, document


def test_table_of_steps():
    table, on_gpu = tables.make_tables(DOCUMENTS["step"])
    assert table.title == "example: 784-400-20 tanh, batch 128, L = 5, bfloat16, 2 threads; µs per step"
    assert table.columns == [
        *("contestant", "median", "p10", "min"),
        *("÷ floor", "÷ peak", "÷ torch eager", "÷ jax scan"),
        *("loss error", "peak MB", "taken", "dropped"),
    ]
    assert table.rows == [
        ["floor", "1500", "1400", "1300", "1.00", "1.15", "0.32", "0.52", "", "61", "0.4%", "0"],
        ["peak", "1310", "1308", "1305", "0.87", "1.00", "0.28", "0.46", "", "", "", ""],
        ["numpy", "wrong", "", "", "", "", "", "", "3e-02", "", "", ""],
        ["numba", "1650", "1550", "1450", "1.11", "1.27", "0.33", "0.53", "4e-08", "238", "12.3%", "5"],
        ["cupy", "missing", "", "", "", "", "", "", "", "", "", ""],
        ["torch eager", "4650", "4550", "4450", "3.12", "3.58", "1.00", "1.54", "5e-07", "320", "0.0%", "1"],
        ["torch compiled", "failed", "", "", "", "", "", "", "6e-07", "", "", ""],
        ["jax scan", "2850", "2750", "2650", "1.92", "2.21", "0.65", "1.00", "7e-07", "371", "1.6%", "2"],
    ]
    products, rounds, taken, *rest = table.notes
    assert (
        products
        == "The matrix products of a step are 321 MFLOP, which is 214 GFLOP/s at the floor and 245 GFLOP/s at the peak."
    )
    assert rounds == (
        "Each contestant was timed in 8 rounds. A ratio is the median over the rounds of the ratio within a round."
    )
    assert taken.startswith("taken: ") and "more than 2%" in taken and "3 blocks are kept" in taken
    assert rest == [
        "The peak of a core, in GFLOP/s: 123 beside 75% of the blocks, 88 beside 25% of the blocks.",
        "WARNING: Disturbed blocks are kept of numba, jax scan. Measure again when nothing else runs.",
        "numpy: its loss is off",
        "cupy: no GPU is visible",
        "torch compiled: out of memory",
        "floor: alone",
        "peak: by a loop",
        "torch eager: Adam fused",
    ]
    assert on_gpu.title == "wide: 784-400-20 tanh, batch 128, L = 5, float32, the GPU and 1 thread; µs per step"
    assert on_gpu.columns == [
        *("contestant", "median", "p10", "min", "÷ floor gpu", "loss error", "peak MB", "taken", "dropped")
    ]
    assert on_gpu.rows == [
        ["floor gpu", "150", "140", "130", "1.00", "", "401", "0.1%", "3"],
        ["cupy", "210", "200", "190", "1.34", "8e-07", "402", "0.2%", "4"],
    ]
    assert on_gpu.notes == [
        "The matrix products of a step are 321 MFLOP, which is 2140 GFLOP/s at the floor.",
        "Each contestant was timed in 8 rounds. A ratio is the median over the rounds of the ratio within a round.",
        taken,
    ]


def of_older_version(**more):
    """A result without a device, a precision, a peak, or what disturbed each contestant, and without the floor."""
    new = "taken", "dropped", "disturbed"
    rows = [{key: value for key, value in row.items() if key not in new} for row in STEP["rows"][2:]]
    return {key: value for key, value in STEP.items() if key not in ("device", "precision", "peak")} | {"rows": rows} | more


@pytest.mark.parametrize("share, told", [(None, []), (0.0, []), (0.029, []), (0.03, ["3%"]), (1.25, ["125%"])])
def test_table_of_steps_of_older_versions(share, told):
    (table,) = tables.make_tables(document("step", of_older_version(share_of_others=share)))
    assert "float32, 2 threads" in table.title
    assert not {"÷ floor", "÷ peak", "taken", "dropped"} & set(table.columns)
    assert {len(row) for row in table.rows} == {len(table.columns)}
    assert table.notes[0] == "The matrix products of a step are 321 MFLOP."
    found = [note.split()[4] for note in table.notes if note.startswith("WARNING")]
    assert found == told


def test_table_of_kernels():
    (table,) = tables.make_tables(DOCUMENTS["kernels"])
    assert table.title == "operations at B 128, D 784, H 400, Z 20, L 1; float32, one thread, called from Python"
    assert table.columns == [
        *("operation", "backend", "µs", "min µs", "kB", "held in", "GB/s", "of bandwidth", "kFLOP", "GFLOP/s", "of peak")
    ]
    assert table.rows == [
        ["affine", "numpy", "20.25", "18.75", "810", "L2", "40.0", "31%", "40500", "2000.0", "77%"],
        ["normals", "numba", "162.50", "157.50", "11", "L1", "0.1", "2%", "", "", ""],
        ["adam", "numpy", "wrong", "", "", "", "", "", "", "", ""],
    ]
    moved, bandwidth, levels, computed, peak, *rest = table.notes
    assert moved.startswith("kB: each array") and bandwidth.startswith("of bandwidth: ") and computed.startswith("kFLOP: ")
    assert levels == "Bytes that a core reads and writes in each level, in GB/s: L1 221 and 118; memory 84 and 33."
    assert peak.startswith("of peak: 261 GFLOP/s, the largest of these: a product 245, a loop 261.")
    assert rest == [
        "WARNING: Disturbed blocks are kept of normals. Measure again when nothing else runs.",
        "cupy: only whole steps",
        "adam: AssertionError: adam",
    ]


def test_table_of_kernels_without_the_speeds_of_caches():
    rows = [KERNELS["rows"][0] | {"level": "", "share_of_bandwidth": None}]
    (table,) = tables.make_tables(document("kernels", KERNELS | {"levels": {}, "rows": rows}))
    assert table.rows == [["affine", "numpy", "20.25", "18.75", "810", "", "40.0", "", "40500", "2000.0", "77%"]]
    assert not any("in each level" in note for note in table.notes)


def test_table_of_scaling():
    """Rows are found by name, as each point has them in another order."""
    (table,) = tables.make_tables(DOCUMENTS["scaling"])
    assert table.title == "example at several values of batch, 2 threads; µs per step, median"
    assert table.columns == ["batch", "floor", "numba", "numpy"]
    assert table.rows == [
        ["16", "345", "313", "failed"],
        ["64", "662", "636", "3985"],
        ["32", "461", "missing", "3224"],
    ]
    assert table.notes == [
        "WARNING: Disturbed blocks are kept of numba. Measure again when nothing else runs.",
        "numpy: out of memory",
        "numba: no compiler",
    ]
    (table,) = tables.make_tables(document("scaling", SCALING | {"axis": "threads"}))
    assert table.title == "example at several values of threads; µs per step, median"
    assert table.columns[0] == "threads"
    old = [point | {"share_of_others": share} for point, share in zip(SCALING["points"], (0.04, 0.06, None))]
    (table,) = tables.make_tables(document("scaling", SCALING | {"points": old}))
    assert table.notes[0] == "WARNING: Other processes used 6% of these cores meanwhile. Measure again when there are none."


def test_table_of_training():
    (table,) = tables.make_tables(DOCUMENTS["training"])
    assert table.title == "example on MNIST to a test -ELBO of 105.6 nats, float32, 2 threads, seed 3"
    assert table.columns == ["contestant", "reached", "seconds", "epochs", "s per epoch", "test -ELBO", "start s"]
    assert table.rows == [
        ["numba", "yes", "4.98", "2", "2.49", "105.54", "0.5"],
        ["torch eager", "no", "16.05", "3", "5.35", "107.58", "1.8"],
        ["cupy", "missing", "", "", "", "", ""],
        ["numpy", "failed", "", "", "", "", ""],
    ]
    assert table.notes[1:] == ["cupy: no GPU is visible", "numpy: out of memory"]


def test_table_of_checkers():
    (table,) = tables.make_tables(DOCUMENTS["checkers"])
    assert table.title == "planted faults: 41 of calculus, 12 of randomness, 17 of meaning; and 33 right functions"
    assert table.columns == [
        *("checker", "calculus", "randomness", "meaning"),
        *("place", "cause", "false alarms", "refused", "ms"),
    ]
    assert table.rows == [
        ["vae_np", "41", "12", "16", "64", "29", "0", "1", "9.5"],
        ["gradcheck", "39", "12", "0", "48", "1", "2", "0", "20.0"],
        ["check_grads", "missing", "", "", "", "", "", "", ""],
    ]
    assert table.notes[-4:] == [
        "vae_np does not find: a beta of 4.",
        "gradcheck does not find: a sign; a factor; all of meaning.",
        "gradcheck calls wrong what is right: a large constant; a logarithm.",
        "check_grads: the module jax is not installed",
    ]


def test_lines_about_the_machine():
    of = "openblas 0.3 of numpy, architecture Zen, 12 threads; mkl 2026 of system, architecture Lake, 13 threads"
    lines = [
        "A Processor, 16 of 64 cores, Linux x86_64",
        f"BLAS: {of}",
        "Python 3.14.1, numpy 2.9, numba 0.99",
        "commit 0123456789ab+, 2026-01-02",
    ]
    assert tables.describe(DOCUMENTS["kernels"]) == lines
    gpu = "GPU: A GPU, driver 580.1 (CUDA 13.1), CUDA 13.2, cuBLAS 13.3.4, CuPy 14.5"
    assert tables.describe(DOCUMENTS["step"]) == [lines[0], gpu, *lines[1:]]
    settings = {"OMP_NUM_THREADS": "2", "BLAS": "slow"}
    bare = tables.describe(document("step", environment=settings, blas=[], commit=None, gpu=GPU | {"driver": None}))
    assert "BLAS: unknown" in bare and "commit unknown, 2026-01-02" in bare
    assert "driver unknown (CUDA 13.1)" in bare[1]
    assert bare[-1] == "environment: OMP_NUM_THREADS=2 BLAS=slow"
