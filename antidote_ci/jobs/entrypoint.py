"""Entry point inside a Job: unpack its files, run the command, and send its result through the log.

The command is a child process that does not know the token: its output cannot imitate a result, and a result is sent
even when the command is killed for lack of memory.
"""

import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from antidote_ci.environment import start_child, wait_exit_code
from antidote_ci.errors import InfrastructureError
from antidote_ci.jobs import transfer
from antidote_ci.jobs.transfer import FILES_VARIABLE, TOKEN_VARIABLE, JobResult
from antidote_ci.paths import open_below

CLI = (sys.executable, "-P", "-m", "antidote_ci")
OUT = "antidote-out"
"""Output folder of the command, relative to its working directory."""


def is_inside_job(environ: Mapping[str, str]) -> bool:
    """Whether this process is the first one of a Job that antidote-ci started."""
    return TOKEN_VARIABLE in environ or FILES_VARIABLE in environ


def run_inside_job(arguments: Sequence[str], program: Sequence[str] = CLI) -> int:
    """Run `antidote-ci` with these arguments. Returns its exit code, or 128 + N when signal N killed it."""
    environment = dict(os.environ)
    token, packed = environment.pop(TOKEN_VARIABLE, None), environment.pop(FILES_VARIABLE, None)
    with tempfile.TemporaryDirectory(prefix="antidote-job-") as name:
        folder = Path(name)
        try:
            if packed is not None:
                transfer.unpack_files(packed, folder)
        except Exception as error:  # noqa: BLE001 - exit code 1 would mean that the model fails
            sys.stderr.write(f"error: the files of this Job cannot be unpacked: {error}\n")
            return InfrastructureError.exit_code
        code = wait_exit_code(start_child([*program, *arguments], environment, cwd=folder))
        if token is None:
            return code
        lines = transfer.encode_result(
            JobResult(code, _read_text(folder, "report.json"), _read_text(folder, "README.md")), token
        )
    # The result must not continue an incomplete line of the log.
    sys.stdout.write("\n" + "".join(f"{line}\n" for line in lines))
    sys.stdout.flush()
    return code


def _read_text(folder: Path, name: str) -> str | None:
    """A file of the output folder; None when there is none, or a link."""
    try:
        with open_below(folder, f"{OUT}/{name}") as file:
            return file.read().decode("utf-8", "surrogateescape")
    except OSError:
        return None
