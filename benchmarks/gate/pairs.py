"""How often the upper bound of a paired rise holds the truth, by enumeration: Tango's limit beside the exact bound."""

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln, xlogy
from scipy.stats import norm

from antidote_ci.evaluation.statistics import CONFIDENCE
from antidote_ci.evaluation.statistics.paired import (
    acceptance_region,
    max_probability,
    rise_bound,
    score_bound,
    score_statistic,
)

LOST = np.concatenate([[0.0, 0.001, 0.002], np.linspace(0.005, 0.5, 100)])
"""True shares of pairs that change for the better."""
RISES = (0.0, 0.01, 0.02, 0.05, 0.1)


def lowest(n: int) -> tuple[float, float]:
    """The lowest coverage found, of Tango's limit and of the exact bound.

    The true rises are round ones and, where coverage falls, those just above a bound that few changed pairs give.
    """
    lost, gained = _outcomes(n)
    tango = score_bounds(lost, gained, n)
    order = np.argsort(tango, kind="stable")
    lost, gained, tango = lost[order], gained[order], tango[order]
    few = [(0, 0), (0, 1), (0, 2), (1, 1)]
    of_tango = [*RISES, *(score_bound(*each, n) + 1e-6 for each in few)]
    of_exact = [*RISES, *(rise_bound(*each, n) + 1e-6 for each in few)]
    return (
        min(_coverage(lost, gained, n, int((tango < rise).sum()), rise) for rise in of_tango),
        min(_coverage(lost, gained, n, _refuting(lost, gained, n, rise), rise) for rise in of_exact),
    )


def score_bounds(lost: NDArray[np.float64], gained: NDArray[np.float64], n: int) -> NDArray[np.float64]:
    """Tango's limit of every outcome at once, by bisection."""
    quantile = float(norm.ppf(CONFIDENCE))
    low, high = (gained - lost) / n, np.ones(len(lost))
    for _ in range(50):
        middle = (low + high) / 2
        inside = score_statistic(lost, gained, n, middle) > -quantile
        low, high = np.where(inside, middle, low), np.where(inside, high, middle)
    return np.asarray(np.where(gained == n, 1.0, high))


def _outcomes(n: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    lost, gained = np.meshgrid(np.arange(n + 1.0), np.arange(n + 1.0), indexing="ij")
    possible = lost + gained <= n
    return lost[possible], gained[possible]


def _refuting(lost: NDArray[np.float64], gained: NDArray[np.float64], n: int, rise: float) -> int:
    """How many outcomes, the best ones first, have an exact bound below `rise`: the bound grows along Tango's order."""
    low, high = 0, len(lost)
    while low < high:
        middle = (low + high) // 2
        region = acceptance_region(int(lost[middle]), int(gained[middle]), n)
        if max_probability(region, n, rise) < 1 - CONFIDENCE:
            low = middle + 1
        else:
            high = middle
    return low


def _coverage(lost: NDArray[np.float64], gained: NDArray[np.float64], n: int, refuting: int, rise: float) -> float:
    b, c = lost[:refuting], gained[:refuting]
    log_ways = gammaln(n + 1) - gammaln(b + 1) - gammaln(c + 1) - gammaln(n - b - c + 1)
    covered = 1.0
    for share in LOST:
        same = 1 - 2 * share - rise
        if same >= 0:
            chances = np.exp(log_ways + xlogy(b, share) + xlogy(c, share + rise) + xlogy(n - b - c, same))
            covered = min(covered, 1 - float(chances.sum()))
    return covered
