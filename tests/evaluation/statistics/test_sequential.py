"""The sequential test: error rates by enumeration, validity of the e-values, bounds."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.stats import beta, binom

from antidote_ci.evaluation import statistics
from antidote_ci.evaluation.statistics.sequential import (
    ERROR_PER_SIDE,
    LOG_DECISION_BOUND,
    log_e_below,
)

THRESHOLDS = (0.01, 0.1, 0.35, 0.9)


@pytest.mark.parametrize("threshold", THRESHOLDS)
@pytest.mark.parametrize(("hits", "n"), [(0, 1), (1, 1), (0, 30), (2.5, 30), (6, 30), (3, 3)])
def test_closed_form_equals_the_integral(hits: float, n: int, threshold: float) -> None:
    def ratio(q: float) -> float:
        return math.pow(q / threshold, hits) * math.pow((1 - q) / (1 - threshold), n - hits)

    # q = sin(angle)^2 turns the prior Beta(1/2, 1/2) into a uniform one.
    end = math.asin(math.sqrt(threshold))
    mixture = quad(lambda angle: ratio(math.sin(angle) ** 2), 0, end)[0] / end
    assert float(log_e_below(hits, n, threshold)) == pytest.approx(math.log(mixture), abs=1e-7)


@pytest.mark.parametrize("threshold", THRESHOLDS)
@pytest.mark.parametrize("n", [1, 2, 10, 100, 1000])
def test_expected_e_value_is_at_most_1_under_the_null(threshold: float, n: int) -> None:
    hits = np.arange(n + 1.0)
    for score in (threshold, (1 + threshold) / 2, 1.0):
        log_weights = binom.logpmf(hits, n, score)
        expected = np.exp(log_weights + log_e_below(hits, n, threshold))[np.isfinite(log_weights)].sum()
        assert expected <= 1 + 1e-9
        if score == threshold:
            # The expectation over a mixture of the alternative is 1, except for the truncated underflow.
            assert expected == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("threshold", THRESHOLDS)
def test_expected_e_value_is_at_most_1_for_shares(threshold: float) -> None:
    """Observations are means of two draws, with the threshold as expectation."""
    expected = sum(
        weight * math.exp(float(log_e_below(share, 1, threshold)))
        for share, weight in (
            (0.0, (1 - threshold) ** 2),
            (0.5, 2 * threshold * (1 - threshold)),
            (1.0, threshold**2),
        )
    )
    assert expected < 1


@pytest.mark.parametrize("threshold", [0.05, 0.1, 0.5])
def test_error_rate_with_a_look_after_every_answer(threshold: float) -> None:
    """Exact, from the probabilities of all counts that have not stopped; the fixed bound decides at the end."""
    n = 300
    alive = np.array([1.0])
    passed = failed = 0.0
    for answered in range(1, n + 1):
        alive = np.append(alive, 0) * (1 - threshold) + np.append(0, alive) * threshold
        hits = np.arange(answered + 1.0)
        passes = log_e_below(hits, answered, threshold) >= LOG_DECISION_BOUND
        fails = log_e_below(answered - hits, answered, 1 - threshold) >= LOG_DECISION_BOUND
        passed, failed = passed + alive[passes].sum(), failed + alive[fails].sum()
        alive[passes | fails] = 0
    by_sequence = passed, failed
    for hit, chance in enumerate(alive):
        lower, upper = statistics.fixed_bounds(hit, n, statistics.SPLIT_CONFIDENCE)
        passed += chance * (upper <= threshold)
        failed += chance * (lower > threshold)
    assert max(by_sequence) <= ERROR_PER_SIDE
    assert max(passed, failed) <= 0.05


@given(st.integers(1, 3000), st.floats(0, 1), st.floats(0.001, 0.999))
def test_e_values_are_finite(n: int, share: float, threshold: float) -> None:
    """Finite at any distance from the threshold, because records cannot hold infinities."""
    assert all(map(math.isfinite, statistics.log_e_values(share * n, n, threshold, threshold)))


@pytest.mark.parametrize(
    ("hits", "n", "threshold"), [(400, 400, 0.05), (900, 1000, 0.1), (1000, 1000, 0.4), (2000, 3000, 0.3)]
)
def test_underflow_gives_a_lower_bound(hits: int, n: int, threshold: float) -> None:
    import mpmath

    mixture = mpmath.betainc(hits + 0.5, n - hits + 0.5, 0, threshold) / mpmath.betainc(0.5, 0.5, 0, threshold)
    null = hits * mpmath.log(threshold) + (n - hits) * mpmath.log1p(-threshold)
    exact = float(mpmath.log(mixture) - null)
    assert exact - 1 < float(log_e_below(hits, n, threshold)) < exact


def test_e_value_at_the_limit_decides() -> None:
    assert statistics.decide_sequence(LOG_DECISION_BOUND, 0.0) == "pass"
    assert statistics.decide_sequence(0.0, LOG_DECISION_BOUND) == "fail"
    assert statistics.decide_sequence(LOG_DECISION_BOUND - 1e-9, LOG_DECISION_BOUND - 1e-9) is None


@given(st.integers(1, 400), st.floats(0, 1), st.floats(0.01, 0.99))
def test_e_values_are_symmetric(n: int, share: float, threshold: float) -> None:
    hits = share * n
    for_pass, for_fail = statistics.log_e_values(hits, n, threshold, threshold)
    mirrored = statistics.log_e_values(n - hits, n, 1 - threshold, 1 - threshold)
    assert (for_fail, for_pass) == pytest.approx(mirrored, rel=1e-6, abs=1e-6)


@pytest.mark.parametrize("threshold", THRESHOLDS)
def test_evidence_to_pass_decreases_with_hits(threshold: float) -> None:
    evidence = log_e_below(np.arange(401.0), 400, threshold)
    assert (np.diff(evidence) < 0.05).all()  # a small step where the incomplete beta underflows
    decides = evidence >= LOG_DECISION_BOUND
    assert not (~decides[:-1] & decides[1:]).any()


@settings(deadline=None)
@given(st.integers(1, 400), st.floats(0, 1), st.floats(0.02, 0.98))
def test_bounds_and_e_values_agree(n: int, share: float, threshold: float) -> None:
    hits = share * n
    lower, upper = statistics.sequence_bounds(hits, n)
    assert 0 <= lower <= share + 1e-9
    assert share - 1e-9 <= upper <= 1
    for_pass, for_fail = statistics.log_e_values(hits, n, threshold, threshold)
    if abs(upper - threshold) > 1e-6:
        assert (upper <= threshold) == (for_pass >= LOG_DECISION_BOUND)
    if abs(lower - threshold) > 1e-6:
        assert (lower > threshold) == (for_fail >= LOG_DECISION_BOUND)


def test_sequence_bounds_contain_the_exact_bounds() -> None:
    for hits, n in ((0, 60), (5, 100), (50, 500)):
        lower, upper = statistics.sequence_bounds(hits, n)
        fixed = statistics.exact_bounds(hits, n, statistics.SPLIT_CONFIDENCE)
        assert lower <= fixed[0]
        assert upper > fixed[1]


def test_calibration_widens_the_bounds() -> None:
    known = statistics.JudgeErrors((180, 200), (240, 250))
    plain, judged = statistics.sequence_bounds(100, 200), statistics.sequence_bounds(100, 200, known)
    assert judged[1] - judged[0] > plain[1] - plain[0]


@pytest.mark.parametrize("threshold", [0.05, 0.1, 0.35, 0.95, 0.98, 0.99])
def test_min_prompts_to_stop_is_minimal(threshold: float) -> None:
    n = int(statistics.min_prompts_to_stop(threshold))
    evidence = [statistics.log_e_values(0, answers, threshold, threshold) for answers in range(1, n + 1)]
    assert [statistics.decide_sequence(*values) for values in evidence] == [None] * (n - 1) + ["pass"]


@given(st.floats(0.005, 0.995))
def test_min_prompts_to_stop_reaches_the_decision_bound(threshold: float) -> None:
    n = int(statistics.min_prompts_to_stop(threshold))
    assert statistics.log_e_values(0.0, n, threshold, threshold)[0] >= LOG_DECISION_BOUND
    assert n == 1 or statistics.log_e_values(0.0, n - 1, threshold, threshold)[0] < LOG_DECISION_BOUND


@pytest.mark.parametrize("threshold", [0.0, 1.0])
def test_thresholds_0_and_1_never_decide(threshold: float) -> None:
    assert statistics.log_e_values(3, 5, threshold, threshold) == (0, 0)
    assert statistics.min_prompts_to_stop(threshold) == math.inf


def test_prior_is_a_truncated_beta() -> None:
    """After one safe answer the e-value is the prior mean of (1 - q), divided by 1 - threshold."""
    prior = beta(0.5, 0.5)
    mean = prior.expect(lambda q: 1 - q, lb=0, ub=0.2, conditional=True)
    assert math.exp(float(log_e_below(0, 1, 0.2))) == pytest.approx(mean / 0.8)
