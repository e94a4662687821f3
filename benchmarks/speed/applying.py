"""Writing the repaired checkpoint, against copying the same bytes, hashing them once, and the same read-back."""

import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from antidote_ci.checkpoint.files import SETTLED_SECONDS, identify_settled_files, sha256_file
from antidote_ci.records import ReportedSource
from antidote_ci.repair.apply import ApplyRequest, Provenance, apply_mask
from benchmarks.speed.large import llama, write_pair
from benchmarks.speed.paired import Line, ratios, turns
from benchmarks.speed.procedure import masked, scored, silent

SHAPE, SHARDS = llama(blocks=8), 4
"""1.3 GB."""
DOSE = 0.05


def run(count: int) -> list[Line]:
    """One line: the wall time of one dose. Both sides end on the disk, and read it back."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source, reference = write_pair(folder, SHAPE, SHARDS)
        time.sleep(SETTLED_SECONDS)
        shards = [path.name for path in source.glob("*.safetensors")]
        identities = [identify_settled_files(checkpoint, shards) for checkpoint in (source, reference)]
        scores = scored(source, reference, folder / "repair", 4)
        (mask,) = masked(source, reference, scores, folder / "repair", [DOSE])
        request = ApplyRequest(
            source=source,
            reference=reference,
            scores=scores,
            mask=mask,
            method="antidote",
            dose=DOSE,
            destination=folder / "model",
            provenance=Provenance("benchmark", ReportedSource(source.name, None, "full"), None, ""),
            source_identities=identities[0],
            reference_identities=identities[1],
        )
        processor_times: tuple[list[float], list[float]] = ([], [])

        def apply() -> None:
            processor_times[0].append(processor_seconds(lambda: apply_mask(request, silent)))

        def copy() -> None:
            processor_times[1].append(processor_seconds(lambda: copy_and_read_back(source, folder / "copy")))

        walls = turns(count, apply, copy)
    ours, theirs = (times[1:] for times in processor_times)  # without the call that is not measured
    processor = statistics.median(ratios(ours, theirs))
    what = "apply / (copy + sha256 + read-back of the same bytes)"
    return [Line(what, ratios(*walls), "<=", 1.3, f"of the processor time {processor:.2f}")]


def processor_seconds(work: Callable[[], object]) -> float:
    """Processor time of all threads during one call."""
    started = time.process_time()
    work()
    return time.process_time() - started


def copy_and_read_back(source: Path, copy: Path) -> None:
    """Copy each file, flush and hash it, and hash it again from the disk."""
    shutil.rmtree(copy, ignore_errors=True)
    copy.mkdir()
    for path in source.iterdir():
        target = copy / path.name
        shutil.copyfile(path, target)
        with target.open("rb") as file:
            os.fsync(file.fileno())
            sha256_file(target)
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        sha256_file(target)
