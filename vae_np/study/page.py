"""The trace as one HTML file that needs nothing else: no network, and no script to be read or printed."""

import html
import json
import os
import pathlib
import secrets
from collections.abc import Sequence

import numpy as np

from vae_np import elbo
from vae_np.choices import ESTIMATORS, LIKELIHOODS, OBJECTIVES
from vae_np.parameters import replacing
from vae_np.study import along, controls, markup
from vae_np.study.along import Course
from vae_np.study.by_hand import by_hand
from vae_np.study.cards import cards
from vae_np.study.comparison import comparison
from vae_np.study.dials import Dial, Estimators
from vae_np.study.estimates import Compared
from vae_np.study.explanations import explanations
from vae_np.study.graph import graph, image
from vae_np.study.lines import Lines
from vae_np.study.listing import listing
from vae_np.study.markup import View
from vae_np.study.paths import PATHS, paths_of
from vae_np.study.pictures import images
from vae_np.study.primer import primer
from vae_np.study.proof import TOLERANCE
from vae_np.study.randomness import randomness
from vae_np.study.tour import tour

FILES = pathlib.Path(__file__).parent
_POINTER = '<p>If the symbols are new to you, begin with <a href="#first">Read this first</a>, below the picture.</p>'
FOLLOWED = {  # {a part of the page: what shows a path there}
    "picture": "the bands and the norms are those of the part of each gradient that comes along it.",
    "tour": "each gradient shows the part that comes along it.",
    "lines": "each gradient shows the part that comes along it, and the lines that do not lie on it are dimmed.",
}


def write(
    path: str | os.PathLike,
    trace: Lines,
    data: str,
    image_shape: tuple[int, ...] | None = None,
    dials: Sequence[Dial] = (),
    estimators: Estimators | None = None,
    compared: dict[str, dict[str, dict[str, Compared]]] | None = None,
    course: Course | None = None,
) -> int:
    """Write the page of a trace to a file.

    Parameters
    ----------
    path : path-like
        The file. An existing one is replaced. A name that ends in .svg gives the whole picture alone.
    trace : Lines
        The lines and their proofs.
    data : str
        What the examples and the model are, in words.
    image_shape : (int, int), optional
        The height and width of the images that the examples are.
    dials, estimators, compared, course : optional
        What `dials.dials`, `dials.estimators`, `estimates.compared` and `along.course` return for the same examples.

    Returns
    -------
    int
        The size of the file in bytes.
    """
    alone = pathlib.Path(path).suffix == ".svg"
    text = (image(trace) if alone else page(trace, data, image_shape, dials, estimators, compared, course)).encode()
    with replacing(path) as file:
        file.write(text)
    return len(text)


def page(
    trace: Lines,
    data: str,
    image_shape: tuple[int, ...] | None = None,
    dials: Sequence[Dial] = (),
    estimators: Estimators | None = None,
    compared: dict[str, dict[str, dict[str, Compared]]] | None = None,
    course: Course | None = None,
) -> str:
    """The HTML of the whole page; the arguments are those of `write`."""
    view = View(image_shape)
    sections = {
        "picture": ("The whole picture", _POINTER + graph(trace, _paths_menu(trace, "picture"))),
        "first": ("Read this first", primer(trace)),
        "run": ("The run of this page", _facts(trace, data, image_shape)),
        "hand": ("One latent by hand", by_hand(trace)),
        "randomness": ("Why randomness does not block the gradient", randomness(trace, estimators)),
        "tour": ("A guided tour", tour(trace, _paths_menu(trace, "tour"), view)),
        "text": ("The code", listing(trace)),
        "lines": ("Line by line", _paths_menu(trace, "lines") + cards(trace, view)),
        "derivations": ("Derivations", explanations(trace)),
    }
    if dials:
        of_estimators = comparison(trace, compared) if compared else ""
        of_estimators += controls.estimators(estimators) if estimators else ""
        sections["dials"] = ("Dials", controls.dials(dials) + of_estimators)
    if course:
        sections["training"] = ("Along training", along.along(course, image_shape))
    links = "".join(f'<a href="#{name}">{title}</a>' for name, (title, _) in sections.items())
    body = "".join(f'<section id="{name}"><h2>{title}</h2>{content}</section>' for name, (title, content) in sections.items())
    return f"""<!DOCTYPE html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>The gradients of a VAE, line by line</title>
<style>{"".join(map(_file, ("page.css", "graph.css", "tour.css")))}</style>
<body class="study">
<a class="skip" href="#lines">Skip to the lines</a>
<header>{_head(trace)}</header>
<nav aria-label="Parts of this page">{links}</nav>
<main>{body}</main>
{_inspector(trace)}
<script>"use strict";{"".join(map(_file, ("page.js", "controls.js", "pictures.js", "graph.js", "tour.js")))}</script>
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
{_on_average(trace)}{_verdict(trace)}"""


