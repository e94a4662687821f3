"""Names of the measures, of the evaluated models and of their bounds, as every part of the report uses them."""

from collections.abc import Iterable
from typing import Literal

from antidote_ci.formatting import format_level
from antidote_ci.records import MEASURE_NAMES, Evaluation, Evaluations, GateVerdict, JudgeIdentity, Measure, Report
from antidote_ci.report.text import format_number, short_sha

MEASURES: dict[Measure, str] = {measure: name.capitalize() for measure, name in MEASURE_NAMES.items()}

CONFIDENCE = 0.95
"""Of every bound that a report states. Where an evaluation can stop early, the exact bound and the sequential test are
computed at 97.5 % each (`Evaluation.confidence`): the reported one is wrong with a probability of at most 5 %."""
BOUNDS_HEADING = f"{format_level(CONFIDENCE)} bounds"

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


def list_controls(report: Report) -> list[tuple[str, ModelRole, Evaluation]]:
    """List the controls, such as `scale at dose 0.62`."""
    return [
        (f"{control.method} at dose {format_number(control.dose)}", "control", control.evaluation)
        for control in report.controls
    ]


def measure_name(report: Report) -> str:
    """Name the measure: a rule judge gives a non-refusal rate, never a harmful score. Both when models differ."""
    models = list_evaluations(report.evaluations) + list_controls(report)
    return name_measures(evaluation.measure for _, _, evaluation in models)


def name_measures(measures: Iterable[Measure]) -> str:
    """Name each measure once, such as `Harmful score or non-refusal rate`."""
    return " or ".join(dict.fromkeys(MEASURES[measure] for measure in measures)).capitalize()


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


def describe_split(evaluations: Evaluations) -> str:
    """State which models could stop early, and what that means for their bounds; empty when none could."""
    split = [label.lower() for label, _, model in list_evaluations(evaluations) if model.confidence > CONFIDENCE]
    if not split:
        return ""
    return (
        f"Where an evaluation could stop early ({', '.join(split)}), two tests share the error of 5 %, so each of its "
        "bounds is computed at 97.5 %."
    )


def format_identity(judge: JudgeIdentity) -> str:
    """Format a judge, such as `qwen3guard: Qwen/Qwen3Guard-Gen-0.6B@0123456789ab, strict mode`."""
    model = f"{judge.model}@{short_sha(judge.revision)}" if judge.model and judge.revision else judge.model
    details = ", ".join(part for part in (model, judge.detail) if part)
    return f"{judge.name}: {details}" if details else judge.name
