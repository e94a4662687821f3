"""The durable queue: orders that wait, run and have ended, in a database that outlives every process.

A delivery is answered once its order is written down. An order is a workflow of dbos under the order's own id, so that
equal work is done once. One worker takes them, one at a time for each repository; what a crash interrupts begins again
at the step it was in. With `database` and `entries` the only importer of dbos.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from hashlib import sha256
from typing import Literal

import sqlalchemy as sa
from dbos import DBOS, DBOSPortableJSONSerializer
from dbos import error as dbos_errors
from sqlalchemy.dialects import postgresql, sqlite

from antidote_ci.errors import AntidoteError, InfrastructureError, Terminated
from antidote_ci.hub.client import redact_secrets
from antidote_ci.report.console import Console
from antidote_ci.report.text import flatten
from antidote_ci.service import database, executor, run_store
from antidote_ci.service.database import SECONDS_TO_ANSWER
from antidote_ci.service.records import NewerCommit, RunOutcome, RunRequest, RunTask
from antidote_ci.service.run_store import (
    NAME,
    WORKFLOW,
    RunRecord,
    RunState,
    StepResult,
    dump_step_result,
    load_step_result,
)
from antidote_ci.service.settings import ServiceSettings

EXECUTOR = "antidote-ci"
"""Who works: always the same, so that the next process takes up what the last one left."""
VERSION = "1"
"""Of the steps below, not of the release: it changes only when orders that wait could not be gone on with."""
QUEUE = "orders"
POLL_SECONDS = 0.5
"""Seconds between two looks for orders that wait."""
MAX_INSPECTIONS = 5
"""How often the last pause is repeated while the Hub cannot be reached: about an hour in all."""
DELIVERY_DAYS = 30
"""For which deliveries are known again by their id."""

HeadInspector = Callable[[RunRequest], StepResult]
SubmitResult = Literal["accepted", "duplicate", "seen"]
"""`duplicate`: the order is known. `seen`: this very delivery is."""
_deliveries = sa.Table(
    "antidote_deliveries",
    sa.MetaData(),
    sa.Column("id", sa.String(64), primary_key=True),
    sa.Column("received", sa.Float, nullable=False, index=True),
)


class RunQueue:
    """The queue and its worker: one for a folder and a database."""

    def __init__(self, serving: ServiceSettings, console: Console, look: HeadInspector) -> None:
        """`look` reads the head of an order's repository; it raises InfrastructureError while it cannot."""
        self._serving, self._talk, self._look = serving, console, look
        self._settings = serving.run_settings
        self._engine = database.create_engine(serving.database_url)
        self._client = run_store.create_client(self._engine)
        self._turn = threading.Lock()
        self._places = threading.Semaphore(serving.runs)
        self._stopping = threading.Event()
        self._is_away = False

    def start(self) -> None:
        """Open the database and go on with what is in it. Raises InfrastructureError when it cannot be reached."""
        with database.translate_database_errors(self._serving.database_url):
            with self._engine.begin() as connection:
                _deliveries.metadata.create_all(connection)
                _forget_deliveries(connection)
            DBOS(
                config={
                    "name": NAME,
                    "system_database_url": self._serving.database_url,
                    "application_version": VERSION,
                    "executor_id": EXECUTOR,
                    "serializer": DBOSPortableJSONSerializer(),
                    "log_level": "ERROR",
                    "sys_db_pool_size": 10,
                }
            )
            DBOS.workflow(name=WORKFLOW, max_recovery_attempts=None)(self._workflow())
            DBOS.launch()
            DBOS.register_queue(
                QUEUE,
                worker_concurrency=self._serving.runs,
                partition_concurrency=1,
                polling_interval_sec=POLL_SECONDS,
                on_conflict="always_update",
            )

    def stop(self) -> None:
        """End the runs so that they can be gone on with. Nothing is lost, whenever this is called or is not."""
        self._stopping.set()
        for _ in range(self._serving.runs):
            self._places.acquire(timeout=self._settings.seconds_to_end + 1)
        DBOS.destroy(destroy_registry=True)
        self._engine.dispose()

    def submit(self, order: RunRequest, delivery: str | None = None) -> SubmitResult:
        """Write an order down: once for each id, and once for each `delivery`.

        An order that ended because main had moved on is taken again: main may have moved back.
        Raises InfrastructureError when it could not be written down.
        """
        if not self._turn.acquire(timeout=SECONDS_TO_ANSWER):
            raise InfrastructureError("the database is too slow")
        try:
            with self._track_database():
                return self._submit(order, delivery)
        finally:
            self._turn.release()

    def entries(self, state: RunState, most: int) -> list[RunRecord]:
        """The latest orders of a state, newest first. Raises InfrastructureError."""
        with self._track_database():
            return run_store.list_latest_runs(self._client, state, most)

    def is_ready(self) -> bool:
        """Whether orders can be written down and are worked off."""
        name = f"queue-worker-{QUEUE}"
        working = any(thread.name == name and thread.is_alive() for thread in threading.enumerate())
        if self._stopping.is_set() or not working:
            return False
        try:
            with self._track_database(), self._engine.connect() as connection:
                connection.execute(sa.select(1))
        except InfrastructureError:
            return False
        return True

    def _submit(self, order: RunRequest, delivery: str | None) -> SubmitResult:
        # Together: an order that waits, and a delivery that need not come again.
        with self._engine.begin() as connection:
            if delivery is not None and not _is_new_delivery(connection, delivery):
                return "seen"
            if self._is_enqueued(connection, order):
                return "accepted"
            if not self._was_superseded(order):
                return "duplicate"
            connection.rollback()
        self._client.delete_workflow(order.id)
        return self._submit(order, delivery)

    def _is_enqueued(self, connection: sa.Connection, order: RunRequest) -> bool:
        """Whether it is now, and was not known before."""
        try:
            self._client.enqueue_in_transaction(
                connection,
                {
                    "workflow_name": WORKFLOW,
                    "queue_name": QUEUE,
                    "workflow_id": order.id,
                    "workflow_id_reuse_policy": "reject",
                    "queue_partition_key": order.repository,
                    "app_version": VERSION,
                },
                order.repository,
                order.revision,
                order.policy,
            )
        except dbos_errors.DBOSWorkflowIDInUseError:
            return False
        return True

    def _was_superseded(self, order: RunRequest) -> bool:
        found = [run_store.to_run_record(each) for each in self._client.list_workflows(workflow_ids=[order.id])]
        return any(entry.outcome is not None and entry.outcome.state == "superseded" for entry in found)

    def _workflow(self) -> Callable[[str, str, str], str]:
        def follow(repository: str, revision: str, policy: str) -> str:
            outcome = self._run_request(RunRequest(repository, revision, policy))
            self._talk.print(flatten(f"{repository} at {revision[:12]}: {outcome.state}, {outcome.reason}"))
            return dump_step_result(outcome)

        return follow

    def _run_request(self, order: RunRequest) -> RunOutcome:
        """From an order to its one outcome. What a step found is written down before the next begins."""
        for pause in (0.0, *self._settings.pauses):
            found = _run_step("look", self._inspect_head, order, pause)
            if isinstance(found, RunTask):
                found = _run_step("run", self._execute, found)
            if isinstance(found, NewerCommit):
                found = _run_step("replace", self._replace_by_newer, order, found)
            outcome = found if isinstance(found, RunOutcome) else RunOutcome("error", "a step came to no end")
            if not executor.is_retryable(outcome):
                break
        return outcome

    def _inspect_head(self, order: RunRequest, pause: float) -> StepResult:
        """What the order asks for by now, after a pause. What only the Hub's being away keeps is asked again."""
        self._wait(pause)
        if newer := self._under_another_policy(order):
            return newer
        pauses = self._settings.pauses
        for then in (*pauses, *pauses[-1:] * MAX_INSPECTIONS):
            try:
                return self._look(order)
            except InfrastructureError as error:
                if not error.passing:
                    raise
                self._talk.print(flatten(f"{order.repository} is looked at again in {then:.0f} s: {error.what}"))
                self._wait(then)
        return self._look(order)

    def _replace_by_newer(self, order: RunRequest, newer: NewerCommit) -> RunOutcome:
        while not self._is_submitted(newer.order):
            self._wait(SECONDS_TO_ANSWER)
        if newer.order.policy != order.policy:
            return RunOutcome("superseded", "the policy has changed since")
        return RunOutcome("superseded", f"main has moved on to {newer.order.revision[:12]}")

    def _is_submitted(self, order: RunRequest) -> bool:
        """Not while the database is away; nobody else would write it down."""
        try:
            self.submit(order)
        except InfrastructureError:
            return False
        return True

    def _under_another_policy(self, order: RunRequest) -> NewerCommit | None:
        """The newest policy wins, as the newest commit does: runs read no other."""
        if order.policy == self._settings.policy_sha256:
            return None
        return NewerCommit(replace(order, policy=self._settings.policy_sha256))

    def _execute(self, task: RunTask) -> RunOutcome | NewerCommit:
        order = task.order
        if newer := self._under_another_policy(order):
            return newer
        self._talk.print(f"{flatten(order.repository)} at {order.revision[:12]}: {task.command}")
        # The queue counts what has begun, a moment late: here nothing runs beside too many others.
        while not self._places.acquire(timeout=1):
            self._wait(0)
        try:
            return executor.execute_run(task, self._settings, self._stopping)
        except (InfrastructureError, OSError) as error:
            # The disk is full, or there is no process to be had: the run would have ended so.
            return RunOutcome("error", redact_secrets(str(error), None), InfrastructureError.exit_code)
        finally:
            self._places.release()

    def _wait(self, seconds: float) -> None:
        if self._stopping.wait(seconds):
            raise Terminated

    @contextmanager
    def _track_database(self) -> Iterator[None]:
        """A question to the database; that it is away, or back, is said once."""
        try:
            with database.translate_database_errors(self._serving.database_url):
                yield
        except InfrastructureError as error:
            if not self._is_away:
                self._talk.print_error(error)
            self._is_away = True
            raise
        if self._is_away:
            self._talk.print("the database is back")
        self._is_away = False


