"""Strangers' strings and numbers, as people see them."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from antidote_ci.report import text
from tests.report.samples import HOSTILE


@given(st.text() | HOSTILE)
def test_plain_text_is_one_visible_line(value: str) -> None:
    shown = text.flatten(value)
    assert len(shown) <= text.MAX_LENGTH + 1
    assert not [character for character in shown if unicodedata.category(character) in {"Cc", "Cf", "Cs", "Zl", "Zp"}]


@given(st.text(alphabet="abc \u202e\u200b\x00"), st.text(alphabet="abc \u202e\u200b\x00"))
def test_an_invisible_character_never_makes_two_names_look_alike(one: str, other: str) -> None:
    visible = one.translate({0x202E: "\ufffd", 0x200B: "\ufffd", 0: "\ufffd"})
    assert text.flatten(one) == visible
    assert (text.flatten(one) == text.flatten(other)) == (len(one) == len(other) and visible == text.flatten(other))


@given(HOSTILE)
def test_markdown_reads_the_text_and_no_markup(value: str) -> None:
    """Rendered in a table cell, the text comes back; but for the word joiners, letter by letter."""
    tokens = (
        MarkdownIt("commonmark").enable("table").parse(f"| a |\n|--|\n| x {text.escape_markdown(value)} x |\n| b |\n")
    )
    assert [token.type for token in tokens].count("tr_open") == 3
    cell = [token for token in tokens if token.type == "inline"][1]
    assert {child.type for child in cell.children or []} <= {"text", "text_special"}
    shown = "".join(child.content for child in cell.children or []).replace("\u2060", "")
    assert shown == f"x {text.flatten(value).strip()} x".replace("\u2060", "")


@given(HOSTILE | st.sampled_from(["- x", "+ x", "1. x", "12) x", "---", "- - -", "===", "-", "1.", "    x", "\tx"]))
def test_markdown_is_text_also_where_a_line_begins(value: str) -> None:
    for line in (f"{text.escape_markdown(value)}\n", f"x\n{text.escape_markdown(value)}\n"):
        assert {token.type for token in MarkdownIt("commonmark").enable("table").parse(line)} <= {
            "paragraph_open",
            "inline",
            "paragraph_close",
        }


@pytest.mark.parametrize(
    "value", ["@all", "x @all", "a@b.example", "https://x.example", "www.x.example", "WWW.x.example"]
)
def test_mentions_and_bare_links_are_broken(value: str) -> None:
    assert text.escape_markdown(value).replace("\u2060", "") == value
    assert text.escape_markdown(value) != value


def test_our_own_revisions_can_be_copied() -> None:
    assert text.escape_markdown("org/name@0123456789ab, adapter") == "org/name@0123456789ab, adapter"


def test_numbers() -> None:
    assert text.format_percent(0.1714) == "17.1 %"
    assert text.format_percent(None) == "–"
    assert text.format_interval((0.055, 0.1738)) == "[5.5, 17.4] %"
    assert text.format_points(0.86 - 0.87) == "−1.0 points"
    assert text.format_points(0.03) == "+3.0 points"
    assert text.format_level(0.95) == "95 %"
    assert text.format_level(0.975) == "97.5 %"
    assert text.format_number(4_884_480) == "4,884,480"
    assert text.format_number(0.05208) == "0.0521"


@pytest.mark.parametrize(
    ("count", "shown"), [(0, "0 threads"), (1, "1 thread"), (2, "2 threads"), (1000, "1,000 threads")]
)
def test_one_of_a_thing_is_one(count: int, shown: str) -> None:
    assert text.pluralize(count, "thread") == shown
