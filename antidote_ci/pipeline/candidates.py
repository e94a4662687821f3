"""Repaired candidates: score the weights once, write the masks of all doses in one pass, try one dose at a time."""

import dataclasses
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from antidote_ci.checkpoint.files import FileIdentity, identify_settled_files
from antidote_ci.checkpoint.writer import require_copy
from antidote_ci.evaluation import model_answers
from antidote_ci.evaluation.splits import RepairPrompts
from antidote_ci.model.conversations import NO_SETTINGS
from antidote_ci.pipeline import resolve, scoring_inputs
from antidote_ci.pipeline.context import RunContext
from antidote_ci.pipeline.resolve import Checkpoint
from antidote_ci.pipeline.scoring_inputs import ScoringPrompts
from antidote_ci.records import (
    ChatSettings,
    Manifest,
    MaskFile,
    Method,
    Model,
    OnProgress,
    PromptRow,
    RepairTarget,
    ReportedReference,
    ScoreMethod,
    Scores,
    WeightEdit,
)
from antidote_ci.repair.apply import ApplyRequest, Provenance, apply_mask
from antidote_ci.repair.masking import MaskRequest, write_mask_files
from antidote_ci.repair.methods import score_method
from antidote_ci.repair.scoring import ScoreRequest, score_weights
from antidote_ci.repair.targets import resolve_repair_target
from antidote_ci.sandbox.client import Sandbox


@dataclass(frozen=True)
class RepairInput:
    """The model that is repaired and its reference."""

    source: Checkpoint
    reference_source: ReportedReference
    reference: Checkpoint


@dataclass(frozen=True)
class CandidateFactory:
    """Creates the candidates (repaired models at different doses) of one model, from shared inputs and folders."""

    sandbox: Sandbox
    source: Checkpoint
    reference: Checkpoint
    """The weights that are restored, or the base of an adapter."""
    repair_prompts: RepairPrompts
    """Prompts for scoring. The realignment rows have responses."""
    scoring_prompts: ScoringPrompts | None
    """For `taylor`; None for the other methods."""
    provenance: Provenance
    budget: int
    """Memory for hidden states during scoring, in bytes."""
    scores: Path
    masks: Path
    work: Path
    """Folder for temporary candidates."""
    on_progress: OnProgress
    in_memory: bool
    """Whether candidates are tried without writing them. A server needs the files."""
    source_identities: dict[str, FileIdentity]
    """Weight files before scoring hashes them, so that an unchanged one is not hashed again."""
    reference_identities: dict[str, FileIdentity]
    chat: ChatSettings = NO_SETTINGS
    """How every prompt is put to the models."""

    @property
    def runnable_model(self) -> Model:
        """The source, with its base if it is an adapter."""
        return self.as_model(self.source.layout.folder)

    @property
    def target(self) -> RepairTarget:
        """What is scored."""
        return resolve_repair_target(self.runnable_model)

    @property
    def reference_folder(self) -> Path | None:
        """Folder of the weights that pruned entries are reset to; None if they are set to zero."""
        return self.reference.layout.folder if self.target == "delta" else None

    def as_model(self, folder: Path) -> Model:
        """The checkpoint in `folder`, with the base if the source is an adapter."""
        if self.source.source.kind == "full":
            return Model(folder)
        return Model(self.reference.layout.folder, folder)


@dataclass(frozen=True)
class MethodMasks:
    """The masks of one method at all of its doses."""

    method: Method
    scores: Scores
    doses: tuple[float, ...]
    """Ascending. Of several doses that change the same entries, only the smallest is listed."""
    masks: dict[float, MaskFile]
    """By dose; empty for `scale`."""

    def find_mask(self, dose: float) -> MaskFile | None:
        """The mask of a dose; None for `scale`. Raises KeyError for a dose without a mask."""
        return None if self.method == "scale" else self.masks[dose]

    def effective_dose(self, dose: float) -> float:
        """The share of the scored weights that a dose covers."""
        return self.masks[dose].effective_dose if self.masks else dose


@dataclass(frozen=True)
class Candidate:
    """Repaired weights on disk."""

    folder: Path
    model: Model
    manifest: Manifest


