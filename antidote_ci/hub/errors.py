"""What the client raises, in our words, and what is worth asking again. The words are in error_table.py.

https://huggingface.co/docs/huggingface_hub/package_reference/utilities#errors
"""

import errno
import json
import re
import socket
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from antidote_ci.errors import AntidoteError
from antidote_ci.hub import error_table
from antidote_ci.hub.client import printable_endpoint, redact_secrets, requested_wait
from antidote_ci.hub.error_table import HubErrorMeaning, Purpose

NO_SPACE = {errno.ENOSPC, errno.EDQUOT}
NOT_ALLOWED = {errno.EACCES, errno.EPERM, errno.EROFS}
UNAUTHORIZED = 401
MAX_READ = 10_000
MAX_SHOWN = 300
"""Characters of a message that are looked at, and that are shown."""
STORAGE_STATUS = re.compile(r"HTTP status (?:client|server) error \((\d{3})\b")
"""How the Xet client, which raises built-in errors, says what it was answered."""
SIZE_DIFFERS = "Consistency check failed"
BAD_CARD = "Invalid metadata in README.md"
STORAGE_REFUSED = "LFS batch API returned errors"


@dataclass(frozen=True)
class Diagnosis:
    """A meaning with what the Hub or the client said besides."""

    meaning: HubErrorMeaning
    detail: str = ""
    status: int | None = None


@contextmanager
def translate_errors(identifier: str, token: str | None, purpose: Purpose = "reading") -> Iterator[None]:
    """Turn what the client raises about `identifier` into our errors; the unknown passes as it is.

    The original is not chained: its message may hold a token, and a traceback would print it.
    """
    try:
        yield
    except Exception as error:
        told = error if isinstance(error, AntidoteError) else to_antidote_error(error, identifier, token, purpose)
        if told is None:
            raise
        cause, hint = (text and redact_secrets(text, token) for text in (told.cause, told.hint))
        raise type(told)(redact_secrets(told.what, token), cause=cause, hint=hint, passing=told.passing) from None


def to_antidote_error(
    error: Exception, identifier: str, token: str | None, purpose: Purpose = "reading"
) -> AntidoteError | None:
    """The error that people read; None for what is neither the Hub's nor the client's."""
    # An identity that is exchanged is a kind of token.
    found = _diagnose(_root_cause(error), bool(token) or purpose in error_table.EXCHANGES, purpose)
    if found is None:
        return None
    names = {
        "it": identifier,
        "hub": printable_endpoint(),
        "status": found.status,
        "variable": error_table.TOKEN_VARIABLES[purpose],
    }
    meaning, detail = found.meaning, _shorten(_to_safe_line(found.detail[:MAX_READ], token))
    # Notes say how long it was tried.
    aside = "; ".join(filter(None, (detail, *getattr(error, "__notes__", ()))))
    cause = meaning.cause.format(**names) + (f" ({aside})" if aside else "")
    what, hint = (text.format(**names) for text in (meaning.what, meaning.hint))
    said = _to_safe_line(what, token), _to_safe_line(cause, token), _to_safe_line(hint, token)
    return meaning.error(said[0], cause=said[1], hint=said[2], passing=meaning.transient)


def retry_delay(error: Exception) -> float | None:
    """How long to wait at least before asking again after `error`; None where asking again would not help."""
    from huggingface_hub.errors import HfHubHTTPError

    root = _root_cause(error)
    found = _diagnose(root, True, "reading")
    if found is None or not (found.meaning.transient and found.meaning.retried):
        return None
    return requested_wait(root.response.headers) if isinstance(root, HfHubHTTPError) else 0.0


def is_unauthorized(error: Exception) -> bool:
    """Whether the Hub, or its storage, does not accept the token that was sent."""
    from huggingface_hub.errors import HfHubHTTPError

    root = _root_cause(error)
    if isinstance(root, HfHubHTTPError):
        return root.response.status_code == UNAUTHORIZED
    answered = STORAGE_STATUS.search(str(root)) if isinstance(root, OSError | RuntimeError) else None
    return answered is not None and int(answered[1]) == UNAUTHORIZED


