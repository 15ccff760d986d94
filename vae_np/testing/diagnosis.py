"""A wrong array is compared with the right one, and the mistake is named in a sentence.

Each rule says how one kind of mistake changes the right array. A mistake is named if its rule explains every element, and no
other rule in its row of `RULES` does, which is the table at the end of this file.
"""

import itertools
import re
from collections.abc import Iterable, Iterator, Mapping
from fractions import Fraction
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vae_np.testing.comparison import FLOOR, label, relative_errors

KINDS: dict[str, str] = {  # {kind of a Diagnosis: what it means}
    "shape": "The shape is another one.",
    "not finite": "Elements are NaN or infinite.",
    "zero": "Every element is 0.",
    "sign": "Every element has the wrong sign.",
    "factor": "Every element is the same number times what it should be.",
    "transposed": "The axes are in another order.",
    "reversed": "The elements along an axis are in reverse order.",
    "rolled": "The elements along an axis are one place further on.",
    "missing sum": "A sum over axes is missing.",
    "missing mean": "A mean over axes is missing.",
    "doubled sum": "There is a sum over axes that should not be.",
    "doubled mean": "There is a mean over axes that should not be.",
    "missing term": "A term of a sum is missing.",
    "doubled term": "A term of a sum counts twice.",
    "sign of a term": "A term of a sum has the wrong sign.",
    "factor of a term": "A term of a sum is a number times what it should be.",
    "missing factor": "A factor that differs from element to element is missing.",
    "extra factor": "There is a factor too much that differs from element to element.",
    "other factor": "A factor that differs from element to element stands where another one is meant.",
    "standard deviation": "The elements are off by a standard deviation: it is missing, or stands for a variance.",
    "offset": "Every element is off by the same number, or by a number times one of the factors.",
    "combination": "Every element is a sum of two: a number times what it should be, and a number or a number times a factor.",
    "bare factor": "Every element is a number times one of the factors, and nothing else.",
    "stabiliser": "The elements agree to a few digits.",
    "signs": "Every element has the right magnitude, and some have the wrong sign.",
    "mask": "Some elements are wrong, and all others are right.",
}


class Diagnosis(NamedTuple):
    """What is wrong with an array.

    Parameters
    ----------
    kind : str
        A key of KINDS.
    sentence : str
        What is wrong, in a sentence that does not give the right values away.
    """

    kind: str
    sentence: str


def diagnose(
    given: ArrayLike,
    wanted: ArrayLike,
    *,
    sizes: Mapping[str, int] | None = None,
    terms: Mapping[str, ArrayLike] | None = None,
    factors: Mapping[str, ArrayLike] | None = None,
    resolution: float = 0.0,
    rtol: float = 1e-9,
) -> Diagnosis | None:
    """Name the mistake that explains every element of a wrong array.

    Parameters
    ----------
    given, wanted : array
        The wrong array and the right one.
    sizes : mapping of str to int, optional
        Names of lengths, such as {"batch": 6, "samples": 5}. A constant factor of 6 is then told as the batch, and an axis of
        length 5 as the samples. Lengths that are different primes above 2 are told apart best.
    terms : mapping of str to array, optional
        Summands of the right array, such as {"l2 W": l2 * W}. One that is missing, counts twice or has the wrong sign is named.
    factors : mapping of str to array, optional
        Arrays or numbers that may be missing or too much as a factor, such as {"exp(logvar / 2)": np.exp(logvar / 2)}; their
        squares and square roots are tried, too. The name tells what is a standard deviation.
    resolution : float
        Differences up to it count as 0: the right array is not known better.
    rtol : float
        The relative error, as of `relative_errors`, up to which an element is explained. It is at least that of the right array.

    Returns
    -------
    Diagnosis or None
        None if the array is right, if no rule explains every element, if two different rules do, or if it can't be said: the
        right array holds nothing but zeros, or something that is not a finite real number.

    Examples
    --------
    >>> import numpy as np
    >>> from vae_np.testing import diagnose
    >>> dW = np.random.default_rng(0).normal(size=(4, 3))
    >>> print(diagnose(6 * dW, dW, sizes={"batch": 6}).sentence)
    Every element is 6 times what it should be: 6 is the batch, as if a sum stood where a mean is meant.
    """
    given, wanted = np.asarray(given), np.asarray(wanted)
    if given.dtype.kind not in "biuf" or wanted.dtype.kind not in "biuf":
        return None
    with np.errstate(all="ignore"):
        case = _case(given.astype(float), wanted.astype(float), sizes or {}, terms or {}, factors or {}, resolution, rtol)
        if given.shape != wanted.shape:
            table = RULES_OF_SHAPES
        elif not np.isfinite(case.wanted).all() or case.agree(case.given, case.wanted):
            return None
        else:
            much = relative_errors(case.given, case.wanted).max() > 1e2 * rtol
            table = RULES if much and case.telling.any() and wanted.size > 1 else RULES_OF_LITTLE
        for rules in table:
            if found := [diagnosis for rule in rules for diagnosis in rule(case)]:
                return found[0] if len(found) == 1 else None
    return None


