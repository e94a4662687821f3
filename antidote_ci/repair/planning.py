"""What a repair would do, from names, sizes and one pass over the weights. Runs no model; called in the child."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite
from pathlib import Path

from antidote_ci.checkpoint import tensors
from antidote_ci.checkpoint.files import display_name
from antidote_ci.checkpoint.layout import CheckpointLayout, read_layout
from antidote_ci.checkpoint.lora_names import A_ENDING, PREFIX
from antidote_ci.errors import ConfigurationError
from antidote_ci.model import memory
from antidote_ci.model.loading import select_device_and_dtype
from antidote_ci.model.streaming.meta_model import MetaModel
from antidote_ci.records import (
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
from antidote_ci.repair import costs, drift, masks
from antidote_ci.repair.costs import RepairWorkload
from antidote_ci.repair.methods import METHODS
from antidote_ci.repair.targets import list_scored

NOTABLE_DRIFT = 0.2
"""A share of the named dose: when the effective one is further away, the plan says so."""


@dataclass(frozen=True)
class PlanRequest:
    """`reference_folder` holds the weights that are restored, or an adapter's base."""

    source: ReportedSource
    reference: ReportedReference
    model: Model
    reference_folder: Path
    method: Method
    target: RepairTarget
    dose: float
    texts: list[int]
    """Characters of each text that scoring reads."""
    budget: int
    """Bytes of hidden states that scoring keeps in memory."""


@memory.return_freed_memory()
def plan_repair(request: PlanRequest, report: OnProgress) -> RepairPlan:
    """All that can be said before the repair. Raises ConfigurationError for NaN or infinite weights."""
    source = read_layout(request.model.adapter or request.model.folder)
    reference = read_layout(request.reference_folder)
    skeleton = MetaModel(request.model, select_device_and_dtype()[1], "cpu")
    matrices, left_alone = list_scored(request.model, request.target)
    work = RepairWorkload(request.method, source, skeleton, matrices, request.texts, request.budget)
    covered = _count_covered(request, matrices)
    effective_dose = covered / work.entries if METHODS[request.method].per else request.dose
    return RepairPlan(
        source=request.source,
        reference=request.reference,
        method=request.method,
        target=request.target,
        per=METHODS[request.method].per,
        dose=request.dose,
        effective_dose=effective_dose,
        tensors=matrices,
        left_alone=left_alone,
        entries_covered=covered,
        bytes_written=costs.estimate_bytes_written(work),
        memory_bytes=costs.estimate_memory(work),
        seconds=costs.estimate_seconds(work),
        drift=_measure_drift(source, reference, skeleton, matrices, report),
        notes=_collect_notes(request, effective_dose),
    )


def layer_name(name: str) -> str:
    """The block that a tensor of the files belongs to, by its name: all up to the first number, and that number."""
    found = re.match(r".*?\.\d+(?=\.)", name.removeprefix(PREFIX))
    return found[0] if found else name


def _count_covered(request: PlanRequest, matrices: Sequence[ScoredTensor]) -> int:
    """Entries of the mask; for `scale` those that are multiplied: all, or an adapter's factors B."""
    per = METHODS[request.method].per
    if per is not None:
        return sum(masks.count_covered(each, per, request.dose) for each in matrices)
    multiplied = [each for each in matrices if not each.name.endswith(A_ENDING)] if request.dose else []
    return sum(each.entries for each in multiplied)


def _measure_drift(
    source: CheckpointLayout,
    reference: CheckpointLayout,
    meta_model: MetaModel,
    matrices: Sequence[ScoredTensor],
    report: OnProgress,
) -> list[LayerDrift]:
    """Of each layer with scored tensors, first to last. One pair of tensors is in memory at a time."""
    names, found = {each.name for each in matrices}, []
    for done, block in enumerate(meta_model.blocks, 1):
        moved, stood = [], []
        for linear in meta_model.linear_layers(block):
            factors = meta_model.lora.modules.get(linear.path) if meta_model.lora else None
            name = factors.a if factors else linear.tensor
            if name not in names:
                continue
            weight = tensors.read_tensor(reference, linear.tensor)
            stood.append(_require_finite(drift.squared_norm(weight), linear.tensor, reference))
            if factors:
                a, b = tensors.read_tensor(source, factors.a), tensors.read_tensor(source, factors.b)
                moved.append(_require_finite(drift.squared_product(a, b, factors.scaling), name, source))
            else:
                moved.append(
                    _require_finite(drift.squared_distance(tensors.read_tensor(source, name), weight), name, source)
                )
        if stood:
            found.append(LayerDrift(layer_name(name), drift.relative_drift(sum(moved), sum(stood))))
        report(Progress("layers compared", done, len(meta_model.blocks)))
    return found


def _collect_notes(request: PlanRequest, effective_dose: float) -> list[str]:
    """What the reader must know and no figure says."""
    found = []
    if abs(effective_dose - request.dose) > NOTABLE_DRIFT * request.dose:
        found.append(f"Only whole entries can go: a dose of {request.dose:g} is {effective_dose:.3g} in effect.")
    return found


def _require_finite(squared: float, name: str, layout: CheckpointLayout) -> float:
    if not isfinite(squared):
        raise ConfigurationError(
            f"{name} in {display_name(layout.folder)} holds NaN or infinite numbers",
            cause="the training diverged, or the file is damaged",
            hint="repair an earlier checkpoint of the same run",
        )
    return squared
