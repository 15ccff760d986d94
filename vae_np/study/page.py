"""The trace as one HTML file that needs nothing else: no network, and no script to be read or printed."""

import html
import inspect
import json
import pathlib
import re

import numpy as np

from vae_np import elbo
from vae_np.kernels import reference
from vae_np.study import chart, formulas, markup
from vae_np.study.cards import TERMS, cards
from vae_np.study.derivations import DERIVATIONS, stem
from vae_np.study.pictures import images
from vae_np.study.proof import TOLERANCE

FILES = pathlib.Path(__file__).parent


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
        "lines": ("Line by line", cards(trace, image_shape)),
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
    return f'<style>{(FILES / "page.css").read_text(encoding="utf-8")}</style><div class="study">{_verdict(trace)}{cards(trace, None)}</div>'


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
            f"<figure>{images(trace.a.x, image_shape, 'the examples x')}"
            f"{images(mean, image_shape, 'the mean of p(x|z) of each')}"
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
    places = ", ".join(markup.link(trace, i) for i, line in enumerate(trace) if line.wrong)
    return f'<p class="verdict wrong">✗ A derivative goes wrong at {places}.</p>'


def _paths_menu():
    kinds = {"all": "the whole loss", **TERMS, "z": "μ, log σ² through z", "divergence": "μ, log σ² through the KL"}
    radios = "".join(
        f'<label><input type="radio" name="path" value="{kind}"{" checked" * (kind == "all")}>{words}</label>'
        for kind, words in kinds.items()
    )
    return f'<fieldset class="paths"><legend>follow</legend>{radios}</fieldset>'


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
            code = (
                markup.code(line.source, line.symbols)
                if line
                else f'<span class="still">{markup.code(source.lstrip(), ())}</span>'
            )
            code = " " * indent + code
            errors = [trace[i].error for i in ran if trace[i].error is not None]
            mark = markup.mark(max(errors), any(trace[i].wrong for i in ran)) if errors else ""
            number = f'<a href="#l{ran[0]}" aria-label="line {number}">{number}</a>' if ran else number
            rows.append(
                f'<div class="row"><span class="number">{number}</span><code>{code}</code><span class="mark">{mark}</span></div>'
            )
        blocks.append(f'<div class="listing" role="group" aria-label="{function}">{"".join(rows)}</div>')
    words = "This is the program itself. Click a name to see where it comes from and where it goes, a line's number to study the line."
    return f"<p>{words}</p>{''.join(blocks)}"


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
                f'<tr><th scope="row">{markup.math(name)}, {kind}</th><td>{np.linalg.norm(estimate.mean):.3g}</td><td>{deviation}</td>'
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
        place["math"] = markup.math(name)
    lines = [[line.function, line.number, " ".join(line.source.split("  # ")[0].split())] for line in trace]
    data = json.dumps({"names": places, "lines": lines}).replace("</", "<\\/")
    return (
        '<aside id="inspector" aria-live="polite" hidden>'
        '<button type="button" class="close" aria-label="close">×</button><div></div></aside>'
        f'<script type="application/json" id="trace">{data}</script>'
    )
