"""The page: what it says, and that no string of a stranger becomes part of it."""

import dataclasses
import re
from html.parser import HTMLParser
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from antidote_ci.records import DoseAttempt, Report
from antidote_ci.report.page import render_page
from tests.report.samples import (
    BARE,
    CALIBRATED_REPAIR,
    EVERY_KIND,
    NAMES,
    NOT_REPAIRED,
    PLAIN_NAMES,
    REPAIR,
    REPAIRED,
    STOPPED_PASS,
    TWO_JUDGES,
    disguised,
)


class Outline(HTMLParser):
    """Every tag with its attributes, the open tags, and the text."""

    VOID = frozenset({"meta", "br", "hr"})

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, tuple[str, ...], str | None]] = []
        self.values: list[str] = []
        self.comments: list[str] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, tuple(name for name, _ in attrs), dict(attrs).get("class")))
        self.values += [value or "" for _, value in attrs]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_comment(self, data: str) -> None:
        self.comments.append(data)

    def handle_data(self, data: str) -> None:
        self.text += data


def outline(report: Report) -> Outline:
    return Outline(render_page(report))


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(EVERY_KIND), NAMES)
def test_hostile_strings_add_no_element_and_no_attribute(report: Report, names: list[str]) -> None:
    hostile, harmless = outline(disguised(report, names)), outline(disguised(report, PLAIN_NAMES))
    assert hostile.tags == harmless.tags
    assert hostile.values == harmless.values
    assert hostile.comments == []


@pytest.mark.parametrize("report", EVERY_KIND)
def test_nothing_on_the_page_asks_for_the_network_or_runs(report: Report) -> None:
    page = render_page(report)
    names = {name for _, attributes, _ in outline(report).tags for name in attributes}
    assert not names & {"src", "srcset", "href", "xlink:href", "action", "data", "poster", "background"}
    assert not [name for name in names if name.startswith("on")]
    assert not re.search(r"<(script|link|iframe|object|embed|form|base)\b|url\(|@import", page)


