"""What the figures do not say, in plain words. Pure."""

import re

from antidote_ci.records import Evaluation, PromptSetRecord, RepairResult, Report
from antidote_ci.report.judges import format_confidence
from antidote_ci.report.text import abbreviate_commits, format_number, format_percent

NON_COMMERCIAL = re.compile(r"(?<![a-z])nc(?![a-z])|non-?commercial", re.IGNORECASE)


def list_limits(report: Report) -> list[str]:
    """Each a sentence or two; what the run itself has to say comes last."""
    before = report.evaluations.before
    last = report.evaluations.after or before
    return [
        *_measurement_limits(report),
        *_judge_limits(report),
        *_unmeasured_limits(report),
        *_answer_limits(last),
        *_repair_limits(report.repair),
        *_licence_limits(report.prompts),
        *report.notes,
    ]


def _measurement_limits(report: Report) -> list[str]:
    before = report.evaluations.before
    names = " and ".join(each.judge.name for each in before.readings)
    decoding = (
        "greedy decoding"
        if before.samples == 1
        else f"{format_number(before.samples)} answers a prompt drawn at temperature 1 (a prompt counts as their mean)"
    )
    known = [
        f"Measured on {format_number(before.n)} prompts by {names}, with {decoding} and at most "
        f"{format_number(before.plan.max_new_tokens)} new tokens an answer. Other prompts, sampling or longer answers "
        "may give other figures.",
        f"Each bound holds with {format_confidence(report.evaluations)} confidence for prompts like these. "
        "It is not a proof of safety.",
    ]
    if before.n < before.planned:
        known.append(
            f"The measurement stopped early, after {format_number(before.n)} of {format_number(before.planned)} "
            "prompts: "
            "the verdict holds for the whole set, but each category has few prompts."
        )
    if before.plan.plain_template:
        known.append(
            "The model brings no chat template, so a plain one was used; with its own it may answer otherwise."
        )
    if before.plan.generator != "transformers":
        known.append(
            "A server gave the answers, with its own chat template, precision and batching: "
            "they may differ from those of the same weights elsewhere."
        )
    return known


def _judge_limits(report: Report) -> list[str]:
    before = report.evaluations.before
    measures = {each.judge.measure for each in before.readings}
    known = []
    if "non_refusal_rate" in measures:
        known.append(
            "The rule judge only sees whether an answer opens with a refusal, not what it says: "
            "its figure is a non-refusal rate, not a harmful score."
        )
    reading = (report.evaluations.after or before).deciding_result
    if reading.corrected_score is None:
        known.append("The judge's own errors are not in the bounds: it was not calibrated.")
    else:
        known.append(
            "The bounds carry the judge's errors as they were on its calibration labels, which are answers of other "
            "models: on this model's answers it may err more or less."
        )
        for each in report.calibrations:
            if each.judge == reading.judge and reading.harmful_score < 1 - each.negatives.bounds[1]:
                known.append(
                    f"{each.judge.name} called fewer answers harmful than it gave false alarms on its labels: they do "
                    "not fit these answers, so no false alarm is taken off the upper bound."
                )
    return known


def _unmeasured_limits(report: Report) -> list[str]:
    before = report.evaluations.before
    known = []
    if any(each.origin == "embedded" for each in report.prompts):
        known.append("The embedded prompts are mild and few: they are for demonstration.")
    if report.evaluations.reference is None:
        known.append("No reference was measured, so nothing says how low the figure could be.")
    if before.task is None:
        known.append("No task of the model's own was given, so nothing says what a repair costs it.")
    if before.benign is None:
        known.append("No harmless prompts were given, so over-refusal is unknown.")
    return known


def _answer_limits(last: Evaluation) -> list[str]:
    known = []
    if last.truncated > 0:
        known.append(f"{format_percent(last.truncated)} of the answers reached the token limit and were judged as cut.")
    if last.unparsed > 0:
        known.append(f"{format_percent(last.unparsed)} of the answers could not be judged; none counts as safe.")
    return known


def _repair_limits(repair: RepairResult | None) -> list[str]:
    if repair is None:
        return []
    return [
        f"Left as they were: {each.what} ({format_number(each.weights)} weights; {each.why})."
        for each in repair.left_alone
    ]


def _licence_limits(prompts: list[PromptSetRecord]) -> list[str]:
    sets = dict.fromkeys(
        f"{abbreviate_commits(each.origin)} ({each.licence})"
        for each in prompts
        if each.licence and NON_COMMERCIAL.search(each.licence)
    )
    return [f"Prompts under a non-commercial licence were used: {', '.join(sets)}."] if sets else []
