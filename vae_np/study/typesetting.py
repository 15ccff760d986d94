"""Formulas as a browser or a terminal shows them: MathML, or a line of Unicode text."""

import html
import re
from typing import SupportsFloat

import numpy as np

from vae_np.study.formulas import REACHING, Tree, indexed

LAYER = r"(?:en|de)coder\[\d+\]|mu|logvar|output|output_logvar"
CODE = re.compile(
    rf"d?(?:(?:{LAYER})(?:\.[Wby])?|x|eps|z|nll|kl|loss|beta|l2|n_examples)"
)  # names that the code of the model has
LETTERS = {"mu": "μ", "eps": "ε", "beta": "β", "pi": "π", "Phi": "Φ", "output": "o"}
SYMBOLS = {
    **LETTERS,
    "logvar": ("log", ("^", "σ", "2")),
    "output_logvar": ("log", ("^", ("index", "σ", "x"), "2")),
    "l2": ("index", "ℓ", "2"),
    "n_examples": ("index", "n", "examples"),
}
SIGNS = {"-": "−", "<=": "≤", ">=": "≥", "||": "∥"}
TIMES, APPLY = ("mo rspace='0.17em'", "\N{INVISIBLE TIMES}"), ("mo rspace='0.17em'", "\N{FUNCTION APPLICATION}")
D, E, T = (("mi mathvariant='normal'", letter) for letter in "dET")
IN_TEXT = {TIMES[1]: " ", APPLY[1]: " ", "∑": "Σ", "∫": "∫ ", ",": ", ", ";": "; ", **{sign: sign for sign in "()[]|"}}
LOW, HIGH = str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉"), str.maketrans("0123456789Tencd", "⁰¹²³⁴⁵⁶⁷⁸⁹ᵀᵉⁿᶜᵈ")


def number(value: SupportsFloat) -> str:
    """A number with about three digits, as the page shows it.

    Examples
    --------
    >>> number(0.09149), number(1.7742), number(0.0), number(64), number(0.5)
    ('0.0915', '1.774', '0', '64', '0.5')
    """
    value = float(value)
    text = (
        f"{value:g}"  # it has two decimals or fewer
        if abs(value - round(value, 2)) < 1e-12 and abs(value) < 1e6
        else f"{value:.3f}"
        if 0.1 <= abs(value) < 1000
        else f"{value:.3g}"
    )
    return text.replace("-", "−")


def symbol(name: str) -> Tree:
    """The letter or word that stands for a name, or a tree of letters and words."""
    if re.match(r"d(?!ecoder)\w", name):
        return "d", symbol(name[1:])
    if layer := re.fullmatch(r"(enc|dec)oder\[(\d+)\]\.?(.?)", name):
        part, i, parameter = layer.groups()
        above = parameter in ("W", "b")  # encoder[0].W belongs to the first hidden layer, encoder[1]
        return "layer", parameter or "h", str(int(i) + above), part
    if name[-2:] in (".W", ".b"):
        return "index", name[-1], name[:-2]
    base, index = indexed(name)
    return ("index", symbol(base), index) if index else SYMBOLS.get(name, name)


def mathml(tree: Tree) -> str:
    """The tree as MathML Core. An element whose name the code of the model has carries this name as data-name."""

    def written(element):
        tag, *parts = element
        if tag == "mfrac":  # its line makes brackets unnecessary
            parts = [part[2] if part[1] == ("mo", "(") else part for part in parts]
        inside = "".join(html.escape(part) if isinstance(part, str) else written(part) for part in parts)
        return inside if tag == "mrow" and len(parts) == 1 else f"<{tag}>{inside}</{tag.split()[0]}>"

    return f'<math displaystyle="true" alttext="{html.escape(plain(tree))}">{written(elements(tree))}</math>'


def plain_name(name: str) -> str:
    """The name of an array as Unicode text."""
    return plain(("name", name))


