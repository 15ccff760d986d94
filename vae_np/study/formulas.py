"""Formulas as docstrings write them, read once: typeset for a browser or a terminal, or evaluated.

Names side by side are a product, which binds as `/` and `@` do, from left to right. `sum_l`, `mean_l`, `int_z` (the
integral over z) and `diff_y` (the derivative by y) reach to the end of their term. `log` without brackets takes the factors
after it: log 2 pi / 2 is half of log(2 pi). A name before a bracket is a function only where it is one of FUNCTIONS.

A tree is nested tuples of a kind and its parts: mu + 1 is ("+", ("name", "mu"), ("number", "1")). Brackets stay in it.
"""

import html
import inspect
import re

import numpy as np

# ----------------------------------------------------------------------------------------------------------- reading

TOKEN = re.compile(r"\d+|[A-Za-z]\w*(?:\[\d+\])?(?:\.[Wb]\b)?~?|\.T\b|\|\||[-+<>]=|[-+/@^=<>|,;()[\]]")
RELATIONS = "=", "+=", "-=", "<=", ">=", "<", ">"
REACHING = "sum", "mean", "int", "diff"  # to the end of their term
OVER = re.compile(r"(sum|mean|int|diff|softmax|max|E)_(\w+)")
FUNCTIONS = {
    "exp": np.exp,
    "log": np.log,
    "max": np.maximum,
    "sigmoid": lambda y: 1 / (1 + np.exp(-y)),
    "sqrt": np.sqrt,
    "tanh": np.tanh,
    **dict.fromkeys(("f", "g", "p", "q", "N", "KL")),  # these mean what the values of `evaluate` say
}


def parse(text):
    """The tree of a formula; ValueError where it cannot be read."""
    tokens = TOKEN.findall(text)
    if "".join(tokens) != "".join(text.split()):
        raise ValueError(f"{text!r} holds what no formula does")
    tokens.append("")

    def take(*wanted):
        if wanted and tokens[0] not in wanted:
            place = " ".join(tokens).strip() or "its end"
            raise ValueError(f"{text!r} is not a formula: it wants {' or '.join(wanted) or 'to end'} at {place}")
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
        condition = take() and ("relation", terms(), take("<", ">"), terms())
        return "where", tree, condition, take(",") and take("else") and terms()

    def terms():
        tree = term()
        while tokens[0] in ("+", "-"):
            tree = take(), tree, term()
        return tree

    def term():
        if tokens[0] == "-":
            return take() and ("negative", term())
        tree = product(factor())
        while tokens[0] in ("/", "@"):
            tree = product((take(), tree, factor()))
        return tree

    def product(tree):
        while tokens[0] == "(" or (tokens[0][:1].isalnum() and tokens[0] not in ("where", "else")):
            tree = "product", tree, factor()
        return tree

    def factor():
        tree = primary()
        while tokens[0] in (".T", "^"):
            tree = ("T", tree) if take() == ".T" else ("^", tree, primary())
        return tree

    def primary():
        token = tokens[0]
        if token in ("(", "|"):
            return enclosed(token, ")" if token == "(" else "|")
        if token in ("where", "else") or not token[:1].isalnum():
            take("a factor")
        if take().isdigit():
            return "number", token
        if token == "log" and tokens[0] != "(":
            return "log", product(factor())
        if over := OVER.fullmatch(token):
            operator, index = over.groups()
            if operator in REACHING:
                return "over", operator, index, term()
            return "over", operator, index, enclosed(*("[]" if operator == "E" else "()"))
        base, index = indexed(token)
        name = ("index", ("name", base), index) if index else ("name", base)
        if tokens[0] != "(" or base not in FUNCTIONS:
            return name
        parts = [take(), terms()]
        while tokens[0] in (",", ";", "|", "||"):
            parts += take(), terms()
        return "call", name, *parts, take(")")

    def enclosed(opening, closing):
        return take(opening), terms(), take(closing)

    tree = relation()
    take("")
    return tree


def indexed(name):
    """A name and its index of one or two letters: W_io is an element of W, and n_examples just a name."""
    base, _, index = name.rpartition("_")
    return (base, index) if base and len(index) <= 2 else (name, "")


def of(docstring):
    """The equations that a docstring of `kernels.reference` begins with, as trees; ValueError where they cannot be read."""
    formulas = inspect.cleandoc(docstring).split("\n")[0].partition("   ")[0]  # then come shapes and remarks
    return tuple(map(parse, re.split("[;,]  ", formulas)))


