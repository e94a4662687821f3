"""The sentence: pull, measure, repair, measure again, report, publish. The only file that knows the order."""

import shutil
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from antidote_ci import __version__, acquire, delivery, instruments, records, treatment
from antidote_ci.acquire import Pulled, Reference, Tested
from antidote_ci.checkpoint.files import sha256_file
from antidote_ci.config import RunConfig
from antidote_ci.console import Talk
from antidote_ci.evaluation import gate, realignment, splits
from antidote_ci.evaluation.judges.named import JudgeSpec
from antidote_ci.evaluation.measure import NEVER, Ruler, measure
from antidote_ci.evaluation.pairs import paired
from antidote_ci.evaluation.readings import Stops
from antidote_ci.evaluation.saved import AnswerLog
from antidote_ci.hub.pull import ensure_space
from antidote_ci.model.child import Child
from antidote_ci.model.divergence import DivergenceRequest, divergence
from antidote_ci.model.statistics import StatisticsRequest, input_norms
from antidote_ci.records import (
    Attempt,
    Control,
    Divergence,
    Evaluation,
    Evaluations,
    Paired,
    Published,
    Repair,
    Report,
    ReportedReference,
    Row,
    RunVerdict,
)
from antidote_ci.repair.apply import Provenance
from antidote_ci.repair.targets import require_same_shapes
from antidote_ci.repair.taylor import TaylorRequest, taylor_scores

PASS_ALONE: Stops = frozenset({"pass"})
"""A run that finds a failing model compares it with its repair, on all prompts."""
EITHER: Stops = frozenset({"pass", "fail"})


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
    paired: tuple[Paired, ...] = ()
    divergence: Divergence | None = None
    repaired: Path | None = None
    """The folder of the repaired weights, when they pass."""


@dataclass(frozen=True)
class Patient:
    """The model and where its antidote comes from."""

    source: Pulled
    named: Reference
    base: Pulled | None
    """The reference, here from the start when it costs nothing or an adapter cannot run without it."""


@dataclass(frozen=True)
class Setting:
    """What every step of a run works with."""

    config: RunConfig
    talk: Talk
    run_id: str
    work: Path
    child: Child
    ruler: Ruler
    tested: Tested


def run(config: RunConfig, talk: Talk) -> Report:
    """Measure the model and, when it fails, repair it, prove it, and publish as the policy says."""
    delivery.require_possible(config)
    judges = instruments.judges_named(config.policy.evaluation)
    with talk.step("read the prompts"):
        prompts = splits.for_run(config.policy, instruments.fetch_prompts(config.policy))
    with talk.step("pull the model"):
        source = acquire.fetch(config.model, config.revision, talk.report)
        reference = acquire.find_reference(source, config.policy.repair.reference)
        base = acquire.base(source, reference, talk.report)
    with _setting(config, talk, judges, acquire.tested(source)) as setting:
        with talk.step("evaluate the model"):
            stops = PASS_ALONE if config.policy.evaluation.stop_early else NEVER
            model = acquire.runnable(source, base)
            before = measure(setting.ruler, model, prompts.confirmation, talk.report, stops=stops, role="before")
        findings = Findings(before.verdict, gate.sentence("the model", before), before)
        talk.say(f"  {findings.reason}")
        if gate.calls_for_repair(before, config.policy.gate):
            findings = _repair(setting, Patient(source, reference, base), prompts, before)
        with talk.step("report and publish"):
            report = _report(setting, findings, prompts.files)
            return delivery.deliver(config, report, setting.tested, setting.work, findings.repaired)


def evaluate(config: RunConfig, talk: Talk) -> Report:
    """Measure the model and gate it, nothing else."""
    delivery.require_possible(config)
    judges = instruments.judges_named(config.policy.evaluation)
    with talk.step("read the prompts"):
        prompts, files = splits.for_evaluation(config.policy, instruments.fetch_prompts(config.policy))
    with talk.step("pull the model"):
        tested, model = acquire.subject(config, talk.report)
    with _setting(config, talk, judges, tested) as setting:
        with talk.step("evaluate the model"):
            stops = EITHER if config.policy.evaluation.stop_early else NEVER
            before = measure(setting.ruler, model, prompts, talk.report, stops=stops, role="tested")
        findings = Findings(before.verdict, gate.sentence("the model", before), before)
        talk.say(f"  {findings.reason}")
        return delivery.deliver(config, _report(setting, findings, files), tested, setting.work, None)


@contextmanager
def _setting(config: RunConfig, talk: Talk, judges: Sequence[JudgeSpec], tested: Tested) -> Iterator[Setting]:
    """A place to work and a child to work in. Nothing is written before everything has been pulled."""
    with talk.step("pull the judge"):
        fetched = instruments.fetch_judges(judges, config.policy.evaluation, talk.report)
    run_id = uuid.uuid4().hex
    work = config.out / f".work-{run_id}"
    with AnswerLog(config.save_answers) as log:
        delivery.clear(config.out)
        work.mkdir(parents=True)
        try:
            with Child(config.out / delivery.LOG) as child:
                ruler = instruments.ruler(config, fetched, child, work, log)
                yield Setting(config, talk, run_id, work, child, ruler, tested)
        finally:
            shutil.rmtree(work)


