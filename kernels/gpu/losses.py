"""The latents, likelihoods, bounds and estimators of `kernels.reference` on the GPU. No function waits for the GPU."""

import functools

import cupy  # pyright: ignore[reportMissingImports]  # it is installed only where there is a GPU

from vae_np.kernels.contract import Array, Number
from vae_np.kernels.gpu.arrays import number
from vae_np.kernels.gpu.device import by_row, launch, over

_over, _by_row = functools.partial(over, "losses"), functools.partial(by_row, "losses")

# ---------------------------------------------------------------------------- the sample z and its gradient's path


def reparameterize(mu: Array, logvar: Array, eps: Array, z: Array) -> Array:
    _over(z, "reparameterize", mu, logvar, eps, z, len(z), mu.size)
    return z


def reparameterize_backward_add(
    dz: Array, mu: Array, logvar: Array, eps: Array, dmu: Array, dlogvar: Array
) -> tuple[Array, Array]:
    _over(dmu, "reparameterize_backward_add", dz, logvar, eps, dmu, dlogvar, len(dz), mu.size)
    return dmu, dlogvar


# ------------------------------------------------------------------------------------------ KL(q(z|x) || p(z)), nats


def gaussian_kl(mu: Array, logvar: Array, eps: Array, z: Array, kl: Array) -> Array:
    _by_row(kl, "gaussian_kl", mu, logvar, kl, *mu.shape)
    return kl


def gaussian_kl_backward(
    dkl: Array, mu: Array, logvar: Array, eps: Array, z: Array, dz: Array, dmu: Array, dlogvar: Array
) -> tuple[Array, Array, Array]:
    _over(dmu, "gaussian_kl_backward", dkl, mu, logvar, dmu, dlogvar, *mu.shape)
    return dz, dmu, dlogvar


def sampled_kl(mu: Array, logvar: Array, eps: Array, z: Array, kl: Array) -> Array:
    _by_row(kl, "sampled_kl", logvar, eps, z, kl, *z.shape)
    return kl


def sampled_kl_backward(
    dkl: Array, mu: Array, logvar: Array, eps: Array, z: Array, dz: Array, dmu: Array, dlogvar: Array
) -> tuple[Array, Array, Array]:
    _over(dmu, "sampled_kl_backward", dkl, z, dz, dmu, dlogvar, *z.shape)
    return dz, dmu, dlogvar


# -------------------------------------------------------------------------------- nll = -log p(x|z) per sample, nats


def bernoulli_nll(logits: Array, output_logvar: Array, x: Array, nll: Array) -> Array:
    _by_row(nll, "bernoulli_nll", logits, x, nll, *logits.shape)
    return nll


def bernoulli_nll_backward(
    dnll: Array, logits: Array, output_logvar: Array, x: Array, dlogits: Array, doutput_logvar: Array
) -> tuple[Array, Array]:
    _over(dlogits, "bernoulli_nll_backward", dnll, logits, x, dlogits, *logits.shape)
    return dlogits, doutput_logvar


def gaussian_nll(mean: Array, output_logvar: Array, x: Array, nll: Array) -> Array:
    _by_row(nll, "gaussian_nll", mean, output_logvar, x, nll, *mean.shape, output_logvar.shape[2])
    return nll


def gaussian_nll_backward(
    dnll: Array, mean: Array, output_logvar: Array, x: Array, dmean: Array, doutput_logvar: Array
) -> tuple[Array, Array]:
    _by_row(
        dnll, "gaussian_nll_backward", dnll, mean, output_logvar, x, dmean, doutput_logvar, *mean.shape, output_logvar.shape[2]
    )
    return dmean, doutput_logvar


def bernoulli_mean(logits: Array, mean: Array) -> Array:
    _over(mean, "bernoulli_mean", logits, mean, mean.size)
    return mean


def gaussian_mean(output: Array, mean: Array) -> Array:
    cupy.copyto(mean, output)
    return mean


