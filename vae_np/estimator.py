"""VAE: a variational autoencoder as a scikit-learn estimator."""

import numbers
import zlib
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils import check_array, check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from vae_np import steps, streams
from vae_np.architecture import Architecture, check_choice, check_count
from vae_np.choices import LIKELIHOODS
from vae_np.elbo import chunks, decode, encode
from vae_np.evaluation import evaluate
from vae_np.kernels.contract import FULL
from vae_np.optimizers import OPTIMIZERS, Optimizer
from vae_np.parameters import Parameters
from vae_np.training import train

Matrix: TypeAlias = Any  # an array, a data frame, or anything else that scikit-learn accepts


class VAE(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """A variational autoencoder, which maps X (N, D) to mu (N, Z), the mean of q(z|x).

    It is trained on shuffled minibatches. Data of type float32 are trained on in float32, and all other data in float64. Bytes
    are not rescaled: they are the numbers 0 to 255.

    Parameters
    ----------
    n_latent, hidden, activation, likelihood, noise, noise_std
        They are those of `Architecture`. A likelihood with a bounded support, such as "bernoulli", needs X in [0, 1], and X
        is not rescaled: put a MinMaxScaler(clip=True) before the model, or use "gaussian".
    objective, estimator, n_samples, beta, l2, batch_size, epochs, backend, precision
        They are those of `train`. Whatever the precision of the training is, `transform`, `score` and the other methods round
        nothing.
    learning_rate : float
        The learning rate of an optimizer that is given by its name.
    optimizer : str or Optimizer
        The name of an optimizer, or an optimizer with its settings, such as Adam(1e-3, beta1=0.8).
    random_state : int, RandomState or None
        With an int every fit gives the same result; with None each fit draws a new seed.
    n_jobs : int or None
        The number of threads. -1 stands for all cores, and None for one thread where a step is too little work for more.
    verbose : int
        Whether a line is printed after each epoch.
    warm_start : bool
        Whether a fit starts from the parameters of the previous fit.

    Attributes
    ----------
    parameters_ : Parameters
        The trained model.
    history_ : list of dict
        A row of losses for each epoch, in nats.
    n_features_in_, feature_names_in_
        The number of columns of X, and their names. X has names if it is a data frame whose column names are strings.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from vae_np import VAE
    >>> X = load_digits().data / 16
    >>> vae = VAE(n_latent=2, hidden=(16,), epochs=1, backend="numpy", random_state=0).fit(X)
    >>> vae.transform(X).shape
    (1797, 2)
    """

    parameters_: Parameters
    history_: list[dict[str, float]]
    n_features_in_: int

    def __init__(
        self,
        n_latent: int = 2,
        hidden: Sequence[int] = (400,),
        activation: str = "relu",
        likelihood: str = "bernoulli",
        objective: str = "elbo",
        n_samples: int = 1,
        beta: float = 1.0,
        l2: float = 0.0,
        learning_rate: float = 1e-3,
        batch_size: int = 128,
        epochs: int = 20,
        backend: str = "auto",
        random_state: object = None,
        noise: str = "fixed",
        noise_std: float = 1.0,
        optimizer: str | Optimizer = "adam",
        n_jobs: int | None = None,
        verbose: int = 0,
        warm_start: bool = False,
        precision: str = FULL,
        estimator: str = "total",
    ):
        self.n_latent = n_latent
        self.hidden = hidden
        self.activation = activation
        self.likelihood = likelihood
        self.objective = objective
        self.n_samples = n_samples
        self.beta = beta
        self.l2 = l2
        self.learning_rate = learning_rate
        self.batch_size = batch_size
        self.epochs = epochs
        self.backend = backend
        self.random_state = random_state
        self.noise = noise
        self.noise_std = noise_std
        self.optimizer = optimizer
        self.n_jobs = n_jobs
        self.verbose = verbose
        self.warm_start = warm_start
        self.precision = precision
        self.estimator = estimator

    def fit(self, X: Matrix, y: object = None) -> "VAE":
        """Train on X (N, D). With warm_start the parameters of the previous fit are the first ones.

        y is ignored. The errors are those of `Architecture` and `train`.

        Returns
        -------
        VAE
            The estimator itself.
        """
        X = validate_data(self, X, dtype=(np.float64, np.float32))
        before = getattr(self, "parameters_", None) if self.warm_start else None
        return self._train(X, before, self.epochs)

    def partial_fit(self, X: Matrix, y: object = None) -> "VAE":
        """Train on X (N, D) for one more epoch, which continues with the state that the optimizer had after the last call.

        y is ignored. The errors are those of `fit`.

        Returns
        -------
        VAE
            The estimator itself.
        """
        fitted = hasattr(self, "_run")
        X = validate_data(self, X, reset=not fitted, dtype=self.parameters_.flat.dtype if fitted else (np.float64, np.float32))
        return self._train(X, self._run if fitted else None, 1, [*self.history_] if fitted else [])

    def _train(self, X, initial_parameters, epochs, history=()):
        architecture = Architecture(
            X.shape[1], self.hidden, self.n_latent, self.activation, self.likelihood, self.noise, self.noise_std
        )
        seed = self._seed if history else self._draw_seed()
        self._run = train(
            architecture,
            architecture.check_inputs(X, "X"),
            epochs=epochs,
            batch_size=self.batch_size,
            optimizer=self._optimizer(),
            objective=self.objective,
            estimator=self.estimator,
            n_samples=self.n_samples,
            beta=self.beta,
            l2=self.l2,
            seed=seed,
            dtype=X.dtype,
            precision=self.precision,
            backend=self.backend,
            threads=self._threads(),
            initial_parameters=initial_parameters,
            progress=self._print if self.verbose else None,
        )
        later = [row | {"epoch": len(history) + row["epoch"]} for row in self._run.history]
        self.parameters_, self.history_, self._seed = self._run.parameters, [*history, *later], seed
        return self

    def _optimizer(self):
        """The optimizer: the one that was given, or one made from its name and the learning rate."""
        if not isinstance(self.optimizer, str):
            return self.optimizer
        check_choice("optimizer", self.optimizer, OPTIMIZERS)
        return OPTIMIZERS[self.optimizer](learning_rate=self.learning_rate)

    def _threads(self):
        """The number of threads that n_jobs stands for: in scikit-learn -1 is all cores, and -2 is all but one."""
        if isinstance(self.n_jobs, numbers.Integral) and self.n_jobs < 0:
            return max(1, steps.usable_cores() + 1 + int(self.n_jobs))
        return None if self.n_jobs is None else check_count("n_jobs", self.n_jobs)

    def _print(self, done, of, row):
        if "seconds" in row:
            terms = f"reconstruction {row['train_reconstruction']:.3f}, KL {row['train_kl']:.3f}"
            print(f"epoch {row['epoch']}: loss {row['train_total']:.3f} ({terms}), {row['seconds']:.2g} s", flush=True)

    def transform(self, X: Matrix) -> NDArray:
        """The mean mu (N, Z) of q(z|x) for each row of X (N, D)."""
        X = self._check(X)
        return encode(self.parameters_, X, self.backend)[0]

    def inverse_transform(self, Z: Matrix) -> NDArray:
        """The mean (N, D) of p(x|z) for each row of Z (N, Z). Under the Bernoulli likelihood it is a probability."""
        check_is_fitted(self)
        return decode(self.parameters_, check_array(Z, dtype=self.parameters_.flat.dtype.name, input_name="Z"), self.backend)

    def sample(self, n_samples: int = 1) -> NDArray:
        """Draw z ~ N(0, 1) and return the mean of p(x|z), to which the noise of p(x|z) is not added.

        With an int as random_state every call gives the same draws, and a call for fewer samples gives the first of them.

        Parameters
        ----------
        n_samples : int
            The number of draws.

        Returns
        -------
        array (n_samples, D)
            The mean of p(x|z) for each draw.
        """
        check_is_fitted(self)
        p = self.parameters_
        shape = (1, check_count("n_samples", n_samples), p.architecture.n_latent)
        z = streams.normals(self._draw_seed(), "sample", 0, shape, p.flat.dtype)[0]
        return decode(p, z, self.backend)

    def score_samples(self, X: Matrix) -> NDArray:
        """The ELBO of each row of X (N, D) in nats, (N,): the mean of log p(x|z) over n_samples draws of z, less the KL.

        The score is the ELBO for every objective that a model was trained with: beta is 1, l2 is 0, and KL(q(z|x) || p(z))
        is in closed form. So the scores of models with different settings can be compared.
        """
        X = self._check(X)
        # If the noise were drawn by a row's position, its score would depend on the rows before it. It is drawn by a checksum
        # of the row's content, so that a row has the same noise at every position. + 0.0 turns -0.0 into 0.0, because the
        # two are equal and their bytes differ.
        examples = np.array([zlib.crc32(row) for rows in chunks(len(X)) for row in X[rows] + 0.0], np.int64)
        value = evaluate(
            self.parameters_,
            X,
            n_samples=self.n_samples,
            seed=self._seed,
            examples=examples,
            use="score",
            backend=self.backend,
        )
        return -value.per_example

    def score(self, X: Matrix, y: object = None) -> float:
        """The mean of `score_samples` over the rows, in nats. A higher score is better; y is ignored."""
        return float(self.score_samples(X).mean(dtype=np.float64))

    def _check(self, X):
        """X as an array in the dtype of the fitted parameters. The errors are those of scikit-learn and of the architecture."""
        check_is_fitted(self)
        X = validate_data(self, X, reset=False, dtype=self.parameters_.flat.dtype)
        return self.parameters_.architecture.check_inputs(X, "X")

    def _draw_seed(self):
        return int(check_random_state(self.random_state).randint(2**32, dtype=np.uint32))

    @property
    def _n_features_out(self):  # get_feature_names_out makes this number of names
        return self.parameters_.architecture.n_latent

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        likelihood = LIKELIHOODS.get(self.likelihood)  # fit refuses a wrong name
        tags.input_tags.positive_only = likelihood is not None and likelihood.support[0] >= 0
        return tags
