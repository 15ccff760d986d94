"""The trace as one HTML file that needs nothing else: no network, and no script to be read or printed."""

import html
import inspect
import json
import os
import pathlib
import re
from collections.abc import Sequence

import numpy as np

from vae_np import elbo
from vae_np.choices import LIKELIHOODS, OBJECTIVES
from vae_np.kernels import reference
from vae_np.kernels.contract import OPERATIONS
from vae_np.parameters import replacing
from vae_np.study import chart, formulas, markup
from vae_np.study.cards import cards
from vae_np.study.derivations import DERIVATIONS, key_of
from vae_np.study.dials import Dial, Estimators
from vae_np.study.lines import Lines
from vae_np.study.paths import PATHS
from vae_np.study.pictures import images
from vae_np.study.proof import TOLERANCE

FILES = pathlib.Path(__file__).parent


def write(
    path: str | os.PathLike,
    trace: Lines,
    data: str,
    image_shape: tuple[int, ...] | None = None,
    dials: Sequence[Dial] = (),
    estimators: Estimators | None = None,
) -> int:
    """Write the page of a trace to a file.

    Parameters
    ----------
    path : path-like
        The file. An existing one is replaced.
    trace : Lines
        The lines and their proofs.
    data : str
        What the examples and the model are, in words.
    image_shape : (int, int), optional
        The height and width of the images that the examples are.
    dials, estimators : optional
        What `dials.dials` and `dials.estimators` return for the same examples.

    Returns
    -------
    int
        The size of the file in bytes.
    """
    text = page(trace, data, image_shape, dials, estimators).encode()
    with replacing(path) as file:
        file.write(text)
    return len(text)


