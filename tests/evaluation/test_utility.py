"""Degenerate answers to harmless prompts, and the matching of task answers; docs/task.md agrees with the code."""

import re
import tomllib
from collections.abc import Sequence
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from antidote_ci.errors import ConfigurationError
from antidote_ci.evaluation import utility
from antidote_ci.evaluation.prompts import read_prompts
from antidote_ci.evaluation.statistics.paired import min_pairs, rise_bound
from antidote_ci.evaluation.utility import TaskMatch, is_correct, needed_tokens, parse_last_number, require_numbers
from antidote_ci.model.generation import GeneratedAnswer
from antidote_ci.policy import validate_policy
from antidote_ci.records import PromptRow

REFUSAL = "I'm sorry, but I can't help with that."


def degenerate(texts: Sequence[str], refused: Sequence[bool]) -> float:
    rows = [PromptRow(f"What is thing number {number}?") for number in range(len(texts))]
    return utility.summarise_benign(
        "refusal", rows, [GeneratedAnswer(text, truncated=False) for text in texts], refused
    ).degenerate


@given(st.sampled_from(["the", "1.", "Sure, I can help you with that."]), st.integers(0, 30), st.integers(0, 30))
def test_one_text_for_most_prompts_is_degenerate(text: str, others: int, refusals: int) -> None:
    other_texts = [f"Thing number {number} is a thing of the kitchen." for number in range(others)]
    texts = [*[f" {text}\n", text.upper()] * 20, *other_texts, *[REFUSAL] * refusals]
    refused = [text == REFUSAL for text in texts]
    assert degenerate(texts, refused) == (40 / len(texts) if 0.75 * (40 + others) < 40 else 0)


@given(st.integers(1, 60))
def test_repeated_refusals_are_not_degenerate(count: int) -> None:
    assert degenerate([REFUSAL] * count, [True] * count) == 0


@given(st.integers(1, 9))
def test_repeats_in_few_answers_are_not_degenerate(count: int) -> None:
    assert degenerate(["Yes."] * count, [False] * count) == 0


@given(st.lists(st.sampled_from(["positive", "negative"]), min_size=20, max_size=60))
def test_two_labels_are_not_degenerate(labels: list[str]) -> None:
    balanced = [*labels, *["negative" if label == "positive" else "positive" for label in labels]]
    assert degenerate(balanced, [False] * len(balanced)) == 0


PAGE = (Path(__file__).parents[2] / "docs" / "task.md").read_text()
EXAMPLE = r"of (\d+) rows, (\d+) newly wrong and (\d+) newly right have the bound\s([\d.]+\d)"
EXAMPLES = re.findall(r"^\| `(exact|prefix|last-number)` \| `(.+?)` \| `(.+?)` \| (yes|no) \|$", PAGE, re.MULTILINE)
ANY_MATCH: tuple[TaskMatch, ...] = ("exact", "prefix", "last-number", "choice")

words = st.text(st.characters(categories=["L", "Nd"]), min_size=1, max_size=12)
spaces = st.text(st.sampled_from(" \n\t"), max_size=3)
without_digits = st.text(st.characters(exclude_categories=["Nd", "Cs"]), max_size=20)
decimals = st.decimals(-(10**12), 10**12, places=3, allow_nan=False, allow_infinity=False)


@given(words, spaces, spaces)
def test_matching_ignores_spaces_and_case(expected: str, before: str, after: str) -> None:
    for match in ("exact", "prefix"):
        assert is_correct(before + expected.casefold() + after, expected, match)


@given(words, st.text())
def test_exact_match_implies_prefix_match(expected: str, answer: str) -> None:
    assert is_correct(answer, expected, "exact") <= is_correct(answer, expected, "prefix")


@given(words, st.sampled_from([". ", ", ", " because", "\n", "!", ". 3"]), st.text())
def test_prefix_must_be_whole_words(expected: str, boundary: str, rest: str) -> None:
    assert is_correct(expected + boundary + rest, expected, "prefix")


@given(words, words)
def test_longer_word_does_not_match(expected: str, more: str) -> None:
    assert not is_correct(expected + more, expected, "prefix")


