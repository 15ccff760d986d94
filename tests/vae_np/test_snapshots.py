"""Snapshots: the same ones however often a training is stopped, a whole file or none, and a training that they do not change."""

import os

import numpy as np
import pytest

from tests.vae_np.test_training import ARCH, Killed, assert_same, quick
from vae_np import Adam, Architecture, Parameters, runs, snapshots
from vae_np.snapshots import epochs_kept, load


def flats(found):
    return {epoch: p.flat.tolist() for epoch, p in found.items()}


def test_at_most_n_are_kept_and_never_one_that_was_dropped_or_passed_before():
    for n in range(9):
        before = set()
        for epoch in range(600):
            kept = set(epochs_kept(n, epoch))
            assert len(kept) <= n and kept - before <= {epoch}
            before = kept
        assert len(before) >= min(n, 3) and (n == 0 or 0 in before)
    gaps = np.diff(np.log2(epochs_kept(6, 5000)[1:]))
    assert len(set(gaps)) == 1


def test_a_snapshot_is_what_a_shorter_training_gives_and_the_training_stays_as_it_is(tmp_path):
    run = quick(epochs=9, snapshots=4, out=tmp_path)
    assert_same(run, quick(epochs=9))
    assert list(run.snapshots) == [0, 1, 4]
    assert flats(run.snapshots) == flats(
        {
            epoch: quick(epochs=epoch).parameters if epoch else Parameters.initialize(ARCH, 0, "float32")
            for epoch in run.snapshots
        }
    )
    assert flats(load(tmp_path, ARCH)) == flats(run.snapshots) and flats(load(tmp_path, ARCH, 3)).keys() == {0, 1}
    assert {p.flat.dtype.name for p in load(tmp_path, ARCH).values()} == {"float32"}
    assert (tmp_path / snapshots.FILE).stat().st_size < 3 * run.parameters.flat.nbytes + 1500


def test_without_them_nothing_is_written(tmp_path):
    assert quick(out=tmp_path).snapshots == {} and not (tmp_path / snapshots.FILE).exists()
    assert load(tmp_path, ARCH) == {}


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_training_that_was_killed_has_the_same_snapshots(tmp_path, monkeypatch, when):
    """At whatever renaming of a file the kill comes, and also if the training was to be shorter before."""
    wanted, replace = quick(epochs=5, snapshots=3), os.replace

    def killing(new, old):
        killing.left -= 1
        if not killing.left and when == "before":
            raise Killed
        replace(new, old)
        if not killing.left:
            raise Killed

    monkeypatch.setattr(os, "replace", killing)
    for left in range(1, 12):
        out, killing.left = tmp_path / str(left), left
        with pytest.raises(Killed):
            quick(epochs=4, snapshots=3, out=out)
        killing.left = 0
        run = quick(epochs=5, snapshots=3, out=out, resume=True)
        assert_same(run, wanted)
        assert flats(load(out, ARCH)) == flats(run.snapshots) == flats(wanted.snapshots)


def test_they_stay_as_they_were_asked_for(tmp_path):
    quick(epochs=2, out=tmp_path)
    with pytest.raises(ValueError, match="was trained with snapshots 0, not 3"):
        quick(epochs=3, snapshots=3, out=tmp_path, resume=True)
    settings = runs.settings_of(tmp_path)
    assert settings.pop("snapshots") == 0 == runs.LATER["snapshots"]
    for wrong in (-1, 1.5, True):
        with pytest.raises(ValueError, match=f"snapshots is {wrong}; it must be a whole number, 0 or more"):
            quick(snapshots=wrong)


def test_the_epoch_of_a_checkpoint_is_that_of_its_parameters(tmp_path):
    assert runs.epoch_of(tmp_path) == 0
    for patience in (None, 2):
        out = tmp_path / str(patience)
        run = quick(epochs=6, patience=patience, optimizer=Adam(0.5), out=out)
        epoch = runs.epoch_of(out)
        assert (epoch == 6) == (patience is None) and epoch <= len(run.history)
        assert flats({0: quick(epochs=epoch, optimizer=Adam(0.5)).parameters}) == flats({0: run.parameters})


def test_a_damaged_file_is_named(tmp_path):
    quick(epochs=2, snapshots=3, out=tmp_path)
    path, sentence = tmp_path / snapshots.FILE, "snapshots.npz is not a whole"
    with pytest.raises(ValueError, match=sentence):
        load(tmp_path, Architecture(6, (4,), 2))
    whole = path.read_bytes()
    path.write_bytes(whole[:-30])
    for read in (lambda: load(tmp_path, ARCH), lambda: quick(epochs=3, snapshots=3, out=tmp_path, resume=True)):
        with pytest.raises(ValueError, match=sentence):
            read()
