"""The command `repair`: apply one method at one dose. No dose is searched and nothing is evaluated.

The repair step of the command `run`, which searches the dose, is `pipeline.repair_model`.
"""

import dataclasses
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from antidote_ci import __version__, records
from antidote_ci.checkpoint.swap import partial_folder, require_disjoint_folders, require_replaceable
from antidote_ci.errors import ConfigurationError
from antidote_ci.evaluation import prompt_sets, splits
from antidote_ci.evaluation.judges.catalog import JudgeSpec
from antidote_ci.evaluation.splits import RepairPrompts
from antidote_ci.model.checkpoint_check import open_temporary_sandbox
from antidote_ci.paths import require_space, write_file
from antidote_ci.pipeline import candidates, context, evaluator, model_names, output, preflight, resolve, scoring_inputs
from antidote_ci.pipeline.candidates import RepairInput
from antidote_ci.policy import EMBEDDED, SELF, Policy, RunConfig
from antidote_ci.records import Manifest, Method, RepairPlan, ScoreMethod
from antidote_ci.repair import planning
from antidote_ci.repair.apply import Provenance
from antidote_ci.repair.methods import score_method
from antidote_ci.repair.planning import PlanRequest
from antidote_ci.report import terminal
from antidote_ci.report.console import Console
from antidote_ci.sandbox.client import Sandbox

PLAN_FILE = "plan.json"
REPAIR_OUTPUT_NAMES = (
    output.MODEL_FOLDER,
    "model.partial",
    "model.replaced-by-antidote",
    output.SCORES_FOLDER,
    PLAN_FILE,
    output.LOG_FILE,
    output.LOCK_FILE,
)
"""Names in the output folder of a repair, complete or killed."""


@dataclass(frozen=True)
class RepairConfig:
    """Configuration of one repair."""

    run: RunConfig
    method: Method
    dose: float


def plan_repair_command(config: RepairConfig, console: Console) -> RepairPlan:
    """Plan a repair (`--dry-run`). Missing weights are downloaded, but nothing is written to `--out`."""
    prompts, _ = _load_prompts(config, console)
    repair_input = _resolve_input(config, console)
    with open_temporary_sandbox() as sandbox:
        return _plan(config, repair_input, prompts, sandbox, console)


def run_repair(config: RepairConfig, console: Console) -> Manifest:
    """Repair the model and write weights, scores, masks and plan.json to `--out`.

    A killed repair is resumed by the same command and ends in the same bytes.
    """
    prompts, judges = _load_prompts(config, console)
    repair_input = _resolve_input(config, console)
    out, reported_model = config.run.out, resolve.to_reported_model(repair_input.source)
    scores, model = out / output.SCORES_FOLDER, out / output.MODEL_FOLDER
    with context.open_context(config.run, console, judges, reported_model, resume=True) as run_context:
        plan = _plan(config, repair_input, prompts, run_context.sandbox, console)
        console.show(terminal.show_plan(plan))
        scoring_inputs.require_memory(config.method, plan.memory_bytes)
        require_space(out, plan.bytes_written - _count_bytes(partial_folder(model), scores), "--out")
        write_file(out / PLAN_FILE, records.to_json(plan).encode())
        with console.step("score the weights"):
            factory = candidates.build_factory(
                run_context,
                repair_input,
                prompts,
                run_id=_derive_run_id(config, repair_input),
                scores=scores,
                masks=scores,
                work=out,
            )
            method_masks = candidates.build_method_masks(factory, config.method, [config.dose])
        with console.step("write the weights"):
            return candidates.write_candidate(factory, method_masks, config.dose, model).manifest


