"""Formulas as docstrings write them, read, and typeset for a browser or a terminal.

Names side by side are a product, which binds as `/` and `@` do, from left to right. `sum_l`, `mean_l`, `int_z` (the
integral over z) and `diff_y` (the derivative by y) reach to the end of their term. `log` without brackets takes the factors
after it: log 2 pi / 2 is half of log(2 pi). A name before a bracket is a function only where it is one of FUNCTIONS.

A tree is nested tuples of a kind and its parts: mu + 1 is ("+", ("name", "mu"), ("number", "1")). Brackets stay in it.
"""

import html
import inspect
import re

# ----------------------------------------------------------------------------------------------------------- reading

TOKEN = re.compile(r"\d+|[A-Za-z]\w*(?:\[\d+\])?(?:\.[Wby]\b)?~?|\.T\b|\|\||[-+<>]=|[-+/@^=<>|,;()[\]]")
RELATIONS = "=", "+=", "-=", "<=", ">=", "<", ">"
OVER = re.compile(r"(sum|mean|int|diff|softmax|max|E)_(\w+)")
FUNCTIONS = "exp", "log", "max", "sigmoid", "sqrt", "tanh", "f", "g", "p", "q", "N", "KL"


def parse(text):
    """The tree of a formula; ValueError where it cannot be read."""
    tokens = TOKEN.findall(text)
    if "".join(tokens) != "".join(text.split()):
        raise ValueError(f"{text!r} holds what no formula does")
    tokens.append("")

    def take(*wanted):
        if wanted and tokens[0] not in wanted:
            raise ValueError(f"{text!r} is no formula: {' or '.join(wanted)} is wanted before {' '.join(tokens)!r}")
        return tokens.pop(0)

    def relation():
        parts = [choice()]
        while tokens[0] in RELATIONS:
            parts += take(), choice()
        return ("relation", *parts) if len(parts) > 1 else parts[0]

    def choice():
        tree = terms()
        if tokens[0] != "where":
            return tree
        condition = take("where") and ("relation", terms(), take("<", ">"), terms())
        return "where", tree, condition, take(",") and take("else") and terms()

    def terms():
        tree = term()
        while tokens[0] in ("+", "-"):
            tree = take(), tree, term()
        return tree

    def term():
        if tokens[0] == "-":
            return take() and ("negative", term())
        tree = product()
        while tokens[0] in ("/", "@"):
            tree = product((take(), tree, factor()))
        return tree

    def product(tree=None):
        tree = tree or factor()
        while tokens[0] == "(" or tokens[0][:1].isalnum() and tokens[0] not in ("where", "else"):
            tree = "product", tree, factor()
        return tree

    def factor():
        tree = primary()
        while tokens[0] in (".T", "^"):
            tree = ("T", tree) if take() == ".T" else ("^", tree, primary())
        return tree

    def primary():
        token = take()
        if token.isdigit():
            return "number", token
        if token in ("(", "|"):
            return token, terms(), take({"(": ")", "|": "|"}[token])
        if token == "log" and tokens[0] != "(":
            return "log", product()
        if over := OVER.fullmatch(token):
            operator, index = over.groups()
            if operator in ("sum", "mean", "int", "diff"):
                return "over", operator, index, term()
            opening, closing = "[]" if operator == "E" else "()"
            return "over", operator, index, (take(opening), terms(), take(closing))
        if not token[:1].isalpha() or token in ("where", "else"):
            raise ValueError(f"{text!r} is no formula: a factor is wanted before {' '.join([token, *tokens])!r}")
        name = indexed(token)
        if tokens[0] != "(" or token.partition("_")[0] not in FUNCTIONS:
            return name
        parts = [take("("), terms()]
        while tokens[0] in (",", ";", "|", "||"):
            parts += take(), terms()
        return "call", name, *parts, take(")")

    tree = relation()
    take("")
    return tree


def indexed(name):
    """The tree of a name, whose index is one or two letters: W_io is an element of W, n_examples a name."""
    base, _, index = name.rpartition("_")
    return ("index", ("name", base), index) if base and len(index) <= 2 else ("name", name)


def of(docstring):
    """The equations that a docstring of `kernels.reference` begins with, as trees; ValueError where they cannot be read."""
    formulas = inspect.cleandoc(docstring).split("\n")[0].partition("   ")[0]  # then come shapes and remarks
    return tuple(map(parse, re.split("[;,]  ", formulas)))


