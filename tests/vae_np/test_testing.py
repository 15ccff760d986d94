"""The tools that test gradients, tested: what they find, what they say, and what they cannot see."""

import inspect

import numpy as np
import pytest
from hypothesis import given, settings

from vae_np import Architecture, loss, loss_and_gradients
from vae_np.testing import (
    Problem,
    assert_close,
    check_elbo,
    check_gradients,
    check_kernels,
    complex_elbo,
    random_problem,
    reference_elbo,
    relative_errors,
)
from vae_np.testing.operations import REFERENCE, with_changes
from vae_np.testing.strategies import backends, batches, noises, parameters, problems

METHODS = ["complex", "richardson", "central"]
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
    assert all((PARAMS[name] == array).all() for name, array in before.items())
    both = check_gradients(lambda p: (value(p), TANH), PARAMS, method=method)
    assert both == worst


@pytest.mark.parametrize("method, error", [("complex", 3e-12), ("richardson", 1e-5), ("central", 1e-4)])
def test_every_element_is_compared_and_the_worst_is_named_with_both_values(method, error):
    for name, index in [(name, index) for name in PARAMS for index in np.ndindex(PARAMS[name].shape)]:
        wrong = {key: array.copy() for key, array in TANH.items()}
        wrong[name][index] += error * np.abs(wrong[name]).max()
        where = f"{name}[{', '.join(map(str, index))}]".replace("[", r"\[").replace("]", r"\]")
        pattern = rf"^{where} is \S+, wanted \S+: error \S+ > \S+ \(1 of {PARAMS[name].size} elements are off\)$"
        with pytest.raises(AssertionError, match=pattern):
            check_gradients(value, PARAMS, wrong, method=method)
        check_gradients(value, PARAMS, wrong, method=method, rtol=1.0)


def test_nan_is_no_gradient():
    with pytest.raises(AssertionError, match=r"^b\[1\] is nan"):
        check_gradients(value, PARAMS, {**TANH, "b": np.array([TANH["b"][0], np.nan])})


def test_single_precision_gradients_are_held_to_single_precision():
    single = {name: array.astype(np.float32) for name, array in TANH.items()}
    check_gradients(value, PARAMS, single)
    single["b"][0] *= 1.001
    with pytest.raises(AssertionError, match=r"^b\[0\] .* > 3e-04"):
        check_gradients(value, PARAMS, single)


@pytest.mark.parametrize("near", [0.0, 3e-5, -7e-5])
def test_differences_say_where_there_is_a_kink(near):
    params = {"b": np.array([1.0, near])}
    with pytest.raises(ValueError, match="fn is not smooth near b: take another point"):
        check_gradients(
            lambda p: np.maximum(p["b"], p["b"] * 0.5).sum(), params, {"b": np.ones(2)}, method="richardson"
        )


@pytest.mark.parametrize(
    "fn, error, sentence",
    [
        (
            lambda p: float(np.sum(p["b"])),
            TypeError,
            "fn does not take a dict of complex arrays .*: use method='richardson'",
        ),
        (lambda p: sum(map(abs, p["b"])), TypeError, "something in it drops the imaginary part"),
        (
            lambda p: np.sum(p["b"] * np.conj(p["b"])),
            ValueError,
            r"complex steps and differences disagree by b \(.*abs, conj",
        ),
        (lambda p: np.sum(p["b"]) + 3 * abs(p["b"][0]), ValueError, r"complex steps and differences disagree by b"),
        (lambda p: p["b"], TypeError, r"fn returns an array of complex128 \(3,\); it must return a number"),
    ],
)
def test_a_function_that_is_not_complex_all_the_way_is_refused(fn, error, sentence):
    with pytest.raises(error, match=sentence):
        check_gradients(fn, {"b": np.array([-1.0, 0.5, 2.0])}, {"b": np.ones(3)})


@pytest.mark.parametrize(
    "params, gradients, error, sentence",
    [
        ({"b": np.zeros(3)}, {"b": np.ones(1)}, ValueError, r"gradients\['b'\] has shape \(1,\); wanted .*, \(3,\)"),
        ({"b": np.zeros(3)}, {}, ValueError, r"gradients\['b'\] has shape nothing"),
        (
            {"b": np.zeros(3, "f4")},
            {"b": np.ones(3)},
            TypeError,
            r"params\['b'\] is an array of float32 \(3,\); differences need",
        ),
        ({"b": 0.0}, {"b": 1.0}, TypeError, r"params\['b'\] is a float; differences need arrays of float64"),
    ],
)
@pytest.mark.parametrize("method", ["richardson", "central"])
def test_what_cannot_be_compared_is_refused(params, gradients, error, sentence, method):
    with pytest.raises(error, match=sentence):
        check_gradients(lambda p: float(np.sum(p["b"])), params, gradients, method=method)


