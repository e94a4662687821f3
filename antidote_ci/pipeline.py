"""The sentence: pull, measure, repair, measure again, report, publish. The only file that knows the order."""

import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from antidote_ci import __version__, acquire, delivery, records, treatment
from antidote_ci.acquire import Pulled, Reference
from antidote_ci.checkpoint.files import sha256_file
from antidote_ci.config import RunConfig
from antidote_ci.console import Talk
from antidote_ci.evaluation import gate, realignment, splits
from antidote_ci.evaluation.generators import TransformersGenerator
from antidote_ci.evaluation.judges.named import judge
from antidote_ci.evaluation.measure import Ruler, measure
from antidote_ci.hub.pull import ensure_space
from antidote_ci.model.child import Child
from antidote_ci.model.statistics import StatisticsRequest, input_norms
from antidote_ci.records import (
    Attempt,
    Control,
    Evaluation,
    Evaluations,
    PromptFile,
    Published,
    Repair,
    Report,
    ReportedReference,
    ReportedSource,
    RunVerdict,
)
from antidote_ci.repair.apply import Provenance
from antidote_ci.repair.targets import require_same_shapes
from antidote_ci.repair.taylor import TaylorRequest, taylor_scores


@dataclass(frozen=True)
class Findings:
    """What the run knows at its end."""

    verdict: RunVerdict
    reason: str
    before: Evaluation
    named: ReportedReference | None = None
    reference: Evaluation | None = None
    after: Evaluation | None = None
    repair: Repair | None = None
    attempts: tuple[Attempt, ...] = ()
    controls: tuple[Control, ...] = ()
    repaired: Path | None = None
    """The folder of the repaired weights, when they pass."""


@dataclass(frozen=True)
class Setting:
    """What every step of a run works with."""

    config: RunConfig
    talk: Talk
    run_id: str
    work: Path
    child: Child
    ruler: Ruler
    source: Pulled
    named: Reference | None
    reference: Pulled | None
    """Here from the start when it costs nothing or an adapter cannot run without it; else pulled when needed."""


def run(config: RunConfig, talk: Talk) -> Report:
    """Measure the model and, when it fails, repair it, prove it, and publish as the policy says."""
    delivery.require_possible(config)
    prompts = splits.for_run(config.policy)
    with _setting(config, talk, needs_reference=True) as setting:
        with talk.step("evaluate the model"):
            model = acquire.runnable(setting.source, setting.reference)
            before = measure(setting.ruler, model, prompts.confirmation, talk.report)
        findings = Findings(before.verdict, gate.sentence("the model", before), before)
        talk.say(f"  {findings.reason}")
        if setting.named is not None and gate.calls_for_repair(before, config.policy.gate):
            findings = _repair(setting, setting.named, prompts, before)
        with talk.step("report and publish"):
            report = _report(setting, findings, prompts.files)
            return delivery.deliver(config, report, setting.source, setting.work, findings.repaired)


def evaluate(config: RunConfig, talk: Talk) -> Report:
    """Measure the model and gate it, nothing else."""
    delivery.require_possible(config)
    prompts, files = splits.for_evaluation(config.policy)
    with _setting(config, talk, needs_reference=False) as setting:
        with talk.step("evaluate the model"):
            model = acquire.runnable(setting.source, setting.reference)
            before = measure(setting.ruler, model, prompts, talk.report)
        findings = Findings(before.verdict, gate.sentence("the model", before), before)
        talk.say(f"  {findings.reason}")
        return delivery.deliver(config, _report(setting, findings, files), setting.source, setting.work, None)


@contextmanager
def _setting(config: RunConfig, talk: Talk, *, needs_reference: bool) -> Iterator[Setting]:
    """Pull what has to be there at once, then start the child. Nothing is written before the pull has succeeded."""
    chosen_judge = judge(config.policy.evaluation.judge)
    with talk.step("pull the model"):
        source = acquire.fetch(config.model, config.revision, talk.report)
        adapter = source.source.kind == "adapter"
        named = acquire.find_reference(source, config.policy.repair.reference) if needs_reference or adapter else None
        reference = None
        if named is not None and (adapter or named.revision is None):
            reference = acquire.fetch(named.id, named.revision, talk.report)
            require_same_shapes(source.layout, reference.layout)
    run_id = uuid.uuid4().hex
    work = config.out / f".work-{run_id}"
    delivery.clear(config.out)
    work.mkdir(parents=True)
    try:
        with Child(config.out / delivery.LOG) as child:
            ruler = Ruler(
                TransformersGenerator(child),
                chosen_judge,
                config.policy.gate,
                config.policy.evaluation.max_new_tokens,
            )
            yield Setting(config, talk, run_id, work, child, ruler, source, named, reference)
    finally:
        shutil.rmtree(work)


