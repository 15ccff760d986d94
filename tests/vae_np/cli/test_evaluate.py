"""`vae-np evaluate`: the terms that the library computes, and the bounds."""

import re
import shutil

import numpy as np
import pytest

from tests.vae_np.cli.commands import SMALL, cells, done, refused
from vae_np import data
from vae_np.evaluation import evaluate
from vae_np.parameters import Parameters


@pytest.mark.parametrize("options", [(), ("--objective", "elbo_mc", "--samples", 3, "--seed", 2)], ids=["default", "given"])
def test_evaluate_prints_the_terms_that_the_library_computes(trained, options):
    given = dict(zip(options[::2], options[1::2]))
    table = {row[0]: row[1:] for row in cells(done("evaluate", trained[1], *options))}
    p, dataset = Parameters.load(trained[1] / "checkpoint.npz"), data.load("digits")
    for part, x in (("train", dataset.train), ("valid", dataset.shown[0])):
        value = evaluate(p, x, given.get("--objective", "elbo"), given.get("--samples", 1), seed=given.get("--seed", 0))
        error = np.std(value.per_example, dtype=float) / len(x) ** 0.5
        wanted = [f"{number:.3f}" for number in (value.total, error, value.reconstruction, value.kl)]
        assert table[part] == [str(len(x)), *wanted]


def test_a_run_can_be_evaluated_on_another_file_and_where_its_own_is_gone(rows):
    done("train", "--data", rows, "--latent", 3, *SMALL, "--out", "run")
    shutil.move(rows, "moved.csv")
    for what in "evaluate", "encode", "reconstruct":
        assert rows in (said := refused(what, "run")) and "if it has moved, say where it is with --data" in said
    assert ["train", "32"] in [row[:2] for row in cells(done("evaluate", "run", "--data", "moved.csv"))]


def test_evaluate_prints_the_bounds_and_log_p(run):
    answer = done("evaluate", run, "--importance-samples", 100)
    rows = dict(re.findall(r"│ (ELBO, 1 sample|bound of \d+ samples|log p\(x\), 100 samples) +│ +(-[\d.]+)", answer))
    values = [
        float(rows[name]) for name in ("ELBO, 1 sample", "bound of 5 samples", "bound of 50 samples", "log p(x), 100 samples")
    ]
    assert values == sorted(values)
    assert "effective sample size" in answer and "latents active" in answer
    assert "importance" not in done("evaluate", run)


def test_evaluate_that_is_stopped_prints_what_it_has(run, monkeypatch):
    from vae_np import bounds

    whole, calls = bounds._Sums.result, []

    def result(self):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return whole(self)

    monkeypatch.setattr(bounds._Sums, "result", result)
    monkeypatch.setattr(bounds, "CHUNK", 50)
    answer = done("evaluate", run, "--importance-samples", 10)
    assert re.search(r"8 of \d+ validation rows", answer)
