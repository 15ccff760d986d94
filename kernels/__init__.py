"""The operations of a VAE, once for each array library, under the same names.

`reference` (NumPy) is the definition; `cpu` (Numba) repeats it in compiled loops, `gpu` (CuPy) in CUDA kernels. `load`
chooses a set by name.
"""

import functools
import importlib
import importlib.util
import logging
import types
from typing import NamedTuple, cast

from vae_np.kernels import contract
from vae_np.kernels.contract import KernelSet

TOOLKIT = "run `pip install 'cupy-cuda13x[ctk]'` (or 12x), which brings CUDA's own libraries"

MODULES = {"numpy": "vae_np.kernels.reference", "numba": "vae_np.kernels.cpu", "cupy": "vae_np.kernels.gpu"}


class Status(NamedTuple):
    """Whether a set can run here; if not, why, and what to do about it."""

    ok: bool
    reason: str = ""
    remedy: str = ""


def _install(extra):
    return f"run `pip install '.[{extra}]'` in the clone"  # no package index has vae_np


def _install_afresh(extra):
    return f"make a new virtual environment and {_install(extra)}"  # packages of another CUDA would stay in the old one


@functools.cache
def _numba():
    for package in ("numba", "scipy"):  # Numba takes its matrix product from SciPy
        if importlib.util.find_spec(package) is None:
            return Status(False, f"{package} is not installed", f"run `pip install {package}`")
    try:
        import numba
    except Exception as error:  # a NumPy that it does not know, or a broken installation
        return Status(False, f"numba cannot be used: {_line(error)}", "run `pip install --upgrade numba`")
    if numba.config.DISABLE_JIT:
        return Status(False, "the environment sets NUMBA_DISABLE_JIT, so that nothing is compiled", "unset NUMBA_DISABLE_JIT")
    return Status(True)


@functools.cache
def _cupy():
    if importlib.util.find_spec("cupy") is None:
        return Status(False, "cupy is not installed", f"{_install('cuda13')} (or cuda12) where there is an NVIDIA GPU")
    try:
        import cupy

        driver, built_for = cupy.cuda.runtime.driverGetVersion(), cupy.cuda.runtime.runtimeGetVersion()
    except Exception as error:  # a broken installation raises almost anything
        return Status(False, f"cupy cannot be used: {_line(error)}", f"{_install_afresh('cuda13')} (or cuda12)")
    if driver == 0:
        return Status(False, "there is no NVIDIA driver", "install one where there is an NVIDIA GPU; else use numba")
    if driver // 1000 < min(12, built_for // 1000):
        return Status(False, f"the driver (CUDA {_version(driver)}) cannot be used: it is too old", "update the driver")
    if driver // 1000 < built_for // 1000:
        reason = f"the driver knows CUDA {_version(driver)}, and this cupy is for {_version(built_for)}"
        return Status(False, reason, f"update the driver, or {_install_afresh(f'cuda{driver // 1000}')}")
    try:
        seen = "" if cupy.cuda.runtime.getDeviceCount() else "none"
    except Exception as error:
        seen = _line(error)
    if seen:
        return Status(False, f"no GPU is visible: {seen}", "look at nvidia-smi and CUDA_VISIBLE_DEVICES; else use numba")
    try:
        nvrtc = cupy.cuda.nvrtc.getVersion()[0]
    except Exception as error:
        return Status(False, f"NVRTC cannot be loaded: {_line(error)}", TOOLKIT)
    if nvrtc != built_for // 1000:
        reason = f"cupy has loaded the NVRTC of CUDA {nvrtc}, and is for {_version(built_for)}: packages of both stand here"
        return Status(False, reason, _install_afresh(f"cuda{built_for // 1000}"))
    parts = {
        "NVRTC cannot compile": lambda: cupy.RawModule(code='extern "C" __global__ void f() {}').get_function("f"),
        "cuBLAS cannot be loaded": cupy.cuda.device.get_cublas_handle,
    }
    for what, part in parts.items():
        try:
            part()
        except Exception as error:
            return Status(False, f"{what}: {_line(error)}", TOOLKIT)
    return Status(True)


def _line(error):
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def _version(number):
    return f"{number // 1000}.{number % 1000 // 10}"


CHECKS = {"numpy": lambda: Status(True), "numba": _numba, "cupy": _cupy}  # the slowest first


def available():
    """{name: Status} of every set, the slowest first"""
    return {name: check() for name, check in CHECKS.items()}


def load(name: str | types.ModuleType = "auto") -> KernelSet:
    """The kernel set of that name; "auto" is the fastest that runs here. It has every operation and ability of the contract.

    A module is a set of your own. It must have every operation; an ability that it lacks gets the default, and `zeros`, `put`
    and `get` are NumPy's where it has none.

    ValueError: the name is unknown. RuntimeError: the set cannot run here. TypeError: the module lacks an operation.
    """
    if isinstance(name, types.ModuleType):
        return _whole(name)
    if name == "auto":
        name = next(known for known in reversed(CHECKS) if CHECKS[known]().ok)
        logging.getLogger("vae_np").info("backend 'auto' is %r", name)
    if name not in CHECKS:
        raise ValueError(f"backend is {name!r}; known are {', '.join(map(repr, ['auto', *CHECKS]))}")
    status = CHECKS[name]()
    if not status.ok:
        raise RuntimeError(f"backend {name!r} cannot run: {status.reason}; {status.remedy}")
    return _whole(importlib.import_module(MODULES[name]))


@functools.cache
def _whole(module: types.ModuleType) -> KernelSet:
    """The module, or a copy of it that has the defaults of what the module lacks."""
    contract.exports(module)
    reference = vars(importlib.import_module(MODULES["numpy"]))
    defaults = contract.DEFAULTS | {name: reference[name] for name in contract.ARRAYS}
    if not defaults.keys() <= vars(module).keys():
        whole = types.ModuleType(module.__name__)
        vars(whole).update(defaults | vars(module))
        module = whole
    return cast(KernelSet, module)
