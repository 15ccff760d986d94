"""What the parts of the page share: a line of code, a name, a link to a line, and the mark of a proof."""

import html

from vae_np.study import formulas
from vae_np.study.proof import TOLERANCE


def code(source, symbols):
    """A line of code in which what names an array can be clicked."""
    parts, position = [], 0
    for start, end, name in symbols:
        parts.append(html.escape(source[position:start]))
        parts.append(f'<button type="button" data-name="{html.escape(name)}">{html.escape(source[start:end])}</button>')
        position = end
    code, sign, comment = source[position:].partition("  # ")
    parts.append(html.escape(code.rstrip() if sign else code))
    return "".join(parts) + (f' <span class="comment"># {html.escape(comment)}</span>' if sign else "")


def math(name):
    return formulas.mathml(("name", name))


def link(trace, i):
    line = trace[i]
    return f'<a href="#l{i}">line {line.number}</a>'


def mark(error, wrong):
    if error <= TOLERANCE:
        return f'<span class="right" title="off by {error:.0e} of itself">✓ {error:.0e}</span>'
    return f'<span class="wrong">✗ {error:.0e}{"" if wrong else ", from above"}</span>'
