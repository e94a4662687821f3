"""The treatment of a model that fails: its reference measured, its weights scored, the dose found and confirmed."""

import dataclasses
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from antidote_ci.checkpoint.layout import weight_bytes
from antidote_ci.evaluation import gate, realignment
from antidote_ci.evaluation.measure import measure
from antidote_ci.evaluation.paired_changes import paired
from antidote_ci.evaluation.splits import Splits
from antidote_ci.model.divergence import DivergenceRequest, divergence
from antidote_ci.model.hed import DriftRequest, drifts
from antidote_ci.paths import ensure_space
from antidote_ci.pipeline import candidates, dose_search, output, resolve
from antidote_ci.pipeline.candidates import Bench, Candidate, Remedy
from antidote_ci.pipeline.context import Setting, require_usable
from antidote_ci.pipeline.dose_search import Trial
from antidote_ci.pipeline.resolve import Pulled
from antidote_ci.records import (
    Attempt,
    Control,
    Divergence,
    Drift,
    Evaluation,
    FrontierPoint,
    LayerChange,
    Method,
    Model,
    Paired,
    Repair,
    ReportedReference,
    Row,
    RunVerdict,
)
from antidote_ci.repair.apply import Provenance
from antidote_ci.repair.methods import METHODS, ladder
from antidote_ci.repair.planning import layer_of
from antidote_ci.repair.targets import target_of
from antidote_ci.repair.taylor import evenly

DRIFT_PROMPTS = 64
"""That drift is measured on: what the reference gives out for them waits on disk."""


@dataclass(frozen=True)
class Findings:
    """What a run knows at its end."""

    verdict: RunVerdict
    reason: str
    before: Evaluation
    named: ReportedReference | None = None
    reference: Evaluation | None = None
    after: Evaluation | None = None
    repair: Repair | None = None
    attempts: tuple[Attempt, ...] = ()
    controls: tuple[Control, ...] = ()
    frontier: tuple[FrontierPoint, ...] = ()
    paired: tuple[Paired, ...] = ()
    divergence: Divergence | None = None
    drift: Drift | None = None
    notes: tuple[str, ...] = ()
    repaired: Path | None = None
    """The folder of the repaired weights, when they pass."""


@dataclass(frozen=True)
class Patient:
    """The model and where its antidote comes from."""

    source: Pulled
    named: ReportedReference | None
    """None for `dense`."""
    base: Pulled | None
    """The reference, here from the start when it costs nothing or an adapter cannot run without it."""


def treat(setting: Setting, patient: Patient, prompts: Splits, before: Evaluation) -> Findings:
    """From a failing model to a repaired one, or to the reason why there is none."""
    talk, found = setting.talk, Findings("fail", "", before)
    reference = None
    if patient.named is not None:
        with talk.step("measure the reference"):
            reference = patient.base or resolve.fitting(
                patient.source, patient.named, talk.report, resolve.use_of(setting.config)
            )
            model = Model(reference.source.folder)
            require_usable(setting, model)
            floor = measure(setting.ruler, model, prompts.confirmation, talk.report, role="reference")
        of_reference = gate.sentence("the reference", floor)
        talk.say(f"  {of_reference}")
        notes = tuple(resolve.differences(patient.source, reference))
        found = Findings("fail", "", before, patient.named, floor, notes=notes)
        if floor.verdict != "pass":
            return dataclasses.replace(found, reason=f"{of_reference}; what does not pass itself is no antidote")
    with talk.step("score the weights"):
        bench = _bench(setting, patient, reference, prompts)
        method = setting.config.policy.repair.method
        remedy = candidates.remedy(bench, method, ladder(method, bench.target))
    with talk.step("search the dose"):
        selected = measure(setting.ruler, bench.running, prompts.selection, talk.report)
        trial = Trial(bench, setting.ruler, prompts.selection, selected, talk.say)
        dose, attempts = dose_search.smallest(trial, remedy)
    found = dataclasses.replace(found, attempts=tuple(attempts))
    if setting.config.policy.repair.frontier:
        with talk.step("draw the frontier"):
            found = dataclasses.replace(found, frontier=tuple(_frontier(trial, remedy, dose)))
    if dose is None:
        reason = f"no dose passes the policy on the selection prompts; {dose_search.shown_nearest(attempts)}"
        return dataclasses.replace(found, reason=reason)
    return _confirmed(setting, trial, remedy, dose, prompts, found)


