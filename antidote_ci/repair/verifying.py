"""Verify that a repaired checkpoint is one that its source, its reference and the method allow. Runs no model.

The evidence is the bytes of source and reference. The manifest only names them and the method: its other claims are
compared with those bytes and never trusted. Tensors are compared by their bits: NaN equals itself, and -0.0 is not
0.0. Called in the child process.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import chain
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING

from antidote_ci.checkpoint import tensors
from antidote_ci.checkpoint.adapter_config import A_ENDING, B_ENDING
from antidote_ci.checkpoint.card import CARD
from antidote_ci.checkpoint.files import is_pickled_weights, is_report_file, list_files, sha256_file
from antidote_ci.checkpoint.layout import CheckpointLayout, read_layout
from antidote_ci.checkpoint.tensors import WEIGHT_DTYPES, count_changed, view_bits
from antidote_ci.model.edits import interpolate
from antidote_ci.records import Grouping, Manifest, OnProgress, Progress, ScoredTensor, Verification
from antidote_ci.repair import masks
from antidote_ci.repair.manifest import load_manifest
from antidote_ci.repair.methods import METHODS
from antidote_ci.repair.targets import is_embedding_or_output

if TYPE_CHECKING:
    import torch

Differences = Iterator[str]

EDITED = "the manifest was edited after it was written, or another version of antidote-ci wrote it"
WEIGHT_SUFFIXES = (".safetensors", ".gguf", ".ggml", ".llamafile", ".onnx", ".ot", ".pte", ".tflite", ".litertlm")
"""Files that, besides pickles, some framework loads from the top folder of a repository."""


@dataclass(frozen=True)
class VerifyRequest:
    """The arguments of `verify_repair`. `reference` is None for an adapter, whose entries become zero."""

    repaired: Path
    source: Path
    reference: Path | None
    not_pulled: list[str]
    """Other files in the repository of the result. Only their names are checked."""


def verify_repair(request: VerifyRequest, on_progress: OnProgress) -> Verification:
    """Compare the result with source, reference and manifest, up to the first difference.

    Raises ConfigurationError without a manifest, UnsafeCheckpoint for a source or reference that is not safe to open.
    The repaired weights are read only after their headers are found to be the source's.
    """
    manifest = load_manifest(request.repaired)
    if manifest is None:
        return to_verification(None, EDITED)
    source = read_layout(request.source)
    reference = read_layout(request.reference) if request.reference else None
    copied = _list_names(source.folder, source.unused_weights)
    differences = chain(
        _check_claims(manifest, source, reference),
        _check_names(manifest, request, copied),
        _check_source(manifest, source, on_progress),
        _check_reference(manifest, reference, on_progress),
        _check_other_files(manifest, request.repaired, source),
        _check_headers(request.repaired, source),
        _check_tensors(manifest, request.repaired, source, reference, on_progress),
        _check_shards(manifest, request.repaired, source, on_progress),
    )
    verification = to_verification(manifest, next(differences, None))
    scored = sum(prod(info.shape) for name, info in source.tensors.items() if name in manifest.changed)
    return replace(verification, tensors=len(source.tensors), scored_weights=scored)


def to_verification(manifest: Manifest | None, difference: str | None) -> Verification:
    """Return the record of a manifest's claims and of the first difference."""
    if manifest is None:
        return Verification(difference=difference)
    return Verification(
        source=manifest.source,
        reference=manifest.reference if manifest.target == "delta" else None,
        method=manifest.method,
        target=manifest.target,
        per=manifest.per,
        dose=manifest.dose,
        files=len(manifest.files),
        changed_weights=sum(manifest.changed.values()),
        difference=difference,
    )


def _check_claims(manifest: Manifest, source: CheckpointLayout, reference: CheckpointLayout | None) -> Differences:
    """Check that the manifest describes a possible repair of this source."""
    method, target, dose = manifest.method, manifest.target, manifest.dose
    if not 0 <= dose <= 1:
        yield f"the manifest names the dose {dose:g}, which is outside 0..1"
    if manifest.per not in (("row", "tensor") if method == "random" else (METHODS[method].per,)):
        yield f"the manifest says that {method} takes its dose per {manifest.per}"
    if (target == "adapter") != (source.kind == "adapter") or source.kind != manifest.source.kind:
        yield f"the manifest names the target {target}, which does not fit the kind of the source: {source.kind}"
    if (target == "delta") != (reference is not None):
        yield f"the manifest names the target {target} and {'a' if reference else 'no'} reference"
    if not manifest.changed:
        yield "the manifest lists no tensor as changed, so nothing was repaired"
    infos = source.tensors
    for name in manifest.changed:
        if name not in infos or not _is_repairable(manifest, source, name):
            yield f"the manifest lists {name} as changed, which {method} on {target} does not change"
        if reference and (name not in reference.tensors or reference.tensors[name].shape != infos[name].shape):
            yield f"the reference has no {name} of that shape"
    if manifest.effective_dose != _compute_effective_dose(manifest, source):
        yield f"the manifest names the effective dose {manifest.effective_dose:g}, which is not that of {dose:g}"


