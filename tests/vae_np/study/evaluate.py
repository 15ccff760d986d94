"""The value of a formula: what is typeset is held to numbers."""

import numpy as np

from vae_np.study import formulas

FUNCTIONS = {
    "exp": np.exp,
    "log": np.log,
    "max": np.maximum,
    "sigmoid": lambda y: 1 / (1 + np.exp(-y)),
    "sqrt": np.sqrt,
    "tanh": np.tanh,
}


def evaluate(tree, values):
    """The value of a tree; of a relation, those of its sides.

    values: {name: value}, where an element w_l may have a value of its own, else it is that of w; functions, of all calls
    ("f") or of one as `formulas.plain` writes it ("p(x|z)"); and {"sum_l": function}, called with the body as a function of
    the names that it binds (int_z binds z, sum_l none).
    """

    def value(tree):
        match tree:
            case "number", digits:
                return int(digits)
            case "name", "pi":
                return np.pi
            case "name", name:
                return values[name]
            case "index", (_, base), index:
                return values.get(f"{base}_{index}", values.get(base))
            case "over", operator, index, body:
                return values[f"{operator}_{index}"](lambda **bound: evaluate(body, {**values, **bound}))
            case "call", name, _, *arguments:
                function = values.get(formulas.plain(tree), values.get(formulas.plain(name), FUNCTIONS.get(formulas.plain(name))))
                return function(*map(value, arguments[::2]))
            case "relation", *sides:
                return [value(side) for side in sides[::2]]
            case "where", yes, (_, left, sign, right), no:
                left, right = (value(left), value(right)) if sign == ">" else (value(right), value(left))
                return np.where(np.real(left) > np.real(right), value(yes), value(no))
        kind, *parts = tree
        return ARITHMETIC[kind](*(value(part) for part in parts if isinstance(part, tuple)))

    return value(tree)


ARITHMETIC = {
    "(": lambda a: a,
    "[": lambda a: a,
    "|": lambda a: np.where(np.real(a) < 0, -a, a),
    "negative": lambda a: -a,
    "log": np.log,
    "T": np.transpose,
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "product": lambda a, b: a * b,
    "/": lambda a, b: a / b,
    "@": lambda a, b: a @ b,
    "^": lambda a, b: a**b,
}
