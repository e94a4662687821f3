"""A proxy in front of a Hub that records requests, and whose answers a test may replace."""

import http.client
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Self, cast
from urllib.parse import urlsplit

from tests.serving import Handler, Server

HOP = {"connection", "transfer-encoding", "keep-alive", "date", "server"}


@dataclass(frozen=True)
class Request:
    """A received request."""

    method: str
    path: str
    headers: dict[str, str]
    """Names in lower case."""


@dataclass(frozen=True)
class Answer:
    """A response. The last `cut` bytes of the body are not sent, and the connection is closed."""

    status: int
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    cut: int = 0

    @classmethod
    def of(cls, content: object) -> Self:
        return cls(200, {"Content-Type": "application/json"}, json.dumps(content).encode())

    def json(self) -> dict[str, Any]:
        return cast(dict[str, Any], json.loads(self.body))


Respond = Callable[[Request, Callable[[], Answer]], Answer]
"""Called with a request and a function that forwards it to the Hub."""


def forwarded(_: Request, hub: Callable[[], Answer]) -> Answer:
    """Return the answer of the Hub."""
    return hub()


class Front(Server):
    """With an empty `hub`, `respond` must answer every request."""

    def __init__(self, hub: str, respond: Respond = forwarded) -> None:
        super().__init__(_Handler)
        self.hub = hub
        self.respond = respond
        self.requests: list[Request] = []

    def gets(self, part: str) -> list[str]:
        """The paths of GET requests that contain `part`."""
        return [request.path for request in self.requests if request.method == "GET" and part in request.path]


class _Handler(Handler):
    protocol_version = "HTTP/1.1"
    server: Front

    def do_GET(self) -> None:
        headers = {key.lower(): value for key, value in self.headers.items()}
        request = Request(self.command, self.path, headers)
        self.server.requests.append(request)
        answer = self.server.respond(request, lambda: _forward(self.server.hub, request))
        self.send_response(answer.status)
        for key, value in {"Content-Length": str(len(answer.body)), **answer.headers}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(answer.body[: len(answer.body) - answer.cut])
            self.close_connection = answer.cut > 0

    do_HEAD = do_GET


def _forward(hub: str, request: Request) -> Answer:
    connection = http.client.HTTPConnection(urlsplit(hub).netloc)
    headers = {key: value for key, value in request.headers.items() if key not in HOP and key != "host"}
    connection.request(request.method, request.path, headers=headers)
    response = connection.getresponse()
    headers = {key: value for key, value in response.getheaders() if key.lower() not in HOP}
    body = response.read()
    connection.close()
    return Answer(response.status, headers, body)
