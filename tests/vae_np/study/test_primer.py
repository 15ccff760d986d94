"""What is read first: it explains every symbol and every colour of the page, and the sizes are those of the run."""

import re

import pytest

from tests.vae_np.study.test_trace import PROBLEM, PROBLEMS
from vae_np.study import page, primer, trace


@pytest.mark.parametrize(
    "problem", PROBLEMS[::8], ids=lambda q: f"{q.p.architecture.likelihood}-{q.p.architecture.noise}-{q.objective}"
)
def test_every_name_of_the_code_is_explained_with_its_shape(problem):
    made = trace(*problem, elements=1)
    axes = {name: axes.split(", ") for name, axes, _ in primer.symbols(made)}
    sizes = {letter: size for letter, (size, _) in primer.sizes(made).items()}
    named = {name for line in made for *_, name in line.symbols} | {array.name for line in made for array in line.writes}
    for name in named:
        name = re.sub(r".*\.([Wb])$", r"\1", name.removesuffix(".y"))
        assert name in axes or name.removeprefix("d") in axes, name
    arrays = {array.name: array.value for line in made for array in line.writes} | {"x": made.a.x, "eps": made.a.eps}
    for name in axes.keys() & arrays.keys():
        assert len(axes[name]) == arrays[name].ndim
        for letter, size in zip(axes[name], arrays[name].shape):
            assert str(size) in sizes.get(letter, letter).split(", "), name
    letters = {letter for line in made for shape in line.shapes for letter in re.findall(r"[A-Z]", shape)}
    assert letters <= sizes.keys()


def test_every_colour_of_the_page_is_in_the_legend():
    css = (page.FILES / "page.css").read_text()
    chromatic = {
        name
        for name, colour in re.findall(r"--([\w-]+): (?:light-dark\((#\w{6})|rgb)", css)
        if not colour or max(parts := [int(colour[i : i + 2], 16) for i in (1, 3, 5)]) - min(parts) > 40
    }
    assert chromatic - {"glow"} == set(primer.LEGEND)
    text = primer.primer(trace(*PROBLEM))
    assert all(f"var(--{name})" in text and words in text for name, words in primer.LEGEND.items())


def test_the_finite_difference_that_it_explains_is_an_example_of_the_page():
    from vae_np.study.proof import agreement

    assert agreement(6e-9).removeprefix("agrees") in primer.primer(trace(*PROBLEM))


def test_it_sends_the_reader_to_no_part_that_is_not_there():
    made = trace(*PROBLEM)
    titles = re.findall(r"<h2>([^<]*)</h2>", page.page(made, "noise"))
    assert "One latent by hand" in titles and "one latent by hand" in primer.primer(made)
    assert "tour" not in primer.primer(made) or any("tour" in title for title in titles)
