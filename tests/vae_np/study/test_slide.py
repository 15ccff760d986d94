"""The slide: every number of the pass stands on it, with the equation that gives it, and it fits one screen and one sheet."""

import io
import re

import numpy as np
import pytest
from rich.console import Console

from tests.vae_np.cli.commands import done, refused
from tests.vae_np.study import browser
from tests.vae_np.study.damages import damages
from tests.vae_np.study.test_page import in_chromium
from vae_np import elbo, loss_and_gradients
from vae_np.choices import ACTIVATIONS
from vae_np.study import slide, trace
from vae_np.study.evaluation import evaluate
from vae_np.study.typesetting import number, plain


@pytest.fixture(scope="module")
def made():
    return trace(slide.model(), slide.X, slide.EPS)


def test_the_numbers_that_are_put_in_give_the_result_and_a_mistake_would_not():
    made = trace(slide.model(1, "gelu"), slide.X, slide.EPS, beta=0.5, elements=1)
    for row in slide.rows(made):
        np.testing.assert_allclose(evaluate(row.numbers, {}), row.result, rtol=1e-12, atol=1e-14)
        if made[row.line].called in ("reparameterize", "divergence", "divergence_backward", "reparameterize_backward_add"):
            wrong = list(damages(row.numbers))
            assert wrong
            for tree in wrong:
                assert not np.allclose(evaluate(tree, {}), row.result, rtol=1e-6), plain(tree)


def test_all_numbers_of_the_pass_are_on_it_and_no_other(made):
    value, g = loss_and_gradients(made.p, slide.X, slide.EPS)
    last = {row.equation[1][1]: row.result for row in slide.rows(made)}
    assert last["loss"].item() == pytest.approx(value.total, rel=1e-12)
    for name, gradient in g.items():
        np.testing.assert_allclose(last["d" + re.sub(r"\.(\d)", r"[\1]", name)], np.atleast_2d(gradient), rtol=1e-12)
    for line in made:
        if line.called and not line.composite and not line.operation.startswith("constant"):
            assert {array.name for array in line.writes} <= last.keys() | {"doutput_logvar"}
    texts = [
        re.findall(r"<mn>([^<]*)</mn>", equation.rpartition("<math")[2])
        for equation in re.findall(r'<div class="equation"[^>]*>(.*?)</div>', slide.slide(made))
    ]
    assert texts == [[number(value) for value in row.result.ravel()] for row in slide.rows(made)]


def test_the_lines_stand_in_the_order_in_which_they_ran_with_their_code(made):
    text = slide.slide(made)
    ran = list(dict.fromkeys(row.line for row in slide.rows(made)))
    assert ran == sorted(ran) and len(ran) > 20
    shown = re.findall(r'<li><span class="number">(\d+)</span><code>(.*?)</code>', text)
    assert [int(line) for line, _ in shown] == [made[i].number for i in ran]
    for (_, code), i in zip(shown, ran):
        assert "".join(code.split()) == "".join(made[i].source.partition("  #")[0].split())


def test_the_two_paths_into_mu_and_logvar_add_up(made):
    (line,) = (line for line in made if slide.two_paths(line))
    for (name, through_kl, through_z, total), array in zip(slide.two_paths(line), line.writes):
        assert name == array.name and through_kl + through_z == pytest.approx(array.value.item(), rel=1e-12)
        assert total == array.value.item() and through_kl and through_z
    row = re.search(r'<tr><th scope="row">.*?</tr>', slide.slide(made))[0]
    assert re.findall(r"<td[^>]*>([^<]*)</td>", row) == [number(each) for each in slide.two_paths(line)[0][1:]]


def test_a_rectifier_of_every_hidden_layer_passes_one_derivative_and_stops_another():
    for seed in range(20):
        model, p, a, beta, _ = elbo.prepare(slide.model(seed), slide.X, slide.EPS, 1.0, 0.0, "elbo", "numpy")
        model.forward(p.layers, a, beta)
        for h in (a.encoder[1], a.decoder[1]):
            assert (h == 0).any() and (h > 0.05).any()
        np.testing.assert_array_equal(p.flat, p.flat.round(1))
        assert p.flat.all()


def test_the_terminal_shows_the_same(made):
    file = io.StringIO()
    Console(file=file, soft_wrap=True, width=200).print(slide.text(made))
    text = file.getvalue()
    for row in slide.rows(made):
        assert f"line {made[row.line].number} " in text and plain(row.equation) in text and plain(row.numbers) in text
    assert re.search(r"dμ: .* through the KL \+ .* through z = ", text)


def test_the_command_writes_or_shows_it_and_says_what_it_does_not_read(made, tmp_path):
    out = tmp_path / "one.html"
    assert "one sheet" in done("study", "--small", "--out", out)
    assert out.read_text() == slide.slide(made)
    assert "[1 0 1 1]" in done("study", "--small", "--text", "--activation", "silu")
    message = refused("study", "dmu", "--small", "--latent", 3)
    assert "the name dmu and --latent" in message and "--seed" in message


FITS = """
const box = (at) => at.getBoundingClientRect(), sections = [...document.querySelectorAll("section")];
const outside = [...document.querySelectorAll("section *")].filter((at) => box(at).right > box(at.closest("section")).right + 1);
const note = box(document.querySelector("main + p"));
return {
  height: Math.max(...sections.map((at) => box(at).bottom), note.bottom) / innerHeight, outside: outside.map((at) => at.textContent),
  scrolls: document.documentElement.scrollHeight > innerHeight, free: note.top > box(sections.at(-1)).bottom, wide: innerWidth / innerHeight,
};
"""


@in_chromium
def test_it_fits_one_screen_and_one_sheet_with_each_activation():
    slides = {name: slide.slide(trace(slide.model(0, name), slide.X, slide.EPS, elements=1)) for name in ACTIVATIONS}
    found = browser.run(*browser.framed(slides.values(), FITS, 1280, 720))
    for name, fits in zip(slides, found, strict=True):
        assert fits.pop("wide") == pytest.approx(16 / 9, rel=0.01)
        assert 0.85 < fits.pop("height") < 1, name
        assert fits == {"outside": [], "scrolls": False, "free": True}, name
    assert browser.pages(max(slides.values(), key=len)) == 1
