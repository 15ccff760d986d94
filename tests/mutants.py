"""Do the tests see a wrong sign? Changes the code in one small place at a time and runs the tests, which must fail.

    python tests/mutants.py [--short] [--jobs N] [FILE | FILE:FUNCTION ...]

Exit code 1 where a change goes unseen that tests/mutants.toml does not list as equivalent, where a line of that list is
stale, or where SEEN_BY lacks a file. pytest collects the tests once; then a fork for each change puts it into the modules in memory and runs them
until one fails. No file is written.
"""

import os

os.environ["OPENBLAS_NUM_THREADS"] = "1"  # before NumPy starts its threads, which a fork would not take along

import argparse
import ast
import collections
import contextlib
import functools
import gc
import importlib
import itertools
import math
import pathlib
import re
import resource
import subprocess
import sys
import tempfile
import time
import tomllib
import types
import warnings
from typing import NamedTuple

import hypothesis
import numba
import numpy as np
import pytest
import rich.console
import rich.table
from _pytest.runner import runtestprotocol
from numba.core.caching import NullCache

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path[0] = str(ROOT)

from tests import host_cuda  # noqa: E402
from tests.kernels.gpu import on_host  # noqa: E402

MODEL = ["tests/kernels/test_", "tests/meaning"]
MODEL += [f"tests/vae_np/test_{name}.py" for name in ("parameters", "optimizers", "elbo", "chunks", "properties", "bounds")]
MODEL += ["tests/vae_np/test_steps.py", "tests/vae_np/test_training.py"]
CLI, STUDY, BENCHMARKS = "tests/vae_np/cli", "tests/vae_np/study", "tests/benchmarks"
# file: the tests that can see a change to it, those first that see most. Of the kernels' own, those that name the operation
# come before all others.
SEEN_BY = {
    "vae_np/elbo.py": ["test_elbo.py", *MODEL, "test_on_host.py::test_a_training"],
    "vae_np/optimizers.py": ["test_optimizers.py", *MODEL],
    "vae_np/bounds.py": ["test_bounds.py", *MODEL],
    "kernels/reference.py": MODEL,
    **{f"kernels/cpu/{name}.py": MODEL for name in ("layers", "losses", "updates", "batches")},
    "kernels/cpu/mathematics.py": ["test_mathematics.py", *MODEL],
    **{f"kernels/cpu/{name}.py": ["test_program.py", "test_steps.py"] for name in ("program", "barrier")},
    "kernels/cpu/recording.py": ["test_recording.py", "test_steps.py"],
    "kernels/cpu/argument_buffer.py": ["test_argument_buffer.py", "test_product.py", "test_steps.py"],
    **{f"kernels/cpu/{name}.py": ["test_product.py", "test_pairs.py"] for name in ("product", "panel", "copies", "emit")},
    **{f"kernels/cpu/{name}.py": ["test_pairs.py", "test_steps.py"] for name in ("pairs", "operands")},
    "kernels/cpu/amx.py": ["test_amx.py"],
    "kernels/cpu/scratch.py": ["test_scratch.py", "test_product.py"],
    "kernels/cpu/jit.py": ["test_jit.py", "test_argument_buffer.py"],
    **{
        f"kernels/gpu/{name}.py": ["test_on_host.py", "test_rounding_on_host.py", "test_steps.py"]
        for name in ("device", "graph", "arrays", "layers", "losses", "rounding", "updates", "batches")
    },
    **{f"kernels/gpu/{name}.py": ["test_launches_on_host.py", "test_on_host.py"] for name in ("launches", "fusion")},
    "kernels/__init__.py": ["test_load.py", "test_contract.py", "test_precisions.py"],
    "kernels/contract.py": ["test_contract.py", "test_load.py", "test_elbo.py", "test_steps.py"],
    **{
        f"vae_np/{name}.py": [f"test_{name}.py", "test_training.py", "test_faults.py"]
        for name in ("data", "estimator", "parameters", "runs", "steps", "training")
    },
    "vae_np/architecture.py": ["test_architecture.py", "test_training.py", "test_faults.py", "test_elbo.py"],
    "vae_np/blas.py": ["test_known_answers.py", "test_training.py", "test_steps.py"],
    "vae_np/buffers.py": ["test_steps.py", *MODEL],
    "vae_np/burda2016.py": ["test_other_commands.py::test_burda", "test_places.py"],
    "vae_np/choices.py": ["test_architecture.py", "test_steps.py", *MODEL, "test_testing.py", CLI, STUDY],
    "vae_np/closed_form.py": ["test_known_answers.py", "test_dials.py", "test_other_commands.py::test_explain_bound"],
    "vae_np/console.py": ["test_console.py"],
    "vae_np/snapshots.py": ["test_snapshots.py", "test_training.py"],
    "vae_np/gradient_moments.py": ["test_gradient_moments.py", "test_plots.py", "test_other_commands.py::test_estimators"],
    "vae_np/deprecation.py": ["test_data.py", "test_plots.py", "test_trace.py"],
    "vae_np/evaluation.py": ["test_training.py", "test_model.py", "test_evaluate.py", "test_estimator.py"],
    "vae_np/plots.py": ["test_plots.py", "test_train.py", "test_rows.py", "test_sample.py"],
    "vae_np/pytest_plugin.py": ["test_pytest_plugin.py"],
    "vae_np/streams.py": ["test_batches.py", "test_training.py", "test_parameters.py"],
    **{f"vae_np/{name}.py": [f"test_{name}.py"] for name in ("ranks", "stored_rows")},
    "vae_np/table.py": ["test_data.py"],
    **{
        f"vae_np/testing/{name}.py": [f"test_{name}.py", "test_testing.py", "test_mistakes.py"]
        for name in (
            "comparison",
            "definitions",
            "diagnosis",
            "frameworks",
            "gradients",
            "meaning",
            "mistakes",
            "models",
            "operations",
            "oracles",
            "problems",
            "properties",
            "strategies",
            "suite",
        )
    },
    "vae_np/testing/arguments.py": ["test_gradients.py", "test_testing.py"],
    "vae_np/testing/trees.py": ["test_gradients.py", "test_frameworks.py"],
    "vae_np/testing/derivatives.py": ["test_testing.py", "test_operations.py", "test_dials.py"],
    **{
        f"vae_np/cli/{name}.py": [f"cli/test_{test}.py", CLI]
        for name, test in {
            "__init__": "arguments",
            "backends": "other_commands",
            "burda": "other_commands",
            "check": "check",
            "check_function": "check_function",
            "command": "arguments",
            "encode": "rows",
            "evaluate": "evaluate",
            "estimators": "other_commands",
            "explain_bound": "other_commands",
            "interrupts": "interrupts",
            "mistakes": "other_commands",
            "options": "arguments",
            "outputs": "arguments",
            "progress": "progress",
            "reconstruct": "rows",
            "rows": "rows",
            "run_folder": "stored_options",
            "sample": "sample",
            "train": "train",
        }.items()
    },
    "vae_np/cli/study.py": ["test_terminal.py", CLI, "test_page.py"],
    "vae_np/cli/exercise.py": ["test_exercise.py", CLI],
    **{
        f"vae_np/study/{name}.py": [f"test_{test}.py", STUDY]
        for name, test in {
            "along": "along",
            "answers": "answers",
            "by_hand": "by_hand",
            "cards": "page",
            "causes": "answers",
            "chart": "chart",
            "controls": "page",
            "comparison": "estimates",
            "dials": "dials",
            "estimates": "estimates",
            "exercises": "answers",
            "evaluation": "formulas",
            "explanations": "page",
            "formulas": "formulas",
            "graph": "graph",
            "keyboard": "terminal",
            "lines": "trace",
            "listing": "page",
            "markup": "page",
            "notebook": "notebook",
            "page": "page",
            "passes": "answers",
            "paths": "page",
            "pictures": "page",
            "histograms": "chart",
            "predict": "tour",
            "primer": "primer",
            "proof": "trace",
            "randomness": "randomness",
            "rehearsal": "exercise",
            "runner": "exercise",
            "session": "exercise",
            "slide": "slide",
            "surrogates": "estimates",
            "terminal": "terminal",
            "tour": "tour",
            "trace": "trace",
            "trial": "answers",
            "typesetting": "formulas",
            "values": "page",
            "watch": "trace",
            "workbook": "exercise",
            "wrong_lines": "answers",
        }.items()
    },
    **{
        f"vae_np/study/derivations/{name}.py": ["test_derivations.py", "test_formulas.py", STUDY]
        for name in ("__init__", "activations", "bounds", "estimators", "general", "latents", "layers", "likelihoods")
    },
    **{
        f"benchmarks/{name}.py": [f"benchmarks/test_{test}.py", BENCHMARKS]
        for name, test in {
            "__main__": "commands",
            "checkers": "checkers",
            "contestants": "contestants",
            "costs": "costs",
            "disturbances": "disturbances",
            "floors": "floors",
            "in_vae_np": "contestants",
            "machine": "machine",
            "measure": "measure",
            "operations": "operations",
            "peaks": "peaks",
            "plots": "plots",
            "processes": "processes",
            "ranks": "ranks",
            "report": "report",
            "tables": "tables",
            "training": "training",
            "workloads": "workloads",
        }.items()
    },
}
# Files with code that no test of one process can see: they run while others are imported, or need PyTorch and JAX.
UNSEEN = {
    "vae_np/__init__.py",
    "vae_np/__main__.py",
    "kernels/cpu/__init__.py",
    "kernels/gpu/__init__.py",
    "kernels/gpu/operations.py",
    "benchmarks/in_jax.py",
    "benchmarks/in_torch.py",
    "benchmarks/functions.py",  # both are compiled from their text as it stands in the file
    "benchmarks/faults.py",
}
TESTS = ["tests/kernels", "tests/meaning", "tests/vae_np", "tests/benchmarks"]
# Left out: processes of their own, which see the code as it is, and what takes seconds and sees nothing that others miss.
LEFT_OUT = "killed_by_the_system", "killed_at_random", "processes_of_their_own", "kernels/test_load.py"
LEFT_OUT += "text_whole", "compilation", "trained_to_the_end", "browser"
LIMIT = 120  # seconds of computing until a change counts as seen because nothing comes to an end
SAMPLE, SAMPLE_OF_FOLDER = 3, 1  # changes in a short run of each of these files, and of each folder of others
MODEL_TEXT = "vae_np/elbo.py", "vae_np/optimizers.py", "vae_np/bounds.py", "kernels/reference.py"


