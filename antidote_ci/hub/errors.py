"""Translate errors of the Hub and its client into AntidoteError, and decide which requests to repeat.

The texts are in `error_table`. https://huggingface.co/docs/huggingface_hub/package_reference/utilities#errors
"""

import errno
import json
import re
import socket
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass

from antidote_ci.errors import AntidoteError
from antidote_ci.hub import error_table
from antidote_ci.hub.client import printable_endpoint, redact_secrets, requested_wait, to_safe_line
from antidote_ci.hub.error_table import HubErrorMeaning, Purpose

WRITE_ERRNOS = {errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS}
UNAUTHORIZED = 401
MAX_READ, MAX_SHOWN = 10_000, 300
"""The number of characters of a message that are read, and that are shown."""
STORAGE_STATUS = re.compile(r"HTTP status (?:client|server) error \((\d{3})\b")
"""The status in a message of the Xet client, which raises built-in exceptions."""
SIZE_MESSAGE = "Consistency check failed"
CARD_MESSAGE = "Invalid metadata in README.md"
STORAGE_MESSAGE = "LFS batch API returned errors"
"""The beginnings of messages by which exceptions of the client are told apart."""


@dataclass(frozen=True)
class Diagnosis:
    """An entry of the error table, with the message of the Hub or of its client."""

    meaning: HubErrorMeaning
    detail: str = ""
    status: int | None = None


@contextmanager
def translate_errors(identifier: str, token: str | None, purpose: Purpose = "reading") -> Iterator[None]:
    """Turn client errors about `identifier` into AntidoteError without secrets. Other exceptions pass unchanged.

    The original exception is not chained: its message may contain a token, which a traceback would print.
    """
    try:
        yield
    except Exception as error:
        ours = error if isinstance(error, AntidoteError) else to_antidote_error(error, identifier, token, purpose)
        if ours is None:
            raise
        cause, hint = (text and redact_secrets(text, token) for text in (ours.cause, ours.hint))
        raise type(ours)(redact_secrets(ours.what, token), cause=cause, hint=hint, passing=ours.passing) from None


def to_antidote_error(
    error: Exception, identifier: str, token: str | None, purpose: Purpose = "reading"
) -> AntidoteError | None:
    """The error to show for `error`; None if neither the Hub nor its client is the origin."""
    diagnosis = _diagnose(_root_cause(error), purpose)
    if diagnosis is None:
        return None
    names = {"it": identifier, "hub": printable_endpoint(), "status": diagnosis.status}
    terms = {name: text.format(**names) for name, text in asdict(error_table.PURPOSE_TERMS[purpose]).items()}
    meaning, detail = diagnosis.meaning, to_safe_line(diagnosis.detail[:MAX_READ], token)
    detail = detail if len(detail) <= MAX_SHOWN else f"{detail[:MAX_SHOWN]} ..."
    # RetryPolicy adds a note with the number of attempts.
    details = "; ".join(filter(None, (detail, *getattr(error, "__notes__", ()))))
    what, cause, hint = (text.format(**names, **terms) for text in (meaning.what, meaning.cause, meaning.hint))
    cause += f" ({details})" if details else ""
    what, cause, hint = (to_safe_line(text, token) for text in (what, cause, hint))
    return meaning.error(what, cause=cause, hint=hint, passing=meaning.transient)


def retry_delay(error: Exception) -> float | None:
    """The minimum number of seconds to wait before a retry after `error`; None if the request must not be retried."""
    from huggingface_hub.errors import HfHubHTTPError

    root = _root_cause(error)
    diagnosis = _diagnose(root, "reading")
    if diagnosis is None or not (diagnosis.meaning.transient and diagnosis.meaning.retried):
        return None
    return requested_wait(root.response.headers) if isinstance(root, HfHubHTTPError) else 0.0


def is_unauthorized(error: Exception) -> bool:
    """Whether the Hub or its storage rejected the token (status 401)."""
    from huggingface_hub.errors import HfHubHTTPError

    root = _root_cause(error)
    if isinstance(root, HfHubHTTPError):
        return root.response.status_code == UNAUTHORIZED
    return isinstance(root, OSError | RuntimeError) and _storage_status(root) == UNAUTHORIZED


def meaning_of_status(status: int, purpose: Purpose = "reading") -> HubErrorMeaning:
    """Return the entry of `error_table` for an HTTP status of 400 or above, by the purpose of the request."""
    if (purpose, status) == ("publishing", 409):
        return error_table.PUBLISH_RACE
    if (purpose, status) == ("submitting", 402):
        return error_table.JOBS_CREDIT
    default = error_table.OTHER_FAILURE if status >= 500 else error_table.OTHER_REFUSAL
    return error_table.STATUS_MEANINGS.get(status, default)


def _root_cause(error: Exception) -> Exception:
    """The exception that the client wrapped in one of its own."""
    from huggingface_hub.errors import LocalEntryNotFoundError, RevisionResolutionError

    wrappers = (LocalEntryNotFoundError, RevisionResolutionError, RuntimeError)
    while isinstance(error, wrappers) and isinstance(error.__cause__, Exception):
        error = error.__cause__
    return error


def _diagnose(error: Exception, purpose: Purpose) -> Diagnosis | None:
    return (
        _diagnose_response(error, purpose)
        or _diagnose_connection(error, purpose)
        or _diagnose_client_failure(error, purpose)
    )


