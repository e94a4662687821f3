"""Plan a repair from names, sizes and one pass over the weights. Runs no model; called in the child process."""

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from antidote_ci.checkpoint import tensors
from antidote_ci.checkpoint.adapter_config import A_ENDING, PREFIX
from antidote_ci.checkpoint.files import display_name
from antidote_ci.checkpoint.layout import CheckpointLayout, count_weight_bytes, read_layout
from antidote_ci.errors import ConfigurationError
from antidote_ci.model import memory
from antidote_ci.model.loading import select_device_and_dtype
from antidote_ci.model.streaming.meta_model import MetaModel
from antidote_ci.records import (
    Grouping,
    LayerDrift,
    Method,
    Model,
    OnProgress,
    Progress,
    RepairPlan,
    RepairTarget,
    ReportedReference,
    ReportedSource,
    ScoredTensor,
)
from antidote_ci.repair import costs, masks
from antidote_ci.repair.costs import RepairWorkload
from antidote_ci.repair.methods import METHODS
from antidote_ci.repair.targets import list_scored

if TYPE_CHECKING:
    import torch

NOTABLE_DIFFERENCE = 0.2
"""The plan has a note when the effective dose differs from the requested one by more than this share of it."""
ENTRIES_AT_ONCE = 1 << 16
"""Entries that are converted to float64 at a time: they stay in the processor's cache, which is four times faster."""


@dataclass(frozen=True)
class MemoryRequest:
    """What the memory of a repair depends on."""

    model: Model
    method: Method
    target: RepairTarget
    texts: list[int]
    """Characters of each text that scoring reads."""
    budget: int
    """Bytes of hidden states that scoring keeps in memory."""


@dataclass(frozen=True)
class PlanRequest:
    """The arguments of `plan_repair`. `reference_folder` holds the weights to restore, or the base of an adapter."""

    source: ReportedSource
    reference: ReportedReference
    reference_folder: Path
    dose: float
    memory: MemoryRequest


@memory.return_freed_memory()
def plan_repair(request: PlanRequest, on_progress: OnProgress) -> RepairPlan:
    """Compute the plan. Raises ConfigurationError for NaN or infinite weights."""
    reference = read_layout(request.reference_folder)
    matrices, left_alone = list_scored(request.memory.model, request.memory.target)
    work = _build_workload(request.memory, matrices)
    per = METHODS[work.method].per
    covered = _count_covered(matrices, per, request.dose)
    effective_dose = covered / work.entries if per else request.dose
    notes = []
    if abs(effective_dose - request.dose) > NOTABLE_DIFFERENCE * request.dose:
        notes.append(f"Counts are whole numbers: the dose {request.dose:g} is {effective_dose:.3g} in effect.")
    return RepairPlan(
        source=request.source,
        reference=request.reference,
        method=work.method,
        target=request.memory.target,
        per=per,
        dose=request.dose,
        effective_dose=effective_dose,
        tensors=matrices,
        left_alone=left_alone,
        entries_covered=covered,
        bytes_written=costs.estimate_bytes_written(work),
        memory_bytes=costs.estimate_memory(work),
        seconds=costs.estimate_computation(
            work.method, work.meta_model.layout.entries, work.texts, count_weight_bytes(work.source)
        ).seconds(),
        drift=_measure_drift(work.source, reference, work.meta_model, matrices, on_progress),
        notes=notes,
    )


def estimate_memory(request: MemoryRequest, _on_progress: OnProgress) -> int:
    """The bytes that a repair needs in memory, in addition to the libraries. Reads no weights."""
    return costs.estimate_memory(_build_workload(request, list_scored(request.model, request.target)[0]))


def _build_workload(request: MemoryRequest, matrices: Sequence[ScoredTensor]) -> RepairWorkload:
    source = read_layout(request.model.adapter or request.model.folder)
    meta_model = MetaModel(request.model, select_device_and_dtype()[1], "cpu")
    return RepairWorkload(request.method, source, meta_model, matrices, request.texts, request.budget)