def plain(tree: Tree) -> str:
    """The tree as a line of Unicode text.

    Examples
    --------
    >>> from vae_np.study.formulas import parse
    >>> plain(parse("dlogvar += sum_l dz eps / 2"))
    'd log σ² += Σ_l dz ε/2'
    """

    def low(index):
        return index.translate(LOW) if index.isdigit() else "_" + index.replace(" ", "")

    def written(element):
        tag, first, *more = (part if isinstance(part, str) else written(part) for part in element)
        match tag.split()[0], *more:
            case "mfrac", under:  # (log w)/2, because log w/2 would be the log of a half
                return f"({first})/{under}" if re.search(r"log [^()]*$", first) else f"{first}/{under}"
            case "msub", index:
                return first + low(index)
            case "msup", power:
                return first + (power.translate(HIGH) if power.isdigit() or power == "T" else "^" + power)
            case "msubsup", index, power:
                return first + low(index) + power.translate(HIGH)
            case "mover", _:
                return first + "\N{COMBINING TILDE}"
            case "mtable", *rows:
                return f"[{'; '.join((first, *rows))}]"
            case "mtr", *cells:
                return " ".join((first, *cells))
            case ("mtext",):
                return first.replace("\xa0", " ")
            case ("mo",):
                return first if "prefix" in tag else IN_TEXT.get(first, f" {first} ")
        return "".join([first, *more])

    return written(elements(tree))


def elements(tree: Tree) -> tuple:
    """The tree as elements of MathML. Each is a tuple of its tag and its content: other elements, or a text."""

    def below(index):
        letters = [index] if index in LETTERS or len(index) > 2 else index
        return "mrow", *(elements(symbol(letter)) for letter in letters)

    if not isinstance(tree, str) and tree[0] in ("relation", "call", "/", "(", "["):  # here a negative number needs no brackets
        tree = tree[0], *(("alone", *part[1:]) if part[:1] == ("value",) else part for part in tree[1:])
    match tree:
        case str(word) if word.endswith("~"):
            return "mover accent='true'", elements(word[:-1]), ("mo", "~")
        case str(word) | ("number", word):
            return "mn" if word.isdigit() else "mi", word
        case "value" | "alone" as kind, numbers:
            texts = [number(value) for value in np.ravel(numbers)]
            if kind == "value":
                texts = [f"({text})" if text[0] == "\N{MINUS SIGN}" else text for text in texts]
            return f"mn data-values='{'|'.join(texts)}'" if len(texts) > 1 else "mn", texts[0]
        case "array", matrix:
            return "mtable", *(("mtr", *(("mtd", ("mn", number(value))) for value in row)) for row in matrix)
        case "name", name:
            return f"mrow data-name='{name}'" if CODE.fullmatch(name) else "mrow", elements(symbol(name))
        case "d", name:
            space = [APPLY] if name[0] == "log" else []
            return "mrow", D, *space, elements(name)
        case "index", name, index:
            return "msub", elements(name), below(index)
        case "layer", letter, i, part:
            return "msubsup", elements(letter), elements(i), ("mtext", part)
        case (("^" | "T"), ("name", name), *power) if symbol(name)[0] in ("layer", "log"):  # it has a superscript already
            return elements((tree[0], ("(", ("name", name), ")"), *power))
        case "^", ("index", name, index), power:
            return "msubsup", elements(name), below(index), elements(power)
        case "^", base, power:
            return "msup", elements(base), elements(power)
        case "T", matrix:
            return "msup", elements(matrix), T
        case "/", above, under:
            return "mfrac", elements(above), elements(under)
        case "log", argument:
            return "mrow", elements("log"), APPLY, elements(argument)
        case "product" | "@" as kind, left, right:
            signed = has(tree, "value") or (kind == "product" and has(tree, "array"))
            return "mrow", elements(left), ("mo", "×") if signed else TIMES, elements(right)
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
        case _:  # what stands between brackets
            parts = tree
    sign = "mo form='infix'" if parts[0] == "" else "mo"  # where a line begins with it, it is still between two sides
    return "mrow", *((sign, SIGNS.get(part, part)) if isinstance(part, str) else elements(part) for part in parts if part)


def has(tree, kind):
    """Whether there is a part of this kind in the tree."""
    return isinstance(tree, tuple) and (tree[0] == kind or any(has(part, kind) for part in tree[1:]))
