"""The child that runs `antidote-ci`: the signals it is owed, its output as it comes, and how it ended."""

import os
import select
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from subprocess import PIPE, STDOUT, Popen
from types import FrameType

from antidote_ci.environment import hand_over

PIPE_BYTES = 1024 * 1024
"""The most that a pipe of an unprivileged process holds."""
POLL_SECONDS = 0.2
"""How often a silent child is looked at: it may be dead while another process keeps its pipe open."""


def start_child(command: Sequence[str], environment: Mapping[str, str]) -> Popen[bytes]:
    """A process whose standard error joins its standard output: two pipes would be read in no fixed order.

    SIGINT and SIGTERM are forwarded: process 1 of a container ignores both unless it handles them, and the child
    hears of neither.
    """
    early: list[int] = []
    forward: Callable[[int], None] = early.append

    def hear(number: int, _: FrameType | None) -> None:
        forward(number)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, hear)
    with hand_over(environment) as (block, descriptors):
        process = Popen(command, env=block, pass_fds=descriptors, stdout=PIPE, stderr=STDOUT, bufsize=0)
    forward = process.send_signal
    for missed in early:
        process.send_signal(missed)
    return process


def read_output(process: "Popen[bytes]") -> Iterator[bytes]:
    """What it writes until it is dead, in pieces of at most PIPE_BYTES."""
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
    """Waits for its end; 128 + N when signal N killed it."""
    with process:  # which closes the pipe
        code = process.wait()
    return code if code >= 0 else 128 - code