def _repair(setting: Setting, named: Reference, prompts: splits.Splits, before: Evaluation) -> Findings:
    """From a failing model to a repaired one, or to the reason why there is none."""
    talk = setting.talk
    with talk.step("measure the reference"):
        reference = setting.reference or acquire.fetch(named.id, named.revision, talk.report)
        require_same_shapes(setting.source.layout, reference.layout)
        reported = acquire.reported(named)
        floor = measure(setting.ruler, records.Model(reference.source.folder), prompts.confirmation, talk.report)
    of_reference = gate.sentence("the reference", floor)
    talk.say(f"  {of_reference}")
    if floor.verdict != "pass":
        reason = f"{of_reference}; what does not pass itself is no antidote"
        return Findings("fail", reason, before, reported, floor)
    with talk.step("score the weights"):
        bench = _bench(setting, reported, reference, prompts)
    with talk.step("search the dose"):
        chosen, attempts = treatment.choose(bench, prompts.selection, talk.say)
    if chosen is None:
        reason = f"no dose passes the policy on the selection prompts; {treatment.nearest(attempts)}"
        return Findings("fail", reason, before, reported, floor, attempts=tuple(attempts))
    with talk.step("evaluate the repair"):
        after = measure(setting.ruler, chosen.model, prompts.confirmation, talk.report)
    of_repair = gate.sentence("the repair", after)
    talk.say(f"  {of_repair}")
    with talk.step("measure the controls"):
        controls = treatment.controls(bench, chosen, attempts, prompts)
    lacks = gate.shortfalls(before, after, setting.config.policy.gate)
    return Findings(
        verdict="fail" if lacks else "repaired",
        reason=f"the repair does not pass: {'; '.join(lacks)}" if lacks else of_repair,
        before=before,
        named=reported,
        reference=floor,
        after=after,
        repair=treatment.record(chosen),
        attempts=tuple(attempts),
        controls=tuple(controls),
        repaired=None if lacks else chosen.folder,
    )


def _bench(
    setting: Setting,
    reported: ReportedReference,
    reference: Pulled,
    prompts: splits.Splits,
) -> treatment.Bench:
    """Collect the input statistics once; every dose and method is made from them."""
    ensure_space(setting.work, treatment.bytes_needed(setting.source))
    model = acquire.runnable(setting.source, setting.reference)
    rows = prompts.realignment
    if not rows[0].response:
        rows = realignment.own_answers(setting.ruler, model, rows, setting.talk.report)
    scores = setting.work / delivery.SCORES
    scores.mkdir()
    statistics = scores / "statistics.safetensors"
    method = setting.config.policy.repair.method
    if method == "antidote":
        wanted = StatisticsRequest(model, rows, statistics)
        plan = setting.child.call(input_norms, wanted, setting.talk.report)
    else:
        request = TaylorRequest(
            source=setting.source.source.folder,
            reference=reference.source.folder,
            harmful=[row.prompt for row in rows],
            benign=[row.prompt for row in prompts.benign_calibration],
            useful=[row.prompt for row in prompts.task_calibration or prompts.benign_calibration],
            output=statistics,
        )
        plan = setting.child.call(taylor_scores, request, setting.talk.report)
    provenance = Provenance(
        run_id=setting.run_id,
        source=_reported(setting.source),
        reference=reported,
        policy_sha256=setting.config.policy.sha256(),
        statistics_sha256=sha256_file(statistics),
        plan=plan,
    )
    return treatment.Bench(
        setting.child,
        setting.ruler,
        setting.source,
        reference,
        method,
        statistics,
        provenance,
        scores,
        setting.work,
        setting.talk.report,
    )


def _reported(source: Pulled) -> ReportedSource:
    return ReportedSource(source.source.id, source.source.revision, source.source.kind)


def _report(setting: Setting, findings: Findings, prompts: list[PromptFile]) -> Report:
    policy = setting.config.policy
    return Report(
        schema_version=records.SCHEMA_VERSION,
        tool_version=__version__,
        run_id=setting.run_id,
        verdict=findings.verdict,
        exit_code=delivery.exit_code(findings.verdict, accepted=policy.repair.accept),
        reason=findings.reason,
        source=_reported(setting.source),
        reference=findings.named,
        policy_sha256=policy.sha256(),
        policy=policy.flat(),
        prompts=prompts,
        evaluations=Evaluations(findings.before, findings.reference, findings.after),
        attempts=list(findings.attempts),
        repair=findings.repair,
        controls=list(findings.controls),
        publish=Published("none"),
        notes=delivery.notes(setting.source, findings.repaired),
        seconds=setting.talk.seconds,
        licence=setting.source.licence,
    )
