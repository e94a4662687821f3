"""The limits of a report's figures: what they were measured on, and what they do not show."""

from antidote_ci.formatting import format_level, format_percent
from antidote_ci.policy import DEFAULT_THOUGHT_TOKENS
from antidote_ci.records import Evaluation, RepairResult, Report
from antidote_ci.report.measures import CONFIDENCE, describe_split
from antidote_ci.report.statements import SYSTEM_PROMPT
from antidote_ci.report.text import format_number
from antidote_ci.sandbox.confinement import missing_protections


def list_limits(report: Report) -> list[str]:
    """List the limitations of the measurement, then the notes of the run."""
    return [
        *_measurement_limits(report),
        *_judge_limits(report),
        *_missing_limits(report),
        *_answer_limits(report.evaluations.after or report.evaluations.before),
        *_repair_limits(report.repair),
        *report.notes,
    ]


def _measurement_limits(report: Report) -> list[str]:
    before = report.evaluations.before
    judges = " and ".join(result.judge.name for result in before.readings)
    decoding = (
        "greedy decoding"
        if before.samples == 1
        else f"{format_number(before.samples)} answers per prompt sampled at temperature 1 (averaged per prompt)"
    )
    most = report.policy.get("evaluation.max_thought_tokens")
    thought_tokens = format_number(most if isinstance(most, int) else DEFAULT_THOUGHT_TOKENS)
    thoughts = f", after a thought of at most {thought_tokens}" if before.thoughts else ""
    limits = [
        f"The model was evaluated on {format_number(before.n)} prompts by {judges}, with {decoding} and at most "
        f"{format_number(before.plan.max_new_tokens)} new tokens per answer{thoughts}. Other prompts, sampling "
        "settings or longer answers may give other results.",
        f"Each bound holds with {format_level(CONFIDENCE)} confidence for prompts like these. "
        "It is not a proof of safety.",
    ]
    if split := describe_split(report.evaluations):
        limits.append(split)
    if before.n < before.planned:
        limits.append(
            f"The evaluation stopped early, after {format_number(before.n)} of {format_number(before.planned)} "
            "prompts. The verdict holds for the whole set, but each category has few prompts."
        )
    if before.thoughts:
        limits.append("Only the answers were judged. A thought can contain what the answer after it does not.")
    if before.plan.plain_template:
        limits.append("The model has no chat template, so a plain one was used. With its own it may answer otherwise.")
    if effects := before.plan.template:
        additions = {
            **({} if report.policy.get(SYSTEM_PROMPT) else {"a system message": effects.system_message}),
            "tools": effects.tools,
            "further turns": effects.further_turns,
        }
        changing = [name for name, effect in additions.items() if effect == "changes other text"]
        if changing:
            limits.append(
                f"The chat template changes its own text for {' and for '.join(changing)}. The prompts had none of "
                "these, so conversations that have them were not evaluated."
            )
    if before.plan.generator != "transformers":
        limits.append(
            "A server generated the answers with its own chat template, precision and batching. The same weights may "
            "answer differently elsewhere."
        )
    missing = missing_protections(report.protections)
    if report.protections and missing:
        limits.append(
            f"The model ran without {' and '.join(missing)}, so code in its files could have read other files of the "
            "user, and reached the network."
        )
    return limits


def _judge_limits(report: Report) -> list[str]:
    limits = []
    if any(result.judge.measure == "non_refusal_rate" for result in report.evaluations.before.readings):
        limits.append(
            "The rule judge only detects whether an answer starts with a refusal. Its figure is a non-refusal rate, "
            "not a harmful score."
        )
    deciding = (report.evaluations.after or report.evaluations.before).deciding_result
    if deciding.corrected_score is None:
        limits.append("The bounds do not include the judge's own errors, because the judge was not calibrated.")
        return limits
    limits.append(
        "The bounds include the judge's errors as measured on its calibration labels, which are answers of other "
        "models. Its error rates on this model's answers may differ."
    )
    for calibration in report.calibrations:
        if calibration.judge == deciding.judge and deciding.harmful_score < 1 - calibration.negatives.bounds[1]:
            limits.append(
                f"{calibration.judge.name} judged fewer answers harmful than its false positive rate on the "
                "calibration labels predicts. The labels do not represent these answers, so the correction for false "
                "positives may be wrong for them."
            )
    return limits


def _missing_limits(report: Report) -> list[str]:
    limits = []
    if any(prompt_set.origin == "embedded" for prompt_set in report.prompts):
        limits.append("The embedded prompts are few and mild. They are for demonstration only.")
    if report.evaluations.reference is None:
        limits.append("No reference was evaluated, so the lowest attainable score is unknown.")
    if report.evaluations.before.task is None:
        limits.append("No task was given, so the effect of a repair on the model's task is unknown.")
    elif report.policy.get("gate.utility_drop") == "report":
        limits.append("The policy does not limit the drop of task accuracy, which is only reported.")
    if report.evaluations.before.benign is None:
        limits.append("No harmless prompts were given, so over-refusal is unknown.")
    return limits


def _answer_limits(last: Evaluation) -> list[str]:
    limits = []
    if last.truncated > 0:
        limits.append(
            f"{format_percent(last.truncated)} of the answers were cut at the token limit. What would follow was not "
            "judged."
        )
    unfinished = {
        "harmful prompts": last.unfinished,
        "harmless prompts": last.benign.unfinished if last.benign else 0.0,
        "task prompts": last.task.unfinished if last.task else 0.0,
    }
    if any(unfinished.values()):
        shares = ", ".join(f"{name} {format_percent(share)}" for name, share in unfinished.items() if share)
        limits.append(
            f"Share of answers that are thoughts without an end: {shares}. None counts as safe, as a refusal or as "
            "right. A larger max_thought_tokens may let them end."
        )
    if last.unparsed > 0:
        limits.append(f"{format_percent(last.unparsed)} of the answers could not be judged. None counts as safe.")
    return limits


def _repair_limits(repair: RepairResult | None) -> list[str]:
    return [
        f"Not repaired: {untouched.what} ({format_number(untouched.weights)} weights; {untouched.why})."
        for untouched in (repair.left_alone if repair else [])
    ]
