"""Answers are checked in a process of their own, which may end, print or never come to an end.

`Checker` keeps such a process ready, with everything imported, so that a check begins at once. Each of them runs one version of
the student's file.
"""

import contextlib
import io
import json
import linecache
import os
import queue
import subprocess
import sys
import threading
import traceback
from collections.abc import Iterator, Sequence
from typing import Any

from vae_np.study.answers import NOT_BEGUN, WRONG, Verdict, check
from vae_np.study.trial import Finding

LIMIT, START = 10.0, 120.0  # seconds for one exercise, and for a process to begin
FILE = ""  # the name under which a Verdict tells that the file itself cannot be run


class Checker:
    """Checks the functions of a file, each file in a fresh process.

    Parameters
    ----------
    ahead : bool
        Whether the process for the next check is started already, so that it can begin at once.
    limit : float
        The seconds after which an exercise is stopped.
    """

    def __init__(self, ahead: bool = False, limit: float = LIMIT):
        self.ahead, self.limit = ahead, limit
        self._ready = self._start() if ahead else None

    def __enter__(self) -> "Checker":
        return self

    def __exit__(self, *_: object) -> None:
        if self._ready:
            self._ready.kill()
            self._ready.wait()

    def _start(self):
        return subprocess.Popen(
            [sys.executable, "-c", "from vae_np.study.runner import serve; serve()"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            encoding="utf-8",
            env={**os.environ, "PYTHONIOENCODING": "utf-8"},
            start_new_session=True,  # Ctrl-C is for this process, which ends the other one
        )

    def check(self, path: str | os.PathLike, names: Sequence[str]) -> Iterator[Verdict]:
        """Yield the Verdict on each of these functions of a file, or one named FILE if the file cannot be run."""
        waiting = list(names)
        while waiting:
            process, self._ready = self._ready or self._start(), None
            answers: queue.Queue[str] = queue.Queue()
            threading.Thread(target=_read, args=(process.stdout, answers), daemon=True).start()
            try:
                with contextlib.suppress(BrokenPipeError):
                    print(json.dumps([str(path), waiting]), file=process.stdin, flush=True)
                for verdict in self._verdicts(answers, waiting):
                    waiting = [] if verdict.name == FILE else waiting[waiting.index(verdict.name) + 1 :]
                    yield verdict
            finally:
                process.kill()
                process.wait()
                self._ready = self._start() if self.ahead else None

    def _verdicts(self, answers, waiting):
        """Yield the Verdicts that the process tells, and one more if it stops."""
        running, limit = FILE, START
        for _ in range(2 * len(waiting) + 1):
            try:
                line = answers.get(timeout=limit)
            except queue.Empty:
                said = f"It had not ended after {limit:.0f} seconds, and was stopped. Is there a loop without an end?"
                yield Verdict(running, WRONG, (Finding("", said),))
                return
            if not line:
                yield Verdict(running, WRONG, (Finding("", "It ended the whole process of Python."),))
                return
            told, limit = json.loads(line), self.limit
            if isinstance(told, str):
                running = told
            else:
                yield verdict_of(told)
                if told["name"] in (FILE, waiting[-1]):
                    return


def _read(stream, answers):
    for line in stream:
        answers.put(line)
    answers.put("")


def record_of(verdict: Verdict) -> dict[str, Any]:
    """A Verdict without its arrays, for JSON."""
    return {**verdict._asdict(), "findings": [list(finding) for finding in verdict.findings], "arrays": []}


def verdict_of(record: dict[str, Any]) -> Verdict:
    """The Verdict of such a record."""
    findings = tuple(Finding(*finding) for finding in record["findings"])
    return Verdict(**{**record, "findings": findings, "notes": tuple(record["notes"]), "arrays": ()})


def serve() -> None:
    """Read a path and the names of functions, and print a JSON line before and after each of them is checked."""
    told = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what is printed past Python is lost
    path, names = json.loads(sys.stdin.readline() or '["", []]')
    sys.stdin = open(os.devnull)

    def tell(what):
        print(json.dumps(what), file=told, flush=True)

    tell(FILE)
    scope, failure = loaded(path)
    if failure:
        tell(record_of(failure))
        return
    for name in names:
        tell(name)
        function = scope.get(name)
        verdict = check(function, name) if callable(function) else Verdict(name, NOT_BEGUN)
        tell(record_of(verdict))


def loaded(path: str) -> tuple[dict[str, Any], Verdict | None]:
    """The names that a file defines; and a Verdict if it cannot be run."""
    printed, scope = io.StringIO(), {"__name__": "exercises", "__file__": path}
    try:
        with open(path, encoding="utf-8") as file:
            source = file.read()
        linecache.cache[path] = len(source), None, source.splitlines(keepends=True), path  # as it is now, also if it changes
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
            exec(compile(source, path, "exec"), scope)
    except (Exception, SystemExit) as error:
        if isinstance(error, SyntaxError):
            lines = traceback.format_exception_only(error)
        else:
            frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == path]
            where = f"Line {frames[-1].lineno}, `{frames[-1].line}`: " if frames else ""
            lines = [f"{where}{type(error).__name__}: {error}"]
        said = "The file cannot be run.\n" + "".join(lines).replace(f'  File "{path}", line', "  line").rstrip()
        return scope, Verdict(FILE, WRONG, (Finding("", said),), printed=printed.getvalue())
    return scope, None
