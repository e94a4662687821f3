"""Limits for code that reads untrusted files: dropped privileges, and a fork with limited time and memory."""

import ctypes
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

PR_CAPBSET_DROP, PR_SET_NO_NEW_PRIVS = 24, 38
CAPABILITY_VERSION = 0x20080522
"""Version 3, with two 32-bit words each for the effective, permitted and inheritable capabilities."""
CAPABILITIES = 64


class LimitExceeded(Exception):
    """The work exceeded a limit, or crashed the process that ran it."""


class WorkFailed(Exception):
    """The work raised an exception of the class `kind`. Its message may be untrusted, so it is not passed on."""

    def __init__(self, kind: str) -> None:
        super().__init__(kind)
        self.kind = kind


def drop_privileges() -> None:
    """Drop all capabilities of this thread and of the programs that it starts, permanently.

    Without capabilities root cannot read the private files of other users, nor inspect a process that has any
    capability: https://man7.org/linux/man-pages/man7/capabilities.7.html. Raises OSError when the kernel refuses.
    """
    if sys.platform != "linux":
        return
    library = ctypes.CDLL(None, use_errno=True)
    for number in range(CAPABILITIES):
        library.prctl(PR_CAPBSET_DROP, number, 0, 0, 0)  # fails without privileges, and for unknown numbers
    header, sets = (ctypes.c_uint32 * 2)(CAPABILITY_VERSION, 0), (ctypes.c_uint32 * 6)()
    for failed in (library.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), library.capset(header, sets)):
        if failed:
            raise OSError(ctypes.get_errno(), "the privileges of this process cannot be dropped")


def run_limited(work: Callable[[], object], seconds: int, memory: int) -> Any:  # noqa: ANN401 - JSON
    """Run `work` in a fork and return its result, which must be JSON.

    `seconds` limits its processor time, `memory` the bytes that it allocates. Raises LimitExceeded when it exceeds one,
    raises LimitExceeded itself, or crashes; WorkFailed when it raises any other exception.
    """
    receiver, sender = multiprocessing.Pipe(duplex=False)
    # Not multiprocessing.Process: in the fork it closes standard input, which another thread may be reading.
    process = os.fork()
    if process == 0:
        try:
            _run_in_fork(sender, work, seconds, memory)
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


def _run_in_fork(sender: Connection, work: Callable[[], object], seconds: int, memory: int) -> None:
    if sys.platform == "linux":
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        limit = pages * resource.getpagesize() + memory
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
    try:
        reply = {"result": work()}
    except (LimitExceeded, MemoryError):
        return
    except Exception as error:  # noqa: BLE001 - libraries can raise anything
        reply = {"raised": type(error).__name__}
    sender.send_bytes(json.dumps(reply).encode())
