"""A guided tour of the backward pass: its lines in the order in which they run, each with a sentence and a question."""

import numpy as np

from vae_np.choices import LIKELIHOODS, NOISES
from vae_np.study import markup, predict, values
from vae_np.study.lines import Array, Lines
from vae_np.study.markup import View
from vae_np.study.paths import BACKWARD, GRADIENTS, forward_lines
from vae_np.study.typesetting import plain_name

WORDS = {  # {an operation by its name in the text: a sentence about the line that calls it}
    "bound": "The forward pass ends with the loss of each example, and the loss of the batch is {total} nats{how}. Every line that "
    "follows asks how this number changes.",
    "bound_backward": "The first numbers say how much each sample counts: dnll on the path through its nll, and dkl on that through "
    "its KL or its score.",
    "likelihood_nll_backward": "The derivative enters the decoder through its result, {value}: it compares each input with what "
    "the decoder says of it.",
    "affine_backward": "The next layer multiplied {value} by its weights, and so the derivative goes back through the same weights: "
    "each number of {value} receives a sum over all units to which it leads.",
    "affine_backward_add": "A second layer reads {value}, too. What comes back through it is added, because a value that is used "
    "twice has two paths to the loss.",
    "activation_backward": "The derivative passes the activation: each number is multiplied by the slope of the activation at its "
    "own unit, and becomes the derivative of the layer's sum.",
    "divergence_backward": "The KL is computed from μ and log σ² directly. What it sends back to them is the first of the two paths "
    "into μ and log σ².",
    "reparameterize_backward_add": "The second path comes through z. The line adds it to the first one, and then the derivatives of "
    "μ and log σ² are complete.",
    "affine_gradients": "The layer that computes {value} receives its gradient: the derivative of its weights is a sum over all rows "
    "of what the layer read, times the derivative of its sum. That of its biases is a sum of the latter alone.",
}
WORDS["output_logvar_layer_backward_add"] = WORDS["affine_backward_add"]
WORDS["output_logvar_layer_gradients"] = WORDS["affine_gradients"]
OF_OPERATION = {  # {an operation: a sentence that takes the place of the one by its name in the text}
    "elbo_backward": "The first derivatives are those of nll and kl: all samples of all examples weigh the same.",
    "iwae_backward": "The first derivatives are those of nll and kl: each sample counts by its importance weight.",
    "sampled_kl_backward": "The KL of a sample is computed from z and log σ². What it sends to z is added to the derivative of z. "
    "What it sends to log σ² is the first of the two paths into it; μ receives nothing directly.",
    "sampled_kl_path_backward": "The KL of a sample is computed from z and log σ². This estimator keeps what the KL sends along z, and "
    "adds it to the derivative of z. μ and log σ² receive nothing directly.",
    "score_backward": "This estimator sends no derivative through z. Instead μ and log σ² receive the score, which is the derivative of "
    "log q(z|x) at a fixed z, times a factor of each sample.",
    "dreg_path_weight": "This estimator counts the samples anew on their path through z.",
}
AGAIN = "The layer that computes {value} receives its gradient in the same way."
LEARNED = "The log-variance that all inputs share is learned: its derivative is a sum over all samples, examples and inputs."


