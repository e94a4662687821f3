"""The command line inside the test process, or in a process of its own, which imports torch and so takes seconds."""

import os
import signal
import subprocess
import sys
from contextlib import ExitStack, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from unittest.mock import patch

from huggingface_hub import constants

from antidote_ci.cli import app
from antidote_ci.cli.ending import SIGNALS, exit_code
from antidote_ci.records import Report, from_json
from loopback_hub.strictness import read_strictness


@dataclass(frozen=True)
class FinishedCommand:
    """The exit code and the output of a command."""

    returncode: int
    stdout: str
    stderr: str


def run_command(*arguments: str, **environment: str) -> FinishedCommand:
    """Run `antidote-ci` with further environment variables. Models still run in a child process."""
    stdout, stderr = StringIO(), StringIO()
    handlers = {number: signal.getsignal(number) for number in SIGNALS}
    with ExitStack() as stack:
        stack.enter_context(patch.dict(os.environ, environment))
        stack.enter_context(patch.object(constants, "HF_HUB_DISABLE_XET", not read_strictness().has_xet))
        if "HF_HOME" in environment:
            # huggingface_hub reads the variable once, when it is imported.
            stack.enter_context(patch.object(constants, "HF_HUB_CACHE", str(Path(environment["HF_HOME"]) / "hub")))
        stack.enter_context(redirect_stdout(stdout))
        stack.enter_context(redirect_stderr(stderr))
        try:
            code = exit_code(
                lambda: app(list(arguments), prog_name="antidote-ci", standalone_mode=False), "antidote-ci COMMAND"
            )
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)
    assert code is None or isinstance(code, int), code
    return FinishedCommand(code or 0, stdout.getvalue(), stderr.getvalue())


def start_command(*arguments: str, **environment: str) -> "subprocess.Popen[str]":
    """Start `antidote-ci` with further environment variables in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "antidote_ci", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | environment,
    )


def wait_for_step(process: "subprocess.Popen[str]", step: str) -> None:
    """Wait until the command begins a step."""
    written = ""
    while f"{step} ..." not in written:
        assert process.stderr is not None
        line = process.stderr.readline()
        assert line, written
        written += line


def finish_command(process: "subprocess.Popen[str]") -> FinishedCommand:
    """Wait until the command ends."""
    stdout, stderr = process.communicate(timeout=240)
    return FinishedCommand(process.returncode, stdout, stderr)


def read_report(out: Path) -> Report:
    """Read the report in an output folder."""
    return from_json(Report, (out / "report.json").read_bytes())
