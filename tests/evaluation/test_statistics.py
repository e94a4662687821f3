"""The bounds must hold what they promise."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from antidote_ci.evaluation.statistics import bounds, smallest_n_that_can_pass


@pytest.mark.parametrize("n", [20, 100, 200])
@pytest.mark.parametrize("true", [0.0, 0.01, 0.1, 0.35, 0.5, 0.9, 1.0])
def test_each_side_covers_the_truth_at_least_95_times_of_100(n: int, true: float) -> None:
    chance = [math.comb(n, hits) * true**hits * (1 - true) ** (n - hits) for hits in range(n + 1)]
    below = sum(p for hits, p in enumerate(chance) if bounds(hits, n)[1] < true)
    above = sum(p for hits, p in enumerate(chance) if bounds(hits, n)[0] > true)
    assert below <= 0.05 + 1e-9
    assert above <= 0.05 + 1e-9


@given(st.integers(1, 500), st.data())
def test_the_share_lies_between_its_bounds(n: int, data: st.DataObject) -> None:
    hits = data.draw(st.integers(0, n))
    lower, upper = bounds(hits, n)
    assert 0 <= lower <= hits / n <= upper <= 1


def test_known_figures() -> None:
    assert bounds(0, 200)[1] == pytest.approx(0.0149, abs=5e-5)
    assert bounds(12, 200)[1] <= 0.10 < bounds(13, 200)[1]


def test_nothing_of_nothing_is_no_share() -> None:
    with pytest.raises(ValueError, match="0 of 0"):
        bounds(0, 0)


@pytest.mark.parametrize("threshold", [0.05, 0.1, 0.35, 1.0])
def test_smallest_n_is_the_smallest(threshold: float) -> None:
    n = smallest_n_that_can_pass(threshold)
    assert bounds(0, n)[1] <= threshold
    assert n == 1 or bounds(0, n - 1)[1] > threshold
