"""The lines in a terminal, and the command `vae-np study`."""

import io
import os
import pathlib
import pty
import re
import select
import subprocess
import sys
import time

import pytest
from rich.console import Console

from tests.vae_np.study.test_trace import PROBLEM, changed
from vae_np import cli, elbo
from vae_np.data import DATASETS
from vae_np.kernels import reference
from vae_np.study import terminal, trace
from vae_np.study.derivations import DERIVATIONS


@pytest.fixture(autouse=True)
def a_short_training(monkeypatch):
    monkeypatch.setitem(DATASETS, "digits", DATASETS["digits"]._replace(study_steps=20))


ANSI = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")


def line_of(beginning):
    """The number of the line of elbo.py that begins in this way."""
    source = pathlib.Path(elbo.__file__).read_text().splitlines()
    return next(i for i, line in enumerate(source, 1) if line.strip().startswith(beginning))


SAMPLE, KL, BOUND = map(line_of, ("z = reparameterize(", "kl = divergence(", "return bound("))


def printed(thing, width=120):
    console = Console(file=io.StringIO(), width=width, soft_wrap=True)
    console.print(thing)
    return console.file.getvalue()


def test_a_card_tells_equation_shape_numbers_and_proof():
    lines = trace(*PROBLEM)
    text = printed(terminal.card(lines, terminal.find(lines, "reparameterize_backward_add")))
    assert "dμ += Σ_l dz" in text and f"differentiates line {SAMPLE}" in text
    assert re.search(r"d log σ²\s+3 × 3\s+min \S+\s+max \S+\s+norm \S+\s", text)
    assert re.search(rf"✓ d log σ² agrees with a finite difference to \d+e-\d+, through line {SAMPLE}, {KL}\s", text)


@pytest.mark.parametrize("key", DERIVATIONS)
def test_no_word_of_a_derivation_is_cut_where_the_terminal_ends(key):
    title, steps, source, _ = DERIVATIONS[key]
    shown = "".join(printed(terminal.derivation(key), 60).split())
    for words in (title, source, *(sentence for sentence, _ in steps)):
        assert "".join(words.split()) in shown


def test_what_is_wrong_is_told():
    planted, _ = changed(reference.gaussian_kl_backward, "np.expm1(logvar) / 2", "np.expm1(logvar)")
    lines = trace(*PROBLEM, gaussian_kl_backward=planted)

    def card(name):
        return printed(terminal.card(lines, terminal.find(lines, name)))

    assert re.search(
        rf"✗ d log σ² has a relative error of \d+e-\d+, through line {KL}\. Every element is twice", card("divergence_backward")
    )
    assert re.search(rf"through line {SAMPLE}, {KL}; the line reads a wrong derivative\s", card("reparameterize_backward_add"))


def test_a_missing_path_is_told():
    planted, _ = changed(reference.reparameterize_backward_add, "    dmu += dz.sum(axis=0)\n", "")
    lines = trace(*PROBLEM, reparameterize_backward_add=planted)
    text = printed(terminal.card(lines, terminal.find(lines, "reparameterize_backward_add")))
    assert re.search(rf"✗ dμ has a relative error of \S+, through line {KL}; the path through line {SAMPLE} is missing\s", text)


@pytest.mark.parametrize(
    ("name", "called"),
    {
        "KL": "divergence",
        "dmu": "divergence_backward",
        "gaussian_kl": "divergence",
        "z": "reparameterize",
        "ELBO": "bound",
        "backward": "bound_backward",
        str(SAMPLE): "reparameterize",
        "reparam": "reparameterize",
        "dmu.w": "affine_gradients",
    }.items(),
)
def test_a_name_is_found(name, called):
    lines = trace(*PROBLEM, elements=1)
    assert lines[terminal.find(lines, name)].called == called


def test_an_unknown_name_is_one_sentence(capsys):
    with pytest.raises(SystemExit) as end:
        cli.main(["study", "nothing"])
    assert end.value.code == 2
    assert "no line computes or calls 'nothing'; known are" in capsys.readouterr().err


