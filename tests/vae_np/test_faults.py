"""What goes wrong on a machine: hostile files, full disks, kills, and two trainings in one folder.

Of each, one sentence that names the file or the folder; and a run's last checkpoint stays, whole, to go on from.
"""

import contextlib
import csv
import errno
import functools
import gzip
import io
import json
import os
import pathlib
import re
import resource
import shutil
import signal
import subprocess
import sys
import tracemalloc
import warnings
import zipfile

import numpy as np
import pooch
import pytest

from vae_np import Architecture, Parameters, cli, data, parameters, train

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the faults are made with what POSIX has")

ARCH = Architecture(6, (5,), 3)
X = np.random.default_rng(0).uniform(size=(23, 6)).round()  # black and white: nothing to remark on


def quick(out, **changes):
    settings = {"epochs": 2, "batch_size": 8, "patience": 9, "backend": "numpy", "out": out, "resume": True}
    return train(**{"architecture": ARCH, "x_train": X, "x_valid": X[:9], **settings, **changes})


def sentence(kind, function, *arguments, **named):
    """What is said on refusing: one line, with nothing of NumPy's beside it."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(kind) as caught:
            function(*arguments, **named)
    said = str(caught.value)
    assert said.isprintable() and 15 < len(said) < 1500
    return said


@pytest.fixture
def refused(capsys, monkeypatch):
    """refused(*arguments): the one line in which `vae-np` refuses; anything but SystemExit would be a traceback."""

    def refused(*arguments):
        with pytest.raises(SystemExit) as caught:
            cli.main([str(argument) for argument in arguments])
        *_, line = said = capsys.readouterr().err.splitlines()
        assert caught.value.code == 2 and sum(other.startswith("vae-np: ") for other in said) == 1
        assert line.startswith("vae-np: ")
        return line

    return refused


def contents(folder):
    return {path.name: path.read_bytes() for path in pathlib.Path(folder).iterdir() if path.is_file()}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run of two epochs by the command, with the settings of `quick`. Read it; take `run` to change it."""
    folder = tmp_path_factory.mktemp("trained")
    np.savez(folder / "rows.npz", train=X, valid=X[:9])
    options = "--hidden 5 --latent 3 --epochs 2 --batch-size 8 --backend numpy --patience 9".split()
    with pytest.raises(SystemExit) as caught:
        cli.main(["train", "--data", str(folder / "rows.npz"), *options, "--out", str(folder / "run")])
    assert not caught.value.code
    return folder / "run"


@pytest.fixture
def run(trained, tmp_path):
    return pathlib.Path(shutil.copytree(trained, tmp_path / "run"))


# ------------------------------------------------------------------------------------------------ files of any content


def npy(array, **lies):
    """An array as an .npy file, whose header may lie."""
    file = io.BytesIO()
    header = {**np.lib.format.header_data_from_array_1_0(array), **lies}
    np.lib.format.write_array_header_1_0(file, header)
    return file.getvalue() + array.tobytes()


def headed(header):
    return b"\x93NUMPY\x02\x00" + len(header).to_bytes(4, "little") + header


def pickled(array):
    file = io.BytesIO()
    np.save(file, array, allow_pickle=True)
    return file.getvalue()


