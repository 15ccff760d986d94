"""The updates of `kernels.reference` as compiled loops: the parameters p follow the gradient g.

The formulas stand in `kernels.reference`, under the same names.
"""

import math

from vae_np.kernels.cpu.jit import inlined, kernel


@kernel
def sgd(p, g, velocity, learning_rate, momentum):
    rate, keep = p.dtype.type(learning_rate), p.dtype.type(momentum)
    for i in range(p.shape[0]):
        velocity[i] = keep * velocity[i] + g[i]
        p[i] -= rate * velocity[i]
    return p


@kernel
def adagrad(p, g, squares, learning_rate, epsilon):
    rate, small = p.dtype.type(learning_rate), p.dtype.type(epsilon)
    for i in range(p.shape[0]):
        squares[i] += g[i] * g[i]
        p[i] -= rate * g[i] / (math.sqrt(squares[i]) + small)
    return p


@kernel
def adam(p, g, m, v, step, learning_rate, beta1, beta2, epsilon):
    rate = p.dtype.type(learning_rate / (1 - beta1**step))
    per_std = p.dtype.type(1 / math.sqrt(1 - beta2**step))
    b1, b2, small = p.dtype.type(beta1), p.dtype.type(beta2), p.dtype.type(epsilon)
    c1, c2 = p.dtype.type(1 - beta1), p.dtype.type(1 - beta2)  # subtracted before rounding: 1 - beta2 may be tiny
    for i in range(p.shape[0]):
        m[i] = b1 * m[i] + c1 * g[i]
        v[i] = b2 * v[i] + c2 * (g[i] * g[i])
        p[i] -= rate * m[i] / (math.sqrt(v[i]) * per_std + small)
    return p


adam_inlined = inlined(adam)


@kernel
def adamw(p, g, m, v, decays, step, learning_rate, beta1, beta2, epsilon, weight_decay):
    shrink = p.dtype.type(learning_rate * weight_decay)
    for i in range(p.shape[0]):
        p[i] -= shrink * decays[i] * p[i]
    return adam_inlined(p, g, m, v, step, learning_rate, beta1, beta2, epsilon)
