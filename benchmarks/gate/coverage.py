"""How often the bound that decides holds the truth: enumerated where possible, else simulated."""

import functools
import math
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.special import bdtr, betaln

from antidote_ci.evaluation import statistics
from antidote_ci.evaluation.statistics.correction import correct_interval
from antidote_ci.evaluation.statistics.interval import exact_bounds
from benchmarks.gate import stopping

GRID = np.linspace(0, 1, 101)
cached_bounds = functools.cache(exact_bounds)


def plain(sizes: Iterable[int]) -> tuple[float, int]:
    """The lowest coverage of either side over all true scores, and its n.

    Exact: coverage falls only where a true score passes a bound, so those places are tried beside a grid.
    """
    return min((_plain(n), n) for n in sizes)


def _plain(n: int) -> float:
    lower, upper = np.array([exact_bounds(hits, n) for hits in range(n + 1)]).T
    scores = np.unique(np.concatenate([GRID, np.nextafter(upper, 2), np.nextafter(lower, -1)]).clip(0, 1))
    too_low = np.searchsorted(upper, scores)  # counts whose upper bound is below the score
    too_high = np.searchsorted(lower, scores, side="right")  # the first count whose lower bound is above it
    below = np.where(too_low > 0, bdtr(np.maximum(too_low - 1, 0.0), n, scores), 0)
    above = np.where(too_high <= n, 1 - bdtr(np.maximum(too_high - 1, 0.0), n, scores), 0)
    return 1 - float(max(below.max(), above.max()))


