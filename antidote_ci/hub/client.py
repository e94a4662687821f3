"""The huggingface_hub client: its endpoint, timeouts, response checks, and the redaction of secrets.

https://huggingface.co/docs/huggingface_hub/package_reference/utilities (huggingface_hub 2.4)
"""

import json
import logging
import os
import re
import threading
import time
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from email.utils import parsedate_to_datetime
from functools import cache
from itertools import count
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote

from antidote_ci import http_limits

if TYPE_CHECKING:
    import httpx2
    from huggingface_hub import HfApi, ModelInfo

TIMEOUTS = {"connect": 15.0, "write": 60.0, "read": 90.0}
"""Seconds without a byte. The Hub may take 60 seconds for a commit."""
REQUEST_SECONDS = 300.0
"""How long one request waits for the Hub in total, redirects included. The body of a download is not part of it."""
INFO_SECONDS = 30.0
"""The timeout for the description of a repository. The client sets none."""
MAX_ANSWERS = 5_000
"""For one call in one thread: pages of a list, or single discussions. A Hub could name a next page for ever."""
MAX_CLIENT_WAIT = 8.0
"""The longest pause of the client between two of its own attempts, unless the Hub asks for a longer one."""
MAX_REQUESTED_WAIT = 1e9

TOKEN = re.compile(r"hf_[A-Za-z0-9_.-]{16,}|eyJ[\w-]{8,}\.[\w-]+\.[\w-]*")
"""Hub tokens (a model name may start with hf_, but is shorter) and JSON web tokens."""
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
"""Environment variables whose values are redacted."""
MIN_SECRET_LENGTH = 6
PIECE_LENGTH = 12
"""A text with this many consecutive characters of a secret is withheld."""
USED_TOKENS: set[str] = set()
"""Tokens that this process has sent. A token exchanged for an identity is in no environment variable."""
CHECKED_HEADERS = ("X-Repo-Commit", "X-Linked-ETag", "ETag")
"""Response headers that the client uses as names of folders and files."""
RESOLVED_COMMIT = re.compile(r"/resolve/([0-9a-f]{40})/")
"""The commit in the address of a file."""
HASH = re.compile(r'(W/)?"?[0-9a-f]{40}([0-9a-f]{24})?"?')
REDACTED = "[token]"
WITHHELD = "[withheld: contains part of a token]"
_CONFIGURATION_LOCK = threading.Lock()
_ANSWERS: ContextVar[Iterator[int] | None] = ContextVar("answers", default=None)
"""Counts the answers of a call."""
_ANSWERED: set[tuple[str, int | None]] = set()
"""Host and port of the servers that have answered this process."""


def read_endpoint() -> str:
    """The Hub's address without a trailing slash, from the current HF_ENDPOINT.

    The client reads the variable once, at import. A loopback Hub starts later.
    """
    from huggingface_hub import constants

    return (os.environ.get("HF_ENDPOINT") or constants.ENDPOINT).rstrip("/")


def printable_endpoint() -> str:
    """The Hub's address without the credentials that HF_ENDPOINT may contain."""
    scheme, separator, rest = read_endpoint().partition("://")
    return f"{scheme}{separator}{rest.rpartition('@')[2]}"


def has_answered() -> bool:
    """Whether the Hub, or a proxy in its place, has answered this process. Raises for an invalid endpoint."""
    import httpx2

    address = httpx2.URL(read_endpoint())
    return (address.host, address.port) in _ANSWERED


def create_api(token: str | None) -> "HfApi":
    """A client that sends `token`, or no token. It never uses a token saved on this machine."""
    from huggingface_hub import HfApi

    configure_client()
    if token:
        USED_TOKENS.add(token)
    return HfApi(endpoint=read_endpoint(), token=token or False, library_name="antidote-ci")


@contextmanager
def parse_answer() -> Iterator[None]:
    """Raise the error of a server that is not a Hub when a value in the block has another type than the Hub sends."""
    try:
        yield
    except json.JSONDecodeError:
        raise
    except (AttributeError, LookupError, RecursionError, TypeError, ValueError) as error:
        raise json.JSONDecodeError(f"it has another form: {type(error).__name__}", "", 0) from None


