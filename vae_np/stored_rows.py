"""Rows that stay in their files: one .npy file, or a folder of them, of any size. Only the rows that are asked for are read."""

import mmap
import os
import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

SMALL = 2**28  # bytes of a file that the system holds in memory anyway
BYTES_AT_A_TIME = 2**20  # in one pass over all rows


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
        self.before_held_out = self.held_out - np.arange(len(self.held_out))  # how many other rows come before each
        n = len(self.held_out) if only_held_out else int(self.ends[-1]) - len(self.held_out)
        kind = arrays[0].dtype
        self.dtype = kind if kind in (np.uint8, np.float32, np.float64) else np.dtype(np.float64)
        self.shape = n, int(np.prod(arrays[0].shape[1:]))
        self.limits: tuple[float, float] | None = None  # the least and the greatest number, once they were looked for
        self.has_grey, self.checksum = False, 0
        self.clip: tuple[float, float] | None = None

    ndim = 2

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: Any) -> NDArray:
        """The rows of a slice or of an array of numbers of any shape."""
        in_order = isinstance(index, slice)
        index = np.arange(*index.indices(len(self))) if isinstance(index, slice) else np.asarray(index)
        numbers = index.reshape(-1)
        if numbers.size and not (-len(self) <= numbers.min() and numbers.max() < len(self)):
            raise IndexError(f"there are {len(self)} rows")
        numbers = np.where(numbers < 0, numbers + len(self), numbers)
        if self.only_held_out:
            numbers = self.held_out[numbers]
        elif len(self.held_out):
            numbers = numbers + np.searchsorted(self.before_held_out, numbers, side="right")
        rows = np.empty((len(numbers), self.shape[1]), self.dtype)
        files = np.searchsorted(self.ends, numbers, side="right")
        for file in np.unique(files):
            here = files == file
            array, places = self.arrays[file], numbers[here] - (self.ends[file] - len(self.arrays[file]))
            if isinstance(array, np.memmap) and array.nbytes > SMALL:
                _ask_for(array, places[[0, -1]] if in_order else np.stack([places, places], axis=1))
            rows[here] = array[places].reshape(-1, self.shape[1])
        if self.clip:
            rows = rows.clip(*self.clip)
        return rows.reshape(*index.shape, self.shape[1])

    def chunks(self) -> Iterator[NDArray]:
        """All rows in their order, in arrays of a limited size."""
        size = max(1, BYTES_AT_A_TIME // (self.dtype.itemsize * self.shape[1]))
        return (self[start : start + size] for start in range(0, len(self), size))

    def look(self, progress: Callable[[int, int], object] | None = None) -> None:
        """Find the limits of the numbers, whether any lies between them and the checksum of all, in one pass."""
        if self.limits:
            return
        low, high, done, between = np.inf, -np.inf, 0, False
        top = 255 if self.dtype == np.uint8 else 1
        for chunk in self.chunks():
            low, high = min(low, chunk.min()), max(high, chunk.max())  # NaN does not pass: see below
            low, high = (np.nan, np.nan) if np.isnan(chunk.min()) or low != low else (low, high)
            between = between or bool(((chunk > 0) & (chunk < top)).any())
            self.checksum = zlib.crc32(chunk, self.checksum)
            done += len(chunk)
            if progress:
                progress(done, len(self))
        self.limits, self.has_grey = (float(low), float(high)), between


def _ask_for(array, spans):
    """Ask the system for the pages of spans of rows, (.., 2) from their first to their last row, so that it reads many at a time.

    Else it reads those of a row only when the row is copied, and many neighbours with them.
    """
    pages: mmap.mmap = array._mmap
    if not hasattr(pages, "madvise"):
        return
    pages.madvise(mmap.MADV_RANDOM)
    length, before = array.strides[0], array.offset % mmap.ALLOCATIONGRANULARITY
    for first, last in spans.reshape(-1, 2).tolist():
        page = (before + first * length) // mmap.PAGESIZE * mmap.PAGESIZE
        pages.madvise(mmap.MADV_WILLNEED, page, before + (last + 1) * length - page)


def split(rows: StoredRows, held_out: NDArray) -> tuple[StoredRows, StoredRows]:
    """The rows that are not held out, and those that are. Nothing is copied."""
    return StoredRows(rows.arrays, held_out), StoredRows(rows.arrays, held_out, only_held_out=True)


def mapped(path: str | os.PathLike) -> NDArray:
    """The array of a .npy file, mapped.

    Raises
    ------
    ValueError
        The file is none, or is not whole.
    """
    return np.load(path, mmap_mode="r", allow_pickle=False)
