"""Compare the models of two reports: figures side by side, and exact paired tests on the prompts of both.

Which prompts are paired must not depend on the answers to them, because the tests are for a fixed number of pairs. Of
an evaluation that stopped early only the prompts before its first possible stop are paired: docs/statistics.md.
"""

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import replace
from typing import TypeVar

from antidote_ci.evaluation import gate
from antidote_ci.evaluation.judges.refusal import RefusalJudge
from antidote_ci.evaluation.statistics import min_prompts_to_stop, pairs_to_prove, rise_bound, simultaneous_bounds
from antidote_ci.formatting import format_apart, format_percent
from antidote_ci.policy import Gate, Policy
from antidote_ci.records import (
    MEASURE_NAMES,
    BenignResult,
    CategoryCount,
    ComparedModel,
    Comparison,
    Evaluation,
    Evaluations,
    GateVerdict,
    HistoryEntry,
    JudgeIdentity,
    KindResult,
    Measure,
    PairedChange,
    Report,
    TaskResult,
)

HARMFUL = "harmful"
"""Outcome, and the beginning of the names of the paired changes that count it."""
TOTALS = "The totals are side by side."
PAIRED_APART = ("prompts", "benign", "task", "task_match", "task_columns", "calibration", "stop_early")
"""Keys of [evaluation] that may differ. They decide which prompts are asked and how bounds are computed, not the answer
to a prompt and its verdict."""

Labels = tuple[str, str]
"""Names of the two reports in sentences."""
Both = tuple[Evaluation, Evaluation]
Value = TypeVar("Value")


def compare_reports(
    first: Report, second: Report, labels: Labels = ("A", "B"), *, limit: float | None = None
) -> Comparison:
    """Compare the models that the verdicts of two reports are about.

    With `limit` the comparison has a verdict on the rise of the harmful score.
    """
    both = compared_evaluation(first), compared_evaluation(second)
    judges: list[JudgeIdentity] = []
    prompts: AbstractSet[str] = frozenset()
    changes: list[PairedChange] = []
    notes = _find_differences(first, second, labels)
    if not notes:
        first_judges, second_judges = ([result.judge for result in evaluation.readings] for evaluation in both)
        judges = [judge for judge in first_judges if judge in second_judges]
        prompts, notes = _choose_prompts(both, judges, labels)
        changes = [
            replace(change, limit=limit if change.what.startswith(HARMFUL) else None)
            for change in gate.compare_evaluations(*_restrict(both, judges, prompts), Gate())
        ]
    newly_harmful, no_longer_harmful = _list_changed_prompts(both, judges, prompts)
    verdict, reason = (None, "") if limit is None else _decide_regression(changes, limit, both[1].measure, notes[0])
    for report, label in zip((first, second), labels, strict=True):
        if report.verdict == "repaired":
            tested = format_percent(report.evaluations.before.harmful_score)
            notes.append(f"{_capitalise(label)} is the repaired model. Before the repair its score was {tested}.")
    return Comparison(
        first=summarise_report(first),
        second=summarise_report(second),
        judges=judges,
        changes=changes,
        newly_harmful=newly_harmful,
        no_longer_harmful=no_longer_harmful,
        notes=notes,
        verdict=verdict,
        reason=reason,
    )


def list_history(reports: Sequence[Report]) -> list[HistoryEntry]:
    """Return the tested revisions of reports, each with its change since the last report of the same model.

    `reports`: oldest first. The entries have the same order.
    """
    entries: list[HistoryEntry] = []
    previous: dict[str, Report] = {}
    for report in reports:
        tested = _keep_harmful(report)
        change = None
        if report.source.id in previous:
            comparison = compare_reports(previous[report.source.id], tested)
            change = next((change for change in comparison.changes if change.what.startswith(HARMFUL)), None)
        repaired = compared_evaluation(report).harmful_score if report.verdict == "repaired" else None
        entries.append(HistoryEntry(summarise_report(report, tested=True), repaired, change))
        previous[report.source.id] = tested
    return entries


def _keep_harmful(report: Report) -> Report:
    """Return the report with the harmful answers of the tested revision alone: a bound takes up to a second."""
    return replace(report, evaluations=Evaluations(replace(report.evaluations.before, benign=None, task=None)))


def compared_evaluation(report: Report) -> Evaluation:
    """Return the evaluation that the verdict is about: of the repaired weights if they pass, else of the revision."""
    after = report.evaluations.after
    return after if report.verdict == "repaired" and after is not None else report.evaluations.before


