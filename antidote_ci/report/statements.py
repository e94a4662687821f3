"""Sentences of the report: the verdict, its reasons, its headline figures and the next step."""

import json
from dataclasses import dataclass, replace

from antidote_ci.formatting import (
    decimals_apart,
    format_interval,
    format_level,
    format_percent,
    format_points,
)
from antidote_ci.records import (
    NOT_PASSING_FOLDER,
    ControlResult,
    Evaluation,
    Method,
    Report,
)
from antidote_ci.report.measures import (
    BOUNDS_HEADING,
    CONFIDENCE,
    MEASURES,
    list_controls,
    list_evaluations,
    score_of_judge,
)
from antidote_ci.report.text import format_number, pluralize

VERDICTS = {
    "pass": "Passes",
    "repaired": "Repaired",
    "fail": "Fails",
    "inconclusive": "Inconclusive",
}
TESTED_VERDICTS = {
    "pass": "passes",
    "fail": "fails",
    "inconclusive": "is not shown to pass",
}
SYSTEM_PROMPT, ARGUMENTS = "evaluation.system_prompt", "evaluation.chat_template_kwargs"
"""Keys of the policy in the report."""
CONTROL_PURPOSES: dict[Method, str] = {
    "scale": "Shows whether moving all weights towards the reference, without choosing any, would do as well.",
    "random": "Shows whether editing the same number of weights, chosen at random, would do as well.",
}


@dataclass(frozen=True)
class HeadlineFigure:
    """One number of the headline."""

    label: str
    value: str
    note: str


def describe_verdict(report: Report) -> str:
    """State the verdict, what decided it, how many prompts were used, and why no repair passes."""
    before, after = report.evaluations.before, report.evaluations.after
    if report.verdict == "pass":
        verdict = "The tested revision passes."
    elif report.verdict == "inconclusive":
        verdict = "The result is inconclusive" + (", and the repaired weights do not pass." if after else ".")
    elif report.verdict == "repaired":
        verdict = "The tested revision does not pass; the repaired weights pass."
    elif after is not None:
        verdict = "Neither the tested revision nor the repaired weights pass."
    else:
        # A rise from the baseline alone can make it fail.
        verdict = f"The tested revision {TESTED_VERDICTS['fail' if before.verdict == 'pass' else before.verdict]}."
    last = after or before
    score = format_percent(last.harmful_score)
    if (corrected := last.deciding_result.corrected_score) is not None:
        score += f" ({format_percent(corrected)} corrected)"
    if after is None:
        value = f"is {score}"
    else:
        value = f"changes from {format_percent(score_of_judge(after.judge, before))} to {score}"
    failure, reason = _describe_repair_failure(report), _other_reason(report, last)
    if not failure and report.baseline is not None and report.baseline.reason:
        reason = f" {_to_sentence(report.baseline.reason)}{reason}"
    text = f"{verdict}{reason} The {_measure_text(last)} {value}, and {_bound_text(last)}. {_prompts_text(last)}"
    return f"{text} {failure}".strip()


def _describe_repair_failure(report: Report) -> str:
    """Why a repair does not pass, or was not made; empty where none is needed, and for a command that makes none."""
    if not _is_of_run(report) or report.verdict in ("pass", "repaired") or is_decided_by_baseline(report):
        return ""
    return _to_sentence(report.reason)


def _to_sentence(clause: str) -> str:
    return f"{clause[:1].upper()}{clause[1:].removesuffix('.')}."


