"""What the README shows is run: its Python as it stands, and its commands' options as the parser knows them."""

import pathlib
import re
import shlex

import pytest
from sklearn.datasets import load_digits

from vae_np import Architecture, cli, train

README = pathlib.Path(__file__).parents[1] / "README.md"


@pytest.fixture
def clone(tmp_path, monkeypatch):
    """A folder with what the README's first command leaves, and the rows that its examples share."""
    monkeypatch.chdir(tmp_path)
    X = load_digits().data / 16
    train(Architecture(64, (8,), 2), X, epochs=1, backend="numpy", out="runs/digits")
    return {"X": X}


@pytest.mark.parametrize("code", re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL))
def test_python(code, clone, capsys):
    names = clone
    exec(code, names)
    for test in (f for name, f in names.items() if name.startswith("test_")):  # shown for how it fails
        with pytest.raises(AssertionError) as caught:
            test()
        assert "n_inputs=1, hidden=(), n_latent=1," in " ".join(caught.value.__notes__[0].split())
        print(caught.value.__notes__[0])
    assert capsys.readouterr().out


@pytest.mark.parametrize("command", re.findall(r"^    vae-np (.*)$", README.read_text(), re.MULTILINE))
def test_commands_are_known(command):
    assert cli.parser().parse_args(shlex.split(command)).command


@pytest.mark.parametrize("path", re.findall(r'(?:src="|\]\()([^")]+)[")]', README.read_text()))
def test_links_lead_somewhere(path):
    assert path.startswith("https://") or (README.parent / path).exists()
