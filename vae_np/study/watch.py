"""Which statements of a function run, which arrays each of them names, and which arrays it changes."""

import ast
import contextlib
import inspect
import sys
import textwrap
from collections.abc import Callable, Iterator, Mapping
from types import CodeType, FrameType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray


class Statement(NamedTuple):
    """A simple statement of a function, and the expressions in it that may name an array."""

    function: str
    number: int  # of its first line, in the function's file
    source: str
    node: ast.stmt
    expressions: tuple  # of (start and end in the source, compiled expression, whether it is assigned to)


class Record(NamedTuple):
    """What a statement did when it ran."""

    statement: Statement
    symbols: tuple  # of (start, end, name, whether it is assigned to)
    call: tuple  # (name of the called function, the function, {its parameter: name of the array, or the argument's source}), or ()
    reads: tuple[str, ...]  # names of arrays
    writes: dict[str, NDArray]  # {name: a copy of the array}
    composite: bool  # other statements ran inside of it


Hook = Callable[[Statement, FrameType], None]


def source_of(function: Callable) -> tuple[int, list[str]]:
    """The number of a function's first line, and its lines.

    Raises
    ------
    ValueError
        The source of the function cannot be read.
    """
    try:
        lines, start = inspect.getsourcelines(function)
    except (OSError, TypeError):
        raise ValueError(f"the source of {getattr(function, '__name__', function)} cannot be read") from None
    return max(start, 1), [line.rstrip("\n") for line in lines]


def statements_of(function: Callable) -> dict[int, Statement]:
    """{line number: Statement} for every line that holds a simple statement of the function, or a part of one.

    Raises
    ------
    ValueError
        A line holds two statements, or the source cannot be read.
    """
    start, lines = source_of(function)
    found = {}
    for node in ast.walk(ast.parse(textwrap.dedent("\n".join(lines)))):
        if isinstance(node, (ast.Assign, ast.AugAssign, ast.Return, ast.Expr)):
            first, last = node.lineno - 1, node.end_lineno or node.lineno
            source = textwrap.dedent("\n".join(lines[first:last]))
            statement = Statement(function.__name__, start + first, source, node, tuple(_expressions(node, source)))
            if start + first in found:
                raise ValueError(
                    f"line {start + first} of {function.__name__} holds two statements; each line may hold only one"
                )
            found |= dict.fromkeys(range(start + first, start + last), statement)
    return found


def _expressions(statement, source):
    """The expressions of a statement that may name an array, as `Statement.expressions` has them."""
    lines = source.split("\n")
    starts = [sum(len(line) + 1 for line in lines[:i]) for i in range(len(lines))]
    removed = statement.col_offset - (len(source) - len(source.lstrip()))  # the indentation that the source has lost

    def place(line, column):
        i = line - statement.lineno
        return starts[i] + len(lines[i].encode()[: column - removed].decode())

    def visit(node):
        if isinstance(node, ast.Call):
            for part in (*node.args, *(keyword.value for keyword in node.keywords)):
                yield from visit(part)
        elif isinstance(node, (ast.Name, ast.Attribute, ast.Subscript)):
            ends = place(node.lineno, node.col_offset), place(node.end_lineno, node.end_col_offset)
            if not any(isinstance(part, ast.Call) for part in ast.walk(node)):  # evaluating it must have no effect
                yield *ends, compile(ast.unparse(node), "<symbol>", "eval"), isinstance(node.ctx, ast.Store)
        else:
            for part in ast.iter_child_nodes(node):
                yield from visit(part)

    return visit(statement)


