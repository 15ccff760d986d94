"""The values of formulas, by which the tests prove that a formula is what the code computes."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from vae_np.study.formulas import FUNCTIONS, Tree
from vae_np.study.typesetting import plain

OPERATORS = {
    "+": np.add,
    "-": np.subtract,
    "negative": np.negative,
    "product": np.multiply,
    "/": np.divide,
    "@": np.matmul,
    "^": np.power,
    "T": np.transpose,
    "log": np.log,
}


def evaluate(tree: Tree, values: Mapping[str, Any]) -> Any:
    """The value of a tree; of a relation, a list of the values of its sides.

    Parameters
    ----------
    tree : tuple
        What `parse` returns.
    values : mapping
        The value of each name. An element such as "w_1" has the value of "w" where it has none of its own. A function is found
        by its name, "p", or by the whole call, "p(x|z)". An operator such as "sum_l" or "int_z" is a function of two arguments:
        the body, which is itself a function of the names that the operator binds, and the values.

    Examples
    --------
    >>> from vae_np.study.formulas import parse
    >>> left, right = evaluate(parse("mu + 1 = z / 2"), {"mu": 2.0, "z": 6.0})
    >>> left == right
    np.True_
    """

    def value(tree: Tree) -> Any:
        match tree:
            case "number", digits:
                return int(digits)
            case "value" | "array", numbers:
                return numbers
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
                function: Any = values.get(plain(tree)) or values.get(plain(name)) or FUNCTIONS[name[1]]
                return function(*map(value, arguments[::2]))
            case "relation", *sides:
                return [value(side) for side in sides[::2]]
            case "where", yes, ("relation", left, sign, right), no:
                smaller, larger = map(value, (left, right) if sign == "<" else (right, left))
                return np.where(np.real(smaller) < np.real(larger), value(yes), value(no))
            case kind, *parts:
                return OPERATORS[kind](*map(value, parts))

    return value(tree)
