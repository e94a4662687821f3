"""Expected errors. Each class has its own exit code, and each error names the thing, the likely cause and what to do.

Verdicts are results, not errors: `records.RunVerdict`. `pipeline.output.to_exit_code` gives the exit code of each.
"""

from collections.abc import Iterator
from contextlib import contextmanager

VERDICT_EXIT_CODES = (0, 1, 4, 7)
"""All exit codes that `pipeline.output.to_exit_code` returns."""


class AntidoteError(Exception):
    """Base class of expected errors.

    `what` names the thing and what is wrong with it, `cause` the likely reason, `hint` the next command or step.
    `passing` is true for an error that may be gone after a while, such as a network error.
    """

    exit_code = 3

    def __init__(self, what: str, *, cause: str | None = None, hint: str | None = None, passing: bool = False) -> None:
        super().__init__(what)
        self.what = what
        self.cause = cause
        self.hint = hint
        self.passing = passing

    def describe(self) -> str:
        """What, cause and hint on one line, for a place that has no other."""
        return "; ".join(part for part in (self.what, self.cause, self.hint) if part)


class ConfigurationError(AntidoteError):
    """The request is invalid: usage, policy, or a checkpoint of an unsupported kind."""

    exit_code = 2


class InfrastructureError(AntidoteError):
    """The environment failed: Hub, network, disk, memory, or a child process that died."""

    exit_code = 3


class PublishConflict(AntidoteError):
    """The source or the destination has moved, or the destination belongs to others. Nothing is published."""

    exit_code = 5


class UnsafeCheckpoint(AntidoteError):
    """The checkpoint is unsafe to open: only pickled weights, forged headers, or paths outside of the folder."""

    exit_code = 6


class Terminated(BaseException):
    """SIGTERM was received. Like KeyboardInterrupt, it is not caught by `except Exception`, so that cleanup runs."""

    exit_code = 143


@contextmanager
def add_hint(text: str) -> Iterator[None]:
    """Add a next step to the hint of every AntidoteError that passes."""
    try:
        yield
    except AntidoteError as error:
        hint = f"{error.hint}; {text}" if error.hint else text
        raise type(error)(error.what, cause=error.cause, hint=hint, passing=error.passing) from None


ERROR_EXIT_CODES = tuple(sorted({error_class.exit_code for error_class in AntidoteError.__subclasses__()}))
"""Exit codes of the error classes above."""
SIGNAL_EXIT_CODES = (130, Terminated.exit_code)
"""Exit codes after SIGINT and SIGTERM."""
