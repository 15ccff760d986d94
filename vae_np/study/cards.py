"""The page's cards: each line of the forward pass beside the lines that undo it."""

import html
import inspect

import numpy as np

from vae_np.kernels import reference
from vae_np.study import formulas, markup
from vae_np.study.derivations import DERIVATIONS, stem
from vae_np.study.paths import paths_of
from vae_np.study.pictures import picture

TERMS = {"reconstruction": "reconstruction", "kl": "KL", "l2": "L2"}


def cards(trace, image_shape):
    """Each line of forward, and beside it the lines that undo it."""
    forward = [i for i, line in enumerate(trace) if not line.undoes and line.function not in ("backward", "weight_gradients")]
    paths = paths_of(trace, forward)
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
        f"<pre><code>{markup.code(line.source, line.symbols)}</code></pre>{maths}{misshapen}"
        f'<div class="arrays">{arrays}</div>{_operation(line)}</article>'
    )


def _undone(trace, i):
    links = ", ".join(markup.link(trace, j) for j in trace[i].undoes)
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
        through = ", ".join(markup.link(trace, j) for j in array.through)
        lacks = ", ".join(markup.link(trace, j) for j in array.lacks)
        proof = markup.mark(array.error, line.wrong) + (f' <span class="through">through {through}</span>' if through else "")
        proof += f' <span class="wrong">lacks the path through {lacks}</span>' if lacks else ""
    shown = picture(array, image_shape)
    return (
        f'<div class="array"><div class="name">{markup.math(array.name)} '
        f'<span class="shape">{html.escape(letters)}{shape}</span></div>'
        f'<div class="numbers">{least:.3g} … {most:.3g}, norm {norm:.3g}</div>{shown}'
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
