"""The plugin of pytest: its fixture, its option, what it shows of a failed check, and that it leaves all else alone."""

import configparser
import pathlib
import subprocess
import sys
import xml.etree.ElementTree as ElementTree

import pytest

from vae_np import pytest_plugin
from vae_np.testing.derivatives import METHODS

pytest_plugins = ["pytester"]

CHECKED = """
import numpy as np
from vae_np import testing

W = np.array([[1.0, -2.0], [0.5, 3.0]])

def value(p):
    return np.sum(np.tanh(p["W"]))

def test_wrong(check_gradients):
    check_gradients(value, {"W": W}, {"W": 1 - np.tanh(W)})

def test_right(check_gradients):
    [worst] = check_gradients(value, {"W": W}, {"W": 1 - np.tanh(W) ** 2})
    print("method", worst.method)
"""
MESSAGE = "W*is 1.96402758, wanted 0.07065082485*(4 of 4 elements are off)*"


@pytest.fixture
def run(pytester, monkeypatch):
    """run(code, *words): what pytest makes of a file of tests in this process, with this plugin and no other."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")

    def run(code, *words):
        pytester.makepyfile(code)
        return pytester.runpytest_inprocess("-p", "vae_np.pytest_plugin", "-p", "no:cacheprovider", *words)

    return run


def lines_of_failure(result):
    start, end, *_ = (i for i, line in enumerate(result.outlines) if line.startswith("=") and i > result.outlines.index(""))
    assert "FAILURES" in result.outlines[start]
    return result.outlines[start + 1 : end]


def test_a_report_begins_with_what_is_wrong_and_ends_at_the_line_that_asked(run):
    result = run(CHECKED)
    result.assert_outcomes(passed=1, failed=1)
    _, title, message, *shown = lines_of_failure(result)
    assert title.strip("- ") == "gradients"
    result.stdout.fnmatch_lines(["*- gradients -*", MESSAGE, "*- traceback -*", ">*check_gradients(value*", f"E*{MESSAGE}"])
    assert "is 1.96402758" in message and any("test_wrong" in line for line in shown)
    assert not any("raise AssertionError" in line or "gradients.py" in line for line in shown)


def test_a_check_that_is_imported_is_reported_in_the_same_way(run):
    result = run(f"{CHECKED}\n\ndef test_closeness():\n    testing.assert_close(W, 2 * W, 'V')\n", "-k", "closeness")
    result.assert_outcomes(failed=1, deselected=2)
    result.stdout.fnmatch_lines(["*- gradients -*", "V?*relative error*", "*- traceback -*"])


def test_what_cannot_be_checked_is_reported_in_the_same_way(run):
    result = run(
        f"{CHECKED}\n\ndef test_random(check_gradients):\n    check_gradients(lambda p: np.random.normal(), W, W)\n",
        "-k",
        "random",
    )
    result.stdout.fnmatch_lines(["*- gradients -*", "fn returns*called again*", "*- traceback -*"])


@pytest.mark.parametrize("words, method", [([], "complex"), (["--gradients-method", "richardson"], "richardson")])
def test_the_option_is_the_method_of_tests_that_give_none(run, words, method):
    run(CHECKED, "-rP", "-k", "right", *words).stdout.fnmatch_lines([f"method {method}"])
    code = CHECKED.replace('{"W": 1 - np.tanh(W) ** 2})', "{\"W\": 1 - np.tanh(W) ** 2}, method='central')")
    run(code, "-rP", "-k", "right", *words).stdout.fnmatch_lines(["method central"])


def test_an_unknown_method_is_refused_with_those_that_are_known(run):
    result = run(CHECKED, "--gradients-method", "guess")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert all(method in result.stderr.str() for method in METHODS) and METHODS == pytest_plugin.METHODS


def test_the_whole_traceback_is_there_where_it_is_asked_for(run):
    result = run(CHECKED, "--full-trace")
    result.stdout.fnmatch_lines(["*- gradients -*", ">*raise AssertionError*"])


def test_other_failures_are_shown_as_without_the_plugin(run, pytester):
    code = """
    import vae_np.testing

    def test_it():
        assert 1 + 1 == 3

    def test_that():
        raise ValueError("theirs")

    def test_caught():
        try:
            vae_np.testing.assert_close(1.0, 2.0)
        except AssertionError:
            pass
        assert False
    """
    result = run(code)
    result.assert_outcomes(failed=3)
    plain = pytester.runpytest_inprocess("-p", "no:vae_np.pytest_plugin", "-p", "no:cacheprovider")
    assert lines_of_failure(result) == lines_of_failure(plain) and "gradients" not in result.stdout.str()


def test_a_failure_that_is_expected_is_no_failure(run):
    code = CHECKED.replace("def test_wrong", "import pytest\n@pytest.mark.xfail(strict=True)\ndef test_wrong")
    result = run(code, "-rx")
    result.assert_outcomes(passed=1, xfailed=1)
    assert "- gradients -" not in result.stdout.str()


def test_the_message_comes_first_in_the_xml_of_junit(run, pytester):
    run(CHECKED, "--junitxml=kept.xml")
    [failure] = ElementTree.parse(pytester.path / "kept.xml").iter("failure")
    assert failure.text.startswith("W") and failure.get("message").startswith("AssertionError: W")


@pytest.mark.parametrize("words", [["--tb=line"], ["--tb=short"], ["--tb=native"], ["--tb=no"]], ids=str)
def test_every_style_of_traceback_works(run, words):
    result = run(CHECKED, *words)
    result.assert_outcomes(passed=1, failed=1)
    assert "INTERNALERROR" not in result.stdout.str()


def test_the_message_comes_from_the_processes_of_xdist(pytester, monkeypatch):
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    pytester.makepyfile(CHECKED)
    result = pytester.runpytest_inprocess("-p", "vae_np.pytest_plugin", "-p", "xdist", "-p", "no:cacheprovider", "-n", "1")
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["*- gradients -*", MESSAGE, "*- traceback -*", f"E*{MESSAGE}"])
    assert result.stdout.str().count("- gradients -") == 1


def test_a_fixture_of_the_users_own_comes_first(run):
    code = """
    import pytest

    @pytest.fixture
    def check_gradients():
        return "mine"

    def test_it(check_gradients):
        assert check_gradients == "mine"
    """
    run(code).assert_outcomes(passed=1)


def test_pytest_is_told_of_the_plugin_by_the_name_of_its_module():
    """Under another name `-p vae_np.pytest_plugin` would load it twice, which pytest refuses."""
    config = configparser.ConfigParser()
    config.read(pathlib.Path(__file__).parents[2] / "setup.cfg")
    name, module = config["options.entry_points"]["pytest11"].split("=")
    assert name.strip() == module.strip() == pytest_plugin.__name__


def test_the_plugin_imports_nothing_until_it_is_asked():
    code = (
        "import sys, pytest; before = set(sys.modules); import vae_np.pytest_plugin; print(*sorted(set(sys.modules) - before))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["vae_np", "vae_np.pytest_plugin"]