def _repair(setting: Setting, patient: Patient, prompts: splits.Splits, before: Evaluation) -> Findings:
    """From a failing model to a repaired one, or to the reason why there is none."""
    talk, ruler = setting.talk, setting.ruler
    with talk.step("measure the reference"):
        reference = patient.base or acquire.fetch(patient.named.id, patient.named.revision, talk.report)
        require_same_shapes(patient.source.layout, reference.layout)
        reported = acquire.reported(patient.named)
        floor = measure(
            ruler, records.Model(reference.source.folder), prompts.confirmation, talk.report, role="reference"
        )
    of_reference = gate.sentence("the reference", floor)
    talk.say(f"  {of_reference}")
    if floor.verdict != "pass":
        reason = f"{of_reference}; what does not pass itself is no antidote"
        return Findings("fail", reason, before, reported, floor)
    with talk.step("score the weights"):
        bench = _bench(setting, patient, reported, reference, prompts)
    with talk.step("search the dose"):
        chosen, attempts = treatment.choose(bench, prompts.selection, talk.say)
    if chosen is None:
        reason = f"no dose passes the policy on the selection prompts; {treatment.nearest(attempts)}"
        return Findings("fail", reason, before, reported, floor, attempts=tuple(attempts))
    with talk.step("evaluate the repair"):
        after = measure(ruler, chosen.model, prompts.confirmation, talk.report, role="after")
        apart = _divergence(setting, patient, chosen.model, prompts.confirmation.benign)
    of_repair = gate.sentence("the repair", after)
    talk.say(f"  {of_repair}")
    with talk.step("measure the controls"):
        controls = treatment.controls(bench, chosen, attempts, prompts)
    rises = paired(before, after, ruler.gate)
    lacks = gate.shortfalls(after, rises, ruler.gate, proven=True)
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
        paired=tuple(rises),
        divergence=apart,
        repaired=None if lacks else chosen.folder,
    )


def _divergence(setting: Setting, patient: Patient, after: records.Model, rows: list[Row]) -> Divergence | None:
    """On the input model's own answers to the harmless prompts; None without any."""
    if not rows:
        return None
    before = acquire.runnable(patient.source, patient.base)
    exchanges = realignment.answered(setting.ruler, before, rows, setting.talk.report)
    return setting.child.call(divergence, DivergenceRequest(before, after, exchanges), setting.talk.report)


def _bench(
    setting: Setting,
    patient: Patient,
    reported: ReportedReference,
    reference: Pulled,
    prompts: splits.Splits,
) -> treatment.Bench:
    """Collect the input statistics once; every dose and method is made from them."""
    source = patient.source
    ensure_space(setting.work, treatment.bytes_needed(source))
    model = acquire.runnable(source, patient.base)
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
            source=source.source.folder,
            reference=reference.source.folder,
            harmful=[row.prompt for row in rows],
            benign=[row.prompt for row in prompts.benign_calibration],
            useful=[row.prompt for row in prompts.task_calibration or prompts.benign_calibration],
            output=statistics,
        )
        plan = setting.child.call(taylor_scores, request, setting.talk.report)
    provenance = Provenance(
        run_id=setting.run_id,
        source=setting.tested.source,
        reference=reported,
        policy_sha256=setting.config.policy.sha256(),
        statistics_sha256=sha256_file(statistics),
        plan=plan,
    )
    return treatment.Bench(
        setting.child,
        setting.ruler,
        source,
        reference,
        method,
        statistics,
        provenance,
        scores,
        setting.work,
        setting.talk.report,
    )


def _report(setting: Setting, findings: Findings, prompts: list[records.PromptFile]) -> Report:
    policy = setting.config.policy
    return Report(
        schema_version=records.SCHEMA_VERSION,
        tool_version=__version__,
        run_id=setting.run_id,
        verdict=findings.verdict,
        exit_code=delivery.exit_code(findings.verdict, accepted=policy.repair.accept),
        reason=findings.reason,
        source=setting.tested.source,
        reference=findings.named,
        policy_sha256=policy.sha256(),
        policy=policy.flat(),
        prompts=prompts,
        evaluations=Evaluations(findings.before, findings.reference, findings.after),
        attempts=list(findings.attempts),
        repair=findings.repair,
        controls=list(findings.controls),
        publish=Published("none"),
        notes=delivery.notes(setting.tested, findings.repaired),
        seconds=setting.talk.seconds,
        licence=setting.tested.licence,
        paired=list(findings.paired),
        divergence=findings.divergence,
        calibrations=list(setting.ruler.calibrations.values()),
    )