def summarise_report(report: Report, *, tested: bool = False) -> ComparedModel:
    """Return the figures of the model that the verdict is about, or with `tested` of the tested revision."""
    evaluation = report.evaluations.before if tested else compared_evaluation(report)
    return ComparedModel(
        source=report.source,
        repaired=evaluation is not report.evaluations.before,
        run_id=report.run_id,
        written_at=report.written_at,
        verdict=report.verdict,
        judge=evaluation.deciding_result.judge,
        harmful_score=evaluation.harmful_score,
        corrected_score=evaluation.deciding_result.corrected_score,
        bounds=evaluation.bounds,
        confidence=evaluation.confidence,
        threshold=evaluation.threshold,
        n=evaluation.n,
        planned=evaluation.planned,
        degenerate=evaluation.degenerate,
        over_refusal=evaluation.benign.over_refusal if evaluation.benign else None,
        task_accuracy=evaluation.task.accuracy if evaluation.task else None,
        categories=_rate_categories(evaluation.categories, evaluation.samples),
        kinds=evaluation.kinds,
    )


def _decide_regression(
    changes: Sequence[PairedChange], limit: float, measure: Measure, unpaired: str
) -> tuple[GateVerdict, str]:
    """Return the verdict on the rise of the harmful score, and why it does not pass.

    It passes when the upper bound of the rise is at most `limit` by every judge, and fails when the lower bound is
    above it by one. `unpaired`: the reason when nothing is paired.
    """
    score = f"the {MEASURE_NAMES[measure]}"
    harmful = [change for change in changes if change.limit is not None]
    if not harmful:
        return "inconclusive", f"the rise of {score} from the baseline is not measured: {unpaired.removesuffix('.')}"
    worst = max(harmful, key=lambda change: change.rise_bound)
    if worst.allows(worst.rise_bound):
        return "pass", ""
    for change in harmful:
        n = change.pairs
        # The lower bound of a rise is the upper bound of the drop.
        lower = -rise_bound(change.only_after, change.only_before, n)
        if lower > limit:
            return "fail", (
                f"{score} rose from the baseline by at least {format_apart(lower, limit)} points, "
                f"more than {100 * limit:g} (measured {100 * change.rise:.1f} points on {n} prompts)"
            )
    n, needed = worst.pairs, None
    if worst.rise < limit:
        needed = pairs_to_prove(worst.only_before, worst.only_after, n, limit)
    more = f"; if the shares stay so, about {needed:,} would decide" if needed else ""
    return "inconclusive", (
        f"{score} may have risen from the baseline by {format_apart(worst.rise_bound, limit)} points, "
        f"more than {100 * limit:g} (measured {100 * worst.rise:.1f} points on {n} prompts{more})"
    )


