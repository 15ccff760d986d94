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


def permutation(seed: int, use: str, step: int, n: int) -> NDArray[np.intp]:
    """A uniformly random permutation of range(n), the same on every machine. It sorts n random words of 64 bits."""
    counter = np.arange(n, dtype=np.uint64), np.uint64(0), np.uint64(0), np.uint64(step)
    low, high, _, _ = reference.philox(counter, key(seed, use))
    return np.argsort(low | high << np.uint64(32), kind="stable")


def normals(seed: int, use: str, step: int, shape: tuple[int, int, int], dtype: DTypeLike) -> NDArray:
    """Standard normal numbers of the shape (L, B, Z). The counter of example b is b."""
    eps = np.empty(shape, dtype)
    return reference.normals(key(seed, use), step, np.arange(shape[1]), eps)
