"""`run_repair`: one method at one dose, both named. Nothing is searched, and nothing is measured."""

import dataclasses
import hashlib
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from antidote_ci import __version__, records
from antidote_ci.checkpoint.swap import MANIFEST_FILE, partial_folder, require_disjoint_folders, require_replaceable
from antidote_ci.errors import ConfigurationError
from antidote_ci.evaluation import prompt_sets, realignment, splits
from antidote_ci.evaluation.saved import AnswerLog
from antidote_ci.evaluation.splits import RepairPrompts
from antidote_ci.paths import require_space
from antidote_ci.pipeline import candidates, evaluator, output, resolve
from antidote_ci.pipeline.candidates import CandidateFactory
from antidote_ci.pipeline.resolve import Checkpoint
from antidote_ci.policy import EMBEDDED, SELF, Policy, RunConfig
from antidote_ci.records import (
    Manifest,
    Method,
    Model,
    PromptRow,
    RepairPlan,
    RepairTarget,
    ReportedReference,
    ScoreMethod,
)
from antidote_ci.repair import planning
from antidote_ci.repair.apply import Provenance
from antidote_ci.repair.costs import CHARACTERS_PER_TOKEN
from antidote_ci.repair.methods import score_method
from antidote_ci.repair.planning import PlanRequest
from antidote_ci.repair.targets import resolve_repair_target
from antidote_ci.repair.taylor import MAX_BENIGN, MAX_HARMFUL, MAX_TASK, sample_evenly, select_distilled_benign
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
)
"""Everything that a repair leaves in its folder, killed or not."""


@dataclass(frozen=True)
class RepairConfig:
    """One repair."""

    run: RunConfig
    method: Method
    dose: float

    @property
    def budget(self) -> int:
        """Bytes of hidden states that scoring keeps in memory."""
        return self.run.policy.repair.activation_megabytes * 1_000_000


@dataclass(frozen=True)
class _RepairInputs:
    """What is repaired, and from what."""

    source: Checkpoint
    reference_source: ReportedReference
    reference: Checkpoint
    """The weights that are restored, or an adapter's base."""
    target: RepairTarget
    model: Model
    """The source as it runs."""


def plan_repair_command(config: RepairConfig, console: Console) -> RepairPlan:
    """What `run_repair` would do. Pulls the weights where they are not here yet, and writes nothing."""
    shaping = _load_prompts(config, console)
    subject = _resolve_inputs(config, console)
    with TemporaryDirectory(prefix="antidote-plan-") as folder, Sandbox(Path(folder) / output.LOG_FILE) as child:
        return _run_plan(config, subject, shaping, child, console)


def run_repair(config: RepairConfig, console: Console) -> Manifest:
    """Repair the model into `--out`: the weights in `model`, scores and mask in `run_repair`, and plan.json.

    Killed anywhere, the same command goes on from what it finds there and ends in the same bytes.
    """
    shaping = _load_prompts(config, console)
    subject = _resolve_inputs(config, console)
    out = config.run.out
    with output.lock_output(out), Sandbox(out / output.LOG_FILE) as child:
        planned = _run_plan(config, subject, shaping, child, console)
        console.show(terminal.show_plan(planned))
        written = _count_bytes(partial_folder(out / output.MODEL_FOLDER), out / output.SCORES_FOLDER)
        require_space(out, planned.bytes_written - written, "--out")
        (out / PLAN_FILE).write_text(records.to_json(planned))
        if shaping.realignment and not shaping.realignment[0].response:
            rows = _harmful_answers(config, subject, shaping.realignment, child, console)
            shaping = dataclasses.replace(shaping, realignment=rows)
        _write_repair(config, subject, shaping, child, console)
    return records.from_json(Manifest, (out / output.MODEL_FOLDER / MANIFEST_FILE).read_bytes())


def _load_prompts(config: RepairConfig, console: Console) -> RepairPrompts:
    """The prompts that the method reads. Refuses first what could not be carried out after all the work."""
    _require_supported(config)
    score = score_method(config.method)
    if score is None:
        return RepairPrompts([], [], [])
    policy = _narrow_policy(config.run.policy, score)
    if policy.repair.realignment == SELF:
        evaluator.select_judges(policy.evaluation)
    with console.step("read the prompts"):
        return splits.load_repair_prompts(policy, evaluator.fetch_prompts(policy))


def _require_supported(config: RepairConfig) -> None:
    dose = config.dose
    if not 0 <= dose <= 1:
        raise ConfigurationError(
            f"--dose is {dose:g}, outside 0..1",
            cause="a dose is a share, written as a number from 0 to 1",
            hint=f"did you mean {dose / 100:g}?" if 1 < dose <= 100 else None,
        )
    output.require_own_output(config.run.out, REPAIR_OUTPUT_NAMES)


def _narrow_policy(policy: Policy, method: ScoreMethod) -> Policy:
    """The policy with the prompt sets that this method reads and no others, which are then not fetched."""
    named, repaired = policy.evaluation, dataclasses.replace(policy.repair, method=method, frontier=False)
    if method == "taylor":
        named = dataclasses.replace(named, benign=prompt_sets.resolve_benign(policy))
    else:
        named = dataclasses.replace(named, benign=None, task=None)
    if repaired.realignment != SELF:
        named = dataclasses.replace(named, prompts=EMBEDDED)
    return dataclasses.replace(policy, evaluation=named, repair=repaired)


