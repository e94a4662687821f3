"""The Hub's client: where it asks, with which token, for how long, and what must never be printed of it.

https://huggingface.co/docs/huggingface_hub/package_reference/utilities (huggingface_hub 2.4)
"""

import logging
import os
import re
import time
from base64 import b64encode
from collections.abc import Iterator, Mapping
from email.utils import parsedate_to_datetime
from functools import cache
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote

if TYPE_CHECKING:
    import httpx2
    from huggingface_hub import HfApi

TIMEOUTS = {"connect": 15.0, "write": 60.0, "read": 90.0}
"""Seconds without a byte. The Hub allows itself 60 to make a commit."""
MAX_CLIENT_WAIT = 8.0
"""The longest pause that the client makes by itself between two attempts, unless the Hub asks for more."""
NO_RETRY_SECONDS = 1e9

TOKEN = re.compile(r"hf_[A-Za-z0-9_.-]{16,}|eyJ[\w-]{8,}\.[\w-]+\.[\w-]*")
"""Tokens of the Hub (a model may be called hf_something, but not that long), and signed identities."""
SECRETS = (
    "HF_TOKEN",
    "HF_WRITE_TOKEN",
    "HF_JOBS_TOKEN",
    "HUGGING_FACE_HUB_TOKEN",
    "HF_OIDC_ID_TOKEN",
    "ACTIONS_ID_TOKEN_REQUEST_TOKEN",
    "ANTIDOTE_JUDGE_KEY",
    "ANTIDOTE_SERVER_KEY",
    "ANTIDOTE_WEBHOOK_SECRET",
)
SHORTEST_SECRET = 6
PIECE = 12
"""So much of a secret in a row is a part of it, and no accident."""
USED_TOKENS: set[str] = set()
"""The tokens that this process has sent: one that was exchanged for an identity stands in no variable."""
CHECKED_HEADERS = ("X-Repo-Commit", "X-Linked-ETag", "ETag")
"""Headers of a file's answer, of which the client makes names of folders and files."""
HASH = re.compile(r'(W/)?"?[0-9a-f]{40}([0-9a-f]{24})?"?')
REDACTED = "[token]"
WITHHELD = "[not shown: it holds a part of a token]"


def read_endpoint() -> str:
    """The Hub's address without a trailing slash: HF_ENDPOINT as it is now.

    The client reads the variable once, at import; a loopback Hub starts later than that.
    """
    from huggingface_hub import constants

    return (os.environ.get("HF_ENDPOINT") or constants.ENDPOINT).rstrip("/")


def printable_endpoint() -> str:
    """The Hub's address as it may be printed: without credentials that HF_ENDPOINT may hold."""
    scheme, separator, rest = read_endpoint().partition("://")
    return f"{scheme}{separator}{rest.rpartition('@')[2]}"


def create_api(token: str | None) -> "HfApi":
    """A client that sends `token`, or none: a token saved on this machine is never picked up."""
    from huggingface_hub import HfApi

    configure_client()
    if token:
        USED_TOKENS.add(token)
    return HfApi(endpoint=read_endpoint(), token=token or False, library_name="antidote-ci")


def forget_exchanged(token: str) -> None:
    """Let the client exchange the workflow's identity again, although it takes `token` for valid.

    The client keeps the token of an exchange and has no public way to drop it.
    """
    from huggingface_hub.utils import _auth

    with _auth._OIDC_TOKEN_LOCK:
        kept = _auth._OIDC_TOKEN_CACHE
        if kept is not None and kept["token"] == token:
            _auth._OIDC_TOKEN_CACHE = None


@cache
def configure_client() -> None:
    """Give the client limits of time, and clean what it logs. For the whole process, when it is first used."""
    from huggingface_hub import set_client_factory

    set_client_factory(_create_http_client)
    for handler in logging.getLogger("huggingface_hub").handlers:
        handler.addFilter(_redact_record)


