"""The page of the service: what runs, what waits, what came of the rest. One file, no script, no network. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from antidote_ci import __version__
from antidote_ci.report.rendering import render
from antidote_ci.report.text import short
from antidote_ci.service.executor import LOG, run_folder
from antidote_ci.service.run_store import Entry
from antidote_ci.service.settings import Serving

MOST = 100
"""Rows of a table: the latest."""
ENDS = {
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
class Row:
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


def html(running: Sequence[Entry], waiting: Sequence[Entry], ended: Sequence[Entry], serving: Serving) -> str:
    """The whole page; each list newest first, at most MOST long."""
    settings = serving.settings
    groups = {"running": running, "waiting": waiting, "ended": ended}
    return render(
        "runs.html.jinja",
        **{name: [_row(entry, serving) for entry in entries] for name, entries in groups.items()},
        headline=[(name.capitalize(), _count(entries)) for name, entries in groups.items()],
        facts=[
            ("Policy", settings.policy_sha256),
            ("Publishes", settings.policy.publish.mode),
            ("Runs", {"here": "on this machine", "hf-jobs": "as Jobs of the Hub"}[settings.on]),
            ("At once", str(serving.runs)),
            ("Repositories", ", ".join(serving.repositories)),
        ],
        version=__version__,
        most=MOST,
    )


def _row(entry: Entry, serving: Serving) -> Row:
    order, outcome = entry.order, entry.outcome
    folder = run_folder(order, serving.settings)
    row = Row(
        order.repository, short(order.revision), folder.name, _moment(entry.asked), has_log=(folder / LOG).is_file()
    )
    if outcome is None:
        return row
    url = outcome.url if outcome.url is not None and outcome.url.startswith(("https://", "http://")) else None
    return replace(
        row,
        state=outcome.state,
        end=ENDS[outcome.state],
        reason=outcome.reason,
        took=_duration(outcome.seconds),
        has_report=outcome.report is not None,
        published=url,
    )


def _count(entries: Sequence[Entry]) -> str:
    return f"{len(entries)} or more" if len(entries) >= MOST else str(len(entries))


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M UTC")


def _duration(seconds: float) -> str:
    """Nothing where nothing was done."""
    if seconds == 0:
        return ""
    if seconds < 90:
        return f"{max(seconds, 1):.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
