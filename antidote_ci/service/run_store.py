"""The orders of a queue, read from its database: its service may be up or not."""

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Literal, get_args

import sqlalchemy as sa
from dbos import DBOSClient, DBOSPortableJSONSerializer, WorkflowStatus

from antidote_ci.service import database
from antidote_ci.service.records import Newer, Order, Outcome, Task

if TYPE_CHECKING:
    from pydantic import TypeAdapter

NAME = "antidote-ci"
WORKFLOW = "order"
"""Under which dbos keeps them."""

Found = Task | Newer | Outcome
"""What a step of an order comes to."""
State = Literal["waiting", "running", "ended"]
STATES: dict[str, State] = {
    "ENQUEUED": "waiting",
    "DELAYED": "waiting",
    "PENDING": "running",
    "SUCCESS": "ended",
    "ERROR": "ended",
    "CANCELLED": "ended",
    "MAX_RECOVERY_ATTEMPTS_EXCEEDED": "ended",
}
"""What dbos calls them."""


@dataclass(frozen=True)
class Entry:
    """An order as the queue has it."""

    order: Order
    state: State
    outcome: Outcome | None
    """Of an order that has ended."""
    asked: float
    """Seconds since 1970."""


def entries(database_url: str, most: int = 1_000_000) -> list[Entry]:
    """Every order of a database, oldest first, to the second; its service may be up or not.

    Raises InfrastructureError.
    """
    engine = database.engine(database_url)
    reader = client(engine)
    try:
        with database.explained(database_url):
            found = [each for state in get_args(State) for each in latest(reader, state, most)]
    finally:
        engine.dispose()
    return sorted(found, key=lambda each: each.asked)


def latest(client: DBOSClient, state: State, most: int) -> list[Entry]:
    """The latest orders of a state, newest first."""
    statuses = [status for status, each in STATES.items() if each == state]
    return [entry(each) for each in client.list_workflows(name=WORKFLOW, status=statuses, limit=most, sort_desc=True)]


def entry(status: WorkflowStatus) -> Entry:
    """An order, from what dbos has of it."""
    order = Order(*status.input["args"]) if status.input else Order(status.workflow_id, "", "")
    state = STATES[status.status]
    outcome = _outcome(status) if state == "ended" else None
    return Entry(order, state, outcome, (status.created_at or 0) / 1000)


def _outcome(status: WorkflowStatus) -> Outcome:
    try:
        found = read(status.output or "")
    except ValueError:
        found = None
    return found if isinstance(found, Outcome) else Outcome("error", "the queue gave it up, or cannot read its end")


def client(engine: sa.Engine) -> DBOSClient:
    """Of dbos: it asks through the engine, and starts nothing."""
    return DBOSClient(
        system_database_engine=engine,
        serializer=DBOSPortableJSONSerializer(),
        application_name=NAME,
        lazy=True,
        retry_connection_errors=False,
    )


def written(found: Found) -> str:
    """As a step leaves it in the database."""
    text: bytes = _adapter().dump_json(found)
    return text.decode()


def read(text: str) -> Found:
    """What a step left. Raises ValueError for what none has written."""
    return _adapter().validate_json(text)


@cache
def _adapter() -> "TypeAdapter[Found]":
    from pydantic import TypeAdapter

    return TypeAdapter(Found)
