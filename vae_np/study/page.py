"""The trace as one HTML file that needs nothing else: no network, and no script to be read or printed."""

import base64
import html
import inspect
import io
import json
import math
import pathlib
import re

import numpy as np

from vae_np import elbo
from vae_np.kernels import reference
from vae_np.study import chart, formulas
from vae_np.study.derivations import DERIVATIONS, stem
from vae_np.study.proof import TOLERANCE

FILES = pathlib.Path(__file__).parent
TERMS = {"reconstruction": "reconstruction", "kl": "KL", "l2": "L2"}
LARGEST = 64, 96  # rows and columns of a heat map; what is larger is shown by means of blocks


def write(path, trace, data, image_shape=None, dials=(), estimators=None):
    """Write the page of a trace; data: what the examples are, in words. Its size in bytes."""
    from vae_np.parameters import replacing

    text = page(trace, data, image_shape, dials, estimators).encode()
    with replacing(path) as file:
        file.write(text)
    return len(text)


def page(trace, data, image_shape=None, dials=(), estimators=None):
    """The HTML of the whole page."""
    sections = {
        "text": ("The text", _listing(trace)),
        "lines": ("Line by line", _lines(trace, image_shape)),
        "derivations": ("Derivations", _derivations(trace)),
    }
    if dials:
        sections["dials"] = ("Dials", _dials(dials, estimators))
    links = "".join(f'<a href="#{name}">{title}</a>' for name, (title, _) in sections.items())
    body = "".join(f'<section id="{name}"><h2>{title}</h2>{content}</section>' for name, (title, content) in sections.items())
    return f"""<!DOCTYPE html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>The gradients of a VAE, line by line</title>
<style>{(FILES / "page.css").read_text(encoding="utf-8")}</style>
<body class="study">
<a class="skip" href="#lines">Skip to the lines</a>
<header>{_head(trace, data, image_shape)}</header>
<nav aria-label="Parts of this page">{links}{_paths_menu()}</nav>
<main>{body}</main>
{_inspector(trace)}
<script>{(FILES / "page.js").read_text(encoding="utf-8")}</script>
</body>
</html>
"""


def fragment(trace):
    """The HTML of a trace for a notebook: its lines, with equations, shapes and errors."""
    return f'<style>{(FILES / "page.css").read_text(encoding="utf-8")}</style><div class="study">{_verdict(trace)}{_lines(trace, None)}</div>'


# ------------------------------------------------------------------------------------------------------------ the head


def _head(trace, data, image_shape):
    arch, value = trace.p.architecture, trace.value
    L, B, Z = trace.a.eps.shape
    widths = "-".join(map(str, (arch.n_inputs, *arch.hidden, Z)))
    noise = f", {arch.noise} noise" if arch.likelihood == "gaussian" else ""
    beta, l2, objective = (trace.arguments[name] for name in ("beta", "l2", "objective"))
    penalty = f" + {value.l2:.4g}" if l2 else ""
    equals = "≤" if objective == "iwae" else "="
    pictures = ""
    if image_shape:
        text = elbo.bind(arch)
        mean = text.mean(trace.a.output, np.zeros_like(trace.a.output))[0]
        pictures = (
            f"<figure>{_pictures(trace.a.x, image_shape, 'the examples x')}"
            f"{_pictures(mean, image_shape, 'the mean of p(x|z) of each')}"
            "<figcaption>The examples, and below each the mean of p(x|z) at its first sample z.</figcaption></figure>"
        )
    return f"""<h1>The gradients of a VAE, line by line</h1>
<p>Each line of code below ran to make this page, on {html.escape(data)}. Beside it stand its equation, the shapes and the numbers
that it made. Each derivative on it is proven: the value that it is the derivative of was moved at that very point of the
running text, and the difference of the loss compared.</p>
{_verdict(trace)}
<dl class="facts">
<div><dt>model</dt><dd>{widths}, {arch.activation}, {arch.likelihood}{noise}</dd></div>
<div><dt>batch</dt><dd>B = {B} example{"s" * (B > 1)}, L = {L} sample{"s" * (L > 1)} of each</dd></div>
<div><dt>objective</dt><dd>{objective}, β = {beta:g}, l2 = {l2:g}</dd></div>
<div><dt>loss, nats</dt><dd>{value.total:.4f} {equals} {value.reconstruction:.4f} + {beta:g} × {value.kl:.4f}{penalty}</dd></div>
</dl>{pictures}"""