def meaning_of_status(status: int, known: bool = True, purpose: Purpose = "reading") -> HubErrorMeaning:
    """What an HTTP status means; `known`: a token was sent."""
    others = error_table.OTHER_FAILURE if status >= 500 else error_table.OTHER_REFUSAL
    special = {
        "publishing": error_table.PUBLISHING_MEANINGS,
        "submitting": error_table.SUBMITTING_MEANINGS,
        "managing": error_table.MANAGING_MEANINGS,
    }
    tables = ({} if known else error_table.ANONYMOUS_MEANINGS, special.get(purpose, {}), error_table.STATUS_MEANINGS)
    return next((table[status] for table in tables if status in table), others)


def _root_cause(error: Exception) -> Exception:
    """What went wrong beneath the client's own wrapping of it."""
    from huggingface_hub.errors import LocalEntryNotFoundError, RevisionResolutionError

    wrappers = (LocalEntryNotFoundError, RevisionResolutionError, RuntimeError)
    while isinstance(error, wrappers) and isinstance(error.__cause__, Exception):
        error = error.__cause__
    return error


def _diagnose(error: Exception, known: bool, purpose: Purpose) -> Diagnosis | None:
    return (
        _diagnose_refusal(error, known, purpose)
        or _diagnose_environment(error, known, purpose)
        or _diagnose_client(error, known, purpose)
    )


def _diagnose_refusal(error: Exception, known: bool, purpose: Purpose) -> Diagnosis | None:
    """The Hub answered, and refused."""
    from huggingface_hub import errors

    if not isinstance(error, errors.HfHubHTTPError):
        return None
    status, message = error.response.status_code, error.server_message or ""
    passing = meaning_of_status(status).transient
    match error:
        case _ if purpose in error_table.EXCHANGES and not passing:
            return Diagnosis(error_table.EXCHANGES[purpose], f"{status}: {message}" if message else str(status))
        # A gated repository is a subclass of an unknown one: it goes first.
        case errors.GatedRepoError():
            gated = error_table.GATED if known else error_table.GATED_ANONYMOUS
            return Diagnosis(_match_message(error_table.GATED_MEANINGS, message) or gated)
        case errors.RepositoryNotFoundError():
            unknown = error_table.UNKNOWN_TARGET if purpose == "publishing" else error_table.UNKNOWN_REPOSITORY
            return Diagnosis(unknown)
        case errors.RevisionNotFoundError():
            return Diagnosis(error_table.UNKNOWN_REVISION)
        case errors.RemoteEntryNotFoundError():
            return Diagnosis(error_table.UNKNOWN_FILE)
        case errors.DisabledRepoError():
            return Diagnosis(error_table.DISABLED)
    # What these words mean is known of repositories alone.
    spoken = status == 403 and known and purpose not in ("submitting", "managing")
    by_words = _match_message(error_table.FORBIDDEN, message) if spoken else None
    return Diagnosis(by_words or meaning_of_status(status, known, purpose), message, status)


def _match_message(table: Mapping[str, HubErrorMeaning], message: str) -> HubErrorMeaning | None:
    return next(
        (meaning for words, meaning in table.items() if re.search(words, message[:MAX_READ], re.IGNORECASE)), None
    )


