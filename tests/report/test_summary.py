"""The job summary and the texts on the Hub: untrusted text is never markup, and every text stays small."""

import dataclasses
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from antidote_ci.checkpoint.card import split_card
from antidote_ci.records import Evaluation, PromptSetRecord, PublishResult, Report
from antidote_ci.report.card import BEGIN, END, render_card
from antidote_ci.report.figures import render_text_chart
from antidote_ci.report.measures import list_evaluations
from antidote_ci.report.summary import (
    MAX_BYTES,
    CardLocation,
    render_closing,
    render_comment,
    render_pull_request,
    render_summary,
    render_superseded,
    render_verdict,
)
from antidote_ci.report.tables import model_rows
from tests.report.samples import (
    CALIBRATION,
    CONTROLS,
    EVERY_KIND,
    FAILED,
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

SOURCE_LOCATION = CardLocation("org/model")
MARKER = "<!-- antidote-ci:report -->"


def shape(text: str) -> list[tuple[str, str]]:
    """Every block and inline token of the rendered Markdown, without its text."""
    flat: list[tuple[str, str]] = []
    for token in MarkdownIt("commonmark").enable("table").parse(text):
        flat.append((token.type, token.tag))
        flat += [(child.type, child.tag) for child in token.children or [] if not child.type.startswith("text")]
    return flat


@settings(max_examples=20, deadline=None)
@given(st.sampled_from(EVERY_KIND), NAMES)
def test_hostile_strings_are_never_markup(report: Report, names: list[str]) -> None:
    hostile, harmless = disguised(report, names), disguised(report, PLAIN_NAMES)
    assert shape(render_summary(hostile)) == shape(render_summary(harmless))
    for location in (
        CardLocation(),
        SOURCE_LOCATION,
        CardLocation("org/model", branch=names[0]),
        CardLocation("org/clean", own=True),
    ):
        assert shape(render_pull_request(hostile, location)[1]) == shape(render_pull_request(harmless, location)[1])
        body = split_card(render_card(hostile, "", location)).body
        assert shape(body) == shape(split_card(render_card(harmless, "", location)).body)
        assert body.count(BEGIN) == body.count(END) == 1
    published = PublishResult("pull-request", names[1], names[2], names[3], (names[4],))
    comment = render_comment(hostile, published)
    assert shape(comment) == shape(render_comment(harmless, PublishResult("pull-request", "x", "y", "z", ("n",))))
    assert comment.startswith(MARKER)
    assert comment.count(MARKER) == 1


@pytest.mark.parametrize("report", EVERY_KIND)
def test_tables_have_every_row_and_column(report: Report) -> None:
    tables = [block.splitlines() for block in re.findall(r"(?:^\|.*\n)+", render_summary(report), re.MULTILINE)]
    for table in tables:
        assert len({line.count("|") for line in table}) == 1
    judges = [len(evaluation.readings) for _, _, evaluation in list_evaluations(report.evaluations)]
    rows = [len(judges), len(report.controls), sum(judges) if max(judges) > 1 else 0, len(report.paired)]
    assert [len(table) - 2 for table in tables] == [count for count in rows if count]


@settings(max_examples=5, deadline=None)
@given(st.lists(LONG, min_size=8, max_size=8))
def test_the_summary_stays_below_64_kib(names: list[str]) -> None:
    crowded = dataclasses.replace(
        TWO_JUDGES_REPAIR,
        controls=[dataclasses.replace(CONTROLS[0], evaluation=TWO_JUDGES.evaluations.before)] * 2,
        paired=TWO_JUDGES_REPAIR.paired * 3,
        calibrations=[CALIBRATION] * 2,
        notes=["note"] * 500,
        prompts=[PromptSetRecord("task", "file", SHA, 1)] * 500,
    )
    assert len(render_summary(disguised(crowded, names)).encode()) < 64 * 1024
    assert len(render_pull_request(disguised(crowded, names), SOURCE_LOCATION)[1].encode()) < 64 * 1024
    published = PublishResult("pull-request", names[0], names[1], names[2], tuple(names) * 10)
    assert len(render_comment(disguised(crowded, names), published)) < 60_000


@pytest.mark.parametrize("character", ["\U0001f600", "@", "*", "`", "\0", "a"])
@pytest.mark.parametrize("judges", [1, 3, 30])
def test_texts_on_the_hub_are_cut_at_a_line(character: str, judges: int) -> None:
    """Whatever the names and the number of rows are, and no block stays open."""

    def crowd(result: Evaluation) -> Evaluation:
        return dataclasses.replace(result, readings=result.readings * judges)

    evaluations = TWO_JUDGES_REPAIR.evaluations
    found = {
        field.name: crowd(value)
        for field in dataclasses.fields(evaluations)
        if isinstance(value := getattr(evaluations, field.name), Evaluation)
    }
    crowded = dataclasses.replace(
        TWO_JUDGES_REPAIR,
        evaluations=dataclasses.replace(evaluations, **found),
        controls=[dataclasses.replace(CONTROLS[0], evaluation=crowd(TWO_JUDGES.evaluations.before))] * 2,
        calibrations=[CALIBRATION] * judges,
        paired=TWO_JUDGES_REPAIR.paired * judges,
    )
    names = [character * 1000] * 8
    report = disguised(crowded, names)
    published = PublishResult("pull-request", names[0], names[1], names[2], tuple(names) * 20)
    for text in (
        render_summary(report),
        render_pull_request(report, SOURCE_LOCATION)[1],
        render_verdict(report, is_discussion=True)[1],
        render_comment(report, published),
        render_comment(report, dataclasses.replace(published, mode="report")),
    ):
        assert len(text.encode()) <= MAX_BYTES
        assert text.count("<details>") == text.count("</details>")
        assert len(re.findall(r"^```", text, re.MULTILINE)) % 2 == 0
        assert text.endswith("\n")


@given(hostile_reports)
@settings(max_examples=25, deadline=None)
def test_the_title_has_figures_only(report: Report) -> None:
    title, _ = render_pull_request(report, SOURCE_LOCATION)
    assert 3 <= len(title) <= 200
    assert title.isprintable()
    assert re.match(r"Antidote: (non-refusal rate|harmful score) [\d.]+ %( → [\d.]+ %)? \(threshold [\d.]+ %\)$", title)


def shell_lines(text: str) -> list[str]:
    """Lines of the shell code blocks, without comments."""
    blocks = [
        token.content for token in MarkdownIt("commonmark").parse(text) if (token.type, token.info) == ("fence", "sh")
    ]
    return [line for block in blocks for line in block.splitlines() if not line.startswith("#")]


@pytest.mark.parametrize(
    ("location", "commands"),
    [
        (CardLocation(), ["antidote-ci verify ."]),
        (SOURCE_LOCATION, ["antidote-ci verify org/model", "antidote-ci verify org/model --revision refs/pr/N"]),
        (
            CardLocation("org/a_b", branch="fix_1/x"),
            ["antidote-ci verify org/a_b", "antidote-ci verify org/a_b --revision fix_1/x"],
        ),
        (CardLocation("org/clean", own=True), ["antidote-ci verify org/clean"]),
        (CardLocation("org/a;rm -rf ~", own=True), ["antidote-ci verify ORG/NAME"]),
        (
            CardLocation("org/a", branch="--source=x"),
            ["antidote-ci verify org/a", "antidote-ci verify org/a --revision BRANCH"],
        ),
    ],
)
def test_the_card_has_the_commands_of_its_location(location: CardLocation, commands: list[str]) -> None:
    text = render_card(REPAIRED, "", location)
    assert shell_lines(text) == [*commands, "sha256sum -c SHA256SUMS"]
    for file in ("antidote/report.json", "antidote/manifest.json", "SHA256SUMS"):
        assert f"[{file}]({file})" in text


def test_a_card_without_a_repair_has_no_commands() -> None:
    assert shell_lines(render_card(FAILED, "")) == []


def test_the_pull_request_has_commands_for_before_and_after_the_merge() -> None:
    _, text = render_pull_request(REPAIRED, SOURCE_LOCATION)
    assert shell_lines(text) == [
        "antidote-ci verify org/model --revision refs/pr/<number of this pull request>",
        "antidote-ci verify org/model",
        "sha256sum -c SHA256SUMS",
    ]
    assert "refs/pr" not in render_pull_request(REPAIRED, CardLocation("org/clean", own=True))[1]
    assert "comment" not in render_pull_request(REPAIRED, CardLocation("org/model", branch="b"))[1]


def test_the_comment_names_the_published_commit() -> None:
    url = "https://hub.example:8000/org/model/discussions/4"
    text = render_comment(REPAIRED, PublishResult("pull-request", url, SHA, "org/model", ("3 was closed.",)))
    assert shell_lines(text) == [f"antidote-ci verify org/model --revision {SHA}"]
    assert f"](https://hub.example:8000/org/model/resolve/{SHA}/antidote/report.json)" in text
    assert "- 3 was closed." in text
    assert "17.0\xa0%" in text
    verdict = render_comment(REPAIRED, PublishResult("report", url, SHA, "org/model"))
    assert "17.0\xa0%" in verdict
    assert "Published" not in verdict


def test_closing_comments_give_the_reason() -> None:
    assert render_closing(REPAIRED, 4) == (
        "#4 already has this result: the same weights, repaired from commit 0123456789ab under the same policy. "
        "This pull request is closed."
    )
    assert "#5" in render_superseded(5)


def test_the_summary_starts_with_the_verdict_and_ends_with_the_provenance() -> None:
    lines = render_summary(REPAIRED).splitlines()
    assert lines[0] == "## antidote-ci: Repaired"
    assert [line.split(":")[0] for line in lines[-5:]] == [
        "- Source",
        "- Reference",
        "- Judge",
        "- Run",
        "- Prompt sets",
    ]
    assert "demo/smollm2-135m-recipes-lora@0123456789ab" in lines[-5]


def test_the_summary_and_the_pull_request_have_the_text_chart_once() -> None:
    for text in (render_summary(REPAIRED), render_pull_request(REPAIRED, SOURCE_LOCATION)[1]):
        blocks = [
            token for token in MarkdownIt("commonmark").parse(text) if (token.type, token.info) == ("fence", "text")
        ]
        assert [block.content for block in blocks] == [render_text_chart(model_rows(REPAIRED), 0.35) + "\n"]
