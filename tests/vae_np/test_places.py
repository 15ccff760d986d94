"""Where people run it: without a place for a cache, on small stacks, behind quotas, into pipes, with no lock, from threads."""

import errno
import fcntl
import io
import os
import pathlib
import resource
import shutil
import subprocess
import sys
import threading

import joblib
import numpy as np
import pytest

import vae_np
from vae_np import VAE, Architecture, burda2016, cli, data, steps, train, training

ROOT = pathlib.Path(vae_np.__file__).parents[1]
ARCH = Architecture(5, (4,), 2)
X = np.random.default_rng(0).random((40, 5))
LONG_AGO = 600  # seconds, after which a process that hangs is ended


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """An empty folder to work in, with a file of rows; the user's own folder is one beside it."""
    (tmp_path / "here").mkdir()
    (tmp_path / "home").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("VAE_NP_DATA", raising=False)
    np.save("rows.npy", X)
    return tmp_path


def command(line):
    """The exit code of a command in this process."""
    with pytest.raises(SystemExit) as end:
        cli.main(line.split())
    return end.value.code or 0


def of_python(code, *, folder=ROOT, limits=None, **environment):
    """What a program prints and what it says, in a process of its own that takes vae_np from a folder."""
    environment = {**os.environ, "PYTHONPATH": str(folder), **environment}
    words = [sys.executable, "-c", code]
    done = subprocess.run(words, capture_output=True, text=True, env=environment, preexec_fn=limits, timeout=LONG_AGO)
    assert done.returncode == 0, (done.returncode, done.stderr)
    return done.stdout, done.stderr


# ------------------------------------------------------------------------------------------------- compiled or not

NO_PLACE = """
import logging
import threading
import numpy as np
from vae_np import VAE, cli

compiled = []
compilation = logging.getLogger("vae_np.compilation")
compilation.addFilter(lambda record: compiled.append(record.args) or record.levelno > logging.INFO)
compilation.setLevel(logging.INFO)

def work():
    try:
        cli.main("train --data rows.npy --hidden 200 200 --epochs 1 --backend numba --out run".split())
    except SystemExit as end:
        print("train", end.code)
    print("compiled", *(f"{name} {i} of {n}," for i, n, name in compiled))
    x = np.load("rows.npy")
    print("fit", VAE(hidden=(4,), epochs=1, backend="numba").fit(x).transform(x).shape)

threading.stack_size(256 * 1024)
thread = threading.Thread(target=work)
thread.start()
thread.join()
"""


COMPILED = """gather normals affine_relu affine reparameterize constant bernoulli_nll gaussian_kl elbo elbo_backward
    bernoulli_nll_backward affine_backward constant_backward_add relu_backward gaussian_kl_backward unit_path_weight
    reparameterize_backward_add affine_backward_add mean_of update_rows _product _product_transposed run""".split()


def test_without_a_place_for_a_cache_it_compiles_and_says_so_once_also_on_a_small_stack(elsewhere):
    """And off the main thread, where no signal can be handled."""
    np.save("rows.npy", X.astype(np.float32))  # for the command and the estimator alike: each dtype is compiled apart
    shutil.copytree(ROOT / "vae_np", elsewhere / "vae_np", ignore=shutil.ignore_patterns("__pycache__"))
    (elsewhere / "vae_np" / "kernels" / "cpu" / "__pycache__").touch()  # as if read-only, for root too
    nowhere = dict.fromkeys(("HOME", "XDG_CACHE_HOME", "NUMBA_CACHE_DIR"), "/dev/null/none")
    out, said = of_python(NO_PLACE, folder=elsewhere, NUMBA_OPT="0", **nowhere)  # in less time
    assert "train None" in out and "fit (40, 2)" in out
    # Validation, batches of another size and layers of other sizes compile nothing more.
    assert f"compiled {' '.join(f'{name} {i + 1} of {len(COMPILED)},' for i, name in enumerate(COMPILED))}\n" in out
    assert said.count("compiling kernels") == said.count("NUMBA_CACHE_DIR") == 1


SMALL_STACKS = """
import threading
import numpy as np
from vae_np import Architecture, encode, train

x = (np.random.default_rng(0).random((130, 784)) > 0.5).astype(np.float32)

def work():
    run = train(Architecture(784, (400,), 20), x, epochs=1, batch_size=65, threads=2, backend="numba")
    print(run.history[0]["train_total"], encode(run.parameters, x, "numba")[0].sum())

work()  # on the main thread's own
for size in 128, 64:
    threading.stack_size(size * 1024)
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
"""