def _diagnose_environment(error: Exception, known: bool, purpose: Purpose) -> Diagnosis | None:
    """The Hub was not asked or not reached, what answered is no Hub, or this machine has no room."""
    import httpx2
    from huggingface_hub import constants, errors

    said = _first_line(error)
    match error:
        case errors.HFValidationError():
            return Diagnosis(error_table.NOT_A_NAME)
        case errors.OfflineModeIsEnabled():
            return Diagnosis(error_table.OFFLINE)
        case errors.LocalEntryNotFoundError() | errors.RevisionResolutionError():
            return (
                Diagnosis(error_table.OFFLINE)
                if constants.is_offline_mode()
                else Diagnosis(error_table.NOT_REACHED, said)
            )
        case errors.OIDCError():
            return Diagnosis(error_table.IDENTITY, said)
        case errors.FileMetadataError() | json.JSONDecodeError() | httpx2.DecodingError() | httpx2.TooManyRedirects():
            return Diagnosis(error_table.NOT_A_HUB, said)
        case httpx2.InvalidURL() | httpx2.UnsupportedProtocol():
            return Diagnosis(error_table.NOT_AN_ADDRESS, said)
        case httpx2.LocalProtocolError():
            # Its message is the header that could not be sent.
            return Diagnosis(error_table.NOT_SENT)
        case httpx2.ProxyError():
            return Diagnosis(error_table.PROXY, said)
        case httpx2.TimeoutException() | TimeoutError():
            return Diagnosis(error_table.NOT_IN_TIME, said)
        case httpx2.ConnectError() if "CERTIFICATE_VERIFY_FAILED" in str(error):
            return Diagnosis(error_table.NOT_TRUSTED, said)
        case httpx2.ConnectError() if any(map(_is_unknown_host, _walk_causes(error))):
            return Diagnosis(error_table.NO_SUCH_HOST, said)
        case httpx2.TransportError():
            return Diagnosis(error_table.NOT_REACHED, said)
        case errors.XetDownloadError():
            return Diagnosis(error_table.STORAGE, said)
        case ValueError() if BAD_CARD in str(error):
            return Diagnosis(error_table.BAD_CARD, str(error))
        case ValueError() if STORAGE_REFUSED in str(error):
            return Diagnosis(error_table.STORAGE_REFUSED, str(error))
        case OSError() | RuntimeError() if answered := STORAGE_STATUS.search(str(error)):
            status = int(answered[1])
            return Diagnosis(
                error_table.NO_XET if status == 404 else meaning_of_status(status, known, purpose), said, status
            )
        case ConnectionError():
            return Diagnosis(error_table.NOT_REACHED, said)
        case OSError() if error.errno in NO_SPACE:
            return Diagnosis(error_table.DISK_FULL, said)
        case OSError() if error.errno in NOT_ALLOWED:
            return Diagnosis(error_table.NOT_WRITABLE, said)
        case OSError() if SIZE_DIFFERS in str(error):
            return Diagnosis(error_table.CUT_SHORT, said)
        case OSError():
            return Diagnosis(error_table.NOT_TRANSFERRED, said)
    return None


def _diagnose_client(error: Exception, known: bool, purpose: Purpose) -> Diagnosis | None:
    """The client failed over an answer of a form that it does not expect."""
    import httpx2

    if not _is_client_error(error):
        return None
    for beneath in _walk_causes(error):
        # It was about to say what the Hub refused, and could not read the reason.
        if isinstance(beneath, httpx2.HTTPStatusError):
            status = beneath.response.status_code
            return Diagnosis(meaning_of_status(status, known, purpose), "for a reason that cannot be read", status)
    if isinstance(error, RuntimeError) and not isinstance(error, RecursionError):
        return Diagnosis(error_table.STORAGE, _first_line(error))
    return Diagnosis(error_table.NOT_A_HUB, _first_line(error))


def _is_client_error(error: Exception) -> bool:
    """Whether the client raised it, or a library beneath the client, and not code of ours that the client called."""
    modules = (str(frame.f_globals.get("__name__")) for frame, _ in traceback.walk_tb(error.__traceback__))
    packages = (name.partition(".")[0] for name in modules)
    return [name for name in packages if name in ("antidote_ci", "huggingface_hub")][-1:] == ["huggingface_hub"]


def _walk_causes(error: BaseException | None) -> Iterator[BaseException]:
    """The error, and all that it was raised about."""
    while error is not None:
        yield error
        error = error.__context__


def _is_unknown_host(error: BaseException) -> bool:
    """Not the passing failure of a resolver, which is EAI_AGAIN."""
    return isinstance(error, socket.gaierror) and error.errno == socket.EAI_NONAME


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def _to_safe_line(text: str, token: str | None) -> str:
    """As it may be printed: on one line and without control characters, since it must not look like a line of ours."""
    printable = "".join(character if character.isprintable() else " " for character in redact_secrets(text, token))
    return redact_secrets(" ".join(printable.split()), token)


def _shorten(text: str) -> str:
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]} ..."
