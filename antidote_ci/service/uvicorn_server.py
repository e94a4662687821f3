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
from antidote_ci.locks import taken
from antidote_ci.paths import made
from antidote_ci.report.console import Talk
from antidote_ci.report.text import plain
from antidote_ci.service import app, executor, repository_state
from antidote_ci.service.database import alone, require_usable
from antidote_ci.service.queue import Look, Queue
from antidote_ci.service.settings import Serving

LOCK = "lock"
SECONDS_TO_FINISH = 2
"""For answers that are under way when the service is asked to end."""
MOST_CONNECTIONS = 256


def serve(serving: Serving, talk: Talk, look: Look = repository_state.look) -> None:
    """Take deliveries and work them off until a signal comes, which is raised again once everything has ended.

    Raises ConfigurationError when another service has the folder or the database, InfrastructureError when the database
    or the port cannot be had.
    """
    require_usable(serving.database_url)
    # Imported now, and not while deliveries wait for an answer.
    client.api(None)
    with (
        _only(serving.settings.folder),
        alone(serving.database_url, talk.say),
        _listening(serving.host, serving.port) as door,
        _quietly(talk),
    ):
        serving.settings.write_policy()
        executor.end_leftovers(serving.settings)
        queue = Queue(serving, talk, look)
        try:
            queue.start()
            host, port = door.getsockname()[:2]
            talk.say(f"listening on http://{f'[{host}]' if ':' in host else host}:{port}")
            uvicorn.Server(_configuration(serving, queue, talk)).run(sockets=[door])
        finally:
            queue.stop()


def _configuration(serving: Serving, queue: Queue, talk: Talk) -> uvicorn.Config:
    """No log of who asked for what: an address may hold a secret."""
    return uvicorn.Config(
        app.create(serving, queue, talk),
        loop="asyncio",
        http="h11",
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        headers=app.HEADERS,
        limit_concurrency=MOST_CONNECTIONS,
        timeout_graceful_shutdown=SECONDS_TO_FINISH,
    )


@contextmanager
def _only(folder: Path) -> Iterator[None]:
    """Make the folder, for its owner's eyes alone: two processes in it would each take up what the other is at."""
    made(folder, "name another --folder", mode=0o700)
    lock = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        if not taken(lock):
            raise ConfigurationError(
                f"another service works in {folder}", hint="end it first, or give this one a --folder of its own"
            )
        yield
    finally:
        os.close(lock)


@contextmanager
def _listening(host: str, port: int) -> Iterator[socket.socket]:
    try:
        door = socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as error:
        raise InfrastructureError(
            f"cannot listen on {host}, port {port}", cause=error.strerror, hint="choose another --host or --port"
        ) from None
    with door:
        yield door


class _Quiet(logging.Handler):
    """What the libraries call an error, as one line. Their warnings repeat what the service says itself."""

    def __init__(self, talk: Talk) -> None:
        super().__init__(logging.ERROR)
        self._talk = talk

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        line = f"{record.name}: {record.getMessage().strip()}" + (f" {type(error).__name__}" if error else "")
        self._talk.say(plain(client.redact(line, None)))


@contextmanager
def _quietly(talk: Talk) -> Iterator[None]:
    handler = _Quiet(talk)
    loggers = [logging.getLogger(name) for name in ("dbos", "uvicorn")]
    for logger in loggers:
        logger.addHandler(handler)
        logger.propagate = False
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeHandler(handler)


def is_anything_left() -> bool:
    """Whether a thread of the queue still waits, for the Hub or a database, for as long as it takes.

    It holds nothing that would be lost, and the interpreter would wait for it.
    """
    return any(thread.name.startswith("dbos-executor") and thread.is_alive() for thread in threading.enumerate())
