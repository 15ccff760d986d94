"""Random streams: each use of random numbers has its own Philox stream, whose key is made of the seed and the use."""

import functools

import numpy as np
from numpy.typing import DTypeLike, NDArray

from vae_np.architecture import check_choice
from vae_np.kernels import reference

USES = (
    "initialize",
    "shuffle",
    "split",
    "train",
    "binarize",
    "validate",
    "binarize_validation",
    "sample",
    "score",
    "importance",
    "study",
)


@functools.cache
def key(seed: int, use: str) -> np.uint64:
    """The 64-bit key of a use under a seed, which is a whole number from 0 to 2^64 - 1."""
    check_choice("use", use, USES)
    zero = np.uint64(0)
    low, high, _, _ = reference.philox((np.uint64(USES.index(use) + 1), zero, zero, zero), seed)
    return np.uint64(low | high << np.uint64(32))


def check_seed(seed: object) -> int:
    """The seed as an int. ValueError says that it is not a whole number from 0 to 2^64 - 1."""
    if not isinstance(seed, (int, np.integer)) or isinstance(seed, bool) or not 0 <= seed < 2**64:
        raise ValueError(f"seed is {seed!r}; it must be a whole number from 0 to 2^64 - 1")
    return int(seed)


MOST_SORTED = 10**7  # rows whose order is made by sorting, which takes 16 bytes for each


class Permutation:
    """A random permutation of range(n) that takes no memory: a Feistel network of `ROUNDS` rounds, whose function is Philox.

    The network permutes the numbers of 2k bits, the smallest such range that holds n. A result that is not below n is put in
    again until one is (Black & Rogaway 2002, "Ciphers with arbitrary finite domains", section 3). Four rounds make a
    pseudorandom permutation of a pseudorandom function (Luby & Rackoff 1988).
    """

    ROUNDS, AT_A_TIME = 4, 2**16

    def __init__(self, key: np.uint64, step: int, n: int):
        self.key, self.step, self.n = key, step, n
        self.half = np.uint64(max(1, -(-(n - 1).bit_length() // 2)))

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, index: slice) -> NDArray[np.int64]:
        numbers = np.arange(*index.indices(self.n))
        for start in range(0, len(numbers), self.AT_A_TIME):
            part = numbers[start : start + self.AT_A_TIME].astype(np.uint64)
            outside = np.ones(len(part), bool)
            while outside.any():
                part[outside] = self._network(part[outside])
                outside = part >= self.n
            numbers[start : start + self.AT_A_TIME] = part
        return numbers

    def _network(self, numbers):
        mask = (np.uint64(1) << self.half) - np.uint64(1)
        left, right = numbers >> self.half, numbers & mask
        for i in range(self.ROUNDS):
            word, *_ = reference.philox((right, np.uint64(i), np.uint64(self.n), np.uint64(self.step)), self.key)
            left, right = right, left ^ (word & mask)
        return left << self.half | right


def permutation(seed: int, use: str, step: int, n: int) -> NDArray[np.intp] | Permutation:
    """A random permutation of range(n), the same on every machine.

    Up to MOST_SORTED it is an array, uniformly random, and sorts n random words of 64 bits. Beyond that its slices are arrays.
    """
    if n > MOST_SORTED:
        return Permutation(key(seed, use), step, n)
    counter = np.arange(n, dtype=np.uint64), np.uint64(0), np.uint64(0), np.uint64(step)
    low, high, _, _ = reference.philox(counter, key(seed, use))
    return np.argsort(low | high << np.uint64(32), kind="stable")


def normals(seed: int, use: str, step: int, shape: tuple[int, int, int], dtype: DTypeLike) -> NDArray:
    """Standard normal numbers of the shape (L, B, Z). The counter of example b is b."""
    eps = np.empty(shape, dtype)
    return reference.normals(key(seed, use), step, np.arange(shape[1]), eps)