# ----------------------------------------------------------------------------------------------------- the changes

OPERATORS = {
    "+": ["-"],
    "-": ["+"],
    "*": ["/"],
    "/": ["*"],
    "//": ["*"],
    "**": ["*"],
    "%": ["*"],
    "<<": [">>"],
    ">>": ["<<"],
    "&": ["|"],
    "|": ["&"],
    "^": ["&"],
    "<": ["<=", ">="],
    "<=": ["<", ">"],
    ">": [">=", "<="],
    ">=": [">", "<"],
    "==": ["!="],
    "!=": ["=="],
    "is": ["is not"],
    "is not": ["is"],
    "in": ["not in"],
    "not in": ["in"],
    "and": ["or"],
    "or": ["and"],
    "+=": ["-=", "="],
    "-=": ["+=", "="],
    "*=": ["/=", "="],
    "/=": ["*=", "="],
    "|=": ["="],
}
NAMES = {"max": "min", "min": "max", "maximum": "minimum", "minimum": "maximum", "any": "all", "all": "any"}
# Calls without which a thing only gets another type, or breaks at once; and those whose arguments may change places.
CASTS = {"range", "type", "float64", "int64", "uint64"}
COMMUTATIVE = {"add", "mul", "multiply", "maximum", "minimum", "max", "min"}
LOOKS = {"alpha", "color", "figsize", "fontsize", "linewidth", "lw", "padding", "zorder"}  # what is a matter of taste
STATEMENTS = ast.Expr, ast.Assign, ast.AugAssign, ast.Return, ast.If, ast.For, ast.With, ast.Raise


