"""A stand-in for CuPy: it runs CUDA kernels on the host, to test them where there is no GPU.

README.md says what it proves and how it works. This module has what a test needs, and everything that `cupy` has in code under
test: `with installed():` makes it the module `cupy`.
"""

from tests.host_cuda.arrays import (
    MemoryPointer,
    array,
    asarray,
    asnumpy,
    copyto,
    empty,
    empty_like,
    full,
    ndarray,
    zeros,
    zeros_like,
)
from tests.host_cuda.compiler import COMPILER
from tests.host_cuda.cublas import Cublas
from tests.host_cuda.errors import CompileException, CUDADriverError, CUDARuntimeError, KernelFault
from tests.host_cuda.installation import installed
from tests.host_cuda.interleaving import Lock, Turns
from tests.host_cuda.kernels import RawKernel, RawModule
from tests.host_cuda.settings import ORDERS, limits, order, placement
from tests.host_cuda.streams import (
    Device,
    Event,
    Graph,
    Stream,
    after_each_submission,
    get_current_stream,
    late,
    memcpyAsync,
    memsetAsync,
    synchronisations,
)
