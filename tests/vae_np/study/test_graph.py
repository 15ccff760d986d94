"""The whole picture: its values, its norms and its links are those of the trace, and its boxes have room."""

import itertools
import pathlib
import re
from xml.etree import ElementTree

import numpy as np
import pytest

from tests.vae_np.study.kinds import KINDS, traced
from tests.vae_np.study.test_trace import changed
from vae_np.kernels import reference
from vae_np.study import graph, page, trace, typesetting

DOCS = pathlib.Path(__file__).parents[3] / "docs"


@pytest.fixture(params=KINDS)
def made(request):
    return request.param, traced(request.param)


def test_the_values_and_edges_are_those_of_the_model(made):
    kind, lines = made
    nodes, edges = graph.flow(lines)
    arch, objective = lines.p.architecture, KINDS[kind].objective
    encoder, decoder = ([f"{part}[{i}]" for i in range(1, len(arch.hidden) + 1)] for part in ("encoder", "decoder"))
    below, above = ["x", *encoder], ["z", *decoder]
    wanted = {*itertools.pairwise(below), (below[-1], "mu"), (below[-1], "logvar"), ("mu", "z"), ("logvar", "z"), ("eps", "z")}
    wanted |= {
        *itertools.pairwise(above),
        (above[-1], "output"),
        ("output", "nll"),
        ("x", "nll"),
        ("nll", "loss"),
        ("kl", "loss"),
    }
    wanted |= {("logvar", "kl")} | ({("mu", "kl")} if objective == "elbo" else {("z", "kl"), ("eps", "kl")})
    if arch.likelihood == "gaussian":
        wanted |= {("output_logvar", "nll")}
    if arch.noise == "heteroscedastic":
        wanted |= {(above[-1], "output_logvar")}
    assert {(edge.source, edge.target) for edge in edges} == wanted
    assert nodes.keys() == {name for edge in wanted for name in edge}


def test_the_norms_are_those_of_the_trace(made):
    _, lines = made
    nodes, edges = graph.flow(lines)
    last = {array.name: array for line in lines for array in line.writes}
    for name, node in nodes.items():
        if node.line is not None and name != "loss":
            assert node.norm == np.linalg.norm(last[name].value) and node.shape == last[name].value.shape
        if node.derivative:
            array = last[node.derivative]
            assert node.norms["all"] == np.linalg.norm(array.value)
            assert node.derivative in [array.name for array in lines[node.derivative_line].writes]
            for term in ("reconstruction", "kl"):
                assert node.norms[term] == np.linalg.norm(array.parts[term])
        for letter, norms in node.weights.items():
            (array,) = (array for array in lines[node.weights_line].writes if array.name.endswith(letter))
            assert norms["all"] == np.linalg.norm(array.value)
    of = {(edge.source, edge.target): edge for edge in edges}
    for name in ("mu", "logvar"):
        array = last[f"d{name}"]
        assert of[name, "z"].norms["all"] == pytest.approx(np.linalg.norm(array.parts["z"]))
        assert of[name, "z"].norms["z"] == pytest.approx(np.linalg.norm(array.parts["z"]))
        if (name, "kl") in of:
            assert of[name, "kl"].norms["all"] == pytest.approx(np.linalg.norm(array.parts["divergence"]))
            assert not of[name, "kl"].norms.get("z", 0.0)
    for name in ("dnll", "dkl", "doutput"):
        (edge,) = (edge for edge in edges if edge.source == name[1:])
        assert edge.norms["all"] == np.linalg.norm(last[name].value)
    top = (
        last[f"d{[*['x'], *[n for n in nodes if n.startswith('encoder')]][-1]}"].value if lines.p.architecture.hidden else None
    )
    if top is not None:
        by_layer = [last[f"d{head}"].value @ lines.p[f"{head}.W"].T for head in ("mu", "logvar")]
        heads = [edge.norms["all"] for edge in edges if edge.source.startswith("encoder") and edge.target in ("mu", "logvar")]
        assert heads == pytest.approx(list(map(np.linalg.norm, by_layer)))


