"""`vae-np train`: what it writes and prints."""

import json
import pathlib
import shutil

import matplotlib.image
import numpy as np
import pytest

from tests.vae_np.cli.commands import PICTURES, SMALL, cells, contents, done, history, refused
from vae_np.architecture import Architecture
from vae_np.parameters import Parameters


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
        *"--likelihood gaussian --noise shared --objective elbo_mc --estimator path --samples 2 --beta 0.3 --beta-warmup 2".split(),
        *"--l2 0.1 --optimizer sgd --learning-rate 0.005 --schedule 2:0.1 1:0.5 --epochs 2 --batch-size 7".split(),
        *"--binarize --patience 4 --seed 9 --dtype float64 --precision tfloat32 --backend numpy --threads 1 --out deep/folder".split(),
    )
    config = json.loads(pathlib.Path("deep/folder/config.json").read_text())
    wanted = {
        "batch_size": 7,
        "objective": "elbo_mc",
        "estimator": "path",
        "n_samples": 2,
        "beta": 0.3,
        "beta_warmup": 2.0,
        "schedule": [[1, 0.5], [2, 0.1]],
        "l2": 0.1,
        "binarize": True,
        "patience": 4,
        "seed": 9,
        "dtype": "float64",
        "precision": "tfloat32",
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
@pytest.mark.usefixtures("empty_pictures")
def test_without_validation_there_are_training_rows_alone(how):
    x = np.random.default_rng(0).random((30, 4, 9))
    if how == "train alone":
        np.savez("rows.npz", train=x)
    else:
        np.savez("rows.npz", x=x)
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