def _run_step(name: str, function: Callable[..., StepResult], *arguments: object) -> StepResult:
    """A step of dbos: done once, or again where it was interrupted. Whatever goes wrong in it is an outcome.

    Terminated goes through: dbos writes nothing down then, and the step is unfinished.
    """

    def attempt() -> str:
        try:
            return dump_step_result(function(*arguments))
        except AntidoteError as error:
            return dump_step_result(RunOutcome("error", error.what))
        except Exception as error:  # noqa: BLE001 - an order that has no end would hold up all the others
            return dump_step_result(
                RunOutcome("error", redact_secrets(f"unexpected {type(error).__name__}: {error}", None))
            )

    return load_step_result(DBOS.run_step({"name": name}, attempt))


def _is_new_delivery(connection: sa.Connection, delivery: str) -> bool:
    """Whether it was not known before; it is from now on."""
    insert = (sqlite if connection.dialect.name == "sqlite" else postgresql).insert(_deliveries)
    row = insert.values(id=_hash_delivery(delivery), received=time.time())
    written = connection.execute(row.on_conflict_do_nothing().returning(_deliveries.c.id))
    return written.first() is not None


def _forget_deliveries(connection: sa.Connection) -> None:
    """Deliveries that no one sends again."""
    oldest = time.time() - DELIVERY_DAYS * 86400
    connection.execute(sa.delete(_deliveries).where(_deliveries.c.received < oldest))


def _hash_delivery(delivery: str) -> str:
    """Of one length, whatever the id is."""
    return sha256(delivery.encode("utf-8", "surrogateescape")).hexdigest()
