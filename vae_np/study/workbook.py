"""The file that a student writes in: a function for each exercise, without its lines; and the marks that are kept beside it."""

import ast
import hashlib
import inspect
import json
import os
import pathlib
import re
import textwrap
from typing import Any, NamedTuple

import vae_np
from vae_np.parameters import replacing
from vae_np.study.exercises import BONUS, EXERCISES, KNOWN, Exercise, statement

INTRODUCTION = """Write the derivatives of a variational autoencoder: {n} functions, in the order of the backward pass.

In each function, replace the last line by lines of your own. They fill the arrays that stand under "to be filled", and add to
those that are "filled already" or replace their values. You may also return the values: they are then copied into the arrays.
NumPy's functions and `sigmoid` are all that you need.

B is the number of examples, D of inputs, H of hidden units, Z of latents, L of samples of each example. `dname` is the derivative
of the loss with respect to `name`, and has its shape.

{checked}
The answers stand in vae_np/kernels/reference.py and vae_np/elbo.py; you learn more if you do not look.
"""
CHECKED = "While `vae-np exercise` runs, this file is checked whenever you save it."
IMPORTS = "import numpy as np\n\nfrom vae_np.kernels.reference import sigmoid\n"
BODY = "raise NotImplementedError  # your lines"


class Answer(NamedTuple):
    """A function of the file."""

    source: str
    line: int  # of its `def`
    digest: str  # of the function and of all lines outside of exercises, on which it may depend


def function(exercise: Exercise, number: int) -> str:
    """The function of an exercise as the file holds it at first."""
    title = f"# {number}. {exercise.title} "
    docstring = f'"""{statement(exercise)}\n"""'
    body = textwrap.indent(f"{docstring}\n{BODY}", "    ", lambda line: bool(line.strip()))
    return f"{title}{'-' * (128 - len(title))}\n\n\ndef {exercise.name}({', '.join(exercise.parameters)}):\n{body}\n"


def text(bonus: bool = False) -> str:
    """The whole file as it is at first."""
    exercises = KNOWN if bonus else EXERCISES
    parts = [function(exercise, number) for number, exercise in enumerate(exercises.values(), 1)]
    introduction = INTRODUCTION.format(n=len(exercises), checked=CHECKED)
    return "\n\n".join([f'"""{introduction}"""\n\n{IMPORTS}', *parts])


def write(path: str | os.PathLike, bonus: bool = False) -> None:
    """Write the file, which must not exist; with `bonus` and an existing file, add to it the exercises that it lacks.

    Raises
    ------
    FileExistsError
        There is a file already, and nothing is to be added.
    """
    if bonus and os.path.exists(path):
        own = answers(pathlib.Path(path).read_text(encoding="utf-8"))
        with open(path, "a", encoding="utf-8") as file:
            for number, exercise in enumerate(KNOWN.values(), 1):
                if exercise.name in BONUS and exercise.name not in own:
                    file.write(f"\n\n{function(exercise, number)}")
        return
    with open(path, "x", encoding="utf-8") as file:
        file.write(text(bonus))


def answers(source: str) -> dict[str, Answer]:
    """The functions of the exercises in the text of a file, in its order.

    Raises
    ------
    SyntaxError
        The text is not Python.
    """
    lines, tree = source.splitlines(), ast.parse(source)
    found = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name in KNOWN]
    others = "\n".join(ast.unparse(node) for node in tree.body if node not in found) + vae_np.__version__
    result = {}
    for node in found:
        own = "\n".join(lines[node.lineno - 1 : node.end_lineno])
        digest = hashlib.sha256((ast.unparse(node) + others).encode()).hexdigest()[:16]
        result[node.name] = Answer(own, node.lineno, digest)
    return result


def reset(path: str | os.PathLike, name: str) -> str:
    """Put the function of an exercise back to what it was at first, and return the name of a copy of the file as it is now.

    Raises
    ------
    ValueError
        There is no such exercise.
    """
    if name not in KNOWN:
        raise ValueError(f"there is no exercise {name!r}; known are {', '.join(KNOWN)}")
    path = pathlib.Path(path)
    source = path.read_text(encoding="utf-8")
    copy = path.with_name(f"{path.name}.before-reset")
    copy.write_text(source, encoding="utf-8")
    number = [*KNOWN].index(name) + 1
    original = function(KNOWN[name], number)
    own = answers(source).get(name)
    if own is None:
        changed = f"{source.rstrip()}\n\n\n{original}"
    else:
        lines, bare = source.splitlines(), original.partition("\n\n\n")[2].rstrip("\n").splitlines()
        first, last = own.line - 1, own.line - 1 + len(own.source.splitlines())
        changed = "\n".join([*lines[:first], *bare, *lines[last:]]) + "\n"
    with replacing(path) as file:
        file.write(changed.encode())
    return str(copy)


def lines_of(source: str) -> str:
    """The lines of a function without its signature and its docstring."""
    body = ast.parse(textwrap.dedent(source)).body[0].body  # pyright: ignore[reportAttributeAccessIssue]
    if isinstance(body[0], ast.Expr) and isinstance(body[0].value, ast.Constant):
        body = body[1:]
    if not body:
        return ""
    return textwrap.dedent("\n".join(textwrap.dedent(source).splitlines()[body[0].lineno - 1 :]))


def reference_lines(exercise: Exercise) -> str:
    """The lines of the function that the student has written anew."""
    return re.sub(" {2,}# ", "  # ", lines_of(inspect.getsource(exercise.original))).rstrip()


# ------------------------------------------------------------------------------------------------------------ the marks


class Marks:
    """What is known of each answer, kept in a file beside that of the student; without the file nothing but marks is lost."""

    def __init__(self, path: str | os.PathLike):
        self.path = pathlib.Path(path).with_suffix(".marks.json")
        try:
            self.of: dict[str, dict[str, Any]] = json.loads(self.path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            self.of = {}

    def known(self, name: str, answer: Answer) -> bool:
        """Whether this answer, and no other one, has a mark."""
        return self.of.get(name, {}).get("digest") == answer.digest

    def set(self, name: str, **values: Any) -> None:
        """Keep values about an answer."""
        self.of[name] = {**self.of.get(name, {}), **values}
        with replacing(self.path) as file:
            file.write(json.dumps(self.of, indent=1).encode())
