"""The tools that test gradients, tested: what they find, what they say, and what they cannot see."""

import ast
import contextlib
import inspect
import itertools
import math
import pathlib
import re
import subprocess
import sys
import types

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from scipy import special

from vae_np import Architecture, Parameters, kernels, loss, loss_and_gradients
from vae_np.choices import ACTIVATIONS, ESTIMATORS, OBJECTIVES
from vae_np.kernels.reference import layers_of_rounded, rounded
from vae_np.testing import (
    PROPERTIES,
    Problem,
    assert_close,
    check_elbo,
    check_gradients,
    check_kernels,
    complex_elbo,
    complex_surrogate,
    mistakes,
    properties,
    random_problem,
    reference_elbo,
    relative_errors,
    suite,
)
from vae_np.testing.comparison import assert_near, relative_norm
from vae_np.testing.derivatives import is_coarse
from vae_np.testing.gradients import check_with_complex_steps
from vae_np.testing.operations import OPERATIONS, REFERENCE, changed_operations, check_operation, with_changes
from vae_np.testing.problems import DECODERS, SATURATED, every_kind
from vae_np.testing.properties import (
    gradient_is_the_complex_step,
    value_is_finite_wherever_it_can_be,
    value_is_that_of_the_definitions,
)
from vae_np.testing.strategies import backends, batches, noises, parameters, problems

ROOT = pathlib.Path(__file__).resolve().parents[2]
METHODS = ["auto", "complex", "richardson", "central"]
PARAMS = {"W": np.array([[1.0, -2.0], [0.5, 3.0]]), "b": np.array([0.1, 0.2])}
TANH = {"W": 1 - np.tanh(PARAMS["W"]) ** 2, "b": np.cos(PARAMS["b"])}


def value(params):
    return np.sum(np.tanh(params["W"])) + np.sum(np.sin(params["b"]))


# ------------------------------------------------------------------------------------------------- check_gradients


@pytest.mark.parametrize("method", METHODS)
def test_right_gradients_pass_and_every_parameter_is_reported(method):
    before = {name: array.copy() for name, array in PARAMS.items()}
    worst = check_gradients(value, PARAMS, TANH, method=method)
    assert [w.name for w in worst] == ["W", "b"] and all(w.error < 1e-5 for w in worst)
    assert {w.method for w in worst} == {"complex" if method == "auto" else method}
    assert all((PARAMS[name] == array).all() for name, array in before.items())
    both = check_gradients(lambda p: (value(p), TANH), PARAMS, method=method)
    assert both == worst


@pytest.mark.parametrize("method, error", [("auto", 3e-12), ("complex", 3e-12), ("richardson", 1e-5), ("central", 1e-4)])
def test_every_element_is_compared_and_the_worst_is_named_with_both_values(method, error):
    for name, index in [(key, index) for key in PARAMS for index in np.ndindex(PARAMS[key].shape)]:
        wrong = {key: array.copy() for key, array in TANH.items()}
        wrong[name][index] += error * np.abs(wrong[name]).max()
        where = f"{name}[{', '.join(map(str, index))}]".replace("[", r"\[").replace("]", r"\]")
        pattern = rf"^{where} is \S+, wanted \S+: error \S+ > \S+ \(1 of {PARAMS[name].size} elements are off\)$"
        with pytest.raises(AssertionError, match=pattern):
            check_gradients(value, PARAMS, wrong, method=method)
        check_gradients(value, PARAMS, wrong, method=method, rtol=1.0)


@pytest.mark.parametrize("method", METHODS)
def test_nan_is_no_gradient(method):
    with pytest.raises(AssertionError, match=r"^b\[1\] is nan"):
        check_gradients(value, PARAMS, {**TANH, "b": np.array([TANH["b"][0], np.nan])}, method=method)


@pytest.mark.parametrize("method", METHODS)
def test_single_precision_gradients_are_held_to_single_precision(method):
    single = {name: array.astype(np.float32) for name, array in TANH.items()}
    check_gradients(value, PARAMS, single, method=method)
    single["b"][0] *= 1.001
    with pytest.raises(AssertionError, match=r"^b\[0\] .* > 3e-04"):
        check_gradients(value, PARAMS, single, method=method)


# What a complex step does not see: x, a function of it, what it adds to the gradient of the sine, and that of the sine alone.
X = np.linspace(-2, 2, 6)
DROPPED = {
    "norm": (lambda x: 3e-5 * np.linalg.norm(x) ** 2, 6e-5 * X),
    "abs": (lambda x: 1e-7 * np.sum(np.abs(x)), 1e-7 * np.sign(X)),
    "vdot": (lambda x: 1e-7 * np.vdot(x, x).real, 2e-7 * X),
    "conj": (lambda x: 1e-7 * np.sum(x * np.conj(x)), 2e-7 * X),
    "real": (lambda x: 1e-7 * np.sum(x.real), np.full(6, 1e-7)),
    "one abs": (lambda x: 1e-7 * np.abs(x[3]), 1e-7 * np.eye(6)[3]),
}


@pytest.mark.parametrize("part", DROPPED)
def test_what_drops_imaginary_parts_is_seen_however_small_it_is(part):
    dropped, its_gradient = DROPPED[part]
    fn, right, wrong = lambda p: np.sum(np.sin(p["x"])) + dropped(p["x"]), np.cos(X) + its_gradient, np.cos(X)
    with pytest.raises(AssertionError, match=r"^x\[\d\] is .* elements are off"):
        check_gradients(fn, {"x": X}, {"x": wrong}, rtol=1e-8)
    (worst,) = check_gradients(fn, {"x": X}, {"x": right})
    assert worst.method == "richardson" and worst.error < 1e-9
    for gradient in (right, wrong):
        with pytest.raises(ValueError, match=r"complex steps and differences disagree by x\[\d\] \(.*abs, conj"):
            check_gradients(fn, {"x": X}, {"x": gradient}, method="complex")


DESIGN, TARGETS, WEIGHTS = np.random.default_rng(0).normal(size=(3, 6, 6))
SMALL_TERMS = {
    "abs": lambda W: (np.sum(np.abs(W)), np.sign(W)),
    "norm": lambda W: (np.linalg.norm(W) ** 2, 2 * W),
    "of one element": lambda W: (np.abs(W[2, 1]), np.sign(W) * (W == W[2, 1])),
}


def squares(W):
    residuals = DESIGN @ W - TARGETS
    return np.sum(residuals**2) / 2, DESIGN.T @ residuals


