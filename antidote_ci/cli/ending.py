"""How commands end."""

import errno
import signal
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

import typer

from antidote_ci.errors import AntidoteError, ConfigurationError, InfrastructureError, Terminated
from antidote_ci.report.console import Console, capture_log

OUTPUT_ERRNOS = {errno.ENOSPC, errno.EPIPE, errno.EBADF, errno.EIO}
SIGNALS = (signal.SIGTERM, signal.SIGINT)


@contextmanager
def handle_exit(left: str = "nothing half-written is left") -> Iterator[Console]:
    """Every way a command ends, as an exit code: the errors' own, 130 and 143 for signals, 3 for the unforeseen.

    `left`: what people should know of the output folder after a signal.
    """
    talk = Console()

    def end(number: int, _frame: FrameType | None) -> None:
        talk.ending = Terminated() if number == signal.SIGTERM else KeyboardInterrupt()
        raise talk.ending

    for number in SIGNALS:
        signal.signal(number, end)
    try:
        try:
            with capture_log(talk):
                yield talk
        finally:
            # Whoever ends a command often sends several: raised below, one would end it with 1, which is a verdict.
            for number in SIGNALS:
                signal.signal(number, _ignore_signal)
    except AntidoteError as error:
        talk.print_error(error)
        raise typer.Exit(error.exit_code) from None
    except KeyboardInterrupt:
        talk.print(f"interrupted; {left}")
        raise typer.Exit(130) from None
    except Terminated as error:
        talk.print(f"terminated; {left}")
        raise typer.Exit(error.exit_code) from None
    except typer.Exit:
        raise
    except Exception as error:  # noqa: BLE001 - exit 1 would speak of the model
        raise typer.Exit(explain_unexpected(error, talk)) from None


def exit_code(start: Callable[[], int], name: str) -> int | str | None:
    """How a command line ends that `start` runs. `name` is what people type before `--help`."""
    try:
        return start()
    except typer.TyperException as error:
        # Without a message it has shown the help already.
        if told := error.format_message():
            # "Value error" is a word of the library that typer checks values with.
            told = told.replace("Value error, ", "")
            Console().print_error(ConfigurationError(told, hint=f"{name} --help shows what there is"))
        return error.exit_code
    except SystemExit as ended:
        # The libraries' answer to a reader that has gone; 1 would speak of the model.
        return InfrastructureError.exit_code if ended.code == 1 else ended.code
    except Exception as error:  # noqa: BLE001 - exit 1 would speak of the model
        return explain_unexpected(error, Console())


def explain_unexpected(error: Exception, console: Console) -> int:
    """Say it in our words; its exit code. A path that cannot be used is this machine's; anything else is a bug, and
    shown whole.
    """
    from antidote_ci.hub.client import redact_secrets

    if isinstance(error, OSError) and error.filename is not None:
        told = InfrastructureError(
            redact_secrets(f"{error.filename} cannot be used", None),
            cause=error.strerror,
            hint="check that path, its permissions, and the space on its disk",
        )
    elif isinstance(error, OSError) and error.errno in OUTPUT_ERRNOS:
        told = InfrastructureError("not all could be written", cause=error.strerror, hint="check where the output goes")
    else:
        console.print(redact_secrets(traceback.format_exc().rstrip(), None))
        told = InfrastructureError(
            f"unexpected {type(error).__name__}: {redact_secrets(str(error), None)}",
            hint="this is a bug: please report it",
        )
    console.print_error(told)
    return told.exit_code


def _ignore_signal(_number: int, _frame: FrameType | None) -> None:
    """The end is under way."""
