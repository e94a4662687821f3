"""HTTP around the store: sockets, routes, refusals. What a route says lies beside this file."""

import logging
import re
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Literal, Self, cast
from urllib.parse import parse_qsl, unquote, urlsplit

from antidote_ci.demo.hub import discussions, pages, reading, writing
from antidote_ci.demo.hub.messages import Refused, Request, Response
from antidote_ci.demo.hub.store import Stale, Store, UnknownRepository, UnknownRevision

logger = logging.getLogger(__name__)

NAME = r"(?P<name>[^/]+/[^/]+)"
ANY_NAME = r"(?P<name>(?:datasets/)?[^/]+/[^/]+)"
REVISION = r"(?P<revision>refs/pr/\d+|[^/]+)"
NUMBER = r"(?P<number>\d{1,9})"
LARGE = rf"/{NAME}\.git/info/lfs/objects"
MODEL = rf"/api/models/{NAME}"
DATASET = r"/api/(?P<name>datasets/[^/]+/[^/]+)"

Route = tuple[str, re.Pattern[str], Callable[..., Response]]
ROUTES: list[Route] = [
    (method, re.compile(path), answer)
    for method, path, answer in (
        ("GET", "/api/whoami-v2", reading.whoami),
        ("POST", "/api/validate-yaml", writing.validate_card),
        ("GET", MODEL, reading.info),
        ("GET", rf"{MODEL}/revision/{REVISION}", reading.info),
        ("GET", rf"{MODEL}/tree/{REVISION}", reading.tree),
        ("GET", rf"{MODEL}/auth-check(?:/write)?", reading.access),
        ("GET", DATASET, reading.info),
        ("GET", rf"{DATASET}/revision/{REVISION}", reading.info),
        ("GET", rf"{DATASET}/tree/{REVISION}", reading.tree),
        ("GET", rf"{DATASET}/auth-check", reading.access),
        ("GET", rf"{MODEL}/discussions", discussions.listed),
        ("GET", rf"{MODEL}/discussions/{NUMBER}", discussions.detail),
        ("POST", rf"{MODEL}/preupload/{REVISION}", writing.preupload),
        ("POST", rf"{MODEL}/commit/{REVISION}", writing.commit),
        ("POST", rf"{LARGE}/batch", writing.large_batch),
        ("POST", rf"{LARGE}/verify", writing.large_verify),
        ("PUT", rf"{LARGE}/(?P<sha256>[0-9a-f]{{64}})", writing.large_upload),
        ("GET", rf"/{ANY_NAME}/resolve/{REVISION}/(?P<path>.+)", reading.file),
        # As GitHub serves the files of a public repository.
        ("GET", rf"/{NAME}/(?P<revision>[0-9a-f]{{40}})/(?P<path>.+)", reading.file),
        ("GET", "/", pages.index),
        ("GET", rf"/{ANY_NAME}", pages.repository),
        ("GET", rf"/{ANY_NAME}/(?:tree|commit)/{REVISION}", pages.repository),
        ("GET", rf"/{NAME}/discussions/{NUMBER}", pages.pull_request),
    )
]


class LoopbackHub:
    """A Hub on 127.0.0.1 for the length of a `with`; its state outlives it in `root`."""

    def __init__(self, root: Path, port: int = 0) -> None:
        """`port` 0 takes a free one."""
        self.store = Store(root)
        self._server = _Server(self.store, port)
        self.port: int = self._server.server_address[1]
        self.endpoint = f"http://127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))

    @property
    def environment(self) -> dict[str, str]:
        """What the client must find in its environment, the second before it is imported."""
        return {"HF_ENDPOINT": self.endpoint, "HF_HUB_DISABLE_XET": "1"}

    @property
    def history(self) -> list[str]:
        """Every request so far, as `GET /path?query`."""
        return list(self._server.history)

    def add(self, repo_id: str, folder: Path, gated: bool = False, kind: Literal["model", "dataset"] = "model") -> str:
        """Make main of `repo_id` hold a copy of `folder`; the commit's id."""
        return self.store.add(f"datasets/{repo_id}" if kind == "dataset" else repo_id, folder, gated)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
        self._server.hang_up()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, store: Store, port: int) -> None:
        self.store = store
        self.history: list[str] = []
        self.connections: set[socket.socket] = set()
        super().__init__(("127.0.0.1", port), _Handler)

    def hang_up(self) -> None:
        """End the connections that clients keep open: a closed Hub must not go on answering."""
        for connection in list(self.connections):
            # One that the client has ended already needs no ending.
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: object, client_address: object) -> None:  # noqa: ARG002
        logger.debug("a client went away", exc_info=True)


class _Body:
    """The request's body and not a byte more of the connection."""

    def __init__(self, handler: BaseHTTPRequestHandler) -> None:
        self._stream = handler.rfile
        self._left = int(handler.headers.get("Content-Length", 0))

    def read(self, size: int = -1, /) -> bytes:
        wanted = self._left if size < 0 else min(size, self._left)
        content = self._stream.read(wanted)
        self._left -= len(content)
        return content


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "antidote-loopback-hub"
    server: _Server

    def setup(self) -> None:
        super().setup()
        self.server.connections.add(self.connection)

    def finish(self) -> None:
        self.server.connections.discard(self.connection)
        super().finish()

    def do_GET(self) -> None:
        self._handle("GET")

    def do_HEAD(self) -> None:
        self._handle("GET")

    def do_POST(self) -> None:
        self._handle("POST")

    def do_PUT(self) -> None:
        self._handle("PUT")

    def log_message(self, format: str, *args: object) -> None:
        logger.debug(format, *args)

    def _handle(self, method: str) -> None:
        self.server.history.append(f"{self.command} {self.path}")
        if "Transfer-Encoding" in self.headers:
            self.close_connection = True
            self._send(Refused(411, "send a Content-Length").response())
            return
        body = _Body(self)
        response = self._answer(method, body)
        # What the handler did not read would be taken for the next request of the connection.
        while body.read(1 << 20):
            pass
        self._send(response)

    def _answer(self, method: str, body: _Body) -> Response:
        url = urlsplit(self.path)
        request = Request(
            base=f"http://127.0.0.1:{self.server.server_port}",
            query=dict(parse_qsl(url.query)),
            headers=cast(dict[str, str], self.headers),
            body=body,
        )
        try:
            for wanted, path, answer in ROUTES:
                found = path.fullmatch(url.path)
                if found and wanted == method:
                    parts = {key: unquote(value) for key, value in found.groupdict().items()}
                    return answer(self.server.store, request, **parts)
            raise Refused(404, "Not found")
        except Refused as refused:
            return refused.response()
        except UnknownRepository:
            # As the Hub does, a stranger is not told whether a repository exists.
            status = 404 if request.token else 401
            return Refused(status, "Repository not found", "RepoNotFound").response()
        except UnknownRevision as error:
            message = f"Invalid rev id: {error.args[0]}"
            return Refused(404, message, "RevisionNotFound").response()
        except Stale as error:
            return Refused(412, str(error)).response()
        except Exception:
            logger.exception("%s %s failed", self.command, self.path)
            return Refused(500, "Internal error").response()

    def _send(self, response: Response) -> None:
        self.send_response(response.status)
        for key, value in response.headers.items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(response.length))
        self.end_headers()
        if self.command == "HEAD":
            return
        if isinstance(response.body, bytes):
            self.wfile.write(response.body)
        elif response.length:
            with response.body.open("rb") as content:
                self.connection.sendfile(content, *response.span)