def _confirmed(
    setting: Setting, trial: Trial, remedy: Remedy, dose: float, prompts: Splits, found: Findings
) -> Findings:
    """The chosen dose on prompts that the search never saw. They alone carry the verdict."""
    talk, bench, before = setting.talk, trial.bench, found.before
    with talk.step("evaluate the repair"):
        chosen = candidates.prepare(bench, remedy, dose)
        after = measure(setting.ruler, chosen.model, prompts.confirmation, talk.report, role="after")
        apart = _divergence(setting, bench.running, chosen.model, prompts.confirmation.benign)
        moved = _drift(setting, bench, chosen.model, prompts.confirmation.harmful)
    of_repair = gate.sentence("the repair", after)
    talk.say(f"  {of_repair}")
    with talk.step("measure the controls"):
        controls = dose_search.controls(trial, remedy, chosen, after, before, prompts.confirmation)
    if chosen.mask is not None:
        chosen.mask.path.rename(bench.scores / chosen.mask.path.name)
    rises = paired(before, after, setting.ruler.gate)
    lacks = gate.shortfalls(after, rises, setting.ruler.gate, proven=True)
    return dataclasses.replace(
        found,
        verdict="fail" if lacks else "repaired",
        reason=f"the repair does not pass: {'; '.join(lacks)}" if lacks else of_repair,
        after=after,
        repair=_record(chosen, remedy),
        controls=tuple(controls),
        paired=tuple(rises),
        divergence=apart,
        drift=moved,
        repaired=None if lacks else chosen.folder,
    )


def _bench(setting: Setting, patient: Patient, reference: Pulled | None, prompts: Splits) -> Bench:
    """What scoring needs, all of it on disk before the long work begins."""
    source, settings = patient.source, setting.config.policy.repair
    target = target_of(source.layout, settings.target)
    needed = dose_search.bytes_needed(settings, weight_bytes(source.layout), source.layout.entries)
    ensure_space(setting.work, needed, "--out")
    rows = prompts.shaping.realignment
    if not rows[0].response:
        model = resolve.runnable(source, reference)
        rows = realignment.own_answers(setting.ruler, model, rows, setting.talk.report)
    scores = setting.work / output.SCORES
    scores.mkdir()
    return Bench(
        child=setting.child,
        source=source,
        reference=reference,
        target=target,
        shaping=dataclasses.replace(prompts.shaping, realignment=rows),
        provenance=Provenance(
            run_id=setting.run_id,
            source=setting.tested.source,
            reference=patient.named,
            policy_sha256=setting.config.policy.sha256(),
        ),
        budget=settings.activation_megabytes * 1_000_000,
        scores=scores,
        masks=setting.work / "masks",
        work=setting.work,
        report=setting.talk.report,
    )


def _frontier(trial: Trial, remedy: Remedy, chosen: float | None) -> list[FrontierPoint]:
    """Of every method that is possible."""
    bench, remedies = trial.bench, [remedy]
    for method in get_args(Method):
        if method != remedy.method and (bench.reference is not None or not METHODS[method].needs_reference):
            like = remedy if method in ("scale", "random") else None
            doses = dose_search.spread(ladder(method, bench.target))
            remedies.append(candidates.remedy(bench, method, doses, like))
    reference = Model(bench.reference.source.folder) if bench.reference else None
    return dose_search.frontier(trial, remedies, chosen, reference)


def _divergence(setting: Setting, before: Model, after: Model, rows: list[Row]) -> Divergence | None:
    """On the input model's own answers to the harmless prompts; None without any."""
    if not rows:
        return None
    exchanges = realignment.answered(setting.ruler, before, rows, setting.talk.report)
    return setting.child.call(divergence, DivergenceRequest(before, after, exchanges), setting.talk.report)


def _drift(setting: Setting, bench: Bench, after: Model, rows: list[Row]) -> Drift | None:
    """Of input model and repair from the reference; None for `dense`, which has none."""
    if bench.reference is None:
        return None
    prompts = evenly([row.prompt for row in rows], DRIFT_PROMPTS)
    request = DriftRequest(Model(bench.reference.source.folder), bench.running, after, prompts)
    return setting.child.call(drifts, request, setting.talk.report)


def _record(chosen: Candidate, remedy: Remedy) -> Repair:
    """The chosen repair for the report."""
    applied, scored = chosen.applied, remedy.scores.tensors
    layers: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    for each in scored:
        counts = layers[layer_of(each.name)]
        counts[0] += applied.changed.get(each.name, 0)
        counts[1] += each.entries
    return Repair(
        method=chosen.method,
        target=applied.target,
        dose=chosen.dose,
        effective_dose=applied.effective_dose,
        changed_weights=sum(applied.changed.values()),
        scored_weights=applied.scored,
        files=applied.files,
        left_alone=remedy.scores.left_alone,
        layers=[LayerChange(name, changed, entries) for name, (changed, entries) in layers.items()],
    )
