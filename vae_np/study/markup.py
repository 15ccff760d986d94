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


def equation(*parts: tuple) -> str:
    """A formula, or parts of one. A line may break before each part, and before each side but the first of a relation.

    The style sheet makes the letters smaller where the longest of these would not fit.
    """
    sides = [side for part in parts for side in _sides(part)]
    letters = max(len(typesetting.plain(side)) for side in sides)
    return f'<div class="equation" style="--letters: {letters}">{"<wbr>".join(map(typesetting.mathml, sides))}</div>'


def _sides(tree):
    """A relation in parts: its first side, and each other with the sign before it. Any other formula is one part."""
    if tree[0] != "relation" or not tree[1]:
        return [tree]
    _, first, *others = tree
    return [first, *(("relation", "", sign, side) for sign, side in zip(others[::2], others[1::2]))]


def link(trace: Lines, i: int, view: View = View()) -> str:
    """A link to the card of a line."""
    return f'<a href="#{view.output}l{i}">line {trace[i].number}</a>'


def links(trace: Lines, indices: Iterable[int], view: View = View()) -> str:
    """Links to the cards of several lines."""
    return ", ".join(link(trace, i, view) for i in indices)


def mark(error: float, wrong: bool, of_surrogate: bool = False) -> str:
    """The relative error of a line as a short mark; `wrong` says whether the line is the first to be wrong."""
    if error <= TOLERANCE:
        estimate = "<small>, estimate</small>" if of_surrogate else ""
        return f'<span title="{agreement(error, of_surrogate)}">✓ {f"{error:.0e}" if error else "0"}{estimate}</span>'
    if wrong:
        return f'<span class="wrong" title="{agreement(error)}">✗ {error:.0e}</span>'
    return f'<span class="wrong" title="the line reads a wrong derivative">✗ {error:.0e}, inherited</span>'


def proof(error: float, wrong: bool, of_surrogate: bool = False) -> str:
    """The relative error of a derivative in words; `wrong` as for `mark`."""
    if error <= TOLERANCE:
        return f"<span>✓ {agreement(error, of_surrogate)}</span>"
    inherited = "" if wrong else "; the line reads a wrong derivative"
    return f'<span class="wrong">✗ {agreement(error)}{inherited}</span>'