def packed(members, method=zipfile.ZIP_STORED):
    """An .npz file of {name: array or what stands in its place}."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, member in members.items():
            bare = isinstance(member, bytes)
            archive.writestr(f"{name}.npy", member if bare else npy(np.asarray(member)))
    return file.getvalue()


def damaged(whole, place):
    return whole[:place] + bytes([whole[place] ^ 255]) + whole[place + 1 :]


def member(make):
    """A file in which one member is what make(array) makes of it."""
    return lambda good, victim: packed({**good, victim: make(good[victim])})


def rest(make):
    """A file that is what make(content) makes of the whole one."""
    return lambda good, victim: make(packed(good))


HOSTILE = {  # of any .npz file: what it is, and how it is made of good arrays and the name of one of them
    "empty": rest(lambda whole: b""),
    "text": rest(lambda whole: b"hello"),
    "a tenth": rest(lambda whole: whole[: len(whole) // 10]),
    "a half": rest(lambda whole: whole[: len(whole) // 2]),
    "all but the end": rest(lambda whole: whole[:-9]),
    "a flipped byte": rest(lambda whole: damaged(whole, whole.index(b"\x93NUMPY") + 200)),
    "an .npy": lambda good, victim: npy(good[victim]),
    "a bare pickle": rest(lambda whole: b"\x80\x04N."),
    "members packed by another method": lambda good, victim: packed(good, zipfile.ZIP_BZIP2),
    "pickled objects": member(lambda array: pickled(np.array([{}, None], object))),
    "bytes that are no array": member(lambda array: b"hello"),
    "more rows told of than there are": member(lambda array: npy(array, shape=(len(array) + 1, *array.shape[1:]))),
    "terabytes told of": member(lambda array: npy(array, shape=(2**40, *array.shape[1:]))),
    "a shape beyond all integers": member(lambda array: npy(array, shape=(2**62, 2**62, 5))),
    "fewer rows told of": member(lambda array: npy(array, shape=(len(array) - 1, *array.shape[1:]))),
    "a negative shape": member(lambda array: npy(array, shape=(-1,))),
    "a header without shape": member(lambda array: headed(b"{'descr': '<f8'}")),
    "a header that is nested": member(lambda array: headed(b"(" * 9000 + b")" * 9000)),
    "a header that is a program": member(lambda array: headed(b"__import__('os').abort()")),
    "a header of gigabytes": member(lambda array: b"\x93NUMPY\x02\x00\xff\xff\xff\xff"),
}


LOADERS = {  # each with a member of its files, and with the command that reads them
    "parameters": ("mu.W", Parameters.load, ["sample"]),
    "data": ("x", lambda path: data.load(str(path)), ["train", "--backend", "numpy", "--data"]),
    "checkpoint": ("training.flat", lambda path: quick(path.parent), ["train", "--resume"]),
}


@pytest.mark.parametrize("what", HOSTILE)
@pytest.mark.parametrize("loader", LOADERS)
def test_a_hostile_file_is_named_in_one_sentence_and_left_as_it_is(loader, what, run, refused):
    victim, load, command = LOADERS[loader]
    path = run / "checkpoint.npz"
    good = {"x": X} if loader == "data" else dict(np.load(path))
    path.write_bytes(packed(good))
    config = (run / "config.json").read_bytes()
    load(path)
    path.write_bytes(HOSTILE[what](good, victim))
    (run / "config.json").write_bytes(config)  # the command's, which the library's training is not told of
    before = contents(run)
    tracemalloc.start()
    try:
        said = sentence(ValueError, load, path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert str(path) in said and (peak < 2**28 or what == "terabytes told of")  # which are given, and never touched
    assert str(path) in refused(*command, run if command[-1] == "--resume" else path)
    assert contents(run) == before


@pytest.mark.parametrize("loader", ["parameters", "checkpoint"])
def test_a_file_of_parameters_that_packs_well_is_a_bomb(loader, run, monkeypatch):
    """For we pack nothing."""
    monkeypatch.setattr(parameters, "UNPACKED", (2**20, 100))
    _, load, _ = LOADERS[loader]
    path = run / "checkpoint.npz"
    path.write_bytes(packed({**np.load(path), "bomb": np.zeros(2**20)}, zipfile.ZIP_DEFLATED))
    assert "it would unpack to 0.0 GiB" in sentence(ValueError, load, path)


@pytest.mark.parametrize("kind", ["npz", "npy"])
def test_data_that_pack_well_are_no_bomb_where_there_is_memory_for_them(kind, tmp_path, monkeypatch):
    monkeypatch.setattr(parameters, "UNPACKED", (2**20, 100))
    x, path = np.zeros((2**19, 16)), tmp_path / f"a.{kind}"
    np.savez_compressed(path, x=x) if kind == "npz" else np.save(path, x)
    assert data.load(str(path)).train.shape == (round(2**19 * 0.8), 16)
    monkeypatch.setattr(parameters, "free_memory", lambda: 2**25)
    said = sentence(ValueError, data.load, str(path))
    assert "there are 0.0625 GiB of numbers, and 0.0312 GiB of memory are free" in said


@pytest.mark.parametrize("limit, wanted", [("max", 5000 * 1024), (3000, 3000 - 2000 + 700), (10**9, 5000 * 1024)])
def test_memory_is_what_the_system_and_the_container_leave(limit, wanted, tmp_path, monkeypatch):
    """Files that were read lie in memory for as long as nobody else wants it."""
    for name, text in {"max": limit, "current": 2000, "stat": "anon 1300\ninactive_file 700\nactive_file 0"}.items():
        (tmp_path / f"memory.{name}").write_text(f"{text}\n")
    (tmp_path / "meminfo").write_text("MemTotal: 9000 kB\nMemAvailable: 5000 kB\n")
    monkeypatch.setattr(parameters, "CGROUP", tmp_path)
    monkeypatch.setattr(parameters, "open", lambda path: open(tmp_path / "meminfo"), raising=False)
    assert parameters.free_memory() == wanted


def absurd(**fields):
    return {"architecture": np.array(json.dumps({**vars(ARCH), **fields}))}


def text(words):
    return {"architecture": np.array(words)}


PARAMETERS = {  # what a file says that is a whole .npz: the members that differ from a good one's (None: absent), words said
    "no architecture": ({"architecture": None}, "it has no 'architecture'"),
    "an architecture of numbers": ({"architecture": np.zeros(3)}, "its architecture is not JSON ("),
    "a list for an architecture": (text("[]"), "its architecture is not a JSON object"),
    "a number for an architecture": (text("5"), "its architecture is not a JSON object"),
    "no JSON": (text("{"), "its architecture is not JSON ("),
    "JSON a million deep": (text("[" * 10**6), "recursion"),
    "JSON with a number of a million digits": (text(f'{{"n_inputs": {"9" * 10**6}}}'), "digits"),
    "a field of a million letters": (absurd(**{"x" * 10**6: 1}), "architecture"),
    "a field that moves the cursor": (absurd(**{"\n\x1b[2J": 1}), "architecture"),
    "a choice of a million letters": (absurd(activation="x" * 10**6), "..."),
    "another architecture": (absurd(hidden=[9]), "encoder.0.W"),
    "more layers": (absurd(hidden=[5, 5]), "encoder.1.W"),
    "no layers told": (absurd(hidden=None), "hidden is None"),
    "a width of words": (absurd(hidden=["5"]), "a width in hidden is '5'"),
    "more inputs than memory": (absurd(n_inputs=10**15), "1000000000000000"),
    "a truth for a size": (absurd(n_latent=True), "n_latent is True"),
    "an infinite noise": (absurd(likelihood="gaussian", noise_std=float("inf")), "noise_std is inf"),
    "an absent array": ({"mu.b": None}, "it has no 'mu.b'"),
    "another shape": ({"mu.b": np.zeros(4, "f4")}, "its mu.b holds float32 (4,)"),
    "one axis more": ({"mu.b": np.zeros((1, 3), "f4")}, "its mu.b holds float32 (1, 3)"),
    "integers": ({"mu.b": np.zeros(3, int)}, "its mu.b holds int64"),
    "half precision": ({"mu.b": np.zeros(3, "f2")}, "its mu.b holds float16"),
    "two precisions": ({"mu.b": np.full(3, 1e300)}, "its mu.b holds float64"),
    "complex numbers": ({"mu.b": np.zeros(3, complex)}, "its mu.b holds complex128"),
    "records": ({"mu.b": np.zeros(3, [("a", "f4")])}, "its mu.b holds [('a', '<f4')]"),
    "text as numbers": ({"output.b": np.full(6, "0.5")}, "dtype is 'str96'"),
    "NaN": ({"mu.b": np.array([0, np.nan, 0], "f4")}, "its mu.b holds float32 (3,), not all of them finite"),
    "an infinity": ({"mu.b": np.array([0, np.inf, 0], "f4")}, "not all of them finite"),
}


def changed(good, changes):
    return packed({name: member for name, member in {**good, **changes}.items() if member is not None})


@pytest.mark.parametrize("what", PARAMETERS)
def test_parameters_that_are_none_are_refused_with_what_is_wrong(what, run, refused):
    path, (changes, words) = run / "checkpoint.npz", PARAMETERS[what]
    path.write_bytes(changed(dict(np.load(path)), changes))
    said = sentence(ValueError, Parameters.load, path)
    assert str(path) in said and words in said.replace("Architecture", "architecture")
    assert str(path) in refused("evaluate", run)


def test_numbers_in_the_other_order_of_bytes_are_the_same_numbers(run):
    wanted, good = quick(run, epochs=4).parameters.flat, dict(np.load(run / "checkpoint.npz"))
    swapped = {name: array.astype(array.dtype.newbyteorder()) for name, array in good.items() if array.dtype.kind == "f"}
    (run / "checkpoint.npz").write_bytes(packed({**good, **swapped}))
    assert (quick(run, epochs=4).parameters.flat == wanted).all()


# --------------------------------------------------------------------------------------------------------- checkpoints


def told(**changes):
    """What a checkpoint tells of its training, with these changes (None: absent)."""

    def make(good):
        progress = {**json.loads(str(good["training.state"])), **changes}
        return {"training.state": np.array(json.dumps({n: v for n, v in progress.items() if v is not None}))}

    return make


def rows(**changes):
    """The same with changes to the history's second row."""

    def make(good):
        first, second = json.loads(str(good["training.state"]))["history"]
        second = {name: value for name, value in {**second, **changes}.items() if value is not None}
        return told(history=[first, second])(good)

    return make


