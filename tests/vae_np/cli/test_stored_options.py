"""The options that a run folder keeps: they are read again as they were given, and folders of version 0.1 are read too."""

import json
import pathlib
import shutil

import numpy as np
import pytest

from tests.vae_np.cli.commands import SMALL, cells, command, contents, done, history, refused
from vae_np.cli.run_folder import NOT_STORED, stored, stored_options
from vae_np.cli.train import COMMAND
from vae_np.parameters import Parameters

DATA = pathlib.Path(__file__).parent / "data"
OLD = DATA / "run-of-0.1"  # train --data digits --hidden 4 --latent 2 --epochs 2 --backend numpy --threads 1

pytestmark = pytest.mark.usefixtures("empty_pictures")


@pytest.fixture
def old(tmp_path):
    return pathlib.Path(shutil.copytree(OLD, tmp_path / "old"))


def change_config(folder, **values):
    """Change what config.json says; None takes a key away."""
    path = pathlib.Path(folder, "config.json")
    config = {**json.loads(path.read_text()), **values}
    path.write_text(json.dumps({name: value for name, value in config.items() if value is not None}))


# ---------------------------------------------------------------------------------------------- folders of version 0.1


def test_an_old_run_says_its_options_in_a_command_line_alone():
    config = json.loads((OLD / "config.json").read_text())
    assert "options" not in config and config["command"].startswith("vae-np train --data digits --hidden 4")


def test_an_old_run_is_evaluated_to_the_numbers_of_then(old):
    before = contents(old)
    assert cells(done("evaluate", old, "--backend", "numpy")) == [
        ["train", "1438", "43.367", "0.017", "43.361", "0.006"],
        ["valid", "359", "43.338", "0.034", "43.332", "0.006"],
    ]
    weighted = "--objective", "iwae", "--samples", 3, "--seed", 2
    assert [row[2] for row in cells(done("evaluate", old, "--backend", "numpy", *weighted))] == ["43.283", "43.228"]
    assert contents(old) == before


def test_an_old_run_is_encoded_and_sampled(old):
    done("encode", old)
    assert np.load(old / "latents.npy").shape == (1797, 2)
    done("sample", old)
    assert (old / "samples.png").exists()


def test_an_old_run_is_resumed_to_the_parameters_of_then(old):
    """To the same bits, where NumPy's BLAS computes as that of then, and else as closely as two of them agree."""
    done("train", "--resume", old, "--epochs", 4)
    resumed, wanted = Parameters.load(old / "checkpoint.npz").flat, np.load(DATA / "flat-after-4-epochs.npy")
    np.testing.assert_allclose(resumed, wanted, rtol=0, atol=1e-6)
    done("train", *"--data digits --hidden 4 --epochs 2 --backend numpy --threads 1 --out again".split())
    if np.array_equal(Parameters.load("again/checkpoint.npz").flat, Parameters.load(OLD / "checkpoint.npz").flat):
        np.testing.assert_array_equal(resumed, wanted)
    assert [row["epoch"] for row in history(old)] == [1, 2, 3, 4] and history(old)[:2] == history(OLD)
    assert stored_options(old, COMMAND).hidden == [4], "from now on it keeps its options"
    assert "options" in json.loads((old / "config.json").read_text())


def test_an_old_command_line_may_have_the_old_name_of_an_option(rows):
    done("train", "--data", rows, *SMALL, "--init", "he", "--schedule", "1:0.5", "--out", "run")
    path = pathlib.Path(rows).absolute()
    line = f"vae-np train --data {rows} --hidden 6 --epochs 1 --scheme he --schedule 1:0.5 --out run --data {path}"
    change_config("run", options=None, command=line)
    answer = command("train", "--resume", "run", "--epochs", 2)
    assert answer.code == 0 and "--scheme" not in answer.err, "nobody gave it just now"
    assert [row["learning_rate"] for row in history("run")] == [1e-3, 5e-4]


# ----------------------------------------------------------------------------------------------------- options as JSON

WORDS = (
    "",
    "--hidden",
    "--data some.npz --data-dir there --csv-header yes --csv-index no --valid-fraction 0.25",
    "--hidden 7 5 --latent 3 --activation tanh --likelihood gaussian --noise shared --noise-std 0.5 --objective iwae",
    "--estimator dreg",
    "--samples 2 --beta 0.1 --beta-warmup 2.5 --l2 1e-05 --optimizer sgd --learning-rate 0.3 --schedule 1:0.5 7:1e-30",
    "--epochs 3 --batch-size 2 --binarize --patience 4 --init he --seed 18446744073709551615 --dtype float64",
    "--snapshots 3 --precision bfloat16 --backend numpy --threads 2 --exchange sums",
)


