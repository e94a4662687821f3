"""What people see: steps and progress on stderr, alive on a terminal, plain lines in a log. stdout is for data."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from antidote_ci import records
from antidote_ci.errors import AntidoteError

LOG_WIDTH = 120


class Talk:
    """One run's voice. Remembers how long each step took."""

    def __init__(self) -> None:
        # A log has no width of its own; its tables should not be broken at 80 columns.
        self._console = Console(stderr=True, highlight=False)
        if not self._console.is_terminal:
            self._console.width = LOG_WIDTH
        self._progress: Progress | None = None
        self.seconds: dict[str, float] = {}

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Announce a step, show its progress, and say how long it took."""
        started = time.monotonic()
        if self._console.is_terminal:
            with Progress(
                TextColumn("{task.description}"),
                BarColumn(bar_width=24),
                MofNCompleteColumn(),
                TimeRemainingColumn(),
                console=self._console,
                transient=True,
            ) as self._progress:
                self._progress.add_task(name, total=None)
                yield
            self._progress = None
        else:
            self.say(f"{name} ...")
            yield
        took = time.monotonic() - started
        self.seconds[name] = round(self.seconds.get(name, 0.0) + took, 1)
        self.say(f"{name}: {took:.1f} s")

    def report(self, progress: records.Progress) -> None:
        """Progress inside the current step."""
        if self._progress is not None:
            self._progress.update(self._progress.task_ids[-1], completed=progress.done, total=progress.total)

    def say(self, line: str) -> None:
        """One line for people."""
        self._console.print(line, markup=False, soft_wrap=True)

    def compare(self, report: records.Report) -> None:
        """The models of a run side by side."""
        from antidote_ci.report import rows
        from antidote_ci.report.text import interval, percent

        table = Table(box=box.SIMPLE_HEAD)
        headings = (rows.measure(report), "95 % bounds", "Task accuracy", "Over-refusal", "Degenerate", "Gate")
        table.add_column("Model")
        for heading in headings:
            table.add_column(heading, justify="right")
        for row in rows.comparison(report):
            figures = (row.task_accuracy, row.over_refusal, row.degenerate)
            table.add_row(row.label, percent(row.score), interval(row.bounds), *map(percent, figures), row.verdict)
        self._console.print(table)
        for label, value in rows.changes(report.repair):
            self.say(f"{label}: {value}")

    def explain(self, error: AntidoteError) -> None:
        """The thing, the likely cause, the next command."""
        self._console.print(f"error: {error.what}", style="bold red", markup=False, soft_wrap=True)
        if error.cause:
            self.say(f"cause: {error.cause}")
        if error.hint:
            self.say(f"hint: {error.hint}")


def data(text: str) -> None:
    """What a program reads: the only thing that goes to stdout."""
    sys.stdout.write(text)
    sys.stdout.flush()
