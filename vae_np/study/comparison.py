"""The estimator as a dial of the page: what each estimator of an objective makes of the encoder's gradient."""

import numpy as np

from vae_np.choices import ESTIMATORS
from vae_np.study import controls, markup
from vae_np.study.estimates import Compared
from vae_np.study.histograms import histograms
from vae_np.study.lines import Lines
from vae_np.study.typesetting import number

NAMES = "dmu", "dlogvar"
WIDEST = 4.0  # a histogram that is wider than so many of the middle one does not widen the axis


def comparison(trace: Lines, found: dict[str, dict[str, dict[str, Compared]]]) -> str:
    """The HTML of the dial. The reader chooses an objective; its estimators stand below each other."""
    here = trace.arguments["objective"]
    objectives = [here, *(objective for objective in found if objective != here)]
    parts = "".join(
        f'<div data-case="{i}"{" hidden" * (i > 0)}>{_of_objective(trace, objective, found[objective])}</div>'
        for i, objective in enumerate(objectives)
    )
    L = trace.a.eps.shape[0]
    options = [f"{objective}, the objective of this page" if objective == here else objective for objective in objectives]
    return f"""<div class="dial group" id="dial-estimator"><h3>The estimator of the encoder's gradient</h3>
<p>The derivative of the loss of these samples is one estimate of the derivative of the mean loss over all eps. It is called
<code>total</code>. Other estimators have other values for the same samples, and most of them have the same mean. The decoder's
gradient and the loss are the same for all. To see their lines, run <code>vae-np study --objective iwae --estimator dreg</code>, or
study a run that was trained with the estimator.</p>
{controls.choice("objective", options)}{parts}
<p class="source">L = {L} sample{"s" * (L > 1)} per example. Roeder et al. 2017 (path); Tucker et al. 2018 (dreg); Williams 1992 (score);
Mnih &amp; Rezende 2016 (vimco).</p></div>"""


def _of_objective(trace, objective, of_estimators):
    n_draws, n = len(of_estimators["total"]["dmu"].draws), len(of_estimators)
    biased = [name for name in of_estimators if objective in ESTIMATORS[name].biased and len(trace.a.eps) > 1]
    words = "".join(f"<li><code>{name}</code>: {ESTIMATORS[name].words}.</li>" for name in of_estimators)
    if n == 1:
        return f"<p>The objective {objective} has one estimator. Choose another objective to compare several.</p>"
    chance = "For an estimator without bias this distance is about 1, by chance."
    if biased:
        chance += (
            f" For {' and '.join(biased)} it grows with the number of draws: the mean is not the derivative of the mean loss."
        )
    of_total = of_estimators["total"]["dmu"].expectation
    pictures = "".join(_histograms(name, {kind: of[name] for kind, of in of_estimators.items()}) for name in NAMES)
    return f"""<p>The objective {objective} has these estimators:</p><ul>{words}</ul>
<p>Each was computed for the eps of this page, and for {n_draws} other draws of eps, which are the same for all of them. The mean in the
table is {"an exact integral over eps" if not of_total.n_draws else f"that over the {n_draws} draws"}. The distance is that of the mean
over the draws from the mean of <code>total</code>, in standard errors of this distance. {chance} The last column compares the estimate
for the eps of this page with complex steps of its surrogate, in which the factors of the samples are numbers that do not change.</p>
<div class="charts">{pictures}</div>{"".join(_table(name, of_estimators) for name in NAMES)}"""


def _histograms(name, of):
    b, j = _element(of["total"])
    mean = of["total"].expectation
    what = "the exact mean of total" if not mean.n_draws else f"the mean of total over {mean.n_draws} draws"
    variable = name.removeprefix("d")
    return histograms(
        f"{name} of example {b}, latent {j}, over the draws",
        f"derivative of the loss by this {variable}",
        {kind: each.draws[:, b, j] for kind, each in of.items()},
        float(mean.mean[b, j]),
        what,
        WIDEST,
    )


def _element(of):
    """The example and the latent of which the mean is largest."""
    return np.unravel_index(np.abs(of.expectation.mean).argmax(), of.here.shape)


def _table(name, of_estimators):
    rows = ""
    for kind, of in of_estimators.items():
        each: Compared = of[name]
        spread = float(np.sqrt(each.draws.var(axis=0, ddof=1).sum()))
        mean, error = np.linalg.norm(each.expectation.mean), np.linalg.norm(each.expectation.error)
        rows += (
            f'<tr><th scope="row"><code>{kind}</code></th><td>{number(np.linalg.norm(each.here))}</td>'
            f"<td>{number(mean)} ± {error:.1g}</td><td>{number(spread)}</td>"
            f"<td>{'' if kind == 'total' else f'{each.apart:.1f}'}</td><td>{each.error:.0e}</td></tr>"
        )
    heads = (
        "estimator",
        "norm for the eps of this page",
        "norm of its mean ± that of the error",
        "standard deviation of one draw",
    )
    heads += "distance of the mean from total, in standard errors", "relative error against complex steps"
    head = "".join(f'<th scope="col">{words}</th>' for words in heads)
    return (
        f'<div class="scroll"><table><caption>{markup.math(name)}</caption><thead><tr>{head}</tr></thead>'
        f"<tbody>{rows}</tbody></table></div>"
    )
