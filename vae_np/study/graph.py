"""The whole picture: the graph of the model as SVG, in which the values run forward and the gradients flow back."""

import html
import itertools
import math
import pathlib
import re
from typing import NamedTuple

import numpy as np

from vae_np.choices import ESTIMATORS, OBJECTIVES
from vae_np.study import formulas
from vae_np.study.lines import Line, Lines
from vae_np.study.paths import GRADIENTS, PATHS, TERMS, forward_lines, paths_of
from vae_np.study.typesetting import plain_name

FILES = pathlib.Path(__file__).parent
WIDTH, HEIGHT, ROW = 100, 74, 17  # of a box, and from one of its rows to the next
ARROW = 12  # the room of an arrow forward
PILL = 46, 26  # the size of an input that stands beside the box that reads it
WIDEST, NARROWEST = 16.0, 1.2  # of a band
SMALLEST = 1e-12  # a part of a gradient with a smaller norm is not drawn


class Node(NamedTuple):
    """A value of the model, with the lines that compute it and its derivative. A norm is None where there is no such array."""

    name: str
    shape: tuple[int, ...]
    norm: float  # of the loss, its mean
    line: int | None  # that computes it; None for an input
    derivative: str = ""  # its name; that of a hidden layer's sum y, where there is one
    derivative_line: int | None = None  # that completes it
    norms: dict[str, float] = {}  # {path: norm of the part of the derivative}
    weights: dict[str, dict[str, float]] = {}  # {"W" or "b": the same of the derivative of the layer's parameter}
    weights_line: int | None = None
    wrong: bool = False


class Edge(NamedTuple):
    """From a value to one that is computed from it, with what flows back along this edge."""

    source: str
    target: str
    line: int | None  # of the backward pass; None where no derivative flows
    norms: dict[str, float]  # {path: norm of what flows back}
    wrong: bool = False


def graph(trace: Lines, menu: str) -> str:
    """The HTML of this part: the picture, once from left to right and once from top to bottom for a narrow window.

    `menu` is the choice of a path, as HTML.
    """
    edges = [edge for edge in flow(trace)[1] if edge.norms]
    widest = max(edge.norms["all"] for edge in edges)
    mixed = any(edge.norms["all"] > SMALLEST and not TERMS.keys() & edge.norms.keys() for edge in edges)
    grey = " Where the estimator mixes the two, a band is grey." if mixed else ""
    return f"""<p>Thin arrows lead forward, from the example x to the loss. The bands are the gradients, which flow back.</p>
<figure class="graph wide scroll">{svg(trace, False)}</figure><figure class="graph upright">{svg(trace, True)}</figure>
<p>Each box is a value of the model. It shows the shape and the norm of the value, the norm of its derivative, and the norms of the
derivatives of the layer's weights W and biases b. For a hidden layer the derivative is that of its sum y, before the activation. Click a
value, a derivative or a band to go to the line that computes it.</p>
<p>The wider a band, the larger its norm; the widest band in the picture has the norm {_digits(widest)}.
<i class="colour" style="background: var(--reconstruction)"></i>Teal bands come from the reconstruction, and
<i class="colour" style="background: var(--kl)"></i>purple bands come from the KL.{grey} {_arrival(trace, edges)} Where two parts meet, the norm of their sum may be smaller than each of their norms, because their numbers may have opposite signs. The L2 term acts on the weights directly, and so it has no band.</p>{menu}"""


def _arrival(trace, edges):
    """By which paths the gradient comes to mu and logvar, in words."""
    objective, L = trace.arguments["objective"], len(trace.a.eps)
    samples = f"the sample{'s' * (L > 1)} z"
    if "bound_backward" in ESTIMATORS[trace.arguments["estimator"]].operations[objective]:
        return (
            f"This estimator sends nothing back through {samples}. Instead μ and log σ² receive the score of q, times dkl; "
            "the picture has no band for what μ receives."
        )
    if OBJECTIVES[objective].sampled:
        direct = any((edge.source, edge.target) == ("logvar", "kl") and edge.norms["all"] > SMALLEST for edge in edges)
        return f"The KL is estimated from {samples}, so its gradient comes back through z." + (
            " Another part of it comes directly to log σ²." if direct else ""
        )
    return f"At μ and log σ² the gradient forks: one path leads through {samples}, and one comes directly from the KL."


