"""The sentence: pull, measure, repair, measure again, report, publish. The only file that knows the order."""

from antidote_ci.evaluation import gate, splits
from antidote_ci.evaluation.judge_results import Stops
from antidote_ci.evaluation.measure import NEVER, measure
from antidote_ci.pipeline import context, evaluator, output, publishing, repair_model, resolve
from antidote_ci.pipeline.evaluate import report_of
from antidote_ci.pipeline.repair_model import Findings, Patient
from antidote_ci.policy import RunConfig
from antidote_ci.records import Report
from antidote_ci.report.console import Talk

PASS_ALONE: Stops = frozenset({"pass"})
"""A run that finds a failing model compares it with its repair, on all prompts."""


def run(config: RunConfig, talk: Talk) -> Report:
    """Measure the model and, when it fails, repair it, prove it, and publish as the policy says."""
    output.require_possible(config, "run")
    output.require_publishable(config)
    judges = evaluator.judges_named(config.policy.evaluation)
    with talk.step("read the prompts"):
        prompts = splits.for_run(config.policy, evaluator.fetch_prompts(config.policy))
    place, revision = None, config.revision
    if config.policy.publish.mode != "none":
        with talk.step("look at the destination"):
            place = publishing.prepared(config)
            revision = place.destination.revision
            earlier = publishing.earlier(place, config.policy.sha256())
        if earlier is not None:
            return output.recall(config, earlier)
    with talk.step("pull the model"):
        source = resolve.fetch(config.model, revision, talk.report, resolve.use_of(config))
        reference = resolve.wanted_reference(source, config.policy.repair)
        base = resolve.base(source, reference, talk.report, resolve.use_of(config))
    tested = resolve.tested(source)
    if place is not None:
        publishing.require_card(place, tested.card)
    with context.opened(config, talk, judges, tested) as here:
        with talk.step("evaluate the model"):
            stops = PASS_ALONE if config.policy.evaluation.stop_early else NEVER
            model = resolve.runnable(source, base)
            context.require_usable(here, model)
            before = measure(here.ruler, model, prompts.confirmation, talk.report, stops=stops, role="before")
        findings = Findings(before.verdict, gate.sentence("the model", before), before)
        talk.say(f"  {findings.reason}")
        if gate.calls_for_repair(before, config.policy.gate):
            findings = repair_model.treat(here, Patient(source, reference, base), prompts, before)
        with talk.step("report and publish"):
            report = report_of(here, findings, prompts.files)
            return output.deliver(config, report, here.tested, here.work, findings.repaired, place)
