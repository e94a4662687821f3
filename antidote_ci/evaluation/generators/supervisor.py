"""Runs a command in its own session and ends the whole session when standard input closes.

Standard input closes when the parent stops the server, and also when the parent is killed.
"""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time

from antidote_ci.sandbox.limits import drop_privileges

GRACE_SECONDS = 10
"""Seconds between SIGTERM and SIGKILL."""


def main(command: list[str]) -> int:
    """Run the command and return its exit status as a shell does: 128 plus the number of a signal."""
    drop_privileges()
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True) as process:
        threading.Thread(target=_end_group_after_input, args=(process.pid,), daemon=True).start()
        status = process.wait()
        _signal_group(process.pid, signal.SIGKILL)  # remaining processes of the session
    return status if status >= 0 else 128 - status


def _end_group_after_input(group: int) -> None:
    # Not sys.stdin: at exit the interpreter aborts on the lock that a blocked reader holds.
    while os.read(0, 1024):
        pass
    _signal_group(group, signal.SIGTERM)
    time.sleep(GRACE_SECONDS)
    _signal_group(group, signal.SIGKILL)


def _signal_group(group: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, number)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
