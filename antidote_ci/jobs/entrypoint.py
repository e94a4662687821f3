"""Inside a Job: unpack what came along, run the command as anywhere, and send home how it ended, if someone waits.

The command is a process of its own and never learns the token. So whatever it prints is no parcel, and one that is
killed for its memory is still told of.
"""

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import FrameType

from antidote_ci.environment import hand_over
from antidote_ci.errors import InfrastructureError
from antidote_ci.jobs import input_bundle, result_stream
from antidote_ci.jobs.result_stream import JobResult

CLI = (sys.executable, "-P", "-m", "antidote_ci")
TOKEN_VARIABLE = "ANTIDOTE_JOB_TOKEN"  # noqa: S105 - the name of one
"""By which the Job's parcel is known; it opens nothing."""
OUT = "antidote-out"
"""Where the command leaves its results, relative to its working directory."""


def is_inside_job(environ: Mapping[str, str]) -> bool:
    """Whether this process is the first of a Job that a command of ours has started."""
    return TOKEN_VARIABLE in environ or input_bundle.VARIABLE in environ


def run_inside_job(arguments: Sequence[str], program: Sequence[str] = CLI) -> int:
    """Run `antidote-ci` with these arguments; its exit code, as shells count."""
    environment = dict(os.environ)
    token, packed = environment.pop(TOKEN_VARIABLE, None), environment.pop(input_bundle.VARIABLE, None)
    with tempfile.TemporaryDirectory(prefix="antidote-job-") as name:
        folder = Path(name)
        try:
            if packed is not None:
                input_bundle.unpack_bundle(packed, folder)
        except Exception as error:  # noqa: BLE001 - exit 1 would speak of the model
            sys.stderr.write(f"error: what came along with this Job cannot be unpacked: {error}\n")
            return InfrastructureError.exit_code
        code = _run_command([*program, *arguments], environment, folder)
        if token is None:
            return code
        lines = result_stream.encode_result(
            JobResult(code, _read_text(folder / OUT / "report.json"), _read_text(folder / OUT / "README.md")), token
        )
    # Whatever stands half written in this line of the log must not become part of the parcel.
    sys.stdout.write("\n" + "".join(f"{line}\n" for line in lines))
    sys.stdout.flush()
    return code


def _run_command(command: Sequence[str], environment: dict[str, str], folder: Path) -> int:
    with hand_over(environment) as (block, descriptors):
        child = subprocess.Popen(command, env=block, pass_fds=descriptors, cwd=folder)

    def forward(number: int, _: FrameType | None) -> None:
        child.send_signal(number)

    # Process 1 of a container ignores both unless it handles them, and the child hears of neither.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, forward)
    code = child.wait()
    return code if code >= 0 else 128 - code


def _read_text(path: Path) -> str | None:
    return path.read_bytes().decode("utf-8", "surrogateescape") if path.is_file() else None