def substitute(tree, names):
    """The tree with other names: {name: what it becomes}"""
    if isinstance(tree, str):
        return tree
    if tree[0] == "name":
        return "name", names.get(tree[1], tree[1])
    return tuple(substitute(part, names) for part in tree)


def equations(line):
    """The equations of a `vae_np.study.Line`: those of its operation's docstring, in the names that stand on the line."""
    if not line.definition or line.composite:
        return ()
    names = dict(line.arguments)
    if line.writes and line.writes[0].name.endswith(".y"):  # an activation's derivative turns dh into dy where it stands
        names["dy"] = line.writes[0].name
    try:
        return tuple(substitute(tree, names) for tree in of(line.definition))
    except ValueError:  # the docstring of an operation of one's own
        return ()


# -------------------------------------------------------------------------------------------------------- evaluating

NUMPY = {"+": "add", "-": "subtract", "product": "multiply", "/": "divide", "@": "matmul", "^": "power", "T": "transpose"}


def evaluate(tree, values):
    """The value of a tree, or of a relation those of its sides.

    values: {name: value}. Also of an element, "w_1", which else has the value of w; of a function, "p", or of one that is
    written so, "p(x|z)"; and of "sum_l" or "int_z", a function of the body, itself one of the names that are bound in it,
    and of the values.
    """

    def value(tree):
        match tree:
            case "number", digits:
                return int(digits)
            case "name", name:
                return np.pi if name == "pi" else values[name]
            case "index", (_, base), index:
                return values.get(f"{base}_{index}", values.get(base))
            case "(" | "[", inner, _:
                return value(inner)
            case "|", inner, _:
                return np.where(np.real(value(inner)) < 0, -value(inner), value(inner))
            case "over", operator, index, body:
                return values[f"{operator}_{index}"](lambda **bound: evaluate(body, {**values, **bound}), values)
            case "call", name, _, *arguments:
                function = values.get(plain(tree)) or values.get(plain(name)) or FUNCTIONS[plain(name)]
                return function(*map(value, arguments[::2]))
            case "relation", *sides:
                return [value(side) for side in sides[::2]]
            case "where", yes, ("relation", left, sign, right), no:
                smaller, larger = map(value, (left, right) if sign == "<" else (right, left))
                return np.where(np.real(smaller) < np.real(larger), value(yes), value(no))
            case kind, *parts:
                return getattr(np, NUMPY.get(kind, kind))(*map(value, parts))

    return value(tree)


# ------------------------------------------------------------------------------------------------------- typesetting

LAYER = r"(?:en|de)coder\[\d+\]|mu|logvar|output|noise"
CODE = re.compile(rf"d?(?:(?:{LAYER})(?:\.[Wby])?|x|eps|z|nll|kl|loss|beta|l2|n_examples)")  # names in the text of the model
LETTERS = {"mu": "μ", "eps": "ε", "beta": "β", "pi": "π", "output": "o"}
SYMBOLS = {**LETTERS, "logvar": ("log", ("^", "σ", "2")), "l2": ("index", "ℓ", "2"), "n_examples": ("index", "n", "examples")}
SIGNS = {"-": "−", "<=": "≤", ">=": "≥", "||": "∥"}
TIMES, APPLY = ("mo rspace='0.17em'", "\N{INVISIBLE TIMES}"), ("mo rspace='0.17em'", "\N{FUNCTION APPLICATION}")
D, E, T = (("mi mathvariant='normal'", letter) for letter in "dET")
IN_TEXT = {TIMES[1]: " ", APPLY[1]: " ", "∑": "Σ", "∫": "∫ ", ",": ", ", ";": "; ", **{sign: sign for sign in "()[]|"}}
LOW, HIGH = str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉"), str.maketrans("0123456789Tencd", "⁰¹²³⁴⁵⁶⁷⁸⁹ᵀᵉⁿᶜᵈ")


def symbol(name):
    """What a name is typeset as: a letter, a word, or a tree of those."""
    if re.match(r"d(?!ecoder)\w", name):
        return "d", symbol(name[1:])
    if layer := re.fullmatch(r"(enc|dec)oder\[(\d+)\]\.?(.?)", name):
        part, i, parameter = layer.groups()
        above = parameter in ("W", "b")  # encoder[0].W makes the first hidden layer
        return "layer", parameter or "h", str(int(i) + above), part
    if name[-2:] in (".W", ".b"):
        return "index", name[-1], name[:-2]
    base, index = indexed(name)
    return ("index", symbol(base), index) if index else SYMBOLS.get(name, name)


