"""The demo's checkpoints in one folder, made in the child process like everything that opens a model."""

from dataclasses import dataclass
from pathlib import Path

from antidote_ci.demo import models
from antidote_ci.records import OnProgress, Progress


@dataclass(frozen=True)
class BuildRequest:
    """`merged`: the fine-tune as a full checkpoint instead of an adapter."""

    folder: Path
    merged: bool


@dataclass(frozen=True)
class Built:
    """What goes onto the loopback Hub."""

    reference: Path
    finetune: Path


def build(request: BuildRequest, report: OnProgress) -> Built:
    """Dequantise the base, merge the alignment, and write the fine-tune in the form asked for."""
    base, reference, finetune = (request.folder / name for name in ("base", "reference", "finetune"))
    models.write_base(base)
    report(Progress("models", 1, 3))
    models.write_reference(base, reference)
    report(Progress("models", 2, 3))
    if request.merged:
        models.write_merged(reference, finetune)
    else:
        models.write_adapter(finetune)
    report(Progress("models", 3, 3))
    return Built(reference, finetune)
