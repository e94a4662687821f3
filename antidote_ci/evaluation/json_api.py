"""JSON from a server that others run.

What a server sends is hostile: no text of a response reaches an error, only its status or what it lacks.
"""

import json
import random
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from antidote_ci.errors import InfrastructureError

if TYPE_CHECKING:
    import httpx2

ATTEMPTS = 4
RETRIED_STATUSES = (429, 500, 502, 503, 504)
LONGEST_PAUSE = 60.0
LARGEST_RESPONSE = 16 * 2**20

STATUS_CAUSES = {
    400: ("it does not serve that model, or the prompt is longer than the model's context", "check the model's name"),
    401: ("it wants a key, or another one", "check the API key"),
    403: ("the key may not use this model", "check the API key"),
    404: ("the path or the model does not exist there", "the address goes up to and with /v1; check the model's name"),
    422: ("it does not know a field of the request", "see the server's log"),
    429: ("too many requests for this key or server", "try later"),
}


def redact_address(address: str) -> str:
    """The address without user, password, query and fragment."""
    from urllib.parse import urlsplit

    parts = urlsplit(address)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}".rstrip("/")


def open_client(address: str, key: str | None, timeout: float) -> "httpx2.Client":
    """For every request to one server."""
    from urllib.parse import urlsplit

    import httpx2

    return httpx2.Client(
        headers={"Authorization": f"Bearer {key}"} if key else {},
        timeout=httpx2.Timeout(timeout, connect=min(timeout, 30)),
        follow_redirects=False,
        # A proxy of the surroundings is for other machines.
        trust_env=urlsplit(address).hostname not in ("127.0.0.1", "localhost", "::1"),
    )


def send_request(
    client: "httpx2.Client",
    address: str,
    method: str,
    path: str,
    timeout: float,
    body: Mapping[str, object] | None = None,
    attempts: int = ATTEMPTS,
) -> Any:  # noqa: ANN401 - any JSON
    """The response's body. Asks again only where another answer can be expected. Raises InfrastructureError."""
    import httpx2

    named = redact_address(address)
    for attempt in range(attempts):
        try:
            response, content = _send_once(client, address, method, path, timeout, body)
        except httpx2.TimeoutException:
            raise InfrastructureError(
                f"{named} did not answer within {timeout:g} s",
                cause="it is overloaded, or too slow for this many tokens",
                hint="fewer tokens, or a faster server",
            ) from None
        except httpx2.TransportError as error:
            failure = InfrastructureError(
                f"{named} cannot be reached ({type(error).__name__})",
                cause="no server listens there, or it broke off",
                hint=f"is it up? curl {named}/models",
            )
            pause = None
        except httpx2.RequestError:
            raise format_error(named, "a readable body") from None
        else:
            if response.status_code == 200:
                try:
                    return json.loads(content)
                except (ValueError, RecursionError):
                    raise format_error(named, "JSON") from None
            failure = _refusal_error(named, response.status_code)
            if response.status_code not in RETRIED_STATUSES:
                raise failure
            pause = _parse_retry_after(response.headers.get("retry-after"))
        if attempt + 1 < attempts:
            jitter = random.SystemRandom().uniform(0, 0.5 * 2**attempt)
            time.sleep(min(LONGEST_PAUSE, jitter if pause is None else pause + jitter / 4))
    raise failure


def _send_once(
    client: "httpx2.Client",
    address: str,
    method: str,
    path: str,
    timeout: float,
    body: Mapping[str, object] | None,
) -> tuple["httpx2.Response", bytes]:
    import httpx2

    url = httpx2.URL(address)
    deadline = time.monotonic() + timeout
    content = bytearray()
    with client.stream(method, url.copy_with(path=url.path.rstrip("/") + path), json=body) as response:
        for chunk in response.iter_bytes():
            content += chunk
            if time.monotonic() > deadline:
                raise httpx2.ReadTimeout("the response drips in")
            if len(content) > LARGEST_RESPONSE:
                raise httpx2.DecodingError("the response does not end")
    return response, bytes(content)


def _parse_retry_after(value: str | None) -> float | None:
    """Seconds; the header's other form, a date, is rare and treated as none."""
    return float(value) if value is not None and value.isascii() and value.isdigit() else None


def _refusal_error(named: str, status: int) -> InfrastructureError:
    cause, hint = STATUS_CAUSES.get(status, ("it failed by itself", "see the server's log"))
    if 300 <= status < 400:
        cause, hint = "redirects are not followed", "give the address it leads to"
    return InfrastructureError(f"{named} answered with status {status}", cause=cause, hint=hint)


def format_error(named: str, lacked: str) -> InfrastructureError:
    """For what answers in another way than it should."""
    return InfrastructureError(
        f"{named} does not answer as an OpenAI-compatible chat API: the response lacks {lacked}",
        cause="the address leads elsewhere: it goes up to and with /v1",
        hint=f"curl {named}/models",
    )
