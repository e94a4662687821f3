"""Hide the environment of this process from other processes of the same user, and start processes that do the same.

Linux shows the environment with which a program started in /proc/PID/environ, also to the process that runs an
untrusted model. So `protect` erases that block, and `hand_over` passes variables to further processes in an anonymous
file. Other systems do not show it, and nothing is erased there.

https://man7.org/linux/man-pages/man5/proc_pid_environ.5.html
https://man7.org/linux/man-pages/man2/PR_SET_DUMPABLE.2const.html
"""

import ctypes
import json
import os
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from subprocess import Popen

DESCRIPTOR_VARIABLE = "ANTIDOTE_ENVIRONMENT_DESCRIPTOR"
"""The number of the file descriptor from which `protect` reads further variables."""
EARLY = ("PATH", "HOME", "TMPDIR", "TZ", "LANG")
EARLY_PREFIXES = ("LC_", "LD_", "PYTHON", "COVERAGE_")
"""Variables that a program needs before its own code runs. The others are handed over in the file."""
PR_SET_DUMPABLE = 4
ENVIRONMENT_START, ENVIRONMENT_END = 47, 48
"""Fields of /proc/self/stat after the program's name: the addresses of the block's first byte and of its end."""


def protect() -> None:
    """Read the variables that were handed over, erase the environment block, and make the process non-dumpable.

    `os.environ` and getenv(3) keep every value. Must run before the first thread and the first child process.
    """
    descriptor = os.environ.pop(DESCRIPTOR_VARIABLE, None)
    if descriptor is not None:
        with os.fdopen(int(descriptor), "rb") as file:
            os.environ.update(json.load(file))
    if sys.platform == "linux":
        _erase_environment_block()
    refuse_inspection()


def refuse_inspection() -> None:
    """Let no process read or change the memory of this one without the capability to trace any process."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)


@contextmanager
def hand_over(environ: Mapping[str, str]) -> Iterator[tuple[dict[str, str], tuple[int, ...]]]:
    """The environment block for a process that calls `protect`, and the file descriptors that it must inherit."""
    if sys.platform != "linux":
        yield dict(environ), ()
        return
    block = {name: value for name, value in environ.items() if name in EARLY or name.startswith(EARLY_PREFIXES)}
    rest = {name: value for name, value in environ.items() if name not in block}
    with os.fdopen(os.memfd_create("environment"), "wb", buffering=0) as file:
        file.write(json.dumps(rest).encode())
        file.seek(0)
        yield {**block, DESCRIPTOR_VARIABLE: str(file.fileno())}, (file.fileno(),)


def start_child(command: Sequence[str], environ: Mapping[str, str], **options: Any) -> "Popen[bytes]":  # noqa: ANN401 - of Popen
    """Start a process that calls `protect`, and forward SIGINT and SIGTERM to it.

    Process 1 of a container ignores both signals unless it has a handler, and the child does not receive them.
    """
    import subprocess

    early: list[int] = []
    forward: Callable[[int], None] = early.append

    def handle(number: int, _: FrameType | None) -> None:
        forward(number)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, handle)
    with hand_over(environ) as (block, descriptors):
        process = subprocess.Popen(command, env=block, pass_fds=descriptors, **options)
    forward = process.send_signal
    for missed in early:
        process.send_signal(missed)
    return process


def wait_exit_code(process: "Popen[bytes]") -> int:
    """Wait for the end of the process. Returns its exit code, or 128 + N when signal N killed it."""
    with process:  # closes its pipes
        code = process.wait()
    return code if code >= 0 else 128 - code


def _erase_environment_block() -> None:
    # setenv(3) copies each variable out of the block, so that libraries still find it.
    for name, value in os.environ.items():
        os.putenv(name, value)
    fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    start, end = int(fields[ENVIRONMENT_START]), int(fields[ENVIRONMENT_END])
    ctypes.memset(start, 0, end - start)
