"""What only a GPU can show. All other tests of kernel sets and backends run on it too: `pytest -m gpu` takes them all."""

import shutil
import subprocess
import sys

import numpy as np
import pytest

from tests.kernels.gpu.trainings import KINDS, stepped
from vae_np import elbo, kernels
from vae_np.testing import TOLERANCES

STATUS = kernels.available()["cupy"]
pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not STATUS.ok, reason=f"no GPU can be used: {STATUS.reason}")]


@pytest.mark.parametrize("real", ["float32", "float64"])
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind[2])
def test_captured_is_eager_is_the_reference(kind, real, monkeypatch, caplog):
    captured, wanted = stepped("cupy", kind, real), stepped("numpy", kind, real)
    assert not caplog.text, "no graph was captured"
    from vae_np.kernels.gpu import graph

    def refuse(*_):
        raise graph.cupy.cuda.runtime.CUDARuntimeError(801)

    stream = type("Stream", (type(graph.stream_of_graphs()),), {"begin_capture": refuse})(non_blocking=True)
    monkeypatch.setattr(graph, "stream_of_graphs", lambda: stream)
    one_by_one = stepped("cupy", kind, real)
    assert "steps are launched one by one" in caplog.text
    tolerance = 20 * TOLERANCES["model"][real]
    for a, b, w in zip(captured, one_by_one, wanted):
        assert (a == b).all()
        np.testing.assert_allclose(a, w, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("tool", ["memcheck", "racecheck", "synccheck"])
def test_nvidias_own_checker_finds_nothing(tool):
    checker = shutil.which("compute-sanitizer")
    if not checker:
        pytest.skip("compute-sanitizer is not installed: it comes with the CUDA toolkit")
    code = "import cupy; cupy.cuda.set_allocator(None)\n"  # each array by itself, so that what lies beside it is seen
    code += "from tests.kernels.gpu.trainings import *; [stepped('cupy', kind, 'float32', n=2) for kind in KINDS]"
    command = [checker, "--tool", tool, "--error-exitcode", "9", sys.executable]
    run = subprocess.run([*command, "-c", code], capture_output=True, text=True, timeout=600)
    assert run.returncode == 0, run.stdout[-3000:] + run.stderr[-3000:]


def test_the_large_products_are_not_rounded_to_tf32():
    text, rng = elbo.bind(KINDS[0][0], backend="cupy"), np.random.default_rng(0)
    x, W = rng.normal(size=(512, 2048)).astype(np.float32), rng.normal(size=(2048, 512)).astype(np.float32)
    y = text.zeros((512, 512), np.float32)
    text.kernels.affine(text.put(x), text.put(W), text.zeros(512, np.float32), y)
    wanted = x.astype(float) @ W
    assert np.abs(text.get(y) - wanted).max() < 1e-4 * np.abs(wanted).max()
