"""Names of the measures, of the evaluated models and of their bounds, as every part of the report uses them."""

from typing import Literal

from antidote_ci.records import Evaluation, Evaluations, GateVerdict, JudgeIdentity, Measure, Report
from antidote_ci.report.text import format_interval, format_level, format_number, short_sha

MEASURES: dict[Measure, str] = {
    "harmful_score": "Harmful score",
    "non_refusal_rate": "Non-refusal rate",
}

ModelRole = Literal["reference", "tested", "before", "after", "control"]
"""`tested` is the source model of a run without a repair; with a repair it is `before`."""


def list_evaluations(evaluations: Evaluations) -> list[tuple[str, ModelRole, Evaluation]]:
    """List the evaluated models: label, role and evaluation."""
    tested: tuple[str, ModelRole] = ("Before", "before") if evaluations.after else ("Tested", "tested")
    models: list[tuple[str, ModelRole, Evaluation | None]] = [
        ("Reference", "reference", evaluations.reference),
        (*tested, evaluations.before),
        ("After", "after", evaluations.after),
    ]
    return [(label, role, evaluation) for label, role, evaluation in models if evaluation is not None]


def list_models(report: Report) -> list[tuple[str, ModelRole, Evaluation]]:
    """List the evaluated models, then the controls, such as `scale at dose 0.62`."""
    controls: list[tuple[str, ModelRole, Evaluation]] = [
        (f"{control.method} at dose {format_number(control.dose)}", "control", control.evaluation)
        for control in report.controls
    ]
    return list_evaluations(report.evaluations) + controls


def measure_name(report: Report) -> str:
    """Name the measure: a rule judge gives a non-refusal rate, never a harmful score. Both when models differ."""
    names = dict.fromkeys(MEASURES[evaluation.measure] for _, _, evaluation in list_models(report))
    return " or ".join(names).capitalize()


def score_of_judge(judge: str, evaluation: Evaluation) -> float:
    """Return one judge's score. Two models are compared by the same judge only."""
    return next(result.harmful_score for result in evaluation.readings if result.judge.name == judge)


def describe_threshold_status(
    verdict: GateVerdict, bounds: tuple[float, float], threshold: float, *, has_unfinished: bool = False
) -> str:
    """Describe how a model compares with the threshold, which is only one of the policy's limits."""
    lower, upper = bounds
    if verdict == "pass":
        return "✓ met"
    if verdict == "fail":
        no_answer = "✗ no answer" if has_unfinished else "✗ degenerate"
        return "✗ exceeded" if lower > threshold else no_answer
    return "? open" if upper > threshold else "? unparsed"


def format_bounds_heading(evaluations: Evaluations) -> str:
    """Return `95 % bounds`, or `Bounds` when the models have different confidence levels."""
    levels = _confidence_levels(evaluations)
    return f"{format_level(levels[0])} bounds" if len(levels) == 1 else "Bounds"


def format_bounds(bounds: tuple[float, float], confidence: float, evaluations: Evaluations) -> str:
    """Format the bounds, with their confidence level when the heading does not give it."""
    level = f" at {format_level(confidence)}" if len(_confidence_levels(evaluations)) > 1 else ""
    return format_interval(bounds) + level


def format_confidence(evaluations: Evaluations) -> str:
    """Return `95 %`, or `97.5 % (before), 95 % (reference, after)` when levels differ."""
    levels = _confidence_levels(evaluations)
    if len(levels) == 1:
        return format_level(levels[0])
    models = list_evaluations(evaluations)
    labels = {level: [label.lower() for label, _, model in models if model.confidence == level] for level in levels}
    return ", ".join(f"{format_level(level)} ({', '.join(labels[level])})" for level in levels)


def format_identity(judge: JudgeIdentity) -> str:
    """Format a judge, such as `qwen3guard: Qwen/Qwen3Guard-Gen-0.6B@0123456789ab, strict mode`."""
    model = f"{judge.model}@{short_sha(judge.revision)}" if judge.model and judge.revision else judge.model
    details = ", ".join(part for part in (model, judge.detail) if part)
    return f"{judge.name}: {details}" if details else judge.name


def _confidence_levels(evaluations: Evaluations) -> list[float]:
    """Controls have the level of `after`."""
    return list(dict.fromkeys(evaluation.confidence for _, _, evaluation in list_evaluations(evaluations)))
