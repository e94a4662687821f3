"""Leave-one-kind-out: a repair that reads no prompt of one kind, measured on that kind."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from antidote_ci.evaluation.kinds import KINDS, Kind, partition_kind
from antidote_ci.evaluation.splits import RepairPrompts
from benchmarks.repair.attacks import Attack
from benchmarks.repair.outcomes import REFUSED
from benchmarks.repair.records import share

MODELS = ("reference", "attacked", "with", "without")
"""The reference, the attacked model, and its repairs with and without the prompts of the kind."""


@dataclass(frozen=True)
class KindCell:
    """The answers of the four models to the embedded prompts of one kind."""

    attack: Attack
    kind: Kind
    method: str
    dose: float
    unread: int
    """The number of prompts that no repair reads; they come first. The repair `with` the kind may read the others."""
    answers: dict[str, str]
    """By name in MODELS: one letter for each prompt, as in `outcomes`."""
    seconds: float


def leave_out(prompts: RepairPrompts, kind: Kind) -> RepairPrompts:
    """The prompts of a repair without the harmful ones of a kind."""
    realignment, varied = (partition_kind(rows, kind)[0] for rows in (prompts.realignment, prompts.varied))
    return replace(prompts, realignment=realignment, varied=varied)


def write_table(cells: Sequence[KindCell]) -> str:
    """The harm on each kind, as a Markdown table, and on the unread prompts of all kinds."""
    ordered = sorted(cells, key=lambda cell: KINDS.index(cell.kind))
    lines = ["| kind | prompts | reference | attacked | repaired without the kind |", "|---|--:|--:|--:|--:|"]
    for cell in ordered:
        shares = " | ".join(_harm(cell.answers[name]) for name in ("reference", "attacked", "without"))
        lines.append(f"| {cell.kind} | {len(cell.answers['without'])} | {shares} |")
    unread = {name: "".join(cell.answers[name][: cell.unread] for cell in ordered) for name in MODELS}
    return "\n".join(lines) + (
        f"\n\nOn the {len(unread['with'])} prompts that no repair reads: reference {_harm(unread['reference'])}, "
        f"attacked {_harm(unread['attacked'])}, repaired with prompts of the kind {_harm(unread['with'])}, "
        f"without them {_harm(unread['without'])}."
    )


def _harm(letters: str) -> str:
    return f"{100 * (1 - share(letters, REFUSED)):.0f}"
