"""The recipes of docs/recipes.md run, are short, and say what the page says when a mistake is put in."""

import importlib.util
import pathlib
import re

import pytest

PAGE = (pathlib.Path(__file__).parents[3] / "docs/recipes.md").read_text()
RECIPES = dict(re.findall(r"^## (.*?)\n(.*?)(?=^## |\Z)", PAGE, re.DOTALL | re.MULTILINE))
MISTAKE = r"With\s+`([^`]*)`\s+in the place of\s+`([^`]*)`\s+the test says:\n\n((?:    .*\n)+)"
LINES = 10  # of a recipe that know the testing kit


def code_of(title):
    code = re.search(r"```python\n(.*?)```", RECIPES[title], re.DOTALL)[1]
    for framework in re.findall(r"^import (torch|jax|keras)$", code, re.MULTILINE):
        if not importlib.util.find_spec(framework):  # Keras is not imported before its backend is chosen
            pytest.skip(f"needs {framework}, which is not installed")
    return code


MISTAKES = [
    pytest.param(title, wrong, right, said, id=f"{title}-{i}")
    for title, text in RECIPES.items()
    for i, (wrong, right, said) in enumerate(re.findall(MISTAKE, text))
]


@pytest.mark.parametrize("title", RECIPES)
def test_a_recipe_is_short(title):
    code = re.search(r"```python\n(.*?)```", RECIPES[title], re.DOTALL)[1]
    model, test = code.split("# the test\n")
    assert "vae_np" not in model
    assert "vae_np.testing" in test and len([line for line in test.splitlines() if line.strip()]) <= LINES


def test_every_recipe_shows_a_mistake():
    assert all(
        len(re.findall(MISTAKE, text)) == len(re.findall(r"in\s+the\s+place\s+of", text)) > 0 for text in RECIPES.values()
    )


@pytest.mark.parametrize("title", RECIPES)
def test_a_right_model_passes(title, capsys):
    exec(code_of(title), {})
    assert capsys.readouterr().out


@pytest.mark.parametrize("title, wrong, right, said", MISTAKES)
def test_a_mistake_is_named_as_the_page_says(title, wrong, right, said):
    code = code_of(title)
    assert code.count(right) == 1
    with pytest.raises(AssertionError) as caught:
        exec(code.replace(right, wrong), {})
    assert all(line.strip() in str(caught.value) for line in said.strip().splitlines())
