"""The description of a machine holds what times depend on."""

import ctypes
import json
import os
import pathlib
import shutil
import subprocess
import types

import numpy as np
import pytest

from benchmarks import machine, processes, report, tables
from tests.benchmarks.results import GPU, document
from vae_np import kernels


def test_this_machine_is_described():
    described = json.loads(json.dumps(machine.describe()))
    assert described["processor"] == machine.processor() and described["processor"]
    assert described["system"].split()[0] == os.uname().sysname
    assert described["cores_allowed"] == len(processes.allowed_cores())
    assert described["versions"]["numpy"] == np.__version__
    assert "numba" in described["versions"]
    assert {"commit", "environment", "gpu", "python", "pinned"} < described.keys()
    for pool in described["blas"]:
        assert pool.keys() == {"of", "internal_api", "version", "architecture", "threading_layer", "num_threads"}
    assert {pool["of"] for pool in described["blas"]} <= {"numpy", "scipy", "system"}
    assert tables.describe(document("step", **described))


def test_the_cores_of_a_machine_are_not_those_of_a_process(monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    monkeypatch.setattr(os, "sched_getaffinity", lambda who: {1, 2, 3} if who == 0 else {1}, raising=False)
    monkeypatch.setattr(os, "sched_setaffinity", lambda *_: None, raising=False)
    described = machine.describe()
    assert (described["cores"], described["cores_allowed"], described["pinned"]) == (64, 3, True)
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.delattr(os, "sched_setaffinity")
    described = machine.describe()
    assert (described["cores"], described["cores_allowed"], described["pinned"]) == (64, 64, False)


SETTINGS = "OPENBLAS_CORETYPE", "OMP_NUM_THREADS", "MKL_CBWR", "VAE_NP_TF32", "CUDA_LAUNCH_BLOCKING", "XLA_FLAGS"
SETTINGS += "KMP_AFFINITY", "NUMBA_CPU_NAME", "VECLIB_MAXIMUM_THREADS", "TORCHINDUCTOR_MAX_AUTOTUNE"
OTHERS = "HOME_OMP_X", "NV_LIBCUBLAS_VERSION", "KMP_DUPLICATE_LIB_OK", "NUMBA_CACHE_DIR", "TORCH_CUDA_ARCH_LIST"
OTHERS += "TORCHINDUCTOR_CACHE_DIR", "JAX_TRACEBACK_FILTERING", "OMP_NUM_THREADS_OF_ANOTHER"


def test_settings_that_change_the_speed_are_told_and_no_others(monkeypatch):
    before = machine.settings()
    for name in (*SETTINGS, *OTHERS):
        monkeypatch.setenv(name, "1")
    assert machine.settings() == before | dict.fromkeys(SETTINGS, "1")
    assert list(machine.settings()) == sorted(machine.settings())


RESULTS = sorted((pathlib.Path(machine.__file__).parent / "results").glob("*.json"))


@pytest.mark.parametrize("path", RESULTS, ids=lambda path: path.name)
def test_kept_results_can_be_read_and_tell_no_other_settings(path):
    assert all(machine.SETTINGS.fullmatch(name) for name in report.load(path)["machine"]["environment"])


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
    def said(words, text, **_):
        assert words[0] == "nvidia-smi" and text
        if isinstance(answer, Exception):
            raise answer
        return types.SimpleNamespace(stdout=answer)

    monkeypatch.setattr(machine.subprocess, "run", said)
    for answer, wanted in (("580.1\n570.2\n", "580.1"), ("\n", None), (FileNotFoundError(), None)):  # noqa: B007  said() reads it
        assert machine.driver() == wanted


def test_a_gpu_is_described(monkeypatch):
    class Cublas:
        def cublasGetProperty(self, part, number):
            ctypes.cast(number, ctypes.POINTER(ctypes.c_int))[0] = (13, 3, 4)[part]
            return 17

    def checked(code, name):
        assert (code, name) == (17, "cublasGetProperty")

    properties = {"name": b"A GPU", "major": 9, "minor": 0, "multiProcessorCount": 132}
    runtime = types.SimpleNamespace(
        getDevice=lambda: 5,
        getDeviceProperties={5: properties}.get,
        driverGetVersion=lambda: 13010,
        runtimeGetVersion=lambda: 13020,
    )
    cupy = types.SimpleNamespace(cuda=types.SimpleNamespace(runtime=runtime), __version__="14.5")
    device = types.SimpleNamespace(cupy=cupy, load_cublas=Cublas, checked=checked)
    monkeypatch.setattr(kernels, "load", {"cupy": types.SimpleNamespace(device=device)}.get)
    monkeypatch.setattr(kernels, "available", lambda: {"cupy": kernels.Status(True)})
    monkeypatch.setattr(machine, "driver", lambda: "580.1")
    assert machine.gpu() == GPU
    monkeypatch.setattr(kernels, "available", lambda: {"cupy": kernels.Status(False, "no GPU is visible")})
    assert machine.gpu() is None