@pytest.mark.parametrize("words", WORDS)
def test_options_are_read_as_they_were_given_from_json_and_from_the_command_line(words):
    options = COMMAND.parse(words.split())
    options.epochs = options.epochs or 20
    config = {"epochs": options.epochs, **stored(COMMAND, options)}
    wanted = dict(vars(options))
    for name in {"data", "data_dir"} & {word.removeprefix("--").replace("-", "_") for word in words.split()}:
        wanted[name] = str(pathlib.Path(wanted[name]).absolute())
    pathlib.Path("run").mkdir()
    for gone in ("command", "options"):
        pathlib.Path("run/config.json").write_text(json.dumps({**config, gone: None}))
        change_config("run")
        assert vars(stored_options("run", COMMAND)) == wanted


def test_every_option_of_train_is_tried_above():
    used = {word.removeprefix("--").replace("-", "_") for words in WORDS for word in words.split() if word.startswith("--")}
    assert used == COMMAND.options.keys() - set(NOT_STORED)


def test_an_option_that_a_newer_version_lacks_has_its_default(run):
    options = json.loads((run / "config.json").read_text())["options"]
    del options["patience"], options["init"]
    change_config(run, options=options)
    assert (stored_options(run, COMMAND).patience, stored_options(run, COMMAND).init) == (None, "glorot")


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        (5, "its options are not a JSON object"),
        ({"wings": 2}, "it has an option 'wings', which this version does not know"),
        ({"out": "elsewhere"}, "it has an option 'out', which this version does not know"),
        ({"data": 5}, "its option data cannot be 5"),
        ({"hidden": 4}, "its option hidden cannot be 4"),
        ({"hidden": ["4"]}, "its option hidden cannot be ['4']"),
        ({"hidden": None}, "its option hidden cannot be None"),
        ({"hidden": [4, None]}, "its option hidden cannot be [4, None]"),
        ({"schedule": [3]}, "its option schedule cannot be [3]"),
        ({"schedule": [[1, 2, 3]]}, "its option schedule cannot be [[1, 2, 3]]"),
        ({"latent": 2.5}, "its option latent cannot be 2.5"),
        ({"latent": True}, "its option latent cannot be True"),
        ({"beta": "1"}, "its option beta cannot be '1'"),
        ({"binarize": None}, "its option binarize cannot be None"),
        ({"binarize": "yes"}, "its option binarize cannot be 'yes'"),
        ({"optimizer": "newton"}, "its option optimizer cannot be 'newton'"),
        ({"csv_header": 1}, "its option csv_header cannot be 1"),
        ({"backend": ["numpy"]}, "its option backend cannot be ['numpy']"),
    ],
)
def test_options_that_nobody_could_have_given_are_named(run, options, wanted):
    change_config(run, options=options)
    before = contents(run)
    for arguments in (["evaluate", run], ["train", "--resume", run]):
        line = refused(*arguments)
        assert str(run / "config.json") in line and wanted in line
    assert contents(run) == before


def test_where_a_run_goes_on_is_kept_and_the_rest_stays(rows):
    done("train", "--data", rows, *SMALL, "--backend", "numba", "--init", "he", "--out", "run")
    done("train", "--resume", "run", "--epochs", 2, "--backend", "numpy", "--threads", 1)
    options = stored_options("run", COMMAND)
    assert (options.backend, options.threads, options.epochs, options.init) == ("numpy", 1, 2, "he")
    line = json.loads(pathlib.Path("run/config.json").read_text())["command"]
    path = pathlib.Path(rows).absolute()
    assert line == f"vae-np train --data {path} --hidden 6 --epochs 2 --init he --backend numpy --threads 1"


def test_the_old_name_of_an_option_works_is_not_in_the_help_and_says_the_new_one(rows):
    for name in ("--init", "--scheme"):
        answer = command("train", "--data", rows, *SMALL, name, "he", "--out", name[2:])
        assert answer.code == 0 and ("is now called --init" in answer.err) == (name == "--scheme")
    new, old = (Parameters.load(f"{folder}/checkpoint.npz").flat for folder in ("init", "scheme"))
    np.testing.assert_array_equal(new, old)
    assert "--scheme" not in done("train", "--help")
