"""Formulas with a mistake: a factor, a term, a sign, a square or a square root is lost, or a number is another one."""

EXCHANGED = {"+": "-", "-": "+", "product": "/", "/": "product", "<": ">", ">": "<"}


def damages(tree):
    """Every tree that differs from this one by one mistake. Bodies of derivatives are kept: a constant in them has no effect."""
    match tree:
        case str() | ("name" | "value" | "array", *_) | ("index", *_) | ("over", "diff", *_):
            return
        case "number", digits:
            yield "number", str(int(digits) + 1)
            return
        case ("+" | "-" | "product" | "/") as kind, left, right:
            yield from ((EXCHANGED[kind], left, right), left, right)
        case ("negative" | "log" | "T", inner) | ("^", inner, _):
            yield inner
        case "call", ("name", "exp" | "log" | "sqrt" | "tanh" | "sigmoid"), *bracketed:
            yield tuple(bracketed)
        case "|", inner, _:
            yield "(", inner, ")"
        case "where", yes, ("relation", left, sign, right), no:
            yield "where", yes, ("relation", left, EXCHANGED[sign], right), no
        case "over", "sum" | "mean" as operator, index, body:
            yield "over", {"sum": "mean", "mean": "sum"}[operator], index, body
    for i, part in enumerate(tree):
        for damaged in damages(part):
            yield *tree[:i], damaged, *tree[i + 1 :]