@pytest.mark.parametrize("size", [1e-5, 1e-7, 1e-9])
@pytest.mark.parametrize("term", SMALL_TERMS)
def test_a_right_gradient_of_a_small_term_that_complex_steps_drop_is_not_called_wrong(term, size):
    def fn(W):
        return squares(W)[0] + size * SMALL_TERMS[term](W)[0]

    right = squares(WEIGHTS)[1] + size * SMALL_TERMS[term](WEIGHTS)[1]
    (worst,) = check_gradients(fn, WEIGHTS, right)
    assert worst.method == "richardson" and worst.error < 1e-8
    with pytest.raises(ValueError, match=r"complex steps and differences disagree by params\[\d, \d\] \(.*abs, conj"):
        check_gradients(fn, WEIGHTS, right, method="complex")
    right[4, 4] *= 1.001
    with pytest.raises(AssertionError, match=r"^params\[4, 4\] .* \(1 of 36 elements are off\)$"):
        check_gradients(fn, WEIGHTS, right)


@pytest.mark.parametrize("size", [1e-6, 1e-9, 1e-11])
def test_a_small_fault_is_not_taken_for_a_term_that_complex_steps_drop(size):
    right = squares(WEIGHTS)[1]
    largest = np.abs(right).max()
    for fault in (right, largest * np.sign(WEIGHTS), largest * np.eye(6), largest * np.eye(6)[:1] * np.eye(6)):
        for fn in (lambda W: squares(W)[0], lambda W: squares(W)[0] + 1e5):
            with pytest.raises(AssertionError, match=r"params\[\d, \d\] is .* > 1e-12"):
                check_gradients(fn, WEIGHTS, right + size * fault)


def test_a_term_that_complex_steps_drop_is_differenced_where_only_a_direction_sees_it():
    x, unseen = np.linspace(1, 2, 300), np.arange(300) == 77
    right = np.cos(x) + 1e-3 * unseen
    found = check_gradients(lambda x: np.sum(np.sin(x)) + 1e-3 * np.abs(x[77]), x, right, elements=3)
    assert [worst.method for worst in found] == ["complex", "richardson"]


ROWS = np.random.default_rng(1).normal(size=(50, 6)).astype(np.float32)


def hidden(W):
    return np.tanh(ROWS @ W.astype(np.float32))


COARSE = {  # what computes in single precision, or in half, and returns a number of double precision
    "a quotient": lambda W: float(np.sum(hidden(W) ** 2)) / 7,
    "two terms": lambda W: float(np.sum(hidden(W) ** 2)) + float(np.sum(W.astype(np.float32) ** 2)),
    "a sum in double precision": lambda W: np.sum(hidden(W) ** 2, dtype=np.float64),
    "a sum of numbers": lambda W: sum(map(float, hidden(W).ravel())),
    "beside a large constant": lambda W: float(np.sum(hidden(W) ** 2) + np.float32(1e4)) / 7,
    "a term": lambda W: np.sum(np.cos(W)) + 0.01 * float(np.sum(hidden(W))),
    "half": lambda W: float(np.sum(np.sin(W.astype(np.float16)))) / 7,
    "decimals": lambda W: round(float(np.sum(np.sin(W))), 4),
    "complex": lambda W: complex(np.sum(np.sin(W.astype(np.complex64)))) if np.iscomplexobj(W) else float(np.sum(hidden(W))),
}


@pytest.mark.parametrize("method", ["auto", "richardson", "central"])
@pytest.mark.parametrize("name", COARSE)
def test_what_computes_in_single_precision_inside_is_refused_as_that(name, method):
    W = WEIGHTS[:, :2]
    with pytest.raises(TypeError, match="^fn computes in single precision, or rounds as coarsely: .* in double precision$"):
        check_gradients(COARSE[name], W, np.cos(W), method=method)


DOUBLE = {  # what computes in double precision, though differences may be exactly 0 or may bend: a function and its point
    "a constant": (lambda x: 1e8 + np.sum(np.sin(x)), X),
    "a huge constant": (lambda x: 1e12 + np.sum(np.sin(x)), X),
    "a wave beside a constant": (lambda x: 1e6 + np.sum(np.sin(300 * x)), X),
    "a difference": (lambda x: (1e3 + np.sum(np.sin(x))) - 1e3, X),
    "an optimum": (lambda x: np.sum((x - 1) ** 2), np.ones(3)),
    "a third power": (lambda x: np.sum(x**3), np.zeros(3)),
    "ramps": (lambda x: np.sum(np.maximum(x, 0)), np.array([0.0, 1e-7, -1e-5, 1.0])),
    "flat, then a ramp": (lambda x: np.sum(np.maximum(x - 8e-3, 0)), np.zeros(3)),
    "the largest": (lambda x: np.max(x), X),
    "logarithms near 0": (lambda x: np.sum(np.log(x)), np.array([1e-6, 3e-5, 0.2, 4.0])),
    "a steep step": (lambda x: np.sum(np.tanh(x / 1e-6)), np.array([3e-7, -5e-7])),
    "all sizes": (lambda x: np.sum(x**2), 10.0 ** np.arange(-6, 7)),
    "tiny": (lambda x: 1e-300 * np.sum(np.sin(x)), X),
    "many kinks": (lambda x: np.mean(np.abs(np.linspace(-2, 2, 30001) + x[0])), np.array([0.3])),
}


@pytest.mark.parametrize("name", DOUBLE)
def test_what_computes_in_double_precision_is_not_coarse(name):
    fn, point = DOUBLE[name]
    assert not is_coarse(lambda p: fn(p["x"]), {"x": point})


NOT_COMPLEX = {  # smooth, but not written for complex numbers
    "softplus": (lambda x: np.sum(np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))), special.expit(X)),
    "variance": (np.var, 2 * (X - X.mean()) / X.size),
    "logaddexp": (lambda x: np.sum(np.logaddexp(x, 0)), special.expit(X)),
    "expit": (lambda x: np.sum(special.expit(x)), special.expit(X) * special.expit(-X)),
    "float": (lambda x: math.fsum(map(math.sin, x)), np.cos(X)),
    "logarithm near 0": (lambda x: math.fsum(math.log(one + 2.00001) for one in x), 1 / (X + 2.00001)),
}


@pytest.mark.parametrize("name", NOT_COMPLEX)
def test_what_is_smooth_but_takes_no_complex_numbers_is_differenced(name):
    fn, gradient = NOT_COMPLEX[name]
    (worst,) = check_gradients(lambda p: fn(p["x"]), {"x": X}, {"x": gradient})
    assert worst.method == "richardson" and worst.error < 1e-8
    with pytest.raises(AssertionError, match=r"^x\[2\] is "):
        check_gradients(lambda p: fn(p["x"]), {"x": X}, {"x": gradient + 1e-5 * np.abs(gradient).max() * np.eye(6)[2]})


