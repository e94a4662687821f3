"""Durable queue: worker threads that take run requests from the store, oldest first, one per repository at a time.

A delivery is answered once its request is stored. A request whose process was killed is taken again at the next start,
so that every request gets exactly one recorded outcome.
"""

import logging
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import TypeVar

from antidote_ci.errors import AntidoteError, InfrastructureError, Terminated
from antidote_ci.hub.client import redact_secrets
from antidote_ci.report.text import flatten, pluralize
from antidote_ci.service import executor
from antidote_ci.service.records import NewerCommit, RunOutcome, RunRequest, RunTask
from antidote_ci.service.run_store import SECONDS_TO_ANSWER, RunRecord, RunState, RunStore, SubmitResult
from antidote_ci.service.settings import ServiceSettings

logger = logging.getLogger(__name__)

POLL_SECONDS = 0.25
"""How often an idle worker looks for waiting requests."""
MAX_INSPECTIONS = 5
"""How often the last retry pause is repeated while the Hub is unreachable: about an hour in total."""

SECONDS_BETWEEN_HEADS = 24 * 3600.0
"""How often the heads of all allowed models are read."""

HeadReader = Callable[[], Iterable[RunRequest]]
HeadInspector = Callable[[RunRequest], RunTask | NewerCommit | RunOutcome]
Value = TypeVar("Value")


