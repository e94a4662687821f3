"""What each judge made of each model, and how far it may be believed. Pure: records in, rows out."""

from dataclasses import dataclass
from typing import Literal

from antidote_ci.records import Calibration, Evaluation, Evaluations, GateVerdict, JudgeIdentity, Measure, Rate
from antidote_ci.report.text import format_interval, format_level, format_number, format_percent, short_sha

MEASURES: dict[Measure, str] = {
    "harmful_score": "Harmful score",
    "non_refusal_rate": "Non-refusal rate",
}

ModelRole = Literal["reference", "tested", "before", "after", "control"]
"""`tested` is the source where there is no repair to be before of."""


@dataclass(frozen=True)
class JudgeRow:
    """One judge's reading of one model, for people."""

    model: str
    judge: str
    measure: str
    score: str
    corrected: str
    """For the judge's own errors; a dash where it was not calibrated."""
    bounds: str
    unparsed: str
    degenerate: str
    against: str
    decides: bool


@dataclass(frozen=True)
class CalibrationRow:
    """One judge against human labels, for people."""

    judge: str
    sensitivity: str
    specificity: str
    n: str
    labels: str


def list_evaluations(evaluations: Evaluations) -> list[tuple[str, ModelRole, Evaluation]]:
    """The models that were measured, by the names they have in every table."""
    tested: tuple[str, ModelRole] = ("Before", "before") if evaluations.after else ("Tested", "tested")
    named: list[tuple[tuple[str, ModelRole], Evaluation | None]] = [
        (("Reference", "reference"), evaluations.reference),
        (tested, evaluations.before),
        (("After", "after"), evaluations.after),
    ]
    return [(*name, each) for name, each in named if each is not None]


def score_of_judge(judge: str, evaluation: Evaluation) -> float:
    """What that judge saw, so that two models are never compared by two different judges."""
    return next(each.harmful_score for each in evaluation.readings if each.judge.name == judge)


def describe_standing(verdict: GateVerdict, bounds: tuple[float, float], threshold: float) -> str:
    """How a model stands to the threshold. It may still break the policy's other limits."""
    lower, upper = bounds
    if verdict == "pass":
        return "✓ met"
    if verdict == "fail":
        return "✗ exceeded" if lower > threshold else "✗ degenerate"
    return "? open" if upper > threshold else "? unparsed"


def format_bounds_heading(evaluations: Evaluations) -> str:
    """`95 % bounds`; without the level where models differ in it, which `format_bounds` then gives.

    Controls are measured as `after` is.
    """
    levels = _confidence_levels(evaluations)
    return f"{format_level(levels.pop())} bounds" if len(levels) == 1 else "Bounds"


def format_bounds(found: tuple[float, float], confidence: float, evaluations: Evaluations) -> str:
    """Under the heading above."""
    return format_interval(found) + (
        f" at {format_level(confidence)}" if len(_confidence_levels(evaluations)) > 1 else ""
    )


def format_confidence(evaluations: Evaluations) -> str:
    """`95 %`, or `97.5 % (before), 95 % (reference, after)`."""
    levels = dict.fromkeys(each.confidence for _, _, each in list_evaluations(evaluations))
    if len(levels) == 1:
        return format_level(*levels)
    named = {
        level: ", ".join(label.lower() for label, _, each in list_evaluations(evaluations) if each.confidence == level)
        for level in levels
    }
    return ", ".join(f"{format_level(level)} ({labels})" for level, labels in named.items())


def judge_rows(evaluations: Evaluations) -> list[JudgeRow]:
    """Every reading; empty with a single judge, of which the comparison says all."""
    readings = [
        (label, evaluation, reading)
        for label, _, evaluation in list_evaluations(evaluations)
        for reading in evaluation.readings
        if len(evaluation.readings) > 1
    ]
    return [
        JudgeRow(
            model=label,
            judge=reading.judge.name,
            measure=MEASURES[reading.judge.measure],
            score=format_percent(reading.harmful_score),
            corrected=format_percent(reading.corrected_score),
            bounds=format_bounds(reading.bounds, evaluation.confidence, evaluations),
            unparsed=format_percent(reading.unparsed),
            degenerate=format_percent(reading.degenerate),
            against=describe_standing(reading.verdict, reading.bounds, evaluation.threshold),
            decides=reading is evaluation.deciding_result,
        )
        for label, evaluation, reading in readings
    ]


def describe_disagreement(evaluations: Evaluations) -> str:
    """On how many prompts two judges differ, model by model; empty with one judge."""
    differ = [
        f"{label.lower()} {format_percent(evaluation.disagreement)}"
        for label, _, evaluation in list_evaluations(evaluations)
        if evaluation.disagreement is not None
    ]
    return f"The judges differ on this share of the prompts: {', '.join(differ)}." if differ else ""


def calibration_rows(measured: list[Calibration]) -> list[CalibrationRow]:
    """What is known of the judges' own errors."""
    return [
        CalibrationRow(
            judge=each.judge.name,
            sensitivity=_format_rate(each.positives),
            specificity=_format_rate(each.negatives),
            n=format_number(each.n),
            labels=f"{each.labels} {short_sha(each.labels_sha256)}",
        )
        for each in measured
    ]


def format_identity(judge: JudgeIdentity) -> str:
    """Such as `qwen3guard: Qwen/Qwen3Guard-Gen-0.6B@0123456789ab, strict mode`."""
    model = f"{judge.model}@{short_sha(judge.revision)}" if judge.model and judge.revision else judge.model
    details = ", ".join(each for each in (model, judge.detail) if each)
    return f"{judge.name}: {details}" if details else judge.name


def _confidence_levels(evaluations: Evaluations) -> set[float]:
    return {each.confidence for _, _, each in list_evaluations(evaluations)}


def _format_rate(rate: Rate) -> str:
    return (
        f"{format_percent(rate.share)} {format_interval(rate.bounds)}, {format_number(rate.hits)} of "
        f"{format_number(rate.n)}"
    )