def _diagnose_response(error: Exception, purpose: Purpose) -> Diagnosis | None:
    """An HTTP response with an error status."""
    from huggingface_hub import errors

    if not isinstance(error, errors.HfHubHTTPError):
        return None
    status, message = error.response.status_code, error.server_message or ""
    meaning = meaning_of_status(status, purpose)
    if purpose in error_table.EXCHANGES and not meaning.transient:
        return Diagnosis(error_table.EXCHANGES[purpose], f"{status}: {message}" if message else str(status))
    match error:
        # GatedRepoError is a subclass of RepositoryNotFoundError.
        case errors.GatedRepoError():
            return Diagnosis(error_table.GATED, message)
        case errors.RepositoryNotFoundError():
            return Diagnosis(error_table.UNKNOWN_REPOSITORY)
        case errors.RevisionNotFoundError():
            return Diagnosis(error_table.UNKNOWN_REVISION)
        case errors.RemoteEntryNotFoundError():
            return Diagnosis(error_table.UNKNOWN_FILE)
        case errors.DisabledRepoError():
            return Diagnosis(error_table.DISABLED)
    return Diagnosis(meaning, message, status)


def _diagnose_connection(error: Exception, purpose: Purpose) -> Diagnosis | None:
    """The Hub was not asked or not reached, the server is not a Hub, or this machine failed."""
    import httpx2
    from huggingface_hub import constants, errors

    detail = _first_line(error)
    match error:
        case errors.HFValidationError():
            return Diagnosis(error_table.NOT_A_NAME)
        case errors.OfflineModeIsEnabled():
            return Diagnosis(error_table.OFFLINE)
        case errors.LocalEntryNotFoundError() | errors.RevisionResolutionError() if constants.is_offline_mode():
            return Diagnosis(error_table.OFFLINE)
        case errors.OIDCError():
            return Diagnosis(error_table.IDENTITY, detail)
        case errors.FileMetadataError() | json.JSONDecodeError() | httpx2.DecodingError() | httpx2.TooManyRedirects():
            return Diagnosis(error_table.NOT_A_HUB, detail)
        case httpx2.InvalidURL() | httpx2.UnsupportedProtocol():
            return Diagnosis(error_table.NOT_AN_ADDRESS, detail)
        case httpx2.LocalProtocolError():
            # Its message contains the header, and so may contain the token.
            return Diagnosis(error_table.NOT_SENT)
        case httpx2.TimeoutException() | TimeoutError():
            return Diagnosis(error_table.NOT_IN_TIME, detail)
        case httpx2.ConnectError() if "CERTIFICATE_VERIFY_FAILED" in str(error):
            return Diagnosis(error_table.NOT_TRUSTED, detail)
        # A temporary failure of the resolver has another errno.
        case httpx2.ConnectError() if any(
            isinstance(cause, socket.gaierror) and cause.errno == socket.EAI_NONAME for cause in _walk_context(error)
        ):
            return Diagnosis(error_table.NO_SUCH_HOST, detail)
        case httpx2.TransportError() | errors.LocalEntryNotFoundError() | errors.RevisionResolutionError():
            return Diagnosis(error_table.NOT_REACHED, detail)
        case errors.XetDownloadError():
            return Diagnosis(error_table.STORAGE, detail)
        case ValueError() if CARD_MESSAGE in str(error):
            return Diagnosis(error_table.BAD_CARD, str(error))
        case ValueError() if STORAGE_MESSAGE in str(error):
            return Diagnosis(error_table.STORAGE_REFUSED, str(error))
        case OSError() | RuntimeError() if (status := _storage_status(error)) is not None:
            meaning = error_table.NO_XET if status == 404 else meaning_of_status(status, purpose)
            return Diagnosis(meaning, detail, status)
        case ConnectionError():
            return Diagnosis(error_table.NOT_REACHED, detail)
        case OSError() if error.errno in WRITE_ERRNOS:
            return Diagnosis(error_table.NOT_WRITTEN, detail)
        case OSError() if SIZE_MESSAGE in str(error):
            return Diagnosis(error_table.CUT_SHORT, detail)
        case OSError():
            return Diagnosis(error_table.NOT_TRANSFERRED, detail)
    return None


def _diagnose_client_failure(error: Exception, purpose: Purpose) -> Diagnosis | None:
    """The client failed on a response of an unexpected form."""
    import httpx2

    if not _is_raised_by_client(error):
        return None
    for cause in _walk_context(error):
        # The client could not read the reason of a refusal.
        if isinstance(cause, httpx2.HTTPStatusError):
            status = cause.response.status_code
            return Diagnosis(meaning_of_status(status, purpose), "the reason cannot be read", status)
    if isinstance(error, RuntimeError) and not isinstance(error, RecursionError):
        return Diagnosis(error_table.STORAGE, _first_line(error))
    return Diagnosis(error_table.NOT_A_HUB, _first_line(error))


def _is_raised_by_client(error: Exception) -> bool:
    """Whether the client, or a library that it calls, raised `error`, and not a callback of this package."""
    modules = (str(frame.f_globals.get("__name__")) for frame, _ in traceback.walk_tb(error.__traceback__))
    packages = (name.partition(".")[0] for name in modules)
    return [name for name in packages if name in ("antidote_ci", "huggingface_hub")][-1:] == ["huggingface_hub"]


def _walk_context(error: BaseException | None) -> Iterator[BaseException]:
    """The exception and its chain of contexts."""
    while error is not None:
        yield error
        error = error.__context__


def _storage_status(error: Exception) -> int | None:
    match = STORAGE_STATUS.search(str(error))
    return int(match[1]) if match else None


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
