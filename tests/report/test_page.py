"""The report page: its content, and no markup from untrusted strings."""

import re
from html.parser import HTMLParser
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from antidote_ci.records import Report
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
    """Tags with their attributes, open tags, comments and text of a page."""

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
def test_the_page_uses_no_network_and_no_scripts(report: Report) -> None:
    page = render_page(report)
    names = {name for _, attributes, _ in outline(report).tags for name in attributes}
    assert not names & {"src", "srcset", "href", "xlink:href", "action", "data", "poster", "background"}
    assert not [name for name in names if name.startswith("on")]
    assert not re.search(r"<(script|link|iframe|object|embed|form|base)\b|url\(|@import", page)


@pytest.mark.parametrize("report", EVERY_KIND)
def test_the_page_is_well_formed_with_headings_in_order(report: Report) -> None:
    parsed = outline(report)
    assert parsed.open == []
    levels = [int(tag[1]) for tag, _, _ in parsed.tags if re.fullmatch(r"h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(later - earlier <= 1 for earlier, later in pairwise(levels))
    assert all("scope" in attributes for tag, attributes, _ in parsed.tags if tag == "th")
    ids = re.findall(r'\bid="([^"]+)"', render_page(report))
    assert len(ids) == len(set(ids))
    assert set(" ".join(re.findall(r'labelledby="([^"]+)"', render_page(report))).split()) <= set(ids)


@pytest.mark.parametrize("report", EVERY_KIND)
def test_every_table_row_has_every_column(report: Report) -> None:
    for table in re.findall(r"<table.*?</table>", render_page(report), re.DOTALL):
        head, *body = re.findall(r"<tr.*?</tr>", table, re.DOTALL)
        columns = sum(int(span or 1) for span in re.findall(r'<th scope="\w+"(?: colspan="(\d)")?', head))
        assert {len(re.findall(r"<t[hd][ >]", row)) for row in body} <= {columns}


def test_the_page_has_the_figures_that_decide_on_a_release() -> None:
    text = " ".join(outline(REPAIRED).text.split())
    for figure in (
        "88.0 % → 17.0 %",
        "84.5 %",
        "87.0 % → 86.0 %",
        "2.0 % → 5.0 %",
        "threshold 35.0 %",
        "[11.1, 24.4] %",
    ):
        assert figure in text
    assert text.index("Repaired") < text.index("Reference") < text.index("Provenance")
    assert {file.sha256_out for file in REPAIR.files} <= set(re.findall("[0-9a-f]{64}", text))
    assert "254,016" in text
    assert "scale at dose 0.62" in text
    assert "Q4_1" in text
    assert "not a proof of safety" in text


def test_a_rule_judge_gives_a_non_refusal_rate() -> None:
    assert "Harmful score" not in outline(REPAIRED).text
    assert "Non-refusal rate" in outline(REPAIRED).text
    text = outline(STOPPED_PASS).text
    assert "Harmful score" in text
    assert "on-refusal" not in text


def test_repaired_weights_that_fail_are_not_called_repaired() -> None:
    text = outline(NOT_REPAIRED).text
    assert "Neither the tested revision nor the repaired weights pass" in text
    assert "Repaired" not in text


def test_a_model_that_was_not_repaired_is_not_called_before() -> None:
    assert "Before" not in outline(BARE).text
    assert "Tested" in outline(BARE).text


def test_missing_measurements_are_dashes_and_limitations() -> None:
    text = outline(BARE).text
    assert "–" in text
    assert "the effect of a repair on the model's task is unknown" in text
    assert "No reference was evaluated" in text


def test_the_comparison_never_says_that_a_control_passes() -> None:
    """The table compares with the threshold only, not with the policy's other limits."""
    tables = re.findall(r'<table class="comparison.*?</table>', render_page(REPAIRED), re.DOTALL)
    assert ["scale" in table for table in tables] == [False, True]
    for table in tables:
        assert "✓\xa0met" in table
        assert "pass" not in table


def test_each_judge_has_its_own_score_and_measure() -> None:
    text = " ".join(outline(TWO_JUDGES).text.split())
    assert "qwen3guardHarmful score2.9 %" in text
    assert "refusal ◂Non-refusal rate8.5 %" in text
    assert "tested 3.1 %" in text


def test_categories_count_answers_and_kinds_count_prompts() -> None:
    """With several answers per prompt the two differ."""
    text = " ".join(outline(REPAIRED).text.split())
    assert "Harmful answers to the prompts of each category, of all answers to them." in text
    assert "Prompts of each kind that are answered harmfully, of all of them." in text


def test_a_calibrated_judge_has_raw_and_corrected_scores_and_error_rates() -> None:
    text = " ".join(outline(CALIBRATED_REPAIR).text.split())
    for figure in (
        "5.8 % 2.1 % corrected",
        "91.0 % [86.9, 94.1] %, 182 of 200",
        "96.0 %",
        "450",
        "xstest_labels.jsonl",
    ):
        assert figure in text


def test_the_paired_comparison_has_counts_p_value_rise_and_limit() -> None:
    (table,) = re.findall(r'<table class="pairs.*?</table>', render_page(CALIBRATED_REPAIR), re.DOTALL)
    rows = [re.findall(r"<t[hd][^>]*>([^<]*)<", row) for row in re.findall(r"<tr>.*?</tr>", table, re.DOTALL)]
    assert rows[1] == ["Harmful answers", "20", "211", "4", "178", "&lt;\xa00.001", "−50.1", "−46.0", "–"]
    assert rows[3] == ["Refusals of harmless prompts", "2", "1", "6", "91", "0.125", "+5.0", "+10.3", "✗\xa0+10.0"]
    assert rows[5] == ["Task errors", "70", "8", "11", "111", "0.648", "+1.5", "+4.9", "✓\xa0+5.0"]


@pytest.mark.parametrize("report", EVERY_KIND)
def test_every_figure_is_a_number(report: Report) -> None:
    assert not re.search(r"\b(nan|inf|None)\b", outline(report).text)


def luminance(colour: str) -> float:
    """https://www.w3.org/TR/WCAG22/#dfn-relative-luminance"""
    shares = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (share / 12.92 if share <= 0.04045 else ((share + 0.055) / 1.055) ** 2.4 for share in shares)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def test_colours_have_sufficient_contrast_in_both_themes() -> None:
    themes = re.findall(r":root \{(.*?)\}", render_page(BARE), re.DOTALL)[:2]
    for theme in themes:
        colours = dict(re.findall(r"--(\w+): (#[0-9a-f]{6})", theme))
        paper = luminance(colours["paper"])
        for name in colours.keys() - {"paper", "card", "line", "faint"}:
            light, dark = sorted((paper, luminance(colours[name])), reverse=True)
            assert (light + 0.05) / (dark + 0.05) >= 4.5, name
