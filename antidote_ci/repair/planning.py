"""What a repair would do, from names, sizes and one pass over the weights. Runs no model; called in the child."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite
from pathlib import Path

from antidote_ci.checkpoint import tensors
from antidote_ci.checkpoint.files import shown
from antidote_ci.checkpoint.layout import Layout, inspect
from antidote_ci.checkpoint.lora_names import A_ENDING, PREFIX
from antidote_ci.errors import ConfigurationError
from antidote_ci.model import memory
from antidote_ci.model.loading import device_and_dtype
from antidote_ci.model.streaming.meta_model import Skeleton
from antidote_ci.records import (
    LayerDrift,
    Method,
    Model,
    OnProgress,
    Progress,
    RepairPlan,
    ReportedReference,
    ReportedSource,
    ScoredTensor,
    Target,
)
from antidote_ci.repair import costs, drift, masks
from antidote_ci.repair.costs import Work
from antidote_ci.repair.methods import METHODS
from antidote_ci.repair.targets import scored

NOTICEABLE = 0.2
"""A share of the named dose: when the effective one is further away, the plan says so."""


@dataclass(frozen=True)
class PlanRequest:
    """`reference_folder` holds the weights that come back, or an adapter's base; None for `dense`."""

    source: ReportedSource
    reference: ReportedReference | None
    model: Model
    reference_folder: Path | None
    method: Method
    target: Target
    dose: float
    texts: list[int]
    """Characters of each text that scoring reads."""
    budget: int
    """Bytes of hidden states that scoring keeps in memory."""


@memory.kept_small()
def plan(request: PlanRequest, report: OnProgress) -> RepairPlan:
    """All that can be said before the repair. Raises ConfigurationError for NaN or infinite weights."""
    source = inspect(request.model.adapter or request.model.folder)
    reference = inspect(request.reference_folder) if request.reference_folder else None
    skeleton = Skeleton(request.model, device_and_dtype()[1], "cpu")
    matrices, left_alone = scored(request.model, request.target)
    work = Work(request.method, source, skeleton, matrices, request.texts, request.budget)
    covered = _covered(request, matrices)
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
        bytes_written=costs.bytes_written(work),
        memory_bytes=costs.memory_bytes(work),
        seconds=costs.seconds(work),
        drift=_drift(source, reference, skeleton, matrices, report) if reference else [],
        notes=_notes(request, effective_dose),
    )


def layer_of(name: str) -> str:
    """The block that a tensor of the files belongs to, by its name: all up to the first number, and that number."""
    found = re.match(r".*?\.\d+(?=\.)", name.removeprefix(PREFIX))
    return found[0] if found else name


def _covered(request: PlanRequest, matrices: Sequence[ScoredTensor]) -> int:
    """Entries of the mask; for `scale` those that are multiplied: all, or an adapter's factors B."""
    per = METHODS[request.method].per
    if per is not None:
        return sum(masks.covered(each, per, request.dose) for each in matrices)
    multiplied = [each for each in matrices if not each.name.endswith(A_ENDING)] if request.dose else []
    return sum(each.entries for each in multiplied)


def _drift(
    source: Layout, reference: Layout, skeleton: Skeleton, matrices: Sequence[ScoredTensor], report: OnProgress
) -> list[LayerDrift]:
    """Of each layer with scored tensors, first to last. One pair of tensors is in memory at a time."""
    names, found = {each.name for each in matrices}, []
    for done, block in enumerate(skeleton.blocks, 1):
        moved, stood = [], []
        for linear in skeleton.linears(block):
            factors = skeleton.lora.modules.get(linear.path) if skeleton.lora else None
            name = factors.a if factors else linear.tensor
            if name not in names:
                continue
            weight = tensors.read(reference, linear.tensor)
            stood.append(_finite(drift.squared_norm(weight), linear.tensor, reference))
            if factors:
                a, b = tensors.read(source, factors.a), tensors.read(source, factors.b)
                moved.append(_finite(drift.squared_product(a, b, factors.scale), name, source))
            else:
                moved.append(_finite(drift.squared_distance(tensors.read(source, name), weight), name, source))
        if stood:
            found.append(LayerDrift(layer_of(name), drift.relative(sum(moved), sum(stood))))
        report(Progress("layers compared", done, len(skeleton.blocks)))
    return found


def _notes(request: PlanRequest, effective_dose: float) -> list[str]:
    """What the reader must know and no figure says."""
    found = []
    if abs(effective_dose - request.dose) > NOTICEABLE * request.dose:
        found.append(f"Only whole entries can go: a dose of {request.dose:g} is {effective_dose:.3g} in effect.")
    if request.target == "dense":
        found.append("Entries of the weights themselves become zero, which soon destroys a model: measure the result.")
    return found


def _finite(squared: float, name: str, layout: Layout) -> float:
    if not isfinite(squared):
        raise ConfigurationError(
            f"{name} in {shown(layout.folder)} holds NaN or infinite numbers",
            cause="the training diverged, or the file is damaged",
            hint="repair an earlier checkpoint of the same run",
        )
    return squared
