"""Runs a command, and samples the memory of its processes and the bytes that it holds on disk."""

import os
import subprocess
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

PROCESSES = Path("/proc")
MEMORY_INTERVAL = 0.2
"""Seconds between two samples of the memory."""
DISK_INTERVAL = 2.0
UNIT = 1024
BLOCK = 512
"""The unit of `st_blocks` in bytes."""


@dataclass(frozen=True)
class Usage:
    """What one command took."""

    exit_code: int
    seconds: float
    memory: int
    """Peak in bytes, over all processes, of the pages that cannot be dropped: RssAnon + RssShmem. Pages that two
    processes share after a fork, about 0.2 GB, count twice. Mapped files, which are the page cache, do not count."""
    disk: int
    """Peak in bytes of the files in the watched folder."""


def run_command(command: Sequence[str], folder: Path, environ: Mapping[str, str], log: Path) -> Usage:
    """Run `command` with its output in `log`, and watch its processes and `folder`."""
    started = time.monotonic()
    memory, disk, looked = 0, 0, 0.0
    with log.open("wb") as output:
        process = subprocess.Popen(command, env=environ, stdout=output, stderr=output)
        reaper = threading.Thread(target=process.wait)
        reaper.start()
        while reaper.is_alive():
            memory = max(memory, tree_memory(process.pid))
            if time.monotonic() - looked > DISK_INTERVAL:
                disk, looked = max(disk, folder_bytes(folder)), time.monotonic()
            reaper.join(MEMORY_INTERVAL)
    return Usage(process.returncode, time.monotonic() - started, memory, max(disk, folder_bytes(folder)))


def tree_memory(root: int) -> int:
    """Bytes of RssAnon + RssShmem of a process and all its descendants."""
    parents, sizes = dict[int, int](), dict[int, int]()
    for status in PROCESSES.glob("[0-9]*/status"):
        try:
            lines = dict(line.split(":", 1) for line in status.read_text().splitlines() if ":" in line)
        except OSError:  # the process has ended
            continue
        process = int(lines["Pid"])
        parents[process] = int(lines["PPid"])
        sizes[process] = sum(int(lines[name].split()[0]) * UNIT for name in ("RssAnon", "RssShmem") if name in lines)
    return sum(sizes.get(process, 0) for process in _descendants(root, parents))


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