def image(trace: Lines) -> str:
    """The picture as a file of its own, in the colours of the page, light or dark as the reader's system is."""
    page, own = ((FILES / name).read_text(encoding="utf-8") for name in ("page.css", "graph.css"))
    found = re.findall(r"--([\w-]+): light-dark\((#\w+), (#\w+)\);", page)

    def painted(which):
        colours = {name: pair[which] for name, *pair in found}
        rules = re.sub(r"var\(--([\w-]+)\)", lambda name: colours[name[1]], own.split("\n\n")[0])
        rules = " ".join(rules.replace(".study .graph ", "").split())
        return f"{rules} svg {{ background: {colours['paper']}; font-family: Georgia, 'Times New Roman', serif; }}"

    text = re.sub(r"<g data-path=\"\w+\" hidden>.*?</g>", "", svg(trace, False))
    text = re.sub(r"<a [^>]*>", "<g>", text).replace("</a>", "</g>").replace('role="group"', 'role="img"')
    text = re.sub(r' (?:data-\w+|style)="[^"]*"', "", text)
    style = f"<style>{painted(0)} @media (prefers-color-scheme: dark) {{ {painted(1)} }}</style>"
    return text.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1).replace("</desc>", f"</desc>{style}", 1) + "\n"


# ------------------------------------------------------------------------------------------------- what the trace knows


def flow(trace: Lines) -> tuple[dict[str, Node], list[Edge]]:
    """The values from which the loss follows, by their names, and the edges between them."""
    made, reads = _followed(trace)
    values = {"x": trace.a.x, "eps": trace.a.eps}
    for line in trace:
        for array in line.writes:
            values.setdefault(array.name, array.value)
    nodes = {}
    for name in (name for name in ("x", "eps", *made) if name in reads):
        norm = values[name].mean() if name == "loss" else np.linalg.norm(values[name])
        nodes[name] = Node(name, values[name].shape, float(norm), made.get(name))
    edges = {(source, name): Edge(source, name, None, {}) for name in nodes for source in reads[name]}
    for j, array, norms, change in _flowing(trace):
        line, name = trace[j], array.name.removeprefix("d").removesuffix(".y")
        targets = [node for node in nodes if made.get(node) in line.differentiates]
        if line.function == GRADIENTS:
            layer, letter = name.rsplit(".", 1)
            for node in targets if _learned(trace, layer, letter) else ():
                weights, wrong = {**nodes[node].weights, letter: norms}, nodes[node].wrong or line.wrong
                nodes[node] = nodes[node]._replace(weights=weights, weights_line=j, wrong=wrong)
            continue
        if name in nodes and (change["all"] or not nodes[name].derivative):
            wrong = nodes[name].wrong or line.wrong
            nodes[name] = nodes[name]._replace(derivative=array.name, derivative_line=j, norms=norms, wrong=wrong)
        for edge in ((name, target) for target in targets if not array.name.endswith(".y")):
            if edge in edges:
                edges[edge] = Edge(*edge, j, change, line.wrong)
    return nodes, list(edges.values())


def _followed(trace):
    """{value: the line that computes it} and {value: the values from which it follows}, for the values on which the loss depends."""
    made, reads = {}, {}
    for i in forward_lines(trace):
        if trace[i].called and not trace[i].composite:
            for array in trace[i].writes:
                made[array.name], reads[array.name] = i, _read(trace[i])
    kept, new = set(), {"loss"}
    while new:
        kept |= new
        new = {source for name in new for source in reads.get(name, ())} - kept
    return {name: made[name] for name in made if name in kept}, {name: reads.get(name, []) for name in kept}


