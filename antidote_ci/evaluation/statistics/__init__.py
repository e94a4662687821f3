"""The statistics of the gate: docs/statistics.md. One file a method; numbers in, numbers out."""

from antidote_ci.evaluation.statistics.correction import (
    JudgeErrors,
    apparent_bounds,
    apparent_thresholds,
    corrected,
    fixed_bounds,
)
from antidote_ci.evaluation.statistics.interval import (
    CONFIDENCE,
    SPLIT_CONFIDENCE,
    bounds,
    smallest_n_that_can_pass,
)
from antidote_ci.evaluation.statistics.paired import compare
from antidote_ci.evaluation.statistics.sequential import (
    decision,
    log_e_values,
    sequence_bounds,
    smallest_n_that_can_stop,
    trace,
)

__all__ = [
    "CONFIDENCE",
    "SPLIT_CONFIDENCE",
    "JudgeErrors",
    "apparent_bounds",
    "apparent_thresholds",
    "bounds",
    "compare",
    "corrected",
    "decision",
    "fixed_bounds",
    "log_e_values",
    "sequence_bounds",
    "smallest_n_that_can_pass",
    "smallest_n_that_can_stop",
    "trace",
]
