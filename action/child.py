"""Start `antidote-ci` as a child process, forward signals to it, and read its output and exit code."""

import os
import select
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from subprocess import PIPE, STDOUT, Popen
from types import FrameType

from antidote_ci.environment import hand_over

PIPE_BYTES = 1024 * 1024
"""The capacity limit of a pipe for an unprivileged process."""
POLL_SECONDS = 0.2
"""How often a silent child is checked: it may be dead while another process keeps its pipe open."""


def start_child(command: Sequence[str], environment: Mapping[str, str]) -> Popen[bytes]:
    """Start a process whose standard error goes to its standard output, so that the order of lines is kept.

    SIGINT and SIGTERM are forwarded to it: process 1 of a container ignores both unless it has a handler, and the child
    does not receive them.
    """
    early: list[int] = []
    forward: Callable[[int], None] = early.append

    def handle(number: int, _: FrameType | None) -> None:
        forward(number)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, handle)
    with hand_over(environment) as (block, descriptors):
        process = Popen(command, env=block, pass_fds=descriptors, stdout=PIPE, stderr=STDOUT, bufsize=0)
    forward = process.send_signal
    for missed in early:
        process.send_signal(missed)
    return process


def read_output(process: "Popen[bytes]") -> Iterator[bytes]:
    """The output of the process until its end, in pieces of at most PIPE_BYTES."""
    if process.stdout is None:
        raise ValueError("a process without a pipe")
    pipe = process.stdout.fileno()
    while process.poll() is None:
        if select.select([pipe], [], [], POLL_SECONDS)[0]:
            data = os.read(pipe, PIPE_BYTES)
            if not data:
                return
            yield data
    os.set_blocking(pipe, False)
    with suppress(BlockingIOError):
        yield os.read(pipe, PIPE_BYTES)


def wait_exit_code(process: "Popen[bytes]") -> int:
    """Wait for the end of the process. Returns its exit code, or 128 + N when signal N killed it."""
    with process:  # closes the pipe
        code = process.wait()
    return code if code >= 0 else 128 - code
