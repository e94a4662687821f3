"""The demo's checkpoints in one folder, made in a process of its own like everything that opens a model.

`python -m demo.build FOLDER [--merged]` is that process: the sandbox runs functions of antidote_ci alone.
"""

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
    """`merged`: the fine-tune as a full checkpoint instead of an adapter."""

    folder: Path
    merged: bool


@dataclass(frozen=True)
class DemoCheckpoints:
    """What goes onto the loopback Hub."""

    reference: Path
    finetune: Path


def build_checkpoints(request: BuildRequest, report: OnProgress) -> DemoCheckpoints:
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
    return DemoCheckpoints(reference, finetune)


def build_apart(request: BuildRequest, log: Path, report: OnProgress) -> DemoCheckpoints:
    """`build_checkpoints` in a process of its own, which writes to `log`. Raises InfrastructureError where it fails."""
    command = [sys.executable, "-m", "demo.build", str(request.folder), *(["--merged"] if request.merged else [])]
    with log.open("wb") as output, subprocess.Popen(command, stdout=subprocess.PIPE, stderr=output) as process:
        try:
            for line in process.stdout or ():
                report(Progress(**json.loads(line)))
        except BaseException:
            process.kill()
            raise
    if process.returncode:
        raise InfrastructureError(
            f"the demo's models could not be made (exit {process.returncode})",
            cause="see its log",
            hint=f"the process's log is {log}",
        )
    return DemoCheckpoints(request.folder / "reference", request.folder / "finetune")


def main(arguments: Sequence[str]) -> None:
    """Build, and say how it gets on in JSON lines."""
    folder, *rest = arguments
    build_checkpoints(
        BuildRequest(Path(folder), merged=rest == ["--merged"]), lambda said: print(_line(said), flush=True)
    )


def _line(said: Progress) -> str:
    return json.dumps({"what": said.what, "done": said.done, "total": said.total})


if __name__ == "__main__":
    main(sys.argv[1:])