@pytest.mark.parametrize("scale", [1.0, 1e-9])
@pytest.mark.parametrize("method", METHODS)
def test_no_gradient_is_called_wrong_at_a_kink(method, scale):
    """relu and its kin have any slope between two there; complex steps take one, differences the mean."""
    params = {"b": np.append(np.linspace(0.5, 2, 60), 0.0)}  # one kink among many smooth elements
    with pytest.raises(ValueError, match=r"^fn is not smooth near b\[60\]: it has a kink there, .*; take another point"):
        check_gradients(lambda p: scale * p["b"] @ (p["b"].real >= 0), params, {"b": scale * (params["b"] > 0)}, method=method)
    with pytest.raises(AssertionError, match=r"^b\[3\] is .* \(1 of 61 elements are off\)$"):
        check_gradients(
            lambda p: scale * np.maximum(p["b"], 0).sum(), params, {"b": scale * (1 + np.eye(61)[3])}, method=method
        )
    if method in ("auto", "complex"):  # where the gradient takes the same side
        check_gradients(lambda p: scale * p["b"] @ (p["b"].real > 0), params, {"b": scale * (params["b"] > 0)}, method=method)


@pytest.mark.parametrize("near", [3e-5, -7e-5, 9.9e-6, 1e-4 / 3, 1e-4 / 4])
def test_a_kink_near_by_is_stepped_short_of(near):
    params = {"b": np.array([1.0, near])}
    check_gradients(lambda p: np.abs(p["b"]).sum(), params, {"b": np.sign(params["b"])}, method="richardson")


@pytest.mark.parametrize("x", [1e-7, 1e-5, 2e-4, 1.0, 1e6, 1e12])
def test_steps_suit_small_and_large_numbers(x):
    params = {"x": np.array([x, 1.0])}
    check_gradients(lambda p: np.sum(np.log(p["x"])), params, {"x": 1 / params["x"]}, method="richardson")


def test_a_third_power_is_smooth_where_its_derivatives_vanish():
    check_gradients(lambda p: np.sum(p["x"] ** 3), {"x": np.zeros(2)}, {"x": np.zeros(2)}, method="richardson")


@pytest.mark.parametrize(
    "fn, sentence",
    [
        (lambda p: float(np.sum(p["b"])), "fn does not take complex arrays .*: use method='richardson'"),
        (lambda p: sum(map(abs, p["b"])), "something in it drops the imaginary part"),
    ],
)
def test_a_function_that_takes_no_complex_numbers_is_refused_where_they_are_wanted(fn, sentence):
    with pytest.raises(TypeError, match=sentence):
        check_gradients(fn, {"b": np.array([-1.0, 0.5, 2.0])}, {"b": np.ones(3)}, method="complex")


def random(p, rng=np.random.default_rng(0)):
    return np.sum(p["b"] * rng.normal(size=3))


def halves_its_argument(p):
    p["b"] *= 0.5
    return np.sum(p["b"])


def rebinds_its_argument(p):
    p["b"] = p["b"] - 1
    return np.sum(p["b"])


def halves_what_it_reaches_otherwise(p):
    OWN["b"] *= 0.5
    return np.sum(p["b"])


def does_not_read_its_argument(p):
    return np.sum(OWN["b"] ** 2)


OWN = {"b": np.array([1.0, 2.0, 4.0])}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    "fn, error, sentence",
    [
        (
            random,
            ValueError,
            r"fn returns \S+ at params, and \S+ when it is called again .*: give the function its noise from out",
        ),
        (halves_its_argument, ValueError, r"fn changes b; it must leave its argument as it is"),
        (rebinds_its_argument, ValueError, r"fn changes b"),
        (halves_what_it_reaches_otherwise, ValueError, r"fn changes b"),
        (does_not_read_its_argument, ValueError, "fn does not change with params: it must compute with the arrays that it is"),
        (lambda p: np.sum(p["b"] @ np.ones(2)), ValueError, "fn raises an error at params, ValueError: matmul: .*size 2"),
        (lambda p: p["c"], ValueError, "fn raises an error at params, KeyError: 'c'"),
        (lambda p: np.sum(np.log(p["b"] - 1.5)), ValueError, "fn returns nan at params; it must return finite numbers"),
        (lambda p: np.sum(p["b"]) / 0, ValueError, "fn returns inf at params"),
        (lambda p: np.sum(p["b"].astype(np.float32)), TypeError, "fn returns a float32; .* in double precision"),
        (lambda p: np.sum(p["b"] + 1j), TypeError, "fn returns a complex128; it must return a real number"),
        (lambda p: p["b"], TypeError, r"fn returns an array of float64 \(3,\), so gradients must be a function"),
        (lambda p: None, TypeError, "fn returns a NoneType; it must return a number, or arrays"),
    ],
)
def test_what_cannot_be_differentiated_is_named_as_what_it_is(fn, error, sentence, method):
    before = OWN["b"].copy()
    with np.errstate(all="ignore"), pytest.raises(error, match=sentence) as caught:
        check_gradients(fn, OWN, {"b": np.ones(3)}, method=method)
    assert len(str(caught.value).splitlines()) == 1
    assert (OWN["b"] == before).all()


def test_gradients_that_are_random_are_named_as_that():
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match=r"the gradient of b\[0\] is \S+ at params, and \S+ when it is computed again with"):
        check_gradients(lambda p: (np.sum(p["b"]), {"b": rng.normal(size=3)}), OWN)


def test_a_gradient_in_a_buffer_that_every_call_fills_is_compared_as_it_was_returned():
    buffer = np.empty(3)
    check_gradients(lambda p: (np.sum(p["b"] ** 2), {"b": np.multiply(2, p["b"].real, out=buffer)}), OWN)


def test_parameters_that_share_memory_are_refused():
    W = np.ones((3, 3))
    for tied in (W, W.T, W[1:2, :2]):
        with pytest.raises(ValueError, match=r"^a and b share memory: give an array once"):
            check_gradients(lambda p: np.sum(p["a"]) + np.sum(p["b"]), {"a": W, "b": tied}, {"a": W, "b": np.ones(tied.shape)})
    check_gradients(
        lambda p: np.sum(p["a"]) + np.sum(p["b"]), {"a": W[::2], "b": W[1::2]}, {"a": np.ones((2, 3)), "b": np.ones((1, 3))}
    )


@pytest.mark.parametrize(
    "params",
    [{"b": np.array([1, 2])}, {"b": [1.0, 2.0]}, {"b": np.array([1, 2], "f4")}, {"b": 3.0}, types.MappingProxyType({"b": 1.0})],
)
@pytest.mark.parametrize("method", METHODS)
def test_parameters_of_any_real_numbers_are_taken(params, method):
    gradient = 2 * np.asarray(params["b"], float)
    check_gradients(lambda p: np.sum(p["b"] ** 2), params, {"b": gradient}, method=method)