def _verdict(trace):
    proven = [array for line in trace for array in line.writes if array.error is not None]
    if not trace.wrong:
        words = f"{len(proven)} derivatives agree with differences of the loss; the worst is off by {trace.worst:.0e} of itself"
        return f'<p class="verdict right">✓ {words} (limit {TOLERANCE:.0e}).</p>'
    places = ", ".join(_link(trace, i) for i, line in enumerate(trace) if line.wrong)
    return f'<p class="verdict wrong">✗ A derivative goes wrong at {places}.</p>'


def _paths_menu():
    kinds = {"all": "the whole loss", **TERMS, "z": "μ, log σ² through z", "divergence": "μ, log σ² through the KL"}
    radios = "".join(
        f'<label><input type="radio" name="path" value="{kind}"{" checked" * (kind == "all")}>{words}</label>'
        for kind, words in kinds.items()
    )
    return f'<fieldset class="paths"><legend>follow</legend>{radios}</fieldset>'


# ------------------------------------------------------------------------------------------------------- code and names


def _code(source, symbols):
    """A line of code in which what names an array can be clicked."""
    parts, position = [], 0
    for start, end, name in symbols:
        parts.append(html.escape(source[position:start]))
        parts.append(f'<button type="button" data-name="{html.escape(name)}">{html.escape(source[start:end])}</button>')
        position = end
    code, sign, comment = source[position:].partition("  # ")
    parts.append(html.escape(code.rstrip() if sign else code))
    return "".join(parts) + (f' <span class="comment"># {html.escape(comment)}</span>' if sign else "")


def _math(name):
    return formulas.mathml(("name", name))


def _link(trace, i):
    line = trace[i]
    return f'<a href="#l{i}">line {line.number}</a>'


def _listing(trace):
    """The functions as they stand in their file, every line with its proof and a link to what is said of it below."""
    blocks = []
    for function, (first, lines) in trace.sources.items():
        rows, inside = [], 0  # inside: how many lines a statement still goes on for
        for number, source in enumerate(lines, first):
            inside = max(inside - 1, 0)
            if inside:
                continue
            ran = [i for i, line in enumerate(trace) if (line.function, line.number) == (function, number)]
            line = trace[ran[0]] if ran else None
            inside = line.source.count("\n") + 1 if line else 0
            indent = len(source) - len(source.lstrip())
            code = _code(line.source, line.symbols) if line else f'<span class="still">{_code(source.lstrip(), ())}</span>'
            code = " " * indent + code
            errors = [trace[i].error for i in ran if trace[i].error is not None]
            mark = _mark(max(errors), any(trace[i].wrong for i in ran)) if errors else ""
            number = f'<a href="#l{ran[0]}" aria-label="line {number}">{number}</a>' if ran else number
            rows.append(
                f'<div class="row"><span class="number">{number}</span><code>{code}</code><span class="mark">{mark}</span></div>'
            )
        blocks.append(f'<div class="listing" role="group" aria-label="{function}">{"".join(rows)}</div>')
    words = "This is the program itself. Click a name to see where it comes from and where it goes, a line's number to study the line."
    return f"<p>{words}</p>{''.join(blocks)}"


def _mark(error, wrong):
    if error <= TOLERANCE:
        return f'<span class="right" title="off by {error:.0e} of itself">✓ {error:.0e}</span>'
    return f'<span class="wrong">✗ {error:.0e}{"" if wrong else ", from above"}</span>'


