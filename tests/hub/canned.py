"""An HTTP server whose answers a test defines."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from tests.serving import Handler, Server

JSON = {"Content-Type": "application/json"}


@dataclass(frozen=True)
class Request:
    """A received request."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes = b""


@dataclass(frozen=True)
class Canned:
    """A response."""

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)


class CannedHub(Server):
    """Calls `answer` for each request. A test may replace it."""

    def __init__(self, answer: Callable[[Request], Canned]) -> None:
        super().__init__(_Handler)
        self.answer = answer
        self.requests: list[Request] = []


class _Handler(Handler):
    server: CannedHub

    def handle_any(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        request = Request(self.command, self.path, {key.lower(): value for key, value in self.headers.items()}, body)
        self.server.requests.append(request)
        answer = self.server.answer(request)
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer.body)

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = handle_any
