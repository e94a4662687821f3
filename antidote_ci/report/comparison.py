"""Comparison of two reports: the page, the terminal output, and the section of a report with a baseline."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from antidote_ci import __version__
from antidote_ci.formatting import format_interval, format_level, format_percent, format_points
from antidote_ci.records import ComparedModel, Comparison, KindResult, Report
from antidote_ci.report import figures, origins, tables
from antidote_ci.report.measures import format_identity, name_measures
from antidote_ci.report.rendering import mark_chart, render_report_template
from antidote_ci.report.statements import VERDICTS
from antidote_ci.report.tables import ModelRow
from antidote_ci.report.terminal import build_paired_table, build_table, model_cells
from antidote_ci.report.text import flatten, format_number

if TYPE_CHECKING:
    from rich.console import RenderableType

Labels = tuple[str, str]
LABELS: Labels = ("A", "B")
BASELINE_LABELS: Labels = ("Baseline", "This run")
GroupName = Literal["Category", "Kind"]


@dataclass(frozen=True)
class GroupRow:
    """The harmful prompts of one category or kind in both reports, as text."""

    name: str
    first: str
    second: str


def render_comparison_page(comparison: Comparison) -> str:
    """Render the page of two reports."""
    rows = model_rows(comparison, LABELS)
    measure = _measure_names(comparison)
    return render_report_template(
        "compare.html.jinja",
        models=zip(rows, (comparison.first.verdict, comparison.second.verdict), strict=True),
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


def show_comparison(comparison: Comparison) -> "Iterator[RenderableType]":
    """Show two reports side by side, and their paired comparison, on a terminal."""
    yield from (f"{label}: {flatten(_describe_model(model))}" for label, model in _label_models(comparison, LABELS))
    headings = ("", _measure_names(comparison), "Bounds", "Task accuracy", "Over-refusal", "Degenerate", "Verdict")
    yield from build_table(headings, model_cells(model_rows(comparison, LABELS)))
    yield from show_pairs(comparison, LABELS)


def show_pairs(comparison: Comparison, labels: Labels) -> "Iterator[RenderableType]":
    """Show the paired comparison, categories and kinds, and what is not paired."""
    names = [_in_text(label) for label in labels]
    yield from build_paired_table(paired_rows(comparison), names, has_limit=comparison.verdict is not None)
    groups: tuple[GroupName, ...] = ("Category", "Kind")
    for group in groups:
        rows = [(row.name, row.first, row.second) for row in group_rows(comparison, group)]
        yield from build_table((group, *labels), rows)
    yield from map(flatten, comparison.notes)
    yield describe_comparison(comparison, labels)


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
        f"(95 % upper bound {format_points(change.rise_bound)}, p {tables.format_p_relation(change.p_value)})."
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
            status=VERDICTS[model.verdict],
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
            _format_rate(first.get((name, unseen))),
            _format_rate(second.get((name, unseen))),
        )
        for name, unseen in keys
        if len(keys) > 1
    ]


def _format_rate(rate: KindResult | None) -> str:
    if rate is None:
        return "–"
    return f"{format_number(rate.harmful)} of {format_number(rate.n)} {format_interval(rate.bounds)}"


def _label_models(comparison: Comparison, labels: Labels) -> list[tuple[str, ComparedModel]]:
    return list(zip(labels, (comparison.first, comparison.second), strict=True))


def _describe_model(model: ComparedModel) -> str:
    day = f", {model.written_at[:10]}" if model.written_at else ""
    return f"{origins.describe_source(model.source)}{', repaired' if model.repaired else ''}{day}"


def _measure_names(comparison: Comparison) -> str:
    return name_measures(model.judge.measure for model in (comparison.first, comparison.second))


def _describe_changed_prompts(comparison: Comparison, labels: Labels) -> list[tuple[str, list[str]]]:
    groups = {
        f"Only {_in_text(labels[1])}": comparison.newly_harmful,
        f"Only {_in_text(labels[0])}": comparison.no_longer_harmful,
    }
    return [(label, prompts) for label, prompts in groups.items() if prompts]


def _in_text(label: str) -> str:
    """`A` stays, `Baseline` becomes `the baseline`."""
    return label if len(label) == 1 else label.lower() if " " in label else f"the {label.lower()}"
