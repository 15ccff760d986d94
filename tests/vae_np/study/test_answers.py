"""What is said of answers to the exercises: right ones are called right, and wrong ones are named by what is wrong with them."""

import linecache
import pathlib
import re

import numpy as np
import pytest

from tests import mutants
from tests.vae_np.study.students import RIGHT_ANSWERS, WRONG_ANSWERS, function_of
from vae_np.kernels import reference
from vae_np.study.answers import NOT_BEGUN, RIGHT, WRONG, check
from vae_np.study.exercises import EXERCISES, KNOWN, cases, roles
from vae_np.study.wrong_lines import FORMULAS, edits, value_of
from vae_np.testing import TOLERANCES, assert_close
from vae_np.testing.mistakes import MISTAKES

OPERATIONS = [exercise for exercise in KNOWN.values() if exercise.is_operation]
EACH = pytest.mark.parametrize("exercise", OPERATIONS, ids=lambda exercise: exercise.name)


@pytest.mark.parametrize("name", KNOWN)
def test_the_original_is_right(name):
    verdict = check(KNOWN[name].original)
    assert verdict.state == RIGHT and not verdict.notes and not verdict.printed


@pytest.mark.parametrize("name, body", [(name, body) for name, bodies in RIGHT_ANSWERS.items() for body in bodies])
def test_a_right_answer_is_right_in_whatever_way_it_is_written(name, body):
    verdict = check(function_of(name, body))
    assert verdict.state == RIGHT, str(verdict)


def test_each_exercise_has_several_right_answers():
    assert set(RIGHT_ANSWERS) == set(EXERCISES)
    assert all(len(bodies) >= 3 for bodies in RIGHT_ANSWERS.values())


@pytest.mark.parametrize("name, body, pattern", WRONG_ANSWERS)
def test_a_wrong_answer_is_named_by_its_cause(name, body, pattern):
    verdict = check(function_of(name, body))
    assert verdict.state == WRONG
    assert re.search(pattern, str(verdict)), str(verdict)


@pytest.mark.parametrize(
    "name, body, said",
    [
        ("sampled_kl_path_backward", "return dz + dkl[:, :, None] * (z - eps / np.exp(logvar / 2)), 0 * mu, 0 * mu", "✓ right"),
        ("sampled_kl_path_backward", "return dz + dkl[:, :, None] * z, 0 * mu, 0 * mu", "dz: The slope of log q"),
        ("sampled_kl_path_backward", "dz += dkl[:, :, None] * (z - eps * np.exp(-logvar / 2))", "dmu: It was never filled"),
        (
            "sampled_kl_path_backward",
            "return dz + dkl[:, :, None] * (z - eps * np.exp(-logvar)), 0 * mu, 0 * mu - dkl.sum(axis=0)[:, None] / 2",
            "dz: A variance stands.*\n.*dlogvar: logvar inside log q is held fixed",
        ),
        ("dreg_path_weight", "return dz * (1 + beta * (n_examples * dnll - 1))[:, :, None]", "✓ right"),
        ("dreg_path_weight", "return dz * (n_examples * dnll)[:, :, None]", "dz: beta is missing"),
        ("dreg_path_weight", "dz *= (1 - beta + beta * dnll)[:, :, None]", "dz: .*n_examples is missing"),
    ],
)
def test_exercises_on_other_estimators(name, body, said):
    assert re.search(said, str(check(function_of(name, body))))


def is_named(verdict):
    return not any(sentence.startswith(("No single", "It is wrong")) for _, sentence in verdict.findings)


def test_small_changes_of_the_reference_are_named():
    """Nine of ten and more, of all that are wrong; a change of the form alone is right."""
    named, changes = [], [m for m in mutants.candidates_of("kernels/reference.py") if m.function in EXERCISES]
    for mutant in changes[::3]:
        if mutant.is_python:
            file, scope = f"<{mutant.line}: {mutant.mutated}>", {"__name__": "mutant"}
            linecache.cache[file] = len(mutant.source), None, mutant.source.splitlines(keepends=True), file
            exec(compile(mutant.source, file, "exec"), scope)
            with np.errstate(all="ignore"):
                verdict = check(scope[mutant.function])
            named += [is_named(verdict)] * (verdict.state == WRONG)
    assert len(named) > 50 and np.mean(named) >= 0.9


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake.name)
def test_mistakes_of_published_models_are_named(mistake):
    for name, function in mistake.operations.items():
        if name in EXERCISES:
            verdict = check(function, name)
            assert verdict.state == WRONG and (is_named(verdict) or verdict.where), str(verdict)


