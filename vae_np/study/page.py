"""The trace as one HTML file that needs nothing else: no network, and no script to be read or printed."""

import html
import json
import os
import pathlib
import secrets
from collections.abc import Sequence

import numpy as np

from vae_np import elbo
from vae_np.choices import LIKELIHOODS, OBJECTIVES
from vae_np.parameters import replacing
from vae_np.study import controls, markup
from vae_np.study.by_hand import by_hand
from vae_np.study.cards import cards
from vae_np.study.dials import Dial, Estimators
from vae_np.study.explanations import explanations
from vae_np.study.lines import Lines
from vae_np.study.listing import listing
from vae_np.study.markup import View
from vae_np.study.paths import PATHS, paths_of
from vae_np.study.pictures import images
from vae_np.study.primer import primer
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
    view = View(image_shape)
    sections = {
        "first": ("Read this first", primer(trace) + _facts(trace, data, image_shape)),
        "hand": ("One latent by hand", by_hand(trace)),
        "text": ("The code", listing(trace)),
        "lines": ("Line by line", _paths_menu(trace) + cards(trace, view)),
        "derivations": ("Derivations", explanations(trace)),
    }
    if dials:
        sections["dials"] = ("Dials", controls.dials(dials) + (controls.estimators(estimators) if estimators else ""))
    links = "".join(f'<a href="#{name}">{title}</a>' for name, (title, _) in sections.items())
    body = "".join(f'<section id="{name}"><h2>{title}</h2>{content}</section>' for name, (title, content) in sections.items())
    return f"""<!DOCTYPE html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>The gradients of a VAE, line by line</title>
<style>{_file("page.css")}</style>
<body class="study">
<a class="skip" href="#lines">Skip to the lines</a>
<header>{_head(trace)}</header>
<nav aria-label="Parts of this page">{links}</nav>
<main>{body}</main>
{_inspector(trace)}
<script>"use strict";{"".join(map(_file, ("page.js", "controls.js", "pictures.js")))}</script>
</body>
</html>
"""


def fragment(trace: Lines) -> str:
    """The HTML of a trace for a notebook: its lines with their equations, shapes and errors. All its ids are its own."""
    view = View(output=f"pass-{secrets.token_hex(4)}-")
    return f'<style>{_file("page.css")}</style><div class="study">{_verdict(trace, view)}{cards(trace, view)}</div>'


def _file(name):
    return (FILES / name).read_text(encoding="utf-8")


# ------------------------------------------------------------------------------------------------------------ the head


def _head(trace):
    """What the page is, and whether its derivatives are right."""
    return f"""<h1>The gradients of a VAE, line by line</h1>
<p>To make this page, the program ran every line of code that you see below. Each line stands beside its equation, and with the
shapes and values of the arrays that it computed. Each derivative is compared with a finite difference: the program ran again, with
the value changed a little at exactly this line, and the change of the loss was divided by the change of the value.</p>
{_verdict(trace)}"""


def _facts(trace, data, image_shape):
    """What was run: the model, the examples and the loss."""
    arch, value = trace.p.architecture, trace.value
    likelihood = LIKELIHOODS[arch.likelihood]
    L, B, Z = trace.a.eps.shape
    widths = "-".join(map(str, (arch.n_inputs, *arch.hidden, Z)))
    noise = f", {arch.noise} noise" if likelihood.has_noise else ""
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
    low, high = likelihood.support
    grey = ""
    if likelihood.discrete and np.any((trace.a.x > low) & (trace.a.x < high)):
        grey = (
            '<p class="note">The pixels are grey, and this likelihood is a probability of black and white ones only. So the loss is '
            "a cross entropy here, and not a bound on -log p(x). Its derivatives are computed in the same way.</p>"
        )
    return f"""<h3>The run that this page shows</h3><dl class="facts">
<div><dt>data and model</dt><dd>{html.escape(data)}</dd></div>
<div><dt>architecture</dt><dd>{widths}, {arch.activation}, {arch.likelihood}{noise}</dd></div>
<div><dt>batch</dt><dd>B = {B} example{"s" * (B > 1)}, L = {L} sample{"s" * (L > 1)} per example</dd></div>
<div><dt>objective</dt><dd>{objective}, β = {beta:g}, l2 = {l2:g}</dd></div>
<div><dt>loss in nats</dt><dd>{value.total:.4f} {equals} {value.reconstruction:.4f} + {beta:g} × {value.kl:.4f}{penalty}</dd></div>
</dl>{grey}{pictures}"""


def _verdict(trace, view=View()):
    """Whether all derivatives are right; if not, the lines at which they go wrong."""
    proven = [array for line in trace for array in line.writes if array.error is not None]
    if not trace.wrong:
        return (
            f'<p class="verdict">✓ All {len(proven)} derivatives agree with finite differences of the loss: the largest '
            f"relative error is {trace.worst:.0e}, and {TOLERANCE:.0e} is allowed.</p>"
        )
    places = markup.links(trace, (i for i, line in enumerate(trace) if line.wrong), view)
    return f'<p class="verdict wrong">✗ A derivative goes wrong at {places}.</p>'


def _paths_menu(trace):
    """The choice of a path from the loss; a path on which no line lies cannot be chosen."""
    followed = set().union(*paths_of(trace))
    radios = "".join(
        f'<label><input type="radio" name="path" value="{path}"{" checked" * (path == "all")}{" disabled" * (path not in followed)}>'
        f"{words}{' (its weight is 0)' * (path not in followed)}</label>"
        for path, words in PATHS.items()
    )
    return f'<fieldset class="paths"><legend>Follow one path: other lines are dimmed, and the numbers are the part of this path.</legend>{radios}</fieldset>'


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
        '<aside id="inspector" aria-live="polite" aria-label="Where a name comes from and where it goes" hidden>'
        '<button type="button" class="close" aria-label="close">×</button><div></div></aside>'
        f'<script type="application/json" id="trace">{data}</script>'
    )
