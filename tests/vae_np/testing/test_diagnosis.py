"""What is said of a wrong array: the kind of the mistake or nothing, and never another kind."""

import itertools
import pathlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit, ndtr, softmax

from vae_np.testing import KINDS, diagnose
from vae_np.testing.diagnosis import Diagnosis, order
from vae_np.testing.operations import (
    OPERATIONS,
    REFERENCE,
    TOLD_APART,
    check_operation,
    diagnosed,
    random_arguments,
    with_changes,
)

# --------------------------------------------------------------------------------------------------------- the examples


def normal(*shape, seed=0):
    return np.random.default_rng([seed, *shape]).normal(size=shape)


def changed(array, where, value):
    array = array.copy()
    array[where] = value
    return array


W, S, T, E = normal(4, 3), normal(4, 4), normal(5, 6, 3), normal(4, 3, seed=1)
SIZES = {"batch": 6, "samples": 5, "inputs": 11}
TERMS = {"l2 W": 0.1 * normal(4, 3, seed=2)}
FACTORS = {
    "exp(logvar / 2)": np.exp(E / 2),
    "exp(logvar)": np.exp(E),
    "dnll": np.array([[0.5], [-1.2], [0.8], [-0.3]]),
    "beta": 0.7,
}
STD, TERM = FACTORS["exp(logvar / 2)"], TERMS["l2 W"]
EXAMPLES = [  # (wrong, right, kind, words of the sentence)
    (-W, W, "sign", "The sign is wrong: every element is -1 times what it should be."),
    (6 * W, W, "factor", "is 6 times what it should be: 6 is the batch, as if a sum stood where a mean is meant."),
    (W / 5, W, "factor", "is 1/5 of what it should be: 5 is the number of samples, as if a mean stood where a sum is meant."),
    (66 * W, W, "factor", "6 is the batch, and 11 is the number of inputs"),
    (W * 6 / 11, W, "factor", "is 6/11 of what it should be: 6 is the batch, and 11 is the number of inputs."),
    (12 * W, W, "factor", "6 is the batch, and 2 is a factor besides"),
    (W / 2, W, "factor", "Every element is half of what it should be."),
    (2 * W, W, "factor", "Every element is twice what it should be."),
    (-2 * W, W, "factor", "Every element is -2 times what it should be."),
    (-5 * W, W, "factor", "Every element is -5 times what it should be: 5 is the number of samples"),
    (2.718 * W, W, "factor", "Every element is 2.718 times what it should be."),
    (W / 0.7, W, "factor", "the factor beta is missing"),
    (W * 0.7, W, "factor", "there is a factor beta too much"),
    (W * 0.7 / 6, W, "factor", "there is a factor beta too much, and 6 is the batch"),
    (np.full((4, 3), 0.35), np.full((4, 3), 0.07), "factor", "5 is the number of samples"),
    (0 * W, W, "zero", "Every element is 0."),
    (0.0, 3.0, "zero", "Every element is 0."),
    (S.T, S, "transposed", "It is transposed."),
    (W.T, W, "transposed", "It is transposed."),
    (T.transpose(1, 0, 2), T, "transposed", "(1, 0, 2)"),
    (S[::-1], S, "reversed", "along axis 0"),
    (T[:, ::-1], T, "reversed", "along axis 1 (batch)"),
    (np.roll(S, 1, axis=1), S, "rolled", "by one place along axis 1"),
    (T, T.sum(axis=0), "missing sum", "The sum over axis 0 (samples) is missing."),
    (T, T.sum(axis=(0, 1)), "missing sum", "The sum over the axes 0 and 1 (samples, batch) is missing."),
    (T, T.sum(axis=0, keepdims=True), "missing sum", "axis 0"),
    (T, T.mean(axis=0), "missing mean", "The mean over axis 0 (samples) is missing."),
    (T, np.broadcast_to(T.sum(axis=1, keepdims=True), T.shape), "missing sum", "axis 1 (batch)"),
    (T.sum(axis=1), T, "doubled sum", "There is a sum over axis 1 (batch) too much."),
    (T.mean(), T, "doubled mean", "axes 0 and 1 and 2"),
    (np.broadcast_to(W.sum(axis=0), W.shape), W, "doubled sum", "axis 0"),
    (np.broadcast_to(W.mean(axis=1, keepdims=True), W.shape), W, "doubled mean", "axis 1"),
    (W - TERM, W, "missing term", "A term is missing: l2 W."),
    (W + TERM, W, "doubled term", "A term counts twice: l2 W."),
    (W - 2 * TERM, W, "sign of a term", "A term has the wrong sign: l2 W."),
    (W - 0.63 * TERM, W, "factor of a term", "A term, l2 W, is 0.37 times what it should be."),
    (W + 5 * TERM, W, "factor of a term", "A term, l2 W, is 6 times what it should be: 6 is the batch"),
    ((W - TERM) / 6, W, "missing term", "A term is missing: l2 W. All else is 1/6 of what it should be: 6 is the batch"),
    ((W - TERM) / 6 + TERM, W, "factor of a term", "Only one term is right: l2 W. All else is 1/6"),
    (TERM, W, "factor of a term", "Only one term is right: l2 W. All else is missing."),
    (W * STD, W, "standard deviation", "There is a factor too much: exp(logvar / 2), as if a standard deviation"),
    (W / STD, W, "standard deviation", "A factor is missing: exp(logvar / 2), as if a standard deviation"),
    (W * STD**2, W, "extra factor", "There is a factor too much: exp(logvar)."),
    (W * STD**4, W, "extra factor", "There is the square of a factor too much: exp(logvar)."),
    (W / FACTORS["dnll"], W, "missing factor", "A factor is missing: dnll."),
    (W / FACTORS["dnll"] / 2, W, "missing factor", "A factor is missing: dnll. Besides, it is half of what it should be."),
    (W + (STD - 1) * TERM, W, "standard deviation", "In a term, l2 W, there is a factor too much: exp(logvar / 2)"),
    (W * FACTORS["dnll"] / STD, W, "other factor", "dnll in the place of exp(logvar / 2)"),
    (W + 0.3, W, "offset", "Every element is off by the same number, 0.3."),
    (W + FACTORS["dnll"] / 2, W, "offset", "Every element is off by 0.5 times dnll"),
    (-2 * FACTORS["dnll"] * np.ones(3), W, "bare factor", "Every element is -2 times dnll, and nothing else."),
    (1 - W, W, "combination", "Every element is 1 minus what it should be."),
    (FACTORS["dnll"] - W, W, "combination", "Every element is dnll minus what it should be."),
    (2 * W - 1, W, "combination", "Every element is 2 times what it should be, plus -1."),
    (W * (1 + 1e-6 * E), W, "stabiliser", "All elements agree to 2e-06"),
    (W.astype("float32"), W, "stabiliser", "single precision"),
    (np.float32(0.1), 0.1, "stabiliser", "single precision"),
    (W, W + 1e-6 * E, "stabiliser", "a small term such as weight decay"),
    (W * 1.00005, W, "stabiliser", "a factor near 1"),
    (np.abs(W), W, "signs", "but the sign is wrong in the elements where the right value is negative."),
    (changed(W, -1, -W[-1]), W, "signs", "but the sign is wrong in the last row."),
    (np.where(FACTORS["dnll"] > 0, T[0, :4], -T[0, :4]), T[0, :4], "signs", "where dnll is negative"),
    (changed(W, -1, 0), W, "mask", "All is right except the last row: there it is 0."),
    (changed(W, 0, E[0]), W, "mask", "All is right except the first row."),
    (changed(T, 3, 0), T, "mask", "All is right except the index 3 of axis 0 (samples): there it is 0."),
    (changed(W, np.s_[1:3], E[1:3]), W, "mask", "All is right except the rows 1 to 2."),
    (changed(W, np.s_[:, 1], 0), W, "mask", "All is right except the column 1: there it is 0."),
    (changed(W, (2, 1), 7.0), W, "mask", "All is right except the element [2, 1]."),
    (np.maximum(W, 0), W, "mask", "All is right except the elements where the right value is negative: there it is 0."),
    (W, np.where(E > 0, W, 0), "mask", "All is right except the elements where the right value is 0."),
    (changed(W, ([0, 2, 3], [1, 0, 2]), 0), W, "mask", "All is right except 3 of 12 elements: there it is 0."),
    (changed(W, -1, np.nan), W, "not finite", "There is NaN in the last row."),
    (changed(W, (1, 1), np.inf), W, "not finite", "There is infinity in the element [1, 1]."),
    (changed(np.where(W > 0, W, np.nan), (0, 0), np.inf), W, "not finite", "There is NaN or infinity in"),
    (np.nan * W, W, "not finite", "Every element is NaN."),
    (np.nan, 1.0, "not finite", "Every element is NaN."),
    (W.ravel(), W, "shape", "The elements are right, but the shape is (12,), and it should be (4, 3)."),
    (np.ones((2, 2)), W, "shape", "The shape is (2, 2), and it should be (4, 3)."),
    (np.ones((1, 1)), 1.0, "shape", "The shape is (1, 1), and it should be ()."),
    (np.ones((0, 3)), np.ones((2, 3)), "shape", "The shape is (0, 3), and it should be (2, 3)."),
]


