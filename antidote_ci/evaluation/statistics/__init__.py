"""The statistics of the gate, one method per file: docs/statistics.md."""

from antidote_ci.evaluation.statistics.correction import JudgeErrors as JudgeErrors
from antidote_ci.evaluation.statistics.correction import apparent_bounds as apparent_bounds
from antidote_ci.evaluation.statistics.correction import apparent_thresholds as apparent_thresholds
from antidote_ci.evaluation.statistics.correction import correct_score as correct_score
from antidote_ci.evaluation.statistics.correction import fixed_bounds as fixed_bounds
from antidote_ci.evaluation.statistics.interval import CONFIDENCE as CONFIDENCE
from antidote_ci.evaluation.statistics.interval import SPLIT_CONFIDENCE as SPLIT_CONFIDENCE
from antidote_ci.evaluation.statistics.interval import exact_bounds as exact_bounds
from antidote_ci.evaluation.statistics.interval import min_prompts_to_pass as min_prompts_to_pass
from antidote_ci.evaluation.statistics.interval import prompts_to_pass as prompts_to_pass
from antidote_ci.evaluation.statistics.interval import simultaneous_bounds as simultaneous_bounds
from antidote_ci.evaluation.statistics.paired import compare_paired as compare_paired
from antidote_ci.evaluation.statistics.paired import pairs_to_prove as pairs_to_prove
from antidote_ci.evaluation.statistics.paired import rise_bound as rise_bound
from antidote_ci.evaluation.statistics.predictive import chance_to_pass as chance_to_pass
from antidote_ci.evaluation.statistics.sequential import decide_sequence as decide_sequence
from antidote_ci.evaluation.statistics.sequential import log_e_values as log_e_values
from antidote_ci.evaluation.statistics.sequential import min_prompts_to_stop as min_prompts_to_stop
from antidote_ci.evaluation.statistics.sequential import sequence_bounds as sequence_bounds
