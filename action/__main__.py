"""Entry point of the image: `antidote-ci` when arguments are given, the GitHub Action otherwise."""

import json
import os
import secrets
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from action import child, comment, inputs, log, outputs
from antidote_ci import environment
from antidote_ci.paths import open_regular

NAME = "antidote-ci"
# -P: no module is imported from the working directory, which is the user's workspace.
CLI = (sys.executable, "-P", "-m", "antidote_ci")
USAGE = 2
INFRASTRUCTURE = 3


def main() -> int:
    """Run the Action, and return the exit code of `antidote-ci`."""
    environment.protect()
    # An HF Job may pass the name of the program as the first argument.
    arguments = sys.argv[2:] if sys.argv[1:2] == [NAME] else sys.argv[1:]
    if arguments or not any(name.startswith("INPUT_") for name in os.environ):
        # The command replaces this process, so that it receives signals itself.
        os.execv(CLI[0], [*CLI, *(arguments or ["--help"])])  # noqa: S606 - without a shell
    if os.environ.get("GITHUB_ACTIONS") == "true":  # elsewhere the commands would print the secrets
        for secret in sorted(inputs.list_secrets(os.environ)):
            for mask in log.mask_commands(secret):
                print_line(mask)
    try:
        arguments = inputs.cli_arguments(os.environ)
    except ValueError as error:
        return finish_step(None, USAGE, Path(inputs.output_folder(os.environ)), [str(error)])
    return run_action(arguments, os.environ)


def run_action(arguments: Sequence[str], environ: Mapping[str, str]) -> int:
    """Run `antidote-ci` and write the outputs of the step. Returns its exit code."""
    out = Path(inputs.output_folder(environ))
    before = file_stamp(out / "report.json")
    exit_code, errors = run_child([*CLI, *arguments], environ)
    for folder in (str(out), environ.get("HF_HOME")):
        if folder:
            give_to_runner(Path(folder), environ)
    try:
        report = load_report(out / "report.json", before)
    except (OSError, ValueError) as error:
        report, exit_code = None, exit_code or INFRASTRUCTURE
        errors = [f"{out / 'report.json'} cannot be read: {error}", *errors]
    return finish_step(report, exit_code, out, errors)


def finish_step(report: dict[str, Any] | None, exit_code: int, out: Path, errors: Sequence[str]) -> int:
    """Print the annotation and write the outputs. Returns the exit code of the step: 3 when only writing failed."""
    if exit_code != 0:
        print_line(outputs.build_annotation(report, exit_code, errors))
    summary = read_summary(report, out)
    try:
        write_outputs(report, exit_code, outputs.find_on_machine(str(out), os.environ), summary)
    except OSError as error:
        exit_code = exit_code or INFRASTRUCTURE
        print_line(outputs.build_annotation(None, exit_code, [f"the step's outputs cannot be written: {error}"]))
    if inputs.wants_comment(os.environ):
        write_comment(summary, exit_code)
    return exit_code


def write_comment(summary: str, exit_code: int) -> None:
    """Write the summary as the comment on the pull request. A run without a verdict replaces an earlier one too."""
    text = summary or (outputs.render_failure(exit_code, os.environ) if exit_code != 0 else "")
    if text:
        problem = comment.update_comment(text, inputs.read_input(os.environ, "model"), os.environ)
        if problem is not None:
            print_line(log.warning_command(f"The comment on the pull request was not written: {problem}."))


def run_child(command: Sequence[str], environ: Mapping[str, str]) -> tuple[int, list[str]]:
    """Run a child and show its output. Returns its exit code and its error messages."""
    mark = log.create_mark()
    runner_log = log.RunnerLog(write_bytes, mark)
    process = child.start_command(command, inputs.cli_environment(environ) | {log.MARK_VARIABLE: mark})
    try:
        for line in log.split_lines(child.read_output(process)):
            runner_log.show(line)
    finally:
        runner_log.close()
    return environment.wait_exit_code(process), runner_log.errors