def page(
    trace: Lines,
    data: str,
    image_shape: tuple[int, ...] | None = None,
    dials: Sequence[Dial] = (),
    estimators: Estimators | None = None,
) -> str:
    """The HTML of the whole page; the arguments are those of `write`."""
    sections = {
        "text": ("The code", _listing(trace)),
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


def fragment(trace: Lines) -> str:
    """The HTML of a trace for a notebook: its lines with their equations, shapes and errors."""
    style = (FILES / "page.css").read_text(encoding="utf-8")
    return f'<style>{style}</style><div class="study">{_verdict(trace)}{cards(trace, None)}</div>'


# ------------------------------------------------------------------------------------------------------------ the head


def _head(trace, data, image_shape):
    """What the page is, and the facts about the pass that it shows."""
    arch, value = trace.p.architecture, trace.value
    L, B, Z = trace.a.eps.shape
    widths = "-".join(map(str, (arch.n_inputs, *arch.hidden, Z)))
    noise = f", {arch.noise} noise" if LIKELIHOODS[arch.likelihood].has_noise else ""
    beta, l2, objective = (trace.arguments[name] for name in ("beta", "l2", "objective"))
    penalty = f" + {value.l2:.4g}" if l2 else ""
    equals = "≤" if OBJECTIVES[objective].weighted else "="
    pictures = ""
    if image_shape:
        mean = elbo.bind(arch).mean(trace.a.output, np.zeros_like(trace.a.output))[0]
        pictures = (
            f"<figure>{images(trace.a.x, image_shape, 'the examples x')}"
            f"{images(mean, image_shape, 'the mean of p(x|z) for each example')}"
            "<figcaption>The first row shows the examples x. The second row shows, below each example, the mean of p(x|z) for its "
            "first sample z.</figcaption></figure>"
        )
    return f"""<h1>The gradients of a VAE, line by line</h1>
<p>To make this page, the program ran every line of code that you see below. Each line stands beside its equation, and with the
shapes and values of the arrays that it computed. Each derivative is proven by a finite difference: the program ran again, with the
value changed a little at exactly this line, and the change of the loss was compared with the derivative.</p>
{_verdict(trace)}
<dl class="facts">
<div><dt>data and model</dt><dd>{html.escape(data)}</dd></div>
<div><dt>architecture</dt><dd>{widths}, {arch.activation}, {arch.likelihood}{noise}</dd></div>
<div><dt>batch</dt><dd>B = {B} example{"s" * (B > 1)}, L = {L} sample{"s" * (L > 1)} per example</dd></div>
<div><dt>objective</dt><dd>{objective}, β = {beta:g}, l2 = {l2:g}</dd></div>
<div><dt>loss in nats</dt><dd>{value.total:.4f} {equals} {value.reconstruction:.4f} + {beta:g} × {value.kl:.4f}{penalty}</dd></div>
</dl>{pictures}"""


def _verdict(trace):
    """Whether all derivatives are right; if not, the lines at which they go wrong."""
    proven = [array for line in trace for array in line.writes if array.error is not None]
    if not trace.wrong:
        return (
            f'<p class="verdict right">✓ All {len(proven)} derivatives agree with finite differences of the loss: the largest '
            f"relative error is {trace.worst:.0e}, and {TOLERANCE:.0e} is allowed.</p>"
        )
    places = markup.links(trace, (i for i, line in enumerate(trace) if line.wrong))
    return f'<p class="verdict wrong">✗ A derivative goes wrong at {places}.</p>'


def _paths_menu():
    radios = "".join(
        f'<label><input type="radio" name="path" value="{path}"{" checked" * (path == "all")}>{words}</label>'
        for path, words in PATHS.items()
    )
    return f'<fieldset class="paths"><legend>highlight</legend>{radios}</fieldset>'


# ------------------------------------------------------------------------------------------------------------ the code


def _listing(trace):
    """The functions as they stand in their file; each line has the mark of its proof, and a link to its card."""
    blocks = []
    for function, (first, lines) in trace.sources.items():
        rows, rest = [], 0  # rest: how many more lines belong to the statement
        for number, source in enumerate(lines, first):
            rest = max(rest - 1, 0)
            if rest:
                continue
            ran = [i for i, line in enumerate(trace) if (line.function, line.number) == (function, number)]
            errors = [trace[i].error for i in ran if trace[i].error is not None]
            if ran:
                line = trace[ran[0]]
                rest = line.source.count("\n") + 1
                code = markup.code(line.source, line.symbols)
                number = f'<a href="#l{ran[0]}" aria-label="line {number}">{number}</a>'
            else:
                code = f'<span class="still">{markup.code(source.lstrip(), ())}</span>'
            mark = markup.mark(max(errors), any(trace[i].wrong for i in ran)) if errors else ""
            indent = " " * (len(source) - len(source.lstrip()))
            code = code.replace("\n", f"\n{indent}")
            rows.append(
                f'<div class="row"><span class="number">{number}</span><code>{indent}{code}</code>'
                f'<span class="mark">{mark}</span></div>'
            )
        blocks.append(f'<div class="listing" role="group" aria-label="{function}">{"".join(rows)}</div>')
    words = (
        "This is the code of the program itself. Click a name to see the lines that compute it and the lines that read it. Click "
        "the number of a line to study that line."
    )
    return f"<p>{words}</p>{''.join(blocks)}"


# --------------------------------------------------------------------------------------------------------- derivations


def _derivations(trace):
    """All derivations. Those of operations that ran stand first, and are open."""
    used = {"bound", "adjoint", *(key_of(line.operation) for line in trace if line.called)}
    parts = []
    for key in sorted(DERIVATIONS, key=lambda key: key not in used):
        title, steps, source, _ = DERIVATIONS[key]
        items = "".join(f"<li>{_prose(sentence)}{_equation(formula)}</li>" for sentence, formula in steps)
        ends = "".join(_ending(vars(reference)[name]) for name in OPERATIONS if key_of(name) == key)
        parts.append(
            f'<details class="why" id="why-{key}"{" open" * (key in used)}><summary>{html.escape(title)}</summary>'
            f'<ol>{items}</ol>{ends}<p class="source">{html.escape(source)}</p></details>'
        )
    return "".join(parts)


def _prose(sentence):
    """A sentence in which x_i is typeset as an element of x."""
    return re.sub(r"\b([A-Za-z]+)_([a-z]{1,2})\b", r"<i>\1</i><sub>\2</sub>", html.escape(sentence))


def _equation(formula):
    return markup.equation(formulas.parse(formula)) if formula else ""


def _ending(operation):
    """The formulas and the code of an operation."""
    equations = "".join(map(markup.equation, formulas.of(operation.__doc__)))
    return f'<div class="ending">{equations}<pre><code>{html.escape(inspect.getsource(operation))}</code></pre></div>'


# --------------------------------------------------------------------------------------------------------------- dials


def _dials(dials, estimators):
    parts = [
        "<p>The numbers below were computed in advance, on the same examples. Move a slider: the marks in its charts and the numbers "
        "below them follow.</p>"
    ]
    for dial in dials:
        here = dial.values.index(dial.here)
        charts = "".join(chart.lines(c.title, dial.axis, dial.values, c.curves, dial.here, c.log) for c in dial.charts)
        numbers = "".join(
            f"<div><dt>{html.escape(label)}</dt><dd>{curve[here]:.4g}</dd></div>" for label, curve in dial.curves.items()
        )
        curves = [[f"{number:.4g}" for number in curve] for curve in dial.curves.values()]
        data = html.escape(json.dumps({"values": [f"{value:g}" for value in dial.values], "curves": curves}))
        parts.append(
            f'<div class="dial" data-dial="{data}"><h3>{html.escape(dial.title)}</h3><p>{html.escape(dial.words)}</p>'
            f'<label>{html.escape(dial.axis)} <input type="range" min="0" max="{len(dial.values) - 1}" value="{here}">'
            f'<output>{dial.here:g}</output></label><div class="charts">{charts}</div><dl>{numbers}</dl></div>'
        )
    return "".join(parts) + (_estimators(estimators) if estimators else "")


def _estimators(estimators):
    """The variance of the reparameterised gradient beside that of the score-function estimators."""
    rows = ""
    for name, of in {"dmu": estimators.dmu, "dlogvar": estimators.dlogvar}.items():
        for kind, estimate in of.items():
            error = np.linalg.norm(estimate.mean - of["reparameterised"].mean) / np.linalg.norm(estimate.standard_error)
            deviation = "" if kind == "reparameterised" else f"{error:.1f}"
            rows += (
                f'<tr><th scope="row">{markup.math(name)}, {kind}</th><td>{np.linalg.norm(estimate.mean):.3g}</td><td>{deviation}</td>'
                f"<td>{estimate.variance.sum():.3g}</td><td>{estimate.ratio:,.3g}</td></tr>"
            )
    return f"""<div class="dial" id="estimators"><h3>Why reparameterisation matters: the same gradient, estimated in two ways</h3>
<p>Both estimators estimate the gradient of the expected reconstruction, E[nll] over q(z|x). Each estimate uses one sample, and was
repeated {estimators.n_draws} times. The reparameterised gradient follows z back to mu and logvar, so it needs the derivative of
nll. The score-function estimator multiplies nll by the derivative of log q(z|x), so it needs only the value of nll. Its mean is
right, too, but it is much noisier, even after a baseline (the mean nll of the other draws) is subtracted.</p>
<div class="scroll"><table><thead><tr><th scope="col">estimator</th><th scope="col">norm of its mean</th>
<th scope="col">distance from the first, in standard errors</th><th scope="col">variance of one draw</th>
<th scope="col">variance divided by that of the first</th></tr></thead>
<tbody>{rows}</tbody></table></div>
<p class="source">Williams 1992; Kingma &amp; Welling 2014, section 2.2; Mohamed et al. 2020 (arXiv 1906.10652).</p></div>"""


# --------------------------------------------------------------------------------------------------------------- names


def _inspector(trace):
    """The panel that shows which lines compute a name and which read it, and the data from which the script fills it."""
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
