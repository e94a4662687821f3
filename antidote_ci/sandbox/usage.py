"""What a child and its forks use: memory, threads and disk space.

A child may have been taken over, so nothing here depends on what a process says about itself, such as its name.
"""

import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

THREADS_FIELD = 14
"""The number of threads in /proc/PID/stat, counted after the group."""
MEMORY_FIELDS = (b"RssAnon:", b"RssShmem:", b"VmSwap:")


@dataclass(frozen=True)
class Disk:
    """The disk of a folder, and the free bytes and files below which it is full."""

    name: str
    folder: Path
    min_bytes: int
    min_files: int

    def is_full(self) -> bool:
        status = os.statvfs(self.folder)
        return status.f_bavail * status.f_frsize < self.min_bytes or status.f_favail < self.min_files


def watch_disk(name: str, folder: Path, min_bytes: int, min_files: int) -> Disk:
    """The disk of `folder`, which is full at the latest when half of what is free now is left."""
    status = os.statvfs(folder)
    # A file system without a fixed number of files says that none is free.
    return Disk(
        name, folder, min(min_bytes, status.f_bavail * status.f_frsize // 2), min(min_files, status.f_favail // 2)
    )


@dataclass(frozen=True)
class GroupUse:
    """What a process group uses: nothing on systems without /proc, and after its end."""

    memory: list[int]
    """Bytes of each process without mapped files. A fork also counts the pages that it shares with its parent."""
    threads: int
    is_running: bool
    """False when all processes have ended, also while one still waits for its parent."""


def measure_group(leader: int) -> GroupUse:
    memory, threads, is_running = [], 0, False
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has ended
            # The name in parentheses, which the process chooses, may hold any byte.
            state, _parent, group, *numbers = (process / "stat").read_bytes().rpartition(b")")[2].split()
            if int(group) == leader:
                process_threads = int(numbers[THREADS_FIELD])
                threads += process_threads
                # The first thread can end before the others.
                is_running = is_running or state not in b"ZX" or process_threads > 1
                memory.append(_measure_memory(process))
    return GroupUse(memory, threads, is_running)


def _measure_memory(process: Path) -> int:
    """Bytes of a process, read from any thread that has not ended; 0 without one."""
    for thread in (process, *(process / "task").iterdir()):
        with suppress(OSError):
            lines = (thread / "status").read_bytes().split(b"\n")
            sizes = [int(line.split()[1]) << 10 for line in lines if line.startswith(MEMORY_FIELDS)]
            if sizes:
                return sum(sizes)
    return 0