# -------------------------------------------------------------------------------------------------------- line by line


def _lines(trace, image_shape):
    """Each line of forward, and beside it the lines that undo it."""
    forward = [i for i, line in enumerate(trace) if not line.undoes and line.function not in ("backward", "weight_gradients")]
    paths = _paths(trace, forward)
    shown, rows = set(), []
    for i in forward:
        if not trace[i].called or trace[i].composite:
            rows.append(f'<div class="pair thin">{_card(trace, i, paths, image_shape)}</div>')
            continue
        partners = [j for j, line in enumerate(trace) if i in line.undoes and j not in shown]
        shown.update(partners)
        cards = [_card(trace, j, paths, image_shape) for j in partners]
        # The backward pass is read from the bottom up, and so are two lines of it that undo one.
        back = "".join(card for j, card in zip(partners[::-1], cards[::-1]) if trace[j].function != "weight_gradients")
        gradients = "".join(card for j, card in zip(partners, cards) if trace[j].function == "weight_gradients")
        rows.append(f'<div class="pair">{_card(trace, i, paths, image_shape)}<div class="undo">{back}</div>{gradients}</div>')
    rest = [i for i, line in enumerate(trace) if i not in shown and i not in forward]
    if rest:
        rows.append("".join(f'<div class="pair thin">{_card(trace, i, paths, image_shape)}</div>' for i in rest))
    return (
        "<p>On the left the lines of the forward pass, from the top down. On the right, beside each, the lines of the backward "
        "pass that undo it: they run from the bottom up. Below the two stand the gradients of a layer's weights, which are taken last. "
        "Keys: <kbd>j</kbd> and <kbd>k</kbd> go along in the order in which the lines ran.</p>"
        '<div class="heads" aria-hidden="true"><span>forward ↓</span><span>backward ↑</span></div>' + "".join(rows)
    )


def _paths(trace, forward):
    """{index of a line: the paths on which it lies}"""
    made_by, read_by = {}, {}  # {name of a value: indices of lines}; it is read where something of its derivative comes from
    for i in forward:
        if trace[i].called and not trace[i].composite:
            for array in trace[i].writes:
                made_by.setdefault(array.name, set()).add(i)
    for line in trace:
        for array in line.writes:
            read_by.setdefault(array.name.removesuffix(".y")[1:], set()).update(array.through)

    def along(start, steps):
        """These lines and all that are reached from them."""
        found, new = set(), set(start)
        while new:
            found |= new
            new = {j for i in new for j in steps(i)} - found
        return found

    def down(i):
        return [j for name, lines in made_by.items() if i in lines for j in read_by.get(name, ())]

    def up(i):
        return [j for name, lines in read_by.items() if i in lines for j in made_by.get(name, ())]

    called = {trace[i].called: i for i in forward}
    lines_of = {
        "reconstruction": along(made_by.get("nll", ()), up) | read_by.get("nll", set()),
        "kl": along(made_by.get("kl", ()), up) | read_by.get("kl", set()),
        "z": along({called["reparameterize"]} if "reparameterize" in called else (), down),
        "divergence": along({called["divergence"]} if "divergence" in called else (), down),
    }
    paths = {}
    for i, line in enumerate(trace):
        undone = set(line.undoes) or {i}
        paths[i] = {"all", *(path for path, lines in lines_of.items() if undone & lines)}
        if any(np.abs(trace.terms["l2"].get(array.name, 0)).max(initial=0) > 1e-14 for array in line.writes):
            paths[i].add("l2")
    return paths