class Mutant(NamedTuple):
    file: str
    function: str  # "" in the module's own lines
    line: int
    original: str
    mutated: str
    edit: tuple  # (start, end, new text)

    @property
    def key(self):
        return self.file, self.function, self.original, self.mutated

    @property
    def source(self):
        """The whole text of the file with the change in it."""
        start, end, new = self.edit
        source = source_of(self.file)
        return source[:start] + new + source[end:]

    @property
    def is_python(self):
        with warnings.catch_warnings(action="ignore"):  # of what is not quite wrong
            try:
                return bool(compile(self.source, self.file, "exec"))
            except SyntaxError:
                return False


@functools.cache
def source_of(file):
    return (ROOT / file).read_text()


def candidates_of(file):
    """Every Mutant of a file, in the order of its lines; some are no Python."""
    source = source_of(file)
    lines = source.splitlines(keepends=True)
    starts, found = [0, *np.cumsum([len(line) for line in lines])], {hash(source): None}

    def place(line, column):  # which the syntax tree counts in bytes
        return starts[line - 1] + len(lines[line - 1].encode()[:column].decode())

    def span(node):
        return place(node.lineno, node.col_offset), place(node.end_lineno, node.end_col_offset)

    for scope, (start, end, new) in edits(ast.parse(source), "", span, source):
        mutated = source[:start] + new + source[end:]
        first, last = source.rfind("\n", 0, start) + 1, source.find("\n", end)
        shown = [without_comments(s) for s in (source[first:last], mutated[first : last + len(mutated) - len(source)])]
        if shown[0] != shown[1]:
            found.setdefault(hash(mutated), Mutant(file, scope, source.count("\n", 0, start) + 1, *shown, (start, end, new)))
    return sorted(list(found.values())[1:], key=lambda mutant: mutant.line)


