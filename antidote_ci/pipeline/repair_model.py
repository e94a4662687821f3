"""The treatment of a model that fails: its reference measured, its weights scored, the dose found and confirmed."""

import dataclasses
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from antidote_ci.checkpoint.layout import count_weight_bytes
from antidote_ci.evaluation import gate, realignment
from antidote_ci.evaluation.measure import evaluate_model
from antidote_ci.evaluation.paired_changes import compare_evaluations
from antidote_ci.evaluation.splits import Splits
from antidote_ci.model.divergence import DivergenceRequest, measure_divergence
from antidote_ci.model.hed import DriftRequest, measure_drifts
from antidote_ci.paths import require_space
from antidote_ci.pipeline import candidates, dose_search, output, resolve
from antidote_ci.pipeline.candidates import Candidate, CandidateFactory, MethodMasks
from antidote_ci.pipeline.context import RunContext, require_loadable
from antidote_ci.pipeline.dose_search import SearchContext
from antidote_ci.pipeline.resolve import Checkpoint
from antidote_ci.records import (
    ControlResult,
    Divergence,
    DoseAttempt,
    Drift,
    Evaluation,
    FrontierPoint,
    LayerChange,
    Method,
    Model,
    PairedChange,
    PromptRow,
    RepairResult,
    ReportedReference,
    RunVerdict,
)
from antidote_ci.repair.apply import Provenance
from antidote_ci.repair.methods import dose_ladder
from antidote_ci.repair.planning import layer_name
from antidote_ci.repair.targets import resolve_repair_target
from antidote_ci.repair.taylor import sample_evenly

DRIFT_PROMPTS = 64
"""That drift is measured on: what the reference gives out for them waits on disk."""


@dataclass(frozen=True)
class RunResult:
    """What a run knows at its end."""

    verdict: RunVerdict
    reason: str
    before: Evaluation
    reference_source: ReportedReference | None = None
    reference: Evaluation | None = None
    after: Evaluation | None = None
    repair: RepairResult | None = None
    attempts: tuple[DoseAttempt, ...] = ()
    controls: tuple[ControlResult, ...] = ()
    frontier: tuple[FrontierPoint, ...] = ()
    paired: tuple[PairedChange, ...] = ()
    divergence: Divergence | None = None
    drift: Drift | None = None
    notes: tuple[str, ...] = ()
    repaired: Path | None = None
    """The folder of the repaired weights, when they pass."""


@dataclass(frozen=True)
class RepairInput:
    """The model and where its antidote comes from."""

    source: Checkpoint
    reference_source: ReportedReference | None
    base: Checkpoint | None
    """The reference, here from the start when it costs nothing or an adapter cannot run without it."""


def repair_model(context: RunContext, repair_input: RepairInput, prompts: Splits, before: Evaluation) -> RunResult:
    """From a failing model to a repaired one, or to the reason why there is none."""
    talk, found = context.console, RunResult("fail", "", before)
    reference = None
    if repair_input.reference_source is not None:
        with talk.step("measure the reference"):
            reference = repair_input.base or resolve.resolve_reference(
                repair_input.source, repair_input.reference_source, talk.report, resolve.resolve_use(context.config)
            )
            model = Model(reference.source.folder)
            require_loadable(context, model)
            floor = evaluate_model(context.evaluator, model, prompts.confirmation, talk.report, role="reference")
        of_reference = gate.describe_verdict("the reference", floor)
        talk.print(f"  {of_reference}")
        notes = tuple(resolve.vocabulary_differences(repair_input.source, reference))
        found = RunResult("fail", "", before, repair_input.reference_source, floor, notes=notes)
        if floor.verdict != "pass":
            return dataclasses.replace(found, reason=f"{of_reference}; what does not pass itself is no antidote")
    with talk.step("score the weights"):
        bench = _build_factory(context, repair_input, reference, prompts)
        method = context.config.policy.repair.method
        remedy = candidates.build_method_masks(bench, method, dose_ladder(method, bench.target))
    with talk.step("search the dose"):
        selected = evaluate_model(context.evaluator, bench.runnable_model, prompts.selection, talk.report)
        trial = SearchContext(bench, context.evaluator, prompts.selection, selected, talk.print)
        dose, attempts = dose_search.find_smallest_dose(trial, remedy)
    found = dataclasses.replace(found, attempts=tuple(attempts))
    if context.config.policy.repair.frontier:
        with talk.step("draw the frontier"):
            found = dataclasses.replace(found, frontier=tuple(_measure_frontier(trial, remedy, dose)))
    if dose is None:
        reason = f"no dose passes the policy on the selection prompts; {dose_search.describe_nearest(attempts)}"
        return dataclasses.replace(found, reason=reason)
    return _confirm_dose(context, trial, remedy, dose, prompts, found)


