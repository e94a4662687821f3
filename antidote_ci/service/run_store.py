"""Persistent store of run requests and deliveries: one SQLite file for each service."""

import json
import logging
import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Literal

from antidote_ci.errors import InfrastructureError
from antidote_ci.service.records import MAX_REASON, RunOutcome, RunRequest

logger = logging.getLogger(__name__)

SECONDS_TO_ANSWER = 3
"""How long a delivery waits for the database before it is refused."""
DELIVERY_DAYS = 30
"""How long delivery ids are kept to recognise duplicates."""
SCHEMA = """
CREATE TABLE IF NOT EXISTS runs (
    id TEXT PRIMARY KEY,
    repository TEXT NOT NULL,
    revision TEXT NOT NULL,
    policy TEXT NOT NULL,
    requested_at REAL NOT NULL,
    state TEXT NOT NULL,
    outcome TEXT
);
CREATE INDEX IF NOT EXISTS runs_by_state ON runs (state, requested_at);
CREATE TABLE IF NOT EXISTS deliveries (id TEXT PRIMARY KEY, received_at REAL NOT NULL);
"""
COLUMNS = "repository, revision, policy, state, outcome, requested_at"

RunState = Literal["waiting", "running", "ended"]
SubmitResult = Literal["accepted", "duplicate", "seen"]
"""`accepted`: the request is new. `duplicate`: the request is known. `seen`: this delivery id is known."""


@dataclass(frozen=True)
class RunRecord:
    """A run request as stored."""

    request: RunRequest
    state: RunState
    outcome: RunOutcome | None
    """None until the run has ended."""
    requested_at: float
    """Seconds since 1970."""


class RunStore:
    """The store of a running service. Methods may be called from any thread.

    Every method is one transaction, and raises InfrastructureError when the database cannot be used.
    """

    def __init__(self, path: Path) -> None:
        """Open or create the database. Requests that were running when an earlier process ended are queued again."""
        self._path = path
        self._lock = threading.Lock()
        self._is_failing = False
        with _translate_errors(path):
            self._connection = _connect(path, "rwc")
            self._connection.execute("PRAGMA journal_mode=WAL")
            self._connection.executescript(SCHEMA)
        with self._transaction() as connection:
            connection.execute("UPDATE runs SET state = 'waiting' WHERE state = 'running'")
            connection.execute("DELETE FROM deliveries WHERE received_at < ?", (time.time() - DELIVERY_DAYS * 86400,))

    def submit(self, request: RunRequest, delivery: str | None = None) -> SubmitResult:
        """Add a request, and remember the delivery id in the same transaction.

        A request that ended as superseded or gone is accepted again: the main branch may have moved back, and the
        repository may be readable now.
        """
        with self._transaction() as connection:
            if delivery is not None:
                inserted = connection.execute(
                    "INSERT OR IGNORE INTO deliveries VALUES (?, ?)", (_hash_delivery(delivery), time.time())
                )
                if not inserted.rowcount:
                    return "seen"
            return "accepted" if _insert(connection, request) else "duplicate"

    def claim(self) -> RunRequest | None:
        """Mark the oldest waiting request as running and return it. Each repository has at most one running request.

        Names on the Hub are unique without regard to case.
        """
        with self._transaction() as connection:
            row = connection.execute(
                "SELECT repository, revision, policy FROM runs WHERE state = 'waiting'"
                " AND repository COLLATE NOCASE NOT IN (SELECT repository FROM runs WHERE state = 'running')"
                " ORDER BY requested_at, rowid LIMIT 1"
            ).fetchone()
            if row is None:
                return None
            request = RunRequest(*row)
            connection.execute("UPDATE runs SET state = 'running' WHERE id = ?", (request.id,))
            return request

    def finish(self, request: RunRequest, outcome: RunOutcome, newer: RunRequest | None = None) -> None:
        """Record the outcome, and submit the newer request that replaces this one."""
        outcome = replace(outcome, reason=outcome.reason[:MAX_REASON])
        with self._transaction() as connection:
            connection.execute(
                "UPDATE runs SET state = 'ended', outcome = ? WHERE id = ?", (json.dumps(asdict(outcome)), request.id)
            )
            if newer is not None:
                _insert(connection, newer)

    def list_latest(self, state: RunState, limit: int) -> list[RunRecord]:
        """The latest requests in a state, newest first."""
        with self._transaction() as connection:
            rows = connection.execute(
                f"SELECT {COLUMNS} FROM runs WHERE state = ? ORDER BY requested_at DESC LIMIT ?",  # noqa: S608
                (state, limit),
            ).fetchall()
        return [_to_record(row) for row in rows]

    def close(self) -> None:
        self._connection.close()

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """Commit at the end of the block, or roll back. Log once when the database fails, and once when it is back."""
        if not self._lock.acquire(timeout=SECONDS_TO_ANSWER):
            raise InfrastructureError("the database is too slow")
        try:
            with _translate_errors(self._path), self._connection:
                self._connection.execute("BEGIN IMMEDIATE")
                yield self._connection
        except InfrastructureError as error:
            if not self._is_failing:
                logger.error("%s", error.describe())
            self._is_failing = True
            raise
        else:
            if self._is_failing:
                logger.info("the database is back")
            self._is_failing = False
        finally:
            self._lock.release()


def list_runs(path: Path) -> list[RunRecord]:
    """Return all requests in a database file, oldest first. The service need not be running.

    Raises InfrastructureError when the file cannot be read.
    """
    with _translate_errors(path):
        connection = _connect(path, "rw")
        try:
            rows = connection.execute(f"SELECT {COLUMNS} FROM runs ORDER BY requested_at").fetchall()  # noqa: S608
        finally:
            connection.close()
    return [_to_record(row) for row in rows]


def _connect(path: Path, mode: str) -> sqlite3.Connection:
    """Open a connection in autocommit mode: transactions begin and end explicitly."""
    return sqlite3.connect(
        f"{path.absolute().as_uri()}?mode={mode}",
        uri=True,
        timeout=SECONDS_TO_ANSWER,
        isolation_level=None,
        check_same_thread=False,
    )


def _insert(connection: sqlite3.Connection, request: RunRequest) -> bool:
    """Add a request that is new or that ended as superseded or gone. Returns whether it was added."""
    inserted = connection.execute(
        "INSERT INTO runs VALUES (:id, :repository, :revision, :policy, :now, 'waiting', NULL)"
        " ON CONFLICT (id) DO UPDATE SET requested_at = :now, state = 'waiting', outcome = NULL"
        " WHERE state = 'ended' AND json_extract(outcome, '$.state') IN ('superseded', 'gone')",
        {**asdict(request), "id": request.id, "now": time.time()},
    )
    return bool(inserted.rowcount)


def _to_record(row: Sequence[str]) -> RunRecord:
    repository, revision, policy, state, outcome, requested_at = row
    return RunRecord(
        RunRequest(repository, revision, policy),
        state,  # type: ignore[arg-type]
        RunOutcome(**json.loads(outcome)) if outcome else None,
        float(requested_at),
    )


def _hash_delivery(delivery: str) -> str:
    """Return a key of fixed length, because delivery ids come from the network and may be long."""
    return sha256(delivery.encode("utf-8", "surrogateescape")).hexdigest()


@contextmanager
def _translate_errors(path: Path) -> Iterator[None]:
    """Raise errors of the database as InfrastructureError."""
    try:
        yield
    except sqlite3.Error as error:
        raise InfrastructureError(
            f"the database {path} cannot be used",
            cause=str(error),
            hint="check the file, its permissions and the free space on its disk",
        ) from None
