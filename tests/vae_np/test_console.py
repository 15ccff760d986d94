"""Output in an encoding that lacks characters: every one that the program prints has a spelling, and nothing is lost."""

import io
import pathlib
import sys

import pytest
from rich.table import Table

import vae_np
from vae_np import cli
from vae_np.console import make_console, print_in_any_encoding

ROOT = pathlib.Path(vae_np.__file__).parents[1]
SOURCES = [path for folder in ("vae_np", "benchmarks") for path in (ROOT / folder).rglob("*.py")]


def printed(text, encoding, monkeypatch):
    """What a file in that encoding holds after the text was printed into it."""
    stream = io.TextIOWrapper(io.BytesIO(), encoding)
    monkeypatch.setattr(sys, "stdout", stream)
    monkeypatch.setattr(sys, "stderr", io.StringIO())  # of a host that shows it in a window: it has no encoding to set
    print_in_any_encoding()
    print(text, end="", flush=True)
    return stream.buffer.getvalue().decode(encoding)


@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
def test_every_character_of_the_program_has_a_spelling(encoding, monkeypatch):
    text = "".join(sorted({character for path in SOURCES for character in path.read_text(encoding="utf-8")} - {*"\\?↑↓←■□"}))
    found = printed(text, encoding, monkeypatch)
    assert not {*"\\?"} & set(found)


@pytest.mark.parametrize(
    "text, wanted",
    {
        "−ELBO ± 1": "-ELBO +- 1",
        "dμ = x² Σ₁": "dmu = x^2 sum1",
        "∂L/∂σ ≤ 2 × √π": "dL/dsigma <= 2 x sqrtpi",
        "─┼━┃": "-+-|",
        "café/данные.npy": "caf\\xe9/\\u0434\\u0430\\u043d\\u043d\\u044b\\u0435.npy",
        "\udcff": "\\udcff",  # a byte of a file's name that is no character
    }.items(),
)
def test_what_ascii_lacks_can_be_read_and_names_can_be_told_apart(text, wanted, monkeypatch):
    assert printed(text, "ascii", monkeypatch) == wanted


def test_a_refusal_names_a_file_in_any_encoding(monkeypatch):
    stream = io.TextIOWrapper(io.BytesIO(), "ascii")
    monkeypatch.setattr(sys, "stderr", stream)
    with pytest.raises(SystemExit, match="2"):
        cli.main(["train", "--data", "größe.npy"])
    stream.flush()
    assert stream.buffer.getvalue().decode("ascii") == "vae-np: there is no file gr\\xf6\\xdfe.npy\n"


def test_a_file_has_lines_of_120_and_holds_markup_and_numbers_as_they_are():
    stream = io.StringIO()
    console = make_console(file=stream)
    console.print(Table("x", expand=True))
    assert {len(line) for line in stream.getvalue().splitlines()[1:]} == {120}
    console.print("[red]" + "1 " * 100)
    assert stream.getvalue().endswith("[red]" + "1 " * 100 + "\n"), "neither read as markup nor broken into lines"


def test_a_terminal_has_its_own_width_and_no_colours_of_numbers():
    stream = io.StringIO()
    console = make_console(file=stream, force_terminal=True, color_system="standard", _environ={"COLUMNS": "70"})
    assert console.width == 70
    console.print("1 True 'x'")
    assert stream.getvalue() == "1 True 'x'\n"