def test_read_only_arrays_are_taken():
    params = {"b": np.array([1.0, 2.0])}
    params["b"].flags.writeable = False
    check_gradients(lambda p: np.sum(p["b"] ** 2), params, {"b": 2 * params["b"]}, method="richardson")


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    "fn, params, gradients, error, sentence",
    [
        (value, PARAMS, list(TANH), TypeError, r"^the gradient of params\[0\] is a str; it must be an array of real numbers"),
        (value, PARAMS, list(TANH.values()), ValueError, r"^gradients are of params\[0\], params\[1\]; params are W, b$"),
        (value, {}, {}, ValueError, "^params is empty; it must hold arrays"),
        (value, {"W": "a name"}, {}, TypeError, "^W is a str; it must be an array of real numbers"),
        (
            value,
            PARAMS,
            {**TANH, "V": 1.0},
            ValueError,
            "^gradients are of V, W, b; params are W, b$",
        ),
        (value, PARAMS, {**TANH, "b": np.ones(1)}, ValueError, r"^the gradient of b has shape \(1,\); b has \(2,\)$"),
        (value, PARAMS, {"b": TANH["b"]}, ValueError, "^there is no gradient of W; if it is meant to have none"),
        (value, PARAMS, {**TANH, "b": TANH["b"] + 1j}, TypeError, "^the gradient of b is an array of complex128"),
        (value, PARAMS, {**TANH, "b": [[1.0], [1.0, 2.0]]}, TypeError, "^the gradient of b.* is a list; .* real numbers"),
        (
            value,
            PARAMS,
            None,
            TypeError,
            r"^fn returns a float64; without gradients it must return \(value, gradients\)",
        ),
    ],
)
def test_wrong_use_is_one_sentence(fn, params, gradients, error, sentence, method):
    with pytest.raises(error, match=sentence):
        check_gradients(fn, params, gradients, method=method)


@pytest.mark.parametrize("method", ["richardson", "central"])
def test_what_fn_raises_beside_the_point_is_told(method):
    def fn(p):
        return np.sum(p["b"]) if (p["b"] == [1, 2, 4]).all() else None

    with pytest.raises(TypeError, match="fn returns a NoneType"):
        check_gradients(fn, OWN, {"b": np.ones(3)}, method=method)
    assert (OWN["b"] == [1, 2, 4]).all()


@pytest.mark.parametrize("offset", [0.0, 1e4, 1e8])
def test_rounding_of_a_large_value_is_no_kink_and_no_error(offset):
    for method in METHODS:
        check_gradients(lambda p: offset + value(p), PARAMS, TANH, method=method)


def test_an_unknown_method_is_refused():
    with pytest.raises(ValueError, match="method is 'forward'; known are 'auto', 'complex', 'richardson', 'central'"):
        check_gradients(value, PARAMS, TANH, method="forward")


@pytest.mark.parametrize("method, error", [("complex", 3e-12), ("richardson", 3e-6), ("central", 3e-5)])
def test_one_element_among_many_is_held_to_the_tolerance(method, error):
    x = np.linspace(1, 2, 500)
    gradient = np.cosh(x)
    gradient[77] *= 1 + error
    with pytest.raises(AssertionError, match=r"^x\[77\] .* \(1 of 500 elements are off\)$"):
        check_gradients(lambda p: np.sum(np.sinh(p["x"])), {"x": x}, {"x": gradient}, method=method)


def test_a_large_gradient_that_is_wrong_excuses_no_other():
    wrong = {"W": 1e20 * TANH["W"], "b": 2 * TANH["b"]}
    with pytest.raises(
        AssertionError, match=r"(?s)^W: Every element is 1e\+20 times .*\nW\[.*\nb: Every element is twice .*\nb\["
    ):
        check_gradients(value, PARAMS, wrong)


# --------------------------------------------------------------------------------------------------- assert_close


@pytest.mark.parametrize(
    "change, sentence",
    [
        (lambda a: a.astype(np.float32), r"^dW is float32 \(2, 3\); wanted float64 \(2, 3\)$"),
        (lambda a: a[:1], r"^dW is float64 \(1, 3\); wanted float64 \(2, 3\)$"),
        (lambda a: a + 1e-9 * np.eye(2, 3), r"^dW\[0, 0\] is 1.000000001; wanted 1.0: relative error 1.0e-09 > 1e-12$"),
        (lambda a: np.where(np.eye(2, 3)[::-1] > 0, np.nan, a), r"^dW\[0, 1\] is nan; wanted 1.0: relative error inf"),
    ],
)
def test_assert_close_names_what_is_off(change, sentence):
    wanted = np.ones((2, 3))
    assert_close(wanted.copy(), wanted, "dW")
    with pytest.raises(AssertionError, match=sentence):
        assert_close(change(wanted), wanted, "dW")


@pytest.mark.parametrize(
    "given, wanted, options, error, sentence",
    [
        (np.arange(3), np.arange(3) + [0, 0, 1], {}, AssertionError, r"^array\[2\] is 2; wanted 3"),
        ([1.0, 2.0], [1.0, 2.1], {}, AssertionError, r"^array\[1\] is 2.0; wanted 2.1"),
        (1.0, 1.1, {}, AssertionError, r"^array is 1.0; wanted 1.1"),
        (1e308, -1e308, {}, AssertionError, r"^array is 1e\+308; wanted -1e\+308: relative error inf"),
        ("a", "b", {}, TypeError, "^array is <U1; only real numbers"),
        (1j, 1j, {}, TypeError, "^array is complex128; only real numbers"),
        (
            np.ones(1, "f2"),
            np.ones(1, "f2"),
            {},
            TypeError,
            "^array is float16, for which 'model' has no tolerance: give rtol",
        ),
        (1.0, 1.0, {"kind": "modle"}, ValueError, "^kind is 'modle'; known are 'complex', "),
    ],
)
def test_assert_close_takes_any_real_numbers(given, wanted, options, error, sentence):
    assert_close(np.arange(3), np.arange(3))
    assert_close(np.float16(1), np.float16(1), rtol=0)
    with pytest.raises(error, match=sentence):
        assert_close(given, wanted, **options)


