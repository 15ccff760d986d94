import importlib.util
import re
import subprocess
import sys
import types
from typing import Any

import pytest

from vae_np import kernels
from vae_np.kernels import contract, reference


def test_auto_takes_the_fastest_that_runs():
    assert kernels.load("auto") is kernels.load([name for name, status in kernels.available().items() if status.ok][-1])


def test_an_unknown_backend_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match="backend is 'torch'; known are 'auto', 'numpy', 'numba', 'cupy'"):
        kernels.load("torch")


@pytest.mark.parametrize("precision", ["bf16", None, ["bfloat16"]])
def test_a_precision_that_a_set_does_not_have_is_refused_with_those_that_it_has(precision):
    own = types.ModuleType("mine")
    vars(own).update(contract.exports(reference))
    with pytest.raises(ValueError, match=re.escape(f"precision is {precision!r}; backend 'mine' has 'float32'")):
        kernels.load(own, precision)
    known = "backend 'numpy' has 'float32', 'bfloat16', 'tfloat32'"
    with pytest.raises(ValueError, match=re.escape(f"precision is {precision!r}; {known}")):
        kernels.load("numpy", precision)


def test_a_set_at_a_precision_is_one_set_that_has_the_name_of_the_whole():
    at_full, at_bfloat16 = kernels.load("numpy"), kernels.load("numpy", "bfloat16")
    assert kernels.load("numpy", "float32") is at_full
    assert kernels.load("numpy", "bfloat16") is at_bfloat16 is kernels.load(at_bfloat16)
    assert at_bfloat16.__name__ == at_full.__name__ and at_bfloat16.adam is at_full.adam


def test_a_backend_that_cannot_run_says_why_and_what_to_do(monkeypatch):
    status = kernels.Status(False, "no driver was found", "install one")
    monkeypatch.setattr(kernels, "CHECKS", {"numpy": lambda: kernels.Status(True), "numba": lambda: status})
    with pytest.raises(RuntimeError, match="backend 'numba' cannot run: no driver was found; install one"):
        kernels.load("numba")
    assert kernels.load("auto").__name__ == "vae_np.kernels.reference"


def error(text):
    def refuse(*_, **__):
        raise RuntimeError(text)

    return refuse


def a_cupy(
    driver: Any = 13000, runtime=13000, devices: Any = 1, nvrtc: Any = (13, 2), compile=lambda name: None, cublas=lambda: 1
):
    """A module that takes the place of CuPy on a machine of that kind; a function stands for a call that fails."""
    found = {"driverGetVersion": driver, "runtimeGetVersion": runtime, "getDeviceCount": devices}
    calls = {name: value if callable(value) else lambda value=value: value for name, value in found.items()}
    module: Any = types.ModuleType("cupy")
    module.cuda = types.SimpleNamespace(
        runtime=types.SimpleNamespace(**calls),
        device=types.SimpleNamespace(get_cublas_handle=cublas),
        nvrtc=types.SimpleNamespace(getVersion=nvrtc if callable(nvrtc) else lambda: nvrtc),
    )
    module.RawModule = lambda code: types.SimpleNamespace(get_function=compile)
    return module


@pytest.mark.parametrize(
    "cupy, reason, remedy",
    [
        (
            a_cupy(driver=error("libcuda.so.1 is missing\nmore")),
            "cupy cannot be used: libcuda.so.1 is missing",
            "new virtual environment",
        ),
        (a_cupy(driver=0), "there is no NVIDIA driver", "use numba"),
        (a_cupy(driver=11040), r"the driver is too old: it supports CUDA 11.4", "update"),
        (a_cupy(devices=error("cudaErrorNoDevice")), "no GPU is visible: cudaErrorNoDevice", "CUDA_VISIBLE_DEVICES"),
        (a_cupy(devices=0), "no GPU is visible", "CUDA_VISIBLE_DEVICES"),
        (a_cupy(driver=12080), "the driver supports CUDA 12.8, but cupy is built for CUDA 13.0", "cuda12"),
        (a_cupy(nvrtc=error("no libnvrtc.so")), "NVRTC cannot be loaded: no libnvrtc.so", "new virtual environment"),
        (
            a_cupy(runtime=12090, nvrtc=(13, 5)),
            "cupy is built for CUDA 12.9, but has loaded the NVRTC of CUDA 13: packages for both are installed",
            r"make a new virtual environment and run `pip install '.[cuda12]'` in the clone",
        ),
        (a_cupy(compile=error("no libnvrtc.so")), "NVRTC cannot compile: no libnvrtc.so", "[cuda13]"),
        (
            a_cupy(runtime=12090, nvrtc=(12, 9), cublas=error("no libcublas.so.12")),
            "cuBLAS cannot be loaded: no lib",
            "[cuda12]",
        ),
    ],
)
def test_what_keeps_a_gpu_from_working_is_said(monkeypatch, cupy, reason, remedy):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: True)
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    kernels._cupy.cache_clear()
    status = kernels.available()["cupy"]
    kernels._cupy.cache_clear()
    assert not status.ok and re.match(reason, status.reason) and remedy in status.remedy
    with monkeypatch.context() as patch:
        patch.setattr(kernels, "CHECKS", kernels.CHECKS | {"cupy": lambda: status})
        assert kernels.load("auto") is not sys.modules.get("vae_np.kernels.gpu")


def test_memory_that_numpy_and_the_gpu_share_is_refused(monkeypatch):
    """CuPy's `asarray`, and even its `array`, would not copy then, and `get` would not wait."""
    monkeypatch.setitem(sys.modules, "cupy", a_cupy())
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: True)
    for value, ok in (("1", False), ("0", True)):
        monkeypatch.setenv("CUPY_ENABLE_UMP", value)
        kernels._cupy.cache_clear()
        status = kernels.available()["cupy"]
        kernels._cupy.cache_clear()
        assert status.ok == ok and ("CUPY_ENABLE_UMP" in status.reason) == ("CUPY_ENABLE_UMP" in status.remedy) == (not ok)


def test_a_gpu_that_works_is_taken_and_cupy_that_is_missing_is_said(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", a_cupy())
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: True)
    kernels._cupy.cache_clear()
    assert kernels.available()["cupy"] == kernels.Status(True)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "cupy" else True)
    kernels._cupy.cache_clear()
    status = kernels.available()["cupy"]
    assert status.reason == "cupy is not installed" and "pip install '.[cuda13]'` in the clone" in status.remedy
    kernels._cupy.cache_clear()


def test_asking_for_one_set_does_not_import_what_others_need():
    code = "import sys; from vae_np import kernels; kernels.load('numpy'); print([m for m in ('numba', 'cupy') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "[]\n"


def test_the_word_about_compiling_is_only_of_our_own_kernels(tmp_path):
    code = "import numba; from vae_np import kernels; kernels.load('numba'); numba.njit(lambda x: x + 1)(2)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (run.returncode, run.stderr) == (0, "")


def test_importing_vae_np_is_light():
    code = "import sys, vae_np; print([m for m in ('matplotlib', 'sklearn', 'numba', 'cupy', 'scipy', 'rich') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "[]\n"


def test_a_whole_set_of_ones_own_is_taken_as_it_is():
    own = types.ModuleType("mine")
    vars(own).update({name: f for name, f in vars(kernels.load("numpy")).items() if not name.startswith("__")})
    assert kernels.load(own) is own
