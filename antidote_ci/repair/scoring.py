"""Scoring: what is to be scored, and from which bytes, and the statistics of it. Called in the child process."""

import hashlib
import json
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

from antidote_ci import __version__, records
from antidote_ci.checkpoint.files import list_files, sha256_file
from antidote_ci.checkpoint.layout import CheckpointLayout, read_layout
from antidote_ci.model import memory
from antidote_ci.model.statistics import InputNormRequest, measure_input_norms
from antidote_ci.records import (
    ComputeEnvironment,
    Model,
    OnProgress,
    Progress,
    PromptRow,
    RepairTarget,
    ScoreMethod,
    Scores,
)
from antidote_ci.repair.methods import METHODS
from antidote_ci.repair.targets import list_scored
from antidote_ci.repair.taylor import TaylorRequest, write_taylor_scores

SCRATCH = ".scratch"


@dataclass(frozen=True)
class ScoreRequest:
    """`source` is the checkpoint that is repaired: an adapter's folder, or that of `model`.

    `reference` is None where the edit is zero: an adapter's factors.
    """

    model: Model
    source: Path
    reference: Path | None
    target: RepairTarget
    method: ScoreMethod | None
    """None: only the targets are listed, for `scale` and for a `random` that imitates nothing."""
    rows: list[PromptRow]
    """The realignment set: harmful prompts, for `antidote` with their answers."""
    benign: list[str]
    task: list[str]
    folder: Path
    budget: int
    """Bytes of hidden states in memory; what is beyond waits on disk."""


@memory.return_freed_memory()
def score_weights(request: ScoreRequest, report: OnProgress) -> Scores:
    """Write `folder/<method>.safetensors`, and beside it as JSON the record that is returned.

    What an earlier call left there is taken as it is when it was made from the same files and prompts.
    """
    tensors, left_alone = list_scored(request.model, request.target)
    files = {folder: _hash_folder(folder, report) for folder in _input_folders(request)}
    source_files = _shard_hashes(read_layout(request.source), files[request.source])
    reference_files = (
        _shard_hashes(read_layout(request.reference), files[request.reference]) if request.reference else {}
    )

    def found(digest: str, plan: ComputeEnvironment | None) -> Scores:
        return Scores(
            method=request.method,
            target=request.target,
            per=METHODS[request.method or "random"].per or "row",
            tensors=tensors,
            left_alone=left_alone,
            source_files=source_files,
            reference_files=reference_files,
            sha256=digest,
            plan=plan,
        )

    if request.method is None:
        return found("", None)
    output = request.folder / f"{request.method}.safetensors"
    record, key_file = output.with_suffix(".json"), output.with_suffix(".key")
    key = _scores_key(request, files)
    if key_file.is_file() and key_file.read_text() == key:
        kept = records.from_json(Scores, record.read_text())
        if kept.sha256 == sha256_file(output):
            return kept
    key_file.unlink(missing_ok=True)
    request.folder.mkdir(parents=True, exist_ok=True)
    plan = _measure_statistics(request, output, report)
    scores = found(sha256_file(output), plan)
    record.write_text(records.to_json(scores))
    key_file.write_text(key)  # last: it vouches for the other two
    return scores


def _measure_statistics(request: ScoreRequest, output: Path, report: OnProgress) -> ComputeEnvironment:
    scratch = request.folder / SCRATCH
    try:
        if request.method == "taylor":
            return write_taylor_scores(
                TaylorRequest(
                    model=request.model,
                    reference=_teacher_folder(request),
                    harmful=[row.prompt for row in request.rows],
                    benign=request.benign,
                    task=request.task,
                    output=output,
                    scratch=scratch,
                    budget=request.budget,
                ),
                report,
            )
        return measure_input_norms(
            InputNormRequest(
                model=request.model, rows=request.rows, output=output, scratch=scratch, budget=request.budget
            ),
            report,
        )
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _teacher_folder(request: ScoreRequest) -> Path:
    """The folder of the reference that answers as it should; an adapter's is its base."""
    folder = request.model.folder if request.target == "adapter" else request.reference
    if folder is None:
        raise ValueError("full weights are scored against a reference")
    return folder


def _input_folders(request: ScoreRequest) -> list[Path]:
    """Every folder whose files decide the scores."""
    running = [] if request.method is None else [request.model.folder]
    return list(dict.fromkeys([request.source, *([request.reference] if request.reference else []), *running]))


def _hash_folder(folder: Path, report: OnProgress) -> dict[str, str]:
    """sha256 of the checkpoint's files, those of tokenizer and template too."""
    unused = read_layout(folder).unused_weights
    names = [name for name in list_files(folder) if name not in unused]
    found = {}
    for done, name in enumerate(names, 1):
        found[name] = sha256_file(folder / name)
        report(Progress("files read", done, len(names)))
    return found


def _shard_hashes(layout: CheckpointLayout, hashes: dict[str, str]) -> dict[str, str]:
    return {shard: hashes[shard] for shard in layout.shards}


def _scores_key(request: ScoreRequest, files: dict[Path, dict[str, str]]) -> str:
    """sha256 of all that decides the scores but the machine, which the plan records."""
    said = {
        "tool": __version__,
        "method": request.method,
        "target": request.target,
        "files": list(files.values()),
        "rows": [asdict(row) for row in request.rows],
        "benign": request.benign,
        "task": request.task,
    }
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()
