"""A session in a terminal: the student's file is checked whenever it is saved, and keys ask for more."""

import functools
import os
import pathlib
import subprocess
import sys
import time
import webbrowser
from collections.abc import Callable, Sequence

from rich import box
from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.panel import Panel
from rich.syntax import Syntax
from rich.table import Table
from rich.text import Text

from vae_np.study import workbook
from vae_np.study.answers import NOT_BEGUN, RIGHT, WRONG, Verdict
from vae_np.study.derivations import key_of
from vae_np.study.exercises import EXERCISES, KNOWN, hints
from vae_np.study.keyboard import keys
from vae_np.study.runner import FILE, Checker, record_of, verdict_of
from vae_np.study.trial import Finding
from vae_np.study.workbook import Answer, Marks

KEYS = "h: hint   w: why (study page)   n, p: next, previous exercise   l: list   r: reset   q: quit"
POLL, SETTLED = 0.1, 0.03  # seconds between two looks at the file, and for which it must stay as it is before it is checked
MARKS = {RIGHT: ("✓", "green"), WRONG: ("✗", "bold red"), NOT_BEGUN: ("·", "dim")}


class Session:
    """The student's file, what is known of each answer in it, and the console on which it is told."""

    def __init__(self, path: str | os.PathLike, console: Console, checker: Checker):
        self.path, self.console, self.checker = pathlib.Path(path), console, checker
        self.marks = Marks(path)
        self.answers: dict[str, Answer] = {}
        self.verdicts: dict[str, Verdict] = {}
        self.failure: Verdict | None = None  # where the file itself cannot be run
        self.print = functools.partial(console.print, soft_wrap=False)  # it breaks lines between words
        self._seen: tuple[str | None, ...] = ()  # the text of the file when it was read last
        self._chosen = ""

    # ------------------------------------------------------------------------------------------------ what is known

    @property
    def names(self) -> list[str]:
        """The exercises: the sixteen, and the others that the file holds."""
        return [name for name in KNOWN if name in EXERCISES or name in self.answers]

    @property
    def current(self) -> str:
        """The exercise that is shown: the one that was chosen by a key, or the first one that is not right; "" at the end."""
        return self._chosen or next((name for name in self.names if not self.is_right(name)), "")

    def is_right(self, name: str) -> bool:
        """Whether the answer to an exercise is right."""
        return name in self.verdicts and self.verdicts[name].state == RIGHT

    def update(self, only: Sequence[str] = tuple(KNOWN), anew: bool = False) -> list[str] | None:
        """Check what has changed since the last time.

        Parameters
        ----------
        only : sequence of str
            The exercises that are checked.
        anew : bool
            Whether they are checked even if they have not changed.

        Returns
        -------
        list of str or None
            The names of the exercises that were checked; None if the file has not changed.
        """
        source = self._read()
        if (source,) == self._seen:
            return None
        while source != (source := self._read()):  # it is being written
            pass
        self._seen, self.failure = (source,), None
        try:
            if source is None:
                raise OSError
            self.answers = workbook.answers(source)
        except OSError:
            self.failure = Verdict(FILE, WRONG, (Finding("", f"{self.path} cannot be read."),))
            return []
        except SyntaxError:  # it is told by the process that runs the file; the marks stay
            self.failure = next(self.checker.check(self.path, [next(iter(EXERCISES))]))
            return []
        changed = []
        for name in self.names:
            if name not in self.answers:
                self.verdicts[name] = Verdict(name, NOT_BEGUN)
            elif self.marks.known(name, self.answers[name]) and not anew:
                self.verdicts[name] = verdict_of(self.marks.of[name]["verdict"])
            elif name in only:
                changed.append(name)
        with self.console.status("what has changed is checked"):
            verdicts = list(self.checker.check(self.path, changed if self.answers else [next(iter(EXERCISES))]))
        for verdict in verdicts:
            if verdict.name == FILE:
                self.failure = verdict
                return []
            if verdict.name in self.answers:  # a file without any exercise is run as well
                self.verdicts[verdict.name] = verdict
                self.marks.set(verdict.name, digest=self.answers[verdict.name].digest, verdict=record_of(verdict))
        return changed

    def _read(self):
        """The text of the file a moment later; None if it cannot be read."""
        time.sleep(SETTLED)
        try:
            return self.path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            return None

    def hint(self, name: str) -> str:
        """The next hint on an exercise; after the last one they begin again."""
        all_hints = hints(KNOWN[name])
        taken = self.marks.of.get(name, {}).get("hints", 0)
        self.marks.set(name, hints=taken + 1)
        i = taken % len(all_hints)
        return f"Hint {i + 1} of {len(all_hints)}: {all_hints[i]}"

    # ------------------------------------------------------------------------------------------------- what is shown

    def progress(self) -> Text:
        """A mark for each exercise."""
        right = sum(map(self.is_right, self.names))
        text = Text(f"{self.path.name}: {right} of {len(self.names)} exercises are right   ")
        for name in self.names:
            mark, style = MARKS[self.verdicts[name].state if name in self.verdicts else NOT_BEGUN]
            text.append(mark, style)
        return text

    def listing(self) -> Table:
        """A table of the exercises."""
        table = Table(box=box.SIMPLE_HEAD, show_edge=False)
        for column in ("", "", "exercise", "title", "line", "hints taken"):
            table.add_column(column)
        for number, name in enumerate(self.names, 1):
            mark, style = MARKS[self.verdicts[name].state if name in self.verdicts else NOT_BEGUN]
            line = str(self.answers[name].line) if name in self.answers else "missing"
            taken = self.marks.of.get(name, {}).get("hints", 0)
            arrow = "→" if name == self.current else ""
            table.add_row(arrow, Text(mark, style), f"{number}. {name}", KNOWN[name].title, line, str(taken or ""))
        return table

    def card(self, name: str) -> RenderableType:
        """What is said of one exercise."""
        number = self.names.index(name) + 1
        place = f", line {self.answers[name].line}" if name in self.answers else ": the file does not hold this function"
        parts: list[RenderableType] = [Text(f"{number}. {KNOWN[name].title}   {name}{place}", "bold")]
        verdict = self.verdicts.get(name, Verdict(name, NOT_BEGUN))
        parts += told(verdict)
        parts.append(Text("✓ right", "green") if verdict.state == RIGHT else Text(f"\n{KNOWN[name].question}", "dim"))
        return Group(*parts)

    def comparison(self, name: str) -> RenderableType:
        """The lines of a right answer, beside those of the reference, or above them where they are long."""
        yours = workbook.lines_of(self.answers[name].source)
        codes = {"your lines": yours, "the lines of vae_np": workbook.reference_lines(KNOWN[name])}
        panels = [
            Panel(Syntax(code, "python", background_color="default", word_wrap=True), title=title, box=box.ROUNDED)
            for title, code in codes.items()
        ]
        if max(len(line) for code in codes.values() for line in code.splitlines()) > self.console.width // 2 - 5:
            return Group(*panels)
        table = Table.grid(expand=True, padding=(0, 1))
        for _ in panels:
            table.add_column(ratio=1)
        table.add_row(*panels)
        return table

    def show(self, changed: list[str], before: dict[str, Verdict]) -> None:
        """Tell what a change of the file has changed."""
        if self.failure:
            self.print(*told(self.failure), sep="\n")
            return
        was_right = {name for name, verdict in before.items() if verdict.state == RIGHT}
        for name in changed:
            if self.is_right(name):
                self.print(Text(f"✓ {name} is {'still ' if name in was_right else ''}right.", "bold green"))
                self.print(self.comparison(name))
                self.print(*(Text(f"  {note}", "yellow") for note in self.verdicts[name].notes), sep="\n")
        lost = [name for name in self.names if name in was_right and not self.is_right(name)]
        for name in lost:
            self.print(Text(f"✗ {name} was right, and is not any more.", "bold red"))
        if self._chosen and self.is_right(self._chosen):
            self._chosen = ""
        self.print(self.progress())
        if self.current:
            self.print(Padding(self.card(self.current), (1, 0, 0, 0)))
        else:
            self.print(
                Text("All exercises are right. `vae-np exercise --train` trains the digits with your lines.", "bold green")
            )

    # -------------------------------------------------------------------------------------------------------- keys

    def press(self, key: str) -> bool:
        """Do what a key asks for; whether the session goes on."""
        name = self.current
        if key in ("q", "\x1b", "\x04"):
            return False
        if key == "\x03":
            raise KeyboardInterrupt
        if key == "l":
            self.print(self.listing())
        elif key in ("n", "p") and self.names:
            i = self.names.index(name) if name else len(self.names)
            self._chosen = self.names[(i + (1 if key == "n" else -1)) % len(self.names)]
            self.print(Padding(self.card(self._chosen), (1, 0, 0, 0)))
        elif key == "h" and name:
            self.print(Text(self.hint(name), "cyan"))
        elif key == "w" and name:
            self.print(Text(open_page(name, self.path.with_name("study.html"), self.console), "cyan"))
        elif key == "r" and name:
            copy = workbook.reset(self.path, name)
            self.print(Text(f"{name} is as it was at first. The file as it was before is {copy}.", "cyan"))
        elif key.strip():
            self.print(Text(KEYS, "dim"))
        return True


