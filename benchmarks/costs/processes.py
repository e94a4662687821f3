"""Runs a command, and samples the memory of its processes and the bytes that it holds on disk."""

import os
import resource
import subprocess
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.speed.commands import VERDICT_CODES

PROCESSES = Path("/proc")
MEMORY_INTERVAL = 0.5
"""Seconds between two samples of the memory."""
DISK_INTERVAL = 2.0
UNIT = 1024
BLOCK = 512
"""The unit of `st_blocks` in bytes."""


@dataclass(frozen=True)
class Memory:
    """Memory of a tree of processes in bytes."""

    private: int
    """Pages that cannot be dropped: anonymous and shared memory."""
    resident: int
    """Also the mapped pages of files, such as weights in the dtype in which they run, and libraries."""


@dataclass(frozen=True)
class Usage:
    """What one command took."""

    exit_code: int
    seconds: float
    processor_seconds: float
    """Of all processes, user and system. Other work on the machine changes it little."""
    memory: Memory
    """The peak of each sum over the processes."""
    disk: int
    """Peak in bytes of the files in the watched folder."""


def run_command(command: Sequence[str], folder: Path, environ: Mapping[str, str], log: Path) -> Usage:
    """Run `command` with its output in `log`, and watch its processes and `folder`.

    Raises RuntimeError if it ends without a verdict: a failed command says nothing of its costs.
    """
    started, before = time.monotonic(), _used_by_children()
    private, resident, disk, looked = 0, 0, 0, 0.0
    with log.open("wb") as output:
        process = subprocess.Popen(command, env=environ, stdout=output, stderr=output)
        reaper = threading.Thread(target=process.wait)
        reaper.start()
        while reaper.is_alive():
            memory = tree_memory(process.pid)
            private, resident = max(private, memory.private), max(resident, memory.resident)
            if time.monotonic() - looked > DISK_INTERVAL:
                disk, looked = max(disk, folder_bytes(folder)), time.monotonic()
            reaper.join(MEMORY_INTERVAL)
    seconds, used = time.monotonic() - started, _used_by_children() - before
    if process.returncode not in VERDICT_CODES:
        raise RuntimeError(f"{' '.join(command)} ended with {process.returncode}: see {log}")
    return Usage(process.returncode, seconds, used, Memory(private, resident), max(disk, folder_bytes(folder)))


def _used_by_children() -> float:
    """Processor seconds of all processes that this one has waited for, and of theirs."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def tree_memory(root: int) -> Memory:
    """The memory of a process and all its descendants, each page once (PSS).

    Where the kernel does not allow to read that, pages that several processes share count in each.
    """
    tables = {int(folder.name): _read_sizes(folder / "status") for folder in PROCESSES.glob("[0-9]*")}
    private = resident = 0
    for process in _descendants(root, {process: table.get("PPid", 0) for process, table in tables.items()}):
        table = tables.get(process, {})
        rollup = _read_sizes(PROCESSES / str(process) / "smaps_rollup")
        private += UNIT * sum(rollup.get(f"Pss_{kind}", table.get(f"Rss{kind}", 0)) for kind in ("Anon", "Shmem"))
        resident += UNIT * rollup.get("Pss", table.get("VmRSS", 0))
    return Memory(private, resident)


def _read_sizes(table: Path) -> dict[str, int]:
    """The numbers of a table of /proc by name; empty if the process has ended or may not be looked at."""
    try:
        lines = [line.partition(":") for line in table.read_text().splitlines()]
    except OSError:
        return {}
    return {name: int(value.split()[0]) for name, _, value in lines if value.split() and value.split()[0].isdigit()}


def folder_bytes(folder: Path) -> int:
    """Bytes on disk of the files in a folder. An inode counts once, and not at all if it is also linked elsewhere."""
    sizes, links = dict[tuple[int, int], int](), dict[tuple[int, int], int]()
    expected = dict[tuple[int, int], int]()
    for parent, _, names in os.walk(folder):
        for name in names:
            try:
                status = os.lstat(os.path.join(parent, name))  # noqa: PTH118 - a walk over many files
            except FileNotFoundError:
                continue
            inode = (status.st_dev, status.st_ino)
            sizes[inode], expected[inode] = status.st_blocks * BLOCK, status.st_nlink
            links[inode] = links.get(inode, 0) + 1
    return sum(size for inode, size in sizes.items() if links[inode] >= expected[inode])


def _descendants(root: int, parents: Mapping[int, int]) -> Iterable[int]:
    tree = {root}
    while added := {process for process, parent in parents.items() if parent in tree} - tree:
        tree |= added
    return tree
