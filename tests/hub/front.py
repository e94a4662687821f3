"""A server between the client and a Hub: it notes what is asked, and a test may answer in the Hub's place."""

import http.client
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Self, cast
from urllib.parse import urlsplit

from tests.serving import Handler, Server

HOP = {"connection", "transfer-encoding", "keep-alive", "date", "server"}


@dataclass(frozen=True)
class Asked:
    """One request."""

    method: str
    path: str
    headers: dict[str, str]
    """By lower-case name."""


@dataclass(frozen=True)
class Answer:
    """One answer; `cut` bytes of the body are kept back, and the connection is closed."""

    status: int
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    cut: int = 0

    @classmethod
    def of(cls, content: object) -> Self:
        return cls(200, {"Content-Type": "application/json"}, json.dumps(content).encode())

    def json(self) -> dict[str, Any]:
        return cast(dict[str, Any], json.loads(self.body))


Respond = Callable[[Asked, Callable[[], Answer]], Answer]
"""Takes a request, and what asks the Hub itself."""


def forwarded(_: Asked, hub: Callable[[], Answer]) -> Answer:
    """The Hub's own answer."""
    return hub()


class Front(Server):
    """Without a Hub behind it, `respond` must answer everything."""

    def __init__(self, hub: str, respond: Respond = forwarded) -> None:
        super().__init__(_Handler)
        self.hub = hub
        self.respond = respond
        self.asked: list[Asked] = []

    def gets(self, part: str) -> list[str]:
        """The paths with `part` in them of which the body was asked for."""
        return [each.path for each in self.asked if each.method == "GET" and part in each.path]


class _Handler(Handler):
    protocol_version = "HTTP/1.1"
    server: Front

    def do_GET(self) -> None:
        headers = {key.lower(): value for key, value in self.headers.items()}
        asked = Asked(self.command, self.path, headers)
        self.server.asked.append(asked)
        answer = self.server.respond(asked, lambda: _ask(self.server.hub, asked))
        self.send_response(answer.status)
        for key, value in {"Content-Length": str(len(answer.body)), **answer.headers}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(answer.body[: len(answer.body) - answer.cut])
            self.close_connection = answer.cut > 0

    do_HEAD = do_GET


def _ask(hub: str, asked: Asked) -> Answer:
    connection = http.client.HTTPConnection(urlsplit(hub).netloc)
    kept = {key: value for key, value in asked.headers.items() if key not in HOP and key != "host"}
    connection.request(asked.method, asked.path, headers=kept)
    response = connection.getresponse()
    headers = {key: value for key, value in response.getheaders() if key.lower() not in HOP}
    body = response.read()
    connection.close()
    return Answer(response.status, headers, body)
