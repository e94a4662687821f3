"""Paired comparison: the table, the McNemar test, and the coverage of the bound by enumeration."""

import math
import tracemalloc
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from scipy.special import xlogy

from antidote_ci.evaluation.statistics.paired import (
    MAX_EXACT,
    acceptance_region,
    compare_paired,
    min_pairs,
    pairs_to_prove,
    region_probability,
    rise_bound,
    score_bound,
    score_statistic,
)

OUTCOMES = st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=60)


@settings(max_examples=40, deadline=None)
@given(OUTCOMES)
def test_table_counts_every_prompt_once(pairs: list[tuple[bool, bool]]) -> None:
    before = {str(at): one for at, (one, _) in enumerate(pairs)}
    after = {str(at): other for at, (_, other) in reversed(list(enumerate(pairs)))}
    result = compare_paired(before, after)
    assert result.both + result.only_before + result.only_after + result.neither == len(pairs)
    assert result.rise == pytest.approx((sum(after.values()) - sum(before.values())) / len(pairs))
    assert result.rise <= result.rise_bound <= 1
    assert compare_paired(after, before).p_value == pytest.approx(result.p_value)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 15), st.integers(0, 15))
def test_mcnemar_is_a_binomial_test(lost: int, gained: int) -> None:
    tosses = lost + gained
    before = {str(at): at < lost for at in range(tosses + 1)}
    after = {str(at): lost <= at < tosses for at in range(tosses + 1)}
    ways = [math.comb(tosses, heads) for heads in range(tosses + 1)]
    as_extreme = sum(probability for probability in ways if probability <= ways[gained])
    assert compare_paired(before, after).p_value == pytest.approx(as_extreme / 2**tosses)


@pytest.mark.parametrize("after", [{"a": True}, {"a": True, "c": False}, {}])
def test_different_prompts_are_refused(after: dict[str, bool]) -> None:
    with pytest.raises(ValueError, match="prompts of the two evaluations differ"):
        compare_paired({"a": True, "b": False}, after)


def test_empty_comparison_is_refused() -> None:
    with pytest.raises(ValueError, match="prompts of the two evaluations differ"):
        compare_paired({}, {})


@settings(deadline=None)
@given(st.integers(0, 20), st.integers(0, 20), st.integers(1, 40), st.floats(-0.3, 0.5))
def test_score_uses_the_maximum_likelihood_nuisance(lost: int, gained: int, same: int, rise: float) -> None:
    """Compared with a numeric maximisation of the likelihood over the share of lost pairs."""
    n = lost + gained + same
    low, high = max(0.0, -rise), (1 - rise) / 2

    def surprise(share: float) -> float:
        chances = (share, share + rise, 1 - 2 * share - rise)
        return -float(sum(xlogy(count, chance) for count, chance in zip((lost, gained, same), chances, strict=True)))

    result = minimize_scalar(surprise, bounds=(low, high), method="bounded", options={"xatol": 1e-12})
    variance = n * (2 * result.x + rise - rise**2)
    expected = (gained - lost - n * rise) / math.sqrt(variance)
    assert float(score_statistic(lost, gained, n, rise)) == pytest.approx(expected, rel=1e-3, abs=1e-3)


def test_rise_bound_coverage_by_enumeration() -> None:
    n = 12
    result = {(b, c): rise_bound(b, c, n) for b in range(n + 1) for c in range(n + 1 - b)}
    for rise in (0.0, 0.02, 0.1, 0.2, *(result[outcome] + 1e-6 for outcome in ((0, 0), (0, 1), (1, 1), (2, 1)))):
        missing = [outcome for outcome, bound in result.items() if bound < rise]
        for lost in np.linspace(0, (1 - rise) / 2, 40):
            same = max(1 - 2 * lost - rise, 0.0)
            missed = sum(
                math.comb(n, b) * math.comb(n - b, c) * lost**b * (lost + rise) ** c * same ** (n - b - c)
                for b, c in missing
            )
            assert missed <= 0.05 + 1e-5


@pytest.mark.parametrize(("lost", "gained", "n"), [(51, 34, 200), (48, 28, 200), (31, 30, 500)])
def test_maximum_over_several_peaks_is_found(lost: int, gained: int, n: int) -> None:
    rise = rise_bound(lost, gained, n)
    shares = np.linspace(max(0.0, -rise), (1 - rise) / 2, 10_001)
    assert region_probability(acceptance_region(lost, gained, n), n, shares, rise).max() == pytest.approx(
        0.05, abs=1e-5
    )


