"""The machine: what the measured times depend on, and how fast its memory and its arithmetic are at best."""

import ctypes
import functools
import importlib.metadata
import os
import pathlib
import platform
import re
import subprocess
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from vae_np import kernels

PACKAGES = ("numpy", "scipy", "numba", "torch", "jax", "jaxlib", "jax-cuda12-plugin", "jax-cuda13-plugin")
PACKAGES += ("cupy-cuda12x", "cupy-cuda13x", "nvidia-cublas-cu12", "nvidia-cublas")
# NVIDIA's images keep the versions of their contents in variables NV_*, which change no speed.
SETTINGS = re.compile(
    r"^(?!NV_).*(BLAS|TF32)|^CUDA_LAUNCH_BLOCKING$|^(OMP|GOMP|KMP|MKL|BLIS|XLA|NUMBA|TORCH|TORCHINDUCTOR|JAX)_"
)


def describe() -> dict[str, Any]:
    """Return a description of the machine and its software, ready for JSON."""
    import scipy.linalg.cython_blas  # noqa: F401  the BLAS that Numba uses
    import threadpoolctl

    wanted = ("internal_api", "version", "architecture", "threading_layer", "num_threads")
    pools = [
        {"of": _owner(pool["filepath"])} | {key: pool.get(key) for key in wanted}
        for pool in threadpoolctl.threadpool_info()
        if pool["user_api"] == "blas"
    ]
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "processor": processor(),
        "cores": os.cpu_count(),
        "cores_allowed": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "pinned": hasattr(os, "sched_setaffinity"),
        "blas": pools,
        "gpu": gpu(),
        "python": platform.python_version(),
        "versions": {name: found for name in PACKAGES if (found := version(name))},
        "commit": commit(),
        "environment": settings(),
    }


def gpu() -> dict[str, Any] | None:
    """Return a description of the GPU and its software, ready for JSON; None where no GPU can be used."""
    if not kernels.available()["cupy"].ok:
        return None
    kernel_set: Any = kernels.load("cupy")
    device = kernel_set.device
    runtime, library, number = device.cupy.cuda.runtime, device.load_cublas(), ctypes.c_int()
    properties, cublas = runtime.getDeviceProperties(runtime.getDevice()), []
    for part in range(3):  # major, minor, patch
        device.checked(library.cublasGetProperty(part, ctypes.byref(number)), "cublasGetProperty")
        cublas.append(number.value)
    return {
        "name": properties["name"].decode(),
        "compute_capability": f"{properties['major']}.{properties['minor']}",
        "multiprocessors": properties["multiProcessorCount"],
        "driver": driver(),
        "cuda_of_driver": _cuda(runtime.driverGetVersion()),
        "cuda": _cuda(runtime.runtimeGetVersion()),
        "cublas": ".".join(map(str, cublas)),
        "cupy": device.cupy.__version__,
    }


def driver() -> str | None:
    """Return the version of NVIDIA's driver; None where nvidia-smi does not say it."""
    try:
        command = "nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=600).stdout.split()[0]
    except (OSError, subprocess.SubprocessError, IndexError):
        return None


def _cuda(number: int) -> str:
    return f"{number // 1000}.{number % 1000 // 10}"


def settings() -> dict[str, str]:
    """Return the environment variables that change how fast, or on how many threads, a library computes."""
    return {name: value for name, value in sorted(os.environ.items()) if SETTINGS.search(name)}


def processor() -> str:
    """Return the name of the processor."""
    try:
        for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def commit() -> str | None:
    """Return the commit of this clone, with a + where its files differ from the commit; None outside of a clone."""
    folder = pathlib.Path(__file__).parent

    def git(*arguments: str) -> str:
        command = ("git", "-C", folder, *arguments)
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        return git("rev-parse", "--short=12", "HEAD") + ("+" if git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def _owner(path: str) -> str:
    """Return the package that brought this copy of a library: numpy for .../numpy.libs/libopenblas.so."""
    folder = pathlib.Path(path).parent.name
    return folder.removesuffix(".libs") if folder.endswith(".libs") else "system"


def version(package: str) -> str | None:
    """Return the version of an installed package; None where it is not installed."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


# ---------------------------------------------------------------------------------------------- the machine at its best


def copy_bandwidth(n_bytes: int) -> float:
    """Return how many bytes per second np.copyto moves between the halves of n_bytes; reads and writes both count."""
    source = np.ones(max(1, n_bytes // 2), np.uint8)
    target = np.zeros_like(source)
    return 2 * source.size / _fastest(lambda: np.copyto(target, source))


def multiply_add_peak() -> dict[str, float]:
    """Return the float32 operations per second of a compiled loop and of NumPy's matrix products; a multiply-add is two."""
    x = np.linspace(0.5, 1.0, 2**17, dtype=np.float32).reshape(8, -1)
    loop = _multiply_adds()
    peaks = {"multiply-adds in a Numba loop": 2 * CHAIN * x.size / _fastest(lambda: loop(x, np.float32(0.5), np.float32(0.25)))}
    for n in (256, 512, 1024):
        a, b, out = (np.ones((n, n), np.float32) for _ in range(3))
        peaks[f"NumPy's product of {n} x {n}"] = 2 * n**3 / _fastest(lambda: np.matmul(a, b, out=out))
    return peaks


CHAIN = 16  # multiply-adds with each number that is loaded


@functools.cache
def _multiply_adds() -> Callable[..., np.float32]:
    import numba

    @numba.njit(fastmath={"contract", "reassoc"})
    def loop(x, factor, summand):
        total = np.float32(0)
        for i in range(x.shape[1]):
            # Eight independent numbers, as a multiply-add takes several cycles until its result can be used.
            a, b, c, d, e, f, g, h = x[0, i], x[1, i], x[2, i], x[3, i], x[4, i], x[5, i], x[6, i], x[7, i]
            for _ in range(CHAIN):
                a = a * factor + summand
                b = b * factor + summand
                c = c * factor + summand
                d = d * factor + summand
                e = e * factor + summand
                f = f * factor + summand
                g = g * factor + summand
                h = h * factor + summand
            total += a + b + c + d + e + f + g + h
        return total

    return loop


def _fastest(function: Callable[[], object], seconds: float = 0.1) -> float:
    """Return the least seconds of a call. All calls together take about `seconds`."""
    function()
    n = 1
    while (first := _seconds(function, n)) < 1e-3:
        n *= 2
    return min(first, *(_seconds(function, n) for _ in range(max(3, int(seconds / first))))) / n


def _seconds(function: Callable[[], object], n: int) -> float:
    """Return the seconds of n calls."""
    started = time.perf_counter()
    for _ in range(n):
        function()
    return time.perf_counter() - started
