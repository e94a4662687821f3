"""Where everything came from: label and value. Pure."""

from antidote_ci.records import ComputeEnvironment, PromptSetRecord, PublishResult, Report, ReportedSource
from antidote_ci.report.judges import format_confidence, format_identity
from antidote_ci.report.rows import describe_task_match
from antidote_ci.report.text import abbreviate_commits, format_number, pluralize, short_sha

KINDS = {
    "full": "a full checkpoint",
    "adapter": "a LoRA adapter",
    "server": "a served model; its weights were not seen",
}


FOUND_BY = {
    "option": "named with --reference",
    "adapter_config.json": "named by the adapter",
    "model card": "named by the model's card",
}
"""Whoever named the reference."""


def full_name(name: str, revision: str | None) -> str:
    """A model at its commit, all of it."""
    return f"{name} at {revision}" if revision else f"{name} (a local folder)"


def describe_source(source: ReportedSource) -> str:
    """Which revision of what was tested."""
    name = source.id if source.kind == "server" else short_name(source.id, source.revision)
    return f"{name}, {KINDS[source.kind]}"


def short_name(name: str, revision: str | None) -> str:
    """A model at its commit."""
    return f"{name}@{short_sha(revision)}" if revision else f"{name} (a local folder)"


def origin_rows(report: Report) -> list[tuple[str, str]]:
    """The five lines that name the run."""
    before, reference = report.evaluations.before, report.reference
    found = f"{short_name(reference.id, reference.revision)}, {FOUND_BY[reference.found_by]}" if reference else "none"
    judges = [f"{format_identity(each.judge)} ({each.judge.measure})" for each in before.readings]
    run = f"{report.run_id}, antidote-ci {report.tool_version}, policy {short_sha(report.policy_sha256)}"
    return [
        ("Source", describe_source(report.source)),
        ("Reference", found),
        ("Judge", "; ".join(judges)),
        ("Prompt sets", ", ".join(map(_describe_prompts, report.prompts)) or "none"),
        ("Run", run),
    ]


def circumstance_rows(report: Report) -> list[tuple[str, str]]:
    """What else decides the figures or came of them."""
    before = report.evaluations.before
    plan = before.plan
    versions = ", ".join(f"{name} {version}" for name, version in plan.versions.items())
    steps = ", ".join(f"{step} {spent:.0f} s" for step, spent in report.seconds.items())
    template = "a plain one: the model brings none" if plan.plain_template else plan.chat_template_sha256
    answers = "1, greedy" if before.samples == 1 else f"{format_number(before.samples)}, drawn at temperature 1"
    return [
        ("Generator", plan.generator),
        ("Plan", _describe_environment(plan)),
        ("Versions", versions or "none recorded"),
        ("Chat template", template),
        ("Answers a prompt", answers),
        ("Confidence", f"{format_confidence(report.evaluations)} for each bound"),
        ("Task", describe_task_match(report) or "none"),
        ("Over-refusal", f"judged by {before.benign.judge}" if before.benign else "not measured"),
        ("Policy", report.policy_sha256),
        ("Licence", report.licence or "not named by the source's card"),
        ("Published", _describe_published(report.publish)),
        ("Wall time", steps or "not recorded"),
    ]


def _describe_published(found: PublishResult) -> str:
    where = found.url or "nothing was published"
    commit = f", commit {short_sha(found.revision)}" if found.url and found.revision else ""
    return " ".join([f"{where}{commit}.", *found.notes]) if found.notes else where + commit


def _describe_environment(plan: ComputeEnvironment) -> str:
    if plan.device == "server":
        return "not known: a server gave the answers"
    threads = pluralize(plan.threads, "thread")
    return f"{plan.device}, {plan.dtype}, batch {plan.batch_size}, {threads}, {plan.instruction_set}"


def _describe_prompts(each: PromptSetRecord) -> str:
    licence = f", {each.licence}" if each.licence else ""
    return (
        f"{each.role} {abbreviate_commits(each.origin)} {short_sha(each.sha256)} (n = {format_number(each.n)}{licence})"
    )
