"""`vae-np encode` and `vae-np reconstruct`: a row for each row of the data."""

import pathlib

import numpy as np

from tests.vae_np.cli.commands import SMALL, done, refused
from vae_np import data, elbo, training
from vae_np.architecture import Architecture
from vae_np.parameters import Parameters


def all_of(name, **options):
    """All rows of a data set, those of a part of its own last."""
    dataset = data.load(name, valid_fraction=0, **options)
    return np.concatenate([rows for rows in (dataset.train, dataset.valid) if rows is not None])


def test_encode_writes_the_mean_of_q_for_every_row_in_the_order_of_the_data(trained):
    pathlib.Path("z.npy").write_text("an older file, as of `sample`, is replaced")
    assert done("encode", trained[1], "--out", "z.npy") == "z.npy holds 1797 rows of 2 latents, the means of q(z|x)\n"
    p, z = Parameters.load(trained[1] / "checkpoint.npz"), np.load("z.npy")
    assert z.dtype == np.float32 and z.shape == (1797, 2)
    np.testing.assert_array_equal(z, elbo.encode(p, all_of("digits"), "auto")[0])


def test_reconstruct_writes_the_mean_of_p_at_the_mean_of_q(trained):
    done("reconstruct", trained[1], "--out", "x.npy", "--backend", "numpy")
    p, x = Parameters.load(trained[1] / "checkpoint.npz"), np.load("x.npy")
    assert x.dtype == np.float32 and x.shape == (1797, 64)
    np.testing.assert_array_equal(x, elbo.decode(p, elbo.encode(p, all_of("digits"))[0]))


def test_reconstruct_draws_the_picture_that_training_drew(run):
    drawn = (run / "reconstructions.png").read_bytes()
    (run / "reconstructions.png").unlink()
    done("reconstruct", run, "--seed", 5)
    assert (run / "reconstructions.png").read_bytes() == drawn


def test_encode_takes_other_data_and_parameters_alone(trained, rows):
    np.savez("parts.npz", train=np.random.default_rng(0).random((9, 5)), valid=np.random.default_rng(1).random((4, 5)))
    done("train", "--data", rows, "--dtype", "float64", *SMALL, "--out", "run")
    p = Parameters.load("run/checkpoint.npz")
    p.save("alone.npz")
    for words, name in ((["run"], rows), (["run", "--data", "parts.npz"], "parts.npz"), (["alone.npz", "--data", rows], rows)):
        done("encode", *words, "--out", "z.npy")
        np.testing.assert_array_equal(np.load("z.npy"), elbo.encode(p, all_of(name), "auto")[0])
    assert np.load("z.npy").dtype == np.float64
    done("encode", "run")
    assert pathlib.Path("run/latents.npy").exists()


def test_the_rows_of_a_run_of_the_library_are_named(tmp_path):
    x = np.random.default_rng(0).uniform(size=(20, 16))
    training.train(Architecture(16, (5,), 2), x, epochs=1, backend="numpy", out=tmp_path / "run")
    assert "name them with --data" in refused("encode", "run")
    np.save("x.npy", x)
    done("reconstruct", "run", "--data", "x.npy")
    done("encode", "run", "--data", "x.npy")
    assert np.load("run/latents.npy").shape == (20, 2)
