"""The operations of `kernels.reference` for the CPU, compiled by Numba."""

from vae_np.kernels.cpu.noise import binarize, gather, normals
from vae_np.kernels.cpu.operations import (
    adagrad,
    adam,
    affine,
    affine_backward,
    affine_backward_add,
    affine_gradients,
    affine_relu,
    affine_softplus,
    affine_tanh,
    bernoulli_mean,
    bernoulli_nll,
    bernoulli_nll_backward,
    constant,
    constant_backward_add,
    constant_gradients,
    elbo,
    elbo_backward,
    gaussian_kl,
    gaussian_kl_backward,
    gaussian_mean,
    gaussian_nll,
    gaussian_nll_backward,
    iwae,
    iwae_backward,
    relu_backward,
    reparameterize,
    reparameterize_backward_add,
    sampled_kl,
    sampled_kl_backward,
    sgd,
    softplus_backward,
    tanh_backward,
)
from vae_np.kernels.cpu.product import about
from vae_np.kernels.cpu.program import capture, edges
from vae_np.kernels.reference import get, put, zeros
