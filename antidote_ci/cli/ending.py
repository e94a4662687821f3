"""How a command ends: verdicts, errors and signals as exit codes.

The exit codes are in `antidote_ci.errors`; `pipeline.output.to_exit_code` gives that of a verdict.
"""

import errno
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from types import FrameType
from typing import NoReturn

import typer

from antidote_ci import http_limits, records
from antidote_ci.errors import AntidoteError, ConfigurationError, InfrastructureError, Terminated
from antidote_ci.report.console import Console, Verbosity, discard_output, log_to_console, write_stdout

VERBOSITY: ContextVar[Verbosity] = ContextVar("VERBOSITY", default="normal")
"""Set by `--quiet` and `--verbose`."""
OUTPUT_ERRNOS = {errno.ENOSPC, errno.EPIPE, errno.EBADF, errno.EIO}
SIGNALS = (signal.SIGTERM, signal.SIGINT)


@contextmanager
def handle_exit(after_signal: str = "no partial results are left") -> Iterator[Console]:
    """Run a command, and end it with an exit code.

    Expected errors have their own exit code, signals end with 130 and 143, and unexpected errors with 3.
    `after_signal`: the state of the output folder after a signal, for the message.
    """
    console = Console(VERBOSITY.get())

    def end(number: int, _frame: FrameType | None) -> None:
        http_limits.interrupt_transfers()
        console.ending = Terminated() if number == signal.SIGTERM else KeyboardInterrupt()
        raise console.ending

    for number in SIGNALS:
        signal.signal(number, end)
    try:
        try:
            with log_to_console(console):
                yield console
        finally:
            # Further signals would interrupt the handlers below, and the process would exit with 1, a verdict.
            # Not SIG_IGN, which child processes would inherit.
            for number in SIGNALS:
                signal.signal(number, lambda _number, _frame: None)
    except AntidoteError as error:
        if console.verbosity == "verbose":
            _print_traceback(console)
        console.print_error(error)
        raise typer.Exit(error.exit_code) from None
    except KeyboardInterrupt:
        console.print(f"interrupted; {after_signal}")
        raise typer.Exit(130) from None
    except Terminated as error:
        console.print(f"terminated; {after_signal}")
        raise typer.Exit(error.exit_code) from None
    except typer.Exit:
        raise
    except Exception as error:  # noqa: BLE001 - Python's own exit code 1 is a verdict
        raise typer.Exit(explain_unexpected(error, console)) from None


def exit_code(start: Callable[[], int], name: str) -> int | str | None:
    """Run a command line and return its exit code. `name`: the command in the hint to `--help`."""
    try:
        return start()
    except typer.TyperException as error:
        # An error without a message has already printed the help.
        if message := error.format_message():
            # typer validates with pydantic, which adds this prefix.
            message = message.replace("Value error, ", "")
            context = getattr(error, "ctx", None)
            command = context.command_path if context else name
            Console().print_error(ConfigurationError(message, hint=f"see {command} --help"))
        return error.exit_code
    except SystemExit as error:
        # Libraries exit with 1 when stdout is closed, but 1 is a verdict.
        return InfrastructureError.exit_code if error.code == 1 else error.code
    except Exception as error:  # noqa: BLE001 - Python's own exit code 1 is a verdict
        return explain_unexpected(error, Console())


def explain_unexpected(error: Exception, console: Console) -> int:
    """Print an unexpected error and return its exit code. A bug is printed with its traceback."""
    from antidote_ci.hub.client import redact_secrets

    if isinstance(error, OSError) and error.filename is not None:
        explained = InfrastructureError(
            redact_secrets(f"{error.filename} cannot be used", None),
            cause=error.strerror,
            hint="check that path, its permissions, and the space on its disk",
        )
    elif isinstance(error, OSError) and error.errno in OUTPUT_ERRNOS:
        if console.verbosity == "verbose":
            _print_traceback(console)
        discard_output(sys.stdout)
        explained = InfrastructureError(
            "the output could not be written completely", cause=error.strerror, hint="check where the output goes"
        )
    else:
        _print_traceback(console)
        explained = InfrastructureError(
            f"unexpected {type(error).__name__}: {redact_secrets(str(error), None)}",
            hint="this is a bug: please report it",
        )
    console.print_error(explained)
    return explained.exit_code


def _print_traceback(console: Console) -> None:
    from antidote_ci.hub.client import redact_secrets

    console.print(redact_secrets(traceback.format_exc().rstrip(), None))


def exit_with_verdict(
    console: Console, report: records.Report, out: Path, *, as_json: bool, junit: Path | None = None
) -> NoReturn:
    """Print the report, write its test results to `junit`, and exit with its exit code."""
    from antidote_ci.paths import write_as_path
    from antidote_ci.pipeline.output import MODEL_FOLDER
    from antidote_ci.report import ci_files, comparison, statements, terminal

    if junit is not None:
        junit.write_text(ci_files.render_junit(report), encoding="utf-8")
    console.show(terminal.show_report(report))
    if report.baseline is not None:
        console.show(comparison.show_pairs(report.baseline, comparison.BASELINE_LABELS))
    console.print(statements.describe_verdict(report))
    for line in report.publish.notes:
        console.print(line)
    if report.publish.url:
        console.print(f"published: {report.publish.url}")
    weights = out / MODEL_FOLDER
    if report.verdict == "repaired" and weights.is_dir():
        console.print(f"weights: {weights}, which antidote-ci verify {write_as_path(out)} checks without running them")
    console.print(f"report: {out / 'report.html'}")
    if report.verdict == "repaired" and report.exit_code:
        hint = "--accept-repair exits with 0."
        if report.source.revision is not None and not report.publish.has_weights:
            hint = f"--publish pull-request opens a pull request on the Hub, and {hint}"
        console.print(f"exit {report.exit_code}: the repair is not accepted yet; {hint}")
    if as_json:
        write_stdout(records.to_json(report))
    raise typer.Exit(report.exit_code)
