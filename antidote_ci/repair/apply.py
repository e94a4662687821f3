"""Apply: a checkpoint and its masks in, a repaired checkpoint out. A file operation that runs no model."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from antidote_ci import __version__, records
from antidote_ci.checkpoint.files import sha256_file
from antidote_ci.checkpoint.layout import Layout, inspect
from antidote_ci.checkpoint.writer import finish, write_checkpoint
from antidote_ci.records import (
    Manifest,
    Method,
    Plan,
    Progress,
    ReportedReference,
    ReportedSource,
    Target,
    WeightFile,
)
from antidote_ci.repair import edits, masks, weights
from antidote_ci.repair.targets import Scored, scored_tensors, target_of

if TYPE_CHECKING:
    import torch

CARD = "README.md"


@dataclass(frozen=True)
class Provenance:
    """What the manifest says of the run that made the repair."""

    run_id: str
    source: ReportedSource
    reference: ReportedReference
    policy_sha256: str
    statistics_sha256: str
    plan: Plan


@dataclass(frozen=True)
class ApplyRequest:
    """`masks` is None for `scale`; `reference` is None for an adapter, whose reference is zero."""

    source: Path
    reference: Path | None
    masks: Path | None
    method: Method
    dose: float
    effective_dose: float
    destination: Path
    provenance: Provenance


@dataclass(frozen=True)
class Applied:
    """What changed on disk."""

    target: Target
    changed: int
    scored: int
    files: list[WeightFile]


def apply(request: ApplyRequest, report: Callable[[Progress], None]) -> Applied:
    """Write the repaired checkpoint to `destination`: complete with its manifest, or not at all."""
    source = inspect(request.source)
    editor = _Editor(source, request)
    files = write_checkpoint(source, request.destination, editor.edit, report)
    # People go on editing the card, so the proof does not cover it.
    proven = [file for file in files if file.path != CARD]
    manifest = Manifest(
        schema_version=records.SCHEMA_VERSION,
        tool_version=__version__,
        method=request.method,
        target=target_of(source),
        dose=request.dose,
        effective_dose=request.effective_dose,
        changed_weights=editor.changed,
        masks_sha256=sha256_file(request.masks) if request.masks else "",
        files=proven,
        **vars(request.provenance),
    )
    finish(request.destination, records.dump(manifest))
    return Applied(manifest.target, editor.changed, editor.scored, proven)


class _Editor:
    """Edits tensors as the writer asks for them, and counts the entries whose value is another."""

    def __init__(self, source: Layout, request: ApplyRequest) -> None:
        self._scored = {each.tensor: each for each in scored_tensors(source)}
        self._reference = inspect(request.reference) if request.reference else None
        self._request = request
        self.changed = 0
        self.scored = sum(each.rows * each.columns for each in self._scored.values())

    def edit(self, name: str, weight: "torch.Tensor") -> "torch.Tensor | None":
        scored = self._scored.get(name)
        if scored is None:
            return None
        edited = self._edited(scored, weight)
        changed = int((edited != weight).sum())
        self.changed += changed
        return edited if changed else None

    def _edited(self, scored: Scored, weight: "torch.Tensor") -> "torch.Tensor":
        import torch

        if self._request.method == "scale":
            if self._reference is not None:
                base = weights.read(self._reference, scored.tensor)
                return edits.shrink(weight, base, self._request.dose)
            # The delta is B A: one factor carries the whole shrink.
            whole = scored.tensor.endswith(".lora_A.weight")
            return weight if whole else edits.shrink(weight, torch.zeros(()), self._request.dose)
        mask = self._mask(scored)
        if self._reference is None:
            return edits.zero(weight, mask)
        return edits.restore(weight, weights.read(self._reference, scored.tensor), mask)

    def _mask(self, scored: Scored) -> "torch.Tensor":
        from safetensors import safe_open

        if self._request.masks is None:
            raise ValueError(f"{self._request.method} needs masks")
        with safe_open(self._request.masks, framework="pt") as packed:
            return masks.unpack(packed.get_tensor(scored.tensor), scored.rows, scored.columns)
