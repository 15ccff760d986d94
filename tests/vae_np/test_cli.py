"""The command from end to end: what it writes and prints, and how it refuses."""

import contextlib
import csv
import functools
import io
import json
import logging
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import time
from typing import NamedTuple

import matplotlib.image
import numpy as np
import pooch
import pytest
import requests

from vae_np import architecture, cli, data, elbo, kernels, training
from vae_np.architecture import Architecture
from vae_np.kernels import reference
from vae_np.parameters import Parameters
from vae_np.testing import mistakes
from vae_np.testing.problems import NOISES

SMALL = ("--hidden", 6, "--epochs", 1)
PICTURES = {"losses.png", "reconstructions.png", "samples.png", "manifold.png", "latent.png"}


class Answer(NamedTuple):
    code: int
    out: str
    err: str


def command(*arguments):
    """Run the command in this process; any exception but SystemExit is a traceback to the user and fails the test."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), pytest.raises(SystemExit) as caught:
        cli.main([str(argument) for argument in arguments])
    assert "\x1b" not in out.getvalue() + err.getvalue(), "no colours where there is no terminal"
    return Answer(caught.value.code or 0, out.getvalue(), err.getvalue())


def done(*arguments):
    """What a command prints that must succeed; progress and remarks go to stderr, but no complaint does."""
    answer = command(*arguments)
    assert answer.code == 0 and "vae-np: " not in answer.err
    return answer.out


def refused(*arguments, code=2):
    """The one line in which a command says why it can't be done, after which it says nothing more."""
    answer = command(*arguments)
    assert answer.code == code
    *before, line = answer.err.splitlines()
    assert line.startswith("vae-np: ") and len(line) > len("vae-np: ")
    assert not any(other.startswith("vae-np: ") for other in before)
    return line


