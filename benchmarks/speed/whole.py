"""A whole `run`, against the evaluations that it needs. `python -m benchmarks.speed whole [--model FOLDER ...]`

Both are measured in the same process. The evaluations are all calls of `evaluate_model`: the model before, the
reference, the model on the selection prompts, every dose that is tried, the repair, and the controls with their own
search. Their time includes loading the weights, editing them in memory, decoding and judging. The rest of a run is the
start of Python, the check and hashes of the files, scores and masks, writing and reading back the repair, divergence
and drift, and the report.
"""

import tempfile
from pathlib import Path

from benchmarks.speed.commands import time_command
from benchmarks.speed.paired import Line
from demo.build import BuildRequest, build_checkpoints
from demo.main_job import POLICY

GOAL = 1.2


def run(count: int) -> list[Line]:
    """One line: the run of the demo, from plain folders and without a pull request."""
    with tempfile.TemporaryDirectory() as name:
        checkpoints = build_checkpoints(BuildRequest(Path(name), merged=False), lambda _: None)
        return run_folders(count, "demo", checkpoints.finetune, checkpoints.reference, POLICY)


def run_folders(count: int, title: str, model: Path, reference: Path, policy: Path) -> list[Line]:
    """One line for a model and its reference in local folders."""
    arguments = ["run", f"{model.absolute()}", "--reference", f"{reference.absolute()}", "--policy", str(policy)]
    with tempfile.TemporaryDirectory() as out:
        times = [time_command([*arguments, "--publish", "none"], Path(out) / "run") for _ in range(count)]
    limit = "; ".join(f"{time.total:.0f} s, evaluations {time.evaluations:.0f} s" for time in times)
    return [
        Line(f"a whole run / its evaluations ({title})", [t.total / t.evaluations for t in times], "<=", GOAL, limit)
    ]
