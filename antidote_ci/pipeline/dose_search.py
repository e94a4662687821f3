"""Doses tried: the smallest that passes the policy, the controls beside it, and the frontier of all methods."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar, get_args

from antidote_ci.evaluation import gate, statistics
from antidote_ci.evaluation.measure import PromptSets, Ruler, measure
from antidote_ci.evaluation.paired_changes import paired
from antidote_ci.pipeline import candidates
from antidote_ci.pipeline.candidates import Bench, Candidate, Remedy, candidate, remedy
from antidote_ci.policy import RepairSection
from antidote_ci.records import Attempt, Control, Evaluation, FrontierPoint, Method, Model, Score, Task
from antidote_ci.repair.methods import LADDER, TENTHS

FRONTIER_DOSES = 6
"""Of each method."""
SIGNIFICANT = 0.05


@dataclass(frozen=True)
class Trial:
    """What every dose is tried with."""

    bench: Bench
    ruler: Ruler
    selection: PromptSets
    before: Evaluation
    """The input model on the same prompts."""
    say: Callable[[str], None]


def bytes_needed(settings: RepairSection, weights: int, entries: int) -> int:
    """Disk for the search of a dose in `weights` bytes of so many entries, and for the frontier where it is wanted."""
    # Of the frontier, the masks of the other scores and of `random`.
    masks = LADDER + (len(get_args(Score)) * FRONTIER_DOSES if settings.frontier else 0)
    return candidates.bytes_needed(weights, entries, masks, taylor=settings.method == "taylor" or settings.frontier)


def smallest(trial: Trial, method: Remedy) -> tuple[float | None, list[Attempt]]:
    """The smallest dose that passes the policy on the selection prompts, and every attempt."""
    limits = trial.ruler.gate

    def attempt(dose: float) -> Outcome[Attempt]:
        with candidate(trial.bench, method, dose) as made:
            found = measure(trial.ruler, made.model, trial.selection, trial.bench.report, curtailed=True)
        tried = _attempt(made, found, _lacks(trial, found))
        trial.say(f"  {method.method} {_spoken(tried)}")
        enough = found.bounds[1] <= limits.harmful_score
        return Outcome(tried, tried.passes, enough and not tried.passes)

    return smallest_passing(method.doses, attempt)


def nearest(attempts: Sequence[Attempt]) -> Attempt:
    """The attempt that lacked least."""
    return min(attempts, key=lambda each: (len(each.lacks), each.harmful_score))


def shown_nearest(attempts: Sequence[Attempt]) -> str:
    """That attempt and what it lacked, in words."""
    return _spoken(nearest(attempts))


def controls(
    trial: Trial, repair: Remedy, chosen: Candidate, after: Evaluation, before: Evaluation, confirmation: PromptSets
) -> list[Control]:
    """What two simple tricks do with the confirmation prompts, on which the input model is `before`.

    `scale` has a search of its own, and where no shrink passes its best one is shown; `random` covers as many entries
    as the repair. There is nothing to shrink towards in `dense` weights.
    """
    dosed = [(remedy(trial.bench, "random", [chosen.dose], repair), chosen.dose)]
    if repair.scores.target != "dense":
        scale = remedy(trial.bench, "scale", TENTHS, repair)
        dose, attempts = smallest(trial, scale)
        dosed.insert(0, (scale, dose or nearest(attempts).dose))
    found = []
    for control, dose in dosed:
        with candidate(trial.bench, control, dose) as made:
            evaluation = measure(trial.ruler, made.model, confirmation, trial.bench.report)
        limits = trial.ruler.gate
        found.append(
            Control(
                method=control.method,
                dose=dose,
                effective_dose=made.applied.effective_dose,
                evaluation=evaluation,
                lacks=gate.shortfalls(evaluation, paired(before, evaluation, limits), limits, proven=True),
                costs_more=costs_more(evaluation.task, after.task),
            )
        )
    return found


def costs_more(control: Task | None, repair: Task | None) -> bool:
    """Whether a control gets significantly fewer task prompts right than the repair (exact McNemar test, 5 %)."""
    if control is None or repair is None:
        return False
    found = statistics.compare(control.right, repair.right)
    return found.rise > 0 and found.p_value < SIGNIFICANT


def frontier(
    trial: Trial, remedies: Sequence[Remedy], chosen: float | None, reference: Model | None
) -> list[FrontierPoint]:
    """Several doses of every method on the selection prompts, whole; of the first also the `chosen` one.

    The input model is `scale` at dose 0, the reference `scale` at dose 1.
    """
    points = [_point(trial, "scale", 0.0, 0.0, trial.before)]
    for method in remedies:
        doses = {*spread(method.doses), *([chosen] if chosen is not None and method is remedies[0] else [])}
        for dose in sorted(doses):
            with candidate(trial.bench, method, dose) as made:
                found = measure(trial.ruler, made.model, trial.selection, trial.bench.report)
            points.append(_point(trial, method.method, dose, made.applied.effective_dose, found))
    if reference is not None:
        found = measure(trial.ruler, reference, trial.selection, trial.bench.report)
        points.append(_point(trial, "scale", 1.0, 1.0, found))
    return points


def spread(doses: Sequence[float]) -> list[float]:
    """At most FRONTIER_DOSES of them, evenly, with the first and the last."""
    if len(doses) <= FRONTIER_DOSES:
        return list(doses)
    last = len(doses) - 1
    return [doses[round(last * step / (FRONTIER_DOSES - 1))] for step in range(FRONTIER_DOSES)]


def _lacks(trial: Trial, found: Evaluation) -> list[str]:
    """Prompts that were not asked are not compared: the harmful ones have settled it by then."""
    limits = trial.ruler.gate
    rises = paired(trial.before, found, limits) if found.n == found.planned else []
    return gate.shortfalls(found, rises, limits, proven=False)


def _attempt(made: Candidate, found: Evaluation, lacks: list[str]) -> Attempt:
    return Attempt(
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


def _point(trial: Trial, method: Method, dose: float, effective_dose: float, found: Evaluation) -> FrontierPoint:
    task = found.task
    return FrontierPoint(
        method=method,
        dose=dose,
        effective_dose=effective_dose,
        harmful_score=found.harmful_score,
        bounds=found.bounds,
        task_accuracy=task.accuracy if task else None,
        task_bounds=statistics.bounds(round(task.accuracy * task.n), task.n) if task else None,
        over_refusal=found.benign.over_refusal if found.benign else None,
        degenerate=found.degenerate,
        passes=not _lacks(trial, found),
    )


def _spoken(tried: Attempt) -> str:
    early = f" (stopped after {tried.n} of {tried.planned} harmful prompts)" if tried.n < tried.planned else ""
    return f"dose {tried.dose:g}: {'; '.join(tried.lacks) or 'passes'}{early}"


Tried = TypeVar("Tried")


@dataclass(frozen=True)
class Outcome(Generic[Tried]):
    """What became of one dose."""

    tried: Tried
    passes: bool
    too_strong: bool
    """It fails for what it costs and not for what it leaves: a smaller dose may pass, a larger one will not."""


def smallest_passing(
    ladder: Sequence[float], attempt: Callable[[float], Outcome[Tried]]
) -> tuple[float | None, list[Tried]]:
    """The smallest dose of an ascending `ladder` that passes, and every attempt in the order made.

    Bisection from the middle: harm falls and cost rises with the dose, as far as a finite set of prompts shows it. At
    most ceil(log2(n + 1)) of n doses are tried, none twice; None when none of these passes.
    """
    low, high = 0, len(ladder)
    best: float | None = None
    tried: list[Tried] = []
    while low < high:
        at = (low + high) // 2
        outcome = attempt(ladder[at])
        tried.append(outcome.tried)
        if outcome.passes:
            best = ladder[at]
        if outcome.passes or outcome.too_strong:
            high = at
        else:
            low = at + 1
    return best, tried