@pytest.fixture(autouse=True, scope="module")
def log():
    """The command sets up the process's log for itself; here it is put back for the tests of others."""
    handlers, level = logging.root.handlers[:], logging.root.level
    yield
    logging.root.handlers[:], logging.root.level = handlers, level


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """An empty folder to work in, and output that is plain whatever the machine that runs the tests asks for."""
    monkeypatch.chdir(tmp_path)
    for name in ("FORCE_COLOR", "TTY_COMPATIBLE", "COLUMNS", "VAE_NP_DATA"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run on digits, and what training printed: Answer, folder. Read it; take `run` to change it."""
    folder = tmp_path_factory.mktemp("trained") / "run"
    options = "--hidden 8 --epochs 3 --beta 0.5 --l2 0.01 --seed 5".split()
    return command("train", *options, "--out", folder), folder


@pytest.fixture
def run(trained, tmp_path):
    return pathlib.Path(shutil.copytree(trained[1], tmp_path / "copy"))


@pytest.fixture
def rows(tmp_path):
    """A small file whose rows make no picture: training on it takes a fraction of a second."""
    np.savetxt(tmp_path / "rows.csv", np.random.default_rng(0).random((40, 5)), delimiter=",")
    return "rows.csv"


def history(folder):
    with open(pathlib.Path(folder, "history.csv"), newline="") as file:
        return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in pathlib.Path(folder).rglob("*") if path.is_file()}


def cells(out):
    """The rows of the table that was printed, as lists of their cells."""
    return [[cell.strip() for cell in line.split("│")[1:-1]] for line in out.splitlines() if line.startswith("│")]


# -------------------------------------------------------------------------------------------------------------- train


def test_training_on_digits_leaves_a_checkpoint_a_history_a_description_and_five_pictures(trained):
    answer, folder = trained
    assert answer.code == 0
    files = {".lock", "checkpoint.npz", "history.csv", "config.json", *PICTURES}
    assert {path.name for path in folder.iterdir()} == files
    for name in PICTURES:
        path = folder / name
        assert path.read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
        image = matplotlib.image.imread(path)[..., :3]
        assert min(image.shape[:2]) > 150 and image.std() > 0.02, f"{name} is blank"
        assert str(path) in answer.out.replace("\n", "")


def test_the_history_has_a_row_for_each_epoch_whose_terms_add_up_to_its_total(trained):
    table = history(trained[1])
    assert [row["epoch"] for row in table] == [1, 2, 3]
    for row in table:
        assert row["seconds"] > 0 and row["beta"] == 0.5 and row["learning_rate"] == 1e-3
        for part in ("train", "valid"):
            total = row[f"{part}_reconstruction"] + 0.5 * row[f"{part}_kl"] + row[f"{part}_l2"]
            assert row[f"{part}_total"] == pytest.approx(total, rel=1e-5) and row[f"{part}_l2"] > 0
    assert table[-1]["train_total"] < table[0]["train_total"]


def test_the_last_losses_are_printed(trained):
    last, table = history(trained[1])[-1], cells(trained[0].out)
    for part in ("train", "valid"):
        wanted = [part, *(f"{last[f'{part}_{term}']:.3f}" for term in ("total", "reconstruction", "kl", "l2"))]
        assert wanted in table


def test_every_option_reaches_the_training_that_config_json_describes(rows):
    done(
        *f"train --data {rows} --valid-fraction 0.3 --hidden 4 3 --latent 3 --activation tanh".split(),
        *"--likelihood gaussian --noise shared --objective elbo_mc --samples 2 --beta 0.3 --beta-warmup 2".split(),
        *"--l2 0.1 --optimizer sgd --learning-rate 0.005 --schedule 2:0.1 1:0.5 --epochs 2 --batch-size 7".split(),
        *"--binarize --patience 4 --seed 9 --dtype float64 --backend numpy --threads 1 --out deep/folder".split(),
    )
    config = json.loads(pathlib.Path("deep/folder/config.json").read_text())
    wanted = {
        "batch_size": 7,
        "objective": "elbo_mc",
        "n_samples": 2,
        "beta": 0.3,
        "beta_warmup": 2.0,
        "schedule": [[1, 0.5], [2, 0.1]],
        "l2": 0.1,
        "binarize": True,
        "patience": 4,
        "seed": 9,
        "dtype": "float64",
        "backend": "numpy",
        "epochs": 2,
        "threads": 1,
    }
    assert {name: config[name] for name in wanted} == wanted
    assert config["optimizer"]["name"] == "SGD" and config["optimizer"]["learning_rate"] == 0.005
    p = Parameters.load("deep/folder/checkpoint.npz")
    assert p.architecture == Architecture(5, (4, 3), 3, "tanh", "gaussian", "shared") and p.flat.dtype == np.float64
    assert [row["learning_rate"] for row in history("deep/folder")] == pytest.approx([0.005, 0.0025])


def test_what_was_taken_of_a_table_is_told_and_known_to_all_commands(rows):
    x = np.loadtxt(rows, delimiter=",")
    np.savetxt("counted.csv", np.column_stack([range(40), x]), delimiter=",", header="id,1,2,3,4,5", comments="")
    assert "--csv-header yes or no" in refused("train", "--data", "counted.csv", *SMALL)
    settled = "--csv-header", "yes", "--csv-index", "yes"
    out = done("train", "--data", "counted.csv", *settled, *SMALL, "--out", "run")
    assert "40 rows of 5 columns between commas, the first line taken for names, the first column for the rows' index" in out
    done("evaluate", "run")
    done("encode", "run", "--out", "z.npy")
    done("encode", "run", "--data", rows, "--csv-header", "no", "--csv-index", "no", "--out", "again.npy")
    np.testing.assert_array_equal(np.load("z.npy"), np.load("again.npy"))


@pytest.mark.parametrize("how", ["--valid-fraction 0", "train alone"])
def test_without_validation_there_are_training_rows_alone(how):
    x = np.random.default_rng(0).random((30, 4, 9))
    np.savez("rows.npz", **({"train": x} if how == "train alone" else {"x": x}))
    out = done("train", "--data", "rows.npz", *SMALL, *(() if how == "train alone" else how.split()), "--out", "run")
    assert "30 rows to train on, none to validate with" in out and PICTURES <= {
        path.name for path in pathlib.Path("run").iterdir()
    }
    assert not any(name.startswith("valid") for name in history("run")[0])
    assert [row[:2] for row in cells(done("evaluate", "run"))] == [["train", "30"]]
    assert "of 30 training rows" in done("evaluate", "run", "--importance-samples", 2)
    done("train", "--resume", "run", "--epochs", 2)
    assert "beyond the 30 training rows" in refused("study", "--run", "run", "--examples", 30)


def test_no_hidden_layers_make_a_linear_model(rows):
    done("train", "--data", rows, "--epochs", 1, "--hidden", "--out", "linear")
    assert Parameters.load("linear/checkpoint.npz").architecture.hidden == ()


def test_the_same_seed_gives_the_same_bits_and_another_seed_others(rows):
    flat = {}
    for out, seed in (("a", 3), ("b", 3), ("c", 4)):
        done("train", "--data", rows, "--latent", 3, *SMALL, "--seed", seed, "--out", out)
        flat[out] = Parameters.load(f"{out}/checkpoint.npz").flat
    np.testing.assert_array_equal(flat["a"], flat["b"])
    assert not np.array_equal(flat["a"], flat["c"])


def test_without_out_every_run_takes_a_new_folder_and_leaves_the_others_alone(rows):
    done("train", "--data", rows, *SMALL)
    first = contents("runs/rows")
    done("train", "--data", rows, *SMALL)
    assert sorted(path.name for path in pathlib.Path("runs").iterdir()) == ["rows", "rows-2"]
    assert contents("runs/rows") == first
    assert {path.name for path in pathlib.Path("runs/rows-2").iterdir()} == {
        *(".lock", "checkpoint.npz", "history.csv", "config.json", "losses.png", "latent.png")
    }


def test_out_on_a_run_is_refused_and_the_run_stays_as_it_is(run):
    before = contents(run)
    line = refused("train", *SMALL, "--out", run)
    assert str(run) in line and "resume" in line
    assert contents(run) == before


def test_out_may_be_a_folder_that_is_there_but_holds_no_run(rows):
    pathlib.Path("empty").mkdir()
    done("train", "--data", rows, "--latent", 3, *SMALL, "--out", "empty")
    assert len(history("empty")) == 1


@pytest.mark.parametrize("name", ["[red]", "[", "a" * 130], ids=["markup", "bracket", "long"])
def test_a_folder_is_printed_as_it_was_given(rows, name):
    # rich reads brackets as markup, and folds what is wider than the page: such a path could not be copied.
    shutil.copy(rows, f"{name}.csv")
    assert f"{name}/losses.png" in done("train", "--data", f"{name}.csv", "--latent", 3, *SMALL, "--out", name)


def test_a_name_that_looks_like_the_end_of_markup_is_a_name(rows):
    pathlib.Path("[").mkdir()
    shutil.copy(rows, "[/red].csv")
    assert "[/red].csv" in done("train", "--data", "[/red].csv", "--latent", 3, *SMALL, "--out", "run")


def test_labels_that_are_text_and_images_that_are_no_squares_are_drawn_too():
    rng = np.random.default_rng(0)
    np.savez("wide.npz", x=rng.random((30, 4, 9)), labels=rng.choice(["cat", "dog"], 30))
    done("train", "--data", "wide.npz", *SMALL, "--out", "wide")
    assert PICTURES <= {path.name for path in pathlib.Path("wide").iterdir()}


def test_a_loss_that_stops_being_finite_ends_training_with_the_step_and_leaves_the_last_checkpoint(rows):
    # Four steps an epoch; the first one of the second epoch throws the weights out of all bounds.
    options = "--likelihood gaussian --latent 3 --hidden 6 --batch-size 8 --optimizer sgd --schedule 1:1e30".split()
    line = refused("train", "--data", rows, *options, "--epochs", 5, "--out", "far")
    assert "finite" in line and "step" in line
    assert Parameters.load("far/checkpoint.npz").architecture.n_inputs == 5  # load refuses what is not finite
    assert len(history("far")) == 1


# ------------------------------------------------------------------------------------------------------------- resume


def assert_same_run(folder, other):
    np.testing.assert_array_equal(
        Parameters.load(f"{folder}/checkpoint.npz").flat, Parameters.load(f"{other}/checkpoint.npz").flat
    )
    tables = [[{**row, "seconds": 0} for row in history(each)] for each in (folder, other)]
    assert tables[0] == tables[1]


def test_a_resumed_run_is_the_uninterrupted_one_bit_for_bit(rows):
    options = f"--data {rows} --latent 3 --hidden 6 --batch-size 12 --beta-warmup 3 --schedule 3:0.5".split()
    done("train", *options, "--epochs", 5, "--out", "straight")
    done("train", *options, "--epochs", 2, "--out", "parts")
    done("train", "--resume", "parts", "--epochs", 5)
    assert_same_run("parts", "straight")
    assert len(history("parts")) == 5


def test_ctrl_c_ends_with_130_and_a_sentence_and_the_run_can_go_on_as_if_nothing_had_been(rows, monkeypatch):
    options = ("--data", rows, "--latent", 3, "--hidden", 6, "--epochs", 4)
    done("train", *options, "--out", "straight")
    calls, evaluate = [], training.evaluate

    def interrupted(*arguments, **named):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return evaluate(*arguments, **named)

    with monkeypatch.context() as patch:
        patch.setattr(training, "evaluate", interrupted)
        refused("train", *options, "--out", "stopped", code=130)
    assert len(history("stopped")) == 2
    done("train", "--resume", "stopped")
    assert_same_run("stopped", "straight")


def test_resuming_a_finished_run_changes_no_parameter(run):
    before = Parameters.load(run / "checkpoint.npz").flat
    done("train", "--resume", run)
    np.testing.assert_array_equal(Parameters.load(run / "checkpoint.npz").flat, before)
    assert len(history(run)) == 3


def test_a_run_whose_data_have_moved_goes_on_where_they_are_named(rows, monkeypatch):
    """From then on by itself, from any folder, and however the same numbers are written."""
    done("train", "--data", rows, *SMALL, "--out", "run")
    x = np.loadtxt(rows, delimiter=",")
    pathlib.Path(rows).unlink()
    pathlib.Path("there").mkdir()
    np.savetxt("there/moved.csv", np.column_stack([range(40), x]), delimiter=",")
    assert "if it has moved, say where it is with --data" in refused("train", "--resume", "run", "--epochs", 2)
    assert "--csv-index yes or no" in refused("train", "--resume", "run", "--epochs", 2, "--data", "there/moved.csv")
    done("train", "--resume", "run", "--epochs", 2, "--data", "there/moved.csv", "--csv-index", "yes")
    monkeypatch.chdir("there")
    done("train", "--resume", "../run", "--epochs", 3)
    assert len(history("../run")) == 3
    np.savetxt("other.csv", x + 1e-9, delimiter=",")
    assert "other data" in refused("train", "--resume", "../run", "--epochs", 4, "--data", "other.csv", "--csv-index", "no")


SAID = "its last digits will differ from those of a run that stayed there"


@pytest.mark.parametrize(
    "before, given, now, said",
    [
        ("numpy", "", "numpy", False),
        ("numba", "", "numba", False),
        ("numpy", "--backend numba", "numba", True),
        ("numba", "--backend numpy", "numpy", True),
        ("numba", "--threads 1", "numba", False),
        ("numpy", "--threads 2", "numpy", True),
        ("numpy", "--threads 1", "numpy", False),
    ],
)
def test_a_run_goes_on_with_its_backend_or_with_another_which_is_said(rows, before, given, now, said):
    done("train", "--data", rows, *SMALL, "--backend", before, "--out", "run")
    answer = command("train", "--resume", "run", "--epochs", 2, *given.split())
    assert answer.code == 0 and f"backend {now}" in answer.out and len(history("run")) == 2
    assert (SAID in " ".join(answer.err.split())) == said
    assert f"backend {now}" in done("train", "--resume", "run", "--epochs", 3), "it stays where it is"


def test_a_run_whose_backend_cannot_run_here_is_told_what_to_do(rows, monkeypatch):
    done("train", "--data", rows, *SMALL, "--backend", "numba", "--out", "run")
    missing = kernels.Status(False, "numba is not installed", "run `pip install numba`")
    monkeypatch.setattr(kernels, "CHECKS", kernels.CHECKS | {"numba": lambda: missing})
    line = refused("train", "--resume", "run", "--epochs", 2)
    assert "trained on 'numba', which cannot run here: numba is not installed" in line and "--backend (numpy" in line
    assert len(history("run")) == 1
    done("train", "--resume", "run", "--epochs", 2, "--backend", "numpy")
    assert len(history("run")) == 2


def test_a_file_called_as_a_data_set_is_not_taken_for_it():
    pathlib.Path("digits").touch()
    done("train", *SMALL, "--out", "run")
    done("train", "--resume", "run", "--epochs", 2)


def test_a_run_is_not_resumed_on_other_data(rows):
    done("train", "--data", rows, "--latent", 3, *SMALL, "--out", "run")
    np.savetxt(rows, np.random.default_rng(1).random((40, 5)), delimiter=",")
    assert "data" in refused("train", "--resume", "run", "--epochs", 2)


# ----------------------------------------------------------------------------------------------- evaluate and sample


@pytest.mark.parametrize("options", [(), ("--objective", "elbo_mc", "--samples", 3, "--seed", 2)], ids=["default", "given"])
def test_evaluate_prints_the_terms_that_the_library_computes(trained, options):
    given = dict(zip(options[::2], options[1::2]))
    table = {row[0]: row[1:] for row in cells(done("evaluate", trained[1], *options))}
    p, dataset = Parameters.load(trained[1] / "checkpoint.npz"), data.load("digits")
    for part, x in (("train", dataset.train), ("valid", dataset.valid)):
        value = training.evaluate(
            p, x, given.get("--objective", "elbo"), given.get("--samples", 1), seed=given.get("--seed", 0)
        )
        error = np.std(value.per_example, dtype=float) / len(x) ** 0.5
        wanted = [f"{number:.3f}" for number in (value.total, error, value.reconstruction, value.kl)]
        assert table[part] == [str(len(x)), *wanted]


def test_a_run_can_be_evaluated_on_another_file_and_where_its_own_is_gone(rows):
    done("train", "--data", rows, "--latent", 3, *SMALL, "--out", "run")
    shutil.move(rows, "moved.csv")
    for what in "evaluate", "encode", "reconstruct":
        assert rows in (said := refused(what, "run")) and "if it has moved, say where it is with --data" in said
    assert ["train", "32"] in [row[:2] for row in cells(done("evaluate", "run", "--data", "moved.csv"))]


def all_of(name, **options):
    """All rows of a data set, those of a part of its own last."""
    dataset = data.load(name, valid_fraction=0, **options)
    return np.concatenate([rows for rows in (dataset.train, dataset.valid) if rows is not None])


def test_encode_writes_the_mean_of_q_for_every_row_in_the_order_of_the_data(trained):
    pathlib.Path("z.npy").write_text("an older file, as of `sample`, is replaced")
    assert done("encode", trained[1], "--out", "z.npy") == "1797 rows of 2 latents, the means of q(z|x), in z.npy\n"
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


# ------------------------------------------------------------------------------------------------- check and backends


@pytest.fixture
def plant(monkeypatch):
    """plant(name, function): put an operation in the place of the reference's, for this test."""
    # The bound text is kept from one use to the next, and would go on calling the operation it was bound to.
    forget = getattr(elbo._bind, "cache_clear", lambda: None)
    forget()

    def put(name, function):
        monkeypatch.setattr(reference, name, function)

    yield put
    monkeypatch.undo()
    forget()


def wrong_parameters(out):
    """The lines about gradients that are off, as (model, parameter)."""
    found = re.findall(r"([A-Z][\w ,]+?): ([\w.]+)\[[\d, ]*\] is", " ".join(out.split()))
    return set(found)


def test_check_finds_every_gradient_right_on_every_backend_that_runs_here():
    out = done("check")
    assert not wrong_parameters(out) and "every gradient is right" in out
    for name, status in kernels.available().items():
        assert bool(re.search(rf", {name}\b", out)) == status.ok
    for choice in NOISES:
        for name in Architecture(6, (5, 4), 3, **choice).shapes:
            assert re.search(rf"^\s*{re.escape(name)}\s", out, re.MULTILINE), f"{name} is not in the table"


def test_check_names_the_encoder_if_the_derivative_of_relu_is_wrong(plant):
    def leaky(dh, h):
        dh *= np.where(h > 0, 1, 0.01)
        return dh

    plant("relu_backward", leaky)
    answer = command("check", "--backend", "numpy")
    assert answer.code == 1
    found = wrong_parameters(answer.out)
    assert {"encoder.0.W", "encoder.0.b", "decoder.0.W"} <= {name for _, name in found}
    assert all("relu" in model for model, _ in found), "the other activations' derivatives are right"


def test_check_names_logvar_alone_and_what_lies_below_it_if_the_derivative_of_the_kl_is_off_by_a_thousandth(plant):
    right = reference.gaussian_kl_backward

    def wrong(dkl, mu, logvar, eps, z, dz, dmu, dlogvar):
        right(dkl, mu, logvar, eps, z, dz, dmu, dlogvar)
        dlogvar *= 1.001
        return dz, dmu, dlogvar

    plant("gaussian_kl_backward", wrong)
    answer = command("check", "--backend", "numpy")
    assert answer.code == 1 and "every gradient is right" not in answer.out
    names = {name for _, name in wrong_parameters(answer.out)}
    assert {"logvar.W", "logvar.b"} <= names
    assert all(name.startswith(("logvar.", "encoder.")) for name in names), "mu and the decoder have no part in it"


def test_mistakes_prints_what_catches_each(monkeypatch):
    monkeypatch.setattr("vae_np.testing.mistakes.find", functools.partial(mistakes.find, seeds=(0,), epochs=1))
    out = " ".join(done("mistakes").split())
    assert all(mistake.name in out for mistake in mistakes.MISTAKES)
    assert out.count("disagree") == 2 and "gradient is the" in out


def test_backends_lists_every_set_of_kernels_and_which_is_automatic():
    out = done("backends")
    table = {row[0]: row[1:] for row in cells(out)}
    assert {"numpy", "numba", "cupy"} <= set(table)
    for name, status in kernels.available().items():
        assert table[name][0] == ("yes" if status.ok else "no")
    assert f"auto is {[name for name, status in kernels.available().items() if status.ok][-1]}" in out


@pytest.fixture
def no_gpu(monkeypatch):
    missing = kernels.Status(False, "there is no GPU", "run `pip install '.[cuda13]'` in the clone")
    monkeypatch.setattr(kernels, "CHECKS", kernels.CHECKS | {"cupy": lambda: missing})


def test_backends_says_why_one_cannot_run_and_what_to_do(no_gpu):
    assert ["cupy", "no", "there is no GPU", "run `pip install '.[cuda13]'` in the clone"] in cells(done("backends"))


@pytest.mark.parametrize(
    "arguments",
    ["train", "evaluate RUN", "encode RUN --out a.npy", "reconstruct RUN --out a.npy", "sample RUN --out a.npy", "check"],
)
def test_a_backend_that_cannot_run_says_why_and_the_remedy(trained, no_gpu, arguments):
    line = refused(*arguments.replace("RUN", str(trained[1])).split(), "--backend", "cupy")
    assert all(words in line for words in ("'cupy'", "there is no GPU", "run `pip install '.[cuda13]'` in the clone"))


# -------------------------------------------------------------------------------------------------------- bad arguments


@pytest.mark.parametrize(
    ("option", "wanted"),
    {
        "--data cifar": "'cifar'",
        "--data gone.npz": "gone.npz",
        "--data .": "known are 'digits', 'mnist'",
        "--hidden 0": "hidden",
        "--hidden 5 -3": "hidden",
        "--latent 0": "latent",
        "--samples 0": "samples",
        "--threads 0": "threads",
        "--epochs 0": "epochs",
        "--epochs -1": "epochs",
        "--batch-size 0": "batch_size",
        "--patience 0": "patience",
        "--learning-rate 0": "learning_rate",
        "--learning-rate nan": "learning_rate",
        "--beta -1": "beta",
        "--beta nan": "beta",
        "--beta-warmup -1": "beta_warmup",
        "--l2 -1": "l2",
        "--l2 inf": "l2",
        "--schedule 2:-1": "schedule",
        "--seed -1": "seed",
        f"--seed {2**64}": "seed",
        "--noise shared": "gaussian",
        "--noise heteroscedastic": "gaussian",
        "--noise-std 2": "gaussian",
        "--likelihood gaussian --noise-std 0": "noise_std",
        "--valid-fraction 1": "fraction",
        "--valid-fraction nan": "fraction",
        "--valid-fraction inf": "fraction",
        "--resume nowhere": "nowhere",
        "--out rows.csv": "rows.csv",
        "--out rows.csv/run": "rows.csv",
    }.items(),
)
def test_a_bad_argument_of_train_is_named_and_nothing_is_left_behind(rows, option, wanted):
    assert wanted in refused("train", "--data", rows, *SMALL, *option.split())
    # A folder with a description and no checkpoint would be taken for a run.
    assert [path.name for path in pathlib.Path().iterdir()] == [rows]


@pytest.mark.parametrize("option", ["--data gone.npz", "--hidden 0", "--samples 0", "--threads 0", "--out run"])
def test_what_is_refused_is_refused_in_one_line_with_no_progress_or_remarks_about_what_is_not_done(rows, option):
    done("train", "--data", rows, "--latent", 3, *SMALL, "--out", "run")
    answer = command("train", "--data", rows, *SMALL, *option.split())
    assert answer.code == 2 and len(answer.err.splitlines()) == 1


@pytest.mark.parametrize(
    ("values", "wanted"),
    [
        ([0.0, 2.0], "[0, 1]"),
        ([-0.1, 1.0], "[0, 1]"),
        ([0.0, 255.0], "[0, 1]"),
        ([0.5, np.nan], "NaN"),
        ([0.5, np.inf], "infinite"),
    ],
)
def test_data_that_the_likelihood_cannot_take_are_refused(values, wanted):
    np.save("rows.npy", np.tile(values, (10, 3)))
    assert wanted in refused("train", "--data", "rows.npy", *SMALL)
    assert not pathlib.Path("runs").exists()


def test_pixels_that_rounding_put_outside_0_to_1_are_taken_and_it_is_said_once():
    np.save("rows.npy", np.tile([-1e-17, 1 + 2e-16, 0.5], (10, 1)))
    architecture._say_clipped_once.cache_clear()
    answer = command("train", "--data", "rows.npy", *SMALL, "--out", "run")
    assert answer.code == 0 and answer.err.count("rounding has put just outside [0, 1]") == 1


def test_data_outside_0_to_1_are_welcome_to_a_gaussian():
    np.save("rows.npy", np.random.default_rng(0).normal(3, 2, (20, 5)))
    done("train", "--data", "rows.npy", "--latent", 3, "--likelihood", "gaussian", *SMALL, "--out", "run")


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    {
        "evaluate nowhere": "nowhere",
        "evaluate .": "is not a run folder",
        "evaluate rows.csv": "rows.csv",
        "evaluate RUN --samples 0": "samples",
        "evaluate RUN --samples -2": "samples",
        "evaluate RUN --seed -1": "seed",
        f"evaluate RUN --seed {2**64}": "seed",
        "evaluate RUN --data gone.npy": "gone.npy",
        "evaluate RUN --data cifar": "'cifar'",
        "evaluate RUN --data rows.csv": "64",
        "encode nowhere": "nowhere",
        "encode .": "no trained model",
        "encode RUN --out z.csv": "z.csv",
        "encode RUN --data gone.npy": "gone.npy",
        "encode RUN --data rows.csv --out z.npy": "64",
        "encode RUN/checkpoint.npz --out z.npy": "name them with --data",
        "reconstruct RUN --out x.jpg": "x.jpg",
        "reconstruct RUN --data rows.csv --out x.npy": "64",
        "sample nowhere": "nowhere",
        "sample .": "no trained model",
        "sample rows.csv": "rows.csv",
        "sample RUN --n 0": "n is 0",
        "sample RUN --n -1": "n is -1",
        "sample RUN --seed -1": "seed",
        "sample RUN --out picture.jpg": "picture.jpg",
        "check --seed -1": "seed",
    }.items(),
)
def test_a_bad_argument_of_the_other_commands_is_named(trained, rows, arguments, wanted):
    before = contents(trained[1])
    assert wanted in refused(*[word.replace("RUN", str(trained[1])) for word in arguments.split()])
    assert contents(trained[1]) == before


