"""Made-up documents as --json keeps them, in which no two figures that are shown are the same."""

MACHINE = {
    "system": "Linux x86_64",
    "processor": "A Processor",
    "cores": 64,
    "cores_allowed": 16,
    "pinned": True,
    "blas": [
        {
            "of": "numpy",
            "internal_api": "openblas",
            "version": "0.3",
            "architecture": "Zen",
            "threading_layer": "pthreads",
            "num_threads": 12,
        },
        {
            "of": "system",
            "internal_api": "mkl",
            "version": "2026",
            "architecture": "Lake",
            "threading_layer": "omp",
            "num_threads": 13,
        },
    ],
    "gpu": None,
    "python": "3.14.1",
    "versions": {"numpy": "2.9", "numba": "0.99"},
    "commit": "0123456789ab+",
    "environment": {},
}
GPU = {
    "name": "A GPU",
    "compute_capability": "9.0",
    "multiprocessors": 132,
    "driver": "580.1",
    "cuda_of_driver": "13.1",
    "cuda": "13.2",
    "cublas": "13.3.4",
    "cupy": "14.5",
}


def document(benchmark, *results, **machine):
    return {"benchmark": benchmark, "date": "2026-01-02", "machine": MACHINE | machine, "results": list(results)}


def ok(name, *figures, **more):
    """A row of a contestant that was timed: median, p10 and minimum in µs."""
    seconds = dict(zip(("median", "p10", "minimum"), (f / 1e6 for f in figures)))
    return {"name": name, "status": "ok", "reason": "", **seconds, **more}


def off(name, status, reason, **more):
    return {"name": name, "status": status, "reason": reason, **more}


