"""The image's entry point: `antidote-ci` itself with arguments, the GitHub Action without."""

import json
import os
import secrets
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import FrameType
from typing import Any

from action import inputs, outputs

# -P: the workspace is the working directory, and no module is ever taken from there.
CLI = (sys.executable, "-P", "-m", "antidote_ci")
USAGE = 2
INFRASTRUCTURE = 3


def main() -> int:
    """Exit code of the run."""
    given = any(name.startswith("INPUT_") for name in os.environ)
    if len(sys.argv) > 1 or not given:
        # The command line takes this process over: signals and the exit code need no go-between.
        os.execv(CLI[0], [*CLI, *(sys.argv[1:] or ["--help"])])  # noqa: S606 - no shell is wanted
    try:
        arguments = inputs.arguments(os.environ)
    except ValueError as error:
        say(outputs.error(str(error)))
        publish(None, USAGE, inputs.out(os.environ))
        return USAGE
    return act(arguments, inputs.environment(os.environ), Path(inputs.out(os.environ)))


def act(arguments: list[str], environment: Mapping[str, str], out: Path) -> int:
    """Run `antidote-ci`, then tell GitHub how it ended; its exit code."""
    if environment.get("GITHUB_ACTIONS") == "true":  # elsewhere it would print what it is to hide
        for name in inputs.TOKENS.values():
            if token := environment.get(name):
                say(outputs.mask(token))
    before = stamp(out / "report.json")
    exit_code = run([*CLI, *arguments], environment)
    try:
        report = load(out / "report.json", before)
        line = outputs.annotation(report, exit_code)
    except ValueError as error:
        report, exit_code = None, exit_code or INFRASTRUCTURE
        line = outputs.error(f"{out / 'report.json'} cannot be read: {error}")
    publish(report, exit_code, str(out))
    if line is not None:
        say(line)
    return exit_code


def run(command: list[str], environment: Mapping[str, str]) -> int:
    """The exit code of a child whose lines the runner shows but never obeys; 128 + N on signal N.

    Its standard error joins its standard output: two pipes would reach the runner in no fixed
    order, and a last line could arrive after commands are obeyed again.
    """
    token = secrets.token_hex(16)
    say(outputs.stop_commands(token))
    child = subprocess.Popen(command, env=environment, stderr=subprocess.STDOUT)

    def forward(number: int, _: FrameType | None) -> None:
        child.send_signal(number)

    # Process 1 of a container ignores both unless it handles them, and the child hears of neither.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, forward)
    code = child.wait()
    say(outputs.resume_commands(token))
    return code if code >= 0 else 128 - code


def stamp(path: Path) -> tuple[int, int] | None:
    """What changes when a file is replaced: a report left by an earlier step is not this run's."""
    return (path.stat().st_ino, path.stat().st_mtime_ns) if path.exists() else None


def load(path: Path, before: tuple[int, int] | None) -> dict[str, Any] | None:
    """The report this run wrote, if it did; raises ValueError when it is not a JSON object."""
    if stamp(path) == before:
        return None
    report = json.loads(path.read_bytes())
    if not isinstance(report, dict):
        raise ValueError("not a JSON object")
    return report


def publish(report: dict[str, Any] | None, exit_code: int, out: str) -> None:
    """Write the outputs, and the summary where this run made one."""
    values = outputs.outputs(report, exit_code, out)
    append("GITHUB_OUTPUT", outputs.render_outputs(values, secrets.token_hex(16)))
    summary = Path(out) / "summary.md"
    if report is not None and summary.is_file():
        target = Path(os.environ.get("GITHUB_STEP_SUMMARY", ""))
        used = target.stat().st_size if target.is_file() else 0
        text = summary.read_text(encoding="utf-8", errors="replace")
        append("GITHUB_STEP_SUMMARY", outputs.summary(text, used))


def append(variable: str, text: str) -> None:
    """Append to the file that GitHub names in `variable`; outside of GitHub there is none."""
    if path := os.environ.get(variable):
        # A lone surrogate in a report must not cost the other outputs.
        with Path(path).open("ab") as file:
            file.write(text.encode("utf-8", "replace"))


def say(line: str) -> None:
    """One line for the runner, at once: the child writes to the same stream."""
    sys.stdout.buffer.write(line.encode("utf-8", "replace") + b"\n")
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    sys.exit(main())
