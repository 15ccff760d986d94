"""Arguments that cannot be used: each is named in one sentence, and nothing is left behind."""

import pathlib

import numpy as np
import pooch
import pytest
import requests

from tests.vae_np.cli.commands import SMALL, command, contents, done, refused
from vae_np import architecture, cli, data


@pytest.mark.parametrize(
    "arguments",
    ["train", "evaluate RUN", "encode RUN --out a.npy", "reconstruct RUN --out a.npy", "sample RUN --out a.npy", "check"],
)
def test_a_backend_that_cannot_run_says_why_and_the_remedy(trained, no_gpu, arguments):
    line = refused(*arguments.replace("RUN", str(trained[1])).split(), "--backend", "cupy")
    assert all(words in line for words in ("'cupy'", "there is no GPU", "run `pip install '.[cuda13]'` in the clone"))


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
        "train --activation mish": "softplus",
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


@pytest.mark.parametrize("name", ["", *(command.name for command in cli.COMMANDS)])
def test_help_tells_what_a_command_does(name):
    out = done(*name.split(), "--help")
    helps = {command.name: command.help or "" for command in cli.COMMANDS}
    wanted = [helps[name]] if name else [*helps, *helps.values()]
    assert all(words in " ".join(out.split()) for words in wanted)


def test_a_first_row_with_an_empty_cell_is_not_taken_for_names(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text("0.1,,0.3\n" + "0.1,0.2,0.3\n" * 9)
    assert str(path) in refused("train", "--data", path, *SMALL)
