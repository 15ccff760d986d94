"""`vae-np train --resume`: the same bits as an uninterrupted run, with the settings of the run, from any folder."""

import json
import pathlib

import numpy as np
import pytest

from tests.vae_np.cli.commands import SMALL, command, done, history, refused
from vae_np import kernels, training
from vae_np.parameters import Parameters

pytestmark = pytest.mark.usefixtures("empty_pictures")


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
        pytest.param("numba", "", "numba", False, marks=pytest.mark.slow),
        ("numpy", "--backend numba", "numba", True),
        ("numba", "--backend numpy", "numpy", True),
        pytest.param("numba", "--threads 1", "numba", False, marks=pytest.mark.slow),
        ("numpy", "--threads 2", "numpy", True),
        pytest.param("numpy", "--threads 1", "numpy", False, marks=pytest.mark.slow),
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


def test_resume_goes_on_to_the_epochs_last_asked_for(run):
    done("train", "--resume", run, "--epochs", 4)
    done("train", "--resume", run)
    assert json.loads((run / "config.json").read_text())["epochs"] == 4
    assert len((run / "history.csv").read_text().splitlines()) == 5


def test_resume_refuses_settings_that_it_would_not_heed(run):
    assert "--beta cannot be given with it" in refused("train", "--resume", run, "--beta", 9)


def test_a_run_keeps_its_precision_which_is_said(rows):
    options = ("--data", rows, *SMALL, "--backend", "numpy", "--precision", "bfloat16")
    assert "backend numpy, precision bfloat16" in done("train", *options, "--epochs", 2, "--out", "straight")
    done("train", *options, "--out", "parts")
    assert "--precision cannot be given with it" in refused("train", "--resume", "parts", "--precision", "tfloat32")
    assert "backend numpy, precision bfloat16" in done("train", "--resume", "parts", "--epochs", 2)
    assert_same_run("parts", "straight")


def test_a_precision_that_a_backend_does_not_have_is_refused_with_those_that_it_has(rows, monkeypatch):
    monkeypatch.setattr(kernels.load("numba"), "precisions", lambda: {"bfloat16": {}})
    line = refused("train", "--data", rows, *SMALL, "--backend", "numba", "--precision", "tfloat32", "--out", "run")
    assert "precision is 'tfloat32'; backend 'numba' has 'float32', 'bfloat16'" in line and not pathlib.Path("run").exists()


def test_a_run_knows_its_data_from_any_folder(rows, tmp_path, monkeypatch):
    done("train", "--data", rows, *SMALL, "--out", "run")
    folder = pathlib.Path("run").absolute()
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert "32" in done("evaluate", folder)
    done("train", "--resume", folder, "--epochs", 2)