def build_factory(
    context: RunContext,
    repair_input: RepairInput,
    prompts: RepairPrompts,
    *,
    run_id: str,
    scores: Path,
    masks: Path,
    work: Path,
) -> CandidateFactory:
    """Collect the inputs of scoring. Realignment prompts without responses are first answered by the model."""
    source, reference = repair_input.source, repair_input.reference
    settings = context.config.policy.repair
    on_progress = context.console.report
    rows = prompts.realignment
    if rows and not rows[0].response:
        model = resolve.to_model(source, reference)
        rows = model_answers.collect_harmful_answers(context.evaluator, model, rows, on_progress)
    has_server = context.config.policy.evaluation.server is not None

    def find_refused(asked: Sequence[PromptRow]) -> list[bool]:
        return model_answers.find_refused(context.evaluator, Model(reference.layout.folder), asked, on_progress)

    is_asked = has_server or scoring_inputs.can_answer(reference.layout)
    return CandidateFactory(
        sandbox=context.sandbox,
        source=source,
        reference=reference,
        repair_prompts=dataclasses.replace(prompts, realignment=rows),
        scoring_prompts=(
            scoring_inputs.choose_scoring_prompts(prompts, rows, find_refused if is_asked else None)
            if prompts.varied
            else None
        ),
        provenance=Provenance(
            run_id=run_id,
            source=context.reported_model.source,
            reference=repair_input.reference_source,
            policy_sha256=context.config.policy.sha256(),
        ),
        budget=settings.activation_megabytes * 1_000_000,
        scores=scores,
        masks=masks,
        work=work,
        on_progress=on_progress,
        in_memory=context.config.policy.evaluation.server is None,
        source_identities=identify_settled_files(source.layout.folder, source.layout.shards),
        reference_identities=identify_settled_files(reference.layout.folder, reference.layout.shards),
        chat=context.evaluator.chat,
    )


def build_method_masks(
    factory: CandidateFactory, method: Method, doses: Sequence[float], like: MethodMasks | None = None
) -> MethodMasks:
    """Score the weights, unless scores exist on disk, and write the masks of all `doses`.

    `like` provides the scores of another method: the control `random` then covers as many entries in the same groups.
    """
    scores = like.scores if like else _score_weights(factory, score_method(method))
    if method == "scale":
        return MethodMasks(method, scores, tuple(sorted(doses)), {})
    request = MaskRequest(
        source=factory.source.layout.folder,
        reference=factory.reference_folder,
        scores=scores,
        statistics=None if method == "random" else factory.scores / f"{method}.safetensors",
        doses=sorted(doses),
        folder=factory.masks,
    )
    masks: dict[float, MaskFile] = {}
    for mask in factory.sandbox.call(write_mask_files, request, factory.on_progress, outputs=[factory.masks]):
        if mask.effective_dose in {known.effective_dose for known in masks.values()}:
            mask.path.unlink()
        else:
            masks[mask.dose] = mask
    return MethodMasks(method, scores, tuple(masks), masks)


def write_candidate(
    factory: CandidateFactory, method_masks: MethodMasks, dose: float, destination: Path | None = None
) -> Candidate:
    """Apply one dose to the weights. Raises KeyError for a dose without a mask."""
    destination = destination or factory.work / f"{method_masks.method}-{dose:g}"
    request = ApplyRequest(
        source=factory.source.layout.folder,
        reference=factory.reference_folder,
        scores=method_masks.scores,
        mask=method_masks.find_mask(dose),
        method=method_masks.method,
        dose=dose,
        destination=destination,
        provenance=factory.provenance,
        source_identities=factory.source_identities,
        reference_identities=factory.reference_identities,
    )
    manifest = factory.sandbox.call(apply_mask, request, factory.on_progress, outputs=[destination.parent])
    require_copy(factory.source.layout, destination)
    return Candidate(destination, factory.as_model(destination), manifest)


@contextmanager
def prepare_trial(factory: CandidateFactory, method_masks: MethodMasks, dose: float) -> Iterator[Model]:
    """The model repaired with one dose: an edit in memory, or for a server weights on disk, which are deleted on exit.

    Both have the same bits. Raises KeyError for a dose without a mask.
    """
    if factory.in_memory:
        yield _edit_model(factory, method_masks, dose)
        return
    candidate = write_candidate(factory, method_masks, dose)
    try:
        yield candidate.model
    finally:
        factory.sandbox.end_children()  # their links would keep the files on the disk
        shutil.rmtree(candidate.folder)


def _edit_model(factory: CandidateFactory, method_masks: MethodMasks, dose: float) -> Model:
    mask = method_masks.find_mask(dose)
    edit = WeightEdit(
        tensors=tuple(tensor.name for tensor in method_masks.scores.tensors),
        reference=factory.reference_folder,
        dose=dose,
        masks=mask.path.parent if mask else None,
        mask=mask.path.name if mask else "",
    )
    return dataclasses.replace(factory.runnable_model, edit=edit)


def _score_weights(factory: CandidateFactory, method: ScoreMethod | None) -> Scores:
    prompts, chosen = factory.repair_prompts, factory.scoring_prompts
    rows, benign, taught = prompts.realignment, prompts.benign, prompts.benign
    if method == "taylor" and chosen is not None:
        rows, benign, taught = chosen.harmful, chosen.benign, chosen.taught
    request = ScoreRequest(
        model=factory.runnable_model,
        reference=resolve.to_model(factory.reference, None) if factory.target == "delta" else None,
        method=method,
        rows=rows,
        benign=[row.prompt for row in benign],
        taught=[row.prompt for row in taught],
        task=[row.prompt for row in prompts.task],
        folder=factory.scores,
        budget=factory.budget,
        chat=factory.chat,
    )
    scores = factory.sandbox.call(score_weights, request, factory.on_progress, outputs=[factory.scores])
    if method is None:
        with suppress(OSError):  # scores of another method are in the folder that the sandbox creates
            factory.scores.rmdir()
    return scores
