"""The page of the service: content, and safety against hostile names and messages."""

import dataclasses
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from antidote_ci.policy import Policy
from antidote_ci.records import to_json
from antidote_ci.service import executor, page
from antidote_ci.service.records import RunOutcome, RunRequest
from antidote_ci.service.run_store import RunRecord
from antidote_ci.service.settings import ServiceSettings
from tests.report.samples import HOSTILE, REPAIRED

SETTINGS = ServiceSettings(Policy(), Path("/nowhere/service"), ("org/*", "other/model"), "s" * 40)
ALLOWED_TAGS = {
    *("html", "head", "meta", "title", "style", "body", "main", "header", "section", "footer"),
    *("p", "b", "h1", "h2", "dl", "div", "dt", "dd", "span", "code", "a"),
    *("table", "caption", "thead", "tbody", "tr", "th", "td"),
}


class ParsedPage(HTMLParser):
    """Tags, attributes, addresses and text of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.addresses: list[str] = []
        self.text = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}
        self.addresses += [value or "" for name, value in attrs if name in ("href", "src")]

    def handle_data(self, data: str) -> None:
        self.text += data


def ended(outcome: RunOutcome, repository: str = "org/model", revision: str = "a" * 40) -> RunRecord:
    return RunRecord(RunRequest(repository, revision, "p" * 64), "ended", outcome, 1_795_580_000.0)


@given(HOSTILE, HOSTILE, HOSTILE, HOSTILE)
def test_hostile_names_are_only_text(repository: str, revision: str, reason: str, url: str) -> None:
    """The page has no tag, attribute or address beyond those of the template."""
    outcome = RunOutcome("repaired", reason, 0, url, "runs/x/out", 12.0)
    waiting = RunRecord(RunRequest(repository, revision, "p"), "waiting", None, 1_795_580_000.0)
    parsed = ParsedPage(page.render_runs_page([waiting], [waiting], [ended(outcome, repository, revision)], SETTINGS))
    assert parsed.tags <= ALLOWED_TAGS
    assert parsed.attributes <= {
        *("lang", "charset", "http-equiv", "name", "content", "class", "id"),
        *("aria-labelledby", "scope", "data-label", "href", "rel"),
    }
    for address in parsed.addresses:
        assert address == "models" or address.startswith(("runs/", "http://", "https://"))


def test_only_http_urls_become_links() -> None:
    for url, is_shown in [("https://hub/x", True), ("javascript:alert(1)", False), ("data:text/html,x", False)]:
        parsed = ParsedPage(
            page.render_runs_page([], [], [ended(RunOutcome("repaired", "why", 0, url, "runs/x/out"))], SETTINGS)
        )
        assert (url in parsed.addresses) is is_shown


def test_page_shows_commits_outcomes_and_settings() -> None:
    entries = [ended(RunOutcome(state, f"because of {state}", 0, seconds=75.0)) for state in page.OUTCOME_NAMES]  # type: ignore[arg-type]
    text = ParsedPage(page.render_runs_page([], [], entries, SETTINGS)).text
    for state, name in page.OUTCOME_NAMES.items():
        assert name in text
        assert f"because of {state}" in text
    for wanted in (
        "org/model",
        "a" * 12,
        "75 s",
        "2026-11-25",
        SETTINGS.policy_sha256,
        "org/*, other/model",
    ):
        assert wanted in text
    assert "s" * 40 not in text


def test_empty_page() -> None:
    text = ParsedPage(page.render_runs_page([], [], [], SETTINGS)).text
    assert text.count("Nothing.") == 2
    assert "Nothing yet." in text


@given(st.integers(0, 300))
def test_count_of_a_truncated_list(count: int) -> None:
    shown = page._format_count([ended(RunOutcome("pass", "why"))] * count)
    assert shown == (str(count) if count < page.MAX_RUNS else f"{count} or more")


def write_report(settings: ServiceSettings, day: int, **changes: Any) -> RunRecord:  # noqa: ANN401
    """The record of a request that ended with the report of a repair."""
    source = dataclasses.replace(REPAIRED.source, revision=f"{day:040x}", **changes)
    report = dataclasses.replace(REPAIRED, source=source)
    request = RunRequest(source.id, f"{day:040x}", report.policy_sha256)
    out = executor.run_folder(request, settings) / executor.OUT_FOLDER
    out.mkdir(parents=True)
    (out / "report.json").write_text(to_json(report))
    outcome = RunOutcome(report.verdict, report.reason, report.exit_code, report="runs/x/out")
    return RunRecord(request, "ended", outcome, 1_795_580_000.0 + day)


def test_the_models_page_has_the_latest_report_of_each_model(tmp_path: Path) -> None:
    settings = dataclasses.replace(SETTINGS, folder=tmp_path)
    newest, other, oldest = (
        write_report(settings, day, id=name) for day, name in ((3, "org/a"), (2, "org/b"), (1, "org/a"))
    )
    superseded = ended(RunOutcome("superseded", "a newer commit"), "org/a")
    failed = ended(RunOutcome("error", "no memory", 3), "org/c")
    parsed = ParsedPage(page.render_models_page([superseded, newest, failed, other, oldest], settings))
    links = [f"runs/{executor.run_folder(record.request, settings).name}/report.html" for record in (newest, other)]
    assert sorted(address for address in parsed.addresses if address.startswith("runs/")) == sorted(links)
    assert "no memory" in parsed.text
    assert "Not evaluated" in parsed.text
    shutil.rmtree(executor.run_folder(newest.request, settings))
    parsed = ParsedPage(page.render_models_page([newest, other, oldest], settings))
    assert [address for address in parsed.addresses if address.startswith("runs/")] == [links[1]]
    assert "no longer exists" in parsed.text


def test_the_models_page_of_a_new_service_is_empty() -> None:
    assert "0 models" in ParsedPage(page.render_models_page([], SETTINGS)).text
