"""What is said of a student's answer: whether it is right, and if not, what kind of mistake was made.

An operation runs alone on right arguments, so that no mistake in another exercise reaches it. Arrays that it is to fill hold NaN
before. Its results are compared with those of `kernels.reference`, which the tests hold to complex steps of definitions that
were written independently. A function of the model's text runs on whole models, and its gradients are compared with complex
steps of `vae_np.testing.complex_elbo`; where they are off, `trace` finds the first wrong line.
"""

import ast
import contextlib
import functools
import inspect
import io
import itertools
import linecache
import re
import textwrap
import traceback
import types
import warnings
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from vae_np import elbo
from vae_np.architecture import Architecture
from vae_np.buffers import buffers
from vae_np.parameters import Parameters
from vae_np.study.exercises import KNOWN, SIZES, Case, Exercise, cases, letters, roles
from vae_np.study.trace import trace
from vae_np.study.wrong_lines import FORMULAS, edits, value_of
from vae_np.testing.comparison import relative_errors, rounding
from vae_np.testing.diagnosis import diagnose
from vae_np.testing.gradients import check_with_complex_steps
from vae_np.testing.oracles import complex_elbo
from vae_np.testing.problems import Problem, random_problem

RIGHT, WRONG, NOT_BEGUN = "right", "wrong", "not begun"
RTOL = {"float64": 1e-9, "float32": 1e-3}  # far above the rounding of any right answer, and far below any mistake
WORDS = {"B": "examples", "D": "inputs", "H": "hidden units", "Z": "latents", "L": "samples", "n_examples": "batch"}


class Finding(NamedTuple):
    """Something that is wrong."""

    output: str  # the name of the array; "" where it concerns the whole function
    sentence: str

    def __str__(self) -> str:
        return f"{self.output}: {self.sentence}" if self.output else self.sentence


class Verdict(NamedTuple):
    """What is said of an answer."""

    name: str  # of the exercise
    state: str  # RIGHT, WRONG or NOT_BEGUN
    findings: tuple[Finding, ...] = ()
    where: str = ""  # the words for the arguments with which it is wrong; "" where it is wrong with the first ones
    notes: tuple[str, ...] = ()  # what differs from the reference in a right answer
    printed: str = ""  # what the function printed
    arrays: tuple[tuple[str, Any, Any], ...] = ()  # (output, given, wanted) of those that are wrong

    def __str__(self) -> str:
        where = f"It is right at first, but not {self.where}." if self.where else ""
        lines = [where, *map(str, self.findings), *self.notes]
        marks = {RIGHT: "✓ right", WRONG: "✗ not right yet", NOT_BEGUN: "· not begun"}
        return "\n    ".join([f"{marks[self.state]}: {self.name}", *filter(None, lines)])

    def _repr_html_(self) -> str:
        from vae_np.study.notebook import html_of

        return html_of(self)


class Failed(Exception):
    """An answer cannot be judged further; its argument is the Finding."""


def check(function: Callable[..., Any], name: str = "") -> Verdict:
    """Say whether a function is the right answer to the exercise of its name, and if not, what kind of mistake was made.

    Parameters
    ----------
    function : function
        The student's function. It fills its last arguments, as the docstring of the exercise says, or returns their values.
    name : str
        The name of the exercise, if that of the function is another one.

    Returns
    -------
    Verdict
        It prints as a few lines, and a notebook shows it with pictures.

    Raises
    ------
    ValueError
        There is no exercise of that name.

    Examples
    --------
    >>> from vae_np.study.answers import check
    >>> def gaussian_kl_backward(dkl, mu, logvar, eps, z, dz, dmu, dlogvar):
    ...     dmu[...] = dkl[0][:, None] * mu
    ...     dlogvar[...] = dkl[0][:, None] * (np.exp(logvar / 2) - 1) / 2
    >>> print(check(gaussian_kl_backward))
    ✗ not right yet: gaussian_kl_backward
        dlogvar: A standard deviation stands where a variance is meant.
    """
    name = name or function.__name__
    if name not in KNOWN:
        raise ValueError(f"there is no exercise {name!r}; known are {', '.join(KNOWN)}")
    exercise, printed = KNOWN[name], io.StringIO()
    try:
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
            verdict = (_of_operation if exercise.is_operation else _of_text)(function, exercise)
    except Failed as failed:
        verdict = Verdict(name, WRONG, failed.args[0])
    except NotImplementedError:
        verdict = Verdict(name, NOT_BEGUN)
    return verdict._replace(printed=printed.getvalue())


