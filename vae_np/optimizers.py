"""Optimizers: how the flat parameters follow the flat gradient. The updates themselves are operations of the kernel sets."""

import dataclasses
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from vae_np.architecture import check_number
from vae_np.kernels.contract import KernelSet
from vae_np.parameters import Parameters


@dataclasses.dataclass(frozen=True)
class Optimizer:
    """What all optimizers have: a learning rate, arrays of the shape of the flat parameters, and an update."""

    learning_rate: float

    ARRAYS: ClassVar[tuple[str, ...]] = ()  # the names of the arrays that it keeps

    def __post_init__(self):
        self._check("learning_rate", above=True)

    def _check(self, *names: str, above: bool = False, below: float = np.inf) -> None:
        for name in names:
            value = check_number(name, getattr(self, name), above=above)
            if not value < below:
                raise ValueError(f"{name} is {value!r}; it must be below {below:g}")
            object.__setattr__(self, name, value)

    def initial_state(self, p: Parameters) -> dict[str, NDArray]:
        """The arrays that it keeps before the first update, all 0 unless a subclass says otherwise."""
        return {name: np.zeros_like(p.flat) for name in self.ARRAYS}

    def update(
        self, kernels: KernelSet, p: NDArray, g: NDArray, state: dict[str, NDArray], step: Any, learning_rate: Any
    ) -> None:
        """Change the flat parameters p and the arrays by the flat gradient g; step counts the updates from 1."""
        raise NotImplementedError


@dataclasses.dataclass(frozen=True)
class SGD(Optimizer):
    """Gradient descent with momentum: `kernels.reference.sgd`"""

    learning_rate: float = 0.01
    momentum: float = 0.0

    ARRAYS = ("velocity",)

    def __post_init__(self):
        super().__post_init__()
        self._check("momentum")

    def update(self, kernels, p, g, state, step, learning_rate):
        kernels.sgd(p, g, state["velocity"], learning_rate, self.momentum)


@dataclasses.dataclass(frozen=True)
class Adagrad(Optimizer):
    """A rate for each parameter that falls with its squared gradients: `kernels.reference.adagrad`"""

    learning_rate: float = 0.01
    epsilon: float = 1e-8

    ARRAYS = ("squares",)

    def __post_init__(self):
        super().__post_init__()
        self._check("epsilon", above=True)

    def update(self, kernels, p, g, state, step, learning_rate):
        kernels.adagrad(p, g, state["squares"], learning_rate, self.epsilon)


@dataclasses.dataclass(frozen=True)
class Adam(Optimizer):
    """Running means of the gradient and its square: `kernels.reference.adam`"""

    learning_rate: float = 1e-3
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8

    ARRAYS = ("m", "v")

    def __post_init__(self):
        super().__post_init__()
        self._check("beta1", "beta2", below=1)
        self._check("epsilon", above=True)

    def update(self, kernels, p, g, state, step, learning_rate):
        kernels.adam(p, g, state["m"], state["v"], step, learning_rate, self.beta1, self.beta2, self.epsilon)


@dataclasses.dataclass(frozen=True)
class AdamW(Adam):
    """Adam with decoupled weight decay, which spares the biases: `kernels.reference.adamw`"""

    weight_decay: float = 0.01

    ARRAYS = ("m", "v", "decays")

    def __post_init__(self):
        super().__post_init__()
        self._check("weight_decay")

    def initial_state(self, p):
        state = super().initial_state(p)
        decays = Parameters(p.architecture, state["decays"])
        for weights in decays.weights.values():
            weights[...] = 1
        return state

    def update(self, kernels, p, g, state, step, learning_rate):
        settings = self.beta1, self.beta2, self.epsilon, self.weight_decay
        kernels.adamw(p, g, state["m"], state["v"], state["decays"], step, learning_rate, *settings)


OPTIMIZERS: dict[str, type[Optimizer]] = {"sgd": SGD, "adagrad": Adagrad, "adam": Adam, "adamw": AdamW}
