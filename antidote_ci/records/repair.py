"""What is done to the weights, from the scores to the manifest."""

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
"""Of what a dose is a share: each output row, or each tensor."""


@dataclass(frozen=True)
class WeightFile:
    """One file of the repaired checkpoint beside the source's. `sha256_in` is None for a file the repair added."""

    path: str
    sha256_in: str | None
    sha256_out: str


@dataclass(frozen=True)
class ScoredTensor:
    """One matrix [rows, columns] of the files that a repair may change."""

    name: str
    rows: int
    columns: int

    @property
    def entries(self) -> int:
        """How many it has."""
        return self.rows * self.columns


@dataclass(frozen=True)
class UntouchedWeights:
    """Weights that fine-tuning may have changed and a repair does not touch."""

    what: str
    """Tensor names, or a pattern of them with `*`."""
    why: str
    weights: int
    """How many entries they have."""


@dataclass(frozen=True)
class Scores:
    """What scoring left on disk, and from what. Every mask of every dose is made from it."""

    method: ScoreMethod | None
    """None: nothing was scored, as for `scale` and a `random` that imitates nothing."""
    target: RepairTarget
    per: Grouping
    tensors: list[ScoredTensor]
    left_alone: list[UntouchedWeights]
    source_files: dict[str, str]
    """sha256 of each of the source's weight files when it was scored."""
    reference_files: dict[str, str]
    """The same of the reference; empty where it has no part in the edit."""
    sha256: str
    """Of the file that holds the scores or their statistics; empty when nothing was scored."""
    plan: ComputeEnvironment | None


@dataclass(frozen=True)
class MaskFile:
    """The bit-packed mask of one dose."""

    dose: float
    effective_dose: float
    """Share of all scored entries that it holds: counts per row or tensor are whole numbers."""
    path: Path
    sha256: str


@dataclass(frozen=True)
class LayerDrift:
    """How far fine-tuning moved one layer: ||W - W_ref|| / ||W_ref||, Frobenius norms over its scored tensors."""

    layer: str
    drift: float


@dataclass(frozen=True)
class RepairPlan:
    """What `repair` would do, from names, sizes and a pass over the files; no model is run."""

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
    """Predicted peak beyond what the interpreter and its libraries take."""
    seconds: float
    drift: list[LayerDrift]
    notes: list[str]


@dataclass(frozen=True)
class LayerChange:
    """How many of one layer's scored entries have another value."""

    layer: str
    changed: int
    scored: int


@dataclass(frozen=True)
class RepairResult:
    """What was done to the weights."""

    method: Method
    target: RepairTarget
    dose: float
    effective_dose: float
    """Share of the scored entries that the mask holds (counts per row are whole numbers); for scale, the dose."""
    changed_weights: int
    scored_weights: int
    files: list[WeightFile]
    left_alone: list[UntouchedWeights] = field(default_factory=list)
    layers: list[LayerChange] = field(default_factory=list)


@dataclass(frozen=True)
class Verification:
    """What `verify` compared and found. It says nothing of whether the model is safe.

    What was compared is None where the manifest could not be read. Counts are of what there is to compare; it ends at
    the first difference.
    """

    difference: str | None
    """The first thing that is not as source, reference and method allow, or not as the manifest says; None: all is."""
    id: str = ""
    """Of the result: a repository, or a folder."""
    revision: str | None = None
    source: ReportedSource | None = None
    reference: ReportedReference | None = None
    """None also where it has no part in the edit."""
    method: Method | None = None
    target: RepairTarget | None = None
    per: Grouping | None = None
    dose: float | None = None
    files: int = 0
    """Files whose sha256 is compared: all but the card and the proof."""
    tensors: int = 0
    scored_weights: int = 0
    """Entries of the tensors that the manifest says were scored; in all others every byte is the source's."""
    changed_weights: int = 0


@dataclass(frozen=True)
class Manifest:
    """Written last into a repaired checkpoint: with it, every byte can be traced."""

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
    """Entries whose value is another, by scored tensor."""
    left_alone: list[UntouchedWeights]
    policy_sha256: str
    scores_sha256: str
    masks_sha256: str
    source_files: dict[str, str]
    reference_files: dict[str, str]
    plan: ComputeEnvironment | None
    files: list[WeightFile]
    digest: str = ""
    """sha256 of this manifest with an empty digest: it shows an accident or a careless edit, and is no signature."""
