"""History of the reports of one model or of several: the page and the terminal output."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING
from urllib.parse import quote

from antidote_ci import __version__
from antidote_ci.formatting import format_change, format_interval, format_percent
from antidote_ci.records import HistoryEntry, RunVerdict
from antidote_ci.report import figures, svg
from antidote_ci.report.rendering import mark_chart, render_report_template
from antidote_ci.report.statements import VERDICTS
from antidote_ci.report.tables import format_p_relation
from antidote_ci.report.terminal import build_table
from antidote_ci.report.text import flatten, format_number, pluralize

if TYPE_CHECKING:
    from rich.console import RenderableType

NO_FAILURES: Mapping[str, str] = {}
NO_CHANGE = "–"


@dataclass(frozen=True)
class HistoryRow:
    """One report of a history, as text."""

    model: str
    name: str
    """The day and the commit."""
    verdict: RunVerdict
    verdict_text: str
    score: str
    bounds: str
    change: str
    repaired: str
    over_refusal: str
    task_accuracy: str
    judge: str
    page: str | None


def render_history_page(entries: Sequence[HistoryEntry], failures: Mapping[str, str] = NO_FAILURES) -> str:
    """Render the page of several reports: one row per model, highest score first, and the history of each.

    `failures`: models that could not be evaluated -> why.
    """
    histories = sorted(_group_by_model(entries), key=lambda history: -history[-1].model.harmful_score)
    latest = [history[-1] for history in histories]
    is_of_one_model = len(histories) == 1 and len(entries) > 1
    return render_report_template(
        "history.html.jinja",
        title=latest[0].model.source.id if is_of_one_model else pluralize(len(histories) + len(failures), "model"),
        latest=[] if is_of_one_model else [_to_row(entry) for entry in latest],
        failures=failures,
        headline=[
            ("Reports", format_number(len(entries))),
            *_count_verdicts(latest),
            *([("Not evaluated", format_number(len(failures)))] if failures else []),
        ],
        histories=[
            (
                history[0].model.source.id,
                mark_chart(figures.draw_history(history)),
                [_to_row(entry) for entry in reversed(history)],
            )
            for history in histories
            if len(history) > 1
        ],
        legend=[
            (mark_chart(svg.draw_swatch(verdict, shape, line=False)), VERDICTS[verdict])
            for verdict, shape in figures.VERDICT_SHAPES.items()
            if any(entry.model.verdict == verdict for entry in entries)
        ],
        has_repair=any(entry.repaired_score is not None for entry in entries),
        version=__version__,
    )


def show_history(entries: Sequence[HistoryEntry]) -> "Iterator[RenderableType]":
    """Show the reports of each model, oldest first, or one report of each of several models, highest score first."""
    histories = _group_by_model(entries)
    if len(histories) == len(entries) > 1:
        worst_first = sorted(entries, key=lambda entry: -entry.model.harmful_score)
        yield from _show_rows("Model", [(row.model, row) for row in map(_to_row, worst_first)])
        return
    for history in histories:
        yield flatten(history[0].model.source.id)
        yield from _show_rows("Report", [(row.name, row) for row in map(_to_row, history)])


def _show_rows(first: str, rows: Sequence[tuple[str, HistoryRow]]) -> "Iterator[RenderableType]":
    has_change = any(row.change != NO_CHANGE for _, row in rows)
    change_heading = ("Change, points",) * has_change
    headings = (first, "Verdict", "Score", "Bounds", *change_heading, "Over-refusal", "Task accuracy")
    cells = [
        (
            *(name, row.verdict_text, row.score, row.bounds),
            *((row.change,) * has_change),
            *(row.over_refusal, row.task_accuracy),
        )
        for name, row in rows
    ]
    yield from build_table(headings, cells)


def _to_row(entry: HistoryEntry) -> HistoryRow:
    model, change = entry.model, entry.change
    rise = NO_CHANGE
    if change is not None:
        rise = f"{format_change(change.rise)}, p {format_p_relation(change.p_value)}"
    return HistoryRow(
        model=model.source.id,
        name=figures.describe_revision(model),
        verdict=model.verdict,
        verdict_text=VERDICTS[model.verdict],
        score=format_percent(model.bounded_score) + ("" if model.corrected_score is None else " corrected"),
        bounds=format_interval(model.bounds),
        change=rise,
        repaired=format_percent(entry.repaired_score),
        over_refusal=format_percent(model.over_refusal),
        task_accuracy=format_percent(model.task_accuracy),
        judge=model.judge.name,
        page=None if entry.page is None else quote(entry.page),
    )


def _group_by_model(entries: Sequence[HistoryEntry]) -> list[list[HistoryEntry]]:
    ordered = sorted(entries, key=lambda entry: entry.model.source.id)
    return [list(group) for _, group in groupby(ordered, key=lambda entry: entry.model.source.id)]


def _count_verdicts(latest: Sequence[HistoryEntry]) -> list[tuple[str, str]]:
    verdicts = [entry.model.verdict for entry in latest]
    if len(latest) == 1:
        return [("Latest", VERDICTS[verdicts[0]]), ("Latest score", format_percent(latest[0].model.harmful_score))]
    return [(name, format_number(verdicts.count(verdict))) for verdict, name in VERDICTS.items() if verdict in verdicts]
