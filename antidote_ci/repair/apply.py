"""Apply a mask to a checkpoint and write the repaired one. A file operation that runs no model."""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

from antidote_ci import __version__, records
from antidote_ci.checkpoint.adapter_config import A_ENDING
from antidote_ci.checkpoint.card import CARD
from antidote_ci.checkpoint.files import FileIdentity, changed_file_error, display_name, identify_file, sha256_file
from antidote_ci.checkpoint.layout import CheckpointLayout, read_layout
from antidote_ci.checkpoint.swap import rollback_on_error
from antidote_ci.checkpoint.tensors import ChunkReader, TensorFile, open_chunks
from antidote_ci.checkpoint.writer import HashedFile, complete_checkpoint, write_checkpoint
from antidote_ci.errors import ConfigurationError
from antidote_ci.model.edits import open_edit
from antidote_ci.records import (
    Manifest,
    MaskFile,
    Method,
    OnProgress,
    ReportedReference,
    ReportedSource,
    Scores,
)
from antidote_ci.repair.manifest import seal_manifest
from antidote_ci.repair.masking import compute_in_one_thread, mask_metadata


@dataclass(frozen=True)
class Provenance:
    """The fields of the manifest that describe the run."""

    run_id: str
    source: ReportedSource
    reference: ReportedReference | None
    policy_sha256: str


@dataclass(frozen=True)
class ApplyRequest:
    """The arguments of `apply_mask`.

    `mask` is None for `scale`. `reference` is None for an adapter, whose entries become zero.
    """

    source: Path
    reference: Path | None
    scores: Scores
    mask: MaskFile | None
    method: Method
    dose: float
    destination: Path
    provenance: Provenance
    source_identities: dict[str, FileIdentity] = field(default_factory=dict)
    """Weight file -> its identity before the hashes of `scores` were computed. A file without it is hashed again."""
    reference_identities: dict[str, FileIdentity] = field(default_factory=dict)


@compute_in_one_thread()  # the waiting threads of torch would delay those that hash
def apply_mask(request: ApplyRequest, on_progress: OnProgress) -> Manifest:
    """Write the repaired checkpoint to `destination`, completely or not at all, and return its manifest.

    After a kill the same request continues where it stopped. Raises ConfigurationError for the mask of another
    checkpoint, InfrastructureError when source, reference or mask changed since scoring.
    """
    scores = request.scores
    source = read_layout(request.source)
    reference = read_layout(request.reference) if request.reference else None
    if (scores.target == "delta") != (reference is not None):
        raise ValueError(f"the target {scores.target} contradicts the reference")
    _require_shapes(source, scores)
    if reference is not None:
        _require_shapes(reference, scores)
    if request.mask is not None:
        _require_matching_mask(request, request.mask)
    manifest = _draft_manifest(request)
    key = seal_manifest(replace(manifest, run_id="")).digest
    names = {tensor.name for tensor in scores.tensors}
    if request.method == "scale" and scores.target == "adapter":
        # The delta of an adapter is B A: scaling one factor scales it.
        names = {name for name in names if not name.endswith(A_ENDING)}
    hashed = {
        shard: HashedFile(identity, scores.source_files[shard])
        for shard, identity in request.source_identities.items()
        if shard in scores.source_files
    }
    with ExitStack() as resources:
        base = _ReferenceFiles(reference, request, resources)
        # The writer hashes the source while it reads it. The reference is read tensor by tensor, so it is hashed here.
        hashing = resources.enter_context(ThreadPoolExecutor(1)).submit(base.hash)
        edit = open_edit(request.mask.path if request.mask else None, request.dose, base.open_tensor, resources)
        written = write_checkpoint(source, request.destination, names, edit, key, on_progress, hashed)
        with rollback_on_error(request.destination):
            source_files = {file.path: file.sha256_in for file in written.files}
            _require_hashes(source, scores.source_files, source_files)
            if reference is not None:
                _require_hashes(reference, scores.reference_files, hashing.result())
                base.require_unchanged()
    # The manifest does not cover the card, which people edit afterwards.
    files = [file for file in written.files if file.path != CARD]
    manifest = seal_manifest(replace(manifest, changed=written.changed, files=files))
    complete_checkpoint(request.destination, records.to_json(manifest))
    return manifest


def _draft_manifest(request: ApplyRequest) -> Manifest:
    """Build the manifest without `changed` and `files`. Except for the run ID, it determines the repaired bytes."""
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


class _ReferenceFiles:
    """The open weight files of the reference; of none for an adapter."""

    def __init__(self, layout: CheckpointLayout | None, request: ApplyRequest, resources: ExitStack) -> None:
        self._layout, self._request = layout, request
        paths = {shard: layout.folder / shard for shard in layout.shards} if layout else {}
        self._files = {shard: resources.enter_context(path.open("rb")) for shard, path in paths.items()}
        self._identities = {shard: identify_file(file.fileno()) for shard, file in self._files.items()}

    def open_tensor(self, name: str) -> ChunkReader | None:
        return None if self._layout is None else open_chunks(self._layout, self._files, name)

    def hash(self) -> dict[str, str]:
        """Return the sha256 of each file. Those of `scores` hold for files that are unchanged since."""
        known, scored = self._request.reference_identities, self._request.scores.reference_files
        return {
            shard: scored[shard] if shard in scored and known.get(shard) == identity else sha256_file(path)
            for (shard, identity), path in zip(self._identities.items(), self._paths(), strict=True)
        }

    def require_unchanged(self) -> None:
        """Raise InfrastructureError when a file was replaced or written to since it was opened."""
        for (shard, identity), path in zip(self._identities.items(), self._paths(), strict=True):
            if identify_file(path) != identity:
                raise changed_file_error(f"{shard} in {display_name(path.parent)}", "scored")

    def _paths(self) -> list[Path]:
        return [Path(file.name) for file in self._files.values()]


def _require_shapes(layout: CheckpointLayout, scores: Scores) -> None:
    shapes = {name: info.shape for name, info in layout.tensors.items()}
    for tensor in scores.tensors:
        if shapes.get(tensor.name) != (tensor.rows, tensor.columns):
            raise changed_file_error(f"{tensor.name} in {display_name(layout.folder)}", "scored")


def _require_hashes(layout: CheckpointLayout, scored: Mapping[str, str], current: Mapping[str, str]) -> None:
    for shard in layout.shards:
        if shard not in scored or current[shard] != scored[shard]:
            raise changed_file_error(f"{shard} in {display_name(layout.folder)}", "scored")


def _require_matching_mask(request: ApplyRequest, mask: MaskFile) -> None:
    mask_file = TensorFile(mask.path)
    if mask_file.header.metadata != mask_metadata(request.scores, request.method, request.dose):
        raise ConfigurationError(
            f"{mask.path.name} is not the mask of {request.method} at dose {request.dose:g} for this checkpoint",
            cause="it was made from other weights, or renamed",
            hint="make the masks again from this checkpoint's scores",
        )
    if sha256_file(mask.path) != mask.sha256 or any(tensor.name not in mask_file for tensor in request.scores.tensors):
        raise changed_file_error(mask.path.name, "scored")
