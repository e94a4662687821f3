"""The program of a fake image: `fake_image.py BEHAVIOUR [VALUE]`. It may send a result, as the real image does."""

import os
import signal
import sys
import time
from pathlib import Path

from antidote_ci.jobs.transfer import TOKEN_VARIABLE, JobResult, encode_result


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def send(exit_code: int, report: str | None) -> int:
    """Send a result as `jobs.entrypoint` does."""
    say("\n".join(encode_result(JobResult(exit_code, report, "# card\n"), os.environ[TOKEN_VARIABLE])))
    return exit_code


def main(behaviour: str, value: str = "") -> int:
    say(f"evaluate the model ... {behaviour}")
    match behaviour:
        case "report":
            # Many lines, so that a connection can break between them.
            for number in range(20):
                say(f"line {number}")
                time.sleep(0.01)
            return send(int(value.partition(":")[0]), Path(value.partition(":")[2]).read_text())
        case "names":
            say(" ".join(sorted(name for name in os.environ if name.startswith(("HF_", "ANTIDOTE_")))))
            return send(2, None)
        case "error":
            return send(int(value), None)
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