@pytest.mark.parametrize("name", ["picture.png", "numbers.npy"])
@pytest.mark.parametrize("what", ["sample", "reconstruct", "encode"])
def test_a_file_that_cannot_be_written_is_named_by_the_name_it_was_given(trained, name, what):
    line = refused(what, trained[1], "--out", f"nowhere/{name}")
    assert f"nowhere/{name}" in line and "partial" not in line


def test_a_run_without_its_checkpoint_is_no_model(run):
    (run / "checkpoint.npz").unlink()
    assert str(run / "checkpoint.npz") in refused("evaluate", run)
    assert str(run / "checkpoint.npz") in refused("sample", run)


def test_mnist_offline_says_where_to_put_its_files(monkeypatch, tmp_path):
    def retrieve(*arguments, **options):
        raise requests.exceptions.ConnectionError("no route\nto host")

    monkeypatch.setattr(pooch, "retrieve", retrieve)
    monkeypatch.setattr(pooch, "os_cache", lambda project: tmp_path / "cache")
    line = refused("train", "--data", "mnist")
    assert all(word in line for word in (*data.MNIST_FILES, str(tmp_path / "cache"), "--data-dir", "$VAE_NP_DATA"))


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    {
        "": "COMMAND",
        "trian": "train",
        "train --activation gelu": "softplus",
        "train --objective vae": "elbo_mc",
        "train --backend torch": "numba",
        "train --hidden wide": "'wide'",
        "train --epochs 1.5": "'1.5'",
        "train --schedule 10": "10:0.1",
        "train --colour": "--colour",
        "evaluate": "run",
        "check --backend torch": "numba",
    }.items(),
)
def test_an_argument_that_cannot_be_parsed_is_named_with_what_is_known(arguments, wanted):
    answer = command(*arguments.split())
    assert answer.code == 2 and answer.out == ""
    # The parser's own convention: the usage, then one line that begins with the command.
    assert answer.err.startswith("usage: vae-np") and wanted in answer.err.splitlines()[-1]


