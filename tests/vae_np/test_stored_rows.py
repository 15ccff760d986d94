"""Rows that stay in their files give the bits of the same rows in memory, and take no memory of their size."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.vae_np.test_ranks import BACKENDS, digest
from vae_np import Architecture, data, encode, log_likelihood, streams, train
from vae_np.evaluation import evaluate
from vae_np.ranks import in_threads
from vae_np.stored_rows import StoredRows

ARCH = Architecture(12, (9,), 3)
GREY = np.random.default_rng(0).integers(0, 256, (200, 12), dtype=np.uint8)


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


@given(held_out=st.sets(st.integers(0, 9), max_size=9), cut=st.integers(1, 9), draw=st.data())
def test_indices_mean_what_they_mean_for_an_array(held_out, cut, draw):
    x, held_out = np.arange(30.0).reshape(10, 3), sorted(held_out)
    for rows, wanted in (
        (StoredRows([x[:cut], x[cut:]], held_out), np.delete(x, held_out, axis=0)),
        (StoredRows([x[:cut], x[cut:]], held_out, only_held_out=True), x[held_out]),
    ):
        assert len(rows) == len(wanted) and rows.shape == wanted.shape
        assert (rows[2:7] == wanted[2:7]).all() and (rows[:] == wanted).all()
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


def test_folders_that_are_no_row_space_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"known are .*, and folders of .npy files"):
        data.load(str(tmp_path))
    np.save(tmp_path / "a.npy", GREY)
    np.save(tmp_path / "b.npy", GREY[:, :5])
    with pytest.raises(ValueError, match=r"b.npy holds uint8 rows of shape \(5,\); .*a.npy holds uint8 rows of shape \(12,\)"):
        data.load(str(tmp_path))
    (tmp_path / "b.npy").write_bytes((tmp_path / "a.npy").read_bytes()[:-9])
    with pytest.raises(ValueError, match=r"b.npy"):
        data.load(str(tmp_path))


def test_a_training_from_files_takes_little_memory(tmp_path):
    (tmp_path / "rows").mkdir()
    shard = np.lib.format.open_memmap(tmp_path / "rows" / "0.npy", "w+", np.uint8, (100_000, 784))
    shard[::7] = np.arange(784) % 256
    n_bytes = shard.nbytes
    del shard
    tracemalloc.start()
    try:
        dataset = data.load(str(tmp_path / "rows"))
        train(Architecture(784, (4,), 2), dataset.train, dataset.valid, epochs=1, batch_size=1000, backend="numpy")
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < n_bytes / 2  # of it the validation's buffers of 1024 rows are most


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
