"""`vae-np sample`: pictures and numbers that the seed fixes."""

import pathlib

import numpy as np
import pytest

from tests.vae_np.cli.commands import SMALL, done, refused
from vae_np import training
from vae_np.architecture import Architecture
from vae_np.parameters import Parameters


def test_samples_are_probabilities_that_the_seed_fixes(trained):
    drawn = {}
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        done("sample", trained[1], "--n", 7, "--seed", seed, "--out", f"{name}.npy")
        drawn[name] = np.load(f"{name}.npy")
    assert drawn["a"].shape == (7, 64) and 0 <= drawn["a"].min() < drawn["a"].max() <= 1
    np.testing.assert_array_equal(drawn["a"], drawn["b"])
    assert not np.array_equal(drawn["a"], drawn["c"])


def test_samples_of_a_linear_model_are_normal_as_theory_says():
    # x = z W + b of z ~ N(0, 1) has mean b and covariance W^T W.
    p = Parameters.initialize(Architecture(4, (), 3, likelihood="gaussian"), seed=1)
    p["output.b"][...] = [3, -1, 0, 10]
    p.save("linear.npz")
    done("sample", "linear.npz", "--n", 40000, "--out", "drawn.npy")
    drawn, W = np.load("drawn.npy"), p["output.W"]
    np.testing.assert_allclose(drawn.mean(axis=0), p["output.b"], atol=0.03)
    np.testing.assert_allclose(np.cov(drawn.T), W.T @ W, atol=0.03)


def test_fewer_samples_are_the_first_ones_of_more(trained):
    done("sample", trained[1], "--n", 3, "--out", "few.npy")
    done("sample", trained[1], "--n", 50, "--out", "many.npy")
    np.testing.assert_allclose(np.load("few.npy"), np.load("many.npy")[:3], rtol=1e-5)


def test_a_picture_of_samples_is_the_same_for_the_same_seed(run):
    out = done("sample", run, "--n", 7, "--seed", 3)
    assert str(run / "samples.png") in out.replace("\n", "")
    done("sample", run, "--n", 7, "--seed", 3, "--out", "again.png")
    picture = pathlib.Path("again.png").read_bytes()
    assert picture.startswith(b"\x89PNG") and picture == (run / "samples.png").read_bytes()


def test_parameters_alone_can_be_sampled_from(trained):
    Parameters.load(trained[1] / "checkpoint.npz").save("alone.npz")
    done("sample", "alone.npz", "--n", 4, "--out", "a.npy")
    done("sample", trained[1], "--n", 4, "--out", "b.npy")
    np.testing.assert_array_equal(np.load("a.npy"), np.load("b.npy"))


@pytest.mark.parametrize("shape", [(4, 9), (3, 7)], ids=["36-inputs-that-are-no-6-by-6", "21-inputs"])
def test_samples_of_a_run_have_the_shape_of_its_images(shape):
    np.savez("images.npz", x=np.random.default_rng(0).random((30, *shape)))
    done("train", "--data", "images.npz", *SMALL, "--backend", "numpy", "--latent", 3, "--out", "run")
    drawn = pathlib.Path("run/samples.png").read_bytes()
    done("sample", "run", "--backend", "numpy", "--out", "again.png")
    assert pathlib.Path("again.png").read_bytes() == drawn, "training and sampling draw 144 samples with seed 0"


def test_samples_that_make_no_picture_can_be_had_as_numbers(rows):
    done("train", "--data", rows, "--latent", 3, *SMALL, "--out", "run")
    assert ".npy" in refused("sample", "run")
    done("sample", "run", "--out", "numbers.npy")
    assert np.load("numbers.npy").shape == (144, 5)


def test_a_run_of_the_library_can_be_sampled(tmp_path):
    x = np.random.default_rng(0).uniform(size=(20, 16))
    training.train(Architecture(16, (5,), 2), x, epochs=1, backend="numpy", out=tmp_path / "run")
    done("sample", tmp_path / "run")
    assert (tmp_path / "run" / "samples.png").read_bytes().startswith(b"\x89PNG")
