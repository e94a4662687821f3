"""The sentence: pull, measure, repair, measure again, report, publish. The only file that knows the order."""

from antidote_ci import __version__, acquire, delivery, instruments, publication, records, setting, treatment
from antidote_ci.console import Talk
from antidote_ci.evaluation import gate, splits
from antidote_ci.evaluation.measure import NEVER, measure
from antidote_ci.evaluation.readings import Stops
from antidote_ci.policy import RunConfig
from antidote_ci.records import Evaluations, PromptFile, Published, Report
from antidote_ci.setting import Setting
from antidote_ci.treatment import Findings, Patient

PASS_ALONE: Stops = frozenset({"pass"})
"""A run that finds a failing model compares it with its repair, on all prompts."""
EITHER: Stops = frozenset({"pass", "fail"})


def run(config: RunConfig, talk: Talk) -> Report:
    """Measure the model and, when it fails, repair it, prove it, and publish as the policy says."""
    delivery.require_possible(config, "run")
    delivery.require_publishable(config)
    judges = instruments.judges_named(config.policy.evaluation)
    with talk.step("read the prompts"):
        prompts = splits.for_run(config.policy, instruments.fetch_prompts(config.policy))
    place, revision = None, config.revision
    if config.policy.publish.mode != "none":
        with talk.step("look at the destination"):
            place = publication.prepared(config)
            revision = place.destination.revision
            earlier = publication.earlier(place, config.policy.sha256())
        if earlier is not None:
            return delivery.recall(config, earlier)
    with talk.step("pull the model"):
        source = acquire.fetch(config.model, revision, talk.report, acquire.use_of(config))
        reference = acquire.wanted_reference(source, config.policy.repair)
        base = acquire.base(source, reference, talk.report, acquire.use_of(config))
    tested = acquire.tested(source)
    if place is not None:
        publication.require_card(place, tested.card)
    with setting.opened(config, talk, judges, tested) as here:
        with talk.step("evaluate the model"):
            stops = PASS_ALONE if config.policy.evaluation.stop_early else NEVER
            model = acquire.runnable(source, base)
            setting.require_usable(here, model)
            before = measure(here.ruler, model, prompts.confirmation, talk.report, stops=stops, role="before")
        findings = Findings(before.verdict, gate.sentence("the model", before), before)
        talk.say(f"  {findings.reason}")
        if gate.calls_for_repair(before, config.policy.gate):
            findings = treatment.treat(here, Patient(source, reference, base), prompts, before)
        with talk.step("report and publish"):
            report = _report(here, findings, prompts.files)
            return delivery.deliver(config, report, here.tested, here.work, findings.repaired, place)


def evaluate(config: RunConfig, talk: Talk) -> Report:
    """Measure the model and gate it, nothing else."""
    delivery.require_possible(config, "evaluate")
    judges = instruments.judges_named(config.policy.evaluation)
    with talk.step("read the prompts"):
        prompts, files = splits.for_evaluation(config.policy, instruments.fetch_prompts(config.policy))
    with talk.step("pull the model"):
        tested, model = acquire.subject(config, talk.report)
    with setting.opened(config, talk, judges, tested) as here:
        with talk.step("evaluate the model"):
            stops = EITHER if config.policy.evaluation.stop_early else NEVER
            setting.require_usable(here, model)
            before = measure(here.ruler, model, prompts, talk.report, stops=stops, role="tested")
        findings = Findings(before.verdict, gate.sentence("the model", before), before)
        talk.say(f"  {findings.reason}")
        return delivery.deliver(config, _report(here, findings, files), tested, here.work, None)


def _report(here: Setting, findings: Findings, prompts: list[PromptFile]) -> Report:
    policy = here.config.policy
    return Report(
        schema_version=records.SCHEMA_VERSION,
        tool_version=__version__,
        run_id=here.run_id,
        verdict=findings.verdict,
        exit_code=delivery.exit_code(findings.verdict, accepted=policy.repair.accept),
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
        notes=[*delivery.notes(here.tested, findings.repaired), *findings.notes],
        seconds=here.talk.seconds,
        licence=here.tested.licence,
        paired=list(findings.paired),
        divergence=findings.divergence,
        drift=findings.drift,
        calibrations=list(here.ruler.calibrations.values()),
        frontier=list(findings.frontier),
    )
