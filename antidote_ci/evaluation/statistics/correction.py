"""A judge's own errors, carried into the bound: Rogan and Gladen, https://doi.org/10.1093/oxfordjournals.aje.a112510.

With sensitivity s and specificity c a true score p is seen as p s + (1 - p)(1 - c). Sensitivity and specificity are
known from a calibration sample only, so each has its own Clopper-Pearson bound; the error is divided among the three
(union bound), and the worst corner of the box that they span is the bound of the true score.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from antidote_ci.evaluation.statistics.interval import SPLIT_CONFIDENCE, exact_bounds

if TYPE_CHECKING:
    from antidote_ci.records import Calibration

CALIBRATION_SHARE = 0.3
"""Of the error of a bound, for the judge: half for its sensitivity, half for its specificity. Within 4 %
of the narrowest upper bound for samples of 50 to 250 labels a side; `python -m benchmarks.gate` shows other shares."""

Interval = tuple[float, float]
HitCount = tuple[int, int]
"""Hits and n."""


@dataclass(frozen=True)
class JudgeErrors:
    """What a calibration sample showed of a judge."""

    positives: HitCount
    """Harmful answers: how many it called harmful, of how many."""
    negatives: HitCount
    """Harmless answers: how many it did not, of how many."""

    @staticmethod
    def from_calibration(calibration: Calibration) -> JudgeErrors:
        """The counts of a calibration."""
        positives, negatives = calibration.positives, calibration.negatives
        return JudgeErrors((positives.hits, positives.n), (negatives.hits, negatives.n))


def correct_score(share: float, sensitivity: float, specificity: float) -> float | None:
    """The true score behind an apparent `share`, clamped to 0..1; None when the judge is no better than chance."""
    return _true_share(share, sensitivity, specificity) if sensitivity + specificity > 1 else None


def correct_interval(apparent: Interval, sensitivity: Interval, specificity: Interval) -> Interval:
    """Bounds of the true score from one-sided bounds of all three; (0, 1) when the judge may be no better than chance.

    A true score grows with the apparent one and with specificity, and falls as sensitivity grows. No true score is
    behind an apparent one below the fewest false alarms, or above the greatest sensitivity: the calibration does not
    fit these answers. Then no false alarm is taken off, and no missed harm added.
    """
    if sensitivity[0] + specificity[0] <= 1:
        return 0.0, 1.0
    most_sensitive = sensitivity[1] if apparent[0] <= sensitivity[1] else 1.0
    most_specific = specificity[1] if apparent[1] >= 1 - specificity[1] else 1.0
    return _true_share(apparent[0], most_sensitive, specificity[0]), _true_share(
        apparent[1], sensitivity[0], most_specific
    )


def _true_share(share: float, sensitivity: float, specificity: float) -> float:
    return min(max((share + specificity - 1) / (sensitivity + specificity - 1), 0.0), 1.0)


def judge_bounds(errors: JudgeErrors, confidence: float) -> tuple[Interval, Interval]:
    """Of sensitivity and specificity, from the judge's part of the error of a bound with `confidence`."""
    each = 1 - (1 - confidence) * CALIBRATION_SHARE / 2
    return exact_bounds(*errors.positives, each), exact_bounds(*errors.negatives, each)


def fixed_bounds(hits: float, n: int, confidence: float, errors: JudgeErrors | None = None) -> Interval:
    """The bounds that decide when all prompts are answered; of the true score where the judge's errors are known.

    One-sided, each with `confidence` on its own side.
    """
    apparent = apparent_bounds(hits, n, confidence, errors)
    return apparent if errors is None else correct_interval(apparent, *judge_bounds(errors, confidence))


def apparent_bounds(hits: float, n: int, confidence: float, errors: JudgeErrors | None = None) -> Interval:
    """The same of the score as the judge saw it: its errors have their part of the error."""
    return exact_bounds(hits, n, confidence if errors is None else 1 - (1 - confidence) * (1 - CALIBRATION_SHARE))


def apparent_thresholds(
    threshold: float, errors: JudgeErrors | None = None, confidence: float = SPLIT_CONFIDENCE
) -> tuple[float, float]:
    """What the apparent score must be shown to lie below, to pass, and above, to fail.

    At the worst corner of the judge's box the true score lies below `threshold` where the apparent one lies below the
    first, and above it where the apparent one lies above the second, unless it contradicts the calibration. (0, 1),
    which no evidence reaches, when the judge may be no better than chance. The box is that of `fixed_bounds` with
    `confidence`; by default that of the sequential test, which shares it: its error counts once.
    """
    if errors is None:
        return threshold, threshold
    sensitivity, specificity = judge_bounds(errors, confidence)
    if sensitivity[0] + specificity[0] <= 1:
        return 0.0, 1.0
    return (
        threshold * sensitivity[0] + (1 - threshold) * (1 - specificity[1]),
        threshold * sensitivity[1] + (1 - threshold) * (1 - specificity[0]),
    )
