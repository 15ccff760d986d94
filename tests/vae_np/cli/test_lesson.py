"""The lesson: its commands run, and its numbers are those of the sheet."""

import pathlib
import re
import shlex

import numpy as np
import pytest

from tests.vae_np.cli.commands import command
from vae_np.data import DATASETS
from vae_np.study import dials, slide, trace
from vae_np.study.typesetting import number
from vae_np.testing import mistakes

PAGE = (pathlib.Path(__file__).parents[3] / "docs" / "lesson.md").read_text()


@pytest.fixture(scope="module")
def sheet():
    return trace(slide.model(), slide.X, slide.EPS)


def test_its_commands_run_in_their_order(monkeypatch):
    monkeypatch.setitem(DATASETS, "digits", DATASETS["digits"]._replace(study_steps=20, hidden=(3,), latent=2))
    monkeypatch.setattr(dials, "dials", lambda *arguments: ())  # test_dials.py computes them
    monkeypatch.setattr(dials, "estimators", lambda *arguments: None)
    made = []

    def find(mistake):
        made.append(mistake.name)
        return mistakes.Finding(0.5 if mistake.check is mistakes.GRADIENT else 0.0, 0.9, "", 19.0, 20.0)

    monkeypatch.setattr(mistakes, "find", find)
    commands = re.findall(r"^    vae-np (.*)$", PAGE, re.MULTILINE)
    assert len(commands) > 8
    for words in commands:
        answer = command(*shlex.split(words))
        assert answer.code == (1 if "--check" in words else 0), answer.err  # nothing of exercises.py is begun
    assert {path.name for path in pathlib.Path().glob("*.*")} >= {"slide.html", "homework.html", "study.html", "exercises.py"}
    assert made[0] == "none" and len(made) == 4
    seen = [mistake.check is mistakes.GRADIENT for name in made[1:] for mistake in mistakes.MISTAKES if mistake.name == name]
    assert seen == [False, False, True]  # finite differences show only the third


def test_its_numbers_are_those_of_the_sheet(sheet):
    last = {row.equation[1][1]: number(row.result.item()) for row in slide.rows(sheet) if row.result.size == 1}
    shown = dict(re.findall(r"^\| (\w+) \| ([−\d.]+) \|", PAGE, re.MULTILINE))
    assert set(shown) == {"mu", "logvar", "z", "kl", "loss", "dz", "dmu", "dlogvar"}
    assert shown == {name: last[name] for name in shown}
    (paths,) = filter(None, map(slide.two_paths, sheet))
    for name, through_kl, through_z, _ in paths:
        assert f"| {name} | {shown[name]} | {number(through_kl)} through the KL, and {number(through_z)} through z |" in PAGE
    p = sheet.p
    assert np.flatnonzero(sheet.a.encoder[1]).tolist() == [2]  # the third unit
    for name, head in {"mu": p["mu.W"], "logvar": p["logvar.W"]}.items():
        weight, bias = head[2, 0], p[f"{name}.b"][0]
        words = f"{sheet.a.encoder[1][0, 2]:.1f} × ({number(weight)}) + {number(bias)}"
        assert words in PAGE


def test_with_beta_2_the_path_through_the_kl_doubles(sheet):
    (paths,) = filter(None, map(slide.two_paths, trace(sheet.p, slide.X, slide.EPS, 2.0)))
    (before,) = filter(None, map(slide.two_paths, sheet))
    assert paths[0][1] == pytest.approx(2 * before[0][1]) and paths[0][2] == pytest.approx(before[0][2])
    assert f"so that it is {number(paths[0][3])}." in PAGE
