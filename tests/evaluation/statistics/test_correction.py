"""Correction of the bounds for the errors of a judge, including judges that may be no better than chance."""

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from antidote_ci.evaluation.statistics import (
    JudgeErrors,
    apparent_thresholds,
    correct_score,
    exact_bounds,
    fixed_bounds,
)
from antidote_ci.evaluation.statistics.correction import apparent_bounds, correct_interval, judge_bounds

GOOD = JudgeErrors((180, 200), (240, 250))
WORSE = JudgeErrors((150, 200), (170, 250))
NOISY = JudgeErrors((190, 200), (200, 250))
CHANCE = JudgeErrors((11, 20), (10, 20))
SHARES = st.floats(0, 1)
QUALITIES = st.floats(0.55, 1)


@given(SHARES, QUALITIES, QUALITIES)
def test_corrected_score_inverts_the_errors(score: float, sensitivity: float, specificity: float) -> None:
    seen = score * sensitivity + (1 - score) * (1 - specificity)
    assert correct_score(seen, sensitivity, specificity) == pytest.approx(score, abs=1e-9)


def test_corrected_score_is_clamped_or_none() -> None:
    assert correct_score(0.1, 0.85, 0.85) == 0
    assert correct_score(0.1, 0.85, 0.95) == pytest.approx(0.0625)
    assert correct_score(0.99, 0.85, 0.95) == 1
    assert correct_score(0.5, 0.5, 0.5) is None


def interval(data: st.DataObject, strategy: st.SearchStrategy[float]) -> tuple[float, float]:
    low, high = sorted((data.draw(strategy), data.draw(strategy)))
    return low, high


@given(st.data())
def test_worst_corner_bounds_the_box(data: st.DataObject) -> None:
    """Every judge and score in the box has a true score within the corrected bounds."""
    sensitivity, specificity, apparent = (interval(data, shares) for shares in (QUALITIES, QUALITIES, SHARES))
    lower, upper = correct_interval(apparent, sensitivity, specificity)
    score = data.draw(SHARES)
    true_sensitivity = data.draw(st.floats(*sensitivity))
    true_specificity = data.draw(st.floats(*specificity))
    seen = score * true_sensitivity + (1 - score) * (1 - true_specificity)
    if apparent[0] <= seen <= apparent[1]:
        assert lower - 1e-9 <= score <= upper + 1e-9


@given(st.data(), st.booleans())
def test_contradiction_does_not_narrow_the_bounds(data: st.DataObject, below: bool) -> None:
    """The true score is within the bounds for any value of the contradicted error rate."""
    sensitivity, specificity = interval(data, QUALITIES), interval(data, QUALITIES)
    possible = st.floats(0, 1 - specificity[1]) if below else st.floats(sensitivity[1], 1)
    apparent = interval(data, possible)
    assume(apparent[1] < 1 - specificity[1] or apparent[0] > sensitivity[1])
    lower, upper = correct_interval(apparent, sensitivity, specificity)
    assert lower <= apparent[0] + 1e-12
    assert apparent[1] - 1e-12 <= upper
    score = data.draw(SHARES)
    true_sensitivity = data.draw(st.floats(sensitivity[0], sensitivity[1] if below else 1))
    true_specificity = data.draw(st.floats(specificity[0], 1 if below else specificity[1]))
    seen = score * true_sensitivity + (1 - score) * (1 - true_specificity)
    if apparent[0] <= seen <= apparent[1]:
        assert lower - 1e-9 <= score <= upper + 1e-9


def test_edge_of_the_calibration_is_not_a_contradiction() -> None:
    assert correct_interval((0.75, 0.9), (0.7, 0.75), (0.9, 0.95))[0] == 1.0
    assert correct_interval((0.0, 0.25), (0.9, 0.95), (0.7, 0.75))[1] == 0.0


def test_fewer_hits_than_false_alarms_do_not_prove_zero() -> None:
    uppers = [fixed_bounds(hits, 413, 0.95, NOISY)[1] for hits in (0, 30, 50)]
    assert uppers == pytest.approx([0.009, 0.111, 0.015], abs=5e-4)
    assert fixed_bounds(413, 413, 0.95, NOISY)[0] > 0.98


def fits(hits: float, confidence: float, judge: JudgeErrors) -> bool:
    """Whether some true score is consistent with `hits` of 200."""
    sensitivity, specificity = judge_bounds(judge, confidence)
    lower, upper = apparent_bounds(hits, 200, confidence, judge)
    return upper >= 1 - specificity[1] and lower <= sensitivity[1]


@given(st.integers(0, 200))
def test_judge_no_better_than_chance_gives_no_bounds(hits: int) -> None:
    assert fixed_bounds(hits, 200, 0.95, CHANCE) == (0, 1)
    assert apparent_thresholds(0.1, CHANCE) == (0, 1)
    assert correct_interval((0.2, 0.3), (0.5, 0.9), (0.5, 0.9)) == (0, 1)


@given(st.floats(0.5, 0.999))
def test_error_is_divided_among_the_bounds(confidence: float) -> None:
    part = 1 - 0.15 * (1 - confidence)
    sensitivity, specificity = judge_bounds(GOOD, confidence)
    assert sensitivity == pytest.approx(exact_bounds(180, 200, part))
    assert specificity == pytest.approx(exact_bounds(240, 250, part))


@given(st.integers(0, 200), st.integers(0, 200), st.sampled_from([GOOD, WORSE, NOISY]))
def test_fewer_hits_never_turn_pass_into_fail(one: int, other: int, judge: JudgeErrors) -> None:
    fewer, more = sorted((one, other))
    assert fixed_bounds(fewer, 200, 0.95, judge)[0] <= fixed_bounds(more, 200, 0.95, judge)[1]


@given(st.integers(0, 200), st.integers(0, 200))
def test_bounds_increase_with_consistent_hits(one: int, other: int) -> None:
    fewer, more = sorted((one, other))
    assume(fits(fewer, 0.95, GOOD) and fits(more, 0.95, GOOD))
    for low, high in zip(fixed_bounds(fewer, 200, 0.95, GOOD), fixed_bounds(more, 200, 0.95, GOOD), strict=True):
        assert low <= high


def test_more_labels_narrow_the_bounds() -> None:
    better_known = JudgeErrors((1800, 2000), (2400, 2500))
    assert fixed_bounds(20, 200, 0.95, better_known)[1] < fixed_bounds(20, 200, 0.95, GOOD)[1]
    assert fixed_bounds(20, 200, 0.95) == exact_bounds(20, 200, 0.95)


@given(st.floats(0.001, 0.999), st.integers(0, 200), st.sampled_from([GOOD, WORSE]))
def test_apparent_thresholds_decide_like_corrected_bounds(threshold: float, hits: int, judge: JudgeErrors) -> None:
    """The corrected bound exceeds the threshold exactly when the apparent bound exceeds the apparent threshold."""
    for_pass, for_fail = apparent_thresholds(threshold, judge)
    apparent = apparent_bounds(hits, 200, 0.975, judge)
    assert apparent == pytest.approx(exact_bounds(hits, 200, 1 - 0.025 * 0.7))
    assume(fits(hits, 0.975, judge))
    lower, upper = fixed_bounds(hits, 200, 0.975, judge)
    if abs(upper - threshold) > 1e-9:
        assert (upper <= threshold) == (apparent[1] <= for_pass)
    if abs(lower - threshold) > 1e-9:
        assert (lower > threshold) == (apparent[0] > for_fail)


def test_threshold_is_unchanged_without_calibration() -> None:
    assert apparent_thresholds(0.1) == (0.1, 0.1)
