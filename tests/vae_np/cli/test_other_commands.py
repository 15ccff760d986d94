"""`vae-np mistakes`, `backends`, `explain-bound` and `burda`."""

import functools
import re

import numpy as np
import pytest

from tests.vae_np.cli.commands import cells, done
from vae_np import data, kernels
from vae_np.testing import mistakes


def test_mistakes_prints_what_catches_each(monkeypatch):
    monkeypatch.setattr("vae_np.testing.mistakes.find", functools.partial(mistakes.find, seeds=(0,), epochs=1))
    out = " ".join(done("mistakes").split())
    assert all(mistake.name in out for mistake in mistakes.MISTAKES)
    assert out.count("disagree") == 2 and "gradient is the" in out


def test_backends_lists_every_set_of_kernels_and_which_is_automatic():
    out = done("backends")
    table = {row[0]: row[1:] for row in cells(out)}
    assert {"numpy", "numba", "cupy"} <= set(table)
    for name, status in kernels.available().items():
        assert table[name][0] == ("yes" if status.ok else "no")
    assert f"auto is {[name for name, status in kernels.available().items() if status.ok][-1]}" in out


def test_backends_says_how_each_multiplies_at_each_precision_that_it_has():
    lines = " ".join(done("backends").split())
    for name, status in kernels.available().items():
        for precision in kernels.precisions(name) if status.ok else ():
            assert f"{name}, precision {precision}: {kernels.load(name, precision).about()}" in lines
    assert "numpy, precision bfloat16: matrix products of the BLAS" in lines and "rounded to 8 significant bits" in lines


def test_backends_says_why_one_cannot_run_and_what_to_do(no_gpu):
    assert ["cupy", "no", "there is no GPU", "run `pip install '.[cuda13]'` in the clone"] in cells(done("backends"))


def test_explain_bound_reaches_what_is_known(monkeypatch, tmp_path):
    from vae_np import closed_form

    monkeypatch.setattr(
        closed_form, "linear_digits", lambda: np.random.default_rng(0).normal(size=(60, 5)) @ np.diag([3, 2, 1, 1, 1])
    )
    answer = done("explain-bound", "--out", tmp_path / "bound.png")
    pairs = re.findall(r"│ +(-?[\d.e+-]+) +│ +(-?[\d.e+-]+) +│", answer)
    assert len(pairs) == 5
    for reached, wanted in pairs:
        assert float(reached) == pytest.approx(float(wanted), abs=1e-3)
    assert (tmp_path / "bound.png").read_bytes().startswith(b"\x89PNG")


def test_burda_trains_the_published_stages_and_goes_on(monkeypatch, tmp_path):
    from vae_np import burda2016
    from vae_np.data import Dataset

    assert (burda2016.ENDS[-1], burda2016.ARCHITECTURE.hidden) == (3280, (200, 200))
    assert burda2016.SCHEDULE[0] == (0, 1.0) and burda2016.SCHEDULE[7][0] == 1093
    assert burda2016.SCHEDULE[7][1] == pytest.approx(0.1)
    pixels = np.random.default_rng(0).integers(0, 256, (70, 784), dtype=np.uint8)
    monkeypatch.setattr(data, "load", lambda *_: Dataset(pixels[:50], pixels[50:], None, None, (28, 28)))
    options = "--importance-samples", 5, "--rows", 8, "--out", tmp_path / "run"
    once = done("burda", "--stages", 2, *options)
    assert re.findall(r"stage (\d), (\d+) epochs: -log p\(x\) [\d.]+ ± [\d.]+ nats", once) == [("0", "1"), ("1", "4")]
    before = (tmp_path / "run" / "checkpoint.npz").read_bytes()
    assert "stage 0" not in done("burda", "--stages", 1, *options)  # what is there is no longer stage 0
    assert re.findall(r"stage (\d)", done("burda", "--stages", 2, *options)) == ["1"]
    assert (tmp_path / "run" / "checkpoint.npz").read_bytes() == before