def test_a_norm_is_compared_with_the_tolerance_of_the_given_dtype():
    wanted = np.array([3.0, -4.0])
    assert relative_norm(wanted + [0, 1e-2], wanted) == pytest.approx(2e-3)
    large = np.array([1e30, 1e30], "float32")  # their squares are beyond its range
    assert relative_norm([1.5e30, 1e30], large) == pytest.approx(0.5 / np.sqrt(2)) and type(relative_norm(1, large)) is float
    assert_near(np.array([49.0]), [50.0], "g", "bfloat16")  # off by the tolerance itself
    assert_near((wanted * (1 + 9e-4)).astype("float32"), wanted, "g", "rounded")
    for off in (wanted * (1 + 9e-4), (wanted * (1 + 2e-3)).astype("float32"), wanted * np.nan):
        with pytest.raises(AssertionError, match="^g is off by .* of its norm > 1e-"):
            assert_near(off, wanted, "g", "rounded")


def test_one_element_among_many_is_enough():
    wanted = np.linspace(1, 2, 1000)
    given = wanted.copy()
    assert_close(given, wanted)
    given[123] *= 1 + 2e-12
    with pytest.raises(AssertionError, match=r"^array\[123\] "):
        assert_close(given, wanted)


def test_small_elements_are_not_let_off():
    wanted = np.array([1.0, 1e-2, 1e-6, 0.0])
    np.testing.assert_allclose(relative_errors(wanted * (1 + 1e-3), wanted), [1e-3, 1e-3, 1e-7, 0], rtol=0.02, atol=1e-12)
    assert relative_errors(np.array([1.0, 1e-3]), np.array([1.0, 0.0]))[1] == pytest.approx(0.1)
    assert (relative_errors(np.zeros(2), np.zeros(2)) == 0).all()
    assert (relative_errors(np.array([np.inf, -np.inf]), np.array([np.inf, 1.0])) == np.inf).all()


# --------------------------------------------------------------------------------------------------------- oracles


@pytest.mark.parametrize(
    "problem", list(every_kind())[::4], ids=lambda problem: f"{problem.objective}-{problem.p.architecture.activation}"
)
def test_the_complex_oracle_is_analytic(problem):
    """`check_with_complex_steps` takes it for that: each of its complex steps is the difference."""
    architecture, (p, *rest) = problem.p.architecture, problem
    gradient = check_gradients(
        lambda q: complex_elbo(architecture, q, *rest), p, loss_and_gradients(*problem)[1], method="complex"
    )
    assert len(gradient) == len(p)


@settings(max_examples=150)
@given(problem=problems())
def test_the_two_oracles_agree(problem):
    wanted = reference_elbo(problem.p.architecture, *problem)[0]
    assert complex_elbo(problem.p.architecture, *problem) == pytest.approx(wanted, rel=1e-12)


def test_reference_elbo_takes_as_many_digits_as_wanted():
    import mpmath

    problem = random_problem(Architecture(3, (2,), 2, "softplus"))
    with mpmath.workdps(60):
        digits = reference_elbo(problem.p.architecture, *problem, functions=mpmath, number=mpmath.mpf)[0]
        assert digits != float(digits)
    assert reference_elbo(problem.p.architecture, *problem)[0] == pytest.approx(float(digits), rel=1e-14)


@pytest.mark.parametrize("oracle", [reference_elbo, complex_elbo])
@pytest.mark.parametrize(
    "change, sentence",
    [
        ({"objective": "elbow"}, "objective is 'elbow'; known are 'elbo', 'elbo_mc', 'iwae'"),
        ({"eps": np.zeros((3, 2))}, r"x is \(3, 4\), eps \(3, 2\); wanted \(B, 4\), \(L, B, 2\)"),
        ({"eps": np.zeros((1, 3, 1))}, r"x is \(3, 4\), eps \(1, 3, 1\); wanted \(B, 4\), \(L, B, 2\)"),
        ({"x": np.zeros((1, 4))}, r"x is \(1, 4\), eps \(2, 3, 2\); wanted"),
        ({"x": np.zeros((3, 2))}, r"x is \(3, 2\), eps \(2, 3, 2\); wanted"),
        ({"p": {}}, "p has no encoder.0.W, encoder.0.b, mu.W, "),
    ],
)
def test_oracles_refuse_what_they_would_misread(oracle, change, sentence):
    problem = random_problem(Architecture(4, (3,), 2))
    with pytest.raises(ValueError, match=sentence):
        oracle(problem.p.architecture, *problem._replace(**change))


@pytest.mark.parametrize("decoder", DECODERS, ids=str)
def test_oracles_take_parameters_that_are_0(decoder):
    """As those of a model that has not been trained: no logarithm or quotient of a density may fail there."""
    problem = random_problem(Architecture(3, (2,), 2, **decoder))
    zeros = problem._replace(p=Parameters.zeros(problem.p.architecture))
    wanted = loss(*zeros)
    assert_close(reference_elbo(problem.p.architecture, *zeros)[0], wanted.total, "scalar")
    assert_close(complex_elbo(problem.p.architecture, *zeros), wanted.total, "complex")


def test_oracles_share_no_code_with_what_they_judge():
    from vae_np.testing import oracles

    tree = ast.parse(inspect.getsource(oracles))
    imported = {
        name
        for node in ast.walk(tree)
        if isinstance(node, (ast.Import, ast.ImportFrom))
        for name in ([node.module] if isinstance(node, ast.ImportFrom) else [a.name for a in node.names])
    }
    # Of the package only the records of the choices, and the check of a name.
    records = {"vae_np.architecture", "vae_np.choices"}
    assert imported == {"math", "numpy", "numpy.typing", "scipy", "typing", "collections.abc", *records}
    functions = {f.name: f for f in tree.body if isinstance(f, ast.FunctionDef)}
    names = {of: {node.id for node in ast.walk(f) if isinstance(node, ast.Name)} for of, f in functions.items()}
    scalar, complex_ = names["reference_elbo"], names["complex_elbo"]
    own = {name for name in vars(oracles) if inspect.isfunction(vars(oracles)[name]) or isinstance(vars(oracles)[name], dict)}
    shared = scalar & complex_ & own
    assert shared <= {"OBJECTIVES", "NOISES", "_check"} and "complex_elbo" not in scalar and "reference_elbo" not in complex_


@pytest.mark.parametrize("objective", ["elbo_mc", "iwae"])
def test_an_estimator_is_told_from_every_other(objective):
    """The surrogate of an estimator has its gradient, and that of no other estimator; for any beta and number of samples."""
    arch = Architecture(5, (4,), 2, "tanh")
    some = [random_problem(arch, objective, n_samples=n, beta=beta, seed=n) for n, beta in ((3, 0.7), (4, 1.3), (2, 1.0))]
    names = [name for name, record in ESTIMATORS.items() if objective in record.operations]
    for given_name, wanted in itertools.product(names, names):
        for problem in some:
            p, *rest = problem
            g = loss_and_gradients(*problem, estimator=given_name)[1]
            errors = check_with_complex_steps(lambda q: complex_surrogate(arch, p, q, *rest, wanted), p, g, rtol=np.inf)
            error = {worst.name: worst.error for worst in errors}
            of_decoder = {name for name in error if name.startswith(("decoder", "output"))}
            assert max(error[name] for name in of_decoder) < 1e-12
            assert max(error[name] for name in error.keys() - of_decoder) < 1e-12 or given_name != wanted
            assert error["mu.b"] > 1e-3 or given_name == wanted