Name = TypeVar("Name")


def order(findings: Iterable[tuple[Name, Diagnosis | None]]) -> list[tuple[Name, Diagnosis | None]]:
    """Sort pairs of a name and its Diagnosis: those that are far off stand before those that are off in late digits only."""
    return sorted(findings, key=lambda pair: pair[1] is not None and pair[1].kind == "stabiliser")


# ------------------------------------------------------------------------------------------------- what the rules are given

SMALL = 1e-4  # a relative error up to it may come from a stabiliser, from single precision or from a small term


class _Case(NamedTuple):
    given: NDArray
    wanted: NDArray
    sizes: dict[str, int]  # those above 1
    terms: dict[str, NDArray]  # those that are not all there is
    factors: dict[str, NDArray]  # those that are not constant
    numbers: list[tuple[float, str]]  # what a constant factor may be, and the reason; "" for a number that has none
    telling: NDArray  # where an element is large enough to tell one rule from another
    partly_right: bool  # some of these elements are right
    proportional: bool  # a term is a part of the right array everywhere: without it a constant factor would be left
    resolution: float
    rtol: float

    def right(self, given: NDArray, wanted: NDArray, scale: float = 1.0, terms: float = 0.0) -> NDArray:
        """Where two arrays agree. What is not known of wanted was multiplied by the scale, or is that of terms of this size."""
        return relative_errors(given, wanted, self.resolution * max(1.0, abs(scale)) + self.rtol * terms) <= self.rtol

    def agree(self, given: NDArray, wanted: NDArray, scale: float = 1.0, terms: float = 0.0) -> bool:
        return bool(np.all(self.right(given, wanted, scale, terms)))

    def known(self, c: float) -> float | None:
        """The number that c is nearly, of those that a factor may be, with the sign of c."""
        number = min((0.0, *(number for number, _ in self.numbers)), key=lambda number: abs(abs(c) - number))
        return float(np.copysign(number, c)) if abs(abs(c) - number) <= min(1e3 * self.rtol, 1e-3) * (number or 1) else None

    def times(self, c: float) -> str:
        """What is said of something that was multiplied by c, with the reason if there is a single one."""
        reasons = {reason for number, reason in self.numbers if abs(abs(c) - number) <= self.rtol * number}
        number = str(Fraction(c).limit_denominator(10000)) if reasons else f"{c:.4g}"
        words = {"2": "twice", "1/2": "half of", "-1": "-1 times"}.get(number, f"{number} {'of' if '/' in number else 'times'}")
        return f"{words} what it should be" + (f": {reasons.pop()}" if len(reasons) == 1 and "" not in reasons else "")

    def axes(self, axes: tuple[int, ...], shape: tuple[int, ...]) -> str:
        """Axes of an array by their numbers, and by their names if only one size has their length."""
        names = [[name for name, n in self.sizes.items() if n == shape[axis]] for axis in axes]
        numbers = f"axis {axes[0]}" if len(axes) == 1 else f"the axes {' and '.join(map(str, axes))}"
        return numbers + (f" ({', '.join(name for (name,) in names)})" if all(len(of) == 1 for of in names) else "")


def _case(given, wanted, sizes, terms, factors, resolution, rtol) -> _Case:
    sizes = {name: int(n) for name, n in sizes.items() if n > 1}
    terms, factors = _repeated(terms, wanted.shape), _repeated(factors, wanted.shape)
    independent = {name: term for name, term in terms.items() if _are_independent(term, wanted - term)}
    constant = {name: abs(float(factor.flat[0])) for name, factor in factors.items() if np.ptp(factor) == 0}
    factors = {name: factor for name, factor in factors.items() if name not in constant}
    telling = np.abs(wanted) > max(FLOOR * np.max(np.abs(wanted), initial=0.0), 1e3 * resolution)
    case = _Case(
        given, wanted, sizes, independent, factors, [*_numbers(sizes, constant)], telling, False, False, resolution, rtol
    )
    partly_right = given.shape == wanted.shape and bool((case.right(given, wanted) & telling).any())
    parts = [term for name, term in terms.items() if name not in independent and term.any()]
    proportional = any(not np.allclose(term, wanted) for term in parts)
    return case._replace(partly_right=partly_right, proportional=proportional)


