"""The gallery: each mistake is caught by the check it names, which finds nothing where there is no mistake."""

import inspect
import pathlib
import re

import numpy as np
import pytest

from vae_np.testing import TOLERANCES, mistakes
from vae_np.testing.mistakes import MISTAKES, NONE, find, gradient_errors

PAGE = pathlib.Path(__file__).parents[2] / "docs" / "testing-gradients.md"


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake.name)
def test_a_mistake_is_caught_by_its_check_which_passes_without_it(mistake):
    mistake.check(NONE._replace(at=mistake.at))
    with np.errstate(all="ignore"), pytest.raises(AssertionError):
        mistake.check(mistake)


@pytest.mark.parametrize("mistake", (NONE, *MISTAKES), ids=lambda mistake: mistake.name)
def test_its_row_in_the_readme_says_what_is_found(mistake):
    name, written = re.escape(mistake.name.replace("|", r"\|")), re.escape(mistake.written)
    row = re.search(rf"^\| {name}(?:<br>`{written}`)? \| (\w+) \| (\d+) % \| (.*?) \|", PAGE.read_text(), re.MULTILINE)
    assert row, f"the page has no row for {mistake.name}"
    with np.errstate(all="ignore"):
        own, right = gradient_errors(mistake)
    assert row[1] == ("agree" if own < TOLERANCES["richardson"]["float64"] else "disagree")
    assert int(row[2]) == pytest.approx(100 * right, abs=1)
    assert row[3] == (mistake.check.__name__.replace("_", " ") if mistake in MISTAKES else "")


def test_each_mistake_was_made_at_one_line_of_the_package():
    assert NONE.line is None
    for mistake in MISTAKES:
        assert mistake.line and mistake.place
        (path, number), (function, beginning) = mistake.line, mistake.place
        lines = [line.strip() for line in inspect.getsource(function).splitlines()]
        assert sum(line.startswith(beginning) for line in lines) == 1, mistake.name
        assert pathlib.Path(path).read_text().splitlines()[number - 1].strip().startswith(beginning)


def found(name):
    return find(next(mistake for mistake in (NONE, *MISTAKES) if mistake.name == name), seeds=(0,), epochs=12)


def test_what_mistakes_report_and_cost():
    right = found("none")
    assert right.caught_by == "" and right.reported == right.true and right.own_error < 1e-6
    noise, kl, mean = (
        found(name) for name in ("half the noise", "KL divided by batch and pixels", "evaluated at the mean of q")
    )
    assert noise.caught_by == "value is that of the definitions" and noise.reported < noise.true - 1
    assert kl.reported < right.true and kl.true > 2 * right.true
    assert mean.true == right.true and mean.reported < right.true - 1


def test_a_mistake_changes_the_operations_it_names_and_no_other():
    for mistake in MISTAKES:
        for name, function in vars(mistake.kernel_set).items():
            if not name.startswith("__"):
                assert function is mistake.operations.get(name, vars(mistakes.RIGHT)[name])
