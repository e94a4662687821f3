"""The run in Markdown: the step summary and the text of a pull request."""

from antidote_ci.records import Report
from antidote_ci.report import rows, statements
from antidote_ci.report.rendering import render
from antidote_ci.report.text import percent

MAX_ROWS = 20
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
    before, after = report.evaluations.before, report.evaluations.after
    change = percent(before.harmful_score) + (f" → {percent(after.harmful_score)}" if after else "")
    title = f"Antidote: {rows.measure(report).lower()} {change} (threshold {percent(before.threshold)})"
    return title, render("pull_request.md.jinja", **sections(report))


def sections(report: Report) -> dict[str, object]:
    """What the pull request and the model card share."""
    return {
        "changes": rows.changes(report.repair),
        "limits": statements.limits(report)[:MAX_LIMITS],
        **_common(report),
    }


def _common(report: Report) -> dict[str, object]:
    return {
        "report": report,
        "measure": rows.measure(report),
        "verdict": statements.VERDICTS[report.verdict],
        "sentence": statements.verdict(report),
        "subject": statements.subject(report),
        "rows": rows.comparison(report)[:MAX_ROWS],
        "provenance": statements.origin(report),
    }
