"""The language of the formulas in docstrings and derivations. `typesetting` shows them, and `evaluation` computes them.

Names that stand side by side are multiplied. Products, `/` and `@` have the same precedence and are read from left to right.
`sum_l`, `mean_l`, `int_z` (the integral over z) and `diff_y` (the derivative with respect to y) apply to everything up to the
end of their term. `log` without brackets applies to the factors that follow: log 2 pi / 2 is half of log(2 pi). A name before
a bracket is a function only if it is one of FUNCTIONS.

A formula is parsed to a tree of nested tuples, each a kind and its parts: mu + 1 is ("+", ("name", "mu"), ("number", "1")).
Brackets are kept in the tree. Where numbers are put in place of a name, ("value", array) stands in the tree: one number for each
case between which a reader of the page can choose; and ("array", matrix) for a whole matrix.
"""

import inspect
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from scipy import special

if TYPE_CHECKING:
    from vae_np.study.lines import Line

Tree: TypeAlias = Any  # a tuple of a kind and its parts, which are trees and texts

TOKEN = re.compile(r"\d+|[A-Za-z]\w*(?:\[\d+\])?(?:\.[Wby]\b)?~?|\.T\b|\|\||[-+*<>]=|[-+/@^=<>|,;()[\]]")
RELATIONS = "=", "+=", "-=", "*=", "<=", ">=", "<", ">"
REACHING = "sum", "mean", "int", "diff"  # these apply to everything up to the end of their term
OVER = re.compile(r"(sum|mean|int|diff|softmax|max|E)_(\w+)")
FUNCTIONS = {
    "exp": np.exp,
    "Phi": lambda y: special.erfc(-y / np.sqrt(2)) / 2,
    "log": np.log,
    "max": np.maximum,
    "sigmoid": lambda y: 1 / (1 + np.exp(-y)),
    "sinh": np.sinh,
    "sqrt": np.sqrt,
    "tanh": np.tanh,
    **dict.fromkeys(("f", "g", "p", "q", "N", "KL")),  # `evaluate` is told what these mean
}


def parse(text: str) -> Tree:
    """The tree of a formula.

    Raises
    ------
    ValueError
        The text is not a formula.

    Examples
    --------
    >>> parse("mu + 1")
    ('+', ('name', 'mu'), ('number', '1'))
    """
    tokens = TOKEN.findall(text)
    if "".join(tokens) != "".join(text.split()):
        raise ValueError(f"{text!r} is not a formula: it contains a character that no formula has")
    tokens.append("")

    def take(*wanted):
        if wanted and tokens[0] not in wanted:
            place = repr(" ".join(tokens).strip()) if tokens[0] else "its end"
            raise ValueError(f"{text!r} is not a formula: {' or '.join(wanted) or 'its end'} is missing before {place}")
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


def indexed(name: str) -> tuple[str, str]:
    """A name and its index, which has one or two letters.

    Examples
    --------
    >>> indexed("W_io"), indexed("n_examples")
    (('W', 'io'), ('n_examples', ''))
    """
    base, _, index = name.rpartition("_")
    return (base, index) if base and len(index) <= 2 else (name, "")


def of(docstring: str) -> tuple[Tree, ...]:
    """The equations with which a docstring of `kernels.reference` begins, as trees.

    Raises
    ------
    ValueError
        The docstring does not begin with formulas.

    Examples
    --------
    >>> of("dmu = 0;  dz += dkl          dkl (1, B)")[0]
    ('relation', ('name', 'dmu'), '=', ('number', '0'))
    """
    formulas = inspect.cleandoc(docstring).split("\n")[0].partition("   ")[0]  # shapes and remarks follow
    return tuple(map(parse, re.split("[;,]  ", formulas)))


def substitute(tree: Tree, names: Mapping[str, str]) -> Tree:
    """The tree with other names; names is {old name: new name}."""
    if isinstance(tree, str):
        return tree
    if tree[0] == "name":
        return "name", names.get(tree[1], tree[1])
    return tuple(substitute(part, names) for part in tree)


def equations(line: "Line") -> tuple[Tree, ...]:
    """The equations of a line: those of its operation's docstring, with the names of the arrays on the line."""
    if not line.definition or line.composite:
        return ()
    names = dict(line.arguments)
    for array in line.writes:
        if array.error is not None and array.name.endswith(".y"):  # the derivative of an activation replaces dh by dy
            names["dy"] = array.name
    try:
        return tuple(substitute(tree, names) for tree in of(line.definition))
    except ValueError:  # the docstring of an operation that the user has written
        return ()
