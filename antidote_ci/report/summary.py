"""Markdown of a run: job summary, pull request, comment, and the values of the model card's block."""

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from antidote_ci.formatting import format_percent
from antidote_ci.records import COMMIT, PublishResult, Report, is_hub_id
from antidote_ci.report import comparison, figures, measures, origins, statements, tables
from antidote_ci.report.limits import list_limits
from antidote_ci.report.rendering import render_report_template
from antidote_ci.report.text import short_sha

if TYPE_CHECKING:
    from markupsafe import Markup

MAX_LIMITS = 20
MAX_BYTES = 60_000
"""A comment on GitHub holds 65,536 characters; the Hub does not document how long a text may be. Names from
repositories and files can make one longer."""
_DETAILS = re.compile(r"<details>\n.*?\n</details>\n\n?", re.DOTALL)
_CUT = "\n…\n\nThis text was cut after {} bytes. report.json has everything.\n"

PUBLISHED_FILES = ("antidote/report.json", "antidote/report.html", "antidote/manifest.json", "SHA256SUMS")
"""Files published next to the weights."""


@dataclass(frozen=True)
class CardLocation:
    """The repository that a model card is written for."""

    repository: str | None = None
    """ORG/NAME; None when nothing is published."""
    own: bool = False
    """Whether the repository holds the repaired weights only, and not those of the source."""
    branch: str | None = None
    """Branch of the source that the result is published to, if any."""
    card: str | None = None
    """Current card of a repository of its own. Its text is kept, in place of the source's."""
    verdict: str | None = None
    """Digest of the verdict, if only that is published: an equal one is not published again."""


LOCAL_CARD = CardLocation()

ShellCommand = tuple["Markup", "Markup"]
"""The purpose of a command, and the command."""

_TENSORS = "compare every tensor with its source and its reference; no model is run"
_CHECKSUMS = "check that a download is complete, in its folder", "sha256sum -c SHA256SUMS"
_BRANCH = re.compile(r"\w[\w./-]*", re.ASCII)
_HOST = re.compile(r"https?://[\w.-]+(?::\d+)?(?=/)", re.ASCII)


def render_summary(report: Report) -> str:
    """Render the job summary."""
    return _render("summary.md.jinja", **_common_values(report))


def render_pull_request(report: Report, location: CardLocation) -> tuple[str, str]:
    """Render the title (figures only, 3 to 200 characters) and the text of the commit or pull request."""
    measure, change = statements.describe_change(report)
    title = f"Antidote: {measure.lower()} {change} (threshold {format_percent(report.evaluations.before.threshold)})"
    commands = _pull_request_commands(location, report.source.id)
    values = _claim_values(report)
    return title, _render("pull_request.md.jinja", location=location, commands=commands, **values)


def render_verdict(report: Report, *, is_discussion: bool) -> tuple[str, str]:
    """Render the title (figures only) and the text of a pull request or discussion that states the verdict alone."""
    measure, score = statements.describe_change(report)
    threshold = format_percent(report.evaluations.before.threshold)
    verdict = statements.VERDICTS[report.verdict].lower()
    title = f"antidote-ci: {verdict}, {measure.lower()} {score} (threshold {threshold})"
    values = _claim_values(report)
    return title, _render("verdict.md.jinja", is_discussion=is_discussion, **values)


def render_comment(report: Report, published: PublishResult) -> str:
    """Render the comment of a pull request with weights or with a verdict; later runs replace it with their own."""
    repository = published.repository or report.source.id
    revision = published.revision or ""
    checked = revision if COMMIT.fullmatch(revision) else "COMMIT"
    host = _HOST.match(published.url or "")
    files = [_to_markup(path) for path in PUBLISHED_FILES]
    if host and is_hub_id(repository) and checked == revision:
        address = f"{host[0]}/{repository}/resolve/{revision}"
        files = [_to_markup(f"[{path}]({address}/{path})") for path in PUBLISHED_FILES]
    return _render(
        "comment.md.jinja",
        published=published,
        repository=repository,
        commands=_to_commands((_TENSORS, f"{_verify_command(repository)} --revision {checked}")),
        files=files,
        **_common_values(report),
    )


def _render(template: str, **values: object) -> str:
    """Render a text of at most MAX_BYTES: without the details if it is longer, and then cut at a line."""
    text = render_report_template(template, **values)
    if len(text.encode()) <= MAX_BYTES:
        return text
    note, lines, size = _CUT.format(f"{MAX_BYTES:,}"), list[str](), 0
    for line in _DETAILS.sub("", text).splitlines(keepends=True):
        size += len(line.encode())
        if size > MAX_BYTES - len(note.encode()) - len("```\n"):
            break
        lines.append(line)
    is_open = sum(line.startswith("```") for line in lines) % 2
    return "".join(lines) + "```\n" * is_open + note