def test_an_estimator_does_not_pass_for_another():
    problem = random_problem(Architecture(5, (4,), 2, "tanh"), "iwae", n_samples=3)
    model = properties.with_backend("numpy", estimator="path")
    assert min(check_elbo(model, problems=[problem], estimator="path").values()) == 1
    for other, says in (("dreg", "of_the_surrogate"), ("total", "gradient_is_the_complex_step")):
        with pytest.raises(AssertionError, match=says):
            check_elbo(model, problems=[problem], estimator=other)


# ----------------------------------------------------------------------------------------------------- whole suites


@pytest.mark.slow
def test_check_kernels_passes_every_set(its_kernels):
    """The operations and properties of each set are also tested alone, in test_operations.py and test_properties.py."""
    tried = check_kernels(its_kernels)
    kinds = len(DECODERS) * len(ACTIVATIONS) * (len(OBJECTIVES) + len(SATURATED))
    assert tried["affine"] >= 6 and tried["gradient_is_the_complex_step"] == kinds and min(tried.values()) >= 6


def test_check_kernels_says_what_is_off():
    def gaussian_kl_backward(dkl, mu, logvar, eps, z, dz, dmu, dlogvar):
        np.multiply(dkl[0][:, None], mu, out=dmu)
        np.multiply(dkl[0][:, None], np.expm1(logvar), out=dlogvar)  # a half is missing
        return dz, dmu, dlogvar

    with pytest.raises(AssertionError) as caught:
        check_kernels(with_changes(gaussian_kl_backward=gaussian_kl_backward))
    lines = str(caught.value).splitlines()
    assert lines[0].startswith("float32: gaussian_kl_backward: dlogvar[")
    assert [line.split(":")[0] for line in lines[1:]] == ["gradient_is_the_complex_step"]


def changed(name, change):
    """The reference's operation, and then change(its arguments)."""

    def operation(*arguments):
        result = getattr(REFERENCE, name)(*arguments)
        change(*arguments)
        return result

    operation.__signature__ = inspect.signature(getattr(REFERENCE, name))
    return {name: operation}


def naive_tanh(x, W, b, y, h):
    e = np.exp(2 * REFERENCE.affine(x, W, b, h))
    h[...] = (e - 1) / (e + 1)
    return h


def naive_iwae(nll, kl, beta, loss):
    loss[...] = -np.log(np.mean(np.exp(-(nll + beta * kl)), axis=0))
    return loss


def naive_mean(logits, mean):
    mean[...] = np.exp(logits) / (1 + np.exp(logits))
    return mean


def constant_that_reads_its_output(x, W, b, y):
    y *= 0
    y += b
    return y


def gather_of_a_range(data, rows, x):
    return REFERENCE.gather(data, np.linspace(rows[0], rows[-1], len(rows)).astype(int), x)


SUBTLE_OPERATIONS = {  # each wrong only somewhere: for large logits or log-variances, after a NaN, at the 65th row, at first
    "bernoulli_mean": naive_mean,
    "constant": constant_that_reads_its_output,
    "gather": gather_of_a_range,
    **changed("affine_gradients", lambda *a: np.subtract(a[5], a[1][..., 64:65, :].sum(), out=a[5])),
    **changed("adam", lambda *a: np.multiply(a[0], 1 + 0.01 * (a[4] == 1), out=a[0])),
    **changed("gaussian_kl_backward", lambda *a: np.copyto(a[-1], 0, where=a[2] > 12)),
}
SUBTLE = {  # what only the whole model shows
    "tanh overflows": {"affine_tanh": naive_tanh},
    "importance weights overflow": {"iwae": naive_iwae},
    "no gradient of a large logit": changed(
        "bernoulli_nll_backward", lambda *a: np.copyto(a[4], 0, where=np.abs(a[1]) > 1e4 - 10)
    ),
    "no gradient of a large log-variance": changed("gaussian_kl_backward", lambda *a: np.copyto(a[-1], 0, where=a[2] > 10)),
    "no gradient of a saturated unit": changed("softplus_backward", lambda dh, y, h: np.copyto(dh, 0, where=h > 20)),
    "no l2": changed("affine_gradients", lambda *a: np.multiply(a[4], 2 if a[3] == 0 else 1, out=a[4])),
    "beta of 1": changed("iwae", lambda nll, kl, beta, loss: np.add(loss, beta == 1, out=loss)),
}


@pytest.mark.slow
def test_check_kernels_sees_what_is_wrong_only_for_some_arguments():
    with np.errstate(all="ignore"), pytest.raises(AssertionError) as caught:
        check_kernels(with_changes(**SUBTLE_OPERATIONS))
    said = [line.split(": ")[1] for line in str(caught.value).splitlines() if line.startswith("float32: ")]
    assert sorted(said) == sorted(SUBTLE_OPERATIONS)


ROUNDED = kernels.load("numpy", "bfloat16")
ROUNDED_WRONG = {  # each where another thing is rounded than should be
    "affine": REFERENCE.affine,
    "affine_relu": layers_of_rounded(7)["affine_relu"],
    "affine_gradients": lambda x, dy, W, l2, dW, db: REFERENCE.affine_gradients(rounded(x, 8), rounded(dy, 8), W, l2, dW, db),
    "affine_backward": lambda dy, W, dx: ROUNDED.affine_backward(dy, rounded(W, 7), dx),
    "affine_backward_add": lambda dy, W, dx: ROUNDED.affine_backward_add(dy, W, rounded(dx, 8)),
}


def test_check_kernels_sees_what_is_rounded_in_another_way(monkeypatch):
    monkeypatch.setattr(kernels, "precisions", lambda backend: ("bfloat16",))  # full precision takes seconds, and is right
    own = with_changes(precisions=lambda: {"bfloat16": REFERENCE.precisions()["bfloat16"] | ROUNDED_WRONG})
    with pytest.raises(AssertionError) as caught:
        check_kernels(own)
    *of_operations, of_model = str(caught.value).splitlines()
    assert sorted(line.split(": ")[1] for line in of_operations) == sorted(ROUNDED_WRONG)
    assert all(line.startswith("float32 at bfloat16: ") for line in of_operations)
    assert of_model.startswith("operands_are_rounded_as_in_the_definition: ") and of_model.endswith("] at bfloat16")


