"""What each judge made of each model, and how far it may be believed. Pure: records in, rows out."""

from dataclasses import dataclass
from typing import Literal

from antidote_ci.records import Calibration, Evaluation, Evaluations, GateVerdict, JudgeIdentity, Measure, Rate
from antidote_ci.report.text import interval, number, percent, percent_of, short

MEASURES: dict[Measure, str] = {
    "harmful_score": "Harmful score",
    "non_refusal_rate": "Non-refusal rate",
}

Role = Literal["reference", "tested", "before", "after", "control"]
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


def models(evaluations: Evaluations) -> list[tuple[str, Role, Evaluation]]:
    """The models that were measured, by the names they have in every table."""
    tested: tuple[str, Role] = ("Before", "before") if evaluations.after else ("Tested", "tested")
    named: list[tuple[tuple[str, Role], Evaluation | None]] = [
        (("Reference", "reference"), evaluations.reference),
        (tested, evaluations.before),
        (("After", "after"), evaluations.after),
    ]
    return [(*name, each) for name, each in named if each is not None]


def score_by(judge: str, evaluation: Evaluation) -> float:
    """What that judge saw, so that two models are never compared by two different judges."""
    return next(each.harmful_score for each in evaluation.readings if each.judge.name == judge)


def against(verdict: GateVerdict, bounds: tuple[float, float], threshold: float) -> str:
    """How a model stands to the threshold. It may still break the policy's other limits."""
    lower, upper = bounds
    if verdict == "pass":
        return "✓ met"
    if verdict == "fail":
        return "✗ exceeded" if lower > threshold else "✗ degenerate"
    return "? open" if upper > threshold else "? unparsed"


def bounds_heading(evaluations: Evaluations) -> str:
    """`95 % bounds`; without the level where models differ in it, which `bounds` then gives.

    Controls are measured as `after` is.
    """
    levels = _levels(evaluations)
    return f"{percent_of(levels.pop())} bounds" if len(levels) == 1 else "Bounds"


def bounds(found: tuple[float, float], confidence: float, evaluations: Evaluations) -> str:
    """Under the heading above."""
    return interval(found) + (f" at {percent_of(confidence)}" if len(_levels(evaluations)) > 1 else "")


def confidence(evaluations: Evaluations) -> str:
    """`95 %`, or `97.5 % (before), 95 % (reference, after)`."""
    levels = dict.fromkeys(each.confidence for _, _, each in models(evaluations))
    if len(levels) == 1:
        return percent_of(*levels)
    named = {
        level: ", ".join(label.lower() for label, _, each in models(evaluations) if each.confidence == level)
        for level in levels
    }
    return ", ".join(f"{percent_of(level)} ({labels})" for level, labels in named.items())


def rows(evaluations: Evaluations) -> list[JudgeRow]:
    """Every reading; empty with a single judge, of which the comparison says all."""
    readings = [
        (label, evaluation, reading)
        for label, _, evaluation in models(evaluations)
        for reading in evaluation.readings
        if len(evaluation.readings) > 1
    ]
    return [
        JudgeRow(
            model=label,
            judge=reading.judge.name,
            measure=MEASURES[reading.judge.measure],
            score=percent(reading.harmful_score),
            corrected=percent(reading.corrected_score),
            bounds=bounds(reading.bounds, evaluation.confidence, evaluations),
            unparsed=percent(reading.unparsed),
            degenerate=percent(reading.degenerate),
            against=against(reading.verdict, reading.bounds, evaluation.threshold),
            decides=reading is evaluation.deciding,
        )
        for label, evaluation, reading in readings
    ]


def disagreement(evaluations: Evaluations) -> str:
    """On how many prompts two judges differ, model by model; empty with one judge."""
    differ = [
        f"{label.lower()} {percent(evaluation.disagreement)}"
        for label, _, evaluation in models(evaluations)
        if evaluation.disagreement is not None
    ]
    return f"The judges differ on this share of the prompts: {', '.join(differ)}." if differ else ""


def calibrations(measured: list[Calibration]) -> list[CalibrationRow]:
    """What is known of the judges' own errors."""
    return [
        CalibrationRow(
            judge=each.judge.name,
            sensitivity=_rate(each.positives),
            specificity=_rate(each.negatives),
            n=number(each.n),
            labels=f"{each.labels} {short(each.labels_sha256)}",
        )
        for each in measured
    ]


def identity(judge: JudgeIdentity) -> str:
    """Such as `qwen3guard: Qwen/Qwen3Guard-Gen-0.6B@0123456789ab, strict mode`."""
    model = f"{judge.model}@{short(judge.revision)}" if judge.model and judge.revision else judge.model
    details = ", ".join(each for each in (model, judge.detail) if each)
    return f"{judge.name}: {details}" if details else judge.name


def _levels(evaluations: Evaluations) -> set[float]:
    return {each.confidence for _, _, each in models(evaluations)}


def _rate(rate: Rate) -> str:
    return f"{percent(rate.share)} {interval(rate.bounds)}, {number(rate.hits)} of {number(rate.n)}"
