"""Which statements of a function run, what arrays each of them names, and what it changes."""

import ast
import contextlib
import inspect
import sys
import textwrap
from typing import NamedTuple

import numpy as np


class Statement(NamedTuple):
    """A simple statement of a function, and the expressions in it that may name an array."""

    function: str
    number: int  # of its first line, in the function's file
    source: str
    node: ast.stmt
    expressions: tuple  # (start and end in source, compiled expression, whether it is assigned to)


class Seen(NamedTuple):
    """What a statement did when it ran."""

    statement: Statement
    symbols: tuple  # (start, end, name, whether it is assigned to)
    call: tuple  # name of the function called, the function, {its parameter: name of the array, or the words there}; or ()
    reads: tuple  # names of arrays
    writes: dict  # {name: a copy of the array}
    composite: bool  # other statements ran inside of it


def source_of(function):
    """(number of its first line, [lines]); ValueError where the source of the function cannot be read."""
    try:
        lines, start = inspect.getsourcelines(function)
    except (OSError, TypeError):
        raise ValueError(f"the source of {getattr(function, '__name__', function)} cannot be read") from None
    return max(start, 1), [line.rstrip("\n") for line in lines]


def statements_of(function):
    """{line number: Statement} for every line on which a simple statement of the function stands; ValueError if two do."""
    start, lines = source_of(function)
    found = {}
    for node in ast.walk(ast.parse(textwrap.dedent("\n".join(lines)))):
        if isinstance(node, (ast.Assign, ast.AugAssign, ast.Return, ast.Expr)):
            first, last = node.lineno - 1, node.end_lineno
            source = textwrap.dedent("\n".join(lines[first:last]))
            statement = Statement(function.__name__, start + first, source, node, tuple(_expressions(node, source)))
            if start + first in found:
                raise ValueError(f"line {start + first} of {function.__name__} holds two statements; wanted one on a line")
            found |= dict.fromkeys(range(start + first, start + last), statement)
    return found


def _expressions(statement, source):
    lines = source.split("\n")
    starts = [sum(len(line) + 1 for line in lines[:i]) for i in range(len(lines))]

    def place(line, column):
        i = line - statement.lineno
        return starts[i] + len(lines[i].encode()[: column - (statement.col_offset if i == 0 else 0)].decode())

    def visit(node):
        if isinstance(node, ast.Call):
            for part in (*node.args, *(keyword.value for keyword in node.keywords)):
                yield from visit(part)
        elif isinstance(node, (ast.Name, ast.Attribute, ast.Subscript)):
            ends = place(node.lineno, node.col_offset), place(node.end_lineno, node.end_col_offset)
            if not any(isinstance(part, ast.Call) for part in ast.walk(node)):  # it is only looked at, never called
                yield *ends, compile(ast.unparse(node), "<symbol>", "eval"), isinstance(node.ctx, ast.Store)
        else:
            for part in ast.iter_child_nodes(node):
                yield from visit(part)

    return visit(statement)


@contextlib.contextmanager
def watched(statements, before, after):
    """`with watched(..)`: before(statement, frame) and after(statement, frame) are called around each statement that runs.

    statements: {code object: {line number: Statement}}. A debugger's own watch is laid aside meanwhile.
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

    laid_aside = sys.gettrace()
    sys.settrace(enter)
    try:
        yield
    finally:
        sys.settrace(laid_aside)


def place_of(array):
    """Where an array's memory begins and how much it is: the same for all views of the whole of it."""
    return array.__array_interface__["data"][0], array.nbytes


def recorder(seen, names, changing):
    """before, after for `watched`, which append what was Seen to a list, in the order in which the statements began.

    names: {place_of(array): name}. changing: {name: array} of those whose changes are looked for.
    """
    open_statements, written = [], set()

    def name_of(value, words):
        if not isinstance(value, np.ndarray) or not value.size:
            return None
        return names.get(place_of(value), words)

    def look(statement, frame):
        scope = dict(frame.f_locals)
        for start, end, expression, stored in statement.expressions:
            try:
                value = eval(expression, frame.f_globals, scope)
            except (NameError, AttributeError, IndexError, TypeError):  # not there yet
                continue
            name = name_of(value, statement.source[start:end])
            if name:
                yield start, end, name, stored, value

    def before(statement, frame):
        for outer in open_statements:
            outer["composite"] = True
        loads = [(start, end, name) for start, end, name, stored, _ in look(statement, frame) if not stored]
        copies = {name: array.copy() for name, array in changing.items()}
        call = _call(statement, frame, name_of)
        open_statements.append({"loads": loads, "copies": copies, "call": call, "composite": False, "position": len(seen)})
        seen.append(None)

    def after(statement, frame):
        opened = open_statements.pop()
        stored = [found for found in look(statement, frame) if found[3]]
        writes = {}
        if not isinstance(statement.node, ast.Assign) or isinstance(statement.node.value, (ast.Call, ast.BinOp, ast.UnaryOp)):
            writes = {name: value.copy() for _, _, name, _, value in stored}
            for name, array in changing.items():
                if not np.array_equal(array, opened["copies"][name], equal_nan=True):
                    writes[name] = array.copy()
        filled = writes.keys() - written  # for the first time: there was nothing to read before
        reads = dict.fromkeys(name for _, _, name in opened["loads"] if name not in filled)
        written.update(writes)
        symbols = sorted([(*load, False) for load in opened["loads"]] + [found[:4] for found in stored])
        seen[opened["position"]] = Seen(statement, tuple(symbols), opened["call"], tuple(reads), writes, opened["composite"])

    return before, after


def _call(statement, frame, name_of):
    """The call that a statement makes: (name, function, {parameter: name of the array, or the words that stand there})."""
    node = getattr(statement.node, "value", None)
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
        return ()
    function = frame.f_globals.get(node.func.id)
    if not inspect.isfunction(function):
        return ()
    arguments = {}
    for parameter, argument in zip(inspect.signature(function).parameters, node.args):
        words = ast.unparse(argument)
        value = None
        if isinstance(argument, (ast.Name, ast.Attribute, ast.Subscript)):
            value = eval(compile(words, "<argument>", "eval"), frame.f_globals, dict(frame.f_locals))
        arguments[parameter] = name_of(value, words) or words
    return node.func.id, function, arguments