def _card(trace, i, paths, image_shape):
    line = trace[i]
    kind = {"backward": "backward", "weight_gradients": "gradients"}.get(line.function, "forward")
    trees = formulas.equations(line)
    maths = "".join(f'<div class="equation">{formulas.mathml(tree)}</div>' for tree in trees)
    state = " off" if line.wrong else ""
    misshapen = f'<p class="wrong">{html.escape(line.misshapen)}</p>' if line.misshapen else ""
    arrays = (
        "".join(_array(trace, line, array, image_shape) for array in line.writes) if line.called and not line.composite else ""
    )
    return (
        f'<article id="l{i}" class="card {kind}{state}" data-paths="{" ".join(sorted(paths[i]))}" tabindex="-1">'
        f'<p class="where"><a href="#l{i}">{line.function}, line {line.number}</a>{_undone(trace, i)}</p>'
        f"<pre><code>{_code(line.source, line.symbols)}</code></pre>{maths}{misshapen}"
        f'<div class="arrays">{arrays}</div>{_operation(line)}</article>'
    )


def _undone(trace, i):
    links = ", ".join(_link(trace, j) for j in trace[i].undoes)
    return f' <span class="undoes">undoes {links}</span>' if links else ""


def _operation(line):
    """What the operation is: the rest of its docstring, its code, and a link to its derivation."""
    if line.composite or not line.called:
        words = " ".join(line.definition.split("\n")[0].split())
        return f'<p class="note">{html.escape(words)}</p>' if words else ""
    function = getattr(reference, line.operation, None)
    found = stem(line.operation)
    why = f'<a href="#why-{found}">why?</a>' if found in DERIVATIONS else ""
    source = f"<pre><code>{html.escape(inspect.getsource(function))}</code></pre>" if function else ""
    return (
        f"<details><summary><code>{html.escape(line.operation)}</code>, as NumPy computes it {why}</summary>{source}</details>"
    )


def _array(trace, line, array, image_shape):
    value = array.value
    letters, shape = _letters(line, array), " × ".join(map(str, value.shape))
    norm, least, most = float(np.linalg.norm(value)), float(value.min()), float(value.max())
    proof = ""
    if array.error is not None:
        through = ", ".join(_link(trace, j) for j in array.through)
        lacks = ", ".join(_link(trace, j) for j in array.lacks)
        proof = _mark(array.error, line.wrong) + (f' <span class="through">through {through}</span>' if through else "")
        proof += f' <span class="wrong">lacks the path through {lacks}</span>' if lacks else ""
    picture = _picture(array, trace, image_shape)
    return (
        f'<div class="array"><div class="name">{_math(array.name)} '
        f'<span class="shape">{html.escape(letters)}{shape}</span></div>'
        f'<div class="numbers">{least:.3g} … {most:.3g}, norm {norm:.3g}</div>{picture}'
        f'<div class="proof">{proof}</div>{_shares(trace, array)}</div>'
    )


def _letters(line, array):
    """The shape of an array as the line's comment has it."""
    names = [other.name for other in line.writes]
    shapes = line.shapes[-len(names) :]
    return f"({shapes[min(names.index(array.name), len(shapes) - 1)]}) = " if shapes else ""


def _shares(trace, array):
    """What each term of the loss gives to a derivative: bars of their norms."""
    name = array.name.removesuffix(".y")
    parts = {term: float(np.linalg.norm(of[name])) for term, of in trace.terms.items() if name in of}
    parts = {term: norm for term, norm in parts.items() if norm > 1e-12}
    if array.error is None or len(parts) < 2 or array.name.endswith(".y") or not _complete(trace, array):
        return ""
    largest = max(parts.values())
    bars = "".join(
        f'<div class="share {term}"><span>{TERMS[term]}</span>'
        f'<i style="width:{100 * norm / largest:.1f}%"></i><b>{norm:.3g}</b></div>'
        for term, norm in parts.items()
    )
    return f'<div class="shares" role="group" aria-label="norm of the part that each term of the loss gives">{bars}</div>'


def _complete(trace, array):
    """Whether a derivative is what it is in the end: the terms' parts are of that."""
    return [other for line in trace for other in line.writes if other.name == array.name][-1] is array


# ------------------------------------------------------------------------------------------------------------ pictures

RED, BLUE = (190, 54, 74), (31, 111, 139)


