"""Rows that stay in their files give the bits of the same rows in memory, and take no memory of their size."""

import itertools
import mmap
import os
import tempfile
import tracemalloc
import types

import numpy as np
import pooch
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.vae_np.test_ranks import BACKENDS, digest
from vae_np import SGD, Architecture, data, encode, log_likelihood, plots, streams, train
from vae_np.evaluation import evaluate
from vae_np.ranks import in_threads
from vae_np.stored_rows import StoredRows, mapped, split

ARCH = Architecture(12, (9,), 3)
GREY = np.random.default_rng(0).integers(0, 256, (200, 12), dtype=np.uint8)


@pytest.fixture(autouse=True)
def notes(monkeypatch, tmp_path_factory):
    """The folder of what is remembered of earlier passes, apart from the user's."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setattr(pooch, "os_cache", lambda project: folder)
    return folder / "checked"


@pytest.fixture
def little_memory(monkeypatch):
    monkeypatch.setattr("vae_np.data.free_memory", lambda: 100)
    monkeypatch.setattr("vae_np.stored_rows.SMALL", 0)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("x", [GREY, GREY / 255, (GREY > 100).reshape(200, 3, 4)], ids=["bytes", "float64", "images of bool"])
def test_a_training_from_files_has_the_bits_of_one_from_memory(x, backend, tmp_path, little_memory, monkeypatch):
    folder = tmp_path / "shards"
    folder.mkdir()
    for i, (start, stop) in enumerate(((0, 1), (1, 120), (120, 200))):
        np.save(folder / f"{i}.npy", x[start:stop])
    np.save(tmp_path / "rows.npy", x)
    stored = [data.load(str(folder)), data.load(str(tmp_path / "rows.npy"))]
    monkeypatch.setattr("vae_np.data.free_memory", lambda: 10**9)
    memory = data.load(str(tmp_path / "rows.npy"))
    assert isinstance(memory.train, np.ndarray) and all(isinstance(d.train, StoredRows) for d in stored)
    options = {"epochs": 2, "batch_size": 30, "backend": backend, "binarize": x.dtype != bool}
    alone = train(ARCH, memory.train, memory.valid, out=tmp_path / "run", **options)
    for dataset in stored:
        assert digest(train(ARCH, dataset.train, dataset.valid, **options)) == digest(alone)
    again = train(ARCH, stored[0].train, stored[0].valid, out=tmp_path / "run", resume=True, **options)  # the same checksums
    assert digest(again) == digest(alone)
    whole, parts = memory.train, stored[0].train
    p = alone.parameters
    assert evaluate(p, whole)[:4] == evaluate(p, parts)[:4] and (encode(p, whole)[0] == encode(p, parts)[0]).all()
    assert (log_likelihood(p, whole[:3], 5) == log_likelihood(p, parts[:3], 5)).all()
    by_ranks = in_threads(3, lambda ranks: digest(train(ARCH, parts, stored[0].valid, ranks=ranks, **options)))
    assert len(set(by_ranks)) == 1


def test_a_training_that_stops_goes_on_to_the_same_bits(tmp_path, little_memory, monkeypatch):
    monkeypatch.setattr("vae_np.streams.MOST_SORTED", 0)
    np.save(tmp_path / "rows.npy", GREY)

    def trained(epochs, out, **more):
        dataset = data.load(str(tmp_path / "rows.npy"))
        return train(
            ARCH, dataset.train, dataset.valid, epochs=epochs, batch_size=30, backend="numpy", out=tmp_path / out, **more
        )

    trained(1, "stopped")
    assert digest(trained(3, "stopped", resume=True)) == digest(trained(3, "whole"))


@given(held_out=st.sets(st.integers(0, 9), max_size=9), cut=st.integers(1, 9), draw=st.data())
def test_indices_mean_what_they_mean_for_an_array(held_out, cut, draw):
    x, held_out = np.arange(30.0).reshape(10, 3), sorted(held_out)
    for rows, wanted in (
        (StoredRows([x[:cut], x[cut:]], held_out), np.delete(x, held_out, axis=0)),
        (StoredRows([x[:cut], x[cut:]], held_out, only_held_out=True), x[held_out]),
    ):
        assert len(rows) == len(wanted) and rows.shape == wanted.shape
        assert (rows[2:7] == wanted[2:7]).all() and (rows[:] == wanted).all() and (rows[::-2] == wanted[::-2]).all()
        if len(wanted):
            index = np.array(draw.draw(st.lists(st.integers(-len(wanted), len(wanted) - 1), min_size=4, max_size=4)))
            assert (rows[index.reshape(2, 2)] == wanted[index.reshape(2, 2)]).all()
        with pytest.raises(IndexError, match="there are"):
            rows[np.array([len(wanted)])]


@pytest.mark.parametrize("wrong, said", [(np.nan, "holds NaN"), (np.inf, "holds NaN or infinite"), (1.5, "goes from 0 to 1.5")])
def test_wrong_rows_are_refused_wherever_they_are(wrong, said, monkeypatch):
    monkeypatch.setattr("vae_np.stored_rows.BYTES_AT_A_TIME", 300)
    for place in (0, 7, 19):
        x = np.zeros((20, 12))
        x[place, 3] = wrong
        with pytest.raises(ValueError, match=said):
            ARCH.check_inputs(StoredRows([x]))
    with pytest.raises(ValueError, match="bytes of 0 and 1"):
        ARCH.check_inputs(StoredRows([np.eye(12, dtype=np.uint8)]))


def test_what_rounding_has_put_outside_is_clipped():
    x = np.full((4, 12), 1 + 1e-7)
    rows = StoredRows([x])
    assert ARCH.check_inputs(rows) is rows and (rows[1:3] == 1).all()


def test_folders_that_are_no_row_space_are_refused(tmp_path, little_memory):
    with pytest.raises(ValueError, match=r"known are .*, and folders of .npy files"):
        data.load(str(tmp_path))
    np.save(tmp_path / "a.npy", GREY)
    np.save(tmp_path / "b.npy", GREY[:, :5])
    with pytest.raises(ValueError, match=r"b.npy holds uint8 rows of shape \(5,\); .*a.npy holds uint8 rows of shape \(12,\)"):
        data.load(str(tmp_path))
    (tmp_path / "b.npy").write_bytes((tmp_path / "a.npy").read_bytes()[:-9])
    with pytest.raises(ValueError, match=r"b.npy is not a whole .npy file of numbers: mmap length"):
        data.load(str(tmp_path))
    np.save(tmp_path / "b.npy", np.asfortranarray(GREY))
    with pytest.raises(ValueError, match=r"b.npy .*: it holds its numbers column by column; write it with order='C'"):
        data.load(str(tmp_path))
    with pytest.raises(FileNotFoundError, match="there is no file or folder .*gone"):
        data.load(str(tmp_path / "gone"))


def test_the_memory_for_files_does_not_grow_with_their_rows(tmp_path, monkeypatch):
    monkeypatch.setattr("vae_np.elbo.CHUNK", 4)
    monkeypatch.setattr(
        "vae_np.training.time", types.SimpleNamespace(perf_counter=itertools.count().__next__)
    )  # one step a call
    arch, most = Architecture(30_000, (), 2), []
    tracemalloc.start()
    try:
        for n in (20, 20, 400):  # what is imported is in the first
            rows = np.lib.format.open_memmap(tmp_path / f"{n}.npy", "w+", np.uint8, (n, 30_000))
            rows[::7] = np.arange(30_000) % 256
            tracemalloc.reset_peak()
            rest, valid = split(StoredRows([rows]), np.arange(0, n, 10))
            run = train(arch, rest, valid, optimizer=SGD(1e-6), epochs=1, batch_size=4, backend="numpy")
            plots.latent(run.parameters, valid)
            evaluate(run.parameters, rest)
            most.append(tracemalloc.get_traced_memory()[1])
    finally:
        tracemalloc.stop()
    assert most[2] - most[1] < rows.nbytes / 10


@pytest.mark.parametrize("n", [1, 2, 3, 10, 64, 1000, 4097])
def test_an_order_without_memory_is_a_permutation(n, monkeypatch):
    monkeypatch.setattr("vae_np.streams.MOST_SORTED", 0)
    order = streams.permutation(3, "shuffle", 1, n)
    assert len(order) == n and sorted(order[:]) == list(range(n))
    assert [*order[: n // 3], *order[n // 3 :]] == [*order[:]]
    assert n < 64 or list(order[:]) != list(streams.permutation(3, "shuffle", 2, n)[:])


def test_an_order_without_memory_is_uniform(monkeypatch):
    """Which eighth of 4096 rows comes to stand in which eighth of 20 orders: chi-squared of 64 cells, whose mean is 49."""
    monkeypatch.setattr("vae_np.streams.MOST_SORTED", 0)
    counts, eighth = np.zeros((8, 8)), np.arange(4096) // 512
    for step in range(20):
        np.add.at(counts, (eighth, eighth[streams.permutation(0, "shuffle", step, 4096)[:]]), 1)
    wanted = 20 * 512 / 8
    assert 15 < ((counts - wanted) ** 2 / wanted).sum() < 100  # at random outside of it once in a million times


# ------------------------------------------------------------------------------------------ reading while steps are made


@pytest.mark.skipif(not hasattr(mmap.mmap, "madvise"), reason="this system takes no advice about a map")
@given(numbers=st.sets(st.integers(0, 59), min_size=1), wide=st.sampled_from((7, 900, 5000, 40_000)), cut=st.integers(1, 59))
def test_the_pages_of_rows_are_asked_for_each_once(numbers, wide, cut):
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr("vae_np.stored_rows.SMALL", 0)
        arrays, calls = [], []
        for name, n in (("a", cut), ("b", 60 - cut)):
            np.lib.format.open_memmap(f"{folder}/{name}.npy", "w+", np.uint8, (n, wide)).flush()
            arrays.append(mapped(f"{folder}/{name}.npy"))
        rows = StoredRows(arrays)

        class Pages(bytes):  # a file's map
            def madvise(self, *advice):
                calls.append((self, *advice))

        maps = {id(array): Pages(array._mmap) for array in arrays}
        patch.setattr("vae_np.stored_rows._pages", lambda array: [maps[id(array)]])
        patch.setattr("vae_np.stored_rows._begin", lambda array, pages: array.offset)
        rows.ask(np.array(sorted(numbers, key=lambda i: i * 17 % 60)))
        asked = [(id(pages), page) for pages, _, start, n in calls for page in range(start, start + n, mmap.PAGESIZE)]
        wanted = set()
        for i in numbers:
            array, row = (arrays[0], i) if i < cut else (arrays[1], i - cut)
            start = array.offset + row * wide
            wanted |= {
                (id(maps[id(array)]), p // mmap.PAGESIZE * mmap.PAGESIZE)
                for p in (*range(start, start + wide, 7), start + wide - 1)
            }
        assert len(asked) == len(set(asked)) and set(asked) == wanted
        assert all(start + n <= len(pages) for pages, _, start, n in calls)


def test_a_training_asks_for_the_rows_of_its_next_steps(monkeypatch):
    asked, done = [], []

    def asked_for(self, index, function=StoredRows._asked_for):
        asked.append(index)
        return function(self, index)

    monkeypatch.setattr(StoredRows, "_asked_for", asked_for)
    options = {"epochs": 1, "batch_size": 30, "backend": "numpy"}
    train(ARCH, StoredRows([GREY]), progress=lambda *_: done.append(len(asked)), **options)
    assert done[: len(asked)] == [min(i + 2, len(asked)) for i in range(len(asked))]
    assert sorted(np.concatenate([rows.ravel() for rows in asked])) == list(range(200))  # each of them once


@pytest.mark.parametrize("x", [GREY, GREY > 100, (GREY / 255).astype(np.float16)], ids=["bytes", "bool", "float16"])
def test_a_mapped_array_is_trained_on_as_it_is(x, tmp_path, monkeypatch):
    np.save(tmp_path / "rows.npy", x)
    of_file = np.load(tmp_path / "rows.npy", mmap_mode="r")
    monkeypatch.setattr(np.memmap, "astype", None)  # nothing converts it as a whole
    assert digest(train(ARCH, of_file, of_file, epochs=1)) == digest(train(ARCH, x, x, epochs=1))


# ------------------------------------------------------------------------------------- what is remembered of earlier passes


@pytest.fixture
def looked(tmp_path, little_memory):
    """A function that looks at all rows of a folder: (what it finds in both parts, whether it made a pass over the files)."""
    (tmp_path / "rows").mkdir()
    for name, part in (("a", GREY[:150]), ("b", GREY[150:])):
        np.save(tmp_path / "rows" / f"{name}.npy", part)
        os.utime(tmp_path / "rows" / f"{name}.npy", (0, 0))

    def look(valid_fraction=0.2):
        dataset, calls = data.load(str(tmp_path / "rows"), valid_fraction=valid_fraction), []
        dataset.train.look(lambda *state: calls.append(state))
        return [part and part.look() for part in dataset[:2]], bool(calls)

    return look


def test_a_second_pass_is_not_made(looked, notes):
    first = looked()
    assert first[1] and looked() == (first[0], False)
    assert looked(0.5)[1] and looked(0)[1] and looked() == (first[0], False)  # a note for each split
    assert len(list(notes.iterdir())) == 3


def change(path, row, time):
    rows = np.load(path)
    rows[row] = 255 - rows[row]
    np.save(path, rows)
    os.utime(path, (time, time))


def test_a_file_that_has_changed_is_checked_again(looked, tmp_path, monkeypatch):
    monkeypatch.setattr("vae_np.stored_rows.SAMPLES", 5)  # rows 0, 49, 99, 149 and 199
    found, b = looked()[0], tmp_path / "rows" / "b.npy"
    change(b, 20, time=1)
    again = looked()
    assert again[1] and again[0] != found and not looked()[1]
    change(b, 49, time=1)  # at the same time, but a sample
    last = looked()
    assert last[1] and last[0] != again[0] and not looked()[1]
    np.save(b, np.load(b)[:-1])
    os.utime(b, (1, 1))
    assert looked()[1]


def test_a_file_that_was_just_changed_is_not_remembered(looked, tmp_path, notes):
    os.utime(tmp_path / "rows" / "a.npy", (2**32, 2**32))
    assert looked()[1] and looked()[1] and not notes.exists()


def test_a_file_that_changes_during_the_pass_is_not_remembered(looked, tmp_path, notes):
    rows = data.load(str(tmp_path / "rows")).train
    rows.look(lambda *state: os.utime(tmp_path / "rows" / "a.npy", (1, 1)))
    assert not notes.exists()


@pytest.mark.parametrize("damage", [b"", b"1", b"\xff", b"12 [1]", None])
def test_a_damaged_note_is_ignored(damage, looked, notes):
    found = looked()[0]
    (note,) = notes.iterdir()
    note.write_bytes(note.read_bytes().replace(b"true", b"null") if damage is None else damage)
    assert looked() == (found, True)
    assert looked() == (found, False)


def test_a_note_that_cannot_be_written_is_no_error(looked, notes):
    notes.parent.joinpath("checked").write_text("")  # a file, where a folder is wanted
    assert looked()[1] and looked()[1]