def without_comments(text):
    return " ".join(re.sub(r"  #.*", "", text).split())


def edits(node, scope, span, source):
    """(scope, (start, end, new text)) of every change in and below a node of the syntax tree."""

    def text(node):
        return source[slice(*span(node))]

    def exchange(nodes):
        for a, b in itertools.pairwise(nodes):
            (start, until), (since, end) = span(a), span(b)
            yield start, end, text(b) + source[until:since] + text(a)

    def operators(nodes):
        for a, b in itertools.pairwise(nodes):
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
            if isinstance(child, ast.AST) and field not in ("annotation", "returns", "decorator_list", "exc"):
                if not isinstance(child, ast.JoinedStr) and getattr(child, "arg", None) not in LOOKS:
                    yield from edits(child, scope, span, source)


def is_text(node):
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


# ------------------------------------------------------------------------------------------------------- one child


@functools.cache
def definitions(file):
    """(the names it makes, the names it uses) of every function and constant of a file, or of all kernels."""
    found = []
    for path in (ROOT / "kernels").rglob("*.py") if file.startswith("kernels/") else [ROOT / file]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.AnnAssign) and node.value:
                node = ast.Assign([node.target], node.value)  # the type is of no use here
            if isinstance(node, (ast.FunctionDef, ast.Assign)):
                used = {n.id for n in ast.walk(node) if isinstance(n, ast.Name)}
                found.append(({node.name} if isinstance(node, ast.FunctionDef) else used, used))
    return found


@functools.cache
def reached(file, names):
    """The names of what a change can reach: what stands there, and what names that, and so on."""
    while more := frozenset().union(*(made for made, used in definitions(file) if names & used)) - names:
        names |= more
    return names


def module_of(file):
    if file.startswith("kernels/gpu/"):  # with the host in the GPU's place
        return getattr(on_host.KERNELS, pathlib.Path(file).stem)
    name = file.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
    return importlib.import_module(f"vae_np.{name}" if file.startswith("kernels/") else name)


def names_of(mutant):
    outermost = mutant.function.split(".")[0]
    if isinstance(getattr(module_of(mutant.file), outermost, None), type):
        return {outermost}  # a class is changed where it stands
    return reached(mutant.file, frozenset([outermost] if outermost else re.findall(r"\w+", mutant.original)))


KEPT = []  # what a changed text has made: compiled code may know the address of an array in it


