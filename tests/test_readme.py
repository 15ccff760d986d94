"""What the README shows is run: its Python as it stands, and its commands' options as the parser knows them."""

import pathlib
import re
import shlex

import pytest

from vae_np import cli

README = pathlib.Path(__file__).parents[1] / "README.md"


@pytest.mark.parametrize("code", re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL))
def test_python(code, capsys):
    names = {}
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