# -------------------------------------------------------------------------------------------------------- operations


def _of_operation(function, exercise):
    notes = [*_notes_on_source(function)]
    for case in cases(exercise):
        try:
            before, after, warned = _run(function, exercise, case.arguments)
        except Failed as failed:
            return Verdict(exercise.name, WRONG, failed.args[0], case.words)
        wanted = _copied(case.arguments)
        with np.errstate(all="ignore"):
            exercise.original(**wanted)
        shown = [*FORMULAS.get(exercise.name, roles(exercise).outputs)]
        off = {name: after[name] for name in shown if not _agree(after[name], wanted[name], before)}
        if case.edge and off and not all(np.isfinite(after[name]).all() for name in off):
            notes.append(_unstable(case, "it gives NaN or infinity there"))
        elif off:
            findings = [*_findings(function, exercise, case, before, after, wanted, off)]
            arrays = tuple((name, off[name], wanted[name]) for name in off)
            return Verdict(exercise.name, WRONG, tuple(findings), case.words, arrays=arrays)
        elif case.exact and (error := max(_digits_lost(after[name], wanted[name]) for name in shown)) > 1e-6:
            notes.append(_less_exact(case, error))
        elif case.edge and warned:
            notes.append(_unstable(case, f"NumPy warns there of {warned[0].split(' encountered')[0]}"))
    return Verdict(exercise.name, RIGHT, notes=tuple(notes))


def _unstable(case, what):
    return f"It is less stable than it can be {case.words}: {what}. The mathematics is right."


def _less_exact(case, error):
    return (
        f"It is less exact than it can be {case.words}: a relative error is {error:.0e}, because two nearly equal numbers are "
        "subtracted. The mathematics is right."
    )


def _digits_lost(given, wanted):
    """The largest relative error of an element, where no element is too small to count."""
    with np.errstate(all="ignore"):
        errors = np.abs(given - wanted) / np.abs(wanted)
    return float(np.nanmax(np.where(np.abs(wanted) > 1e-300, errors, 0.0), initial=0.0))


def _notes_on_source(function):
    """Remarks on the form of a right answer."""
    with contextlib.suppress(OSError, TypeError, SyntaxError):
        source = inspect.getsource(function)
        loops = (ast.For, ast.While, ast.ListComp, ast.GeneratorExp)
        if any(isinstance(node, loops) for node in ast.walk(ast.parse(textwrap.dedent(source)))):
            yield "It is right, and slower than operations on whole arrays, because Python runs the loop element by element."


def _copied(arguments):
    return {
        name: np.array(value) if np.ndim(value) or isinstance(value, np.ndarray) else value for name, value in arguments.items()
    }


def _agree(given, wanted, before):
    if given.shape != wanted.shape:
        try:
            given = np.broadcast_to(given, wanted.shape)
        except ValueError:
            return False
    resolution = rounding([np.asarray(value, wanted.dtype) for value in (*before.values(), wanted) if _is_finite(value)])
    return bool(np.all(relative_errors(given, wanted, resolution) <= RTOL[wanted.dtype.name]))


def _is_finite(value):
    return isinstance(value, np.ndarray) and value.dtype.kind == "f" and bool(np.isfinite(value).all())


def _run(function, exercise, arguments, poison=np.nan):
    """The arguments before and after the function has run, with what it returned in their place, and NumPy's warnings."""
    of, values = roles(exercise), _copied(arguments)
    for name in of.fills:
        values[name][...] = poison
    before = _copied(values)
    try:
        with warnings.catch_warnings(record=True) as warned, np.errstate(all="warn", under="ignore"):
            warnings.simplefilter("always")
            returned = function(*values.values())
    except NotImplementedError:
        raise
    except (Exception, SystemExit) as error:
        raise Failed((_of_exception(error, function, exercise, before, arguments),)) from error
    after = {**values, **returned_arrays(returned, values, exercise)}
    for name, value in before.items():
        if name not in (*of.outputs, *exercise.ignored) and not np.array_equal(value, after[name], equal_nan=True):
            sentence = "It has been changed. It is an argument that is only read, and lines that follow need it as it was."
            raise Failed((Finding(name, sentence),))
    return before, after, [str(warning.message) for warning in warned if issubclass(warning.category, RuntimeWarning)]


