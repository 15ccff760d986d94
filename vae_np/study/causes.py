"""What is wrong with an array that an answer has filled: the first rule that explains every element says so.

A rule is a function of a `Wrong`, and returns a sentence, or "" where it explains nothing. `RULES` has them in the order in
which they are tried. They begin with what is certain, and end with what is only a fact about the numbers.
"""

import ast
import contextlib
import dataclasses
import functools
import inspect
import itertools
import re
import textwrap
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vae_np.study.exercises import Case, Exercise, letters, roles
from vae_np.study.trial import RTOL, WORDS, Failed, agree, run
from vae_np.study.wrong_lines import FORMULAS, edits, value_of
from vae_np.testing.comparison import relative_errors, rounding
from vae_np.testing.diagnosis import Diagnosis, diagnose

VAGUE = "mask", "signs", "not finite", "combination", "offset"  # kinds that say where, and not yet why


@dataclasses.dataclass
class Wrong:
    """An array that is wrong, and all that is known of it."""

    function: Callable[..., Any]
    exercise: Exercise
    case: Case
    name: str
    given: NDArray
    before: dict[str, Any]
    results: dict[str, NDArray]  # the right arrays, this one among them

    def __post_init__(self):
        self.roles, self.old = roles(self.exercise), self.before[self.name]
        self.rtol = RTOL[self.case.arguments[self.name].dtype.name]
        self.given, self.wanted = np.asarray(self.given, float), np.asarray(self.results[self.name], float)
        self.adds = self.name in self.roles.adds
        self.formula = FORMULAS.get(self.exercise.name, {}).get(self.name)

    def is_value(self, value: NDArray | None) -> bool:
        """Whether the array holds this value, as far as rounding allows."""
        return _same(self.given, value, self.rtol, self.old if self.adds else self.wanted)

    def value_of(self, expression: str) -> NDArray | None:
        """The value of an expression of `wrong_lines`."""
        values = {**self.before, **self.case.sizes, self.name: self.case.arguments[self.name]}
        with np.errstate(all="ignore"):
            return value_of(expression, values, self.wanted.shape)

    @functools.cached_property
    def one_part(self) -> list[tuple[tuple[str, ...], NDArray | None]]:
        """The sentences and the values of the lines with one wrong part."""
        return self._variants(1)

    def explanations(self, n_parts: int) -> list[tuple[str, ...]]:
        """The sentences of the lines with so many wrong parts that explain the array."""
        variants = self.one_part if n_parts == 1 else self._variants(n_parts)
        return [sentences for sentences, value in variants if self.is_value(value)]

    def _variants(self, n_parts):
        variants = self.formula.variants(n_parts) if self.formula else ()
        return [(sentences, self.value_of(expression)) for sentences, expression in variants]

    @functools.cached_property
    def resolution(self) -> float:
        """Up to which a change of the array is rounding."""
        return rounding([np.asarray(self.old, float), self.wanted]) if self.adds else 0.0

    def diagnose(self, given: NDArray, wanted: NDArray, resolution: float = 0.0) -> Diagnosis | None:
        """The kind of mistake that makes one array of another one, without a look at the exercise."""
        used = {*"".join(letters(np.shape(value)) for value in self.case.arguments.values()), *self.exercise.parameters}
        sizes = {WORDS[letter]: n for letter, n in self.case.sizes.items() if letter in WORDS and letter in used}
        factors = _factors(self.case, wanted.shape)
        found = diagnose(given, wanted, sizes=sizes, factors=factors, rtol=self.rtol, resolution=resolution)
        missing = re.match(r"A factor is missing: (\w+)", found.sentence) if found else None
        if found and missing and missing[1] not in self.roles.reads:
            return found._replace(sentence=f"It is divided by {missing[1]}, which does not belong there.")
        return found

    @functools.cached_property
    def diagnosis(self) -> Diagnosis | None:
        """The kind of mistake, in what was added where the operation adds, or else in the whole array."""
        of_change = None
        if self.adds and self.given.shape == self.wanted.shape:
            of_change = self.diagnose(self.given - self.old, self.wanted - self.old, self.resolution)
        return of_change or self.diagnose(self.given, self.wanted)


def cause(wrong: Wrong) -> str:
    """A sentence on what is wrong with an array."""
    for rule in RULES:
        with contextlib.suppress(Failed):  # a rule may run the function again, with arguments that it does not take
            if sentence := rule(wrong):
                return sentence
    return "It is wrong."


def _same(given, value, rtol, scale):
    """Whether two arrays are the same, as far as rounding allows in numbers of this size."""
    if value is None or given.shape != value.shape or not np.isfinite(value).all():
        return False
    size = max(float(np.abs(array).max(initial=0.0)) for array in (value, np.nan_to_num(scale)))
    return bool(np.all(relative_errors(given, value, 1e-3 * rtol * size) <= rtol))


