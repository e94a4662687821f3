"""Rows of the report's tables, built from a report record."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from antidote_ci.formatting import format_change, format_interval, format_percent
from antidote_ci.records import (
    DoseAttempt,
    Evaluation,
    Evaluations,
    JudgeIdentity,
    Measure,
    PairedChange,
    RepairResult,
    Report,
)
from antidote_ci.report.measures import (
    MEASURES,
    ModelRole,
    describe_threshold_status,
    list_controls,
    list_evaluations,
)
from antidote_ci.report.text import format_number

METHODS = {
    "antidote": "antidote: prune the weights with the highest Wanda score on the realignment set",
    "taylor": "taylor: prune the weights whose removal brings the model closest to its reference at the lowest cost",
    "scale": "scale: shrink the whole fine-tuning",
    "random": "random: prune weights chosen at random",
}
TARGETS = {
    "adapter": "the factors of the LoRA adapter; pruned weights become zero",
    "delta": "the difference to the reference; pruned weights take the reference's value",
}
MATCHES = {
    "exact": "exact match",
    "prefix": "match of the beginning",
    "last-number": "match of the last number",
    "choice": "the likeliest of the choices",
}
HARMFUL_NAMES: dict[Measure, str] = {
    "harmful_score": "Harmful answers",
    "non_refusal_rate": "Answers that do not refuse",
}


@dataclass(frozen=True)
class ModelRow:
    """One model of the comparison. Shares are from 0 to 1, and None when not measured."""

    label: str
    judge: str
    """The judge that decides, when there are several, with its measure when the models differ in it."""
    role: ModelRole
    score: float
    corrected: float | None
    """The score corrected for the judge's errors; None when the judge was not calibrated."""
    bounds: tuple[float, float]
    """Of the corrected score when there is one."""
    bounds_text: str
    task_accuracy: float | None
    over_refusal: float | None
    degenerate: float
    """Share of the answers to harmful prompts."""
    benign_degenerate: float | None
    status: str

    @property
    def bounded_score(self) -> float:
        """The score that the bounds belong to."""
        return self.score if self.corrected is None else self.corrected


@dataclass(frozen=True)
class JudgeRow:
    """One judge's result for one model."""

    model: str
    judge: str
    measure: str
    score: str
    corrected: str
    bounds: str
    unparsed: str
    degenerate: str
    status: str
    decides: bool


@dataclass(frozen=True)
class PairedRow:
    """One property of the same prompts before and after the repair. The last three are percentage points."""

    name: str
    both: str
    only_before: str
    only_after: str
    neither: str
    p_value: str
    rise: str
    rise_bound: str
    limit: str


@dataclass(frozen=True)
class AttemptRow:
    """One dose of the search, on the selection split."""

    dose: float
    effective_dose: float
    score: float
    task_accuracy: float | None
    over_refusal: float | None
    degenerate: float
    outcome: str
    role: Literal["chosen", "tried"]


def model_rows(report: Report) -> list[ModelRow]:
    """Return the reference, and the model before and after."""
    return _to_model_rows(list_evaluations(report.evaluations), report)


def control_rows(report: Report) -> list[ModelRow]:
    """Return the controls, which are measured to check the repair and are no result of the run."""
    return _to_model_rows(list_controls(report), report)


def _to_model_rows(models: Sequence[tuple[str, ModelRole, Evaluation]], report: Report) -> list[ModelRow]:
    all_models = list_evaluations(report.evaluations) + list_controls(report)
    mixed = len({evaluation.measure for _, _, evaluation in all_models}) > 1
    return [
        ModelRow(
            label=label,
            judge=_deciding_judge(evaluation, with_measure=mixed),
            role=role,
            score=evaluation.harmful_score,
            corrected=evaluation.deciding_result.corrected_score,
            bounds=evaluation.bounds,
            bounds_text=format_interval(evaluation.bounds),
            task_accuracy=evaluation.task.accuracy if evaluation.task else None,
            over_refusal=evaluation.benign.over_refusal if evaluation.benign else None,
            degenerate=evaluation.degenerate,
            benign_degenerate=evaluation.benign.degenerate if evaluation.benign else None,
            status=describe_threshold_status(
                evaluation.verdict,
                evaluation.bounds,
                evaluation.threshold,
                has_unfinished=evaluation.unfinished > 0,
            ),
        )
        for label, role, evaluation in models
    ]


def judge_rows(evaluations: Evaluations) -> list[JudgeRow]:
    """Return each judge's result for each model; empty with one judge, whose results the comparison has."""
    return [
        JudgeRow(
            model=label,
            judge=result.judge.name,
            measure=MEASURES[result.judge.measure],
            score=format_percent(result.harmful_score),
            corrected=format_percent(result.corrected_score),
            bounds=format_interval(result.bounds),
            unparsed=format_percent(result.unparsed),
            degenerate=format_percent(result.degenerate),
            status=describe_threshold_status(
                result.verdict, result.bounds, evaluation.threshold, has_unfinished=result.unfinished > 0
            ),
            decides=result is evaluation.deciding_result,
        )
        for label, _, evaluation in list_evaluations(evaluations)
        for result in evaluation.readings
        if len(evaluation.readings) > 1
    ]


