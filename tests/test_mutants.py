"""Small wrong changes are seen by the tests: a sample here, and all by `python tests/mutants.py`."""

import argparse
import pathlib
import subprocess
import sys

import pytest

from tests import mutants

SCRIPT = pathlib.Path(__file__).parent / "mutants.py"


def run(*options):
    return subprocess.run([sys.executable, SCRIPT, *options], capture_output=True, text=True)


@pytest.mark.slow
def test_every_change_of_a_sample_is_seen():
    done = run("--short")
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_file_has_tests_that_see_its_changes_and_no_listed_change_is_gone():
    of_all = mutants.Run(argparse.Namespace(where=list(mutants.SEEN_BY), short=True))
    assert not of_all.unnamed and not of_all.stale


@pytest.mark.slow
def test_a_change_that_nothing_looks_at_is_reported():
    done = run("vae_np/optimizers.py:Optimizer.initial_state", "--tests", "tests/vae_np/test_architecture.py")
    assert done.returncode == 1
    assert "vae_np/optimizers.py:34 Optimizer.initial_state: return" in done.stdout
