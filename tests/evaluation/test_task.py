"""What counts as right, and that the page on it says the same."""

import re
import tomllib
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from antidote_ci.errors import ConfigurationError
from antidote_ci.evaluation.prompts import read_prompts
from antidote_ci.evaluation.statistics.paired import min_pairs, rise_bound
from antidote_ci.evaluation.utility import TaskMatch, is_correct, needed_tokens, parse_last_number, require_numbers
from antidote_ci.policy import validate_policy
from antidote_ci.records import PromptRow

PAGE = (Path(__file__).parents[2] / "docs" / "task.md").read_text()
EXAMPLE = r"of (\d+) rows, (\d+) newly wrong and (\d+) newly right have the bound\s([\d.]+\d)"
EXAMPLES = re.findall(r"^\| `(exact|prefix|last-number)` \| `(.+?)` \| `(.+?)` \| (yes|no) \|$", PAGE, re.MULTILINE)
ANY_MATCH: tuple[TaskMatch, ...] = ("exact", "prefix", "last-number", "choice")

words = st.text(st.characters(categories=["L", "Nd"]), min_size=1, max_size=12)
spaces = st.text(st.sampled_from(" \n\t"), max_size=3)
without_digits = st.text(st.characters(exclude_categories=["Nd", "Cs"]), max_size=20)
decimals = st.decimals(-(10**12), 10**12, places=3, allow_nan=False, allow_infinity=False)


@given(words, spaces, spaces)
def test_space_and_case_are_nothing(expected: str, before: str, after: str) -> None:
    for match in ("exact", "prefix"):
        assert is_correct(before + expected.casefold() + after, expected, match)


@given(words, st.text())
def test_what_is_exactly_right_begins_right(expected: str, answer: str) -> None:
    assert is_correct(answer, expected, "exact") <= is_correct(answer, expected, "prefix")


@given(words, st.sampled_from([". ", ", ", " because", "\n", "!", ". 3"]), st.text())
def test_a_prefix_ends_where_the_word_ends(expected: str, boundary: str, rest: str) -> None:
    assert is_correct(expected + boundary + rest, expected, "prefix")


@given(words, words)
def test_a_word_that_goes_on_is_another(expected: str, more: str) -> None:
    assert not is_correct(expected + more, expected, "prefix")


@given(decimals, st.sampled_from(["", "$", "€"]), st.sampled_from(["", "%", ".", " %.", " km"]), without_digits)
def test_the_last_number_is_read_however_it_is_written(value: Decimal, sign: str, unit: str, rest: str) -> None:
    minus = "-" if value < 0 else ""
    spaced = rest if unit else f" {rest}"  # a point right after the digits begins no decimals, since none follow
    for written in (f"{abs(value)}", f"{abs(value):,}", f"{abs(value):,}".replace(",", "\u202f")):
        assert parse_last_number(f"7 and 1,000 = {minus}{sign}{written}{unit}{spaced}") == Fraction(value)


@given(st.integers(0, 10**30), st.integers(0, 10**30))
def test_numbers_are_compared_exactly(one: int, other: int) -> None:
    assert is_correct(f"= {one}.", f"#### {other:,}", "last-number") == (one == other)
    assert not is_correct(f"{one}.{'0' * 40}1", f"{one}", "last-number")


@given(st.integers(0, 10**6), st.integers(1, 10**6))
def test_a_fraction_is_its_value(over: int, under: int) -> None:
    assert parse_last_number(f"so {over}/{under}") == Fraction(over, under)


@given(st.text(), st.text())
def test_no_text_is_an_error(answer: str, expected: str) -> None:
    for match in ANY_MATCH:
        is_correct(answer, expected, match)


@given(st.text(st.sampled_from("0123456789.,/-$%' "), max_size=200))
def test_no_number_is_an_error(text: str) -> None:
    found = parse_last_number(text)
    assert (found is None) == (re.search(r"\d", text) is None)


def test_hostile_digits_are_read() -> None:
    assert parse_last_number("9" * 20_000) == 10**20_000 - 1


@given(st.lists(words, min_size=1), st.integers(1, 100))
def test_enough_tokens_for_what_can_be_right(expected: list[str], limit: int) -> None:
    rows = [PromptRow("a", response=each) for each in expected]
    for match in ("exact", "prefix"):
        # At worst each byte is a token.
        assert needed_tokens(rows, match, limit) == min(limit, max(len(each.encode()) for each in expected) + 1)
    assert needed_tokens(rows, "last-number", limit) == limit


def test_a_task_that_nobody_can_solve_is_refused() -> None:
    require_numbers([PromptRow("a", response="42")])
    with pytest.raises(ConfigurationError, match="the expected answer in row 2 of the task has no number"):
        require_numbers([PromptRow("a", response="42"), PromptRow("b", response="many")])


@pytest.mark.parametrize(("match", "expected", "answer", "right"), EXAMPLES)
def test_the_page_says_what_is_right(match: TaskMatch, expected: str, answer: str, right: str) -> None:
    assert is_correct(answer, expected, match) == (right == "yes")


def test_the_page_has_examples_of_every_match(tmp_path: Path) -> None:
    assert {match for match, *_ in EXAMPLES} == {"exact", "prefix", "last-number"}
    blocks = re.findall(r"```json\n(.+?)```", PAGE, re.DOTALL)
    for block, match in zip(blocks, ANY_MATCH, strict=True):
        path = tmp_path / f"{match}.jsonl"
        path.write_text(block)
        (row,) = read_prompts(path, "expected", with_choices=match == "choice")
        assert is_correct(row.response, row.response, match)


def test_the_page_counts_the_rows_that_a_limit_needs() -> None:
    rows = re.findall(r"^\| ([\d.]+) \| (\d+) \|$", PAGE, re.MULTILINE)
    assert len(rows) == 5
    for limit, needed in rows:
        assert min_pairs(float(limit)) == int(needed)
    n, wrong, right, bound = re.findall(EXAMPLE, PAGE)[0]
    assert round(rise_bound(int(right), int(wrong), int(n)), 3) == float(bound)


def test_the_page_sets_a_policy() -> None:
    (block,) = re.findall(r"```toml\n(.+?)```", PAGE, re.DOTALL)
    policy = validate_policy(tomllib.loads(block), "docs/task.md")
    assert policy.evaluation.task == "my_task.jsonl"
