"""The repair step of the command `run`: evaluate the reference, score the weights, search the dose and confirm it.

The command `repair`, which applies a given dose, is `pipeline.repair`.
"""

import dataclasses
import logging
from pathlib import Path
from typing import get_args

from antidote_ci.errors import ConfigurationError, InfrastructureError
from antidote_ci.evaluation import gate, model_answers
from antidote_ci.evaluation.gate import compare_evaluations
from antidote_ci.evaluation.measure import evaluate_model
from antidote_ci.evaluation.model_answers import TooFewHarmfulAnswersError
from antidote_ci.evaluation.shortfalls import Shortfall, describe_failure, find_kind_shortfalls, find_shortfalls
from antidote_ci.evaluation.splits import Splits
from antidote_ci.model.divergence import DivergenceRequest, measure_divergence
from antidote_ci.pipeline import candidates, comparison, dose_search, output, resolve
from antidote_ci.pipeline.candidates import CandidateFactory, MethodMasks, RepairInput
from antidote_ci.pipeline.context import RunContext
from antidote_ci.pipeline.dose_search import SearchContext
from antidote_ci.pipeline.resolve import Checkpoint
from antidote_ci.records import (
    Divergence,
    Evaluation,
    Evaluations,
    FrontierPoint,
    Manifest,
    Method,
    Model,
    PromptRow,
    RepairResult,
    Report,
    ReportedReference,
)
from antidote_ci.repair.methods import dose_ladder

logger = logging.getLogger(__name__)


def repair_model(
    context: RunContext,
    source: Checkpoint,
    reference_source: ReportedReference,
    base: Checkpoint | None,
    prompts: Splits,
    report: Report,
) -> tuple[Report, Path | None]:
    """Repair the model of `report`. `base`: the reference, if it is pulled already.

    Returns the report, with its verdict unless a repair passes, and the folder of the repaired weights if they pass or
    the policy keeps those that do not.
    """
    console = context.console
    method = context.config.policy.repair.method
    if method == "taylor" and _thinks(report.evaluations.before):
        return _leave_unrepaired(report, "the model"), None
    with console.step("measure the reference"):
        reference = base or resolve.resolve_reference(
            source, reference_source, console.report, resolve.resolve_use(context.config)
        )
        model = Model(reference.layout.folder)
        evaluated = evaluate_model(context.evaluator, model, prompts.confirmation, console.report, role="reference")
    verdict_text = gate.describe_verdict("the reference", evaluated)
    logger.info(verdict_text)
    report = dataclasses.replace(
        report,
        reference=reference_source,
        evaluations=Evaluations(report.evaluations.before, evaluated, None),
        notes=[*report.notes, *resolve.vocabulary_differences(source, reference)],
    )
    if evaluated.verdict != "pass":
        return dataclasses.replace(report, reason=f"{verdict_text}, so it cannot be used for a repair"), None
    if method == "taylor" and _thinks(evaluated):
        return _leave_unrepaired(report, "the reference"), None
    with console.step("score the weights"):
        try:
            factory = _build_factory(context, RepairInput(source, reference_source, reference), prompts)
        except TooFewHarmfulAnswersError as error:
            reason = f"{report.reason}; nothing was repaired: {error.describe()}"
            return dataclasses.replace(report, reason=reason), None
        method_masks = candidates.build_method_masks(factory, method, dose_ladder(method, factory.target))
    with console.step("search the dose"):
        selected = evaluate_model(context.evaluator, factory.runnable_model, prompts.selection, console.report)
        search = SearchContext(
            factory, context.evaluator, context.config.policy.repair, prompts.selection, prompts.confirmation, selected
        )
        dose, attempts = dose_search.find_smallest_dose(search, method_masks)
    report = dataclasses.replace(report, attempts=attempts)
    if context.config.policy.repair.frontier:
        with console.step("measure the frontier"):
            report = dataclasses.replace(report, frontier=_measure_frontier(search, method_masks, dose))
    if dose is None:
        reason = f"no dose passes the policy on the selection prompts; {dose_search.describe_nearest(attempts)}"
        return dataclasses.replace(report, reason=reason), None
    return _confirm_dose(context, search, method_masks, dose, prompts, report)


