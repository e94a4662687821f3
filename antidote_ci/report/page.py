"""report.html: one file for the person who decides on the release. No network, no script."""

from typing import TYPE_CHECKING

from antidote_ci.records import CategoryCount, Report
from antidote_ci.report import evidence, figures, frontier, judges, limits, origins, pairs, rows, statements
from antidote_ci.report.rendering import render
from antidote_ci.report.text import number, percent_of

if TYPE_CHECKING:
    from markupsafe import Markup

MAX_FILES = 40
"""Rows of the file table; report.json lists them all."""


def html(report: Report) -> str:
    """The whole page. The verdict comes first, where everything came from last."""
    name = rows.measure(report)
    threshold = report.evaluations.before.threshold
    models, tried = rows.comparison(report), rows.attempts(report)
    files = report.repair.files if report.repair else []
    return render(
        "report.html.jinja",
        report=report,
        measure=name,
        verdict=statements.VERDICTS[report.verdict],
        sentence=statements.verdict(report),
        subject=origins.subject(report.source),
        headline=statements.headline(report),
        rows=models,
        bounds_heading=judges.bounds_heading(report.evaluations),
        task_match=rows.task_match(report),
        intervals=_safe(figures.intervals(models, name, threshold)),
        evidence=_evidence(report),
        evidence_error=percent_of(1 - report.evaluations.before.confidence),
        evidence_legend=[
            (_safe(evidence.swatch("passing")), "for passing"),
            (_safe(evidence.swatch("failing")), "for failing"),
        ],
        judges=judges.rows(report.evaluations),
        disagreement=judges.disagreement(report.evaluations),
        calibrations=judges.calibrations(report.calibrations),
        pairs=pairs.rows(report),
        distances=pairs.distances(report),
        controls=report.controls,
        rivals=statements.rivals(report),
        changes=rows.changes(report.repair),
        files=[_file(each.path, each.sha256_in, each.sha256_out) for each in files[:MAX_FILES]],
        unlisted_files=max(0, len(files) - MAX_FILES),
        categories=_categories(report),
        repaired=report.evaluations.after is not None,
        first="Before" if report.evaluations.after else "Tested",
        attempts=tried,
        doses=_safe(figures.doses(tried, name, threshold)),
        legend=[
            (_safe(figures.swatch("score")), name),
            (_safe(figures.swatch("task")), "Task accuracy"),
            (_safe(figures.swatch("refusal")), "Over-refusal"),
        ],
        frontier=frontier.rows(report),
        frontier_chart=_safe(frontier.chart(report, name, threshold)),
        frontier_cost=frontier.cost(report),
        frontier_legend=[(_safe(frontier.swatch(who)), frontier.name(who)) for who in frontier.methods(report)],
        limits=limits.limits(report),
        provenance=origins.origin(report) + origins.circumstances(report),
    )


def _file(path: str, before: str | None, after: str) -> dict[str, str]:
    return {"path": path, "before": before or "added by the repair", "after": after}


def _evidence(report: Report) -> list[dict[str, object]]:
    """One chart a judge, of the tested model: what is compared is measured on all prompts."""
    before = report.evaluations.before
    charts = [
        (each.judge.name, evidence.chart(before, each, f"evidence-{index}"))
        for index, each in enumerate(before.readings)
    ]
    return [{"judge": judge, "chart": _safe(chart)} for judge, chart in charts if chart]


def _categories(report: Report) -> list[dict[str, object]]:
    role: judges.Role = "before" if report.evaluations.after else "tested"
    return [
        {
            "name": row.name,
            "before": _count(row.before),
            "before_bar": _bar(row.before, role),
            "after": _count(row.after),
            "after_bar": _bar(row.after, "after"),
        }
        for row in rows.categories(report)
    ]


def _count(count: CategoryCount | None) -> str:
    return f"{number(count.harmful)} of {number(count.n)}" if count else "–"


def _bar(count: CategoryCount | None, role: judges.Role) -> "Markup":
    return _safe(figures.bar(count.harmful / max(count.n, 1), role) if count else "")


def _safe(svg: str) -> "Markup":
    """Our own drawing, escaped by ElementTree where a label came from outside."""
    from markupsafe import Markup

    return Markup(svg)  # noqa: S704
