import gc
import os

import pytest
from hypothesis import settings

from tests.kernels.gpu import on_host
from vae_np import kernels
from vae_np.testing.operations import on_numpy

# The first example of a kind waits for a compiler. In CI a change fails by what it does, and not by what was drawn.
settings.register_profile("vae_np", deadline=None, print_blob=True, derandomize="VAE_NP_CI" in os.environ)
settings.load_profile("vae_np")

RUNNABLE = [
    pytest.param(name, marks=pytest.mark.gpu) if name == "cupy" else name
    for name, status in kernels.available().items()
    if status.ok
]
SETS = RUNNABLE + [on_host.NAME] * bool(on_host.KERNELS)
LOWER = [
    pytest.param((name, precision), id=f"{name}-{precision}", marks=[pytest.mark.gpu] * (name == "cupy"))
    for name, status in kernels.available().items()
    if status.ok
    for precision in kernels.precisions(name)[1:]
]


def pytest_configure(config):
    if config.getoption("numprocesses", None):  # one process for each core: more threads in each would only wait for cores
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    if os.environ.get("VAE_NP_CI"):
        try:
            import cuda.core  # noqa: F401
        except ImportError as error:
            raise pytest.UsageError(f"in CI the tests of the GPU's kernels may not skip: {error}") from None
        if not on_host.KERNELS:
            raise pytest.UsageError("in CI the tests of the GPU's kernels may not skip: they need Linux, g++ and nm")


def pytest_collection_finish():
    gc.freeze()  # each full collection of garbage would otherwise look at the thousands of tests again


@pytest.fixture(params=RUNNABLE, scope="session")
def backend(request):
    """The name of each backend that runs on this machine."""
    return request.param


@pytest.fixture(params=LOWER, scope="session")
def lower(request):
    """(backend, precision): each backend that runs on this machine, at each of its lower precisions."""
    return request.param


@pytest.fixture(scope="session")
def its_kernels(backend):
    """The kernel set of that backend; it takes NumPy's arrays."""
    return on_numpy(kernels.load(backend))


@pytest.fixture(params=SETS, scope="session")
def kernel_set(request):
    """Each kernel set that runs on this machine, and the GPU's with the host in its place; all take NumPy's arrays."""
    return on_numpy(on_host.KERNELS if request.param == on_host.NAME else kernels.load(request.param))
