"""One trial of a student's function: its arguments before and after, or what went wrong.

An exception is told with the student's own line, and with the shapes of the arrays on it in letters.
"""

import ast
import contextlib
import linecache
import traceback
import warnings
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vae_np.study.exercises import SIZES, Exercise, letters, roles
from vae_np.testing.comparison import relative_errors, rounding
from vae_np.testing.diagnosis import diagnose

RTOL = {"float64": 1e-9, "float32": 1e-3}  # far above the rounding of any right answer, and far below any mistake
WORDS = {"B": "examples", "D": "inputs", "H": "hidden units", "Z": "latents", "L": "samples", "n_examples": "batch"}


class Finding(NamedTuple):
    """Something that is wrong."""

    output: str  # the name of the array; "" where it concerns the whole function
    sentence: str

    def __str__(self) -> str:
        return f"{self.output}: {self.sentence}" if self.output else self.sentence


class Failed(Exception):
    """An answer cannot be judged further; its argument is the Finding."""


def copied(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The same arguments, with arrays of their own."""
    return {
        name: np.array(value) if np.ndim(value) or isinstance(value, np.ndarray) else value for name, value in arguments.items()
    }


def agree(given: NDArray, wanted: NDArray, arguments: Mapping[str, Any]) -> bool:
    """Whether two arrays agree, as far as the rounding of the arguments allows."""
    if given.shape != wanted.shape:
        try:
            given = np.broadcast_to(given, wanted.shape)
        except ValueError:
            return False
    resolution = rounding([np.asarray(value, wanted.dtype) for value in (*arguments.values(), wanted) if _is_finite(value)])
    return bool(np.all(relative_errors(given, wanted, resolution) <= RTOL[wanted.dtype.name]))


def _is_finite(value):
    return isinstance(value, np.ndarray) and value.dtype.kind == "f" and bool(np.isfinite(value).all())


def run(
    function: Callable[..., Any], exercise: Exercise, arguments: Mapping[str, Any], poison: float = np.nan
) -> tuple[dict[str, Any], dict[str, Any], list[str]]:
    """The arguments before and after the function has run, with what it returned in their place, and NumPy's warnings.

    Arrays that are to be filled hold `poison` before.

    Raises
    ------
    Failed
        The function raised an exception, changed an argument that is only read, or returned what cannot be used.
    """
    of, values = roles(exercise), copied(arguments)
    for name in of.fills:
        values[name][...] = poison
    before = copied(values)
    try:
        with warnings.catch_warnings(record=True) as warned, np.errstate(all="warn", under="ignore"):
            warnings.simplefilter("always")
            returned = function(*values.values())
    except NotImplementedError:
        raise
    except (Exception, SystemExit) as error:
        raise Failed(of_exception(error, function, exercise, before, arguments)) from error
    after = {**values, **returned_arrays(returned, values, exercise)}
    for name, value in before.items():
        if name not in (*of.outputs, *exercise.ignored) and not np.array_equal(value, after[name], equal_nan=True):
            sentence = "It has been changed. It is an argument that is only read, and lines that follow need it as it was."
            raise Failed(Finding(name, sentence))
    return before, after, [str(warning.message) for warning in warned if issubclass(warning.category, RuntimeWarning)]


def returned_arrays(returned: Any, values: Mapping[str, Any], exercise: Exercise) -> dict[str, NDArray]:
    """{name: array} of the arrays that a function returned, and that are not arguments which it has filled."""
    of = roles(exercise)
    if returned is None:
        return {}
    items = list(returned) if isinstance(returned, (tuple, list)) else [returned]
    for names in (of.returns, of.outputs, [name for name in values if name in of.outputs]):
        if len(names) == len(items):
            break
    else:
        if all(any(item is value for value in values.values()) for item in items):  # filled in place
            return {}
        wanted = " and ".join(name for name in values if name in of.outputs)
        raise Failed(
            Finding("", f"It returns {len(items)} of the arrays. Return {wanted}, or fill them in place and return nothing.")
        )
    found = {}
    for name, item in zip(names, items):
        if item is None or item is values[name] or name in exercise.ignored:
            continue
        try:
            array = np.asarray(item, values[name].dtype)
        except (TypeError, ValueError):
            raise Failed(Finding(name, f"A {type(item).__name__} was returned for it. An array is wanted.")) from None
        found[name] = _fitted(array, values[name].shape)
    return found


def _fitted(array, shape):
    """The array in this shape if it can be repeated to it, else as it is."""
    try:
        return np.broadcast_to(array, shape)
    except ValueError:
        return array


# ----------------------------------------------------------------------------------------------------------- exceptions


def of_exception(error, function, exercise, before, arguments, sizes=SIZES):
    """The Finding for an exception in the student's code: the line, the shapes on it, and what is probably meant."""
    if isinstance(error, SystemExit):
        return Finding("", "The function ends the whole program: it calls exit.")
    if isinstance(error, RecursionError):
        return Finding("", "The function calls itself without end.")
    file = function.__code__.co_filename
    frames = [(frame, line) for frame, line in traceback.walk_tb(error.__traceback__) if frame.f_code.co_filename == file]
    if not frames:  # it was called with other arguments than it takes
        return Finding("", f"It cannot be called with ({', '.join(exercise.parameters)}): {error}.")
    frame, number = frames[-1]
    statement = _statement_at(file, number)
    source = ast.unparse(statement) if statement is not None else linecache.getline(file, number).strip()
    where = f"Line {number}, `{source}`: "
    if not isinstance(error, (ValueError, IndexError)) or statement is None:
        return Finding("", f"{where}{type(error).__name__}: {error}.")
    if found := _misfit(statement, frame, exercise, before, arguments) if exercise.is_operation else "":
        return Finding("", f"{where}the shapes do not fit. {found}")
    shapes = [f"{name} is {shape}" for name, shape in dict(_shapes_on(statement, frame, sizes)).items()]
    if not shapes:
        return Finding("", f"{where}{type(error).__name__}: {error}.")
    matmul = "`@` needs the last letter of its left side to be the last but one of its right side." if "@" in source else ""
    return Finding("", f"{where}the shapes do not fit: {', '.join(shapes)}. {matmul}".rstrip())


def _statement_at(file, number):
    with contextlib.suppress(SyntaxError):
        nodes = [node for node in ast.walk(ast.parse("".join(linecache.getlines(file)))) if isinstance(node, ast.stmt)]
        simple = [node for node in nodes if not hasattr(node, "body") and node.lineno <= number <= (node.end_lineno or 0)]
        return simple[-1] if simple else None
    return None


def _shapes_on(statement, frame, sizes):
    """Yield (source, shape) of the arrays that a statement names."""
    for node in ast.walk(getattr(statement, "value", None) or statement):
        if isinstance(node, (ast.Name, ast.Attribute)):
            with contextlib.suppress(Exception):
                value = eval(ast.unparse(node), frame.f_globals, dict(frame.f_locals))
                if isinstance(value, np.ndarray):
                    yield ast.unparse(node), letters(value.shape, sizes)


def _misfit(statement, frame, exercise, before, arguments):
    """A sentence on a value that cannot be put into an output, because it has another shape."""
    targets = statement.targets if isinstance(statement, ast.Assign) else [getattr(statement, "target", None)]
    target = targets[0]
    while isinstance(target, ast.Subscript):
        target = target.value
    if (
        not isinstance(target, ast.Name)
        or target.id not in roles(exercise).outputs
        or getattr(statement, "value", None) is None
    ):
        return ""
    try:
        with np.errstate(all="ignore"):
            value = np.asarray(eval(ast.unparse(statement.value), frame.f_globals, dict(frame.f_locals)), float)
    except Exception:
        return ""
    wanted = copied(arguments)
    exercise.original(**wanted)
    name = target.id
    change = wanted[name] - before[name] if name in roles(exercise).changes else wanted[name]
    sizes = {WORDS[letter]: n for letter, n in SIZES.items()}
    found = diagnose(value, change, sizes=sizes)
    shape = f"The right side is {letters(value.shape)}, and {name} is {letters(before[name].shape)}."
    lost = [letter for letter in letters(value.shape).strip("(),").split(", ") if letter not in letters(before[name].shape)]
    if found and found.kind != "shape":
        return f"{shape} {found.sentence}"
    if lost and value.ndim > before[name].ndim:
        return f"{shape} Everything with another {' and '.join(lost)} shares one {name}: how do their paths come together?"
    return shape
