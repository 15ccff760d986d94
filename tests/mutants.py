"""Do the tests see a wrong sign? Changes the code in one small place at a time and runs the tests, which must fail.

    python tests/mutants.py [--short] [--jobs N] [FILE | FILE:FUNCTION ...]

Exit code 1 where a change goes unseen that tests/mutants.toml does not list as equivalent, or where a line of that list
is stale. Nothing is written: a child process takes the changed text in place of the file's when it imports it.
"""

import os

os.environ["OPENBLAS_NUM_THREADS"] = "1"  # before NumPy starts its threads, which a fork would not take along

import argparse
import ast
import functools
import importlib.machinery
import math
import pathlib
import re
import resource
import signal
import sys
import tempfile
import time
import tomllib
from typing import NamedTuple

import hypothesis
import numba
import numpy as np
import pytest
import rich.console
import rich.table
import scipy.integrate
import scipy.optimize
import scipy.special
import scipy.stats
import sklearn.datasets
import threadpoolctl  # noqa: F401  these are here so that they are imported once, before the forks

ROOT = pathlib.Path(__file__).resolve().parents[1]
TESTS = [f"tests/{name}" for name in ("kernels", "meaning")]
TESTS += [f"tests/vae_np/test_{name}.py" for name in ("architecture", "parameters", "optimizers", "elbo", "bounds", "training")]
# What runs in processes of its own sees the code as it is; the others take seconds and see nothing more.
SKIPPED = "killed_by_the_system or test_load or compiles_the_text_whole or trained_to_the_end"
FIRST = {  # file: what sees most changes to it within a second; {sets_agree} names the operations that it reaches
    "vae_np/elbo.py": ["tests/vae_np/test_elbo.py", "-k", "numpy"],
    "vae_np/optimizers.py": ["tests/vae_np/test_optimizers.py"],
    "vae_np/bounds.py": ["tests/vae_np/test_bounds.py"],
    "kernels/reference.py": ["tests/kernels/test_operations.py", "-k", "{sets_agree}"],
    "kernels/cpu/operations.py": ["tests/kernels/test_operations.py", "-k", "{sets_agree}"],
    "kernels/cpu/noise.py": ["tests/kernels/test_operations.py", "-k", "{sets_agree}"],
    "kernels/cpu/mathematics.py": ["tests/kernels/test_mathematics.py"],
}
LIMIT = 180  # seconds until a change counts as seen because nothing comes to an end; all of TESTS take 10
SAMPLE = 6  # changes of each file in a short run

# ----------------------------------------------------------------------------------------------------- the changes

OPERATORS = {
    "+": ["-"], "-": ["+"], "*": ["/"], "/": ["*"], "//": ["*"], "**": ["*"], "%": ["*"], "<<": [">>"], ">>": ["<<"],
    "&": ["|"], "|": ["&"], "^": ["&"], "<": ["<=", ">="], "<=": ["<", ">"], ">": [">=", "<="], ">=": [">", "<"],
    "==": ["!="], "!=": ["=="], "is": ["is not"], "is not": ["is"], "in": ["not in"], "not in": ["in"], "and": ["or"],
    "or": ["and"], "+=": ["-=", "="], "-=": ["+=", "="], "*=": ["/=", "="], "/=": ["*=", "="], "|=": ["="],
}  # fmt: skip
NAMES = {"max": "min", "min": "max", "maximum": "minimum", "minimum": "maximum", "any": "all", "all": "any"}
CASTS = {"range", "type", "float64", "int64", "uint64"}  # without these a thing only gets another type, or breaks at once
COMMUTATIVE = {"add", "multiply", "maximum", "minimum", "max", "min"}
STATEMENTS = ast.Expr, ast.Assign, ast.AugAssign, ast.Return, ast.If, ast.For, ast.With, ast.Raise