def told(verdict: Verdict) -> list[RenderableType]:
    """What a Verdict says, for rich to print."""
    parts: list[RenderableType] = []
    if verdict.where:
        parts.append(Text(f"It is right with the first arguments, but not {verdict.where}:"))
    parts += [Text(f"✗ {finding}", "red") for finding in verdict.findings]
    parts += [Text(note, "yellow") for note in verdict.notes]
    if verdict.state == NOT_BEGUN:
        parts.append(Text("· not begun", "dim"))
    if verdict.printed:
        parts.append(Panel(Text(verdict.printed.rstrip()[-2000:]), title="it printed", box=box.ROUNDED, expand=False))
    return parts


def open_page(name: str, page: pathlib.Path, console: Console) -> str:
    """Show the derivation of an exercise on the study page, which is written if it is not there; the sentence on what was done."""
    if not page.exists():
        with console.status("the study page is written"):
            words = [sys.executable, "-m", "vae_np", "study", "--out", str(page)]
            done = subprocess.run(words, capture_output=True, text=True)
        if done.returncode:
            return f"The study page could not be written: {done.stderr.strip()}"
    address = page.resolve().as_uri() + f"#why-{key_of(name) or 'adjoint'}"
    opened = bool(os.environ.get("DISPLAY") or sys.platform in ("darwin", "win32")) and webbrowser.open(address)
    return f"The derivation is shown in your browser: {address}" if opened else f"Open this address in a browser: {address}"


def watch(session: Session, is_over: Callable[[], bool] = lambda: False) -> None:
    """Check the file whenever it changes, and do what keys ask for, until a key ends the session."""
    going = True
    with keys() as key:
        first = True
        while going and not is_over():
            before = dict(session.verdicts)
            changed = session.update()
            if changed is not None:
                if not first:
                    session.console.rule(time.strftime("%H:%M:%S"))
                session.show([] if first else changed, before)
                session.print(Text(KEYS, "dim"))
                first = False
            pressed = key(POLL)
            going = session.press(pressed) if pressed else True
