"""The whole picture: the graph of the model as SVG, in which the values run forward and the gradients flow back."""

import html
import itertools
import math
import pathlib
import re
from typing import NamedTuple

import numpy as np

from vae_np.study import formulas, typesetting
from vae_np.study.lines import Line, Lines
from vae_np.study.paths import GRADIENTS, PATHS, TERMS, forward_lines, paths_of

FILES = pathlib.Path(__file__).parent
WIDTH, HEIGHT, ROW = 100, 74, 17  # of a box, and from one of its rows to the next
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
    L = trace.a.eps.shape[0]
    widest = max(edge.norms["all"] for edge in flow(trace)[1] if edge.norms)
    return f"""<p>Thin arrows lead forward, from the example x to the loss. The bands are the gradients, which flow back.</p>
<figure class="graph wide scroll">{svg(trace, False)}</figure><figure class="graph upright">{svg(trace, True)}</figure>
<p>Each box is a value of the model. It shows the shape and the norm of the value, the norm of its derivative, and the norms of the
derivatives of the layer's weights W and biases b. For a hidden layer the derivative is that of its sum y, before the activation. Click a
value, a derivative or a band to go to the line that computes it.</p>
<p>The wider a band, the larger its norm; the widest band in the picture has the norm {_digits(widest)}.
<i class="colour" style="background: var(--reconstruction)"></i>Teal bands come from the reconstruction, and
<i class="colour" style="background: var(--kl)"></i>purple bands come from the KL. At μ and log σ² the gradient forks: one path leads through the
sample{"s" * (L > 1)} z, and one comes directly from the KL. Where two parts meet, the norm of their sum
may be smaller than each of their norms, because their numbers may have opposite signs.</p>{menu}"""


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
    made, reads = {}, {}  # {value: the line that computes it}, {value: the values from which it follows}
    values = {"x": trace.a.x, "eps": trace.a.eps}
    for i in forward_lines(trace):
        line = trace[i]
        if line.called and not line.composite:
            for array in line.writes:
                name = array.name.removesuffix(".y")
                made[name], reads[name] = i, _read(line)
                values.setdefault(array.name, array.value)
    kept, new = set(), {"loss"}
    while new:
        kept |= new
        new = {source for name in new for source in reads.get(name, ())} - kept
    order = [name for name in (*values, *made) if name in kept]

    nodes = {}
    for name in dict.fromkeys(order):
        value = values[name]
        norm = float(value.mean() if name == "loss" else np.linalg.norm(value))
        nodes[name] = Node(name, value.shape, norm, made.get(name))
    edges = {(source, name): Edge(source, name, None, {}) for name in nodes for source in reads.get(name, ())}
    before: dict[str, dict] = {}  # {derivative: its parts}
    fork = next((i for i in made.values() if trace[i].called == "reparameterize"), -1)
    for j, (line, paths) in enumerate(zip(trace, paths_of(trace))):
        for array in line.writes:
            if array.error is None:
                continue
            name = array.name.removeprefix("d").removesuffix(".y")
            below = max(line.differentiates, default=fork + 1) <= fork  # where the two paths into mu and logvar have met
            parts = {
                path: part
                for path, part in {"all": array.value, **array.parts}.items()
                if below or path in TERMS or path in paths
            }
            norms = {path: float(np.linalg.norm(part)) for path, part in parts.items()}
            if line.function == GRADIENTS:
                layer, letter = name.rsplit(".", 1)
                of_layer = [node for node in nodes if made.get(node) in line.differentiates]
                for node in of_layer if _learned(trace, layer, letter) else ():
                    nodes[node] = nodes[node]._replace(
                        weights={**nodes[node].weights, letter: norms},
                        weights_line=j,
                        wrong=nodes[node].wrong or line.wrong,
                    )
                continue
            old = before.get(array.name, {})
            change = {path: float(np.linalg.norm(part - old.get(path, 0.0))) for path, part in parts.items()}
            before[array.name] = parts
            if name in nodes and (change["all"] > 0 or not old):
                nodes[name] = nodes[name]._replace(derivative=array.name, derivative_line=j, norms=norms)
                nodes[name] = nodes[name]._replace(wrong=nodes[name].wrong or line.wrong)
            if array.name.endswith(".y"):
                continue
            for target in nodes:
                if made.get(target) in line.differentiates and (name, target) in edges:
                    edges[name, target] = Edge(name, target, j, change, line.wrong)
    return nodes, list(edges.values())


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
    gaps: dict[float, float]  # {where a column begins: how far the next one is from its end}

    def point(self, along: float, across: float) -> str:
        """A point as a path of SVG has it."""
        x, y = (across, along) if self.upright else (along, across)
        return f"{x:.1f} {y:.1f}".replace(".0 ", " ").removesuffix(".0")


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
    return _Layout(upright, boxes, pills, size, gaps)


