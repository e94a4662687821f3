"""Anytime-valid sequential test of a score against a threshold: one beta-mixture e-process per side.

The e-value is the likelihood ratio of Bernoulli(q) against Bernoulli(threshold), averaged over q with a Beta(1/2, 1/2)
prior that is truncated to the alternative: below the threshold to pass, above it to fail. Under the null hypothesis its
expectation is at most 1 at any stopping time, so it ever reaches 1/error with a probability of at most `error` (Ville):
https://arxiv.org/abs/2210.01948, and for mixtures https://arxiv.org/abs/1810.08240

Observations can be any shares from 0 to 1, such as the mean of the answers to a prompt: the ratio a^x b^(1-x) is convex
in x, so it is at most the line between its values at 0 and 1, whose expectation depends on the mean only.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

from antidote_ci.evaluation.statistics.correction import JudgeErrors, correct_interval, judge_bounds
from antidote_ci.evaluation.statistics.interval import SPLIT_CONFIDENCE

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

ERROR_PER_SIDE = 1 - SPLIT_CONFIDENCE
"""Error of each side of the test; the fixed bound at the last prompt has the same."""
LOG_DECISION_BOUND = math.log(1 / ERROR_PER_SIDE)
"""Natural logarithm of the e-value that decides."""
MIN_PROBABILITY = 1e-290
"""Below this value the incomplete beta function is inexact."""


def log_e_values(hits: float, n: int, for_pass: float, for_fail: float) -> tuple[float, float]:
    """Return the natural logarithms of the e-values against `score >= for_pass` and `score <= for_fail`.

    `for_pass` and `for_fail` are the same threshold, or `apparent_thresholds`. At 0 and 1 the e-value is 1.
    """
    below = float(log_e_below(hits, n, for_pass)) if 0 < for_pass < 1 else 0.0
    above = float(log_e_below(n - hits, n, 1 - for_fail)) if 0 < for_fail < 1 else 0.0
    return below, above


def log_e_below(
    hits: float | NDArray[np.float64], n: float | NDArray[np.float64], threshold: float
) -> NDArray[np.float64]:
    """Return the natural logarithm of the e-value against `score >= threshold`, 0 < threshold < 1; elementwise."""
    import numpy as np
    from scipy.special import betainc, betaln

    hits, n = np.asarray(hits, float), np.asarray(n, float)
    a, b = hits + 0.5, n - hits + 0.5
    log_prior = betaln(0.5, 0.5) + math.log(betainc(0.5, 0.5, threshold))
    below = betainc(a, b, threshold)
    log_mixture = betaln(a, b) + np.log(np.maximum(below, MIN_PROBABILITY))
    log_null = hits * math.log(threshold) + (n - hits) * math.log1p(-threshold)
    # Far above the threshold the incomplete beta underflows. The first term of its series
    # (https://dlmf.nist.gov/8.17.E8), in which the likelihoods cancel, is a valid lower bound.
    log_first_term = 0.5 * (math.log(threshold) + math.log1p(-threshold)) - np.log(a)
    return np.asarray(np.where(below > MIN_PROBABILITY, log_mixture - log_null, log_first_term) - log_prior)


def decide_sequence(for_pass: float, for_fail: float) -> Literal["pass", "fail"] | None:
    """Return the verdict that the evidence of `log_e_values` proves, or None."""
    if for_pass >= LOG_DECISION_BOUND:
        return "pass"
    return "fail" if for_fail >= LOG_DECISION_BOUND else None


def sequence_bounds(hits: float, n: int, errors: JudgeErrors | None = None) -> tuple[float, float]:
    """Return one-sided bounds of the score that hold at all n simultaneously: the thresholds that are not rejected.

    With `errors` they are bounds of the true score.
    """
    apparent = 1 - _upper_bound(n - hits, n), _upper_bound(hits, n)
    if errors is None:
        return apparent
    return correct_interval(apparent, *judge_bounds(errors, SPLIT_CONFIDENCE))


def _upper_bound(hits: float, n: int) -> float:
    from scipy.optimize import brentq

    def excess(threshold: float) -> float:
        return float(log_e_below(hits, n, threshold)) + math.log(ERROR_PER_SIDE)

    # At the observed share the likelihood of the mixture is below the maximum: no evidence.
    low, high = max(hits / n, 1e-12), 1 - 1e-12
    if low >= high or excess(high) < 0:
        return 1.0
    return float(brentq(excess, low, high, xtol=1e-12))


def min_prompts_to_stop(threshold: float) -> float:
    """Return after how many prompts without harmful answers the test passes; infinite at a threshold of 0 or 1."""
    from scipy.optimize import brentq

    if not 0 < threshold < 1:
        return math.inf

    def excess(n: float) -> float:
        return float(log_e_below(0.0, n, threshold)) - LOG_DECISION_BOUND

    high = 1.0
    while excess(high) < 0:
        high *= 2
    return math.ceil(brentq(excess, 0.0, high, xtol=1e-6)) if high > 1 else 1
