"""Paired comparison of the same prompts before and after a repair: exact McNemar test, exact upper bound of the rise.

McNemar (https://doi.org/10.1007/BF02295996): under the null hypothesis a changed pair is equally likely in either
direction, so the test is binomial.

The bound is Buehler's (https://doi.org/10.1080/01621459.1957.10501404): the largest rise under which an outcome at
most as bad as the observed one has a probability of 1 - CONFIDENCE, maximised over the share of lost pairs. Outcomes
are ordered by Tango's score test (https://doi.org/10.1002/(SICI)1097-0258(19980430)17:8<891::AID-SIM780>3.0.CO;2-B).
Tango's own limit is approximate: its coverage is 0.93 when a repair loses answers and gains none (benchmarks/gate).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING

from antidote_ci.evaluation.statistics.interval import CONFIDENCE, smallest_count
from antidote_ci.records import PairedComparison

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

GRID_POINTS = 129
"""Grid points over the share of lost pairs, in the search for the maximum."""
REFINEMENT_POINTS = 65
"""Grid points around each peak."""
TOLERANCE = 1e-3
"""Peaks this close to the highest grid point are refined: eight times the largest error observed."""
MAX_EXACT = 1000
"""Number of pairs up to which `min_pairs` and `pairs_to_prove` use the exact bound, which takes about a second."""


def compare_paired(before: Mapping[str, bool], after: Mapping[str, bool]) -> PairedComparison:
    """Return the 2x2 table of a property by prompt id, with the p-value and the bound of the rise.

    Raises ValueError when the prompts differ or are empty.
    """
    from scipy.stats import binomtest

    if before.keys() != after.keys() or not before:
        raise ValueError(
            f"the prompts of the two evaluations differ, or there are none ({len(before)} and {len(after)})"
        )
    pairs = [(before[prompt], after[prompt]) for prompt in before]
    lost, gained = pairs.count((True, False)), pairs.count((False, True))
    return PairedComparison(
        both=pairs.count((True, True)),
        only_before=lost,
        only_after=gained,
        neither=pairs.count((False, False)),
        p_value=float(binomtest(gained, lost + gained).pvalue) if lost + gained else 1.0,
        rise=(gained - lost) / len(pairs),
        rise_bound=rise_bound(lost, gained, len(pairs)),
    )


def score_statistic(
    only_before: float | NDArray[np.float64],
    only_after: float | NDArray[np.float64],
    n: int,
    rise: float | NDArray[np.float64],
) -> NDArray[np.float64]:
    """Return Tango's statistic under a true `rise`, asymptotically standard normal; elementwise."""
    import numpy as np

    b, c = np.asarray(only_before, float), np.asarray(only_after, float)
    # The maximum likelihood share of `only_before` under this rise: the root of 2n q^2 + B q + C.
    linear = (2 * n - c + b) * rise - b - c
    constant = -b * rise * (1 - rise)
    share = (np.sqrt(np.maximum(linear**2 - 8 * n * constant, 0)) - linear) / (4 * n)
    variance = np.maximum(n * (2 * share + rise * (1 - rise)), 1e-300)
    return np.asarray((c - b - n * rise) / np.sqrt(variance))


def score_bound(only_before: float, only_after: float, n: int) -> float:
    """Return Tango's upper limit of the rise: approximate, but a good order of the outcomes."""
    from scipy.optimize import brentq
    from scipy.stats import norm

    if only_after == n:
        return 1.0
    quantile = float(norm.ppf(CONFIDENCE))
    observed = (only_after - only_before) / n
    return float(
        brentq(
            lambda rise: float(score_statistic(only_before, only_after, n, rise)) + quantile, observed + 1e-9, 1 - 1e-12
        )
    )


@lru_cache(maxsize=4096)
def rise_bound(only_before: float, only_after: float, n: int) -> float:
    """Return the exact one-sided upper bound of the rise: of `n` pairs `only_after` gained, `only_before` lost.

    Fractions are the expected counts of an outcome: the bound is then that of the outcomes at most as bad.
    """
    from scipy.optimize import brentq

    if only_after == n:
        return 1.0
    region = acceptance_region(only_before, only_after, n)
    return float(
        brentq(
            lambda rise: max_probability(region, n, rise) - (1 - CONFIDENCE),
            (only_after - only_before) / n + 1e-9,
            1 - 1e-9,
            xtol=1e-7,
        )
    )


