"""The tour has a true sentence for every line that does something, and its questions have the answers of the trace."""

import re

import numpy as np
import pytest

from tests.vae_np.study import browser
from tests.vae_np.study.kinds import KINDS, traced
from vae_np.kernels import reference
from vae_np.study import page, predict, tour, typesetting
from vae_np.study.formulas import of, parse
from vae_np.study.markup import View
from vae_np.study.paths import paths_of

in_chromium = pytest.mark.skipif(not browser.CHROMIUM, reason="there is no Chromium on this machine")


@pytest.fixture(params=KINDS)
def made(request):
    return traced(request.param)


def test_the_stops_are_the_lines_that_change_a_derivative_in_their_order(made):
    stops = tour.stations(made)
    assert stops == sorted(stops) and made[stops[0]].called == "bound" and made[stops[1]].called == "bound_backward"
    values = {}
    for i, line in enumerate(made):
        is_backward = line.function in ("backward", "weight_gradients")
        changed = [array.name for array in line.writes if np.any(array.value != values.get(array.name, 0))]
        values |= {array.name: array.value for array in line.writes}
        if is_backward and i not in stops:
            assert set(changed) <= {"doutput_logvar.b"} and not ("noise.logvar" in made.p and changed), line.source
    assert not any(made[i].operation in ("unit_path_weight", "constant_backward_add") for i in stops)


def test_every_stop_has_a_sentence_that_is_true(made):
    stops = tour.stations(made)
    words = {i: tour.sentence(made, i) for i in stops}
    assert all(re.fullmatch(r"[A-Z].*\.", text) and "{" not in text for text in words.values())
    by_name = {made[i].called: (made[i], words[i]) for i in stops}
    assert f"{made.value.total:.4f} nats" in by_name["bound"][1]
    line, text = by_name["bound_backward"]
    assert ("weigh the same" in text) == bool(np.ptp(line.writes[0].value) < 1e-15) != ("importance weight" in text)
    if "divergence_backward" in by_name:
        line, text = by_name["divergence_backward"]
        wrote = {array.name: array.value for array in line.writes}
        assert ("μ receives nothing directly" in text) == (not wrote["dmu"].any())
        assert ("added to the derivative of z" in text) == (not np.array_equal(wrote["dz"], _before(made, line)["dz"]))
    for i in stops:
        line = made[i]
        named = {array.name.removeprefix("d").removesuffix(".y") for array in line.writes}
        if line.called in ("affine_backward", "affine_backward_add"):
            assert f" {typesetting.plain_name(min(named))}" in words[i]
            read = set(made[line.differentiates[0]].reads)
            assert named <= read
        if line.function == "weight_gradients" and words[i] != tour.LEARNED:
            (forward,) = line.differentiates
            assert typesetting.plain_name(made[forward].writes[0].name.removesuffix(".y")) in words[i]


def _before(lines, line):
    return {array.name: array.value for other in lines[: lines.index(line)] for array in other.writes}


def test_the_two_paths_add_up(made):
    (line,) = (line for line in made if line.called == "reparameterize_backward_add")
    for array in line.writes:
        np.testing.assert_allclose(array.parts["z"] + array.parts["divergence"], array.value, rtol=1e-12, atol=1e-14)
        shown = tour.two_paths(array, View())
        assert re.findall(r"</math>([^<]*)</p>", shown) == [" through z", " through the KL", ", the sum"]
        assert re.findall(r'class="shape">([+=]?)', shown) == ["", "+", "="]


# -------------------------------------------------------------------------------------------------------- the questions


NUMBER = r"(−?\d+(?:\.\d+)?(?:e[+−]?\d+)?)"  # with a minus sign, as the page shows it


def as_float(text):
    return float(text.replace("−", "-"))


def asked_of(made):
    """(line, its question, the right option) of all questions on a trace."""
    for i in tour.stations(made)[1:]:
        asked = list(predict.ask(made, i))
        assert asked, made[i].source
        for question in asked:
            words = [option.words for option in question.options]
            assert len(set(words)) == len(words) > 1
            assert all(re.fullmatch(r"[A-Z].*\.", option.why) for option in question.options if option.why)
            (right,) = (option for option in question.options if not option.why)
            yield i, question, right


