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
from antidote_ci.hub.client import address, asked_for, redact
from antidote_ci.hub.error_table import Meaning, Purpose

NO_SPACE = {errno.ENOSPC, errno.EDQUOT}
NOT_ALLOWED = {errno.EACCES, errno.EPERM, errno.EROFS}
UNAUTHORIZED = 401
READ = 10_000
SHOWN = 300
"""Characters of a message that are looked at, and that are shown."""
STORAGE_STATUS = re.compile(r"HTTP status (?:client|server) error \((\d{3})\b")
"""How the Xet client, which raises built-in errors, says what it was answered."""
SIZE_DIFFERS = "Consistency check failed"
BAD_CARD = "Invalid metadata in README.md"
STORAGE_REFUSED = "LFS batch API returned errors"


@dataclass(frozen=True)
class Found:
    """A meaning with what the Hub or the client said besides."""

    meaning: Meaning
    detail: str = ""
    status: int | None = None


@contextmanager
def explained(identifier: str, token: str | None, purpose: Purpose = "reading") -> Iterator[None]:
    """Turn what the client raises about `identifier` into our errors; the unknown passes as it is.

    The original is not chained: its message may hold a token, and a traceback would print it.
    """
    try:
        yield
    except Exception as error:
        told = error if isinstance(error, AntidoteError) else in_our_words(error, identifier, token, purpose)
        if told is None:
            raise
        cause, hint = (text and redact(text, token) for text in (told.cause, told.hint))
        raise type(told)(redact(told.what, token), cause=cause, hint=hint, passing=told.passing) from None


def in_our_words(
    error: Exception, identifier: str, token: str | None, purpose: Purpose = "reading"
) -> AntidoteError | None:
    """The error that people read; None for what is neither the Hub's nor the client's."""
    # An identity that is exchanged is a kind of token.
    found = _found(_root(error), bool(token) or purpose in error_table.EXCHANGES, purpose)
    if found is None:
        return None
    names = {
        "it": identifier,
        "hub": address(),
        "status": found.status,
        "variable": error_table.VARIABLES[purpose],
    }
    meaning, detail = found.meaning, _shortened(_line(found.detail[:READ], token))
    # Notes say how long it was tried.
    aside = "; ".join(filter(None, (detail, *getattr(error, "__notes__", ()))))
    cause = meaning.cause.format(**names) + (f" ({aside})" if aside else "")
    what, hint = (text.format(**names) for text in (meaning.what, meaning.hint))
    said = _line(what, token), _line(cause, token), _line(hint, token)
    return meaning.error(said[0], cause=said[1], hint=said[2], passing=meaning.passing)


def seconds_to_wait(error: Exception) -> float | None:
    """How long to wait at least before asking again after `error`; None where asking again would not help."""
    from huggingface_hub.errors import HfHubHTTPError

    root = _root(error)
    found = _found(root, True, "reading")
    if found is None or not (found.meaning.passing and found.meaning.waited_for):
        return None
    return asked_for(root.response.headers) if isinstance(root, HfHubHTTPError) else 0.0


def is_unauthorized(error: Exception) -> bool:
    """Whether the Hub, or its storage, does not accept the token that was sent."""
    from huggingface_hub.errors import HfHubHTTPError

    root = _root(error)
    if isinstance(root, HfHubHTTPError):
        return root.response.status_code == UNAUTHORIZED
    answered = STORAGE_STATUS.search(str(root)) if isinstance(root, OSError | RuntimeError) else None
    return answered is not None and int(answered[1]) == UNAUTHORIZED


def of_status(status: int, known: bool = True, purpose: Purpose = "reading") -> Meaning:
    """What an HTTP status means; `known`: a token was sent."""
    others = error_table.OTHER_FAILURE if status >= 500 else error_table.OTHER_REFUSAL
    special = {
        "publishing": error_table.PUBLISHING,
        "submitting": error_table.SUBMITTING,
        "managing": error_table.MANAGING,
    }
    tables = ({} if known else error_table.ANONYMOUS, special.get(purpose, {}), error_table.STATUSES)
    return next((table[status] for table in tables if status in table), others)


def _root(error: Exception) -> Exception:
    """What went wrong beneath the client's own wrapping of it."""
    from huggingface_hub.errors import LocalEntryNotFoundError, RevisionResolutionError

    wrappers = (LocalEntryNotFoundError, RevisionResolutionError, RuntimeError)
    while isinstance(error, wrappers) and isinstance(error.__cause__, Exception):
        error = error.__cause__
    return error


def _found(error: Exception, known: bool, purpose: Purpose) -> Found | None:
    return _refused(error, known, purpose) or _surroundings(error, known, purpose) or _stumbled(error, known, purpose)