def clustered(n: int, samples: int, correlation: float) -> float:
    """The lowest coverage of either side over all true scores, each of n prompts answered `samples` times. Exact."""
    lower, upper = np.array([exact_bounds(count / samples, n) for count in range(n * samples + 1)]).T
    steps = np.concatenate([np.nextafter(upper, 2), np.nextafter(lower, -1)])
    scores = np.concatenate([GRID, steps[:: max(1, len(steps) // 400)]]).clip(0, 1)
    missed = 0.0
    for score in scores:
        chances = np.cumsum(_sum_of_prompts(n, samples, float(score), correlation))
        too_low, too_high = np.searchsorted(upper, score), np.searchsorted(lower, score, side="right")
        missed = max(
            missed,
            chances[too_low - 1] if too_low > 0 else 0.0,
            1 - chances[too_high - 1] if too_high < len(lower) else 0.0,
        )
    return 1 - missed


def _sum_of_prompts(n: int, samples: int, score: float, correlation: float) -> NDArray[np.float64]:
    """Chances of 0..n * samples harmful answers of n prompts, the propensity of each drawn from a beta distribution."""
    counts = np.arange(samples + 1)
    ways = np.array([math.comb(samples, int(count)) for count in counts])
    if score in (0, 1) or correlation >= 1:
        one = np.zeros(samples + 1)
        one[0], one[-1] = 1 - score, score
    elif correlation <= 0:
        one = ways * score**counts * (1 - score) ** (samples - counts)
    else:
        size = 1 / correlation - 1
        a, b = score * size, (1 - score) * size
        one = ways * np.exp(betaln(counts + a, samples - counts + b) - betaln(a, b))
    length = n * samples + 1
    # Convolving n times is a power of the spectrum.
    return np.fft.irfft(np.fft.rfft(one, 2 * length) ** n, 2 * length)[:length].clip(0)


def judged(
    generator: np.random.Generator,
    simulations: int,
    n: int,
    score: float,
    judge: tuple[float, float],
    sizes: tuple[int, int],
) -> float:
    """Coverage of the corrected bounds, the worse side; `judge`: sensitivity and specificity, on `sizes` labels."""
    (sensitivity, specificity), (positive, negative) = judge, sizes
    hits = generator.binomial(n, score * sensitivity + (1 - score) * (1 - specificity), simulations)
    positives = generator.binomial(positive, sensitivity, simulations)
    negatives = generator.binomial(negative, specificity, simulations)
    found = np.array(
        [
            _corrected(hit, n, (p, positive), (m, negative))
            for hit, p, m in zip(hits.tolist(), positives.tolist(), negatives.tolist(), strict=True)
        ]
    )
    return 1 - float(max((found[:, 0] > score).mean(), (found[:, 1] < score).mean()))


_corrected = functools.cache(
    lambda hits, n, positives, negatives: statistics.fixed_bounds(
        hits, n, statistics.CONFIDENCE, statistics.JudgeErrors(positives, negatives)
    )
)


def stopped(
    generator: np.random.Generator,
    simulations: int,
    moments: Sequence[int],
    threshold: float,
    score: float,
    *,
    samples: int = 1,
    correlation: float = 0.0,
) -> float:
    """Coverage of the bound that decided, sequence or fixed, the worse side."""
    rule = stopping.gate(moments, threshold, samples)
    prompts = stopping.propensities(generator, simulations, moments[-1], score, correlation)
    runs = stopping.run(rule, stopping.answers(generator, simulations, prompts, samples))
    return 1 - max(missed(runs, score, samples, None))


def stopped_and_judged(
    generator: np.random.Generator,
    simulations: int,
    moments: Sequence[int],
    threshold: float,
    score: float,
    judge: tuple[float, float],
    sizes: tuple[int, int],
) -> tuple[float, float]:
    """The same with a calibrated judge, and its standard error: each calibration serves 25 runs."""
    (sensitivity, specificity), (positive, negative) = judge, sizes
    apparent = np.full(moments[-1], score * sensitivity + (1 - score) * (1 - specificity))
    missing = []
    for _ in range(max(2, simulations // 25)):
        errors = statistics.JudgeErrors(
            (int(generator.binomial(positive, sensitivity)), positive),
            (int(generator.binomial(negative, specificity)), negative),
        )
        rule = stopping.gate(moments, threshold, errors=errors)
        missing.append(missed(stopping.run(rule, stopping.answers(generator, 25, apparent)), score, 1, errors))
    sides = np.array(missing)
    worse = int(sides.mean(axis=0).argmax())
    return 1 - float(sides[:, worse].mean()), float(sides[:, worse].std() / math.sqrt(len(sides)))


def missed(
    runs: stopping.Runs, score: float, samples: int, errors: statistics.JudgeErrors | None
) -> tuple[float, float]:
    """Shares of runs whose lower bound is above the true score, and whose upper bound is below it."""

    @functools.cache
    def deciding(count: int, n: int, by_sequence: bool) -> tuple[float, float]:
        if by_sequence:
            return statistics.sequence_bounds(count / samples, n, errors)
        return statistics.fixed_bounds(count / samples, n, statistics.SPLIT_CONFIDENCE, errors)

    ends = zip(runs.count.tolist(), runs.used.tolist(), runs.by_sequence.tolist(), strict=True)
    found = np.array([deciding(*each) for each in ends])
    return float((found[:, 0] > score).mean()), float((found[:, 1] < score).mean())


def widths(
    generator: np.random.Generator, n: int, score: float, judge: tuple[float, float], sizes: tuple[int, int]
) -> dict[float, float]:
    """Mean distance of the corrected upper bound from the true score, by the calibration's share of the error."""
    (sensitivity, specificity), (positive, negative) = judge, sizes
    draws = 400
    hits = generator.binomial(n, score * sensitivity + (1 - score) * (1 - specificity), draws).tolist()
    positives = generator.binomial(positive, sensitivity, draws).tolist()
    negatives = generator.binomial(negative, specificity, draws).tolist()
    error = 1 - statistics.CONFIDENCE
    return {
        share: float(
            np.mean(
                [
                    correct_interval(
                        cached_bounds(hit, n, 1 - error * (1 - share)),
                        cached_bounds(p, positive, 1 - error * share / 2),
                        cached_bounds(m, negative, 1 - error * share / 2),
                    )[1]
                    - score
                    for hit, p, m in zip(hits, positives, negatives, strict=True)
                ]
            )
        )
        for share in (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7)
    }