def test_every_shape_and_sign_is_that_of_the_trace(made):
    kinds, n_facts = set(), 0
    for i, question, right in asked_of(made):
        kinds.add(question.kind)
        written = {predict.text_of(array.name): array.value for array in made[i].writes}
        if question.kind == "shape":
            assert right.words == " × ".join(map(str, written[question.words.removeprefix("What is the shape of ")[:-1]].shape))
        if question.kind == "sign":
            now = predict.moment(made, i)
            facts = rf"([^,<>]+)<code>\[([\d, ]*)\]</code>( before this line|) = {NUMBER}"
            for name, place, before, shown in re.findall(facts, question.words.partition(" Here ")[2]):
                values = {predict.text_of(key): value for key, value in (now.before if before else now.after).items()}
                n_facts += 1
                assert as_float(shown) == pytest.approx(
                    values[name.strip()][tuple(map(int, place.split(",")))], rel=0.006, abs=1e-12
                )
            name, place = re.match(r"Is (.*?)<code>\[([\d, ]*)\]", question.words).groups()
            value = written[name][tuple(map(int, place.split(",")))]
            assert right.words == {1: "positive", -1: "negative", 0: "0"}[int(np.sign(value))]
            why = re.sub("<[^>]*>", "", next(option.why for option in question.options if option.why))
            assert as_float(re.search(rf"{NUMBER}\.$", why)[1]) == pytest.approx(value, rel=0.006, abs=1e-12), why
    assert kinds == {"shape", "sign", "factor"} and n_facts > 3


def test_only_the_right_factor_gives_what_the_line_computes(made):
    for i, question, _ in asked_of(made):
        if question.kind != "factor":
            continue
        now, line = predict.moment(made, i), made[i]
        which, factor, others = predict.FACTORS[line.operation]
        text = predict.formula(line, which)
        array = now.written({**line.arguments, "dy": line.writes[0].name}[parse(text)[1][-1]])
        np.testing.assert_allclose(predict.computed(now, text, array), array.value, rtol=1e-9, atol=1e-13)
        for option in question.options:
            if " would be " in option.why:
                place, wrong, value = re.search(
                    rf"\[([\d, ]*)\]</code> would be {NUMBER}, but finite differences agree with {NUMBER}\.$", option.why
                ).groups()
                place = tuple(map(int, place.split(",")))
                found = [predict.computed(now, predict.replaced(text, factor, other), array) for other in others]
                assert any(as_float(wrong) == pytest.approx(each[place], rel=0.006) for each in found if each is not None)
                assert as_float(value) == pytest.approx(array.value[place], rel=0.006) and wrong != value


def test_each_factor_stands_in_the_formula_of_its_operation():
    for operation, (which, factor, others) in predict.FACTORS.items():
        definition = vars(reference)[operation].__doc__
        text = re.split("[;,]  ", definition.split("\n")[0].partition("   ")[0])[which]
        assert predict.replaced(text, factor, "").count(factor) < text.count(factor) and len(of(definition)) > which
        for other in others:
            parse(predict.replaced(text, factor, other))
    asked_otherwise = {"relu_backward"}  # about the sign and the shape
    activations = {name for name in vars(reference) if name.endswith("_backward") and f"affine_{name[:-9]}" in vars(reference)}
    assert activations - predict.FACTORS.keys() == asked_otherwise


def test_answers_are_in_templates_only_and_not_always_in_the_same_place():
    lines = traced("closed")
    text = page.page(lines, "noise")
    templates = re.findall(r'<template data-right="(\d)">(.*?)</template>', text, re.DOTALL)
    assert len(templates) > 20 and len({right for right, _ in templates}) > 2
    assert not any("data-name" in content or "title=" in content or "<a " in content for _, content in templates)
    shown = re.sub(r"<template.*?</template>|<script.*?</script>", "", text, flags=re.DOTALL)
    assert "With this factor" not in shown and "Which factor" not in shown
    (label,) = re.findall(r'class="ask"> ([^<]*)</label>', text)
    assert f'"{label}"' in " ".join((page.FILES.parents[1] / "docs" / "studying.md").read_text().split())
    assert "data-right" not in page.fragment(lines) and "tour" not in page.fragment(lines)


# ------------------------------------------------------------------------------------------------------- in the browser

