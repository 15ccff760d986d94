"""What is installed: vae_np and nothing else, whole, from a wheel, an sdist or a clone, beside packages of other names."""

import ast
import configparser
import importlib.metadata
import itertools
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tarfile
import venv
import zipfile

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]
ASKS_ALL = """
import pathlib, sys, vae_np.study.page
from vae_np import kernels
from vae_np.kernels import cpu, reference
assert "kernels" not in sys.modules
print(pathlib.Path(kernels.__file__).resolve().parent, kernels.load("numpy") is reference)
"""


def run(*words, cwd=None, **environment):
    done = subprocess.run(list(map(str, words)), capture_output=True, text=True, cwd=cwd, env={**os.environ, **environment})
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def config():
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg")
    return parser


# ------------------------------------------------------------------------------------------------- what is installed


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A copy of what a clone holds, and no link in it: git makes none where the system has none."""
    copy = tmp_path_factory.mktemp("clone") / "source"
    for name in ("vae_np", "kernels"):
        shutil.copytree(ROOT / name, copy / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    (copy / "vae_np" / "kernels").unlink()
    return copy


def build(kind, source, folder):
    """The path of the wheel or sdist that setuptools builds of a folder."""
    code = f"import setuptools.build_meta as build; print(build.build_{kind}({str(folder)!r}))"
    return folder / run(sys.executable, "-c", code, cwd=source).splitlines()[-1]


@pytest.fixture(scope="module")
def wheel(source, tmp_path_factory):
    return build("wheel", source, tmp_path_factory.mktemp("wheel"))


def test_the_wheel_has_every_file_below_vae_np_and_nothing_beside_it(wheel):
    with zipfile.ZipFile(wheel) as file:
        names = [name for name in file.namelist() if ".dist-info/" not in name]
    wanted = {
        str(pathlib.Path(into) / path.relative_to(ROOT / folder))
        for folder, into in {"vae_np": "vae_np", "kernels": "vae_np/kernels"}.items()
        for path in (ROOT / folder).rglob("*.*")
        if path.is_file() and "__pycache__" not in path.parts and path.relative_to(ROOT).parts[:2] != ("vae_np", "kernels")
    }
    assert sorted(names) == sorted(wanted)
    assert {pathlib.Path(name).suffix for name in names} == {".py", ".cu", ".cuh", ".css", ".js", ".typed"}


def test_a_wheel_of_the_sdist_is_that_of_the_clone(source, wheel, tmp_path):
    with tarfile.open(build("sdist", source, tmp_path)) as file:
        file.extractall(tmp_path, filter="data")
    (unpacked,) = (path for path in tmp_path.iterdir() if path.is_dir())
    with zipfile.ZipFile(wheel) as ours, zipfile.ZipFile(build("wheel", unpacked, tmp_path)) as again:
        assert {name: ours.read(name) for name in ours.namelist()} == {name: again.read(name) for name in again.namelist()}


class Environment:
    """A virtual environment that finds the packages of this one, but for what an editable install puts on the path."""

    def __init__(self, folder):
        venv.create(folder, with_pip=False)
        self.python = folder / "bin" / "python"
        self.site, *_ = (folder / "lib").glob("*/site-packages")
        (self.site / "packages_of_the_tests.pth").write_text(str(importlib.metadata.distribution("numpy").locate_file("")))
        self.folder = folder

    def pip(self, *words):
        run(sys.executable, "-m", "pip", "--python", self.python, *words)

    def install(self, *what):
        self.pip("install", "--no-index", "--no-deps", "--no-build-isolation", *what)

    def says(self, code):
        return run(self.python, "-c", code, cwd=self.folder).strip()  # where no folder of ours is found by chance


@pytest.fixture
def environment(tmp_path):
    return Environment(tmp_path / "environment")


@pytest.fixture(scope="module")
def theirs(tmp_path_factory):
    """A wheel of somebody else's package, whose name is that of our folder."""
    path = tmp_path_factory.mktemp("theirs") / "kernels-1.0-py3-none-any.whl"
    info = "kernels-1.0.dist-info"
    files = {
        "kernels/__init__.py": "def get_kernel():\n    return 'theirs'\n",
        "kernels/reference.py": "NAME = 'theirs'\n",
        f"{info}/METADATA": "Metadata-Version: 2.1\nName: kernels\nVersion: 1.0\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: by hand\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    with zipfile.ZipFile(path, "w") as file:
        for name, text in files.items():
            file.writestr(name, text)
        file.writestr(f"{info}/RECORD", "".join(f"{name},,\n" for name in [*files, f"{info}/RECORD"]))
    return path


@pytest.mark.parametrize("ours_first", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_package_named_kernels_and_ours_do_not_disturb_each_other(wheel, theirs, environment, ours_first):
    before = {path.name for path in environment.site.iterdir()}
    for distribution in (wheel, theirs) if ours_first else (theirs, wheel):
        environment.install(distribution)
    added = {path.name for path in environment.site.iterdir()} - before
    assert {name for name in added if not name.endswith(".dist-info")} == {"vae_np", "kernels"}
    their_words = "import kernels, kernels.reference; print(kernels.get_kernel(), kernels.reference.NAME)"
    assert environment.says(their_words) == "theirs theirs"
    assert environment.says(ASKS_ALL) == f"{environment.site.resolve() / 'vae_np' / 'kernels'} True"
    environment.pip("uninstall", "--yes", "vae_np")
    assert not (environment.site / "vae_np").exists()
    assert environment.says(their_words) == "theirs theirs"


@pytest.mark.parametrize("with_link", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_an_editable_install_runs_the_clones_own_files(source, environment, with_link, tmp_path):
    clone = shutil.copytree(source, tmp_path / "clone")
    if with_link:
        (clone / "vae_np" / "kernels").symlink_to("../kernels")
    environment.install("-e", clone)
    assert environment.says(ASKS_ALL) == f"{(clone / 'kernels').resolve()} True"
    assert "usage: vae-np" in run(environment.folder / "bin" / "vae-np", "--help", cwd=environment.folder)


def test_a_clone_needs_no_install_and_its_link_is_relative():
    link = ROOT / "vae_np" / "kernels"
    assert link.readlink() == pathlib.Path("../kernels")
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r})\n{ASKS_ALL}"
    assert run(sys.executable, "-c", code, cwd=ROOT.parent).strip() == f"{ROOT / 'kernels'} True"


# ------------------------------------------------------------------------------------------------------ what it needs


def requirements(lines):
    return {re.split(r"[\s<>=\[;]", line, maxsplit=1)[0].lower() for line in lines.split("\n") if line and line[0] != "#"}


def imported(*folders):
    """{name: a file that imports it} of every package that the files of those folders import."""
    found = {}
    for path in itertools.chain.from_iterable((ROOT / folder).rglob("*.py") for folder in folders):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) and not node.level else []
            found |= {name.split(".")[0]: path.relative_to(ROOT) for name in names}
    return {name: path for name, path in found.items() if name not in sys.stdlib_module_names}


