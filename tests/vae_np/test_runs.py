"""Run folders by themselves: who may write, what is read, and what is said where a run is resumed."""

import errno
import json
import logging
import pathlib

import filelock
import numpy as np
import pytest

from vae_np import Architecture, Parameters, runs

ARCH = Architecture(4, (3,), 2)
SETTINGS = {"backend": "numpy", "patience": None, "data": [1], "seed": 0}
ROW = {"epoch": 1, "beta": 1.0, "learning_rate": 1e-3, **{f"train_{term}": 1.0 for term in runs.TERMS}, "seconds": 0.5}


def state(history=(), seed=0):
    p = Parameters.initialize(ARCH, seed)
    return runs.State(p, p.copy(), {"m": np.arange(p.flat.size) / 7}, list(history))


@pytest.fixture
def folder(tmp_path):
    """A run of one epoch, as begin and save leave it."""
    out = tmp_path / "run"
    with runs.locked(out):
        runs.begin(out, False, state(), SETTINGS, {"epochs": 3, "threads": 2})
        runs.save(state([ROW]), out, SETTINGS)
    return out


# ------------------------------------------------------------------------------------------------------------ the lock


def test_a_folder_is_made_and_taken_by_one_at_a_time_and_by_the_next_one_after_it(tmp_path):
    out = tmp_path / "new" / "folder"
    for _ in range(2):
        with runs.locked(out):
            assert out.is_dir()
            with pytest.raises(BlockingIOError, match="another training is running in .*folder: let it end, or choose"):
                with runs.locked(str(out)):
                    pass


@pytest.mark.parametrize("as_path", [str, pathlib.Path])
def test_what_a_killed_training_left_is_removed_and_nothing_else(tmp_path, as_path):
    out = tmp_path / "a[b]"
    out.mkdir()
    for name in (*(f"{name}.12ab.partial" for name in (*runs.FILES, "snapshots.npz")), "mine.partial", "checkpoint.npz"):
        (out / name).touch()
    with runs.locked(as_path(out)):
        assert {path.name for path in out.iterdir()} == {".lock", "mine.partial", "checkpoint.npz"}


def test_a_file_in_the_place_of_the_folder_or_of_its_parent_is_named(tmp_path):
    (tmp_path / "file").touch()
    for out, names in ((tmp_path / "file", "file"), (tmp_path / "file" / "run", "file/run")):
        with pytest.raises(OSError, match=names), runs.locked(out):
            pass


@pytest.mark.parametrize("named", [False, True])
def test_a_lock_that_the_file_system_refuses_is_explained_and_another_error_is_not(tmp_path, monkeypatch, named):
    class Refused:
        def __init__(self, *_, **__): ...

        def __enter__(self):
            raise OSError(errno.ENOLCK, "No locks available", *(["the lock"] if named else []))

        def __exit__(self, *_): ...

    monkeypatch.setattr(filelock, "FileLock", Refused)
    with pytest.raises(OSError) as caught, runs.locked(tmp_path):
        pass
    assert caught.value.errno == errno.ENOLCK
    assert caught.value.filename == ("the lock" if named else str(tmp_path))
    assert ("the folder cannot be locked (No locks available): choose one on a local disk" in str(caught.value)) != named


# --------------------------------------------------------------------------------------------------------- what is read


def test_config_json_is_read_as_it_was_written_for_programs_and_for_people(folder):
    config = {**SETTINGS, "epochs": 3, "threads": 2}
    assert (folder / "config.json").read_text() == json.dumps(config, indent=2)
    assert runs.read_config(folder) == {**config, "image_shape": None}


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        (None, "{folder} is not a run folder: it has no config.json"),
        ("[]", "{folder}/config.json is not a description of a run of `vae-np train`: its text is not a JSON object"),
        ("{}", "{folder}/config.json is not a description of a run of `vae-np train`: it has no 'epochs'"),
        ('{"epochs": 0}', "its epochs is 0; it must be a whole number, 1 or more"),
        ('{"epochs": 1, "image_shape": [2, 0]}', "a side of its image_shape is 0; it must be a whole number, 1 or more"),
    ],
)
def test_a_folder_without_a_description_is_named(tmp_path, text, wanted):
    if text is not None:
        (tmp_path / "config.json").write_text(text)
    with pytest.raises(ValueError) as caught:
        runs.read_config(tmp_path)
    assert wanted.replace("{folder}", str(tmp_path)) in str(caught.value)


