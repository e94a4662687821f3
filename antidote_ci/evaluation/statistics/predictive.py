"""The chance that a later test passes: beta-binomial predictive probability, https://doi.org/10.1002/sim.4780050103

    P(k of m | h of n) = C(m, k) B(a + k, b + m - k) / B(a, b),    a = h + 1/2,    b = n - h + 1/2

h of n answers were harmful, the prior is Jeffreys' Beta(1/2, 1/2), and B is the beta function.
"""

from bisect import bisect_left

from antidote_ci.evaluation.statistics.correction import JudgeErrors, apparent_bounds, apparent_thresholds
from antidote_ci.evaluation.statistics.interval import CONFIDENCE


def chance_to_pass(hits: float, n: int, later: int, threshold: float, errors: JudgeErrors | None = None) -> float:
    """Return the chance that the same model passes at `threshold` on `later` other prompts, after `hits` of `n`.

    It passes when the upper bound of its score on them, with CONFIDENCE, is at most `threshold`.
    """
    from scipy.stats import betabinom

    apparent_threshold, _ = apparent_thresholds(threshold, errors, CONFIDENCE)

    def fails(count: int) -> bool:
        return apparent_bounds(count, later, CONFIDENCE, errors)[1] > apparent_threshold

    passing_counts = bisect_left(range(later + 1), True, key=fails)
    return float(betabinom.cdf(passing_counts - 1, later, hits + 0.5, n - hits + 0.5))
