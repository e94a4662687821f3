"""The gate as it runs: draw answers, look, stop or go on, decide by the exact bound at the end."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from antidote_ci.evaluation import statistics
from antidote_ci.evaluation.statistics.sequential import LOG_DECISION_BOUND, log_e_below

PASS, FAIL, OPEN = 1, -1, 0


@dataclass(frozen=True)
class Gate:
    """Limits of the count of harmful answers, in units of 1 / samples, at each look; the last decides by the bound."""

    moments: NDArray[np.int64]
    """After how many prompts the evidence is looked at, the last at n."""
    pass_at: NDArray[np.int64]
    """The largest count that passes by the sequence, -1 where none does."""
    fail_at: NDArray[np.int64]
    """The smallest count that fails by the sequence, beyond all counts where none does."""
    last_pass: int
    """The same at n, by the exact bound."""
    last_fail: int


@dataclass(frozen=True)
class Runs:
    """What came of many simulated runs."""

    verdict: NDArray[np.int64]
    used: NDArray[np.int64]
    """Prompts answered."""
    count: NDArray[np.int64]
    """Harmful answers among them, in units of 1 / samples."""
    by_sequence: NDArray[np.bool_]


def gate(
    moments: Sequence[int],
    threshold: float,
    samples: int = 1,
    errors: statistics.JudgeErrors | None = None,
) -> Gate:
    """The gate with looks after each of `moments`, the last of which is n."""
    for_pass, for_fail = statistics.apparent_thresholds(threshold, errors)
    pass_at, fail_at = [], []
    for n in moments:
        hits = np.arange(n * samples + 1) / samples
        passes = log_e_below(hits, n, for_pass) >= LOG_DECISION_BOUND if 0 < for_pass < 1 else np.zeros(len(hits), bool)
        fails = (
            log_e_below(n - hits, n, 1 - for_fail) >= LOG_DECISION_BOUND
            if 0 < for_fail < 1
            else np.zeros(len(hits), bool)
        )
        pass_at.append(int(passes.sum()) - 1)
        fail_at.append(len(hits) - int(fails.sum()))
    n = moments[-1]
    fixed = [
        statistics.fixed_bounds(count / samples, n, statistics.SPLIT_CONFIDENCE, errors)
        for count in range(n * samples + 1)
    ]
    return Gate(
        np.array(moments),
        np.array(pass_at),
        np.array(fail_at),
        sum(upper <= threshold for _, upper in fixed) - 1,
        sum(lower <= threshold for lower, _ in fixed),
    )


def run(rule: Gate, counts: NDArray[np.int64]) -> Runs:
    """The gate over many runs: `counts` is (runs, prompts), harmful answers of each prompt in the order asked."""
    seen = np.cumsum(counts, axis=1)[:, rule.moments - 1]
    passes, fails = seen <= rule.pass_at, seen >= rule.fail_at
    stops = passes | fails
    by_sequence = np.asarray(stops.any(axis=1))
    at = np.where(by_sequence, stops.argmax(axis=1), len(rule.moments) - 1)
    rows = np.arange(len(seen))
    last = seen[:, -1]
    fixed = np.where(last <= rule.last_pass, PASS, np.where(last >= rule.last_fail, FAIL, OPEN))
    verdict = np.where(by_sequence, np.where(passes[rows, at], PASS, FAIL), fixed)
    return Runs(verdict, rule.moments[at], seen[rows, at], by_sequence)


def answers(
    generator: np.random.Generator, runs: int, propensities: NDArray[np.float64], samples: int = 1
) -> NDArray[np.int64]:
    """Harmful answers of each prompt, of shape (runs, prompts); propensities of that shape or (prompts,)."""
    shape = (runs, propensities.shape[-1])
    if samples == 1:
        return (generator.random(shape) < propensities).astype(np.int64)
    return generator.binomial(samples, propensities, shape)


def propensities(
    generator: np.random.Generator, runs: int, n: int, score: float, correlation: float
) -> NDArray[np.float64]:
    """Of prompts drawn from a beta distribution with mean `score`; `correlation` of two answers to one prompt, 0..1."""
    if correlation <= 0 or score in (0, 1):
        return np.full((runs, n), score)
    if correlation >= 1:
        return (generator.random((runs, n)) < score).astype(float)
    size = 1 / correlation - 1
    return generator.beta(score * size, (1 - score) * size, (runs, n))
