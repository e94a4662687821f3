"""Measure a model and gate it; and the report that `evaluate` and `run` make of what they found."""

from antidote_ci import __version__, records
from antidote_ci.evaluation import gate, splits
from antidote_ci.evaluation.judge_results import Stops
from antidote_ci.evaluation.measure import NEVER, measure
from antidote_ci.pipeline import context, evaluator, output, resolve
from antidote_ci.pipeline.context import Setting
from antidote_ci.pipeline.repair_model import Findings
from antidote_ci.policy import RunConfig
from antidote_ci.records import Evaluations, PromptFile, Published, Report
from antidote_ci.report.console import Talk

EITHER: Stops = frozenset({"pass", "fail"})


def evaluate(config: RunConfig, talk: Talk) -> Report:
    """Measure the model and gate it, nothing else."""
    output.require_possible(config, "evaluate")
    judges = evaluator.judges_named(config.policy.evaluation)
    with talk.step("read the prompts"):
        prompts, files = splits.for_evaluation(config.policy, evaluator.fetch_prompts(config.policy))
    with talk.step("pull the model"):
        tested, model = resolve.subject(config, talk.report)
    with context.opened(config, talk, judges, tested) as here:
        with talk.step("evaluate the model"):
            stops = EITHER if config.policy.evaluation.stop_early else NEVER
            context.require_usable(here, model)
            before = measure(here.ruler, model, prompts, talk.report, stops=stops, role="tested")
        findings = Findings(before.verdict, gate.sentence("the model", before), before)
        talk.say(f"  {findings.reason}")
        return output.deliver(config, report_of(here, findings, files), tested, here.work, None)


def report_of(here: Setting, findings: Findings, prompts: list[PromptFile]) -> Report:
    """What was found, as the report that a command returns."""
    policy = here.config.policy
    return Report(
        schema_version=records.SCHEMA_VERSION,
        tool_version=__version__,
        run_id=here.run_id,
        verdict=findings.verdict,
        exit_code=output.exit_code(findings.verdict, accepted=policy.repair.accept),
        reason=findings.reason,
        source=here.tested.source,
        reference=findings.named,
        policy_sha256=policy.sha256(),
        policy=policy.flat(),
        prompts=prompts,
        evaluations=Evaluations(findings.before, findings.reference, findings.after),
        attempts=list(findings.attempts),
        repair=findings.repair,
        controls=list(findings.controls),
        publish=Published("none"),
        notes=[*output.notes(here.tested, findings.repaired), *findings.notes],
        seconds=here.talk.seconds,
        licence=here.tested.licence,
        paired=list(findings.paired),
        divergence=findings.divergence,
        drift=findings.drift,
        calibrations=list(here.ruler.calibrations.values()),
        frontier=list(findings.frontier),
    )