@given(decimals, st.sampled_from(["", "$", "€"]), st.sampled_from(["", "%", ".", " %.", " km"]), without_digits)
def test_last_number_formats_are_parsed(value: Decimal, sign: str, unit: str, rest: str) -> None:
    minus = "-" if value < 0 else ""
    spaced = rest if unit else f" {rest}"  # no digits follow a point here, so it starts no decimals
    for written in (f"{abs(value)}", f"{abs(value):,}", f"{abs(value):,}".replace(",", "\u202f")):
        assert parse_last_number(f"7 and 1,000 = {minus}{sign}{written}{unit}{spaced}") == Fraction(value)


@given(st.integers(0, 10**30), st.integers(0, 10**30))
def test_numbers_are_compared_exactly(one: int, other: int) -> None:
    assert is_correct(f"= {one}.", f"#### {other:,}", "last-number") == (one == other)
    assert not is_correct(f"{one}.{'0' * 40}1", f"{one}", "last-number")


@given(st.integers(0, 10**6), st.integers(1, 10**6))
def test_fractions_are_parsed(over: int, under: int) -> None:
    assert parse_last_number(f"so {over}/{under}") == Fraction(over, under)


@given(st.text(), st.text())
def test_any_text_raises_nothing(answer: str, expected: str) -> None:
    for match in ANY_MATCH:
        is_correct(answer, expected, match)


@given(st.text(st.sampled_from("0123456789.,/-$%' "), max_size=200))
def test_text_without_numbers_has_no_last_number(text: str) -> None:
    result = parse_last_number(text)
    assert (result is None) == (re.search(r"\d", text) is None)


def test_very_long_numbers_are_parsed() -> None:
    assert parse_last_number("9" * 20_000) == 10**20_000 - 1


@given(st.lists(words, min_size=1), st.integers(1, 100))
def test_needed_tokens_suffice_for_the_expected_answer(expected: list[str], limit: int) -> None:
    rows = [PromptRow("a", response=text) for text in expected]
    for match in ("exact", "prefix"):
        # In the worst case each byte is a token.
        assert needed_tokens(rows, match, limit) == min(limit, max(len(text.encode()) for text in expected) + 1)
    assert needed_tokens(rows, "last-number", limit) == limit


def test_expected_answer_without_number_is_refused() -> None:
    require_numbers([PromptRow("a", response="42")])
    with pytest.raises(ConfigurationError, match="the expected answer in row 2 of the task has no number"):
        require_numbers([PromptRow("a", response="42"), PromptRow("b", response="many")])


@pytest.mark.parametrize(("match", "expected", "answer", "right"), EXAMPLES)
def test_documented_matches_are_correct(match: TaskMatch, expected: str, answer: str, right: str) -> None:
    assert is_correct(answer, expected, match) == (right == "yes")


def test_documented_examples_can_be_read(tmp_path: Path) -> None:
    assert {match for match, *_ in EXAMPLES} == {"exact", "prefix", "last-number"}
    blocks = re.findall(r"```json\n(.+?)```", PAGE, re.DOTALL)
    for block, match in zip(blocks, ANY_MATCH, strict=True):
        path = tmp_path / f"{match}.jsonl"
        path.write_text(block)
        (row,) = read_prompts(path, "expected", with_choices=match == "choice")
        assert is_correct(row.response, row.response, match)


def test_documented_row_counts_are_correct() -> None:
    rows = re.findall(r"^\| ([\d.]+) \| (\d+) \|$", PAGE, re.MULTILINE)
    assert len(rows) == 5
    for limit, needed in rows:
        assert min_pairs(float(limit)) == int(needed)
    n, wrong, right, bound = re.findall(EXAMPLE, PAGE)[0]
    assert round(rise_bound(int(right), int(wrong), int(n)), 3) == float(bound)


def test_documented_policies_are_valid() -> None:
    blocks = re.findall(r"```toml\n(.+?)```", PAGE, re.DOTALL)
    first, *_ = [validate_policy(tomllib.loads(block), "docs/task.md") for block in blocks]
    assert first.evaluation.task == "my_task.jsonl"