def _is_repairable(manifest: Manifest, source: CheckpointLayout, name: str) -> bool:
    """Return whether the method changes this tensor: a matrix, neither embedding nor output layer.

    `scale` changes only the factor B of an adapter.
    """
    info = source.tensors[name]
    if len(info.shape) != 2 or info.dtype not in WEIGHT_DTYPES:
        return False
    if manifest.target == "adapter":
        return name.endswith(B_ENDING if manifest.method == "scale" else (A_ENDING, B_ENDING))
    return not is_embedding_or_output(name)


def _compute_effective_dose(manifest: Manifest, source: CheckpointLayout) -> float | None:
    if manifest.per is None:
        return manifest.dose
    scored = [ScoredTensor(name, *source.tensors[name].shape) for name in manifest.changed]
    entries = sum(tensor.entries for tensor in scored)
    covered = sum(masks.count_covered(tensor, manifest.per, manifest.dose) for tensor in scored)
    return covered / entries if entries else None


def _check_names(manifest: Manifest, request: VerifyRequest, copied: list[str]) -> Differences:
    """Check that the result has the files of the source and no others, except for the card and the report."""
    listed = sorted(file.path for file in manifest.files)
    if listed != copied:
        odd = sorted(set(listed) ^ set(copied))
        yield f"the manifest lists other files than the source has: {odd[0] if odd else 'one of them twice'}"
    names = _list_names(request.repaired, ())
    top_level = [path.name for path in request.repaired.iterdir() if path.is_file()]
    for name in sorted({*copied} - {*names}):
        yield f"{name} is missing"
    for name in sorted({*names, *filter(_is_weights, [*top_level, *request.not_pulled])} - {*copied}):
        yield f"{name} is not part of the repair"


def _list_names(folder: Path, unused: tuple[str, ...]) -> list[str]:
    """List the files that a repair copies: no unused weights, no card, and no report of an earlier repair."""
    return [name for name in list_files(folder) if name not in unused and name != CARD and not is_report_file(name)]


def _is_weights(name: str) -> bool:
    """Return whether a framework may load the file instead of the repaired weights. It searches the top folder only."""
    return "/" not in name and (is_pickled_weights(name) or name.lower().endswith(WEIGHT_SUFFIXES))


def _check_source(manifest: Manifest, source: CheckpointLayout, on_progress: OnProgress) -> Differences:
    for done, file in enumerate(manifest.files, 1):
        if sha256_file(source.folder / file.path) != file.sha256_in:
            yield f"{file.path} of the source is not the file that was repaired"
        on_progress(Progress("files of the source", done, len(manifest.files)))
    if manifest.source_files != {file.path: file.sha256_in for file in manifest.files if file.path in source.shards}:
        yield "the manifest contradicts itself: it gives two hashes of the source"


def _check_reference(manifest: Manifest, reference: CheckpointLayout | None, on_progress: OnProgress) -> Differences:
    shards = reference.shards if reference else ()
    if reference:
        for done, shard in enumerate(shards, 1):
            if sha256_file(reference.folder / shard) != manifest.reference_files.get(shard):
                yield f"{shard} of the reference is not the file that the repair used"
            on_progress(Progress("files of the reference", done, len(shards)))
    if {*manifest.reference_files} != {*shards}:
        yield "the manifest lists other files than the reference has"


def _check_other_files(manifest: Manifest, repaired: Path, source: CheckpointLayout) -> Differences:
    """Check that the files without weights, such as configuration and tokenizer, are the source's byte for byte."""
    for file in manifest.files:
        if file.path not in source.shards:
            sha256 = sha256_file(repaired / file.path)
            if sha256 != file.sha256_in:
                yield f"{file.path} is not the source's"
            if sha256 != file.sha256_out:
                yield f"{file.path} has another sha256 than the manifest gives"


def _check_headers(repaired: Path, source: CheckpointLayout) -> Differences:
    """Check that all headers are the source's byte for byte, so that its parsed headers are valid for the result."""
    for shard, header in source.headers.items():
        paths = repaired / shard, source.folder / shard
        with paths[0].open("rb") as repaired_file, paths[1].open("rb") as source_file:
            if repaired_file.read(header.data_start) != source_file.read(header.data_start):
                yield f"{shard} has another header than the source's"
        if paths[0].stat().st_size != paths[1].stat().st_size:
            yield f"{shard} has another size than the source's"


