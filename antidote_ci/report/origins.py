"""Provenance of a report: models, judges, prompt sets and settings, as label and value."""

from antidote_ci.records import (
    ComputeEnvironment,
    PromptSetRecord,
    PublishResult,
    Report,
    ReportedSource,
    ThoughtMode,
)
from antidote_ci.report.measures import format_identity
from antidote_ci.report.statements import describe_chat
from antidote_ci.report.tables import describe_task_match
from antidote_ci.report.text import abbreviate_commits, format_number, pluralize, short_sha

KINDS = {
    "full": "a full checkpoint",
    "adapter": "a LoRA adapter",
    "server": "a served model; its weights were not read",
}
FOUND_BY = {
    "option": "named with --reference",
    "adapter_config.json": "named by the adapter",
    "model card": "named by the model card",
}
THOUGHT_MODES: dict[ThoughtMode, str] = {
    "none": "",
    "off": " Thoughts: off, the prompt ends with an empty one.",
    "possible": " Thoughts: on, where the model begins one.",
    "open": " Thoughts: on, the prompt begins one.",
}


def full_name(name: str, revision: str | None) -> str:
    """Format a model with its full commit id."""
    return f"{name} at {revision}" if revision else f"{name} (a local folder)"


def describe_source(source: ReportedSource) -> str:
    """Describe the tested model: name, commit and kind."""
    name = source.id if source.kind == "server" else _short_name(source.id, source.revision)
    return f"{name}, {KINDS[source.kind]}"


def origin_rows(report: Report) -> list[tuple[str, str]]:
    """Return the rows that identify the run."""
    reference = report.reference
    reference_text = "none"
    if reference:
        reference_text = f"{_short_name(reference.id, reference.revision)}, {FOUND_BY[reference.found_by]}"
    judges = [
        f"{format_identity(result.judge)} ({result.judge.measure})" for result in report.evaluations.before.readings
    ]
    run = f"{report.run_id}, antidote-ci {report.tool_version}, policy {short_sha(report.policy_sha256)}"
    return [
        ("Source", describe_source(report.source)),
        ("Reference", reference_text),
        ("Judge", "; ".join(judges)),
        ("Run", run),
    ]


def prompt_sets_row(report: Report) -> tuple[str, str]:
    """Return the row that identifies the prompt sets."""
    return "Prompt sets", ", ".join(map(_describe_prompts, report.prompts)) or "none"


def run_rows(report: Report) -> list[tuple[str, str]]:
    """Return the settings of the run, and what it published."""
    before = report.evaluations.before
    plan = before.plan
    versions = ", ".join(f"{name} {version}" for name, version in plan.versions.items())
    steps = ", ".join(f"{step} {seconds:.0f} s" for step, seconds in report.seconds.items())
    template = "plain; the model has none" if plan.plain_template else plan.chat_template_sha256
    answers = "1, greedy" if before.samples == 1 else f"{format_number(before.samples)}, sampled at temperature 1"
    return [
        ("Generator", plan.generator),
        ("Environment", _describe_environment(plan)),
        ("Versions", versions or "not recorded"),
        ("Chat template", template),
        ("Sandbox", ", ".join(report.protections) or "not recorded"),
        ("Prompting", _describe_prompting(report)),
        ("Answers per prompt", answers),
        ("Task", describe_task_match(report) or "none"),
        ("Over-refusal", f"judged by {before.benign.judge}" if before.benign else "not measured"),
        ("Policy", report.policy_sha256),
        ("Licence", report.licence or "not given by the source's card"),
        ("Published", _describe_published(report.publish)),
        ("Wall time", steps or "not recorded"),
    ]


def _short_name(name: str, revision: str | None) -> str:
    return f"{name}@{short_sha(revision)}" if revision else f"{name} (a local folder)"


def _describe_published(result: PublishResult) -> str:
    url = result.url or "nothing was published"
    commit = f", commit {short_sha(result.revision)}" if result.url and result.revision else ""
    return " ".join([f"{url}{commit}.", *result.notes]) if result.notes else url + commit


def _describe_environment(plan: ComputeEnvironment) -> str:
    if plan.device == "server":
        return "unknown: a server generated the answers"
    threads = pluralize(plan.threads, "thread")
    device = plan.gpu or plan.device
    return f"{device}, {plan.dtype}, batch {plan.batch_size}, {threads}, {plan.instruction_set}"


def _describe_prompting(report: Report) -> str:
    effects = report.evaluations.before.plan.template
    messages = " ".join(["one user message", *describe_chat(report)])
    if effects is None:
        return f"{messages}; what the chat template adds to it was not examined"
    added = pluralize(effects.added_characters, "character")
    date = " and prints the date, which was fixed" if effects.prints_date else ""
    return (
        f"{messages}; the chat template adds {added} before it{date}. "
        f"A system message: {effects.system_message}. Tools: {effects.tools}. Further turns: {effects.further_turns}. "
        f"Generation prompt: {effects.generation_prompt}.{THOUGHT_MODES[effects.thoughts]}"
    )


def _describe_prompts(prompt_set: PromptSetRecord) -> str:
    licence = f", {prompt_set.licence}" if prompt_set.licence else ""
    origin = f"{abbreviate_commits(prompt_set.origin)} {short_sha(prompt_set.sha256)}"
    return f"{prompt_set.role} {origin} (n = {format_number(prompt_set.n)}{licence})"
