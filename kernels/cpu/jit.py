"""How this set is compiled: once for each machine, kept on disk where there is a place, with a word to whoever waits for it."""

import contextlib
import functools
import hashlib
import logging
import pathlib

import numba
from numba.core import event
from numba.core.caching import FunctionCache, NullCache

# Numba's cache looks only at the file a function stands in; with this in its name, a change in any of them is seen.
_FILES = sorted([*pathlib.Path(__file__).parent.glob("*.py"), pathlib.Path(__file__).parents[1] / "reference.py"])
SOURCES = hashlib.sha256(b"".join(f.read_bytes() for f in _FILES)).hexdigest()[:12]

NO_WRAPPERS = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}  # for what only other compiled functions call

# Sums may be reordered, so that they vectorise, and a product and a sum may round once. Infinities and NaN are kept:
# without them a loss that is no longer finite would go unseen.
REORDER = {"reassoc", "contract", "nsz"}


def kernel(function, fastmath=REORDER):
    """An operation, compiled where it is first called for the types it is called with."""
    function.__qualname__ += f"-{SOURCES}"
    options = {"nogil": True, "error_model": "numpy", "fastmath": fastmath, "no_cfunc_wrapper": True}
    dispatcher = numba.njit(function, **options)
    dispatcher._cache = cache_of(function)
    return dispatcher


def exact(function):
    """An operation whose every bit is laid down: no product and sum in one rounding, nothing reordered."""
    return kernel(function, fastmath=False)


# ----------------------------------------------------------------------------------------------------------- the cache


class _Notice(event.Listener):
    """Says once in a process that compilation has begun; from the cache nothing is compiled and nothing said."""

    said, afterwards = False, "they are kept for the next run"

    def on_start(self, compilation):
        if not self.said and compilation.data["dispatcher"].py_func.__module__.startswith("vae_np.kernels."):
            self.said = True
            logging.getLogger("vae_np").warning("compiling kernels for this machine: up to a minute; %s", self.afterwards)

    def on_end(self, _):
        pass


event.register("numba:compile", _Notice())


def cache_of(function):
    """Where the compiled function is kept; nowhere if Numba finds no folder that can be written."""
    try:
        return _Cache(function)
    except RuntimeError:
        _Notice.afterwards = "they are not kept, for no folder can be written: set NUMBA_CACHE_DIR to one that can"
        return NullCache()


class _Cache(FunctionCache):
    """Numba's own, but that a file which cannot be written or read (a full disk, damage) costs no more than time."""

    def save_overload(self, *arguments):
        try:
            super().save_overload(*arguments)
        except OSError as error:
            _warn_once("compiled kernels cannot be kept for the next run: %s", error.strerror or error)

    def load_overload(self, *arguments):
        try:
            return super().load_overload(*arguments)
        except Exception as error:  # a damaged file makes pickle and LLVM raise almost anything
            if isinstance(error.__cause__ or error.__context__, KeyboardInterrupt):  # Ctrl-C in the middle of it
                raise
            _warn_once("kernels that were kept cannot be read, and are compiled again: %s", str(error) or type(error).__name__)
            with contextlib.suppress(OSError):
                self.flush()  # or no other could be written into a damaged index


@functools.cache
def _warn_once(words, why):
    logging.getLogger("vae_np").warning(words, why)