@pytest.mark.parametrize(
    "fn, params, gradients, error, sentence",
    [
        (value, np.ones(2), {}, TypeError, r"^params is an array of float64 \(2,\); it must map names to arrays"),
        (value, PARAMS, list(TANH), TypeError, "^gradients is a list; it must map names to arrays"),
        (value, {}, {}, ValueError, r"^gradients are of \[\], params are \[\]$"),
        (
            value,
            PARAMS,
            {**TANH, "V": 1.0},
            ValueError,
            r"^gradients are of \['V', 'W', 'b'\], params are \['W', 'b'\]$",
        ),
        (value, PARAMS, {**TANH, "b": TANH["b"] + 1j}, TypeError, r"^gradients\['b'\] is an array of complex128"),
        (value, PARAMS, {**TANH, "b": [[1.0], [1.0, 2.0]]}, TypeError, r"^gradients\['b'\] is a list; .* real numbers"),
        (value, {"layer": PARAMS}, {"layer": TANH}, TypeError, r"^gradients\['layer'\] is a dict; .* real numbers"),
        (
            value,
            PARAMS,
            None,
            TypeError,
            r"^fn returns a float64; without gradients it must return \(value, gradients\)",
        ),
        (lambda p: None, PARAMS, TANH, TypeError, "^fn returns a NoneType; it must return a number"),
    ],
)
@pytest.mark.parametrize("method", METHODS)
def test_wrong_use_is_one_sentence(fn, params, gradients, error, sentence, method):
    with pytest.raises(error, match=sentence):
        check_gradients(fn, params, gradients, method=method)


@pytest.mark.parametrize("method", ["richardson", "central"])
def test_params_are_put_back_whatever_fn_raises(method):
    params = {"b": np.array([1.0, 2.0])}

    def fn(p):
        return np.sum(p["b"]) if (p["b"] == [1, 2]).all() else None

    with pytest.raises(TypeError, match="fn returns a NoneType"):
        check_gradients(fn, params, {"b": np.ones(2)}, method=method)
    assert (params["b"] == [1, 2]).all()
    params["b"].flags.writeable = False
    with pytest.raises(TypeError, match=r"params\['b'\] is read-only; differences need"):
        check_gradients(fn, params, {"b": np.ones(2)}, method=method)


@pytest.mark.parametrize("offset", [0.0, 1e4, 1e8])
def test_rounding_of_a_large_value_is_no_kink_and_no_error(offset):
    for method in ("richardson", "central"):
        check_gradients(lambda p: offset + value(p), PARAMS, TANH, method=method)


def test_an_unknown_method_is_refused():
    with pytest.raises(ValueError, match="method is 'forward'; known are 'complex', 'richardson', 'central'"):
        check_gradients(value, PARAMS, TANH, method="forward")


def test_differences_refuse_what_is_no_real_number():
    with pytest.raises(TypeError, match=r"fn returns an array of float64 \(2,\)"):
        check_gradients(lambda p: p["b"], {"b": np.zeros(2)}, {"b": np.zeros(2)}, method="central")


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


def test_small_elements_are_not_let_off():
    wanted = np.array([1.0, 1e-2, 1e-6, 0.0])
    np.testing.assert_allclose(
        relative_errors(wanted * (1 + 1e-3), wanted), [1e-3, 1e-3, 1e-7, 0], rtol=0.02, atol=1e-12
    )
    assert relative_errors(np.array([1.0, 1e-3]), np.array([1.0, 0.0]))[1] == pytest.approx(0.1)
    assert (relative_errors(np.zeros(2), np.zeros(2)) == 0).all()
    assert (relative_errors(np.array([np.inf, -np.inf]), np.array([np.inf, 1.0])) == np.inf).all()


# --------------------------------------------------------------------------------------------------------- oracles


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
        ({"objective": "elbow"}, "objective is 'elbow'; known are elbo, elbo_mc, iwae"),
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


