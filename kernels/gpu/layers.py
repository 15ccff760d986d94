"""The layers of `kernels.reference` on the GPU: each function launches its kernels, and does not wait for the GPU."""

import functools

from vae_np.kernels.contract import Array, Number
from vae_np.kernels.gpu.arrays import rows
from vae_np.kernels.gpu.device import ABSENT, TRANSPOSED, launch, over, product

SUMMING = 1024  # how many threads sum columns together: whole warps

_over = functools.partial(over, "layers")


def _layer(finish, x, W, b, y):
    """Launch the product x @ W, and then a kernel that adds the bias and applies the activation."""
    product(rows(x), W, rows(y))
    _over(y, finish, b, y, y.size, y.shape[-1])
    return y


def _layer_with_y(finish, x, W, b, y, h):
    """Launch the product x @ W, and then a kernel that adds the bias to it, keeps the sum y and fills h."""
    product(rows(x), W, rows(y))
    _over(h, finish, b, y, h, h.size, h.shape[-1])
    return h


def affine(x: Array, W: Array, b: Array, y: Array) -> Array:
    return _layer("add_bias", x, W, b, y)


def affine_backward(dy: Array, W: Array, dx: Array) -> Array:
    product(rows(dy), W, rows(dx), b_as=TRANSPOSED)
    return dx


def affine_backward_add(dy: Array, W: Array, dx: Array) -> Array:
    product(rows(dy), W, rows(dx), b_as=TRANSPOSED, add=True)
    return dx


def affine_gradients(x: Array, dy: Array, W: Array, l2: Number, dW: Array, db: Array) -> tuple[Array, Array]:
    weight_gradient(x, dy, W, l2, dW)
    sum_rows(dy, db)
    return dW, db


def weight_gradient(x: Array, dy: Array, W: Array, l2: Number, dW: Array) -> None:
    """dW = x.T @ dy + l2 W          x and dy: as `product` takes them"""
    if l2:
        _over(dW, "scale", W, W.dtype.type(l2), dW, dW.size)
    product(rows(x), rows(dy), dW, a_as=TRANSPOSED, add=bool(l2))


def sum_rows(dy: Array, db: Array) -> None:
    """db = sum_rows dy"""
    sizes = rows(dy).shape
    launch("layers", "column_sums", db.dtype, db.size, dy, db, *sizes, block=SUMMING, per_block=32)


def constant(x: Array, W: Array, b: Array, y: Array) -> Array:
    _over(y, "constant", b, y, y.size, y.shape[-1])
    return y


def constant_backward_add(dy: Array, W: Array, dx: Array) -> Array:
    return dx


def constant_gradients(x: Array, dy: Array, W: Array, l2: Number, dW: Array, db: Array) -> tuple[Array, Array]:
    sum_rows(dy, db)
    return dW, db


# ----------------------------------------------------------------------- hidden layers: affine, then an activation


def affine_relu(x: Array, W: Array, b: Array, y: Array, h: Array) -> Array:
    return _layer("bias_relu", x, W, b, h)


def relu_backward(dh: Array, y: Array, h: Array) -> Array:
    _over(dh, "relu_backward", dh, ABSENT, h, dh.size)
    return dh


def affine_tanh(x: Array, W: Array, b: Array, y: Array, h: Array) -> Array:
    return _layer("bias_tanh", x, W, b, h)


def tanh_backward(dh: Array, y: Array, h: Array) -> Array:
    _over(dh, "tanh_backward", dh, ABSENT, h, dh.size)
    return dh


def affine_softplus(x: Array, W: Array, b: Array, y: Array, h: Array) -> Array:
    return _layer("bias_softplus", x, W, b, h)


def softplus_backward(dh: Array, y: Array, h: Array) -> Array:
    _over(dh, "softplus_backward", dh, ABSENT, h, dh.size)
    return dh


def affine_silu(x: Array, W: Array, b: Array, y: Array, h: Array) -> Array:
    return _layer_with_y("bias_silu", x, W, b, y, h)


def silu_backward(dh: Array, y: Array, h: Array) -> Array:
    _over(dh, "silu_backward", dh, ABSENT, y, dh.size)
    return dh


def affine_gelu(x: Array, W: Array, b: Array, y: Array, h: Array) -> Array:
    return _layer_with_y("bias_gelu", x, W, b, y, h)


def gelu_backward(dh: Array, y: Array, h: Array) -> Array:
    _over(dh, "gelu_backward", dh, ABSENT, y, dh.size)
    return dh
