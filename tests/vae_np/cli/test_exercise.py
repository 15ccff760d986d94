"""The command exercise: the file that it writes, its checks in a process of their own, the session in a terminal, the training."""

import ast
import json
import os
import pathlib
import pty
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from rich.console import Console

from tests.vae_np.cli.commands import command, done, refused
from tests.vae_np.study.students import RIGHT_ANSWERS, function_of, indented
from vae_np import kernels
from vae_np.study import rehearsal, session, workbook
from vae_np.study.answers import NOT_BEGUN, RIGHT, WRONG
from vae_np.study.exercises import BONUS, EXERCISES, exercise_of, hints, roles, statement
from vae_np.study.runner import FILE, Checker

FILE_NAME = "exercises.py"
ALL = {name: bodies[0] for name, bodies in RIGHT_ANSWERS.items()}


def fill(answers, path=FILE_NAME):
    """Write the file with these lines in its functions."""
    text = workbook.text()
    for name, body in answers.items():
        before, _, after = text.partition(f"def {name}(")
        text = f"{before}def {name}({after.replace(f'    {workbook.BODY}', indented(body), 1)}"
    pathlib.Path(path).write_text(text)


# ------------------------------------------------------------------------------------------------------------- the file


def test_the_file_holds_a_function_for_each_exercise_and_no_answer():
    text = workbook.text()
    scope = {}
    exec(compile(text, FILE_NAME, "exec"), scope)
    assert list(workbook.answers(text)) == list(EXERCISES) and len(EXERCISES) == 16
    for name, exercise in EXERCISES.items():
        with pytest.raises(NotImplementedError):
            scope[name](*exercise.parameters)
        for node in ast.walk(ast.parse(workbook.reference_lines(exercise).replace("return", "result ="))):
            if isinstance(node, (ast.Assign, ast.AugAssign)) and isinstance(node.value, (ast.Call, ast.BinOp)):
                assert ast.unparse(node.value) not in text
    assert max(map(len, text.splitlines())) <= 132


def test_a_statement_names_every_argument_and_what_is_to_be_done_with_it():
    for exercise in EXERCISES.values():
        told = statement(exercise)
        assert exercise.title in told and exercise.question.split()[0] in told
        if exercise.is_operation:
            of = roles(exercise)
            assert {*of.fills, *of.changes, *of.reads, *of.ignores} >= set(exercise.parameters) - set(of.returns)
            assert all(name in told for name in exercise.parameters)
            assert kernels.load("numpy").__dict__[exercise.forward or exercise.name].__doc__.split("\n")[0] in told
    told = statement(EXERCISES["gaussian_kl_backward"])
    assert "given          dkl (1, B), mu (B, Z), logvar (B, Z)" in told
    assert "to be filled   dmu (B, Z), dlogvar (B, Z)" in told and "filled already dz (L, B, Z)" in told
    assert "not needed     eps, z" in told


def test_the_text_of_the_whole_pass_shows_the_forward_pass_and_names_the_operations():
    told = statement(EXERCISES["backward"])
    assert "z = reparameterize(mu, logvar, a.eps, a.z)" in told
    assert "reparameterize_backward_add(dz, mu, logvar, eps, dmu, dlogvar)" in told
    assert "affine_gradients(x, dy, W, l2, dW, db)" in statement(EXERCISES["weight_gradients"])


def test_a_file_is_never_overwritten():
    done("exercise", "--list")
    before = pathlib.Path(FILE_NAME).read_text() + "\n# mine\n"
    pathlib.Path(FILE_NAME).write_text(before)
    done("exercise", "--list")
    assert pathlib.Path(FILE_NAME).read_text() == before
    with pytest.raises(FileExistsError):
        workbook.write(FILE_NAME)


def test_reset_restores_one_function_and_keeps_a_copy():
    fill(ALL)
    mine = pathlib.Path(FILE_NAME).read_text()
    assert "exercises.py.before-reset" in done("exercise", "--reset", "adam")
    answers = workbook.answers(pathlib.Path(FILE_NAME).read_text())
    assert workbook.BODY in answers["adam"].source and workbook.BODY not in answers["backward"].source
    assert pathlib.Path("exercises.py.before-reset").read_text() == mine
    fill({})
    workbook.reset(FILE_NAME, "backward")
    assert pathlib.Path(FILE_NAME).read_text() == workbook.text()


def test_reset_appends_a_function_that_is_gone():
    pathlib.Path(FILE_NAME).write_text("import numpy as np\n")
    workbook.reset(FILE_NAME, "adam")
    assert list(workbook.answers(pathlib.Path(FILE_NAME).read_text())) == ["adam"]