def reordered(good):
    """The history with the second row's columns the other way round."""
    first, second = json.loads(str(good["training.state"]))["history"]
    return [first, dict(reversed(second.items()))]


def swapped(*names):
    """With members of a run of another architecture."""
    other = Parameters.initialize(Architecture(6, (4,), 3), dtype="float32")
    members = {**other, "architecture": np.array(json.dumps(vars(other.architecture))), "training.flat": other.flat}
    members |= {"optimizer.m": other.flat, "optimizer.v": other.flat}
    return lambda good: {name: members[name] for name in names or members}


CHECKPOINTS = {  # of whole parameters: the members that differ, words said
    "parameters alone": ({"training.state": None}, "holds parameters but no training to resume"),
    "no JSON": ({"training.state": np.array("{")}, "its training.state is not JSON ("),
    "a list for a dict": ({"training.state": np.array("[1]")}, "its training.state is not a JSON object"),
    "a number for a dict": ({"training.state": np.array("5")}, "its training.state is not a JSON object"),
    "numbers for text": ({"training.state": np.zeros(9)}, "its training.state is not JSON ("),
    "JSON a million deep": ({"training.state": np.array('{"settings":' * 10**6)}, "recursion"),
    "no settings": (told(settings=None), "it has no 'settings'"),
    "a list for settings": (told(settings=[1]), "is not a checkpoint"),
    "settings of which one is absent": (told(settings={}), "it has no 'architecture'"),
    "no history": (told(history=None), "it has no 'history'"),
    "a dict for a history": (told(history={}), "its history is not a list of epochs"),
    "a history of nothing": (told(history=[]), "its history is not a list of epochs"),
    "a history of numbers": (told(history=[5]), "is not a checkpoint"),
    "a history of texts": (told(history=["epoch"]), "row 1 of its history"),
    "an epoch twice": (rows(epoch=1), "row 2 of its history is not that of epoch 2"),
    "an epoch that is text": (rows(epoch="2"), "row 2 of its history"),
    "an epoch that is a truth": (told(history=[{"epoch": True}]), "row 1 of its history"),
    "a column less": (rows(beta=None), "row 2 of its history"),
    "a column more": (rows(wings=2), "row 2 of its history"),
    "columns in another order": (lambda good: told(history=reordered(good))(good), "row 2 of its history"),
    "a loss that is a truth": (rows(train_kl=True), "holds a value that is not a finite number"),
    "an infinite loss": (rows(train_total=float("inf")), "holds a value that is not a finite number"),
    "an infinite penalty": (rows(valid_l2=float("-inf")), "holds a value that is not a finite number"),
    "a term without number": (rows(valid_kl=float("nan")), "holds a value that is not a finite number"),
    "a validation without number": (rows(valid_total=float("nan")), "holds a value that is not a finite number"),
    "a time that is text": (rows(seconds="\r\n"), "holds a value that is not a finite number"),
    "a loss beyond all floats": (rows(train_kl=10**400), "is not a checkpoint"),
    "no flat parameters": ({"training.flat": None}, "it has no 'training.flat'"),
    "flat parameters of one number": ({"training.flat": np.float32(1)}, "its training.flat holds float32 ()"),
    "flat parameters with NaN": (
        lambda good: {"training.flat": good["training.flat"] * np.nan},
        "not all of them finite",
    ),
    "flat parameters in double": (lambda good: {"training.flat": good["training.flat"].astype(float)}, "float64"),
    "no optimizer": ({"optimizer.m": None, "optimizer.v": None}, "it has no 'optimizer.m'"),
    "an optimizer of one number": ({"optimizer.v": np.zeros(1, "f4")}, "its optimizer.v holds float32 (1,)"),
    "an optimizer with NaN": (lambda good: {"optimizer.v": good["optimizer.v"] * np.nan}, "not all of them finite"),
    "an optimizer of integers": (
        lambda good: {"optimizer.m": good["optimizer.m"].astype(int)},
        "optimizer.m holds int64",
    ),
    "an optimizer of objects": (
        {"optimizer.m": pickled(np.array([{}], object))},
        "in its optimizer.m, there are Python objects",
    ),
    "an optimizer of another model": (swapped("optimizer.m", "optimizer.v"), "its optimizer.m holds"),
    "flat parameters of another model": (swapped("training.flat"), "its training.flat holds"),
    "another model under these settings": (swapped(), "its settings are not those of its parameters"),
}


