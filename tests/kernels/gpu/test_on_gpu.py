"""What only a GPU can show. Where there is one, all other tests of kernel sets run on it too: `pytest -m gpu` selects them."""

import itertools
import os
import pathlib
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest

from tests.kernels.gpu.trainings import EVERY_CHOICE, TRAININGS, stepped
from vae_np import kernels
from vae_np.kernels import reference
from vae_np.testing import TOLERANCES
from vae_np.testing.comparison import assert_near

PRECISIONS = ("float32", "bfloat16", "tfloat32")
STATUS = kernels.available()["cupy"]
pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not STATUS.ok, reason=f"no GPU can be used: {STATUS.reason}")]


@pytest.mark.parametrize("precision, real", [("float32", "float32"), *itertools.product(PRECISIONS, ["float64"])])
@pytest.mark.parametrize("training", EVERY_CHOICE, ids=str)
def test_a_captured_step_is_the_one_that_is_launched_and_that_of_the_reference(training, precision, real, monkeypatch, caplog):
    captured, wanted = (stepped(backend, training, real, precision=precision) for backend in ("cupy", "numpy"))
    assert not caplog.text, "no graph was captured"
    from vae_np.kernels.gpu import graph

    def refuse(*_):
        raise graph.cupy.cuda.runtime.CUDARuntimeError(801)

    stream = type("Stream", (type(graph.stream_of_graphs()),), {"begin_capture": refuse})(non_blocking=True)
    monkeypatch.setattr(graph, "stream_of_graphs", lambda: stream)
    one_by_one = stepped("cupy", training, real, precision=precision)
    assert "steps are launched one by one" in caplog.text
    tolerance = 20 * TOLERANCES["model"][real]
    for a, b, w in zip(captured, one_by_one, wanted):
        assert (a == b).all()
        np.testing.assert_allclose(a, w, rtol=tolerance, atol=tolerance)


ROOT = pathlib.Path(__file__).parents[3]
TOOLS = {  # (further options, an error that the tool must see, as the correct text and the wrong text)
    "memcheck": (["--report-api-errors", "no"], ("i < (n); i += gridDim", "i <= (n); i += gridDim")),
    "racecheck": ([], ("of_warp[warp] = value;\n    __syncthreads();", "of_warp[warp] = value;")),
    "synccheck": ([], None),  # a planted error could wait for ever
}
TRAINING = """
import cupy
cupy.cuda.set_allocator(None)  # each array has memory of its own, so that an access beyond its end is seen
from tests.kernels.gpu.trainings import EVERY_CHOICE, stepped
from vae_np.kernels.gpu import device
source, (right, wrong) = device.source, {change!r}
device.source = lambda *given: (source(*given)[0].replace(right, wrong), source(*given)[1])
for training in EVERY_CHOICE:
    stepped("cupy", training, "float32", n=2)
for real, precision in (("float32", "bfloat16"), ("float32", "tfloat32"), ("float64", "bfloat16")):
    stepped("cupy", training, real, n=2, precision=precision)
"""


@pytest.mark.parametrize("planted", [False, True])
@pytest.mark.parametrize("tool", TOOLS)
def test_nvidias_own_checker_finds_nothing_but_what_was_planted(tool, planted):
    """Of two steps the first one is launched kernel by kernel, and the second one as a graph."""
    from vae_np.kernels.gpu import device

    checker = shutil.which("compute-sanitizer", path=os.pathsep.join([os.environ.get("PATH", ""), "/usr/local/cuda/bin"]))
    if not checker:
        pytest.skip("compute-sanitizer is not installed: it comes with the CUDA toolkit")
    options, change = TOOLS[tool]
    if planted and not change:
        pytest.skip("no error is planted for it")
    ours = re.findall(r"__global__ void (\w+)", "".join(device.source(name, "float32")[0] for name in device.SOURCES))
    command = [checker, "--tool", tool, *options, "--error-exitcode", "9", "--target-processes", "all"]
    command += ["--launch-timeout", "0"]  # otherwise it stops where Python takes long to start
    command += [word for kernel in ours for word in ("--kernel-name", f"kne={kernel}")]  # those of cuBLAS would take too long
    code = TRAINING.format(change=change if planted else ("", ""))
    run = subprocess.run([*command, sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, timeout=580)
    said = run.stdout[-3000:] + run.stderr[-3000:]
    if "Device not supported" in said:
        pytest.skip("compute-sanitizer does not know this machine")
    if planted:
        assert run.returncode and re.search("Invalid __global__|Race reported", run.stdout), said
    else:
        assert run.returncode == 0 and re.search(r"SUMMARY: 0 (errors|hazards)", run.stdout), said


@pytest.mark.parametrize("precision", PRECISIONS[1:])
@pytest.mark.parametrize("training", TRAININGS, ids=str)
def test_captured_steps_of_rounded_operands_in_single_precision(training, precision):
    """Operands next to a tie are rounded either way, so that only the norm is compared."""
    (terms, p), (_, q) = (stepped(backend, training, "float32", 4, precision) for backend in ("cupy", "numpy"))
    assert np.isfinite(terms).all()
    assert_near(p, q, "p", "rounded")


@pytest.mark.parametrize("precision, bits, least", [("float32", 24, 0), ("tfloat32", 11, 1e-4), ("bfloat16", 8, 1e-3)])
def test_the_operands_of_large_products_are_rounded_to_as_many_bits_as_the_precision_has(precision, bits, least):
    rng, kernel_set = np.random.default_rng(0), kernels.load("cupy", precision)
    x, W = rng.normal(size=(512, 2048)).astype(np.float32), rng.normal(size=(2048, 512)).astype(np.float32)
    y = kernel_set.zeros((512, 512), np.float32)
    kernel_set.affine(kernel_set.put(x), kernel_set.put(W), kernel_set.zeros(512, np.float32), y)

    def off(x, W):
        exact = x.astype(float) @ W
        return np.abs(kernel_set.get(y) - exact).max() / np.abs(exact).max()

    assert off(reference.rounded(x, bits), reference.rounded(W, bits)) < 1e-4 and off(x, W) >= least