def test_training_on_small_stacks_has_the_same_bits():
    out, _ = of_python(SMALL_STACKS, limits=lambda: resource.setrlimit(resource.RLIMIT_STACK, (256 * 1024,) * 2))
    assert len(out.splitlines()) == 3 and len(set(out.splitlines())) == 1


NOTHING_IS_COMPILED = """
from vae_np import cli
for words in "backends", "train --data rows.npy --hidden 4 --epochs 1", "train --data rows.npy --backend numba", "check":
    try:
        cli.main(words.split())
    except SystemExit as end:
        print("--", words.split()[0], end.code or 0)
"""


def test_where_numba_compiles_nothing_numpy_is_taken_and_the_reason_told():
    out, said = of_python(NOTHING_IS_COMPILED, NUMBA_DISABLE_JIT="1")
    assert [line for line in out.splitlines() if line.startswith("--")] == [
        "-- backends 0",
        "-- train 0",
        "-- train 2",
        "-- check 0",
    ]
    assert "auto is numpy" in out and "backend numpy" in out
    words = "sets NUMBA_DISABLE_JIT, so that nothing is compiled; unset NUMBA_DISABLE_JIT"
    assert said.splitlines()[-1] == f"vae-np: backend 'numba' cannot run: the environment {words}"


# ----------------------------------------------------------------------------------------------------- pipes and files


def test_in_a_pipe_each_epoch_is_a_line_while_the_training_runs():
    words = "-m vae_np train --data rows.npy --hidden 4 --backend numpy --out run --epochs 1000000".split()
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen([sys.executable, *words], stdout=subprocess.PIPE, text=True, env=environment) as child:
        guard = threading.Timer(LONG_AGO, child.kill)
        guard.start()
        lines = [child.stdout.readline() for _ in range(3)]
        runs_still = child.poll() is None
        child.terminate()
        guard.cancel()
    assert runs_still and "32 rows" in lines[0]
    assert [line.split("  ")[0] for line in lines[1:]] == ["epoch 1/1000000", "epoch 2/1000000"]
    assert all("loss" in line and "valid" in line for line in lines[1:])


def test_the_estimators_lines_are_flushed(monkeypatch):
    class Pipe(io.StringIO):
        seen = ""

        def flush(self):
            self.seen = self.getvalue()

    seen, begun = [], training._epoch
    monkeypatch.setattr(sys, "stdout", Pipe())
    monkeypatch.setattr(training, "_epoch", lambda *words: seen.append(sys.stdout.seen) or begun(*words))
    VAE(hidden=(4,), epochs=3, backend="numpy", verbose=1).fit(X)
    assert [text.count("\n") for text in seen] == [0, 1, 2] and seen[-1].startswith("epoch 1: loss ")


# ------------------------------------------------------------------------------------------------------------- folders


def test_runs_that_are_started_together_have_a_folder_each(monkeypatch):
    begin, codes = training.train, []

    def meanwhile(*arguments, **named):  # another begins where this one has chosen its folder, and written nothing yet
        if len(codes) < 2:
            codes.append(None)
            codes[-1] = command("train --data rows.npy --hidden 4 --epochs 1 --backend numpy")
        return begin(*arguments, **named)

    monkeypatch.setattr(training, "train", meanwhile)
    assert command("train --data rows.npy --hidden 4 --epochs 1 --backend numpy") == 0
    assert sorted(os.listdir("runs")) == ["rows", "rows-2", "rows-3"]
    assert all((pathlib.Path("runs") / name / "checkpoint.npz").exists() for name in os.listdir("runs"))


@pytest.mark.parametrize("ended", [False, True], ids=["others stay", "none is left"])
def test_a_run_that_is_refused_gives_its_folder_up(ended):
    if not ended:
        pathlib.Path("runs/rows").mkdir(parents=True)
    assert command("train --data rows.npy --batch-size 0") == 2
    assert os.listdir(".") == ["rows.npy"] if ended else os.listdir("runs") == ["rows"]


