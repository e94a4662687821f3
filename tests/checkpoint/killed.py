"""Repairs a checkpoint in processes that are killed, each at another step, and repeats the call after each kill.

`python -m tests.checkpoint.killed SOURCE DESTINATION fresh|replace some|all` writes a line for each process: the step,
what an observer of DESTINATION sees after the kill, whether the repeated call ends in the bytes of a call that was
never killed, and how many tensors it still had to edit.
"""

import json
import os
import shutil
import signal
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from antidote_ci.checkpoint.files import sha256_file
from antidote_ci.checkpoint.layout import read_layout
from antidote_ci.checkpoint.tensors import ChunkEdit, read_tensor
from antidote_ci.checkpoint.writer import complete_checkpoint, write_checkpoint
from tests.checkpoint.whole_tensors import replace_with

if TYPE_CHECKING:
    from _typeshed import FileDescriptorLike

RENAME = "os.rename"
EVENTS = ("open", "os.mkdir", RENAME, "os.remove", "os.rmdir", "shutil.rmtree")
"""Audit events that precede a change on the disk."""
APART = 9
"""With `some`, every ninth step that is no rename is killed."""

Step = tuple[str, int]
"""The kind of a step and its number within the kind: two threads write, so only steps of one kind are ordered."""


def repair(source: Path, destination: Path, version: str, step: Callable[[str], None]) -> None:
    layout = read_layout(source)
    matrices = {name for name, info in layout.tensors.items() if len(info.shape) == 2}

    def edit(name: str) -> ChunkEdit:
        step("edit")
        tensor = read_tensor(layout, name)
        return replace_with(torch.zeros_like(tensor) if version == "new" else tensor)

    written = write_checkpoint(layout, destination, matrices, edit, version, lambda _progress: step("written"))
    manifest = {"version": version, "files": {file.path: file.sha256_out for file in written.files}}
    complete_checkpoint(destination, json.dumps(manifest))


def seen(destination: Path) -> str:
    """Return `old` or `new` when every file matches the manifest, else `absent` or a description of the problem."""
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


def hashes(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): sha256_file(path) for path in folder.rglob("*") if path.is_file()}


def in_a_process(source: Path, destination: Path, last: Step | None) -> Counter[str]:
    """Repair in a forked process that is killed at step `last`; return its steps if it finished."""
    reader, writer = os.pipe()
    child = os.fork()
    if child:
        os.close(writer)
        with os.fdopen(reader) as answer:
            text = answer.read()
        os.waitpid(child, 0)
        return Counter(json.loads(text or "{}"))
    steps: Counter[str] = Counter()

    def step(kind: str) -> None:
        steps[kind] += 1
        if (kind, steps[kind]) == last:
            os.kill(os.getpid(), signal.SIGKILL)

    def hook(event: str, values: tuple[object, ...]) -> None:
        if event in EVENTS and values and str(values[0]).startswith(str(destination)):
            step(event)

    flush = os.fsync

    def counted(fd: "FileDescriptorLike") -> None:
        step("os.fsync")
        flush(fd)

    os.fsync = counted
    sys.addaudithook(hook)
    repair(source, destination, "new", step)
    os.write(writer, json.dumps(steps).encode())
    os._exit(0)


def main(source: Path, destination: Path, mode: str, how_many: str) -> None:
    torch.set_num_threads(1)
    old = destination.with_name("old")
    repair(source, old, "old", lambda _kind: None)

    def start_anew() -> None:
        shutil.rmtree(destination, ignore_errors=True)
        if mode == "replace":
            shutil.copytree(old, destination)

    start_anew()
    counts = in_a_process(source, destination, None)
    expected = hashes(destination)
    steps = [(kind, number + 1) for kind, count in counts.items() for number in range(count)]
    if how_many == "some":
        others = [step for step in steps if step[0] != RENAME]
        steps = [step for step in steps if step[0] == RENAME or step in others[::APART]]
    for step in steps:
        start_anew()
        assert not in_a_process(source, destination, step)
        after_kill = seen(destination)
        edits: Counter[str] = Counter()
        repair(source, destination, "new", lambda kind, edits=edits: edits.update([kind]))  # type: ignore[misc]
        ending = "same" if hashes(destination) == expected else "other"
        sys.stdout.write(f"{step[0]} {step[1]} {after_kill} {ending} {edits['edit']}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], sys.argv[4])