def layer_name(name: str) -> str:
    """Return the block of a tensor, which is its name up to the first number: `model.layers.0`."""
    match = re.match(r".*?\.\d+(?=\.)", name.removeprefix(PREFIX))
    return match[0] if match else name


def squared_norm(weight: "torch.Tensor") -> float:
    """||W||_F^2 in float64, of a matrix of any dtype."""
    return math.fsum(float(part.square().sum()) for part in _float64_parts(weight))


def squared_distance(weight: "torch.Tensor", reference: "torch.Tensor") -> float:
    """||W - W_ref||_F^2 in float64, of two matrices of one shape and any dtypes."""
    pairs = zip(_float64_parts(weight), _float64_parts(reference), strict=True)
    return math.fsum(float((part - reference_part).square().sum()) for part, reference_part in pairs)


def squared_product(a: "torch.Tensor", b: "torch.Tensor", scale: float) -> float:
    """||s B A||_F^2 = s^2 tr((B^T B)(A A^T)), the delta of a LoRA adapter: https://arxiv.org/abs/2106.09685.

    `a` [rank, in], `b` [out, rank]. Two Gram matrices [rank, rank] suffice; B A [out, in] is never computed.
    """
    a, b = a.double(), b.double()
    # Both are symmetric, so the trace of their product is the sum of the products of their entries.
    return scale**2 * max(0.0, float(((b.T @ b) * (a @ a.T)).sum()))


def relative_drift(squared_delta: float, squared_reference: float) -> float:
    """||W - W_ref||_F / ||W_ref||_F; for a reference of zeros 1 when the delta is not zero, else 0."""
    if squared_reference == 0:
        return float(squared_delta > 0)
    return math.sqrt(squared_delta / squared_reference)


def _float64_parts(weight: "torch.Tensor") -> "Iterator[torch.Tensor]":
    flat = weight.reshape(-1)
    return (flat[start : start + ENTRIES_AT_ONCE].double() for start in range(0, len(flat), ENTRIES_AT_ONCE))


def _count_covered(matrices: Sequence[ScoredTensor], per: Grouping | None, dose: float) -> int:
    """Count the entries of the mask. `scale` multiplies all entries, or those of the factors B of an adapter."""
    if per is not None:
        return sum(masks.count_covered(matrix, per, dose) for matrix in matrices)
    if not dose:
        return 0
    return sum(matrix.entries for matrix in matrices if not matrix.name.endswith(A_ENDING))


def _measure_drift(
    source: CheckpointLayout,
    reference: CheckpointLayout,
    meta_model: MetaModel,
    matrices: Sequence[ScoredTensor],
    on_progress: OnProgress,
) -> list[LayerDrift]:
    """Measure the drift of each layer with scored tensors. One pair of tensors is in memory at a time."""
    names, layers = {matrix.name for matrix in matrices}, []
    for done, block in enumerate(meta_model.blocks, 1):
        deltas, references = [], []
        for linear in meta_model.linear_layers(block):
            factors = meta_model.lora.modules.get(linear.path) if meta_model.lora else None
            name = factors.a if factors else linear.tensor
            if name not in names:
                continue
            weight = tensors.read_tensor(reference, linear.tensor)
            references.append(_require_finite(squared_norm(weight), linear.tensor, reference))
            if factors:
                a, b = tensors.read_tensor(source, factors.a), tensors.read_tensor(source, factors.b)
                delta = squared_product(a, b, factors.scaling)
            else:
                delta = squared_distance(tensors.read_tensor(source, name), weight)
            deltas.append(_require_finite(delta, name, source))
        if references:
            layers.append(LayerDrift(layer_name(name), relative_drift(sum(deltas), sum(references))))
        on_progress(Progress("layers compared", done, len(meta_model.blocks)))
    return layers


def _require_finite(squared: float, name: str, layout: CheckpointLayout) -> float:
    if not math.isfinite(squared):
        raise ConfigurationError(
            f"{name} in {display_name(layout.folder)} holds NaN or infinite numbers",
            cause="the training diverged, or the file is damaged",
            hint="repair an earlier checkpoint of the same training",
        )
    return squared