def _picture(array, trace, image_shape):
    value = array.value
    if value.size < 2 or not value.any():
        return ""
    name = array.name.removeprefix("d")
    if image_shape and name in ("x", "output") and value.shape[-1] == math.prod(image_shape):
        if array.name == "output":
            words = "the output as images, of each example's first sample"
        else:
            words = "its derivative as images, red where less would lower the loss, blue where more would"
        return _pictures(value.reshape(-1, *value.shape[-2:])[0], image_shape, words, signed=True)
    rows = value.reshape(-1, value.shape[-1])
    for axis, most in enumerate(LARGEST):
        edges = np.linspace(0, rows.shape[axis], min(most, rows.shape[axis]) + 1).astype(int)
        rows = np.add.reduceat(rows, edges[:-1], axis=axis) / np.diff(edges).reshape((-1, 1) if axis == 0 else (1, -1))
    height = min(8 * rows.shape[0], 96)
    words = f"heat map of {array.name}: red above 0, blue below"
    return f'<img class="heat" style="height:{height}px" alt="{html.escape(words)}" src="{_signed(rows)}">'


def _pictures(rows, image_shape, words, signed=False):
    """Rows as images side by side."""
    images = rows.reshape(-1, *image_shape)
    gap = np.full((len(images), image_shape[0], 1), 0.0)
    strip = np.concatenate([np.concatenate([image, space], axis=1) for image, space in zip(images, gap)], axis=1)[:, :-1]
    source = _signed(strip) if signed else _grey(strip)
    return f'<img class="pictures" alt="{html.escape(words)}" src="{source}">'


def _signed(values):
    """A PNG whose colour is the sign and whose opacity the size, so that 0 is the page itself."""
    scale = np.abs(values).max() or 1.0
    levels = np.round(127 * values / scale).astype(int) + 127
    colours = [BLUE if level < 127 else RED for level in range(255)]
    return _png(levels, colours, [round(255 * (abs(level - 127) / 127) ** 0.7) for level in range(255)])


def _grey(values):
    low, high = float(values.min()), float(values.max())
    levels = np.round(255 * (values - low) / (high - low or 1)).astype(int)
    return _png(levels, [(255 - level,) * 3 for level in range(256)])


def _png(levels, colours, opacity=None):
    from PIL import Image

    image, file = Image.fromarray(levels.astype(np.uint8), "P"), io.BytesIO()
    image.putpalette([part for colour in colours for part in colour])
    image.save(file, "png", optimize=True, **({"transparency": bytes(opacity)} if opacity else {}))
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"


# --------------------------------------------------------------------------------------------- derivations, dials, names


def _derivations(trace):
    """All derivations; those of operations that ran here first, and open."""
    used = {"bound", "adjoint", *(stem(line.operation) for line in trace if line.called)}
    functions = {name: f for name, f in vars(reference).items() if inspect.isfunction(f)}
    parts = []
    for key in sorted(DERIVATIONS, key=lambda key: key not in used):
        title, steps, source = DERIVATIONS[key]
        items = "".join(f"<li>{_prose(sentence)}{_equation(formula)}</li>" for sentence, formula in steps)
        ends = "".join(_ending(f) for name, f in functions.items() if stem(name) == key)
        parts.append(
            f'<details class="why" id="why-{key}"{" open" * (key in used)}><summary>{html.escape(title)}</summary>'
            f'<ol>{items}</ol>{ends}<p class="source">{html.escape(source)}</p></details>'
        )
    return "".join(parts)


def _prose(sentence):
    """A sentence in which x_i is typeset as an element of x."""
    return re.sub(r"\b([A-Za-z]+)_([a-z]{1,2})\b", r"<i>\1</i><sub>\2</sub>", html.escape(sentence))


def _equation(formula):
    return f'<div class="equation">{formulas.mathml(formulas.parse(formula))}</div>' if formula else ""


def _ending(function):
    maths = "".join(f'<div class="equation">{formulas.mathml(tree)}</div>' for tree in formulas.of(function.__doc__))
    return f'<div class="ending">{maths}<pre><code>{html.escape(inspect.getsource(function))}</code></pre></div>'


