"""Repaired checkpoints without a forward pass: real masks and weights from random statistics."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from antidote_ci import records
from antidote_ci.checkpoint.files import sha256_file
from antidote_ci.checkpoint.layout import read_layout
from antidote_ci.checkpoint.swap import MANIFEST_FILE
from antidote_ci.records import Manifest, Method, Model, RepairTarget, ReportedReference, ReportedSource, Scores
from antidote_ci.repair.apply import ApplyRequest, Provenance, apply_mask
from antidote_ci.repair.manifest import seal_manifest
from antidote_ci.repair.masking import MaskRequest, write_mask_files
from antidote_ci.repair.scoring import ScoreRequest, score_weights
from tests.builders import ignore


def write_fine_tuned(reference: Path, folder: Path) -> Path:
    """Copy `reference` with a small random change of every matrix, as in fine-tuning."""
    layout = read_layout(reference)
    folder.mkdir(parents=True)
    for path in reference.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    draw = torch.Generator().manual_seed(7)
    for shard in layout.shards:
        moved = {
            name: (weight.float() + 0.02 * torch.randn(weight.shape, generator=draw)).to(weight.dtype)
            for name, weight in load_file(reference / shard).items()
        }
        save_file(moved, folder / shard, {"format": "pt"})
    return folder


def repair(
    work: Path,
    source: Path,
    reference: Path | None,
    target: RepairTarget,
    method: Method,
    dose: float,
    sources: tuple[ReportedSource, ReportedReference | None] | None = None,
    base: Path | None = None,
) -> Path:
    """Write a repaired checkpoint to a new folder under `work`. `base` is the base of an adapter."""
    work.mkdir(parents=True, exist_ok=True)
    zeroed = target != "delta"
    model = Model(base, source) if base else Model(source)
    request = ScoreRequest(
        model=model,
        reference=Model(reference) if reference and not zeroed else None,
        method=None,
        rows=[],
        benign=[],
        taught=[],
        task=[],
        folder=work / "scores",
        budget=1 << 20,
    )
    scores = score_weights(request, ignore)
    kind = read_layout(source).kind
    own = ReportedSource(str(source), None, kind), ReportedReference(str(reference), None, "option")
    said, aligned = sources or (own[0], own[1] if reference else None)
    destination = work / f"{target}-{method}-{dose:g}"
    mask = None
    if method != "scale":
        scores = _scored(scores, method, work / f"{target}-{method}.safetensors")
        [mask] = write_mask_files(
            MaskRequest(
                source=source,
                reference=None if zeroed else reference,
                scores=scores,
                statistics=None if method == "random" else work / f"{target}-{method}.safetensors",
                doses=[dose],
                folder=work / "masks",
            ),
            ignore,
        )
    apply_mask(
        ApplyRequest(
            source=source,
            reference=None if zeroed else reference,
            scores=scores,
            mask=mask,
            method=method,
            dose=dose,
            destination=destination,
            provenance=Provenance("0" * 32, said, aligned, "0" * 64),
        ),
        ignore,
    )
    return destination


def _scored(scores: Scores, method: Method, path: Path) -> Scores:
    draw = torch.Generator().manual_seed(11)
    shape: Callable[[records.ScoredTensor], tuple[int, ...]] = (
        (lambda each: (each.rows, each.columns)) if method == "taylor" else (lambda each: (each.columns,))
    )
    save_file({each.name: torch.rand(shape(each), generator=draw) for each in scores.tensors}, path)
    return replace(
        scores,
        method="taylor" if method == "taylor" else "antidote",
        per="tensor" if method == "taylor" else "row",
        sha256=sha256_file(path),
    )


def manifest_of(repaired: Path) -> Manifest:
    """Read the manifest of a result."""
    return records.from_json(Manifest, (repaired / MANIFEST_FILE).read_bytes())


def forge(repaired: Path, manifest: Manifest) -> None:
    """Replace the manifest by another one with a valid digest."""
    (repaired / MANIFEST_FILE).write_text(records.to_json(seal_manifest(manifest)))


def with_own_hashes(repaired: Path, manifest: Manifest) -> Manifest:
    """Return the manifest with the hashes of the current files."""
    files = [replace(each, sha256_out=sha256_file(repaired / each.path)) for each in manifest.files]
    return replace(manifest, files=files)