def _confirm_dose(
    context: RunContext,
    search: SearchContext,
    method_masks: MethodMasks,
    dose: float,
    prompts: Splits,
    found: RunResult,
) -> RunResult:
    """The chosen dose on prompts that the search never saw. They alone carry the verdict."""
    talk, bench, before = context.console, search.candidates, found.before
    with talk.step("evaluate the repair"):
        chosen = candidates.write_candidate(bench, method_masks, dose)
        after = evaluate_model(context.evaluator, chosen.model, prompts.confirmation, talk.report, role="after")
        apart = _measure_divergence(context, bench.runnable_model, chosen.model, prompts.confirmation.benign)
        moved = _measure_drift(context, bench, chosen.model, prompts.confirmation.harmful)
    of_repair = gate.describe_verdict("the repair", after)
    talk.print(f"  {of_repair}")
    with talk.step("measure the controls"):
        controls = dose_search.measure_controls(search, method_masks, chosen, after, before, prompts.confirmation)
    if chosen.mask is not None:
        chosen.mask.path.rename(bench.scores / chosen.mask.path.name)
    rises = compare_evaluations(before, after, context.evaluator.gate)
    lacks = gate.find_shortfalls(after, rises, context.evaluator.gate, proven=True)
    return dataclasses.replace(
        found,
        verdict="fail" if lacks else "repaired",
        reason=f"the repair does not pass: {'; '.join(lacks)}" if lacks else of_repair,
        after=after,
        repair=_to_repair_record(chosen, method_masks),
        controls=tuple(controls),
        paired=tuple(rises),
        divergence=apart,
        drift=moved,
        repaired=None if lacks else chosen.folder,
    )


def _build_factory(
    context: RunContext, repair_input: RepairInput, reference: Checkpoint | None, prompts: Splits
) -> CandidateFactory:
    """What scoring needs, all of it on disk before the long work begins."""
    source, settings = repair_input.source, context.config.policy.repair
    target = resolve_repair_target(source.layout)
    needed = dose_search.search_bytes(settings, count_weight_bytes(source.layout), source.layout.entries)
    require_space(context.work, needed, "--out")
    rows = prompts.repair_prompts.realignment
    if not rows[0].response:
        model = resolve.to_model(source, reference)
        rows = realignment.harmful_answers(context.evaluator, model, rows, context.console.report)
    scores = context.work / output.SCORES_FOLDER
    scores.mkdir()
    return CandidateFactory(
        sandbox=context.sandbox,
        source=source,
        reference=reference,
        target=target,
        repair_prompts=dataclasses.replace(prompts.repair_prompts, realignment=rows),
        provenance=Provenance(
            run_id=context.run_id,
            source=context.reported_model.source,
            reference=repair_input.reference_source,
            policy_sha256=context.config.policy.sha256(),
        ),
        budget=settings.activation_megabytes * 1_000_000,
        scores=scores,
        masks=context.work / "masks",
        work=context.work,
        report=context.console.report,
    )


def _measure_frontier(search: SearchContext, method_masks: MethodMasks, chosen: float | None) -> list[FrontierPoint]:
    """Of every method that is possible."""
    bench, remedies = search.candidates, [method_masks]
    for method in get_args(Method):
        if method != method_masks.method:
            like = method_masks if method in ("scale", "random") else None
            doses = dose_search.spread_doses(dose_ladder(method, bench.target))
            remedies.append(candidates.build_method_masks(bench, method, doses, like))
    reference = Model(bench.reference.source.folder) if bench.reference else None
    return dose_search.measure_frontier(search, remedies, chosen, reference)


def _measure_divergence(context: RunContext, before: Model, after: Model, rows: list[PromptRow]) -> Divergence | None:
    """On the input model's own answers to the harmless prompts; None without any."""
    if not rows:
        return None
    exchanges = realignment.answer_rows(context.evaluator, before, rows, context.console.report)
    return context.sandbox.call(measure_divergence, DivergenceRequest(before, after, exchanges), context.console.report)


def _measure_drift(context: RunContext, factory: CandidateFactory, after: Model, rows: list[PromptRow]) -> Drift | None:
    """Of input model and repair from the reference."""
    if factory.reference is None:
        return None
    prompts = sample_evenly([row.prompt for row in rows], DRIFT_PROMPTS)
    request = DriftRequest(Model(factory.reference.source.folder), factory.runnable_model, after, prompts)
    return context.sandbox.call(measure_drifts, request, context.console.report)


def _to_repair_record(chosen: Candidate, method_masks: MethodMasks) -> RepairResult:
    """The chosen repair for the report."""
    applied, scored = chosen.applied, method_masks.scores.tensors
    layers: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    for each in scored:
        counts = layers[layer_name(each.name)]
        counts[0] += applied.changed.get(each.name, 0)
        counts[1] += each.entries
    return RepairResult(
        method=chosen.method,
        target=applied.target,
        dose=chosen.dose,
        effective_dose=applied.effective_dose,
        changed_weights=sum(applied.changed.values()),
        scored_weights=applied.scored,
        files=applied.files,
        left_alone=method_masks.scores.left_alone,
        layers=[LayerChange(name, changed, entries) for name, (changed, entries) in layers.items()],
    )
