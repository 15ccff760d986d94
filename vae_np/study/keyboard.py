"""Keys of a terminal, without Enter."""

import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def keys() -> Iterator[Callable[[float | None], str]]:
    """`with keys() as key`: key(seconds) is the key that was pressed in that time, or "" for none; key(None) waits for one.

    Where the input has ended, the key is q.
    """
    try:
        import select
        import termios
        import tty
    except ImportError:  # Windows
        import msvcrt

        def wait(seconds):
            if seconds is not None:
                time.sleep(seconds)
            is_there = seconds is None or msvcrt.kbhit()  # pyright: ignore[reportAttributeAccessIssue]  # only Windows has it
            return msvcrt.getwch() if is_there else ""  # pyright: ignore[reportAttributeAccessIssue]

        yield wait
        return
    before = termios.tcgetattr(sys.stdin)

    def pressed(seconds):
        ready = select.select([sys.stdin], [], [], seconds)[0]
        return (os.read(sys.stdin.fileno(), 1).decode(errors="replace") or "q") if ready else ""

    try:
        tty.setcbreak(sys.stdin)
        yield pressed
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)