def test_the_operations_of_a_precision_are_those_that_the_set_or_the_reference_changes():
    own = with_changes(precisions=lambda: {"bfloat16": {"adam": REFERENCE.adam}})
    that_multiply = [name for name in OPERATIONS if name.startswith("affine")]
    assert changed_operations("numpy", "float32") == list(OPERATIONS)
    assert changed_operations("numpy", "bfloat16") == that_multiply
    assert changed_operations(own, "bfloat16") == [*that_multiply, "adam"]


def test_what_is_tried_at_a_lower_precision():
    """The comparison with the reference on every kind of problem, first in float32; the others on some of each choice."""
    tried = {}
    for check, problem in suite.trials("bfloat16"):
        tried.setdefault(check.__name__, []).append(problem)
    compared, n = tried.pop("operands_are_rounded_as_in_the_definition"), len([*every_kind()])
    assert [problem.p.flat.dtype.name for problem in compared] == ["float32"] * n + ["float64"] * n
    assert list(tried) == [check.__name__ for check in properties.EXACT] and set(properties.EXACT) < set(PROPERTIES)
    for some in tried.values():
        assert len(some) < n
        assert {problem.objective for problem in some} == set(OBJECTIVES)
        assert {problem.p.architecture.activation for problem in some} == set(ACTIVATIONS)
        assert len({(a.likelihood, a.noise) for a in (problem.p.architecture for problem in some)}) == len(DECODERS)


@pytest.mark.parametrize("wrong", ROUNDED_WRONG)
def test_the_whole_model_shows_what_is_rounded_in_another_way(wrong):
    check, *_ = properties.at_precision("bfloat16")
    model = properties.with_backend(with_changes(**{**vars(ROUNDED), wrong: ROUNDED_WRONG[wrong]}))
    problems_of_every_kind = [*every_kind()][:15]
    with pytest.raises(AssertionError):
        for problem in problems_of_every_kind:
            check(model, problem)


def test_check_elbo_at_a_precision_wants_the_rounding_of_this_precision():
    with pytest.raises(AssertionError, match="1 of 9 properties do not hold\noperands_are_rounded_as_in_the_definition: "):
        check_elbo(properties.with_backend("numpy", "tfloat32"), "bfloat16")


def test_single_precision_is_held_to_what_rounding_does():
    check = properties.at_precision("bfloat16")[0]
    problem = random_problem(Architecture(9, (8,), 3), dtype="float32")
    for change, passes in ((1e-2, True), (3e-2, False)):
        model = spoiled(lambda value, g, _: (value, Parameters(g.architecture, g.flat * np.float32(1 + change))), "bfloat16")
        with contextlib.nullcontext() if passes else pytest.raises(AssertionError, match="the gradient is off by 3.0e-02"):
            check(model, problem)


@pytest.mark.slow
@pytest.mark.parametrize("mistake", SUBTLE)
def test_some_property_sees_what_only_the_whole_model_shows(mistake):
    seers = gradient_is_the_complex_step, value_is_that_of_the_definitions, value_is_finite_wherever_it_can_be
    model = properties.with_backend(with_changes(**SUBTLE[mistake]))
    with np.errstate(all="ignore"), pytest.raises(AssertionError):
        for check, problem in suite.trials():
            if check in seers:
                check(model, problem)


def test_check_kernels_wants_every_function_with_its_arguments():
    own = with_changes(affine=lambda x, W, y: y)
    del own.adam
    with pytest.raises(
        AssertionError, match=r"affine takes \(x, W, y\); wanted \(x, W, b, y\)\nadam\(p, g, m, .*\) is missing"
    ):
        check_kernels(own)


def returns_a_copy(dh, y, h):
    return REFERENCE.relu_backward(dh, y, h).copy()


def test_check_operation_sees_a_set_that_returns_another_array_than_it_filled():
    with pytest.raises(AssertionError, match=r"^relu_backward returns arguments \[-1\]; wanted \[0\]$"):
        check_operation(with_changes(relu_backward=returns_a_copy), "relu_backward", "float64")


@pytest.mark.parametrize("check, what", [(check_kernels, "kernel_set is a str"), (check_elbo, "model is a str")])
def test_what_cannot_be_tried_is_refused(check, what):
    with pytest.raises(TypeError, match=f"^{what}; it must be a "):
        check("numba")


def test_check_elbo_takes_any_function():
    def mean_over_pixels(p, x, eps, beta=1.0, l2=0.0, objective="elbo"):
        value, g = loss_and_gradients(p, x, eps, beta, l2, objective)
        g.flat[...] /= x.shape[1]
        return value._replace(total=value.total / x.shape[1]), g

    with pytest.raises(AssertionError) as caught:
        check_elbo(mean_over_pixels, problems=[*every_kind()][::10])
    lines = str(caught.value).splitlines()
    assert lines[1].startswith("value_is_that_of_the_definitions: total is")
    assert re.match(
        "gradient_is_the_complex_step: encoder.0.W, .*: Every element is 1/5 of what it should be: 5 is the number of inputs, as if a mean stood where a sum is meant",
        lines[2],
    )


def test_check_elbo_needs_problems():
    several = every_kind(activations=["tanh"], objectives=["elbo"], decoders=DECODERS[:1])
    assert check_elbo(problems=several)
    for none in (several, []):
        with pytest.raises(ValueError, match="problems is empty"):
            check_elbo(problems=none)
    with pytest.raises(ValueError, match="hidden is empty"):
        list(every_kind(hidden=[]))
    with pytest.raises(ValueError, match="objective is 'e'"):
        list(every_kind(objectives="elbo"))
    with pytest.raises(ValueError, match="precision is 'half'"):
        check_elbo(precision="half")


def one_buffer_for_all(p, *rest):
    value, g = loss_and_gradients(p, *rest)
    buffer = BUFFERS.setdefault((p.architecture, p.flat.dtype), g)
    buffer.flat[...] = g.flat
    return value, buffer


BUFFERS = {}


def always_double(p, *rest):
    return loss_and_gradients(p.astype("float64"), *rest)


@pytest.mark.slow
@pytest.mark.parametrize(
    "model, sentence",
    [
        (one_buffer_for_all, "repeats_to_the_bit: a later call changed an earlier result"),
        (always_double, "the gradient of float32 parameters is float64"),
    ],
)
def test_check_elbo_sees_what_is_wrong_with_the_arrays_alone(model, sentence):
    with pytest.raises(AssertionError, match=sentence):
        check_elbo(model)


