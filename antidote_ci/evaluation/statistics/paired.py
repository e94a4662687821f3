"""The same prompts before and after a repair: exact McNemar, and an exact upper bound of how much a share rose.

McNemar, https://doi.org/10.1007/BF02295996: given the pairs that changed, each direction is a coin's toss.

The bound is Buehler's, https://doi.org/10.1080/01621459.1957.10501404: of all rises under which an outcome at most this
bad still has the probability `error`, the largest, at whatever share of pairs changes for the better. What is "at most
this bad" is ordered by Tango's score test, https://doi.org/10.1002/(SICI)1097-0258(19980430)17:8<891::AID-SIM780>3.0.CO;2-B.
Tango's own limit holds 95 % only about: 0.93 where a repair worsens answers and betters none, as benchmarks/gate shows.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

from antidote_ci.evaluation.statistics.interval import CONFIDENCE
from antidote_ci.records import PairedComparison

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

GRID_POINTS = 129
"""Shares of lost pairs among which the worst is sought."""
REFINEMENT_POINTS = 65
"""The same around a peak that lies between two of them."""
TOLERANCE = 1e-3
"""How far below the highest a peak may seem to be, and yet be the highest: eight times the most that was seen."""
COUNTED = 1000
"""Up to so many pairs a needed number is found exactly, though fewer are at hand: a second's work."""


def compare_paired(before: Mapping[str, bool], after: Mapping[str, bool]) -> PairedComparison:
    """The 2x2 table of a property by prompt id, with its test and its bound.

    Raises ValueError when the prompts are not the same, or there are none.
    """
    from scipy.stats import binomtest

    if before.keys() != after.keys() or not before:
        raise ValueError(f"a paired comparison needs the same prompts twice, not {len(before)} and {len(after)}")
    pairs = [(before[identity], after[identity]) for identity in before]
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
    """Tango's statistic of a supposed `rise`, about standard normal when it is true; elementwise."""
    import numpy as np

    b, c = np.asarray(only_before, float), np.asarray(only_after, float)
    # The likeliest share of `only_before` under the supposed rise, the root of 2n q^2 + B q + C.
    linear = (2 * n - c + b) * rise - b - c
    constant = -b * rise * (1 - rise)
    share = (np.sqrt(np.maximum(linear**2 - 8 * n * constant, 0)) - linear) / (4 * n)
    variance = np.maximum(n * (2 * share + rise * (1 - rise)), 1e-300)
    return np.asarray((c - b - n * rise) / np.sqrt(variance))


def score_bound(only_before: int, only_after: int, n: int) -> float:
    """Tango's upper limit of the rise: not exact, but a good order of the outcomes."""
    from scipy.optimize import brentq
    from scipy.stats import norm

    if only_after == n:
        return 1.0
    quantile = float(norm.ppf(CONFIDENCE))
    seen = (only_after - only_before) / n
    return float(
        brentq(lambda rise: float(score_statistic(only_before, only_after, n, rise)) + quantile, seen + 1e-9, 1 - 1e-12)
    )


def rise_bound(only_before: int, only_after: int, n: int) -> float:
    """Exact one-sided upper bound of the rise, when `only_after` of `n` pairs gained and `only_before` lost."""
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


def acceptance_region(only_before: int, only_after: int, n: int) -> NDArray[np.float64]:
    """The outcomes at most as bad as this one: for each number lost, 0..n, the largest number gained, or -1."""
    import numpy as np
    from scipy.stats import norm

    limit = score_bound(only_before, only_after, n)
    # Ties belong to it, this outcome first of all.
    most = -float(norm.ppf(CONFIDENCE)) + 1e-7
    lost = np.arange(n + 1.0)
    # The score grows with the number gained.
    inside, outside = np.full(n + 1, -1.0), n + 1 - lost
    while (outside - inside > 1).any():
        middle = np.floor((inside + outside) / 2)
        good = score_statistic(lost, middle, n, limit) <= most
        inside, outside = np.where(good, middle, inside), np.where(good, outside, middle)
    return inside


def max_probability(region: NDArray[np.float64], n: int, rise: float) -> float:
    """The largest probability of a `region` of `acceptance_region` under a true `rise`, over the share of pairs
    that is lost."""
    import numpy as np

    low, high = max(0.0, -rise), (1 - rise) / 2
    # The probability has several peaks, narrower towards both ends.
    shares = low + (high - low) * np.sin(np.linspace(0, math.pi / 2, GRID_POINTS)) ** 2
    found = region_probability(region, n, shares, rise)
    before, after = np.concatenate([[-1.0], found[:-1]]), np.concatenate([found[1:], [-1.0]])
    peaks = np.flatnonzero((found > before) & (found >= after) & (found > found.max() - TOLERANCE))
    around = [
        np.linspace(shares[max(at - 1, 0)], shares[min(at + 1, GRID_POINTS - 1)], REFINEMENT_POINTS)
        for at in peaks.tolist()
    ]
    return float(max([found.max(), *(region_probability(region, n, each, rise).max() for each in around)]))


def region_probability(
    region: NDArray[np.float64], n: int, lost: NDArray[np.float64], rise: float
) -> NDArray[np.float64]:
    """Of a `region` of `acceptance_region`, at each share of pairs that is `lost`, `rise` more being gained."""
    import numpy as np
    from scipy.special import bdtr
    from scipy.stats import binom

    before = np.flatnonzero(region >= 0)
    share = lost[:, None]
    gained = np.clip((share + rise) / np.maximum(1 - share, 1e-300), 0, 1)
    terms = binom.pmf(before, n, share) * bdtr(region[before], n - before, gained)
    return np.asarray(terms.sum(axis=1))


def min_pairs(limit: float, at_hand: int = 0) -> int:
    """The fewest pairs with which a repair that changes nothing shows a rise of at most `limit`, 0 < limit <= 1.

    Beyond COUNTED and beyond what is `at_hand` it is only known that no fewer do.
    """
    if limit <= 0:
        raise ValueError("no number of pairs shows a rise of zero")
    if limit >= 1:
        return 1
    # All pairs unchanged has a probability of at least (1 - limit)^n; the bound is that of no hits, or a little above.
    # One ten-millionth less, for the last digits of the logarithms and of the bound.
    n = math.ceil(math.log(1 - CONFIDENCE) / math.log1p(-limit) - 1e-7)
    while n <= max(at_hand, COUNTED) and rise_bound(0, 0, n) > limit:
        n += 1
    return n