def _on_average(trace):
    """What an estimator computes, and what the program compares that with."""
    estimator, objective = trace.arguments["estimator"], trace.arguments["objective"]
    if not ESTIMATORS[estimator].operations[objective]:
        return ""
    return f"""<p>The encoder's gradient on this page is the estimator <code>{estimator}</code> for the objective
<code>{objective}</code>. On the samples of one run, it is not the derivative of the loss. Each sample has a factor on the path
through z, or a factor of the score of q, which is the derivative of log q(z|x) at a fixed z. The surrogate is the forward pass in
which these factors are numbers that stay as they are. Its derivative is the estimate, so these lines are compared with it.</p>"""


def _facts(trace, data, image_shape):
    """What was run: the model, the examples and the loss."""
    arch, value = trace.p.architecture, trace.value
    likelihood = LIKELIHOODS[arch.likelihood]
    L, B, Z = trace.a.eps.shape
    widths = "-".join(map(str, (arch.n_inputs, *arch.hidden, Z)))
    noise = f", {arch.noise} noise" if likelihood.has_noise else ""
    beta, l2, objective, estimator = (trace.arguments[name] for name in ("beta", "l2", "objective", "estimator"))
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
    return f"""<dl class="facts">
<div><dt>data and model</dt><dd>{html.escape(data)}</dd></div>
<div><dt>architecture</dt><dd>{widths}, {arch.activation}, {arch.likelihood}{noise}</dd></div>
<div><dt>batch</dt><dd>B = {B} example{"s" * (B > 1)}, L = {L} sample{"s" * (L > 1)} per example</dd></div>
<div><dt>objective</dt><dd>{objective}, β = {beta:g}, l2 = {l2:g}</dd></div>
<div><dt>estimator</dt><dd>{estimator}: {ESTIMATORS[estimator].words}</dd></div>
<div><dt>loss in nats</dt><dd>{value.total:.4f} {equals} {value.reconstruction:.4f} + {beta:g} × {value.kl:.4f}{penalty}</dd></div>
</dl>{grey}{pictures}"""


def _verdict(trace, view=View()):
    """Whether all derivatives are right; if not, the lines at which they go wrong."""
    proven = [array for line in trace for array in line.writes if array.error is not None]
    if not trace.wrong:
        estimates = sum(array.of_surrogate for array in proven)
        which = f"The other {len(proven) - estimates}" if estimates else f"All {len(proven)}"
        of_estimates = (
            f"✓ {estimates} arrays are estimates by {trace.arguments['estimator']}, or parts of such an estimate. They are not the "
            "derivative of the loss of these samples, and they agree with finite differences of a surrogate instead. "
        ) * bool(estimates)
        return (
            f'<p class="verdict">{of_estimates}✓ {which} derivatives agree with finite differences of the loss: the largest '
            f'relative error is <span class="whole">{trace.worst:.0e}</span>, and <span class="whole">{TOLERANCE:.0e}</span> is allowed.</p>'
        )
    places = markup.links(trace, (i for i, line in enumerate(trace) if line.wrong), view)
    return f'<p class="verdict wrong">✗ A derivative goes wrong at {places}.</p>'


def _paths_menu(trace, part):
    """The choice of a path from the loss, which is the same in all parts; a path on which no line lies cannot be chosen."""
    followed, titles = set().union(*paths_of(trace)), dict(PATHS)
    if "bound_backward" in ESTIMATORS[trace.arguments["estimator"]].operations[trace.arguments["objective"]]:
        titles["divergence"] = "μ, log σ² through the score of q"
    radios = "".join(
        f'<label><input type="radio" name="path-{part}" value="{path}"{" checked" * (path == "all")}{" disabled" * (path not in followed)}>'
        f"{words}{' (its weight is 0)' * (path not in followed)}</label>"
        for path, words in titles.items()
    )
    return f'<fieldset class="paths"><legend>Follow one path: {FOLLOWED[part]}</legend>{radios}</fieldset>'


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
