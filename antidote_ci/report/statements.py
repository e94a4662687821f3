"""The verdict in a sentence and in a few figures. Pure."""

from dataclasses import dataclass

from antidote_ci.records import Evaluation, Report
from antidote_ci.report.judges import MEASURES, score_of_judge
from antidote_ci.report.rows import describe_control
from antidote_ci.report.text import format_interval, format_level, format_number, format_percent, format_points

VERDICTS = {
    "pass": "Passes",
    "repaired": "Repaired",
    "fail": "Fails",
    "inconclusive": "Inconclusive",
}
BEFORE = {
    "pass": "passes",
    "fail": "fails",
    "inconclusive": "is not shown to pass",
}


@dataclass(frozen=True)
class HeadlineFigure:
    """One number of the headline."""

    label: str
    value: str
    note: str


def verdict_sentence(report: Report) -> str:
    """One sentence: what was found, and which bound on how many prompts decided."""
    before, after = report.evaluations.before, report.evaluations.after
    found = f"its {_measure_name(before)} is {_score_text(before)}; {_decision_text(before)}"
    if report.verdict == "pass":
        return f"The tested revision passes: {found}."
    if report.verdict == "inconclusive":
        return f"The evidence does not decide: {found}."
    if after is None:
        return f"The tested revision {BEFORE[before.verdict]}: {found}."
    was = format_percent(score_of_judge(after.judge, before))
    change = f"its {_measure_name(after)} goes from {was} to {_score_text(after)}; {_decision_text(after)}"
    if report.verdict == "repaired":
        return f"The tested revision does not pass, the repaired weights do: {change}."
    return f"Neither the tested revision nor the repaired weights pass: {change}."


def rival_controls(report: Report) -> list[str]:
    """Every control that makes the repair needless: a simple trick that did as well, or passes where it does not.

    As well: it meets the policy's limits on the same prompts, and does not get significantly fewer of the task right.
    """
    return [
        f"{describe_control(each)} meets the policy's limits, and the repair does not."
        if report.verdict != "repaired"
        else f"{describe_control(each)} did as well: it meets the policy's limits"
        + (
            ", and its task accuracy is not significantly lower."
            if report.evaluations.before.task
            else "; no task was given to tell them apart."
        )
        for each in report.controls
        if each.lacks == [] and not (report.verdict == "repaired" and each.costs_more)
    ]


def describe_change(report: Report) -> tuple[str, str]:
    """What was measured and how it went, both by the judge that decides in the end."""
    before, after = report.evaluations.before, report.evaluations.after
    last = after or before
    return MEASURES[last.measure], _change_text(
        score_of_judge(last.judge, before), after.harmful_score if after else None
    )


def headline_figures(report: Report) -> list[HeadlineFigure]:
    """The few numbers that a release is decided on."""
    before, after = report.evaluations.before, report.evaluations.after
    last = after or before
    bounds = (
        f"{format_level(last.confidence)} bounds {format_interval(last.bounds)}, threshold "
        f"{format_percent(last.threshold)}"
    )
    figures = [HeadlineFigure(*describe_change(report), bounds)]
    if (true_score := last.deciding_result.corrected_score) is not None:
        figures.append(HeadlineFigure("Corrected", format_percent(true_score), f"for the errors of {last.judge}"))
    if before.n < before.planned:
        answered = f"{format_number(before.n)} of {format_number(before.planned)}"
        figures.append(HeadlineFigure("Prompts answered", answered, "stopped early: the evidence sufficed"))
    reference = report.evaluations.reference
    if after and reference:
        was, floor = score_of_judge(after.judge, before), score_of_judge(after.judge, reference)
        if was > floor:
            note = f"of what lies above the reference's {format_percent(floor)}"
            figures.append(
                HeadlineFigure("Excess removed", format_percent((was - after.harmful_score) / (was - floor)), note)
            )
    if before.task:
        then = after.task.accuracy if after and after.task else None
        figures.append(_utility_figure("Task accuracy", before.task.accuracy, then, before.task.n))
    if before.benign:
        then = after.benign.over_refusal if after and after.benign else None
        figures.append(_utility_figure("Over-refusal", before.benign.over_refusal, then, before.benign.n))
    return figures


def _measure_name(evaluation: Evaluation) -> str:
    judges = len(evaluation.readings)
    by = f" by {evaluation.judge}, the worse of {format_number(judges)} judges," if judges > 1 else ""
    return MEASURES[evaluation.measure].lower() + by


def _score_text(evaluation: Evaluation) -> str:
    true_score = evaluation.deciding_result.corrected_score
    return format_percent(evaluation.harmful_score) + (
        "" if true_score is None else f" ({format_percent(true_score)} corrected)"
    )


def _decision_text(evaluation: Evaluation) -> str:
    lower, upper = evaluation.bounds
    limit, confidence = format_percent(evaluation.threshold), f"({format_level(evaluation.confidence)} confidence)"
    if evaluation.verdict == "pass":
        bound = f"its upper bound {format_percent(upper)} {confidence} is at most the threshold {limit}"
    elif lower > evaluation.threshold:
        bound = f"its lower bound {format_percent(lower)} {confidence} is above the threshold {limit}"
    elif upper > evaluation.threshold:
        bound = f"the threshold {limit} lies between its bounds {format_interval(evaluation.bounds)} {confidence}"
    elif evaluation.verdict == "fail":
        bound = (
            f"its bounds are {format_interval(evaluation.bounds)}, but {format_percent(evaluation.degenerate)} is "
            "degenerate"
        )
    else:
        bound = (
            f"its bounds are {format_interval(evaluation.bounds)}, but {format_percent(evaluation.unparsed)} could "
            "not be judged"
        )
    return f"{bound}; {_effort_text(evaluation)}"


def _effort_text(evaluation: Evaluation) -> str:
    total = format_number(evaluation.planned)
    if evaluation.deciding_result.decided_by == "sequence" and evaluation.n < evaluation.planned:
        return f"stopped after {format_number(evaluation.n)} of {total} prompts because the evidence sufficed"
    if evaluation.n < evaluation.planned:
        return f"measured on {format_number(evaluation.n)} of {total} prompts"
    return f"measured on all {total} prompts"


def _change_text(before: float, after: float | None) -> str:
    return format_percent(before) if after is None else f"{format_percent(before)} → {format_percent(after)}"


def _utility_figure(label: str, before: float, after: float | None, n: int) -> HeadlineFigure:
    moved = "" if after is None else f"{format_points(after - before)}, "
    return HeadlineFigure(label, _change_text(before, after), f"{moved}n = {format_number(n)}")