def describe_next_step(report: Report) -> str:
    """State in one sentence what its reader does next. It names no text of the model's repository."""
    before = report.evaluations.before
    if is_decided_by_baseline(report):
        return _next_step_after_rise(report)
    if report.verdict == "pass":
        return "Use this revision, and evaluate the next one too: antidote-ci init writes a workflow that does."
    if report.verdict == "repaired":
        if not report.publish.has_weights:
            return (
                "Publish the repaired weights with --publish, or use those in the folder model of --out; with "
                "--accept-repair the run then exits with 0."
            )
        action = "merge it" if report.publish.mode == "pull-request" else "use it instead of the tested revision"
        return f"Check what was published with antidote-ci verify, then {action}."
    if report.verdict == "inconclusive":
        if before.bounds[1] <= before.threshold:
            return "Name another judge with --judge, because this one could not read enough answers."
        return "Measure more prompts (--prompts takes several sets), because the threshold lies between the bounds."
    if report.evaluations.after is not None or report.attempts:
        return (
            "Read in report.html which limits the repair misses, then train again on data without harmful rows, or "
            "name another reference or realignment set."
        )
    if before.bounds[1] <= before.threshold and before.unfinished > before.degenerate:
        return "Raise max_thought_tokens in the policy, or turn thoughts off: most of these thoughts have no end."
    if before.bounds[1] <= before.threshold:
        return "Look at the chat template and the training data: a repair does not mend degenerate answers."
    if _is_of_run(report):
        return "Change what the reason names and run again, or train again on data without harmful rows."
    return "Repair the weights with antidote-ci run, or train again on data without harmful rows."


def _is_of_run(report: Report) -> bool:
    """Whether the command was `run`, which can repair."""
    return any(prompt_set.role == "selection" for prompt_set in report.prompts)


def is_decided_by_baseline(report: Report) -> bool:
    """Whether the tested model meets its own limits, and only the comparison with the baseline prevents a pass."""
    return report.evaluations.before.verdict == "pass" and report.verdict != "pass"


def _next_step_after_rise(report: Report) -> str:
    if report.verdict == "fail":
        return (
            "Read in report.html what changed since the baseline, then train again on data without harmful rows, or "
            "keep the baseline's model."
        )
    if report.baseline is not None and any(change.limit is not None for change in report.baseline.changes):
        return "Measure more prompts for the baseline and for this model (--prompts takes several sets)."
    return "Evaluate the baseline again with the same prompts, judge and settings, because nothing is paired."


def warn_of_weights(report: Report) -> str:
    """Warn of repaired weights that were kept although they did not pass; empty when there are none."""
    if not report.keeps_failed_weights:
        return ""
    return (
        f"The repaired weights did NOT pass the policy. They are kept in the folder {NOT_PASSING_FOLDER}, are not "
        "published, and must not be released as a repaired model."
    )


def describe_chat(report: Report) -> list[str]:
    """Describe what the policy adds to every prompt: a system prompt and template arguments. May be empty."""
    policy, prefix = report.policy, f"{ARGUMENTS}."
    system_prompt = policy.get(SYSTEM_PROMPT)
    arguments = [
        f"{name.removeprefix(prefix)} = {json.dumps(value)}"
        for name, value in policy.items()
        if name.startswith(prefix)
    ]
    return [
        *([f"after the system prompt {system_prompt}"] if system_prompt else []),
        *([f"with the template arguments {', '.join(arguments)}"] if arguments else []),
    ]


def describe_mode(report: Report) -> list[str]:
    """State how the prompts were put and which share of the answers began with a thought. Empty for bare prompts."""
    before = report.evaluations.before
    sentences = []
    if chat := describe_chat(report):
        sentences.append(f"Every prompt was put {' and '.join(chat)}.")
    if before.plan.template and before.plan.template.thoughts == "off":
        sentences.append("Thoughts were off.")
    evaluations = list_evaluations(report.evaluations)
    if any(evaluation.thoughts for _, _, evaluation in evaluations):
        thoughts = ", ".join(f"{label.lower()} {format_percent(model.thoughts)}" for label, _, model in evaluations)
        unfinished = ", ".join(f"{label.lower()} {format_percent(model.unfinished)}" for label, _, model in evaluations)
        sentences.append(
            f"Share of answers to harmful prompts that began with a thought: {thoughts}; "
            f"unfinished thoughts, without an answer: {unfinished}."
        )
    return sentences


