"""report.html: the report as one file, without scripts and without network access."""

from typing import TYPE_CHECKING

from antidote_ci.records import CategoryCount, KindResult, Report
from antidote_ci.report import comparison, figures, measures, origins, statements, svg, tables
from antidote_ci.report.limits import list_limits
from antidote_ci.report.rendering import mark_chart, render_report_template
from antidote_ci.report.text import format_number

if TYPE_CHECKING:
    from markupsafe import Markup

MAX_FILES = 40
"""Rows of the file table; report.json lists every file."""


def render_page(report: Report) -> str:
    """Render the page: verdict first, provenance last."""
    measure = measures.measure_name(report)
    threshold = report.evaluations.before.threshold
    models = tables.model_rows(report)
    attempts = tables.attempt_rows(report)
    files = report.repair.files if report.repair else []
    series: list[tuple[figures.Series, str]] = [
        ("score", measure),
        ("task", "Task accuracy"),
        ("refusal", "Over-refusal"),
    ]
    return render_report_template(
        "report.html.jinja",
        report=report,
        measure=measure,
        verdict=statements.VERDICTS[report.verdict],
        verdict_text=statements.describe_verdict(report),
        source=origins.describe_source(report.source),
        headline=statements.headline_figures(report),
        models=models,
        bounds_heading=measures.BOUNDS_HEADING,
        task_match=tables.describe_task_match(report),
        intervals=mark_chart(figures.draw_intervals(models, measure, threshold)),
        judges=tables.judge_rows(report.evaluations),
        disagreement=tables.describe_disagreement(report.evaluations),
        calibrations=report.calibrations,
        pairs=tables.paired_rows(report),
        distances=tables.distance_rows(report),
        baseline=comparison.section_values(report.baseline, comparison.BASELINE_LABELS) if report.baseline else None,
        warning=statements.warn_of_weights(report),
        mode=statements.describe_mode(report),
        controls=tables.control_rows(report),
        control_sentences=statements.describe_controls(report),
        matching_controls=statements.list_matching_controls(report),
        changes=tables.change_rows(report.repair),
        files=files[:MAX_FILES],
        unlisted_files=max(0, len(files) - MAX_FILES),
        categories=_category_rows(report),
        kinds=_kind_rows(report),
        worst_kind=statements.describe_worst_kind(report),
        repaired=report.evaluations.after is not None,
        first="Before" if report.evaluations.after else "Tested",
        attempts=attempts,
        doses=mark_chart(figures.draw_doses(attempts, measure, threshold)),
        legend=[(mark_chart(svg.draw_swatch(name, figures.SERIES_SHAPES[name])), label) for name, label in series],
        frontier=[
            (point, figures.display_kind(figures.point_kind(point)), figures.is_chosen(point, report))
            for point in report.frontier
        ],
        frontier_chart=mark_chart(figures.draw_frontier(report, measure, threshold)),
        frontier_cost=figures.frontier_cost_name(report),
        frontier_legend=[
            (mark_chart(svg.draw_swatch(kind, figures.POINT_SHAPES[kind], line=False)), figures.display_kind(kind))
            for kind in figures.frontier_kinds(report)
        ],
        limits=list_limits(report),
        provenance=origins.origin_rows(report) + origins.run_rows(report),
    )


def _category_rows(report: Report) -> list[dict[str, object]]:
    """Return the categories of the confirmation prompts, highest harmful score before the repair first."""
    before, after = report.evaluations.before, report.evaluations.after
    counts = sorted(before.categories.items(), key=lambda item: -item[1].harmful / max(item[1].n, 1))
    after_counts = after.categories if after else {}
    return [
        _count_row(name or "no category", count, after_counts.get(name), repaired=after is not None)
        for name, count in counts
    ]


def _kind_rows(report: Report) -> list[dict[str, object]]:
    """Return the kinds of the confirmation prompts, and the kind that the repair does not read."""
    before, after = report.evaluations.before, report.evaluations.after
    after_counts = {(kind.kind, kind.unseen): kind for kind in (after.kinds if after else ())}
    return [
        _count_row(
            f"{kind.kind}, not read by the repair" if kind.unseen else kind.kind,
            kind,
            after_counts.get((kind.kind, kind.unseen)),
            repaired=after is not None,
        )
        for kind in before.kinds
    ]


def _count_row(
    name: str, before: CategoryCount | KindResult, after: CategoryCount | KindResult | None, *, repaired: bool
) -> dict[str, object]:
    return {
        "name": name,
        "before": _format_count(before),
        "before_bar": _count_bar(before, "before" if repaired else "tested"),
        "after": _format_count(after),
        "after_bar": _count_bar(after, "after"),
    }


def _format_count(count: CategoryCount | KindResult | None) -> str:
    return f"{format_number(count.harmful)} of {format_number(count.n)}" if count else "–"


def _count_bar(count: CategoryCount | KindResult | None, role: measures.ModelRole) -> "Markup":
    return mark_chart(figures.draw_bar(count.harmful / max(count.n, 1), role) if count else "")
