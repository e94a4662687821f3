"""Measure a model and gate it; and the report that `evaluate` and `run` make of what they found."""

from antidote_ci import __version__, records
from antidote_ci.evaluation import gate, splits
from antidote_ci.evaluation.judge_results import EarlyStops
from antidote_ci.evaluation.measure import NO_EARLY_STOP, evaluate_model
from antidote_ci.pipeline import context, evaluator, output, resolve
from antidote_ci.pipeline.context import RunContext
from antidote_ci.pipeline.repair_model import RunResult
from antidote_ci.policy import RunConfig
from antidote_ci.records import Evaluations, PromptSetRecord, PublishResult, Report
from antidote_ci.report.console import Console

STOP_ON_EITHER: EarlyStops = frozenset({"pass", "fail"})


def evaluate(config: RunConfig, console: Console) -> Report:
    """Measure the model and gate it, nothing else."""
    output.require_supported(config, "evaluate")
    judges = evaluator.select_judges(config.policy.evaluation)
    with console.step("read the prompts"):
        prompts, files = splits.load_evaluation_prompts(config.policy, evaluator.fetch_prompts(config.policy))
    with console.step("pull the model"):
        tested, model = resolve.resolve_target(config, console.report)
    with context.open_context(config, console, judges, tested) as here:
        with console.step("evaluate the model"):
            stops = STOP_ON_EITHER if config.policy.evaluation.stop_early else NO_EARLY_STOP
            context.require_loadable(here, model)
            before = evaluate_model(here.evaluator, model, prompts, console.report, stops=stops, role="tested")
        findings = RunResult(before.verdict, gate.describe_verdict("the model", before), before)
        console.print(f"  {findings.reason}")
        return output.write_output(config, report_of(here, findings, files), tested, here.work, None)


def report_of(context: RunContext, result: RunResult, prompts: list[PromptSetRecord]) -> Report:
    """What was found, as the report that a command returns."""
    policy = context.config.policy
    return Report(
        schema_version=records.SCHEMA_VERSION,
        tool_version=__version__,
        run_id=context.run_id,
        verdict=result.verdict,
        exit_code=output.to_exit_code(result.verdict, accepted=policy.repair.accept),
        reason=result.reason,
        source=context.reported_model.source,
        reference=result.reference_source,
        policy_sha256=policy.sha256(),
        policy=policy.flat(),
        prompts=prompts,
        evaluations=Evaluations(result.before, result.reference, result.after),
        attempts=list(result.attempts),
        repair=result.repair,
        controls=list(result.controls),
        publish=PublishResult("none"),
        notes=[*output.collect_notes(context.reported_model, result.repaired), *result.notes],
        seconds=context.console.seconds,
        licence=context.reported_model.licence,
        paired=list(result.paired),
        divergence=result.divergence,
        drift=result.drift,
        calibrations=list(context.evaluator.calibrations.values()),
        frontier=list(result.frontier),
    )