@pytest.mark.parametrize("report", EVERY_KIND)
def test_the_page_is_well_formed_and_its_headings_come_in_order(report: Report) -> None:
    found = outline(report)
    assert found.open == []
    levels = [int(tag[1]) for tag, _, _ in found.tags if re.fullmatch(r"h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(later - earlier <= 1 for earlier, later in pairwise(levels))
    assert all("scope" in attributes for tag, attributes, _ in found.tags if tag == "th")
    ids = re.findall(r'\bid="([^"]+)"', render_page(report))
    assert len(ids) == len(set(ids))
    assert set(" ".join(re.findall(r'labelledby="([^"]+)"', render_page(report))).split()) <= set(ids)


@pytest.mark.parametrize("report", EVERY_KIND)
def test_every_table_row_fills_its_columns(report: Report) -> None:
    for table in re.findall(r"<table.*?</table>", render_page(report), re.DOTALL):
        head, *body = re.findall(r"<tr.*?</tr>", table, re.DOTALL)
        columns = sum(int(span or 1) for span in re.findall(r'<th scope="\w+"(?: colspan="(\d)")?', head))
        assert {len(re.findall(r"<t[hd][ >]", row)) for row in body} <= {columns}


def test_the_page_says_what_a_release_is_decided_on() -> None:
    shown = " ".join(outline(REPAIRED).text.split())
    for figure in (
        "88.0 % → 17.0 %",
        "84.5 %",
        "87.0 % → 86.0 %",
        "2.0 % → 5.0 %",
        "threshold 35.0 %",
        "[11.1, 24.4] %",
    ):
        assert figure in shown
    assert shown.index("Repaired") < shown.index("Reference") < shown.index("Where everything came from")
    assert {file.sha256_out for file in REPAIR.files} <= set(re.findall("[0-9a-f]{64}", shown))
    assert "254,016" in shown
    assert "scale at dose 0.62" in shown
    assert "Q4_1" in shown
    assert "not a proof of safety" in shown


def test_a_rule_judge_never_gives_a_harmful_score() -> None:
    assert "Harmful score" not in outline(REPAIRED).text
    assert "Non-refusal rate" in outline(REPAIRED).text
    page = outline(STOPPED_PASS).text
    assert "Harmful score" in page
    assert "on-refusal" not in page


def test_repaired_weights_that_do_not_pass_are_not_called_repaired() -> None:
    shown = outline(NOT_REPAIRED).text
    assert "Neither the tested revision nor the repaired weights pass" in shown
    assert "Repaired" not in shown


def test_a_model_that_was_not_repaired_is_not_called_before() -> None:
    assert "Before" not in outline(BARE).text
    assert "Tested" in outline(BARE).text


def test_what_was_not_measured_is_a_dash_and_a_limit() -> None:
    shown = outline(BARE).text
    assert "–" in shown
    assert "nothing says what a repair costs" in shown
    assert "No reference was measured" in shown


def test_a_control_is_never_said_to_pass() -> None:
    """The table speaks of the threshold only, not of the policy's limits on what a repair may cost."""
    (table,) = re.findall(r'<table class="comparison.*?</table>', render_page(REPAIRED), re.DOTALL)
    assert "✓\xa0met" in table
    assert "pass" not in table


def test_two_judges_each_have_their_own_figure_and_measure() -> None:
    shown = " ".join(outline(TWO_JUDGES).text.split())
    assert "qwen3guardHarmful score2.9 %" in shown
    assert "refusal ◂Non-refusal rate8.5 %" in shown
    assert "tested 3.1 %" in shown


def test_a_calibrated_judge_is_shown_raw_corrected_and_with_its_errors() -> None:
    shown = " ".join(outline(CALIBRATED_REPAIR).text.split())
    for figure in (
        "5.8 % 2.1 % corrected",
        "91.0 % [86.9, 94.1] %, 182 of 200",
        "96.0 %",
        "450",
        "xstest_labels.jsonl",
    ):
        assert figure in shown


def test_what_was_compared_shows_counts_test_rise_and_limit() -> None:
    (table,) = re.findall(r'<table class="pairs.*?</table>', render_page(CALIBRATED_REPAIR), re.DOTALL)
    rows = [re.findall(r"<t[hd][^>]*>([^<]*)<", row) for row in re.findall(r"<tr>.*?</tr>", table, re.DOTALL)]
    assert rows[1] == ["Harmful answers", "20", "211", "4", "178", "&lt;\xa00.001", "−50.1", "−46.0", "–"]
    assert rows[3] == ["Harmless prompts refused", "2", "1", "6", "91", "0.125", "+5.0", "+10.3", "✗\xa0+10.0"]
    assert rows[5] == ["Task errors", "70", "8", "11", "111", "0.648", "+1.5", "+4.9", "✓\xa0+5.0"]


@pytest.mark.parametrize("report", EVERY_KIND)
def test_every_figure_is_a_number(report: Report) -> None:
    assert not re.search(r"\b(nan|inf|None)\b", outline(report).text)


def luminance(colour: str) -> float:
    """https://www.w3.org/TR/WCAG22/#dfn-relative-luminance"""
    shares = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (share / 12.92 if share <= 0.04045 else ((share + 0.055) / 1.055) ** 2.4 for share in shares)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def test_text_and_lines_stand_out_from_the_paper_in_both_themes() -> None:
    themes = re.findall(r":root \{(.*?)\}", render_page(BARE), re.DOTALL)[:2]
    for theme in themes:
        colours = dict(re.findall(r"--(\w+): (#[0-9a-f]{6})", theme))
        paper = luminance(colours["paper"])
        for name in colours.keys() - {"paper", "card", "line", "faint"}:
            light, dark = sorted((paper, luminance(colours[name])), reverse=True)
            assert (light + 0.05) / (dark + 0.05) >= 4.5, name


@given(st.lists(st.floats(0, 1), min_size=1, max_size=4, unique=True))
@settings(max_examples=25, deadline=None)
def test_any_doses_can_be_drawn_within_the_frame(doses: list[float]) -> None:
    tries = [DoseAttempt(dose, dose, 0.5, None, 0.5, 0, passes=True, lacks=[]) for dose in doses]
    repair = dataclasses.replace(REPAIR, dose=max(doses))
    page = render_page(dataclasses.replace(REPAIRED, attempts=tries, repair=repair))
    drawing = re.search(r'<svg class="chart doses".*?</figcaption>', page, re.DOTALL)
    assert (drawing is not None) == (max(doses) > 0)
    places = re.findall(r'(?:x|x1|x2)="(-?[\d.]+)%"', drawing[0]) if drawing else []
    assert all(0 <= float(place) <= 100 for place in places)