STEP = {
    "workload": "example",
    "architecture": "784-400-20",
    "activation": "tanh",
    "batch_size": 128,
    "n_samples": 5,
    "objective": "iwae",
    "flops": 321_000_000,
    "device": "cpu",
    "precision": "bfloat16",
    "threads": 2,
    "cores": [6, 7],
    "rounds": 8,
    "peak": {
        "all": {"a loop": 124e9, "a product": 99e9},
        "states": {"commonest": {"share": 0.75, "flops": 123e9}, "slower": {"share": 0.25, "flops": 88e9}},
    },
    "rows": [
        ok(
            "floor",
            1500,
            1400,
            1300,
            steps_per_block=91,
            note="alone",
            peak_memory_mb=61.2,
            taken=0.004,
            dropped=0,
            disturbed=0,
            ratios={"floor": 1.0, "peak": 1.15, "numba": 0.91, "torch eager": 0.32, "jax scan": 0.52},
        ),
        ok(
            "peak",
            1310,
            1308,
            1305,
            note="by a loop",
            ratios={"floor": 0.87, "peak": 1.0, "numba": 0.79, "torch eager": 0.28, "jax scan": 0.46},
        ),
        off("numpy", "wrong", "its loss is off", loss=99.0, loss_error=3e-2),
        ok(
            "numba",
            1650,
            1550,
            1450,
            steps_per_block=92,
            note="",
            peak_memory_mb=237.6,
            loss=98.0,
            loss_error=4e-8,
            taken=0.123,
            dropped=5,
            disturbed=2,
            ratios={"floor": 1.11, "peak": 1.27, "numba": 1.0, "torch eager": 0.33, "jax scan": 0.53},
        ),
        off("cupy", "missing", "no GPU is visible"),
        ok(
            "torch eager",
            4650,
            4550,
            4450,
            steps_per_block=93,
            note="Adam fused",
            peak_memory_mb=320.0,
            loss=97.0,
            loss_error=5e-7,
            taken=0.0,
            dropped=1,
            disturbed=0,
            ratios={"floor": 3.12, "peak": 3.58, "numba": 3.01, "torch eager": 1.0, "jax scan": 1.54},
        ),
        off("torch compiled", "failed", "out of memory", loss=96.0, loss_error=6e-7, steps_per_block=94),
        ok(
            "jax scan",
            2850,
            2750,
            2650,
            steps_per_block=95,
            note="",
            peak_memory_mb=371.0,
            loss=95.0,
            loss_error=7e-7,
            taken=0.016,
            dropped=2,
            disturbed=1,
            ratios={"floor": 1.92, "peak": 2.21, "numba": 1.71, "torch eager": 0.65, "jax scan": 1.0},
        ),
    ],
}
STEP_ON_GPU = STEP | {
    "workload": "wide",
    "device": "gpu",
    "precision": "float32",
    "threads": 1,
    "peak": {"all": {"a loop": 124e9}, "states": {"commonest": {"share": 1.0, "flops": 123e9}}},
    "rows": [
        ok(
            "floor gpu",
            150,
            140,
            130,
            steps_per_block=81,
            note="",
            peak_memory_mb=401.0,
            taken=0.001,
            dropped=3,
            disturbed=0,
            ratios={"floor gpu": 1.0, "cupy": 0.74},
        ),
        ok(
            "cupy",
            210,
            200,
            190,
            steps_per_block=82,
            note="",
            peak_memory_mb=402.0,
            taken=0.002,
            dropped=4,
            disturbed=0,
            loss=94.0,
            loss_error=8e-7,
            ratios={"floor gpu": 1.34, "cupy": 1.0},
        ),
    ],
}
KERNELS = {
    "sizes": {"B": 128, "D": 784, "H": 400, "Z": 20, "L": 1},
    "threads": 1,
    "cores": [7],
    "rounds": 10,
    "peak": {"all": {"a product": 245e9, "a loop": 261e9}},
    "levels": {"L1": {"bytes": 2**15, "read": 221e9, "write": 118e9}, "memory": {"read": 84e9, "write": 33e9}},
    "missing": {"cupy": "only whole steps"},
    "rows": [
        ok(
            "affine",
            20.25,
            19.0,
            18.75,
            backend="numpy",
            read=810_000 - 4_000,
            written=4_000,
            level="L2",
            operations=40_500_000,
            share_of_bandwidth=0.31,
            share_of_peak=0.77,
        ),
        ok(
            "normals",
            162.5,
            160.0,
            157.5,
            backend="numba",
            read=1_375,
            written=10_000,
            level="L1",
            operations=None,
            share_of_bandwidth=0.02,
            share_of_peak=None,
            disturbed=1,
        ),
        off("adam", "wrong", "AssertionError: adam", backend="numpy", read=9, written=9, level="L1", operations=9),
    ],
}
SCALING = {
    "axis": "batch",
    "rounds": 5,
    "points": [
        {
            "value": 16,
            "threads": 2,
            "flops": 1,
            "rows": [
                ok("floor", 345, 3, 1),
                ok("numba", 313, 3, 1),
                off("numpy", "failed", "out of memory"),
            ],
        },
        {
            "value": 64,
            "threads": 2,
            "flops": 1,
            "rows": [
                ok("numpy", 3985, 3, 1),
                ok("floor", 662, 3, 1),
                ok("numba", 636, 3, 1, disturbed=1),
            ],
        },
        {
            "value": 32,
            "threads": 2,
            "flops": 1,
            "rows": [
                ok("floor", 461, 3, 1),
                off("numba", "missing", "no compiler"),
                ok("numpy", 3224, 3, 1),
            ],
        },
    ],
}
TRAINING = {
    "workload": "example",
    "seed": 3,
    "target": 105.6,
    "threads": 2,
    "cores": [6, 7],
    "rows": [
        {
            "name": "numba",
            "status": "ok",
            "reason": "",
            "start_seconds": 0.52,
            "reached": True,
            "epochs": 2,
            "seconds": 4.98,
            "test": 105.54,
            "note": "",
            "peak_memory_mb": 1.0,
            "history": [{"epoch": 1, "seconds": 2.51, "test": 117.75}, {"epoch": 2, "seconds": 4.98, "test": 105.54}],
        },
        {
            "name": "torch eager",
            "status": "ok",
            "reason": "",
            "start_seconds": 1.83,
            "reached": False,
            "epochs": 3,
            "seconds": 16.05,
            "test": 107.58,
            "note": "",
            "peak_memory_mb": 1.0,
            "history": [
                {"epoch": 1, "seconds": 5.25, "test": 118.5},
                {"epoch": 2, "seconds": 10.75, "test": 111.25},
                {"epoch": 3, "seconds": 16.05, "test": 107.58},
            ],
        },
        {"name": "cupy", "status": "missing", "reason": "no GPU is visible", "history": []},
        {
            "name": "numpy",
            "status": "failed",
            "reason": "out of memory",
            "start_seconds": 5.1,
            "history": [{"epoch": 1, "seconds": 3.625, "test": 119.25}],
        },
    ],
}
DOCUMENTS = {
    "step": document("step", STEP, STEP_ON_GPU, gpu=GPU),
    "kernels": document("kernels", KERNELS),
    "scaling": document("scaling", SCALING),
    "training": document("training", TRAINING),
}