@pytest.mark.parametrize("what", CHECKPOINTS)
def test_a_checkpoint_that_is_none_is_refused_and_nothing_in_the_folder_changes(what, run, refused):
    path, (changes, words) = run / "checkpoint.npz", CHECKPOINTS[what]
    good = dict(np.load(path))
    path.write_bytes(changed(good, changes(good) if callable(changes) else changes))
    before = contents(run)
    said = sentence(ValueError, quick, run, epochs=4)
    assert str(path) in said and words in said
    assert str(path) in refused("train", "--resume", run, "--epochs", 4)
    assert contents(run) == before


def test_a_checkpoint_of_another_run_is_refused_with_what_differs(run, tmp_path, refused):
    quick(tmp_path / "other", seed=3)
    shutil.copy(tmp_path / "other" / "checkpoint.npz", run)
    assert "was trained with seed 3, not 0" in sentence(ValueError, quick, run)
    assert "was trained with seed 3, not 0" in refused("train", "--resume", run)


# -------------------------------------------------------------------------------------------------------- config.json

CONFIGS = {  # what differs in config.json (None: absent), or all its text: words said
    "nothing": ("", "its text is not JSON ("),
    "half of it": ("{", "its text is not JSON ("),
    "a number": ("5", "its text is not a JSON object"),
    "a million deep": ('{"a":' * 10**6, "recursion"),
    "bytes that are no text": ("\xff", "config.json"),
    "no epochs": ({"epochs": None}, "it has no 'epochs'"),
    "epochs that are text": ({"epochs": "9"}, "its epochs is '9'"),
    "epochs that are a truth": ({"epochs": True}, "its epochs is True"),
    "a fraction of epochs": ({"epochs": 1.5}, "its epochs is 1.5"),
    "a shape that is a number": ({"image_shape": 6}, "config.json"),
    "a shape of text": ({"image_shape": "23"}, "a side of its image_shape is '2'"),
    "a shape below nothing": ({"image_shape": [-2, -3]}, "a side of its image_shape is -2"),
    "options that are a list": ({"options": [1]}, "its options are not a JSON object"),
    "an option of another program": ({"options": {"wings": 2}}, "it has an option 'wings', which this version does not know"),
    "an option of another kind": ({"options": {"samples": "two"}}, "its option samples cannot be 'two'"),
    "no command": ({"options": None, "command": None}, "it has no 'command'"),
    "a command that is a number": ({"options": None, "command": 5}, "config.json"),
    "a command of another program": ({"options": None, "command": "rm -rf train"}, "its command is not `vae-np train`"),
    "a command without its end": ({"options": None, "command": "vae-np train '"}, "No closing quotation"),
    "a command for help": ({"options": None, "command": "vae-np train --help"}, "its command cannot be parsed"),
    "a command with an option that is none": (
        {"options": None, "command": "vae-np train --wings"},
        "unrecognized arguments: --wings",
    ),
    "a command with many options": ({"options": None, "command": "vae-np train" + " --wings" * 500}, "..."),
}