def returned_arrays(returned, values, exercise):
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
            (Finding("", f"It returns {len(items)} of the arrays. Return {wanted}, or fill them in place and return nothing."),)
        )
    found = {}
    for name, item in zip(names, items):
        if item is None or item is values[name] or name in exercise.ignored:
            continue
        try:
            array = np.asarray(item, values[name].dtype)
        except (TypeError, ValueError):
            raise Failed((Finding(name, f"A {type(item).__name__} was returned for it. An array is wanted."),)) from None
        found[name] = _fitted(array, values[name].shape)
    return found


def _fitted(array, shape):
    """The array in this shape if it can be repeated to it, else as it is."""
    try:
        return np.broadcast_to(array, shape)
    except ValueError:
        return array


# ----------------------------------------------------------------------------------------------- what is said of an array


def _findings(function, exercise: Exercise, case: Case, before, after, wanted, off) -> Iterator[Finding]:
    results = {name: wanted[name] for name in roles(exercise).outputs}
    told = [name for name in exercise.first if name in off] or list(off)
    for name in told:
        sentence = _sentence(function, exercise, case, before, after[name], wanted[name], name, results)
        yield Finding(name, sentence)


def _sentence(function, exercise, case, before, given, wanted, name, results):
    """What is wrong with one output."""
    for other, of_other in results.items():
        if other != name and np.shape(given) == of_other.shape and _agree(given, of_other, {}) and np.ptp(of_other):
            mixed = f"It holds what belongs in {other}."
            break
    else:
        mixed = ""
    formula = FORMULAS.get(exercise.name, {}).get(name)
    of, values = roles(exercise), {**before, **case.sizes, name: case.arguments[name]}
    used = {letter for value in case.arguments.values() for letter in letters(np.shape(value))} | {*exercise.parameters}
    given, wanted = np.asarray(given, float), np.asarray(wanted, float)
    rtol, sizes = (
        RTOL[case.arguments[name].dtype.name],
        {WORDS[letter]: n for letter, n in case.sizes.items() if letter in WORDS and letter in used},
    )
    if name in of.fills and (np.isnan(given).any() or given.shape != wanted.shape):
        if sentence := _unfilled(function, exercise, case, given, wanted, name):
            return sentence
    old, adds = before[name], name in of.adds
    if np.isnan(given).all():
        return "Every element is NaN."
    same = functools.partial(_same, wanted=wanted, rtol=rtol, scale=old if adds else wanted)
    named = [
        sentences for sentences, value in _variants(formula, values, wanted.shape) if value is not None and same(given, value)
    ]
    fewest = [sentences for sentences in named if len(sentences) == min(map(len, named))]
    single = fewest[0][0] if named and len(fewest[0]) == 1 else ""
    if name in of.changes and np.array_equal(given, old):
        return f"Nothing has changed in it.{_rebinding(function, name) or ' ' + single}".rstrip()
    if single:
        return single
    if mixed:
        return mixed

    def kit(given, wanted, resolution=0.0):
        factors = _factors(case, wanted.shape)
        found = diagnose(given, wanted, sizes=sizes, factors=factors, rtol=rtol, resolution=resolution)
        if found and (factor := re.match("A factor is missing: (\\w+)", found.sentence)) and factor[1] not in of.reads:
            return found._replace(sentence=f"It is divided by {factor[1]}, which does not belong there.")
        return found

    resolution = rounding([np.asarray(old, wanted.dtype), wanted]) if adds else 0.0
    found = kit(given - old, wanted - old, resolution) if adds and given.shape == wanted.shape else None
    found = found or kit(given, wanted)
    law = _law(function, exercise, case, name)
    pair = " ".join(dict.fromkeys(fewest[0])) if named and len(set(map(frozenset, fewest))) == 1 else ""
    vague = found is not None and (found.kind in ("mask", "signs", "not finite", "combination", "offset") or _is_bare(found))
    if found and not vague:
        return found.sentence
    forms, edited = formula.forms if formula else (), set()
    with np.errstate(all="ignore"):
        for said, expression in itertools.chain.from_iterable(map(edits, forms)):
            edited |= {said} if same(given, value_of(expression, values, wanted.shape)) else set()
    if len(edited) == 1:
        return edited.pop()
    if pair:
        return pair
    if found and not law:
        return found.sentence
    if sentence := _times_a_number(formula, values, given, wanted, kit):
        return sentence
    if adds and (found := kit(given, wanted - old, resolution)):
        return f"It replaces what stood there before, to which the second path is added. Besides: {found.sentence}"
    if law:
        return law
    if found:
        return found.sentence
    return " ".join([*_dependences(function, exercise, case, name, values), _how_far(given, wanted)])


