"""Runs a command in a session of its own, and ends it with all that it started when standard input ends.

That is when the parent asks for it, and when the parent dies in whichever way.
"""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time

from antidote_ci.sandbox.limits import drop_privileges

SECONDS_TO_END = 10


def main(command: list[str]) -> int:
    """The command's exit status as a shell gives it: 128 and more for a signal."""
    drop_privileges()
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True) as process:
        threading.Thread(target=_end_group_after_input, args=(process.pid,), daemon=True).start()
        status = process.wait()
        _signal_group(process.pid, signal.SIGKILL)  # what it left behind
    return status if status >= 0 else 128 - status


def _end_group_after_input(group: int) -> None:
    # Not sys.stdin: at exit the interpreter aborts over the lock that a waiting reader holds.
    while os.read(0, 1024):
        pass
    _signal_group(group, signal.SIGTERM)
    time.sleep(SECONDS_TO_END)
    _signal_group(group, signal.SIGKILL)


def _signal_group(group: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, number)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