def requested_wait(headers: Mapping[str, str]) -> float:
    """For how many seconds the Hub wants not to be asked: by its rate limit, else by `Retry-After`.

    https://www.rfc-editor.org/rfc/rfc9110#section-10.2.3, https://huggingface.co/docs/hub/rate-limits
    """
    from huggingface_hub.utils._http import parse_ratelimit_headers

    text = headers.get("Retry-After", "").strip()
    try:
        limit = parse_ratelimit_headers(headers)
        if limit is not None and limit.remaining == 0:
            return min(float(limit.reset_in_seconds), NO_RETRY_SECONDS)
        if text.isdigit():
            return min(float(text), NO_RETRY_SECONDS)
        return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
    except (ValueError, OverflowError):
        return 0.0


def redact_secrets(text: str, token: str | None) -> str:
    """`text` without `token`, the tokens of this process, the secrets of its environment, and what looks like a token.

    A text that still holds a part of one, wrapped or cut, is not given at all.
    """
    secrets = {
        secret for secret in (token, *USED_TOKENS, *_known_secrets()) if secret and len(secret) >= SHORTEST_SECRET
    }
    for form in sorted({form for secret in secrets for form in _encoded_forms(secret)}, key=len, reverse=True):
        text = text.replace(form, REDACTED)
    text = TOKEN.sub(REDACTED, text)
    unwrapped = "".join(text.split())
    return WITHHELD if any(piece in unwrapped for secret in secrets for piece in _secret_pieces(secret)) else text


def _known_secrets() -> Iterator[str]:
    for name in SECRETS:
        yield os.environ.get(name, "").strip()
    credentials = os.environ.get("HF_ENDPOINT", "").partition("://")[2].rpartition("@")[0]
    yield from (credentials, unquote(credentials), unquote(credentials.partition(":")[2]))


def _encoded_forms(secret: str) -> Iterator[str]:
    """As it travels: in a header, in an address, and in base64."""
    yield secret
    yield quote(secret, safe="")
    yield _encode_base64(secret, 0).rstrip("=")


def _secret_pieces(secret: str) -> Iterator[str]:
    for whole in (secret, *(_encode_base64(secret, shift)[4:-4] for shift in range(3))):
        for start in range(len(whole) - PIECE + 1):
            yield whole[start : start + PIECE]


def _encode_base64(secret: str, shift: int) -> str:
    """In base64, behind `shift` other bytes: the same bytes look otherwise at each of three places."""
    return b64encode(b" " * shift + secret.encode("utf-8", "surrogateescape")).decode()


def _create_http_client() -> "httpx2.Client":
    """The client's own, with hooks of ours behind its own."""
    from huggingface_hub.utils._http import default_client_factory

    client = default_client_factory()
    hooks = client.event_hooks
    client.event_hooks = {
        "request": [*hooks["request"], _set_timeout],
        "response": [*hooks["response"], _drop_invalid_headers, _raise_on_wait],
    }
    return client


def _set_timeout(request: "httpx2.Request") -> None:
    """Most calls of the client set no limit, and would wait for ever."""
    given = request.extensions.get("timeout", {})
    request.extensions["timeout"] = {**TIMEOUTS, **{key: value for key, value in given.items() if value is not None}}


def _drop_invalid_headers(response: "httpx2.Response") -> None:
    """What is no hash is no name either: the client knows what to do without the header.

    Other answers have tags of other forms: those of the parts of an upload are sent back.
    """
    if CHECKED_HEADERS[0] in response.headers:
        for name in CHECKED_HEADERS:
            if name in response.headers and not HASH.fullmatch(response.headers[name]):
                del response.headers[name]


def _raise_on_wait(response: "httpx2.Response") -> None:
    """The client would sleep as long as the Hub likes, without a word: waiting is the business of `RetryPolicy`."""
    from huggingface_hub.utils._http import hf_raise_for_status

    if response.status_code >= 400 and requested_wait(response.headers) > MAX_CLIENT_WAIT:
        hf_raise_for_status(response)


def _redact_record(record: logging.LogRecord) -> bool:
    """What the client logs has addresses in it, and what the Hub said. False where nothing of it can be shown."""
    record.msg, record.args = redact_secrets(" ".join(record.getMessage().split()), None), None
    return record.msg != WITHHELD
