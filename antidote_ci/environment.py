"""The environment of a process, kept from other processes of the same user.

The kernel shows the environment with which a program started in /proc/PID/environ, to a process that runs a stranger's
model as well. So a process of ours first erases it there, and starts further processes of ours with the variables in a
file that has no name. Only Linux shows an environment in this way, so nothing is erased elsewhere.

https://man7.org/linux/man-pages/man5/proc_pid_environ.5.html
https://man7.org/linux/man-pages/man2/PR_SET_DUMPABLE.2const.html
"""

import ctypes
import json
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

DESCRIPTOR_VARIABLE = "ANTIDOTE_ENVIRONMENT_DESCRIPTOR"
"""The number of the file descriptor from which `protect` reads further variables."""
EARLY = ("PATH", "HOME", "TMPDIR", "TZ", "LANG", "LC_", "LD_", "PYTHON", "COVERAGE_")
"""Beginnings of the variables that a program needs before its own code runs. The others are handed over."""
PR_SET_DUMPABLE = 4
ENVIRONMENT_START, ENVIRONMENT_END = 47, 48
"""Fields of /proc/self/stat after the program's name: the addresses of the first byte and of the end."""


def protect() -> None:
    """Read the variables that were handed over, erase the environment block, and forbid others to read our memory.

    `os.environ` and getenv(3) keep every value. Must run before the first thread and the first other process.
    """
    descriptor = os.environ.pop(DESCRIPTOR_VARIABLE, None)
    if descriptor is not None:
        with os.fdopen(int(descriptor), "rb") as file:
            os.environ.update(json.load(file))
    if sys.platform == "linux":
        _erase_environment_block()
        ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)


@contextmanager
def hand_over(environ: Mapping[str, str]) -> Iterator[tuple[dict[str, str], tuple[int, ...]]]:
    """The environment block for a process that calls `protect`, and the descriptors that it must inherit."""
    if sys.platform != "linux":
        yield dict(environ), ()
        return
    block = {name: value for name, value in environ.items() if name.startswith(EARLY)}
    rest = {name: value for name, value in environ.items() if name not in block}
    with os.fdopen(os.memfd_create("environment"), "wb", buffering=0) as file:
        file.write(json.dumps(rest).encode())
        file.seek(0)
        yield {**block, DESCRIPTOR_VARIABLE: str(file.fileno())}, (file.fileno(),)


def _erase_environment_block() -> None:
    # setenv(3) copies each variable out of the block, so that libraries still find it.
    for name, value in os.environ.items():
        os.putenv(name, value)
    fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    start, end = int(fields[ENVIRONMENT_START]), int(fields[ENVIRONMENT_END])
    ctypes.memset(start, 0, end - start)
