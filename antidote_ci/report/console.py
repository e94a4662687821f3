"""What people see: steps and progress on stderr, alive on a terminal, plain lines in a log. stdout is for data.

A program that folds steps in a log of its own, as the GitHub Action does, hands over a mark that nobody can guess in
`ANTIDOTE_STEP_MARK`: lines that begin with it then say where a step begins and ends and what went wrong.
"""

import json
import logging
import os
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import IO, cast

from rich.console import Console as RichConsole
from rich.console import RenderableType
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from antidote_ci import records
from antidote_ci.errors import AntidoteError, InfrastructureError
from antidote_ci.report.progress import ProgressLog

MARK_VARIABLE = "ANTIDOTE_STEP_MARK"
LOG_WIDTH = 132


class _LossyStderr:
    """stderr, where what cannot be written is dropped and the run goes on: people may have stopped listening."""

    def __init__(self) -> None:
        self._stream = sys.stderr  # None where it was closed before the start

    def write(self, text: str) -> int:
        if self._stream:
            try:
                self._stream.write(text)
                self._stream.flush()
            except OSError:
                _discard_output(self._stream)
        return len(text)

    def flush(self) -> None:
        """Nothing is held back."""

    def __getattr__(self, name: str) -> object:
        return getattr(self._stream, name)


class Console:
    """One run's voice. Remembers how long each step took."""

    def __init__(self) -> None:
        self._mark = os.environ.get(MARK_VARIABLE)
        self._stderr = _LossyStderr()
        self._console = RichConsole(file=cast(IO[str], self._stderr), highlight=False, emoji=False)
        # A log has no width of its own; its tables should not be broken at 80 columns.
        if self._mark or not self._console.is_terminal:
            self._console.width = LOG_WIDTH
        self._progress: Progress | None = None
        self._pace = ProgressLog(time.monotonic())
        self.seconds: dict[str, float] = {}
        self.ending: BaseException | None = None
        """Set by a signal. What it raises is lost where it strikes inside a library's destructor or callback."""

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Announce a step, show its progress, and say how long it took."""
        self._end_if_asked()
        started = time.monotonic()
        self._pace = ProgressLog(started)
        with self._announce(name):
            yield
            took = time.monotonic() - started
            self.seconds[name] = round(self.seconds.get(name, 0.0) + took, 1)
            self.print(f"{name}: {took:.1f} s")

    @contextmanager
    def _announce(self, name: str) -> Iterator[None]:
        if self._mark:
            self._write_mark("begin", name)
            try:
                yield
            finally:
                self._write_mark("end")
        elif self._console.is_terminal:
            with Progress(
                TextColumn("{task.description}"),
                BarColumn(bar_width=24),
                TaskProgressColumn(),
                TimeRemainingColumn(),
                console=self._console,
                transient=True,
            ) as self._progress:
                self._progress.add_task(name, total=None)
                yield
            self._progress = None
        else:
            self.print(f"{name} ...")
            yield

    def _write_mark(self, what: str, words: str = "") -> None:
        """One line for the program that reads along: JSON, so that words of any kind stay on it."""
        self._stderr.write(f"{self._mark}{what} {json.dumps(words)}\n")

    def report(self, progress: records.Progress) -> None:
        """Progress inside the current step."""
        self._end_if_asked()
        if self._progress is not None:
            self._progress.update(self._progress.task_ids[-1], completed=progress.done, total=progress.total)
        elif line := self._pace.format_line(progress, time.monotonic()):
            self.print(f"  {line}")

    def _end_if_asked(self) -> None:
        if self.ending is not None:
            raise self.ending

    def print(self, line: str, style: str | None = None) -> None:
        """One line for people."""
        from antidote_ci.report.text import visible_text

        self._console.print("\n".join(map(visible_text, line.split("\n"))), style=style, markup=False, soft_wrap=True)

    def show(self, parts: Iterable[RenderableType]) -> None:
        """Lines, and what rich draws."""
        for part in parts:
            if isinstance(part, str):
                self.print(part)
            else:
                self._console.print(part)

    def print_error(self, error: AntidoteError) -> None:
        """The thing, the likely cause, the next command."""
        told = {"error": error.what, "cause": error.cause, "hint": error.hint}
        for label, words in told.items():
            if words and self._mark:
                self._write_mark(label, words)
            elif words:
                self.print(f"{label}: {words}", style="bold red" if label == "error" else None)


class _PackageLogHandler(logging.Handler):
    """What the package logs, such as that the Hub is waited for, is said."""

    def __init__(self, console: Console) -> None:
        super().__init__(logging.INFO)
        self._talk = console

    def emit(self, record: logging.LogRecord) -> None:
        self._talk.print(f"  {record.getMessage()}")


@contextmanager
def capture_log(console: Console) -> Iterator[None]:
    """For the length of a command the package's log is part of the talk."""
    log, handler = logging.getLogger("antidote_ci"), _PackageLogHandler(console)
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    try:
        yield
    finally:
        log.removeHandler(handler)


def write_stdout(text: str) -> None:
    """What a program reads, alone on stdout. Raises InfrastructureError where that is closed or full."""
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except OSError as error:
        _discard_output(sys.stdout)
        raise InfrastructureError(
            "standard output cannot be written", cause=error.strerror, hint="what reads it must read all of it"
        ) from None


def _discard_output(stream: IO[str]) -> None:
    """What it still holds would be tried again at the end of the process."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
