"""Output of a command: steps, progress, messages and errors on stderr, data on stdout.

On a terminal, progress is a bar. In a log it is a line now and then. If `ANTIDOTE_STEP_MARK` is set, lines that start
with its value mark the begin and the end of steps, and errors, as JSON. The GitHub Action reads them to fold its log;
the value is random, so that no model or file name can forge a mark.
"""

import json
import logging
import os
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import IO, Literal, cast

from rich.console import Console as RichConsole
from rich.console import RenderableType
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from antidote_ci import records
from antidote_ci.errors import AntidoteError, InfrastructureError
from antidote_ci.formatting import format_duration
from antidote_ci.http_limits import QUERY

MARK_VARIABLE = "ANTIDOTE_STEP_MARK"
LOG_WIDTH = 132
LOG_INTERVAL = 30.0
"""Seconds between two progress lines in a log."""
Verbosity = Literal["silent", "quiet", "normal", "verbose"]
"""Nothing; results and errors; also steps, progress and messages; also requests and the origin of errors."""
REQUEST_LOGGER = "httpx2"


class _LossyStderr:
    """stderr without errors: when it is closed or full, output is dropped and the run continues."""

    def __init__(self) -> None:
        self._stream = sys.stderr  # None if it was closed before the start

    def write(self, text: str) -> int:
        if self._stream:
            try:
                self._stream.write(text)
                self._stream.flush()
            except OSError:
                discard_output(self._stream)
        return len(text)

    def flush(self) -> None:
        """Do nothing, because `write` flushes."""

    def __getattr__(self, name: str) -> object:
        return getattr(self._stream, name)


class Console:
    """The output of one command on stderr, and the duration of its steps in `seconds`."""

    def __init__(self, verbosity: Verbosity = "normal") -> None:
        self.verbosity = verbosity
        self.shows_steps = verbosity in ("normal", "verbose")
        self._mark = os.environ.get(MARK_VARIABLE)
        self._stderr = _LossyStderr()
        self._console = RichConsole(file=cast(IO[str], self._stderr), highlight=False, emoji=False)
        # A log has no width, and rich would wrap tables at 80 columns.
        if self._mark or not self._console.is_terminal:
            self._console.width = LOG_WIDTH
        self._progress: Progress | None = None
        self._progress_log = ProgressLog(time.monotonic())
        self.seconds: dict[str, float] = {}
        self.ending: BaseException | None = None
        """Set by a signal handler, and raised at the next step or progress update. The exception that the handler
        itself raises is lost inside destructors and callbacks of libraries."""

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Show the begin, the progress and the duration of a step."""
        self._raise_ending()
        started = time.monotonic()
        self._progress_log = ProgressLog(started)
        with self._show_step(name):
            yield
            seconds = time.monotonic() - started
            self.seconds[name] = round(self.seconds.get(name, 0.0) + seconds, 1)
            if self.shows_steps:
                self.print(f"{name}: {seconds:.1f} s")

    @contextmanager
    def _show_step(self, name: str) -> Iterator[None]:
        if not self.shows_steps:
            yield
        elif self._mark:
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

    def _write_mark(self, event: str, text: str = "") -> None:
        self._stderr.write(f"{self._mark}{event} {json.dumps(text)}\n")

    def report(self, progress: records.Progress) -> None:
        """Show the progress of the current step."""
        self._raise_ending()
        if self._progress is not None:
            self._progress.update(self._progress.task_ids[-1], completed=progress.done, total=progress.total)
        elif self.shows_steps and (line := self._progress_log.format_line(progress, time.monotonic())):
            self.print(f"  {line}")

    def _raise_ending(self) -> None:
        if self.ending is not None:
            raise self.ending

    def print(self, line: str, style: str | None = None) -> None:
        """Print text. Control characters are made visible."""
        from antidote_ci.report.text import visible_text

        if self.verbosity == "silent":
            return
        self._console.print("\n".join(map(visible_text, line.split("\n"))), style=style, markup=False, soft_wrap=True)

    def show(self, parts: Iterable[RenderableType]) -> None:
        """Print lines of text and objects of rich, such as tables."""
        for part in parts:
            if isinstance(part, str):
                self.print(part)
            elif self.verbosity != "silent":
                self._console.print(part)

    def print_error(self, error: AntidoteError) -> None:
        """Print what went wrong, the likely cause and the next command."""
        from antidote_ci.report.text import link_documents

        for label, text in {"error": error.what, "cause": error.cause, "hint": error.hint}.items():
            if text and self._mark:
                self._write_mark(label, link_documents(text))
            elif text:
                self.print(f"{label}: {link_documents(text)}", style="bold red" if label == "error" else None)


class ProgressLog:
    """Decides when the progress of a step, begun at `now`, is worth a line in a log."""

    def __init__(self, now: float) -> None:
        self._last_line = now
        self._counted: tuple[str, int] | None = None
        self._began, self._first, self._last = now, 0, 0

    def format_line(self, progress: records.Progress, now: float) -> str | None:
        """A line with the progress and the estimated remaining time, or None if it is too early for a line.

        The estimate starts anew when the step counts something else.
        """
        counted = (progress.what, progress.total)
        if counted != self._counted or progress.done < self._last:
            self._counted, self._began, self._first = counted, now, progress.done
        self._last = progress.done
        elapsed, done = now - self._began, progress.done - self._first
        if now - self._last_line < LOG_INTERVAL or not done or progress.done >= progress.total:
            return None
        self._last_line = now
        remaining = elapsed / done * (progress.total - progress.done)
        return f"{progress.what}: {100 * progress.done // progress.total} %, about {format_duration(remaining)} left"


class _ConsoleHandler(logging.Handler):
    def __init__(self, console: Console) -> None:
        super().__init__()
        self._console = console

    def emit(self, record: logging.LogRecord) -> None:
        self._console.print("  " + QUERY.sub(r"\1", record.getMessage()))


@contextmanager
def log_to_console(console: Console) -> Iterator[None]:
    """Print the log messages of the package while a command runs, and with `verbose` the HTTP requests."""
    levels = {"antidote_ci": logging.INFO if console.shows_steps else logging.WARNING}
    if console.verbosity == "verbose":
        levels[REQUEST_LOGGER] = logging.INFO
    handler, before = _ConsoleHandler(console), {name: logging.getLogger(name).level for name in levels}
    for name, level in levels.items():
        logging.getLogger(name).addHandler(handler)
        logging.getLogger(name).setLevel(level)
    try:
        yield
    finally:
        for name, level in before.items():
            logging.getLogger(name).removeHandler(handler)
            logging.getLogger(name).setLevel(level)


def write_stdout(text: str) -> None:
    """Write data to stdout. Raises InfrastructureError if it is closed or full."""
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except OSError as error:
        discard_output(sys.stdout)
        raise InfrastructureError(
            "standard output cannot be written", cause=error.strerror, hint="the program that reads it must read all"
        ) from None


def discard_output(stream: IO[str]) -> None:
    """Send the buffered text of `stream` nowhere. Otherwise Python writes it again when the process exits."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
