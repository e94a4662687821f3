"""A stranger's text, read by a framework where it can do no harm: in a fork that has so much time and memory."""

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


def confined(work: Callable[[], Any], seconds: int, memory: int) -> Any | None:  # noqa: ANN401 - JSON
    """What `work` gives, which must be JSON; None when it ends without an answer.

    `seconds` of computing and `memory` bytes beyond what this process has already.
    """
    receiver, sender = multiprocessing.Pipe(duplex=False)
    # Not multiprocessing's Process: in the fork it closes standard input, which another thread may be reading.
    process = os.fork()
    if process == 0:
        try:
            _serve(sender, work, seconds, memory)
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


def _serve(sender: Connection, work: Callable[[], Any], seconds: int, memory: int) -> None:
    if sys.platform == "linux":
        limit = _address_space() + memory
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
    sender.send_bytes(json.dumps(work()).encode())


def _address_space() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    return pages * resource.getpagesize()
