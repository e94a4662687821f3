"""Images that hold something else than they should, by what they do: `stand_in.py WHAT [FILE] ...`.

As our own image it finds in its environment by which token its parcel is known.
"""

import os
import signal
import sys
import time
from pathlib import Path

from antidote_ci.jobs import result_stream
from antidote_ci.jobs.entrypoint import TOKEN_VARIABLE
from antidote_ci.jobs.result_stream import JobResult


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def send(exit_code: int, report: str | None) -> int:
    """The parcel, as `inside` sends it."""
    say("\n".join(result_stream.encode_result(JobResult(exit_code, report, "# card\n"), os.environ[TOKEN_VARIABLE])))
    return exit_code


def main(what: str, given: str = "") -> int:
    say(f"evaluate the model ... {what}")
    match what:
        case "report":
            # Twenty lines, and time for a connection to break in.
            for number in range(20):
                say(f"line {number}")
                time.sleep(0.01)
            return send(int(given.partition(":")[0]), Path(given.partition(":")[2]).read_text())
        case "names":
            say(" ".join(sorted(name for name in os.environ if name.startswith(("HF_", "ANTIDOTE_")))))
            return send(2, None)
        case "error":
            return send(int(given), None)
        case "killed inside":
            return send(137, None)
        case "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        case "sleep":
            signal.signal(signal.SIGTERM, lambda *_: sys.exit(send(143, None)))
            time.sleep(60)
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:3]))
