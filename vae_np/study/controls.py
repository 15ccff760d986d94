"""What a reader of the page can turn: choices and sliders whose numbers were computed in advance, and the dials made of them.

A group holds its choices and sliders, and elements that follow them. The script of the page counts through the cases: a case is one
value of each, and the last one changes fastest. An element follows with its attribute data-values, which holds a text for each case.
"""

import html
from collections.abc import Iterable, Sequence

import numpy as np

from vae_np.study import chart, markup
from vae_np.study.dials import Dial, Estimators
from vae_np.study.typesetting import number

COLOURS = {"reconstruction": "var(--reconstruction)", "KL": "var(--kl)"}  # of a curve whose label has that word


def choice(label: str, options: Sequence[str]) -> str:
    """A list of options of which one is chosen."""
    items = "".join(f'<option value="{i}">{html.escape(option)}</option>' for i, option in enumerate(options))
    return f'<label>{html.escape(label)} <select data-count="{len(options)}">{items}</select></label>'


def slider(label: str, values: Sequence[str], at: int) -> str:
    """A slider over values, of which it shows the one that is chosen; at is where it stands first."""
    return (
        f'<label>{html.escape(label)} <input type="range" min="0" max="{len(values) - 1}" value="{at}" data-count="{len(values)}" '
        f'aria-valuetext="{html.escape(values[at])}">'
        f"<output {following(values)}>{html.escape(values[at])}</output></label>"
    )


def following(texts: Sequence[str]) -> str:
    """The attribute of an element that has one of these texts in each case."""
    return f'data-values="{html.escape("|".join(texts))}"'


def dials(turned: Sequence[Dial]) -> str:
    """The HTML of dials."""
    words = (
        "The numbers below were computed in advance, on the same examples. Move a slider: the marks in its charts and the numbers "
        "below them follow."
    )
    return f"<p>{words}</p>{''.join(map(dial, turned))}"


def dial(turned: Dial) -> str:
    """The HTML of one dial."""
    here, colours = turned.values.index(turned.here), colours_of(turned.curves)
    charts = "".join(
        chart.lines(c.title, turned.axis, turned.values, c.curves, turned.here, c.log, c.errors, colours) for c in turned.charts
    )
    numbers = ""
    for label, curve in turned.curves.items():
        texts = [f"{height:.4g}" for height in curve]
        if label in turned.errors:
            texts = [f"{text} ± {error:.2g}" for text, error in zip(texts, turned.errors[label])]
        numbers += f"<div><dt>{html.escape(label)}</dt><dd {following(texts)}>{texts[here]}</dd></div>"
    return (
        f'<div class="dial group" id="dial-{turned.name}"><h3>{html.escape(turned.title)}</h3><p>{html.escape(turned.words)}</p>'
        f"{slider(turned.axis, [f'{value:g}' for value in turned.values], here)}"
        f'<div class="charts">{charts}</div><dl>{numbers}</dl></div>'
    )


def colours_of(labels: Iterable[str]) -> dict[str, str]:
    """{label: the colour of the term of the loss that it names}"""
    return {label: colour for word, colour in COLOURS.items() for label in labels if word in label}


def estimators(found: Estimators) -> str:
    """The variance of the reparameterised gradient beside that of the score-function estimators."""
    rows = ""
    for name, of in {"dmu": found.dmu, "dlogvar": found.dlogvar}.items():
        for kind, estimate in of.items():
            error = np.linalg.norm(estimate.mean - of["reparameterised"].mean) / np.linalg.norm(estimate.standard_error)
            deviation = "" if kind == "reparameterised" else f"{error:.1f}"
            rows += (
                f'<tr><th scope="row">{markup.math(name)}, {kind}</th><td>{number(np.linalg.norm(estimate.mean))}</td>'
                f"<td>{deviation}</td><td>{_large(estimate.variance.sum())}</td><td>{_large(estimate.ratio)}</td></tr>"
            )
    return f"""<div class="dial" id="estimators"><h3>The same gradient, estimated in two ways</h3>
<p>Both estimators estimate the gradient of the expected reconstruction, E[nll] over q(z|x). Each estimate uses one sample, and was
repeated {found.n_draws} times. The reparameterised gradient follows z back to mu and logvar, so it needs the derivative of
nll. The score-function estimator multiplies nll by the derivative of log q(z|x), so it needs only the value of nll. Its mean is
right, too, but it is much noisier, even after a baseline (the mean nll of the other draws) is subtracted.</p>
<div class="scroll"><table aria-label="the estimators of the gradient"><thead><tr><th scope="col">estimator</th><th scope="col">norm of its mean</th>
<th scope="col">distance from the reparameterised one, in standard errors</th><th scope="col">variance of one draw</th>
<th scope="col">variance divided by that of the reparameterised one</th></tr></thead>
<tbody>{rows}</tbody></table></div>
<p class="source">Williams 1992; Kingma &amp; Welling 2014, section 2.2; Mohamed et al. 2020 (arXiv 1906.10652).</p></div>"""


def _large(value):
    """A number with three digits, of which many may stand before the point."""
    return f"{float(f'{value:.3g}'):,g}"
