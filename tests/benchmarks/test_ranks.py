"""The benchmark of ranks runs, and counts what a rank receives."""

import shutil
import subprocess

import numpy as np
import pytest

from benchmarks import ranks, report
from benchmarks.__main__ import main
from tests.benchmarks.results import MACHINE
from tests.vae_np.test_ranks import needs_mpi
from vae_np import kernels
from vae_np.ranks import exact_sum, in_threads

needs_numba = pytest.mark.skipif(not kernels.available()["numba"].ok, reason="numba cannot run here")


def run(*words):
    with pytest.raises(SystemExit) as end:
        main(["ranks", *words])
    return end.value.code


@pytest.fixture
def one_way(monkeypatch):
    """Two ranks are the only way, and the machine is not looked at."""
    monkeypatch.setattr(ranks, "ways", lambda counts: [ranks.Way("2 ranks", "rows", max(counts), 1)])
    monkeypatch.setattr("benchmarks.machine.describe", lambda: MACHINE)


@needs_mpi
@needs_numba
def test_ranks_are_timed_and_their_bytes_counted(one_way, tmp_path, capsys):
    assert run("--workload", "digits", "--ranks", "2", "--rounds", "1", "--json", str(tmp_path / "ranks.json")) == 0
    (result,) = report.load(tmp_path / "ranks.json")["results"]
    (row,) = result["rows"]
    # Of 32 rows: the hidden units, mu, logvar, z and the output, values and derivatives, and the terms of the loss.
    values, derivatives = 64 + 8 + 64 + 1 + 1 + 1, 64 + 8 + 8 + 64 + 64 + 1
    assert row["received"] == 4 * 32 * (values + derivatives) and 0 < row["minimum"] <= row["median"]
    assert "digits: 64-64-8" in capsys.readouterr().out


def test_bytes_of_a_sum_are_counted():
    def once(some):
        with ranks.received_by(some) as n_bytes:
            exact_sum(some, np.ones((4, 6), np.float32), [2, 4], 12)
        exact_sum(some, np.ones((4, 6), np.float32), [2, 4], 12)  # outside of `with` nothing is counted
        return n_bytes

    largest, integers, sums = 2 * 2 * 8, 2 * 2 * 8, 2 * 2 * 4  # of two other ranks: two numbers, and two of six elements
    assert in_threads(3, once) == [[largest, integers, sums]] * 3


def test_threads_are_no_more_than_cores_and_a_peer_may_be_absent(monkeypatch):
    monkeypatch.setattr(ranks, "allowed_cores", lambda: [0, 1])
    names = [way.name for way in ranks.ways([1, 2, 4])]
    assert names == [
        "one thread",
        "2 ranks",
        "4 ranks",
        "2 ranks, sums",
        "4 ranks, sums",
        "2 threads",
        "torch DDP, 1 rank",
        "torch DDP, 2 ranks",
        "torch DDP, 4 ranks",
    ]
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert ranks._timed([], ranks.ways([2])[-1], "digits") == {"status": "missing", "reason": "torch is not installed"}


def test_no_mpiexec_is_one_sentence(one_way, monkeypatch, capsys):
    monkeypatch.setattr(shutil, "which", lambda *_, **__: None)
    assert run() == 2 and capsys.readouterr().err.count("\n") == 1


@needs_mpi
def test_a_program_that_fails_is_named(one_way, monkeypatch, capsys):
    failed = subprocess.CompletedProcess([], 3, "", "the reason")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: failed)
    assert run("--workload", "digits", "--rounds", "2") == 0
    said = capsys.readouterr().out
    assert "failed" in said and said.count("2 ranks: the reason") == 1
