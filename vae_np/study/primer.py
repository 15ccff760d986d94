"""What a reader needs before the first line: what the page is, what its symbols mean, and how to read its pictures and marks."""

import html

import numpy as np

from vae_np.choices import LIKELIHOODS
from vae_np.study import markup
from vae_np.study.lines import Lines
from vae_np.study.pictures import heat_map

LEGEND = {
    "reconstruction": "what comes from the reconstruction, nll",
    "kl": "what comes from the KL",
    "l2": "what comes from the L2 term",
    "positive": "a number above 0 in a heat map",
    "negative": "a number below 0 in a heat map",
    "wrong": "a derivative that is wrong, with a ✗ beside it",
}
SIGNS = "positive", "negative"  # what shows these colours is brighter on a dark page


def primer(trace: Lines) -> str:
    """The HTML of the part that is read first."""
    B = len(trace.a.x)
    colours = "".join(
        f'<li><i class="colour{" sign" * (name in SIGNS)}" style="background: var(--{name})"></i>{words}</li>'
        for name, words in LEGEND.items()
    )
    example = np.outer([1.0, -0.5], [1.0, 0.5, 0.0, -1.0])
    return f"""<div class="columns"><div>
<p>This page follows one batch of {B} example{"s" * (B > 1)} through a variational autoencoder: forward to the loss, and then backward
to the derivative of the loss with respect to every weight. All numbers are those of one real run. You need to know the chain rule,
the product of two matrices, and the mean and the variance of a normal distribution.</p>
<p>Allow 5 minutes for this part and 10 minutes for one latent by hand. Why randomness does not block the gradient takes another 10
minutes, and the guided tour takes 2 minutes a stop. In the other parts you look things up.</p>
<h3>Derivatives</h3>
<p>{markup.math("dz")}, in the code <code>dz</code> or <code>d.z</code>, is short for the derivative of the loss with respect to z. It is
not a differential. It has the shape of z: each of its numbers says how much the loss changes, per unit, if this number of z
changes and all other inputs of the lines that follow stay as they are. All other derivatives are named in the same way.</p>
<h3>Names in the code</h3>
<p><code>p</code> holds the parameters, <code>a</code> the values of the forward pass, <code>d</code> their derivatives, and
<code>g</code> the derivatives of the parameters. So <code>p.mu.W</code> is the matrix W of the layer that computes mu, and
<code>g.mu.W</code> is its derivative.</p>
<h3>Heat maps</h3>
<figure>{heat_map("an example", example, 1.0, True)}</figure>
<p>A heat map shows an array, and each cell is one number. The last axis runs to the right, and all others run down. The stronger
the colour, the larger is the absolute value; 0 has no colour. Point to a cell, or choose it with <kbd>Tab</kbd> and the arrow keys, to
see its index, counted from 0, and its number. Arrays of 16 numbers or fewer are printed.</p>
<h3>Colours and checks</h3><ul class="legend">{colours}</ul>
<p>"Agrees with a finite difference to 6e-09" means that the two differ by 6 parts in 10<sup>9</sup>.</p>
</div><div class="scroll">{_symbols(trace)}</div></div>"""


def symbols(trace: Lines) -> list[tuple[str, str, str]]:
    """(name in the code, axes of its shape, meaning) of all that the code names; a number has no axes."""
    arch = trace.p.architecture
    layers = [
        (f"{part}[{i}]", axes)
        for part, axes in (("encoder", "B, H"), ("decoder", "L, B, H"))
        for i in range(1, len(arch.hidden) + 1)
    ]
    with_noise = LIKELIHOODS[arch.likelihood].has_noise
    last = "D" if trace.a.output_logvar.shape[-1] == arch.n_inputs else "1"
    noise = (
        "the log-variance of x given z" if with_noise else "the log-variance of x given z, which this likelihood does not read"
    )
    return [
        ("x", "B, D", "the examples: B rows of D inputs"),
        *((name, axes, f"the values of hidden layer {name[8:-1]} of the {name[:7]}") for name, axes in layers),
        ("mu", "B, Z", "the mean of q(z|x), the normal distribution that the encoder computes for each example"),
        ("logvar", "B, Z", "the logarithm of the variance of q(z|x)"),
        ("eps", "L, B, Z", "the noise: random numbers from N(0, 1)"),
        ("z", "L, B, Z", "the latents: L samples from q(z|x) for each example"),
        ("output", "L, B, D", f"what the decoder computes: {LIKELIHOODS[arch.likelihood].output}"),
        ("output_logvar", f"L, B, {last}", noise),
        ("nll", "L, B", "the reconstruction term: -log p(x|z) of each sample, in nats"),
        ("kl", "K, B", "the KL divergence of q(z|x) from the prior N(0, 1), in nats"),
        ("loss", "B", "the loss of each example, in nats; the loss of the batch is their mean, plus the L2 term"),
        ("W", "inputs, outputs", "the weights of a layer"),
        ("b", "outputs", "the biases of a layer"),
        ("beta", "", "the weight of the KL in the loss; the ELBO has 1"),
        ("l2", "", "the weight of the L2 term, half the sum of the squared weights"),
        ("n_examples", "", "the number of examples of which the loss is the mean; here it is B"),
    ]


def sizes(trace: Lines) -> dict[str, tuple[str, str]]:
    """{letter of a shape: (its size here, meaning)}"""
    arch = trace.p.architecture
    L, B, Z = trace.a.eps.shape
    return {
        "B": (str(B), "examples in the batch"),
        "D": (str(arch.n_inputs), "inputs of an example, such as pixels"),
        "H": (", ".join(map(str, arch.hidden)) or "none", "units of a hidden layer"),
        "Z": (str(Z), "latents of an example"),
        "L": (str(L), "samples of z per example"),
        "K": (str(len(trace.a.kl)), "values of the KL per example: 1 in closed form, or L if it is estimated from the samples"),
    }


def _symbols(trace):
    letters = "".join(
        f'<tr><th scope="row"><code>{letter}</code></th><td></td><td>{size}</td><td>{meaning}</td></tr>'
        for letter, (size, meaning) in sizes(trace).items()
    )
    rows = "".join(
        f'<tr><th scope="row"><code>{name}</code></th><td>{markup.math(name)}</td><td>{f"({axes})" if axes else "a number"}</td>'
        f"<td>{html.escape(meaning)}</td></tr>"
        for name, axes, meaning in symbols(trace)
    )
    return f"""<table class="symbols"><caption>All symbols. A nat is the unit of information of the natural logarithm: log 2 nats are 1
bit.</caption><thead><tr><th scope="col">code</th><th scope="col">mathematics</th><th scope="col">shape or size</th>
<th scope="col">meaning</th></tr></thead><tbody>{letters}{rows}</tbody></table>"""
