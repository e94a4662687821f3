"""The sentence: pull, measure, repair, measure again, report, publish. The only file that knows the order."""

from antidote_ci.evaluation import gate, splits
from antidote_ci.evaluation.judge_results import EarlyStops
from antidote_ci.evaluation.measure import NO_EARLY_STOP, evaluate_model
from antidote_ci.pipeline import context, evaluator, output, publishing, repair_model, resolve
from antidote_ci.pipeline.evaluate import report_of
from antidote_ci.pipeline.repair_model import RepairInput, RunResult
from antidote_ci.policy import RunConfig
from antidote_ci.records import Report
from antidote_ci.report.console import Console

STOP_ON_PASS: EarlyStops = frozenset({"pass"})
"""A run that finds a failing model compares it with its repair, on all prompts."""


def run(config: RunConfig, console: Console) -> Report:
    """Measure the model and, when it fails, repair it, prove it, and publish as the policy says."""
    output.require_supported(config, "run")
    output.require_publishable(config)
    judges = evaluator.select_judges(config.policy.evaluation)
    with console.step("read the prompts"):
        prompts = splits.load_run_prompts(config.policy, evaluator.fetch_prompts(config.policy))
    place, revision = None, config.revision
    if config.policy.publish.mode != "none":
        with console.step("look at the destination"):
            place = publishing.prepare_publication(config)
            revision = place.destination.revision
            earlier = publishing.find_previous(place, config.policy.sha256())
        if earlier is not None:
            return output.restore_previous(config, earlier)
    with console.step("pull the model"):
        source = resolve.pull_model(config.model, revision, console.report, resolve.resolve_use(config))
        reference = resolve.find_reference(source, config.policy.repair.reference)
        base = resolve.resolve_base(source, reference, console.report, resolve.resolve_use(config))
    tested = resolve.to_reported_model(source)
    if place is not None:
        publishing.require_mergeable_card(place, tested.card)
    with context.open_context(config, console, judges, tested) as here:
        with console.step("evaluate the model"):
            stops = STOP_ON_PASS if config.policy.evaluation.stop_early else NO_EARLY_STOP
            model = resolve.to_model(source, base)
            context.require_loadable(here, model)
            before = evaluate_model(
                here.evaluator, model, prompts.confirmation, console.report, stops=stops, role="before"
            )
        findings = RunResult(before.verdict, gate.describe_verdict("the model", before), before)
        console.print(f"  {findings.reason}")
        if gate.needs_repair(before, config.policy.gate):
            findings = repair_model.repair_model(here, RepairInput(source, reference, base), prompts, before)
        with console.step("report and publish"):
            report = report_of(here, findings, prompts.files)
            return output.write_output(config, report, here.reported_model, here.work, findings.repaired, place)
