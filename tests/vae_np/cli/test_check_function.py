"""`vae-np check FILE.py:FUNCTION`: a function of one's own is checked, and what is lacking is said in a sentence."""

import sys

import numpy as np
import pytest
from rich.console import Console

from tests.vae_np.cli.commands import command, done, refused
from vae_np.cli.check import COMMAND
from vae_np.testing.derivatives import METHODS

CODE = """
import dataclasses
import numpy as np
import beside

@dataclasses.dataclass
class Layer:
    W: np.ndarray
    b: np.ndarray

x = np.linspace(-1, 1, 21).reshape(7, 3)

def params(rng):
    return Layer(rng.normal(size=(3, 5)), rng.normal(size=5))

def right(p):
    h = np.tanh(x @ p.W + p.b)
    dy = h * (1 - h * h)
    return np.sum(h * h) / 2, Layer(x.T @ dy, dy.sum(axis=0))

def wrong(p):
    value, g = right(p)
    return value, Layer(g.W, -g.b)

def alone(p):
    return beside.value(p)

def alone_gradients(p):
    return np.cos(p)

alone_params = np.array([0.5, 1.5])

def random(p):
    return np.random.normal(), p

def bent(p):
    return float(np.abs(p).sum()), np.array([1.0, 7.0])

bent_params = np.array([0.0, 2.0])
number = 3.0
"""


@pytest.fixture
def model(tmp_path, monkeypatch):
    """The path of a file with functions, beside one that it imports."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.delitem(sys.modules, "beside", raising=False)
    (tmp_path / "beside.py").write_text("import numpy as np\n\ndef value(p):\n    return np.sum(np.sin(p))\n")
    path = tmp_path / "model.py"
    path.write_text(CODE)
    return path


def test_a_right_function_passes_and_its_worst_elements_are_shown(model):
    out = done("check", f"{model}:right")
    assert out.startswith("Every gradient is right.")
    rows = [line.split() for line in out.splitlines() if line.endswith(" complex ")]
    assert {row[0].partition("[")[0] for row in rows} == {"W", "b"}
    assert float(rows[0][-2]) >= float(rows[1][-2])


def test_what_is_wrong_comes_first_and_the_worst_element_of_each_array_after_it(model):
    answer = command("check", f"{model}:wrong")
    assert answer.code == 1 and answer.out.startswith("b") and "Every gradient is right" not in answer.out
    message, table = answer.out.split("worst element")
    assert "5 of 5 elements are off" in " ".join(message.split()) and "W[" not in message
    assert table.index("b[") < table.index("W[") and "2.0e+00" in table


def test_the_value_and_the_gradients_may_be_two_functions_and_the_file_finds_those_beside_it(model):
    assert "params[" in done("check", f"{model}:alone")


def test_params_come_from_a_file(model, tmp_path):
    path = tmp_path / "point.npz"
    np.savez(path, V=np.ones(2))
    code = model.read_text() + "\ndef named(p):\n    return np.sum(p['V'] ** 3), {'V': 3 * p['V'] ** 2}\n"
    model.write_text(code)
    assert "V[" in done("check", f"{model}:named", "--params", path)


def test_the_seed_and_the_method_are_those_that_are_given(model):
    first, same, other = (done("check", f"{model}:right", "--seed", seed) for seed in (1, 1, 2))
    assert first == same != other
    assert "richardson" in done("check", f"{model}:right", "--method", "richardson")
    assert tuple(COMMAND.options["method"].choices) == METHODS


def test_a_kink_beside_a_wrong_element_hides_it_not(model):
    answer = command("check", f"{model}:bent", "--method", "richardson")
    assert answer.code == 1 and answer.out.startswith("params[1] is 7, wanted 1")


@pytest.mark.parametrize(
    "words, told",
    [
        (["FILE:unknown"], "has no function unknown; it has params, right, wrong, alone"),
        (["FILE:number"], "has no function number"),
        (["FILE:"], "not of the form FILE.py:FUNCTION"),
        (["FILE"], "not of the form FILE.py:FUNCTION"),
        (["nowhere.py:right"], "there is no file nowhere.py"),
        (["FILE:random"], "when it is called again with the same params"),
        (["FILE:right", "--params", "absent.npz"], "absent.npz"),
        (["FILE:right", "--params", "one.npy"], "one.npy is not a .npz file of arrays: it is no archive"),
        (["FILE:right", "--backend", "numpy"], "--backend"),
        (["--params", "absent.npz"], "vae-np check FILE.py:FUNCTION"),
        (["FILE:right", "--seed", "-1"], "seed"),
    ],
)
def test_what_is_lacking_is_said(words, told, model):
    np.save("one.npy", np.ones(3))
    assert told in refused("check", *(word.replace("FILE", str(model)) if word.startswith("FILE") else word for word in words))


def test_a_file_that_cannot_be_imported_or_has_no_params_is_told(model):
    model.write_text("import numpy as np\n\ndef f(p):\n    return np.sum(p), p\n")
    assert "define f_params or params in the file, or give --params FILE.npz" in refused("check", f"{model}:f")
    model.write_text("def f(p:\n")
    assert f"{model} cannot be imported: SyntaxError" in refused("check", f"{model}:f")
    model.write_text("def f(p):\n    return 1.0\n\nparams = {'W': 2.0}\n")
    assert "(value, gradients)" in refused("check", f"{model}:f")
    model.write_text("def f(p):\n    return 1.0, p\n\ndef params(rng):\n    return rng['W']\n")
    assert "params raises an error, TypeError: " in refused("check", f"{model}:f")


@pytest.mark.parametrize("place", ["import", "params", "loss"])
def test_what_ends_the_process_is_not_taken_for_right(model, place):
    """With code 0 it would end as a right function does."""
    code = {name: "sys.exit(0)" if name == place else "pass" for name in ("import", "params", "loss")}
    model.write_text(
        "import sys\n{import}\n\ndef f_params(rng):\n    {params}\n    return 1.0\n\ndef f(p):\n    {loss}\n    return p, 1.0\n".format(
            **code
        )
    )
    assert "ends the process, by sys.exit(0)" in refused("check", f"{model}:f")


def test_params_without_a_number_are_refused(model):
    model.write_text("import numpy as np\n\nparams = np.ones((0, 3))\n\ndef f(p):\n    return np.sum(p), p\n")
    assert "the params hold no number" in refused("check", f"{model}:f")


def test_params_may_be_a_part_of_a_function(model):
    code = "\nimport functools\nright_params = functools.partial(lambda scale, rng: params(rng), 2)\n"
    model.write_text(model.read_text() + code)
    assert done("check", f"{model}:right").startswith("Every gradient is right.")


def test_numbers_are_whole_in_a_narrow_terminal(model, monkeypatch):
    monkeypatch.setattr("vae_np.cli.check_function.make_console", lambda: Console(width=60))
    name = "a_parameter_with_a_long_name"
    model.write_text(
        f"def f(p):\n    return p[{name!r}] ** 3 / 7, {{{name!r}: 3 * p[{name!r}] ** 2 / 7}}\n\nparams = {{{name!r}: 1.1}}\n"
    )
    assert done("check", f"{model}:f").count("0.5185714286") == 2