def _flowing(trace):
    """(line, array, norms of its parts, norms of the parts that the line adds) of each derivative that a line writes."""
    before: dict[str, dict] = {}
    fork = next((i for i, line in enumerate(trace) if line.called == "reparameterize"), -1)
    for j, (line, paths) in enumerate(zip(trace, paths_of(trace))):
        below = max(line.differentiates, default=fork + 1) <= fork  # where the two paths into mu and logvar have met
        for array in line.writes:
            if array.error is None:
                continue
            known = {"all": array.value, **array.parts}
            parts = {path: part for path, part in known.items() if below or path in TERMS or path in paths}
            old = before.get(array.name, {})
            before[array.name] = parts
            change = {path: float(np.linalg.norm(part - old.get(path, 0.0))) for path, part in parts.items()}
            yield j, array, {path: float(np.linalg.norm(part)) for path, part in parts.items()}, change


def _read(line: Line):
    """The arrays on which the result of a line depends; an operation may have arguments that it does not read."""
    equations = formulas.equations(line)
    known = set(line.reads)
    named = set().union(*(_names(equation[-1]) for equation in equations)) & known if equations else known
    return [name for name in line.reads if name in named and not re.search(r"\.[Wb]$", name)]


def _names(tree):
    if isinstance(tree, str):
        return set()
    return {tree[1]} if tree[0] == "name" else set().union(*map(_names, tree[1:]))


def _learned(trace, layer, letter):
    """Whether a parameter of the model is behind a layer's W or b: a layer may be a constant."""
    name = f"{layer.replace('[', '.').replace(']', '')}.{letter}"
    return name in trace.p or (name == "output_logvar.b" and "noise.logvar" in trace.p)


# -------------------------------------------------------------------------------------------------------------- drawing


class _Layout(NamedTuple):
    """Where the boxes stand. The first coordinate runs along the forward pass, and the second runs across it."""

    upright: bool
    boxes: dict[str, tuple[float, float]]  # {value: its centre}
    pills: list[tuple[str, str, float, float]]  # (input, the value that reads it, its centre)
    size: tuple[float, float]  # of a box, along and across
    gaps: dict[float, float]  # {the centre of a column: how far the next one is from its end}
    edges: list[Edge]  # between boxes
    widest: float  # the largest norm of what flows back along an edge

    def point(self, along: float, across: float) -> str:
        """A point as a path of SVG has it."""
        x, y = (across, along) if self.upright else (along, across)
        return f"{x:.1f} {y:.1f}".replace(".0 ", " ").removesuffix(".0")

    def width(self, norm: float) -> float:
        """The width of a band."""
        return NARROWEST + (WIDEST - NARROWEST) * norm / self.widest if math.isfinite(norm) else WIDEST

    def room(self, edge: Edge) -> float:
        """How much of a face of a box an edge takes: its arrow, and its bands."""
        return ARROW + sum(self.width(norm) + 2 for _, norm in _bands(edge).get("all", ()))

    def port(self, box: str, edge: Edge) -> float:
        """Where on the face of a box an edge begins to take its room. Edges stand there in the order of their other ends."""
        leaving = edge.source == box
        at_face = [other for other in self.edges if (other.source if leaving else other.target) == box]
        at_face.sort(key=lambda other: self.boxes[other.target if leaving else other.source][1])
        before = at_face[: at_face.index(edge)]
        return self.boxes[box][1] - sum(map(self.room, at_face)) / 2 + sum(map(self.room, before))


