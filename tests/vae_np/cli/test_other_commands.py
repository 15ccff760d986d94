"""`vae-np mistakes`, `backends`, `explain-bound`, `estimators` and `burda`."""

import functools
import re

import numpy as np
import pytest

from tests.vae_np.cli.commands import cells, done, refused
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


def test_estimators_prints_the_exact_table_and_draws_two_pictures(tmp_path):
    out = done("estimators", "--samples", 1, 4, "--draws", 30, "--backend", "numpy", "--out", tmp_path / "new")
    table = {tuple(row[:2]): row[2:] for row in cells(out)}
    assert table["elbo_mc, beta 1", "total"] == ["0", "0", "1.193177", "0.895754"]
    assert table["11.317072 nats", "path"] == ["+0.584217", "+0.008621", "0.072036", "0.512778"]
    assert table["", "vimco"][:2] == ["0", "0"] and "d mu.b 1.751939" in out
    for name in ("signal-to-noise.png", "estimators.png"):
        assert (tmp_path / "new" / name).read_bytes().startswith(b"\x89PNG") and name in out


@pytest.mark.parametrize(
    "words, sentence", [(("--draws", 1), "draws is 1; it must"), (("--samples", 0), "a number of samples is 0")]
)
def test_estimators_refuses_too_few_draws_or_samples(words, sentence):
    assert sentence in refused("estimators", *words)


def test_burda_trains_with_importance_weights_and_another_estimator(monkeypatch, tmp_path):
    from vae_np import runs
    from vae_np.data import Dataset
    from vae_np.parameters import Parameters

    pixels = np.random.default_rng(0).integers(0, 256, (40, 784), dtype=np.uint8)
    monkeypatch.setattr(data, "load", lambda *_: Dataset(pixels[:30], pixels[30:], None, None, (28, 28)))
    weighted = "--objective", "iwae", "--samples", 3, "--stages", 1, "--importance-samples", 5, "--rows", 4
    trained = {}
    for estimator in ("total", "dreg"):
        out = done("burda", *weighted, "--estimator", estimator, "--out", tmp_path / estimator)
        assert re.findall(r"stage (\d), (\d+) epochs: -log p\(x\) [\d.]+", out) == [("0", "1")]
        ratios = re.search(r"signal to noise by mu\.b ([\d.]+) \(total\), ([\d.]+) \(dreg\)", " ".join(out.split()))
        assert ratios and all(0.02 < float(ratio) < 20 for ratio in ratios.groups())
        settings = runs.settings_of(tmp_path / estimator)
        assert (settings["objective"], settings["n_samples"], settings["estimator"]) == ("iwae", 3, estimator)
        trained[estimator] = Parameters.load(tmp_path / estimator / "checkpoint.npz")
    assert (trained["total"]["mu.W"] != trained["dreg"]["mu.W"]).any()
    assert "estimator is 'dreg', which objective 'elbo' does not have" in refused("burda", "--estimator", "dreg")


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
