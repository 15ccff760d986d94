"""The page: it is whole, needs no other file, shows the right numbers, and works in a real browser."""

import base64
import html.parser
import io
import itertools
import re

import numpy as np
import pytest
from PIL import Image

from tests.vae_np.study import browser
from tests.vae_np.study.test_trace import PROBLEM, PROBLEMS, changed
from vae_np import Architecture, Parameters, elbo
from vae_np.kernels import reference
from vae_np.study import along, dials, estimates, formulas, graph, page, pictures, primer, trace
from vae_np.study.exercises import exercise_of
from vae_np.study.paths import paths_of
from vae_np.testing import random_problem

in_chromium = pytest.mark.skipif(not browser.CHROMIUM, reason="there is no Chromium on this machine")


class _Elements(html.parser.HTMLParser):
    """(tag, attributes) of every element; AssertionError where they are not properly nested."""

    VOID = {"meta", "img", "input", "br", "link", "wbr"}
    OPEN_AT_THE_END = {"html", "body"}

    def __init__(self, text):
        super().__init__()
        self.found, self.open = [], []
        self.feed(text)
        assert not set(self.open) - self.OPEN_AT_THE_END, self.open

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, f"</{tag}>"


@pytest.fixture(scope="module")
def of_images():
    p, x, eps, beta, l2, objective = random_problem(Architecture(64, (6,), 2, "tanh"), n_examples=3)
    made = trace(p, x, eps, beta, l2, objective)
    turned, of_training = dials.dials(p, x, eps, beta, l2, objective), {0: Parameters.initialize(p.architecture), 9: p}
    course = along.course(of_training, x, eps, beta, l2, objective, x, np.arange(3), "rows")
    parts = turned, dials.estimators(p, x), estimates.compared(p, x, eps, beta), course
    return made, page.page(made, "noise", (8, 8), *parts)


