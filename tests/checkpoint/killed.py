"""Writes a repaired checkpoint in processes that are killed, one after each step, and says what each leaves.

`python -m tests.checkpoint.killed SOURCE DESTINATION fresh|replace` writes one word for each process, killed after its
first, second, ... step: what an observer of DESTINATION then sees.
"""

import json
import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import torch

from antidote_ci.checkpoint.files import sha256_file
from antidote_ci.checkpoint.layout import inspect
from antidote_ci.checkpoint.writer import finish, write_checkpoint

STEPS = ("open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "shutil.rmtree")
"""Audit events of the interpreter that come before something happens on the disk."""


def repair(source: Path, destination: Path, version: str, step: Callable[[], None]) -> None:
    def edit(_name: str, tensor: torch.Tensor) -> torch.Tensor:
        step()
        return torch.zeros_like(tensor) if version == "new" else tensor

    files = write_checkpoint(inspect(source), destination, edit, lambda _progress: step())
    manifest = {"version": version, "files": {file.path: file.sha256_out for file in files}}
    finish(destination, json.dumps(manifest))


def seen(destination: Path) -> str:
    """`old` or `new` when every file is what the manifest says, `absent`, or what is wrong."""
    if not destination.exists():
        return "absent"
    path = destination / "antidote" / "manifest.json"
    if not path.exists():
        return "no-manifest"
    manifest = json.loads(path.read_text())
    for name, digest in manifest["files"].items():
        if not (destination / name).exists() or sha256_file(destination / name) != digest:
            return f"broken-{name}"
    return str(manifest["version"])


def run_until(last: int, source: Path, destination: Path) -> bool:
    """Repair in a forked process killed at its step number `last`; whether it came to an end before that."""
    child = os.fork()
    if child:
        return os.WIFEXITED(os.waitpid(child, 0)[1])
    steps = 0

    def step() -> None:
        nonlocal steps
        steps += 1
        if steps == last:
            os.kill(os.getpid(), signal.SIGKILL)

    def hook(event: str, values: tuple[object, ...]) -> None:
        if event in STEPS and values and str(values[0]).startswith(str(destination)):
            step()

    sys.addaudithook(hook)
    repair(source, destination, "new", step)
    os._exit(0)


def main(source: Path, destination: Path, mode: str) -> None:
    torch.set_num_threads(1)
    last, ended = 0, False
    while not ended:
        last += 1
        if destination.exists():
            shutil.rmtree(destination)
        if mode == "replace":
            # also sweeps up what the killed process before left
            repair(source, destination, "old", lambda: None)
        ended = run_until(last, source, destination)
        sys.stdout.write(seen(destination) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])
