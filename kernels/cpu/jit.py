"""How this kernel set is compiled: once for each machine. The result is kept on disk, and whoever waits for it is told."""

import contextlib
import functools
import gc
import hashlib
import logging
import os
import pathlib
import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import Any

import numba
import numba.core.config
import numba.extending
from numba.core import event as events
from numba.core.caching import FunctionCache, NullCache

from vae_np.kernels.cpu import amx

# Numba's cache looks only at the file that a function stands in, and at the processor. With this hash in its name it sees a
# change in any of the files, and whether this process may use AMX.
_FILES = sorted([*pathlib.Path(__file__).parent.glob("*.py"), pathlib.Path(__file__).parents[1] / "reference.py"])
SOURCES = hashlib.sha256(b"".join([*(f.read_bytes() for f in _FILES), bytes([amx.PERMITTED])])).hexdigest()[:12]

# A type checker knows neither what these decorators return nor the settings that Numba adds when it runs.
njit: Any = numba.njit
intrinsic: Any = numba.extending.intrinsic
config: Any = numba.core.config

NO_WRAPPERS = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}  # for functions that only compiled functions call

# A sum may be reordered, so that it can be vectorised, and a product and a sum may round once. Infinities and NaN are kept:
# without them a loss that is no longer finite would go unseen.
REORDER = {"reassoc", "contract", "nsz"}


def kernel(function: Callable[..., Any], fastmath: set[str] | bool = REORDER) -> Any:
    """Return the operation as a Numba dispatcher, which compiles it when it is first called with arguments of some types."""
    function.__qualname__ += f"-{SOURCES}"
    options = {"nogil": True, "error_model": "numpy", "fastmath": fastmath, "no_cfunc_wrapper": True}
    dispatcher = njit(function, **options)
    dispatcher._cache = cache_of(function)
    return dispatcher


def inlined(dispatcher: Any) -> Any:
    """Return an operation for other compiled functions to call, of which it becomes a part.

    As a function of its own it would be copied into several libraries and optimised differently in each; a process runs the
    copy that it loads first, so that the last bits would depend on which that is.
    """
    options = {name: dispatcher.targetoptions[name] for name in ("error_model", "fastmath")}
    return njit(dispatcher.py_func, forceinline=True, **options, **NO_WRAPPERS)


def by_types(choose: Callable[..., Any]) -> Any:
    """Return a function for compiled code, which becomes what is chosen for the types of its arguments."""

    def function(*arguments):
        raise TypeError(f"{choose.__name__} is for compiled code")

    numba.extending.overload(function, inline="always")(choose)
    return function


def exact(function: Callable[..., Any]) -> Any:
    """Return the same for an operation whose every bit is specified: each operator rounds, and nothing is reordered."""
    return kernel(function, fastmath=False)


def python_beside(code: str) -> subprocess.Popen | None:
    """Run code in a Python process beside this one, with its cache; None where there is no core or no cache for that."""
    if config.NUMBA_NUM_THREADS == 1 or vars(sys).get("frozen") or not sys.executable or not _Notice.has_place:
        return None
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "NUMBA_CACHE_DIR": config.CACHE_DIR}
    nothing = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.DEVNULL)
    with contextlib.suppress(OSError):  # it only saves time
        return subprocess.Popen([sys.executable, "-P", "-c", code], env=environment, **nothing)
    return None


# ----------------------------------------------------------------------------------------------------------- the cache


class _Notice(events.Listener):
    """Logs what is compiled, the first time in a process as a warning. What is read from the cache is not compiled."""

    said, has_place = False, True

    def say(self, *which):
        """which: the number of the kernel, of how many, and its name, where they are known."""
        words = "compiling kernels for this machine" + (": %d of %d (%s)" if which else "")
        words += "; they are kept for the next run" if self.has_place else ""
        level, _Notice.said = logging.INFO if self.said else logging.WARNING, True
        _log.log(level, words, *which)
        if not self.has_place:
            why = "no folder can be written; set NUMBA_CACHE_DIR to a folder that you may write to"
            _warn_once("the compiled kernels are not kept for the next run: %s", why)

    def on_start(self, event):
        if not self.said and event.data["dispatcher"].py_func.__module__.startswith("vae_np.kernels."):
            self.say()

    def on_end(self, event):
        pass


_log, _notice = logging.getLogger("vae_np.compilation"), _Notice()
events.register("numba:compile", _notice)


def one_by_one(compile_each: Sequence[tuple[str, Callable[[], object]]]) -> None:
    """Call the functions that compile a kernel each, and say before each which it is; compile_each: (name, function)."""
    was_enabled = gc.isenabled()
    gc.disable()  # a tenth of the time would be a search for garbage among the many objects of a compiler, which live on
    try:
        for i, (name, compile_it) in enumerate(compile_each):
            _notice.say(i + 1, len(compile_each), name)
            compile_it()
    finally:
        if was_enabled:
            gc.enable()


def cache_of(function: Callable[..., Any]) -> FunctionCache | NullCache:
    """Return the cache that keeps a compiled function; it keeps nothing where Numba finds no folder that can be written."""
    try:
        return _Cache(function)
    except RuntimeError:
        _Notice.has_place = False
        return NullCache()


def is_kept(cache: Any, signature: Any, target_context: Any) -> bool:
    """Whether a function is in its cache, as the index of the cache says."""
    with contextlib.suppress(Exception):  # no index, or a damaged one
        return cache._index_key(signature, target_context.codegen()) in cache._cache_file._load_index()
    return False


class _Cache(FunctionCache):
    """Numba's cache, except that a file which cannot be written or read (a full disk, damage) costs time and is no error."""

    def save_overload(self, sig, data):
        try:
            super().save_overload(sig, data)
        except OSError as error:
            _warn_once("the compiled kernels cannot be kept for the next run: %s", error.strerror or error)

    def load_overload(self, sig, target_context):
        try:
            return super().load_overload(sig, target_context)
        except Exception as error:  # of a damaged file, pickle and LLVM raise almost anything
            if isinstance(error.__cause__ or error.__context__, KeyboardInterrupt):  # Ctrl-C came while the file was read
                raise
            _warn_once(
                "the compiled kernels of an earlier run cannot be read, and are compiled again: %s",
                str(error) or type(error).__name__,
            )
            with contextlib.suppress(OSError):
                self.flush()  # or nothing more could be written into a damaged index


@functools.cache
def _warn_once(words, why):
    logging.getLogger("vae_np").warning(words, why)
