"""The service's pages: its requests, and the latest report of each model. HTML without scripts."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime

from antidote_ci import __version__
from antidote_ci.evaluation.comparison import list_history
from antidote_ci.formatting import format_duration
from antidote_ci.records import HistoryEntry
from antidote_ci.report.history import render_history_page
from antidote_ci.report.rendering import render_report_template
from antidote_ci.report.text import short_sha
from antidote_ci.service.executor import LOG_FILE, RUNS_FOLDER, load_report, run_folder
from antidote_ci.service.run_store import RunRecord
from antidote_ci.service.settings import ServiceSettings

MAX_RUNS = 100
"""Rows of each table, newest first."""
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


def render_runs_page(
    running: Sequence[RunRecord], waiting: Sequence[RunRecord], ended: Sequence[RunRecord], settings: ServiceSettings
) -> str:
    """The page as HTML. Each list is newest first and has at most MAX_RUNS records."""
    groups = {"running": running, "waiting": waiting, "ended": ended}
    return render_report_template(
        "runs.html.jinja",
        **{name: [_run_row(record, settings) for record in records] for name, records in groups.items()},
        headline=[(name.capitalize(), _format_count(records)) for name, records in groups.items()],
        facts=[
            ("Policy", settings.policy_sha256),
            ("Publishes", settings.policy.publish.mode),
            ("Runs", {"here": "on this machine", "hf-jobs": "as Jobs of the Hub"}[settings.on]),
            ("At once", str(settings.runs)),
            ("Repositories", ", ".join(settings.repositories)),
        ],
        version=__version__,
        most=MAX_RUNS,
    )


def render_models_page(ended: Sequence[RunRecord], settings: ServiceSettings) -> str:
    """The latest report of each model as HTML, as `evaluate` of several models shows it.

    `ended`: newest first. A model is listed with a reason when its latest request ended with an error, or
    its report was removed.
    """
    entries, failures = dict[str, HistoryEntry](), dict[str, str]()
    for record in ended:
        request, outcome = record.request, record.outcome
        name = request.repository
        if outcome is None or name in entries or name in failures:
            continue
        if outcome.state == "error":
            failures[name] = outcome.reason
        elif outcome.exit_code is None:
            continue
        elif report := load_report(request, settings, outcome.exit_code):
            page = f"{RUNS_FOLDER}/{run_folder(request, settings).name}/report.html"
            entries[name] = replace(list_history([report])[0], page=page)
        else:
            failures[name] = "the report of its latest run no longer exists"
    return render_history_page(list(entries.values()), failures)


def _run_row(record: RunRecord, settings: ServiceSettings) -> dict[str, object]:
    """The texts of a row, by their names in the template. `folder` is the run's folder name in URLs."""
    request, outcome = record.request, record.outcome
    folder = run_folder(request, settings)
    row: dict[str, object] = {
        "repository": request.repository,
        "revision": short_sha(request.revision),
        "folder": folder.name,
        "asked": _format_time(record.requested_at),
        "has_log": (folder / LOG_FILE).is_file(),
    }
    if outcome is None:
        return row
    is_address = outcome.url is not None and outcome.url.startswith(("https://", "http://"))
    return row | {
        "state": outcome.state,
        "end": OUTCOME_NAMES[outcome.state],
        "reason": outcome.reason,
        "took": format_duration(outcome.seconds) if outcome.seconds else "",
        "has_report": outcome.report is not None,
        "published": outcome.url if is_address else None,
    }


def _format_count(records: Sequence[RunRecord]) -> str:
    return f"{len(records)} or more" if len(records) >= MAX_RUNS else str(len(records))


def _format_time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M UTC")
