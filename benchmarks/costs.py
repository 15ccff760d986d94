"""What an operation of a kernel set costs at least, found by running its definition, `kernels.reference`.

An operation reads each array that it needs once and writes each array that it fills once. It computes what its formula says.
So an operation that is added to the reference has its cost at once.
"""

import functools
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vae_np.testing.operations import OPERATIONS, REFERENCE, random_arguments


class Sizes(NamedTuple):
    """The sizes of the arrays that an operation is called with."""

    B: int  # examples
    D: int  # inputs
    H: int  # hidden units
    Z: int  # latents
    L: int  # samples of each example


class Cost(NamedTuple):
    """The least that an operation must do.

    Attributes
    ----------
    reads, writes
        The names of the arrays; one that is changed in place is in both.
    operations
        The number of floating-point operations of the formula. Each +, -, *, /, maximum, absolute value or comparison is
        one, and so is a call of exp, log1p, tanh or sqrt, although it is many in truth. None for noise, which is made by
        operations on integers.
    """

    reads: tuple[str, ...]
    writes: tuple[str, ...]
    operations: int | None


def cost(name: str, sizes: Sizes) -> Cost:
    """Return the Cost of an operation at such sizes."""
    return Cost(*_arrays(name), None if "key" in OPERATIONS[name] else _count(name, sizes))


def costly_operations() -> list[str]:
    """Return the names of the operations that do anything, in the order of the reference."""
    return [name for name in OPERATIONS if any(_arrays(name))]


class Traffic(NamedTuple):
    """How many bytes an operation must read and write at least, and how many different ones these are together."""

    read: int
    written: int
    touched: int

    def seconds(self, speeds: dict[str, float]) -> float:
        """Return the least time that this takes where so many bytes per second can be read and written.

        Both may happen at once, so that it is the longer of the two times and not their sum. The speeds are to be those of
        as many bytes as are touched, because these stay in the cache between two calls if they fit into it.
        """
        return max(self.read / speeds["read"], self.written / speeds["write"])


def traffic(name: str, cost: Cost, arguments: list[Any]) -> Traffic:
    """Return the Traffic of an operation with these arguments."""
    named = dict(zip(OPERATIONS[name], arguments))
    if "data" in named:
        named["data"] = named["data"][: len(named["rows"])]  # only one row of the data is read for each row of the batch
    sums = [sum(named[array].nbytes for array in which) for which in (cost.reads, cost.writes, {*cost.reads, *cost.writes})]
    return Traffic(*sums)


@functools.cache
def _arrays(name: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the arrays that an operation reads, as other values in them change a result, and those that it changes."""

    def arguments() -> dict[str, Any]:
        return dict(zip(OPERATIONS[name], random_arguments(name, "float64")))

    def results(flipped: str = "") -> dict[str, NDArray]:
        found = arguments()
        if flipped:
            found[flipped][...] = np.flip(found[flipped])
        getattr(REFERENCE, name)(*found.values())
        return {parameter: array for parameter, array in found.items() if isinstance(array, np.ndarray)}

    before, after = arguments(), results()
    writes = tuple(array for array in after if (after[array] != before[array]).any())

    def is_read(array: str) -> bool:
        changed = results(flipped=array)
        return any((changed[written] != after[written]).any() for written in writes)

    return tuple(filter(is_read, after)), writes


def _count(name: str, sizes: Sizes) -> int:
    """Return the number of elementwise operations, and of those in matrix products, that NumPy makes for an operation."""
    count = 0

    class Counting(np.ndarray):
        def __array_ufunc__(self, ufunc, method, *inputs, out=None, **options):
            nonlocal count
            plain = [np.asarray(i) if isinstance(i, np.ndarray) else i for i in inputs]
            if out is not None:
                options["out"] = tuple(map(np.asarray, out))
            result = getattr(ufunc, method)(*plain, **options)
            results = result if isinstance(result, tuple) else (result,)
            per_element = 2 * plain[0].shape[-1] if ufunc is np.matmul else 1
            count += per_element * np.size(plain[0] if method == "reduce" else results[0])
            views = [np.asarray(array).view(Counting) for array in results]
            return tuple(views) if len(views) > 1 else views[0]

    arguments = random_arguments(name, "float64", sizes)
    getattr(REFERENCE, name)(*(a.view(Counting) if isinstance(a, np.ndarray) else a for a in arguments))
    return count
