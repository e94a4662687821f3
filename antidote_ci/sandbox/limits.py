"""A stranger's files, read by a framework where they can do little harm.

The process has no privileges. What may hang or grow runs in a fork of it with limits of time and memory.
"""

import ctypes
import json
import multiprocessing
import os
import resource
import signal
import sys
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

PR_CAPBSET_DROP, PR_SET_NO_NEW_PRIVS = 24, 38
CAPABILITY_VERSION = 0x20080522
"""The third: two words of 32 capabilities each for effective, permitted and inheritable ones."""
CAPABILITIES = 64


def drop_privileges() -> None:
    """Give up every capability of this thread, for good: no program that it starts gets one back.

    The root user without capabilities may neither read what other users keep to themselves nor look into a process that
    has any. https://man7.org/linux/man-pages/man7/capabilities.7.html. Raises OSError when the kernel refuses.
    """
    if sys.platform != "linux":
        return
    library = ctypes.CDLL(None, use_errno=True)
    for number in range(CAPABILITIES):
        library.prctl(PR_CAPBSET_DROP, number, 0, 0, 0)  # fails without privileges, and past the last one
    header, sets = (ctypes.c_uint32 * 2)(CAPABILITY_VERSION, 0), (ctypes.c_uint32 * 6)()
    for failed in (library.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), library.capset(header, sets)):
        if failed:
            raise OSError(ctypes.get_errno(), "the privileges of this process cannot be dropped")


def run_limited(work: Callable[[], Any], seconds: int, memory: int) -> Any | None:  # noqa: ANN401 - JSON
    """What `work` gives, which must be JSON; None when it ends without an answer.

    `seconds` of computing and `memory` bytes beyond what this process has already.
    """
    receiver, sender = multiprocessing.Pipe(duplex=False)
    # Not multiprocessing's Process: in the fork it closes standard input, which another thread may be reading.
    process = os.fork()
    if process == 0:
        try:
            _run_in_fork(sender, work, seconds, memory)
        finally:
            os._exit(0)
    sender.close()
    try:
        # What computes reaches its own limit long before, however busy the machine.
        return json.loads(receiver.recv_bytes()) if receiver.poll(60 + 10 * seconds) else None
    except EOFError:
        return None  # ended by a limit, or by a fault in a library
    finally:
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)
        receiver.close()


def _run_in_fork(sender: Connection, work: Callable[[], Any], seconds: int, memory: int) -> None:
    if sys.platform == "linux":
        limit = _address_space_bytes() + memory
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
    sender.send_bytes(json.dumps(work()).encode())


def _address_space_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    return pages * resource.getpagesize()
