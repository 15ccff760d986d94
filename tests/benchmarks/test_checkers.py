"""Every planted fault is one, every right function is right, and our checker finds all of the former and none of the latter."""

import re

import numpy as np
import pytest

from benchmarks import checkers, faults, functions
from benchmarks.checkers import CHECKERS, OURS, PLANTED

pytestmark = pytest.mark.filterwarnings("ignore:(invalid value|overflow) encountered:RuntimeWarning")  # planted, too
KNOWN = {checker.name: checker for checker in CHECKERS}
DETERMINISTIC = [*faults.CALCULUS, *(fault for fault in faults.RANDOMNESS if not fault.cause)]


def named(cases):
    return [pytest.param(case, id=case.name) for case in cases]


@pytest.fixture(scope="module")
def ours():
    return KNOWN[OURS].load()


def test_there_are_enough_of_each_kind_and_each_has_a_name_of_its_own():
    names = [case.name for case in (*faults.CALCULUS, *faults.RANDOMNESS, *faults.MEANING, *faults.RIGHT)]
    assert len(set(names)) == len(names)
    assert len(faults.CALCULUS) + len(faults.RANDOMNESS) + len(faults.MEANING) >= 40
    assert min(len(planted) for planted in PLANTED.values()) >= 10 and len(faults.RIGHT) >= 20


@pytest.mark.parametrize("fault", named(DETERMINISTIC))
def test_a_fault_is_where_it_is_said_to_be_and_nowhere_else(fault):
    (value, given), (right_value, wanted) = (function(fault.point) for function in (fault.make(), fault.function))
    assert value == right_value
    off = {n for n in wanted if np.shape(given[n]) != np.shape(wanted[n]) or not np.allclose(given[n], wanted[n], 1e-12, 0)}
    assert off == {*fault.where}


@pytest.mark.parametrize("fault", named(fault for fault in faults.RANDOMNESS if fault.cause == faults.RANDOM))
def test_a_random_fault_gives_other_numbers_the_second_time(fault):
    function = fault.make()
    (value, given), (again, given_again) = function(fault.point), function(fault.point)
    assert (value != again) == (fault.where == ("fn",))
    if value == again:
        assert {name for name in given if (given[name] != given_again[name]).any()} == {*fault.where}


def test_the_fault_that_moves_its_parameters_moves_those_that_it_is_said_to_move():
    (fault,) = (fault for fault in faults.RANDOMNESS if fault.cause not in ("", faults.RANDOM))
    point = {name: array.copy() for name, array in fault.point.items()}
    fault.make()(point)
    assert {name for name in point if (point[name] != fault.point[name]).any()} == {*fault.where}


@pytest.mark.parametrize("fault", named(faults.MEANING))
def test_a_fault_of_meaning_changes_the_loss_and_its_gradients_with_it(fault):
    function, p = fault.make(), fault.point
    saturated = {name: 10 * array for name, array in p.items()}  # where a clip acts
    assert any(function(at)[0] != functions.vae(at)[0] for at in (p, saturated))
    along = {name: np.ones(array.shape) for name, array in p.items()}
    steps = [function({name: p[name] + h * along[name] for name in p})[0] for h in (1e-6, -1e-6)]
    wanted = sum(gradient.sum() for gradient in function(p)[1]().values())
    assert (steps[0] - steps[1]) / 2e-6 == pytest.approx(wanted, rel=1e-6)


def test_a_changed_function_leaves_the_right_one_as_it_is_and_its_text_must_be_there():
    faults.CALCULUS[0].make()(faults.CALCULUS[0].point)
    assert not functions.STATE and not hasattr(functions.vae, "parts")
    with pytest.raises(ValueError, match="sine must have 'np.tan' once"):
        faults.Fault("", functions.sine, "np.tan", "", ()).make()


# ------------------------------------------------------------------------------------------------------------ our checker


@pytest.mark.parametrize("fault", named((*faults.CALCULUS, *faults.RANDOMNESS, *faults.MEANING)))
def test_ours_finds_every_fault_and_names_its_place_and_its_cause_where_the_numbers_tell_it(fault, ours):
    verdict = ours(fault.make(), fault.point)
    assert verdict.message and verdict.named and verdict.named <= {*fault.where}, verdict.message
    assert re.search(fault.cause, verdict.message, re.IGNORECASE), verdict.message


