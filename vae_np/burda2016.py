"""A repetition of a published result: Burda, Grosse & Salakhutdinov 2016 (arXiv 1509.00519), table 1, one stochastic layer."""

import os
from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from vae_np.architecture import Architecture, check_count
from vae_np.bounds import LogLikelihood, active_units, log_likelihood
from vae_np.data import Dataset
from vae_np.optimizers import Adam
from vae_np.parameters import Parameters
from vae_np.ranks import ALONE, Ranks
from vae_np.training import train

ARCHITECTURE = Architecture(784, (200, 200), 50, "tanh")
STAGES = 8  # stage i has 3^i epochs with a learning rate of 1e-3 * 10^(-i/7)
ENDS = np.cumsum(3 ** np.arange(STAGES))
SCHEDULE = [(int(end - 3**i), 10 ** (-i / 7)) for i, end in enumerate(ENDS)]


def burda(
    dataset: Dataset,
    stages: int = STAGES,
    objective: str = "elbo",
    k: int = 1,
    n_samples: int = 5000,
    seed: int = 0,
    backend: str = "auto",
    out: str | None = None,
    progress: Callable[[int, int, dict[str, float]], object] | None = None,
    estimator: str = "total",
    ranks: Ranks = ALONE,
) -> Iterator[tuple[int, int, LogLikelihood, NDArray]]:
    """Train on MNIST for the first stages of the published schedule, and estimate log p(x) of the test digits after each stage.

    The layers have the widths 784-200-200-50-200-200-784, and the activation is tanh. The batches have 20 digits, which are
    binarized anew for every batch. The optimizer is Adam (0.9, 0.999, 1e-4). The output bias begins at the logit of the mean
    training digit. The paper reports -log p(x) = 86.76 nats for k = 1 after all 8 stages, which have 3,280 epochs (table 1).

    Parameters
    ----------
    dataset : Dataset
        MNIST.
    stages : int
        The number of stages.
    objective : str
        The objective, as for `vae_np.train`.
    k : int
        The number of samples per example in training.
    n_samples : int
        The number of importance weights in the estimate of log p(x).
    seed : int
        The seed of all random numbers.
    backend : str
        The kernel set, as for `vae_np.train`.
    out : path, optional
        The folder of the run. A run that is there already is resumed.
    progress : function, optional
        The function that `vae_np.train` calls during training.
    estimator : str
        The estimator of the encoder's gradient, as for `vae_np.train`.
    ranks : Ranks
        The processes that share the work, as for `vae_np.train`.

    Yields
    ------
    stage, epochs : int
        The number of the stage, from 0, and the number of epochs since the beginning.
    ll : LogLikelihood
        The estimate of log p(x) of the binarized test digits.
    active : array (50,) of bool
        The latent units that are active.

    Raises
    ------
    ValueError
        The data set has no validation split.
    """
    if dataset.valid is None:
        raise ValueError("the data set has no validation split, on which log p(x) is estimated")
    p = Parameters.initialize(ARCHITECTURE, seed, "float32")
    mean = np.clip(dataset.train.mean(axis=0) / 255, 1e-3, 1 - 1e-3)  # a pixel that is always black has no finite logit
    p["output.b"][...] = np.log(mean / (1 - mean))
    for stage, epochs in enumerate(ENDS[: check_count("stages", stages)].tolist()):
        run = train(
            ARCHITECTURE,
            dataset.train,
            epochs=epochs,
            batch_size=20,
            optimizer=Adam(1e-3, epsilon=1e-4),
            objective=objective,
            estimator=estimator,
            n_samples=k,
            binarize=True,
            schedule=SCHEDULE,
            initial_parameters=p,
            seed=seed,
            backend=backend,
            out=out,
            resume=ranks.from_first(lambda: os.path.exists(os.path.expanduser(out or ""))),
            progress=progress,
            ranks=ranks,
        )
        if len(run.history) > epochs:
            continue  # the run in the folder has passed this stage, and holds the parameters of a later one
        ll = log_likelihood(run.parameters, dataset.valid, n_samples, seed, binarize=True, backend=backend, ranks=ranks)
        yield stage, epochs, ll, active_units(run.parameters, dataset.valid, backend=backend)
