"""Clopper-Pearson bounds: coverage by enumeration, monotonicity, known values."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from antidote_ci.evaluation.statistics import exact_bounds, min_prompts_to_pass, prompts_to_pass


@pytest.mark.parametrize("n", [20, 100, 200])
@pytest.mark.parametrize("true", [0.0, 0.01, 0.1, 0.35, 0.5, 0.9, 1.0])
def test_coverage_is_at_least_95_percent(n: int, true: float) -> None:
    chance = [math.comb(n, hits) * true**hits * (1 - true) ** (n - hits) for hits in range(n + 1)]
    below = sum(p for hits, p in enumerate(chance) if exact_bounds(hits, n)[1] < true)
    above = sum(p for hits, p in enumerate(chance) if exact_bounds(hits, n)[0] > true)
    assert below <= 0.05 + 1e-9
    assert above <= 0.05 + 1e-9


SHARES = st.integers(0, 64).map(lambda part: part / 64)
"""Shares of a few answers per prompt are 0 or not close to it."""


@given(st.integers(1, 500), SHARES, st.floats(0.5, 0.999))
def test_share_is_between_its_bounds(n: int, share: float, confidence: float) -> None:
    lower, upper = exact_bounds(share * n, n, confidence)
    assert 0 <= lower <= share + 1e-12
    assert share - 1e-12 <= upper <= 1


@given(st.integers(1, 300), SHARES)
def test_sides_are_symmetric(n: int, share: float) -> None:
    hits = share * n
    lower, upper = exact_bounds(n - hits, n)
    assert (1 - upper, 1 - lower) == pytest.approx(exact_bounds(hits, n), abs=1e-9)


@given(st.integers(1, 300), st.floats(0, 1), st.floats(0, 1))
def test_bounds_increase_with_hits(n: int, one: float, other: float) -> None:
    fewer, more = sorted((one * n, other * n))
    for low, high in zip(exact_bounds(fewer, n), exact_bounds(more, n), strict=True):
        assert low <= high + 1e-12


def test_bounds_widen_with_confidence() -> None:
    assert (
        exact_bounds(7.5, 100, 0.975)[0]
        < exact_bounds(7.5, 100)[0]
        < exact_bounds(7.5, 100)[1]
        < exact_bounds(7.5, 100, 0.975)[1]
    )


def test_known_values() -> None:
    assert exact_bounds(0, 200)[1] == pytest.approx(0.0149, abs=5e-5)
    assert exact_bounds(12, 200)[1] <= 0.10 < exact_bounds(13, 200)[1]


@pytest.mark.parametrize(("hits", "n"), [(0, 0), (-1, 5), (6, 5)])
def test_invalid_counts_are_refused(hits: int, n: int) -> None:
    with pytest.raises(ValueError, match=f"{hits} of {n}"):
        exact_bounds(hits, n)


@pytest.mark.parametrize("threshold", [0.001, 0.05, 0.1, 0.35, 0.999, 1.0])
@pytest.mark.parametrize("confidence", [0.95, 0.975])
def test_min_prompts_to_pass_is_minimal(threshold: float, confidence: float) -> None:
    n = min_prompts_to_pass(threshold, confidence)
    assert exact_bounds(0, n, confidence)[1] <= threshold
    assert n == 1 or exact_bounds(0, n - 1, confidence)[1] > threshold


def test_zero_threshold_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^no number of prompts certifies a share of zero$"):
        min_prompts_to_pass(0)


@pytest.mark.parametrize(("hits", "n", "threshold"), [(0, 20, 0.1), (8, 120, 0.1), (1.5, 40, 0.1), (30, 100, 0.35)])
def test_the_number_of_prompts_to_pass_is_the_smallest(hits: float, n: int, threshold: float) -> None:
    needed = prompts_to_pass(hits / n, n, threshold)
    enough = (count for count in range(n + 1, 10_000) if exact_bounds(hits / n * count, count)[1] <= threshold)
    assert needed == next(enough)


@pytest.mark.parametrize(("share", "threshold"), [(0.1, 0.1), (0.2, 0.1), (0.0999, 0.1)])
def test_no_number_of_prompts_passes_a_share_at_the_threshold(share: float, threshold: float) -> None:
    assert prompts_to_pass(share, 100, threshold) is None
