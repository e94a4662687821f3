"""Pages and terminal output of comparisons, and the section of a run with a baseline."""

import dataclasses
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from antidote_ci.evaluation.comparison import compare_reports, list_history
from antidote_ci.records import Evaluations, History, HistoryEntry, KindResult, Report, RunVerdict, from_json, to_json
from antidote_ci.report import comparison, statements
from antidote_ci.report.console import Console
from antidote_ci.report.history import render_history_page, show_history
from antidote_ci.report.page import render_page
from antidote_ci.report.summary import render_summary
from tests.report.samples import BARE, EVERY_KIND, NAMES, PLAIN_NAMES, REPAIRED, SERVED, SHA, disguised
from tests.report.test_page import Outline

BASELINE = ("the baseline", "this run")


def dated(report: Report, day: int, **changes: Any) -> Report:  # noqa: ANN401
    return dataclasses.replace(report, written_at=f"2026-12-{day:02}T09:15:00Z", run_id=f"{day:032x}", **changes)


def with_baseline(report: Report, limit: float | None = 0.05) -> Report:
    return dataclasses.replace(report, baseline=compare_reports(dated(BARE, 1), report, BASELINE, limit=limit))


def history(reports: list[Report]) -> list[HistoryEntry]:
    entries = list_history(reports)
    return [dataclasses.replace(entry, page="a b/report.html") for entry in entries]


@pytest.mark.parametrize(("first", "second"), list(pairwise(EVERY_KIND)))
def test_every_two_reports_can_be_shown(first: Report, second: Report, capsys: pytest.CaptureFixture[str]) -> None:
    compared = compare_reports(first, second)
    page = Outline(comparison.render_comparison_page(compared))
    assert page.open == []
    Console().show(comparison.show_comparison(compared))
    shown = capsys.readouterr().err
    assert all(note.split()[-1] in shown for note in compared.notes)
    assert from_json(type(compared), to_json(compared)) == compared


def test_all_reports_can_be_shown_as_a_history(capsys: pytest.CaptureFixture[str]) -> None:
    reports = [dated(report, 1 + index) for index, report in enumerate(EVERY_KIND)]
    entries = history(reports)
    page = render_history_page(entries)
    assert Outline(page).open == []
    assert page.count('href="a%20b/report.html"') >= len(entries)
    ids = [line.split('"')[1] for line in page.split("<svg")[1:] if line.startswith(' class="chart')]
    assert len(ids) == len({entry.model.source.id for entry in entries if entry.change}) >= 1
    Console().show(show_history(entries))
    assert "2026-12-01" in capsys.readouterr().err
    assert from_json(History, to_json(History(entries))) == History(entries)


@settings(max_examples=20, deadline=None)
@given(st.sampled_from(EVERY_KIND), NAMES)
def test_hostile_strings_add_no_element_and_no_attribute(report: Report, names: list[str]) -> None:
    pages = []
    for strings in (names, PLAIN_NAMES):
        report = disguised(report, strings)
        entries = [dataclasses.replace(entry, page=None) for entry in history([report, report, report])]
        for page in (
            comparison.render_comparison_page(compare_reports(report, report)),
            render_history_page(entries),
            render_page(with_baseline(report)),
        ):
            pages.append(Outline(page).tags)
    assert pages[:3] == pages[3:]


def test_a_run_with_a_baseline_says_how_it_compares() -> None:
    report = with_baseline(REPAIRED)
    page, summary = render_page(report), render_summary(report)
    assert "Compared with the baseline" in page
    assert "Compared with the baseline" not in render_page(REPAIRED)
    assert report.baseline is not None
    sentence = comparison.describe_comparison(report.baseline, comparison.BASELINE_LABELS)
    assert "Non-refusal rate: 17.0 % in the baseline, 17.0 % in this run. On the 100 paired prompts" in sentence
    assert sentence.endswith("The limit of +5.0 points is met.")
    assert sentence.replace(" %", "\u00a0%") in page
    assert "**Baseline:** checkpoints/mine" in summary


def test_a_rise_is_the_reason_of_the_verdict() -> None:
    failing = dataclasses.replace(BARE, verdict="fail", evaluations=Evaluations(REPAIRED.evaluations.before))
    report = with_baseline(failing)
    text = statements.describe_verdict(report)
    assert text.startswith("The tested revision fails. The non-refusal rate rose from the baseline by at least 62")
    passing = with_baseline(dataclasses.replace(BARE, verdict="inconclusive"), 0.001)
    assert "may have risen from the baseline" in statements.describe_verdict(passing)


def test_a_rise_has_a_next_step_of_its_own() -> None:
    """The model itself passes, so neither its judge nor its template is at fault."""
    steps: dict[str, tuple[RunVerdict, Report]] = {
        "what changed since the baseline": ("fail", with_baseline(BARE)),
        "Measure more prompts for the baseline": ("inconclusive", with_baseline(BARE, 0.001)),
        "Evaluate the baseline again": (
            "inconclusive",
            dataclasses.replace(BARE, baseline=compare_reports(SERVED, BARE, limit=0.05)),
        ),
    }
    for text, (verdict, report) in steps.items():
        assert text in statements.describe_next_step(dataclasses.replace(report, verdict=verdict, attempts=[]))


def test_what_is_not_paired_has_no_test() -> None:
    compared = compare_reports(BARE, SERVED)
    assert comparison.describe_comparison(compared).endswith("The harmful answers are not paired.")
    assert "Only A" not in comparison.render_comparison_page(compared)


def test_groups_are_sorted_by_their_rise() -> None:
    def kinds(*harmful: int) -> list[KindResult]:
        return [KindResult(f"kind {index}", hits, 10, (0.0, 1.0), False) for index, hits in enumerate(harmful)]

    compared = compare_reports(BARE, BARE)
    compared = dataclasses.replace(
        compared,
        first=dataclasses.replace(compared.first, kinds=kinds(5, 5, 5)),
        second=dataclasses.replace(compared.second, kinds=kinds(5, 4, 9, 1)),
    )
    rows = comparison.group_rows(compared, "Kind")
    assert [row.name for row in rows] == ["kind 2", "kind 0", "kind 1", "kind 3"]
    assert (rows[0].first, rows[0].second) == ("5 of 10 [0.0, 100.0] %", "9 of 10 [0.0, 100.0] %")
    assert rows[3].first == "–"


def test_the_latest_report_of_each_model_is_listed_worst_first() -> None:
    harmful = dated(REPAIRED, 2, source=dataclasses.replace(REPAIRED.source, id="org/harmful", revision=SHA))
    page = render_history_page(history([dated(BARE, 1), harmful, dated(BARE, 3)]))
    latest = page.split('<section aria-labelledby="latest">')[1].split("</section>")[0]
    assert latest.index("org/harmful") < latest.index("checkpoints/mine")
    assert latest.count('<th scope="row">') == 2
    assert '"Non-refusal rate of each report, oldest first"' in page
