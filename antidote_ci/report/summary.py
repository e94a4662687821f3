"""The run in Markdown: the step summary, and all that is said on the Hub."""

from antidote_ci.records import PublishResult, Report
from antidote_ci.report import judges, origins, pairs, proof, rows, statements
from antidote_ci.report.limits import list_limits
from antidote_ci.report.picture import render_picture
from antidote_ci.report.places import CardLocation
from antidote_ci.report.rendering import render_report_template
from antidote_ci.report.text import format_percent, short_sha

MAX_ROWS = 20
MAX_PAIRS = 10
MAX_CALIBRATIONS = 2
MAX_LIMITS = 20
"""Of the longest notes, with every character escaped, this many stay below 64 KiB; report.json has all."""


def render_summary(report: Report) -> str:
    """The step summary, below 64 KiB whatever the report holds."""
    return render_report_template("summary.md.jinja", **_common_values(report))


def render_pull_request(report: Report, place: CardLocation) -> tuple[str, str]:
    """Title (of figures only, 3 to 200 characters) and text of the commit or pull request for `place`."""
    measure, change = statements.describe_change(report)
    title = f"Antidote: {measure.lower()} {change} (threshold {format_percent(report.evaluations.before.threshold)})"
    commands = proof.pull_request_commands(place, report.source.id)
    text = render_report_template("pull_request.md.jinja", place=place, commands=commands, **_claim_values(report))
    return title, text


def render_comment(report: Report, published: PublishResult) -> str:
    """The one comment of a pull request, which later runs renew: what its newest commit holds."""
    source = report.source.id
    return render_report_template(
        "comment.md.jinja",
        published=published,
        repository=published.repository or source,
        commands=proof.commit_commands(published, source),
        files=proof.link_files_at(published, source),
        **_common_values(report),
    )


def render_closing(report: Report, number: int) -> str:
    """Why a pull request is closed whose result is in another one already."""
    return (
        f"The same result is already in #{number}: the same weights, made from commit "
        f"{short_sha(report.source.revision or '')} under the same policy. So this pull request is closed."
    )


def render_superseded(number: int) -> str:
    """Why a pull request is closed whose source has moved on."""
    return f"The source has moved on since, and #{number} repairs its newer commit. So this pull request is closed."


def card_values(report: Report, place: CardLocation) -> dict[str, object]:
    """What the block in the card shows."""
    return {
        "place": place,
        "commands": proof.card_commands(place),
        "files": proof.link_files(),
        **_claim_values(report),
        "picture": None,
    }


def _claim_values(report: Report) -> dict[str, object]:
    return {
        "changes": rows.change_rows(report.repair),
        "limits": list_limits(report)[:MAX_LIMITS],
        **_common_values(report),
    }


def _common_values(report: Report) -> dict[str, object]:
    from markupsafe import Markup

    models = rows.comparison_rows(report)
    threshold = report.evaluations.before.threshold
    return {
        "report": report,
        "measure": rows.measure_name(report),
        "verdict": statements.VERDICTS[report.verdict],
        "sentence": statements.verdict_sentence(report),
        "rivals": statements.rival_controls(report),
        "subject": origins.describe_source(report.source),
        "rows": models[:MAX_ROWS],
        "unlisted_rows": max(0, len(models) - MAX_ROWS),
        # In a block of code an escape would be read as it stands; nothing of a stranger's is in this one.
        "picture": Markup(render_picture(models[:MAX_ROWS], threshold)),  # noqa: S704
        "threshold": threshold,
        "bounds_heading": judges.format_bounds_heading(report.evaluations),
        "judges": judges.judge_rows(report.evaluations),
        "disagreement": judges.describe_disagreement(report.evaluations),
        "calibrations": judges.calibration_rows(report.calibrations)[:MAX_CALIBRATIONS],
        "pairs": pairs.paired_rows(report)[:MAX_PAIRS],
        "distances": pairs.distance_rows(report),
        "provenance": origins.origin_rows(report),
    }