@pytest.mark.parametrize("name", ["", "train", "evaluate", "encode", "reconstruct", "sample", "check", "backends"])
def test_help_tells_what_a_command_does(name):
    out = done(*name.split(), "--help")
    known = ("train", "evaluate", "encode", "reconstruct", "sample", "check", "backends")
    wanted = [getattr(cli, name).__doc__.split(",")[0]] if name else known
    assert all(words in " ".join(out.split()) for words in wanted)


# ------------------------------------------------------------------------------------------------------- as a process


def process(*arguments):
    return [sys.executable, "-m", "vae_np", *map(str, arguments)]


@pytest.fixture(autouse=True)
def importable(monkeypatch):
    """So that a process in another folder finds the packages of this checkout."""
    monkeypatch.setenv("PYTHONPATH", str(pathlib.Path(cli.__file__).parents[1]))


def test_as_a_process_it_trains_and_then_refuses_the_same_folder_in_one_line(rows):
    arguments = process("train", "--data", rows, "--latent", 3, *SMALL, "--out", "run")
    first = subprocess.run(arguments, capture_output=True, text=True, timeout=600)
    assert first.returncode == 0
    assert first.stderr.count("grey") == 1 and "Traceback" not in first.stderr
    assert len(history("run")) == 1 and "run/losses.png" in first.stdout
    again = subprocess.run(arguments, capture_output=True, text=True, timeout=600)
    assert again.returncode == 2 and "Traceback" not in again.stderr
    assert again.stderr.splitlines()[-1].startswith("vae-np: run ")


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT to send to one process")
def test_as_a_process_it_ends_on_ctrl_c_with_130_and_one_sentence(rows):
    arguments = process("train", "--data", rows, "--latent", 3, "--epochs", 10**6, "--hidden", 6, "--out", "run")
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as child:
        waited = time.monotonic() + 600
        while not pathlib.Path("run/history.csv").exists() and time.monotonic() < waited and child.poll() is None:
            time.sleep(0.02)
        child.send_signal(signal.SIGINT)
        try:
            _, err = child.communicate(timeout=600)
        finally:
            child.kill()
    assert child.returncode == 130
    assert "Traceback" not in err and err.splitlines()[-1].startswith("vae-np: ")
    assert Parameters.load("run/checkpoint.npz").flat.size > 0


