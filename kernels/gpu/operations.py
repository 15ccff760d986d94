"""The operations of `kernels.reference` on the GPU: arrays in, kernels launched, arrays out. Nothing waits for the device."""

import cupy
import numpy as np

from vae_np.kernels.gpu.device import TURN, launch, product

SUMMING = 1024  # threads that sum columns together, whole warps

# ---------------------------------------------------------------------------------------------------------- arrays


def zeros(shape, dtype):
    return cupy.zeros(shape, dtype)


def put(array):
    return array if isinstance(array, cupy.ndarray) else cupy.asarray(np.asarray(array, order="C"))


def get(array):
    return cupy.asnumpy(array) if isinstance(array, cupy.ndarray) else array


def _number(value, dtype):
    """A number as an array of no axes, in which a captured step will find another one each time."""
    return value if isinstance(value, cupy.ndarray) else cupy.asarray(np.asarray(value, dtype))


def _rows(x):
    return x.reshape(-1, x.shape[-1])


def _over(array, kernel, *arguments):
    """Launch one of the operations' kernels over all elements of an array."""
    launch("operations", kernel, array.dtype, array.size, *arguments)


def _by_row(array, kernel, *arguments):
    """Launch one with a block for each element of an array, which it sums."""
    launch("operations", kernel, array.dtype, array.size, *arguments, per_block=1)


# ---------------------------------------------------------------------------------------------------------- layers


def _layer(finish, x, W, b, y):
    """A product, and a kernel that adds the bias to it and applies what comes then."""
    product(_rows(x), W, _rows(y))
    _over(y, finish, b, y, y.size, y.shape[-1])
    return y


def affine(x, W, b, y):
    return _layer("add_bias", x, W, b, y)


def affine_backward(dy, W, dx):
    product(_rows(dy), W, _rows(dx), b_as=TURN)
    return dx


def affine_backward_add(dy, W, dx):
    product(_rows(dy), W, _rows(dx), b_as=TURN, add=True)
    return dx


def affine_gradients(x, dy, W, l2, dW, db):
    if l2:
        _over(dW, "scale", W, W.dtype.type(l2), dW, dW.size)
    product(_rows(x), _rows(dy), dW, a_as=TURN, add=bool(l2))
    _sum_rows(dy, db)
    return dW, db


def _sum_rows(dy, db):
    sizes = _rows(dy).shape
    launch("operations", "column_sums", db.dtype, db.size, dy, db, *sizes, block=SUMMING, per_block=32)


def constant(x, W, b, y):
    _over(y, "constant", b, y, y.size, y.shape[-1])
    return y


def constant_backward_add(dy, W, dx):
    return dx


def constant_gradients(x, dy, W, l2, dW, db):
    _sum_rows(dy, db)
    return dW, db


# ----------------------------------------------------------------------- hidden layers: affine, then an activation


def affine_relu(x, W, b, y, h):
    return _layer("bias_relu", x, W, b, h)


def relu_backward(dh, y, h):
    _over(dh, "relu_backward", dh, h, dh.size)
    return dh


def affine_tanh(x, W, b, y, h):
    return _layer("bias_tanh", x, W, b, h)


def tanh_backward(dh, y, h):
    _over(dh, "tanh_backward", dh, h, dh.size)
    return dh


def affine_softplus(x, W, b, y, h):
    return _layer("bias_softplus", x, W, b, h)


def softplus_backward(dh, y, h):
    _over(dh, "softplus_backward", dh, h, dh.size)
    return dh


# ---------------------------------------------------------------------------- the sample z and its gradient's path


def reparameterize(mu, logvar, eps, z):
    _over(z, "reparameterize", mu, logvar, eps, z, len(z), mu.size)
    return z


def reparameterize_backward_add(dz, mu, logvar, eps, dmu, dlogvar):
    _over(dmu, "reparameterize_backward_add", dz, logvar, eps, dmu, dlogvar, len(dz), mu.size)
    return dmu, dlogvar


# ------------------------------------------------------------------------------------------ KL(q(z|x) || p(z)), nats


def gaussian_kl(mu, logvar, eps, z, kl):
    _by_row(kl, "gaussian_kl", mu, logvar, kl, *mu.shape)
    return kl


def gaussian_kl_backward(dkl, mu, logvar, eps, z, dz, dmu, dlogvar):
    _over(dmu, "gaussian_kl_backward", dkl, mu, logvar, dmu, dlogvar, *mu.shape)
    return dz, dmu, dlogvar


