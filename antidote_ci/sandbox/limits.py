"""A fork with limited time and memory, for code that reads untrusted files."""

import json
import multiprocessing
import os
import resource
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any


class LimitExceeded(Exception):
    """The work exceeded a limit, or crashed the process that ran it."""


class WorkFailed(Exception):
    """The work raised an exception of the class `kind`. Its message may be untrusted, so it is not passed on."""

    def __init__(self, kind: str) -> None:
        super().__init__(kind)
        self.kind = kind


def run_limited(work: Callable[[], object], seconds: int, memory: int) -> Any:  # noqa: ANN401 - JSON
    """Run `work` in a fork and return its result, which must be JSON.

    `seconds` limits its processor time, `memory` the bytes that it allocates. Raises LimitExceeded when it exceeds one,
    raises LimitExceeded itself, or crashes; WorkFailed when it raises any other exception.
    """
    receiver, sender = multiprocessing.Pipe(duplex=False)
    # Read before the fork: the child of the sandbox may read its own entries of /proc, not those of the fork.
    mapped = _mapped_bytes()
    # Not multiprocessing.Process: in the fork it closes standard input, which another thread may be reading.
    process = os.fork()
    if process == 0:
        try:
            _run_in_fork(sender, work, seconds, mapped + memory)
        finally:
            os._exit(0)
    sender.close()
    reply: dict[str, Any] = {}
    try:
        with suppress(EOFError):  # the fork ended without a reply
            # Work that computes reaches its own limit long before this timeout, also on a busy machine.
            if receiver.poll(60 + 10 * seconds):
                reply = json.loads(receiver.recv_bytes())
    finally:
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)
        receiver.close()
    if "raised" in reply:
        raise WorkFailed(reply["raised"])
    if "result" not in reply:
        raise LimitExceeded
    return reply["result"]


def _mapped_bytes() -> int:
    if sys.platform != "linux":
        return 0
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()


def _run_in_fork(sender: Connection, work: Callable[[], object], seconds: int, mapped: int) -> None:
    if sys.platform == "linux":
        resource.setrlimit(resource.RLIMIT_AS, (mapped, mapped))
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
    try:
        reply = {"result": work()}
    except (LimitExceeded, MemoryError):
        return
    except Exception as error:  # noqa: BLE001 - libraries can raise anything
        reply = {"raised": type(error).__name__}
    sender.send_bytes(json.dumps(reply).encode())