def _dials(dials, estimators):
    parts = [
        "<p>Computed ahead, on the same examples. Move a dial: the marks in its drawings and the numbers below follow.</p>"
    ]
    for dial in dials:
        here = dial.values.index(dial.here)
        drawings = "".join(chart.lines(c.title, dial.axis, dial.values, c.curves, dial.here, c.log) for c in dial.charts)
        numbers = "".join(
            f"<div><dt>{html.escape(label)}</dt><dd>{curve[here]:.4g}</dd></div>" for label, curve in dial.curves.items()
        )
        curves = [[f"{number:.4g}" for number in curve] for curve in dial.curves.values()]
        data = html.escape(json.dumps({"values": [f"{value:g}" for value in dial.values], "curves": curves}))
        parts.append(
            f'<div class="dial" data-dial="{data}"><h3>{html.escape(dial.title)}</h3><p>{html.escape(dial.words)}</p>'
            f'<label>{html.escape(dial.axis)} <input type="range" min="0" max="{len(dial.values) - 1}" value="{here}">'
            f'<output>{dial.here:g}</output></label><div class="charts">{drawings}</div><dl>{numbers}</dl></div>'
        )
    return "".join(parts) + (_estimators(estimators) if estimators else "")


def _estimators(estimators):
    """The variance of the reparameterised gradient beside that of the score function's."""
    rows = ""
    for name, of in {"dmu": estimators.dmu, "dlogvar": estimators.dlogvar}.items():
        for kind, estimate in of.items():
            error = np.linalg.norm(estimate.mean - of["reparameterised"].mean) / np.linalg.norm(estimate.standard_error)
            deviation = "" if kind == "reparameterised" else f"{error:.1f}"
            rows += (
                f'<tr><th scope="row">{_math(name)}, {kind}</th><td>{np.linalg.norm(estimate.mean):.3g}</td><td>{deviation}</td>'
                f"<td>{estimate.variance.sum():.3g}</td><td>{estimate.ratio:,.3g}</td></tr>"
            )
    return f"""<div class="dial" id="estimators"><h3>Why the trick matters: the same gradient, estimated in two ways</h3>
<p>The gradient of the expected reconstruction, E[nll] over q(z|x), estimated from one sample, {estimators.n_draws} times over.
The reparameterised gradient follows z back to mu and logvar and asks nll for its slope. The score function, nll times the
derivative of log q(z|x), asks only for nll itself: right on average, but with so much more noise, even if a baseline (the mean nll of the
other draws) is taken off.</p>
<div class="scroll"><table><thead><tr><th scope="col">estimator</th><th scope="col">norm of its mean</th>
<th scope="col">off the first, in standard errors</th><th scope="col">variance of one draw</th>
<th scope="col">times the first's</th></tr></thead>
<tbody>{rows}</tbody></table></div>
<p class="source">Williams 1992; Kingma &amp; Welling 2014, section 2.2; Mohamed et al. 2020 (arXiv 1906.10652).</p></div>"""


def _inspector(trace):
    """Where every name is made and read, for the script; and the place where it says so."""
    places = {}
    for i, line in enumerate(trace):
        if line.composite:
            continue
        for array in line.writes:
            places.setdefault(array.name, {"made": [], "read": []})["made"].append(i)
        for name in line.reads:
            places.setdefault(name, {"made": [], "read": []})["read"].append(i)
    for name, place in places.items():
        place["math"] = _math(name)
    lines = [[line.function, line.number, " ".join(line.source.split("  # ")[0].split())] for line in trace]
    data = json.dumps({"names": places, "lines": lines}).replace("</", "<\\/")
    return (
        '<aside id="inspector" aria-live="polite" hidden>'
        '<button type="button" class="close" aria-label="close">×</button><div></div></aside>'
        f'<script type="application/json" id="trace">{data}</script>'
    )