def test_tango_limit_undercovers() -> None:
    n = 100
    rise = score_bound(0, 0, n) + 1e-9
    assert (1 - rise) ** n > 0.06
    assert (1 - rise_bound(0, 0, n)) ** n <= 0.05


@pytest.mark.parametrize("n", [1, 7, 100])
def test_bound_is_1_when_every_pair_gains(n: int) -> None:
    assert rise_bound(0, n, n) == score_bound(0, n, n) == 1


def test_rise_bound_is_monotone() -> None:
    n = 30
    gained = [rise_bound(2, c, n) for c in range(8)]
    lost = [rise_bound(b, 4, n) for b in range(8)]
    assert all(one <= other + 1e-6 for one, other in pairwise(gained))
    assert all(one >= other - 1e-6 for one, other in pairwise(lost))
    assert rise_bound(0, n, n) == 1.0


def test_region_holds_outcomes_of_no_larger_score() -> None:
    n, (b, c) = 40, (3, 2)
    limit = score_bound(b, c, n)
    region = acceptance_region(b, c, n)
    for lost in range(n + 1):
        for gained in range(n + 1 - lost):
            as_low = float(score_statistic(lost, gained, n, limit)) <= float(score_statistic(b, c, n, limit)) + 1e-7
            assert (gained <= region[lost]) == as_low


def test_region_probability_agrees_with_enumeration() -> None:
    n, lost, rise = 12, 0.1, 0.15
    region = acceptance_region(1, 2, n)
    expected = sum(
        math.comb(n, b) * math.comb(n - b, c) * lost**b * (lost + rise) ** c * (1 - 2 * lost - rise) ** (n - b - c)
        for b in range(n + 1)
        for c in range(n + 1 - b)
        if c <= region[b]
    )
    assert region_probability(region, n, np.array([lost]), rise)[0] == pytest.approx(expected)


@pytest.mark.parametrize("limit", [0.05, 0.1, 0.3, 0.95, 0.97, 1.0])
def test_min_pairs_is_minimal(limit: float) -> None:
    n = min_pairs(limit)
    assert rise_bound(0, 0, n) <= limit
    assert n == 1 or rise_bound(0, 0, n - 1) > limit


@pytest.mark.parametrize("limit", [1e-9, 1e-4, 0.001, 0.0025])
def test_large_numbers_of_pairs_are_a_lower_bound(limit: float) -> None:
    result = min_pairs(limit, available=1000)
    assert result > 1000
    assert result == pytest.approx(math.log(0.05) / math.log1p(-limit), abs=1)
    assert (1 - limit) ** result <= 0.05 * (1 + 1e-6)


def test_many_pairs_need_little_memory() -> None:
    tracemalloc.start()
    acceptance_region(3, 3, 2000)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 2001**2


def test_zero_limit_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^no number of pairs shows a rise of zero$"):
        min_pairs(0)


@pytest.mark.parametrize(
    ("lost", "gained", "n", "limit"), [(1, 4, 144, 0.05), (0, 0, 40, 0.05), (0, 3, 60, 0.1), (5, 7, 50, 0.15)]
)
def test_pairs_to_prove_a_rise(lost: int, gained: int, n: int, limit: float) -> None:
    """Bounds at expected counts are those of real outcomes, up to the steps between whole counts."""
    needed = pairs_to_prove(lost, gained, n, limit)
    assert needed is not None
    assert n < needed <= MAX_EXACT
    assert rise_bound(lost * needed / n, gained * needed / n, needed) <= limit < rise_bound(lost, gained, n)
    fewer = max(n, math.floor(needed * 0.95))
    assert rise_bound(lost * fewer / n, gained * fewer / n, fewer) > limit
    whole = rise_bound(math.floor(lost * needed / n), math.ceil(gained * needed / n), needed)
    assert whole == pytest.approx(limit, abs=1.5 / needed + 0.005)


def test_many_pairs_to_prove_a_rise_are_about_right() -> None:
    needed = pairs_to_prove(2, 8, 150, 0.05)
    assert needed is not None
    assert needed > MAX_EXACT
    # The normal approximation of the upper limit of a difference of paired shares.
    share, rise = 10 / 150, 6 / 150
    assert needed == pytest.approx(1.645**2 * (share - rise**2) / (0.05 - rise) ** 2, rel=0.1)


@pytest.mark.parametrize(("lost", "gained"), [(0, 5), (1, 6), (0, 9)])
def test_no_number_of_pairs_proves_a_rise_at_its_limit(lost: int, gained: int) -> None:
    assert pairs_to_prove(lost, gained, 100, 0.05) is None
