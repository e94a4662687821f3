"""Apply: a checkpoint and a mask in, a repaired checkpoint out. A file operation that runs no model."""

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from antidote_ci import __version__, records
from antidote_ci.checkpoint import tensors
from antidote_ci.checkpoint.files import display_name, sha256_file
from antidote_ci.checkpoint.layout import CheckpointLayout, read_layout
from antidote_ci.checkpoint.lora_names import A_ENDING
from antidote_ci.checkpoint.swap import rollback_on_error
from antidote_ci.checkpoint.tensors import TensorFile
from antidote_ci.checkpoint.writer import publish_in_place, write_checkpoint
from antidote_ci.errors import ConfigurationError, InfrastructureError
from antidote_ci.model import memory
from antidote_ci.records import (
    Manifest,
    MaskFile,
    Method,
    OnProgress,
    RepairTarget,
    ReportedReference,
    ReportedSource,
    Scores,
    WeightFile,
)
from antidote_ci.repair import edits, masks
from antidote_ci.repair.manifest import seal_manifest
from antidote_ci.repair.masking import mask_metadata

if TYPE_CHECKING:
    import torch

CARD = "README.md"


@dataclass(frozen=True)
class Provenance:
    """What the manifest says of the run that made the repair."""

    run_id: str
    source: ReportedSource
    reference: ReportedReference | None
    policy_sha256: str


@dataclass(frozen=True)
class ApplyRequest:
    """`mask` is None for `scale`; `reference` is None where the edit is zero: an adapter's factors."""

    source: Path
    reference: Path | None
    scores: Scores
    mask: MaskFile | None
    method: Method
    dose: float
    destination: Path
    provenance: Provenance


@dataclass(frozen=True)
class ApplyResult:
    """What changed on disk."""

    target: RepairTarget
    effective_dose: float
    changed: dict[str, int]
    """Entries whose value is another, by tensor."""
    scored: int
    files: list[WeightFile]


@memory.return_freed_memory()
def apply_mask(request: ApplyRequest, report: OnProgress) -> ApplyResult:
    """Write the repaired checkpoint to `destination`: complete with its manifest, or not at all.

    Killed anywhere, the same request goes on where it stopped. Raises ConfigurationError for a mask of another
    checkpoint, InfrastructureError when source, reference or mask are not what was scored.
    """
    scores = request.scores
    source = read_layout(request.source)
    reference = read_layout(request.reference) if request.reference else None
    if (scores.target == "delta") != (reference is not None):
        raise ValueError(f"{scores.target} and its reference do not go together")
    _require_shapes(source, scores)
    if reference is not None:
        _require_shapes(reference, scores)
    if request.mask is not None:
        _require_matching_mask(request, request.mask)
    manifest = _draft_manifest(request)
    key = seal_manifest(replace(manifest, run_id="")).digest
    with ThreadPoolExecutor(1) as beside:
        # The writer hashes what it reads of the source; the reference is read tensor by tensor, so it is hashed apart.
        hashing = beside.submit(_hash_files, reference)
        edit = _build_edit(request, reference)
        written = write_checkpoint(source, request.destination, _list_edited(request), edit, key, report)
        reference_files = hashing.result()
    with rollback_on_error(request.destination):
        source_files = {file.path: file.sha256_in or "" for file in written.files}
        _require_hashes(source, scores.source_files, source_files)
        if reference is not None:
            _require_hashes(reference, scores.reference_files, reference_files)
    # People go on editing the card, so the proof does not cover it.
    proven = [file for file in written.files if file.path != CARD]
    publish_in_place(
        request.destination, records.to_json(seal_manifest(replace(manifest, changed=written.changed, files=proven)))
    )
    entries = sum(each.entries for each in scores.tensors)
    return ApplyResult(scores.target, manifest.effective_dose, written.changed, entries, proven)


def _draft_manifest(request: ApplyRequest) -> Manifest:
    """The manifest but for what is known when all is written. But for the run, it decides the repaired bytes."""
    scores, mask = request.scores, request.mask
    return Manifest(
        schema_version=records.SCHEMA_VERSION,
        tool_version=__version__,
        method=request.method,
        target=scores.target,
        per=scores.per if mask else None,
        dose=request.dose,
        effective_dose=mask.effective_dose if mask else request.dose,
        changed={},
        left_alone=scores.left_alone,
        scores_sha256=scores.sha256 if mask else "",
        masks_sha256=mask.sha256 if mask else "",
        source_files=scores.source_files,
        reference_files=scores.reference_files,
        plan=scores.plan if mask else None,
        files=[],
        **vars(request.provenance),
    )


def _list_edited(request: ApplyRequest) -> set[str]:
    """A scaled adapter's delta is B A: one factor carries the whole shrink."""
    names = {each.name for each in request.scores.tensors}
    if request.method == "scale" and request.scores.target == "adapter":
        return {name for name in names if not name.endswith(A_ENDING)}
    return names


def _build_edit(
    request: ApplyRequest, reference: CheckpointLayout | None
) -> Callable[[str, "torch.Tensor"], "torch.Tensor"]:
    import torch

    scored = {each.name: each for each in request.scores.tensors}
    packed = TensorFile(request.mask.path) if request.mask else None

    def edit(name: str, weight: torch.Tensor) -> torch.Tensor:
        base = None if reference is None else tensors.read_tensor(reference, name)
        if packed is None:
            return edits.interpolate(weight, torch.zeros(()) if base is None else base, request.dose)
        mask = masks.unpack_mask(packed.read(name), scored[name].rows, scored[name].columns)
        return edits.zero_masked(weight, mask) if base is None else edits.restore_masked(weight, base, mask)

    return edit


def _hash_files(layout: CheckpointLayout | None) -> dict[str, str]:
    return {} if layout is None else {shard: sha256_file(layout.folder / shard) for shard in layout.shards}


def _require_shapes(layout: CheckpointLayout, scores: Scores) -> None:
    shapes = {name: info.shape for name, info in layout.tensors.items()}
    for each in scores.tensors:
        if shapes.get(each.name) != (each.rows, each.columns):
            raise _changed_file_error(f"{each.name} in {display_name(layout.folder)}")


def _require_hashes(layout: CheckpointLayout, meant: Mapping[str, str], found: Mapping[str, str]) -> None:
    for shard in layout.shards:
        if shard not in meant or found[shard] != meant[shard]:
            raise _changed_file_error(f"{shard} in {display_name(layout.folder)}")


def _require_matching_mask(request: ApplyRequest, mask: MaskFile) -> None:
    said = TensorFile(mask.path)
    if said.header.metadata != mask_metadata(request.scores, request.method, request.dose):
        raise ConfigurationError(
            f"{mask.path.name} is not the mask of {request.method} at dose {request.dose:g} for this checkpoint",
            cause="it was made from other weights, or renamed",
            hint="make the masks again from this checkpoint's scores",
        )
    if sha256_file(mask.path) != mask.sha256 or any(each.name not in said for each in request.scores.tensors):
        raise _changed_file_error(mask.path.name)


def _changed_file_error(what: str) -> InfrastructureError:
    return InfrastructureError(
        f"{what} is not what was scored",
        cause="something wrote to it in the meantime",
        hint="score again, when nothing writes to it",
    )
