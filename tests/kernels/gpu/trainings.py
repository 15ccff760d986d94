"""Trainings of a few steps, by which the tests compare the GPU's kernel set with the reference."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vae_np import SGD, Adagrad, Adam, Architecture, Parameters, elbo, steps
from vae_np.choices import ACTIVATIONS, ESTIMATORS, LIKELIHOODS, NOISES, OBJECTIVES
from vae_np.kernels.contract import FULL
from vae_np.optimizers import OPTIMIZERS, Optimizer

DATA = np.random.default_rng(0).integers(0, 256, (90, 30), dtype=np.uint8)
BATCH_SIZE = 16


class Training(NamedTuple):
    """What is trained, and how."""

    architecture: Architecture
    optimizer: Optimizer = Adam(0.01)
    objective: str = "elbo"
    n_samples: int = 1
    estimator: str = "total"

    def __str__(self) -> str:
        of = self.architecture
        return f"{of.activation}-{of.likelihood}-{of.noise}-{self.objective}-{self.estimator}-{type(self.optimizer).__name__}"

    def model_and_state(self, backend: Any, real: str, seed: int = 0) -> tuple[elbo.Model, Parameters, dict[str, Any]]:
        """Return the model, its initial parameters, and the arrays of the optimizer, all on the device of the backend."""
        model = elbo.bind(self.architecture, self.objective, backend, estimator=self.estimator)
        p = Parameters.initialize(self.architecture, dtype=real, seed=seed)
        state = {name: model.put(array) for name, array in self.optimizer.initial_state(p).items()}
        return model, p.moved(model.put), state


TRAININGS = [
    Training(Architecture(30, (20,), 4)),
    Training(Architecture(30, (20, 9), 4, "tanh", "gaussian", noise="shared"), Adagrad(0.01), "elbo_mc", 2),
    Training(Architecture(30, (), 4, "softplus", "gaussian", noise="heteroscedastic"), SGD(0.001, 0.9), "iwae", 3),
]


def _others():
    """A training for each choice that none of TRAININGS has."""
    architectures = [training.architecture for training in TRAININGS]

    def without(known, used):
        return [choice for choice in known if choice not in used]

    for activation in without(ACTIVATIONS, [of.activation for of in architectures]):
        yield Training(Architecture(30, (20,), 4, activation))
    for likelihood in without(LIKELIHOODS, [of.likelihood for of in architectures]):
        yield Training(Architecture(30, (20,), 4, likelihood=likelihood))
    for noise in without(NOISES, [of.noise for of in architectures if LIKELIHOODS[of.likelihood].has_noise]):
        yield Training(Architecture(30, (20,), 4, likelihood="gaussian", noise=noise))
    for objective in without(OBJECTIVES, [training.objective for training in TRAININGS]):
        yield Training(Architecture(30, (20,), 4), objective=objective)
    for estimator in without(ESTIMATORS.values(), [ESTIMATORS[training.estimator] for training in TRAININGS]):
        for objective in estimator.operations:
            yield Training(Architecture(30, (20,), 4), SGD(0.001), objective, 3, estimator.name)
    for optimizer in without(OPTIMIZERS.values(), [type(training.optimizer) for training in TRAININGS]):
        yield Training(Architecture(30, (20,), 4), optimizer(0.001))


EVERY_CHOICE = [*TRAININGS, *_others()]


def stepped(
    backend: Any, training: Training, real: str, n: int = 20, precision: str = FULL
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the terms of n steps, and the parameters after them."""
    model, p, state = training.model_and_state(backend, real)
    _, optimizer, objective, n_samples, estimator = training
    options = {"l2": 0.1, "backend": backend, "precision": precision, "estimator": estimator}
    run = steps.stepper(p, state, optimizer, DATA, BATCH_SIZE, objective, n_samples, **options)
    rows = np.random.default_rng(1).integers(0, len(DATA), (n, BATCH_SIZE))
    return run(rows, 1, 0.7, optimizer.learning_rate), model.get(p.flat)
