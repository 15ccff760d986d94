"""The folder as a product of its own: its README, and what it imports."""

import pathlib
import re

import pytest

FOLDER = pathlib.Path(__file__).parents[1]
README = (FOLDER / "README.md").read_text()


@pytest.mark.parametrize("code", re.findall(r"```python\n(.*?)```", README, re.DOTALL))
def test_the_examples_of_the_readme_run(code):
    names = {}
    exec(code, names)
    for test in [value for name, value in names.items() if name.startswith("test_")]:
        test()


def test_the_readme_names_every_file_and_each_imports_only_those_above_it():
    names = re.findall(r"^\| `(\S+\.\w+)` \|", README, re.MULTILINE)
    assert sorted([*names, "README.md"]) == sorted(path.name for path in FOLDER.iterdir() if path.is_file())
    for i, name in enumerate(names):
        imports = re.findall(r"^from tests\.host_cuda(?:\.(\w+))? import (.*)", (FOLDER / name).read_text(), re.MULTILINE)
        imported = [module for line in imports for module in ([line[0]] if line[0] else line[1].split(", "))]
        assert {f"{module}.py" for module in imported} <= set(names[:i]), name


def test_nothing_of_the_project_is_imported():
    for path in FOLDER.rglob("*.py"):
        other = re.search(r"^\s*(from|import) (vae_np|benchmarks|tests\.(?!host_cuda)).*", path.read_text(), re.MULTILINE)
        assert not other, (path, other)
