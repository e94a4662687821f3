"""Whether a repaired checkpoint is what its source, its reference and the method allow. Runs no model.

The proof rests on the bytes of source and reference. The manifest only says which they are and by which method they
were repaired: what it claims beyond that is compared, never trusted. Called in the child process.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import chain
from math import prod
from pathlib import Path

from antidote_ci import records
from antidote_ci.checkpoint import tensors
from antidote_ci.checkpoint.files import is_pickled_weights, is_report_file, list_files, sha256_file
from antidote_ci.checkpoint.layout import CheckpointLayout, read_layout
from antidote_ci.checkpoint.lora_names import A_ENDING, B_ENDING
from antidote_ci.checkpoint.swap import MANIFEST_FILE
from antidote_ci.checkpoint.tensors import WEIGHT_DTYPES
from antidote_ci.errors import ConfigurationError
from antidote_ci.records import Manifest, OnProgress, Progress, ScoredTensor, Verification
from antidote_ci.repair import masks
from antidote_ci.repair.apply import CARD
from antidote_ci.repair.comparing import find_mask_violation, find_miscount, find_scale_violation
from antidote_ci.repair.manifest import is_sealed
from antidote_ci.repair.methods import METHODS
from antidote_ci.repair.targets import EMBEDDINGS, OUTPUT_LAYERS

Differences = Iterator[str]

EDITED = "the manifest was edited since it was written, or another version of antidote-ci wrote it"
MAX_MANIFEST_BYTES = 64 << 20
CHUNK_BYTES = 1 << 22
WEIGHT_SUFFIXES = (".safetensors", ".gguf", ".onnx")
"""Beside pickles, what some framework loads from the top of a repository."""


@dataclass(frozen=True)
class VerifyRequest:
    """`reference` is None where it has no part in the edit: an adapter's factors."""

    repaired: Path
    source: Path
    reference: Path | None
    not_pulled: list[str]
    """Files of the result's repository that were left there: nobody opens them, and their names are enough."""


def verify_repair(request: VerifyRequest, report: OnProgress) -> Verification:
    """Compare everything, up to the first difference.

    Raises ConfigurationError where there is no manifest, UnsafeCheckpoint for a source or reference that is not safe to
    open. Of the repaired weights nothing is read before their headers are known to be the source's.
    """
    manifest = load_manifest(request.repaired)
    if manifest is None:
        return to_verification(None, EDITED)
    source = read_layout(request.source)
    reference = read_layout(request.reference) if request.reference else None
    carried = _list_names(source.folder, source.unused_weights)
    differences = chain(
        _check_method(manifest, source, reference),
        _check_names(manifest, request, carried),
        _check_source(manifest, source, report),
        _check_reference(manifest, reference, report),
        _check_other_files(manifest, request.repaired, source),
        _check_headers(request.repaired, source),
        _check_tensors(manifest, request.repaired, source, reference, report),
        _check_shards(manifest, request.repaired, source, report),
    )
    found = to_verification(manifest, next(differences, None))
    scored = sum(prod(info.shape) for name, info in source.tensors.items() if name in manifest.changed)
    return replace(found, tensors=len(source.tensors), scored_weights=scored)


def load_manifest(repaired: Path) -> Manifest | None:
    """What the manifest says; None when it is not as this program wrote it.

    Raises ConfigurationError where there is none.
    """
    if MANIFEST_FILE not in list_files(repaired):
        raise ConfigurationError(
            f"{repaired} has no {MANIFEST_FILE}",
            cause="it is not the result of a repair by antidote-ci",
            hint="name the --out folder of a run, or a repository or pull request that holds its result",
        )
    path = repaired / MANIFEST_FILE
    if path.stat().st_size > MAX_MANIFEST_BYTES:
        return None
    text = path.read_bytes()
    try:
        manifest = records.from_json(Manifest, text)
    except ValueError:
        return None
    # Written as it was read: no key that stands twice, or that only another reader would see.
    return manifest if records.to_json(manifest).encode() == text and is_sealed(manifest) else None


def to_verification(manifest: Manifest | None, difference: str | None) -> Verification:
    """The record of what a manifest claims, and of the first thing that is otherwise."""
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


def _check_method(manifest: Manifest, source: CheckpointLayout, reference: CheckpointLayout | None) -> Differences:
    """What the manifest claims must be something that a repair does."""
    method, target, dose = manifest.method, manifest.target, manifest.dose
    if not 0 <= dose <= 1:
        yield f"the manifest names the dose {dose:g}, which is no share"
    if manifest.per not in (("row", "tensor") if method == "random" else (METHODS[method].per,)):
        yield f"the manifest says that {method} takes its dose per {manifest.per}"
    if (target == "adapter") != (source.kind == "adapter") or source.kind != manifest.source.kind:
        yield f"the manifest names the target {target}, which is not what the source is: {source.kind}"
    if (target == "delta") != (reference is not None):
        yield f"the manifest names the target {target} and {'a' if reference else 'no'} reference"
    shapes = source.tensors
    for name in manifest.changed:
        if name not in shapes or not _is_repairable(manifest, source, name):
            yield f"the manifest lists {name} as changed, which {method} on {target} leaves alone"
        if reference and (name not in reference.tensors or reference.tensors[name].shape != shapes[name].shape):
            yield f"the reference has no {name} of that shape"
    if manifest.effective_dose != _compute_effective_dose(manifest, source):
        yield f"the manifest names the effective dose {manifest.effective_dose:g}, and {dose:g} gives another"