def _rate_categories(categories: Mapping[str, CategoryCount], samples: int) -> list[KindResult]:
    """Return the harmful prompts of each category, with bounds that hold for all categories together."""
    counts = [(count.harmful / samples, count.n // samples) for count in categories.values()]
    return [
        KindResult(name, *count, bounds, unseen=False)
        for name, count, bounds in zip(categories, counts, simultaneous_bounds(counts), strict=True)
    ]


def _find_differences(first: Report, second: Report, labels: Labels) -> list[str]:
    """Return a sentence that names the settings that differ and change answers or verdicts; empty without any."""
    old, new = _answer_settings(first), _answer_settings(second)
    differences = [
        f"{key} is {old.get(key)} in {labels[0]} and {new.get(key)} in {labels[1]}"
        for key in sorted(old.keys() | new.keys())
        if old.get(key) != new.get(key)
    ]
    if not differences:
        return []
    return [f"Nothing is paired, because settings differ: {'; '.join(differences)}. {TOTALS}"]


def _answer_settings(report: Report) -> dict[str, object]:
    """Return what decides an answer, apart from model and prompt. Reports of earlier versions lack newer keys."""
    evaluation = compared_evaluation(report)
    ignored = PAIRED_APART if evaluation.samples > 1 else (*PAIRED_APART, "seed")
    settings: dict[str, object] = {
        key: value
        for key, value in (Policy().flat() | report.policy).items()
        # Judges are compared by their identity.
        if key.startswith("evaluation.")
        and not key.startswith("evaluation.judge")
        and key.removeprefix("evaluation.") not in ignored
    }
    is_served = evaluation.plan.generator != "transformers"
    return settings | {"the generator": "a server" if is_served else "transformers"}


def _choose_prompts(both: Both, judges: Sequence[JudgeIdentity], labels: Labels) -> tuple[AbstractSet[str], list[str]]:
    """Return the harmful prompts that are paired, and notes on which these are."""
    if not judges:
        names = [" and ".join(result.judge.name for result in evaluation.readings) for evaluation in both]
        details = "in another version or mode" if names[0] == names[1] else f"{names[0]} and {names[1]}"
        return set(), [f"The harmful answers are not paired, because the judges differ: {details}. {TOTALS}"]
    fixed = [_list_fixed_prompts(evaluation) for evaluation in both]
    prompts = set(fixed[0]) & set(fixed[1])
    if not prompts:
        return prompts, [f"The harmful answers are not paired, because the prompts differ. {TOTALS}"]
    notes = [
        f"{len(prompts)} harmful prompts are paired one by one. {_capitalise(labels[0])} answered {both[0].n}, "
        f"{labels[1]} {both[1].n}."
    ]
    for evaluation, paired, label in zip(both, fixed, labels, strict=True):
        if evaluation.n < evaluation.planned:
            notes.append(
                f"{_capitalise(label)} stopped early, after {evaluation.n} of {evaluation.planned} harmful prompts. "
                f"Only the first {len(paired)} can be paired: whether it asked more depended on the answers. "
                "`stop_early = false` in the policy asks all."
            )
    return prompts, notes


def _list_fixed_prompts(evaluation: Evaluation) -> list[str]:
    """Return the ids of the harmful prompts that were asked whatever the answers were."""
    asked = list(evaluation.readings[0].outcomes)
    if evaluation.n == evaluation.planned:
        return asked
    return asked[: int(min(len(asked), min_prompts_to_stop(evaluation.threshold)))]


def _restrict(both: Both, judges: Sequence[JudgeIdentity], prompts: AbstractSet[str]) -> Both:
    """Return the evaluations with the results that both have."""
    first, second = both
    harmless: AbstractSet[str] = set()
    tasks: AbstractSet[str] = set()
    if first.benign and second.benign and _is_same_refusal_judge(first.benign, second.benign, judges):
        harmless = first.benign.refused.keys() & second.benign.refused.keys()
    if first.task and second.task and first.task.match == second.task.match:
        tasks = first.task.right.keys() & second.task.right.keys()

    def restrict(evaluation: Evaluation) -> Evaluation:
        readings = {result.judge: result for result in evaluation.readings}
        return replace(
            evaluation,
            readings=[
                replace(readings[judge], outcomes=_select(readings[judge].outcomes, prompts))
                for judge in judges
                if prompts
            ],
            benign=_restrict_benign(evaluation.benign, harmless),
            task=_restrict_task(evaluation.task, tasks),
        )

    return restrict(first), restrict(second)


def _is_same_refusal_judge(first: BenignResult, second: BenignResult, judges: Sequence[JudgeIdentity]) -> bool:
    """A judge of refusals is the rule judge or one of the judges of the run."""
    return first.judge == second.judge and first.judge in (
        RefusalJudge.identity.name,
        *(judge.name for judge in judges),
    )


def _restrict_benign(benign: BenignResult | None, prompts: AbstractSet[str]) -> BenignResult | None:
    if benign is None or not prompts:
        return None
    return replace(benign, refused=_select(benign.refused, prompts), degenerated=_select(benign.degenerated, prompts))


def _restrict_task(task: TaskResult | None, prompts: AbstractSet[str]) -> TaskResult | None:
    return replace(task, right=_select(task.right, prompts)) if task and prompts else None


def _select(values: Mapping[str, Value], prompts: AbstractSet[str]) -> dict[str, Value]:
    return {prompt: value for prompt, value in values.items() if prompt in prompts}


def _list_changed_prompts(
    both: Both, judges: Sequence[JudgeIdentity], prompts: AbstractSet[str]
) -> tuple[list[str], list[str]]:
    """Return the paired prompts that only the second model answers harmfully, and those that only the first does."""
    if not judges:
        return [], []
    deciding = both[1].deciding_result.judge
    judge = deciding if deciding in judges else judges[0]
    before, after = (
        {
            prompt
            for result in evaluation.readings
            if result.judge == judge
            for prompt, outcome in result.outcomes.items()
            if outcome == HARMFUL and prompt in prompts
        }
        for evaluation in both
    )
    return sorted(after - before), sorted(before - after)


def _capitalise(label: str) -> str:
    return label[:1].upper() + label[1:]
