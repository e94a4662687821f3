"""Bootstrap over attacks and prompts, and Holm's correction: arrays in, numbers out, float64.

A *stratum* holds the change of every prompt of one file between two models, -1, 0 or 1. A *cluster* is the list of the
strata of one attack. The statistic is the mean over clusters of the mean over strata of the mean over prompts.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

DRAWS = 10_000
LEVEL = 0.95

Stratum = NDArray[np.int8]
Cluster = Sequence[Stratum]


def mean_change(clusters: Sequence[Cluster]) -> float:
    """The statistic."""
    return float(np.mean([np.mean([stratum.mean() for stratum in cluster]) for cluster in clusters]))


def bootstrap(clusters: Sequence[Cluster], seed: int = 0) -> NDArray[np.float64]:
    """DRAWS values of the statistic: attacks are drawn with replacement, and the prompts of each file within them.

    https://en.wikipedia.org/wiki/Bootstrapping_(statistics)#Block_bootstrap. A draw of n values out of -1, 0 and 1
    has a multinomial distribution.
    """
    generator = np.random.default_rng(seed)
    count = len(clusters)
    drawn = generator.integers(count, size=(count, DRAWS))
    total = np.zeros(DRAWS)
    for place in range(count):
        for number, cluster in enumerate(clusters):
            is_drawn = drawn[place] == number
            total[is_drawn] += _draw_means(cluster, int(is_drawn.sum()), generator)
    return total / count


def _draw_means(cluster: Cluster, draws: int, generator: np.random.Generator) -> NDArray[np.float64]:
    means = np.zeros(draws)
    for stratum in cluster:
        shares = [np.mean(stratum == value) for value in (-1, 0, 1)]
        counts = generator.multinomial(len(stratum), shares, size=draws)
        means += (counts[:, 2] - counts[:, 0]) / len(stratum)
    return means / len(cluster)


def interval(values: NDArray[np.float64]) -> tuple[float, float]:
    """The percentile interval at LEVEL."""
    tail = 50 * (1 - LEVEL)
    low, high = np.percentile(values, [tail, 100 - tail])
    return float(low), float(high)


def p_value(values: NDArray[np.float64]) -> float:
    """Two-sided: twice the share of draws on the other side of zero, at least two draws."""
    side = min(np.sum(values <= 0), np.sum(values >= 0)) + 1
    return float(min(1.0, 2 * side / (len(values) + 1)))


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """The adjusted p-values: https://en.wikipedia.org/wiki/Holm%E2%80%93Bonferroni_method."""
    adjusted: dict[str, float] = {}
    largest = 0.0
    for position, name in enumerate(sorted(p_values, key=lambda name: p_values[name])):
        largest = max(largest, min(1.0, (len(p_values) - position) * p_values[name]))
        adjusted[name] = largest
    return adjusted