class Mutant(NamedTuple):
    file: str
    function: str  # "" in the module's own lines
    line: int
    original: str
    mutated: str
    source: str

    @property
    def key(self):
        return self.file, self.function, self.original, self.mutated


def mutants_of(file):
    """Every Mutant of a file, in the order of its lines."""
    source = (ROOT / file).read_text()
    lines = [0, *np.cumsum([len(line) for line in source.splitlines(keepends=True)])]
    assert source.isascii(), "columns are counted in bytes"
    found = {source: None}

    def span(node):
        return lines[node.lineno - 1] + node.col_offset, lines[node.end_lineno - 1] + node.end_col_offset

    for scope, (start, end, new) in edits(ast.parse(source), "", span, source):
        mutated = source[:start] + new + source[end:]
        try:
            compile(mutated, file, "exec")
        except SyntaxError:
            continue
        first, last = source.rfind("\n", 0, start) + 1, source.find("\n", end)
        shown = [without_comments(s) for s in (source[first:last], mutated[first : last + len(mutated) - len(source)])]
        if shown[0] != shown[1]:
            found.setdefault(mutated, Mutant(file, scope, source.count("\n", 0, start) + 1, *shown, mutated))
    return sorted(list(found.values())[1:], key=lambda mutant: mutant.line)


def without_comments(text):
    return " ".join(re.sub(r"  #.*", "", text).split())


def edits(node, scope, span, source):
    """(scope, (start, end, new text)) of every change in and below a node of the syntax tree."""

    def text(node):
        return source[slice(*span(node))]

    def exchange(nodes):
        for a, b in zip(nodes, nodes[1:]):
            (start, until), (since, end) = span(a), span(b)
            yield start, end, text(b) + source[until:since] + text(a)

    def operators(nodes):
        for a, b in zip(nodes, nodes[1:]):
            start, end = span(a)[1], span(b)[0]
            symbol = source[start:end].strip(" ()\n")
            for new in OPERATORS.get(symbol, []):
                yield start, end, source[start:end].replace(symbol, new)

    def here():
        match node:
            case ast.BinOp(left=a, right=b) | ast.AugAssign(target=a, value=b):
                yield from operators([a, b])
            case ast.Compare():
                yield from operators([node.left, *node.comparators])
            case ast.BoolOp():
                yield from operators(node.values)
            case ast.UnaryOp(op=ast.USub() | ast.Not()):
                yield *span(node), text(node).removeprefix("-").removeprefix("not ")
            case ast.Constant(value=bool()):
                yield *span(node), repr(not node.value)
            case ast.Constant(value=int()):
                yield *span(node), str(node.value + 1)
                yield *span(node), str(abs(node.value - 1))
            case ast.Constant(value=float()):
                yield *span(node), repr(2 * node.value or 1.0)
            case ast.Slice():
                for bound in filter(None, (node.lower, node.upper, node.step)):
                    yield *span(bound), ""
            case ast.If(test=test) | ast.IfExp(test=test) if not isinstance(test, ast.Compare):
                yield *span(test), f"not ({text(test)})"
            case ast.Tuple() if scope:
                yield from exchange(node.elts)
            case ast.Call(func=function, args=arguments):
                name = function.attr if isinstance(function, ast.Attribute) else text(function)
                if name not in COMMUTATIVE:
                    yield from exchange(arguments)
                if name in NAMES:
                    yield span(function)[1] - len(name), span(function)[1], NAMES[name]
                plain = arguments and not isinstance(arguments[0], (ast.Starred, ast.GeneratorExp))
                if len(arguments) == 1 and plain and name not in CASTS:
                    yield *span(node), f"({text(arguments[0])})"
                if not arguments and isinstance(function, ast.Attribute):
                    yield *span(node), text(function.value)
        if scope and isinstance(node, STATEMENTS) and not is_text(getattr(node, "value", None)):
            yield *span(node), "pass"

    yield from ((scope, edit) for edit in here())
    if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
        scope = f"{scope}.{node.name}".strip(".")
    for field, value in ast.iter_fields(node):
        for child in value if isinstance(value, list) else [value]:
            if field not in ("annotation", "decorator_list") and isinstance(child, ast.AST):
                if not isinstance(node, (ast.Raise, ast.JoinedStr)):
                    yield from edits(child, scope, span, source)


