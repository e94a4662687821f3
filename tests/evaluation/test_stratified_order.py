"""The order that a test which stops early asks in: seeded, and fair to every category."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from antidote_ci.evaluation.prompts import stratify_order
from antidote_ci.records import PromptRow

SIZES = st.lists(st.integers(1, 40), min_size=1, max_size=6)


def rows(sizes: list[int]) -> list[PromptRow]:
    return [
        PromptRow(f"question {number} about {category}", str(category))
        for category, n in enumerate(sizes)
        for number in range(n)
    ]


@given(SIZES, st.integers(0, 1000))
def test_every_beginning_holds_every_category_in_proportion(sizes: list[int], seed: int) -> None:
    ordered = stratify_order(rows(sizes), seed)
    seen: Counter[str] = Counter()
    for asked, row in enumerate(ordered, 1):
        seen[row.category] += 1
        for category, n in enumerate(sizes):
            # Each category is off by less than one of its own place on the way, and the way by one a category.
            assert abs(seen[str(category)] - asked * n / len(ordered)) <= 1 + len(sizes) * n / len(ordered)


@given(SIZES, st.integers(0, 1000), st.randoms(use_true_random=False))
def test_the_order_of_the_file_does_not_matter(sizes: list[int], seed: int, random: object) -> None:
    shuffled = rows(sizes)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert stratify_order(shuffled, seed) == stratify_order(rows(sizes), seed)


@given(SIZES, st.integers(0, 1000))
def test_nothing_is_lost(sizes: list[int], seed: int) -> None:
    assert Counter(stratify_order(rows(sizes), seed)) == Counter(rows(sizes))


def test_every_row_may_come_first() -> None:
    first = Counter(stratify_order(rows([5, 5]), seed)[0].prompt for seed in range(2000))
    assert len(first) == 10
    assert max(first.values()) < 2 * min(first.values())


def test_seeds_differ() -> None:
    assert stratify_order(rows([20]), 0) != stratify_order(rows([20]), 1)


def test_no_rows_have_no_order() -> None:
    assert stratify_order([], 0) == []


@pytest.mark.parametrize("place", [0, 7, 19])
def test_within_a_category_every_row_may_stand_anywhere(place: int) -> None:
    found = {stratify_order(rows([20]), seed)[place].prompt for seed in range(400)}
    assert len(found) == 20