@pytest.mark.parametrize("what", CONFIGS)
def test_a_config_json_that_is_none_is_named(what, run, refused):
    path, (config, words) = run / "config.json", CONFIGS[what]
    if isinstance(config, dict):
        config = {**json.loads(path.read_text()), **config}
        config = json.dumps({name: value for name, value in config.items() if value is not None})
    path.write_bytes(config.encode("latin1"))
    before = contents(run)
    for arguments in (["evaluate", run], ["train", "--resume", run]):
        line = refused(*arguments)
        assert str(path) in line and words in line and line.isprintable() and len(line) < 1500
    assert contents(run) == before


@pytest.mark.parametrize("shape", [[2, 2], [6], [1, 2, 3]])
def test_images_that_are_not_of_the_inputs_are_not_drawn(shape, run, refused):
    config = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps({**config, "image_shape": shape}))
    assert "images of shape" in refused("sample", run)


# ---------------------------------------------------------------------------------------------------------- data files


def test_the_names_in_a_file_are_quoted_and_not_all_of_a_million(tmp_path):
    (tmp_path / "a.npz").write_bytes(packed({"\n\x1b[2J": X, **{f"name {i}": 1.0 for i in range(300)}}))
    said = sentence(ValueError, data.load, str(tmp_path / "a.npz"))
    assert "wanted one of 'train', 'x_train', 'x', 'X', 'arr_0'" in said


@pytest.mark.parametrize("content", ["# a\n# b\n", "a,b\n# c\n", "1,2\n3,4\n\x00\n", "1,2\n" + "3," * 10**5 + "\n", "nan,\n"])
def test_a_csv_of_no_numbers_is_named(content, tmp_path):
    (tmp_path / "a.csv").write_text(content)
    assert str(tmp_path / "a.csv") in sentence(ValueError, data.load, str(tmp_path / "a.csv"))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("suffix", ["npz", "npy", "csv"])
