"""The run in Markdown: the step summary, and all that is said on the Hub."""

from antidote_ci.records import Published, Report
from antidote_ci.report import judges, origins, pairs, proof, rows, statements
from antidote_ci.report.limits import limits
from antidote_ci.report.picture import picture
from antidote_ci.report.places import Place
from antidote_ci.report.rendering import render
from antidote_ci.report.text import percent, short

MAX_ROWS = 20
MAX_PAIRS = 10
MAX_CALIBRATIONS = 2
MAX_LIMITS = 20
"""Of the longest notes, with every character escaped, this many stay below 64 KiB; report.json has all."""


def markdown(report: Report) -> str:
    """The step summary, below 64 KiB whatever the report holds."""
    return render("summary.md.jinja", **_common(report))


def pull_request(report: Report, place: Place) -> tuple[str, str]:
    """Title (of figures only, 3 to 200 characters) and text of the commit or pull request for `place`."""
    measure, change = statements.change(report)
    title = f"Antidote: {measure.lower()} {change} (threshold {percent(report.evaluations.before.threshold)})"
    commands = proof.of_proposal(place, report.source.id)
    text = render("pull_request.md.jinja", place=place, commands=commands, **_claims(report))
    return title, text


def comment(report: Report, published: Published) -> str:
    """The one comment of a pull request, which later runs renew: what its newest commit holds."""
    source = report.source.id
    return render(
        "comment.md.jinja",
        published=published,
        repository=published.repository or source,
        commands=proof.at_commit(published, source),
        files=proof.files_at(published, source),
        **_common(report),
    )


def closing(report: Report, number: int) -> str:
    """Why a pull request is closed whose result is in another one already."""
    return (
        f"The same result is already in #{number}: the same weights, made from commit "
        f"{short(report.source.revision or '')} under the same policy. So this pull request is closed."
    )


def superseded(number: int) -> str:
    """Why a pull request is closed whose source has moved on."""
    return f"The source has moved on since, and #{number} repairs its newer commit. So this pull request is closed."


def of_card(report: Report, place: Place) -> dict[str, object]:
    """What the block in the card shows."""
    return {
        "place": place,
        "commands": proof.of_card(place),
        "files": proof.beside(),
        **_claims(report),
        "picture": None,
    }


def _claims(report: Report) -> dict[str, object]:
    return {
        "changes": rows.changes(report.repair),
        "limits": limits(report)[:MAX_LIMITS],
        **_common(report),
    }


def _common(report: Report) -> dict[str, object]:
    from markupsafe import Markup

    models = rows.comparison(report)
    threshold = report.evaluations.before.threshold
    return {
        "report": report,
        "measure": rows.measure(report),
        "verdict": statements.VERDICTS[report.verdict],
        "sentence": statements.verdict(report),
        "rivals": statements.rivals(report),
        "subject": origins.subject(report.source),
        "rows": models[:MAX_ROWS],
        "unlisted_rows": max(0, len(models) - MAX_ROWS),
        # In a block of code an escape would be read as it stands; nothing of a stranger's is in this one.
        "picture": Markup(picture(models[:MAX_ROWS], threshold)),  # noqa: S704
        "threshold": threshold,
        "bounds_heading": judges.bounds_heading(report.evaluations),
        "judges": judges.rows(report.evaluations),
        "disagreement": judges.disagreement(report.evaluations),
        "calibrations": judges.calibrations(report.calibrations)[:MAX_CALIBRATIONS],
        "pairs": pairs.rows(report)[:MAX_PAIRS],
        "distances": pairs.distances(report),
        "provenance": origins.origin(report),
    }
