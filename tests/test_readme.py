"""What the README shows is run: its Python as it stands, and its commands' options as the parser knows them."""

import pathlib
import re
import shlex

import pytest

from vae_np import cli

README = pathlib.Path(__file__).parents[1] / "README.md"


@pytest.mark.parametrize("code", re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL))
def test_python(code, capsys):
    exec(code, {})
    assert capsys.readouterr().out


@pytest.mark.parametrize("command", re.findall(r"^    vae-np (.*)$", README.read_text(), re.MULTILINE))
def test_commands_are_known(command):
    assert cli.parser().parse_args(shlex.split(command)).command


@pytest.mark.parametrize("path", re.findall(r'(?:src="|\]\()([^")]+)[")]', README.read_text()))
def test_links_lead_somewhere(path):
    assert (README.parent / path).exists()