def substitute(tree, names):
    """The tree with other names: {name: the one in its place}"""
    if not isinstance(tree, tuple):
        return tree
    if tree[0] == "name":
        return "name", names.get(tree[1], tree[1])
    return tuple(substitute(part, names) for part in tree)


def equations(line):
    """The equations of a line as trees: those of its operation's docstring, in the names that stand on the line."""
    if not line.definition or line.composite:
        return ()
    names = dict(line.arguments)
    if "logits" in names:
        names["l"] = names["logits"]
    if line.writes and line.writes[0].name.endswith(".y"):
        names["dy"] = line.writes[0].name
    try:
        return tuple(substitute(tree, names) for tree in of(line.definition))
    except ValueError:  # the docstring of an operation of one's own
        return ()


# ------------------------------------------------------------------------------------------------------- typesetting

LAYER = r"(?:en|de)coder\[\d+\]|mu|logvar|output|noise"
VALUES = r"x|eps|z|nll|kl|loss|beta|l2|n_examples"
CODE = re.compile(rf"d?(?:(?:{LAYER})(?:\.[Wby])?|{VALUES})")  # the names that the text of the model gives
LETTERS = {"mu": "μ", "eps": "ε", "beta": "β", "pi": "π", "output": "o"}
SYMBOLS = {
    "logvar": ("log", ("^", ("name", "σ"), ("number", "2"))),
    "l2": ("index", ("name", "ℓ"), "2"),
    "n_examples": ("index", ("name", "n"), "examples"),
}


def symbol(name):
    """What a name is typeset as: a letter or a word, or the tree of a few."""
    if re.match(r"d(?!ecoder)\w", name):
        return "d", ("name", name[1:])
    if layer := re.fullmatch(r"(enc|dec)oder\[(\d+)\](?:\.(.))?", name):
        part, i, parameter = layer.groups()
        return "layer", ("name", parameter or "h"), str(int(i) + (parameter in ("W", "b"))), part
    if name[-2:] in (".W", ".b"):
        return "index", ("name", name[-1]), name[:-2]
    return SYMBOLS.get(name, LETTERS.get(name, name))


SPACE = "\N{NO-BREAK SPACE}"
RELATED = {"-=": "−=", "<=": "≤", ">=": "≥"}
BETWEEN = {",": ", ", ";": "; ", "||": " ‖ "}
BELOW, RAISED, ABOVE = (
    str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉"),
    str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹"),
    {"enc": "ᵉ", "dec": "ᵈ"},
)


def _bare(tree):
    """What stands above or below a line needs no brackets."""
    return tree[1] if tree[0] == "(" else tree


def mathml(tree):
    """The formula as MathML; a name of the text's is an element whose data-name says it."""
    return f'<math displaystyle="true" aria-label="{html.escape(plain(tree))}">{_marked(tree)}</math>'