# -------------------------------------------------------------------------------------------------- bounds and their end


def test_evaluate_prints_the_bounds_and_log_p(run):
    answer = done("evaluate", run, "--importance-samples", 100)
    rows = dict(re.findall(r"│ (ELBO, 1 sample|bound of \d+ samples|log p\(x\), 100 samples) +│ +(-[\d.]+)", answer))
    values = [
        float(rows[name]) for name in ("ELBO, 1 sample", "bound of 5 samples", "bound of 50 samples", "log p(x), 100 samples")
    ]
    assert values == sorted(values)
    assert "effective sample size" in answer and "latents active" in answer
    assert "importance" not in done("evaluate", run)


def test_evaluate_that_is_stopped_prints_what_it_has(run, monkeypatch):
    from vae_np import bounds

    whole, calls = bounds._Sums.result, []

    def result(self):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return whole(self)

    monkeypatch.setattr(bounds._Sums, "result", result)
    monkeypatch.setattr(bounds, "CHUNK", 50)
    answer = done("evaluate", run, "--importance-samples", 10)
    assert re.search(r"8 of \d+ validation rows", answer)


def test_explain_bound_reaches_what_is_known(monkeypatch, tmp_path):
    from vae_np import known

    monkeypatch.setattr(
        known, "linear_digits", lambda: np.random.default_rng(0).normal(size=(60, 5)) @ np.diag([3, 2, 1, 1, 1])
    )
    answer = done("explain-bound", "--out", tmp_path / "bound.png")
    pairs = re.findall(r"│ +(-?[\d.e+-]+) +│ +(-?[\d.e+-]+) +│", answer)
    assert len(pairs) == 5
    for reached, wanted in pairs:
        assert float(reached) == pytest.approx(float(wanted), abs=1e-3)
    assert (tmp_path / "bound.png").read_bytes().startswith(b"\x89PNG")


