"""What the pages say is so: their Python runs, their commands, links and files exist, and imports go in their order."""

import ast
import collections
import pathlib
import re
import shlex

import pytest
from sklearn.datasets import load_digits

from benchmarks import __main__ as benchmarks
from vae_np import Architecture, cli, train

ROOT = pathlib.Path(__file__).parents[1]
PAGES = [*map(ROOT.joinpath, ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")), *sorted(ROOT.glob("docs/*.md"))]
HANDWRITTEN = [page for page in PAGES if page.name != "benchmarks.md"]
RUN_HERE = [page for page in PAGES if page.name != "recipes.md"]  # tests/vae_np/testing/test_recipes.py runs those


def found(pattern, pages=PAGES, flags=re.MULTILINE):
    """Each match of the pattern in the pages, as a parameter of a test that is named after its page."""
    return [
        pytest.param(page, match, id=f"{page.name}-{i}")
        for page in pages
        for i, match in enumerate(re.findall(pattern, page.read_text(), flags))
    ]


def without_code(page):
    return re.sub(r"^```.*?^```|`[^`\n]*`", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)


def anchors(page):
    """The anchors that GitHub gives to the headings of a page: lower case, hyphens for spaces, no other punctuation."""
    seen, names = collections.Counter(), []
    for heading in re.findall(
        r"^#+ (.*)$", re.sub(r"^```.*?^```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE), re.MULTILINE
    ):
        name = re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")
        names.append(f"{name}-{seen[name]}" if seen[name] else name)
        seen[name] += 1
    return names


# ----------------------------------------------------------------------------------------------------- what is shown


@pytest.fixture
def clone(tmp_path, monkeypatch):
    """A folder with what the README's first command leaves in a clone."""
    monkeypatch.chdir(tmp_path)
    train(Architecture(64, (8,), 2), load_digits().data / 16, epochs=1, backend="numpy", out="runs/digits")


@pytest.mark.parametrize("page, code", found(r"```python\n(.*?)```", RUN_HERE, flags=re.DOTALL))
def test_python(page, code, clone, capsys):
    names = {}
    exec(code, names)
    for test in (f for name, f in names.items() if name.startswith("test_")):  # shown for how it fails
        with pytest.raises(AssertionError) as caught:
            test()
        assert "n_inputs=1, hidden=(), n_latent=1," in " ".join(caught.value.__notes__[0].split())
        print(caught.value.__notes__[0])
    assert capsys.readouterr().out


@pytest.mark.parametrize("page, command", found(r"^    (?:\.venv/bin/)?vae-np ([a-z].*?)(?:  +#.*)?$"))
def test_commands_are_known(page, command):
    assert cli.parser().parse_args(shlex.split(command)).command


@pytest.mark.parametrize("page, command", found(r"^    python -m benchmarks ([a-z].*)$"))
def test_benchmarks_are_known(page, command):
    assert benchmarks.parser().parse_args(shlex.split(command)).run


def test_every_example_is_run():
    """A code block in another language would be run by no test."""
    fences = {fence for page in HANDWRITTEN for fence in re.findall(r"^```(.+)$", page.read_text(), re.MULTILINE)}
    assert fences == {"python"}


# ------------------------------------------------------------------------------------------------------- what is said


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for link in re.findall(r'(?:src="|href="|\]\()([^")]+)[")]', without_code(page)):
        if link.startswith("https://"):
            continue
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        assert target.exists(), f"{page.name} links to {link}, which does not exist"
        assert not anchor or anchor in anchors(target), f"{page.name} links to {link}; {target.name} has no such heading"


@pytest.mark.parametrize("page", HANDWRITTEN, ids=lambda page: page.name)
def test_files_that_are_named_exist(page):
    for path in re.findall(r"`((?:vae_np|kernels|benchmarks|tests|docs)/[\w/.-]*)`", page.read_text()):
        assert (ROOT / path).exists(), f"{page.name} names {path}, which does not exist"


def tree():
    """The paths in CONTRIBUTING's tree of files; a line is indented below its folder, and may hold several names."""
    block = re.search(
        r"^## Where everything is\n\n(.*?)\n\n", (ROOT / "CONTRIBUTING.md").read_text(), re.DOTALL | re.MULTILINE
    )[1]
    folders, paths = {4: ""}, []
    for line in block.splitlines():
        depth, names = len(line) - len(line.lstrip()), re.split("  +", line.strip())[0]
        for name in names.split(", "):
            paths.append(folders[depth] + name)
            if name.endswith("/"):
                folders[depth + 2] = folders[depth] + name
    return paths


@pytest.mark.parametrize("path", tree())
def test_the_tree_of_files_is_right(path):
    assert (ROOT / path).is_dir() if path.endswith("/") else (ROOT / path).is_file()


def test_the_tree_of_files_is_whole():
    """Every file of vae_np, and every folder of code beside it, stands in the tree."""
    named = set(tree())
    files = {str(path.relative_to(ROOT)) for path in (ROOT / "vae_np").glob("*.py") if not path.name.startswith("__")}
    folders = {
        f"{path.parent.relative_to(ROOT)}/"
        for top in ("vae_np", "kernels", "benchmarks")
        for path in (ROOT / top).glob("*/*.py")
    }
    assert files | folders - {"vae_np/kernels/"} <= named


def layers():
    """{name: its line} in CONTRIBUTING's order of imports, the lowest line last."""
    block = re.search(r"This is the order:\n\n(.*?)\n\n", (ROOT / "CONTRIBUTING.md").read_text(), re.DOTALL | re.MULTILINE)[1]
    return {name: i for i, line in enumerate(block.splitlines()) for name in line.strip().split(", ")}


def imports(path):
    """What a file imports when it runs, each as vae_np.runs or benchmarks; what only a type checker imports is left out."""
    tree = ast.parse(path.read_text())
    for_types = [node for node in ast.walk(tree) if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"]
    left_out = {node for statement in for_types for node in ast.walk(statement)}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node not in left_out:
            assert node.module and not node.level
            yield from (f"vae_np.{alias.name}" for alias in node.names) if node.module == "vae_np" else [node.module]
        elif isinstance(node, ast.Import) and node not in left_out:
            yield from (alias.name for alias in node.names)


@pytest.mark.parametrize("name", layers())
def test_imports_go_down(name):
    order = layers()
    top = ROOT / name if name in ("kernels", "benchmarks") else ROOT / "vae_np" / name
    for path in top.rglob("*.py") if top.is_dir() else [top.with_suffix(".py")]:
        for imported in imports(path):
            package, _, rest = imported.partition(".")
            other = package if package == "benchmarks" else rest.partition(".")[0] if package == "vae_np" else name
            assert other in ("", name) or order[other] > order[name], f"{path.relative_to(ROOT)} imports {imported}"


def test_every_file_has_a_place_in_the_order_of_imports():
    known = {path.stem for path in (ROOT / "vae_np").iterdir() if path.is_dir() or path.suffix == ".py"} | {"benchmarks"}
    assert {name for name in known if not name.startswith("__")} == set(layers())


def test_every_page_is_reached_from_the_readme():
    readme = PAGES[0].read_text()
    assert all(f"]({page.relative_to(ROOT)})" in readme for page in PAGES[1:])


def test_the_readme_is_short():
    assert len(PAGES[0].read_text().splitlines()) <= 150