def _marked(tree):
    match tree:
        case "number", digits:
            return f"<mn>{digits}</mn>"
        case "name", name:
            inner = symbol(name)
            mark = f' data-name="{name}"' if CODE.fullmatch(name) else ""
            if isinstance(inner, str):
                return f"<mi{mark}>{html.escape(inner)}</mi>"
            return f"<mrow{mark}>{_marked(inner)}</mrow>"
        case "d", inner:
            apart = "<mspace width='0.12em'/>" if inner[1] == "logvar" else ""
            return f'<mi mathvariant="normal">d</mi>{apart}{_marked(inner)}'
        case "layer", letter, number, part:
            return f"<msubsup>{_marked(letter)}<mn>{number}</mn><mtext>{part}</mtext></msubsup>"
        case "index", base, index:  # what it is an element of, or belongs to, is not meant
            below = (
                "".join(f"<mi>{letter}</mi>" for letter in index)
                if len(index) == 2 and index != "mu"
                else _marked(("name", index))
            )
            return re.sub(' data-name="[^"]*"', "", f"<msub>{_marked(base)}<mrow>{below}</mrow></msub>")
        case "relation", first, *rest:
            return _marked(first) + "".join(
                f"<mo>{html.escape(RELATED.get(sign, sign))}</mo>{_marked(side)}" for sign, side in zip(rest[::2], rest[1::2])
            )
        case "where", yes, condition, no:
            rows = f"<mtext>{SPACE}where{SPACE}</mtext>{_marked(condition)}<mtext>, else{SPACE}</mtext>"
            return _marked(yes) + rows + _marked(no)
        case ("+" | "-") as sign, left, right:
            return f"{_marked(left)}<mo>{'−' if sign == '-' else sign}</mo>{_marked(right)}"
        case "negative", inner:
            return f'<mo form="prefix">−</mo>{_marked(inner)}'
        case (("product" | "@"), left, right):
            return f"{_marked(left)}<mspace width='0.17em'/>{_marked(right)}"
        case "/", above, below:
            return f"<mfrac><mrow>{_marked(_bare(above))}</mrow><mrow>{_marked(_bare(below))}</mrow></mfrac>"
        case "^", base, exponent:
            return f"<msup><mrow>{_marked(base)}</mrow><mrow>{_marked(exponent)}</mrow></msup>"
        case "T", base:
            return f"<msup><mrow>{_marked(base)}</mrow><mo>⊤</mo></msup>"
        case ("(" | "[" | "|") as opening, inner, closing:
            return f'<mrow><mo form="prefix">{opening}</mo>{_marked(inner)}<mo form="postfix">{closing}</mo></mrow>'
        case "log", inner:
            return f"<mi>log</mi><mspace width='0.17em'/>{_marked(inner)}"
        case "over", "diff", index, body:
            by = f"<mfrac><mi>∂</mi><mrow><mi>∂</mi>{_marked(('name', index))}</mrow></mfrac>"
            return f"{by}<mspace width='0.17em'/>{_marked(body)}"
        case "over", "int", index, body:
            return f"<mo>∫</mo>{_marked(body)}<mspace width='0.17em'/><mi>d</mi>{_marked(('name', index))}"
        case "over", operator, index, body:
            sign = "<mo>∑</mo>" if operator == "sum" else f"<mi>{operator}</mi>"
            return f"<msub>{sign}<mi>{index}</mi></msub><mspace width='0.17em'/>{_marked(body)}"
        case "call", name, *rest:
            inner = "".join(
                _marked(part) if isinstance(part, tuple) else f"<mo>{BETWEEN.get(part, part).strip()}</mo>" for part in rest[1:-1]
            )
            return f'{_marked(name)}<mrow><mo form="prefix">(</mo>{inner}<mo form="postfix">)</mo></mrow>'
    raise ValueError(f"{tree!r} is no tree of a formula")


def plain(tree):
    """The formula in one line of text."""
    match tree:
        case "number", digits:
            return digits
        case "name", name:
            inner = symbol(name)
            return inner if isinstance(inner, str) else plain(inner)
        case "d", inner:
            return f"d{plain(inner)}"
        case "layer", letter, number, part:
            return f"{plain(letter)}{number.translate(BELOW)}{ABOVE[part]}"
        case "index", base, index:
            return f"{plain(base)}_{plain(('name', index))}".replace(" ", "")
        case "relation", first, *rest:
            return plain(first) + "".join(
                f" {RELATED.get(sign, sign)} {plain(side)}" for sign, side in zip(rest[::2], rest[1::2])
            )
        case "where", yes, condition, no:
            return f"{plain(yes)} where {plain(condition)}, else {plain(no)}"
        case ("+" | "-") as sign, left, right:
            return f"{plain(left)} {'−' if sign == '-' else sign} {plain(right)}"
        case "negative", inner:
            return f"−{plain(inner)}"
        case (("product" | "@"), left, right):
            return f"{plain(left)} {plain(right)}"
        case "/", above, below:
            return f"{plain(above)}/{plain(below)}"
        case "^", base, exponent:
            power = plain(exponent)
            return f"{plain(base)}{power.translate(RAISED)}" if power.isdigit() else f"{plain(base)}^{power}"
        case "T", base:
            return f"{plain(base)}ᵀ"
        case ("(" | "[" | "|") as opening, inner, closing:
            return f"{opening}{plain(inner)}{closing}"
        case "log", inner:
            return f"log {plain(inner)}"
        case "over", operator, index, body:
            sign = {"sum": "Σ", "int": "∫", "diff": "∂/∂"}.get(operator, operator)
            apart = "" if operator in ("E", "softmax", "max") else " "
            return f"{sign}{'' if operator == 'diff' else '_'}{plain(('name', index))}{apart}{plain(body)}"
        case "call", name, *rest:
            return plain(name) + "".join(plain(part) if isinstance(part, tuple) else BETWEEN.get(part, part) for part in rest)
    raise ValueError(f"{tree!r} is no tree of a formula")