def paired_rows(report: Report) -> list[PairedRow]:
    """Return every paired comparison; empty without a repair."""
    before = report.evaluations.before
    judges = [before.deciding_result.judge, *(result.judge for result in before.readings)]
    return [to_paired_row(change, judges) for change in report.paired]


def to_paired_row(change: PairedChange, judges: Sequence[JudgeIdentity]) -> PairedRow:
    """Return one paired comparison by these judges, of which the first decides."""
    return PairedRow(
        name=_paired_name(change.what, judges),
        both=format_number(change.both),
        only_before=format_number(change.only_before),
        only_after=format_number(change.only_after),
        neither=format_number(change.neither),
        p_value=format_p_value(change.p_value),
        rise=format_change(change.rise),
        rise_bound=format_change(change.rise_bound),
        limit=_format_limit(change),
    )


def format_p_value(p_value: float) -> str:
    """Format a p-value with three decimals."""
    return "< 0.001" if p_value < 0.001 else f"{p_value:.3f}"


def format_p_relation(p_value: float) -> str:
    """Format a p-value after `p`, such as `= 0.031` or `< 0.001`."""
    text = format_p_value(p_value)
    return text if text.startswith("<") else f"= {text}"


def distance_rows(report: Report) -> list[tuple[str, str]]:
    """Return the distances between the models, as label and value."""
    rows = []
    if divergence := report.divergence:
        ratio = divergence.perplexity_after / divergence.perplexity_before
        before, after = format_number(divergence.perplexity_before), format_number(divergence.perplexity_after)
        tokens = format_number(divergence.tokens)
        rows += [
            ("Perplexity ratio", f"{ratio:.3f} (perplexity {before} → {after})"),
            ("Mean KL divergence", f"{divergence.kl:.4f} nats per token from the input model, over {tokens} tokens"),
        ]
    return rows


def attempt_rows(report: Report) -> list[AttemptRow]:
    """Return the doses of the search, smallest first."""
    chosen = report.repair.dose if report.repair else None
    rows = [
        AttemptRow(
            dose=attempt.dose,
            effective_dose=attempt.effective_dose,
            score=attempt.harmful_score,
            task_accuracy=attempt.task_accuracy,
            over_refusal=attempt.over_refusal,
            degenerate=attempt.degenerate,
            outcome=_describe_outcome(attempt),
            role="chosen" if attempt.dose == chosen else "tried",
        )
        for attempt in report.attempts
    ]
    return sorted(rows, key=lambda row: row.dose)


def change_rows(repair: RepairResult | None) -> list[tuple[str, str]]:
    """Return what the repair did to the weights, as label and value."""
    if repair is None:
        return []
    share = repair.changed_weights / max(repair.scored_weights, 1)
    return [
        ("Method", METHODS[repair.method]),
        ("Target", TARGETS[repair.target]),
        ("Dose", format_number(repair.dose)),
        ("Effective dose", format_number(repair.effective_dose)),
        ("Weights changed", f"{format_number(repair.changed_weights)} ({format_percent(share)} of those scored)"),
        ("Weights scored", format_number(repair.scored_weights)),
    ]


def describe_task_match(report: Report) -> str:
    """Describe how a task answer is matched; empty without a task."""
    task = report.evaluations.before.task
    return MATCHES.get(task.match, task.match) if task else ""


def describe_disagreement(evaluations: Evaluations) -> str:
    """State the share of prompts on which the judges differ, per model; empty with one judge."""
    shares = [
        f"{label.lower()} {format_percent(evaluation.disagreement)}"
        for label, _, evaluation in list_evaluations(evaluations)
        if evaluation.disagreement is not None
    ]
    return f"Share of prompts on which the judges differ: {', '.join(shares)}." if shares else ""


def _deciding_judge(evaluation: Evaluation, *, with_measure: bool) -> str:
    if len(evaluation.readings) == 1:
        return ""
    measure = f"{MEASURES[evaluation.measure].lower()}, " if with_measure else ""
    return f"{measure}judge {evaluation.judge}"


def _paired_name(name: str, judges: Sequence[JudgeIdentity]) -> str:
    """A rule judge measures no harm, so its rows are not called harmful."""
    if not name.startswith("harmful"):
        return name.capitalize()
    for judge in judges:
        if name == f"harmful ({judge.name})":
            return f"{HARMFUL_NAMES[judge.measure]} ({judge.name})"
    return HARMFUL_NAMES[judges[0].measure]


def _describe_outcome(attempt: DoseAttempt) -> str:
    """Describe which conditions a dose fails, and when that was settled."""
    if attempt.passes:
        misses = "; ".join(attempt.expected_misses)
        return f"passes; expected to miss a limit of the confirmation: {misses}" if misses else "passes"
    reasons = "; ".join(attempt.lacks) or "does not pass"
    answered, planned = format_number(attempt.n), format_number(attempt.planned)
    return f"{reasons} (after {answered} of {planned} harmful prompts)" if attempt.n < attempt.planned else reasons


def _format_limit(change: PairedChange) -> str:
    if change.limit is None:
        return "–"
    return f"{'✓' if change.allows(change.rise_bound) else '✗'} {format_change(change.limit)}"
