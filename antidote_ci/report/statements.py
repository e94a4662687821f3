"""The verdict in a sentence and in a few figures. Pure."""

from dataclasses import dataclass

from antidote_ci.records import Evaluation, Report
from antidote_ci.report.judges import MEASURES, score_by
from antidote_ci.report.rows import control_name
from antidote_ci.report.text import interval, number, percent, percent_of, points

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
class Figure:
    """One number of the headline."""

    label: str
    value: str
    note: str


def verdict(report: Report) -> str:
    """One sentence: what was found, and which bound on how many prompts decided."""
    before, after = report.evaluations.before, report.evaluations.after
    found = f"its {_name(before)} is {_score(before)}; {_decided(before)}"
    if report.verdict == "pass":
        return f"The tested revision passes: {found}."
    if report.verdict == "inconclusive":
        return f"The evidence does not decide: {found}."
    if after is None:
        return f"The tested revision {BEFORE[before.verdict]}: {found}."
    was = percent(score_by(after.judge, before))
    change = f"its {_name(after)} goes from {was} to {_score(after)}; {_decided(after)}"
    if report.verdict == "repaired":
        return f"The tested revision does not pass, the repaired weights do: {change}."
    return f"Neither the tested revision nor the repaired weights pass: {change}."


def rivals(report: Report) -> list[str]:
    """Every control that makes the repair needless: a simple trick that did as well, or passes where it does not.

    As well: it meets the policy's limits on the same prompts, and does not get significantly fewer of the task right.
    """
    return [
        f"{control_name(each)} meets the policy's limits, and the repair does not."
        if report.verdict != "repaired"
        else f"{control_name(each)} did as well: it meets the policy's limits"
        + (
            ", and its task accuracy is not significantly lower."
            if report.evaluations.before.task
            else "; no task was given to tell them apart."
        )
        for each in report.controls
        if each.lacks == [] and not (report.verdict == "repaired" and each.costs_more)
    ]


def change(report: Report) -> tuple[str, str]:
    """What was measured and how it went, both by the judge that decides in the end."""
    before, after = report.evaluations.before, report.evaluations.after
    last = after or before
    return MEASURES[last.measure], _change(score_by(last.judge, before), after.harmful_score if after else None)


def headline(report: Report) -> list[Figure]:
    """The few numbers that a release is decided on."""
    before, after = report.evaluations.before, report.evaluations.after
    last = after or before
    bounds = f"{percent_of(last.confidence)} bounds {interval(last.bounds)}, threshold {percent(last.threshold)}"
    figures = [Figure(*change(report), bounds)]
    if (true_score := last.deciding.corrected_score) is not None:
        figures.append(Figure("Corrected", percent(true_score), f"for the errors of {last.judge}"))
    if before.n < before.planned:
        answered = f"{number(before.n)} of {number(before.planned)}"
        figures.append(Figure("Prompts answered", answered, "stopped early: the evidence sufficed"))
    reference = report.evaluations.reference
    if after and reference:
        was, floor = score_by(after.judge, before), score_by(after.judge, reference)
        if was > floor:
            note = f"of what lies above the reference's {percent(floor)}"
            figures.append(Figure("Excess removed", percent((was - after.harmful_score) / (was - floor)), note))
    if before.task:
        then = after.task.accuracy if after and after.task else None
        figures.append(_utility("Task accuracy", before.task.accuracy, then, before.task.n))
    if before.benign:
        then = after.benign.over_refusal if after and after.benign else None
        figures.append(_utility("Over-refusal", before.benign.over_refusal, then, before.benign.n))
    return figures


def _name(evaluation: Evaluation) -> str:
    judges = len(evaluation.readings)
    by = f" by {evaluation.judge}, the worse of {number(judges)} judges," if judges > 1 else ""
    return MEASURES[evaluation.measure].lower() + by


def _score(evaluation: Evaluation) -> str:
    true_score = evaluation.deciding.corrected_score
    return percent(evaluation.harmful_score) + ("" if true_score is None else f" ({percent(true_score)} corrected)")


def _decided(evaluation: Evaluation) -> str:
    lower, upper = evaluation.bounds
    limit, confidence = percent(evaluation.threshold), f"({percent_of(evaluation.confidence)} confidence)"
    if evaluation.verdict == "pass":
        bound = f"its upper bound {percent(upper)} {confidence} is at most the threshold {limit}"
    elif lower > evaluation.threshold:
        bound = f"its lower bound {percent(lower)} {confidence} is above the threshold {limit}"
    elif upper > evaluation.threshold:
        bound = f"the threshold {limit} lies between its bounds {interval(evaluation.bounds)} {confidence}"
    elif evaluation.verdict == "fail":
        bound = f"its bounds are {interval(evaluation.bounds)}, but {percent(evaluation.degenerate)} is degenerate"
    else:
        bound = f"its bounds are {interval(evaluation.bounds)}, but {percent(evaluation.unparsed)} could not be judged"
    return f"{bound}; {_effort(evaluation)}"


def _effort(evaluation: Evaluation) -> str:
    total = number(evaluation.planned)
    if evaluation.deciding.decided_by == "sequence" and evaluation.n < evaluation.planned:
        return f"stopped after {number(evaluation.n)} of {total} prompts because the evidence sufficed"
    if evaluation.n < evaluation.planned:
        return f"measured on {number(evaluation.n)} of {total} prompts"
    return f"measured on all {total} prompts"


def _change(before: float, after: float | None) -> str:
    return percent(before) if after is None else f"{percent(before)} → {percent(after)}"


def _utility(label: str, before: float, after: float | None, n: int) -> Figure:
    moved = "" if after is None else f"{points(after - before)}, "
    return Figure(label, _change(before, after), f"{moved}n = {number(n)}")
