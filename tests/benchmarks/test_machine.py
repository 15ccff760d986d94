"""What a figure depends on is told with it."""

import json
import os
import shutil
import subprocess
import types

import numpy as np
import pytest

from benchmarks import machine, report
from tests.benchmarks.results import document


def test_this_machine_is_described():
    described = json.loads(json.dumps(machine.describe()))
    assert described["processor"] == machine.processor() and described["processor"]
    assert described["system"].split()[0] == os.uname().sysname
    assert 1 <= described["cores_allowed"] and 1 <= described["cores"]
    assert described["versions"]["numpy"] == np.__version__
    assert "numba" in described["versions"]
    assert {"commit", "environment", "gpu", "python", "pinned"} < described.keys()
    for pool in described["blas"]:
        assert pool.keys() == {"of", "internal_api", "version", "architecture", "threading_layer", "num_threads"}
    assert report.about(document("step", **described))


SETTINGS = "OPENBLAS_CORETYPE", "OMP_NUM_THREADS", "MKL_CBWR", "VAE_NP_TF32", "CUDA_LAUNCH_BLOCKING", "XLA_FLAGS"


@pytest.mark.parametrize("name", SETTINGS)
def test_settings_that_change_the_speed_are_told(name, monkeypatch):
    monkeypatch.setenv(name, "1")
    monkeypatch.setenv("HOME_OMP_X", "1")
    assert machine.settings()[name] == "1"
    assert "HOME_OMP_X" not in machine.settings()
    assert list(machine.settings()) == sorted(machine.settings())


def test_the_processor_is_named(monkeypatch, tmp_path):
    (tmp_path / "cpuinfo").write_text("processor\t: 0\nmodel\t\t: 17\nmodel name\t: A Processor: 9 GHz \nflags: x\n")
    monkeypatch.setattr(machine, "pathlib", types.SimpleNamespace(Path=lambda path: tmp_path / os.path.basename(path)))
    assert machine.processor() == "A Processor: 9 GHz"
    named = types.SimpleNamespace(processor=lambda: "arm", machine=lambda: "aarch64")
    monkeypatch.setattr(machine, "platform", named)
    (tmp_path / "cpuinfo").write_text("processor\t: 0\n")
    assert machine.processor() == "arm"
    (tmp_path / "cpuinfo").unlink()
    named.processor = lambda: ""
    assert machine.processor() == "aarch64"


@pytest.mark.skipif(not shutil.which("git"), reason="no git")
def test_the_commit_is_named_and_what_differs_from_it(monkeypatch, tmp_path):
    folder = tmp_path / "benchmarks"
    folder.mkdir()
    monkeypatch.setattr(machine, "__file__", str(folder / "machine.py"))
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert machine.commit() is None
    (folder / "machine.py").write_text("a = 1\n")

    def git(*words):
        own = "-c", "user.name=A", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"
        words = "git", "-C", tmp_path, *own, *words
        return subprocess.run(words, check=True, capture_output=True, text=True).stdout.strip()

    git("init")
    git("add", ".")
    git("commit", "-m", "One.")
    assert machine.commit() == git("rev-parse", "HEAD")[:12]
    (tmp_path / "notes").write_text("not ours")
    assert machine.commit() == git("rev-parse", "HEAD")[:12]
    (folder / "machine.py").write_text("a = 2\n")
    assert machine.commit() == git("rev-parse", "HEAD")[:12] + "+"


def test_versions_and_owners():
    assert machine.version("numpy") == np.__version__
    assert machine.version("no-such-package") is None
    assert machine._owner("/x/site-packages/numpy.libs/libopenblas.so") == "numpy"
    assert machine._owner("/usr/lib/libopenblas.so") == "system"
    assert machine._cuda(13010) == "13.1"


def test_the_driver_of_a_gpu_is_named(monkeypatch):
    def said(words, **_):
        assert words[0] == "nvidia-smi"
        if isinstance(answer, Exception):
            raise answer
        return types.SimpleNamespace(stdout=answer)

    monkeypatch.setattr(machine.subprocess, "run", said)
    for answer, wanted in (("580.1\n580.1\n", "580.1"), ("\n", None), (FileNotFoundError(), None)):
        assert machine.driver() == wanted