DISTRIBUTIONS = {"PIL": "pillow", "sklearn": "scikit-learn"}
# The first three are asked for in one place, which says what to install; pytest itself imports what imports it.
OPTIONAL = {"cupy", "hypothesis", "mpi4py", "pytest"}


def test_every_package_that_is_imported_is_declared():
    options = config()["options"]
    declared = requirements(options["install_requires"]) | OPTIONAL | {"vae_np"}
    missing = {
        name: path for name, path in imported("vae_np", "kernels").items() if DISTRIBUTIONS.get(name, name) not in declared
    }
    assert not missing
    extras = config()["options.extras_require"]
    declared |= (
        requirements(extras["test"])
        | requirements(extras["bench"])
        | requirements(extras["notebook"])
        | {"benchmarks", "tests"}
    )
    others = imported("benchmarks", "tests").items()
    assert not {name: path for name, path in others if DISTRIBUTIONS.get(name, name) not in declared | {"cuda", "_pytest"}}


def test_no_two_extras_that_can_stand_together_bring_different_cudas():
    """`cuda12` may stand beside `test`; what brings CUDA 13 may not, and is an extra of its own."""
    extras = config()["options.extras_require"]
    assert not any("cuda" in name or "nvidia" in name for name in requirements(extras["test"]))
    assert "cuda12x" in extras["cuda12"] and "cuda13x" in extras["cuda13"]


WITHOUT_EXTRAS = """
import functools, shlex, sys
import numpy as np

sys.modules.update(dict.fromkeys({missing}))  # to every import they are now not installed
from vae_np import cli, closed_form, data
from vae_np.testing import mistakes

mistakes.find = functools.partial(mistakes.find, seeds=(0,), epochs=1)
closed_form.linear_digits = lambda: np.random.default_rng(0).normal(size=(60, 5)) @ np.diag([3, 2, 1, 1, 1])
pixels, load = np.random.default_rng(0).integers(0, 256, (60, 784), dtype=np.uint8), data.load
data.load = lambda name, *rest: data.Dataset(pixels, pixels[:9], None, None, (28, 28)) if name == "mnist" else load(name, *rest)
for command in {commands}:
    try:
        cli.main(shlex.split(command))
    except SystemExit as end:
        print("--", command.split()[0], end.code or 0)
"""
COMMANDS = (
    "train --hidden 4 --epochs 1 --backend numpy --out run",
    "evaluate run --importance-samples 3 --backend numpy",
    "encode run",
    "reconstruct run",
    "sample run --n 4",
    "check --backend numpy",
    "study --hidden 3 --examples 0",
    "study --small --text",
    "exercise --list",
    "mistakes 'half the noise'",
    "explain-bound",
    "estimators --samples 1 2 --draws 4 --backend numpy",
    "burda --stages 1 --rows 3 --importance-samples 5 --backend numpy",
    "backends",
)


def test_every_command_works_where_no_extra_is_installed_and_only_ascii_can_be_printed(tmp_path):
    modules = {"pytest", "_pytest", "xdist", "hypothesis", "setuptools", "cuda"}
    code = WITHOUT_EXTRAS.format(missing=modules, commands=COMMANDS)
    done = run(sys.executable, "-c", code, cwd=tmp_path, PYTHONIOENCODING="ascii")
    assert re.findall("^-- (.*)$", done, re.MULTILINE) == [f"{command.split()[0]} 0" for command in COMMANDS]
    known = re.findall(r"^    ([a-z-]+)\b", run(sys.executable, "-m", "vae_np", "--help"), re.MULTILINE)
    assert set(known) == {command.split()[0] for command in COMMANDS}
