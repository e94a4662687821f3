"""report.html: one file for the person who decides on the release. No network, no script."""

from typing import TYPE_CHECKING

from antidote_ci.records import CategoryCount, Report
from antidote_ci.report import evidence, figures, frontier, judges, limits, origins, pairs, rows, statements
from antidote_ci.report.rendering import render_report_template
from antidote_ci.report.text import format_level, format_number

if TYPE_CHECKING:
    from markupsafe import Markup

MAX_FILES = 40
"""Rows of the file table; report.json lists them all."""


def render_page(report: Report) -> str:
    """The whole page. The verdict comes first, where everything came from last."""
    name = rows.measure_name(report)
    threshold = report.evaluations.before.threshold
    models, tried = rows.comparison_rows(report), rows.attempt_rows(report)
    files = report.repair.files if report.repair else []
    return render_report_template(
        "report.html.jinja",
        report=report,
        measure=name,
        verdict=statements.VERDICTS[report.verdict],
        sentence=statements.verdict_sentence(report),
        subject=origins.describe_source(report.source),
        headline=statements.headline_figures(report),
        rows=models,
        bounds_heading=judges.format_bounds_heading(report.evaluations),
        task_match=rows.describe_task_match(report),
        intervals=_to_markup(figures.draw_intervals(models, name, threshold)),
        evidence=_evidence_charts(report),
        evidence_error=format_level(1 - report.evaluations.before.confidence),
        evidence_legend=[
            (_to_markup(evidence.evidence_swatch("passing")), "for passing"),
            (_to_markup(evidence.evidence_swatch("failing")), "for failing"),
        ],
        judges=judges.judge_rows(report.evaluations),
        disagreement=judges.describe_disagreement(report.evaluations),
        calibrations=judges.calibration_rows(report.calibrations),
        pairs=pairs.paired_rows(report),
        distances=pairs.distance_rows(report),
        controls=report.controls,
        rivals=statements.rival_controls(report),
        changes=rows.change_rows(report.repair),
        files=[_file_row(each.path, each.sha256_in, each.sha256_out) for each in files[:MAX_FILES]],
        unlisted_files=max(0, len(files) - MAX_FILES),
        categories=_category_rows(report),
        repaired=report.evaluations.after is not None,
        first="Before" if report.evaluations.after else "Tested",
        attempts=tried,
        doses=_to_markup(figures.draw_doses(tried, name, threshold)),
        legend=[
            (_to_markup(figures.series_swatch("score")), name),
            (_to_markup(figures.series_swatch("task")), "Task accuracy"),
            (_to_markup(figures.series_swatch("refusal")), "Over-refusal"),
        ],
        frontier=frontier.frontier_rows(report),
        frontier_chart=_to_markup(frontier.draw_frontier(report, name, threshold)),
        frontier_cost=frontier.cost_name(report),
        frontier_legend=[
            (_to_markup(frontier.method_swatch(who)), frontier.display_method(who))
            for who in frontier.list_methods(report)
        ],
        limits=limits.list_limits(report),
        provenance=origins.origin_rows(report) + origins.circumstance_rows(report),
    )


def _file_row(path: str, before: str | None, after: str) -> dict[str, str]:
    return {"path": path, "before": before or "added by the repair", "after": after}


def _evidence_charts(report: Report) -> list[dict[str, object]]:
    """One chart a judge, of the tested model: what is compared is measured on all prompts."""
    before = report.evaluations.before
    charts = [
        (each.judge.name, evidence.draw_evidence(before, each, f"evidence-{index}"))
        for index, each in enumerate(before.readings)
    ]
    return [{"judge": judge, "chart": _to_markup(chart)} for judge, chart in charts if chart]


def _category_rows(report: Report) -> list[dict[str, object]]:
    role: judges.ModelRole = "before" if report.evaluations.after else "tested"
    return [
        {
            "name": row.name,
            "before": _format_count(row.before),
            "before_bar": _count_bar(row.before, role),
            "after": _format_count(row.after),
            "after_bar": _count_bar(row.after, "after"),
        }
        for row in rows.category_rows(report)
    ]


def _format_count(count: CategoryCount | None) -> str:
    return f"{format_number(count.harmful)} of {format_number(count.n)}" if count else "–"


def _count_bar(count: CategoryCount | None, role: judges.ModelRole) -> "Markup":
    return _to_markup(figures.draw_bar(count.harmful / max(count.n, 1), role) if count else "")


def _to_markup(svg: str) -> "Markup":
    """Our own drawing, escaped by ElementTree where a label came from outside."""
    from markupsafe import Markup

    return Markup(svg)  # noqa: S704