def spoiled(change, precision="float32"):
    """A model that is right but for change(value, g, problem), which returns another (value, g)."""

    def model(p, x, eps, beta=1.0, l2=0.0, objective="elbo"):
        value, g = loss_and_gradients(p, x, eps, beta, l2, objective, precision=precision)
        return change(value, g, Problem(p, x, eps, beta, l2, objective))

    return model


def with_more(more):
    """A model whose loss has something more, and its gradient nothing."""

    def change(value, g, problem):
        more_of_each = np.broadcast_to(more(problem), value.per_example.shape).astype(value.per_example.dtype)
        return value._replace(per_example=value.per_example + more_of_each, total=value.total + more_of_each.mean()), g

    return spoiled(change)


CALLS = itertools.count()
SPOILED = {  # a model for each property, that breaks it
    "value_is_that_of_the_definitions": with_more(lambda problem: 1e-6),
    "gradient_is_the_complex_step": spoiled(lambda value, g, _: (value, Parameters(g.architecture, g.flat * (1 + 1e-9)))),
    "what_is_no_number_is_not_hidden": spoiled(lambda value, g, _: (value._replace(total=np.nan_to_num(value.total)), g)),
    "single_precision_is_double_precision_rounded": with_more(lambda problem: 0.01 * (problem.p.flat.dtype == np.float32)),
    "order_of_the_batch_does_not_matter": with_more(lambda problem: 0.01 * np.arange(len(problem.x))),
    "parts_average_to_the_whole": with_more(lambda problem: problem.x.mean()),
    "repeating_changes_nothing": with_more(lambda problem: len(problem.x)),
    "samples_are_averaged": with_more(lambda problem: len(problem.eps)),
    "hidden_units_have_no_order": with_more(lambda problem: problem.p["decoder.0.b"][0]),
    "latents_have_no_order_and_no_sign": with_more(lambda problem: problem.p["mu.b"][0]),
    "scale_of_a_homogeneous_unit_does_not_matter": with_more(lambda problem: np.sum(problem.p["encoder.0.b"] ** 2)),
    "units_of_x_cost_their_logarithm": with_more(lambda problem: np.sum(problem.x)),
    "loss_is_linear_in_beta": with_more(lambda problem: problem.beta**2),
    "a_call_changes_nothing_and_repeats_to_the_bit": with_more(lambda problem: 1e-9 * next(CALLS)),
}


@pytest.mark.parametrize("check", PROPERTIES, ids=lambda check: check.__name__)
@pytest.mark.parametrize("sizes", [(2, 1, 2), (2, 2, 2), (5, 3, 4)])
def test_every_property_sees_a_model_that_breaks_it(check, sizes):
    """On the smallest models, too, where an order may be the only one and a sum may have one term."""
    units, n_latent, n_examples = sizes
    arch = Architecture(3, (units,), n_latent, "relu", "gaussian")
    problem = random_problem(arch, "elbo", n_examples, n_samples=2)
    check(loss_and_gradients, problem)
    with pytest.raises(AssertionError):
        check(SPOILED[check.__name__], problem)


OPTIMISED = """
import numpy as np
from tests.vae_np import test_testing as tests
from vae_np.testing import PROPERTIES, check_kernels, mistakes
from vae_np.testing.operations import check_operation, with_changes

assert not __debug__ or print("assertions are checked here")
problem = tests.random_problem(tests.Architecture(3, (2,), 2, "relu", "gaussian"), "elbo", 2, 2)
wrong = with_changes(**tests.changed("affine", lambda x, W, b, y: np.add(y, 1e-3, out=y)))
calls = {check.__name__: lambda check=check: check(tests.SPOILED[check.__name__], problem) for check in PROPERTIES}
calls |= {mistake.name: lambda mistake=mistake: mistake.check(mistake) for mistake in mistakes.MISTAKES}
calls["check_kernels"] = lambda: check_kernels(wrong)
calls |= {"check_operation": lambda: check_operation(with_changes(relu_backward=tests.returns_a_copy), "relu_backward", "float64")}
calls |= {"check_gradients": lambda: tests.check_gradients(tests.value, tests.PARAMS, tests.PARAMS)}
np.seterr(all="ignore")
for name, call in calls.items():
    try:
        call()
        print("passed:", name)
    except AssertionError as error:
        said = str(error)
        if name == "check_kernels" and not ("affine: y[" in said and "value_is_that_of_the_definitions: total is" in said):
            print(said)
print(len(calls))
"""


@pytest.mark.slow
def test_nothing_of_the_kit_vanishes_where_python_drops_assertions():
    run = subprocess.run([sys.executable, "-O", "-c", OPTIMISED], capture_output=True, text=True, cwd=ROOT)
    assert run.stdout == f"{len(PROPERTIES) + len(mistakes.MISTAKES) + 3}\n", run.stdout + run.stderr[-2000:]


@pytest.mark.parametrize("folder", ["vae_np", "kernels"])
def test_nothing_that_is_installed_leans_on_assert(folder):
    for path in (ROOT / folder).rglob("*.py"):
        assert not any(isinstance(node, ast.Assert) for node in ast.walk(ast.parse(path.read_text()))), path


# ------------------------------------------------------------------------------------------------------ strategies


@settings(max_examples=20)
@given(problem=problems(), backend=backends())
def test_problems_are_arguments_of_the_loss(problem, backend):
    assert isinstance(problem, Problem) and np.isfinite(loss(*problem, backend).total)
    assert problem.p.flat.all()


@settings(max_examples=20)
@given(p=parameters(Architecture(3, (2,), 2)), x=batches(Architecture(3, (2,), 2)), eps=noises(Architecture(3, (2,), 2), 4))
def test_pieces_of_a_problem_can_be_drawn_alone(p, x, eps):
    assert p.architecture.n_latent == 2 and x.shape[1] == 3 and eps.shape[1:] == (4, 2)
    assert x.min() >= 0 and x.max() <= 1


def test_a_failing_example_shrinks_to_what_a_person_can_read():
    """A model that loses the second latent's KL, of two or more: the smallest such problem, as the call that makes it."""

    @settings(max_examples=300, database=None, report_multiple_bugs=False, phases=tuple(Phase))
    @given(problem=problems())
    def sees(problem):
        value, _ = loss_and_gradients(*problem)
        lost = problem.p.architecture.n_latent > 1 and problem.beta > 0
        assert value.total + lost == value.total

    with pytest.raises(AssertionError) as caught:
        sees()
    said = " ".join("\n".join(caught.value.__notes__).split())
    assert "random_problem( Architecture(n_inputs=1, hidden=(), n_latent=2, activation='relu'" in said
    assert "n_examples=1" in said and "n_samples=1" in said and "seed=0" in said
