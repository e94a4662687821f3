"""The service process: lock the folder, listen, process requests, and end the children at shutdown."""

import asyncio
import logging
import os
import socket
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from antidote_ci.errors import ConfigurationError, InfrastructureError
from antidote_ci.hub import client
from antidote_ci.paths import create_folder, open_lock, try_lock
from antidote_ci.report.text import flatten
from antidote_ci.service import app, executor, repository_state
from antidote_ci.service.queue import HeadInspector, HeadReader, RunQueue
from antidote_ci.service.settings import ServiceSettings

logger = logging.getLogger(__name__)

LOCK_FILE = "lock"
OWN_NAMES = (
    *(LOCK_FILE, "policy.toml", "policy", executor.ANSWERS_FOLDER, executor.RUNS_FOLDER),
    *("queue.sqlite", "queue.sqlite-wal", "queue.sqlite-shm", "queue.sqlite-journal"),
)
SHUTDOWN_SECONDS = 2
"""Time for open HTTP requests when the service is asked to end."""
MAX_CONNECTIONS = 256
MAX_WAITING_CONNECTIONS = 128
"""Connections whose client has to send or to read. Beyond it, one of the address with most of them is closed."""
SECONDS_TO_ASK = 5.0
"""From the connection, or the previous response, to the end of a request's headers."""
SECONDS_TO_READ = 10.0
"""How long a client may leave a full send buffer as it is."""


class BoundedProtocol(H11Protocol):
    """HTTP/1.1 in which connections that wait for a request take no place from those that send one."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.opened_at = self.loop.time()
        waiting = [
            connection
            for connection in self.connections
            if isinstance(connection, BoundedProtocol) and connection.is_waiting
        ]
        if len(waiting) > MAX_WAITING_CONNECTIONS:
            counts = Counter(_address(connection) for connection in waiting)
            oldest = min(waiting, key=lambda connection: (-counts[_address(connection)], connection.opened_at))
            # The set would lose it only in the next iteration of the event loop.
            self.connections.discard(oldest)
            oldest.transport.abort()
        self._close_later()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._close_later()

    def pause_writing(self) -> None:
        super().pause_writing()
        self.unread = self.loop.call_later(SECONDS_TO_READ, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        self.unread.cancel()

    def _close_later(self) -> None:
        self.loop.call_later(SECONDS_TO_ASK, self._close_if_waiting, self.cycle)

    def _close_if_waiting(self, previous: object) -> None:
        if self.cycle is previous and self.is_waiting:
            self.transport.abort()

    @property
    def is_waiting(self) -> bool:
        """Whether the service waits for the client: for a complete request, or to read the response to the last one."""
        return self.flow.write_paused or self.cycle is None or self.cycle.response_complete or self.cycle.more_body


def _address(connection: BoundedProtocol) -> str:
    return connection.client[0] if connection.client else ""


def run_service(
    settings: ServiceSettings,
    inspect: HeadInspector = repository_state.inspect_head,
    read_heads: HeadReader | None = None,
) -> None:
    """Serve until a signal arrives. uvicorn raises the signal again once everything has ended.

    By default the heads of all models on the allow list are read from the Hub.

    Raises ConfigurationError when another service uses the folder, InfrastructureError when the database or the port
    cannot be opened.
    """
    # Imports huggingface_hub now, and not while a delivery waits for its answer.
    client.create_api(None)
    with (
        _lock_folder(settings.folder),
        _open_socket(settings.host, settings.port) as listener,
        _log_uvicorn_errors(),
    ):
        settings.write_policy()
        executor.end_orphans(settings)
        policy = settings.policy_sha256
        queue = RunQueue(
            settings, inspect, read_heads or (lambda: repository_state.read_heads(settings.repositories, policy))
        )
        try:
            queue.start()
            host, port = listener.getsockname()[:2]
            logger.info("listening on http://%s:%d", f"[{host}]" if ":" in host else host, port)
            uvicorn.Server(_uvicorn_config(settings, queue)).run(sockets=[listener])
        finally:
            queue.stop()


def _uvicorn_config(settings: ServiceSettings, queue: RunQueue) -> uvicorn.Config:
    """Return the configuration of the server. It writes no access log, because a URL may contain a secret."""
    return uvicorn.Config(
        app.create_app(settings, queue),
        loop="asyncio",
        http=BoundedProtocol,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        headers=app.HEADERS,
        limit_concurrency=MAX_CONNECTIONS,
        timeout_graceful_shutdown=SHUTDOWN_SECONDS,
    )


@contextmanager
def _lock_folder(folder: Path) -> Iterator[None]:
    """Create the folder, readable by its owner only, and lock it: two services would start the same requests."""
    create_folder(folder, "use another --folder", mode=0o700)
    for name in OWN_NAMES:
        if (folder / name).is_symlink():
            raise ConfigurationError(
                f"{folder / name} is a link", cause="nothing in the service's folder is followed", hint="remove it"
            )
    lock = open_lock(folder / LOCK_FILE)
    try:
        if not try_lock(lock):
            raise ConfigurationError(
                f"another service uses {folder}", hint="end it first, or give this service its own --folder"
            )
        yield
    finally:
        os.close(lock)


@contextmanager
def _open_socket(host: str, port: int) -> Iterator[socket.socket]:
    try:
        listener = socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as error:
        raise InfrastructureError(
            f"cannot listen on {host}, port {port}", cause=error.strerror, hint="choose another --host or --port"
        ) from None
    with listener:
        yield listener


class _ErrorForwarder(logging.Handler):
    """Forward each error of a library to this module's logger, as one line without secrets."""

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        line = f"{record.name}: {record.getMessage().strip()}" + (f" {type(error).__name__}" if error else "")
        logger.error("%s", flatten(client.redact_secrets(line, None)))


@contextmanager
def _log_uvicorn_errors() -> Iterator[None]:
    """uvicorn's warnings are dropped: the service reports the same itself."""
    uvicorn_logger, handler = logging.getLogger("uvicorn"), _ErrorForwarder(logging.ERROR)
    uvicorn_logger.addHandler(handler)
    uvicorn_logger.propagate = False
    try:
        yield
    finally:
        uvicorn_logger.removeHandler(handler)
