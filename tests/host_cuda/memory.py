"""The memory of the device: every array has its own pages, between two pages that no thread may use."""

import ctypes
import mmap
import weakref
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from tests.host_cuda.errors import KernelFault
from tests.host_cuda.settings import settings

PAGE = mmap.PAGESIZE
CANARY = np.full(PAGE // 4 + 1, 0xFFF7A5A5, np.uint32)  # it is NaN, whether it is read as a float or as a double
CANARY_AT = CANARY.ctypes.data

libc = ctypes.CDLL(None)
libc.memcmp.argtypes = libc.mprotect.argtypes = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_size_t
_living: dict[int, weakref.ref["Allocation"]] = {}  # by the address of the first page


class Allocation(mmap.mmap):
    """The memory of one array, from `start` to `stop`. It lies in whole pages, from `low` to `high`, between two guard pages.

    The array holds 0xFF in every byte until it is written: NaN in floating point, -1 in integers. The slack, which is what
    remains of the pages, holds the canary.
    """

    low: int
    high: int
    start: int
    stop: int
    slack: list[tuple[int, int, int]]  # (address, address of the canary, bytes)

    def __new__(cls, nbytes: int) -> "Allocation":
        room = max(1, -(-nbytes // PAGE)) * PAGE
        self = super().__new__(cls, -1, room + 2 * PAGE)
        self.low = np.frombuffer(self, np.uint8).ctypes.data + PAGE
        self.high = self.low + room
        last = self.high - nbytes
        self.start = last - last % settings.alignment if settings.placement == "end" else self.low
        self.stop = self.start + nbytes
        self.slack = [
            (begin, CANARY_AT + begin % 4, end - begin)
            for begin, end in ((self.low, self.start), (self.stop, self.high))
            if begin < end
        ]
        for slack in self.slack:
            ctypes.memmove(*slack)
        self.clear()
        for guard in (self.low - PAGE, self.high):
            if libc.mprotect(guard, PAGE, 0):
                raise MemoryError("mprotect failed")
        low = self.low
        _living[low] = weakref.ref(self, lambda _: _living.pop(low))
        return self

    def clear(self) -> None:
        """Make the array what it is before it is written."""
        self.view(self.start, self.stop - self.start)[:] = 0xFF

    def view(self, address: int, nbytes: int) -> NDArray[np.uint8]:
        """Return bytes of it as an array of NumPy."""
        return np.frombuffer(self, np.uint8, nbytes, self.offset(address))

    def offset(self, address: int) -> int:
        """Return how many bytes of this buffer lie before an address."""
        return address - self.low + PAGE


def allocations() -> list[Allocation]:
    """Return the memory of all arrays that exist."""
    return [allocation for reference in list(_living.values()) if (allocation := reference())]


def memory_at(address: int, nbytes: int) -> NDArray[np.uint8]:
    """Return the bytes at an address of the device as an array of NumPy. They must be those of one array."""
    for allocation in allocations():
        if allocation.start <= address and address + nbytes <= allocation.stop:
            return allocation.view(address, nbytes)
    raise KernelFault(f"the {nbytes} bytes at {address:#x} are not inside one array of the device")


def find_damage() -> int:
    """Return an address in the slack of an array that was written, or 0. The canary is put back."""
    found = 0
    for allocation in allocations():
        for begin, canary, nbytes in allocation.slack:
            if libc.memcmp(begin, canary, nbytes):
                now, before = (np.frombuffer(ctypes.string_at(at, nbytes), np.uint8) for at in (begin, canary))
                ctypes.memmove(begin, canary, nbytes)
                # The array is the nearest one: the slack lies behind it, or before it.
                found = begin + int(np.flatnonzero(now != before)[0 if begin == allocation.stop else -1])
    return found


def describe(address: int, arguments: Iterable[int]) -> str:
    """Return what lies at an address, in words. arguments: the values with which the kernel was launched."""
    for a in allocations():
        if a.low - PAGE <= address < a.high + PAGE:
            distance = f"{address - a.stop} bytes past the end" if address >= a.stop else f"{a.start - address} bytes before"
            which = [i for i, value in enumerate(arguments) if a.start <= value <= a.stop]
            return f"{distance} of {f'argument {which[0]}' if which else 'an array that is not an argument'}"
    return f"{address:#x}, where no array is"
