"""The orders of a queue, read from its database: its service may be up or not."""

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Literal, get_args

import sqlalchemy as sa
from dbos import DBOSClient, DBOSPortableJSONSerializer, WorkflowStatus

from antidote_ci.service import database
from antidote_ci.service.records import NewerCommit, RunOutcome, RunRequest, RunTask

if TYPE_CHECKING:
    from pydantic import TypeAdapter

NAME = "antidote-ci"
WORKFLOW = "order"
"""Under which dbos keeps them."""

StepResult = RunTask | NewerCommit | RunOutcome
"""What a step of an order comes to."""
RunState = Literal["waiting", "running", "ended"]
STATES: dict[str, RunState] = {
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
class RunRecord:
    """An order as the queue has it."""

    request: RunRequest
    state: RunState
    outcome: RunOutcome | None
    """Of an order that has ended."""
    requested_at: float
    """Seconds since 1970."""


def list_runs(database_url: str, most: int = 1_000_000) -> list[RunRecord]:
    """Every order of a database, oldest first, to the second; its service may be up or not.

    Raises InfrastructureError.
    """
    engine = database.create_engine(database_url)
    reader = create_client(engine)
    try:
        with database.translate_database_errors(database_url):
            found = [each for state in get_args(RunState) for each in list_latest_runs(reader, state, most)]
    finally:
        engine.dispose()
    return sorted(found, key=lambda each: each.requested_at)


def list_latest_runs(client: DBOSClient, state: RunState, most: int) -> list[RunRecord]:
    """The latest orders of a state, newest first."""
    statuses = [status for status, each in STATES.items() if each == state]
    return [
        to_run_record(each)
        for each in client.list_workflows(name=WORKFLOW, status=statuses, limit=most, sort_desc=True)
    ]


def to_run_record(status: WorkflowStatus) -> RunRecord:
    """An order, from what dbos has of it."""
    order = RunRequest(*status.input["args"]) if status.input else RunRequest(status.workflow_id, "", "")
    state = STATES[status.status]
    outcome = _read_outcome(status) if state == "ended" else None
    return RunRecord(order, state, outcome, (status.created_at or 0) / 1000)


def _read_outcome(status: WorkflowStatus) -> RunOutcome:
    try:
        found = load_step_result(status.output or "")
    except ValueError:
        found = None
    return (
        found if isinstance(found, RunOutcome) else RunOutcome("error", "the queue gave it up, or cannot read its end")
    )


def create_client(engine: sa.Engine) -> DBOSClient:
    """Of dbos: it asks through the engine, and starts nothing."""
    return DBOSClient(
        system_database_engine=engine,
        serializer=DBOSPortableJSONSerializer(),
        application_name=NAME,
        lazy=True,
        retry_connection_errors=False,
    )


def dump_step_result(found: StepResult) -> str:
    """As a step leaves it in the database."""
    text: bytes = _step_result_adapter().dump_json(found)
    return text.decode()


def load_step_result(text: str) -> StepResult:
    """What a step left. Raises ValueError for what none has written."""
    return _step_result_adapter().validate_json(text)


@cache
def _step_result_adapter() -> "TypeAdapter[StepResult]":
    from pydantic import TypeAdapter

    return TypeAdapter(StepResult)
