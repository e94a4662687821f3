"""Statistics and weights in, bit-packed masks of every dose out. Runs no model; called in the child process."""

import json
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from antidote_ci.checkpoint import tensors
from antidote_ci.checkpoint.files import sha256_file
from antidote_ci.checkpoint.layout import read_layout
from antidote_ci.checkpoint.tensors import TensorFile
from antidote_ci.errors import ConfigurationError
from antidote_ci.model import memory
from antidote_ci.records import MaskFile, Method, OnProgress, Progress, ScoredTensor, ScoreMethod, Scores
from antidote_ci.repair import masks
from antidote_ci.repair.scores import wanda_score

if TYPE_CHECKING:
    import torch


FORMULAS: Mapping[ScoreMethod, Callable[["torch.Tensor", "torch.Tensor"], "torch.Tensor"]] = {"antidote": wanda_score}
"""Of weights and input norms; of the others scoring writes the scores themselves."""


@dataclass(frozen=True)
class MaskRequest:
    """`reference` is None where the edit is zero: an adapter's factors."""

    source: Path
    reference: Path | None
    scores: Scores
    statistics: Path | None
    """What scoring wrote; None where nothing was scored."""
    doses: list[float]
    by_chance: bool
    """The control `random`: as many entries, in the same groups, of a random score."""
    folder: Path


@memory.return_freed_memory()
def write_mask_files(request: MaskRequest, report: OnProgress) -> list[MaskFile]:
    """Write `folder/<method>-<dose>.safetensors`, `<tensor name>` -> packed mask, for every dose in one pass.

    Raises ConfigurationError for a tensor without statistics and for scores that are no finite numbers.
    """
    scored = request.scores.tensors
    method: Method = "random" if request.by_chance else _require_score(request)
    paths = [request.folder / f"{method}-{dose:g}.safetensors" for dose in request.doses]
    shapes = {each.name: ("U8", (-(-each.entries // 8),)) for each in scored}
    top = masks.select_per_row if request.scores.per == "row" else masks.select_per_tensor
    score_of = _build_scorer(request)
    request.folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as files:
        writers = [
            files.enter_context(tensors.open_writer(path, shapes, mask_metadata(request.scores, method, dose)))
            for path, dose in zip(paths, request.doses, strict=True)
        ]
        for done, each in enumerate(scored, 1):
            for write, mask in zip(writers, top(score_of(each), request.doses), strict=True):
                write(masks.pack_mask(mask))
            report(Progress("masks", done, len(scored)))
    entries = sum(each.entries for each in scored)
    shares = [
        sum(masks.count_covered(each, request.scores.per, dose) for each in scored) / entries for dose in request.doses
    ]
    return [
        MaskFile(dose, share, path, sha256_file(path))
        for dose, share, path in zip(request.doses, shares, paths, strict=True)
    ]


def mask_metadata(scores: Scores, method: Method, dose: float) -> dict[str, str]:
    """What a mask file says of itself, so that no other checkpoint is edited by it."""
    return {
        "method": method,
        "dose": repr(float(dose)),
        "per": scores.per,
        "scores": scores.sha256,
        "source": json.dumps(scores.source_files, sort_keys=True),
        "reference": json.dumps(scores.reference_files, sort_keys=True),
    }


def _require_score(request: MaskRequest) -> ScoreMethod:
    if request.scores.method is None or request.statistics is None:
        raise ValueError("nothing was scored: only masks by chance can be made")
    return request.scores.method


def _build_scorer(request: MaskRequest) -> Callable[[ScoredTensor], "torch.Tensor"]:
    """The score of one tensor after another, float32 [rows, columns]."""
    import numpy

    if request.by_chance or request.statistics is None:
        return lambda each: masks.random_score(each.rows, each.columns, each.name)
    source = read_layout(request.source)
    reference = read_layout(request.reference) if request.reference else None
    statistics, formula = TensorFile(request.statistics), FORMULAS.get(_require_score(request))

    def score(each: ScoredTensor) -> "torch.Tensor":
        found = _read_statistics(statistics, each, 1 if formula else 2)
        if formula:
            found = formula(tensors.read_delta(source, reference, each.name), found)
        if not numpy.isfinite(found.numpy()).all():
            raise ConfigurationError(
                f"the score of {each.name} holds NaN or infinite numbers",
                cause="the weights or the activations overflow",
                hint="look at the weights of that layer; training may have diverged",
            )
        return found

    return score


def _read_statistics(statistics: TensorFile, each: ScoredTensor, dimensions: int) -> "torch.Tensor":
    """[columns] norms of a tensor's inputs, or its scores [rows, columns]."""
    found = statistics.read(each.name) if each.name in statistics else None
    if found is None or found.shape != (each.rows, each.columns)[-dimensions:]:
        raise ConfigurationError(
            f"{each.name} has no statistics" + ("" if found is None else f" of its shape, but {list(found.shape)}"),
            cause="its layer was not run, or the statistics are those of another checkpoint",
            hint="score again; if it happens twice, report this architecture",
        )
    return found
