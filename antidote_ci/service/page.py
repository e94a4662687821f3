"""The page of the service: what runs, what waits, what came of the rest. One file, no script, no network. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from antidote_ci import __version__
from antidote_ci.report.rendering import render_report_template
from antidote_ci.report.text import short_sha
from antidote_ci.service.executor import LOG_FILE, run_folder
from antidote_ci.service.run_store import RunRecord
from antidote_ci.service.settings import ServiceSettings

MAX_RUNS = 100
"""Rows of a table: the latest."""
OUTCOME_NAMES = {
    "pass": "Passes",
    "repaired": "Repaired",
    "fail": "Fails",
    "inconclusive": "Inconclusive",
    "superseded": "Superseded",
    "own": "Our own repair",
    "gone": "Gone",
    "error": "Error",
}


@dataclass(frozen=True)
class RunRow:
    """An order as people read it. `folder` is where its files are served from."""

    repository: str
    revision: str
    folder: str
    asked: str
    state: str = ""
    end: str = ""
    reason: str = ""
    took: str = ""
    has_report: bool = False
    has_log: bool = False
    published: str | None = None


def render_runs_page(
    running: Sequence[RunRecord], waiting: Sequence[RunRecord], ended: Sequence[RunRecord], serving: ServiceSettings
) -> str:
    """The whole page; each list newest first, at most MOST long."""
    settings = serving.run_settings
    groups = {"running": running, "waiting": waiting, "ended": ended}
    return render_report_template(
        "runs.html.jinja",
        **{name: [_run_row(entry, serving) for entry in entries] for name, entries in groups.items()},
        headline=[(name.capitalize(), _format_count(entries)) for name, entries in groups.items()],
        facts=[
            ("Policy", settings.policy_sha256),
            ("Publishes", settings.policy.publish.mode),
            ("Runs", {"here": "on this machine", "hf-jobs": "as Jobs of the Hub"}[settings.on]),
            ("At once", str(serving.runs)),
            ("Repositories", ", ".join(serving.repositories)),
        ],
        version=__version__,
        most=MAX_RUNS,
    )


def _run_row(entry: RunRecord, serving: ServiceSettings) -> RunRow:
    order, outcome = entry.request, entry.outcome
    folder = run_folder(order, serving.run_settings)
    row = RunRow(
        order.repository,
        short_sha(order.revision),
        folder.name,
        _format_time(entry.requested_at),
        has_log=(folder / LOG_FILE).is_file(),
    )
    if outcome is None:
        return row
    url = outcome.url if outcome.url is not None and outcome.url.startswith(("https://", "http://")) else None
    return replace(
        row,
        state=outcome.state,
        end=OUTCOME_NAMES[outcome.state],
        reason=outcome.reason,
        took=_format_duration(outcome.seconds),
        has_report=outcome.report is not None,
        published=url,
    )


def _format_count(entries: Sequence[RunRecord]) -> str:
    return f"{len(entries)} or more" if len(entries) >= MAX_RUNS else str(len(entries))


def _format_time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M UTC")


def _format_duration(seconds: float) -> str:
    """Nothing where nothing was done."""
    if seconds == 0:
        return ""
    if seconds < 90:
        return f"{max(seconds, 1):.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