def _is_bare(found):
    """Whether a Diagnosis is a number without a reason."""
    return found.kind == "factor" and ":" not in found.sentence and not re.search("twice|half", found.sentence)


def _same(given, value, wanted, rtol, scale):
    """Whether two arrays are the same, as far as rounding allows."""
    if value is None or given.shape != value.shape or not np.isfinite(value).all():
        return False
    size = max(float(np.abs(value).max(initial=0.0)), float(np.abs(np.nan_to_num(scale)).max(initial=0.0)))
    return bool(np.all(relative_errors(given, value, 1e-3 * rtol * size) <= rtol))


def _variants(formula, values, shape):
    with np.errstate(all="ignore"):
        for sentences, expression in formula.variants() if formula else ():
            if sentences:
                yield sentences, value_of(expression, values, shape)


def _times_a_number(formula, values, given, wanted, kit):
    """Two sentences where one wrong part and a wrong number explain the answer, and nothing else does."""
    found = set()
    for sentences, value in _variants(formula, values, wanted.shape):
        if len(sentences) == 1 and value is not None and np.isfinite(value).all():
            factor = kit(given, value)
            if factor and factor.kind in ("sign", "factor"):
                found.add((sentences[0], factor.sentence))
    return f"{found_[0]} Besides: {found_[1]}" if len(found) == 1 and (found_ := found.pop()) else ""


def _factors(case, shape):
    """Arrays that may be a factor too much or too little: the arguments, and their exponentials where they are logarithms."""
    found = {}
    for name, value in case.arguments.items():
        if isinstance(value, np.ndarray) and value.ndim and value.size and name[:1] != "d":
            of_shape = [value, value[..., None]] if value.ndim < len(shape) else [value]
            for array in of_shape:
                with contextlib.suppress(ValueError):
                    found[name] = np.broadcast_to(np.asarray(array, float), shape)
        elif np.ndim(value) == 0 and name != "n_examples":  # that is a size
            found[name] = np.asarray(value, float)
    with np.errstate(all="ignore"):
        found |= {f"exp({name} / 2)": np.exp(array / 2) for name, array in found.items() if name.endswith("logvar")}
    return {name: array for name, array in found.items() if np.isfinite(array).all()}


def _unfilled(function, exercise, case, given, wanted, name):
    """A sentence where NaN was left in an array, or was added to; "" where that is not the matter."""
    with np.errstate(all="ignore"):
        _, again, _ = _run(function, exercise, case.arguments, poison=0.0)
    again = np.asarray(again[name], float)
    if given.shape != wanted.shape or (np.isnan(again) & np.isnan(given)).all():
        return ""
    if np.isnan(given).all() and not again.any() and wanted.any():
        return f"It was never filled.{_rebinding(function, name)}"
    if _agree(again, wanted, {}):
        if np.isnan(given).all() and again.any():
            return "Something is added to it, but it holds nothing yet: `+=` stands where `=` is meant."
        if not wanted.any():
            return f"It was never filled.{_rebinding(function, name)}"
    if np.isnan(given).any() and not np.isnan(again).any():
        part = f"{np.isnan(given).sum()} of {given.size} elements were never filled"
        return (
            f"{part[0].upper()}{part[1:]}." if not again[np.isnan(given)].any() else "It is added to, but it holds nothing yet."
        )
    return ""


def _rebinding(function, name):
    """A sentence where the function only gives the name of an array to another array."""
    with contextlib.suppress(OSError, TypeError, SyntaxError):
        tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
        for node in ast.walk(tree):
            if isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == name for t in node.targets):
                return f" `{name} = ..` gives the name {name} to another array: write `{name}[...] = ..`, or return it."
    return ""