def sampled_kl(mu, logvar, eps, z, kl):
    _by_row(kl, "sampled_kl", logvar, eps, z, kl, *z.shape)
    return kl


def sampled_kl_backward(dkl, mu, logvar, eps, z, dz, dmu, dlogvar):
    _over(dmu, "sampled_kl_backward", dkl, z, dz, dmu, dlogvar, *z.shape)
    return dz, dmu, dlogvar


# -------------------------------------------------------------------------------- nll = -log p(x|z) per sample, nats


def bernoulli_nll(logits, output_logvar, x, nll):
    _by_row(nll, "bernoulli_nll", logits, x, nll, *logits.shape)
    return nll


def bernoulli_nll_backward(dnll, logits, output_logvar, x, dlogits, doutput_logvar):
    _over(dlogits, "bernoulli_nll_backward", dnll, logits, x, dlogits, *logits.shape)
    return dlogits, doutput_logvar


def gaussian_nll(mean, output_logvar, x, nll):
    _by_row(nll, "gaussian_nll", mean, output_logvar, x, nll, *mean.shape, output_logvar.shape[2])
    return nll


def gaussian_nll_backward(dnll, mean, output_logvar, x, dmean, doutput_logvar):
    _by_row(
        dnll, "gaussian_nll_backward", dnll, mean, output_logvar, x, dmean, doutput_logvar, *mean.shape, output_logvar.shape[2]
    )
    return dmean, doutput_logvar


def bernoulli_mean(logits, mean):
    _over(mean, "bernoulli_mean", logits, mean, mean.size)
    return mean


def gaussian_mean(output, mean):
    cupy.copyto(mean, output)
    return mean


# ----------------------------------------------------------- the bound: what each sample weighs in its example's loss


def elbo(nll, kl, beta, loss):
    _over(loss, "elbo", nll, kl, _number(beta, loss.dtype), loss, len(nll), *kl.shape)
    return loss


def elbo_backward(nll, kl, beta, n_examples, dnll, dkl):
    _over(dnll, "elbo_backward", _number(beta, dkl.dtype), dnll, dkl, len(nll), *kl.shape, n_examples)
    return dnll, dkl


def iwae(nll, kl, beta, loss):
    _over(loss, "iwae", nll, kl, _number(beta, loss.dtype), loss, *nll.shape)
    return loss


def iwae_backward(nll, kl, beta, n_examples, dnll, dkl):
    L, B = nll.shape
    arguments = nll, kl, _number(beta, nll.dtype), dnll, dkl, L, B, n_examples
    launch("operations", "iwae_backward", nll.dtype, B, *arguments)
    return dnll, dkl


# ---------------------------------------------------------------- updates of the flat parameters p by the gradient g


def sgd(p, g, velocity, learning_rate, momentum):
    _over(p, "sgd", p, g, velocity, _number(learning_rate, np.float64), float(momentum), p.size)
    return p


def adagrad(p, g, squares, learning_rate, epsilon):
    _over(p, "adagrad", p, g, squares, _number(learning_rate, np.float64), float(epsilon), p.size)
    return p


def adam(p, g, m, v, step, learning_rate, beta1, beta2, epsilon):
    numbers = _number(step, np.int64), _number(learning_rate, np.float64), float(beta1), float(beta2), float(epsilon)
    _over(p, "adam", p, g, m, v, *numbers, p.size)
    return p


# ----------------------------------------------------------------------------------------------- batches and noise


def _whole_numbers(array):
    """The array, if it is what a kernel was compiled for: it would take any other for that all the same."""
    if array.dtype != np.int64:
        raise TypeError(f"the numbers of rows are {array.dtype}; they must be int64")
    return array


def gather(data, rows, x):
    launch("batches", f"gather_{data.dtype.name}", x.dtype, x.size, data, _whole_numbers(rows), x, *x.shape)
    return x


def normals(key, step, examples, eps):
    L, B, Z = eps.shape
    counters = L * B * -(-Z // 4)
    numbers = np.uint64(key), _number(step, np.int64), _whole_numbers(examples)
    launch("batches", "normals", eps.dtype, counters, *numbers, eps, L, B, Z)
    return eps


def binarize(pixels, key, step, examples, x):
    B, D = x.shape
    counters = B * -(-D // 4)
    numbers = np.uint64(key), _number(step, np.int64), _whole_numbers(examples)
    launch("batches", "binarize", x.dtype, counters, pixels, *numbers, x, B, D)
    return x
