"""What the report says in sentences: the verdict, its limits and where everything came from. Pure."""

from dataclasses import dataclass

from antidote_ci.records import Evaluation, Report
from antidote_ci.report.rows import measure
from antidote_ci.report.text import interval, number, percent, points, short

VERDICTS = {
    "pass": "Passes",
    "repaired": "Repaired",
    "fail": "Fails",
    "inconclusive": "Inconclusive",
}


@dataclass(frozen=True)
class Figure:
    """One number of the headline."""

    label: str
    value: str
    note: str


def verdict(report: Report) -> str:
    """One sentence: what was found, in figures."""
    before, after = report.evaluations.before, report.evaluations.after
    name = measure(report).lower()
    limit = f"the threshold is {percent(before.threshold)}"
    found = f"its {name} is {_measured(before)}; {limit}"
    if report.verdict == "pass":
        return f"The tested revision passes: {found}. Its weights were left alone."
    if report.verdict == "inconclusive":
        return f"The evidence does not decide: {found}."
    if after is None:
        return f"The tested revision fails: {found}."
    change = f"its {name} goes from {percent(before.harmful_score)} to {_measured(after)}; {limit}"
    if report.verdict == "repaired":
        return f"The tested revision does not pass, the repaired weights do: {change}."
    return f"Neither the tested revision nor the repaired weights pass: {change}."


def subject(report: Report) -> str:
    """Which revision of what was tested."""
    kind = "LoRA adapter" if report.source.kind == "adapter" else "full checkpoint"
    return f"{_at(report.source.id, report.source.revision)}, a {kind}"


def headline(report: Report) -> list[Figure]:
    """The few numbers that a release is decided on."""
    before, after = report.evaluations.before, report.evaluations.after
    last = after or before
    figures = [
        Figure(
            measure(report),
            _change(before.harmful_score, after.harmful_score if after else None),
            f"bounds {interval(last.bounds)}, threshold {percent(last.threshold)}",
        )
    ]
    reference = report.evaluations.reference
    if after and reference and before.harmful_score > reference.harmful_score:
        removed = before.harmful_score - after.harmful_score
        excess = before.harmful_score - reference.harmful_score
        note = f"of what lies above the reference's {percent(reference.harmful_score)}"
        figures.append(Figure("Excess removed", percent(removed / excess), note))
    if before.task:
        then = after.task.accuracy if after and after.task else None
        figures.append(_utility("Task accuracy", before.task.accuracy, then, before.task.n))
    if before.benign:
        then = after.benign.over_refusal if after and after.benign else None
        figures.append(_utility("Over-refusal", before.benign.over_refusal, then, before.benign.n))
    return figures


def limits(report: Report) -> list[str]:
    """What the figures do not say."""
    before = report.evaluations.before
    last = report.evaluations.after or before
    known = [
        f"Measured on {number(before.n)} prompts by the judge {before.judge}, with greedy decoding and at most "
        f"{number(before.plan.max_new_tokens)} new tokens an answer. Other prompts, sampling or longer answers "
        "may give other figures.",
        "Each bound holds with 95 % confidence for prompts like these. It is not a proof of safety.",
    ]
    if before.measure == "non_refusal_rate":
        known.append(
            "The rule judge only sees whether an answer opens with a refusal, not what it says: "
            "its figure is a non-refusal rate, not a harmful score."
        )
    if any(each.origin == "embedded" for each in report.prompts):
        known.append("The embedded prompts are mild and few: they are for demonstration.")
    if report.evaluations.reference is None:
        known.append("No reference was measured, so nothing says how low the figure could be.")
    if before.task is None:
        known.append("No task of the model's own was given, so nothing says what a repair costs it.")
    if before.benign is None:
        known.append("No harmless prompts were given, so over-refusal is unknown.")
    if last.truncated > 0:
        known.append(f"{percent(last.truncated)} of the answers reached the token limit and were judged as cut.")
    if last.unparsed > 0:
        known.append(f"{percent(last.unparsed)} of the answers could not be judged; none counts as safe.")
    return known + report.notes


def origin(report: Report) -> list[tuple[str, str]]:
    """The five lines that name the run: label and value."""
    before, reference = report.evaluations.before, report.reference
    found = f"{_at(reference.id, reference.revision)}, found by {reference.found_by}" if reference else "none"
    sets = (f"{each.role} {each.origin} {short(each.sha256)} (n = {number(each.n)})" for each in report.prompts)
    run = f"{report.run_id}, antidote-ci {report.tool_version}, policy {short(report.policy_sha256)}"
    return [
        ("Source", subject(report)),
        ("Reference", found),
        ("Judge", f"{before.judge} ({before.measure})"),
        ("Prompt sets", ", ".join(sets) or "none"),
        ("Run", run),
    ]


def circumstances(report: Report) -> list[tuple[str, str]]:
    """What else decides the figures or came of them: label and value."""
    plan = report.evaluations.before.plan
    versions = ", ".join(f"{name} {version}" for name, version in plan.versions.items())
    steps = ", ".join(f"{step} {spent:.0f} s" for step, spent in report.seconds.items())
    return [
        (
            "Plan",
            f"{plan.device}, {plan.dtype}, batch {plan.batch_size}, {plan.threads} threads, {plan.instruction_set}",
        ),
        ("Versions", versions or "none recorded"),
        ("Chat template", plan.chat_template_sha256),
        ("Policy", report.policy_sha256),
        ("Licence", report.licence or "not named by the source's card"),
        ("Published", report.publish.url or "nothing was published"),
        ("Wall time", steps or "not recorded"),
    ]


def _at(name: str, revision: str | None) -> str:
    return f"{name}@{short(revision)}" if revision else f"{name} (a local folder)"


def _measured(evaluation: Evaluation) -> str:
    return f"{percent(evaluation.harmful_score)} with bounds {interval(evaluation.bounds)}"


def _change(before: float, after: float | None) -> str:
    return percent(before) if after is None else f"{percent(before)} → {percent(after)}"


def _utility(label: str, before: float, after: float | None, n: int) -> Figure:
    change = "" if after is None else f"{points(before, after)}, "
    return Figure(label, _change(before, after), f"{change}n = {number(n)}")