def fetch_model_info(
    client: "HfApi", identifier: str, revision: str | None = None, *, files: bool = False, security: bool = False
) -> "ModelInfo":
    """`HfApi.model_info` with only the licence of the model card: keys of a card can break the client's parser.

    Raises the errors of `HfApi.model_info`. https://huggingface.co/docs/hub/api#get-apimodelsrepoid
    """
    from huggingface_hub import ModelInfo, get_session, hf_raise_for_status
    from huggingface_hub.utils import build_hf_headers, validate_repo_id

    validate_repo_id(identifier)
    address = f"{client.endpoint}/api/models/{identifier}"
    response = get_session().get(
        address if revision is None else f"{address}/revision/{quote(revision, safe='')}",
        headers=build_hf_headers(token=client.token, library_name=client.library_name),
        params={name: True for name, wanted in {"blobs": files, "securityStatus": security}.items() if wanted},
        timeout=INFO_SECONDS,
    )
    hf_raise_for_status(response)
    with parse_answer():
        info = response.json()
        if not isinstance(info, dict):
            raise TypeError("it is not an object")
    card = info.get("cardData")
    info["cardData"] = {"license": card.get("license")} if isinstance(card, dict) else None
    for unused in ("self", "evalResults"):
        info.pop(unused, None)
    return ModelInfo(**info)  # type: ignore[no-untyped-call]


def fetch_commit_message(client: "HfApi", identifier: str, commit: str) -> str:
    """The description of a commit, without its title. Raises the errors of `HfApi.list_repo_commits`.

    That function downloads the whole history of the commit. This one asks for its first page.
    """
    from huggingface_hub import get_session, hf_raise_for_status
    from huggingface_hub.utils import build_hf_headers

    response = get_session().get(
        f"{client.endpoint}/api/models/{identifier}/commits/{commit}",
        headers=build_hf_headers(token=client.token, library_name=client.library_name),
        timeout=INFO_SECONDS,
    )
    hf_raise_for_status(response)
    with parse_answer():
        first = response.json()[0]
        if first["id"] != commit:
            raise ValueError("it is not the history of the commit")
        return str(first.get("message") or "")


def configure_client() -> None:
    """Set timeouts and response checks, and redact the log of the client. Affects the whole process, once."""
    # Two threads must not configure the client at once: the second would close the session of the first.
    with _CONFIGURATION_LOCK:
        _configure_once()


@cache
def _configure_once() -> None:
    import httpx2
    from huggingface_hub import get_session, set_client_factory

    request_hooks = get_session().event_hooks["request"]

    def create_http_client() -> httpx2.Client:
        hooks: dict[str, list[Callable[..., Any]]] = {
            "request": [*request_hooks, _set_timeout],
            "response": [_note_answer, _drop_invalid_headers, _raise_on_wait],
        }
        return http_limits.create_client(REQUEST_SECONDS, event_hooks=hooks, follow_redirects=True, timeout=None)

    set_client_factory(create_http_client)
    for handler in logging.getLogger("huggingface_hub").handlers:
        handler.addFilter(_redact_record)


def requested_wait(headers: Mapping[str, str]) -> float:
    """The seconds to wait before the next request: the longer of `RateLimit` and `Retry-After`; 0 without either.

    The client obeys `Retry-After` after some answers, and `RateLimit` after others.

    https://www.rfc-editor.org/rfc/rfc9110#section-10.2.3, https://huggingface.co/docs/hub/rate-limits
    """
    from huggingface_hub.utils import parse_ratelimit_headers

    waits = [0.0]
    with suppress(ValueError):
        limit = parse_ratelimit_headers(headers)
        if limit is not None and limit.remaining == 0:
            waits.append(limit.reset_in_seconds)
    text = headers.get("Retry-After", "").strip()
    with suppress(ValueError, OverflowError):
        waits.append(float(text) if text.isdigit() else parsedate_to_datetime(text).timestamp() - time.time())
    return float(min(max(waits), MAX_REQUESTED_WAIT))