def _factors(case, shape, derivatives=False):
    """Arrays that may be a factor too much or too little: the arguments, and their exponentials where they are logarithms."""
    found = {}
    for name, value in case.arguments.items():
        if isinstance(value, np.ndarray) and value.ndim and value.size and (derivatives or name[:1] != "d"):
            of_shape = [value, value[..., None]] if value.ndim < len(shape) else [value]
            for array in of_shape:
                with contextlib.suppress(ValueError):
                    found[name] = np.broadcast_to(np.asarray(array, float), shape)
        elif np.ndim(value) == 0 and name != "n_examples":  # that is a size
            found[name] = np.asarray(value, float)
    with np.errstate(all="ignore"):
        found |= {f"exp({name} / 2)": np.exp(array / 2) for name, array in found.items() if name.endswith("logvar")}
    return {name: array for name, array in found.items() if np.isfinite(array).all()}


# ------------------------------------------------------------------------------------------------------------- the rules


def _unfilled(wrong):
    """A sentence where NaN was left in an array, or was added to; "" where that is not the matter."""
    given, wanted = wrong.given, wrong.wanted
    if wrong.name not in wrong.roles.fills or given.shape != wanted.shape or not np.isnan(given).any():
        return ""
    with np.errstate(all="ignore"):
        again = np.asarray(run(wrong.function, wrong.exercise, wrong.case.arguments, poison=0.0)[1][wrong.name], float)
    empty = np.isnan(given)
    if again.shape != given.shape or np.isnan(again[empty]).any():  # the function itself makes NaN
        return ""
    if again[empty].any():
        return "Something is added to it, but it holds nothing yet: `+=` stands where `=` is meant."
    if empty.all():
        return f"It was never filled.{_rebinding(wrong.function, wrong.name)}"
    return f"{empty.sum()} of {empty.size} elements were never filled."


def _rebinding(function, name):
    """A sentence where the function only gives the name of an array to another array."""
    with contextlib.suppress(OSError, TypeError, SyntaxError):
        tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
        for node in ast.walk(tree):
            if isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == name for t in node.targets):
                return f" `{name} = ..` gives the name {name} to another array: write `{name}[...] = ..`, or return it."
    return ""


def _only_nan(wrong):
    return "Every element is NaN." if np.isnan(wrong.given).all() else ""


def _unchanged(wrong):
    if wrong.name not in wrong.roles.changes or not np.array_equal(wrong.given, wrong.old):
        return ""
    return f"Nothing has changed in it.{_rebinding(wrong.function, wrong.name) or ' ' + _one_wrong_part(wrong)}".rstrip()


def _one_wrong_part(wrong):
    return next((sentence for (sentence,) in wrong.explanations(1)), "")


def _belongs_elsewhere(wrong):
    """A sentence where the array holds what another output should hold."""
    for other, result in wrong.results.items():
        if other != wrong.name and wrong.given.shape == result.shape and np.ptp(result) and agree(wrong.given, result, {}):
            return f"It holds what belongs in {other}."
    return ""


def _kind(wrong):
    found = wrong.diagnosis
    is_bare = found and found.kind == "factor" and ":" not in found.sentence and not re.search("twice|half", found.sentence)
    return "" if found is None or is_bare or found.kind in VAGUE or "Besides" in found.sentence else found.sentence


def _wrong_sign_or_number(wrong):
    """A sentence where the right line, changed in one place, explains the array."""
    lines = itertools.chain.from_iterable(map(edits, wrong.formula.forms)) if wrong.formula else ()
    return next((sentence for sentence, expression in lines if wrong.is_value(wrong.value_of(expression))), "")


def _two_wrong_parts(wrong):
    found = wrong.explanations(2)
    return " ".join(dict.fromkeys(found[0])) if len(set(map(frozenset, found))) == 1 else ""


def _wrong_part_and_number(wrong):
    """Two sentences where one wrong part and a number explain the array, and no other pair does."""
    found = set()
    for (sentence,), value in wrong.one_part:
        if value is not None and np.isfinite(value).all():
            factor = wrong.diagnose(wrong.given, value)
            if factor and (factor.kind == "sign" or (factor.kind == "factor" and re.search(":|twice|half", factor.sentence))):
                found.add(f"{sentence} Besides: {factor.sentence}")
    return found.pop() if len(found) == 1 else ""


def _replaced(wrong):
    """A sentence where the array was replaced, and by a wrong value."""
    found = wrong.diagnose(wrong.given, wrong.wanted - wrong.old, wrong.resolution) if wrong.adds else None
    return f"It replaces what stood there before, to which the second path is added. Besides: {found.sentence}" if found else ""