def acceptance_region(only_before: float, only_after: float, n: int) -> NDArray[np.float64]:
    """Return the outcomes at most as bad as this one: for each number lost, 0..n, the largest number gained, or -1."""
    import numpy as np
    from scipy.stats import norm

    limit = score_bound(only_before, only_after, n)
    # Includes ties, and so the observed outcome.
    max_score = -float(norm.ppf(CONFIDENCE)) + 1e-7
    lost = np.arange(n + 1.0)
    # The score grows with the number gained.
    inside, outside = np.full(n + 1, -1.0), n + 1 - lost
    while (outside - inside > 1).any():
        middle = np.floor((inside + outside) / 2)
        is_inside = score_statistic(lost, middle, n, limit) <= max_score
        inside, outside = np.where(is_inside, middle, inside), np.where(is_inside, outside, middle)
    return inside


def max_probability(region: NDArray[np.float64], n: int, rise: float) -> float:
    """Return the probability of an `acceptance_region` under a true `rise`, maximised over the share of lost pairs."""
    import numpy as np

    low, high = max(0.0, -rise), (1 - rise) / 2
    # The probability has several peaks, narrower towards both ends.
    shares = low + (high - low) * np.sin(np.linspace(0, math.pi / 2, GRID_POINTS)) ** 2
    values = region_probability(region, n, shares, rise)
    left, right = np.concatenate([[-1.0], values[:-1]]), np.concatenate([values[1:], [-1.0]])
    peaks = np.flatnonzero((values > left) & (values >= right) & (values > values.max() - TOLERANCE))
    refined = [
        np.linspace(shares[max(peak - 1, 0)], shares[min(peak + 1, GRID_POINTS - 1)], REFINEMENT_POINTS)
        for peak in peaks.tolist()
    ]
    return float(max([values.max(), *(region_probability(region, n, grid, rise).max() for grid in refined)]))


def region_probability(
    region: NDArray[np.float64], n: int, lost: NDArray[np.float64], rise: float
) -> NDArray[np.float64]:
    """Return the probability of an `acceptance_region` at each share of `lost` pairs, with `rise` more gained pairs."""
    import numpy as np
    from scipy.special import bdtr
    from scipy.stats import binom

    counts = np.flatnonzero(region >= 0)
    share = lost[:, None]
    gained = np.clip((share + rise) / np.maximum(1 - share, 1e-300), 0, 1)
    terms = binom.pmf(counts, n, share) * bdtr(region[counts], n - counts, gained)
    return np.asarray(terms.sum(axis=1))


def min_pairs(limit: float, available: int = 0) -> int:
    """Return the fewest pairs with which a repair that changes no answer can prove a rise of at most `limit`.

    Above MAX_EXACT and `available` the result is only a lower bound of that number. Raises ValueError unless limit > 0.
    """
    if limit <= 0:
        raise ValueError("no number of pairs shows a rise of zero")
    if limit >= 1:
        return 1
    # Unchanged pairs have a probability of at least (1 - limit)^n, so the bound is at least that of no hits.
    # 1e-7 covers rounding of the logarithms and of the bound.
    n = math.ceil(math.log(1 - CONFIDENCE) / math.log1p(-limit) - 1e-7)
    while n <= max(available, MAX_EXACT) and rise_bound(0, 0, n) > limit:
        n += 1
    return n


def pairs_to_prove(only_before: int, only_after: int, n: int, limit: float) -> int | None:
    """Return about how many pairs prove a rise of at most `limit` when the shares of the changed pairs stay as in `n`.

    The bound of `n` pairs must be above the limit. Up to MAX_EXACT the exact bound of the result is within the limit,
    and the result is a few percent above the smallest such number: Tango's limit gives the first candidate, which grows
    in steps of 2 %. Beyond, Tango's limit replaces the exact bound.
    None when no number up to `interval.MAX_COUNT` is enough, as for a rise at the limit or above it.
    """

    def scale(pairs: int) -> tuple[float, float, int]:
        return only_before * pairs / n, only_after * pairs / n, pairs

    needed = smallest_count(lambda pairs: score_bound(*scale(pairs)) <= limit, n)
    while needed is not None and needed <= MAX_EXACT and rise_bound(*scale(needed)) > limit:
        needed += max(1, needed // 50)
    return needed
