"""VAE: the model as a scikit-learn estimator."""

import numbers
import zlib

import numpy as np
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils import check_array, check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from vae_np import noise, steps
from vae_np.architecture import Architecture, check_choice, check_count
from vae_np.elbo import chunks, decode, encode
from vae_np.optimizers import OPTIMIZERS
from vae_np.training import evaluate, train


class VAE(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """A variational autoencoder: X (N, D) -> mu (N, Z), the mean of q(z|x), trained by Adam on shuffled minibatches.

    The arguments are those of `Architecture` and `train`. optimizer: "adam", "sgd" or "adagrad", which then takes learning_rate,
    or one with all its settings, such as Adam(1e-3, beta1=0.8). n_jobs: how many threads; -1 for all cores, None for as many
    as pay. verbose: print each epoch. warm_start: another fit starts from the parameters of the one before. likelihood
    "bernoulli" wants X in [0, 1] and rescales nothing: put a MinMaxScaler(clip=True) before it, or take "gaussian". float32
    is trained in float32, all else in float64; bytes are the numbers 0 to 255 here. random_state: an int for the same
    result of every fit, None for a new one.

    Fitted: parameters_ (Parameters), history_ (a dict per epoch, in nats), n_features_in_, and feature_names_in_ where
    X has column names that are text.
    """

    def __init__(
        self,
        n_latent=2,
        hidden=(400,),
        activation="relu",
        likelihood="bernoulli",
        objective="elbo",
        n_samples=1,
        beta=1.0,
        l2=0.0,
        learning_rate=1e-3,
        batch_size=128,
        epochs=20,
        backend="auto",
        random_state=None,
        noise="fixed",
        noise_std=1.0,
        optimizer="adam",
        n_jobs=None,
        verbose=0,
        warm_start=False,
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

    def fit(self, X, y=None):
        """Train on X (N, D), from the start or, with warm_start, from the parameters of the fit before; y is not looked at.

        The errors are those of `Architecture` and `train`.
        """
        X = validate_data(self, X, dtype=(np.float64, np.float32))
        before = getattr(self, "parameters_", None) if self.warm_start else None
        return self._train(X, before, self.epochs)

    def partial_fit(self, X, y=None):
        """Train for one more epoch, on X (N, D), with the optimizer as the last call left it; y is not looked at."""
        fitted = hasattr(self, "_run")
        X = validate_data(self, X, reset=not fitted, dtype=self.parameters_.flat.dtype if fitted else (np.float64, np.float32))
        return self._train(X, self._run if fitted else None, 1, [*self.history_] if fitted else [])

    def _train(self, X, start, epochs, history=()):
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
            n_samples=self.n_samples,
            beta=self.beta,
            l2=self.l2,
            seed=seed,
            dtype=X.dtype,
            backend=self.backend,
            threads=self._threads(),
            start=start,
            progress=self._print if self.verbose else None,
        )
        later = [row | {"epoch": len(history) + row["epoch"]} for row in self._run.history]
        self.parameters_, self.history_, self._seed = self._run.parameters, [*history, *later], seed
        return self

    def _optimizer(self):
        """The optimizer of that name, with that learning rate, or one that was given whole."""
        if not isinstance(self.optimizer, str):
            return self.optimizer
        check_choice("optimizer", self.optimizer, OPTIMIZERS)
        return OPTIMIZERS[self.optimizer](self.learning_rate)

    def _threads(self):
        """n_jobs as scikit-learn means it: -1 for all cores, -2 for all but one."""
        if isinstance(self.n_jobs, numbers.Integral) and self.n_jobs < 0:
            return max(1, steps.usable_cores() + 1 + int(self.n_jobs))
        return None if self.n_jobs is None else check_count("n_jobs", self.n_jobs)

    def _print(self, done, of, row):
        if "seconds" in row:
            terms = f"reconstruction {row['train_reconstruction']:.3f}, KL {row['train_kl']:.3f}"
            print(f"epoch {row['epoch']}: loss {row['train_total']:.3f} ({terms}), {row['seconds']:.2g} s", flush=True)

    def transform(self, X):
        """X (N, D) -> mu (N, Z), the mean of q(z|x)"""
        X = self._check(X)
        return encode(self.parameters_, X, self.backend)[0]

    def inverse_transform(self, Z):
        """Z (N, Z) -> the mean of p(x|z), (N, D): probabilities under the Bernoulli likelihood"""
        check_is_fitted(self)
        return decode(self.parameters_, check_array(Z, dtype=self.parameters_.flat.dtype, input_name="Z"), self.backend)

    def sample(self, n_samples=1):
        """n_samples draws of z ~ N(0, 1), each as the mean of p(x|z): (n_samples, D)

        The noise of p(x|z) itself is not added. With an int as random_state every call gives the same draws, and fewer
        are the first of more.
        """
        check_is_fitted(self)
        p = self.parameters_
        shape = (1, check_count("n_samples", n_samples), p.architecture.n_latent)
        z = noise.normals(self._draw_seed(), "sample", 0, shape, p.flat.dtype)[0]
        return decode(p, z, self.backend)

    def score_samples(self, X):
        """The ELBO of each row in nats, (N,): log p(x|z) - KL(q(z|x) || p(z)), z drawn n_samples times and averaged

        The bound itself, whatever was trained: with beta = 1, without l2 and with the KL in closed form, so that models
        with other settings compare.
        """
        X = self._check(X)
        # Noise counted by position would let a row's score depend on the rows before it. Counted by a checksum of its
        # content, a row meets the same noise wherever it stands. + 0.0 turns -0.0, equal but of other bytes, into 0.0.
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

    def score(self, X, y=None):
        """The mean of `score_samples`: nats per row, the higher the better; y is not looked at."""
        return float(self.score_samples(X).mean(dtype=np.float64))

    def _check(self, X):
        """X as the fitted model takes it, in the dtype of its parameters."""
        check_is_fitted(self)
        X = validate_data(self, X, reset=False, dtype=self.parameters_.flat.dtype)
        return self.parameters_.architecture.check_inputs(X, "X")

    def _draw_seed(self):
        return int(check_random_state(self.random_state).randint(2**32, dtype=np.uint32))

    @property
    def _n_features_out(self):  # how many names get_feature_names_out makes
        return self.parameters_.architecture.n_latent

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        tags.input_tags.positive_only = self.likelihood == "bernoulli"
        return tags
