"""Plan a repair from names and sizes. Reads no weights and runs no model; called in the child process."""

from collections.abc import Sequence
from dataclasses import dataclass

from antidote_ci.checkpoint.adapter_config import A_ENDING
from antidote_ci.checkpoint.layout import count_weight_bytes, read_layout
from antidote_ci.model.loading import select_device_and_dtype
from antidote_ci.model.streaming.meta_model import MetaModel
from antidote_ci.records import (
    Grouping,
    Method,
    Model,
    OnProgress,
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

NOTABLE_DIFFERENCE = 0.2
"""The plan has a note when the effective dose differs from the requested one by more than this share of it."""


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
    """The arguments of `plan_repair`."""

    source: ReportedSource
    reference: ReportedReference
    dose: float
    memory: MemoryRequest


def plan_repair(request: PlanRequest, _on_progress: OnProgress) -> RepairPlan:
    """Compute the plan."""
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
        notes=notes,
    )


def estimate_memory(request: MemoryRequest, _on_progress: OnProgress) -> int:
    """The bytes that a repair needs in memory, in addition to the libraries. Reads no weights."""
    return costs.estimate_memory(_build_workload(request, list_scored(request.model, request.target)[0]))


def _build_workload(request: MemoryRequest, matrices: Sequence[ScoredTensor]) -> RepairWorkload:
    source = read_layout(request.model.adapter or request.model.folder)
    meta_model = MetaModel(request.model, select_device_and_dtype()[1], "cpu")
    return RepairWorkload(request.method, source, meta_model, matrices, request.texts, request.budget)


def _count_covered(matrices: Sequence[ScoredTensor], per: Grouping | None, dose: float) -> int:
    """Count the entries of the mask. `scale` multiplies all entries, or those of the factors B of an adapter."""
    if per is not None:
        return sum(masks.count_covered(matrix, per, dose) for matrix in matrices)
    if not dose:
        return 0
    return sum(matrix.entries for matrix in matrices if not matrix.name.endswith(A_ENDING))
