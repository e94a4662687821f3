"""Start `antidote-ci` as a child process, and read its output."""

import os
import select
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from subprocess import PIPE, STDOUT, Popen

from antidote_ci.environment import start_child

PIPE_BYTES = 1024 * 1024
"""The capacity limit of a pipe for an unprivileged process."""
POLL_SECONDS = 0.2
"""How often a silent child is checked: it may be dead while another process keeps its pipe open."""


def start_command(command: Sequence[str], environment: Mapping[str, str]) -> Popen[bytes]:
    """Start a process whose standard error goes to its standard output, so that the order of lines is kept."""
    return start_child(command, environment, stdout=PIPE, stderr=STDOUT, bufsize=0)


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
