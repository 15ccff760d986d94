"""What is said of a student's answer: whether it is right, and if not, what kind of mistake was made.

An operation runs alone on right arguments, so that no mistake in another exercise reaches it. Arrays that it is to fill hold NaN
before. Its results are compared with those of `kernels.reference`, which the tests hold to complex steps of definitions that
were written independently. `causes` says what is wrong with an array, and `passes` what is wrong with a function of the model's
text.
"""

import ast
import contextlib
import inspect
import io
import textwrap
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from vae_np.study import passes
from vae_np.study.causes import Wrong, cause
from vae_np.study.exercises import KNOWN, cases, roles
from vae_np.study.trial import Failed, Finding, agree, copied, run
from vae_np.study.wrong_lines import FORMULAS

RIGHT, WRONG, NOT_BEGUN = "right", "wrong", "not begun"


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
        verdict = Verdict(name, WRONG, failed.args)
    except NotImplementedError:
        verdict = Verdict(name, NOT_BEGUN)
    return verdict._replace(printed=printed.getvalue())


def _of_operation(function, exercise):
    notes = [*_notes_on_source(function)]
    for case in cases(exercise):
        try:
            before, after, warned = run(function, exercise, case.arguments)
        except Failed as failed:
            return Verdict(exercise.name, WRONG, failed.args, case.words)
        wanted = copied(case.arguments)
        with np.errstate(all="ignore"):
            exercise.original(**wanted)
        shown = [*FORMULAS.get(exercise.name, roles(exercise).outputs)]
        off = {name: after[name] for name in shown if not agree(after[name], wanted[name], before)}
        if case.edge and off and not all(np.isfinite(after[name]).all() for name in off):
            notes.append(_unstable(case, "it gives NaN or infinity there"))
        elif off:
            results = {name: wanted[name] for name in roles(exercise).outputs}
            told = [name for name in exercise.first if name in off] or off
            wrongs = [Wrong(function, exercise, case, name, after[name], before, results) for name in told]
            findings = [Finding(wrong.name, cause(wrong)) for wrong in wrongs]
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


def _of_text(function, exercise):
    findings, words = passes.findings(function, exercise)
    return Verdict(exercise.name, WRONG if findings else RIGHT, findings, words)
