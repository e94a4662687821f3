"""Builds the demo's checkpoints in a child process: `python -m demo.build FOLDER [--merged]`.

The sandbox of `antidote_ci` is not used, because it runs only functions of `antidote_ci`.
"""

import dataclasses
import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from antidote_ci.errors import InfrastructureError
from antidote_ci.records import OnProgress, Progress
from demo import models


@dataclass(frozen=True)
class BuildRequest:
    """What to build. With `merged`, the fine-tune is a full checkpoint instead of an adapter."""

    folder: Path
    merged: bool


@dataclass(frozen=True)
class DemoCheckpoints:
    """Folders of the checkpoints for the loopback Hub."""

    reference: Path
    finetune: Path


def build_checkpoints(request: BuildRequest, on_progress: OnProgress) -> DemoCheckpoints:
    """Dequantise the base, merge the alignment adapter, and write the fine-tune."""
    base, reference, finetune = (request.folder / name for name in ("base", "reference", "finetune"))
    models.write_base(base)
    on_progress(Progress("models", 1, 3))
    models.write_reference(base, reference)
    on_progress(Progress("models", 2, 3))
    if request.merged:
        models.write_merged(reference, finetune)
    else:
        models.write_adapter(finetune)
    on_progress(Progress("models", 3, 3))
    return DemoCheckpoints(reference, finetune)


def run_build(request: BuildRequest, log: Path, on_progress: OnProgress) -> DemoCheckpoints:
    """Run `build_checkpoints` in a child process with its stderr in `log`. Raises InfrastructureError if it fails."""
    command = [sys.executable, "-m", "demo.build", str(request.folder), *(["--merged"] if request.merged else [])]
    with log.open("wb") as output, subprocess.Popen(command, stdout=subprocess.PIPE, stderr=output) as process:
        try:
            for line in process.stdout or ():
                on_progress(Progress(**json.loads(line)))
        except BaseException:
            process.kill()
            raise
    if process.returncode:
        raise InfrastructureError(
            f"building the demo's models failed with exit code {process.returncode}",
            cause="see the log",
            hint=f"read {log}",
        )
    return DemoCheckpoints(request.folder / "reference", request.folder / "finetune")


def main(arguments: Sequence[str]) -> None:
    """Build the checkpoints and print the progress as lines of JSON."""
    folder, *rest = arguments
    request = BuildRequest(Path(folder), merged=rest == ["--merged"])
    build_checkpoints(request, lambda progress: print(json.dumps(dataclasses.asdict(progress)), flush=True))


if __name__ == "__main__":
    main(sys.argv[1:])
