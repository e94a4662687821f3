"""The database that the queue is in: SQLite beside the service, or PostgreSQL."""

import sqlite3
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import sqlalchemy as sa
from dbos import error as dbos_errors
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from antidote_ci.errors import ConfigurationError, InfrastructureError
from antidote_ci.hub.client import redact_secrets

KINDS = ("sqlite", "postgresql")
SECONDS_TO_ANSWER = 3
"""How long a delivery waits for the database before it is refused, for the Hub to send again."""
LOCK_NUMBER = int.from_bytes(b"antidote")
"""Ours among the advisory locks of a Postgres: https://www.postgresql.org/docs/current/explicit-locking.html"""
KEEPALIVES = "-c tcp_keepalives_idle=5 -c tcp_keepalives_interval=5 -c tcp_keepalives_count=2"
SECONDS_TO_FREE = 20.0
"""After which a Postgres has noticed, by these, that a machine is gone."""
POLL_SECONDS = 0.5


def require_supported_url(database_url: str) -> None:
    """Raise ConfigurationError for a URL of another kind of database, or of none."""
    try:
        url = sa.make_url(database_url)
    except ArgumentError:
        url = None
    kind = url.get_backend_name() if url is not None else ""
    if url is None or kind not in KINDS or not url.database:
        raise ConfigurationError(
            "--database is no address of a database that the queue can be in",
            hint="write postgresql://USER:PASSWORD@HOST/NAME into ANTIDOTE_DATABASE, or leave it out for a file",
        )
    if kind == "sqlite" and is_sqlite_too_old():
        raise ConfigurationError(
            f"this Python has SQLite {sqlite3.sqlite_version}, in which the queue cannot be",
            cause="from Python 3.12 on, dbos needs SQLite 3.42",
            hint="name a Postgres (--database), or use Python 3.11, the image, or a system with a newer SQLite",
        )


def is_sqlite_too_old() -> bool:
    """Whether the SQLite here lacks what dbos asks of it: `unixepoch('subsec')`, https://sqlite.org/lang_datefunc.html"""
    return sys.version_info >= (3, 12) and sqlite3.sqlite_version_info < (3, 42)


@contextmanager
def translate_database_errors(database_url: str) -> Iterator[None]:
    """The database's errors in our words."""
    try:
        yield
    except (SQLAlchemyError, dbos_errors.DBOSException) as error:
        first = (str(getattr(error, "orig", None) or error).splitlines() or [""])[0]
        raise InfrastructureError(
            f"the database {_printable_url(database_url)} cannot be used",
            cause=redact_secrets(first, None),
            hint="start it, or check --database (ANTIDOTE_DATABASE)",
        ) from None


def create_engine(database_url: str) -> sa.Engine:
    """Of our own questions. Those that a delivery waits for are short, or fail soon."""
    url = sa.make_url(database_url)
    if url.get_backend_name() == "sqlite":
        made = sa.create_engine(url, connect_args={"timeout": SECONDS_TO_ANSWER})
        sa.event.listen(made, "connect", _prepare_sqlite)
        return made
    milliseconds = SECONDS_TO_ANSWER * 1000
    return sa.create_engine(
        url.set(drivername="postgresql+psycopg"),
        pool_size=4,
        pool_pre_ping=True,
        pool_timeout=SECONDS_TO_ANSWER,
        connect_args={
            "connect_timeout": SECONDS_TO_ANSWER,
            "tcp_user_timeout": milliseconds,
            "options": f"-c statement_timeout={milliseconds} -c lock_timeout={milliseconds} {KEEPALIVES}",
        },
    )


@contextmanager
def lock_database(database_url: str, say: Callable[[str], None]) -> Iterator[None]:
    """Hold a Postgres against every other service, which would take up what this one is at.

    One that another has is waited for, and that is said. The file of SQLite lies in the folder, which is held itself.
    Raises ConfigurationError where the other keeps it.
    """
    if sa.make_url(database_url).get_backend_name() == "sqlite":
        yield
        return
    made = create_engine(database_url)
    with translate_database_errors(database_url):
        connection = made.connect().execution_options(isolation_level="AUTOCOMMIT")
    try:
        with translate_database_errors(database_url):
            if not _try_lock(connection):
                say(f"another service has the database: waiting up to {SECONDS_TO_FREE:.0f} s for it to let go")
                until = time.monotonic() + SECONDS_TO_FREE
                while not _try_lock(connection):
                    if time.monotonic() >= until:
                        raise ConfigurationError(
                            f"another service works with the database {_printable_url(database_url)}",
                            hint="end it first, or give this one a database of its own",
                        )
                    time.sleep(POLL_SECONDS)
        yield
    finally:
        # Closed, not given back: a connection that was lost meanwhile has nothing to say.
        connection.invalidate()
        made.dispose()


def _try_lock(connection: sa.Connection) -> bool:
    """Whether the lock is ours from now on, until the connection ends."""
    return bool(connection.scalar(sa.select(sa.func.pg_try_advisory_lock(LOCK_NUMBER))))


def _prepare_sqlite(connection: sqlite3.Connection, _: object) -> None:
    """As dbos does, writers queue up from their first statement on; readers do not wait for them."""
    connection.isolation_level = "IMMEDIATE"
    connection.execute("PRAGMA journal_mode=WAL")


def _printable_url(database_url: str) -> str:
    return sa.make_url(database_url).render_as_string(hide_password=True)
