"""The Hub's client, and its exceptions in our words.

https://huggingface.co/docs/huggingface_hub/package_reference/utilities#errors (huggingface_hub 2.4)
"""

import errno
import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from antidote_ci.errors import AntidoteError, ConfigurationError, InfrastructureError, PublishConflict

if TYPE_CHECKING:
    from huggingface_hub import HfApi

TOKEN = re.compile(r"hf_[A-Za-z0-9_.-]{16,}")
"""The Hub's tokens are longer still; a model may be called hf_something."""
NO_SPACE = {errno.ENOSPC, errno.EDQUOT}


def endpoint() -> str:
    """The Hub's address without a trailing slash: HF_ENDPOINT as it is now.

    The client reads the variable once, at import; a loopback Hub starts later than that.
    """
    from huggingface_hub import constants

    return (os.environ.get("HF_ENDPOINT") or constants.ENDPOINT).rstrip("/")


def api(token: str | None) -> "HfApi":
    """A client that sends `token`, or none: a token saved on this machine is never picked up."""
    from huggingface_hub import HfApi

    return HfApi(endpoint=endpoint(), token=token or False, library_name="antidote-ci")


def redact(text: str, token: str | None) -> str:
    """`text` without `token` and without anything else that looks like a Hub token."""
    if token:
        text = text.replace(token, "[token]")
    return TOKEN.sub("[token]", text)


@contextmanager
def explained(identifier: str, token: str | None) -> Iterator[None]:
    """Turn what the client raises about `identifier` into our errors; the unknown passes as it is.

    The original is not chained: its message may hold a token, and a traceback would print it.
    """
    try:
        yield
    except AntidoteError:
        raise
    except Exception as error:
        root = _root(error)
        known = _refusal(root, identifier, token) or _surroundings(root, identifier)
        if known is None:
            raise
        told = [_told(text, token) for text in (known.what, known.cause, known.hint)]
        raise type(known)(str(told[0]), cause=told[1], hint=told[2]) from None


def _told(text: str | None, token: str | None) -> str | None:
    """As it may be printed: on one line, since what the Hub says must not look like a line of ours."""
    return redact(" ".join(text.split()), token) if text else None


def _root(error: Exception) -> Exception:
    """What went wrong beneath the client's own wrapping of it."""
    from huggingface_hub.errors import LocalEntryNotFoundError

    while isinstance(error, LocalEntryNotFoundError | RuntimeError) and isinstance(error.__cause__, Exception):
        error = error.__cause__
    return error


def _refusal(error: Exception, identifier: str, token: str | None) -> AntidoteError | None:
    """The Hub answered, and refused."""
    from huggingface_hub import errors

    match error:
        # A gated repository is a subclass of an unknown one: it goes first.
        case errors.GatedRepoError():
            return InfrastructureError(
                f"{identifier} is gated",
                cause=(
                    "the account of this token has not accepted its conditions"
                    if token
                    else "its files are given only to accounts that accepted its conditions"
                ),
                hint=f"accept the conditions at {_where()}/{identifier}, then set HF_TOKEN",
            )
        case errors.RepositoryNotFoundError():
            return InfrastructureError(
                f"{identifier} is not on {_where()}",
                cause="the name is mistyped, or it is private and this token cannot see it",
                hint="check the name; set HF_TOKEN if it is private, write ./name for a local folder",
            )
        case errors.RevisionNotFoundError():
            return InfrastructureError(
                f"{identifier} has no such revision",
                cause="the branch, tag or commit is mistyped, or it was deleted",
                hint=f"choose one listed at {_where()}/{identifier}/tree/main",
            )
        case errors.DisabledRepoError():
            return InfrastructureError(
                f"{identifier} is disabled",
                cause="the Hub or its owner has closed the repository",
                hint=f"read the notice at {_where()}/{identifier}",
            )
        case errors.HFValidationError():
            return ConfigurationError(
                f"{identifier!r} is not a model's name",
                cause="a name on the Hub is written organisation/name",
                hint="write organisation/name, or ./folder for a local checkpoint",
            )
        case errors.HfHubHTTPError():
            return _status(error.response.status_code, identifier, error.server_message or "")
    return None


def _status(status: int, identifier: str, message: str) -> AntidoteError:
    """An HTTP status that no finer error of the client describes."""
    if status == 412:
        return PublishConflict(
            f"{identifier} is no longer at the revision that was tested",
            cause="it moved during the run",
            hint="run again on its new head",
        )
    what = f"{_where()} answered {status} for {identifier}"
    if status == 401:
        cause, hint = "the token is not valid", "make a new token in the Hub's settings"
    elif status == 403:
        cause, hint = "the token lacks this right", "use a token that has it on this repository"
    elif status == 429:
        cause, hint = (
            "too many requests from this account or address",
            "wait five minutes; set HF_TOKEN",
        )
    elif status >= 500:
        cause, hint = "the Hub is down or overloaded", "run the same command again later"
    else:
        cause, hint = "the Hub refused the request", "run the same command again"
    return InfrastructureError(what, cause=f"{cause} ({message})" if message else cause, hint=hint)


def _surroundings(error: Exception, identifier: str) -> AntidoteError | None:
    """The Hub was not reached, what answered is no Hub, or this machine has no room."""
    import httpx2
    from huggingface_hub.errors import LocalEntryNotFoundError, OfflineModeIsEnabled, OIDCError

    match error:
        case OfflineModeIsEnabled() | LocalEntryNotFoundError():
            return InfrastructureError(
                f"{identifier} is not in the local cache",
                cause="HF_HUB_OFFLINE is set, so the Hub was not asked",
                hint="unset HF_HUB_OFFLINE, or name a 40-hex revision that was pulled before",
            )
        case httpx2.TransportError() | ConnectionError():
            return InfrastructureError(
                f"{_where()} cannot be reached",
                cause=f"no network, a proxy, or a wrong HF_ENDPOINT ({_first_line(error)})",
                hint="check the connection, then run the same command again",
            )
        case json.JSONDecodeError():
            return InfrastructureError(
                f"{_where()} does not answer like a Hub",
                cause="a wrong HF_ENDPOINT, or a proxy that answers in its place",
                hint="check HF_ENDPOINT and the proxy settings",
            )
        case OIDCError():
            return InfrastructureError(
                "the workflow's identity could not be exchanged for a token",
                cause=_first_line(error),
                hint="grant `id-token: write`, or unset HF_OIDC_RESOURCE and set HF_TOKEN",
            )
        case OSError() if error.errno in NO_SPACE:
            return InfrastructureError(
                f"the disk is full: {identifier} could not be written",
                cause=_first_line(error),
                hint="free some space, or set HF_HOME to a larger disk",
            )
        case OSError():
            return InfrastructureError(
                f"{identifier} could not be transferred",
                cause=_first_line(error),
                hint="run the same command again",
            )
    return None


def _where() -> str:
    """The Hub's address without credentials that HF_ENDPOINT may hold."""
    parts = urlsplit(endpoint())
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
