"""The loops that show the machine at its best compute what is counted, and the fastest piece of a loop is its speed."""

import numba
import numpy as np
import pytest

from benchmarks import peaks
from tests.kernels import emulated_amx
from vae_np.kernels.cpu import amx
from vae_np.kernels.cpu.emit import VECTOR

# ------------------------------------------------------------------------------------------------------------ the clock


def test_the_speed_is_that_of_the_fastest_piece(clock, monkeypatch):
    """The first turn, which may compile, does not count, and neither do pieces that were interrupted."""
    runs = []

    def run(turns):
        assert len(runs) < 50, "there is no end to it"
        runs.append(turns)
        clock.now += turns * 2.0**-14 * (1 if len(runs) in (1, 7) else 2)

    monkeypatch.setattr(peaks, "PIECE_SECONDS", 2.0**-10)
    loop = peaks.Loop(48, run)
    assert loop.turns() == 8  # a turn takes 2^-13 s
    assert loop.speed(8) == 48 * 2.0**14
    assert runs == [1, 1, 2, 4, 8, *[8] * 8]
    runs.clear()
    assert loop.speed() == 48 * 2.0**14
    assert runs == [1, 1, 2, 4, 8, *[8] * 8]


def test_a_piece_takes_half_a_millisecond(clock):
    def run(turns):
        assert 1 <= turns < 50, "there is no end to it"
        clock.now += turns * 2.0**-13

    assert peaks.Loop(1, run).turns() == 8


# ------------------------------------------------------------------------------------------------------------- the loops


def test_the_sums_fill_the_registers():
    """There are 32 in AVX-512 and NEON and 16 in AVX2."""
    assert {64: 24, 32: 12, 16: 20, 0: 0}[VECTOR] == peaks.SUMS


@pytest.mark.skipif(not VECTOR, reason="the vectors of this processor are not known")
@pytest.mark.parametrize("turns", [0, 1, 3])
def test_each_turn_makes_a_multiply_add_with_each_number(turns):
    """The result is the sum of the first numbers of all vectors. A pair adds the products of two halves."""
    firsts = np.arange(peaks.SUMS, dtype=np.float64)
    assert peaks.multiply_add_pairs(turns) == pytest.approx((firsts + turns / 2).sum())
    for _ in range(turns):
        firsts = firsts * 0.5 + 0.5
    assert peaks.multiply_adds(turns) == pytest.approx(firsts.sum())


@pytest.mark.skipif(VECTOR != 64, reason="AMX comes with vectors of 64 bytes")
def test_each_turn_makes_four_products_of_whole_tiles(monkeypatch):
    """The instructions are emulated. Each product has 16 rows, 16 columns and 16 pairs, as 64 bytes hold 16 words."""
    for name in ("PERMITTED", "INSTRUCTIONS"):
        monkeypatch.setattr(amx, name, getattr(amx, name))  # so that they are restored
    emulated_amx.install()
    emulated_amx.counts[:] = 0

    run = numba.njit(peaks.multiply_tiles.py_func)  # which is not kept for the next run
    assert run(3) == 0
    assert emulated_amx.counts.tolist() == [1, 12, 0]
    assert emulated_amx.shapes.tolist() == [[16, 64]] * 8


@pytest.mark.parametrize(
    "has, precision, operations",
    [
        ("", "bfloat16", {}),
        ("VECTOR", "float32", {"registers": 640}),
        ("VECTOR MULTIPLIES_PAIRS tiles", "float32", {"registers": 640}),
        ("VECTOR MULTIPLIES_PAIRS", "bfloat16", {"registers": 640, "VDPBF16PS": 1280}),
        ("VECTOR tiles", "bfloat16", {"registers": 640, "AMX": 4 * 2 * 16 * 16 * 32}),
    ],
)
def test_loops_are_those_that_the_processor_and_the_precision_have(has, precision, operations, monkeypatch):
    """There are 20 vectors of 64 bytes."""
    monkeypatch.setattr(peaks, "SUMS", 20)
    monkeypatch.setattr(peaks, "VECTOR", 64 if "VECTOR" in has else 0)
    monkeypatch.setattr(peaks, "MULTIPLIES_PAIRS", "MULTIPLIES_PAIRS" in has)
    monkeypatch.setattr(peaks.amx, "PERMITTED", "tiles" in has)
    found = {name: loop.per_turn for name, loop in peaks.multiplying(precision).items()}
    assert {words: n for words in ("registers", "VDPBF16PS", "AMX") for name, n in found.items() if words in name} == operations
    assert len(found) == 3 + len(operations)
    assert list(found)[:3] == ["NumPy's product of 256 x 256", "NumPy's product of 512 x 512", "NumPy's product of 1024 x 1024"]


def test_a_product_has_two_operations_for_each_pair(monkeypatch):
    made = []
    loop = peaks.products(5)
    monkeypatch.setattr(np, "matmul", lambda a, b, out: made.append([x.shape for x in (a, b, out)] + [out.dtype]))
    loop.run(3)
    assert loop.per_turn == 250
    assert made == [[(5, 5)] * 3 + [np.float32]] * 3