def test_every_operation_of_the_backward_pass_has_an_exercise_or_none():
    for name, wanted in {
        "bernoulli_nll": "bernoulli_nll_backward",
        "affine_backward": "affine_backward",
        "affine": "affine_backward",
        "affine_tanh": "tanh_backward",
        "elbo": "elbo_backward",
        "reparameterize": "reparameterize_backward_add",
        "adam": "adam",
        "constant_gradients": None,
        "": None,
    }.items():
        assert exercise_of(name) == wanted, name


# ------------------------------------------------------------------------------------------------------------- one check


def test_check_exits_with_0_when_everything_is_right():
    fill(ALL)
    out = done("exercise", "--check")
    assert out.count("✓ right") == 16 and "16 of 16 exercises are right" in out


def test_check_says_what_is_wrong_and_exits_with_1():
    fill({"affine_backward": "dx[...] = dy @ W", "elbo_backward": ALL["elbo_backward"]})
    answer = command("exercise", "--check")
    assert answer.code == 1 and "1 of 16" in answer.out
    assert "✓ right: elbo_backward" in answer.out and "· not begun: adam" in answer.out
    assert "dy is (B, H), W is (D, H)" in answer.out
    assert command("exercise", "--check", "elbo_backward").code == 0
    answer = command("exercise", "--check", "affine_backward")
    assert answer.code == 1 and "elbo" not in answer.out


def test_json_for_a_class():
    fill({"affine_backward": "dx[...] = dy @ W.T / len(dy)"})
    answer = command("exercise", "--check", "--json")
    told = json.loads(answer.out)
    assert answer.code == 1 and told["right"] is False and len(told["exercises"]) == 16
    by_name = {record["name"]: record for record in told["exercises"]}
    assert by_name["affine_backward"]["state"] == WRONG and by_name["adam"]["state"] == NOT_BEGUN
    assert by_name["affine_backward"]["findings"][0][0] == "dx"
    assert by_name["affine_backward"]["findings"][0][1].startswith("It is divided by B")


def test_hints_come_one_at_a_time():
    all_hints = hints(EXERCISES["softplus_backward"])
    for i, hint in enumerate(all_hints, 1):
        assert hint.splitlines()[0] in " ".join(done("exercise", "--hint", "softplus_backward").split()), i
    assert "Hint 1 of" in done("exercise", "--hint", "softplus_backward")
    assert "2" in done("exercise", "--list")
    assert all(hints(exercise) for exercise in EXERCISES.values())


def test_unknown_exercises_are_refused():
    for option in ("--check", "--hint", "--reset"):
        assert "there is no exercise 'nonsense'; known are elbo_backward" in refused("exercise", option, "nonsense")


def test_exercises_on_other_estimators_are_added():
    fill(ALL)
    done("exercise", "--bonus", "--list")
    found = list(workbook.answers(pathlib.Path(FILE_NAME).read_text()))
    assert found == [*EXERCISES, *BONUS]
    text = pathlib.Path(FILE_NAME).read_text()
    done("exercise", "--bonus", "--list")
    assert pathlib.Path(FILE_NAME).read_text() == text


# ------------------------------------------------------------------------------------------------------ whatever happens

ENDLESS = "while True:\n    pass"


@pytest.fixture
def checker():
    with Checker(limit=20) as checker:
        yield checker


def test_a_function_may_end_print_exit_or_raise(checker):
    fill(
        {
            "elbo_backward": "import sys\nprint('so far')\nsys.exit(0)",
            "bernoulli_nll_backward": "import os\nos._exit(1)",
            "affine_backward": "print('dy', dy.shape)\ndx[...] = dy @ W.T",
            "tanh_backward": "input('?')",
            "relu_backward": "import sys\nsys.stderr.write('so far')\n1 / 0",
        }
    )
    found = {verdict.name: verdict for verdict in checker.check(FILE_NAME, list(EXERCISES))}
    assert list(found) == list(EXERCISES)
    assert "ends the whole program" in str(found["elbo_backward"]) and found["elbo_backward"].printed == "so far\n"
    assert "ended the whole process" in str(found["bernoulli_nll_backward"])
    assert found["affine_backward"].state == RIGHT and found["affine_backward"].printed.startswith("dy (7, 13)")
    assert "EOFError" in str(found["tanh_backward"])
    assert "ZeroDivisionError" in str(found["relu_backward"]) and found["relu_backward"].printed == "so far"
    assert found["adam"].state == NOT_BEGUN


def test_an_endless_loop_is_stopped_and_the_others_are_checked():
    names = "affine_backward", "elbo_backward", "tanh_backward"
    fill({name: ENDLESS if name == "elbo_backward" else ALL[name] for name in names})
    with Checker(limit=60) as checker:
        verdicts = checker.check(FILE_NAME, names)
        before, checker.limit = next(verdicts), 1
        stopped, checker.limit = next(verdicts), 60
        (after,) = verdicts
    assert [verdict.name for verdict in (before, stopped, after)] == list(names)
    assert before.state == after.state == RIGHT and "had not ended after" in str(stopped)


