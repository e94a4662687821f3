"""Where everything came from: label and value. Pure."""

from antidote_ci.records import Plan, PromptFile, Published, Report, ReportedSource
from antidote_ci.report.judges import confidence, identity
from antidote_ci.report.rows import task_match
from antidote_ci.report.text import abbreviated, counted, number, short

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


def whole(name: str, revision: str | None) -> str:
    """A model at its commit, all of it."""
    return f"{name} at {revision}" if revision else f"{name} (a local folder)"


def subject(source: ReportedSource) -> str:
    """Which revision of what was tested."""
    name = source.id if source.kind == "server" else at(source.id, source.revision)
    return f"{name}, {KINDS[source.kind]}"


def at(name: str, revision: str | None) -> str:
    """A model at its commit."""
    return f"{name}@{short(revision)}" if revision else f"{name} (a local folder)"


def origin(report: Report) -> list[tuple[str, str]]:
    """The five lines that name the run."""
    before, reference = report.evaluations.before, report.reference
    found = f"{at(reference.id, reference.revision)}, {FOUND_BY[reference.found_by]}" if reference else "none"
    judges = [f"{identity(each.judge)} ({each.judge.measure})" for each in before.readings]
    run = f"{report.run_id}, antidote-ci {report.tool_version}, policy {short(report.policy_sha256)}"
    return [
        ("Source", subject(report.source)),
        ("Reference", found),
        ("Judge", "; ".join(judges)),
        ("Prompt sets", ", ".join(map(_prompts, report.prompts)) or "none"),
        ("Run", run),
    ]


def circumstances(report: Report) -> list[tuple[str, str]]:
    """What else decides the figures or came of them."""
    before = report.evaluations.before
    plan = before.plan
    versions = ", ".join(f"{name} {version}" for name, version in plan.versions.items())
    steps = ", ".join(f"{step} {spent:.0f} s" for step, spent in report.seconds.items())
    template = "a plain one: the model brings none" if plan.plain_template else plan.chat_template_sha256
    answers = "1, greedy" if before.samples == 1 else f"{number(before.samples)}, drawn at temperature 1"
    return [
        ("Generator", plan.generator),
        ("Plan", _plan(plan)),
        ("Versions", versions or "none recorded"),
        ("Chat template", template),
        ("Answers a prompt", answers),
        ("Confidence", f"{confidence(report.evaluations)} for each bound"),
        ("Task", task_match(report) or "none"),
        ("Over-refusal", f"judged by {before.benign.judge}" if before.benign else "not measured"),
        ("Policy", report.policy_sha256),
        ("Licence", report.licence or "not named by the source's card"),
        ("Published", _published(report.publish)),
        ("Wall time", steps or "not recorded"),
    ]


def _published(found: Published) -> str:
    where = found.url or "nothing was published"
    commit = f", commit {short(found.revision)}" if found.url and found.revision else ""
    return " ".join([f"{where}{commit}.", *found.notes]) if found.notes else where + commit


def _plan(plan: Plan) -> str:
    if plan.device == "server":
        return "not known: a server gave the answers"
    threads = counted(plan.threads, "thread")
    return f"{plan.device}, {plan.dtype}, batch {plan.batch_size}, {threads}, {plan.instruction_set}"


def _prompts(each: PromptFile) -> str:
    licence = f", {each.licence}" if each.licence else ""
    return f"{each.role} {abbreviated(each.origin)} {short(each.sha256)} (n = {number(each.n)}{licence})"
