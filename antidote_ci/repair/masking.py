"""Write bit-packed mask files for a list of doses from statistics and weights. Runs no model; called in the child."""

import hashlib
import json
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from antidote_ci.checkpoint import tensors
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
"""Scores that are computed here from weights and input norms. For the other methods, scoring writes the scores."""

TENSORS_AT_ONCE = 2
"""Tensors whose masks are computed at the same time: each takes two float32 copies of the matrix."""


@dataclass(frozen=True)
class MaskRequest:
    """The arguments of `write_mask_files`. `reference` is None for an adapter, whose entries become zero."""

    source: Path
    reference: Path | None
    scores: Scores
    statistics: Path | None
    """The file that scoring wrote; None for the control `random`: a random score with the groups of `scores`."""
    doses: list[float]
    folder: Path


@memory.return_freed_memory()
def write_mask_files(request: MaskRequest, on_progress: OnProgress) -> list[MaskFile]:
    """Write `folder/<method>-<dose>.safetensors`, tensor name -> packed mask, for every dose in one pass.

    Raises ConfigurationError for a tensor without statistics and for a score that is NaN or infinite.
    """
    scored = request.scores.tensors
    method: Method = request.scores.method if request.statistics and request.scores.method else "random"
    paths = [request.folder / f"{method}-{dose:g}.safetensors" for dose in request.doses]
    shapes = {tensor.name: ("U8", (-(-tensor.entries // 8),)) for tensor in scored}
    score_of = _build_scorer(request)
    digests = [hashlib.sha256() for _ in request.doses]
    request.folder.mkdir(parents=True, exist_ok=True)

    def pack(tensor: ScoredTensor) -> "torch.Tensor":
        return masks.pack_masks(score_of(tensor), request.scores.per, request.doses)

    with ExitStack() as files:
        writers = [
            files.enter_context(tensors.open_writer(path, shapes, mask_metadata(request.scores, method, dose), digest))
            for path, dose, digest in zip(paths, request.doses, digests, strict=True)
        ]
        for done, packed in enumerate(_map_in_threads(pack, scored), 1):
            for write, bits in zip(writers, packed, strict=True):
                write(bits)
            on_progress(Progress("masks", done, len(scored)))
    entries = sum(tensor.entries for tensor in scored)
    mask_files = []
    for dose, path, digest in zip(request.doses, paths, digests, strict=True):
        covered = sum(masks.count_covered(tensor, request.scores.per, dose) for tensor in scored)
        mask_files.append(MaskFile(dose, covered / entries, path, digest.hexdigest()))
    return mask_files


def _map_in_threads(
    pack: Callable[[ScoredTensor], "torch.Tensor"], scored: Sequence[ScoredTensor]
) -> Iterator["torch.Tensor"]:
    """Yield `pack` of each tensor in order. At most TENSORS_AT_ONCE are computed ahead, each on one thread."""
    with compute_in_one_thread() as threads, ThreadPoolExecutor(min(threads, TENSORS_AT_ONCE)) as pool:
        pending: deque[Future[torch.Tensor]] = deque()
        for tensor in scored:
            pending.append(pool.submit(pack, tensor))
            if len(pending) > TENSORS_AT_ONCE:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()


@contextmanager
def compute_in_one_thread() -> Iterator[int]:
    """Give each operation of torch one thread, and yield the number of threads that it had before.

    Several would wait actively for each other between blocks that take microseconds, and so delay all other threads.
    """
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield threads
    finally:
        torch.set_num_threads(threads)


def mask_metadata(scores: Scores, method: Method, dose: float) -> dict[str, str]:
    """Return the metadata of a mask file, which ties it to one checkpoint, method and dose."""
    return {
        "method": method,
        "dose": repr(float(dose)),
        "per": scores.per,
        "scores": scores.sha256,
        "source": json.dumps(scores.source_files, sort_keys=True),
        "reference": json.dumps(scores.reference_files, sort_keys=True),
    }


def _build_scorer(request: MaskRequest) -> Callable[[ScoredTensor], "torch.Tensor"]:
    """Return the function that computes the score of one tensor, float32 [rows, columns]."""
    import torch

    if request.statistics is None or request.scores.method is None:
        return lambda tensor: masks.random_score(tensor.rows, tensor.columns, tensor.name)
    source = read_layout(request.source)
    reference = read_layout(request.reference) if request.reference else None
    statistics, formula = TensorFile(request.statistics), FORMULAS.get(request.scores.method)

    def score_tensor(tensor: ScoredTensor) -> "torch.Tensor":
        score = _read_statistics(statistics, tensor, 1 if formula else 2)
        if formula:
            score = formula(tensors.read_delta(source, reference, tensor.name), score)
        # Minimum and maximum are NaN if any entry is. This is quicker than isfinite() on every entry.
        if not torch.stack(score.aminmax()).isfinite().all():
            raise ConfigurationError(
                f"the score of {tensor.name} holds NaN or infinite numbers",
                cause="the weights or the activations overflow",
                hint="check the weights of that layer; the training may have diverged",
            )
        return score

    return score_tensor


def _read_statistics(statistics: TensorFile, tensor: ScoredTensor, dimensions: int) -> "torch.Tensor":
    """Read the input norms [columns] of a tensor, or its scores [rows, columns]."""
    values = statistics.read(tensor.name) if tensor.name in statistics else None
    if values is None or values.shape != (tensor.rows, tensor.columns)[-dimensions:]:
        raise ConfigurationError(
            f"{tensor.name} has no statistics"
            + ("" if values is None else f" of its shape, but of shape {list(values.shape)}"),
            cause="its layer was not run, or the statistics belong to another checkpoint",
            hint="score again; if the error repeats, report this architecture",
        )
    return values
