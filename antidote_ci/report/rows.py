"""What the report's tables show, row by row. Pure: a Report in, rows out."""

from dataclasses import dataclass
from typing import Literal

from antidote_ci.records import CategoryCount, ControlResult, DoseAttempt, Evaluation, LayerChange, RepairResult, Report
from antidote_ci.report.judges import MEASURES, ModelRole, describe_standing, format_bounds, list_evaluations
from antidote_ci.report.text import format_number, format_percent

METHODS = {
    "antidote": "Antidote: the entries with the highest Wanda score on the realignment set",
    "taylor": "taylor: the entries whose removal brings the model closest to its reference for what it costs",
    "scale": "scale: the whole fine-tuning, shrunk",
    "random": "random: entries picked by chance",
}
TARGETS = {
    "adapter": "the LoRA factors; chosen entries become zero",
    "delta": "the difference to the reference; chosen entries take the reference's value",
}
MATCHES = {
    "exact": "exact match",
    "prefix": "match of the beginning",
    "last-number": "match of the last number",
    "choice": "the likeliest of the choices",
}


@dataclass(frozen=True)
class ModelRow:
    """One model of the comparison. Shares from 0 to 1; None where nothing was measured."""

    label: str
    by: str
    """Where there is more than one: the judge that decides here, with its measure where these differ."""
    role: ModelRole
    score: float
    corrected: float | None
    """For the judge's errors, as the bounds are where it was calibrated."""
    bounds: tuple[float, float]
    bounds_text: str
    task_accuracy: float | None
    over_refusal: float | None
    degenerate: float
    """Of the answers to harmful prompts."""
    benign_degenerate: float | None
    against: str
    """How it stands to the threshold; the policy has other limits too."""


@dataclass(frozen=True)
class CategoryRow:
    """One category of harmful prompts, before and, where there is one, after the repair."""

    name: str
    before: CategoryCount
    after: CategoryCount | None


@dataclass(frozen=True)
class AttemptRow:
    """One dose tried on the selection split, for people."""

    dose: float
    effective_dose: float
    score: float
    task_accuracy: float | None
    over_refusal: float | None
    degenerate: float
    outcome: str
    role: Literal["chosen", "tried"]


def measure_name(report: Report) -> str:
    """The measure's own name: a rule judge's figure is never called a harmful score. Both, where judges differ."""
    return " or ".join(dict.fromkeys(MEASURES[each.measure] for _, _, each in _list_evaluations(report))).capitalize()


def comparison_rows(report: Report) -> list[ModelRow]:
    """Reference, before, after, then the controls: same prompts, same judges."""
    return [_model_row(label, role, each, report) for label, role, each in _list_evaluations(report)]


def describe_task_match(report: Report) -> str:
    """What counted as right in the user's task, in words; empty without a task."""
    task = report.evaluations.before.task
    return MATCHES.get(task.match, task.match) if task else ""


def describe_control(control: ControlResult) -> str:
    """Such as `scale at dose 0.62`."""
    return f"{control.method} at dose {format_number(control.dose)}"


def category_rows(report: Report) -> list[CategoryRow]:
    """Every category of the confirmation prompts, the worst before the repair first."""
    after = report.evaluations.after
    rows = [
        CategoryRow(name or "no category", count, after.categories.get(name) if after else None)
        for name, count in report.evaluations.before.categories.items()
    ]
    return sorted(rows, key=lambda row: -row.before.harmful / max(row.before.n, 1))


def attempt_rows(report: Report) -> list[AttemptRow]:
    """The search on the selection split, by rising dose."""
    chosen = report.repair.dose if report.repair else None
    rows = [
        AttemptRow(
            each.dose,
            each.effective_dose,
            each.harmful_score,
            each.task_accuracy,
            each.over_refusal,
            each.degenerate,
            _describe_outcome(each),
            "chosen" if each.dose == chosen else "tried",
        )
        for each in report.attempts
    ]
    return sorted(rows, key=lambda row: row.dose)


def _describe_outcome(tried: DoseAttempt) -> str:
    """Whether it passes, what it lacks, and how little had to be asked to see that."""
    if tried.passes:
        return "passes"
    lacks = "; ".join(tried.lacks) or "does not pass"
    early = f" (seen after {format_number(tried.n)} of {format_number(tried.planned)} harmful prompts)"
    return lacks + (early if tried.n < tried.planned else "")


def change_rows(repair: RepairResult | None) -> list[tuple[str, str]]:
    """What the repair did to the weights: label and value."""
    if repair is None:
        return []
    share = repair.changed_weights / max(repair.scored_weights, 1)
    return [
        ("Method", METHODS[repair.method]),
        ("Target", TARGETS[repair.target]),
        ("Dose asked for", format_number(repair.dose)),
        ("Effective dose", format_number(repair.effective_dose)),
        ("Weights changed", f"{format_number(repair.changed_weights)} ({format_percent(share)} of those scored)"),
        ("Weights scored", format_number(repair.scored_weights)),
        *_layer_rows(repair.layers),
    ]


def _layer_rows(layers: list[LayerChange]) -> list[tuple[str, str]]:
    """A dose is a share of each row or tensor, so layers differ little."""
    if not layers:
        return []
    shares = [100 * each.changed / max(each.scored, 1) for each in layers]
    least, most = format_number(min(shares)), format_number(max(shares))
    spread = f"{most} %" if least == most else f"from {least} % to {most} %"
    changed = f"in {format_number(sum(each.changed > 0 for each in layers))} of {format_number(len(layers))} layers"
    return [("Where", f"{changed}, {spread} of the scored weights of each")]


def _list_evaluations(report: Report) -> list[tuple[str, ModelRole, Evaluation]]:
    controls: list[tuple[str, ModelRole, Evaluation]] = [
        (describe_control(each), "control", each.evaluation) for each in report.controls
    ]
    return list_evaluations(report.evaluations) + controls


def _model_row(label: str, role: ModelRole, evaluation: Evaluation, report: Report) -> ModelRow:
    task, benign = evaluation.task, evaluation.benign
    mixed = len({each.measure for _, _, each in _list_evaluations(report)}) > 1
    by = f"{MEASURES[evaluation.measure].lower()} by {evaluation.judge}" if mixed else f"by {evaluation.judge}"
    return ModelRow(
        label=label,
        by=by if len(evaluation.readings) > 1 else "",
        role=role,
        score=evaluation.harmful_score,
        corrected=evaluation.deciding_result.corrected_score,
        bounds=evaluation.bounds,
        bounds_text=format_bounds(evaluation.bounds, evaluation.confidence, report.evaluations),
        task_accuracy=task.accuracy if task else None,
        over_refusal=benign.over_refusal if benign else None,
        degenerate=evaluation.degenerate,
        benign_degenerate=benign.degenerate if benign else None,
        against=describe_standing(evaluation.verdict, evaluation.bounds, evaluation.threshold),
    )
