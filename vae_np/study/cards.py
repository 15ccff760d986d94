"""The cards of the page: each line of the forward pass, beside the lines that differentiate it."""

import html
import inspect

import numpy as np

from vae_np.kernels import reference
from vae_np.study import formulas, markup
from vae_np.study.derivations import key_of
from vae_np.study.lines import Array, Line, Lines
from vae_np.study.paths import BACKWARD, GRADIENTS, TERMS, forward_lines, paths_of
from vae_np.study.pictures import picture


def cards(trace: Lines, image_shape: tuple[int, ...] | None) -> str:
    """The HTML of all lines: each line of the forward pass, and beside it the lines that differentiate it."""
    forward, paths = forward_lines(trace), paths_of(trace)

    def card(i):
        return _card(trace, i, paths[i], image_shape)

    shown, rows = set(forward), []
    for i in forward:
        if not trace[i].called or trace[i].composite:
            rows.append(f'<div class="pair thin">{card(i)}</div>')
            continue
        partners = [j for j, line in enumerate(trace) if i in line.differentiates and j not in shown]
        shown.update(partners)
        gradients = "".join(card(j) for j in partners if trace[j].function == GRADIENTS)
        # The page shows the backward pass from bottom to top, and so two lines of it that stand beside one line.
        back = "".join(card(j) for j in reversed(partners) if trace[j].function != GRADIENTS)
        rows.append(f'<div class="pair">{card(i)}<div class="back">{back}</div>{gradients}</div>')
    rows += [f'<div class="pair thin">{card(i)}</div>' for i in range(len(trace)) if i not in shown]
    return (
        "<p>The left column shows the lines of the forward pass, from top to bottom. Beside each line, the right column shows the "
        "lines of the backward pass that differentiate it; these run from bottom to top. The gradients of a layer's weights are "
        "computed last, and stand below the two. Press <kbd>j</kbd> or <kbd>k</kbd> to go to the next or the previous line, in the "
        "order in which the lines ran.</p>"
        '<div class="heads" aria-hidden="true"><span>forward ↓</span><span>backward ↑</span></div>' + "".join(rows)
    )


def _card(trace, i, paths, image_shape):
    line: Line = trace[i]
    kind = {BACKWARD: "backward", GRADIENTS: "gradients"}.get(line.function, "forward")
    equations = "".join(map(markup.equation, formulas.equations(line)))
    state = " off" if line.wrong else ""
    misshapen = f'<p class="wrong">{html.escape(line.misshapen)}</p>' if line.misshapen else ""
    written = line.writes if line.called and not line.composite else ()
    arrays = "".join(_array(trace, line, array, image_shape) for array in written)
    partners = markup.links(trace, line.differentiates)
    differentiates = f' <span class="differentiates">differentiates {partners}</span>' if partners else ""
    return (
        f'<article id="l{i}" class="card {kind}{state}" data-paths="{" ".join(sorted(paths))}" tabindex="-1">'
        f'<p class="where"><a href="#l{i}">{line.function}, line {line.number}</a>{differentiates}</p>'
        f"<pre><code>{markup.code(line.source, line.symbols)}</code></pre>{equations}{misshapen}"
        f'<div class="arrays">{arrays}</div>{_operation(line)}</article>'
    )


def _operation(line):
    """What a line calls: the code of an operation and a link to its derivation, or what a function of the model does."""
    if line.composite or not line.called:
        words = " ".join(line.definition.split("\n")[0].split())
        return f'<p class="note">{html.escape(words)}</p>' if words else ""
    key, operation = key_of(line.operation), vars(reference).get(line.operation)
    why = f'<a href="#why-{key}">How is it derived?</a>' if key else ""
    source = f"<pre><code>{html.escape(inspect.getsource(operation))}</code></pre>" if operation else ""
    name = f"<code>{html.escape(line.operation)}</code>"
    return f"<details><summary>The NumPy code of {name} {why}</summary>{source}</details>"


def _array(trace: Lines, line: Line, array: Array, image_shape):
    """An array that a line writes: its name, shape, numbers, picture and proof."""
    value, proof = array.value, ""
    letters, shape = _letters(line, array), " × ".join(map(str, value.shape))
    if array.error is not None:
        through, missing = markup.links(trace, array.through), markup.links(trace, array.missing_paths)
        proof = markup.proof(array.error, line.wrong)
        proof += f' <span class="through">through {through}</span>' if through else ""
        proof += f' <span class="wrong">the path through {missing} is missing</span>' if missing else ""
    return (
        f'<div class="array"><div class="name">{markup.math(array.name)} '
        f'<span class="shape">{html.escape(letters)}{shape}</span></div>'
        f'<div class="numbers">min {value.min():.3g}, max {value.max():.3g}, norm {np.linalg.norm(value):.3g}</div>'
        f'{picture(array, image_shape)}<div class="proof">{proof}</div>{_shares(trace, array)}</div>'
    )


def _letters(line, array):
    """The shape of an array in letters, as the line's comment has it."""
    names = [other.name for other in line.writes]
    shapes = line.shapes[-len(names) :]
    return f"({shapes[min(names.index(array.name), len(shapes) - 1)]}) = " if shapes else ""


def _shares(trace, array):
    """The part of a derivative that comes from each term of the loss: bars of the norms of these parts."""
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
    return f'<div class="shares" role="group" aria-label="norm of the part that comes from each term of the loss">{bars}</div>'


def _complete(trace, array):
    """Whether no later line adds to a derivative: the terms' parts are parts of the complete one."""
    return [other for line in trace for other in line.writes if other.name == array.name][-1] is array
