"""Doses tried: the smallest that passes the policy, the controls beside it, and the frontier of all methods."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar, get_args

from antidote_ci.evaluation import gate, statistics
from antidote_ci.evaluation.measure import Evaluator, PromptSets, evaluate_model
from antidote_ci.evaluation.paired_changes import compare_evaluations
from antidote_ci.pipeline import candidates
from antidote_ci.pipeline.candidates import (
    Candidate,
    CandidateFactory,
    MethodMasks,
    build_method_masks,
    temporary_candidate,
)
from antidote_ci.policy import RepairSection
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
"""Of each method."""
SIGNIFICANCE_LEVEL = 0.05


@dataclass(frozen=True)
class SearchContext:
    """What every dose is tried with."""

    candidates: CandidateFactory
    evaluator: Evaluator
    selection: PromptSets
    before: Evaluation
    """The input model on the same prompts."""
    print: Callable[[str], None]


def search_bytes(settings: RepairSection, weights: int, entries: int) -> int:
    """Disk for the search of a dose in `weights` bytes of so many entries, and for the frontier where it is wanted."""
    # Of the frontier, the masks of the other scores and of `random`.
    masks = LADDER_DOSES + (len(get_args(ScoreMethod)) * FRONTIER_DOSES if settings.frontier else 0)
    return candidates.candidate_bytes(weights, entries, masks, taylor=settings.method == "taylor" or settings.frontier)


def find_smallest_dose(search: SearchContext, method: MethodMasks) -> tuple[float | None, list[DoseAttempt]]:
    """The smallest dose that passes the policy on the selection prompts, and every attempt."""
    limits = search.evaluator.gate

    def attempt(dose: float) -> DoseOutcome[DoseAttempt]:
        with temporary_candidate(search.candidates, method, dose) as made:
            found = evaluate_model(
                search.evaluator, made.model, search.selection, search.candidates.report, curtailed=True
            )
        tried = _to_attempt(made, found, _find_shortfalls(search, found))
        search.print(f"  {method.method} {_describe_attempt(tried)}")
        enough = found.bounds[1] <= limits.harmful_score
        return DoseOutcome(tried, tried.passes, enough and not tried.passes)

    return find_smallest_passing(method.doses, attempt)


def nearest_attempt(attempts: Sequence[DoseAttempt]) -> DoseAttempt:
    """The attempt that lacked least."""
    return min(attempts, key=lambda each: (len(each.lacks), each.harmful_score))


def describe_nearest(attempts: Sequence[DoseAttempt]) -> str:
    """That attempt and what it lacked, in words."""
    return _describe_attempt(nearest_attempt(attempts))


def measure_controls(
    search: SearchContext,
    repair: MethodMasks,
    chosen: Candidate,
    after: Evaluation,
    before: Evaluation,
    confirmation: PromptSets,
) -> list[ControlResult]:
    """What two simple tricks do with the confirmation prompts, on which the input model is `before`.

    `scale` has a search of its own, and where no shrink passes its best one is shown; `random` covers as many entries
    as the repair.
    """
    random = build_method_masks(search.candidates, "random", [chosen.dose], repair)
    scale = build_method_masks(search.candidates, "scale", TENTHS, repair)
    dose, attempts = find_smallest_dose(search, scale)
    dosed = [(scale, dose or nearest_attempt(attempts).dose), (random, chosen.dose)]
    found = []
    for control, dose in dosed:
        with temporary_candidate(search.candidates, control, dose) as made:
            evaluation = evaluate_model(search.evaluator, made.model, confirmation, search.candidates.report)
        limits = search.evaluator.gate
        found.append(
            ControlResult(
                method=control.method,
                dose=dose,
                effective_dose=made.applied.effective_dose,
                evaluation=evaluation,
                lacks=gate.find_shortfalls(
                    evaluation, compare_evaluations(before, evaluation, limits), limits, proven=True
                ),
                costs_more=is_costlier(evaluation.task, after.task),
            )
        )
    return found


def is_costlier(control: TaskResult | None, repair: TaskResult | None) -> bool:
    """Whether a control gets significantly fewer task prompts right than the repair (exact McNemar test, 5 %)."""
    if control is None or repair is None:
        return False
    found = statistics.compare_paired(control.right, repair.right)
    return found.rise > 0 and found.p_value < SIGNIFICANCE_LEVEL


def measure_frontier(
    search: SearchContext, remedies: Sequence[MethodMasks], chosen: float | None, reference: Model | None
) -> list[FrontierPoint]:
    """Several doses of every method on the selection prompts, whole; of the first also the `chosen` one.

    The input model is `scale` at dose 0, the reference `scale` at dose 1.
    """
    points = [_to_frontier_point(search, "scale", 0.0, 0.0, search.before)]
    for method in remedies:
        doses = {*spread_doses(method.doses), *([chosen] if chosen is not None and method is remedies[0] else [])}
        for dose in sorted(doses):
            with temporary_candidate(search.candidates, method, dose) as made:
                found = evaluate_model(search.evaluator, made.model, search.selection, search.candidates.report)
            points.append(_to_frontier_point(search, method.method, dose, made.applied.effective_dose, found))
    if reference is not None:
        found = evaluate_model(search.evaluator, reference, search.selection, search.candidates.report)
        points.append(_to_frontier_point(search, "scale", 1.0, 1.0, found))
    return points


def spread_doses(doses: Sequence[float]) -> list[float]:
    """At most FRONTIER_DOSES of them, evenly, with the first and the last."""
    if len(doses) <= FRONTIER_DOSES:
        return list(doses)
    last = len(doses) - 1
    return [doses[round(last * step / (FRONTIER_DOSES - 1))] for step in range(FRONTIER_DOSES)]


def _find_shortfalls(search: SearchContext, found: Evaluation) -> list[str]:
    """Prompts that were not asked are not compared: the harmful ones have settled it by then."""
    limits = search.evaluator.gate
    rises = compare_evaluations(search.before, found, limits) if found.n == found.planned else []
    return gate.find_shortfalls(found, rises, limits, proven=False)


def _to_attempt(made: Candidate, found: Evaluation, lacks: list[str]) -> DoseAttempt:
    return DoseAttempt(
        dose=made.dose,
        effective_dose=made.applied.effective_dose,
        harmful_score=found.harmful_score,
        over_refusal=found.benign.over_refusal if found.benign else None,
        task_accuracy=found.task.accuracy if found.task else None,
        degenerate=found.degenerate,
        passes=not lacks,
        lacks=lacks,
        n=found.n,
        planned=found.planned,
    )


def _to_frontier_point(
    search: SearchContext, method: Method, dose: float, effective_dose: float, found: Evaluation
) -> FrontierPoint:
    task = found.task
    return FrontierPoint(
        method=method,
        dose=dose,
        effective_dose=effective_dose,
        harmful_score=found.harmful_score,
        bounds=found.bounds,
        task_accuracy=task.accuracy if task else None,
        task_bounds=statistics.exact_bounds(round(task.accuracy * task.n), task.n) if task else None,
        over_refusal=found.benign.over_refusal if found.benign else None,
        degenerate=found.degenerate,
        passes=not _find_shortfalls(search, found),
    )


def _describe_attempt(tried: DoseAttempt) -> str:
    early = f" (stopped after {tried.n} of {tried.planned} harmful prompts)" if tried.n < tried.planned else ""
    return f"dose {tried.dose:g}: {'; '.join(tried.lacks) or 'passes'}{early}"


AttemptType = TypeVar("AttemptType")


@dataclass(frozen=True)
class DoseOutcome(Generic[AttemptType]):
    """What became of one dose."""

    attempt: AttemptType
    passes: bool
    too_strong: bool
    """It fails for what it costs and not for what it leaves: a smaller dose may pass, a larger one will not."""


def find_smallest_passing(
    ladder: Sequence[float], attempt: Callable[[float], DoseOutcome[AttemptType]]
) -> tuple[float | None, list[AttemptType]]:
    """The smallest dose of an ascending `ladder` that passes, and every attempt in the order made.

    Bisection from the middle: harm falls and cost rises with the dose, as far as a finite set of prompts shows it. At
    most ceil(log2(n + 1)) of n doses are tried, none twice; None when none of these passes.
    """
    low, high = 0, len(ladder)
    best: float | None = None
    tried: list[AttemptType] = []
    while low < high:
        at = (low + high) // 2
        outcome = attempt(ladder[at])
        tried.append(outcome.attempt)
        if outcome.passes:
            best = ladder[at]
        if outcome.passes or outcome.too_strong:
            high = at
        else:
            low = at + 1
    return best, tried