@contextlib.contextmanager
def watched(statements: Mapping[CodeType, Mapping[int, Statement]], before: Hook, after: Hook) -> Iterator[None]:
    """A context in which before(statement, frame) and after(statement, frame) are called around each statement that runs.

    A debugger's own trace function is set aside while the context is open.

    Parameters
    ----------
    statements : mapping
        {code object of a function: {line number: Statement}}
    before, after : callable
        They take the Statement and the frame in which it runs.
    """

    def enter(frame, event, _):
        of_lines, running = statements.get(frame.f_code), None
        if of_lines is None:
            return None

        def step(frame, event, _):
            nonlocal running
            following = of_lines.get(frame.f_lineno) if event == "line" else None
            if event == "return" or (event == "line" and following is not running):
                if running:
                    after(running, frame)
                running = following
                if running:
                    before(running, frame)
            return step

        return step

    set_aside = sys.gettrace()
    sys.settrace(enter)
    try:
        yield
    finally:
        sys.settrace(set_aside)


def address_of(array: NDArray) -> tuple[int, int]:
    """The address and the number of bytes of an array's memory: they are the same for all views of the whole array."""
    return array.__array_interface__["data"][0], array.nbytes


def recorder(records: list, names: Mapping[tuple[int, int], str], watched_arrays: Mapping[str, NDArray]) -> tuple[Hook, Hook]:
    """The two functions for `watched` that append a Record of each statement to a list, in the order in which they began.

    Parameters
    ----------
    records : list
        The list to which they append.
    names : mapping
        {address_of(array): name} of every array that has a name.
    watched_arrays : mapping
        {name: array} of the arrays that are compared before and after each statement.
    """
    open_statements, written = [], set()

    def name_of(value, source):
        if not isinstance(value, np.ndarray) or not value.size:
            return None
        return names.get(address_of(value), source)

    def named_arrays(statement, frame):
        scope = dict(frame.f_locals)
        for start, end, expression, stored in statement.expressions:
            try:
                value = eval(expression, frame.f_globals, scope)
            except (NameError, AttributeError, IndexError, TypeError):  # it does not exist yet
                continue
            name = name_of(value, statement.source[start:end])
            if name:
                yield start, end, name, stored, value

    def before(statement, frame):
        for outer in open_statements:
            outer["composite"] = True
        loads = [(start, end, name) for start, end, name, stored, _ in named_arrays(statement, frame) if not stored]
        copies = {name: array.copy() for name, array in watched_arrays.items()}
        call = _call(statement, frame, name_of)
        open_statements.append({"loads": loads, "copies": copies, "call": call, "composite": False, "position": len(records)})
        records.append(None)

    def after(statement, frame):
        opened = open_statements.pop()
        stored = [found for found in named_arrays(statement, frame) if found[3]]
        writes = {}
        if not isinstance(statement.node, ast.Assign) or isinstance(statement.node.value, (ast.Call, ast.BinOp, ast.UnaryOp)):
            writes = {name: value.copy() for _, _, name, _, value in stored}
            for name, array in watched_arrays.items():
                if not np.array_equal(array, opened["copies"][name], equal_nan=True):
                    writes[name] = array.copy()
        filled = writes.keys() - written  # for the first time, so that the statement cannot have read them
        reads = dict.fromkeys(name for _, _, name in opened["loads"] if name not in filled)
        written.update(writes)
        symbols = sorted([(*load, False) for load in opened["loads"]] + [found[:4] for found in stored])
        records[opened["position"]] = Record(
            statement, tuple(symbols), opened["call"], tuple(reads), writes, opened["composite"]
        )

    return before, after


def _call(statement: Statement, frame: FrameType, name_of: Callable[[Any, str], str | None]) -> tuple:
    """The call that a statement makes, as `Record.call` has it."""
    node = getattr(statement.node, "value", None)
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
        return ()
    function = frame.f_globals.get(node.func.id)
    if not inspect.isfunction(function):
        return ()
    arguments = {}
    for parameter, argument in zip(inspect.signature(function).parameters, node.args):
        source = ast.unparse(argument)
        value = None
        if isinstance(argument, (ast.Name, ast.Attribute, ast.Subscript)):
            value = eval(compile(source, "<argument>", "eval"), frame.f_globals, dict(frame.f_locals))
        arguments[parameter] = name_of(value, source) or source
    return node.func.id, function, arguments