def _layout(nodes, edges, upright):
    size, pill = ((HEIGHT, WIDTH), PILL) if upright else ((WIDTH, HEIGHT), PILL[::-1])
    inputs = {name for name, node in nodes.items() if node.line is None}
    start = next(iter(nodes))
    pairs = [(edge.source, edge.target) for edge in edges]
    computed = {target for source, target in pairs if source not in inputs}
    beside = [(source, target) for source, target in pairs if source in inputs and (source != start or target in computed)]
    chain = [pair for pair in pairs if pair not in beside]

    def distance(name):
        return max((1 + distance(target) for source, target in chain if source == name), default=0)

    columns: dict[int, list[str]] = {}
    for name in nodes:
        if name not in inputs or name == start:
            columns.setdefault(distance(name), []).append(name)
    outer = {
        target for source, target in chain if distance(source) - distance(target) > 1 and len(columns[distance(target)]) > 1
    }
    spread, lane = (56, 172) if upright else (49, 128)
    boxes, gaps, along = {}, {}, size[0] / 2 + 2
    inside = {column: [name for name in names if name not in outer] for column, names in columns.items()}
    for column in sorted(columns, reverse=True):
        inner = inside[column]
        for k, name in enumerate(inner):
            boxes[name] = along, spread * (2 * k - len(inner) + 1)
        boxes |= {name: (along, float(lane)) for name in columns[column] if name in outer}
        joins = len(inside.get(column - 1, ())) > 1 or any(source in inner and target in outer for source, target in chain)
        gaps[along] = 84 if len(inner) > 1 else 56 if joins and column > 1 else 24
        along += size[0] + gaps[along]
    pills = [
        (source, target, boxes[target][0], boxes[target][1] - (size[1] + pill[1]) / 2 - 14)
        for source, target in beside
        if target in boxes
    ]
    drawn = [edge for edge in edges if (edge.source, edge.target) in chain and edge.source in boxes and edge.target in boxes]
    norms = [norm for edge in drawn for norm in edge.norms.values() if math.isfinite(norm)]
    return _Layout(upright, boxes, pills, size, gaps, drawn, max(norms, default=0.0) or 1.0)


def svg(trace: Lines, upright: bool) -> str:
    """The picture; upright, it runs from top to bottom."""
    nodes, edges = flow(trace)
    layout = _layout(nodes, edges, upright)
    body = "".join(itertools.chain(_edges(trace, layout), _pills(layout), _boxes(trace, layout, nodes)))
    half, pill = layout.size[1] / 2, (PILL[0] if upright else PILL[1]) / 2
    low = min(*(across - half for _, across in layout.boxes.values()), *(across - pill for *_, across in layout.pills)) - 3
    high = max(across for _, across in layout.boxes.values()) + half + 3
    end = max(along for along, _ in layout.boxes.values()) + layout.size[0] / 2 + 2
    x, y, width, height = (low, 0, high - low, end) if upright else (0, low, end, high - low)
    words = (
        "Arrows lead from the example x to the loss. Bands lead back: they are the gradients, and their width is their norm. "
        + "At mu and logvar the gradient forks into the path through z and the path through the KL."
        * (not OBJECTIVES[trace.arguments["objective"]].sampled)
    )
    return (
        f'<svg role="group" aria-label="The graph of the model" viewBox="{x:g} {y:g} {width:g} {height:g}" width="{width:g}" '
        f'style="min-width: {0.8 * width:.0f}px"><title>The graph of the model</title><desc>{words}</desc>{body}</svg>'
    )