@pytest.mark.parametrize("upright", (False, True), ids=("wide", "upright"))
def test_boxes_stand_apart_and_every_link_says_where_it_leads(made, upright):
    _, lines = made
    root = ElementTree.fromstring(graph.svg(lines, upright).replace(" hidden", ""))
    x, y, width, height = map(float, root.get("viewBox").split())
    boxes = [tuple(float(box.get(key)) for key in ("x", "y", "width", "height")) for box in root.iter("rect")]
    for a, b in itertools.combinations(boxes, 2):
        assert any(a[i] + a[i + 2] <= b[i] or b[i] + b[i + 2] <= a[i] for i in (0, 1)), (a, b)
    for box in boxes:
        assert x <= box[0] and box[0] + box[2] <= x + width and y <= box[1] and box[1] + box[3] <= y + height
    nodes, edges = graph.flow(lines)
    links = list(root.iter("a"))
    for link in links:
        line = lines[int(link.get("href")[2:])]
        assert link[0].tag == "title" and link[0].text.endswith(f": {line.function}, line {line.number}")
    wanted = [node for node in nodes.values() for i in (node.line, node.derivative_line, node.weights_line) if i is not None]
    assert len(links) == len(wanted) + sum(edge.line is not None for edge in edges)
    assert root[0].tag == "title" and root[1].tag == "desc" and len(root[1].text) > 80
    widths = {float(path.get("stroke-width")) for path in root.iter("path") if path.get("stroke-width")}
    assert max(widths) == graph.WIDEST and len(widths) > 5


@pytest.mark.parametrize("kind", (*KINDS, "score"))
def test_it_says_by_which_paths_the_gradient_comes_to_mu_and_logvar(kind):
    lines = trace(*KINDS["linear"], elements=1, estimator="score") if kind == "score" else traced(kind)
    text, edges = graph.graph(lines, ""), {(edge.source, edge.target): edge.norms for edge in graph.flow(lines)[1]}
    comes = {end for end, norms in edges.items() if end[0] in ("mu", "logvar") and norms and norms["all"] > graph.SMALLEST}
    if not lines.arguments["beta"]:  # both paths are there, and one of them carries nothing
        assert "forks" in text
        return
    assert ("forks" in text) == (comes == {("mu", "z"), ("mu", "kl"), ("logvar", "z"), ("logvar", "kl")})
    assert ("comes directly to log σ²" in text) == (comes == {("mu", "z"), ("logvar", "z"), ("logvar", "kl")})
    assert ("sends nothing back through the sample" in text) == (comes == {("logvar", "kl")})
    assert ("a band is grey" in text) == (kind == "score")


def test_the_width_of_a_band_is_its_norm():
    lines = traced("closed")
    (widest,) = {max(max(edge.norms.values()) for edge in graph.flow(lines)[1] if edge.norms)}
    svg = graph.svg(lines, False)
    for edge in graph.flow(lines)[1]:
        if edge.source in ("nll", "output"):
            norm = edge.norms["reconstruction"]
            wanted = graph.NARROWEST + (graph.WIDEST - graph.NARROWEST) * norm / widest
            shown = re.search(rf"to {typesetting.plain_name(edge.source)}, norm [^<]*<.*?stroke-width=\"([\d.]+)\"", svg)[1]
            assert float(shown) == pytest.approx(wanted, abs=0.05)


def test_a_wrong_line_is_marked():
    planted, _ = changed(reference.gaussian_kl_backward, "np.expm1(logvar) / 2", "np.expm1(logvar)")
    nodes, edges = graph.flow(trace(*KINDS["closed"], elements=1, gaussian_kl_backward=planted))
    assert {name for name, node in nodes.items() if node.wrong} == {"mu", "logvar"}
    assert {edge.source for edge in edges if edge.wrong} == {"mu", "logvar"}
    assert {edge.target for edge in edges if edge.wrong} == {"kl"}


def test_the_picture_of_the_readme_is_drawn_by_this_code(tmp_path):
    shown = (DOCS / "graph.svg").read_text()
    ElementTree.fromstring(shown)
    page.write(tmp_path / "graph.svg", traced("closed"), "noise")
    drawn = (tmp_path / "graph.svg").read_text()

    def plan(text):
        """All but the numbers, which come from a training."""
        return re.sub(r"[-−]?\d+\.?\d*(?:e[-+−]?\d+)?", "#", re.sub(r"<style>.*?</style>", "", text))

    assert plan(shown) == plan(drawn)
    (style,) = re.findall(r"<style>.*?</style>", shown)
    assert style in drawn and "prefers-color-scheme: dark" in style and "var(" not in style
