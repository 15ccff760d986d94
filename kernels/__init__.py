"""The operations of a VAE, once for each array library, under the same names.

`reference` (NumPy) is the definition; `cpu` (Numba) repeats it in compiled loops. `load` chooses a set by name.
"""

import functools
import importlib
import importlib.util
import types
from typing import NamedTuple

PROJECT = "vae_np"  # tells this package from others of its name

MODULES = {"numpy": "kernels.reference", "numba": "kernels.cpu", "cupy": "kernels.gpu"}


class Status(NamedTuple):
    """Whether a set can run here; if not, why, and what to do about it."""

    ok: bool
    reason: str = ""
    remedy: str = ""


def available():
    """{name: Status} of every set, the slowest first"""
    return {
        "numpy": Status(True),
        "numba": _numba(),
        "cupy": _cupy(),
    }


def _numba():
    for package in ("numba", "scipy"):  # Numba takes its matrix product from SciPy
        if importlib.util.find_spec(package) is None:
            return Status(False, f"{package} is not installed", f"pip install {package}")
    return Status(True)


@functools.cache
def _cupy():
    if importlib.util.find_spec("cupy") is None:
        return Status(False, "cupy is not installed", "pip install 'vae_np[cuda13]' (or cuda12), if there is an NVIDIA GPU")
    try:
        import cupy

        runtime = cupy.cuda.runtime
        driver = runtime.driverGetVersion()
    except Exception as error:  # a broken installation raises almost anything
        return Status(False, f"cupy cannot be imported: {_line(error)}", "pip install --force-reinstall 'vae_np[cuda13]'")
    if driver == 0:
        return Status(False, "there is no NVIDIA driver", "install one, if there is an NVIDIA GPU; else use numba")
    try:
        n_devices, version = runtime.getDeviceCount(), runtime.runtimeGetVersion()
    except Exception as error:
        remedy = "update the driver, or pip install the cupy of its CUDA version: 'vae_np[cuda12]'"
        return Status(False, f"the driver (CUDA {_version(driver)}) cannot be used: {_line(error)}", remedy)
    if n_devices == 0:
        return Status(False, "no GPU is visible", "look at CUDA_VISIBLE_DEVICES and nvidia-smi; else use numba")
    if driver // 1000 < version // 1000:
        reason = f"the driver knows CUDA {_version(driver)}, and this cupy is for {_version(version)}"
        return Status(False, reason, f"update the driver, or pip install 'vae_np[cuda{driver // 1000}]'")
    try:
        cupy.RawModule(code='extern "C" __global__ void nothing() {}').get_function("nothing")
    except Exception as error:
        return Status(False, f"NVRTC cannot compile: {_line(error)}", "pip install 'cupy-cuda13x[ctk]', CUDA's own libraries")
    return Status(True)


def _line(error):
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def _version(number):
    return f"{number // 1000}.{number % 1000 // 10}"


def load(name="auto"):
    """The set of that name, a module; "auto" is the fastest that runs here. A module is a set of one's own, and taken as it is.

    ValueError for an unknown name, RuntimeError for a set that cannot run here.
    """
    if isinstance(name, types.ModuleType):
        return name
    status = available()
    if name == "auto":
        name = [known for known, state in status.items() if state.ok][-1]
    if name not in status:
        raise ValueError(f"backend is {name!r}; known are {', '.join(map(repr, ['auto', *status]))}")
    if not status[name].ok:
        raise RuntimeError(f"backend {name!r} cannot run: {status[name].reason}; {status[name].remedy}")
    return importlib.import_module(MODULES[name])