@pytest.mark.filterwarnings("ignore:(invalid|divide)")
@pytest.mark.parametrize("wrong, right, kind, words", EXAMPLES)
def test_a_mistake_is_named(wrong, right, kind, words):
    found = diagnose(wrong, right, sizes=SIZES, terms=TERMS, factors=FACTORS)
    assert found.kind == kind and words in found.sentence
    assert found.sentence[0].isupper() and found.sentence.endswith(".")
    assert diagnose(right, right, sizes=SIZES, terms=TERMS, factors=FACTORS) is None


def test_every_kind_has_an_example_and_a_meaning():
    assert {kind for _, _, kind, _ in EXAMPLES} == set(KINDS)
    assert all(meaning[0].isupper() and meaning.endswith(".") for meaning in KINDS.values())


antisymmetric = S - S.T
NOTHING = [
    (W + E, W),  # nothing fits
    (np.array([2.0]), np.array([1.0])),  # a single element: anything fits
    (np.array([[5.0, 0.0]]), np.array([[3.0, 0.0]])),
    (-antisymmetric, antisymmetric),  # the sign, or transposed
    (np.array([-1.5, 1.5]), np.array([1.5, -1.5])),  # the sign, or the reverse order
    (np.ones(5), np.zeros(5)),  # nothing can be said of zeros
    (0 * W, 0 * W),
    (W, changed(W, (0, 0), np.nan)),
    (np.nan * W, np.nan * W),
    (W, np.inf * np.ones((4, 3))),
    (np.full(4, 2.0), np.full(4, 1.0)),  # twice, or 1 was added
    (np.full(4, 0.37), np.full(4, 0.11)),
    (np.zeros(0), np.zeros(0)),
    (np.array(["a"]), W),
    (W + 1j, W),
    (W * (1 + 1e-12), W),
    (changed(W, ([0, 2], [1, 0]), W[[0, 2], [1, 0]] * (1 + 1e-5)), W),  # no stabiliser changes two of twelve elements
]


