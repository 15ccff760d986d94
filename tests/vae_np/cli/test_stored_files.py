"""Commands on data that stay in their files: what is checked once, and what is said of files that are no longer as they were."""

import os
import pathlib

import numpy as np
import pooch
import pytest

from tests.vae_np.cli.commands import SMALL, done, refused

GREY = np.random.default_rng(0).integers(0, 256, (60, 6), dtype=np.uint8)

pytestmark = pytest.mark.usefixtures("empty_pictures")


@pytest.fixture
def shards(tmp_path, monkeypatch):
    monkeypatch.setattr(pooch, "os_cache", lambda project: tmp_path / "cache")
    monkeypatch.setattr("vae_np.stored_rows.SMALL", 0)
    pathlib.Path("shards").mkdir()
    for name, rows in {"a": GREY[:20], "b": GREY[20:]}.items():
        write(name, rows)
    done("train", "--data", "shards", "--out", "run", "--backend", "numpy", *SMALL)
    return pathlib.Path("shards")


def write(name, rows, time=0):
    np.save(f"shards/{name}.npy", rows)
    os.utime(f"shards/{name}.npy", (time, time))


def test_a_run_goes_on_with_its_files_and_evaluates_them(shards):
    assert "2 files of 60 rows" in done("train", "--resume", "run", "--epochs", 2)
    assert "48" in done("evaluate", "run") and len(list(pathlib.Path("cache/checked").iterdir())) == 1
    done("encode", "run")
    assert np.load("run/latents.npy").shape == (60, 2)
    np.save("elsewhere.npy", GREY)
    done("train", "--resume", "run", "--epochs", 3, "--data", "elsewhere.npy")


@pytest.mark.parametrize(
    "change, said",
    [
        (lambda: os.remove("shards/b.npy"), "b.npy is no longer in {}/shards, but run was trained with it: put it back"),
        (lambda: write("c", GREY), "c.npy is new in {}/shards, and run was trained without it: take it away"),
        (lambda: write("b", GREY[:9]), "b.npy holds 9 rows, but run was trained with 40 of it"),
        (lambda: write("b", GREY[20:, :4]), "b.npy holds uint8 rows of shape (4,); .*a.npy holds uint8 rows of shape (6,)"),
        (lambda: write("b", GREY[:40], 1), "run was trained with other data"),
        (lambda: os.rename("shards", "moved"), "there is no file or folder {}/shards; if it has moved, .* --data"),
    ],
    ids=["lacking", "new", "shorter", "narrower", "other content", "moved"],
)
def test_a_run_is_not_resumed_with_other_files(change, said, shards):
    before = pathlib.Path("run/checkpoint.npz").read_bytes()
    change()
    line = refused("train", "--resume", "run", "--epochs", 2)
    for part in said.format(pathlib.Path.cwd()).split(".*"):
        assert part in line
    assert pathlib.Path("run/checkpoint.npz").read_bytes() == before