def give_to_runner(folder: Path, environ: Mapping[str, str]) -> None:
    """Make what root has written to a folder of the runner belong to the owner of the workspace.

    A container action is root and the runner is not, so later steps could neither cache files of mode 0600, of which
    huggingface_hub writes some, nor remove anything. Links are not followed. A warning says what still belongs to root.
    """
    mounted = [environ[name] for name in ("GITHUB_WORKSPACE", "RUNNER_TEMP") if environ.get(name)]
    path = Path(os.path.realpath(folder))
    if os.geteuid() != 0 or file_stamp(path) is None or not any(path.is_relative_to(name) for name in mounted):
        return
    failures: list[OSError] = []
    try:
        owner = Path(mounted[0]).stat()
        for place, folders, files, parent in os.fwalk(path, onerror=failures.append):
            for name in (*folders, *files, "."):
                failures += change_owner_of_root(name, place, parent, owner)
    except OSError as error:
        failures.append(error)
    if failures:
        text = f"{len(failures)} files or folders of {folder} still belong to root, and later steps may not be able to"
        print_line(log.warning_command(f"{text} read or remove them: {failures[0]}"))


def change_owner_of_root(name: str, place: str, parent: int, owner: os.stat_result) -> list[OSError]:
    """Give a file of root in the open folder `parent`, whose path is `place`, to `owner`. Returns what prevented it."""
    try:
        if os.stat(name, dir_fd=parent, follow_symlinks=False).st_uid == 0:
            os.chown(name, owner.st_uid, owner.st_gid, dir_fd=parent, follow_symlinks=False)
    except FileNotFoundError:  # removed in the meantime
        return []
    except OSError as error:
        return [OSError(error.errno, error.strerror, os.path.normpath(f"{place}/{name}"))]
    return []


def file_stamp(path: Path) -> tuple[int, int] | None:
    """Inode and time of a file, to recognise a report that an earlier step left; None when it cannot be reached."""
    try:
        status = path.stat()
    except OSError:  # the run itself reports a folder that cannot be used
        return None
    return status.st_ino, status.st_mtime_ns


def load_report(path: Path, before: tuple[int, int] | None) -> dict[str, Any] | None:
    """The report of this run, if it wrote one. Raises OSError or ValueError when it is not a JSON object."""
    if file_stamp(path) in (None, before):
        return None
    with open_regular(path) as file:
        report = json.loads(file.read())
    if not isinstance(report, dict):
        raise ValueError("not a JSON object")
    return report


def read_summary(report: dict[str, Any] | None, out: Path) -> str:
    """`summary.md` of this run with links; empty without a report."""
    file = out / "summary.md"
    if report is None or not file.is_file() or file.is_symlink():
        return ""
    text = file.read_text(encoding="utf-8", errors="replace")
    links = outputs.build_links(report, os.environ)
    return f"{text.rstrip()}\n\n{links}" if links else text


def write_outputs(report: dict[str, Any] | None, exit_code: int, out: str, summary: str) -> None:
    """Write the outputs of the Action to GITHUB_OUTPUT, and append the summary to GITHUB_STEP_SUMMARY.

    `out` is the output folder as later steps find it.
    """
    values = outputs.build_outputs(report, exit_code, out)
    append_to_file("GITHUB_OUTPUT", outputs.render_outputs(values, secrets.token_hex(16)))
    if summary:
        append_to_file("GITHUB_STEP_SUMMARY", summary)


def append_to_file(variable: str, text: str) -> None:
    """Append to the file that a variable of the runner names. Does nothing outside GitHub Actions."""
    if path := os.environ.get(variable):
        # A lone surrogate in a report must not prevent the other outputs.
        with Path(path).open("ab") as file:
            file.write(text.encode("utf-8", "replace"))


def print_line(line: str) -> None:
    """Print one line."""
    write_bytes(f"{line}\n".encode("utf-8", "replace"))


def write_bytes(data: bytes) -> None:
    """Write to standard output immediately. The run continues when the output is closed."""
    try:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
    except OSError:
        # Otherwise Python would try to flush again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    sys.exit(main())
