"""The published result: a row of Burda, Grosse & Salakhutdinov 2016 (arXiv 1509.00519), table 1, one stochastic layer."""

import os
from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from vae_np.architecture import Architecture, check_count
from vae_np.bounds import LogLikelihood, active_units, log_likelihood
from vae_np.data import Dataset
from vae_np.optimizers import Adam
from vae_np.parameters import Parameters
from vae_np.training import train

ARCHITECTURE = Architecture(784, (200, 200), 50, "tanh")
STAGES = 8  # stage i is 3^i epochs long, at a learning rate of 1e-3 * 10^(-i/7)
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
) -> Iterator[tuple[int, int, LogLikelihood, NDArray]]:
    """Train for the first stages of the published schedule on MNIST; yield (stage, epochs, LogLikelihood, active units).

    784-200-200-50-200-200-784, tanh, batches of 20 binarised afresh, Adam (0.9, 0.999, 1e-4), and an output bias that begins at
    the logit of the training mean; k samples per example, log p(x) of the binarised test digits from n_samples weights.
    All 3,280 epochs of the 8 stages gave 86.76 nats for k = 1 (table 1). An existing run in the folder `out` is resumed.
    """
    if dataset.valid is None:
        raise ValueError("the data set has no validation part, on which log p(x) is estimated")
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
            n_samples=k,
            binarize=True,
            schedule=SCHEDULE,
            initial_parameters=p,
            seed=seed,
            backend=backend,
            out=out,
            resume=os.path.exists(os.path.expanduser(out or "")),
            progress=progress,
        )
        if len(run.history) > epochs:
            continue  # the folder's run is further on: its parameters are not this stage's
        ll = log_likelihood(run.parameters, dataset.valid, n_samples, seed, binarize=True, backend=backend)
        yield stage, epochs, ll, active_units(run.parameters, dataset.valid, backend=backend)