def describe_worst_kind(report: Report) -> str:
    """State the kind of prompt with the highest score of the last evaluated model; empty if there is one kind only."""
    last = report.evaluations.after or report.evaluations.before
    if len(last.kinds) < 2:
        return ""  # the score of the only kind is that of all prompts
    worst = max(last.kinds, key=lambda kind: (kind.harmful / kind.n, kind.n))
    unseen = ", none of which the repair reads," if worst.unseen else ""
    reference = report.evaluations.reference
    comparison = "".join(
        f" The reference has {format_percent(kind.harmful / kind.n)}."
        for kind in (reference.kinds if reference else ())
        if (kind.kind, kind.unseen) == (worst.kind, worst.unseen)
    )
    return (
        f"Prompts of the kind {worst.kind}{unseen} have the highest {MEASURES[last.measure].lower()}: "
        f"{format_percent(worst.harmful / worst.n)} of {format_number(worst.n)} prompts, "
        f"bounds {format_interval(worst.bounds)}.{comparison}"
    )


def describe_controls(report: Report) -> list[tuple[str, str]]:
    """Return for each control its label, and what it shows about the repair."""
    return [
        (label, f"{CONTROL_PURPOSES[control.method]} {_describe_control_result(control)}".strip())
        for control, (label, _, _) in zip(report.controls, list_controls(report), strict=True)
    ]


def list_matching_controls(report: Report) -> list[str]:
    """State each control that makes the repair unnecessary.

    Such a control meets the policy's limits and either the repair does not, or the control's task accuracy is not
    significantly lower.
    """
    repaired = report.verdict == "repaired"
    comparison = (
        ", and its task accuracy is not significantly lower than the repair's."
        if report.evaluations.before.task
        else ". No task was given to compare it with the repair."
    )
    return [
        f"{control.method} at dose {format_number(control.dose)} meets the policy's limits"
        + (comparison if repaired else ", and the repair does not.")
        for control in report.controls
        if control.lacks == [] and not (repaired and control.costs_more)
    ]


def describe_change(report: Report) -> tuple[str, str]:
    """Return the measure's name and its change, both of the judge that decides the last evaluation."""
    before, after = report.evaluations.before, report.evaluations.after
    last = after or before
    first_score = score_of_judge(last.judge, before)
    return MEASURES[last.measure], _change_text(first_score, after.harmful_score if after else None)


def headline_figures(report: Report) -> list[HeadlineFigure]:
    """Return the numbers that decide on a release."""
    before, after, reference = report.evaluations.before, report.evaluations.after, report.evaluations.reference
    last = after or before
    bounds = f"{BOUNDS_HEADING} {format_interval(last.bounds)}"
    figures = [HeadlineFigure(*describe_change(report), f"{bounds}, threshold {format_percent(last.threshold)}")]
    if (corrected := last.deciding_result.corrected_score) is not None:
        figures.append(HeadlineFigure("Corrected", format_percent(corrected), f"for the errors of {last.judge}"))
    if last.unfinished:
        figures.append(HeadlineFigure("Unfinished thoughts", format_percent(last.unfinished), "without an answer"))
    if before.n < before.planned:
        answered = f"{format_number(before.n)} of {format_number(before.planned)}"
        figures.append(HeadlineFigure("Prompts answered", answered, "stopped early"))
    if after and reference:
        score, floor = score_of_judge(after.judge, before), score_of_judge(after.judge, reference)
        if score > floor:
            removed = format_percent((score - after.harmful_score) / (score - floor))
            note = f"share of the score above the reference's {format_percent(floor)}"
            figures.append(HeadlineFigure("Excess removed", removed, note))
    if before.task:
        accuracy = after.task.accuracy if after and after.task else None
        figures.append(_utility_figure("Task accuracy", before.task.accuracy, accuracy, before.task.n))
    if before.benign:
        refusal = after.benign.over_refusal if after and after.benign else None
        figure = _utility_figure("Over-refusal", before.benign.over_refusal, refusal, before.benign.n)
        if reference and reference.benign:
            share = format_percent(reference.benign.over_refusal)
            figure = replace(figure, note=f"{figure.note}; reference {share}")
        figures.append(figure)
    return figures


