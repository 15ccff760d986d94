"""The benchmark of ranks runs, and counts what a rank receives."""

import shutil
import subprocess

import pytest

from benchmarks import ranks
from benchmarks.__main__ import main
from tests.vae_np.test_ranks import needs_mpi
from vae_np import kernels

needs_numba = pytest.mark.skipif(not kernels.available()["numba"].ok, reason="numba cannot run here")


@needs_mpi
@needs_numba
def test_ranks_are_timed_beside_threads():
    two, threads = ranks.measure(["digits"], [2], 2)
    assert [row[1:3] for row in (two, threads)] == [(2, 1), (1, 2)]
    assert threads.received == 0 and min(two.seconds, threads.seconds) > 0
    # Of 32 rows: the hidden units, mu, logvar, z and the output, values and derivatives, and the terms of the loss.
    values, derivatives = 64 + 8 + 64 + 1 + 1 + 1, 64 + 8 + 8 + 64 + 64 + 1
    assert two.received == 4 * 32 * (values + derivatives)


def test_the_table_compares_with_one_rank(monkeypatch, capsys):
    rows = [ranks.Row("wide", 1, 1, 0.2, 0), ranks.Row("wide", 2, 1, 0.1, 3_000_000)]
    monkeypatch.setattr(ranks, "measure", lambda names, counts, rounds: rows)
    with pytest.raises(SystemExit) as end:
        main(["ranks", "--workload", "wide"])
    said = capsys.readouterr().out.splitlines()
    assert not end.value.code and any(line.split() == ["wide", "2", "1", "100.000", "0.50", "3.00"] for line in said)


def test_no_mpiexec_is_one_sentence(monkeypatch, capsys):
    monkeypatch.setattr(shutil, "which", lambda *_, **__: None)
    with pytest.raises(SystemExit) as end:
        main(["ranks"])
    assert end.value.code == 2 and capsys.readouterr().err.count("\n") == 1


@needs_mpi
def test_a_program_that_fails_is_named(monkeypatch):
    failed = subprocess.CompletedProcess([], 3, "", "the reason")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: failed)
    with pytest.raises(RuntimeError, match="digits with 1 ranks has failed: the reason"):
        list(ranks.measure(["digits"], [1], 1))
