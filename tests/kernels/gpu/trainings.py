"""Trainings of a few steps, of every activation, likelihood, objective and optimizer, to compare backends by."""

import numpy as np

from vae_np import SGD, Adagrad, Adam, Architecture, Parameters, elbo, steps

DATA = np.random.default_rng(0).integers(0, 256, (90, 30), dtype=np.uint8)
KINDS = [
    (Architecture(30, (20,), 4), Adam(0.01), "elbo", 1),
    (Architecture(30, (20, 9), 4, "tanh", "gaussian", noise="shared"), Adagrad(0.01), "elbo_mc", 2),
    (Architecture(30, (), 4, "softplus", "gaussian", noise="heteroscedastic"), SGD(0.001, 0.9), "iwae", 3),
]


def stepped(backend, kind, real, n=20, **options):
    """(terms, parameters) after n steps of a training."""
    architecture, optimizer, objective, n_samples = kind
    model, p = elbo.bind(architecture, objective, backend), Parameters.initialize(architecture, dtype=real)
    state, p = {name: model.put(array) for name, array in optimizer.initial_state(p).items()}, p.moved(model.put)
    run = steps.stepper(p, state, optimizer, DATA, 16, objective, n_samples, l2=0.1, backend=backend, **options)
    rows = np.random.default_rng(1).integers(0, len(DATA), (n, 16))
    return run(rows, 1, 0.7, optimizer.learning_rate), model.get(p.flat)