def test_without_a_terminal_all_lines_are_printed(capsys):
    with pytest.raises(SystemExit) as end:
        cli.main(["study", "--text", "--hidden", "5", "--latent", "2"])
    assert end.value.code == 0
    out = capsys.readouterr().out
    assert f"forward, line {SAMPLE}: step 7 of 36" in out
    for key in ("affine", "relu", "reparameterize", "gaussian_kl", "bernoulli_nll", "elbo"):
        assert out.count(f"Derivation: {DERIVATIONS[key].title}") == 1
    assert "E_q[f(z)] = ∫ N(z; μ, exp(log σ²))" in out
    assert out.count("backward, line") >= 11 and out.count("weight_gradients, line") >= 6 and "✗" not in out


@pytest.mark.skipif(sys.platform == "win32", reason="a pseudo-terminal is POSIX's")
def test_a_key_for_each_line():
    keyboard, screen = pty.openpty()
    command = [sys.executable, "-m", "vae_np", "study", "KL", "--hidden", "5", "--latent", "2"]
    walk = subprocess.Popen(command, stdin=screen, stdout=screen, stderr=subprocess.DEVNULL)
    os.close(screen)
    text = ""

    def read_until(wanted):
        nonlocal text
        end = time.monotonic() + 600  # far more than it takes
        while wanted not in ANSI.sub("", text) and time.monotonic() < end:
            if select.select([keyboard], [], [], 1)[0]:
                text += os.read(keyboard, 65536).decode(errors="replace")
        assert wanted in ANSI.sub("", text)

    try:
        read_until(f"forward, line {KL}")
        assert f"line {BOUND}" not in ANSI.sub("", text)
        os.write(keyboard, b" ")
        read_until(f"forward, line {BOUND}")
        os.write(keyboard, b"w")
        read_until(f"Derivation: {DERIVATIONS['elbo'].title}")
        os.write(keyboard, b"pd")
        read_until(f"backward, line {line_of('dz, dmu, dlogvar = divergence_backward(')}")
        os.write(keyboard, b"q")
        assert walk.wait(600) == 0
    finally:
        walk.kill()
        os.close(keyboard)


def test_a_page_is_written_and_told_of(tmp_path, capsys):
    with pytest.raises(SystemExit) as end:
        cli.main(["study", "--hidden", "5", "--latent", "2", "--examples", "3", "1", "--out", str(tmp_path / "page.html")])
    assert end.value.code == 0
    printed = capsys.readouterr()
    assert "page.html: 36 lines" in printed.out and "grey" not in printed.err
    assert (tmp_path / "page.html").stat().st_size < 3e6


def test_ones_own_run_and_examples(tmp_path, capsys):
    run = str(tmp_path / "run")
    with pytest.raises(SystemExit):
        words = (
            "train --epochs 1 --hidden 5 4 --objective iwae --samples 3 --backend numpy --estimator dreg --snapshots 3 --out"
        )
        cli.main([*words.split(), run])
    for estimator, asked in {"dreg": [], "total": ["--estimator", "total"]}.items():
        with pytest.raises(SystemExit) as end:
            cli.main(["study", "--run", run, "--examples", "7", *asked, "--out", str(tmp_path / "page.html")])
        assert end.value.code == 0
        text = (tmp_path / "page.html").read_text()
        assert "64-5-4-2, relu, bernoulli" in text and "B = 1 example," in text and "iwae" in text
        assert f"<dt>estimator</dt><dd>{estimator}: " in text
        assert ("agree with finite differences of a surrogate" in text) == (estimator == "dreg")
        assert ('id="course"' in text) == (tmp_path / "run" / "snapshots.npz").exists() == (estimator == "dreg")
        (tmp_path / "run" / "snapshots.npz").unlink(missing_ok=True)
    capsys.readouterr()
    with pytest.raises(SystemExit) as end:
        cli.main(["study", "dmu", "--run", run, "--examples", "7", "--estimator", "path"])
    assert end.value.code == 0
    assert "It is the estimate path, which is biased" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    ("words", "told"),
    {
        "--examples 5000": "example 5000 is beyond the 359 held-out rows",
        "--run nowhere": "nowhere is not a run folder",
        "--samples 0": "n_samples is 0",
        "--estimator dreg": "estimator is 'dreg', which objective 'elbo' does not have; it has 'total'",
        "--out /nowhere/page.html": "/nowhere/page.html",
    }.items(),
)
def test_bad_words_are_one_sentence(words, told, capsys):
    with pytest.raises(SystemExit) as end:
        cli.main(["study", "--hidden", "2", *words.split()])
    assert end.value.code == 2
    err = capsys.readouterr().err
    assert told in err and "Traceback" not in err
