"""The scikit-learn estimator: scikit-learn's own checks, what its methods promise, and that its score is the ELBO."""

import copy
import pickle
import re
import zlib

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler
from sklearn.utils.estimator_checks import check_estimator, parametrize_with_checks

from vae_np import VAE, Adagrad, Parameters, estimator, steps
from vae_np.training import evaluate

SMALL = dict(hidden=(8,), epochs=2, backend="numpy", random_state=0)
OUT_OF_RANGE = r"the Bernoulli likelihood wants pixels in \[0, 1\]"


@pytest.fixture(scope="module")
def digits():
    return load_digits().data[:120] / 16


@pytest.fixture(scope="module")
def fitted(digits):
    return VAE(**SMALL).fit(digits)


@pytest.fixture(scope="module")
def linear():
    """A linear Gaussian model of three inputs and one latent, trained with a weighted KL and a penalty; its data."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(200, 1)) @ [[2.0, -1.0, 0.5]] + 0.3 * rng.normal(size=(200, 3)) + 1
    settings = SMALL | dict(hidden=(), epochs=30)
    return VAE(1, likelihood="gaussian", beta=0.5, l2=0.1, learning_rate=0.02, batch_size=20, **settings).fit(X), X


# ------------------------------------------------------------------------------------------ scikit-learn's own checks


@parametrize_with_checks([VAE(likelihood="gaussian", **SMALL), VAE(likelihood="gaussian", **SMALL | dict(hidden=()))])
def test_every_check_of_scikit_learn_passes(estimator, check):
    check(estimator)


def test_every_check_passes_with_compiled_kernels():
    assert not failures(VAE(likelihood="gaussian", **SMALL | dict(backend="numba")))


def test_a_scaled_bernoulli_model_fails_only_what_every_pipeline_fails():
    """Two checks: a Pipeline fits its own steps in place, and scikit-learn lists both as known. PCA fails the same."""
    failed = failures(make_pipeline(MinMaxScaler(clip=True), VAE(**SMALL)))
    assert [check for check, _ in failed] == [c for c, _ in failures(make_pipeline(MinMaxScaler(clip=True), PCA()))]
    assert {check for check, _ in failed} <= {"check_estimators_overwrite_params", "check_dont_overwrite_parameters"}
    assert all("steps" in message for _, message in failed)


def test_an_unscaled_bernoulli_model_fails_by_its_range_alone():
    """Most checks feed standard normals: each that fails is told that its data lie outside [0, 1].

    That nothing else is wrong with the model the test above shows, where the same checks get data inside.
    """
    failed = failures(VAE(**SMALL))
    assert failed
    assert [check for check, message in failed if not re.search(OUT_OF_RANGE, message)] == []


def failures(estimator):
    """(name, message) of every check that fails"""
    results = check_estimator(estimator, on_fail=None, on_skip=None)
    assert sum(r["status"] == "passed" for r in results) > 20
    return [(r["check_name"], str(r["exception"])) for r in results if r["status"] not in ("passed", "skipped")]


# ------------------------------------------------------------------------------------------------------ the interface


def test_the_arguments_are_those_of_the_design():
    assert VAE().get_params() == dict(
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
        precision="float32",
        estimator="total",
    )


def test_every_argument_reaches_the_model(digits):
    """Each changed alone changes what is trained."""
    base = VAE(**SMALL | dict(batch_size=40)).fit(digits).parameters_
    changes = dict(n_latent=3, hidden=(7,), activation="tanh", likelihood="gaussian", objective="elbo_mc", n_samples=2)
    changes |= dict(beta=2.0, l2=0.1, learning_rate=1e-2, batch_size=30, epochs=3, random_state=1)
    changes |= dict(optimizer="sgd", precision="bfloat16")
    for name, value in changes.items():
        p = VAE(**SMALL | dict(batch_size=40) | {name: value}).fit(digits).parameters_
        assert p.flat.shape != base.flat.shape or np.abs(p.flat - base.flat).max() > 1e-6, name
    sampled = dict(objective="elbo_mc", n_samples=2)
    total, path = (VAE(**SMALL | sampled | dict(estimator=name)).fit(digits).parameters_.flat for name in ("total", "path"))
    assert np.abs(total - path).max() > 1e-6
    with pytest.raises(ValueError, match="backend is 'abacus'"):
        VAE(**SMALL | dict(backend="abacus")).fit(digits)


def test_the_noise_of_a_gaussian_likelihood_is_that_of_the_architecture(digits):
    for settings in (dict(noise="shared"), dict(noise="heteroscedastic"), dict(noise_std=0.3)):
        architecture = VAE(likelihood="gaussian", **SMALL | settings).fit(digits).parameters_.architecture
        assert {name: getattr(architecture, name) for name in settings} == settings


def test_an_optimizer_is_named_or_given_with_all_its_settings(digits):
    named = VAE(optimizer="adagrad", learning_rate=0.01, **SMALL).fit(digits)
    given = VAE(optimizer=Adagrad(0.01), **SMALL).fit(digits)
    np.testing.assert_array_equal(named.parameters_.flat, given.parameters_.flat)
    other = VAE(optimizer=Adagrad(0.01, epsilon=0.1), **SMALL).fit(digits)
    assert not np.array_equal(other.parameters_.flat, given.parameters_.flat)
    with pytest.raises(ValueError, match="optimizer is 'adamax'.*'adam'"):
        VAE(optimizer="adamax", **SMALL).fit(digits)


@pytest.mark.parametrize("n_jobs, wanted", [(None, None), (1, 1), (3, 3), (-1, 6), (-2, 5), (-9, 1)])
def test_n_jobs_are_threads_counted_as_scikit_learn_does(digits, monkeypatch, n_jobs, wanted):
    threads, begin = [], estimator.train
    monkeypatch.setattr(steps, "usable_cores", lambda: 6)
    monkeypatch.setattr(estimator, "train", lambda *a, **named: threads.append(named["threads"]) or begin(*a, **named))
    VAE(n_jobs=n_jobs, **SMALL | dict(epochs=1)).fit(digits)
    assert threads == [wanted]


@pytest.mark.parametrize("n_jobs", [0, 1.5, "all"])
def test_n_jobs_that_are_no_number_of_threads_are_refused(digits, n_jobs):
    with pytest.raises(ValueError, match=f"n_jobs is {n_jobs!r}"):
        VAE(n_jobs=n_jobs, **SMALL).fit(digits)


@pytest.mark.parametrize("verbose", [0, 1, True])
def test_each_epoch_is_printed_where_that_is_asked_for(digits, verbose, capsys):
    model = VAE(verbose=verbose, **SMALL).fit(digits)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:4] for line in lines] == [
        ["epoch", f"{row['epoch']}:", "loss", f"{row['train_total']:.3f}"] for row in model.history_ if verbose
    ]


def test_every_method_runs_on_the_backend(digits):
    model = VAE(**SMALL).fit(digits).set_params(backend="abacus")
    for call in (model.transform, model.score_samples, model.score, lambda X: model.inverse_transform(X[:, :2])):
        with pytest.raises(ValueError, match="backend is 'abacus'"):
            call(digits)
    with pytest.raises(ValueError, match="backend is 'abacus'"):
        model.sample()


def test_fitted_attributes(digits, fitted):
    assert isinstance(fitted.parameters_, Parameters)
    assert fitted.n_features_in_ == 64 == fitted.parameters_.architecture.n_inputs
    assert [row["epoch"] for row in fitted.history_] == [1, 2]
    assert all(np.isfinite(row["train_total"]) for row in fitted.history_)


def test_training_raises_the_score(digits):
    after = [VAE(**SMALL | dict(epochs=epochs, learning_rate=0.01)).fit(digits).score(digits) for epochs in (1, 30)]
    assert after[1] > after[0] + 5


@pytest.mark.parametrize("dtype", ["float32", "float64", "int64"])
def test_results_have_the_dtype_of_training(digits, dtype):
    X = np.round(digits).astype(dtype)
    model = VAE(**SMALL).fit(X)
    wanted = np.float32 if dtype == "float32" else np.float64
    for result in (model.parameters_.flat, model.transform(X), model.inverse_transform([[0, 1]]), model.sample()):
        assert result.dtype == wanted
    assert model.score_samples(X).dtype == wanted


def test_a_model_fitted_in_float32_takes_doubles(digits):
    model, X = VAE(**SMALL).fit(digits.astype("float32")), digits * 0.999
    np.testing.assert_array_equal(model.score_samples(X), model.score_samples(X.astype("float32")))
    np.testing.assert_array_equal(model.transform(X), model.transform(X.astype("float32")))


def test_transform_is_the_mean_of_the_posterior(linear):
    model, X = linear
    p = model.parameters_
    np.testing.assert_allclose(model.transform(X), X @ p["mu.W"] + p["mu.b"], rtol=1e-12)


def test_inverse_transform_gives_probabilities(digits, fitted):
    mean = fitted.inverse_transform(fitted.transform(digits))
    assert mean.shape == digits.shape
    assert ((mean > 0) & (mean < 1)).all()
    assert fitted.inverse_transform([[0.0, 1.0]]).shape == (1, 64)


def test_inverse_transform_of_a_linear_model(linear):
    model, _ = linear
    p, Z = model.parameters_, np.linspace(-2, 2, 5)[:, None]
    np.testing.assert_allclose(model.inverse_transform(Z), Z @ p["output.W"] + p["output.b"], rtol=1e-12)


@pytest.mark.parametrize("Z", [[[0.0, 1.0, 2.0]], [[np.nan, 0.0]], [0.0, 1.0], np.zeros((0, 2)), np.array([[1j, 0.0]])])
def test_inverse_transform_refuses(fitted, Z):
    with pytest.raises(ValueError):
        fitted.inverse_transform(Z)


def test_names_of_features_out(digits, fitted):
    assert list(fitted.get_feature_names_out()) == ["vae0", "vae1"]
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame(digits, columns=[f"pixel{i}" for i in range(64)])
    model = VAE(**SMALL).set_output(transform="pandas").fit(frame)
    Z = model.transform(frame)
    assert list(model.feature_names_in_) == list(frame.columns)
    assert list(Z.columns) == ["vae0", "vae1"]
    np.testing.assert_array_equal(Z, fitted.transform(digits))
    np.testing.assert_array_equal(model.inverse_transform(Z), fitted.inverse_transform(Z.to_numpy()))


def test_unfitted(digits):
    model = VAE(**SMALL)
    for call in (model.transform, model.inverse_transform, model.score_samples, model.score):
        with pytest.raises(NotFittedError):
            call(digits)
    for call in (model.sample, model.get_feature_names_out):
        with pytest.raises(NotFittedError):
            call()


# -------------------------------------------------------------------------------------------------------------- range


@pytest.mark.parametrize("X", [np.full((3, 64), 1.5), np.full((3, 64), -0.5), np.full((3, 64), 255, np.uint8)])
def test_a_bernoulli_model_refuses_what_is_no_probability(fitted, X):
    for call in (VAE(**SMALL).fit, fitted.transform, fitted.score_samples, fitted.score):
        with pytest.raises(ValueError, match="^X goes from .*" + OUT_OF_RANGE):
            call(X)


def test_a_refused_refit_leaves_the_model(digits):
    model = VAE(**SMALL).fit(digits)
    before = model.score_samples(digits)
    with pytest.raises(ValueError):
        model.set_params(random_state=1).fit(digits * 2)
    np.testing.assert_array_equal(model.score_samples(digits), before)


# -------------------------------------------------------------------------------------------------------------- score


def test_score_is_the_elbo_in_closed_form(linear):
    """Of a linear Gaussian model the ELBO's expectation over eps is known, and its variance; beta and l2 have no part.

    With e = x - E m and v = std W, where m is the mean of p(x|z): nll = 1/2 sum_d (log 2 pi + (e - v eps)^2), so its
    mean is 1/2 sum_d (log 2 pi + e^2 + v^2), and its variance (e . v)^2 + (v . v)^2 / 2.
    """
    model, X = linear
    p, n = model.parameters_, 400
    mu, logvar = X @ p["mu.W"] + p["mu.b"], X @ p["logvar.W"] + p["logvar.b"]  # (N, 1)
    e, v = X - mu @ p["output.W"] - p["output.b"], np.exp(logvar / 2) @ p["output.W"]  # (N, D)
    kl = (mu**2 + np.exp(logvar) - 1 - logvar)[:, 0] / 2
    elbo = -(np.log(2 * np.pi) + e**2 + v**2).sum(axis=1) / 2 - kl
    std = np.sqrt(((e * v).sum(axis=1) ** 2 + (v * v).sum(axis=1) ** 2 / 2) / n)
    scores = copy.deepcopy(model).set_params(n_samples=n).score_samples(X)
    deviation = (scores - elbo) / std  # about N(0, 1) in each of the 200 rows
    assert np.abs(deviation).max() < 5
    assert abs(deviation.mean()) < 5 / np.sqrt(len(X))
    assert 0.75 < deviation.std() < 1.25


@pytest.mark.parametrize("beta", [1.0, 4.0])
def test_score_is_minus_the_loss(digits, beta):
    model = VAE(**SMALL | dict(n_samples=3, beta=beta)).fit(digits)
    examples = np.array([zlib.crc32(row.tobytes()) for row in digits])
    seed = np.random.RandomState(0).randint(2**32, dtype=np.uint32)
    value = evaluate(model.parameters_, digits, n_samples=3, seed=seed, examples=examples, use="score", backend="numpy")
    np.testing.assert_allclose(model.score_samples(digits), -value.per_example, rtol=1e-12)
    np.testing.assert_allclose(model.score(digits), -value.total, rtol=1e-12)


def test_score_is_the_mean_in_double_precision(digits):
    model = VAE(**SMALL).fit(digits.astype("float32"))
    scores = model.score_samples(digits)
    assert scores.dtype == np.float32 and model.score(digits) == scores.astype("float64").mean() != float(scores.mean())


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_row_scores_the_same_in_any_company(digits, dtype):
    X = digits.astype(dtype)
    model = VAE(**SMALL).fit(X)
    scores, order = model.score_samples(X), np.random.default_rng(1).permutation(len(X))
    rounding = dict(rtol=1e-5 if dtype == "float32" else 1e-12)
    np.testing.assert_allclose(model.score_samples(X[order]), scores[order], **rounding)
    np.testing.assert_allclose(model.score_samples(np.asfortranarray(X)), scores, **rounding)
    np.testing.assert_allclose([model.score_samples(row[None])[0] for row in X], scores, **rounding)
    np.testing.assert_allclose(model.score_samples(np.tile(X[:1], (1100, 1))), scores[0], **rounding)  # two chunks


def test_equal_rows_score_the_same(fitted):
    zero = np.zeros((1, 64))
    assert fitted.score_samples(-zero) == fitted.score_samples(zero)


def test_rows_meet_noise_of_their_own(digits, monkeypatch):
    """That of different rows is different: else one unlucky draw would shift the whole score."""
    seen = []
    monkeypatch.setattr("vae_np.estimator.evaluate", lambda *a, **k: seen.append(k["examples"]) or evaluate(*a, **k))
    VAE(**SMALL).fit(digits).score(digits)
    assert len(set(seen[0])) == len(np.unique(digits, axis=0))


# ------------------------------------------------------------------------------------------------------------- sample


def test_samples_are_means_at_draws_from_the_prior(linear):
    """Those of a linear model have mean b and covariance W.T W."""
    model, _ = linear
    p, X = model.parameters_, model.sample(20000)
    np.testing.assert_allclose(X.mean(axis=0), p["output.b"], atol=0.04)
    np.testing.assert_allclose(np.cov(X.T), p["output.W"].T @ p["output.W"], atol=0.08)


def test_sample_is_repeatable(fitted):
    assert fitted.sample().shape == (1, 64)
    assert fitted.sample(5).shape == (5, 64)
    np.testing.assert_array_equal(fitted.sample(5), fitted.sample(5))
    np.testing.assert_allclose(fitted.sample(5)[:2], fitted.sample(2), rtol=1e-12)
    assert len(np.unique(fitted.sample(5), axis=0)) == 5


def test_sample_is_fresh_without_a_seed(digits):
    model = VAE(**SMALL | dict(random_state=None)).fit(digits)
    assert not np.array_equal(model.sample(), model.sample())
    np.testing.assert_array_equal(model.score_samples(digits), model.score_samples(digits))


@pytest.mark.parametrize("n_samples", [0, -1, 1.5, "3"])
def test_sample_refuses(fitted, n_samples):
    with pytest.raises(ValueError, match="n_samples is"):
        fitted.sample(n_samples)


# ------------------------------------------------------------------------------------------------- seeds and backends


def test_fit_repeats_under_a_seed(digits, fitted):
    np.testing.assert_array_equal(VAE(**SMALL).fit(digits).parameters_.flat, fitted.parameters_.flat)
    np.testing.assert_array_equal(clone(fitted).fit(digits).parameters_.flat, fitted.parameters_.flat)


def test_fit_differs_without_one(digits):
    for random_state in (None, np.random.RandomState(0)):
        model = VAE(**SMALL | dict(random_state=random_state))
        first = model.fit(digits).parameters_.flat
        assert not np.array_equal(model.fit(digits).parameters_.flat, first)


@pytest.mark.parametrize("optimizer", ["adam", "sgd", "adagrad"])
def test_partial_fits_are_one_fit_bit_for_bit(digits, optimizer):
    settings = SMALL | dict(optimizer=optimizer, batch_size=50, epochs=3)
    whole, parts = VAE(**settings).fit(digits), VAE(**settings)
    for _ in range(2):
        parts.partial_fit(digits)
    parts = pickle.loads(pickle.dumps(parts)).partial_fit(digits)
    np.testing.assert_array_equal(parts.parameters_.flat, whole.parameters_.flat)
    rows = [[{**row, "seconds": 0} for row in model.history_] for model in (parts, whole)]
    assert rows[0] == rows[1] and [row["epoch"] for row in rows[0]] == [1, 2, 3]
    assert len(whole.partial_fit(digits[:70]).history_) == 4, "a fit goes on, and with other rows"


def test_a_partial_fit_that_is_refused_leaves_the_model(digits):
    model = VAE(**SMALL).fit(digits)
    before = model.parameters_.flat.copy()
    for settings, X in ((dict(n_latent=3), digits), (dict(optimizer="sgd"), digits), ({}, digits[:, :9]), ({}, digits * 16)):
        changed = copy.deepcopy(model).set_params(**settings)
        with pytest.raises(ValueError):
            changed.partial_fit(X)
        np.testing.assert_array_equal(changed.parameters_.flat, before)
        assert len(changed.history_) == 2


def test_a_warm_start_begins_where_the_fit_before_ended(digits):
    model = VAE(warm_start=True, **SMALL).fit(digits)
    first = model.parameters_
    model.set_params(epochs=1, learning_rate=1e-9).fit(digits)
    np.testing.assert_allclose(model.parameters_.flat, first.flat, atol=1e-6)
    assert len(model.history_) == 1
    cold = model.set_params(warm_start=False).fit(digits)
    assert not np.allclose(cold.parameters_.flat, first.flat, atol=1e-3)


def test_backends_agree(digits, fitted):
    compiled = VAE(**SMALL | dict(backend="numba")).fit(digits)
    np.testing.assert_allclose(compiled.transform(digits), fitted.transform(digits), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(compiled.score_samples(digits), fitted.score_samples(digits), rtol=1e-9)
    np.testing.assert_allclose(compiled.sample(3), fitted.sample(3), rtol=1e-9)


# ------------------------------------------------------------------------------------------------------ among the rest


def test_a_pickled_model_is_the_same(digits, fitted):
    again = pickle.loads(pickle.dumps(fitted))
    np.testing.assert_array_equal(again.transform(digits), fitted.transform(digits))
    np.testing.assert_array_equal(again.score_samples(digits), fitted.score_samples(digits))
    np.testing.assert_array_equal(again.sample(3), fitted.sample(3))
    p = pickle.loads(pickle.dumps(fitted.parameters_))
    assert p.architecture == fitted.parameters_.architecture
    p.flat[...] = 7
    assert (p["mu.W"] == 7).all()


def test_clone_is_unfitted_with_the_same_arguments(fitted):
    model = clone(fitted)
    assert model.get_params() == fitted.get_params()
    assert not hasattr(model, "parameters_")


def test_in_a_pipeline(digits):
    pipeline = make_pipeline(MinMaxScaler(clip=True), VAE(**SMALL)).fit(digits * 16)
    Z = pipeline.transform(digits * 20)
    assert Z.shape == (120, 2)
    restored = pipeline.inverse_transform(Z)
    assert restored.shape == digits.shape and restored.min() >= 0 and restored.max() <= 16
    assert pipeline.score(digits * 16) == pytest.approx(pipeline.score_samples(digits * 16).mean())
    assert list(pipeline.get_feature_names_out()) == ["vae0", "vae1"]


def test_in_a_grid_search(digits):
    """The score ranks by the bound: of these, the wide model trained at the right rate."""
    grid = {"hidden": [(), (16,)], "learning_rate": [1e-5, 1e-2], "beta": [1.0, 2.0]}
    search = GridSearchCV(VAE(**SMALL | dict(epochs=10, batch_size=16)), grid, cv=2, error_score="raise").fit(digits)
    assert search.best_params_["learning_rate"] == 1e-2
    assert search.best_score_ == search.cv_results_["mean_test_score"].max()
    assert search.score(digits) == search.best_estimator_.score(digits) > -64 * np.log(2)  # better than a guess of 1/2
