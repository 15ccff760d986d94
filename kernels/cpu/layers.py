"""The layers of `kernels.reference` as compiled loops, which read and write each array once where they can.

The formulas stand in `kernels.reference`, under the same names. A row is what the last axis holds.
"""

import numpy as np

from vae_np.kernels.cpu.jit import by_types, kernel
from vae_np.kernels.cpu.mathematics import expm1, gelu, gelu_slope, inline, silu, silu_slope, softplus, tanh
from vae_np.kernels.cpu.product import product, product_transposed


@by_types
def rows(x):
    return (lambda x: x) if x.ndim == 2 else lambda x: x.reshape((-1, x.shape[-1]))


@inline
def flat(x):
    return x.reshape((x.size,))


@inline
def prefetch_only(y):
    """The arrays that a product prefetches, where y alone is one: the array that it fills."""
    return y, y[:0], y[:0]


@inline
def affine_into(x, W, b, y):
    product(rows(x), W, rows(y), prefetch_only(rows(y)))
    for i in range(rows(y).shape[0]):
        row = rows(y)[i]
        for o in range(row.shape[0]):
            row[o] += b[o]


@kernel
def affine(x, W, b, y):
    affine_into(x, W, b, y)
    return y


@kernel
def affine_backward(dy, W, dx):
    product_transposed(rows(dy), W, rows(dx))
    return dx


@kernel
def affine_backward_add(dy, W, dx):
    more = np.empty(rows(dx).shape, dx.dtype)
    product_transposed(rows(dy), W, more)
    for b in range(more.shape[0]):
        row, more_row = rows(dx)[b], more[b]
        for i in range(row.shape[0]):
            row[i] += more_row[i]
    return dx


@kernel
def affine_gradients(x, dy, W, l2, dW, db):
    gradients_of_layer(rows(x), rows(dy), rows(dy), W, l2, dW, db, prefetch_only(dW))
    return dW, db


@inline
def gradients_of_layer(x, dy, dy_to_sum, W, l2, dW, db, prefetched):
    """dy is the operand of the product, and dy_to_sum the same in full precision."""
    product(x.T, dy, dW, prefetched)
    if l2 != 0:
        for i in range(W.shape[0]):
            for o in range(W.shape[1]):
                dW[i, o] += l2 * W[i, o]
    sum_rows(dy_to_sum, db)


@inline
def sum_rows(dy, db):
    db[:] = 0
    for i in range(rows(dy).shape[0]):
        row = rows(dy)[i]
        for o in range(db.shape[0]):
            db[o] += row[o]


@kernel
def constant(x, W, b, y):
    for i in range(rows(y).shape[0]):
        row = rows(y)[i]
        for o in range(row.shape[0]):
            row[o] = b[o]
    return y


@kernel
def constant_backward_add(dy, W, dx):
    return dx


@kernel
def constant_gradients(x, dy, W, l2, dW, db):
    sum_rows(dy, db)
    return dW, db


# ------------------------------------------------------------------------- hidden layers: affine, then an activation


@kernel
def affine_relu(x, W, b, y, h):
    product(rows(x), W, rows(h), prefetch_only(rows(h)))
    for i in range(rows(h).shape[0]):
        row = rows(h)[i]
        for o in range(row.shape[0]):
            total = row[o] + b[o]
            row[o] = row.dtype.type(0) if total < 0 else total
    return h


@kernel
def relu_backward(dh, y, h):
    zero, dh_flat, h_flat = dh.dtype.type(0), flat(dh), flat(h)
    for i in range(h_flat.shape[0]):
        unmasked = dh_flat[i]  # it is read in either case, so that the loop has no branch
        dh_flat[i] = unmasked if h_flat[i] > zero else zero
    return dh


@kernel
def affine_tanh(x, W, b, y, h):
    product(rows(x), W, rows(h), prefetch_only(rows(h)))
    for i in range(rows(h).shape[0]):
        row = rows(h)[i]
        for o in range(row.shape[0]):
            row[o] = tanh(row[o] + b[o])
    return h


@kernel
def tanh_backward(dh, y, h):
    one, dh_flat, h_flat = dh.dtype.type(1), flat(dh), flat(h)
    for i in range(h_flat.shape[0]):
        dh_flat[i] *= (one - h_flat[i]) * (one + h_flat[i])
    return dh


@kernel
def affine_softplus(x, W, b, y, h):
    product(rows(x), W, rows(h), prefetch_only(rows(h)))
    for i in range(rows(h).shape[0]):
        row = rows(h)[i]
        for o in range(row.shape[0]):
            row[o] = softplus(row[o] + b[o])
    return h


@kernel
def softplus_backward(dh, y, h):
    dh_flat, h_flat = flat(dh), flat(h)
    for i in range(h_flat.shape[0]):
        dh_flat[i] *= -expm1(-h_flat[i])
    return dh


@kernel
def affine_silu(x, W, b, y, h):
    affine_into(x, W, b, y)
    y_flat, h_flat = flat(y), flat(h)
    for i in range(h_flat.shape[0]):
        h_flat[i] = silu(y_flat[i])
    return h


@kernel
def silu_backward(dh, y, h):
    dh_flat, y_flat = flat(dh), flat(y)
    for i in range(y_flat.shape[0]):
        dh_flat[i] *= silu_slope(y_flat[i])
    return dh


@kernel
def affine_gelu(x, W, b, y, h):
    affine_into(x, W, b, y)
    y_flat, h_flat = flat(y), flat(h)
    for i in range(h_flat.shape[0]):
        h_flat[i] = gelu(y_flat[i])
    return h


@kernel
def gelu_backward(dh, y, h):
    dh_flat, y_flat = flat(dh), flat(y)
    for i in range(y_flat.shape[0]):
        dh_flat[i] *= gelu_slope(y_flat[i])
    return dh