def _repeated(arrays, shape):
    """The arrays that are finite and can be repeated to this shape."""
    arrays = {name: np.asarray(array, float) for name, array in arrays.items()}
    fit = {
        name: a
        for name, a in arrays.items()
        if a.ndim <= len(shape) and all(n in (1, m) for n, m in zip(a.shape[::-1], shape[::-1]))
    }
    return {name: np.broadcast_to(a, shape) for name, a in fit.items() if a.size and np.isfinite(a).all()}


def _are_independent(one, other):
    """Whether neither array is a number times the other one."""
    lengths = np.linalg.norm(one) * np.linalg.norm(other)
    return bool(abs(np.vdot(one, other)) < (1 - 1e-6) * lengths)


def _magnitudes(array):
    """The magnitudes of the elements, each once, without 0."""
    sizes = np.sort(np.abs(array[array != 0]))
    return sizes[np.diff(sizes, prepend=0.0) > SMALL * sizes]


def _numbers(sizes, constants) -> Iterator[tuple[float, str]]:
    """The numbers that a factor may be, each with its reason."""
    sizes = {name: (n, f"{n} is {'the number of ' if name.endswith('s') else 'the '}{name}") for name, n in sizes.items()}
    yield from ((number, "") for number in (1, 2, 4, 1 / 2, 1 / 4))
    for n, reason in sizes.values():
        yield n, f"{reason}, as if a sum stood where a mean is meant"
        yield 1 / n, f"{reason}, as if a mean stood where a sum is meant"
        yield from ((number, f"{reason}, and 2 is a factor besides") for number in (2 * n, n / 2, 2 / n, 1 / (2 * n)))
    for (n, one), (m, other) in itertools.combinations(sizes.values(), 2):
        yield from ((number, f"{one}, and {other}") for number in (n * m, 1 / (n * m)))
        if n * m > 30:  # the ratio of two small numbers may be anything
            yield from ((number, f"{one}, and {other}") for number in (n / m, m / n))
    for name, value in constants.items():
        if value not in (0, 1):
            for n, reason in ((1, ""), *sizes.values()):
                also = f", and {reason}" if reason else ""
                yield from ((value * number, f"there is a factor {name} too much{also}") for number in {n, 1 / n})
                yield from ((number / value, f"the factor {name} is missing{also}") for number in {n, 1 / n})


# ------------------------------------------------------------------------------- the rules: what is given, if it is explained


def _not_finite(case: _Case) -> Iterator[Diagnosis]:
    """NaN or infinite elements"""
    bad, nans = ~np.isfinite(case.given), np.isnan(case.given)
    if bad.any():
        what = "NaN" if (nans == bad).all() else "infinity" if not nans.any() else "NaN or infinity"
        where = _where(bad, np.ones_like(bad), case) or f"{bad.sum()} of {bad.size} elements"
        yield Diagnosis("not finite", f"Every element is {what}." if bad.all() else f"There is {what} in {where}.")


def _zero(case: _Case) -> Iterator[Diagnosis]:
    """0"""
    if not case.given.any() and case.telling.any():
        yield Diagnosis("zero", "Every element is 0.")


def _constant_factor(case: _Case) -> Iterator[Diagnosis]:
    """c wanted"""
    place = np.unravel_index(np.argmax(np.abs(case.wanted)), case.wanted.shape)
    given, wanted = case.given[place], case.wanted[place]
    varied = np.ptp(case.wanted) > SMALL * abs(wanted)
    c = case.known(given / wanted)
    if c is None and varied and case.telling.sum() > 1 and not case.proportional:
        c = given / wanted
    may_be_added = not varied and 2 * (given - wanted) % 1 == 0  # a round number, to equal elements
    if c and abs(c - 1) > SMALL and not may_be_added and case.agree(case.given, c * case.wanted, c):
        if c == -1:
            yield Diagnosis("sign", "The sign is wrong: every element is -1 times what it should be.")
        else:
            yield Diagnosis("factor", f"Every element is {case.times(c)}.")