def test_data_that_are_not_finite_are_refused_before_anything_is_written(suffix, value, tmp_path, refused):
    x, path = np.where(np.eye(23, 6) > 0, value, X), str(tmp_path / f"rows.{suffix}")
    {
        "npz": lambda: np.savez(path, x=x),
        "npy": lambda: np.save(path, x),
        "csv": lambda: np.savetxt(path, x, delimiter=","),
    }[suffix]()
    assert "NaN or infinite" in refused("train", "--data", path, "--out", tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("zipped", [True, False], ids=["gz", "plain"])
def test_of_a_file_called_mnist_no_more_is_read_than_mnist_has(zipped, tmp_path, monkeypatch, refused):
    monkeypatch.setattr(pooch, "os_cache", lambda project: tmp_path / "cache")
    path = tmp_path / f"train-images-idx3-ubyte{'.gz' * zipped}"
    if zipped:
        path.write_bytes(gzip.compress(bytes(2**22)) * 1000)  # 4 GiB in 4 MB: parts of a .gz follow each other
    else:
        with open(path, "wb") as file:
            file.truncate(2**42)  # 4 TiB of nothing, that take no room
    tracemalloc.start()
    try:
        said = sentence(ValueError, data.load, "mnist", str(tmp_path))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert f"{path} is not MNIST's" in said and peak < 4 * data.MNIST_BYTES
    assert str(path) in refused("train", "--data", "mnist", "--data-dir", tmp_path)


def test_labels_that_look_like_mathematics_are_drawn_as_they_are(tmp_path):
    from vae_np import plots

    p = Parameters.initialize(Architecture(6, (), 2))
    plots.write(plots.latent(p, X, np.array(["$\\frac{$"] * len(X))), tmp_path / "latent.png")


# ---------------------------------------------------------------------------------------------------- disks and folders


class Full(io.FileIO):
    """A file on a disk that has room for so many bytes more."""

    room = 0

    def write(self, content):
        Full.room -= len(content)
        if Full.room < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return super().write(content)


def comparable(folder):
    """All bits that a training leaves, but for the time it took."""
    kept = {name: (array.dtype, array.tobytes()) for name, array in np.load(folder / "checkpoint.npz").items()}
    progress = json.loads(str(np.load(folder / "checkpoint.npz")["training.state"]))
    with open(folder / "history.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows + progress["history"]:
        assert float(row.pop("seconds")) > 0
    return {**kept, "training.state": progress, "history": rows}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """What a run that nothing befell leaves."""
    folder = tmp_path_factory.mktemp("whole")
    quick(folder, epochs=5)
    return comparable(folder)


@pytest.mark.parametrize("room", [0, 500, 1000, 3000, 6000, 9000, 11000, 13000, 20000])
def test_on_a_full_disk_training_ends_with_the_file_named_and_goes_on_when_there_is_room(room, tmp_path, monkeypatch, whole):
    with monkeypatch.context() as patch:
        patch.setattr(Full, "room", room)
        patch.setattr(parameters, "open", lambda path, mode: io.BufferedWriter(Full(path, mode)), raising=False)
        said = sentence(OSError, quick, tmp_path, epochs=5)
    assert re.fullmatch(rf"\[Errno {errno.ENOSPC}\] .*: '{tmp_path}/(config.json|checkpoint.npz|history.csv)'", said)
    assert set(contents(tmp_path)) <= {".lock", "config.json", "checkpoint.npz", "history.csv"}
    quick(tmp_path, epochs=5)
    assert comparable(tmp_path) == whole


def importable():
    """The environment of a process that finds the packages of this checkout."""
    return {**os.environ, "PYTHONPATH": str(pathlib.Path(cli.__file__).parents[1])}


def words_of(*arguments, **limits):
    """A `vae-np` in a process of its own: its exit code and what it says on stderr."""
    line = [sys.executable, "-m", "vae_np", *map(str, arguments)]
    done = subprocess.run(line, capture_output=True, text=True, env=importable(), timeout=900, **limits)
    return done.returncode, done.stderr


def limited(size):
    return {"preexec_fn": lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))}


def test_a_checkpoint_that_has_no_room_leaves_the_one_before_it(run):
    """A limit of the kernel's makes the real calls fail, those that end an .npz file among them."""
    size = (run / "checkpoint.npz").stat().st_size
    code, said = words_of("train", "--resume", run, "--epochs", 50, **limited(size + 3000))
    *before, line = said.splitlines()
    assert (code, line) == (2, f"vae-np: [Errno 27] File too large: '{run}/checkpoint.npz'")
    assert not any("vae-np" in other or "ignored" in other for other in before)
    epochs = len(comparable(run)["training.state"]["history"])
    assert 2 < epochs < 50 and not list(run.glob("*.partial"))
    quick(run, epochs=epochs + 1)


@pytest.mark.parametrize("name", ["samples.npy", "samples.png"])
def test_a_file_that_has_no_room_is_named_and_not_there(name, run):
    config = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps({**config, "image_shape": [2, 3]}))
    answer = words_of("sample", run, "--n", 2000, "--backend", "numpy", "--out", run / name, **limited(4096))
    assert answer[0] == 2 and re.fullmatch(rf"vae-np: \[Errno \d+\] [^:]+: '{run}/{name}'\n", answer[1])
    assert not list(run.glob("samples*"))


@pytest.fixture
def mounted(tmp_path):
    """mounted(options): a real file system of 64 kB; skipped where it may not be mounted."""
    with contextlib.ExitStack() as stack:

        def mounted(options):
            folder = tmp_path / "mounted"
            folder.mkdir()
            line = ["mount", "-t", "tmpfs", "-o", f"size=64k,{options}", "tmpfs", str(folder)]
            try:
                subprocess.run(line, check=True, capture_output=True)
            except (OSError, subprocess.CalledProcessError) as error:
                pytest.skip(f"no file system can be mounted here: {error}")
            stack.callback(subprocess.run, ["umount", str(folder)], check=True)
            return folder

        yield mounted


