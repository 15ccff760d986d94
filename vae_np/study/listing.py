"""The code of the model as it stands in its file, with the mark of each line's proof."""

from vae_np.study import markup
from vae_np.study.lines import Lines


def listing(trace: Lines) -> str:
    """The HTML of the functions of a trace; each line that ran has the mark of its proof, and a link to its card."""
    blocks = []
    for function, (first, lines) in trace.sources.items():
        rows, rest = [], 0  # rest: how many more lines belong to the statement
        for number, source in enumerate(lines, first):
            rest = max(rest - 1, 0)
            if rest:
                continue
            ran = [i for i, line in enumerate(trace) if (line.function, line.number) == (function, number)]
            errors = [error for i in ran if (error := trace[i].error) is not None]
            if ran:
                line = trace[ran[0]]
                rest = line.source.count("\n") + 1
                code = markup.code(line.source, line.symbols)
                number = f'<a href="#l{ran[0]}" aria-label="line {number}">{number}</a>'
            else:
                code = f'<span class="still">{markup.code(source.lstrip(), ())}</span>'
            estimate = any(array.of_surrogate for i in ran for array in trace[i].writes)
            mark = markup.mark(max(errors), any(trace[i].wrong for i in ran), estimate) if errors else ""
            indent = " " * (len(source) - len(source.lstrip()))
            code = code.replace("\n", f"\n{indent}")
            cards = " ".join(f"l{i}" for i in ran)
            rows.append(
                f'<div class="row" data-cards="{cards}"><span class="number">{number}</span><code>{indent}{code}</code>'
                f'<span class="mark">{mark}</span></div>'
            )
        blocks.append(f'<div class="listing" role="group" aria-label="{function}">{"".join(rows)}</div>')
    words = (
        "This is the code of the program itself. Click a name to see the lines that compute it and the lines that read it. Click "
        "the number of a line to study that line."
    )
    return f"<p>{words}</p>{''.join(blocks)}"
