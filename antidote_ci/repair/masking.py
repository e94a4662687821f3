"""Score: statistics and weights in, bit-packed masks out. Runs no model; called in the child process."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from antidote_ci.checkpoint.layout import inspect
from antidote_ci.errors import ConfigurationError
from antidote_ci.records import Progress
from antidote_ci.repair import masks, weights
from antidote_ci.repair.scores import wanda_score
from antidote_ci.repair.targets import scored_tensors

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class MaskRequest:
    """`reference` is scored against on a full checkpoint; an adapter's reference is zero and needs none."""

    source: Path
    reference: Path | None
    statistics: Path
    method: Literal["antidote", "taylor"]
    dose: float
    by_chance: bool
    """The control `random`: as many entries, in the same groups, of a random score."""
    output: Path


def write_masks(request: MaskRequest, report: Callable[[Progress], None]) -> float:
    """Write `<tensor name>` -> packed mask of every scored tensor to `request.output`; the share of entries covered."""
    from safetensors import safe_open
    from safetensors.torch import save_file

    source = inspect(request.source)
    reference = inspect(request.reference) if request.reference else None
    tensors = scored_tensors(source)
    packed: dict[str, torch.Tensor] = {}
    marked = 0
    with safe_open(request.statistics, framework="pt") as statistics:
        measured = set(statistics.keys())
        for done, scored in enumerate(tensors, 1):
            key = scored.module if request.method == "antidote" else scored.tensor
            if key not in measured:
                raise ConfigurationError(
                    f"{scored.tensor} has no input statistics",
                    cause="its layer was not run by the realignment set, or has another name in the network",
                    hint="report this architecture",
                )
            if request.by_chance:
                score = masks.random_score(scored.rows, scored.columns, scored.tensor)
            elif request.method == "antidote":
                score = wanda_score(weights.delta(source, reference, scored.tensor), statistics.get_tensor(key))
            else:
                score = statistics.get_tensor(key)
            group = masks.top_per_row if request.method == "antidote" else masks.top_of_tensor
            mask = group(score, request.dose)
            packed[scored.tensor] = masks.pack(mask)
            marked += int(mask.sum())
            report(Progress("masks", done, len(tensors)))
    save_file(packed, request.output)
    return marked / sum(scored.rows * scored.columns for scored in tensors)