def is_text(node):
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


# ------------------------------------------------------------------------------------------------------- one child


@functools.cache
def definitions():
    """(the names it makes, the names it uses) of every function and constant of the kernels."""
    found = []
    for path in (ROOT / "kernels").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, (ast.FunctionDef, ast.Assign)):
                used = {n.id for n in ast.walk(node) if isinstance(n, ast.Name)}
                found.append(({node.name} if isinstance(node, ast.FunctionDef) else used, used))
    return found


def reached(mutant):
    """The names of what a change in the kernels can reach: what stands there, and what names that, and so on."""
    names = {mutant.function.split(".")[0]} if mutant.function else set(re.findall(r"\w+", mutant.original))
    while more := set().union(*(made for made, used in definitions() if names & used)) - names:
        names |= more
    return names


def child(mutant, stages):
    """Runs the stages on the changed code and ends this process: 0 if nothing saw the change, 1 if something did."""
    signal.alarm(LIMIT)
    for stream in (1, 2):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream)
    names = reached(mutant)
    get_code = importlib.machinery.SourceFileLoader.get_code
    njit = numba.njit
    compiled_ones = mutant.file.startswith("kernels/cpu/") or not mutant.function  # the reference lends them constants

    def mutated_code(loader, module):
        if loader.path == str(ROOT / mutant.file):
            return compile(mutant.source, loader.path, "exec")
        return get_code(loader, module)

    def compiled(function=None, cache=False, **options):
        # Numba's cache knows files, not texts: what the change reaches must not come from there, nor go there.
        recompile = compiled_ones and getattr(function, "__name__", "") in names
        return njit(function, cache=cache and not recompile, **options)

    importlib.machinery.SourceFileLoader.get_code, numba.njit = mutated_code, compiled
    try:
        importlib.import_module(mutant.file.removesuffix(".py").replace("/", "."))
    except Exception:
        os._exit(2)
    with tempfile.TemporaryDirectory() as folder:
        for stage in stages:
            agree = " or ".join(f"[numba-{name}-float64]" for name in sorted(names))
            stage = [part.format(sets_agree=agree) for part in stage]
            settings = ["-x", "-q", "--tb=no", "-p", "no:cacheprovider", "--hypothesis-profile=mutants", "--hypothesis-seed=0"]
            code = pytest.main([*stage, *settings, f"--basetemp={folder}/tests"])
            if code not in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):
                break
    os._exit({0: 0, 5: 0, 1: 1, 2: 1}.get(int(code), 3))


def verdicts(mutants, jobs, tests=None):
    """(Mutant, verdict) of each, as they come: "survived", "killed" or "broken" (it could not be imported)."""
    waiting, running = list(reversed(mutants)), {}
    while waiting or running:
        while waiting and len(running) < jobs:
            mutant = waiting.pop()
            pid = os.fork()
            if pid == 0:
                try:
                    backend = "numba" if mutant.file.startswith("kernels/cpu/") else "not numba"
                    every = [*TESTS, "-k", f"{backend} and not ({SKIPPED})"]
                    child(mutant, [tests] if tests else [FIRST[mutant.file], every])
                finally:
                    os._exit(3)
            running[pid] = mutant
        pid, status = os.wait()
        code = 1 if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)
        if code == 3:
            raise RuntimeError(f"the tests could not be run on {running[pid]}")
        yield running.pop(pid), ("survived", "killed", "broken")[code]


# --------------------------------------------------------------------------------------------------------- the run


