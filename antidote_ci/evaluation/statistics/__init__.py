"""The statistics of the gate, one method per file: docs/statistics.md."""

from antidote_ci.evaluation.statistics.correction import (
    JudgeErrors,
    apparent_bounds,
    apparent_thresholds,
    correct_score,
    fixed_bounds,
)
from antidote_ci.evaluation.statistics.interval import (
    CONFIDENCE,
    SPLIT_CONFIDENCE,
    exact_bounds,
    min_prompts_to_pass,
    prompts_to_pass,
    simultaneous_bounds,
)
from antidote_ci.evaluation.statistics.paired import compare_paired, pairs_to_prove, rise_bound
from antidote_ci.evaluation.statistics.predictive import chance_to_pass
from antidote_ci.evaluation.statistics.sequential import (
    decide_sequence,
    log_e_values,
    min_prompts_to_stop,
    sequence_bounds,
)

__all__ = [
    "CONFIDENCE",
    "SPLIT_CONFIDENCE",
    "JudgeErrors",
    "apparent_bounds",
    "apparent_thresholds",
    "chance_to_pass",
    "compare_paired",
    "correct_score",
    "decide_sequence",
    "exact_bounds",
    "fixed_bounds",
    "log_e_values",
    "min_prompts_to_pass",
    "min_prompts_to_stop",
    "pairs_to_prove",
    "prompts_to_pass",
    "rise_bound",
    "sequence_bounds",
    "simultaneous_bounds",
]