def _resolve_inputs(config: RepairConfig, console: Console) -> _RepairInputs:
    run, settings = config.run, config.run.policy.repair
    with console.step("pull the model"):
        source = resolve.pull_model(run.model, run.revision, console.report)
        require_disjoint_folders(source.source.folder, run.out / output.MODEL_FOLDER)
        require_replaceable(run.out / output.MODEL_FOLDER)
        target = resolve_repair_target(source.layout)
        named = resolve.find_reference(source, settings.reference)
        reference = resolve.resolve_reference(source, named, console.report)
        return _RepairInputs(source, named, reference, target, resolve.to_model(source, reference))


def _run_plan(
    config: RepairConfig, subject: _RepairInputs, shaping: RepairPrompts, sandbox: Sandbox, console: Console
) -> RepairPlan:
    tested = resolve.to_reported_model(subject.source)
    request = PlanRequest(
        source=tested.source,
        reference=subject.reference_source,
        model=subject.model,
        reference_folder=subject.reference.source.folder,
        method=config.method,
        target=subject.target,
        dose=config.dose,
        texts=_text_lengths(config, shaping),
        budget=config.budget,
    )
    with console.step("plan the repair"):
        found = sandbox.call(planning.plan_repair, request, console.report)
    notes = found.notes + output.collect_notes(tested, config.run.out / output.MODEL_FOLDER)
    notes += resolve.vocabulary_differences(subject.source, subject.reference)
    named = config.run.policy.evaluation
    if config.method == "taylor" and named.task is None and prompt_sets.resolve_benign(config.run.policy) is None:
        notes.append("Embedded prompts stand for what the model must keep: --task or --benign names its own.")
    return dataclasses.replace(found, notes=notes)


def _text_lengths(config: RepairConfig, shaping: RepairPrompts) -> list[int]:
    """Characters of each text that scoring reads; an answer that is still to be given counts as long as it may be."""
    if config.method == "taylor":
        benign, task = (
            sample_evenly(_prompt_texts(shaping.benign), MAX_BENIGN),
            sample_evenly(_prompt_texts(shaping.task), MAX_TASK),
        )
        harmful = sample_evenly(_prompt_texts(shaping.realignment), MAX_HARMFUL)
        taught = harmful + select_distilled_benign(benign, len(harmful))
        return list(map(len, [*taught, *(benign or task), *benign, *task]))
    longest = CHARACTERS_PER_TOKEN * config.run.policy.evaluation.max_new_tokens
    return [len(row.prompt) + (len(row.response) or longest) for row in shaping.realignment]


def _harmful_answers(
    config: RepairConfig, subject: _RepairInputs, rows: list[PromptRow], sandbox: Sandbox, console: Console
) -> list[PromptRow]:
    """The rows that the model answers harmfully: the realignment set `self`."""
    settings, out = config.run.policy.evaluation, config.run.out
    with console.step("pull the judge"):
        fetched = evaluator.fetch_judges(evaluator.select_judges(settings), settings, console.report)
    with TemporaryDirectory(dir=out, prefix=".work-") as work, AnswerLog(None) as log:
        ruler = evaluator.build_evaluator(config.run, fetched, sandbox, Path(work), log)
        with console.step("answer the realignment prompts"):
            return realignment.harmful_answers(ruler, subject.model, rows, console.report)


def _write_repair(
    config: RepairConfig, subject: _RepairInputs, shaping: RepairPrompts, sandbox: Sandbox, console: Console
) -> None:
    """Scores, a mask, weights: each a call of its own in the child, which finds there what a killed one left."""
    out = config.run.out
    bench = CandidateFactory(
        sandbox=sandbox,
        source=subject.source,
        reference=subject.reference,
        target=subject.target,
        repair_prompts=shaping,
        provenance=_build_provenance(config, subject),
        budget=config.budget,
        scores=out / output.SCORES_FOLDER,
        masks=out / output.SCORES_FOLDER,
        work=out,
        report=console.report,
    )
    with console.step("score the weights"):
        remedy = candidates.build_method_masks(bench, config.method, [config.dose])
    with console.step("write the weights"):
        candidates.write_candidate(bench, remedy, config.dose, out / output.MODEL_FOLDER)


def _build_provenance(config: RepairConfig, subject: _RepairInputs) -> Provenance:
    """Named after what was asked for, so that the same command ends in the same manifest."""
    unnamed = Provenance(
        run_id="",
        source=resolve.to_reported_model(subject.source).source,
        reference=subject.reference_source,
        policy_sha256=config.run.policy.sha256(),
    )
    asked = f"{__version__} {config.method} {config.dose!r} {records.to_json(unnamed)}"
    return dataclasses.replace(unnamed, run_id=hashlib.sha256(asked.encode()).hexdigest()[:32])


def _prompt_texts(rows: list[PromptRow]) -> list[str]:
    return [row.prompt for row in rows]


def _count_bytes(*folders: Path) -> int:
    """What an earlier, killed run has written already."""
    return sum(path.stat().st_size for folder in folders for path in folder.rglob("*") if path.is_file())
