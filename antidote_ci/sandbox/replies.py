"""What a child replies, and how its texts and errors become those of the parent.

A child may have been taken over by the checkpoint that it opened. So its replies are bounded and typed, and its texts
are cleaned.
"""

import functools
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from antidote_ci import errors
from antidote_ci.records import Progress

MAX_REPLY_BYTES = 64 << 20
MAX_TEXT = 2_000
"""Characters of a progress update or an error message."""
MAX_COUNT = 1 << 53
"""The largest number in a progress update."""


@dataclass(frozen=True)
class CallLimits:
    """Limits of one call, which the parent enforces."""

    silence: float = 3600
    """Seconds without a progress update. One batch of a large model on a CPU takes minutes."""
    total: float = 7 * 24 * 3600
    """Seconds, however many progress updates arrive."""
    memory: int | None = None
    """Bytes that the call may allocate, not counting mapped files."""


CALL_LIMITS = CallLimits()
START_LIMITS = CallLimits(silence=60)
OPENING_LIMITS = CallLimits(silence=120, total=3600, memory=1 << 30)
"""Limits for the check of a checkpoint, which reads its weights in blocks."""


@dataclass(frozen=True)
class ReplyError:
    """An exception that the function raised: the name of its class, and its texts."""

    kind: str
    what: str
    cause: str | None = None
    hint: str | None = None


@dataclass(frozen=True)
class Reply:
    """One message of a child. Exactly one field is set, or none for the result None."""

    protections: list[str] | None = None
    """The first message: the protections that are on."""
    progress: Progress | None = None
    error: ReplyError | None = None
    result: Any = None


@functools.cache
def reply_adapter() -> Any:  # noqa: ANN401 - TypeAdapter is imported late
    """The parser of a reply, which is built once."""
    from pydantic import TypeAdapter

    return TypeAdapter(Reply)


def describe_end(code: int) -> str:
    """How a process ended, by its exit code, which is negative for a signal."""
    return "killed" if code == -signal.SIGKILL else f"exit {code}"


def invalid_reply_error() -> errors.InfrastructureError:
    """The error for a reply that has another form or length than the function's result."""
    return errors.InfrastructureError(
        "the process that runs the model sent an invalid reply",
        cause="the checkpoint has taken it over, or antidote-ci has a defect",
        hint="read child.log; report the defect if you trust the checkpoint",
    )


def _clean_text(text: str) -> str:
    return "".join(character for character in text if character.isprintable())[:MAX_TEXT]


def clean_progress(update: Progress) -> Progress:
    """A progress update with bounded numbers and printable text."""
    total = min(max(update.total, 0), MAX_COUNT)
    return Progress(_clean_text(update.what), min(max(update.done, 0), total), total)


def excess_error(problem: str) -> errors.InfrastructureError:
    """The error for a child that exceeds a limit of processes or disk space."""
    return errors.InfrastructureError(
        f"the process that runs the model {problem}",
        cause="the checkpoint may have taken it over to exhaust the machine",
        hint="do not run this checkpoint unless you trust it",
    )


def opening_error(problem: str) -> errors.UnsafeCheckpoint:
    """The error for a checkpoint whose check exceeds a limit."""
    return errors.UnsafeCheckpoint(
        f"opening the checkpoint {problem}",
        cause="no real checkpoint does before its weights are loaded; it may be meant to exhaust the machine",
        hint="save the model and its tokenizer again with transformers",
    )


def slowness_error(limits: CallLimits, log: Path) -> errors.AntidoteError:
    """The error for a child that exceeds a limit of time."""
    problem = f"{limits.silence:,g} s without progress, or {limits.total:,g} s in all"
    if limits is OPENING_LIMITS:
        return opening_error(f"takes more than {problem}")
    return errors.InfrastructureError(
        f"the process that runs the model took more than {problem}",
        cause="the machine is too slow for this model, or the checkpoint is meant to hold it",
        hint=f"read its log, {log}, or use a faster machine",
    )


def rebuild_error(error: ReplyError, log: Path) -> errors.AntidoteError:
    """Return the exception that the child reported. An exception of an unknown class becomes an InfrastructureError."""
    classes: dict[str, type[errors.AntidoteError]] = {
        cls.__name__: cls for cls in (errors.ConfigurationError, errors.InfrastructureError, errors.UnsafeCheckpoint)
    }
    what = _clean_text(error.what)
    error_class = classes.get(error.kind)
    if error_class is None:
        return errors.InfrastructureError(
            f"unexpected {_clean_text(error.kind)} while the model ran: {what}",
            hint=f"read the traceback in the log of the process, {log}",
        )
    cause, hint = (text and _clean_text(text) for text in (error.cause, error.hint))
    return error_class(what, cause=cause, hint=hint)
