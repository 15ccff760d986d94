import pytest

from tests import host_cuda as cp
from tests.host_cuda.tests.sources import CODE, REALS, module


@pytest.fixture(scope="session", autouse=True)
def compiler():
    if cp.COMPILER is None:
        pytest.skip("no g++ is installed that could compile kernels for the host")


@pytest.fixture(scope="session", params=REALS)
def real(request):
    """The type of CUDA for which the kernels of CODE are compiled."""
    return request.param


@pytest.fixture(scope="session")
def kernels(real):
    """The module of CODE."""
    return module(CODE, REAL=real, AFTER_TILE="__syncthreads();")


@pytest.fixture(params=[("forward", 0), ("reverse", 0), ("shuffled", 1), ("shuffled", 2)], ids=lambda p: f"{p[0]}{p[1]}")
def in_order(request):
    """Let the test run in each order of threads."""
    with cp.order(*request.param):
        yield


@pytest.fixture(params=["end", "start"])
def placed(request):
    """Let the test run with a forbidden page behind, and with one before each array."""
    with cp.placement(request.param):
        yield
