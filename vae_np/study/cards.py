"""The cards of the page: each line of the forward pass, beside the lines that differentiate it."""

import html
import inspect

import numpy as np

from vae_np.kernels import reference
from vae_np.study import estimates, formulas, markup, values
from vae_np.study.derivations import key_of
from vae_np.study.exercises import exercise_of
from vae_np.study.lines import Array, Line, Lines
from vae_np.study.markup import View
from vae_np.study.paths import BACKWARD, GRADIENTS, TERMS, forward_lines, paths_of
from vae_np.study.typesetting import number


def cards(trace: Lines, view: View) -> str:
    """The HTML of all lines: each line of the forward pass, and beside it the lines that differentiate it."""
    forward, paths = forward_lines(trace), paths_of(trace)

    def card(i):
        return _card(trace, i, paths[i], view)

    shown, rows = set(forward), []
    for i in forward:
        if not trace[i].called or trace[i].composite:
            rows.append(f'<div class="pair thin">{card(i)}</div>')
            continue
        partners = [j for j, line in enumerate(trace) if i in line.differentiates and j not in shown]
        shown.update(partners)
        gradients = "".join(card(j) for j in partners if trace[j].function == GRADIENTS)
        back = "".join(card(j) for j in partners if trace[j].function != GRADIENTS)
        rows.append(f'<div class="pair">{card(i)}<div class="back">{back}</div>{gradients}</div>')
    rows += [f'<div class="pair thin">{card(i)}</div>' for i in range(len(trace)) if i not in shown]
    keys = (
        " Press <kbd>j</kbd> to go to the line that ran next, and <kbd>k</kbd> to go to the line that ran before."
        if view.on_page
        else ""
    )
    return (
        "<p>The left column shows the lines of the forward pass. Beside each line, the right column shows the lines of the backward "
        "pass that differentiate it. The gradients of a layer's weights stand below the two. The number of its step says when a line "
        f"ran.{keys}</p>"
        '<div class="heads" aria-hidden="true"><span>forward →</span><span>backward ←</span></div>' + "".join(rows)
    )


def step(trace: Lines, i: int) -> str:
    """When a line ran, such as step 4 of 35."""
    return f"step {i + 1} of {len(trace)}"


def _card(trace, i, paths, view):
    line: Line = trace[i]
    equations = "".join(map(markup.equation, formulas.equations(line)))
    kind = {BACKWARD: "backward", GRADIENTS: "gradients"}.get(line.function, "forward") + " off" * line.wrong
    misshapen = f'<p class="wrong">{html.escape(line.misshapen)}</p>' if line.misshapen else ""
    written = line.writes if line.called and not line.composite else ()
    arrays = "".join(_array(trace, line, array, paths, view) for array in written)
    partners = markup.links(trace, line.differentiates, view)
    differentiates = f' <span class="differentiates">differentiates {partners}</span>' if partners else ""
    source = markup.code(line.source, line.symbols if view.on_page else ())
    return (
        f'<article id="{view.output}l{i}" class="card {kind}" data-paths="{" ".join(sorted(paths))}" tabindex="-1" '
        f'aria-label="{line.function}, line {line.number}">'
        f'<p class="where"><a href="#{view.output}l{i}">{line.function}, line {line.number}</a>{differentiates}'
        f'<span class="step">{step(trace, i)}</span></p>'
        f"<pre><code>{source}</code></pre>{equations}{misshapen}"
        f'<div class="arrays">{arrays}</div>{_operation(line, view)}</article>'
    )


def _operation(line, view):
    """What a line calls: the code of an operation and a link to its derivation, or what a function of the model does."""
    if line.composite or not line.called:
        words = " ".join(line.definition.split("\n")[0].split())
        return f'<p class="note">{html.escape(words)}</p>' if words else ""
    key, operation = key_of(line.operation), vars(reference).get(line.operation)
    why = (
        f'<a href="#why-{key}" aria-label="How is {html.escape(line.operation)} derived?">How is it derived?</a>'
        if key and view.on_page
        else ""
    )
    source = f"<pre><code>{html.escape(inspect.getsource(operation))}</code></pre>" if operation else ""
    name = f"<code>{html.escape(line.operation)}</code>"
    exercise = exercise_of(line.operation) if line.function in (BACKWARD, GRADIENTS) else None
    own = f"<p>Write it yourself: <code>vae-np exercise</code>, exercise <code>{exercise}</code>.</p>" if exercise else ""
    return f"<details><summary>The NumPy code of {name} {why}</summary>{own}{source}</details>"


def _array(trace: Lines, line: Line, array: Array, paths, view):
    """An array that a line writes: its name, shape, numbers and proof; and the numbers of its parts, one for each path."""
    proof, letters, shape = "", letters_of(line, array), " × ".join(map(str, array.value.shape))
    if array.error is not None:
        through, missing = markup.links(trace, array.through, view), markup.links(trace, array.missing_paths, view)
        proof = markup.proof(array.error, line.wrong, array.of_surrogate)
        proof += f' <span class="through">through {through}</span>' if through else ""
        proof += f' <span class="wrong">the path through {missing} is missing</span>' if missing else ""
        proof += f' <span class="wrong">{html.escape(array.cause)}</span>' if array.cause else ""
    parts = {path: part for path, part in array.parts.items() if path in paths and view.on_page}
    variants = "".join(
        f'<div class="variant" data-path="{path}"{" hidden" * (path != "all")}>{values.shown(array, value, view)}</div>'
        for path, value in {"all": array.value, **parts}.items()
    )
    return (
        f'<div class="array"><div class="name">{markup.math(array.name)} '
        f'<span class="shape">{html.escape(letters)}{shape}</span></div>{variants}'
        f'<div class="proof">{proof}</div>{_estimate(trace, array, view)}{_shares(array)}</div>'
    )


def _estimate(trace, array, view):
    """What an estimate is, and its expectation."""
    words, mean = estimates.said_of(array, trace), ""
    if not words:
        return ""
    if array.expectation:
        mean = values.shown(array._replace(name=f"the expectation of {array.name}"), array.expectation.mean, view)
    return f'<div class="estimate"><p class="note">{html.escape(words)}</p>{mean}</div>'


def letters_of(line: Line, array: Array) -> str:
    """The shape of an array in letters, as the line's comment has it: "(B, Z) = "."""
    names = [other.name for other in line.writes]
    shapes = line.shapes[-len(names) :]
    return f"({shapes[min(names.index(array.name), len(shapes) - 1)]}) = " if shapes else ""


def _shares(array):
    """The part of a derivative that comes from each term of the loss: bars of the norms of these parts."""
    norms = {term: float(np.linalg.norm(array.parts[term])) for term in TERMS if term in array.parts}
    norms = {term: norm for term, norm in norms.items() if norm > 1e-12}
    if len(norms) < 2:
        return ""
    largest = max(norms.values())
    bars = "".join(
        f'<div class="share {term}"><span>{TERMS[term]}</span>'
        f'<i style="width:{100 * norm / largest:.1f}%"></i><b>{number(norm)}</b></div>'
        for term, norm in norms.items()
    )
    return f'<div class="shares" role="group" aria-label="norm of the part that comes from each term of the loss">{bars}</div>'