def test_what_a_function_does_when_it_is_run_again_cannot_stop_the_check():
    body = "assert dy[0, 0] > 0\nreturn np.abs(dy) @ W.T + 1"
    first = next(cases(EXERCISES["affine_backward"])).arguments["dy"][0, 0]
    verdict = check(function_of("affine_backward", body if first > 0 else body.replace(">", "<")))
    assert verdict.state == WRONG and verdict.findings[0].output == "dx"


def test_where_the_wrong_elements_lie_is_told():
    verdict = check(function_of("tanh_backward", "return np.where(dh > 1, 1, dh) * (1 - h**2)"))
    assert re.search("All is right except where dh is above (0.9|1)", str(verdict))


def test_an_output_that_does_not_use_an_argument_is_told():
    verdict = check(function_of("bernoulli_nll_backward", "return dnll[:, :, None] * (sigmoid(logits) ** 3 - 0.1)"))
    assert "It does not depend on x, and it should." in str(verdict)
    verdict = check(
        function_of("gaussian_kl_backward", "dmu[...] = dkl.T * mu\ndlogvar[...] = dkl.T * np.cos(logvar + eps[0])")
    )
    assert "It depends on eps, and it should not." in str(verdict)


PAGE = pathlib.Path(__file__).parents[3] / "docs" / "exercises.md"


@pytest.mark.parametrize("written, said", re.findall(r"^\| `(.*?)` \| (.*) \|$", PAGE.read_text(), re.MULTILINE))
def test_the_page_shows_what_is_said(written, said):
    name, body = next((name, body) for name, body, _ in WRONG_ANSWERS if written in body)
    assert re.sub(r"Line \d+", "Line 2", said) in str(check(function_of(name, body)))


# ---------------------------------------------------------------------------------------------------------- the truth


def complex_step(exercise, arguments, name):
    """The derivative of sum(dresult * result) by an argument, for a forward pass that is written here and nowhere else."""
    h = 1e-30

    def softplus(y):
        return np.log(1 + np.exp(y))

    def total(**changed):
        a = {**arguments, **changed}

        def rows(x):
            return x @ a["W"]

        match exercise.name:
            case "elbo_backward":
                return np.sum(a["nll"].mean(0) + a["beta"] * a["kl"].mean(0)) / a["n_examples"]
            case "iwae_backward":
                w = np.exp(-a["nll"] - a["beta"] * a["kl"])
                return -np.sum(np.log(w.mean(0))) / a["n_examples"]
            case "bernoulli_nll_backward":
                p = 1 / (1 + np.exp(-a["logits"]))
                return -np.sum(a["dnll"][..., None] * (a["x"] * np.log(p) + (1 - a["x"]) * np.log(1 - p)))
            case "gaussian_nll_backward":
                s2 = np.exp(a["output_logvar"])
                return np.sum(a["dnll"][..., None] * (np.log(2 * np.pi * s2) + (a["x"] - a["mean"]) ** 2 / s2)) / 2
            case "affine_backward" | "affine_backward_add":
                return np.sum(a["dy"] * rows(a["x"]))
            case "affine_gradients":
                return np.sum(a["dy"] * (rows(a["x"]) + a["b"])) + a["l2"] / 2 * np.sum(a["W"] ** 2)
            case "relu_backward":
                return np.sum(a["dh"] * np.where(a["y"].real > 0, a["y"], 0))
            case "tanh_backward":
                return np.sum(a["dh"] * (np.exp(2 * a["y"]) - 1) / (np.exp(2 * a["y"]) + 1))
            case "softplus_backward":
                return np.sum(a["dh"] * softplus(a["y"]))
            case "gaussian_kl_backward":
                var = np.exp(a["logvar"])
                return np.sum(a["dkl"][0][:, None] * (var + a["mu"] ** 2 - 1 - np.log(var))) / 2
            case "sampled_kl_backward":
                log_q = -(a["logvar"] + a["eps"] ** 2) / 2
                return np.sum(a["dkl"][..., None] * (log_q + a["z"] ** 2 / 2))
            case "reparameterize_backward_add":
                return np.sum(a["dz"] * (a["mu"] + np.sqrt(np.exp(a["logvar"])) * a["eps"]))

    at = arguments[name].astype(complex)
    derivative = np.empty(at.shape)
    for i in np.ndindex(at.shape):
        moved = at.copy()
        moved[i] += 1j * h
        derivative[i] = np.imag(total(**{name: moved})) / h
    return derivative