def _check_tensors(
    manifest: Manifest,
    repaired: Path,
    source: CheckpointLayout,
    reference: CheckpointLayout | None,
    on_progress: OnProgress,
) -> Differences:
    result, names = replace(source, folder=repaired), list(source.tensors)
    for done, name in enumerate(names, 1):
        if name not in manifest.changed:
            is_same = tensors.have_same_bytes(source, name, result, name)
            difference = None if is_same else "it was changed, and the manifest does not say so"
        else:
            before, after = tensors.read_tensor(source, name), tensors.read_tensor(result, name)
            base = tensors.read_tensor(reference, name) if reference else None
            if manifest.per is None:
                difference = find_scale_violation(before, after, base, manifest.dose)
            else:
                difference = find_mask_violation(before, after, base, manifest.per, manifest.dose)
            difference = difference or find_miscount(before, after, manifest.changed[name])
        if difference:
            yield f"{name} in {source.weight_map[name]}: {difference}"
        on_progress(Progress("tensors", done, len(names)))


def _check_shards(manifest: Manifest, repaired: Path, source: CheckpointLayout, on_progress: OnProgress) -> Differences:
    """Check the hashes of the weight files. This is the last check, so that a difference is named by its tensor."""
    shards = [file for file in manifest.files if file.path in source.shards]
    for done, file in enumerate(shards, 1):
        if sha256_file(repaired / file.path) != file.sha256_out:
            yield f"{file.path} has another sha256 than the manifest gives"
        on_progress(Progress("files of the result", done, len(shards)))


def find_mask_violation(
    before: "torch.Tensor", after: "torch.Tensor", base: "torch.Tensor | None", per: Grouping, dose: float
) -> str | None:
    """Check that each entry is the source's or the base's, and that each group has as many of the base's as the dose.

    Returns a description of the violation, or None. `base` is the reference's tensor, None for an edit towards zero.
    Entries that are the base's already may be among those that a mask covers, so more may have its value.
    """
    changed = bits_differ(before, after)
    expected = _or_zero(base).to(before.dtype).expand_as(before).contiguous()
    wrong = changed & bits_differ(after, expected)
    alternative = "zero" if base is None else "the reference's"
    if wrong.any():
        return f"the entry at {first_true_index(wrong)} is neither the source's nor {alternative}"
    if excess := count_beyond_dose(changed, per, dose):
        return f"{excess:,} more entries of one {per} were changed than the dose {dose:g} covers"
    # The writer keeps a tensor in which no value changed, so zeros of both signs are the same here.
    restored = (after == expected) | ~bits_differ(after, expected)
    if shortage := count_short_of_dose(restored, per, dose):
        return f"{shortage:,} fewer entries of one {per} are {alternative} than the dose {dose:g} covers"
    return None


def find_scale_violation(
    before: "torch.Tensor", after: "torch.Tensor", base: "torch.Tensor | None", dose: float
) -> str | None:
    """Check that each entry is the interpolated one.

    Float32 arithmetic is the same on every machine, so no rounding error is allowed: one unit in the last place of a
    bfloat16 would leave room for another fine-tuning.
    """
    scaled = interpolate(before, _or_zero(base), dose)
    # The writer keeps a tensor in which no value changed, with its -0.0.
    wrong = bits_differ(after, scaled if count_changed(before, scaled) else before)
    return f"the entry at {first_true_index(wrong)} is not the scaled one" if wrong.any() else None


def find_miscount(before: "torch.Tensor", after: "torch.Tensor", claimed: int) -> str | None:
    """Check that the number of entries with another value is the `claimed` one."""
    changed = count_changed(before, after)
    return None if changed == claimed else f"{changed:,} entries were changed, and the manifest says {claimed:,}"


def bits_differ(first: "torch.Tensor", second: "torch.Tensor") -> "torch.Tensor":
    """Return the boolean tensor of the entries whose bits differ. Both have one dtype and shape."""
    return view_bits(first) != view_bits(second)


def count_beyond_dose(changed: "torch.Tensor", per: Grouping, dose: float) -> int:
    """Return how many entries of `changed`, boolean [rows, columns], exceed the dose in any row or in the tensor."""
    counts, covered = _count_groups(changed, per, dose)
    return max(0, max(counts, default=0) - covered)


def count_short_of_dose(restored: "torch.Tensor", per: Grouping, dose: float) -> int:
    """Return how many true entries `restored`, boolean [rows, columns], lacks in any row or in the tensor."""
    counts, covered = _count_groups(restored, per, dose)
    return max(0, covered - min(counts, default=covered))


def _count_groups(entries: "torch.Tensor", per: Grouping, dose: float) -> tuple[list[int], int]:
    """Return the number of true entries in each group, and the number of entries in one that the dose covers."""
    groups = entries if per == "row" else entries.reshape(1, -1)
    return groups.sum(dim=1).tolist(), masks.count_per_row(groups.shape[1], dose)


def first_true_index(mask: "torch.Tensor") -> list[int]:
    """Return the index of the first true entry, one number per dimension."""
    index: list[int] = mask.nonzero()[0].tolist()
    return index


def _or_zero(base: "torch.Tensor | None") -> "torch.Tensor":
    import torch

    return torch.zeros(()) if base is None else base
