"""All operations of this kernel set in one module, which is itself a kernel set: `graph` captures what they launch."""

from vae_np.kernels import contract
from vae_np.kernels.gpu import batches, layers, losses, updates
from vae_np.kernels.gpu.arrays import get, put, zeros

globals().update(contract.DEFAULTS, **contract.exports(layers, losses, updates, batches), zeros=zeros, put=put, get=get)