def _refused(error: Exception, known: bool, purpose: Purpose) -> Found | None:
    """The Hub answered, and refused."""
    from huggingface_hub import errors

    if not isinstance(error, errors.HfHubHTTPError):
        return None
    status, message = error.response.status_code, error.server_message or ""
    passing = of_status(status).passing
    match error:
        case _ if purpose in error_table.EXCHANGES and not passing:
            return Found(error_table.EXCHANGES[purpose], f"{status}: {message}" if message else str(status))
        # A gated repository is a subclass of an unknown one: it goes first.
        case errors.GatedRepoError():
            gated = error_table.GATED if known else error_table.GATED_ANONYMOUS
            return Found(_by_words(error_table.WAITING, message) or gated)
        case errors.RepositoryNotFoundError():
            unknown = error_table.UNKNOWN_TARGET if purpose == "publishing" else error_table.UNKNOWN_REPOSITORY
            return Found(unknown)
        case errors.RevisionNotFoundError():
            return Found(error_table.UNKNOWN_REVISION)
        case errors.RemoteEntryNotFoundError():
            return Found(error_table.UNKNOWN_FILE)
        case errors.DisabledRepoError():
            return Found(error_table.DISABLED)
    # What these words mean is known of repositories alone.
    spoken = status == 403 and known and purpose not in ("submitting", "managing")
    by_words = _by_words(error_table.FORBIDDEN, message) if spoken else None
    return Found(by_words or of_status(status, known, purpose), message, status)


def _by_words(table: Mapping[str, Meaning], message: str) -> Meaning | None:
    return next((meaning for words, meaning in table.items() if re.search(words, message[:READ], re.IGNORECASE)), None)


def _surroundings(error: Exception, known: bool, purpose: Purpose) -> Found | None:
    """The Hub was not asked or not reached, what answered is no Hub, or this machine has no room."""
    import httpx2
    from huggingface_hub import constants, errors

    said = _first_line(error)
    match error:
        case errors.HFValidationError():
            return Found(error_table.NOT_A_NAME)
        case errors.OfflineModeIsEnabled():
            return Found(error_table.OFFLINE)
        case errors.LocalEntryNotFoundError() | errors.RevisionResolutionError():
            return Found(error_table.OFFLINE) if constants.is_offline_mode() else Found(error_table.NOT_REACHED, said)
        case errors.OIDCError():
            return Found(error_table.IDENTITY, said)
        case errors.FileMetadataError() | json.JSONDecodeError() | httpx2.DecodingError() | httpx2.TooManyRedirects():
            return Found(error_table.NO_HUB, said)
        case httpx2.InvalidURL() | httpx2.UnsupportedProtocol():
            return Found(error_table.NOT_AN_ADDRESS, said)
        case httpx2.LocalProtocolError():
            # Its message is the header that could not be sent.
            return Found(error_table.NOT_SENT)
        case httpx2.ProxyError():
            return Found(error_table.PROXY, said)
        case httpx2.TimeoutException() | TimeoutError():
            return Found(error_table.NOT_IN_TIME, said)
        case httpx2.ConnectError() if "CERTIFICATE_VERIFY_FAILED" in str(error):
            return Found(error_table.NOT_TRUSTED, said)
        case httpx2.ConnectError() if any(map(_is_unknown_host, _beneath(error))):
            return Found(error_table.NO_SUCH_HOST, said)
        case httpx2.TransportError():
            return Found(error_table.NOT_REACHED, said)
        case errors.XetDownloadError():
            return Found(error_table.STORAGE, said)
        case ValueError() if BAD_CARD in str(error):
            return Found(error_table.BAD_CARD, str(error))
        case ValueError() if STORAGE_REFUSED in str(error):
            return Found(error_table.STORAGE_REFUSED, str(error))
        case OSError() | RuntimeError() if answered := STORAGE_STATUS.search(str(error)):
            status = int(answered[1])
            return Found(error_table.NO_XET if status == 404 else of_status(status, known, purpose), said, status)
        case ConnectionError():
            return Found(error_table.NOT_REACHED, said)
        case OSError() if error.errno in NO_SPACE:
            return Found(error_table.DISK_FULL, said)
        case OSError() if error.errno in NOT_ALLOWED:
            return Found(error_table.NOT_WRITABLE, said)
        case OSError() if SIZE_DIFFERS in str(error):
            return Found(error_table.CUT_SHORT, said)
        case OSError():
            return Found(error_table.NOT_TRANSFERRED, said)
    return None


def _stumbled(error: Exception, known: bool, purpose: Purpose) -> Found | None:
    """The client failed over an answer of a form that it does not expect."""
    import httpx2

    if not _in_client(error):
        return None
    for beneath in _beneath(error):
        # It was about to say what the Hub refused, and could not read the reason.
        if isinstance(beneath, httpx2.HTTPStatusError):
            status = beneath.response.status_code
            return Found(of_status(status, known, purpose), "for a reason that cannot be read", status)
    if isinstance(error, RuntimeError) and not isinstance(error, RecursionError):
        return Found(error_table.STORAGE, _first_line(error))
    return Found(error_table.NO_HUB, _first_line(error))


def _in_client(error: Exception) -> bool:
    """Whether the client raised it, or a library beneath the client, and not code of ours that the client called."""
    modules = (str(frame.f_globals.get("__name__")) for frame, _ in traceback.walk_tb(error.__traceback__))
    packages = (name.partition(".")[0] for name in modules)
    return [name for name in packages if name in ("antidote_ci", "huggingface_hub")][-1:] == ["huggingface_hub"]


def _beneath(error: BaseException | None) -> Iterator[BaseException]:
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


def _line(text: str, token: str | None) -> str:
    """As it may be printed: on one line and without control characters, since it must not look like a line of ours."""
    printable = "".join(character if character.isprintable() else " " for character in redact(text, token))
    return redact(" ".join(printable.split()), token)


def _shortened(text: str) -> str:
    return text if len(text) <= SHOWN else f"{text[:SHOWN]} ..."