def _signs(case: _Case) -> Iterator[Diagnosis]:
    """+-wanted"""
    right = case.right(case.given, case.wanted)
    if (right & case.telling).any() and case.agree(np.abs(case.given), np.abs(case.wanted)):
        some = _where(~right, ~right | case.telling, case) or f"{(~right).sum()} of {right.size} elements"
        yield Diagnosis("signs", f"Every magnitude is right, but the sign is wrong in {some}.")


def _transposed(case: _Case) -> Iterator[Diagnosis]:
    """wanted with its axes in another order"""
    for axes in itertools.permutations(range(case.wanted.ndim)):
        moved = np.transpose(case.wanted, axes)
        if list(axes) != sorted(axes) and moved.shape == case.given.shape and case.agree(case.given, moved):
            yield Diagnosis("transposed", "It is transposed." if len(axes) == 2 else f"Its axes stand in the order {axes}.")


def _moved(case: _Case) -> Iterator[Diagnosis]:
    """wanted in reverse order, or one place further on, along an axis"""
    for axis, n in enumerate(case.wanted.shape):
        along = f"along {case.axes((axis,), case.wanted.shape)}"
        if case.agree(case.given, np.flip(case.wanted, axis)):
            yield Diagnosis("reversed", f"The elements are in reverse order {along}.")
        for by in (1, -1) if n > 2 else ():  # two elements would be in reverse order
            if case.agree(case.given, np.roll(case.wanted, by, axis)):
                yield Diagnosis("rolled", f"The elements are moved by one place {along}.")


def _sum_or_mean(case: _Case) -> Iterator[Diagnosis]:
    """the sum or the mean of wanted over axes, or an array whose sum or mean is wanted"""
    for lack, more, less in (("missing", case.given, case.wanted), ("doubled", case.wanted, case.given)):
        long = [axis for axis, n in enumerate(more.shape) if n > 1 and more.size]
        for axes in itertools.chain.from_iterable(itertools.combinations(long, n + 1) for n in range(len(long))):
            repeated = more.shape == less.shape
            if repeated and (
                (lack == "missing" and case.partly_right) or np.ptp(more, axis=axes).max() <= SMALL * np.abs(more).max()
            ):
                continue  # it may be a mask of equal rows, or the sum is a number times the array itself
            for what, reduce in (("sum", np.sum), ("mean", np.mean)):
                reduced = reduce(more, axis=axes, keepdims=True)
                terms = float(reduce(np.abs(more), axis=axes).max())
                if repeated and (lack == "doubled" or len(_magnitudes(reduced)) > 1):
                    reduced = np.broadcast_to(reduced, more.shape)
                elif reduced.shape != less.shape:
                    reduced = reduced.squeeze(axes)
                if reduced.shape == less.shape and case.agree(reduced, less, more.size / reduced.size, terms):
                    over = f"{what} over {case.axes(axes, more.shape)}"
                    said = f"The {over} is missing." if lack == "missing" else f"There is a {over} too much."
                    yield Diagnosis(f"{lack} {what}", said)
                    if case.partly_right:  # this may be as well what a mask leaves of equal magnitudes
                        yield from _mask(case)


def _reshaped(case: _Case) -> Iterator[Diagnosis]:
    """the elements of wanted in another shape"""
    same = case.given.size == case.wanted.size > 1 and case.agree(case.given.ravel(), case.wanted.ravel())
    shapes = f"the shape is {case.given.shape}, and it should be {case.wanted.shape}."
    yield Diagnosis("shape", f"The elements are right, but {shapes}" if same else f"T{shapes[1:]}")


def _term(case: _Case) -> Iterator[Diagnosis]:
    """a (wanted - term) + b term, where a and b are known numbers, or a is 1"""
    fits = {}
    for name, term in case.terms.items():
        rest = case.wanted - term
        alone = 1.0, float(np.vdot(term, case.given - rest) / np.vdot(term, term))
        for a, b in filter(None, (alone, _coefficients(rest, term, case.given))):
            a, known = case.known(a), case.known(b)
            b = b if known is None and a == 1 and _is_large(term, case) else known
            if a is not None and b is not None and a != b and case.agree(case.given, a * rest + b * term, abs(a) + abs(b)):
                fits[name] = a, b
                break
    # Of two terms that are all there is, the second one is the rest of the first, and tells the same mistake again.
    simple = {name: fit for name, fit in fits.items() if fit[0] == 1}
    for name, (a, b) in (simple or dict(sorted(fits.items(), key=lambda fit: fit[1][1] != 0)[:1])).items():
        kind, said = {
            0: ("missing term", f"A term is missing: {name}."),
            2: ("doubled term", f"A term counts twice: {name}."),
            -1: ("sign of a term", f"A term has the wrong sign: {name}."),
            1: ("factor of a term", f"Only one term is right: {name}."),
        }.get(b, ("factor of a term", f"A term, {name}, is {case.times(b)}."))
        yield Diagnosis(kind, said if a == 1 else f"{said} All else is {case.times(a) if a else 'missing'}.")


