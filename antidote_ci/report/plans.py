"""The plan of a repair as people read it before it is made. Pure."""

from collections.abc import Sequence

from antidote_ci.records import LayerDrift, RepairPlan
from antidote_ci.report.origins import FOUND_BY, full_name
from antidote_ci.report.rows import METHODS
from antidote_ci.report.text import flatten, format_number, format_percent

TARGETS = {
    "adapter": "the factors of the LoRA adapter",
    "delta": "the difference to the reference",
}
SHARES = {"row": "of each row", "tensor": "of each tensor", None: "of the whole difference"}


def plan_rows(plan: RepairPlan) -> list[tuple[str, str]]:
    """Label and value, line by line. Names come from strangers' files: they are made plain."""
    base, scored = plan.reference, sum(each.rows * each.columns for each in plan.tensors)
    effect = "" if plan.effective_dose == plan.dose else f", in effect {format_number(plan.effective_dose)}"
    lines = [
        ("model", full_name(plan.source.id, plan.source.revision)),
        ("reference", f"{full_name(base.id, base.revision)}, {FOUND_BY[base.found_by]}" if base else "none"),
        ("method", METHODS[plan.method]),
        ("target", TARGETS[plan.target]),
        ("dose", f"{format_number(plan.dose)} {SHARES[plan.per]}{effect}"),
        ("changes", f"up to {plan.entries_covered:,} of {scored:,} entries, in {len(plan.tensors):,} tensors"),
        *(("left alone", f"{each.what} ({each.weights:,} entries): {each.why}") for each in plan.left_alone),
        ("write", f"{plan.bytes_written / 1e6:,.1f} MB"),
        ("memory", f"about {plan.memory_bytes / 1e6:,.1f} MB beyond what the libraries take"),
        ("time", f"about {max(plan.seconds, 1):,.0f} s on two cores, less on a GPU"),
        *(("note", note) for note in plan.notes),
    ]
    return [(label, flatten(value)) for label, value in lines]


def drift_levels(layers: Sequence[LayerDrift], steps: int) -> list[int]:
    """Of each layer's drift, 0 to steps - 1, in proportion to the largest."""
    largest = max((each.drift for each in layers), default=0) or 1.0
    return [round(each.drift / largest * (steps - 1)) for each in layers]


def drift_legend(layers: Sequence[LayerDrift]) -> str:
    """What the darkest cell of the strip stands for."""
    largest = max(layers, key=lambda each: each.drift)
    return flatten(
        f"a cell a layer, the darker the further from the reference; most in {largest.layer}: "
        f"{format_percent(largest.drift)} of its weights' norm"
    )