@pytest.mark.parametrize("wrong, right", NOTHING)
def test_nothing_is_said_where_nothing_or_more_than_one_rule_fits(wrong, right):
    assert diagnose(wrong, right, sizes=SIZES) is None


@pytest.mark.parametrize("sizes", [{"samples": 2}, {"batch": 2, "samples": 4}])
def test_a_size_that_is_the_number_2_is_not_told_as_the_reason(sizes):
    assert diagnose(2 * W, W, sizes=sizes) == Diagnosis("factor", "Every element is twice what it should be.")


def test_equal_sizes_are_not_told_as_the_reason_and_not_as_an_axis():
    sizes = {"batch": 3, "samples": 3}
    assert diagnose(3 * W, W, sizes=sizes) == Diagnosis("factor", "Every element is 3 times what it should be.")
    assert diagnose(normal(3, 5), normal(3, 5).sum(axis=0), sizes=sizes).sentence == "The sum over axis 0 is missing."
    assert "3 times" in diagnose(3 * W, W, sizes=dict(batch=6, samples=3)).sentence


def test_terms_and_factors_that_do_not_fit_are_not_read():
    terms = {"of another shape": np.ones(7), "zero": 0 * W, "not finite": np.nan * W, "all there is": W}
    factors = {"of another shape": np.ones((2, 4, 3)), "not finite": np.inf, "zero": 0.0, "empty": np.ones((0, 1))}
    assert diagnose(-W, W, terms=terms, factors=factors).kind == "sign"
    assert diagnose(W + E, W, terms=terms, factors=factors) is None


def test_two_names_of_one_term_are_not_told_apart():
    assert diagnose(W - TERM, W, terms={"a": TERM, "b": TERM}) is None
    assert diagnose(W * STD, W, factors={"a": STD, "b": STD}) is None


