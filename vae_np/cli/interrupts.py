"""Ctrl-C and SIGTERM: both end a command in the same clean way, and neither interrupts a write."""

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any


class Terminated(KeyboardInterrupt):
    """SIGTERM has come. It ends a command as Ctrl-C does, with another exit code."""


@contextlib.contextmanager
def sigterm_raises() -> Iterator[None]:
    """`with sigterm_raises()`: SIGTERM raises Terminated."""

    def terminate(*_):
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # a second one would interrupt the end that the first one began
        raise Terminated

    before = _set_handler(signal.SIGTERM, terminate)
    try:
        yield
    finally:
        _set_handler(signal.SIGTERM, before)  # while Python itself ends, an exception would only make noise


def _set_handler(kind: int, handler: Any) -> Any:
    """signal.signal; in any thread but the main one it does nothing, because only the main thread may set handlers."""
    if threading.current_thread() is threading.main_thread():
        return signal.signal(kind, handler)
    return None


@contextlib.contextmanager
def interrupted_between_steps() -> Iterator[Callable[[], None]]:
    """`with interrupted_between_steps() as step`: after the first step(), Ctrl-C and SIGTERM are raised by the next step().

    Neither then interrupts a write, where zipfile would raise another error in its place. A second Ctrl-C is raised at once.
    """
    kinds, before, received = {signal.SIGINT: KeyboardInterrupt, signal.SIGTERM: Terminated}, {}, []

    def note(kind, _):
        received.append(kinds[kind])
        if len(received) > 1:
            raise received[0]

    def step():
        for kind in kinds if not before else ():
            before[kind] = _set_handler(kind, note)
        if received:
            raise received[0]

    try:
        yield step
    finally:
        for kind, handler in before.items():
            _set_handler(kind, handler)
    if received:
        raise received[0]


@contextlib.contextmanager
def unwrapped_interrupts() -> Iterator[None]:
    """`with unwrapped_interrupts()`: a KeyboardInterrupt that Numba wrapped in a SystemError is raised as itself.

    Numba does that where Ctrl-C comes while it loads a kernel.
    """
    try:
        yield
    except SystemError as error:
        cause = error
        while cause is not None and not isinstance(cause, KeyboardInterrupt):
            cause = cause.__cause__ or cause.__context__
        raise cause or error from None