def codes_of(code):
    """A code object and those of the functions in it, by their names and places."""
    found, seen = {(): code}, collections.Counter()
    for inner in code.co_consts:
        if isinstance(inner, types.CodeType):
            seen[inner.co_name] += 1
            place = inner.co_name, seen[inner.co_name]
            found |= {(place, *rest): c for rest, c in codes_of(inner).items()}
    return found


def change_where_they_stand(pairs):
    """Gives the functions of a file, and those that they have made, the changed code: records and decorators hold them."""
    new = {}
    for old, changed in pairs:
        if isinstance(old, types.FunctionType) and isinstance(changed, types.FunctionType):
            old.__defaults__, old.__kwdefaults__ = changed.__defaults__, changed.__kwdefaults__
            codes = codes_of(changed.__code__)
            new |= {id(c): codes[place] for place, c in codes_of(old.__code__).items() if codes.get(place, c) != c}
    for function in gc.get_objects() if new else ():
        if isinstance(function, types.FunctionType) and (code := new.get(id(function.__code__))):
            if code.co_freevars == function.__code__.co_freevars:
                function.__code__ = code


def put_in_place(mutant, modules, items):
    """Runs the changed text in its module; only what the change reaches stays, and goes wherever it was imported to."""
    parameters = [item.callspec.params for item in items if hasattr(item, "callspec")]  # where a test was given a function
    module, names = module_of(mutant.file), names_of(mutant)
    before = dict(vars(module))
    with host_cuda.installed() if mutant.file.startswith("kernels/gpu/") else contextlib.nullcontext():
        exec(compile(mutant.source, module.__file__, "exec"), vars(module))
    after = dict(vars(module))
    vars(module).update(before)
    KEPT.append(after)
    if not mutant.file.startswith("kernels/"):  # where Numba would keep what it makes of a function for other processes
        change_where_they_stand([(before[name], after[name]) for name in names & set(before)])
    old = {after[name]: value for name, value in before.items() if isinstance(value, type)}
    for name, value in after.items():
        if isinstance(value, dict) and not name.startswith("__"):  # of classes, perhaps
            after[name] = {key: old.get(v, v) if isinstance(v, type) else v for key, v in value.items()}
    for name in names & set(before):
        if before[name] is after[name] or isinstance(before[name], type) > isinstance(after[name], type):
            continue  # it was imported, or is a class of the tests that stands in for a function
        if isinstance(before[name], type):  # objects of this class may stand anywhere, so it stays the one it is
            for attribute in {*vars(before[name]), *vars(after[name])} - {"__dict__", "__weakref__"}:
                if attribute in vars(after[name]):
                    name_their_class(vars(after[name])[attribute], before[name])
                    setattr(before[name], attribute, vars(after[name])[attribute])
                else:
                    delattr(before[name], attribute)
        else:
            for other in modules:
                if vars(other).get(name) is before[name]:
                    vars(other)[name] = after[name]
            for values in parameters if callable(before[name]) else ():
                values |= {key: after[name] for key, value in values.items() if value is before[name]}
    if mutant.file.startswith("kernels/cpu/") or not mutant.function:  # Numba's cache knows files, not texts
        for other in modules:
            for name in names:
                if isinstance(vars(other).get(name), numba.core.dispatcher.Dispatcher):
                    vars(other)[name]._cache = NullCache()


def name_their_class(attribute, of):
    """`super()` in a method of a changed class means the class that stays."""
    for function in (attribute, *(getattr(attribute, name, None) for name in ("fget", "__func__", "func"))):
        if isinstance(function, types.FunctionType) and "__class__" in function.__code__.co_freevars:
            function.__closure__[function.__code__.co_freevars.index("__class__")].cell_contents = of