@pytest.mark.parametrize(
    "more, said",
    [
        ("def f(:\n    pass", "line 1\n    def f(:"),
        ("undefined", "Line 1, `undefined`: NameError"),
        ("import sys\nsys.exit()", "SystemExit"),
    ],
)
def test_a_file_that_cannot_be_run_is_told_with_the_line(more, said, checker):
    pathlib.Path(FILE_NAME).write_text(more)
    (verdict,) = checker.check(FILE_NAME, list(EXERCISES))
    assert verdict.name == FILE and verdict.state == WRONG
    assert said in verdict.findings[0].sentence
    answer = command("exercise", "--check")
    assert answer.code == 1 and said in answer.out


# ----------------------------------------------------------------------------------------------------------- the session


@pytest.fixture
def of(checker):
    """A Session whose console writes into a list of lines."""
    console = Console(file=open("told.txt", "w+"), width=100, highlight=False, markup=False)
    return session.Session(FILE_NAME, console, checker)


def step(of):
    """What a session tells of a file that has just been saved."""
    before = dict(of.verdicts)
    changed = of.update()
    of.console.file.seek(0)
    of.console.file.truncate()
    if changed is not None:
        of.show(changed, before)
    of.console.file.seek(0)
    return of.console.file.read()


def test_a_session_shows_the_first_exercise_that_is_not_right(of):
    fill({})
    told = step(of)
    assert "0 of 16" in told and "1. Where the mean is taken" in told and "not begun" in told
    assert of.update() is None, "nothing is checked while the file stays as it is"
    fill({"elbo_backward": "return 1 / n_examples, beta / (len(kl) * n_examples)"})
    told = step(of)
    assert "✗ dnll: The mean over the L samples is missing." in told
    fill({"elbo_backward": ALL["elbo_backward"]})
    told = step(of)
    assert "✓ elbo_backward is right." in told and "the lines of vae_np" in told
    assert "dnll[...] = 1 / (len(nll) * n_examples)" in told and "2. Pixels that are 0 or 1" in told


def test_an_exercise_that_turns_wrong_again_is_listed_and_others_keep_their_marks(of):
    fill({"elbo_backward": ALL["elbo_backward"], "affine_backward": ALL["affine_backward"]})
    step(of)
    fill({"elbo_backward": ALL["elbo_backward"], "affine_backward": "dx[...] = dy @ W"})
    told = step(of)
    assert "✗ affine_backward was right, and is not any more." in told and "1 of 16" in told
    (changed,) = [name for name in EXERCISES if of.verdicts[name].state == WRONG]
    assert changed == "affine_backward"


def test_only_what_has_changed_is_checked_and_marks_are_kept(of, checker, monkeypatch):
    fill(ALL)
    assert len(of.update()) == 16
    fill({**ALL, "adam": "return p"})
    assert of.update() == ["adam"]
    again = session.Session(FILE_NAME, of.console, checker)
    monkeypatch.setattr(checker, "_start", None)  # no process is started
    assert again.update() == [] and sum(map(again.is_right, EXERCISES)) == 15 and again.current == "adam"
    pathlib.Path("exercises.marks.json").write_text("{broken")
    assert session.Marks(FILE_NAME).of == {}


def test_marks_are_forgotten_where_a_helper_has_changed(of):
    fill({"elbo_backward": ALL["elbo_backward"]})
    of.update()
    text = pathlib.Path(FILE_NAME).read_text()
    pathlib.Path(FILE_NAME).write_text(text + "\nHELP = 1\n")
    assert len(of.update()) == 16


def test_a_syntax_error_keeps_the_marks(of):
    fill({"elbo_backward": ALL["elbo_backward"]})
    step(of)
    good = pathlib.Path(FILE_NAME).read_text()
    pathlib.Path(FILE_NAME).write_text(good.replace("import numpy as np", "import numpy as"))
    told = step(of)
    assert "The file cannot be run." in told and "^" in told and of.is_right("elbo_backward")
    pathlib.Path(FILE_NAME).write_text(good)
    assert "1 of 16" in step(of)


def test_keys(of):
    fill({"elbo_backward": "return 1, 1"})
    step(of)
    assert of.press("h") and "Hint 1 of 6" in read(of)
    assert of.press("h") and "Hint 2 of 6" in read(of)
    assert of.press("l") and "16. adam" in read(of)
    assert of.press("n") and "2. Pixels" in read(of) and of.current == "bernoulli_nll_backward"
    assert of.press("p") and of.current == "elbo_backward"
    assert of.press("p") and of.current == "adam"
    assert of.press("n") and of.current == "elbo_backward"
    assert of.press("r") and "as it was at first" in read(of)
    assert workbook.answers(pathlib.Path(FILE_NAME).read_text())["elbo_backward"].source.endswith(workbook.BODY)
    assert of.press("?") and session.KEYS in read(of).replace("\n", " ")
    assert not of.press("q") and not of.press("\x04")
    with pytest.raises(KeyboardInterrupt):
        of.press("\x03")


