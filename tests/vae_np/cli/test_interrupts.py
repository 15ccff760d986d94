"""Ctrl-C, and the command as a process of its own."""

import pathlib
import signal
import subprocess
import sys
import time

import pytest

from tests.vae_np.cli.commands import SMALL, command, history, process
from vae_np import training
from vae_np.parameters import Parameters


def test_ctrl_c_that_numba_wraps_is_ctrl_c(rows, monkeypatch):
    def interrupted(*arguments, out, **named):
        pathlib.Path(out).mkdir()
        pathlib.Path(out, "config.json").touch()
        try:
            raise KeyboardInterrupt
        except KeyboardInterrupt as interrupt:
            raise SystemError("returned a result with an exception set") from interrupt

    monkeypatch.setattr(training, "train", interrupted)
    answer = command("train", "--data", rows, *SMALL, "--out", "new run")
    assert answer.code == 130 and answer.err == "vae-np: stopped; resume the run with: vae-np train --resume 'new run'\n"


def test_a_system_error_of_another_kind_is_not_hidden(rows, monkeypatch):
    monkeypatch.setattr(training, "train", lambda *_, **__: (_ for _ in ()).throw(SystemError("a defect")))
    with pytest.raises(SystemError, match="a defect"):
        command("train", "--data", rows, *SMALL)


def test_as_a_process_it_trains_and_then_refuses_the_same_folder_in_one_line(rows):
    arguments = process("train", "--data", rows, "--latent", 3, *SMALL, "--out", "run")
    first = subprocess.run(arguments, capture_output=True, text=True, timeout=600)
    assert first.returncode == 0
    assert first.stderr.count("the pixels are grey") == 1 and "Traceback" not in first.stderr
    assert len(history("run")) == 1 and "run/losses.png" in first.stdout
    again = subprocess.run(arguments, capture_output=True, text=True, timeout=600)
    assert again.returncode == 2 and "Traceback" not in again.stderr
    assert again.stderr.splitlines()[-1].startswith("vae-np: run ")


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT to send to one process")
def test_as_a_process_it_ends_on_ctrl_c_with_130_and_one_sentence(rows):
    arguments = process("train", "--data", rows, "--latent", 3, "--epochs", 10**6, "--hidden", 6, "--out", "run")
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as child:
        waited = time.monotonic() + 600
        while not pathlib.Path("run/history.csv").exists() and time.monotonic() < waited and child.poll() is None:
            time.sleep(0.02)
        child.send_signal(signal.SIGINT)
        try:
            _, err = child.communicate(timeout=600)
        finally:
            child.kill()
    assert child.returncode == 130
    assert "Traceback" not in err and err.splitlines()[-1].startswith("vae-np: ")
    assert Parameters.load("run/checkpoint.npz").flat.size > 0