def svg(trace: Lines, upright: bool) -> str:
    """The picture; upright, it runs from top to bottom."""
    nodes, edges = flow(trace)
    layout = _layout(nodes, edges, upright)
    widest = max((norm for edge in edges for norm in edge.norms.values() if math.isfinite(norm)), default=0.0) or 1.0
    body = "".join(itertools.chain(_bands(trace, layout, edges, widest), _pills(layout), _boxes(trace, layout, nodes)))
    half, pill = layout.size[1] / 2, (PILL[0] if upright else PILL[1]) / 2
    low = min(*(across - half for _, across in layout.boxes.values()), *(across - pill for *_, across in layout.pills)) - 3
    high = max(across for _, across in layout.boxes.values()) + half + 3
    end = max(along for along, _ in layout.boxes.values()) + layout.size[0] / 2 + 2
    x, y, width, height = (low, 0, high - low, end) if upright else (0, low, end, high - low)
    words = (
        "Arrows lead from the example x to the loss. Bands lead back: they are the gradients, and their width is their norm. "
        "At mu and logvar the gradient forks into the path through z and the path through the KL."
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
        math_name, shape = _plain(name), " × ".join(map(str, node.shape))
        yield f'<rect class="{"box wrong" if node.wrong else "box"}" x="{x - WIDTH / 2:g}" y="{top:g}" width="{WIDTH}" height="{HEIGHT}" rx="5"/>'
        first, second = next(baselines), next(baselines)
        kind = "mean" if name == "loss" else "norm"
        value = (
            _text(left, first, math_name, "symbol")
            + _text(right, first, shape.replace(" ", ""), "end")
            + _text(left, second, kind, "quiet")
            + _text(right, second, _digits(node.norm), "end")
        )
        words = f"{math_name}, shape {shape}, {kind} {_digits(node.norm)}"
        yield _link(trace, node.line, words, value) if node.line is not None else f"<g><title>{words}</title>{value}</g>"
        if node.derivative:
            below, derivative = next(baselines), _plain(node.derivative)
            label = "dy" if node.derivative.endswith(".y") else derivative
            row = _text(left, below, label, "symbol long" if len(label) > 9 else "symbol") + _text(
                right, below, "", "end", node.norms
            )
            yield _link(trace, node.derivative_line, f"{derivative}, norm {_digits(node.norms['all'])} for the whole loss", row)
        if node.weights:
            below = next(baselines)
            texts, places = [], ((left, ""), (right, "end"))
            for (letter, norms), (place, anchor) in zip(node.weights.items(), places if len(node.weights) > 1 else places[1:]):
                texts.append(_text(place, below, "", f"{anchor} small".strip(), norms, f"d{letter} ", 2))
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
            + _text(x, y + 5, _plain(name), "symbol middle")
        )


