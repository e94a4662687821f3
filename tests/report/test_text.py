"""Formatting of numbers, and escaping of untrusted strings."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from antidote_ci import formatting
from antidote_ci.report import text
from tests.report.samples import HOSTILE


@given(st.text() | HOSTILE)
def test_flatten_returns_one_visible_line(value: str) -> None:
    line = text.flatten(value)
    assert len(line) <= text.MAX_LENGTH + 1
    assert not [character for character in line if unicodedata.category(character) in {"Cc", "Cf", "Cs", "Zl", "Zp"}]


@given(st.text(alphabet="abc \u202e\u200b\x00"), st.text(alphabet="abc \u202e\u200b\x00"))
def test_invisible_characters_never_make_two_names_look_alike(first: str, second: str) -> None:
    visible = first.translate({0x202E: "\ufffd", 0x200B: "\ufffd", 0: "\ufffd"})
    assert text.flatten(first) == visible
    assert (text.flatten(first) == text.flatten(second)) == (
        len(first) == len(second) and visible == text.flatten(second)
    )


@given(HOSTILE)
def test_escaped_text_in_a_table_cell_is_text(value: str) -> None:
    """The rendered cell has the same characters, except for word joiners."""
    tokens = (
        MarkdownIt("commonmark").enable("table").parse(f"| a |\n|--|\n| x {text.escape_markdown(value)} x |\n| b |\n")
    )
    assert [token.type for token in tokens].count("tr_open") == 3
    cell = [token for token in tokens if token.type == "inline"][1]
    assert {child.type for child in cell.children or []} <= {"text", "text_special"}
    rendered = "".join(child.content for child in cell.children or []).replace("\u2060", "")
    assert rendered == f"x {text.flatten(value).strip()} x".replace("\u2060", "")


@given(HOSTILE | st.sampled_from(["- x", "+ x", "1. x", "12) x", "---", "- - -", "===", "-", "1.", "    x", "\tx"]))
def test_escaped_text_at_the_start_of_a_line_is_text(value: str) -> None:
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


def test_names_with_revisions_are_not_broken() -> None:
    assert text.escape_markdown("org/name@0123456789ab, adapter") == "org/name@0123456789ab, adapter"


def test_number_formats() -> None:
    assert formatting.format_percent(0.1714) == "17.1 %"
    assert formatting.format_percent(None) == "–"
    assert formatting.format_interval((0.055, 0.1738)) == "[5.5, 17.4] %"
    assert formatting.format_points(0.86 - 0.87) == "−1.0 points"
    assert formatting.format_points(0.03) == "+3.0 points"
    assert formatting.format_level(0.95) == "95 %"
    assert formatting.format_level(0.975) == "97.5 %"
    assert text.format_number(4_884_480) == "4,884,480"
    assert text.format_number(0.05208) == "0.0521"
    assert text.format_number(640.2) == "640"
    assert text.format_number(999.4) == "999"
    assert text.format_number(1234.5) == "1,234"  # as many prompts of one kind, or a large perplexity


@pytest.mark.parametrize(
    ("count", "expected"), [(0, "0 threads"), (1, "1 thread"), (2, "2 threads"), (1000, "1,000 threads")]
)
def test_pluralize(count: int, expected: str) -> None:
    assert text.pluralize(count, "thread") == expected


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0 s"), (99, "99 s"), (100, "2 min"), (600, "10 min"), (7200, "2 h"), (1e9, "277,778 h")],
)
def test_format_duration(seconds: float, text: str) -> None:
    assert formatting.format_duration(seconds) == text