def in_order(mutant, items):
    """The tests that can see a change, those first that see most."""
    parts, left_out = SEEN_BY[mutant.file], LEFT_OUT
    if "test_load.py" in parts:
        left_out = tuple(part for part in left_out if not part.endswith("test_load.py"))
    if MODEL[0] in parts:
        left_out += ("numpy",) if mutant.file.startswith("kernels/cpu/") else ("numba", "test_mathematics")
        left_out += ("tests/kernels/test_",) if mutant.file.startswith("vae_np/") else ()
    named = [f"test_sets_agree[numba-{name}-float64]" for name in names_of(mutant)] if MODEL[0] in parts else []
    found = {item: None for item in items if item.name in named}
    items = [item for item in items if not any(part in item.nodeid for part in left_out)]
    for part in parts:
        on_host = "on_host" in part or mutant.file.startswith("kernels/gpu/")
        found |= {item: None for item in items if part in item.nodeid and on_host == is_of_the_gpu(item)}
    return list(found)


def is_of_the_gpu(item):
    if "test_load.py" in item.nodeid:  # whose cupy is made up
        return False
    return "cupy" in item.nodeid or "on_host" in item.nodeid


class NoPython(subprocess.Popen):
    def __init__(self, words, *rest, **options):
        if words[0] == sys.executable:
            pytest.skip("another Python sees the code as it is")
        super().__init__(words, *rest, **options)


def child(mutant, items):
    """Runs the tests on the changed code and ends this process: 0 if none saw the change, 1 if one did, 2 if it broke."""
    resource.setrlimit(resource.RLIMIT_CPU, (LIMIT, LIMIT))  # of its own time, however busy the machine is
    for stream in (1, 2):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream)
    ours = [m for name, m in sys.modules.items() if name.split(".")[0] in ("vae_np", "benchmarks")]
    on_the_host = [m for m in vars(on_host.KERNELS).values() if isinstance(m, types.ModuleType)] + [on_host.KERNELS]
    on_the_host = [m for m in on_the_host if m.__name__.startswith("vae_np.kernels.gpu")]
    ours += on_the_host
    if mutant.file.startswith("kernels/gpu/"):  # what the changed text imports is what the tests run
        sys.modules.update({m.__name__: m for m in on_the_host})
    if mutant.file.startswith(("kernels/cpu/", "benchmarks/peaks.py")):  # what is compiled is not to come from the cache either
        numba.config.CACHE_DIR = tempfile.mkdtemp()
    try:
        put_in_place(mutant, [*ours, *{item.module for item in items}], items)
    except Exception:
        os._exit(2)
    items, subprocess.Popen = in_order(mutant, items), NoPython
    for item, following in zip(items, [*items[1:], None]):
        if any(report.failed for report in runtestprotocol(item, nextitem=following, log=False)):
            os._exit(1)
    os._exit(0)


def verdicts(mutants, jobs, items):
    """(Mutant, verdict) of each, as they come: "survived", "killed" or "broken" (its module could not be run)."""
    waiting, running = list(reversed(mutants)), {}
    while waiting or running:
        while waiting and len(running) < jobs:
            mutant = waiting.pop()
            pid = os.fork()
            if pid == 0:
                try:
                    child(mutant, items)
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


