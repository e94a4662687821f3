"""Where repairs are made: weights scored once, many doses' masks in one pass, candidates of any method and dose."""

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from antidote_ci.evaluation.splits import Shaping
from antidote_ci.pipeline.resolve import Pulled
from antidote_ci.records import MaskFile, Method, Model, OnProgress, Score, Scores, Target
from antidote_ci.repair.apply import Applied, ApplyRequest, Provenance, apply
from antidote_ci.repair.masking import MaskRequest, write_masks
from antidote_ci.repair.methods import score_of
from antidote_ci.repair.scoring import ScoreRequest, score
from antidote_ci.sandbox.client import Child

CANDIDATES_AT_ONCE = 2
"""The chosen repair beside one that is being tried."""


@dataclass(frozen=True)
class Bench:
    """What every candidate is made with."""

    child: Child
    source: Pulled
    reference: Pulled | None
    """The weights that come back, or an adapter's base; None for `dense`."""
    target: Target
    shaping: Shaping
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
    def running(self) -> Model:
        """The source as it runs."""
        return self.as_model(self.source.source.folder)

    @property
    def compared(self) -> Path | None:
        """What masks and edits hold the source against; None where that is zero."""
        return self.reference.source.folder if self.reference and self.target == "delta" else None

    def as_model(self, folder: Path) -> Model:
        """A checkpoint of the source's kind as it runs."""
        if self.source.source.kind == "full" or self.reference is None:
            return Model(folder)
        return Model(self.reference.source.folder, folder)


@dataclass(frozen=True)
class Remedy:
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
    applied: Applied


def remedy(bench: Bench, method: Method, doses: Sequence[float], like: Remedy | None = None) -> Remedy:
    """Score the weights, if that has not been done, and make the masks of all `doses`.

    A control takes the scores of the remedy that it is held against: `random` then covers as many entries in the same
    groups. Alone, it scores nothing.
    """
    scores = like.scores if like else _scored(bench, score_of(method))
    if method == "scale":
        return Remedy(method, scores, tuple(sorted(doses)), {})
    masks: dict[float, MaskFile] = {}
    for made in _masks(bench, scores, sorted(doses), by_chance=method == "random"):
        if made.effective_dose in {each.effective_dose for each in masks.values()}:
            made.path.unlink()
        else:
            masks[made.dose] = made
    return Remedy(method, scores, tuple(masks), masks)


def prepare(bench: Bench, remedy: Remedy, dose: float, destination: Path | None = None) -> Candidate:
    """Write the weights that one dose gives. Raises KeyError for a dose that the remedy has not."""
    mask = None if remedy.method == "scale" else remedy.masks[dose]
    destination = destination or bench.work / f"{remedy.method}-{dose:g}"
    request = ApplyRequest(
        source=bench.source.source.folder,
        reference=bench.compared,
        scores=remedy.scores,
        mask=mask,
        method=remedy.method,
        dose=dose,
        destination=destination,
        provenance=bench.provenance,
    )
    applied = bench.child.call(apply, request, bench.report)
    return Candidate(remedy.method, dose, mask, bench.as_model(destination), destination, applied)


@contextmanager
def candidate(bench: Bench, remedy: Remedy, dose: float) -> Iterator[Candidate]:
    """The weights that one dose gives, for as long as they are looked at: they are as large as the model."""
    made = prepare(bench, remedy, dose)
    try:
        yield made
    finally:
        shutil.rmtree(made.folder)


def bytes_needed(weights: int, entries: int, doses: int, *, taylor: bool) -> int:
    """Disk for candidates of `weights` bytes, for the masks of so many doses (a bit an entry) and taylor's scores."""
    return CANDIDATES_AT_ONCE * weights + entries * doses // 8 + (4 * entries if taylor else 0)


def _scored(bench: Bench, method: Score | None) -> Scores:
    request = ScoreRequest(
        model=bench.running,
        source=bench.source.source.folder,
        reference=bench.compared,
        target=bench.target,
        method=method,
        rows=bench.shaping.realignment,
        benign=[row.prompt for row in bench.shaping.benign],
        task=[row.prompt for row in bench.shaping.task],
        folder=bench.scores,
        budget=bench.budget,
    )
    return bench.child.call(score, request, bench.report)


def _masks(bench: Bench, scores: Scores, doses: list[float], *, by_chance: bool) -> list[MaskFile]:
    bench.masks.mkdir(exist_ok=True)
    request = MaskRequest(
        source=bench.source.source.folder,
        reference=bench.compared,
        scores=scores,
        statistics=bench.scores / f"{scores.method}.safetensors" if scores.method else None,
        doses=doses,
        by_chance=by_chance,
        folder=bench.masks,
    )
    return bench.child.call(write_masks, request, bench.report)