def _bands(trace, layout, edges, widest):
    """The forward arrow of each edge, and the bands of what flows back along it; those of the paths that are not chosen are hidden."""

    def width(norm):
        return NARROWEST + (WIDEST - NARROWEST) * norm / widest if math.isfinite(norm) else WIDEST

    def bands_of(edge):
        """{path: the bands that are drawn if it is chosen, each the term that colours it and its norm}; a term shows its own of all."""
        bands = {path: [("", edge.norms.get(path, 0.0))] for path in PATHS if path not in TERMS}
        bands["all"] = [(term, edge.norms[term]) for term in TERMS if term in edge.norms] or bands["all"]
        return {path: [(term, norm) for term, norm in of if not norm <= SMALLEST] for path, of in bands.items() if edge.norms}

    drawn = [edge for edge in edges if edge.source in layout.boxes and edge.target in layout.boxes]
    pills = {(source, target) for source, target, *_ in layout.pills}
    drawn = [edge for edge in drawn if (edge.source, edge.target) not in pills]
    sizes = {_key(edge): 12 + sum(width(norm) + 2 for _, norm in bands_of(edge).get("all", ())) for edge in drawn}
    ports = {}
    for box, (_, across) in layout.boxes.items():
        for end, other in (("source", "target"), ("target", "source")):
            at_face = sorted((e for e in drawn if getattr(e, end) == box), key=lambda e: layout.boxes[getattr(e, other)][1])
            place = across - sum(sizes[_key(e)] for e in at_face) / 2
            for edge in at_face:
                ports[end, _key(edge)] = place
                place += sizes[_key(edge)]
    for edge in drawn:
        key = _key(edge)
        (a0, _), (a1, _) = layout.boxes[edge.source], layout.boxes[edge.target]
        gap = layout.gaps[a0]
        a0, a1 = a0 + layout.size[0] / 2, a1 - layout.size[0] / 2
        c0, c1 = ports["source", key], ports["target", key]

        def curve(offset, start, stop, a0=a0, a1=a1, c0=c0, c1=c1, gap=gap):
            middle, turned, P = a0 + gap / 2, min(a0 + gap, a1 - stop), layout.point
            rest = f"L{P(a1 - stop, c1 + offset)}" if turned < a1 - stop else ""
            first = f"M{P(a0, c0 + offset)}L{P(a0 + start, c0 + offset)}" if not start else f"M{P(a0 + start, c0 + offset)}"
            return f"{first}C{P(middle, c0 + offset)} {P(middle, c1 + offset)} {P(turned, c1 + offset)}{rest}"

        def head(along, across, half, length):
            return f"M{layout.point(along, across)}L{layout.point(along - length, across - half)}L{layout.point(along - length, across + half)}Z"

        yield f'<path class="forward" d="{curve(5, 0, 5)}"/><path class="tip" d="{head(a1, c1 + 5, 4, 7)}"/>'
        if edge.line is None:
            continue
        bands = bands_of(edge)
        groups = ""
        for path, of in bands.items():
            offset, shapes = 12.0, ""
            for term, norm in of:
                w = width(norm)
                kind = f"band {term}".strip()
                shapes += (
                    f'<path class="{kind}" stroke-width="{w:.1f}" d="{curve(offset + w / 2, 7, 0)}"/>'
                    f'<path class="{kind} tip" d="{head(a0, c0 + offset + w / 2, w / 2 + 3, -8)}"/>'
                )
                offset += w + 2
            if shapes:
                groups += f'<g data-path="{path}"{" hidden" * (path != "all")}>{shapes}</g>'
        hit = f'<path class="hit" d="{curve((12 + sizes[key]) / 2, 0, 0)}"/>'
        words = f"what flows back from {_plain(edge.target)} to {_plain(edge.source)}, norm {_digits(edge.norms['all'])} for the whole loss"
        label = ""
        siblings = [other for other in drawn if other.source == edge.source and other.line is not None]
        if len(siblings) > 1:
            before = ports["source", key] == min(ports["source", _key(other)] for other in siblings)
            label = _label(layout, a0 + 5, c0, sizes[key], before, edge.norms)
        yield _link(trace, edge.line, words, hit + groups + label, "flow wrong" if edge.wrong else "flow")


def _label(layout, along, across, size, before, norms):
    """The norm of what flows along an edge, beside its bands."""
    if layout.upright:
        x, y, anchor = (across + 1, along + 8, "end") if before else (across + size + 3, along + 8, "")
    else:
        x, y, anchor = (along, across, "") if before else (along, across + size + 13, "")
    return _text(x, y, "", f"{anchor} small label".strip(), norms)


def _digits(value, n=3):
    """A number with so many digits that it fits into a box."""
    return f"{float(f'{value:.{n}g}'):g}"


def _key(edge):
    return edge.source, edge.target


def _plain(name):
    return typesetting.plain(("name", name))


def _text(x, y, words, kind="", norms=None, before="", n=3):
    """A text; with norms, it is the norm of the chosen path, for each of which the attribute data-norms holds a text."""
    following = ""
    if norms:
        texts = [before + _digits(norms.get(path, 0.0), n) for path in PATHS]
        words, following = texts[0], f' data-norms="{"|".join(texts)}"'
    return f'<text class="{kind}" x="{x:g}" y="{y:g}"{following}>{html.escape(words)}</text>'


def _link(trace, i, words, content, kind=""):
    where = f"{trace[i].function}, line {trace[i].number}"
    attribute = f' class="{kind}"' if kind else ""
    return f'<a href="#l{i}"{attribute}><title>{html.escape(words)}: {where}</title>{content}</a>'