def test_two_terms_that_are_all_there_is_tell_a_mistake_once():
    terms = {"x": E, "l2 W": W - E}
    assert diagnose(E / 6, W, sizes=SIZES, terms=terms).sentence.startswith("A term is missing: l2 W. All else is 1/6")
    assert diagnose(E / 6 + 2 * (W - E), W, sizes=SIZES, terms=terms).kind == "factor of a term"


def test_what_is_far_off_stands_before_what_is_off_in_late_digits():
    small, large = Diagnosis("stabiliser", ""), Diagnosis("sign", "")
    pairs = [("a", small), ("b", None), ("c", large), ("d", small)]
    assert [name for name, _ in order(pairs)] == ["b", "c", "a", "d"]


# ------------------------------------------------------------------------- random mistakes of known kinds on random arrays

STRUCTURES = ("dense", "integers", "sparse", "symmetric", "antisymmetric", "alike", "rows alike", "signs")


def random_array(rng, shape, structure):
    """A random array; all but the dense ones look alike after some changes."""
    array = rng.normal(size=shape)
    square = len(shape) == 2 and shape[0] == shape[1]
    return np.asarray(
        {
            "integers": rng.integers(-2, 3, shape).astype(float),
            "sparse": array * (rng.random(shape) < 0.4),
            "signs": np.sign(array),
            "alike": np.full(shape, rng.normal()),
            "rows alike": np.broadcast_to(array[:1], shape) if shape else array,
            "symmetric": array + (array.T if square else np.flip(array)),
            "antisymmetric": array - (array.T if square else np.flip(array)),
        }.get(structure, array)
    )


def wrong_answers(rng, right, sizes, terms, factor):
    """Yield (kind, wrong array): what mistakes of each kind make of a right array, where they can be seen."""
    some, axes = rng.normal(size=right.shape), range(right.ndim)
    masks = [rng.random(right.shape) < 0.5, right < 0]
    masks += [np.indices(right.shape)[axis] == rng.integers(right.shape[axis]) for axis in axes]
    yield "zero", 0 * right
    yield "sign", -right
    for c in (2, 1 / 2, -2, rng.normal(), *sizes.values(), *(1 / size for size in sizes.values())):
        yield "factor", c * right
    for permuted in itertools.permutations(axes):
        yield "transposed", np.transpose(right, permuted)
    for axis in axes:
        yield "reversed", np.flip(right, axis)
        if right.shape[axis] > 2:
            yield "rolled", np.roll(right, 1, axis)
            yield "rolled", np.roll(right, -1, axis)
        for kind, reduce in ("doubled sum", np.sum), ("doubled mean", np.mean):
            reduced = reduce(right, axis=axis, keepdims=True)
            if np.ptp(right, axis=axis).any() and np.abs(reduced).max() > 1e-9:
                yield kind, np.broadcast_to(reduced, right.shape)
    for term in terms.values():
        yield "missing term", right - term
        yield "doubled term", right + term
        yield "sign of a term", right - 2 * term
        yield "factor of a term", right + rng.normal() * term
    yield "extra factor", right * factor
    yield "missing factor", right / factor
    yield "offset", right + rng.normal()
    yield "stabiliser", right * (1 + 1e-6 * np.tanh(some))
    for mask in masks:
        if mask.any():
            yield "not finite", np.where(mask, rng.choice([np.nan, np.inf, -np.inf]), right)
        if right[mask].any() and right[~mask].any():
            yield "signs", np.where(mask, -right, right)
            yield "mask", np.where(mask, 0, right)
            yield "mask", np.where(mask, some, right)


@settings(max_examples=75, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    shape=st.lists(st.integers(1, 4), max_size=3).map(tuple),
    structure=st.sampled_from(STRUCTURES),
    of_others=st.tuples(*[st.sampled_from(["dense", "sparse", "symmetric", "antisymmetric"])] * 3),
    exact=st.booleans(),
)
def test_a_random_mistake_is_named_as_what_it_is_or_not_at_all(seed, shape, structure, of_others, exact):
    """Also where the right array is known to 1e-6 only, as differences know it."""
    rng = np.random.default_rng(seed)
    right = random_array(rng, shape, structure)
    sizes = {name: int(rng.integers(1, 7)) for name in ("batch", "samples")}
    terms = {name: random_array(rng, shape, of) for name, of in zip("ab", of_others)}
    factors = {"v": rng.normal(size=shape), "exp(logvar)": np.exp(random_array(rng, shape, of_others[2])), "beta": 0.7}
    resolution, rtol = (0.0, 1e-9) if exact else (1e-11, 1e-6)
    known = right * (1 + 0.3 * rtol * rng.uniform(-1, 1, shape)) + resolution * rng.uniform(-1, 1, shape)
    knows = dict(sizes=sizes, terms=terms, factors=factors, resolution=resolution, rtol=rtol)
    assert diagnose(right, known, **knows) is None
    for kind, wrong in wrong_answers(rng, right, sizes, terms, factors["v"]):
        small = wrong.shape == shape and np.abs(wrong - right).max() <= 1e-3 * np.abs(right).max()
        found = diagnose(wrong, known, **knows)
        assert found is None or found.kind == kind or small, (kind, found)