def _law(function, exercise, case, name):
    """A sentence where an output is not linear in the derivatives that the operation is given; "" where it is."""
    derivatives = roles(exercise).derivatives

    def at(factor, of):
        changed = {d: np.asarray(factor * case.arguments[d], case.arguments[d].dtype) for d in derivatives}
        return np.asarray(_run(of, exercise, {**case.arguments, **changed})[1][name], float)

    if not derivatives or case.edge:
        return ""
    with np.errstate(all="ignore"):
        one, two, minus = (at(factor, function) for factor in (1, 2, -1))
        if not np.allclose(at(2, exercise.original), 2 * at(1, exercise.original)):
            return ""  # part of the right result does not come from a derivative
    if not np.isfinite(one).all() or (_same(two, 2 * one, one, 1e-4, one) and _same(minus, -one, one, 1e-4, one)):
        return ""
    d = " and ".join(derivatives)
    if _same(two, 2 * one, one, 1e-4, one):
        return f"It is not linear in {d}: with the other sign of {d} the result is not the same with the other sign."
    if _same(two, one, one, 1e-4, one):
        return f"It does not depend on {d}: twice the {d} must give twice the result, and yours does not move."
    return f"It is not linear in {d}: twice the {d} must give twice the result."


def _dependences(function, exercise, case, name, values):
    """Sentences on arguments on which an output depends and should not, or does not and should."""

    def moved(of, argument):
        changed = np.array(case.arguments[argument], dtype=np.asarray(case.arguments[argument]).dtype)
        others = {**case.arguments, argument: changed * 1.1 + 0.01 if changed.ndim else changed[()] * 1.1}
        pairs = []
        for arguments in (case.arguments, others):
            if of is function:
                pairs.append(_run(of, exercise, arguments)[1][name])
            else:
                copied = _copied(arguments)
                of(**copied)
                pairs.append(copied[name])
        return not np.array_equal(*pairs, equal_nan=True)

    for argument, value in case.arguments.items():
        if np.asarray(value).dtype.kind == "f" and np.size(value) and argument not in roles(exercise).outputs:
            with np.errstate(all="ignore"), contextlib.suppress(Failed):
                yours, right = moved(function, argument), moved(exercise.original, argument)
                if yours and not right:
                    yield f"It depends on {argument}, and it should not."
                if right and not yours:
                    yield f"It does not depend on {argument}, and it should."


def _how_far(given, wanted):
    if given.shape != wanted.shape:
        return f"It has the shape {letters(given.shape)}, and it should have {letters(wanted.shape)}."
    right = relative_errors(given, wanted) <= 1e-6
    parts = [f"{right.mean():.0%} of its elements are right"] if 0 < right.mean() < 1 else []
    lengths = np.linalg.norm(given), np.linalg.norm(wanted)
    if min(lengths) > 0:
        parts.append(f"its cosine with the right derivative is {np.vdot(given, wanted) / (lengths[0] * lengths[1]):.2f}")
    return f"No single mistake explains it{': ' if parts else ''}{', and '.join(parts)}."


# ----------------------------------------------------------------------------------------------------------- exceptions


def _of_exception(error, function, exercise, before, arguments, sizes=SIZES):
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
    wanted = _copied(arguments)
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


# ------------------------------------------------------------------------------------------ functions of the model's text

TEXT_SIZES = {"B": 4, "D": 7, "H": 5, "Z": 3, "L": 2}


def _problems() -> Iterator[tuple[str, Problem]]:
    """Models on which the backward pass is tried, and the words for what is special about them."""
    B, D, H, Z, L = TEXT_SIZES.values()

    def problem(hidden, activation="tanh", objective="elbo", **kind):
        return random_problem(Architecture(D, hidden, Z, activation, **kind), objective, B, L)

    yield "", problem((H,))
    yield "with two hidden layers on either side", problem((H, H + 1))
    yield "without hidden layers", problem(())
    yield "with importance weights, where the KL is sampled", problem((H,), objective="iwae")
    noise = {"likelihood": "gaussian", "noise": "heteroscedastic"}
    yield "where a second head of the decoder computes output_logvar", problem((H,), "silu", **noise)


