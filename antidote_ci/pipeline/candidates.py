"""Where repairs are made: weights scored once, many doses' masks in one pass, candidates of any method and dose."""

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from antidote_ci.evaluation.splits import RepairPrompts
from antidote_ci.pipeline.resolve import Checkpoint
from antidote_ci.records import MaskFile, Method, Model, OnProgress, RepairTarget, ScoreMethod, Scores
from antidote_ci.repair.apply import ApplyRequest, ApplyResult, Provenance, apply_mask
from antidote_ci.repair.masking import MaskRequest, write_mask_files
from antidote_ci.repair.methods import score_method
from antidote_ci.repair.scoring import ScoreRequest, score_weights
from antidote_ci.sandbox.client import Sandbox

CANDIDATES_AT_ONCE = 2
"""The chosen repair beside one that is being tried."""


@dataclass(frozen=True)
class CandidateFactory:
    """What every candidate is made with."""

    sandbox: Sandbox
    source: Checkpoint
    reference: Checkpoint | None
    """The weights that are restored, or an adapter's base."""
    target: RepairTarget
    repair_prompts: RepairPrompts
    """What scoring reads: the realignment rows have responses."""
    provenance: Provenance
    budget: int
    """Bytes of hidden states that scoring keeps in memory."""
    scores: Path
    """Where scores are kept."""
    masks: Path
    work: Path
    """Where candidates lie while they are needed."""
    report: OnProgress

    @property
    def runnable_model(self) -> Model:
        """The source as it runs."""
        return self.as_model(self.source.source.folder)

    @property
    def reference_folder(self) -> Path | None:
        """What masks and edits hold the source against; None where that is zero."""
        return self.reference.source.folder if self.reference and self.target == "delta" else None

    def as_model(self, folder: Path) -> Model:
        """A checkpoint of the source's kind as it runs."""
        if self.source.source.kind == "full" or self.reference is None:
            return Model(folder)
        return Model(self.reference.source.folder, folder)


@dataclass(frozen=True)
class MethodMasks:
    """A method, ready at every one of its doses."""

    method: Method
    scores: Scores
    doses: tuple[float, ...]
    """Ascending; of doses that change the same entries the smallest."""
    masks: dict[float, MaskFile]
    """By dose; none for `scale`."""


@dataclass(frozen=True)
class Candidate:
    """Repaired weights on disk."""

    method: Method
    dose: float
    mask: MaskFile | None
    model: Model
    folder: Path
    applied: ApplyResult


def build_method_masks(
    factory: CandidateFactory, method: Method, doses: Sequence[float], like: MethodMasks | None = None
) -> MethodMasks:
    """Score the weights, if that has not been done, and make the masks of all `doses`.

    A control takes the scores of the remedy that it is held against: `random` then covers as many entries in the same
    groups. Alone, it scores nothing.
    """
    scores = like.scores if like else _score_weights(factory, score_method(method))
    if method == "scale":
        return MethodMasks(method, scores, tuple(sorted(doses)), {})
    masks: dict[float, MaskFile] = {}
    for made in _write_masks(factory, scores, sorted(doses), by_chance=method == "random"):
        if made.effective_dose in {each.effective_dose for each in masks.values()}:
            made.path.unlink()
        else:
            masks[made.dose] = made
    return MethodMasks(method, scores, tuple(masks), masks)


def write_candidate(
    factory: CandidateFactory, method_masks: MethodMasks, dose: float, destination: Path | None = None
) -> Candidate:
    """Write the weights that one dose gives. Raises KeyError for a dose that the remedy has not."""
    mask = None if method_masks.method == "scale" else method_masks.masks[dose]
    destination = destination or factory.work / f"{method_masks.method}-{dose:g}"
    request = ApplyRequest(
        source=factory.source.source.folder,
        reference=factory.reference_folder,
        scores=method_masks.scores,
        mask=mask,
        method=method_masks.method,
        dose=dose,
        destination=destination,
        provenance=factory.provenance,
    )
    applied = factory.sandbox.call(apply_mask, request, factory.report)
    return Candidate(method_masks.method, dose, mask, factory.as_model(destination), destination, applied)


@contextmanager
def temporary_candidate(factory: CandidateFactory, method_masks: MethodMasks, dose: float) -> Iterator[Candidate]:
    """The weights that one dose gives, for as long as they are looked at: they are as large as the model."""
    made = write_candidate(factory, method_masks, dose)
    try:
        yield made
    finally:
        shutil.rmtree(made.folder)


def candidate_bytes(weights: int, entries: int, doses: int, *, taylor: bool) -> int:
    """Disk for candidates of `weights` bytes, for the masks of so many doses (a bit an entry) and taylor's scores."""
    return CANDIDATES_AT_ONCE * weights + entries * doses // 8 + (4 * entries if taylor else 0)


def _score_weights(factory: CandidateFactory, method: ScoreMethod | None) -> Scores:
    request = ScoreRequest(
        model=factory.runnable_model,
        source=factory.source.source.folder,
        reference=factory.reference_folder,
        target=factory.target,
        method=method,
        rows=factory.repair_prompts.realignment,
        benign=[row.prompt for row in factory.repair_prompts.benign],
        task=[row.prompt for row in factory.repair_prompts.task],
        folder=factory.scores,
        budget=factory.budget,
    )
    return factory.sandbox.call(score_weights, request, factory.report)


def _write_masks(factory: CandidateFactory, scores: Scores, doses: list[float], *, by_chance: bool) -> list[MaskFile]:
    factory.masks.mkdir(exist_ok=True)
    request = MaskRequest(
        source=factory.source.source.folder,
        reference=factory.reference_folder,
        scores=scores,
        statistics=factory.scores / f"{scores.method}.safetensors" if scores.method else None,
        doses=doses,
        by_chance=by_chance,
        folder=factory.masks,
    )
    return factory.sandbox.call(write_mask_files, request, factory.report)
