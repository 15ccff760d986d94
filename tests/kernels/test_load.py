import pathlib
import subprocess
import sys
import types

import pytest

import kernels


def test_auto_takes_the_fastest_that_runs():
    assert kernels.load("auto") is kernels.load([name for name, status in kernels.available().items() if status.ok][-1])


def test_an_unknown_backend_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match="backend is 'torch'; known are 'auto', 'numpy', 'numba', 'cupy'"):
        kernels.load("torch")


def test_a_backend_that_cannot_run_says_why_and_what_to_do(monkeypatch):
    status = kernels.Status(False, "no driver was found", "install one")
    monkeypatch.setattr(kernels, "available", lambda: {"numpy": kernels.Status(True), "numba": status})
    with pytest.raises(RuntimeError, match="backend 'numba' cannot run: no driver was found; install one"):
        kernels.load("numba")
    assert kernels.load("auto").__name__ == "kernels.reference"


def test_a_foreign_package_named_kernels_is_named_in_the_error(tmp_path):
    (tmp_path / "kernels").mkdir()
    (tmp_path / "kernels" / "__init__.py").write_text("def get_kernel(): pass\n")
    project = pathlib.Path(kernels.__file__).parents[1]
    code = f"import sys; sys.path[:0] = [{str(tmp_path)!r}, {str(project)!r}]; import vae_np"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    last = run.stderr.strip().splitlines()[-1]
    assert run.returncode and last.startswith("ImportError: vae_np needs its own package 'kernels'")
    assert str(tmp_path) in last and "pip uninstall kernels" in last


def test_a_module_named_kernels_is_named_in_the_error(tmp_path):
    (tmp_path / "kernels.py").write_text("")
    project = pathlib.Path(kernels.__file__).parents[1]
    code = f"import sys; sys.path[:0] = [{str(tmp_path)!r}, {str(project)!r}]; import vae_np"
    last = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stderr.strip().splitlines()[-1]
    assert last.startswith("ImportError") and str(tmp_path / "kernels.py") in last


def test_the_word_about_compiling_is_only_of_our_own_kernels(tmp_path):
    code = "import kernels, numba; kernels.load('numba'); numba.njit(lambda x: x + 1)(2)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (run.returncode, run.stderr) == (0, "")


def test_importing_vae_np_is_light():
    code = "import sys, vae_np; print([m for m in ('matplotlib', 'sklearn', 'numba', 'cupy', 'scipy', 'rich') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "[]\n"


def test_a_set_of_ones_own_is_taken_as_it_is():
    own = types.ModuleType("mine")
    assert kernels.load(own) is own
