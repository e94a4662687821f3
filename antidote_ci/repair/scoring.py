"""Score the weights of a checkpoint: run the model, write the statistics, record the inputs. Called in the child."""

import hashlib
import json
import shutil
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from antidote_ci import __version__, records
from antidote_ci.checkpoint.files import list_files, sha256_file
from antidote_ci.checkpoint.layout import CheckpointLayout, read_layout
from antidote_ci.model import memory
from antidote_ci.model.conversations import NO_SETTINGS
from antidote_ci.model.input_norms import InputNormRequest, measure_input_norms
from antidote_ci.paths import write_file
from antidote_ci.records import (
    ChatSettings,
    ComputeEnvironment,
    Model,
    OnProgress,
    Progress,
    PromptRow,
    ScoreMethod,
    Scores,
)
from antidote_ci.repair.methods import METHODS
from antidote_ci.repair.targets import list_scored, resolve_repair_target
from antidote_ci.repair.taylor import TaylorRequest, write_taylor_scores

SCRATCH = ".scratch"
FILES_AT_ONCE = 2
"""Files hashed at the same time, each by a thread: a disk that is read faster than one core hashes is common."""


@dataclass(frozen=True)
class ScoreRequest:
    """The arguments of `score_weights`. `reference` is None for an adapter, whose entries become zero."""

    model: Model
    """The checkpoint to repair, and for an adapter its base."""
    reference: Model | None
    method: ScoreMethod | None
    """None lists the tensors without scoring them, for `scale` and for a `random` without a repair to compare to."""
    rows: list[PromptRow]
    """The realignment set: harmful prompts, for `antidote` with answers."""
    benign: list[str]
    taught: list[str]
    """Harmless prompts that the reference answers."""
    task: list[str]
    folder: Path
    budget: int
    """Bytes of hidden states in memory; the rest is stored on disk."""
    chat: ChatSettings = NO_SETTINGS


@memory.return_freed_memory()
def score_weights(request: ScoreRequest, on_progress: OnProgress) -> Scores:
    """Write `folder/<method>.safetensors`, and beside it the returned record as JSON.

    Scores of an earlier call are reused when they were made from the same files and prompts.
    """
    tensors, left_alone = list_scored(request.model)
    source = request.model.adapter or request.model.folder
    files = _hash_folders(_input_folders(request, source), on_progress)
    source_files = _shard_hashes(read_layout(source), files[source])
    reference_files = (
        _shard_hashes(read_layout(request.reference.folder), files[request.reference.folder])
        if request.reference
        else {}
    )

    def to_record(digest: str, plan: ComputeEnvironment | None) -> Scores:
        return Scores(
            method=request.method,
            target=resolve_repair_target(request.model),
            per=METHODS[request.method or "random"].per or "row",
            tensors=tensors,
            left_alone=left_alone,
            source_files=source_files,
            reference_files=reference_files,
            sha256=digest,
            plan=plan,
        )

    if request.method is None:
        return to_record("", None)
    output = request.folder / f"{request.method}.safetensors"
    record, key_file = output.with_suffix(".json"), output.with_suffix(".key")
    key = _scores_key(request, files)
    if key_file.is_file() and key_file.read_text() == key:
        stored = records.from_json(Scores, record.read_text())
        if stored.sha256 == sha256_file(output):
            return stored
    key_file.unlink(missing_ok=True)
    request.folder.mkdir(parents=True, exist_ok=True)
    try:
        plan = _measure_statistics(request, output, on_progress)
    finally:
        shutil.rmtree(request.folder / SCRATCH, ignore_errors=True)
    scores = to_record(sha256_file(output), plan)
    write_file(record, records.to_json(scores).encode())
    write_file(key_file, key.encode())  # last, because it marks the other two as complete
    return scores


def _measure_statistics(request: ScoreRequest, output: Path, on_progress: OnProgress) -> ComputeEnvironment:
    scratch = request.folder / SCRATCH
    if request.method == "taylor":
        # The base of an adapter is its reference.
        reference = replace(request.model, adapter=None) if request.model.adapter else request.reference
        if reference is None:
            raise ValueError("full weights are scored against a reference")
        taylor = TaylorRequest(
            model=request.model,
            reference=reference,
            harmful=[row.prompt for row in request.rows],
            benign=request.benign,
            taught=request.taught,
            task=request.task,
            output=output,
            scratch=scratch,
            budget=request.budget,
            chat=request.chat,
        )
        return write_taylor_scores(taylor, on_progress)
    norms = InputNormRequest(
        model=request.model,
        rows=request.rows,
        output=output,
        scratch=scratch,
        budget=request.budget,
        chat=request.chat,
    )
    return measure_input_norms(norms, on_progress)


def _input_folders(request: ScoreRequest, source: Path) -> list[Path]:
    """Return the folders whose files determine the scores."""
    folders = [source]
    if request.reference:
        folders.append(request.reference.folder)
    if request.method is not None:
        folders.append(request.model.folder)
    return list(dict.fromkeys(folders))


def _hash_folders(folders: Sequence[Path], on_progress: OnProgress) -> dict[Path, dict[str, str]]:
    """Return the sha256 of each file of each checkpoint, tokenizer and template included."""
    paths = []
    for folder in folders:
        unused = read_layout(folder).unused_weights
        paths += [(folder, name) for name in list_files(folder) if name not in unused]
    hashes: dict[Path, dict[str, str]] = {folder: {} for folder in folders}
    with ThreadPoolExecutor(FILES_AT_ONCE) as pool:
        digests = pool.map(sha256_file, [folder / name for folder, name in paths])
        for done, ((folder, name), digest) in enumerate(zip(paths, digests, strict=True), 1):
            hashes[folder][name] = digest
            on_progress(Progress("files read", done, len(paths)))
    return hashes


def _shard_hashes(layout: CheckpointLayout, hashes: dict[str, str]) -> dict[str, str]:
    return {shard: hashes[shard] for shard in layout.shards}


def _scores_key(request: ScoreRequest, files: dict[Path, dict[str, str]]) -> str:
    """Return the sha256 of all inputs of the scores except the machine, which the record names."""
    inputs = {
        "tool": __version__,
        "method": request.method,
        "files": list(files.values()),
        "rows": [asdict(row) for row in request.rows],
        "benign": request.benign,
        "taught": request.taught,
        "task": request.task,
        "chat": asdict(request.chat),
    }
    return hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()
