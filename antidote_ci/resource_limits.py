"""A fork with limited time and memory, for code that reads untrusted files."""

import gc
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

MAX_REPLY_BYTES = 256 << 20
"""Bytes of a result as JSON: the rendered texts of a large prompt set. More exceeds the limit."""


class LimitExceeded(Exception):
    """The work exceeded a limit, or crashed the process that ran it."""


class WorkFailed(Exception):
    """The work raised an exception of the class `kind`. Its message may be untrusted, so it is not passed on."""

    def __init__(self, kind: str) -> None:
        super().__init__(kind)
        self.kind = kind


def run_limited(work: Callable[[], object], seconds: int, memory: int) -> Any:  # noqa: ANN401 - JSON
    """Run `work` in a fork and return its result, which must be JSON.

    `seconds` limits its processor time, `memory` the bytes that it allocates, and it can write to no file. Raises
    LimitExceeded when it exceeds a limit, raises LimitExceeded itself, crashes, or replies with more than
    MAX_REPLY_BYTES; WorkFailed when it raises any other exception.
    """
    # Read before the fork: a confined process cannot read the /proc of another one.
    address_space = _address_space()
    receiver, sender = multiprocessing.Pipe(duplex=False)
    # Not multiprocessing.Process: in the fork it closes standard input, which another thread may be reading.
    process = os.fork()
    if process == 0:
        try:
            receiver.close()
            _run_in_fork(sender, work, seconds, address_space, memory)
        finally:
            os._exit(0)
    sender.close()
    reply: object = None
    try:
        # The fork ended without a reply; or untrusted code in it wrote one that is too long or no JSON.
        with suppress(EOFError, OSError, ValueError, RecursionError):
            # Work that computes reaches its own limit long before this timeout, also on a busy machine.
            if receiver.poll(60 + 10 * seconds):
                reply = json.loads(receiver.recv_bytes(MAX_REPLY_BYTES))
    finally:
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)
        receiver.close()
    match reply:
        case {"raised": str() as kind}:
            raise WorkFailed(kind)
        case {"result": result}:
            return result
        case _:
            raise LimitExceeded


def _address_space() -> int:
    """Bytes of this process's address space; 0 where the limit of memory is not applied."""
    if sys.platform != "linux":
        return 0
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()


def _run_in_fork(sender: Connection, work: Callable[[], object], seconds: int, address_space: int, memory: int) -> None:
    gc.freeze()  # memory that this process inherited and then frees would be added to the limit
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    if sys.platform == "linux":
        with suppress(OSError):  # unconfined, it can read its own size: other threads freed memory before the fork
            address_space = _address_space()
        resource.setrlimit(resource.RLIMIT_AS, (address_space + memory,) * 2)
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
    try:
        data = json.dumps({"result": work()}).encode()
    except (LimitExceeded, MemoryError):
        return
    except Exception as error:  # noqa: BLE001 - libraries can raise anything
        data = json.dumps({"raised": type(error).__name__}).encode()
    sender.send_bytes(data)
