"""The HTTP server of the loopback Hub. `routes.py` maps requests to functions."""

import logging
import socket
import threading
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Literal, Self, cast
from urllib.parse import parse_qsl, unquote, urlsplit

from loopback_hub import accounts, history, oidc
from loopback_hub.deliveries import DeliveryWorker
from loopback_hub.faults import Fault, FaultInjector, HangUp, replacement_response, send_pieces, spoil_response
from loopback_hub.messages import HttpError, HttpRequest, HttpResponse
from loopback_hub.records import Credential, Gate, Repository, Rights, TrustedPublisher, utc_now
from loopback_hub.routes import ROUTES
from loopback_hub.store import HubStore
from loopback_hub.strictness import Strictness

logger = logging.getLogger(__name__)

RequestHook = Callable[[Literal["before", "after"], int, str], None]
"""Called before and after each request with its number and `METHOD /path`. May raise HangUp."""


class LoopbackHub:
    """A Hub on 127.0.0.1, used as a context manager. Its state stays in `root`."""

    def __init__(
        self,
        root: Path,
        page_size: int = 1000,
        jobs: bool = False,
        strictness: Strictness | None = None,
    ) -> None:
        """Prepare the server on a free port; `with` starts it.

        With `jobs`, submitted Jobs run as processes. See HubStore for `page_size` and `strictness`.
        """
        self.store = HubStore(root, page_size, strictness)
        self.faults: FaultInjector | None = None
        self.request_hook: RequestHook = lambda *_: None
        self._server = _Server(self)
        self.endpoint = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self.deliveries = DeliveryWorker(self.store, self.endpoint)
        self.store.jobs.environment = self.environment
        self.store.jobs.enabled = jobs

    @property
    def environment(self) -> dict[str, str]:
        """Environment variables that the client needs. It reads the second one when it is imported."""
        return {"HF_ENDPOINT": self.endpoint, "HF_HUB_DISABLE_XET": "0" if self.store.xet else "1"}

    @property
    def requests(self) -> list[str]:
        """All requests so far, each as `GET /path?query`."""
        return list(self._server.history)

    def add(
        self,
        repo_id: str,
        folder: Path,
        gated: bool | Gate = False,
        kind: Literal["model", "dataset"] = "model",
        private: bool = False,
        disabled: bool = False,
        created: str | None = None,
    ) -> str:
        """Commit a copy of `folder` to main of `repo_id` and return the commit id.

        `created` is the time of creation of a new repository, such as 2024-01-31T12:00:00Z.
        """
        name = f"datasets/{repo_id}" if kind == "dataset" else repo_id
        settings = Repository(
            name, created or utc_now(), {}, "auto" if gated is True else gated, private=private, disabled=disabled
        )
        return history.commit_folder(self.store, settings, folder)

    def add_account(
        self,
        name: str,
        token: str,
        rights: Rights = "write",
        organisations: Sequence[str] = (),
        repositories: Sequence[str] = (),
        role: str | None = None,
        full_names: Mapping[str, str] | None = None,
    ) -> None:
        """Register a token of the account `name`. `role` is that in its organisations, by default of the strictness.

        `full_names` are those of the account and its organisations, where they differ from the names.

        Until the first registration, every token belongs to the account `demo`, which may do everything.
        """
        sha256, role = accounts.hash_token(token), role or self.store.strictness.organisation_role
        accounts.add_credential(
            self.store,
            Credential(
                name,
                sha256,
                rights,
                list(organisations),
                list(repositories),
                role=role,
                full_names=dict(full_names or {}),
            ),
        )

    def trust_workflow(self, repo_id: str, workflow: str) -> dict[str, str]:
        """Allow a GitHub workflow (owner/name) to publish to `repo_id` and return the environment of its jobs."""
        publisher = TrustedPublisher(repo_id, workflow)
        accounts.add_publisher(self.store, publisher)
        return oidc.job_environment(self.store, self.endpoint, publisher)

    def end_exchanged_tokens(self) -> None:
        """Reject all tokens that were exchanged so far, before they expire."""
        accounts.end_exchanged(self.store)

    def __enter__(self) -> Self:
        self._thread.start()
        self.deliveries.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.deliveries.close()
        self.store.jobs.close()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
        self._server.hang_up()