def _boxes(trace, layout, nodes):
    for name, (along, across) in layout.boxes.items():
        node = nodes[name]
        x, y = map(float, layout.point(along, across).split())
        left, right, top = x - WIDTH / 2 + 5, x + WIDTH / 2 - 5, y - HEIGHT / 2
        baselines = itertools.count(y - ROW * (2 + bool(node.derivative) + bool(node.weights)) / 2 + 13, ROW)
        math_name, shape = plain_name(name), " × ".join(map(str, node.shape))
        yield f'<rect class="{"box wrong" if node.wrong else "box"}" x="{x - WIDTH / 2:g}" y="{top:g}" width="{WIDTH}" height="{HEIGHT}" rx="5"/>'
        first, second = next(baselines), next(baselines)
        kind = "mean" if name == "loss" else "norm"
        value = (
            _text(left, first, math_name.replace("_x", "ₓ"), "symbol long" if len(math_name) > 7 else "symbol")
            + _text(right, first, shape.replace(" ", ""), "end")
            + _text(left, second, kind, "quiet")
            + _text(right, second, _digits(node.norm), "end")
        )
        words = f"{math_name}, shape {shape}, {kind} {_digits(node.norm)}"
        yield _link(trace, node.line, words, value) if node.line is not None else f"<g><title>{words}</title>{value}</g>"
        if node.derivative:
            below, derivative = next(baselines), plain_name(node.derivative)
            label = "dy" if node.derivative.endswith(".y") else derivative.replace("_x", "ₓ")
            row = _text(left, below, label, "symbol long" if len(label) > 9 else "symbol")
            row += _text(right, below, "", "end", node.norms)
            yield _link(trace, node.derivative_line, f"{derivative}, norm {_digits(node.norms['all'])} for the whole loss", row)
        if node.weights:
            below = next(baselines)
            texts, places = [], ((left, ""), (right, "end"))
            for (letter, norms), (place, anchor) in zip(node.weights.items(), places if len(node.weights) > 1 else places[1:]):
                texts.append(_text(place, below, "", f"{anchor} small".strip(), norms, f"d{letter} ", _few_digits))
            words = " and ".join(f"d{letter}, norm {_digits(norms['all'])}" for letter, norms in node.weights.items())
            yield _link(
                trace, node.weights_line, f"{words} for the whole loss, of the layer that computes {math_name}", "".join(texts)
            )


def _pills(layout):
    for name, target, along, across in layout.pills:
        x, y = map(float, layout.point(along, across).split())
        edge = layout.boxes[target][1] - layout.size[1] / 2
        arrow = f"M{layout.point(along, across)}L{layout.point(along, edge - 5)}"
        tip = "M{}L{}L{}Z".format(*(layout.point(along + side, edge - back) for side, back in ((0, 0), (-4, 7), (4, 7))))
        yield (
            f'<path class="forward" d="{arrow}"/><path class="tip" d="{tip}"/>'
            f'<rect class="box" x="{x - PILL[0] / 2:g}" y="{y - PILL[1] / 2:g}" width="{PILL[0]}" height="{PILL[1]}" rx="13"/>'
            + _text(x, y + 5, plain_name(name), "symbol middle")
        )


def _edges(trace, layout):
    """The arrow forward of each edge, and the bands of what flows back along it. Those of a path that is not chosen are hidden."""
    for edge in layout.edges:
        (a0, _), (a1, _) = layout.boxes[edge.source], layout.boxes[edge.target]
        a0, a1, c0, c1 = a0 + layout.size[0] / 2, a1 - layout.size[0] / 2, *_ports(layout, edge)
        arrow = ARROW / 2 - 1
        yield f'<path class="forward" d="{_curve(layout, edge, arrow, 0, 5)}"/>{_tip(layout, "tip", a1, c1 + arrow, 4, -7)}'
        if edge.line is None:
            continue
        groups = ""
        for path, bands in _bands(edge).items():
            offset, shapes = ARROW, ""
            for term, norm in bands:
                width, kind = layout.width(norm), f"band {term}".strip()
                curve = _curve(layout, edge, offset + width / 2, 7, 0)
                shapes += f'<path class="{kind}" stroke-width="{width:.1f}" d="{curve}"/>'
                shapes += _tip(layout, f"{kind} tip", a0, c0 + offset + width / 2, width / 2 + 3, 8)
                offset += width + 2
            if shapes:
                groups += f'<g data-path="{path}"{" hidden" * (path != "all")}>{shapes}</g>'
        hit = f'<path class="hit" d="{_curve(layout, edge, (ARROW + layout.room(edge)) / 2, 0, 0)}"/>'
        ends = f"what flows back from {plain_name(edge.target)} to {plain_name(edge.source)}"
        siblings = [
            _ports(layout, other)[0] for other in layout.edges if other.source == edge.source and other.line is not None
        ]
        label = _label(layout, a0 + 5, c0, edge, c0 == min(siblings)) if len(siblings) > 1 else ""
        words = f"{ends}, norm {_digits(edge.norms['all'])} for the whole loss"
        yield _link(trace, edge.line, words, hit + groups + label, "flow wrong" if edge.wrong else "flow")


