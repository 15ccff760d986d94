"""The number of threads that the BLAS uses for a matrix product.

A BLAS splits a sum by the number of its threads, so that the rounding depends on this number. With one thread the same eps
gives the same bits, however many cores the machine has and whatever other threads the process runs.
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
    import scipy.linalg.cython_blas  # noqa: F401  this loads the BLAS that Numba uses
    import threadpoolctl

    return threadpoolctl.ThreadpoolController()


def _set_free():
    """Let any thread set the limit. In threadpoolctl only the first thread may, until it is told that this thread is done."""
    import threadpoolctl

    getattr(threadpoolctl.OpenBLASController, "clear_controlling_thread", lambda force: None)(force=True)


@contextlib.contextmanager
def limited(threads: int = 1) -> Iterator[None]:
    """`with limited()`: limit the number of the BLAS's threads, for the whole process.

    If several callers are inside at a time, the number of the first caller holds until the last one has left.
    """
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
