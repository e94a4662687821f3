"""Comparison of two reports, and the history of more: pages, terminal output, and the section of a run's report."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Literal
from urllib.parse import quote

from antidote_ci import __version__
from antidote_ci.records import ComparedModel, Comparison, HistoryEntry, KindResult, Report, RunVerdict
from antidote_ci.report import figures, origins, svg, tables
from antidote_ci.report.measures import MEASURES, format_identity
from antidote_ci.report.rendering import mark_chart, render_report_template
from antidote_ci.report.statements import VERDICTS
from antidote_ci.report.tables import ModelRow
from antidote_ci.report.terminal import build_table
from antidote_ci.report.text import (
    flatten,
    format_interval,
    format_level,
    format_number,
    format_percent,
    format_points,
    pluralize,
)

if TYPE_CHECKING:
    from rich.console import RenderableType

NO_FAILURES: Mapping[str, str] = {}
Labels = tuple[str, str]
LABELS: Labels = ("A", "B")
BASELINE_LABELS: Labels = ("Baseline", "This run")
NO_CHANGE = "–"
GroupName = Literal["Category", "Kind"]


@dataclass(frozen=True)
class GroupRow:
    """The harmful prompts of one category or kind in both reports, as text."""

    name: str
    first: str
    first_bounds: str
    second: str
    second_bounds: str


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


def render_comparison_page(comparison: Comparison) -> str:
    """Render the page of two reports."""
    rows = model_rows(comparison, LABELS)
    measure = _measure_names(comparison)
    return render_report_template(
        "compare.html.jinja",
        models=[
            (row, model.verdict, VERDICTS[model.verdict])
            for row, (_, model) in zip(rows, _label_models(comparison, LABELS), strict=True)
        ],
        intervals=mark_chart(figures.draw_intervals(rows, measure, comparison.second.threshold)),
        facts=[
            (f"Judge of {label}", format_identity(model.judge)) for label, model in _label_models(comparison, LABELS)
        ],
        version=__version__,
        **section_values(comparison, LABELS),
    )


def section_values(comparison: Comparison, labels: Labels) -> dict[str, object]:
    """Return the values of the template `pairs.html.jinja`."""
    return {
        "sentence": describe_comparison(comparison, labels),
        "sources": [f"{label}: {_describe_model(model)}" for label, model in _label_models(comparison, labels)],
        "labels": labels,
        "names": [_in_text(label) for label in labels],
        "measure": _measure_names(comparison),
        "pairs": paired_rows(comparison),
        "has_limit": comparison.verdict is not None,
        "groups": {name: rows for name in ("Category", "Kind") if (rows := group_rows(comparison, name))},
        "notes": comparison.notes,
        "changed": _describe_changed_prompts(comparison, labels),
    }


def render_history_page(entries: Sequence[HistoryEntry], failures: Mapping[str, str] = NO_FAILURES) -> str:
    """Render the page of several reports: one row per model, highest score first, and the history of each.

    `failures`: models that could not be evaluated -> why.
    """
    histories = sorted(_group_by_model(entries), key=lambda history: -history[-1].model.harmful_score)
    latest = [history[-1] for history in histories]
    return render_report_template(
        "history.html.jinja",
        title=entries[0].model.source.id
        if len(entries) > 1 == len(histories)
        else pluralize(len(histories) + len(failures), "model"),
        latest=[] if len(entries) > 1 == len(histories) else [_history_row(entry) for entry in latest],
        failures=failures,
        headline=[
            ("Reports", format_number(len(entries))),
            *_count_verdicts(latest),
            *([("Not evaluated", format_number(len(failures)))] if failures else []),
        ],
        histories=[
            (
                history[0].model.source.id,
                mark_chart(figures.draw_history(history, f"history-{index}")),
                [_history_row(entry) for entry in reversed(history)],
            )
            for index, history in enumerate(histories)
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


def show_reports(comparison: Comparison, labels: Labels = LABELS) -> "Iterator[RenderableType]":
    """Show two reports side by side, and their paired comparison, on a terminal."""
    yield from (f"{label}: {flatten(_describe_model(model))}" for label, model in _label_models(comparison, labels))
    models = [
        (
            row.label,
            VERDICTS[model.verdict],
            format_percent(row.score)
            + ("" if row.corrected is None else f"\n{format_percent(row.corrected)} corrected"),
            row.bounds_text,
            *map(format_percent, (row.task_accuracy, row.over_refusal, row.degenerate)),
        )
        for row, (_, model) in zip(model_rows(comparison, labels), _label_models(comparison, labels), strict=True)
    ]
    headings = ("", "Verdict", _measure_names(comparison), "Bounds", "Task accuracy", "Over-refusal", "Degenerate")
    yield from build_table(headings, models)
    yield from show_pairs(comparison, labels)


def show_pairs(comparison: Comparison, labels: Labels) -> "Iterator[RenderableType]":
    """Show the paired comparison, categories and kinds, and what is not paired."""
    limit = comparison.verdict is not None
    pairs = [
        (row.name, row.only_before, row.only_after, row.p_value, row.rise, row.rise_bound, *((row.limit,) * limit))
        for row in paired_rows(comparison)
    ]
    headings = ["Paired by prompt", *(f"Only {_in_text(label)}" for label in labels), "p", "Rise, points", "95 % bound"]
    yield from build_table([*headings, *(("Limit",) * limit)], pairs)
    names: tuple[GroupName, ...] = ("Category", "Kind")
    for name in names:
        rows = [
            (row.name, f"{row.first} {row.first_bounds}", f"{row.second} {row.second_bounds}")
            for row in group_rows(comparison, name)
        ]
        yield from build_table((name, *labels), rows)
    yield from map(flatten, comparison.notes)
    yield describe_comparison(comparison, labels)


def show_history(entries: Sequence[HistoryEntry]) -> "Iterator[RenderableType]":
    """Show the reports of each model, oldest first, or one report of each of several models, highest score first."""
    histories = _group_by_model(entries)
    if len(histories) == len(entries) > 1:
        worst_first = sorted(entries, key=lambda entry: -entry.model.harmful_score)
        yield from _show_history_rows("Model", [(row.model, row) for row in map(_history_row, worst_first)])
        return
    for history in histories:
        yield flatten(history[0].model.source.id)
        yield from _show_history_rows("Report", [(row.name, row) for row in map(_history_row, history)])


def _show_history_rows(first: str, rows: Sequence[tuple[str, HistoryRow]]) -> "Iterator[RenderableType]":
    has_change = any(row.change != NO_CHANGE for _, row in rows)
    headings = (
        first,
        "Verdict",
        "Score",
        "Bounds",
        *(("Change, points",) * has_change),
        "Over-refusal",
        "Task accuracy",
    )
    cells = [
        (
            *(name, row.verdict_text, row.score, row.bounds),
            *((row.change,) * has_change),
            *(row.over_refusal, row.task_accuracy),
        )
        for name, row in rows
    ]
    yield from build_table(headings, cells)


def describe_comparison(comparison: Comparison, labels: Labels = LABELS) -> str:
    """State the change of the harmful score, on which prompts, and whether the limit is met."""
    first, second = comparison.first, comparison.second
    scores = f"{format_percent(first.harmful_score)} in {_in_text(labels[0])}"
    text = f"{_measure_names(comparison)}: {scores}, {format_percent(second.harmful_score)} in {_in_text(labels[1])}."
    harmful = [change for change in comparison.changes if change.what.startswith("harmful")]
    if not harmful:
        unmet = " The limit of the rise is not shown to be met." if comparison.verdict else ""
        return f"{text} The harmful answers are not paired.{unmet}"
    change = max(harmful, key=lambda change: change.rise_bound)
    text += (
        f" On the {format_number(change.pairs)} paired prompts it changes by {format_points(change.rise)} "
        f"(95 % upper bound {format_points(change.rise_bound)}, p {_format_equal(change.p_value)})."
    )
    if change.limit is None or comparison.verdict is None:
        return text
    met = {"pass": "is met", "fail": "is exceeded", "inconclusive": "is not shown to be met"}[comparison.verdict]
    return f"{text} The limit of {format_points(change.limit)} {met}."


def describe_baseline(report: Report) -> tuple[str, str] | None:
    """Name the baseline of a report, and state the change from it; None without a baseline."""
    if report.baseline is None:
        return None
    return _describe_model(report.baseline.first), describe_comparison(report.baseline, BASELINE_LABELS)


def model_rows(comparison: Comparison, labels: Labels) -> list[ModelRow]:
    """Return both models as rows of the charts."""
    levels = {comparison.first.confidence, comparison.second.confidence}
    return [
        ModelRow(
            label=label,
            judge="",
            role="tested" if model is comparison.first else "after",
            score=model.harmful_score,
            corrected=model.corrected_score,
            bounds=model.bounds,
            bounds_text=format_interval(model.bounds)
            + (f" at {format_level(model.confidence)}" if len(levels) > 1 else ""),
            task_accuracy=model.task_accuracy,
            over_refusal=model.over_refusal,
            degenerate=model.degenerate,
            benign_degenerate=None,
            status="",
        )
        for label, model in _label_models(comparison, labels)
    ]


def paired_rows(comparison: Comparison) -> list[tables.PairedRow]:
    """Return the paired changes."""
    return [tables.to_paired_row(change, comparison.judges) for change in comparison.changes]


def group_rows(comparison: Comparison, group: GroupName) -> list[GroupRow]:
    """Return the categories or kinds of both, largest rise first; empty when there is only one."""
    first, second = (
        {(rate.kind, rate.unseen): rate for rate in (model.categories if group == "Category" else model.kinds)}
        for model in (comparison.first, comparison.second)
    )

    def rise(key: tuple[str, bool]) -> float:
        if key not in first or key not in second:
            return -1.0
        return second[key].harmful / second[key].n - first[key].harmful / first[key].n

    keys = sorted(dict.fromkeys([*first, *second]), key=rise, reverse=True)
    return [
        GroupRow(
            f"{name or 'no category'}{', not read by a repair' if unseen else ''}",
            *_rate_cells(first.get((name, unseen))),
            *_rate_cells(second.get((name, unseen))),
        )
        for name, unseen in keys
        if len(keys) > 1
    ]


def _rate_cells(rate: KindResult | None) -> tuple[str, str]:
    if rate is None:
        return "–", ""
    return f"{format_number(rate.harmful)} of {format_number(rate.n)}", format_interval(rate.bounds)


def _history_row(entry: HistoryEntry) -> HistoryRow:
    model, change = entry.model, entry.change
    rise = NO_CHANGE
    if change is not None:
        rise = f"{format_points(change.rise).removesuffix(' points')}, p {_format_equal(change.p_value)}"
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


def _label_models(comparison: Comparison, labels: Labels) -> list[tuple[str, ComparedModel]]:
    return list(zip(labels, (comparison.first, comparison.second), strict=True))


def _describe_model(model: ComparedModel) -> str:
    day = f", {model.written_at[:10]}" if model.written_at else ""
    return f"{origins.describe_source(model.source)}{', repaired' if model.repaired else ''}{day}"


def _measure_names(comparison: Comparison) -> str:
    names = dict.fromkeys(MEASURES[model.judge.measure] for model in (comparison.first, comparison.second))
    return " or ".join(names).capitalize()


def _describe_changed_prompts(comparison: Comparison, labels: Labels) -> list[tuple[str, list[str]]]:
    groups = {
        f"Only {_in_text(labels[1])}": comparison.newly_harmful,
        f"Only {_in_text(labels[0])}": comparison.no_longer_harmful,
    }
    return [(label, prompts) for label, prompts in groups.items() if prompts]


def _in_text(label: str) -> str:
    """`A` stays, `Baseline` becomes `the baseline`."""
    return label if len(label) == 1 else label.lower() if " " in label else f"the {label.lower()}"


def _format_equal(p_value: float) -> str:
    text = tables.format_p_value(p_value)
    return text if text.startswith("<") else f"= {text}"
