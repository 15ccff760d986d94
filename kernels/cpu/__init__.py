"""The operations of `kernels.reference` for the CPU, compiled by Numba."""

from vae_np.kernels.cpu.product import about
from vae_np.kernels.cpu.program import capture, edges
from vae_np.kernels.cpu.recording import OPERATIONS
from vae_np.kernels.reference import get, put, zeros

globals().update(OPERATIONS)
