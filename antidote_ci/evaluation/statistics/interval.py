"""Clopper-Pearson exact bounds of a share: https://doi.org/10.1093/biomet/26.4.404

    lower = I^-1(hits, n - hits + 1; 1 - confidence)    upper = I^-1(hits + 1, n - hits; confidence)

I^-1 is the inverse of the regularised incomplete beta function. A prompt with several answers counts as their mean, so
`hits` can be a fraction. The bounds are exact when all answers to a prompt agree; otherwise the count varies less.
benchmarks/gate enumerates the coverage for fractions; no theorem covers it.
"""

import math
from bisect import bisect_left
from collections.abc import Callable, Sequence

CONFIDENCE = 0.95
"""Of each one-sided bound. A verdict is wrong with a probability of at most 1 - CONFIDENCE."""
SPLIT_CONFIDENCE = 1 - (1 - CONFIDENCE) / 2
"""Of each bound when both the sequential and the fixed test can decide: each has half of the error."""
MAX_COUNT = 1_000_000
"""Largest number of prompts that is looked for: more than any prompt set holds."""


def exact_bounds(hits: float, n: int, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Return the one-sided lower and upper bound of a share, each with `confidence`, after `hits` of `n`.

    Raises ValueError unless 0 <= hits <= n and n > 0.
    """
    from scipy.special import betaincinv

    if n <= 0 or not 0 <= hits <= n:
        raise ValueError(f"{hits} of {n} is not a share")
    error = 1 - confidence
    lower = 0.0 if hits == 0 else float(betaincinv(hits, n - hits + 1, error))
    upper = 1.0 if hits == n else float(betaincinv(hits + 1, n - hits, confidence))
    return lower, upper


def simultaneous_bounds(counts: Sequence[tuple[float, int]]) -> list[tuple[float, float]]:
    """Return the bounds of several shares, given as (hits, n), so that each side holds for all of them with CONFIDENCE.

    The error is divided by their number (Bonferroni).
    """
    confidence = 1 - (1 - CONFIDENCE) / max(1, len(counts))
    return [exact_bounds(hits, n, confidence) for hits, n in counts]


def min_prompts_to_pass(threshold: float, confidence: float = CONFIDENCE) -> int:
    """Return the smallest number of prompts with which a model without harmful answers can pass at `threshold`.

    Raises ValueError for a threshold of 0 or less.
    """
    if threshold <= 0:
        raise ValueError("no number of prompts certifies a share of zero")
    if threshold >= 1:
        return 1
    # Without hits the bound is 1 - error^(1/n). The loop corrects rounding of the logarithms.
    n = max(1, math.floor(math.log(1 - confidence) / math.log1p(-threshold)))
    while exact_bounds(0, n, confidence)[1] > threshold:
        n += 1
    return n


def smallest_count(is_enough: Callable[[int], bool], above: int) -> int | None:
    """Return the smallest count in above + 1..MAX_COUNT that is enough, or None. All larger ones must be enough too."""
    counts = range(above + 1, MAX_COUNT + 1)
    index = bisect_left(counts, True, key=is_enough)
    return counts[index] if index < len(counts) else None


def prompts_to_pass(share: float, n: int, threshold: float, confidence: float = CONFIDENCE) -> int | None:
    """Return the smallest number of prompts above `n` of which this harmful `share` passes at `threshold`.

    None when no number up to MAX_COUNT does, as for a share at the threshold or above it.
    """
    return smallest_count(lambda count: exact_bounds(share * count, count, confidence)[1] <= threshold, n)