def test_burda_trains_the_published_stages_and_goes_on(monkeypatch, tmp_path):
    from vae_np import published
    from vae_np.data import Dataset

    assert (published.ENDS[-1], published.ARCHITECTURE.hidden) == (3280, (200, 200))
    assert published.SCHEDULE[0] == (0, 1.0) and published.SCHEDULE[7][0] == 1093
    assert published.SCHEDULE[7][1] == pytest.approx(0.1)
    pixels = np.random.default_rng(0).integers(0, 256, (70, 784), dtype=np.uint8)
    monkeypatch.setattr(data, "load", lambda *_: Dataset(pixels[:50], pixels[50:], None, None, (28, 28)))
    options = "--importance-samples", 5, "--rows", 8, "--out", tmp_path / "run"
    once = done("burda", "--stages", 2, *options)
    assert re.findall(r"stage (\d), (\d+) epochs: -log p\(x\) [\d.]+ ± [\d.]+ nats", once) == [("0", "1"), ("1", "4")]
    before = (tmp_path / "run" / "checkpoint.npz").read_bytes()
    assert "stage 0" not in done("burda", "--stages", 1, *options)  # what is there is no longer stage 0
    assert re.findall(r"stage (\d)", done("burda", "--stages", 2, *options)) == ["1"]
    assert (tmp_path / "run" / "checkpoint.npz").read_bytes() == before