def _describe_control_result(control: ControlResult) -> str:
    evaluation = control.evaluation
    stopped = ""
    if evaluation.n < evaluation.planned:
        answered, planned = format_number(evaluation.n), format_number(evaluation.planned)
        stopped = f" Its evaluation ended after {answered} of {planned} prompts, when it could no longer pass."
    if control.lacks is None:
        return stopped.strip()
    if control.lacks:
        more = f", and {pluralize(len(control.lacks) - 1, 'other reason')}" if len(control.lacks) > 1 else ""
        return f"Result: it does not meet the policy's limits: {control.lacks[0]}{more}.{stopped}"
    if control.costs_more:
        return "Result: it meets the policy's limits, but its task accuracy is significantly lower than the repair's."
    return "Result: it meets the policy's limits too."


def _measure_text(evaluation: Evaluation) -> str:
    judges = len(evaluation.readings)
    judge = f" (judge {evaluation.judge}, the worse of {format_number(judges)})" if judges > 1 else ""
    return MEASURES[evaluation.measure].lower() + judge


def _bound_text(evaluation: Evaluation) -> str:
    (lower, upper), limit = evaluation.bounds, evaluation.threshold
    is_pass = evaluation.verdict == "pass"
    deciding = [upper] if is_pass else [lower] if lower > limit else [lower, upper]
    decimals = decimals_apart(limit, *deciding)
    threshold = f"the threshold of {format_percent(limit, decimals)}"
    confidence = f"({format_level(CONFIDENCE)} confidence)"
    if is_pass:
        return f"its upper bound of {format_percent(upper, decimals)} {confidence} is at most {threshold}"
    if lower > limit:
        return f"its lower bound of {format_percent(lower, decimals)} {confidence} is above {threshold}"
    bounds = f"the bounds {format_interval(evaluation.bounds, decimals)} {confidence}"
    if upper > limit:
        return f"{threshold} lies between {bounds}"
    return f"{bounds} meet {threshold}"


def _other_reason(report: Report, evaluation: Evaluation) -> str:
    """The share that prevents a pass although the bounds meet the threshold; empty if the bounds decide."""
    if evaluation.verdict == "pass" or evaluation.bounds[1] > evaluation.threshold:
        return ""
    if evaluation.verdict == "fail":
        limit = report.policy.get("gate.degenerate")
        decimals = decimals_apart(limit, evaluation.unusable) if isinstance(limit, float) else 1
        more = f", more than {format_percent(limit, decimals)}" if isinstance(limit, float) else ""
        kind = "degenerate or unfinished thoughts" if evaluation.unfinished else "degenerate"
        return f" {format_percent(evaluation.unusable, decimals)} of the answers are {kind}{more}."
    return f" {format_percent(evaluation.unparsed)} of the answers could not be judged."


def _prompts_text(evaluation: Evaluation) -> str:
    answered, planned = format_number(evaluation.n), format_number(evaluation.planned)
    if evaluation.n == evaluation.planned:
        return f"All {planned} prompts were used."
    if evaluation.deciding_result.decided_by == "sequence":
        return f"The evaluation stopped early, after {answered} of {planned} prompts."
    return f"{answered} of {planned} prompts were used."


def _change_text(before: float, after: float | None) -> str:
    return format_percent(before) if after is None else f"{format_percent(before)} → {format_percent(after)}"


def _utility_figure(label: str, before: float, after: float | None, n: int) -> HeadlineFigure:
    change = "" if after is None else f"{format_points(after - before)}, "
    return HeadlineFigure(label, _change_text(before, after), f"{change}n = {format_number(n)}")