def tour(trace: Lines, menu: str, view: View) -> str:
    """The HTML of the tour, which is a list without the script; `menu` is the choice of a path, as HTML."""
    stops = list(stations(trace))
    items = "".join(_stop(trace, i, view) for i in stops)
    left_out = sum(line.function in (BACKWARD, GRADIENTS) for line in trace) + 1 - len(stops)
    words = (
        f"The tour begins at the loss and leads through the backward pass in the order in which its lines run. It has {len(stops)} "
        f"stops. The {left_out} lines that change no derivative of this model are left out."
    )
    return f"""<p>{words}</p>
<noscript><p>With JavaScript, this part shows one line at a time, and can ask you about a line before it shows it.</p></noscript>
<div class="guide" hidden>{menu}
<p>Press a button, or the arrow keys <kbd>→</kbd> and <kbd>←</kbd> while a button has the focus.</p>
<p class="steps"><button type="button" class="back">Back</button> <button type="button" class="next">Next</button>
<output aria-live="polite"></output>
<label><input type="checkbox" class="ask"> Ask me about each line before I see it</label></p>
<p class="note asking" hidden>While you are asked, the other parts of the page are hidden, except for what is read first.</p></div>
<template class="asked"><form><p class="first" role="status" hidden>Choose an answer first.</p><button>Check</button>
<button type="button" class="other">Ask me something else</button> <button type="button" class="show">Show me the line</button></form></template>
<ol class="stops">{items}</ol>"""


def stations(trace: Lines) -> list[int]:
    """The lines of the tour: the loss, and each line after it that changes a derivative of something that is not constant."""
    found, before = [], {}
    arch = trace.p.architecture
    noise = NOISES[arch.noise].parameter if LIKELIHOODS[arch.likelihood].has_noise else ""
    for i, line in enumerate(trace):
        if line.called == "bound":
            found.append(i)
        elif line.function in (BACKWARD, GRADIENTS) and line.called and not line.composite:
            changed = [array for array in line.writes if np.any(array.value != before.get(array.name, 0))]
            before |= {array.name: array.value for array in line.writes}
            if line.wrong or (changed and (noise or line.called != "output_logvar_layer_gradients")):
                found.append(i)
    return found


def sentence(trace: Lines, i: int) -> str:
    """What happens on a line, in one or two sentences; "" for an operation that no sentence describes."""
    line, value = trace[i], trace.value
    if line.called == "output_logvar_layer_gradients" and "noise.logvar" in trace.p:
        return LEARNED
    computed = line.writes
    if line.function == GRADIENTS and line.differentiates:
        computed = trace[line.differentiates[0]].writes
    name = computed[0].name.removesuffix(".y") if computed else ""
    penalty = f", with {value.l2:.4g} of the L2 term" if value.l2 else ""
    words = OF_OPERATION.get(line.operation, WORDS.get(line.called, ""))
    if line.function == GRADIENTS and any(other.function == GRADIENTS and other.called for other in trace[:i]):
        words = AGAIN
    return words.format(
        total=f"{value.total:.4f}",
        how=f": the mean of these{penalty}" if len(trace.a.x) > 1 else penalty,
        value=plain_name(name.removeprefix("d") if line.function == BACKWARD else name),
    )


def two_paths(array: Array, view: View) -> str:
    """The part of a derivative that comes through z, the part that comes from the KL, and their sum, beside each other."""
    name = markup.math(array.name)
    shown = {
        f"{name} through z": array.parts["z"],
        f"+ {name} through the KL": array.parts["divergence"],
        f"= {name}, the sum": array.value,
    }
    parts = "".join(
        f'<div class="part"><p class="shape">{words}</p>{values.shown(array, part, view)}</div>'
        for words, part in shown.items()
    )
    return f'<div class="sum" role="group" aria-label="the two paths into {plain_name(array.name.removeprefix("d"))}">{parts}</div>'


def _stop(trace, i, view):
    line = trace[i]
    paths = "".join(
        two_paths(array, view)
        for array in line.writes
        if line.called == "reparameterize_backward_add" and {"z", "divergence"} <= array.parts.keys()
    )
    words = sentence(trace, i)
    said = f"<p>{words}</p>" if words else ""
    before = f' data-before="l{line.differentiates[0]}"' if line.differentiates else ""
    questions = predict.questions(trace, i) if i not in forward_lines(trace) else ""
    return (
        f'<li data-card="l{i}"{before}><h3>{line.function}, {markup.link(trace, i)}</h3>{said}'
        f'<div class="told">{paths}</div>{questions}</li>'
    )
