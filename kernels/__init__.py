"""The operations of a VAE, once for each array library, under the same names: kernel sets.

`contract` says what a kernel set is. `reference` (NumPy) is the definition of every operation; `cpu` (Numba) repeats it in
compiled loops, and `gpu` (CuPy) in CUDA kernels. `load` chooses a set by its name.
"""

import functools
import importlib
import importlib.util
import logging
import os
import types
from typing import NamedTuple, cast

from vae_np.kernels import contract
from vae_np.kernels.contract import KernelSet

ABILITIES = contract.DEFAULTS.keys() | contract.ARRAYS
MODULES = {"numpy": "vae_np.kernels.reference", "numba": "vae_np.kernels.cpu", "cupy": "vae_np.kernels.gpu"}


class Status(NamedTuple):
    """Whether a kernel set can run here; if not, why not, and what to do about it."""

    ok: bool
    reason: str = ""
    remedy: str = ""


def _install(extra: str) -> str:
    return f"run `pip install '.[{extra}]'` in the clone"  # no package index has vae_np


def _install_anew(extra: str) -> str:
    return f"make a new virtual environment and {_install(extra)}"  # packages of another CUDA would stay in the old one


@functools.cache
def _numba() -> Status:
    for package in ("numba", "scipy"):  # the matrix product of Numba is that of SciPy
        if importlib.util.find_spec(package) is None:
            return Status(False, f"{package} is not installed", f"run `pip install {package}`")
    try:
        from numba.core import config
    except Exception as error:  # NumPy is too new for it, or the installation is broken
        return Status(False, f"numba cannot be used: {_line(error)}", "run `pip install --upgrade numba`")
    if vars(config)["DISABLE_JIT"]:  # Numba adds its settings to the module when it runs
        return Status(False, "the environment sets NUMBA_DISABLE_JIT, so that nothing is compiled", "unset NUMBA_DISABLE_JIT")
    return Status(True)


@functools.cache
def _cupy() -> Status:
    if importlib.util.find_spec("cupy") is None:
        return Status(False, "cupy is not installed", f"{_install('cuda13')} (or cuda12) if there is an NVIDIA GPU")
    if os.environ.get("CUPY_ENABLE_UMP", "0") != "0":  # CuPy then neither copies an array nor waits for what fills it
        reason = "the environment sets CUPY_ENABLE_UMP, so that arrays of NumPy and of the GPU share their memory"
        return Status(False, reason, "unset CUPY_ENABLE_UMP")
    try:
        import cupy  # pyright: ignore[reportMissingImports]  # it is installed only where there is a GPU

        driver, built_for = cupy.cuda.runtime.driverGetVersion(), cupy.cuda.runtime.runtimeGetVersion()
    except Exception as error:  # from a broken installation comes almost any error
        return Status(False, f"cupy cannot be used: {_line(error)}", f"{_install_anew('cuda13')} (or cuda12)")
    if driver == 0:
        return Status(False, "there is no NVIDIA driver", "install it if there is an NVIDIA GPU; else use numba")
    if driver // 1000 < min(12, built_for // 1000):
        return Status(False, f"the driver is too old: it supports CUDA {_version(driver)}", "update the driver")
    if driver // 1000 < built_for // 1000:
        reason = f"the driver supports CUDA {_version(driver)}, but cupy is built for CUDA {_version(built_for)}"
        return Status(False, reason, f"update the driver, or {_install_anew(f'cuda{driver // 1000}')}")
    try:
        invisible = "" if cupy.cuda.runtime.getDeviceCount() else "CUDA counts none"
    except Exception as error:
        invisible = _line(error)
    if invisible:
        return Status(False, f"no GPU is visible: {invisible}", "look at nvidia-smi and CUDA_VISIBLE_DEVICES, or use numba")
    anew = _install_anew(f"cuda{built_for // 1000}")
    try:
        nvrtc = cupy.cuda.nvrtc.getVersion()[0]
    except Exception as error:
        return Status(False, f"NVRTC cannot be loaded: {_line(error)}", anew)
    if nvrtc != built_for // 1000:
        reason = f"cupy is built for CUDA {_version(built_for)}, but has loaded the NVRTC of CUDA {nvrtc}"
        return Status(False, f"{reason}: packages for both are installed", anew)
    parts = {
        "NVRTC cannot compile": lambda: cupy.RawModule(code='extern "C" __global__ void f() {}').get_function("f"),
        "cuBLAS cannot be loaded": cupy.cuda.device.get_cublas_handle,
    }
    for what, part in parts.items():
        try:
            part()
        except Exception as error:
            return Status(False, f"{what}: {_line(error)}", anew)
    return Status(True)