class Run:
    """The plugin that stands in for pytest's own loop over the tests."""

    def __init__(self, args):
        self.args, self.print = args, rich.console.Console(width=160, highlight=False, markup=False).print
        listed = tomllib.loads((ROOT / "tests/mutants.toml").read_text())["equivalent"]
        self.equivalent = {(e["file"], e["function"], *change) for e in listed for change in e["changes"]}
        self.mutants = {file: candidates_of(file) for file in SEEN_BY}
        self.stale = self.equivalent - {mutant.key for mutants in self.mutants.values() for mutant in mutants}
        python = itertools.chain(*((ROOT / folder).rglob("*.py") for folder in ("vae_np", "kernels", "benchmarks")))
        files = {str(path.relative_to(ROOT)) for path in python if (ROOT / "vae_np/kernels") not in path.parents}
        self.unnamed = {file for file in files - UNSEEN - set(SEEN_BY) if candidates_of(file)}
        self.counts = {file: collections.Counter() for file in SEEN_BY}

    def chosen(self):
        """The changes of this run: all, or in a short one some of each file of the model's text and of each other folder."""
        groups = collections.defaultdict(list)
        for file, mutants in self.mutants.items():
            if self.args.short and file == "kernels/cpu/mathematics.py":  # each of its changes compiles every kernel anew
                continue
            wanted = [m for m in mutants if {file, f"{file}:{m.function}"} & set(self.args.where)]
            groups[file if file in MODEL_TEXT else pathlib.Path(file).parent] += [
                m for m in wanted if not self.args.short or m.key not in self.equivalent
            ]
        if not self.args.short:
            return [mutant for mutants in groups.values() for mutant in mutants if mutant.is_python]
        found = []
        for group, mutants in groups.items():
            n = SAMPLE if group in MODEL_TEXT else SAMPLE_OF_FOLDER
            for i in range(n):
                rest = mutants[len(mutants) * (2 * i + 1) // (2 * n) :]
                found += itertools.islice((mutant for mutant in rest if mutant.is_python), 1)
        return found

    def pytest_runtestloop(self, session):
        wake_the_compiler(np.eye(2))
        for file in SEEN_BY:
            module_of(file)  # imported before the forks
        chosen = self.chosen()
        if not self.args.short:
            files = dict.fromkeys(mutant.file for mutant in chosen)
            # All its names are put in place anew, which for compiled ones would take minutes.
            unchanged = [Mutant(f, "", 0, "" if "/cpu/" in f else source_of(f), "", (0, 0, "")) for f in files]
            for mutant, verdict in verdicts(unchanged, self.args.jobs, session.items):
                if verdict != "survived":
                    pytest.exit(f"the tests fail with {mutant.file} as it is", returncode=1)
        for mutant, verdict in verdicts(chosen, self.args.jobs, session.items):
            if mutant.key in self.equivalent:
                verdict = "equivalent" if verdict == "survived" else self.stale.add(mutant.key) or verdict
            if verdict == "survived":
                where = f"{mutant.file}:{mutant.line} {mutant.function}"
                self.print(f"{where}: {mutant.original}\n    -> {mutant.mutated}")
            self.counts[mutant.file][verdict] += 1
        return True

    def report(self):
        """Prints the table, and what is stale; whether all is well."""
        columns = "killed", "broken", "equivalent", "survived"
        table = rich.table.Table("file", "mutants", *columns, "score")
        for file, counts in self.counts.items():
            seen, meant = counts["killed"] + counts["broken"], counts.total() - counts["equivalent"]
            if meant:
                table.add_row(file, *map(str, (counts.total(), *(counts[c] for c in columns))), f"{seen / meant:.1%}")
        self.print(table)
        for key in sorted(self.stale):
            self.print("stale in tests/mutants.toml:", *key)
        for file in sorted(self.unnamed):
            self.print(f"tests/mutants.py does not say which tests see {file}")
        return not self.stale and not self.unnamed and not any(counts["survived"] for counts in self.counts.values())


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("where", nargs="*", default=list(SEEN_BY), metavar="FILE[:FUNCTION]")
    parser.add_argument(
        "--short",
        action="store_true",
        help=f"{SAMPLE} changes of each file of the model's text, and {SAMPLE_OF_FOLDER} of each folder of others",
    )
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("--tests", nargs="+", default=TESTS, help="what to run instead of all that can see a change")
    args, started = parser.parse_args(), time.perf_counter()
    os.chdir(ROOT)
    resource.setrlimit(resource.RLIMIT_AS, (16 << 30, 16 << 30))  # a wrong size must not take all the memory
    phases = [hypothesis.Phase.explicit, hypothesis.Phase.generate]
    hypothesis.settings.register_profile("mutants", deadline=None, database=None, phases=phases)
    settings = [
        "-qq",
        "--disable-warnings",
        "-s",
        "--tb=native",
        "-p",
        "no:cacheprovider",
        "-p",
        "no:faulthandler",
        "--hypothesis-profile=mutants",
        "--hypothesis-seed=0",
    ]
    run = Run(args)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["PYTEST_DEBUG_TEMPROOT"] = folder
        code = pytest.main([*args.tests, *settings], plugins=[run])
    well = run.report()
    run.print(f"{time.perf_counter() - started:.0f} s")
    sys.exit(not well or bool(code))


if __name__ == "__main__":
    main()
