"""The cache of compiled kernels: a cache that is damaged, full or missing costs time and a warning, and is no error."""

import errno

import pytest
from numba.core import caching, config

from vae_np.kernels.cpu import jit


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """The folder of the cache: it is empty, and nothing has been logged yet."""
    monkeypatch.setattr(config, "CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(jit._Notice, "afterwards", jit._Notice.afterwards)
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


def test_ctrl_c_while_a_kernel_is_read_is_no_damage(monkeypatch):
    def interrupted(*_):
        try:
            raise KeyboardInterrupt
        except KeyboardInterrupt as interrupt:
            raise SystemError("returned a result with an exception set") from interrupt

    monkeypatch.setattr(caching.IndexDataCacheFile, "load", interrupted)
    with pytest.raises(SystemError):
        fresh()(1.5)


def test_where_no_folder_can_be_written_the_word_about_compiling_says_so(monkeypatch):
    monkeypatch.setattr(config, "CACHE_DIR", "/dev/null/cache")
    for locator in caching.CodeLibraryCacheImpl._locator_classes:
        monkeypatch.setattr(locator, "from_function", classmethod(lambda *_: None))
    assert [hits(fresh()), hits(fresh())] == [0, 0]
    assert "NUMBA_CACHE_DIR" in jit._Notice.afterwards