def _line(error: Exception) -> str:
    """The first line of what an error says."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def _version(number: int) -> str:
    return f"{number // 1000}.{number % 1000 // 10}"


CHECKS = {"numpy": lambda: Status(True), "numba": _numba, "cupy": _cupy}  # from the slowest set to the fastest


def available() -> dict[str, Status]:
    """Return the Status of every kernel set by its name, from the slowest set to the fastest."""
    return {name: check() for name, check in CHECKS.items()}


def load(name: contract.Backend = "auto", precision: str = contract.FULL) -> KernelSet:
    """Return a whole kernel set: it has every operation and every ability of the contract.

    Parameters
    ----------
    name
        "numpy", "numba" or "cupy", or "auto", which is the fastest of them that runs here. A module is a kernel set of your
        own: it must have every operation. For an ability that it lacks it gets the default, and for `zeros`, `put` and
        `get` those of NumPy.
    precision
        How the operands of matrix products are rounded: "float32" (not beyond the dtype of the arrays), "bfloat16" (to 8
        significant bits) or "tfloat32" (to 11).

    Raises
    ------
    ValueError
        The name is unknown, or the kernel set does not have the precision.
    RuntimeError
        The kernel set cannot run here; the message says why, and what to do about it.
    TypeError
        The module lacks an operation.

    Examples
    --------
    >>> import numpy as np
    >>> load("numpy").gaussian_mean(np.array([1.0, 2.0]), np.empty(2))
    array([1., 2.])
    """
    if isinstance(name, types.ModuleType):
        return _at(_whole(name), precision, name.__name__)
    if name == "auto":
        name = next(known for known in reversed(CHECKS) if CHECKS[known]().ok)
        logging.getLogger("vae_np").info("backend 'auto' is %r", name)
    if not isinstance(name, str) or name not in CHECKS:
        raise ValueError(f"backend is {name!r}; known are {', '.join(map(repr, ['auto', *CHECKS]))}")
    status = CHECKS[name]()
    if not status.ok:
        raise RuntimeError(f"backend {name!r} cannot run: {status.reason}; {status.remedy}")
    return _at(_whole(importlib.import_module(MODULES[name])), precision, name)


def precisions(name: contract.Backend) -> tuple[str, ...]:
    """Return the precisions at which `load` gives a kernel set. The errors are those of `load`."""
    return (contract.FULL, *load(name).precisions())


def _at(kernel_set: KernelSet, precision: str, name: str) -> KernelSet:
    """The kernel set of this name at a precision."""
    if precision == contract.FULL:
        return kernel_set
    known = precisions(kernel_set)
    if precision not in known:
        raise ValueError(f"precision is {precision!r}; backend {name!r} has {', '.join(map(repr, known))}")
    return _replaced(kernel_set, precision)


@functools.cache
def _replaced(kernel_set: KernelSet, precision: str) -> KernelSet:
    """A copy of the kernel set in which the functions of a precision take the place of its own."""
    own = types.ModuleType(kernel_set.__name__)
    vars(own).update(vars(kernel_set), **kernel_set.precisions()[precision])
    return cast(KernelSet, own)


def _whole(module: types.ModuleType) -> KernelSet:
    """The module, or a copy of it that has the defaults of what the module lacks."""
    return _checked(module, tuple(vars(module).get(name) for name in (*contract.OPERATIONS, *ABILITIES)))


@functools.cache
def _checked(module: types.ModuleType, functions: tuple[object, ...]) -> KernelSet:
    """The whole set; functions: those of the module, so that a module that has changed is checked and completed again."""
    contract.exports(module)
    if not vars(module).keys() >= ABILITIES:
        reference = vars(importlib.import_module(MODULES["numpy"]))
        whole = types.ModuleType(module.__name__)
        vars(whole).update(contract.DEFAULTS | {name: reference[name] for name in contract.ARRAYS} | vars(module))
        module = whole
    return cast(KernelSet, module)
