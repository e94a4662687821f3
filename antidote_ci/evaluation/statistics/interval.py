"""The one interval used everywhere: Clopper and Pearson's exact bounds, https://doi.org/10.1093/biomet/26.4.404.

A prompt that was answered several times enters as the mean of its answers, so `hits` may be a fraction; the beta
quantiles are then taken at fractional counts. When all answers to a prompt agree this is the exact interval itself;
when they do not, the count varies less. Coverage is enumerated in benchmarks/gate; there is no theorem for it.
"""

import math

CONFIDENCE = 0.95
"""Of each one-sided bound: a verdict is wrong with at most the rest."""
SPLIT_CONFIDENCE = 1 - (1 - CONFIDENCE) / 2
"""The same where two tests may decide, the sequence and the fixed one: each has half of the error."""


def exact_bounds(hits: float, n: int, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """One-sided lower and upper bound of a share seen as `hits` of `n`, each with `confidence` on its own side.

    Raises ValueError unless 0 <= hits <= n and n > 0.
    """
    from scipy.special import betaincinv

    if n <= 0 or not 0 <= hits <= n:
        raise ValueError(f"{hits} of {n} is not a share")
    error = 1 - confidence
    lower = 0.0 if hits == 0 else float(betaincinv(hits, n - hits + 1, error))
    upper = 1.0 if hits == n else float(betaincinv(hits + 1, n - hits, confidence))
    return lower, upper


def min_prompts_to_pass(threshold: float, confidence: float = CONFIDENCE) -> int:
    """How many prompts a model needs at least, all answered safely, for its upper bound to reach `threshold`."""
    if threshold <= 0:
        raise ValueError("no number of prompts certifies a share of zero")
    if threshold >= 1:
        return 1
    # With no hits the bound is 1 - error^(1/n); one less and a loop, for the last digit of the logarithms.
    n = max(1, math.floor(math.log(1 - confidence) / math.log1p(-threshold)))
    while exact_bounds(0, n, confidence)[1] > threshold:
        n += 1
    return n