@EACH
def test_what_is_wanted_is_the_complex_step_of_a_definition_that_was_written_again(exercise):
    if exercise.name not in EXERCISES or not exercise.forward:
        pytest.skip("it is no derivative of a forward line; it has tests of its own")
    for case in cases(exercise):
        if case.edge or case.exact or case.words == "in single precision":
            continue
        wanted = {name: np.array(value) if np.ndim(value) else value for name, value in case.arguments.items()}
        exercise.original(**wanted)
        of, more = roles(exercise), {}
        if stem := {"relu_backward", "tanh_backward", "softplus_backward"} & {exercise.name}:
            inverse = {"relu": lambda h: np.where(h > 0, h, -1), "tanh": np.arctanh, "softplus": lambda h: np.log(np.expm1(h))}
            more["y"] = inverse[stem.pop().removesuffix("_backward")](case.arguments["h"])
        for name in of.outputs:
            variable = "y" if name == "dh" else name[1:]
            shape = wanted[name].shape
            more.setdefault(variable, case.arguments.get(variable, np.zeros(shape)))
            more.setdefault("b", np.zeros(wanted["db"].shape) if "db" in wanted else 0)
            change = complex_step(exercise, {**case.arguments, **more}, variable)
            before = case.arguments[name] if name in of.adds else 0
            assert_close(wanted[name], before + change, name, rtol=1e-9)


@EACH
def test_the_right_line_of_each_formula_is_what_the_reference_computes(exercise):
    assert set(FORMULAS[exercise.name]) >= set(roles(exercise).outputs)
    for case in cases(exercise):
        if case.edge or case.exact:
            continue
        wanted = {name: np.array(value) if np.ndim(value) else value for name, value in case.arguments.items()}
        exercise.original(**wanted)
        for name, formula in FORMULAS[exercise.name].items():
            for expression in formula.forms:
                value = value_of(expression, {**case.arguments, **case.sizes}, wanted[name].shape)
                tolerance = 1e3 * TOLERANCES["operation"][wanted[name].dtype.name]
                assert_close(value, wanted[name].astype(float), f"{name}: {expression}", rtol=tolerance)


@EACH
def test_every_wrong_part_of_a_formula_is_wrong_in_some_case_and_can_be_evaluated(exercise):
    for name, formula in FORMULAS[exercise.name].items():
        off, valued = set(), set()
        for case in cases(exercise):
            wanted = {key: np.array(value) if np.ndim(value) else value for key, value in case.arguments.items()}
            with np.errstate(all="ignore"):
                exercise.original(**wanted)
                for _, expression in formula.variants(1) if not case.edge else ():
                    value = value_of(expression, {**case.arguments, **case.sizes}, wanted[name].shape)
                    valued |= {expression} if value is not None else set()
                    off |= {expression} if value is not None and not np.allclose(value, wanted[name]) else set()
        assert {expression for _, expression in formula.variants(1)} == valued == off


def test_no_sentence_holds_the_right_line():
    for exercise in OPERATIONS:
        for formula in FORMULAS[exercise.name].values():
            for sentence in filter(None, (said for slot in formula.slots.values() for said in slot.values())):
                assert "np." not in sentence and "@" not in sentence and sentence.endswith((".", "?"))


def test_edits_differ_from_the_expression_in_one_place():
    found = {expression: said for said, expression in edits("a * b / 2 + np.exp(c)")}
    assert found["a * b * 2 + np.exp(c)"] == "It multiplies by a factor where it should divide."
    assert found["a / b / 2 + np.exp(c)"].startswith("It divides by the factor b")
    assert found["a * b / 2 - np.exp(c)"] == "The sign of a term is wrong."
    assert found["a * b / 2 + c"].startswith("exp is missing")
    assert found["a * b / 3 + np.exp(c)"] == "The number 3 stands where another one is meant."
    assert "a * b / 2 + np.exp(c)" not in found


