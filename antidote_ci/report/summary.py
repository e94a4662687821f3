"""The run in Markdown: the step summary and the text of a pull request."""

from antidote_ci.records import Report
from antidote_ci.report import judges, origins, pairs, rows, statements
from antidote_ci.report.limits import limits
from antidote_ci.report.rendering import render
from antidote_ci.report.text import percent

MAX_ROWS = 20
MAX_PAIRS = 10
MAX_CALIBRATIONS = 2
MAX_LIMITS = 20
"""Of the longest notes, with every character escaped, this many stay below 64 KiB; report.json has all."""


def markdown(report: Report) -> str:
    """The step summary, below 64 KiB whatever the report holds."""
    return render(
        "summary.md.jinja",
        unlisted_rows=max(0, len(rows.comparison(report)) - MAX_ROWS),
        **_common(report),
    )


def pull_request_body(report: Report) -> tuple[str, str]:
    """Title (of figures only, 3 to 200 characters) and body of a pull request on the source."""
    measure, change = statements.change(report)
    title = f"Antidote: {measure.lower()} {change} (threshold {percent(report.evaluations.before.threshold)})"
    return title, render("pull_request.md.jinja", **sections(report))


def sections(report: Report) -> dict[str, object]:
    """What the pull request and the model card share."""
    return {
        "changes": rows.changes(report.repair),
        "limits": limits(report)[:MAX_LIMITS],
        **_common(report),
    }


def _common(report: Report) -> dict[str, object]:
    return {
        "report": report,
        "measure": rows.measure(report),
        "verdict": statements.VERDICTS[report.verdict],
        "sentence": statements.verdict(report),
        "rivals": statements.rivals(report),
        "subject": origins.subject(report.source),
        "rows": rows.comparison(report)[:MAX_ROWS],
        "bounds_heading": judges.bounds_heading(report.evaluations),
        "judges": judges.rows(report.evaluations),
        "disagreement": judges.disagreement(report.evaluations),
        "calibrations": judges.calibrations(report.calibrations)[:MAX_CALIBRATIONS],
        "pairs": pairs.rows(report)[:MAX_PAIRS],
        "divergence": pairs.divergence(report.divergence),
        "provenance": origins.origin(report),
    }
