"""Two threads of the host that take turns, so that each run of a test interleaves them in the same way."""

import threading
from collections.abc import Callable
from typing import Any

from tests.host_cuda.streams import Stream, after_each_submission


class Turns:
    """Two threads take turns: one runs while the other one waits, and a turn ends with each submission to a stream."""

    def __init__(self) -> None:
        self._changed, self._thread = threading.Condition(), threading.local()
        self._running, self._whose = {0, 1}, 0

    def end(self, stream: Stream | None = None) -> None:
        """End the turn of this thread, if the other one has not finished."""
        if self._running == {0, 1} and "number" in vars(self._thread):
            self._pass_on()
            self._wait()

    def _pass_on(self):
        with self._changed:
            self._whose = 1 - self._thread.number
            self._changed.notify_all()

    def _wait(self):
        with self._changed:
            if not self._changed.wait_for(lambda: self._whose == self._thread.number, timeout=600):
                raise TimeoutError("the other thread does not end its turn")

    def results(self, *functions: Callable[[], Any]) -> list[Any]:
        """Call two functions, each in a thread of its own, and return their results."""
        found, errors = [None, None], []

        def work(number):
            self._thread.number = number
            try:
                self._wait()
                found[number] = functions[number]()
            except BaseException as error:
                errors.append(error)
            finally:
                self._running.discard(number)
                self._pass_on()

        threads = [threading.Thread(target=work, args=(number,)) for number in (0, 1)]
        with after_each_submission(self.end):
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        for error in errors:
            raise error
        return found


class Lock:
    """A lock for code that takes turns: a thread that has to wait for it ends its turn."""

    def __init__(self, turns: Turns) -> None:
        self._lock, self._turns = threading.Lock(), turns

    def __enter__(self) -> None:
        while not self._lock.acquire(blocking=False):
            self._turns.end()

    def __exit__(self, *_: object) -> None:
        self._lock.release()
