"""How this set is compiled: once for each machine, kept on disk, with a word to whoever waits for it."""

import hashlib
import logging
import pathlib

import numba
from numba.core import event

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
    return numba.njit(function, cache=True, **options)


def exact(function):
    """An operation whose every bit is laid down: no product and sum in one rounding, nothing reordered."""
    return kernel(function, fastmath=False)


class _Notice(event.Listener):
    """Says once in a process that compilation has begun; from the cache nothing is compiled and nothing said."""

    said = False

    def on_start(self, compilation):
        if not self.said and compilation.data["dispatcher"].py_func.__module__.startswith("vae_np.kernels."):
            self.said = True
            logging.getLogger("vae_np").warning(
                "compiling kernels for this machine: up to a minute; they are kept for the next run"
            )

    def on_end(self, _):
        pass


event.register("numba:compile", _Notice())