def _bands(edge):
    """{path: the bands that are drawn if it is chosen, each the term that colours it and its norm}; a term has its bands in "all"."""
    if not edge.norms:
        return {}
    bands = {path: [("", edge.norms.get(path, 0.0))] for path in PATHS if path not in TERMS}
    bands["all"] = [(term, edge.norms[term]) for term in TERMS if term in edge.norms] or bands["all"]
    return {path: [(term, norm) for term, norm in of if not norm <= SMALLEST] for path, of in bands.items()}


def _ports(layout, edge):
    return layout.port(edge.source, edge), layout.port(edge.target, edge)


def _curve(layout, edge, offset, start, stop):
    """A path along an edge, that far from its ports; it begins and ends that far from the boxes. It bends beside the source."""
    (a0, _), (a1, _) = layout.boxes[edge.source], layout.boxes[edge.target]
    c0, c1 = (port + offset for port in _ports(layout, edge))
    gap, a0, a1 = layout.gaps[a0], a0 + layout.size[0] / 2, a1 - layout.size[0] / 2 - stop
    middle, bent = a0 + gap / 2, min(a0 + gap, a1)
    begin, *bend = (layout.point(*at) for at in ((a0 + start, c0), (middle, c0), (middle, c1), (bent, c1)))
    rest = f"L{layout.point(a1, c1)}" if bent < a1 else ""
    return f"M{begin}C{' '.join(bend)}{rest}"


def _tip(layout, kind, along, across, half, length):
    """The tip of an arrow; it points back if its length is positive."""
    points = (along, across), (along + length, across - half), (along + length, across + half)
    return f'<path class="{kind}" d="M{"L".join(layout.point(*at) for at in points)}Z"/>'


def _label(layout, along, across, edge, before):
    """The norm of what flows along an edge, before or after its bands."""
    after = across + layout.room(edge)
    if layout.upright:
        return _text(
            *((across + 1, along + 8, "", "end small label") if before else (after + 3, along + 8, "", "small label")),
            edge.norms,
        )
    return _text(along, across if before else after + 13, "", "small label", edge.norms)


def _digits(value):
    """A number with three digits."""
    return f"{float(f'{value:.3g}'):g}".replace("-", "−")


def _few_digits(value):
    """A number with two digits, or with one where two would be too wide: two such numbers stand side by side in a box."""
    power = "e".join(str(int(part)) for part in f"{value:.0e}".split("e")) if math.isfinite(value) else str(value)
    texts = [*(f"{float(f'{value:.{n}g}'):g}" for n in (2, 1)), power]
    return next((text for text in texts if 2 * len(text) - text.count(".") <= 8 and "+" not in text), power).replace("-", "−")


def _text(x, y, words, kind="", norms=None, before="", digits=_digits):
    """A text; with norms, it is the norm of the chosen path, for each of which the attribute data-norms holds a text."""
    following = ""
    if norms:
        texts = [before + digits(norms.get(path, 0.0)) for path in PATHS]
        words, following = texts[0], f' data-norms="{"|".join(texts)}"'
    return f'<text class="{kind}" x="{x:g}" y="{y:g}"{following}>{html.escape(words)}</text>'


def _link(trace, i, words, content, kind=""):
    where = f"{trace[i].function}, line {trace[i].number}"
    attribute = f' class="{kind}"' if kind else ""
    return f'<a href="#l{i}"{attribute}><title>{html.escape(words)}: {where}</title>{content}</a>'