def _is_large(term: NDArray, case: _Case) -> bool:
    """Whether two elements of a term tell the same number, which need not be known then."""
    return len(_magnitudes(term[np.abs(term) > FLOOR * np.abs(case.wanted).max()])) > 1


POWERS = {
    1: ("extra factor", "there is a factor too much"),
    -1: ("missing factor", "a factor is missing"),
    2: ("extra factor", "there is the square of a factor too much"),
    -2: ("missing factor", "the square of a factor is missing"),
    1 / 2: ("extra factor", "there is the square root of a factor too much"),
    -1 / 2: ("missing factor", "the square root of a factor is missing"),
}
STANDARD_DEVIATION = {
    1: r"exp\([^()]*logvar / 2\)|std|sigma|standard deviation",
    1 / 2: r"exp\([^()/]*logvar\)|\bvar\b|variance",
}
CONFUSED = ", as if a standard deviation and a variance were taken for each other, or one were forgotten"


def _factor(case: _Case) -> Iterator[Diagnosis]:
    """c wanted factor^power, or wanted - term + c term factor^power, where c is a known number"""
    fits = []
    for (of, factor), power in itertools.product(case.factors.items(), POWERS):
        fits += [((c != 1, abs(power) != 1), name, of, power, c) for name, c in _with_factor(factor**power, case)]
    for simple, name, of, power, c in fits:
        if simple == min(fits)[0]:
            kind, said = POWERS[power]
            if (pattern := STANDARD_DEVIATION.get(abs(power))) and re.search(pattern, of):
                kind, of = "standard deviation", of + CONFUSED
            said = f"in a term, {name}, {said}" if name else said
            yield Diagnosis(
                kind, f"{said[0].upper()}{said[1:]}: {of}." + ("" if c == 1 else f" Besides, it is {case.times(c)}.")
            )


def _other_factor(case: _Case) -> Iterator[Diagnosis]:
    """wanted factor / other, or wanted - term + term factor / other"""
    for (one, factor), (other, meant) in itertools.permutations(case.factors.items(), 2):
        for name, c in _with_factor(factor / meant, case):
            if c == 1:
                where = f"In a term, {name}, one" if name else "One"
                yield Diagnosis(
                    "other factor", f"{where} factor stands where another one is meant: {one} in the place of {other}."
                )


def _with_factor(factor: NDArray, case: _Case) -> Iterator[tuple[str, float]]:
    """Yield (name, c) of each term, and of all there is under the name "", that was multiplied by the factor and a known number c."""
    for name, part in {"": case.wanted, **case.terms}.items():
        rest, changed = case.wanted - part, part * factor
        place = np.unravel_index(np.argmax(np.abs(changed)), changed.shape)
        c = case.known((case.given - rest)[place] / changed[place])
        if c and case.agree(case.given, rest + c * changed, c):
            yield name, c


def _offset(case: _Case) -> Iterator[Diagnosis]:
    """wanted + c, with any c"""
    c, size = float(np.median(case.given - case.wanted)), np.abs(case.wanted).max()
    varied = np.ptp(case.wanted) > SMALL * size and all(np.ptp(term) > 0 for term in case.terms.values())
    if varied and abs(c) > SMALL * size and case.agree(case.given, case.wanted + c):
        yield Diagnosis("offset", f"Every element is off by the same number, {c:.4g}.")


def _combination(case: _Case) -> Iterator[Diagnosis]:
    """a wanted + c factor, where a and c are known numbers"""
    for name, factor in {"": np.ones_like(case.wanted), **case.factors}.items():
        a, c = map(case.known, _coefficients(case.wanted, factor, case.given) or (np.nan, np.nan))
        if a is None or not c or not case.agree(case.given, a * case.wanted + c * factor, a):
            continue
        what = f"{c:.4g}" if not name else name if c == 1 else f"{c:.4g} times {name}"
        if a == 1 and name:
            yield Diagnosis("offset", f"Every element is off by {what}, as if a term were missing or too much.")
        elif (
            a == 0 and name and not case.partly_right
        ):  # a mask that is missing leaves a bare factor, and is told by its places
            yield Diagnosis("bare factor", f"Every element is {what}, and nothing else.")
        elif a == -1:
            yield Diagnosis("combination", f"Every element is {what} minus what it should be.")
        elif a not in (0, 1):
            yield Diagnosis("combination", f"Every element is {a:.4g} times what it should be, plus {what}.")