def test_on_a_file_system_that_fills_up_the_last_checkpoint_stays(mounted):
    out = mounted("rw") / "run"
    said = sentence(OSError, quick, out, epochs=500)
    assert re.fullmatch(rf"\[Errno {errno.ENOSPC}\] .*: '{out}/(checkpoint.npz|history.csv)'", said)
    epochs = len(json.loads(str(np.load(out / "checkpoint.npz")["training.state"]))["history"])
    assert 5 < epochs < 500 and not list(out.glob("*.partial"))
    assert Parameters.load(out / "checkpoint.npz").architecture == ARCH


def test_a_file_system_that_is_read_only_is_named(mounted, refused):
    out = mounted("ro")
    assert str(out) in sentence(OSError, quick, out) and str(out) in sentence(OSError, quick, out / "run")
    assert str(out) in refused("train", "--out", out / "run", "--backend", "numpy")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write in a folder that is read-only")
def test_a_folder_that_is_read_only_is_named(run, refused):
    run.chmod(0o500)
    try:
        assert str(run) in sentence(PermissionError, quick, run, epochs=4)
        assert str(run) in refused("train", "--resume", run, "--epochs", 4)
        assert words_of("evaluate", run, "--backend", "numpy") == (0, "")
    finally:
        run.chmod(0o700)


@pytest.mark.parametrize("out", ["/proc/run", "/dev/null/run", "/dev/null"])
def test_a_folder_that_cannot_be_is_named(out, refused):
    assert out in sentence(OSError, quick, out) and out in refused("train", "--out", out, "--backend", "numpy")


def test_a_file_is_on_the_disk_before_it_takes_its_name(tmp_path, monkeypatch):
    """Renamed sooner, it could be empty after the power fails, and the one before it gone."""
    path, events = tmp_path / "a", []
    fsync, replace = os.fsync, os.replace

    def synced(file):
        fsync(file)
        events.append(("fsync", os.readlink(f"/proc/self/fd/{file}"), os.fstat(file).st_size))

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "replace", lambda new, old: (events.append(("replace", new, old)), replace(new, old)))
    with parameters.replacing(path) as file:
        file.write(b"whole")
    (_, written, size), (_, renamed, place) = events
    assert (written, size, place) == (renamed, 5, path) and path.read_bytes() == b"whole"


def test_two_that_write_one_file_share_nothing_that_is_half_written(tmp_path):
    """Two threads, or two processes of one number in two containers: the file is whole, of the one or of the other."""
    path = tmp_path / "a"
    with parameters.replacing(path) as first:
        first.write(b"first, ")
        with parameters.replacing(path) as second:
            second.write(b"second")
        assert path.read_bytes() == b"second"
        with pytest.raises(RuntimeError, match="x"), parameters.replacing(path) as third:
            third.write(b"third")
            raise RuntimeError("x")
        first.write(b"whole")
    assert contents(tmp_path) == {"a": b"first, whole"}


@pytest.mark.parametrize("error", [OSError("5 requested and 0 written"), OSError(errno.EIO, "broken"), RuntimeError("x")])
def test_a_write_that_fails_leaves_the_file_before_it_and_says_which(error, tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"old")
    with pytest.raises(type(error), match=str(error.args[-1])) as caught, parameters.replacing(path) as file:
        file.write(b"new")
        raise error
    assert contents(tmp_path) == {"a": b"old"} and (str(path) in str(caught.value)) == isinstance(error, OSError)


# ----------------------------------------------------------------------------------------------------- two at one time


def test_a_second_training_in_a_folder_is_refused_and_the_first_not_touched(tmp_path, whole):
    """By threads of one process and by processes. Who only reads is not kept out."""
    out, before = tmp_path / "run", []

    def second(done, of, row):
        if "valid_total" not in row or len(before) == 2:
            return
        (out / "checkpoint.npz.1.partial").write_bytes(b"as if just being written")
        before.append(contents(out))
        for resume in (True, False):
            said = sentence(BlockingIOError, quick, out, resume=resume)
            assert said == f"another training is running in {out}: let it end, or choose another folder"
        code, words = words_of("train", "--backend", "numpy", "--out", out)
        assert (code, words.splitlines()[-1]) == (2, f"vae-np: {said}")
        assert words_of("sample", out, "--backend", "numpy", "--out", tmp_path / "a.npy") == (0, "")
        assert contents(out) == before[-1]

    quick(out, epochs=5, progress=second)
    assert len(before) == 2 and comparable(out) == whole


def test_what_a_killed_training_was_writing_is_removed_by_the_next_and_nothing_else(tmp_path):
    folder = tmp_path / "[a]*"  # which is a pattern of names, too
    quick(folder)
    leftovers = [
        f"{name}.{token}.partial" for name in ("checkpoint.npz", "history.csv", "config.json") for token in ("1", "a9")
    ]
    others = ["samples.png.1.partial", "checkpoint.npz.old", "my.partial"]
    for name in leftovers + others:
        (folder / name).write_bytes(b"half")
    quick(folder)
    assert set(contents(folder)) == {".lock", "checkpoint.npz", "history.csv", "config.json", *others}


