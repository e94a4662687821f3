"""Record the answers of a Hub, and give them again on 127.0.0.1."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Self

from antidote_ci.hub.client import configure_client, redact_secrets

if TYPE_CHECKING:
    import httpx2

HEADERS = ("Content-Type", "X-Error-Code", "X-Error-Message", "X-Repo-Commit", "ETag", "Location")
"""The headers of an answer that are recorded."""
PERSONAL = {
    "fullname",
    "displayName",
    "email",
    "emailVerified",
    "avatarUrl",
    "billingMode",
    "periodEnd",
    "canPay",
    "lastLogin",
}
"""Fields of an answer that are not recorded."""
ENDPOINT = "{endpoint}"
"""Stands for the address of the Hub in a recorded answer."""
UNEXPECTED = 501
"""The status for a request that was not recorded."""


@dataclass(frozen=True)
class Exchange:
    """One request, and the answer to it."""

    method: str
    target: str
    """Path and query."""
    status: int
    headers: dict[str, str]
    body: str


@contextmanager
def record(endpoint: str, token: str) -> Iterator[list[Exchange]]:
    """Add every exchange of the client with the Hub to the list, without tokens and personal fields."""
    from huggingface_hub import get_session

    exchanges: list[Exchange] = []

    def add(response: "httpx2.Response") -> None:
        response.read()
        body = redact_secrets(_without_personal(response.text), token).replace(endpoint, ENDPOINT)
        headers = {
            name: response.headers[name].replace(endpoint, ENDPOINT) for name in HEADERS if name in response.headers
        }
        target = response.request.url.raw_path.decode()
        exchanges.append(Exchange(response.request.method, target, response.status_code, headers, body))

    configure_client()
    hooks = get_session().event_hooks
    # The hooks of the client may raise an error for the answer.
    hooks["response"].insert(0, add)
    try:
        yield exchanges
    finally:
        hooks["response"].remove(add)


def _without_personal(text: str) -> str:
    """Remove personal fields and tokens from a JSON answer. Other texts stay."""
    try:
        return json.dumps(_clean(json.loads(text)))
    except ValueError:
        return text


def _clean(value: Any) -> Any:  # noqa: ANN401 - any JSON
    if isinstance(value, list):
        return [_clean(item) for item in value]
    if not isinstance(value, dict):
        return value
    # The token for Xet is a string, the description of the caller's token is an object.
    hidden = {key for key, item in value.items() if key == "accessToken" and isinstance(item, str)}
    return {key: "[token]" if key in hidden else _clean(item) for key, item in value.items() if key not in PERSONAL}


class RecordedHub:
    """A server on 127.0.0.1 that gives recorded answers in their order. Used as a context manager."""

    def __init__(self, exchanges: list[Exchange]) -> None:
        self.unexpected: list[str] = []
        """Requests other than those that were recorded."""
        self._left = list(exchanges)
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": self}))
        self.endpoint = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))

    def take(self, method: str, target: str) -> Exchange:
        """Return the next answer, or an error for another request."""
        if not self._left or (self._left[0].method, self._left[0].target) != (method, target):
            self.unexpected.append(f"{method} {target}")
            return Exchange(method, target, UNEXPECTED, {}, "this request was not recorded")
        return self._left.pop(0)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    hub: RecordedHub

    def do_GET(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        exchange = self.hub.take(self.command, self.path)
        body = exchange.body.replace(ENDPOINT, self.hub.endpoint).encode()
        self.send_response(exchange.status)
        for name, value in exchange.headers.items():
            self.send_header(name, value.replace(ENDPOINT, self.hub.endpoint))
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_HEAD = do_POST = do_PUT = do_DELETE = do_GET

    def log_message(self, format: str, *args: object) -> None:
        """Print nothing."""