# ------------------------------------------------------------------------------------------------------------ the forms


def test_what_is_not_begun_is_not_called_wrong():
    assert check(function_of("affine_backward", "raise NotImplementedError")).state == NOT_BEGUN


@pytest.mark.parametrize(
    "body, said",
    [
        ("import sys\nsys.exit()", "The function ends the whole program"),
        ("return affine_backward(dy, W, dx)", "calls itself without end"),
        ("return undefined", "Line 2, `return undefined`: NameError"),
        ("return 'dx'", "dx: A str was returned for it"),
        ("return dx + 1, dy, W", "It returns 3 of the arrays"),
    ],
)
def test_errors_are_told_with_their_line(body, said):
    assert said in str(check(function_of("affine_backward", body)))


def test_what_a_function_prints_is_kept():
    verdict = check(function_of("affine_backward", "print('dy is', dy.shape)\nreturn dy @ W.T"))
    assert verdict.state == RIGHT and verdict.printed.startswith("dy is (7, 13)\n")


@pytest.mark.parametrize(
    "name, body, note",
    [
        (
            "bernoulli_nll_backward",
            "return dnll[:, :, None] * (np.exp(logits) / (1 + np.exp(logits)) - x)",
            "less stable .* NaN",
        ),
        ("bernoulli_nll_backward", "return dnll[:, :, None] * (1 / (1 + np.exp(-logits)) - x)", "less stable .* overflow"),
        ("affine_backward", "return np.array([[sum(d * w) for w in W] for d in dy])", "slower"),
    ],
)
def test_a_right_answer_is_told_what_could_be_better(name, body, note):
    verdict = check(function_of(name, body))
    assert verdict.state == RIGHT and re.search(note, " ".join(verdict.notes))


def test_an_unknown_exercise_is_refused():
    with pytest.raises(ValueError, match="there is no exercise 'gather'; known are elbo_backward"):
        check(reference.gather)


# ------------------------------------------------------------------------------------------------- the whole backward


BACKWARD = RIGHT_ANSWERS["backward"][0]
GRADIENTS = RIGHT_ANSWERS["weight_gradients"][0]


@pytest.mark.parametrize(
    "name, body, said",
    [
        (
            "backward",
            BACKWARD.replace("affine_backward_add(d.logvar, p.logvar.W, d.encoder[n_hidden])", "pass"),
            r"dencoder\[1\]: .*the path through `logvar = affine\(.* is missing",
        ),
        (
            "backward",
            BACKWARD.replace("reparameterize_backward_add(d.z", "(lambda *_: None)(d.z"),
            r"(dmu|dlogvar): .*path through `z = reparameterize",
        ),
        (
            "backward",
            BACKWARD.replace("p.mu.W", "p.logvar.W"),
            r"dencoder\[1\]: line 11, `affine_backward\(d.mu, p.logvar.W.*it takes logvar.W as W",
        ),
        ("backward", BACKWARD.replace("a.decoder[i + 1])", "a.decoder[i + 1] ** 2)"), r"line 7, `dy = activation_backward"),
        ("backward", BACKWARD.partition("        divergence")[0], "dz|dmu|never filled"),
        ("backward", BACKWARD.replace("range(n_hidden)", "range(1)"), "with two hidden layers"),
        ("backward", BACKWARD.replace("p.output.W, d", "p.outputs.W, d"), "Line .*AttributeError"),
        ("weight_gradients", GRADIENTS.replace("d.logvar, p", "d.mu, p"), r"dlogvar.W: line 6, `affine_gradients\("),
        ("weight_gradients", GRADIENTS.replace("p.mu.W, l2", "p.mu.W, 2 * l2"), r"dmu.W: line 5, `affine_gradients\("),
        (
            "weight_gradients",
            GRADIENTS.partition("        affine_gradients(a.decoder[-1]")[0],
            r"doutput.W: It was never filled",
        ),
        ("weight_gradients", GRADIENTS.replace("d.encoder[i + 1]", "d.encoder[i]"), "shapes do not fit"),
    ],
)
def test_a_whole_pass_is_blamed_line_by_line(name, body, said):
    verdict = check(function_of(name, body))
    assert verdict.state == WRONG
    assert re.search(said, str(verdict)), str(verdict)