# ------------------------------------------------------------------------------------------ wrong answers to the operations


def wrong_lines():
    """(operation, line, kind or "nothing", words) of the file of wrong answers."""
    name = ""
    for line in pathlib.Path(__file__).with_name("wrong_answers.txt").read_text().splitlines():
        if line.startswith("["):
            name = line.strip("[]")
        elif line and not line.startswith("#"):
            code, said = line.split("  ->  ")
            kind, _, words = said.partition(": ")
            yield name, code, kind, words


WRONG = list(wrong_lines())
BEFORE = dict(zip("BDHZL", TOLD_APART)) | {
    "np": np,
    "sigmoid": expit,
    "ndtr": ndtr,
    "softmax": softmax,
    "LOG_2PI": np.log(2 * np.pi),
}


@pytest.mark.parametrize("name", dict.fromkeys(name for name, *_ in WRONG))
def test_a_wrong_line_of_an_operation_is_named_or_nothing_is_said(name):
    case = ("float64", TOLD_APART)
    for _, code, kind, words in (of for of in WRONG if of[0] == name):
        values = BEFORE | dict(zip(OPERATIONS[name], random_arguments(name, *case)))
        exec(code, values)
        result = code.split(" = ")[0]
        found = diagnosed(values[result], name, OPERATIONS[name].index(result), case)
        assert (found.kind if found else "nothing") == kind and (not words or words in found.sentence), (code, found)


def test_nine_of_ten_wrong_lines_are_named():
    named = sum(kind != "nothing" for _, _, kind, _ in WRONG)
    assert len(WRONG) > 300 and named >= 0.9 * len(WRONG)


# --------------------------------------------------------------------------------------- what check_operation says of a set


def said(name, *case, **functions):
    with pytest.raises(AssertionError) as caught:
        check_operation(with_changes(**functions), name, *case)
    return str(caught.value)


def std_for_variance(mu, logvar, eps, z):
    z[...] = mu + np.exp(logvar) * eps
    return z


@pytest.mark.parametrize("case", [("float32",), ("float64", (1, 1, 1, 1, 1))])
def test_the_line_of_an_operation_ends_with_the_mistake(case):
    line = said("reparameterize", *case, reparameterize=std_for_variance)
    assert line.startswith("reparameterize: z[0, 0, 0] is ") or case == ("float32",)
    assert line.endswith("one were forgotten.") and ". In a term, the part with eps, there is a factor too much: exp(" in line


def test_a_mistake_that_only_the_tried_sizes_show_is_named_there():
    def one_block(dy, W, dx):
        REFERENCE.affine_backward(dy, W, dx)
        dx[64:] = np.nan
        return dx

    line = said("affine_backward", "float32", (70, 150, 131, 9, 3), affine_backward=one_block)
    assert line.endswith(". There is NaN in the rows 64 to 69.")


def test_what_cannot_run_at_other_sizes_is_said_without_a_mistake():
    def of_seven(logits, mean):
        if logits.shape[-1] != 33:
            raise ValueError
        mean[...] = -expit(logits)
        return mean

    assert said("bernoulli_mean", "float64", bernoulli_mean=of_seven).endswith(" > 1e-13")


def test_what_is_far_off_is_said_before_what_is_off_in_late_digits():
    def gaussian_kl_backward(dkl, mu, logvar, eps, z, dz, dmu, dlogvar):
        REFERENCE.gaussian_kl_backward(dkl, mu, logvar, eps, z, dz, dmu, dlogvar)
        dmu *= 1 + 1e-7 * np.cos(mu)
        dlogvar *= -1
        return dz, dmu, dlogvar

    line = said("gaussian_kl_backward", "float64", gaussian_kl_backward=gaussian_kl_backward)
    assert line.startswith("gaussian_kl_backward: dlogvar[") and "The sign is wrong" in line