# --------------------------------------------------------------------------------------------------- folders and Ctrl-C


def test_ctrl_c_that_numba_wraps_is_ctrl_c(rows, monkeypatch):
    def interrupted(*arguments, out, **named):
        pathlib.Path(out).mkdir()
        pathlib.Path(out, "config.json").touch()
        try:
            raise KeyboardInterrupt
        except KeyboardInterrupt as interrupt:
            raise SystemError("returned a result with an exception set") from interrupt

    monkeypatch.setattr(training, "train", interrupted)
    answer = command("train", "--data", rows, *SMALL, "--out", "new run")
    assert answer.code == 130 and answer.err == "vae-np: stopped; go on with: vae-np train --resume 'new run'\n"


def test_a_system_error_of_another_kind_is_not_hidden(rows, monkeypatch):
    monkeypatch.setattr(training, "train", lambda *_, **__: (_ for _ in ()).throw(SystemError("a defect")))
    with pytest.raises(SystemError, match="a defect"):
        command("train", "--data", rows, *SMALL)


def test_resume_goes_on_to_the_epochs_last_asked_for(run):
    done("train", "--resume", run, "--epochs", 4)
    done("train", "--resume", run)
    assert json.loads((run / "config.json").read_text())["epochs"] == 4
    assert len((run / "history.csv").read_text().splitlines()) == 5


def test_resume_refuses_settings_that_it_would_not_heed(run):
    assert "--beta cannot be given with it" in refused("train", "--resume", run, "--beta", 9)


def test_a_run_knows_its_data_from_any_folder(rows, tmp_path, monkeypatch):
    done("train", "--data", rows, *SMALL, "--out", "run")
    folder = pathlib.Path("run").absolute()
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert "32" in done("evaluate", folder)
    done("train", "--resume", folder, "--epochs", 2)


def test_a_run_of_the_library_can_be_sampled(tmp_path):
    x = np.random.default_rng(0).uniform(size=(20, 16))
    training.train(Architecture(16, (5,), 2), x, epochs=1, backend="numpy", out=tmp_path / "run")
    done("sample", tmp_path / "run")
    assert (tmp_path / "run" / "samples.png").read_bytes().startswith(b"\x89PNG")


def test_a_first_row_with_an_empty_cell_is_not_taken_for_names(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text("0.1,,0.3\n" + "0.1,0.2,0.3\n" * 9)
    assert str(path) in refused("train", "--data", path, *SMALL)
