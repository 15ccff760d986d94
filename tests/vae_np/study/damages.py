"""What may go wrong in a formula: it loses a factor, a term, a sign, a square or a square root, or gets another number."""

EXCHANGED = {"+": "-", "-": "+", "product": "/", "/": "product", "<": ">", ">": "<"}


def damages(tree):
    """The tree with one damage, for each that it can take. Bodies of derivatives keep whole: their constants do not show."""
    match tree:
        case str() | ("name", *_) | ("index", *_) | ("over", "diff", *_):
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