def _is_repairable(manifest: Manifest, source: CheckpointLayout, name: str) -> bool:
    """Matrices, without embeddings and output layer; of a scaled adapter one factor carries the whole shrink."""
    info = source.tensors[name]
    if len(info.shape) != 2 or info.dtype not in WEIGHT_DTYPES:
        return False
    if manifest.target == "adapter":
        return name.endswith(B_ENDING if manifest.method == "scale" else (A_ENDING, B_ENDING))
    return not any(part in EMBEDDINGS + OUTPUT_LAYERS for part in name.split("."))


def _compute_effective_dose(manifest: Manifest, source: CheckpointLayout) -> float | None:
    if manifest.per is None:
        return manifest.dose
    scored = [ScoredTensor(name, *source.tensors[name].shape) for name in manifest.changed]
    entries = sum(each.entries for each in scored)
    covered = sum(masks.count_covered(each, manifest.per, manifest.dose) for each in scored)
    return covered / entries if entries else None


def _check_names(manifest: Manifest, request: VerifyRequest, carried: list[str]) -> Differences:
    """Every file of the source and no other, but the card and the proof."""
    listed = sorted(file.path for file in manifest.files)
    if listed != carried:
        odd = sorted(set(listed) ^ set(carried))
        yield f"the manifest lists other files than the source has: {odd[0] if odd else 'one of them twice'}"
    here = _list_names(request.repaired, ())
    top = [path.name for path in request.repaired.iterdir() if path.is_file()]
    for name in sorted({*carried} - {*here}):
        yield f"{name} is missing"
    for name in sorted({*here, *filter(_is_weights, [*top, *request.not_pulled])} - {*carried}):
        yield f"{name} lies beside the result and is no part of it"


def _list_names(folder: Path, unused: tuple[str, ...]) -> list[str]:
    """What a repair carries over: allowed files without other weights, the card and an earlier proof."""
    return [name for name in list_files(folder) if name not in unused and name != CARD and not is_report_file(name)]


def _is_weights(name: str) -> bool:
    """Whether a framework may load the file in place of the repaired weights: it looks at the top folder alone."""
    return "/" not in name and (is_pickled_weights(name) or name.lower().endswith(WEIGHT_SUFFIXES))


def _check_source(manifest: Manifest, source: CheckpointLayout, report: OnProgress) -> Differences:
    for done, file in enumerate(manifest.files, 1):
        if sha256_file(source.folder / file.path) != file.sha256_in:
            yield f"{file.path} of the source is not the file that was repaired"
        report(Progress("files of the source", done, len(manifest.files)))
    if manifest.source_files != {file.path: file.sha256_in for file in manifest.files if file.path in source.shards}:
        yield "the manifest contradicts itself: it gives two hashes of the source"


def _check_reference(manifest: Manifest, reference: CheckpointLayout | None, report: OnProgress) -> Differences:
    shards = reference.shards if reference else ()
    if reference:
        for done, shard in enumerate(shards, 1):
            if sha256_file(reference.folder / shard) != manifest.reference_files.get(shard):
                yield f"{shard} of the reference is not the file that the repair used"
            report(Progress("files of the reference", done, len(shards)))
    if {*manifest.reference_files} != {*shards}:
        yield "the manifest lists other files than the reference has"


def _check_other_files(manifest: Manifest, repaired: Path, source: CheckpointLayout) -> Differences:
    """Configuration, tokenizer and the like come along byte for byte."""
    for file in manifest.files:
        if file.path not in source.shards:
            found = sha256_file(repaired / file.path)
            if found != file.sha256_in:
                yield f"{file.path} is not the source's"
            if found != file.sha256_out:
                yield f"{file.path} has another sha256 than the manifest gives"


def _check_headers(repaired: Path, source: CheckpointLayout) -> Differences:
    """Names, shapes, dtypes, order and metadata: the same bytes, so that the source's header speaks for both files."""
    for shard, header in source.headers.items():
        ours, theirs = repaired / shard, source.folder / shard
        with ours.open("rb") as one, theirs.open("rb") as other:
            if one.read(header.data_start) != other.read(header.data_start):
                yield f"{shard} has another header than the source's"
        if ours.stat().st_size != theirs.stat().st_size:
            yield f"{shard} has another size than the source's"


def _check_tensors(
    manifest: Manifest, repaired: Path, source: CheckpointLayout, reference: CheckpointLayout | None, report: OnProgress
) -> Differences:
    result, names = replace(source, folder=repaired), list(source.tensors)
    for done, name in enumerate(names, 1):
        if name not in manifest.changed:
            difference = (
                None if _is_identical(source, result, name) else "it was changed, and the manifest does not say so"
            )
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
        report(Progress("tensors", done, len(names)))


def _is_identical(source: CheckpointLayout, result: CheckpointLayout, name: str) -> bool:
    shard = source.weight_map[name]
    header = source.headers[shard]
    info = header.tensors[name]
    with (source.folder / shard).open("rb") as one, (result.folder / shard).open("rb") as other:
        one.seek(header.data_start + info.start)
        other.seek(header.data_start + info.start)
        sizes = (min(CHUNK_BYTES, info.end - start) for start in range(info.start, info.end, CHUNK_BYTES))
        return all(one.read(size) == other.read(size) for size in sizes)


def _check_shards(manifest: Manifest, repaired: Path, source: CheckpointLayout, report: OnProgress) -> Differences:
    """Last, so that a tensor that differs is named rather than its file."""
    shards = [file for file in manifest.files if file.path in source.shards]
    for done, file in enumerate(shards, 1):
        if sha256_file(repaired / file.path) != file.sha256_out:
            yield f"{file.path} has another sha256 than the manifest gives"
        report(Progress("files of the result", done, len(shards)))
