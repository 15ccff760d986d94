"""The derivations as a part of the page: how the line of each operation follows from its definition."""

import html
import inspect
import re

from vae_np.kernels import reference
from vae_np.kernels.contract import OPERATIONS
from vae_np.study import formulas, markup
from vae_np.study.derivations import DERIVATIONS, key_of
from vae_np.study.lines import Lines


def explanations(trace: Lines) -> str:
    """The HTML of all derivations. Those of operations that ran stand first, and are open."""
    used = {"bound", "adjoint", *(key_of(line.operation) for line in trace if line.called)}
    parts = []
    for key in sorted(DERIVATIONS, key=lambda key: key not in used):
        title, steps, source, _ = DERIVATIONS[key]
        items = "".join(f"<li>{_prose(sentence)}{_equation(formula)}</li>" for sentence, formula in steps)
        ends = "".join(_ending(vars(reference)[name]) for name in OPERATIONS if key_of(name) == key)
        parts.append(
            f'<details class="why" id="why-{key}"{" open" * (key in used)}><summary><h3>{html.escape(title)}</h3></summary>'
            f'<ol>{items}</ol>{ends}<p class="source">{html.escape(source)}</p></details>'
        )
    return "".join(parts)


def _prose(sentence):
    """A sentence in which x_i is typeset as an element of x."""
    return re.sub(r"\b([A-Za-z]+)_([a-z]{1,2})\b", r"<i>\1</i><sub>\2</sub>", html.escape(sentence))


def _equation(formula):
    return markup.equation(formulas.parse(formula)) if formula else ""


def _ending(operation):
    """The formulas and the code of an operation."""
    equations = "".join(map(markup.equation, formulas.of(operation.__doc__)))
    return f'<div class="ending">{equations}<pre><code>{html.escape(inspect.getsource(operation))}</code></pre></div>'
