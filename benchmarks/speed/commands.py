"""Runs the command line in a process of its own, as a user does, with a clock around every evaluation.

The process is `python -m benchmarks.speed.commands FILE ARGUMENT ...`. At its end it writes the seconds of each
evaluation to FILE, as a JSON list.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.speed.paired import seconds

VERDICT_CODES = (0, 1, 4, 7)
"""Exit codes of a command that has measured something."""


@dataclass(frozen=True)
class CommandTime:
    """Wall time of one command and of the evaluations within it, in seconds."""

    total: float
    evaluations: float


def time_command(arguments: Sequence[str], out: Path, environ: Mapping[str, str] = os.environ) -> CommandTime:
    """Run `antidote-ci ARGUMENTS --no-cache --out OUT` in a new process. Raises RuntimeError if it fails."""
    options = [*arguments, "--no-cache", "--out", str(out)]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "evaluations.json"
        command = [sys.executable, "-m", "benchmarks.speed.commands", str(file), *options]

        def run() -> None:
            process = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
            if process.returncode not in VERDICT_CODES:
                raise RuntimeError(f"antidote-ci {' '.join(options)} ended with {process.returncode}: {process.stderr}")

        return CommandTime(seconds(run), sum(json.loads(file.read_text())))


def time_evaluations() -> list[float]:
    """Measure every call of `evaluate_model` in the pipeline. The list receives the seconds of each."""
    from antidote_ci.evaluation import measure
    from antidote_ci.pipeline import dose_search, repair_model, run

    evaluate_model, durations = measure.evaluate_model, list[float]()

    def timed(*arguments: Any, **options: Any) -> Any:  # noqa: ANN401 - the arguments and result of evaluate_model
        started = time.perf_counter()
        try:
            return evaluate_model(*arguments, **options)
        finally:
            durations.append(time.perf_counter() - started)

    for module in (dose_search, repair_model, run):
        del vars(module)["evaluate_model"]  # a KeyError if the module no longer calls it
        vars(module)["evaluate_model"] = timed
    return durations


def main() -> None:
    """Run the command of `sys.argv`, and write the file."""
    from antidote_ci.__main__ import main as run_command_line

    _, file, *sys.argv[1:] = sys.argv
    durations = time_evaluations()
    try:
        run_command_line()
    finally:
        Path(file).write_text(json.dumps(durations), encoding="utf-8")


if __name__ == "__main__":
    main()
