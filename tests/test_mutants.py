"""A sample of small wrong changes is seen by the tests; the whole is `python tests/mutants.py`."""

import pathlib
import subprocess
import sys

SCRIPT = pathlib.Path(__file__).parent / "mutants.py"


def run(*options):
    return subprocess.run([sys.executable, SCRIPT, *options], capture_output=True, text=True)


def test_every_change_of_a_sample_is_seen():
    done = run("--short")
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_change_that_nothing_looks_at_is_reported():
    done = run("vae_np/optimizers.py:Optimizer.initial_state", "--tests", "tests/vae_np/test_architecture.py")
    assert done.returncode == 1
    assert "vae_np/optimizers.py:34 Optimizer.initial_state: return" in done.stdout
