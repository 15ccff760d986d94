"""Ranks: the processes that make one training together, as `mpiexec` starts them.

The bits do not depend on the number of ranks. Where ranks exchange rows, no number is added on its way from one rank to another:
each rank computes the rows of its part of a batch, all ranks get copies of all rows, and what follows is computed from whole
arrays. Where they exchange sums, each rank computes the gradients of its slices of a batch, and these are added as integers,
whose sum does not depend on the order.
"""

import atexit
import functools
import importlib.util
import itertools
import json
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, NoReturn, TypeVar

import numpy as np
from numpy.typing import NDArray

T = TypeVar("T")


class Ranks:
    """This process among those that make a training together. An object of this class itself is a process alone: rank 0 of 1."""

    rank, size = 0, 1
    together = False  # whether a launcher has started the ranks, however many they are
    stall = 300.0  # the number of seconds after which a rank that does not answer is given up

    @property
    def hosts(self) -> list[str]:
        """The name of the machine of each rank."""
        return [socket.gethostname()] * self.size

    @property
    def here(self) -> int:
        """The number of ranks on this machine, which share its cores."""
        return self.hosts.count(self.hosts[self.rank])

    def name(self, rank: int | None = None) -> str:
        """What a message calls a rank, by default this one."""
        rank = self.rank if rank is None else rank
        return f"rank {rank} of {self.size} on {self.hosts[rank]}"

    def bounds(self, n: int) -> list[int]:
        """Where the shares of the ranks in n tasks begin and end."""
        return [rank * n // self.size for rank in range(self.size + 1)]

    def share(self, n: int) -> range:
        """Which of n tasks, in their order, this rank does."""
        return range(*self.bounds(n)[self.rank : self.rank + 2])

    def exchange(self, received: NDArray[np.uint8], ends: Sequence[int]) -> None:
        """Fill received[ends[r] : ends[r + 1]] with the bytes that rank r holds there, for every rank r.

        Raises
        ------
        RankError
            Another rank has ended, or does not answer.
        """

    def reduce_scatter(self, numbers: NDArray[np.int64], bounds: Sequence[int]) -> NDArray[np.int64]:
        """The share of this rank, from bounds[rank] to bounds[rank + 1], in the sum of the numbers (P,) of all ranks.

        Raises
        ------
        RankError
            Another rank has ended, or does not answer.
        """
        return numbers[slice(*bounds[self.rank : self.rank + 2])]

    def gather(self, own: bytes) -> list[bytes]:
        """The bytes that each rank gives, of any length."""
        lengths = np.zeros(self.size, np.int64)
        lengths[self.rank] = len(own)
        self.exchange(lengths.view(np.uint8), [8 * r for r in range(self.size + 1)])
        ends = [0, *itertools.accumulate(lengths.tolist())]
        received = np.empty(ends[-1], np.uint8)
        received[ends[self.rank] : ends[self.rank + 1]] = np.frombuffer(own, np.uint8)
        self.exchange(received, ends)
        return [received[start:stop].tobytes() for start, stop in itertools.pairwise(ends)]

    def gather_json(self, own: Any) -> list[Any]:
        """What each rank gives, as JSON keeps it. Floats keep their bits."""
        return [json.loads(text) for text in self.gather(json.dumps(own).encode())]

    def complete(self, array: NDArray, bounds: Sequence[int]) -> None:
        """Fill a contiguous array, in which rank r has filled the rows from bounds[r] to bounds[r + 1]."""
        n_bytes = array.nbytes // len(array)
        self.exchange(array.reshape(-1).view(np.uint8), [n_bytes * bound for bound in bounds])

    def spread(self, array: NDArray) -> None:
        """Fill a contiguous array of the same shape on every rank with the numbers of rank 0."""
        self.complete(array, [0] + [len(array)] * self.size)

    def from_first(self, function: Callable[[], T]) -> T:
        """What the function returns on rank 0, which alone calls it; it must be something that JSON can keep."""
        return self.gather_json(None if self.rank else function())[0]

    def check_same(self, what: dict[str, Any], hint: str = "") -> None:
        """Compare a value of each name between all ranks.

        Raises
        ------
        RankError
            A rank differs from rank 0. All ranks raise the same.
        """
        first, *others = self.gather_json(what)
        for rank, other in enumerate(others, 1):
            for name in first:
                if other[name] != first[name]:
                    raise RankError(f"{self.name(rank)} has {name} {other[name]!r}, and rank 0 has {first[name]!r}{hint}")

    def end_all(self, code: int, message: str = "") -> None:
        """Print the message, and end the processes of all ranks with this exit code. A process alone goes on after the message."""
        if message:
            print(message, file=sys.stderr)


class RankError(RuntimeError):
    """The ranks cannot go on together: one has ended, does not answer, or computes something else."""


ALONE = Ranks()


def exchange_of_rows(
    ranks: Ranks, arrays: Sequence[Sequence[Any]], get: Callable[[Any], NDArray], put: Callable[[NDArray], Any]
) -> Callable[[], None]:
    """A function that gives all ranks copies of each other's arrays, in one exchange.

    Parameters
    ----------
    arrays : sequence of sequence of array
        For each rank the arrays that it has filled. Every rank has the arrays of all ranks.
    get, put : function
        They make NumPy's arrays of those of a kernel set, and the reverse.
    """
    ends = [0, *itertools.accumulate(sum(array.nbytes for array in of_rank) for of_rank in arrays)]
    received = np.empty(ends[-1], np.uint8)
    starts = iter([0, *itertools.accumulate(array.nbytes for of_rank in arrays for array in of_rank)])
    copies = [
        [received[start : start + array.nbytes].view(array.dtype).reshape(array.shape) for array, start in zip(of_rank, starts)]
        for of_rank in arrays
    ]

    def exchange():
        for copy, array in zip(copies[ranks.rank], arrays[ranks.rank]):
            copy[...] = get(array)
        ranks.exchange(received, ends)
        for rank in range(ranks.size):
            if rank != ranks.rank:
                for copy, array in zip(copies[rank], arrays[rank]):
                    array[...] = put(copy)

    return exchange


MOST_BITS = 1000  # of a scale: 2^1024 would not be finite. It matters only where all numbers are smaller than 2^-930.


def fixed_point(largest: NDArray, n_terms: int) -> NDArray[np.float64]:
    """The scales by which n_terms numbers, none larger in magnitude than `largest`, become integers whose sum fits into 63 bits.

    A scale is 2^k with k = 63 - ceil(log2(n_terms)) - e, where largest < 2^e. It is NaN where `largest` is not finite.
    """
    finite, head_room = np.isfinite(largest), (n_terms - 1).bit_length()
    exponents = np.frexp(np.where(finite, largest, 1))[1]
    return np.where(finite, np.ldexp(1.0, np.minimum(63 - head_room - exponents, MOST_BITS)), np.nan)


def exact_sum(ranks: Ranks, terms: NDArray, lengths: Sequence[int], n_terms: int) -> NDArray:
    """The sum of the terms of all ranks, with the same bits whichever rank has which terms.

    The terms are rounded to integers, q = rint(2^k term), and sum = 2^-k (sum of q). The scale 2^k is as large as 63 bits allow
    (`fixed_point`): it follows from the largest magnitude M among all terms, of each of the arrays that stand side by side in
    a term.

    Rounding changes a sum by at most n_terms 2^-(k + 1), which is less than n_terms^2 2^-62 M; with 12 terms it is 2^-55.4 M.
    The result is then rounded to double precision, and to the dtype of the terms. So with at most 16 terms elements of float32
    keep all their 24 bits if they are at least 2^-35 M, and those of float64 all their 53 bits if they are at least 2^-6 M.
    A smaller element loses a bit with each further factor of 2.

    Parameters
    ----------
    terms : array (n, P)
        The terms of this rank, of which it may have none.
    lengths : sequence of int
        The lengths of the arrays that make up a term. Their sum is P.
    n_terms : int
        The number of the terms of all ranks, at most 1024.

    Returns
    -------
    array (P,)
        The sums, on every rank. Where an array holds an element that is not finite in any term, all its sums are NaN.

    Raises
    ------
    RankError
        Another rank has ended, or does not answer.
    """
    starts = [0, *itertools.accumulate(lengths[:-1])]
    largest = np.empty((ranks.size, len(lengths)))
    largest[ranks.rank] = np.maximum.reduceat(np.abs(terms).max(axis=0, initial=0), starts)
    ranks.complete(largest, range(ranks.size + 1))
    scales, bounds = np.repeat(fixed_point(largest.max(axis=0), n_terms), lengths), ranks.bounds(terms.shape[1])
    total, sums = np.zeros(terms.shape[1], np.int64), np.empty(terms.shape[1], terms.dtype)
    with np.errstate(invalid="ignore", over="ignore"):  # a sum that is not finite is for the caller to see
        for term in terms:
            total += np.rint(term * scales).astype(np.int64)
        share = slice(*bounds[ranks.rank : ranks.rank + 2])
        sums[share] = ranks.reduce_scatter(total, bounds) / scales[share]
    ranks.complete(sums, bounds)
    return sums


# ------------------------------------------------------------------------------------------------- ranks that are threads


class _Thread(Ranks):
    together = True

    def __init__(self, rank, size, posted, barrier):
        self.rank, self.size, self._posted, self._barrier = rank, size, posted, barrier

    def exchange(self, received, ends):
        self._posted[self.rank] = received
        self._barrier.wait(self.stall)
        for rank, (start, stop) in enumerate(itertools.pairwise(ends)):
            received[start:stop] = self._posted[rank][start:stop]
        self._barrier.wait(self.stall)

    def reduce_scatter(self, numbers, bounds):
        self._posted[self.rank] = numbers
        self._barrier.wait(self.stall)
        share = np.sum([super(_Thread, self).reduce_scatter(of_rank, bounds) for of_rank in self._posted], axis=0)
        self._barrier.wait(self.stall)
        return share


def in_threads(size: int, function: Callable[[Ranks], T]) -> list[T]:
    """Call function(ranks) in as many threads of this process, and return the result of each rank. It serves tests.

    An error in one thread ends them all, and is raised.
    """
    barrier, posted = threading.Barrier(size), [None] * size
    results: list[Any] = [None] * size
    errors: list[BaseException] = []

    def run(rank):
        try:
            results[rank] = function(_Thread(rank, size, posted, barrier))
        except threading.BrokenBarrierError:
            pass  # another thread has the error
        except BaseException as error:
            errors.append(error)
            barrier.abort()

    threads = [threading.Thread(target=run, args=(rank,)) for rank in range(size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return results


# ----------------------------------------------------------------------------------------------------------- ranks of MPI

SIZES = ("PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "PMIX_RANK")  # the environment variables by which launchers tell
RANKS = ("PMI_RANK", "OMPI_COMM_WORLD_RANK", "PMIX_RANK")  # the number of processes, and which of them this one is
LEFT, HERE = 1, 2  # the tags of messages: I have ended; I am waiting
GRACE = 2.0  # seconds, in which a message that is on its way arrives


class _Mpi(Ranks):
    together = True

    def __init__(self, mpi, world):
        self._mpi, self._comm = mpi, world.Dup()  # so that no message of anybody else is taken for one of these
        self.rank, self.size = world.rank, world.size
        self._hosts = [super().hosts[0]] * self.size  # until those of all are known
        self._hosts = [host.decode() for host in self.gather(socket.gethostname().encode())]

    @property
    def hosts(self):
        return self._hosts

    def exchange(self, received, ends):
        counts = [stop - start for start, stop in itertools.pairwise(ends)]
        self._wait_for(self._comm.Iallgatherv(self._mpi.IN_PLACE, [received, counts, ends[:-1], self._mpi.BYTE]))

    def reduce_scatter(self, numbers, bounds):
        counts = [stop - start for start, stop in itertools.pairwise(bounds)]
        share = np.empty(counts[self.rank], np.int64)
        self._wait_for(self._comm.Ireduce_scatter(numbers, share, counts, self._mpi.SUM))
        return share

    def _wait_for(self, request) -> None:
        started = 0.0
        for tries in itertools.count(1):
            if request.Test():
                return
            if tries % 4096:
                os.sched_yield()  # else ranks that share a core wait for each other's slice of time
            else:
                started = started or time.monotonic()
                waited = time.monotonic() - started
                time.sleep(0.001 if waited > 0.1 else 0)
                if waited > GRACE and self._comm.Iprobe(self._mpi.ANY_SOURCE, LEFT, status := self._mpi.Status()):
                    raise RankError(f"{self.name(status.source)} has ended before the others; see what it has printed")
                if waited > self.stall:
                    self._say_who_is_missing()

    def _say_who_is_missing(self) -> NoReturn:
        """Every rank that waits says so to all others; those that say nothing are missing."""
        for other in set(range(self.size)) - {self.rank}:
            self._comm.Isend([np.empty(0, np.uint8), self._mpi.BYTE], other, HERE)
        missing, until = set(range(self.size)) - {self.rank}, time.monotonic() + GRACE
        while time.monotonic() < until:
            while self._comm.Iprobe(self._mpi.ANY_SOURCE, HERE, status := self._mpi.Status()):
                self._comm.Recv([np.empty(0, np.uint8), self._mpi.BYTE], status.source, HERE)
                missing.discard(status.source)
            time.sleep(0.01)
        names = ", ".join(map(self.name, sorted(missing))) or "no rank by itself, but the network between them,"
        raise RankError(f"{names} has not answered for {self.stall:g} seconds (--stall sets their number)")

    def end_all(self, code, message=""):
        time.sleep(0.3 * min(self.rank, 5))  # so that what all of them would say is said by the first alone
        if message:
            print(f"[{self.name()}] {message}", file=sys.stderr)
        sys.stdout.flush()
        sys.stderr.flush()
        self._comm.Abort(code)

    def leave(self):
        """Tell all others that this process ends, which those that still wait for it will see."""
        for other in set(range(self.size)) - {self.rank}:
            self._comm.Isend([np.empty(0, np.uint8), self._mpi.BYTE], other, LEFT)


@functools.cache
def of_launch() -> Ranks:
    """The ranks that `mpiexec` has started, or a process alone where it has not started this one.

    From then on an error that nobody catches in one rank ends them all.

    Raises
    ------
    RankError
        `mpiexec` has started this process, but mpi4py is not installed, or belongs to another MPI.
    """
    sizes = [os.environ[name] for name in SIZES if name in os.environ]
    if not sizes:
        return ALONE
    if importlib.util.find_spec("mpi4py") is None:
        raise RankError(
            "mpiexec has started this command, but mpi4py is not installed: run `pip install '.[mpi]'` in the clone, or on a "
            "cluster `pip install mpi4py` with the site's MPI"
        )
    from mpi4py import MPI  # pyright: ignore[reportMissingImports]  # the extra mpi installs it

    if MPI.COMM_WORLD.size == 1 and sizes[0].isdigit() and int(sizes[0]) > 1 and "PMIX_RANK" not in os.environ:
        raise RankError(
            f"mpiexec has started {sizes[0]} processes, but mpi4py sees one: it was built for another MPI than that of this mpiexec"
        )
    ranks = _Mpi(MPI, MPI.COMM_WORLD)
    atexit.register(ranks.leave)
    before = sys.excepthook

    def end_all_after(kind, error, traceback):
        before(kind, error, traceback)
        ranks.end_all(1, f"ends all ranks after this {kind.__name__}")

    leave, process = os._exit, os.getpid()

    def leave_with_all(code):
        if os.getpid() == process and not MPI.Is_finalized():  # a child that was forked has left nobody
            ranks.end_all(code or 1, "was left by os._exit, and ends all ranks")
        leave(code)

    sys.excepthook = end_all_after
    os._exit = leave_with_all  # mpiexec would kill the others, and might say by its code that all is well
    return ranks


def rank_in_environment() -> int:
    """Which of the processes of a launcher this one is, where MPI itself cannot tell."""
    return next((int(os.environ[name]) for name in RANKS if os.environ.get(name, "").isdigit()), 0)
