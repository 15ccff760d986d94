"""The number of threads that the BLAS takes for a matrix product.

A BLAS splits a sum by the number of its threads, and so rounds differently for each number. On one thread the same eps gives
the same bits on any number of cores, from any thread, whatever else the process runs.
"""

import contextlib
import functools
import threading
from collections.abc import Iterator
from typing import Any

_lock, _inside = threading.Lock(), 0
_limit: Any = None


@functools.cache
def _controller():
    import scipy.linalg.cython_blas  # noqa: F401  the BLAS that Numba takes, which it loads only when it first calls it
    import threadpoolctl

    return threadpoolctl.ThreadpoolController()


def _set_free():
    """threadpoolctl lets only the first thread that asked set the limit, until it is told that this thread is done."""
    import threadpoolctl

    getattr(threadpoolctl.OpenBLASController, "clear_controlling_thread", lambda force: None)(force=True)


@contextlib.contextmanager
def limited(threads: int = 1) -> Iterator[None]:
    """`with limited()`: a limit for the whole process until the last caller has left; the number of the first one holds."""
    global _inside, _limit
    with _lock:
        if not _inside:
            _set_free()
            _limit = _controller().limit(limits=threads, user_api="blas")
        _inside += 1
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            if not _inside:
                _set_free()
                _limit.restore_original_limits()
                _set_free()