def test_oracles_share_no_code_with_what_they_judge():
    import ast
    import inspect

    from vae_np.testing import oracles

    tree = ast.parse(inspect.getsource(oracles))
    imported = {
        name.split(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, (ast.Import, ast.ImportFrom))
        for name in ([node.module] if isinstance(node, ast.ImportFrom) else [a.name for a in node.names])
    }
    assert imported == {"math", "numpy"}
    calls = [ast.walk(f) for f in tree.body if isinstance(f, ast.FunctionDef)]
    names = [{node.id for node in walk if isinstance(node, ast.Name)} for walk in calls]
    assert "complex_elbo" not in names[0] and "reference_elbo" not in names[1]


# ----------------------------------------------------------------------------------------------------- whole suites


def test_check_kernels_passes_every_set(kernel_set):
    tried = check_kernels(kernel_set)
    assert tried["affine"] >= 6 and tried["gradient_is_the_complex_step"] == 36 + 48 and min(tried.values()) >= 6


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


def naive_tanh(x, W, b, h):
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
    "no gradient of a large log-variance": changed(
        "gaussian_kl_backward", lambda *a: np.copyto(a[-1], 0, where=a[2] > 10)
    ),
    "no gradient of a saturated unit": changed("softplus_backward", lambda dh, h: np.copyto(dh, 0, where=h > 20)),
    "no l2": changed("affine_gradients", lambda *a: np.multiply(a[4], 2 if a[3] == 0 else 1, out=a[4])),
    "beta of 1": changed("iwae", lambda nll, kl, beta, loss: np.add(loss, beta == 1, out=loss)),
}


def test_check_kernels_sees_what_is_wrong_only_for_some_arguments():
    with np.errstate(all="ignore"), pytest.raises(AssertionError) as caught:
        check_kernels(with_changes(**SUBTLE_OPERATIONS))
    said = [line.split(": ")[1] for line in str(caught.value).splitlines() if line.startswith("float32: ")]
    assert sorted(said) == sorted(SUBTLE_OPERATIONS)


@pytest.mark.parametrize("mistake", SUBTLE)
def test_check_kernels_sees_what_only_the_whole_model_shows(mistake):
    with np.errstate(all="ignore"), pytest.raises(AssertionError) as caught:
        check_kernels(with_changes(**SUBTLE[mistake]))
    assert {line.split(":")[0] for line in str(caught.value).splitlines()} & {
        "gradient_is_the_complex_step",
        "value_is_that_of_the_definitions",
        "value_is_finite_wherever_it_can_be",
    }


def test_check_kernels_wants_every_function_with_its_arguments():
    own = with_changes(affine=lambda x, W, y: y)
    del own.adam
    with pytest.raises(
        AssertionError, match=r"affine takes \(x, W, y\); wanted \(x, W, b, y\)\nadam\(p, g, m, .*\) is missing"
    ):
        check_kernels(own)


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
        check_elbo(mean_over_pixels)
    lines = str(caught.value).splitlines()
    assert lines[1].startswith("value_is_that_of_the_definitions: total is")
    assert lines[2].startswith("gradient_is_the_complex_step: encoder.0.W[")


def one_buffer_for_all(p, *rest):
    value, g = loss_and_gradients(p, *rest)
    buffer = BUFFERS.setdefault((p.architecture, p.flat.dtype), g)
    buffer.flat[...] = g.flat
    return value, buffer


BUFFERS = {}


def always_double(p, *rest):
    return loss_and_gradients(p.astype("float64"), *rest)


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


# ------------------------------------------------------------------------------------------------------ strategies


@settings(max_examples=20)
@given(problem=problems(), backend=backends())
def test_problems_are_arguments_of_the_loss(problem, backend):
    assert isinstance(problem, Problem) and np.isfinite(loss(*problem, backend).total)
    assert problem.p.flat.all()


@settings(max_examples=20)
@given(
    p=parameters(Architecture(3, (2,), 2)), x=batches(Architecture(3, (2,), 2)), eps=noises(Architecture(3, (2,), 2), 4)
)
def test_pieces_of_a_problem_can_be_drawn_alone(p, x, eps):
    assert p.architecture.n_latent == 2 and x.shape[1] == 3 and eps.shape[1:] == (4, 2)
    assert x.min() >= 0 and x.max() <= 1


def test_a_failing_example_shrinks_to_what_a_person_can_read():
    """A model that loses the second latent's KL, of two or more: the smallest such problem, as the call that makes it."""

    @settings(max_examples=300, database=None, report_multiple_bugs=False)
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
