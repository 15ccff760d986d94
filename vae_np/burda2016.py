"""A repetition of a published result: Burda, Grosse & Salakhutdinov 2016 (arXiv 1509.00519), table 1, one stochastic layer."""

import functools
import os
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vae_np import gradient_moments
from vae_np.architecture import Architecture, check_count
from vae_np.bounds import LogLikelihood, active_units, log_likelihood
from vae_np.data import Dataset
from vae_np.kernels.contract import Backend
from vae_np.optimizers import Adam
from vae_np.parameters import Parameters
from vae_np.ranks import ALONE, Ranks
from vae_np.training import train

ARCHITECTURE = Architecture(784, (200, 200), 50, "tanh")
STAGES = 8  # stage i has 3^i epochs with a learning rate of 1e-3 * 10^(-i/7)
ENDS = np.cumsum(3 ** np.arange(STAGES))
SCHEDULE = [(int(end - 3**i), 10 ** (-i / 7)) for i, end in enumerate(ENDS)]

COMPARED = {"elbo": ("total",), "elbo_mc": ("total", "path"), "iwae": ("total", "dreg")}  # the estimators without a bias


class Stage(NamedTuple):
    """What is measured after a stage of the training."""

    number: int  # from 0
    epochs: int  # since the beginning
    ll: LogLikelihood  # the estimate of log p(x) of the binarized test digits
    active: NDArray  # (50,) of bool: the latent units that are active
    signal_to_noise: dict[str, float]  # of the encoder's gradient, for each estimator


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
    exchange: str = "rows",
) -> Iterator[Stage]:
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
    exchange : str
        What they exchange in a step, as for `vae_np.train`.

    Yields
    ------
    Stage
        What is measured after each stage.

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
            exchange=exchange,
        )
        if len(run.history) > epochs:
            continue  # the run in the folder has passed this stage, and holds the parameters of a later one
        ll = log_likelihood(run.parameters, dataset.valid, n_samples, seed, binarize=True, backend=backend, ranks=ranks)
        active = active_units(run.parameters, dataset.valid, backend=backend)
        measured = functools.partial(signal_to_noise, run.parameters, dataset.valid, k, objective, seed, backend)
        yield Stage(stage, epochs, ll, active, ranks.from_first(measured))


def signal_to_noise(
    p: Parameters, x: NDArray, k: int, objective: str, seed: int = 0, backend: Backend = "auto", n_draws: int = 1000
) -> dict[str, float]:
    """The ratio |mean| / standard deviation of the gradient by mu.b in training, for each estimator without a bias.

    It is the mean over the 50 elements of mu.b. The gradient is drawn `n_draws` times, for one batch: the first 20 rows of x
    (N, 784), of bytes, whose pixels are black or white. Noise alone gives a ratio of about 0.8 / sqrt(n_draws).
    """
    batch = np.where(x[:20] > 127, 1, 0).astype(p.flat.dtype)
    found = gradient_moments.sampled(
        p, batch, k, n_draws, COMPARED[objective], COMPARED[objective][-1], objective, seed, backend
    )
    gradient = found[COMPARED[objective][-1]]
    return {name: gradient_moments.signal_to_noise(of, gradient, "mu.b") for name, of in found.items()}