def _not_linear(wrong):
    """A sentence where an output is not linear in the derivatives that the operation is given; "" where it is."""
    function, exercise, case, name, of = wrong.function, wrong.exercise, wrong.case, wrong.name, wrong.roles
    derivatives = [d for d in of.derivatives if d not in of.adds]
    added, d = name in of.adds, " and ".join(derivatives)

    def at(factor, function):
        changed = {d: np.asarray(factor * case.arguments[d], case.arguments[d].dtype) for d in derivatives}
        before, after, _ = run(function, exercise, {**case.arguments, **changed})
        return np.asarray(after[name] - before[name] if added else after[name], float)

    if not derivatives or case.edge:
        return ""
    with np.errstate(all="ignore"):
        one, two, minus = (at(factor, function) for factor in (1, 2, -1))
        if not np.allclose(at(2, exercise.original), 2 * at(1, exercise.original)):
            return ""  # part of the right result does not come from a derivative
    doubles, turns = _same(two, 2 * one, 1e-4, one), _same(minus, -one, 1e-4, one)
    if not np.isfinite(one).all() or (doubles and turns):
        return ""
    what = "what is added" if added else "the result"
    if doubles:
        return f"It is not linear in {d}: if {d} has the other sign, {what} must have the other sign, too."
    does = ", and yours does not move" if _same(two, one, 1e-4, one) else ""
    return f"It is not linear in {d}: twice the {d} must give twice {what}{does}."


def _beyond_a_threshold(wrong):
    """A sentence where elements are wrong exactly as far as an argument is large, small, or of a large size."""
    if wrong.given.shape != wrong.wanted.shape:
        return ""
    right = relative_errors(wrong.given, wrong.wanted, wrong.resolution) <= wrong.rtol
    if min(right.sum(), (~right).sum()) < 3:
        return ""
    for name, value in _factors(wrong.case, wrong.wanted.shape, derivatives=True).items():
        for what, of in (
            (f"{name} is above", value),
            (f"{name} is below", -value),
            (f"the size of {name} is above", abs(value)),
        ):
            low, high = of[right].max(), of[~right].min()
            if low < high:
                return f"All is right except where {what} {(-1 if 'below' in what else 1) * (low + high) / 2:.2g}."
    return ""


def _any_kind(wrong):
    return wrong.diagnosis.sentence if wrong.diagnosis else ""


def _dependences(wrong):
    """Sentences on arguments on which an output depends and should not, or does not and should."""
    arguments, said = wrong.case.arguments, []

    def moved(function, name):
        changed = 1.1 * (np.flip(arguments[name]) if np.ndim(arguments[name]) else arguments[name])
        results = (run(function, wrong.exercise, a)[1][wrong.name] for a in (arguments, {**arguments, name: changed}))
        return not np.allclose(*results, rtol=wrong.rtol, atol=0, equal_nan=True)

    for name, value in arguments.items():
        if np.asarray(value).dtype.kind == "f" and np.size(value) and name not in wrong.roles.outputs:
            with np.errstate(all="ignore"):
                yours, right = moved(wrong.function, name), moved(wrong.exercise.original, name)
            if yours != right:
                said.append(
                    f"It depends on {name}, and it should not." if yours else f"It does not depend on {name}, and it should."
                )
    return " ".join(said)


def _how_far(wrong):
    given, wanted = wrong.given, wrong.wanted
    if given.shape != wanted.shape:
        return f"It has the shape {letters(given.shape)}, and it should have {letters(wanted.shape)}."
    if given.size and np.ptp(given) == np.ptp(wanted) == 0 and wanted.any():
        return f"Every element is {given.flat[0] / wanted.flat[0]:.4g} times what it should be."
    right = relative_errors(given, wanted) <= 1e-6
    parts = [f"{right.mean():.0%} of its elements are right"] if 0 < right.mean() < 1 else []
    lengths = np.linalg.norm(given), np.linalg.norm(wanted)
    if min(lengths) > 0:
        parts.append(f"its cosine with the right derivative is {np.vdot(given, wanted) / (lengths[0] * lengths[1]):.2f}")
    return f"No single mistake explains it{': ' if parts else ''}{', and '.join(parts)}."


RULES = (
    _unfilled,
    _only_nan,
    _unchanged,
    _one_wrong_part,
    _belongs_elsewhere,
    _kind,
    _wrong_sign_or_number,
    _two_wrong_parts,
    _beyond_a_threshold,
    _wrong_part_and_number,
    _replaced,
    _not_linear,
    _any_kind,
    _dependences,
    _how_far,
)