def test_why_opens_the_study_page(of, monkeypatch):
    fill({})
    step(of)
    pathlib.Path("study.html").write_text("a page")
    monkeypatch.delenv("DISPLAY", raising=False)
    assert of.press("w")
    address = pathlib.Path("study.html").resolve().as_uri() + "#why-elbo"
    assert address in read(of).replace("\n", "")


def read(of):
    of.console.file.seek(0)
    told = of.console.file.read()
    of.console.file.seek(0)
    of.console.file.truncate()
    return told


def test_a_session_in_a_terminal_from_the_first_line_to_the_last_key(importable):
    """The command in a pseudo-terminal: the file is written, saved with an answer, and a key ends the session."""
    leader, follower = pty.openpty()
    words = [sys.executable, "-m", "vae_np", "exercise"]
    process = subprocess.Popen(words, stdin=follower, stdout=follower, stderr=follower, env={**os.environ, "TERM": "xterm"})
    os.close(follower)
    told = b""

    def reading():
        nonlocal told
        try:
            while more := os.read(leader, 4096):
                told += more
        except OSError:  # the terminal is closed
            pass

    thread = threading.Thread(target=reading)
    thread.start()

    def wait_for(words):
        for _ in range(600):
            if words.encode() in told:
                return
            time.sleep(0.1)
        raise AssertionError(f"{words!r} is not in {told.decode()}")

    try:
        wait_for("0 of 16")
        fill({"elbo_backward": ALL["elbo_backward"]})
        wait_for("elbo_backward is right")
        os.write(leader, b"q")
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.wait()
        thread.join()
        os.close(leader)


# ---------------------------------------------------------------------------------------------------------- the training


def test_the_students_lines_train_as_ours_do(monkeypatch):
    monkeypatch.setattr(rehearsal, "BATCH_SIZE", 400)
    scope = {name: function_of(name, body) for name, body in ALL.items()}
    lines = rehearsal.yours(scope, list(ALL))
    used = set()
    for name in ALL:
        original = scope[name]
        if EXERCISES[name].is_operation:
            operation = getattr(lines.kernels, name)

            def counted(*arguments, operation=operation, name=name):
                used.add(name)
                return operation(*arguments)

            setattr(lines.kernels, name, counted)
        else:
            assert original in lines.text
    for setting in rehearsal.SETTINGS:
        own, ours = [*rehearsal.losses(setting, lines, 2)], [*rehearsal.losses(setting, rehearsal.OURS, 2)]
        assert own == pytest.approx(ours, rel=1e-9) and own[1] < own[0]
    assert used == {name for name in ALL if EXERCISES[name].is_operation}


def test_train_shows_both_curves_and_what_check_kernels_finds(monkeypatch):
    monkeypatch.setattr(rehearsal, "EPOCHS", 2)
    monkeypatch.setattr(rehearsal, "SETTINGS", rehearsal.SETTINGS[:1])
    monkeypatch.setattr(rehearsal.losses, "__defaults__", (2, 0))
    checked = []
    monkeypatch.setattr(rehearsal, "check_kernels", checked.append)
    fill({**ALL, "tanh_backward": "return dh * (1 - h)"})
    answer = command("exercise", "--train")
    assert answer.code == 1 and "15 of your 16 functions train" in answer.out
    assert "your lines" in answer.out and "check_kernels finds nothing wrong" in answer.out
    assert pathlib.Path("training.png").read_bytes()[:4] == b"\x89PNG"
    assert checked[0].adam is not kernels.load("numpy").adam

    def fails(kernel_set):
        raise AssertionError("adam: p is wrong")

    monkeypatch.setattr(rehearsal, "check_kernels", fails)
    fill(ALL)
    answer = command("exercise", "--train")
    assert answer.code == 1 and "adam: p is wrong" in answer.out


def test_an_operation_of_a_student_fills_arrays_of_any_layout():
    function = function_of("affine_backward", "return dy @ W.T")
    operation = rehearsal.operation(function, EXERCISES["affine_backward"])
    rng = np.random.default_rng(0)
    dy, W = rng.normal(size=(4, 3, 5))[:, :2], rng.normal(size=(6, 5))
    dx = np.zeros((4, 3, 6))[:, :2]
    assert operation(dy, W, dx) is dx
    np.testing.assert_allclose(dx, dy @ W.T)
