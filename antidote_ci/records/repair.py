"""Records of a repair: scores, masks, plan, result, manifest and verification."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from antidote_ci.records.models import ComputeEnvironment, ReportedReference, ReportedSource

ScoreMethod = Literal["antidote", "taylor"]
Method = Literal[ScoreMethod, "scale", "random"]
"""The last two are the controls."""
RepairTarget = Literal["adapter", "delta"]
"""What is scored: an adapter's factors, or the difference of full weights to the reference."""
Grouping = Literal["row", "tensor"]
"""What a dose is a share of: each output row, or each tensor."""


@dataclass(frozen=True)
class WeightFile:
    """One file of the repaired checkpoint, with its sha256 in the source and in the result."""

    path: str
    sha256_in: str
    sha256_out: str


@dataclass(frozen=True)
class ScoredTensor:
    """A matrix [rows, columns] that a repair may change."""

    name: str
    rows: int
    columns: int

    @property
    def entries(self) -> int:
        """Number of weights."""
        return self.rows * self.columns


@dataclass(frozen=True)
class UntouchedWeights:
    """Weights that fine-tuning may have changed and a repair does not change."""

    what: str
    """A tensor name, or a pattern with `*`."""
    why: str
    weights: int


@dataclass(frozen=True)
class Scores:
    """Result of scoring, from which the mask of every dose is made."""

    method: ScoreMethod | None
    """None when nothing was scored, as for `scale`."""
    target: RepairTarget
    per: Grouping
    tensors: list[ScoredTensor]
    left_alone: list[UntouchedWeights]
    source_files: dict[str, str]
    """Path -> sha256 of each weight file of the source."""
    reference_files: dict[str, str]
    """The same of the reference; empty when the edit does not use it."""
    sha256: str
    """Of the file with the scores or their statistics; empty when nothing was scored."""
    plan: ComputeEnvironment | None


@dataclass(frozen=True)
class MaskFile:
    """The bit-packed mask of one dose."""

    dose: float
    effective_dose: float
    """Share of all scored weights in the mask. It differs from the dose because counts per row are integers."""
    path: Path
    sha256: str


@dataclass(frozen=True)
class RepairPlan:
    """Plan of a repair, from names and sizes. No model is run."""

    source: ReportedSource
    reference: ReportedReference | None
    method: Method
    target: RepairTarget
    per: Grouping | None
    dose: float
    effective_dose: float
    tensors: list[ScoredTensor]
    left_alone: list[UntouchedWeights]
    entries_covered: int
    bytes_written: int
    memory_bytes: int
    """Predicted peak in addition to the interpreter and its libraries."""
    seconds: float
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class RepairResult:
    """Result of a repair."""

    method: Method
    target: RepairTarget
    dose: float
    effective_dose: float
    """Share of the scored weights in the mask; for `scale`, the dose."""
    changed_weights: int
    scored_weights: int
    files: list[WeightFile]
    left_alone: list[UntouchedWeights] = field(default_factory=list)


@dataclass(frozen=True)
class Verification:
    """Result of `verify`. It does not show that the model is safe.

    Fields of the manifest are None when it could not be read. Counts are totals, although verification stops at the
    first difference.
    """

    difference: str | None
    """The first difference from the manifest or from what source, reference and method allow; None without any."""
    id: str = ""
    """Repository or folder of the repaired weights."""
    revision: str | None = None
    source: ReportedSource | None = None
    reference: ReportedReference | None = None
    """None also when the edit does not use it."""
    method: Method | None = None
    target: RepairTarget | None = None
    per: Grouping | None = None
    dose: float | None = None
    files: int = 0
    """Files whose sha256 is compared: all except the card and the report's files."""
    tensors: int = 0
    scored_weights: int = 0
    """Weights of the tensors that the manifest lists as scored. All other tensors must equal the source's."""
    changed_weights: int = 0
    verdict: str | None = None
    """Verdict of the report next to the weights, `records.RunVerdict`. It is not checked. None without a report."""


@dataclass(frozen=True)
class Manifest:
    """Manifest of a repaired checkpoint, written last. It traces every byte to the source or the reference."""

    schema_version: int
    tool_version: str
    run_id: str
    source: ReportedSource
    reference: ReportedReference | None
    method: Method
    target: RepairTarget
    per: Grouping | None
    """None for `scale`, which has no mask."""
    dose: float
    effective_dose: float
    changed: dict[str, int]
    """Scored tensor -> number of changed weights."""
    left_alone: list[UntouchedWeights]
    policy_sha256: str
    scores_sha256: str
    masks_sha256: str
    source_files: dict[str, str]
    reference_files: dict[str, str]
    plan: ComputeEnvironment | None
    files: list[WeightFile]
    digest: str = ""
    """sha256 of this manifest with an empty digest. It detects accidental changes and is not a signature."""
