"""Optimizers: how the flat parameters follow the flat gradient. The updates themselves are operations of the kernel sets."""

import dataclasses

import numpy as np

from vae_np.architecture import check_number


def _keep(optimizer, **fields):
    for name, value in fields.items():
        object.__setattr__(optimizer, name, value)


@dataclasses.dataclass(frozen=True)
class SGD:
    """Gradient descent with momentum: `kernels.reference.sgd`"""

    learning_rate: float = 0.01
    momentum: float = 0.0

    STATE = ("velocity",)

    def __post_init__(self):
        _keep(self, learning_rate=check_number("learning_rate", self.learning_rate, above=True))
        _keep(self, momentum=check_number("momentum", self.momentum))

    def update(self, kernels, p, g, state, step, learning_rate):
        kernels.sgd(p, g, state["velocity"], learning_rate, self.momentum)


@dataclasses.dataclass(frozen=True)
class Adagrad:
    """A rate for each parameter that falls with its squared gradients: `kernels.reference.adagrad`"""

    learning_rate: float = 0.01
    epsilon: float = 1e-8

    STATE = ("squares",)

    def __post_init__(self):
        _keep(self, learning_rate=check_number("learning_rate", self.learning_rate, above=True))
        _keep(self, epsilon=check_number("epsilon", self.epsilon, above=True))

    def update(self, kernels, p, g, state, step, learning_rate):
        kernels.adagrad(p, g, state["squares"], learning_rate, self.epsilon)


@dataclasses.dataclass(frozen=True)
class Adam:
    """Running means of the gradient and its square: `kernels.reference.adam`"""

    learning_rate: float = 1e-3
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8

    STATE = ("m", "v")

    def __post_init__(self):
        _keep(self, learning_rate=check_number("learning_rate", self.learning_rate, above=True))
        _keep(self, epsilon=check_number("epsilon", self.epsilon, above=True))
        for name in ("beta1", "beta2"):
            _keep(self, **{name: check_number(name, getattr(self, name))})
            if not getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)!r}; it must be below 1")

    def update(self, kernels, p, g, state, step, learning_rate):
        kernels.adam(p, g, state["m"], state["v"], step, learning_rate, self.beta1, self.beta2, self.epsilon)


OPTIMIZERS = {"sgd": SGD, "adagrad": Adagrad, "adam": Adam}


def initial_state(optimizer, flat):
    """The arrays an optimizer keeps, all 0, each of the shape of the flat parameters."""
    return {name: np.zeros_like(flat) for name in optimizer.STATE}
