import pytest
from hypothesis import settings

import kernels

settings.register_profile("vae_np", deadline=None, print_blob=True)  # the first example of a kind waits for a compiler
settings.load_profile("vae_np")

RUNNABLE = [name for name, status in kernels.available().items() if status.ok]


@pytest.fixture(params=RUNNABLE, scope="session")
def backend(request):
    """The name of each backend that runs on this machine."""
    return request.param


@pytest.fixture(scope="session")
def kernel_set(backend):
    return kernels.load(backend)