@pytest.mark.parametrize("number", [errno.ENOTSUP, errno.EIO, errno.ENOLCK, errno.EPERM], ids=errno.errorcode.get)
def test_a_folder_that_cannot_be_locked_is_named_with_what_to_do(number, monkeypatch, capsys):
    def flock(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", flock)
    assert command("train --data rows.npy --backend numpy --out run") == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert os.strerror(number) in line and "'run'" in line and "choose one on a local disk" in line


def test_a_tilde_is_the_users_own_folder(elsewhere, capsys, monkeypatch):
    home, resumed = elsewhere / "home", []
    np.save(home / "mine.npy", X)
    settings = "--hidden 4 --epochs 1 --backend numpy"
    for line in (
        f"train {settings} --data=~/mine.npy --out=~/run",
        "train --resume=~/run --epochs 2",
        "evaluate ~/run --data=~/mine.npy",
        "sample ~/run --out=~/drawn.npy",
        "study --run=~/run --data=~/mine.npy --examples 0 --out=~/page.html",
    ):
        assert command(line) == 0, capsys.readouterr().err
    assert {"run", "drawn.npy", "page.html"} <= {path.name for path in home.iterdir()}
    for out in ("~/text", pathlib.Path("~/path")):
        run = train(ARCH, X, epochs=1, backend="numpy", out=out)
        assert run.path == type(out)(home / pathlib.Path(out).name) or run.path == str(home / "text")
        assert train(ARCH, X, epochs=2, backend="numpy", out=out, resume=True).history[1]["epoch"] == 2
    assert len(data.load("~/mine.npy").train) == 32
    further_on = run._replace(history=[{}, {}])  # than the stage that is asked for
    monkeypatch.setattr(burda2016, "train", lambda *_, resume, **__: resumed.append(resume) or further_on)
    next(
        burda2016.burda(
            data.Dataset(np.zeros((3, 784)), np.zeros((1, 784)), None, None, None), 1, "elbo", 1, 1, 0, "numpy", "~/path"
        ),
        None,
    )
    assert resumed == [True]
    assert os.listdir(".") == ["rows.npy"]


# --------------------------------------------------------------------------------------------------- cores and threads


@pytest.mark.parametrize(
    "allowed, quota, said, wanted",
    [
        (8, "max 100000", {}, 8),
        (5, "max 100000", {}, 5),
        (8, "300000 100000", {}, 3),
        (8, "50000 100000", {}, 1),
        (8, "max 100000", {"NUMBA_NUM_THREADS": "2"}, 2),
        (8, "max 100000", {"OMP_NUM_THREADS": "4,2"}, 4),
        (8, "max 100000", {"NUMBA_NUM_THREADS": "16", "OMP_NUM_THREADS": "none"}, 8),
        (6, "400000 100000", {"OMP_NUM_THREADS": "5", "NUMBA_NUM_THREADS": "0"}, 4),
    ],
)
def test_cores_are_those_that_the_process_may_use(allowed, quota, said, wanted, monkeypatch, elsewhere):
    context = sys.modules[joblib.cpu_count.__globals__["loky"].__name__ + ".backend.context"]
    (elsewhere / "cpu.max").write_text(quota)
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(allowed)), raising=False)
    of_machine = {"/sys/fs/cgroup/cpu.max": elsewhere / "cpu.max"}
    monkeypatch.setattr(context, "open", lambda path: open(of_machine.get(path, path)), raising=False)
    monkeypatch.setattr(os.path, "exists", lambda path, exists=os.path.exists: path in of_machine or exists(path))
    for name in ("NUMBA_NUM_THREADS", "OMP_NUM_THREADS", "LOKY_MAX_CPU_COUNT"):
        monkeypatch.delenv(name, raising=False)
    for name, number in said.items():
        monkeypatch.setenv(name, number)
    assert steps.usable_cores() == wanted


def test_commands_work_off_the_main_thread():
    codes = []
    lines = ["train --data rows.npy --hidden 4 --epochs 1 --backend numpy --out run", "evaluate run", "train --epochs 0"]
    thread = threading.Thread(target=lambda: codes.extend(map(command, lines)))
    thread.start()
    thread.join()
    assert codes == [0, 0, 2]


def test_the_version_is_told(capsys):
    assert command("--version") == 0
    assert capsys.readouterr().out == f"vae-np {vae_np.__version__}\n"
