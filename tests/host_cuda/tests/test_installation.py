"""The module cupy."""

import importlib.util
import sys

from tests import host_cuda as cp


def test_it_is_cupy_while_it_is_installed():
    before = sys.modules.get("cupy")
    with cp.installed():
        import cupy  # pyright: ignore[reportMissingImports]  # the stand-in
        from cupy.cuda import runtime  # pyright: ignore[reportMissingImports]  # the stand-in

        assert cupy.ndarray is cp.ndarray and cupy.cuda.runtime is runtime and runtime.getDeviceCount() == 1
        assert importlib.util.find_spec("cupy") and runtime.getDeviceProperties(0)["name"] == b"host"
    assert sys.modules.get("cupy") is before and "cupy.cuda" not in sys.modules