@pytest.mark.parametrize("n_bytes, n", [(1, 8), (64, 8), (65, 16), (4096, 512)])
def test_arrays_hold_whole_lines_of_the_cache(n_bytes, n):
    array = peaks._aligned(n_bytes)
    assert (array.size, array.nbytes, array.ctypes.data % 64) == (n, 8 * n, 0)
    assert peaks.reading(n_bytes).per_turn == 8 * n
    assert [loop.per_turn for loop in peaks.writing(n_bytes)] == [8 * n] * 2
    for loop in (peaks.reading(n_bytes), *peaks.writing(n_bytes)):
        loop.run(2)


def test_caches_are_read_and_written_whole():
    array = np.array([1, 2, 8, 16])
    assert peaks._read(array, 2) == 27
    peaks._update(array, 3)
    assert array.tolist() == [4, 5, 11, 19]
    peaks._fill(array, 3)
    assert array.tolist() == [2] * 4


# ------------------------------------------------------------------------------------------------------------ the caches


def test_caches_have_sizes(monkeypatch, tmp_path):
    here = peaks.cache_sizes()
    assert sorted(here.values()) == list(here.values()) and all(size >= 2**13 for size in here.values())
    texts = {0: ("Data", 1, "48K"), 1: ("Instruction", 1, "64K"), 2: ("Unified", 2, "2048K"), 3: ("Unified", 3, "260M")}
    for i, words in texts.items():
        (tmp_path / f"index{i}").mkdir()
        for name, word in zip(("type", "level", "size"), words):
            (tmp_path / f"index{i}" / name).write_text(f"{word}\n")
    (tmp_path / "index4").mkdir()  # whose size is not known
    monkeypatch.setattr(peaks, "CACHES", tmp_path)
    assert peaks.cache_sizes() == {"L1": 48 * 2**10, "L2": 2 * 2**20, "L3": 260 * 2**20}
    monkeypatch.setattr(peaks, "CACHES", tmp_path / "none")
    assert peaks.cache_sizes() == {}


LEVELS = {"L1": {"bytes": 100}, "L2": {"bytes": 1000}, "memory": {}}


@pytest.mark.parametrize("n_bytes, name", [(1, "L1"), (100, "L1"), (101, "L2"), (1000, "L2"), (1001, "memory")])
def test_the_level_is_the_first_that_holds_all(n_bytes, name):
    assert peaks.level_of(n_bytes, LEVELS) == name
    assert peaks.level_of(n_bytes, {}) == ""


# ------------------------------------------------------------------------------------------------------------- the worker


class Made:
    """Stands in for a Loop of a given speed, and notes its pieces."""

    def __init__(self, turns, speed, asked):
        self.its_turns, self.its_speed, self.asked = turns, speed, asked

    def turns(self):
        return self.its_turns

    def speed(self, turns=None):
        self.asked.append(turns)
        return self.its_speed


@pytest.fixture
def probe(monkeypatch):
    """A Probe of three cores, whose loops are made up: `probe.asked` lists their pieces, and `probe.pinned` its threads."""
    asked, pinned = [], []
    made = {"a": Made(1, 2.0, asked), "the best": Made(2, 8.0, asked), "another": Made(3, 4.0, asked)}
    monkeypatch.setattr(peaks, "multiplying", {"bfloat16": made}.get)
    monkeypatch.setattr(peaks.processes, "allowed_cores", lambda: [0, 1, 4])
    monkeypatch.setattr(peaks.os, "sched_setaffinity", lambda who, cores: pinned.append((who, cores)), raising=False)
    probe = peaks.Probe("bfloat16")
    probe.asked, probe.pinned = asked, pinned
    yield probe
    probe.threads.shutdown()


def test_a_probe_measures_on_all_cores_and_then_only_the_fastest_loop(probe):
    assert probe.peaks() == {"a": 2.0, "the best": 8.0, "another": 4.0}
    assert probe.asked == [1, 1, 1, 2, 2, 2, 3, 3, 3]
    assert sorted(probe.pinned) == [(0, [0]), (0, [1]), (0, [4])]
    assert probe.peak() == 8.0
    assert probe.asked[9:] == [2, 2, 2]


def test_a_peak_is_the_mean_of_the_cores(probe, monkeypatch):
    speeds = iter([1.0, 2.0, 6.0])
    probe.peaks()
    monkeypatch.setattr(Made, "speed", lambda self, turns: next(speeds))
    assert probe.peak() == 3.0


def test_a_probe_measures_caches(probe, monkeypatch):
    monkeypatch.setattr(peaks, "reading", lambda n_bytes: Made(1, 5.0 * n_bytes, []))
    monkeypatch.setattr(peaks, "writing", lambda n_bytes: [Made(1, speed * n_bytes, []) for speed in (2.0, 3.0)])
    assert probe.caches(7) == {"read": 35.0, "write": 21.0}
    monkeypatch.setattr(peaks, "cache_sizes", lambda: {"L1": 100, "L2": 1000})
    assert probe.levels() == {
        "L1": {"bytes": 100, "read": 375.0, "write": 225.0},
        "L2": {"bytes": 1000, "read": 3750.0, "write": 2250.0},
        "memory": {"read": 20000.0, "write": 12000.0},
    }
    monkeypatch.setattr(peaks, "cache_sizes", dict)
    assert probe.levels() == {}