class RunQueue:
    """The queue of one service folder, and its workers."""

    def __init__(self, settings: ServiceSettings, inspect: HeadInspector, read_heads: HeadReader) -> None:
        """`inspect` reads the head of a repository, and `read_heads` those of all allowed models. Both raise
        InfrastructureError when the Hub cannot be reached.

        Raises InfrastructureError when the database cannot be opened.
        """
        self._settings, self._inspect, self._read_heads = settings, inspect, read_heads
        self._store = RunStore(self._settings.database)
        self._stopping = threading.Event()
        self._busy = threading.Semaphore(settings.runs)
        # Daemon threads: a worker that waits for the Hub must not keep the process alive.
        self._workers = [threading.Thread(target=self._work, daemon=True) for _ in range(settings.runs)]
        self._head_watcher = threading.Thread(target=self._watch_heads, daemon=True)

    def start(self) -> None:
        for thread in (*self._workers, self._head_watcher):
            thread.start()

    def stop(self) -> None:
        """End the running children. Their requests stay marked as running, and are taken again at the next start."""
        self._stopping.set()
        for _ in self._workers:
            self._busy.acquire(timeout=self._settings.seconds_to_end + 1)
        self._store.close()

    def submit(self, request: RunRequest, delivery: str | None = None) -> SubmitResult:
        """Store a request, once per request id and once per delivery id. Raises InfrastructureError."""
        return self._store.submit(request, delivery)

    def list_latest(self, state: RunState, limit: int) -> list[RunRecord]:
        """The latest requests in a state, newest first. Raises InfrastructureError."""
        return self._store.list_latest(state, limit)

    def is_ready(self) -> bool:
        """Whether requests can be stored and are processed."""
        if self._stopping.is_set() or not all(worker.is_alive() for worker in self._workers):
            return False
        try:
            self._store.list_latest("waiting", 1)
        except InfrastructureError:
            return False
        return True

    def _watch_heads(self) -> None:
        """Main function of the thread that submits the heads which no delivery has announced."""
        with suppress(Terminated):
            while True:
                self._wait(self._submit_heads())

    def _submit_heads(self) -> float:
        """Submit the head of every allowed model that has no verdict. Returns the seconds until the next time."""
        submitted = 0
        try:
            for request in self._read_heads():
                self._wait(0)
                submitted += self._store.submit(request) == "accepted"
        except AntidoteError as error:
            logger.warning("the heads of the models cannot be read: %s", error.describe())
            passing = isinstance(error, InfrastructureError)
            return self._settings.retry_pauses[-1] if passing else SECONDS_BETWEEN_HEADS
        except Exception as error:  # noqa: BLE001 - without this thread, a lost delivery would never be noticed
            logger.error("the heads of the models cannot be read: %s", _describe_unexpected(error))
            return SECONDS_BETWEEN_HEADS
        if submitted:
            logger.info("accepted the heads of %s without a verdict", pluralize(submitted, "model"))
        return SECONDS_BETWEEN_HEADS

    def _work(self) -> None:
        """Main function of a worker thread."""
        with self._busy, suppress(Terminated):
            while True:
                request = self._retry_store(self._store.claim)
                if request is None:
                    self._wait(POLL_SECONDS)
                else:
                    self._process(request)

    def _process(self, request: RunRequest) -> None:
        """Run a request and store its outcome. Every error except Terminated is stored as the outcome `error`."""
        try:
            result = self._run(request)
        except AntidoteError as error:
            result = RunOutcome("error", error.describe())
        except Exception as error:  # noqa: BLE001 - a request without an outcome would block its repository
            result = RunOutcome("error", _describe_unexpected(error))
        newer = result.request if isinstance(result, NewerCommit) else None
        outcome = result if isinstance(result, RunOutcome) else _superseded(request, result.request)
        logger.info("%s: %s", _describe(request), flatten(f"{outcome.state}, {outcome.reason}"))
        self._retry_store(lambda: self._store.finish(request, outcome, newer))

    def _run(self, request: RunRequest) -> RunOutcome | NewerCommit:
        """Inspect the head of the repository and run the task. Failures with causes outside the model are retried."""
        for pause in (0.0, *self._settings.retry_pauses):
            self._wait(pause)
            task = self._inspect_head(request)
            if not isinstance(task, RunTask):
                return task
            outcome = self._execute(task)
            if not executor.is_retryable(outcome):
                break
        return outcome

    def _inspect_head(self, request: RunRequest) -> RunTask | NewerCommit | RunOutcome:
        """Return the task of a request, a request for a newer commit, or an outcome if there is nothing to run.

        The head of the repository decides. Retries while the Hub is unreachable.
        """
        if request.policy != self._settings.policy_sha256:
            return NewerCommit(replace(request, policy=self._settings.policy_sha256))
        pauses = self._settings.retry_pauses
        for pause in (*pauses, *pauses[-1:] * MAX_INSPECTIONS):
            try:
                with self._not_busy():
                    return self._inspect(request)
            except InfrastructureError as error:
                if not error.passing:
                    raise
                logger.info("%s is inspected again in %.0f s: %s", flatten(request.repository), pause, error.describe())
                self._wait(pause)
        with self._not_busy():
            return self._inspect(request)

    def _execute(self, task: RunTask) -> RunOutcome:
        logger.info("%s: %s", _describe(task.request), task.command)
        try:
            return executor.execute_run(task, self._settings, self._stopping)
        except (InfrastructureError, OSError) as error:
            # The disk is full, or no process can be started. The exit code makes the run retryable.
            text = error.describe() if isinstance(error, InfrastructureError) else str(error)
            return RunOutcome("error", redact_secrets(text, None), InfrastructureError.exit_code)

    def _retry_store(self, call: Callable[[], Value]) -> Value:
        """Return `call()`, and repeat it while the database cannot be used."""
        while True:
            try:
                return call()
            except InfrastructureError:
                self._wait(SECONDS_TO_ANSWER)

    def _wait(self, seconds: float) -> None:
        if self._stopping.wait(seconds):
            raise Terminated

    @contextmanager
    def _not_busy(self) -> Iterator[None]:
        """Mark the block as safe to interrupt, so that `stop` does not wait for a slow request to the Hub."""
        self._busy.release()
        try:
            yield
        finally:
            self._busy.acquire()


def _superseded(request: RunRequest, newer: RunRequest) -> RunOutcome:
    if newer.policy != request.policy:
        return RunOutcome("superseded", "the policy has changed since")
    return RunOutcome("superseded", f"main has moved on to {newer.revision[:12]}")


def _describe_unexpected(error: Exception) -> str:
    return redact_secrets(f"unexpected {type(error).__name__}: {error}", None)


def _describe(request: RunRequest) -> str:
    return f"{flatten(request.repository)} at {request.revision[:12]}"
