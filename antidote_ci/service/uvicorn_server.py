"""The service as a process: one for a folder, from the first look at the database to the last child's end."""

import logging
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import uvicorn

from antidote_ci.errors import ConfigurationError, InfrastructureError
from antidote_ci.hub import client
from antidote_ci.paths import create_folder, try_lock
from antidote_ci.report.console import Console
from antidote_ci.report.text import flatten
from antidote_ci.service import app, executor, repository_state
from antidote_ci.service.database import lock_database, require_supported_url
from antidote_ci.service.queue import HeadInspector, RunQueue
from antidote_ci.service.settings import ServiceSettings

LOCK_FILE = "lock"
SHUTDOWN_SECONDS = 2
"""For answers that are under way when the service is asked to end."""
MAX_CONNECTIONS = 256


def run_service(
    serving: ServiceSettings, console: Console, look: HeadInspector = repository_state.inspect_head
) -> None:
    """Take deliveries and work them off until a signal comes, which is raised again once everything has ended.

    Raises ConfigurationError when another service has the folder or the database, InfrastructureError when the database
    or the port cannot be had.
    """
    require_supported_url(serving.database_url)
    # Imported now, and not while deliveries wait for an answer.
    client.create_api(None)
    with (
        _lock_folder(serving.run_settings.folder),
        lock_database(serving.database_url, console.print),
        _open_socket(serving.host, serving.port) as door,
        _capture_library_logs(console),
    ):
        serving.run_settings.write_policy()
        executor.end_orphans(serving.run_settings)
        queue = RunQueue(serving, console, look)
        try:
            queue.start()
            host, port = door.getsockname()[:2]
            console.print(f"listening on http://{f'[{host}]' if ':' in host else host}:{port}")
            uvicorn.Server(_server_configuration(serving, queue, console)).run(sockets=[door])
        finally:
            queue.stop()


def _server_configuration(serving: ServiceSettings, queue: RunQueue, console: Console) -> uvicorn.Config:
    """No log of who asked for what: an address may hold a secret."""
    return uvicorn.Config(
        app.create_app(serving, queue, console),
        loop="asyncio",
        http="h11",
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
    """Make the folder, for its owner's eyes alone: two processes in it would each take up what the other is at."""
    create_folder(folder, "name another --folder", mode=0o700)
    lock = os.open(folder / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        if not try_lock(lock):
            raise ConfigurationError(
                f"another service works in {folder}", hint="end it first, or give this one a --folder of its own"
            )
        yield
    finally:
        os.close(lock)


@contextmanager
def _open_socket(host: str, port: int) -> Iterator[socket.socket]:
    try:
        door = socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as error:
        raise InfrastructureError(
            f"cannot listen on {host}, port {port}", cause=error.strerror, hint="choose another --host or --port"
        ) from None
    with door:
        yield door


class _ErrorLogHandler(logging.Handler):
    """What the libraries call an error, as one line. Their warnings repeat what the service says itself."""

    def __init__(self, console: Console) -> None:
        super().__init__(logging.ERROR)
        self._talk = console

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        line = f"{record.name}: {record.getMessage().strip()}" + (f" {type(error).__name__}" if error else "")
        self._talk.print(flatten(client.redact_secrets(line, None)))


@contextmanager
def _capture_library_logs(console: Console) -> Iterator[None]:
    handler = _ErrorLogHandler(console)
    loggers = [logging.getLogger(name) for name in ("dbos", "uvicorn")]
    for logger in loggers:
        logger.addHandler(handler)
        logger.propagate = False
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeHandler(handler)


def has_waiting_thread() -> bool:
    """Whether a thread of the queue still waits, for the Hub or a database, for as long as it takes.

    It holds nothing that would be lost, and the interpreter would wait for it.
    """
    return any(thread.name.startswith("dbos-executor") and thread.is_alive() for thread in threading.enumerate())