def mathml(tree):
    """The tree as MathML Core. data-name stands on all that has a name in the text of the model."""

    def written(element):
        tag, *parts = element
        if tag == "mfrac":  # the line between them does what brackets do
            parts = [part[2] if part[1] == ("mo", "(") else part for part in parts]
        inside = "".join(html.escape(part) if isinstance(part, str) else written(part) for part in parts)
        return inside if tag == "mrow" and len(parts) == 1 else f"<{tag}>{inside}</{tag.split()[0]}>"

    return f'<math displaystyle="true" alttext="{html.escape(plain(tree))}">{written(elements(tree))}</math>'


def plain(tree):
    """The tree as a line of Unicode."""

    def written(element):
        tag, first, *more = (part if isinstance(part, str) else written(part) for part in element)
        match tag.split()[0], *more:
            case "mfrac", under:  # half of log w, and not the log of a half
                return f"({first})/{under}" if re.search(r"log [^()]*$", first) else f"{first}/{under}"
            case "msub", index:
                return first + (index.translate(LOW) if index.isdigit() else "_" + index.replace(" ", ""))
            case "msup", power:
                return first + (power.translate(HIGH) if power.isdigit() or power == "T" else "^" + power)
            case "msubsup", index, part:
                return first + index.translate(LOW) + part.translate(HIGH)
            case "mover", _:
                return first + "\N{COMBINING TILDE}"
            case ("mtext",):
                return first.replace("\xa0", " ")
            case ("mo",):
                return first if "prefix" in tag else IN_TEXT.get(first, f" {first} ")
        return "".join([first, *more])

    return written(elements(tree))


def elements(tree):
    """The tree in the elements of MathML, each a tuple of its tag and what it holds: elements, or a text."""

    def below(index):
        letters = [index] if index in LETTERS or len(index) > 2 else index
        return "mrow", *(elements(symbol(letter)) for letter in letters)

    match tree:
        case str(word) if word.endswith("~"):
            return "mover accent='true'", elements(word[:-1]), ("mo", "~")
        case str(word) | ("number", word):
            return "mn" if word.isdigit() else "mi", word
        case "name", name:
            return f"mrow data-name='{name}'" if CODE.fullmatch(name) else "mrow", elements(symbol(name))
        case "d", name:
            space = [APPLY] if name[0] == "log" else []
            return "mrow", D, *space, elements(name)
        case "index", name, index:
            return "msub", elements(name), below(index)
        case "layer", letter, i, part:
            return "msubsup", elements(letter), elements(i), ("mtext", part)
        case (("^" | "T"), ("name", name), *power) if symbol(name)[0] == "layer":  # has something above already
            return elements((tree[0], ("(", ("name", name), ")"), *power))
        case "^", base, power:
            return "msup", elements(base), elements(power)
        case "T", matrix:
            return "msup", elements(matrix), T
        case "/", above, under:
            return "mfrac", elements(above), elements(under)
        case "log", argument:
            return "mrow", elements("log"), APPLY, elements(argument)
        case "product" | "@", left, right:
            return "mrow", elements(left), TIMES, elements(right)
        case "negative", term:
            return "mrow", ("mo form='prefix'", "−"), elements(term)
        case "where", yes, condition, no:
            return "mrow", elements(yes), ("mtext", "\xa0where\xa0"), elements(condition), ("mtext", ", else\xa0"), elements(no)
        case "call", name, *arguments:
            return "mrow", elements(name), elements(tuple(arguments))
        case "over", "int", index, body:
            return "mrow", ("mo", "∫"), elements(body), TIMES, D, below(index)
        case "over", "diff", index, body:
            return "mrow", ("mfrac", elements("∂"), ("mrow", elements("∂"), below(index))), TIMES, elements(body)
        case "over", "E", index, body:
            return "mrow", ("msub", E, below(index)), elements(body)
        case "over", operator, index, body:
            letters = ("mo movablelimits='false'", "∑") if operator == "sum" else elements(operator)
            space = [APPLY] if operator in REACHING else []
            return "mrow", ("msub", letters, below(index)), *space, elements(body)
        case "+" | "-" as sign, left, right:
            parts = left, sign, right
        case "relation", *parts:
            pass
        case _:  # what brackets enclose
            parts = tree
    return "mrow", *(("mo", SIGNS.get(part, part)) if isinstance(part, str) else elements(part) for part in parts)
