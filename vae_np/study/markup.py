"""The pieces of HTML that several parts of the page use: lines of code, names, links to lines, and marks of proofs."""

import html
from collections.abc import Iterable
from typing import NamedTuple

from vae_np.study import typesetting
from vae_np.study.lines import Lines
from vae_np.study.proof import TOLERANCE, agreement


class View(NamedTuple):
    """How a trace is shown: on the page, or as one of the outputs of a notebook, which has no script and no other parts."""

    image_shape: tuple[int, ...] | None = None  # the height and width of the images that the examples are
    output: str = ""  # what the ids of a notebook's output begin with; "" on the page

    @property
    def on_page(self) -> bool:
        """Whether the page's script and its other parts are there."""
        return not self.output


def code(source: str, symbols: Iterable[tuple[int, int, str]]) -> str:
    """A line of code in which every name of an array is a button; symbols as in `trace.Line`."""
    parts, position = [], 0
    for start, end, name in symbols:
        parts.append(html.escape(source[position:start]))
        parts.append(f'<button type="button" data-name="{html.escape(name)}">{html.escape(source[start:end])}</button>')
        position = end
    code, sign, comment = source[position:].partition("  # ")
    parts.append(html.escape(code.rstrip() if sign else code))
    return "".join(parts) + (f' <span class="comment"># {html.escape(comment)}</span>' if sign else "")


def math(name: str) -> str:
    """The name of an array as it is typeset."""
    return typesetting.mathml(("name", name))


def equation(tree: tuple) -> str:
    """A formula on a line of its own. The style sheet makes its letters smaller where so many would not fit."""
    return f'<div class="equation" style="--letters: {len(typesetting.plain(tree))}">{typesetting.mathml(tree)}</div>'


def link(trace: Lines, i: int, view: View = View()) -> str:
    """A link to the card of a line."""
    return f'<a href="#{view.output}l{i}">line {trace[i].number}</a>'


def links(trace: Lines, indices: Iterable[int], view: View = View()) -> str:
    """Links to the cards of several lines."""
    return ", ".join(link(trace, i, view) for i in indices)


def mark(error: float, wrong: bool) -> str:
    """The relative error of a line as a short mark; `wrong` says whether the line is the first to be wrong."""
    if error <= TOLERANCE:
        return f'<span title="{agreement(error)}">✓ {f"{error:.0e}" if error else "0"}</span>'
    if wrong:
        return f'<span class="wrong" title="{agreement(error)}">✗ {error:.0e}</span>'
    return f'<span class="wrong" title="the line reads a wrong derivative">✗ {error:.0e}, inherited</span>'


def proof(error: float, wrong: bool) -> str:
    """The relative error of a derivative in words; `wrong` as for `mark`."""
    if error <= TOLERANCE:
        return f"<span>✓ {agreement(error)}</span>"
    inherited = "" if wrong else "; the line reads a wrong derivative"
    return f'<span class="wrong">✗ {agreement(error)}{inherited}</span>'