def render_closing(report: Report, number: int) -> str:
    """Render the comment on a pull request that is closed because another one has the same result."""
    result = "the same verdict on" if report.repair is None else "the same weights, repaired from"
    commit = short_sha(report.source.revision or "")
    return (
        f"#{number} already has this result: {result} commit {commit} under the same policy. "
        "This pull request is closed."
    )


def render_superseded(number: int) -> str:
    """Render the comment on a pull request that is closed because its source has a newer commit."""
    return f"The source has a newer commit, of which #{number} has the result. This pull request is closed."


def card_values(report: Report, location: CardLocation) -> dict[str, object]:
    """Return the values of the model card's block."""
    return {
        **_claim_values(report),
        "location": location,
        "commands": _card_commands(location),
        "files": [_to_markup(f"[{path}]({path})") for path in PUBLISHED_FILES],
        "chart": None,
    }


def _claim_values(report: Report) -> dict[str, object]:
    return {
        "changes": tables.change_rows(report.repair),
        "limits": list_limits(report)[:MAX_LIMITS],
        **_common_values(report),
    }


def _common_values(report: Report) -> dict[str, object]:
    models = tables.model_rows(report)
    threshold = report.evaluations.before.threshold
    return {
        "report": report,
        "measure": measures.measure_name(report),
        "verdict": statements.VERDICTS[report.verdict],
        "verdict_text": statements.describe_verdict(report),
        "next_step": statements.describe_next_step(report),
        "warning": statements.warn_of_weights(report),
        "mode": statements.describe_mode(report),
        "worst_kind": statements.describe_worst_kind(report),
        "matching_controls": statements.list_matching_controls(report),
        "source": origins.describe_source(report.source),
        "models": models,
        "controls": tables.control_rows(report),
        "control_sentences": statements.describe_controls(report),
        # The chart is a code block, where escapes would be visible. It has no text of the model's repository.
        "chart": _to_markup(figures.render_text_chart(models, threshold)),
        "threshold": threshold,
        "bounds_heading": measures.BOUNDS_HEADING,
        "judges": tables.judge_rows(report.evaluations),
        "disagreement": tables.describe_disagreement(report.evaluations),
        "calibrations": report.calibrations,
        "pairs": tables.paired_rows(report),
        "distances": tables.distance_rows(report),
        "baseline": comparison.describe_baseline(report),
        "provenance": [*origins.origin_rows(report), origins.prompt_sets_row(report)],
    }


def _card_commands(location: CardLocation) -> list[ShellCommand]:
    """Return the commands that verify the weights next to the card."""
    if location.repository is None:
        return _to_commands((f"in this folder: {_TENSORS}", "antidote-ci verify ."), _CHECKSUMS)
    verify = _verify_command(location.repository)
    if location.own:
        return _to_commands((_TENSORS, verify), _CHECKSUMS)
    unmerged = verify + _revision_option(location, "N")
    return _to_commands((_TENSORS, verify), ("the same before the merge", unmerged), _CHECKSUMS)


def _pull_request_commands(location: CardLocation, source: str) -> list[ShellCommand]:
    """Return the commands for a pull request, which has no number yet."""
    if location.own:
        return _card_commands(location)
    verify = _verify_command(location.repository or source)
    unmerged = verify + _revision_option(location, "<number of this pull request>")
    return _to_commands((_TENSORS, unmerged), ("the same after the merge", verify), _CHECKSUMS)


def _verify_command(repository: str) -> str:
    return f"antidote-ci verify {repository if is_hub_id(repository) else 'ORG/NAME'}"


def _revision_option(location: CardLocation, number: str) -> str:
    if not location.branch:
        return f" --revision refs/pr/{number}"
    return f" --revision {location.branch if _BRANCH.fullmatch(location.branch) else 'BRANCH'}"


def _to_commands(*commands: tuple[str, str]) -> list[ShellCommand]:
    return [(_to_markup(purpose), _to_markup(command)) for purpose, command in commands]


def _to_markup(text: str) -> "Markup":
    """Mark text as safe. Only constants and values of a checked form may be passed: Markdown does not escape it."""
    from markupsafe import Markup

    return Markup(text)  # noqa: S704