@pytest.mark.parametrize("right", named(faults.RIGHT))
def test_ours_calls_no_right_function_wrong(right, ours):
    message = ours(right.make(), right.point).message
    assert not message or re.search(right.reason, message), message


# ------------------------------------------------------------------------------------------------------------ all checkers


@pytest.mark.parametrize("name", KNOWN)
def test_each_checker_tells_right_from_wrong(name):
    if not KNOWN[name].is_installed:
        pytest.skip(f"{KNOWN[name].module} is not installed")
    check = KNOWN[name].load()
    wrong = faults.Fault("", functions.affine_layer, "dy.sum(axis=0)", "2 * dy.sum(axis=0)", ("b",))
    assert not check(functions.affine_layer, wrong.point).message
    verdict = check(wrong.make(), wrong.point)
    assert verdict.message and verdict.named in (frozenset(), frozenset("b"))
    alone = faults.Right("", functions.sine, {"x": np.array(0.7)})
    assert not check(alone.make(), alone.point).message
    lost = faults.Fault("", functions.affine_layer, "dy.sum(axis=0)", "dy[0, :-1]", ("b",))
    assert check(lost.make(), lost.point).message


@pytest.fixture
def few(monkeypatch):
    """Two faults, one of which is found by its name, and two right functions: what `compare_checkers` tries."""
    seen, hidden = faults.CALCULUS[0], faults.CALCULUS[1]
    monkeypatch.setattr(checkers, "PLANTED", {"calculus": (seen,), "meaning": (hidden,)})
    monkeypatch.setattr(faults, "RIGHT", faults.RIGHT[:2])
    return seen, hidden


def checker(name, *verdicts):
    """A checker that gives these verdicts, one after another: on both faults, then on both right functions."""
    return checkers.Checker(name, "numpy", lambda: lambda function, point, left=iter(verdicts): checkers.Verdict(*next(left)))


def test_what_is_found_is_counted(few):
    seen = few[0]
    place = frozenset(seen.where)
    lines = []
    result = checkers.compare_checkers(
        1,
        lines.append,
        [
            checker(OURS, ("its sign", place), ("wrong", frozenset("?")), ("",), ("",)),
            checker("other", ("", frozenset()), ("wrong", frozenset()), ("no",), ("$^",)),
            checkers.Checker("absent", "no_such_module", lambda: None),
        ],
    )
    first, other, absent = result["rows"]
    assert result["planted"] == {"calculus": 1, "meaning": 1} and result["right"] == 2
    assert first["status"] == "ok" and first["missed"] == {"calculus": [], "meaning": []}
    assert (first["placed"], first["explained"], first["alarms"]) == (1, 1, [])
    assert other["missed"] == {"calculus": [seen.name], "meaning": []} and (other["placed"], other["explained"]) == (0, 0)
    assert other["alarms"] == [right.name for right in faults.RIGHT] and other["status"] == "ok"
    assert absent == {"name": "absent", "status": "missing", "reason": "the module no_such_module is not installed"}
    assert f"{OURS}: {seen.name}" in lines


@pytest.mark.parametrize(
    "verdicts", [(("",), ("wrong",), ("",), ("",)), (("wrong",), ("wrong",), ("alarm",), ("",))], ids=["missed", "alarm"]
)
def test_ours_is_wrong_if_another_one_is_better(few, verdicts):
    best = (("wrong",), ("wrong",), ("",), ("",))
    rows = checkers.compare_checkers(1, lambda line: None, [checker("other", *best), checker(OURS, *verdicts)])["rows"]
    assert [row["status"] for row in rows] == ["ok", "wrong"]


def test_a_reason_that_is_given_is_no_false_alarm(few, monkeypatch):
    right = faults.RIGHT[0]._replace(reason="a kink")
    monkeypatch.setattr(faults, "RIGHT", (right,))
    row = checkers.compare_checkers(1, lambda line: None, [checker("one", ("",), ("",), ("there is a kink",))])["rows"][0]
    assert row["refused"] == [right.name] and row["alarms"] == []
