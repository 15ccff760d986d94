"""The cache of compiled kernels: a cache that is damaged, full or missing costs time and a warning, and is no error."""

import errno
import gc
import sys

import pytest
from numba import njit
from numba.core import caching, config

from vae_np.kernels.cpu import jit


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """The folder of the cache: it is empty, and nothing has been logged yet."""
    monkeypatch.setattr(config, "CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(jit._Notice, "has_place", True)
    monkeypatch.setattr(jit._Notice, "said", False)
    jit._warn_once.cache_clear()
    return tmp_path


def fresh():
    """A kernel as a new process has it: only the cache can know that it was compiled already."""

    def double(x):
        return 2 * x

    return jit.kernel(double)


def hits(kernel):
    """How often the kernel was read from the cache, in a call that must give the right number."""
    assert kernel(1.5) == 3
    return sum(kernel.stats.cache_hits.values())


def test_a_kernel_is_kept_for_the_next_process(caplog):
    assert [hits(fresh()), hits(fresh())] == [0, 1] and not caplog.records


@pytest.mark.parametrize("damage", [b"", b"\x80garbage", b"\x80\x04N."], ids=["cut off", "garbage", "of another kind"])
@pytest.mark.parametrize("kind", ["*.nbi", "*.nbc"], ids=["index", "code"])
def test_a_damaged_cache_is_said_once_and_begun_anew(cache, kind, damage, caplog):
    fresh()(1.5)
    (path,) = cache.rglob(kind)
    path.write_bytes(damage)
    found = [hits(fresh()) for _ in range(3)]
    assert found[0] == 0 and found[1:] == [1, 1]
    assert len(caplog.records) <= 1 and all("compiled again" in record.message for record in caplog.records)


def test_a_full_disk_is_said_once(cache, monkeypatch, caplog):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(caching.IndexDataCacheFile, "_save_data", full)
    assert [hits(fresh()), hits(fresh())] == [0, 0]
    assert [record.message for record in caplog.records] == [
        "the compiled kernels cannot be kept for the next run: No space left on device"
    ]


def test_kernels_are_counted_while_they_are_compiled_and_no_garbage_is_collected_then(caplog):
    enabled = []

    def fails():
        enabled.append(gc.isenabled())
        raise ValueError

    with caplog.at_level("INFO", "vae_np.compilation"), pytest.raises(ValueError):
        jit.one_by_one([("first", lambda: enabled.append(gc.isenabled())), ("second", fails), ("third", fails)])
    words = "compiling kernels for this machine: "
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("WARNING", words + "1 of 3 (first); they are kept for the next run"),
        ("INFO", words + "2 of 3 (second); they are kept for the next run"),
    ]
    assert enabled == [False, False] and gc.isenabled()


@pytest.mark.parametrize(
    ("of", "name", "value"),
    [
        (config, "NUMBA_NUM_THREADS", 1),
        (sys, "executable", None),
        (sys, "frozen", True),
        (jit._Notice, "has_place", False),
        (jit.subprocess, "Popen", None),
    ],
)
def test_no_process_runs_beside_this_one_where_it_would_not_help_or_cannot(of, name, value, monkeypatch):
    def refused(*_, **__):
        raise OSError

    monkeypatch.setattr(config, "NUMBA_NUM_THREADS", 2)
    monkeypatch.setattr(of, name, value or refused if name == "Popen" else value, raising=False)
    assert jit.python_beside("pass") is None


def test_ctrl_c_while_a_kernel_is_read_is_no_damage(monkeypatch):
    def interrupted(*_):
        try:
            raise KeyboardInterrupt
        except KeyboardInterrupt as interrupt:
            raise SystemError("returned a result with an exception set") from interrupt

    monkeypatch.setattr(caching.IndexDataCacheFile, "load", interrupted)
    with pytest.raises(SystemError):
        fresh()(1.5)


def test_where_no_folder_can_be_written_it_is_said_once_what_to_do(monkeypatch, caplog):
    monkeypatch.setattr(config, "CACHE_DIR", "/dev/null/cache")
    for locator in caching.CodeLibraryCacheImpl._locator_classes:
        monkeypatch.setattr(locator, "from_function", classmethod(lambda *_: None))
    assert [hits(fresh()), hits(fresh())] == [0, 0]
    jit.one_by_one([("first", bool), ("second", bool)])
    (said,) = [record.getMessage() for record in caplog.records if record.name == "vae_np"]
    assert "NUMBA_CACHE_DIR" in said and "are kept for" not in caplog.text


def test_what_is_chosen_by_types_is_for_compiled_code():
    double = jit.by_types(lambda x: lambda x: 2 * x)
    assert njit(lambda x: double(x))(3) == 6
    with pytest.raises(TypeError, match="compiled code"):
        double(3)
