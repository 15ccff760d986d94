"""The updates of `kernels.reference` on the GPU: the parameters p follow the gradient g. No function waits for the GPU."""

import functools

import numpy as np

from vae_np.kernels.contract import Array, Number
from vae_np.kernels.gpu.arrays import number
from vae_np.kernels.gpu.device import over

_over = functools.partial(over, "updates")


def sgd(p: Array, g: Array, velocity: Array, learning_rate: Number, momentum: float) -> Array:
    _over(p, "sgd", p, g, velocity, number(learning_rate, np.float64), float(momentum), p.size)
    return p


def adagrad(p: Array, g: Array, squares: Array, learning_rate: Number, epsilon: float) -> Array:
    _over(p, "adagrad", p, g, squares, number(learning_rate, np.float64), float(epsilon), p.size)
    return p


def adam(
    p: Array, g: Array, m: Array, v: Array, step: int | Array, learning_rate: Number, beta1: float, beta2: float, epsilon: float
) -> Array:
    numbers = number(step, np.int64), number(learning_rate, np.float64), float(beta1), float(beta2), float(epsilon)
    _over(p, "adam", p, g, m, v, *numbers, p.size)
    return p


def adamw(
    p: Array,
    g: Array,
    m: Array,
    v: Array,
    decays: Array,
    step: int | Array,
    learning_rate: Number,
    beta1: float,
    beta2: float,
    epsilon: float,
    weight_decay: float,
) -> Array:
    _over(p, "decay", p, decays, number(learning_rate, np.float64), float(weight_decay), p.size)
    return adam(p, g, m, v, step, learning_rate, beta1, beta2, epsilon)
