"""The summary and the pull request's text: nothing a stranger wrote is markup, and both stay small."""

import dataclasses
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from antidote_ci.records import PromptFile, Report
from antidote_ci.report.card import card
from antidote_ci.report.front_matter import split
from antidote_ci.report.summary import markdown, pull_request_body
from tests.report.samples import (
    CALIBRATION,
    CONTROLS,
    EVERY_KIND,
    LONG,
    NAMES,
    PLAIN_NAMES,
    REPAIRED,
    SHA,
    TWO_JUDGES,
    TWO_JUDGES_REPAIR,
    disguised,
    hostile_reports,
)


def shape(text: str) -> list[tuple[str, str]]:
    """Every block and inline token of the rendered Markdown, without its words."""
    flat: list[tuple[str, str]] = []
    for token in MarkdownIt("commonmark").enable("table").parse(text):
        flat.append((token.type, token.tag))
        flat += [(child.type, child.tag) for child in token.children or [] if not child.type.startswith("text")]
    return flat


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(EVERY_KIND), NAMES)
def test_hostile_strings_are_no_markup(report: Report, names: list[str]) -> None:
    hostile, harmless = disguised(report, names), disguised(report, PLAIN_NAMES)
    assert shape(markdown(hostile)) == shape(markdown(harmless))
    assert shape(pull_request_body(hostile)[1]) == shape(pull_request_body(harmless)[1])
    assert shape(split(card(hostile, "")).body) == shape(split(card(harmless, "")).body)


@pytest.mark.parametrize("report", EVERY_KIND)
def test_the_tables_keep_their_columns(report: Report) -> None:
    tables = [block.splitlines() for block in re.findall(r"(?:^\|.*\n)+", markdown(report), re.MULTILINE)]
    for table in tables:
        assert len({line.count("|") for line in table}) == 1
    models = [each for each in vars(report.evaluations).values() if each]
    readings = [len(each.readings) for each in models]
    wanted = [len(models) + len(report.controls), sum(readings) if max(readings) > 1 else 0, len(report.paired)]
    assert [len(table) - 2 for table in tables] == [rows for rows in wanted if rows]


@settings(max_examples=15, deadline=None)
@given(st.lists(LONG, min_size=8, max_size=8))
def test_the_summary_stays_below_64_kib(names: list[str]) -> None:
    crowded = dataclasses.replace(
        TWO_JUDGES_REPAIR,
        controls=[dataclasses.replace(CONTROLS[0], evaluation=TWO_JUDGES.evaluations.before)] * 400,
        paired=TWO_JUDGES_REPAIR.paired * 100,
        calibrations=[CALIBRATION] * 100,
        notes=["note"] * 500,
        prompts=[PromptFile("task", "file", SHA, 1)] * 500,
    )
    assert len(markdown(disguised(crowded, names)).encode()) < 64 * 1024
    assert len(pull_request_body(disguised(crowded, names))[1].encode()) < 64 * 1024


@given(hostile_reports)
@settings(max_examples=25, deadline=None)
def test_the_title_is_made_of_figures_only(report: Report) -> None:
    title, _ = pull_request_body(report)
    assert 3 <= len(title) <= 200
    assert title.isprintable()
    assert re.match(r"Antidote: (non-refusal rate|harmful score) [\d.]+ %( → [\d.]+ %)? \(threshold [\d.]+ %\)$", title)


def test_the_summary_begins_with_the_verdict_and_ends_with_five_lines_of_origin() -> None:
    lines = markdown(REPAIRED).splitlines()
    assert lines[0] == "## antidote-ci: Repaired"
    assert [line.split(":")[0] for line in lines[-5:]] == [
        "- Source",
        "- Reference",
        "- Judge",
        "- Prompt sets",
        "- Run",
    ]
    assert "demo/smollm2-135m-recipes-lora@0123456789ab" in lines[-5]
    assert REPAIRED.reason in markdown(REPAIRED)