@numba.njit
def wake_the_compiler(x):
    """What is slow the first time a process compiles it: here once, for all children."""
    np.dot(x, x.T, x)
    for row, (a, b) in zip(x.reshape((-1, x.shape[-1])), ((1, 2), (3, 4))):
        for i in range(row.shape[0]):
            row[i] += x.dtype.type(a) if abs(row[i]) > 0 else -max(row[i] / b, math.sqrt(row[i]) * np.floor(row[i]))
    return x


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("where", nargs="*", default=list(FIRST), metavar="FILE[:FUNCTION]")
    parser.add_argument("--short", action="store_true", help=f"{SAMPLE} changes of each file, evenly spread")
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("--tests", nargs="+", help="what to run in place of the tests that belong to each file")
    args = parser.parse_args()
    print_ = rich.console.Console(width=160, highlight=False, markup=False).print

    os.chdir(ROOT)
    sys.path[0] = os.environ["PYTHONPATH"] = str(ROOT)
    resource.setrlimit(resource.RLIMIT_AS, (16 << 30, 16 << 30))  # a wrong size must not take all the memory
    phases = [hypothesis.Phase.explicit, hypothesis.Phase.generate]
    hypothesis.settings.register_profile("mutants", deadline=None, database=None, phases=phases)
    wake_the_compiler(np.eye(2))
    definitions()
    started = time.perf_counter()

    everything = {file: mutants_of(file) for file in FIRST}
    equivalent = {}
    for entry in tomllib.loads((ROOT / "tests/mutants.toml").read_text()).get("equivalent", []):
        for original, mutated in entry["changes"]:
            equivalent[entry["file"], entry["function"], original, mutated] = entry["reason"]
    stale = set(equivalent) - {mutant.key for mutants in everything.values() for mutant in mutants}

    chosen = []
    for file, mutants in everything.items():
        functions = {function for where in args.where for f, _, function in [where.partition(":")] if f == file}
        chosen.append([m for m in mutants if functions & {m.function, ""}])
        if args.short:
            unlisted = [m for m in chosen[-1] if m.key not in equivalent]
            n = min(SAMPLE, len(unlisted))
            chosen[-1] = [unlisted[(2 * i + 1) * len(unlisted) // (2 * n)] for i in range(n)]
    chosen = sum(chosen, [])
    unchanged = Mutant("vae_np/elbo.py", "", 0, "", "", (ROOT / "vae_np/elbo.py").read_text())
    if not args.short and [verdict for _, verdict in verdicts([unchanged], 1, args.tests)] != ["survived"]:
        sys.exit("the tests fail on the code as it is")

    results = []
    for mutant, verdict in verdicts(chosen, args.jobs, args.tests):
        results.append((mutant, verdict))
        listed = mutant.key in equivalent
        if verdict == "survived" and not listed:
            print_(f"{mutant.file}:{mutant.line} {mutant.function}: {mutant.original}\n    -> {mutant.mutated}")
        if verdict != "survived" and listed:
            stale.add(mutant.key)

    table = rich.table.Table("file", "mutants", "killed", "broken", "equivalent", "survivors", "score")
    survivors = 0
    for file in FIRST:
        of_file = [(verdict, mutant.key in equivalent) for mutant, verdict in results if mutant.file == file]
        killed, broken = (sum(verdict == what for verdict, _ in of_file) for what in ("killed", "broken"))
        listed, left = (of_file.count(("survived", whether)) for whether in (True, False))
        score = f"{(killed + broken) / (len(of_file) - listed):.1%}" if len(of_file) > listed else ""
        table.add_row(file, *map(str, (len(of_file), killed, broken, listed, left)), score)
        survivors += left
    print_(table)
    for key in sorted(stale):
        print_("stale in tests/mutants.toml:", *key)
    print_(f"{len(results)} mutants, {survivors} unlisted survivors, {time.perf_counter() - started:.0f} s")
    sys.exit(bool(survivors or stale))


if __name__ == "__main__":
    main()