def _coefficients(one: NDArray, other: NDArray, total: NDArray) -> tuple[float, float] | None:
    """The numbers a and b for which one a + other b is nearest to the total; None if any total would have such numbers."""
    pairs = np.stack([one.ravel(), other.ravel()], axis=1)
    if len(np.unique((pairs[:1000] / abs(pairs).max(axis=0)).round(4), axis=0)) < 3 or not _are_independent(one, other):
        return None
    a, b = np.linalg.lstsq(pairs, total.ravel())[0]
    return float(a), float(b)


def _stabiliser(case: _Case) -> Iterator[Diagnosis]:
    """wanted, to a few digits, in most elements"""
    size = np.abs(case.wanted)
    close = np.abs(case.given - case.wanted) <= SMALL * size + SMALL / 100 * size.max(initial=0.0) + case.resolution
    most = 2 * (case.telling & ~case.right(case.given, case.wanted)).sum() >= case.telling.sum()
    if close.all() and most:
        error = relative_errors(case.given, case.wanted).max()
        reasons = (
            "single precision, a stabiliser such as 1e-8 in a logarithm, a small term such as weight decay, or a factor near 1"
        )
        yield Diagnosis("stabiliser", f"All elements agree to {error:.0e}: {reasons} makes such a difference.")


def _mask(case: _Case) -> Iterator[Diagnosis]:
    """wanted in some elements, and anything in others, if these have a place or a value in common"""
    right = case.right(case.given, case.wanted)
    of_a_term = any(np.array_equal(term != 0, ~right) for term in case.terms.values())
    if (right & case.telling).sum() > 1 and not of_a_term:
        where = _where(~right, ~right | case.telling, case)
        if not case.given[~right].any() and (where or len(_magnitudes(case.wanted)) > 2):
            yield Diagnosis(
                "mask", f"All is right except {where or f'{(~right).sum()} of {right.size} elements'}: there it is 0."
            )
        elif where:
            yield Diagnosis("mask", f"All is right except {where}.")


def _where(wrong: NDArray, seen: NDArray, case: _Case) -> str:
    """In words, which elements are wrong, as far as it is seen; "" if they have nothing in common."""
    if wrong.sum() == 1:
        return label("the element ", np.argwhere(wrong)[0])
    for axis, n in enumerate(wrong.shape):
        places = np.flatnonzero(wrong.any(axis=tuple(other for other in range(wrong.ndim) if other != axis)))
        together = places[-1] - places[0] == len(places) - 1 < n - 1
        if together and (wrong | ~seen).take(places, axis).all():
            one, more = {(1, 0): ("element", "elements"), (2, 0): ("row", "rows"), (2, 1): ("column", "columns")}.get(
                (wrong.ndim, axis), ("index", "indices")
            )
            of = f" of {case.axes((axis,), wrong.shape)}" if one == "index" else ""
            if len(places) > 1:
                return f"the {more} {places[0]} to {places[-1]}{of}"
            return {0: f"the first {one}", n - 1: f"the last {one}"}.get(int(places[0]), f"the {one} {places[0]}") + of
    for name, value in {"the right value": case.wanted, **case.factors}.items():
        for sign, there in (("positive", value > 0), ("negative", value < 0), ("0", value == 0)):
            if min((there & seen).sum(), (~there & seen).sum()) > 2 and np.array_equal(there & seen, wrong & seen):
                return f"the elements where {name} is {sign}"
    return ""


# A row is tried if nothing of the rows above fits: what they say, such as "every element is 0", would fit further down, too.
RULES = (
    (_not_finite,),
    (_zero,),
    (_constant_factor, _signs, _transposed, _moved, _sum_or_mean, _term, _factor),
    (_offset, _combination, _other_factor),
    (_stabiliser,),
    (_mask,),
)
RULES_OF_LITTLE = ((_not_finite,), (_zero,), (_stabiliser,))  # what tells a single element, or errors near rtol
RULES_OF_SHAPES = ((_transposed, _sum_or_mean), (_reshaped,))
