"""The operations of `kernels.reference` for NVIDIA's GPUs: kernels of our own through CuPy, and matrix products of cuBLAS."""

from vae_np.kernels import contract
from vae_np.kernels.gpu import operations
from vae_np.kernels.gpu.arrays import get, put, zeros
from vae_np.kernels.gpu.device import about
from vae_np.kernels.gpu.graph import capture, edges
from vae_np.kernels.gpu.rounding import precisions

globals().update(contract.exports(operations))