def test_it_is_whole_and_needs_nothing_else(of_images):
    elements = _Elements(of_images[1]).found
    ids = [attributes["id"] for _, attributes in elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    for tag, attributes in elements:
        for name in ("src", "href", "data", "action"):
            assert attributes.get(name, "#").startswith(("#", "data:image/png;base64,")), attributes
        if attributes.get("href", "").startswith("#"):
            assert attributes["href"][1:] in ids, attributes
        if tag == "img":
            assert attributes["alt"]
    assert "@import" not in of_images[1] and "url(" not in of_images[1]
    assert not re.findall(
        r"\bnan\b|\binf\b|None", re.sub(r"<script.*?</script>|<pre>.*?</pre>", "", of_images[1], flags=re.DOTALL)
    )


def test_every_line_of_the_text_stands_on_it(of_images):
    made, text = of_images
    for function in elbo.TEXT:
        assert f'aria-label="{function.__name__}"' in text
    for i, line in enumerate(made):
        assert f'id="l{i}"' in text
        if line.called and not line.composite:
            assert formulas.equations(line), f"{line.source} has no equation"
            assert line.shapes, f"{line.source} has no shape"


@pytest.mark.parametrize("problem", PROBLEMS[::13], ids=lambda p: f"{p.p.architecture.likelihood}-{p.objective}")
def test_a_page_of_every_kind(problem):
    made = trace(*problem, elements=1)
    _Elements(page.page(made, "noise"))
    _Elements(page.fragment(made))
    for line in made:
        assert formulas.equations(line) or not line.called or line.composite, line.source


def test_what_is_wrong_is_named_at_the_top_and_red_at_its_line():
    planted, _ = changed(reference.gaussian_kl_backward, "np.expm1(logvar) / 2", "np.expm1(logvar)")
    made = trace(*PROBLEM, gaussian_kl_backward=planted)
    text = page.page(made, "noise")
    i = made.index(made.wrong[0])
    assert f'A derivative goes wrong at <a href="#l{i}">line {made.wrong[0].number}</a>' in text
    assert re.search(rf'id="l{i}" class="card backward off"', text)


def test_an_operation_of_ones_own_needs_no_docstring():
    def tanh_backward(dh, y, h):
        dh *= 1 - h * h
        return dh

    made = trace(*PROBLEM, tanh_backward=tanh_backward)
    assert not made.wrong
    _Elements(page.page(made, "noise"))


def test_pictures_show_the_numbers():
    values = np.array([[0.0, 0.5, 1.0], [-1.0, -0.5, 0.0]])
    source = pictures.signed_png(values, 1.0).split(",")[1]
    shown = np.array(Image.open(io.BytesIO(base64.b64decode(source))).convert("RGBA"))
    assert shown.shape == (2, 3, 4)
    assert shown[0, 0, 3] == shown[1, 2, 3] == 0 and shown[0, 2, 3] == shown[1, 0, 3] == 255
    assert tuple(shown[0, 2, :3]) == pictures.POSITIVE and tuple(shown[1, 0, :3]) == pictures.NEGATIVE
    assert 0 < shown[0, 1, 3] < 255
    grey = np.array(Image.open(io.BytesIO(base64.b64decode(pictures.grey_png(values).split(",")[1]))).convert("L"))
    assert grey[0, 2] == 0 and grey[1, 0] == 255  # ink on paper


def test_paths_into_mu_and_logvar_are_told_apart(of_images):
    made, _ = of_images
    paths = paths_of(made)
    of = {made[i].called + made[i].function: paths[i] for i in range(len(made))}
    assert "z" in of["reparameterizeforward"] and "divergence" not in of["reparameterizeforward"]
    assert "divergence" in of["divergenceforward"] and "z" not in of["divergenceforward"]
    assert {"z", "divergence"} <= of["boundforward"]
    assert "divergence" in of["divergence_backwardbackward"] and "z" not in of["divergence_backwardbackward"]
    assert "kl" not in of["likelihood_nll_backwardbackward"] and "reconstruction" in of["likelihood_nll_backwardbackward"]
    assert "l2" in of["affine_gradientsweight_gradients"] and "l2" not in of["divergence_backwardbackward"]


CONTRAST = """
const luminance = (rgb) => rgb.map((v) => v / 255).map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
  .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
const colour = (text) => {
  const numbers = text.match(/[\\d.]+/g).map(Number);
  return text.startsWith("color(") ? [...numbers.slice(0, 3).map((v) => v * 255), numbers[3] ?? 1] : [...numbers.slice(0, 3), numbers[3] ?? 1];
};
const behind = (at) => {
  for (; at; at = at.parentElement) {
    const paint = colour(getComputedStyle(at).backgroundColor);
    if (paint[3] > 0.9) return paint;
  }
  return dark ? [0, 0, 0, 1] : [255, 255, 255, 1];
};
for (const details of document.querySelectorAll("details")) details.open = true;
const weak = [];
let seen = 0;
for (const at of document.querySelectorAll("body *")) {
  if (![...at.childNodes].some((node) => node.nodeType === 3 && node.data.trim()) || at.closest("script, style")) continue;
  if (!at.getClientRects().length) continue;
  const style = getComputedStyle(at), paint = at.closest("svg") && style.fill !== "none" ? style.fill : style.color;
  const [a, b] = [luminance(colour(paint).slice(0, 3)), luminance(behind(at).slice(0, 3))].sort((x, y) => y - x);
  seen += 1;
  if ((a + 0.05) / (b + 0.05) < 4.5) weak.push(`${at.tagName}.${at.className.baseVal ?? at.className} ${paint}: ${at.textContent.slice(0, 40)}`);
}
const picture = document.querySelector("#first .heat"), canvas = document.createElement("canvas"), paper = behind(picture);
const context = Object.assign(canvas, { width: picture.naturalWidth, height: picture.naturalHeight }).getContext("2d");
context.fillStyle = `rgb(${paper.slice(0, 3)})`;
context.fillRect(0, 0, canvas.width, canvas.height);
context.filter = getComputedStyle(picture).filter;
context.drawImage(picture, 0, 0);
const halves = [[1, 0], [0, 1]].map(([x, y]) => {  // the cells of 0.5 and of -0.5
  const [a, b] = [luminance([...context.getImageData(x, y, 1, 1).data].slice(0, 3)), luminance(paper.slice(0, 3))].sort((x, y) => y - x);
  return (a + 0.05) / (b + 0.05);
});
return { seen, weak, halves };
"""


@in_chromium
@pytest.mark.parametrize("dark", (False, True), ids=("light", "dark"))
def test_contrast_is_sufficient(of_images, dark):
    found = browser.run(of_images[1], f"const dark = {str(dark).lower()};" + CONTRAST, dark=dark)
    assert found["seen"] > 300 and found["weak"] == []
    assert all(ratio > 2 for ratio in found["halves"]), found["halves"]  # a cell of half the largest number is seen


LAYOUT = """
for (const details of document.querySelectorAll("details")) details.open = true;
const box = (at) => at.getBoundingClientRect();
const seen = (selector) => [...document.querySelectorAll(selector)].filter((at) => at.getClientRects().length);
const flat = seen("math").filter((math) => math.textContent.length > 1 && (box(math).width < 4 || box(math).height < 6));  // a letter alone is low
const lowered = seen("msub").every(({ children: [base, below] }) => box(below).bottom > box(base).bottom);
const raised = seen("msup").every(({ children: [base, above] }) => box(above).top < box(base).top);
const stacked = seen("mfrac").every(({ children: [over, under] }) => box(over).bottom <= box(under).top + 1);
const unread = [...document.querySelectorAll("button, input, a, summary")]
  .filter((at) => !(at.textContent.trim() || at.ariaLabel || at.labels?.length)).map((at) => at.outerHTML);
const unnamed = [...document.querySelectorAll("table")].filter((at) => !at.caption && !at.ariaLabel).map((at) => at.textContent);
const small = [...document.querySelectorAll(".equation")].filter((at) => parseFloat(getComputedStyle(at).fontSize) < 11).map((at) => at.textContent);
const narrow = seen(".symbols td:last-child, figure").filter((at) => box(at).width < 280).map((at) => at.textContent);
const covers = seen("button, a").filter((at, i) => i % 20 === 0 && !at.closest("nav, #inspector, .skip")).reverse().filter((at) => {
  at.focus();
  return box(at).top < Math.max(0, box(document.querySelector("nav")).bottom);
}).map((at) => at.outerHTML);
const levels = [...document.querySelectorAll("h1, h2, h3")].map((at) => Number(at.tagName[1]));
const outside = [...document.querySelectorAll("body *")].filter((at) => box(at).right > innerWidth + 1 && !at.closest("pre, .listing, .scroll"));
const covered = [...document.querySelectorAll(".row")].filter((row) => row.querySelector(".mark").textContent)
  .map((row) => [box(row.querySelector(".mark")), box(row.querySelector("code"))])
  .filter(([mark, code]) => innerWidth < 500 && mark.left < code.right && mark.top < code.bottom - 1).length;
const words = seen(".graph text").filter((at) => at.textContent);
const tiny = words.filter((at) => parseFloat(getComputedStyle(at).fontSize) * at.getScreenCTM().a < 10).map((at) => at.textContent);
const overlapping = words.filter((one, i) => words.slice(i + 1).map(box).some((other) => box(one).left < other.right - 1
  && other.left < box(one).right - 1 && box(one).top < other.bottom - 4 && other.top < box(one).bottom - 4)).map((at) => at.textContent);
return {
  first: box(document.getElementById("first")).height, words: words.length, tiny, overlapping, covered, outside: outside.map((at) => `${at.tagName}.${at.className}: ${at.textContent.slice(0, 60)}`), maths: document.querySelectorAll("math").length, flat: flat.map((math) => math.outerHTML), lowered, raised, stacked, unread, unnamed, small, narrow, covers,
  wide: document.documentElement.scrollWidth - innerWidth, ordered: levels.every((level, i) => level - (levels[i - 1] ?? 0) <= 1),
};
"""


@in_chromium
@pytest.mark.parametrize("width", (390, 1400))
def test_mathematics_is_laid_out_and_nothing_overflows(of_images, width):
    wide = trace(
        *random_problem(Architecture(64, (), 2, likelihood="gaussian", noise="heteroscedastic"), "elbo", 4, 2), elements=1
    )
    with_long_names = f'<figure class="graph{" wide scroll" * (width > 390)}">{graph.svg(wide, width == 390)}</figure>'
    found = browser.run(of_images[1].replace("</main>", f"{with_long_names}</main>"), LAYOUT, width)
    assert found.pop("maths") > 60 and found.pop("words") > 40
    assert found.pop("first") < 850 or width == 390  # what is read first fills one screen, below the bar at the top
    wanted = {
        "tiny": [],
        "overlapping": [],
        "covered": 0,
        "outside": [],
        "flat": [],
        "lowered": True,
        "raised": True,
        "stacked": True,
        "unread": [],
        "unnamed": [],
        "small": [],
        "narrow": [],
        "covers": [],  # the bar at the top does not hide what has the focus
        "ordered": True,
    }
    assert found.pop("wide") <= 0, found["outside"]
    assert found == wanted


@in_chromium
def test_a_name_shows_where_it_comes_from_and_where_it_goes(of_images):
    made, text = of_images
    found = browser.run(
        text,
        """
        const click = (name) => document.querySelector(`code [data-name="${name}"]`).click();
        const links = () => [...document.querySelectorAll("#inspector a")].map((a) => Number(a.hash.slice(2)));
        const results = { before: document.getElementById("inspector").hidden };
        click("mu"); results.mu = links(); results.focused = document.activeElement.className; results.lit = document.querySelectorAll(".lit").length;
        document.dispatchEvent(new KeyboardEvent("keydown", { key: "Escape", bubbles: true }));
        results.closed = document.getElementById("inspector").hidden; results.returned = document.activeElement.dataset.name;
        document.querySelector('math [data-name="dz"]').dispatchEvent(new MouseEvent("click", { bubbles: true }));
        results.dz = links();
        click("x"); results.x = links();
        return results;
        """,
    )
    assert found["before"] and found["closed"] and found["lit"] > 4
    assert (
        found["focused"] == "close" and found["returned"] == "mu"
    )  # a key opened the panel: its links are the next to be reached
    for name, links in ((name, found[name]) for name in ("mu", "dz")):
        value, derivative = name.removeprefix("d"), "d" + name.removeprefix("d")
        wanted = {
            i
            for i, line in enumerate(made)
            if not line.composite and {value, derivative} & {*line.reads, *(array.name for array in line.writes)}
        }
        assert set(links) == wanted
    assert {made[i].called for i in found["x"]} >= {"affine_activation", "likelihood_nll"}


@in_chromium
def test_paths_keys_and_dials_answer(of_images):
    made, text = of_images
    found = browser.run(
        text,
        """
        const choose = (value) => document.querySelector(`input[value="${value}"]`).click();
        const all = (selector) => [...document.querySelectorAll(selector)];
        const aside = () => all(".card.aside").map((card) => Number(card.id.slice(1)));
        const rows = () => all(".row.aside").map((row) => row.dataset.cards);
        const results = { all: aside(), rows: {}, shown: {} };
        for (const path of ["reconstruction", "kl", "l2", "z", "divergence"]) {
          choose(path);
          results[path] = aside();
          results.rows[path] = rows();
          results.shown[path] = all(".variant").filter((at) => !at.hidden).map((at) => [at.closest(".card").id, at.dataset.path]);
        }
        choose("all"); results.again = aside();
        const radio = document.querySelector('input[value="all"]');
        radio.focus();
        const press = (key) => document.activeElement.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true }));
        press("j"); press("j"); press("j"); press("k");
        results.at = document.querySelector(".card.here").id;
        results.focused = document.activeElement.id;
        results.spoken = [...document.querySelectorAll("input[type=range]")].map((at) => [at.ariaValueText, at.labels[0].querySelector("output").textContent]);
        const dial = document.querySelector(".dial"), input = dial.querySelector("input"), number = dial.querySelector("dd");
        const mark = dial.querySelector("path.here"), before = [number.textContent, mark.getBoundingClientRect().x];
        input.value = 0; input.dispatchEvent(new Event("input", { bubbles: true }));
        results.dial = [before, [number.textContent, mark.getBoundingClientRect().x], dial.querySelector("output").textContent];
        const turn = (input, value) => { input.value = value; input.dispatchEvent(new Event("input", { bubbles: true })); };
        const mu = document.getElementById("randomness-dial");
        turn(mu.querySelector("input"), 3);
        results.mu = [...mu.querySelectorAll("dd, output")].map((at) => at.textContent);
        results.aloud = mu.querySelector("input").getAttribute("aria-valuetext");
        results.tangent = mu.querySelector(".tangent").getAttribute("transform");
        results.cases = {};
        for (const [id, value] of [["course", 0], ["dial-estimator", 2]]) {
          const group = document.getElementById(id);
          turn(group.querySelector("input, select"), value);
          results.cases[id] = [...group.querySelectorAll("[data-case]")].filter((at) => at.getClientRects().length).map((at) => at.dataset.case);
        }
        results.labels = [...document.querySelectorAll("main input, main select")].map((at) => at.labels[0]?.textContent ?? "");
        return results;
        """,
    )
    assert found["all"] == found["again"] == []
    paths = "reconstruction", "kl", "l2", "z", "divergence"
    called = {path: {made[i].called for i in found[path]} for path in paths}
    assert "divergence" in called["reconstruction"] and "likelihood_nll" in called["kl"]
    assert "reparameterize" in called["divergence"] and "divergence" in called["z"]
    assert "affine_gradients" not in called["l2"] and "bound_backward" in called["l2"]
    for path in paths:
        for row in found["rows"][path]:
            assert {int(card[1:]) for card in row.split()} <= set(found[path])
        followed = {int(card[1:]) for card, shown in found["shown"][path] if shown == path}
        on_it = set(range(len(made))) - set(found[path])
        assert followed == {i for i in on_it if any(path in array.parts for array in made[i].writes)}, path
    assert found["at"] == found["focused"] == "l1"
    text_of_mu = re.search(r'id="randomness-dial".*?</div></div>', text, re.DOTALL)[0]
    columns = [values.split("|") for values in re.findall(r'<(?:dd|output) data-values="([^"]*)"', text_of_mu)]
    assert found["mu"] == [values[3] for values in columns] and len(columns) == 7
    assert found["aloud"] in columns[0] and found["aloud"] == columns[0][3]
    assert found["tangent"] == re.search(r'data-transforms="([^"]*)"', text)[1].split("|")[3]
    assert found["cases"] == {"course": ["0", "0"], "dial-estimator": ["2"]} and all(found["labels"])
    assert found["spoken"] and all(spoken == shown for spoken, shown in found["spoken"])
    (before, was), (after, is_now), value = *found["dial"][:2], found["dial"][2]
    assert value == "0" and is_now < was and before != after


@in_chromium
def test_a_number_is_read_from_its_picture_by_pointer_and_by_keyboard(of_images):
    made, text = of_images
    found = browser.run(
        text,
        """
        const read = [];
        for (const picture of document.querySelectorAll('.variant[data-path="all"] img[data-cells]')) {
          const box = picture.getBoundingClientRect(), [rows, columns] = picture.dataset.grid.split(" ").map(Number);
          const name = picture.alt.match(/heat map of ([^:]+)|^(\\S+) as images/).slice(1).join("");
          const card = picture.closest(".card").id;
          picture.dispatchEvent(new PointerEvent("pointermove", { clientX: box.right - 2, clientY: box.bottom - 2 }));
          read.push([card, name, picture.nextSibling.textContent]);
          picture.dispatchEvent(new PointerEvent("pointerleave"));
          picture.focus();
          for (const key of ["ArrowDown", "ArrowRight"]) picture.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true }));
          read.push([card, name, picture.nextSibling.textContent]);
          picture.blur();
          read.push([card, name, picture.nextSibling?.textContent ?? ""]);
        }
        return read;
        """,
    )
    assert len(found) > 30
    exact = 0
    for card, name, words in found:
        array = next(array for array in made[int(card[1:])].writes if array.name == name)
        if place := re.fullmatch(r"\[([\d, ]+)\]: (.*)", words):
            value = array.value[tuple(map(int, place[1].split(", ")))]
        elif place := re.fullmatch(r"example (\d+), pixel (\d+): (.*)", words):
            value, exact = array.value[0, int(place[1]), int(place[2])], exact + 1
        else:
            assert not words or "between" in words or "mean of rows" in words
            continue
        assert float(place.groups()[-1].replace("\u2212", "-")) == pytest.approx(value, rel=0.006, abs=1e-12), (name, words)
        exact += 1
    assert exact > 15


def test_each_derivation_has_a_heading_and_zeros_are_said_not_printed(of_images):
    text = of_images[1]
    assert text.count('<details class="why"') == text.count("<summary><h3>") > 10
    (constant,) = (i for i, line in enumerate(of_images[0]) if line.operation == "constant")
    card = re.search(rf'<article id="l{constant}".*?</article>', text, re.DOTALL)[0]
    assert "All of its numbers are 0." in card and "<table" not in card


def test_a_path_on_which_no_line_lies_cannot_be_chosen():
    made = trace(*PROBLEM._replace(l2=0.0))
    menu = re.search(r'<fieldset class="paths">.*?</fieldset>', page.page(made, "noise"))[0]
    assert re.findall(r'value="(\w+)" disabled>([^<]*)', menu) == [("l2", "L2 (its weight is 0)")]


def test_a_notebook_has_no_link_into_nothing_and_no_id_twice():
    made = trace(*PROBLEM)
    outputs = [page.fragment(made) for _ in range(2)]
    elements = _Elements("".join(outputs)).found
    ids = [attributes["id"] for _, attributes in elements if "id" in attributes]
    assert len(ids) == len(set(ids)) == 2 * len(made)
    assert all(attributes["href"][1:] in ids for _, attributes in elements if "href" in attributes)
    assert not {"button", "kbd", "input"} & {tag for tag, _ in elements}
    assert not any("tabindex" in attributes for tag, attributes in elements if tag == "img")


def test_the_steps_are_numbered_in_the_order_in_which_they_ran(of_images):
    made, text = of_images
    cards = re.findall(r'<article id="l(\d+)".*?(?:<span class="step">step (\d+) of (\d+)</span>)', text, re.DOTALL)
    assert sorted((int(i), int(step), int(n)) for i, step, n in cards) == [(i, i + 1, len(made)) for i in range(len(made))]


def test_a_colour_has_one_meaning():
    colours = dict(re.findall(r"--([\w-]+): (light-dark\([^;]*\)|rgb\([^;]*\));", (page.FILES / "page.css").read_text()))
    assert len(set(colours.values())) == len(colours)
    for name, rgb in {"positive": pictures.POSITIVE, "negative": pictures.NEGATIVE}.items():
        assert colours[name] == f"rgb({' '.join(map(str, rgb))})"
    used = {
        name: [
            rule for rule in re.findall(r"[^{}]+\{[^{}]*\}", (page.FILES / "page.css").read_text()) if f"var(--{name})" in rule
        ]
        for name in colours
    }
    for term in ("reconstruction", "kl", "l2"):
        assert all(term in rule.split("{")[0] for rule in used[term]), used[term]
    assert all("wrong" in rule or ".off" in rule for rule in used["wrong"])


CONES = {  # Machado, Oliveira & Fernandes 2009: linear RGB as it looks to a reader who lacks one kind of cones
    "all": np.eye(3),
    "no L": np.array([[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]),
    "no M": np.array([[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]]),
    "no S": np.array([[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.3039]]),
}


def oklab(rgb):
    """Oklab coordinates of linear RGB, in which distances are about those that are seen (Ottosson 2020)."""
    to_lms = [[0.4122215, 0.5363325, 0.0514460], [0.2119035, 0.6806995, 0.1073970], [0.0883025, 0.2817188, 0.6299787]]
    to_lab = [[0.2104543, 0.7936178, -0.0040720], [1.9779985, -2.4285922, 0.4505937], [0.0259040, 0.7827718, -0.8086758]]
    return np.cbrt(np.clip(rgb, 0, 1) @ np.transpose(to_lms)) @ np.transpose(to_lab)


@pytest.mark.parametrize("cones", CONES)
@pytest.mark.parametrize("dark", (False, True), ids=("light", "dark"))
def test_no_two_colours_of_the_legend_look_alike(dark, cones):
    css = (page.FILES / "page.css").read_text()
    brighter = float(re.search(r"brightness\(([\d.]+)\)", css)[1]) if dark else 1.0
    found = {name: [light, night][dark] for name, light, night in re.findall(r"--([\w-]+): light-dark\(#(\w+), #(\w+)\)", css)}
    colours = {name: tuple(bytes.fromhex(found[name])) for name in primer.LEGEND.keys() & found.keys()}
    colours |= {name: np.minimum(brighter * np.array(getattr(pictures, name.upper())), 255) for name in primer.SIGNS}
    assert colours.keys() == primer.LEGEND.keys()
    values = np.array(list(colours.values())) / 255
    linear = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
    seen = dict(zip(colours, oklab(linear @ CONES[cones].T)))
    for one, other in itertools.combinations(seen, 2):
        assert np.linalg.norm(seen[one] - seen[other]) > 0.085, (one, other)


def test_it_says_in_usual_words_what_a_derivative_is_and_by_what_it_is_checked(of_images):
    text = re.sub(r"<script.*?</script>|<style>.*?</style>|<svg.*?</svg>", "", of_images[1], flags=re.DOTALL)
    words = " ".join(re.sub(r"<[^>]*>", " ", text).split())
    for unusual in ("undo", "of itself", "very point", "dname", "know beta", "proven", "proof"):
        assert unusual not in words
    assert "agrees with a finite difference to" in words


def test_each_line_of_the_backward_pass_names_the_exercise_in_which_it_is_written():
    made = trace(*PROBLEM)
    text = page.page(made, "noise")
    wanted = {exercise_of(line.operation) for line in made if line.function in ("backward", "weight_gradients")} - {None}
    assert len(wanted) >= 8
    assert set(re.findall(r"<code>vae-np exercise</code>, exercise <code>(\w+)</code>", text)) == wanted
