"""The image's entry point: `antidote-ci` itself with arguments, the GitHub Action without."""

import json
import os
import secrets
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from action import child, commands, inputs, log, outputs
from antidote_ci import environment

NAME = "antidote-ci"
# -P: the workspace is the working directory, and no module is ever taken from there.
CLI = (sys.executable, "-P", "-m", "antidote_ci")
USAGE = 2
INFRASTRUCTURE = 3


def main() -> int:
    """Exit code of the run."""
    environment.protect()
    # An HF Job may keep the entry point before a command that names the program.
    given = sys.argv[2:] if sys.argv[1:2] == [NAME] else sys.argv[1:]
    if given or not any(name.startswith("INPUT_") for name in os.environ):
        # The command line takes this process over: signals and the exit code need no go-between.
        os.execv(CLI[0], [*CLI, *(given or ["--help"])])  # noqa: S606 - no shell is wanted
    if os.environ.get("GITHUB_ACTIONS") == "true":  # elsewhere it would print what it is to hide
        for secret in sorted(inputs.list_secrets(os.environ)):
            for mask in commands.mask_commands(secret):
                print_line(mask)
    try:
        arguments = inputs.cli_arguments(os.environ)
    except ValueError as error:
        return finish_step(None, USAGE, inputs.output_folder(os.environ), [str(error)])
    return run_action(arguments, os.environ)


def run_action(arguments: Sequence[str], environ: Mapping[str, str]) -> int:
    """Run `antidote-ci`, then tell GitHub how it ended; its exit code."""
    out = Path(inputs.output_folder(environ))
    before = file_stamp(out / "report.json")
    exit_code, told = run_child([*CLI, *arguments], environ)
    try:
        report = load_report(out / "report.json", before)
    except (OSError, ValueError) as error:
        report, exit_code = None, exit_code or INFRASTRUCTURE
        told = [f"{out / 'report.json'} cannot be read: {error}", *told]
    return finish_step(report, exit_code, str(out), told)


def finish_step(report: dict[str, Any] | None, exit_code: int, out: str, told: Sequence[str]) -> int:
    """Say how it ended, then write it down; the step's exit code, 3 where only the writing failed."""
    if exit_code != 0:
        print_line(outputs.build_annotation(report, exit_code, told))
    try:
        write_outputs(report, exit_code, out)
    except OSError as error:
        exit_code = exit_code or INFRASTRUCTURE
        print_line(outputs.build_annotation(None, exit_code, [f"the step's outputs cannot be written: {error}"]))
    return exit_code


def run_child(command: Sequence[str], environ: Mapping[str, str]) -> tuple[int, list[str]]:
    """The exit code of a child whose lines the runner shows but never obeys, and what it says went wrong."""
    mark = log.create_mark()
    shown = log.RunnerLog(write_bytes, mark, inputs.visible_inputs(environ))
    process = child.start_child(command, inputs.cli_environment(environ) | {log.MARK_VARIABLE: mark})
    try:
        for line in log.split_lines(child.read_output(process)):
            shown.show(line)
    finally:
        shown.close()
    return child.wait_exit_code(process), shown.told


def file_stamp(path: Path) -> tuple[int, int] | None:
    """What changes when a file is replaced: a report left by an earlier step is not this run's. None where none is."""
    try:
        found = path.stat()
    except OSError:  # of a folder that cannot be used, the run says why
        return None
    return found.st_ino, found.st_mtime_ns


def load_report(path: Path, before: tuple[int, int] | None) -> dict[str, Any] | None:
    """The report this run wrote, if it did; raises OSError or ValueError when it is not a JSON object."""
    if file_stamp(path) in (None, before):
        return None
    report = json.loads(path.read_bytes())
    if not isinstance(report, dict):
        raise ValueError("not a JSON object")
    return report


def write_outputs(report: dict[str, Any] | None, exit_code: int, out: str) -> None:
    """Write the outputs, and the summary where this run made one."""
    values = outputs.build_outputs(report, exit_code, out)
    append_to_file("GITHUB_OUTPUT", outputs.render_outputs(values, secrets.token_hex(16)))
    summary = Path(out) / "summary.md"
    if report is not None and summary.is_file():
        target = Path(os.environ.get("GITHUB_STEP_SUMMARY", ""))
        used = target.stat().st_size if target.is_file() else 0
        text = summary.read_text(encoding="utf-8", errors="replace")
        append_to_file("GITHUB_STEP_SUMMARY", outputs.cut_summary(text, used))


def append_to_file(variable: str, text: str) -> None:
    """Append to the file that GitHub names in `variable`; outside of GitHub there is none."""
    if path := os.environ.get(variable):
        # A lone surrogate in a report must not cost the other outputs.
        with Path(path).open("ab") as file:
            file.write(text.encode("utf-8", "replace"))


def print_line(line: str) -> None:
    """One line for the runner."""
    write_bytes(f"{line}\n".encode("utf-8", "replace"))


def write_bytes(data: bytes) -> None:
    """To the runner, at once: people watch. Where nobody listens any more, the run still goes on."""
    try:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
    except OSError:
        # What is left of it would be tried again at the end of the process.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    sys.exit(main())
