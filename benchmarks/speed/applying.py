"""Writing the repaired checkpoint, against copying the same bytes and hashing them once."""

import hashlib
import os
import shutil
import tempfile
from pathlib import Path

from benchmarks.speed.large import Shape, write_pair
from benchmarks.speed.paired import Line, ratios, turns
from benchmarks.speed.procedure import applied, masked, scored

SHAPE = Shape(blocks=8, shards=4)
"""1.3 GB."""


def run(count: int) -> list[Line]:
    """One line. Both sides end on the disk: what was copied is flushed as well."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source, reference = write_pair(folder, SHAPE)
        scores = scored(source, reference, folder / "repair", 4)
        (mask,) = masked(source, reference, scores, folder / "repair", [0.05])

        def ours() -> None:
            applied(source, reference, scores, mask, folder / "model")

        def copied() -> None:
            copy = folder / "copy"
            shutil.rmtree(copy, ignore_errors=True)
            copy.mkdir()
            for path in source.iterdir():
                shutil.copyfile(path, copy / path.name)
                flush(copy / path.name)
                with (copy / path.name).open("rb") as file:
                    hashlib.file_digest(file, "sha256")

        one, other = turns(count, ours, copied)
    return [Line("apply / (copy + sha256 of the same bytes)", ratios(one, other), "<=", 1.3)]


def flush(path: Path) -> None:
    """Onto the disk, as a repair is."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