def redact_secrets(text: str, token: str | None) -> str:
    """`text` without `token`, tokens that this process sent, secrets of the environment, and strings like tokens.

    Returns WITHHELD for a text that contains part of a secret.
    """
    candidates = (token, *USED_TOKENS, *_environment_secrets())
    secrets = {secret for secret in candidates if secret and len(secret) >= MIN_SECRET_LENGTH}
    for form in sorted({form for secret in secrets for form in _encoded_forms(secret)}, key=len, reverse=True):
        text = text.replace(form, REDACTED)
    text = TOKEN.sub(REDACTED, text)
    unwrapped = "".join(text.split())
    return WITHHELD if any(piece in unwrapped for secret in secrets for piece in _secret_pieces(secret)) else text


def to_safe_line(text: str, token: str | None) -> str:
    """`text` on one line, without control characters and secrets: it must not look like a line of this program."""
    printable = "".join(character if character.isprintable() else " " for character in redact_secrets(text, token))
    return redact_secrets(" ".join(printable.split()), token)


def _environment_secrets() -> Iterator[str]:
    for name in SECRETS:
        yield os.environ.get(name, "").strip()
    credentials = os.environ.get("HF_ENDPOINT", "").partition("://")[2].rpartition("@")[0]
    yield from (credentials, unquote(credentials), unquote(credentials.partition(":")[2]))


def _encoded_forms(secret: str) -> Iterator[str]:
    """The secret as it appears in a header, in an address, and in base64."""
    yield secret
    yield quote(secret, safe="")
    yield _encode_base64(secret, 0).rstrip("=")


def _secret_pieces(secret: str) -> Iterator[str]:
    for encoded in (secret, *(_encode_base64(secret, shift)[4:-4] for shift in range(3))):
        for start in range(len(encoded) - PIECE_LENGTH + 1):
            yield encoded[start : start + PIECE_LENGTH]


def _encode_base64(secret: str, shift: int) -> str:
    """Base64 of the secret after `shift` other bytes: the position modulo 3 changes the encoding."""
    return b64encode(b" " * shift + secret.encode("utf-8", "surrogateescape")).decode()


def _set_timeout(request: "httpx2.Request") -> None:
    """Set TIMEOUTS where the client sets no timeout, as in most of its calls."""
    requested = request.extensions.get("timeout", {})
    own = {name: seconds for name, seconds in requested.items() if seconds is not None}
    request.extensions["timeout"] = {**TIMEOUTS, **own}


def count_answers() -> None:
    """Begin a call: after MAX_ANSWERS further answers to GET in this thread, DecodingError is raised."""
    _ANSWERS.set(count(1))


def _note_answer(response: "httpx2.Response") -> None:
    import httpx2

    _ANSWERED.add((response.request.url.host, response.request.url.port))
    answers = _ANSWERS.get()
    # An upload has a request for each part of a file.
    if answers is not None and response.request.method == "GET" and next(answers) > MAX_ANSWERS:
        raise httpx2.DecodingError(f"more than {MAX_ANSWERS:,} answers to one call", request=response.request)


def _drop_invalid_headers(response: "httpx2.Response") -> None:
    """Remove CHECKED_HEADERS that are not hashes, and another commit than the requested one: the client would store
    the file under it, also for later runs. The client handles missing headers.

    Responses without a commit are left alone. The parts of an upload have ETags of another form.
    """
    if (commit := response.headers.get(CHECKED_HEADERS[0])) is None:
        return
    for name in CHECKED_HEADERS:
        if name in response.headers and not HASH.fullmatch(response.headers[name]):
            del response.headers[name]
    requested = RESOLVED_COMMIT.search(response.request.url.path)
    if requested is not None and commit != requested[1]:
        response.headers.pop(CHECKED_HEADERS[0], None)


def _raise_on_wait(response: "httpx2.Response") -> None:
    """Raise instead of a long sleep inside the client: `RetryPolicy` announces pauses and limits their total."""
    from huggingface_hub import hf_raise_for_status

    if response.status_code >= 400 and requested_wait(response.headers) > MAX_CLIENT_WAIT:
        hf_raise_for_status(response)


def _redact_record(record: logging.LogRecord) -> bool:
    """Redact a log record of the client. False, which drops the record, if its text is withheld.

    The Hub chooses some texts (X-HF-Warning), which must not look like a line of this program or a workflow command.
    """
    text = http_limits.QUERY.sub(r"\1", to_safe_line(record.getMessage(), None))
    record.msg, record.args = f"huggingface_hub: {text}", None
    return text != WITHHELD
