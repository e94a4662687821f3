"""Search the smallest dose that passes the policy; evaluate the controls and the Pareto frontier of all methods."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import get_args

from antidote_ci.evaluation import statistics
from antidote_ci.evaluation.gate import compare_evaluations
from antidote_ci.evaluation.measure import Evaluator, PromptSets, evaluate_model
from antidote_ci.evaluation.shortfalls import (
    SetName,
    Shortfall,
    describe_shortfall,
    expect_bounds,
    find_expected_shortfall,
    find_kind_shortfalls,
    find_rise_shortfalls,
    find_shortfalls,
)
from antidote_ci.pipeline.candidates import (
    CandidateFactory,
    MethodMasks,
    build_method_masks,
    prepare_trial,
)
from antidote_ci.policy import Policy, RepairSection
from antidote_ci.records import (
    ControlResult,
    DoseAttempt,
    Evaluation,
    FrontierPoint,
    Method,
    Model,
    ScoreMethod,
    TaskResult,
)
from antidote_ci.repair.methods import LADDER_DOSES, TENTHS

FRONTIER_DOSES = 6
"""Doses per method."""
SIGNIFICANCE_LEVEL = 0.05

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class SearchContext:
    """Inputs of every trial of a dose."""

    candidates: CandidateFactory
    evaluator: Evaluator
    settings: RepairSection
    selection: PromptSets
    confirmation: PromptSets
    before: Evaluation
    """Evaluation of the unrepaired model on the selection prompts."""


def search_bytes(policy: Policy, weights: int, entries: int) -> int:
    """Disk space in bytes for scores and search (and the frontier, if enabled) on a model of `weights` bytes."""
    settings = policy.repair
    # The chosen candidate; and the one on trial, which only a server needs on disk.
    candidates_at_once = 1 if policy.evaluation.server is None else 2
    # The frontier adds the masks of the other score methods and of `random`.
    masks = LADDER_DOSES + (len(get_args(ScoreMethod)) * FRONTIER_DOSES if settings.frontier else 0)
    # Masks have one bit per entry, scores of taylor four bytes, and the gains and costs that they are made of eight.
    scores = 4 * entries if settings.method == "taylor" or settings.frontier else 0
    return max(2 * scores, candidates_at_once * weights + entries * masks // 8 + scores)


def find_smallest_dose(search: SearchContext, method: MethodMasks) -> tuple[float | None, list[DoseAttempt]]:
    """The smallest dose that passes the policy on the selection prompts, or None, and every attempt.

    On these prompts the measured values are within their limits. The confirmation needs their bounds within them, so a
    dose whose bounds are expected to be narrow enough there comes before a smaller one whose bounds are not.
    """
    attempts: list[DoseAttempt] = []

    def attempt(dose: float) -> DoseOutcome:
        evaluation = _try_dose(search, method, dose, search.selection, curtailed=True)
        shortfalls = _find_shortfalls(search, evaluation, search.before, proven=False)
        harm = _expect_harm(search, evaluation)
        misses = [] if shortfalls else [*harm, *_expect_rises(search, evaluation)]
        attempts.append(_to_attempt(search, method, dose, evaluation, shortfalls, misses))
        logger.info("%s %s", method.method, _describe_attempt(attempts[-1]))
        return DoseOutcome(passes=not shortfalls, is_safe=not harm, is_confirmable=not misses)

    return find_smallest_passing(method.doses, attempt), attempts


def nearest_attempts(attempts: Sequence[DoseAttempt]) -> list[DoseAttempt]:
    """The attempts in ascending order of how far their measured values are above the limits in total."""
    return sorted(attempts, key=lambda attempt: (attempt.excess, attempt.dose))


def describe_nearest(attempts: Sequence[DoseAttempt]) -> str:
    """The two nearest attempts by ascending dose, and their unmet requirements, as text.

    Often the smaller dose leaves too much harm and the larger one costs too much.
    """
    nearest = sorted(nearest_attempts(attempts)[:2], key=lambda attempt: attempt.dose)
    return "; ".join(map(_describe_attempt, nearest))


def measure_controls(
    search: SearchContext,
    repair: MethodMasks,
    dose: float,
    after: Evaluation,
    before: Evaluation,
    reference: Evaluation | None,
) -> list[ControlResult]:
    """Evaluate two baselines on the confirmation prompts, as `before`, the unrepaired model, and `reference` were.

    `random` covers as many entries as the repair. `scale` gets its own dose search; if no dose passes, the nearest one
    is reported. A control only has to show whether it passes too, so its evaluation ends when it cannot pass any more.
    """
    random = build_method_masks(search.candidates, "random", [dose], repair)
    scale = build_method_masks(search.candidates, "scale", TENTHS, repair)
    scale_dose, attempts = find_smallest_dose(search, scale)
    results = []
    for control, tried in ((scale, scale_dose or nearest_attempts(attempts)[0].dose), (random, dose)):
        evaluation = _try_dose(search, control, tried, search.confirmation, curtailed=True)
        results.append(
            ControlResult(
                method=control.method,
                dose=tried,
                effective_dose=control.effective_dose(tried),
                evaluation=evaluation,
                lacks=[
                    shortfall.text
                    for shortfall in (
                        *_find_shortfalls(search, evaluation, before, proven=True),
                        *find_kind_shortfalls(evaluation, reference),
                    )
                ],
                costs_more=is_costlier(evaluation.task, after.task),
            )
        )
    return results


def is_costlier(control: TaskResult | None, repair: TaskResult | None) -> bool:
    """Whether a control solves significantly fewer task prompts than the repair (exact McNemar test, 5 %)."""
    if control is None or repair is None:
        return False
    change = statistics.compare_paired(control.right, repair.right)
    return change.rise > 0 and change.p_value < SIGNIFICANCE_LEVEL


def measure_frontier(
    search: SearchContext, methods: Sequence[MethodMasks], chosen: float | None, reference: Model | None
) -> list[FrontierPoint]:
    """Evaluate several doses of every method on all selection prompts; of the first method also the `chosen` dose.

    The unrepaired model is listed as `scale` at dose 0, the reference as `scale` at dose 1.
    """
    points = [_to_frontier_point(search, "scale", 0.0, 0.0, search.before)]
    for method in methods:
        doses = {*spread_doses(method.doses), *([chosen] if chosen is not None and method is methods[0] else [])}
        for dose in sorted(doses):
            evaluation = _try_dose(search, method, dose, search.selection, curtailed=False)
            points.append(_to_frontier_point(search, method.method, dose, method.effective_dose(dose), evaluation))
    if reference is not None:
        evaluation = evaluate_model(search.evaluator, reference, search.selection, search.candidates.on_progress)
        points.append(_to_frontier_point(search, "scale", 1.0, 1.0, evaluation))
    return points


def spread_doses(doses: Sequence[float]) -> list[float]:
    """At most FRONTIER_DOSES evenly spread elements of `doses`, including the first and the last."""
    if len(doses) <= FRONTIER_DOSES:
        return list(doses)
    last = len(doses) - 1
    return [doses[round(last * step / (FRONTIER_DOSES - 1))] for step in range(FRONTIER_DOSES)]


def _try_dose(
    search: SearchContext, method: MethodMasks, dose: float, prompts: PromptSets, *, curtailed: bool
) -> Evaluation:
    """Evaluate the model repaired with one dose."""
    with prepare_trial(search.candidates, method, dose) as model:
        return evaluate_model(search.evaluator, model, prompts, search.candidates.on_progress, curtailed=curtailed)


def _find_shortfalls(
    search: SearchContext, evaluation: Evaluation, before: Evaluation, *, proven: bool
) -> list[Shortfall]:
    """Unmet requirements. An evaluation that stopped early is decided by its harmful prompts and not compared."""
    limits = search.evaluator.gate
    is_complete = evaluation.n == evaluation.planned
    changes = compare_evaluations(before, evaluation, limits) if is_complete else []
    return find_shortfalls(evaluation, changes, limits, proven=proven)


def _expect_harm(search: SearchContext, evaluation: Evaluation) -> list[Shortfall]:
    """The harm for which a dose is not expected to pass on the confirmation prompts."""
    prompts, calibrations = len(search.confirmation.harmful), search.evaluator.calibrations
    expected = find_expected_shortfall(evaluation, search.evaluator.gate, prompts, calibrations)
    return [] if expected is None else [expected]


def _expect_rises(search: SearchContext, evaluation: Evaluation) -> list[Shortfall]:
    """The limits that a passing dose misses on the confirmation prompts if its measured rises stay the same."""
    confirmation = search.confirmation
    counts: dict[SetName, int] = {
        "harmful prompts": len(confirmation.harmful),
        "harmless prompts": len(confirmation.benign),
        "task prompts": len(confirmation.task),
    }
    changes = compare_evaluations(search.before, evaluation, search.evaluator.gate)
    return find_rise_shortfalls(expect_bounds(changes, counts), proven=True)


def _to_attempt(
    search: SearchContext,
    method: MethodMasks,
    dose: float,
    evaluation: Evaluation,
    shortfalls: Sequence[Shortfall],
    misses: Sequence[Shortfall],
) -> DoseAttempt:
    return DoseAttempt(
        dose=dose,
        effective_dose=method.effective_dose(dose),
        harmful_score=evaluation.harmful_score,
        over_refusal=evaluation.benign.over_refusal if evaluation.benign else None,
        task_accuracy=evaluation.task.accuracy if evaluation.task else None,
        degenerate=evaluation.degenerate,
        passes=not shortfalls,
        lacks=[shortfall.text for shortfall in shortfalls],
        n=evaluation.n,
        planned=evaluation.planned,
        expected_misses=[describe_shortfall(miss, search.settings) for miss in misses],
        excess=sum(shortfall.excess for shortfall in shortfalls),
    )


def _to_frontier_point(
    search: SearchContext, method: Method, dose: float, effective_dose: float, evaluation: Evaluation
) -> FrontierPoint:
    task = evaluation.task
    return FrontierPoint(
        method=method,
        dose=dose,
        effective_dose=effective_dose,
        harmful_score=evaluation.harmful_score,
        bounds=evaluation.bounds,
        task_accuracy=task.accuracy if task else None,
        task_bounds=statistics.exact_bounds(round(task.accuracy * task.n), task.n) if task else None,
        over_refusal=evaluation.benign.over_refusal if evaluation.benign else None,
        degenerate=evaluation.degenerate,
        passes=not _find_shortfalls(search, evaluation, search.before, proven=False),
    )


def _describe_attempt(attempt: DoseAttempt) -> str:
    early = f" (stopped after {attempt.n} of {attempt.planned} harmful prompts)" if attempt.n < attempt.planned else ""
    result = "passes, but is expected to miss a limit of the confirmation" if attempt.expected_misses else "passes"
    return f"dose {attempt.dose:g}: {'; '.join(attempt.lacks) or result}{early}"


@dataclass(frozen=True)
class DoseOutcome:
    """Result of one trial."""

    passes: bool
    is_safe: bool
    """The dose is expected to remove enough harm: a smaller dose may do so at a lower cost. Otherwise only a larger one
    may pass."""
    is_confirmable: bool = True
    """A dose that passes is expected to pass on the confirmation prompts too."""


def find_smallest_passing(ladder: Sequence[float], attempt: Callable[[float], DoseOutcome]) -> float | None:
    """The smallest dose of an ascending `ladder` that passes, or None.

    Of the doses that pass, the smallest confirmable one is returned, else the smallest safe one, else the smallest.

    Bisection: harm falls and cost rises with the dose, up to the noise of a finite set of prompts. At most
    ceil(log2(n + 1)) of n doses are tried, none twice.
    """
    low, high = 0, len(ladder)
    outcomes: dict[float, DoseOutcome] = {}
    while low < high:
        middle = (low + high) // 2
        outcome = outcomes[ladder[middle]] = attempt(ladder[middle])
        if outcome.is_safe:
            high = middle
        else:
            low = middle + 1

    def preference(dose: float) -> tuple[bool, bool, float]:
        return not outcomes[dose].is_confirmable, not outcomes[dose].is_safe, dose

    return min((dose for dose, outcome in outcomes.items() if outcome.passes), key=preference, default=None)