# ---------------------------------------------------------------------------------------------------------------- kills


def test_the_library_leaves_signals_to_its_caller(tmp_path):
    kinds = signal.SIGTERM, signal.SIGINT, signal.SIGXFSZ
    before, seen = [signal.getsignal(kind) for kind in kinds], []
    quick(tmp_path, progress=lambda *_: seen.append([signal.getsignal(kind) for kind in kinds]))
    assert all(handlers == before for handlers in seen)


KILLS = """  # A process of its own, which forks: so the packages are imported once for all the kills.
import os, random, signal, sys
from vae_np import cli, parameters, runs

how, seed, kills, out, *command = sys.argv[1:]
chance = random.Random(int(seed))


def die_before(step):
    "By its own hand, when so many steps of writing files are done."
    def counted(function):
        def wrapped(*arguments):
            nonlocal step
            step -= 1
            if not step:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*arguments)
        return wrapped
    os.fsync, os.replace, parameters.open = counted(os.fsync), counted(os.replace), counted(open)


def die_after(calls):
    "By its own hand, when so many functions are called or left from where the folder is locked on. No clock says when."
    locked = runs.locked
    def counted(*_):
        nonlocal calls
        calls -= 1
        if not calls:
            os.kill(os.getpid(), signal.Signals[how])
    def begun(out):
        sys.setprofile(counted)
        return locked(out)
    runs.locked = begun


for left in reversed(range(int(kills) + 1)):  # the last is not killed
    calls, steps = int(chance.choice([6_000, 40_000]) * chance.random()) + 1, chance.randint(1, 30)
    child = os.fork()
    if not child:
        words = os.open(out + ".words", os.O_CREAT | os.O_TRUNC | os.O_WRONLY)
        os.dup2(words, 1), os.dup2(words, 2)
        if left:
            die_before(steps) if how == "in a write" else die_after(calls)
        begun = os.path.exists(os.path.join(out, "config.json"))
        cli.main(["train", *(["--resume", out] if begun else [*command, "--out", out])])
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    partial = os.path.exists(out) and any(name.endswith(".partial") for name in os.listdir(out))
    print(code, int(partial), open(out + ".words").read().replace("\\n", " "), flush=True)
    if not code:
        break
"""
KILLED = "in a write", "SIGKILL", "SIGTERM"


@pytest.fixture(scope="module")
def unharmed(tmp_path_factory):
    """unharmed(epochs): the bits of a run that was left alone."""
    return functools.cache(lambda epochs: comparable(quick(tmp_path_factory.mktemp("run"), epochs=epochs, patience=10**6).path))


def kill_and_resume(how, kills, epochs, wanted, tmp_path):
    """A training that is killed so often, and goes on each time until it is done, leaves the bits of one left alone."""
    out, rows = tmp_path / "run", tmp_path / "rows.npz"
    np.savez(rows, train=X, valid=X[:9])
    settings = f"--hidden 5 --latent 3 --batch-size 8 --backend numpy --patience {10**6} --epochs {epochs}".split()
    line = [sys.executable, "-c", KILLS, how, 0, kills, out, "--data", rows, *settings]
    done = subprocess.run([str(word) for word in line], capture_output=True, text=True, env=importable(), timeout=3000)
    assert done.returncode == 0, done.stderr
    assert comparable(out) == wanted and not list(out.glob("*.partial"))
    *ended, last = [line.split(" ", 2) for line in done.stdout.splitlines()]
    assert last[0] == "0" and ended
    assert not [said for _, _, said in ended if "Traceback" in said or "ignored" in said]
    if how == "SIGTERM":
        assert {code for code, _, _ in ended} <= {"143", "-15"}  # the latter before there is a command to end
        assert all(
            re.search("vae-np: stopped[^:]*(: vae-np train --resume [^ ]+)? $", said)
            for code, _, said in ended
            if code == "143"
        )
        assert not any(int(partial) for _, partial, _ in ended), "a clean end leaves no half file"
    else:
        assert {code for code, _, _ in ended} == {"-9"}
        if how == "in a write":
            assert any(int(partial) for _, partial, _ in ended), "no kill came while a file was written"


@pytest.mark.parametrize("how", [pytest.param(how, marks=[pytest.mark.slow] * (how == "SIGKILL")) for how in KILLED])
def test_killed_at_random_moments_a_training_goes_on_to_the_same_bits(how, tmp_path, unharmed):
    kill_and_resume(how, 12, 60, unharmed(60), tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("how", KILLED)
def test_killed_two_hundred_times_a_training_goes_on_to_the_same_bits(how, tmp_path, unharmed):
    kill_and_resume(how, 200, 1000, unharmed(1000), tmp_path)