def _load_prompts(config: RepairConfig, console: Console) -> tuple[RepairPrompts, Sequence[JudgeSpec]]:
    """The prompts that the method reads, and the judges for them. Invalid settings are refused first."""
    _require_supported(config)
    score = score_method(config.method)
    if score is None:
        preflight.require_readable_inputs(config.run)
        return RepairPrompts([], [], []), []
    policy = _narrow_policy(config.run.policy, score)
    judges = preflight.check_judges(policy) if policy.repair.realignment == SELF else []
    preflight.require_readable_inputs(dataclasses.replace(config.run, policy=policy))
    with console.step("read the prompts"):
        return splits.load_repair_prompts(policy, evaluator.fetch_prompts(policy)), judges


def _require_supported(config: RepairConfig) -> None:
    dose = config.dose
    if not 0 <= dose <= 1:
        raise ConfigurationError(
            f"--dose is {dose:g}, outside 0..1",
            cause="a dose is the share of weights to prune, a number from 0 to 1",
            hint=f"did you mean {dose / 100:g}?" if 1 < dose <= 100 else None,
        )
    model_names.require_clear_names(config.run)
    output.require_own_output(config.run.out, REPAIR_OUTPUT_NAMES)


def _narrow_policy(policy: Policy, method: ScoreMethod) -> Policy:
    """The policy without the prompt sets that this method does not read, so that they are not downloaded."""
    evaluation, repair = policy.evaluation, dataclasses.replace(policy.repair, method=method, frontier=False)
    if method == "taylor":
        evaluation = dataclasses.replace(evaluation, benign=prompt_sets.resolve_benign(policy))
    else:
        evaluation = dataclasses.replace(evaluation, benign=None, task=None)
    if repair.realignment != SELF:
        evaluation = dataclasses.replace(evaluation, prompts=EMBEDDED)
    return dataclasses.replace(policy, evaluation=evaluation, repair=repair)


def _resolve_input(config: RepairConfig, console: Console) -> RepairInput:
    run, settings = config.run, config.run.policy.repair
    with console.step("pull the model"):
        source = resolve.pull_model(run.model, run.revision, console.report)
        require_disjoint_folders(source.layout.folder, run.out / output.MODEL_FOLDER)
        require_replaceable(run.out / output.MODEL_FOLDER)
        reference_source = resolve.find_reference(source, settings.reference)
        reference = resolve.resolve_reference(source, reference_source, console.report)
        require_disjoint_folders(reference.layout.folder, run.out / output.MODEL_FOLDER)
        return RepairInput(source, reference_source, reference)


def _plan(
    config: RepairConfig, repair_input: RepairInput, prompts: RepairPrompts, sandbox: Sandbox, console: Console
) -> RepairPlan:
    policy, source, reference = config.run.policy, repair_input.source, repair_input.reference
    request = PlanRequest(
        source=source.source,
        reference=repair_input.reference_source,
        dose=config.dose,
        memory=scoring_inputs.build_memory_request(policy, config.method, source, reference, prompts),
    )
    with console.step("plan the repair"):
        plan = sandbox.call(planning.plan_repair, request, console.report)
    notes = output.collect_notes(resolve.to_reported_model(source), config.run.out / output.MODEL_FOLDER)
    notes += resolve.vocabulary_differences(source, reference)
    if config.method == "taylor" and policy.evaluation.task is None and prompt_sets.resolve_benign(policy) is None:
        notes.append("Embedded prompts are used to preserve utility. Use --task or --benign to name your own.")
    return dataclasses.replace(plan, notes=notes)


def _derive_run_id(config: RepairConfig, repair_input: RepairInput) -> str:
    """Return a run id that is a hash of the version, model, policy, method and dose.

    The same command therefore writes the same manifest.
    """
    provenance = Provenance(
        run_id="",
        source=repair_input.source.source,
        reference=repair_input.reference_source,
        policy_sha256=config.run.policy.sha256(),
    )
    settings = f"{__version__} {config.method} {config.dose!r} {records.to_json(provenance)}"
    return hashlib.sha256(settings.encode()).hexdigest()[:32]


def _count_bytes(*folders: Path) -> int:
    """Return the size in bytes of the files that an interrupted repair has already written."""
    return sum(path.stat().st_size for folder in folders for path in folder.rglob("*") if path.is_file())
