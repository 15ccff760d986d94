import logging
import pathlib
import shutil

import numpy as np
import pytest

import vae_np
from tests.vae_np.cli.commands import command
from vae_np import kernels


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


@pytest.fixture(autouse=True)
def importable(monkeypatch):
    """So that a process in another folder finds the packages of this checkout."""
    monkeypatch.setenv("PYTHONPATH", str(pathlib.Path(vae_np.__file__).parents[1]))


@pytest.fixture
def empty_pictures(monkeypatch):
    """The files of a run's pictures are empty: to draw them takes ten times as long as a small training."""
    monkeypatch.setattr("vae_np.plots.write", lambda figure, path: pathlib.Path(path).touch() or path)


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


@pytest.fixture
def no_gpu(monkeypatch):
    missing = kernels.Status(False, "there is no GPU", "run `pip install '.[cuda13]'` in the clone")
    monkeypatch.setattr(kernels, "CHECKS", kernels.CHECKS | {"cupy": lambda: missing})
