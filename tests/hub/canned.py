"""An HTTP server whose answers a test defines. It can forward a request to a Hub, and change the answer."""

import http.client
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Self, cast
from urllib.parse import urlsplit

from tests.serving import Handler, Server

JSON = {"Content-Type": "application/json"}
HOP = {"connection", "transfer-encoding", "keep-alive", "date", "server"}


@dataclass(frozen=True)
class Request:
    """A received request."""

    method: str
    path: str
    headers: Mapping[str, str]
    """Names in lower case."""
    body: bytes = b""


@dataclass(frozen=True)
class Canned:
    """A response. The last `cut` bytes of the body are not sent, and the connection is closed."""

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    cut: int = 0

    @classmethod
    def of(cls, content: object) -> Self:
        return cls(200, json.dumps(content).encode(), JSON)

    def json(self) -> dict[str, Any]:
        return cast(dict[str, Any], json.loads(self.body))


class CannedHub(Server):
    """Calls `answer` for each request. A test may replace it."""

    def __init__(self, answer: Callable[[Request], Canned]) -> None:
        super().__init__(_Handler)
        self.answer = answer
        self.requests: list[Request] = []

    def gets(self, part: str) -> list[str]:
        """The paths of GET requests that contain `part`."""
        return [request.path for request in self.requests if request.method == "GET" and part in request.path]


def forward(endpoint: str, request: Request) -> Canned:
    """The answer of the Hub at `endpoint` to a request without a body."""
    connection = http.client.HTTPConnection(urlsplit(endpoint).netloc)
    headers = {key: value for key, value in request.headers.items() if key not in HOP and key != "host"}
    connection.request(request.method, request.path, headers=headers)
    response = connection.getresponse()
    headers = {key: value for key, value in response.getheaders() if key.lower() not in HOP}
    body = response.read()
    connection.close()
    return Canned(response.status, body, headers)


class _Handler(Handler):
    server: CannedHub

    def handle_any(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        request = Request(self.command, self.path, {key.lower(): value for key, value in self.headers.items()}, body)
        self.server.requests.append(request)
        answer = self.server.answer(request)
        self.send_response(answer.status)
        for name, value in {"Content-Length": str(len(answer.body)), **answer.headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer.body[: len(answer.body) - answer.cut])

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = handle_any
