"""The machine: what the measured times depend on."""

import ctypes
import importlib.metadata
import os
import pathlib
import platform
import re
import subprocess
from typing import Any

from vae_np import kernels

PACKAGES = ("numpy", "scipy", "numba", "torch", "jax", "jaxlib", "autograd", "jax-cuda12-plugin", "jax-cuda13-plugin")
PACKAGES += ("cupy-cuda12x", "cupy-cuda13x", "nvidia-cublas-cu12", "nvidia-cublas")
# The variables that change on how many threads, with which instructions or in which precision a library computes.
SETTINGS = re.compile(
    r"\w+_(NUM|MAXIMUM)_THREADS|(OMP|GOMP|KMP)_(\w*AFFINITY|PROC_BIND|PLACES|DYNAMIC|SCHEDULE|WAIT_POLICY|BLOCKTIME|SPINCOUNT)"
    r"|OPENBLAS_(CORETYPE|L2_SIZE|THREAD_TIMEOUT)|MKL_(CBWR|DYNAMIC|ENABLE_INSTRUCTIONS|DEBUG_CPU_TYPE)|BLIS_ARCH_TYPE"
    r"|NPY_(EN|DIS)ABLE_CPU_FEATURES|(ONEDNN|DNNL)_(MAX_CPU_ISA|DEFAULT_FPMATH_MODE)|ATEN_CPU_CAPABILITY|GLIBC_TUNABLES"
    r"|NUMBA_(CPU_NAME|CPU_FEATURES|OPT|LOOP_VECTORIZE|SLP_VECTORIZE|ENABLE_AVX|BOUNDSCHECK|DEBUGINFO|DISABLE_JIT|FASTMATH)"
    r"|XLA_FLAGS|JAX_(DEFAULT_MATMUL_PRECISION|ENABLE_X64|DISABLE_JIT|DEBUG_NANS)|TORCHINDUCTOR_(?!CACHE)\w+"
    r"|\w*TF32\w*|CUBLAS_WORKSPACE_CONFIG|CUDA_LAUNCH_BLOCKING"
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
    """Return the environment variables that change how fast a library computes, and no others."""
    return {name: value for name, value in sorted(os.environ.items()) if SETTINGS.fullmatch(name)}


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