def _is_loopback(host: str) -> bool:
    """Whether the Host header is local. This prevents DNS rebinding by web pages."""
    return host.partition(":")[0].lower() in ("127.0.0.1", "localhost")


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, hub: LoopbackHub) -> None:
        self.hub = hub
        self.history: list[str] = []
        self.counting = threading.Lock()
        self.connections: set[socket.socket] = set()
        super().__init__(("127.0.0.1", 0), _Handler)

    def next_number(self, request: str) -> int:
        """Record the request and return its number, counted from 1."""
        with self.counting:
            self.history.append(request)
            return len(self.history)

    def hang_up(self) -> None:
        """Close the connections that clients keep open, so that a closed Hub does not answer."""
        for connection in list(self.connections):
            # The client may have closed the connection already.
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: object, client_address: object) -> None:  # noqa: ARG002
        logger.debug("a client disconnected", exc_info=True)


class _RequestBody:
    """The body of one request; reads at most Content-Length bytes."""

    def __init__(self, handler: BaseHTTPRequestHandler) -> None:
        self._stream = handler.rfile
        self._left = int(handler.headers.get("Content-Length", 0))

    def read(self, size: int = -1, /) -> bytes:
        count = self._left if size < 0 else min(size, self._left)
        content = self._stream.read(count)
        self._left -= len(content)
        return content


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "antidote-loopback-hub"
    # Header and body are sent separately: with Nagle's algorithm the body waits 40 ms for an acknowledgement.
    disable_nagle_algorithm = True
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

    def do_DELETE(self) -> None:
        self._handle("DELETE")

    def log_message(self, format: str, *args: object) -> None:
        logger.debug(format, *args)

    def _handle(self, method: str) -> None:
        hub, request_line = self.server.hub, f"{self.command} {self.path}"
        number = self.server.next_number(request_line)
        if "Transfer-Encoding" in self.headers:
            self.close_connection = True
            self._send(HttpError(411, "Content-Length is required").response())
            return
        body = _RequestBody(self)
        fault = hub.faults.pick(number, self.command, self.path) if hub.faults else None
        try:
            hub.request_hook("before", number, request_line)
            response = replacement_response(fault) if fault else None
            if response is None:
                response = self._answer(method, body)
                hub.request_hook("after", number, request_line)
            # Unread bytes would be parsed as the next request of the connection.
            while body.read(1 << 20):
                pass
            self._send(response, fault)
        except HangUp:
            self.close_connection = True

    def _answer(self, method: str, body: _RequestBody) -> HttpResponse:
        url = urlsplit(self.path)
        request = HttpRequest(
            base=f"http://127.0.0.1:{self.server.server_port}",
            query=dict(parse_qsl(url.query)),
            headers=cast(dict[str, str], self.headers),
            body=body,
            path=self.path,
        )
        try:
            if not _is_loopback(self.headers.get("Host", "")):
                raise HttpError(421, "this Hub accepts only the hosts 127.0.0.1 and localhost")
            for route_method, path, handler in ROUTES:
                match = path.fullmatch(url.path)
                if match and route_method == method:
                    parts = {key: unquote(value) for key, value in match.groupdict().items()}
                    return handler(self.server.hub.store, request, **parts)
            raise HttpError(404, "Not found")
        except HttpError as error:
            return error.response()
        except Exception:
            logger.exception("%s %s failed", self.command, self.path)
            return HttpError(500, "Internal error").response()

    def _send(self, response: HttpResponse, fault: Fault | None = None) -> None:
        if fault:
            response = spoil_response(fault, response)
        self.send_response(response.status)
        self.send_header("X-Request-Id", uuid.uuid4().hex)
        for key, value in response.headers.items():
            self.send_header(key, value)
        if response.is_streamed:
            self.send_header("Connection", "close")
        else:
            self.send_header("Content-Length", str(response.length))
        self.end_headers()
        if self.command == "HEAD":
            return
        if fault:
            for piece in send_pieces(fault, response):
                self.wfile.write(piece)
        elif isinstance(response.body, bytes):
            self.wfile.write(response.body)
        elif not isinstance(response.body, Path):
            for piece in response.body:
                self.wfile.write(piece)
        elif response.length:
            with response.body.open("rb") as content:
                self.connection.sendfile(content, *response.span)
