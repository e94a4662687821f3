"""The commands `run` and `evaluate`: pull, evaluate, repair, evaluate again, report, publish.

`run` is the order of the whole pipeline. Each step is a module of this package.
"""

import logging
from dataclasses import replace

from antidote_ci.checkpoint.layout import count_weight_bytes
from antidote_ci.evaluation import gate, splits
from antidote_ci.evaluation.judge_results import EarlyStops
from antidote_ci.evaluation.measure import NO_EARLY_STOP, evaluate_model
from antidote_ci.paths import require_space
from antidote_ci.pipeline import (
    comparison,
    context,
    evaluator,
    output,
    preflight,
    publishing,
    repair_model,
    resolve,
    scoring_inputs,
)
from antidote_ci.pipeline.context import RunContext
from antidote_ci.pipeline.dose_search import search_bytes
from antidote_ci.policy import RunConfig
from antidote_ci.records import Evaluation, PromptSetRecord, Report
from antidote_ci.report import LOCAL_CARD
from antidote_ci.report.console import Console

STOP_ON_PASS: EarlyStops = frozenset({"pass"})
"""`run` evaluates a failing model on all prompts, because its repair is compared on all of them."""
STOP_ON_EITHER: EarlyStops = frozenset({"pass", "fail"})

logger = logging.getLogger(__name__)


def run(config: RunConfig, console: Console) -> Report:
    """Evaluate the model. If it fails: repair it, evaluate the repair, and publish it as the policy says."""
    judges = preflight.check_configuration(config, "run")
    with console.step("read the prompts"):
        prompts = splits.load_run_prompts(config.policy, evaluator.fetch_prompts(config.policy))
    publication, revision = None, config.revision
    if config.policy.publish.applies_to("run"):
        with console.step("check the destination"):
            publication = publishing.prepare_publication(config)
            revision = publication.destination.revision
            previous = publishing.find_previous(publication, config.policy.sha256())
        if previous is not None:
            return output.restore_previous(config, previous)
    with console.step("pull the model"):
        source = resolve.pull_model(config.model, revision, console.report, resolve.resolve_use(config))
        reference = resolve.find_reference(source, config.policy.repair.reference)
        base = resolve.resolve_base(source, reference, console.report, resolve.resolve_use(config))
    reported_model = resolve.to_reported_model(source)
    if publication is not None:
        publishing.require_mergeable_card(publication, reported_model.card)
    with context.open_context(config, console, judges, reported_model) as run_context:
        # Asked for before the evaluations, so that a run does not fail after hours.
        weights = count_weight_bytes(source.layout)
        require_space(run_context.work, search_bytes(config.policy, weights, source.layout.entries), "--out")
        scoring_inputs.require_memory_for_run(run_context, source, base, prompts.repair_prompts)
        with console.step("evaluate the model"):
            stops = STOP_ON_PASS if config.policy.stops_early else NO_EARLY_STOP
            model = resolve.to_model(source, base)
            before = evaluate_model(
                run_context.evaluator, model, prompts.confirmation, console.report, stops=stops, role="before"
            )
        report = tested = _start_report(run_context, before, prompts.files)
        repaired = None
        if gate.needs_repair(before, config.policy.gate):
            logger.info(report.reason)  # the repair takes a while, and its report gives another reason
            report, repaired = repair_model.repair_model(run_context, source, reference, base, prompts, report)
        with console.step("report and publish"):
            location = LOCAL_CARD if publication is None else publication.card_location
            report = output.write_output(config, report, reported_model, run_context.work, repaired, location)
            if publication is not None and publication.destination.mode == "report":
                report = output.publish_verdict(publication, tested, report, reported_model, config.out)
            elif publication is not None and report.verdict == "repaired":
                report = output.publish_output(publication, report, reported_model, config.out)
            return report


def evaluate(config: RunConfig, console: Console) -> Report:
    """Evaluate the model and compare it with the gate. Nothing is repaired, and at most the verdict is published."""
    judges = preflight.check_configuration(config, "evaluate")
    with console.step("read the prompts"):
        prompts, files = splits.load_evaluation_prompts(config.policy, evaluator.fetch_prompts(config.policy))
    publication = None
    if config.policy.publish.applies_to("evaluate"):
        with console.step("check the destination"):
            publication = publishing.prepare_publication(config)
            config = replace(config, revision=publication.destination.revision)
    with console.step("pull the model"):
        reported_model, model = resolve.resolve_target(config, console.report)
    if publication is not None:
        publishing.require_mergeable_card(publication, reported_model.card)
    with context.open_context(config, console, judges, reported_model) as run_context:
        with console.step("evaluate the model"):
            stops = STOP_ON_EITHER if config.policy.stops_early else NO_EARLY_STOP
            before = evaluate_model(run_context.evaluator, model, prompts, console.report, stops=stops, role="tested")
        report = _start_report(run_context, before, files)
        report = output.write_output(config, report, reported_model, run_context.work, None)
        if publication is not None:
            with console.step("publish the verdict"):
                report = output.publish_verdict(publication, report, report, reported_model, config.out)
        return report


def _start_report(run_context: RunContext, before: Evaluation, prompts: list[PromptSetRecord]) -> Report:
    """The report with the verdict of the first evaluation and of its comparison with the baseline."""
    report = context.start_report(run_context, before, prompts)
    limit = run_context.config.policy.gate.regression
    return comparison.apply_regression(comparison.compare_with_baseline(report, run_context.baseline, limit))