def _confirm_dose(
    context: RunContext,
    search: SearchContext,
    method_masks: MethodMasks,
    dose: float,
    prompts: Splits,
    report: Report,
) -> tuple[Report, Path | None]:
    """Evaluate the chosen dose on the confirmation prompts, which the search has not used. They decide the verdict."""
    console, factory, before = context.console, search.candidates, report.evaluations.before
    attempt = next(attempt for attempt in report.attempts if attempt.dose == dose)
    if misses := attempt.expected_misses:
        logger.warning("dose %g is expected to miss a limit by its bound: %s", dose, "; ".join(misses))
    with console.step("evaluate the repair"):
        chosen = candidates.write_candidate(factory, method_masks, dose)
        after = evaluate_model(context.evaluator, chosen.model, prompts.confirmation, console.report, role="after")
        divergence, notes = _measure_divergence(
            context, factory.runnable_model, chosen.model, prompts.confirmation.benign
        )
    verdict_text = gate.describe_verdict("the repair", after)
    logger.info(verdict_text)
    with console.step("measure the controls"):
        controls = dose_search.measure_controls(search, method_masks, dose, after, before, report.evaluations.reference)
    if (mask := method_masks.find_mask(dose)) is not None:
        mask.path.rename(factory.scores / mask.path.name)
    changes = compare_evaluations(before, after, context.evaluator.gate)
    shortfalls = find_shortfalls(after, changes, context.evaluator.gate, proven=True)
    shortfalls += find_kind_shortfalls(after, report.evaluations.reference)
    settings, unrepaired_verdict = context.config.policy.repair, report.verdict
    repaired = dataclasses.replace(
        report, verdict="repaired", evaluations=dataclasses.replace(report.evaluations, after=after)
    )
    report = comparison.compare_with_baseline(repaired, context.baseline, context.config.policy.gate.regression)
    if report.baseline is not None and report.baseline.reason:
        shortfalls.append(Shortfall(report.baseline.reason))
    report = dataclasses.replace(
        report,
        verdict=unrepaired_verdict if shortfalls else "repaired",
        reason=describe_failure(shortfalls, settings) if shortfalls else verdict_text,
        repair=_to_repair_result(chosen.manifest, method_masks, dose),
        controls=controls,
        paired=changes,
        divergence=divergence,
        notes=[*report.notes, *notes],
    )
    return report, None if shortfalls and not settings.keep_failed else chosen.folder


def _build_factory(context: RunContext, repair_input: RepairInput, prompts: Splits) -> CandidateFactory:
    return candidates.build_factory(
        context,
        repair_input,
        prompts.repair_prompts,
        run_id=context.run_id,
        scores=context.work / output.SCORES_FOLDER,
        masks=context.work / "masks",
        work=context.work / "candidates",
    )


def _measure_frontier(search: SearchContext, method_masks: MethodMasks, chosen: float | None) -> list[FrontierPoint]:
    """Points of every method."""
    factory, all_masks = search.candidates, [method_masks]
    for method in get_args(Method):
        if method != method_masks.method and not (method == "taylor" and _thinks(search.before)):
            like = method_masks if method in ("scale", "random") else None
            doses = dose_search.spread_doses(dose_ladder(method, factory.target))
            all_masks.append(candidates.build_method_masks(factory, method, doses, like))
    return dose_search.measure_frontier(search, all_masks, chosen, Model(factory.reference.layout.folder))


def _thinks(evaluation: Evaluation) -> bool:
    """Whether most answers begin with a thought, so that their first tokens show no refusal."""
    return evaluation.thoughts > 0.5


def _leave_unrepaired(report: Report, name: str) -> Report:
    explanation = (
        f"nothing was repaired: most answers of {name} begin with a thought, and taylor reads the first tokens of "
        "answers; turn thoughts off with chat_template_kwargs in [evaluation] of the policy, or use --method antidote"
    )
    logger.warning(explanation)
    return dataclasses.replace(report, reason=f"{report.reason}; {explanation}")


def _measure_divergence(
    context: RunContext, before: Model, after: Model, rows: list[PromptRow]
) -> tuple[Divergence | None, list[str]]:
    """Divergence on the model's own answers to the harmless prompts; None without harmless prompts.

    It decides nothing, so the run does not end without it: an error becomes a note that says why.
    """
    if not rows:
        return None, []
    try:
        exchanges = model_answers.answer_rows(
            context.evaluator, before, rows, context.console.report, with_thoughts=True
        )
        request = DivergenceRequest(before, after, exchanges, chat=context.evaluator.chat)
        return context.sandbox.call(measure_divergence, request, context.console.report), []
    except (ConfigurationError, InfrastructureError) as error:
        return None, [f"The divergence was not measured: {error.what}."]


def _to_repair_result(manifest: Manifest, method_masks: MethodMasks, dose: float) -> RepairResult:
    return RepairResult(
        method=method_masks.method,
        target=manifest.target,
        dose=dose,
        effective_dose=manifest.effective_dose,
        changed_weights=sum(manifest.changed.values()),
        scored_weights=sum(tensor.entries for tensor in method_masks.scores.tensors),
        files=manifest.files,
        left_alone=method_masks.scores.left_alone,
    )