def continuous_bernoulli_nll(logits: Array, output_logvar: Array, x: Array, nll: Array) -> Array:
    _by_row(nll, "continuous_bernoulli_nll", logits, x, nll, *logits.shape)
    return nll


def continuous_bernoulli_nll_backward(
    dnll: Array, logits: Array, output_logvar: Array, x: Array, dlogits: Array, doutput_logvar: Array
) -> tuple[Array, Array]:
    _over(dlogits, "continuous_bernoulli_nll_backward", dnll, logits, x, dlogits, *logits.shape)
    return dlogits, doutput_logvar


def continuous_bernoulli_mean(logits: Array, mean: Array) -> Array:
    _over(mean, "continuous_bernoulli_mean", logits, mean, mean.size)
    return mean


# ----------------------------------------------------------- the bound: what each sample weighs in its example's loss


def elbo(nll: Array, kl: Array, beta: Number, loss: Array) -> Array:
    _over(loss, "elbo", nll, kl, number(beta, loss.dtype), loss, len(nll), *kl.shape)
    return loss


def elbo_backward(nll: Array, kl: Array, beta: Number, n_examples: int, dnll: Array, dkl: Array) -> tuple[Array, Array]:
    _over(dnll, "elbo_backward", number(beta, dkl.dtype), dnll, dkl, len(nll), *kl.shape, n_examples)
    return dnll, dkl


def iwae(nll: Array, kl: Array, beta: Number, loss: Array) -> Array:
    _over(loss, "iwae", nll, kl, number(beta, loss.dtype), loss, *nll.shape)
    return loss


def iwae_backward(nll: Array, kl: Array, beta: Number, n_examples: int, dnll: Array, dkl: Array) -> tuple[Array, Array]:
    return _by_example("iwae_backward", nll, kl, beta, n_examples, dnll, dkl)


# ---------------------------------------------------------------- other estimators of the gradient by mu and logvar of q


def sampled_kl_path_backward(
    dkl: Array, mu: Array, logvar: Array, eps: Array, z: Array, dz: Array, dmu: Array, dlogvar: Array
) -> tuple[Array, Array, Array]:
    _over(dmu, "sampled_kl_path_backward", dkl, logvar, eps, z, dz, dmu, dlogvar, *z.shape)
    return dz, dmu, dlogvar


def score_backward(
    dkl: Array, mu: Array, logvar: Array, eps: Array, z: Array, dz: Array, dmu: Array, dlogvar: Array
) -> tuple[Array, Array, Array]:
    _over(dmu, "score_backward", dkl, logvar, eps, dz, dmu, dlogvar, *z.shape)
    return dz, dmu, dlogvar


def elbo_score_backward(nll: Array, kl: Array, beta: Number, n_examples: int, dnll: Array, dkl: Array) -> tuple[Array, Array]:
    return _by_example("elbo_score_backward", nll, kl, beta, n_examples, dnll, dkl)


def iwae_score_backward(nll: Array, kl: Array, beta: Number, n_examples: int, dnll: Array, dkl: Array) -> tuple[Array, Array]:
    return _by_example("iwae_score_backward", nll, kl, beta, n_examples, dnll, dkl)


def vimco_backward(nll: Array, kl: Array, beta: Number, n_examples: int, dnll: Array, dkl: Array) -> tuple[Array, Array]:
    return _by_example("vimco_backward", nll, kl, beta, n_examples, dnll, dkl)


def _by_example(kernel_name, nll, kl, beta, n_examples, dnll, dkl):
    """Launch a kernel with a thread for each example, which goes through its samples."""
    L, B = nll.shape
    launch("losses", kernel_name, nll.dtype, B, nll, kl, number(beta, nll.dtype), dnll, dkl, L, B, n_examples)
    return dnll, dkl


def unit_path_weight(dnll: Array, beta: Number, n_examples: int, dz: Array) -> Array:
    return dz


def dreg_path_weight(dnll: Array, beta: Number, n_examples: int, dz: Array) -> Array:
    _over(dz, "dreg_path_weight", dnll, number(beta, dz.dtype), dz, *dz.shape, n_examples)
    return dz