def _of_text(function, exercise):
    own = types.FunctionType(
        function.__code__, function.__globals__, exercise.name, function.__defaults__, function.__closure__
    )
    for words, problem in _problems():
        try:
            gradients = _gradients(problem, exercise, own)
        except NotImplementedError:
            raise
        except (Exception, SystemExit) as error:
            return Verdict(exercise.name, WRONG, (_of_exception(error, function, exercise, {}, {}, TEXT_SIZES),), words)
        p, x, eps, beta, l2, objective = problem

        def loss(q, arch=p.architecture, rest=(x, eps, beta, l2, objective)):
            return complex_elbo(arch, q, *rest)

        off = {
            worst.name
            for worst in check_with_complex_steps(loss, p, _zeroed(gradients), rtol=np.inf)
            if not worst.error <= 1e-9
        }
        off |= {name for name in gradients if not np.isfinite(gradients[name]).all()}
        if off:
            findings = [*_blame(problem, exercise, own)] or [Finding(name, "It is wrong, or was never filled.") for name in off]
            return Verdict(exercise.name, WRONG, tuple(findings), words)
    return Verdict(exercise.name, RIGHT)


def _zeroed(gradients):
    return {name: np.nan_to_num(np.asarray(gradients[name])) for name in gradients}


def _gradients(problem, exercise, function):
    """The gradients of a pass in which one function of the text is the student's. What it does not fill is NaN."""
    p, x, eps, beta, l2, objective = problem
    text = tuple(function if original.__name__ == exercise.name else original for original in elbo.TEXT)
    model, p, a, beta, l2 = elbo.prepare(p, x, eps, beta, l2, objective, "numpy", text)
    L, B, _ = a.eps.shape
    d = buffers(p.architecture, objective, L, B, np.float64)
    g = Parameters.zeros(p.architecture)
    for array in _all_arrays(d):
        array[...] = np.nan
    g.flat[...] = np.nan
    model.forward(p.layers, a, beta)
    with np.errstate(all="ignore"):
        model.backward(p.layers, a, d, beta, B)
        model.weight_gradients(p.layers, a, d, g.layers, l2)
    return g


def _all_arrays(tree):
    for value in tree:
        if isinstance(value, np.ndarray):
            yield value
        elif isinstance(value, tuple):
            yield from _all_arrays(value)


def _blame(problem, exercise, function):
    """A Finding for the first wrong line, or for what was never filled."""
    p, x, eps, beta, l2, objective = problem
    try:
        with np.errstate(all="ignore"):
            lines = trace(p, x, eps, beta, l2, objective, 4, **{exercise.name: function})
            right = trace(p, x, eps, beta, l2, objective, 1)
    except ValueError as error:
        yield Finding("", f"The lines cannot be followed: {error}.")
        return
    written = {array.name: array.value for line in right if line.function == exercise.name for array in line.writes}
    own = {array.name for line in lines if line.function == exercise.name for array in line.writes}
    for line in lines.wrong:
        if line.function != exercise.name:
            continue
        source = " ".join(line.source.partition("#")[0].split())
        for array in line.writes:
            if not array.error or array.error <= 1e-6:
                continue
            said = f"line {line.number}, `{source}`: "
            if array.missing_paths:
                paths = ", ".join(f"`{' '.join(lines[j].source.partition('#')[0].split())}`" for j in array.missing_paths)
                yield Finding(array.name, f"{said}the path through {paths} is missing.")
                return
            found = diagnose(array.value, written[array.name]) if array.name in written else None
            reads = _other_arguments(line, array.name, right)
            words = reads or (found.sentence if found else "this is the first line whose derivative is wrong.")
            yield Finding(array.name, said + words)
            return
    for name in written:
        if name not in own:
            yield Finding(name, "It was never filled.")
            return


def _other_arguments(line, name, right):
    """A sentence on the arguments of a line that are not those of the right line; "" if there is no single right line."""
    meant = [
        other
        for other in right
        if line.operation and other.operation == line.operation and name in {array.name for array in other.writes}
    ]
    if len(meant) != 1:
        return ""
    off = {parameter: given for parameter, given in line.arguments.items() if given != meant[0].arguments.get(parameter)}
    return "".join(f"it takes {given} as {parameter}, and another one is meant. " for parameter, given in off.items()).rstrip()