def test_settings_are_those_of_the_checkpoint_and_none_where_there_is_none(folder, tmp_path):
    assert runs.settings_of(folder) == SETTINGS
    assert runs.settings_of(tmp_path) == {}
    state().p.save(tmp_path / "checkpoint.npz")
    assert runs.settings_of(tmp_path) == {}, "these are parameters alone"
    state().p.save(tmp_path / "checkpoint.npz", **{"training.state": np.array("{}")})
    with pytest.raises(ValueError, match="checkpoint.npz is not a checkpoint of a training to resume: it has no 'settings'"):
        runs.settings_of(tmp_path)


def test_a_state_is_moved_whole():
    before = state([ROW])
    after = before.moved(lambda array: array + 1)
    for name, array in {"p": after.p.flat - before.p.flat, "best": after.best.flat - before.best.flat}.items():
        np.testing.assert_allclose(array, 1, err_msg=name)
    np.testing.assert_allclose(after.optimizer["m"], before.optimizer["m"] + 1)
    assert after.history is before.history


# -------------------------------------------------------------------------------------------------------------- resumed


def resumed(out, caplog, backend="numpy", threads=None, **more):
    with caplog.at_level(logging.WARNING), runs.locked(out):
        found = runs.begin(out, True, state(seed=1), {**SETTINGS, "backend": backend}, {"threads": threads, **more})
    return found, [record.getMessage() for record in caplog.records]


def test_a_resumed_run_has_the_state_that_was_saved(folder, caplog):
    found, _ = resumed(folder, caplog, epochs=9)
    for flat in (found.p.flat, found.best.flat):
        np.testing.assert_array_equal(flat, state().p.flat)
    np.testing.assert_array_equal(found.optimizer["m"], state().optimizer["m"])
    assert found.history == [ROW] and runs.read_config(folder)["epochs"] == 9


@pytest.mark.parametrize(
    ("backend", "threads", "now"),
    [("numpy", 2, None), ("numpy", 1, "numpy (threads: 1)"), ("numpy", None, "numpy (threads: 1)"), ("numba", 2, "numba")],
)
def test_a_run_that_is_resumed_elsewhere_says_so(folder, caplog, backend, threads, now):
    _, said = resumed(folder, caplog, backend, threads)
    wanted = f"{folder} was trained on numpy (threads: 2) and is resumed on {now}: its last digits will differ"
    assert [words.startswith(wanted) for words in said] == ([True] if now else [])


def test_a_damaged_description_keeps_nobody_from_resuming(folder, caplog):
    (folder / "config.json").write_text("{")
    found, said = resumed(folder, caplog, threads=1)
    assert found.epoch == 1 and not said
    (folder / "config.json").unlink()
    assert resumed(folder, caplog, threads=1)[0].epoch == 1


def test_a_run_is_begun_once_and_its_history_is_written_again_where_it_was_lost(folder, caplog):
    with runs.locked(folder), pytest.raises(FileExistsError, match="run already holds a run: resume it, or choose another"):
        runs.begin(folder, False, state(), SETTINGS, {})
    text = (folder / "history.csv").read_text()
    (folder / "history.csv").unlink()
    resumed(folder, caplog)
    assert (folder / "history.csv").read_text() == text
    assert text.splitlines()[0] == ",".join(ROW) and text.endswith("0.5\n")