DRIVE = """
const all = (selector, root = document) => [...root.querySelectorAll(selector)];
const tour = document.getElementById("tour"), one = (selector) => tour.querySelector(selector);
const press = (at, key) => at.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true, cancelable: true }));
const seen = () => ({ stop: one("output").textContent, card: all(".stops > li:not([hidden]) .copy > .card .where > a, .stops > li:not([hidden]) .copy > .card .where", tour)[0]?.textContent,
  shown: all(".stops > li", tour).filter((stop) => !stop.hidden).length });
const found = { first: seen() };
one(".next").click(); found.next = seen();
press(one(".next"), "ArrowRight"); press(one(".next"), "ArrowRight"); press(one(".back"), "ArrowLeft"); found.keys = seen();
one(".paths input[value=kl]").click();
found.same = all('.paths input[value="kl"]').every((radio) => radio.checked);
found.off = one(".copy .note").textContent;
found.bands = all(".graph.wide .band").filter((band) => band.getClientRects().length).map((band) => band.getAttribute("class"));
const norm = (href) => all(`.graph.wide a[href="${href}"] [data-norms]`).map((text) => text.textContent);
found.norms = all(".graph.wide a").filter((link) => link.querySelector("[data-norms]")).map((link) => [link.getAttribute("href"), norm(link.getAttribute("href"))]);
while (one("output").textContent.split(":")[0] !== "Stop " + all(".stops > li", tour).length + " of " + all(".stops > li", tour).length) one(".next").click();
one(".next").click(); found.last = seen();
for (const stop of all(".stops > li", tour)) one(".back").click();
found.variants = [];
for (let i = 0; i < 9; i++) {
  found.variants.push([one(".stops > li:not([hidden])").dataset.card, all(".copy .variant:not([hidden])", tour).map((part) => part.dataset.path)]);
  one(".next").click();
}
one(".paths input[value=all]").click();
one(".ask").click(); found.hidden = all("main > section").filter((part) => !part.getClientRects().length).map((part) => part.id);
found.asked = [];
for (const stop of all(".stops > li", tour)) one(".back").click();
for (let i = 1; i < all(".stops > li", tour).length; i++) {
  one(".next").click();
  const card = one(".stops > li:not([hidden])").dataset.card, code = document.querySelector(`#${card} pre code`).textContent;
  const form = one("form"), right = all(".stops > li:not([hidden]) template", tour)[0].dataset.right;
  const visible = document.body.innerText.includes(code.split("  #")[0].trim());
  form.requestSubmit(); const none = form.querySelector(".first").getClientRects().length > 0;
  const answers = all("input", form), names = answers.every((answer) => answer.ariaLabel || answer.labels[0].textContent.trim()), wrong = answers.find((answer) => answer.value !== right);
  wrong.checked = true; form.requestSubmit();
  const why = all("[data-of]", form).filter((at) => at.getClientRects().length).map((at) => at.textContent);
  const still = one("form") === form;
  answers.find((answer) => answer.value === right).checked = true; form.requestSubmit();
  found.asked.push({ card, visible, none, why, still, gone: !one("form"), focused: document.activeElement.matches(".copy .card"),
    revealed: one(".copy pre code")?.textContent === code, names });
}
one(".ask").click(); found.again = all("main > section").filter((part) => !part.getClientRects().length).length;
one(".ask").click(); one(".other").click(); found.other = document.activeElement.matches("form input");
one(".show").click(); found.given = one(".copy .card") !== null && !one("form");
return found;
"""


@in_chromium
def test_the_tour_and_its_questions_work_in_a_browser():
    lines = traced("closed")
    found = browser.run(page.page(lines, "noise"), DRIVE)
    stops = tour.stations(lines)
    n = len(stops)

    def at(stop):
        line = lines[stops[stop]]
        return f"Stop {stop + 1} of {n}: {line.function}, line {line.number}"

    assert [found[key]["stop"] for key in ("first", "next", "keys", "last")] == [at(0), at(1), at(2), at(n - 1)]
    assert {found[key]["shown"] for key in ("first", "next", "keys", "last")} == {1}
    assert found["same"] and "does not lie on the path" in found["off"]
    assert set(found["bands"]) == {"band kl", "band kl tip"}
    last = {array.name: array for line in lines for array in line.writes}
    shown = dict(map(tuple, ((href, norms) for href, norms in found["norms"] if len(norms) == 1)))
    assert f"{np.linalg.norm(last['dz'].parts['kl']):.3g}" in [norm for norms in shown.values() for norm in norms]
    for card, variants in found["variants"]:
        arrays = lines[int(card[1:])].writes
        assert variants == [
            "kl" if "kl" in array.parts and "kl" in paths_of(lines)[int(card[1:])] else "all" for array in arrays
        ], card
    assert found["hidden"] == ["picture", "run", "hand", "randomness", "text", "lines", "derivations"] and not found["again"]
    assert len(found["asked"]) == n - 1
    for asked in found["asked"]:
        assert not asked["visible"] and asked["none"] and asked["still"], asked
        assert len(asked["why"]) == 1 and asked["gone"] and asked["focused"] and asked["revealed"] and asked["names"], asked
    assert found["other"] and found["given"]
