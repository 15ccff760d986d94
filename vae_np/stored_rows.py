"""Rows that stay in their files: one .npy file, or a folder of them, of any size. Only the rows that are asked for are read."""

import contextlib
import hashlib
import itertools
import json
import mmap
import os
import pathlib
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

SMALL = 2**28  # bytes of files that the system holds in memory anyway
BYTES_AT_A_TIME = 2**20  # in one pass over all rows
SAMPLES, BYTES_OF_SAMPLES = 256, 2**24  # the most rows, and about the most bytes of them, by which files are recognised
SETTLED = 2 * 10**9  # nanoseconds: what was changed so lately may be changed again within the same tick of its file system


class Found(NamedTuple):
    """What a pass over all rows has found."""

    low: float = np.inf  # the least number, or NaN if there is one
    high: float = -np.inf
    has_grey: bool = False  # whether a number lies between 0 and 1, of bytes between 0 and 255
    checksum: int = 0


class StoredRows:
    """Rows (N, D) in files, which are mapped and never read as a whole. An index of rows gives an array of them in memory.

    Parameters
    ----------
    arrays : sequence of array (n, ...)
        The arrays of the files, one after another. All have the same dtype and the same shape of a row.
    held_out : array of int, optional
        The numbers of rows that are left out, in ascending order.
    only_held_out : bool
        Whether these rows are instead the only ones.
    """

    def __init__(self, arrays: Sequence[NDArray], held_out: ArrayLike = (), only_held_out: bool = False):
        self.arrays, self.only_held_out = arrays, only_held_out
        self.held_out = np.asarray(held_out, np.int64)
        self.ends = np.cumsum([len(array) for array in arrays])
        if not only_held_out:
            self.before_held_out = self.held_out - np.arange(len(self.held_out))  # how many other rows come before each
        n = len(self.held_out) if only_held_out else int(self.ends[-1]) - len(self.held_out)
        kind = arrays[0].dtype
        self.dtype = kind if kind in (np.uint8, np.float32, np.float64) else np.dtype(np.float64)
        self.shape = n, int(np.prod(arrays[0].shape[1:]))
        self.large = sum(array.nbytes for array in arrays) > SMALL
        for pages in itertools.chain(*map(_pages, arrays if self.large else ())):
            pages.madvise(mmap.MADV_RANDOM)  # else the system would read many neighbours of each row that is copied
        self.found: dict[bool, Found] = {}  # by only_held_out: one pass over the files finds it for both parts
        self.clip: tuple[float, float] | None = None
        self.asked: list[tuple[NDArray, NDArray]] = []  # the last two: (numbers, their numbers among all rows of the files)

    ndim = 2

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: Any) -> NDArray:
        """The rows of a slice or of an array of numbers of any shape."""
        if isinstance(index, slice):
            numbers = self._in_files(np.arange(*index.indices(len(self))))
            if self.large and len(numbers) and index.step in (None, 1):
                # Those that follow are asked for too, because most slices are of a series.
                following = numbers[-1] + 1 - numbers[0]
                self._ask_for(np.append(numbers, np.arange(numbers[-1] + 1, min(numbers[-1] + following, self.ends[-1]))))
            return self._copied(numbers)
        index = np.asarray(index)
        asked = [numbers for before, numbers in self.asked if np.array_equal(before, index)]
        return self._copied(asked[0] if asked else self._asked_for(index)).reshape(*index.shape, self.shape[1])

    def ask(self, index: NDArray) -> None:
        """Ask the system to read rows that will be copied soon, by the same array of numbers, while something else is done."""
        self.asked = [*self.asked[-1:], (index, self._asked_for(index))]

    def _asked_for(self, index):
        numbers = index.reshape(-1)
        if numbers.size and not (-len(self) <= numbers.min() and numbers.max() < len(self)):
            raise IndexError(f"there are {len(self)} rows")
        numbers = self._in_files(np.where(numbers < 0, numbers + len(self), numbers))
        if self.large and len(numbers):
            self._ask_for(np.sort(numbers))
        return numbers

    def chunks(self) -> Iterator[NDArray]:
        """All rows in their order, in arrays of a limited size."""
        size = max(1, BYTES_AT_A_TIME // (self.dtype.itemsize * self.shape[1]))
        return (self[start : start + size] for start in range(0, len(self), size))

    def look(self, progress: Callable[[int, int], object] | None = None) -> Found:
        """What is to be known of all rows. The first call makes one pass over the files, for both parts of a split.

        What it finds is remembered in the user's cache folder. Files whose sizes, times of modification and samples are those
        of an earlier pass are not read again.
        """
        if not self.found:
            facts = _facts(self)
            found = facts and _remembered(facts)
            if not found:
                found = _look(self, progress)
                if facts and facts == _facts(self):  # nobody has changed a file meanwhile
                    _remember(facts, found)
            self.found.update(zip((False, True), itertools.starmap(Found, found)))
        return self.found[self.only_held_out]

    def _in_files(self, numbers):
        """The numbers among all rows of the files of rows of this part."""
        if self.only_held_out:
            return self.held_out[numbers]
        if not len(self.held_out):
            return numbers
        order, found = np.argsort(numbers), np.empty_like(numbers)  # a search in ascending order stays in the cache
        found[order] = numbers[order] + np.searchsorted(self.before_held_out, numbers[order], side="right")
        return found

    def _copied(self, numbers):
        rows, files = np.empty((len(numbers), self.shape[1]), self.dtype), np.searchsorted(self.ends, numbers, side="right")
        for file in np.unique(files):
            here, array = files == file, self.arrays[file]
            rows[here] = array[numbers[here] - (self.ends[file] - len(array))].reshape(-1, self.shape[1])
        return rows.clip(*self.clip) if self.clip else rows

    def _ask_for(self, numbers):
        """Ask the system for the pages of rows in ascending order, so that it reads many at a time, while this process goes on.

        Else it reads those of a row only when the row is copied.
        """
        starts = np.searchsorted(numbers, self.ends)
        for array, end, rows in zip(self.arrays, self.ends, np.split(numbers, starts[:-1])):
            for pages in _pages(array) if len(rows) else ():
                place = _begin(array, pages) + (rows - (end - len(array))) * array.strides[0]
                first, last = place // mmap.PAGESIZE, (place + array.strides[0] - 1) // mmap.PAGESIZE
                apart = np.flatnonzero(first[1:] > last[:-1] + 1)
                spans = first[np.append(0, apart + 1)], last[np.append(apart, -1)] + 1
                for start, stop in zip(*(mmap.PAGESIZE * edge for edge in spans)):
                    pages.madvise(mmap.MADV_WILLNEED, start, min(stop, len(pages)) - start)


def has_grey(rows: NDArray) -> bool:
    """Whether a number lies between 0 and 1, of bytes between 0 and 255."""
    return bool(((rows > 0) & (rows < (255 if rows.dtype == np.uint8 else 1))).any())


def split(rows: StoredRows, held_out: NDArray) -> tuple[StoredRows, StoredRows]:
    """The rows that are not held out, and those that are. Nothing is copied."""
    rest, only = StoredRows(rows.arrays, held_out), StoredRows(rows.arrays, held_out, only_held_out=True)
    only.found = rest.found
    return rest, only


def mapped(path: str | os.PathLike) -> NDArray:
    """The array of a .npy file, mapped.

    Raises
    ------
    ValueError
        The file is none, or is not whole, or holds its numbers column by column.
    """
    array = np.load(path, mmap_mode="r", allow_pickle=False)
    if array.size and not array.flags.c_contiguous:
        raise ValueError("it holds its numbers column by column; write it with order='C', so that each row stands together")
    return array


def of_map(x: Any) -> Any:
    """x as StoredRows if it is an array (N, D) that `numpy.load` or `numpy.memmap` has mapped, and not a part of one."""
    return StoredRows([x]) if _is_whole_file(x) and x.ndim == 2 else x


def _is_whole_file(x):
    return isinstance(x, np.memmap) and isinstance(x.base, mmap.mmap) and x.filename is not None


def _begin(array, pages):
    """Where the numbers begin in the map."""
    return array.__array_interface__["data"][0] - np.frombuffer(pages, np.uint8).ctypes.data


def _pages(array) -> list[Any]:
    """[the map of the array's file], or [] where the system takes no advice about it."""
    pages = getattr(array, "_mmap", None)
    return [pages] if hasattr(pages, "madvise") else []


# ---------------------------------------------------------------------------------- the pass over all rows, and its memory


def _look(part, progress):
    """[of the rows that are not held out, of those that are]: what one pass over the files finds."""
    whole, held_out, start = StoredRows(part.arrays), part.held_out, 0
    rest, only = Found(), Found()
    for chunk in whole.chunks():
        inside = held_out[slice(*np.searchsorted(held_out, [start, start + len(chunk)]))] - start
        rest = _and_of(rest, np.delete(chunk, inside, axis=0) if len(inside) else chunk)
        only = _and_of(only, chunk[inside])
        start += len(chunk)
        if progress:
            progress(start, len(whole))
    return [rest, only]


def _and_of(found, rows):
    if not len(rows):
        return found
    grey = found.has_grey or has_grey(rows)
    low, high = np.minimum(found.low, rows.min()), np.maximum(found.high, rows.max())  # either is NaN if one of the two is
    return Found(float(low), float(high), grey, zlib.crc32(rows, found.checksum))


def _facts(part):
    """What tells whether files and their split are those of an earlier pass; None where nothing is to be remembered."""
    arrays = part.arrays
    if not (part.large and all(map(_is_whole_file, arrays))):
        return None
    paths = [os.fspath(array.filename) for array in arrays]
    try:
        stats = [os.stat(path) for path in paths]
    except OSError:  # a file is gone, and can be read only as long as it is mapped
        return None
    if max(stat.st_mtime_ns for stat in stats) > time.time_ns() - SETTLED:
        return None
    whole = StoredRows(arrays)
    n = min(SAMPLES, len(whole), 2 + BYTES_OF_SAMPLES // (whole.shape[1] * whole.dtype.itemsize))
    return {
        "files": paths,
        "sizes and times": [[stat.st_size, stat.st_mtime_ns] for stat in stats],
        "arrays": [[array.dtype.str, *array.shape] for array in arrays],
        "held out": [len(part.held_out), zlib.crc32(part.held_out)],
        "samples": zlib.crc32(whole[np.linspace(0, len(whole) - 1, n).astype(int)]),
    }


def _note(facts):
    """The path of what is remembered about these files."""
    import pooch

    name = hashlib.sha256(json.dumps([facts["files"], facts["held out"]]).encode()).hexdigest()
    return pathlib.Path(pooch.os_cache("vae_np")) / "checked" / f"{name[:32]}.json"


def _remembered(facts):
    """What an earlier pass over the same files has found; None where there was none, or where its note is damaged."""
    with contextlib.suppress(OSError, ValueError):
        checksum, _, text = _note(facts).read_text().partition(" ")
        if int(checksum) == zlib.crc32(text.encode()):
            before, found = json.loads(text)
            return found if before == facts else None
    return None


def _remember(facts, found):
    with contextlib.suppress(OSError):  # a folder into which nothing can be written only costs the next start its time
        note, text = _note(facts), json.dumps([facts, found])
        note.parent.mkdir(parents=True, exist_ok=True)
        note.write_text(f"{zlib.crc32(text.encode())} {text}")
