"""One run: a child process of our own command line, in a folder of its own, and how it ended.

The child outlives a service that is killed. It holds the lock of its folder as long as it lives, so that whoever goes
on with the same order ends it first, and never works beside it.
"""

import hashlib
import os
import re
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from antidote_ci import records
from antidote_ci.environment import hand_over
from antidote_ci.errors import VERDICTS, InfrastructureError, PublishConflict, Terminated
from antidote_ci.paths import try_lock
from antidote_ci.pipeline.output import MODEL_FOLDER, SCORES_FOLDER
from antidote_ci.records import Report
from antidote_ci.service.records import RunOutcome, RunRequest, RunTask
from antidote_ci.service.settings import RunSettings

RUNS_FOLDER = "runs"
OUT_FOLDER = "out"
LOG_FILE = "log.txt"
LOCK_FILE = "lock"
INHERITED_VARIABLES = (
    "ANTIDOTE_CACHE",
    "ANTIDOTE_GITHUB_RAW",
    "ANTIDOTE_HUB_PATIENCE",
    "ANTIDOTE_IMAGE",
    "ANTIDOTE_JUDGE_KEY",
    "ANTIDOTE_SERVER_KEY",
)
"""Of our own variables: the others are the service's secrets, or options that would change what the policy says."""
RETRYABLE_EXIT_CODES = (InfrastructureError.exit_code, PublishConflict.exit_code, 130, Terminated.exit_code)
"""Exit codes that speak of the world around the run; so does the signal that ended it."""
TICK = 0.1
NICE = 10
MAX_TAIL_BYTES = 16 * 1024
MAX_REASON = 300
_ERROR = re.compile(r"^error: (.+)$", re.MULTILINE)


def execute_run(task: RunTask, settings: RunSettings, stopping: threading.Event | None = None) -> RunOutcome:
    """Work a task off, and say how it ended. Doing it again goes on where it ended, and publishes nothing twice.

    Raises Terminated when `stopping` is set: the child was asked to end, and the work is to be gone on with.
    """
    stopping = stopping or threading.Event()
    if stopping.is_set():
        raise Terminated
    folder, seconds = run_folder(task.order, settings), settings.seconds_to_end
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    began = time.monotonic()
    with _lock_folder(folder / LOCK_FILE, seconds, stopping) as lock, (folder / LOG_FILE).open("ab") as log:
        before = log.tell()
        code = _wait_for_end(_start_child(child_arguments(task, settings), lock, log), seconds, stopping)
    return _to_outcome(code, task.order, settings, before, time.monotonic() - began)


def end_orphans(settings: RunSettings) -> None:
    """End what a service that was killed left running, before anything begins beside it.

    Raises InfrastructureError for what another user left running.
    """
    for lock in (settings.folder / RUNS_FOLDER).glob(f"*/{LOCK_FILE}"):
        with _lock_folder(lock, settings.seconds_to_end, threading.Event()):
            pass


def is_retryable(outcome: RunOutcome) -> bool:
    """Whether another attempt may end otherwise."""
    code = outcome.exit_code
    return code is not None and (code in RETRYABLE_EXIT_CODES or code < 0)


def run_folder(order: RunRequest, settings: RunSettings) -> Path:
    """The order's own, by a name that people recognise and that leads nowhere else."""
    known = re.sub(r"[^A-Za-z0-9._-]", "_", order.repository.replace("/", "--"))[:80].lstrip("._-")
    mark = hashlib.sha256(order.id.encode()).hexdigest()[:12]
    return settings.folder.absolute() / RUNS_FOLDER / f"{known}-{order.revision[:12]}-{mark}"


def child_arguments(task: RunTask, settings: RunSettings) -> list[str]:
    """The child's whole command line: no secret is on it."""
    order = task.order
    where = [] if settings.on == "here" else ["--on", settings.on]
    return [
        *(*settings.command, task.command, order.repository, "--revision", order.revision),
        *("--policy", str(settings.policy_file.absolute())),
        *("--out", str(run_folder(order, settings) / OUT_FOLDER), *where),
    ]


def child_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """The service's own without its secrets; tokens exactly as it was given them."""
    return {
        name: value
        for name, value in environ.items()
        if not name.startswith("ANTIDOTE_") or name in INHERITED_VARIABLES
    }


@contextmanager
def _lock_folder(path: Path, seconds: float, stopping: threading.Event) -> Iterator[int]:
    """The folder's lock as a file descriptor, once nobody else works there."""
    lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        for number in (signal.SIGTERM, signal.SIGKILL):
            if not _wait_for_lock(lock, 0, stopping):
                _signal_orphan(lock, number)
                _wait_for_lock(lock, seconds, stopping)
        while not _wait_for_lock(lock, seconds, stopping):
            pass
        # Before a child that could not write its own number yet, there must be none of an earlier one.
        os.ftruncate(lock, 0)
        yield lock
    finally:
        os.close(lock)


def _wait_for_lock(lock: int, seconds: float, stopping: threading.Event) -> bool:
    """Whether the lock is ours, at the latest after so many seconds."""
    until = time.monotonic() + seconds
    while not try_lock(lock):
        if time.monotonic() >= until:
            return False
        if stopping.wait(TICK):
            raise Terminated
    return True


def _signal_orphan(lock: int, number: signal.Signals) -> None:
    """To the group that a killed service left behind. It holds the lock, so that its number is still its own."""
    group = os.pread(lock, 32, 0)
    if not group:
        return
    try:
        os.killpg(int(group), number)
    except ProcessLookupError:
        pass
    except PermissionError:
        raise InfrastructureError(
            f"an earlier run is still alive, process group {int(group)}, and belongs to another user",
            hint="end it, or start the service as the user who started it",
        ) from None


def _start_child(command: list[str], lock: int, log: IO[bytes]) -> subprocess.Popen[bytes]:
    try:
        with hand_over(child_environment(os.environ)) as (block, descriptors):
            child = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=block,
                pass_fds=(lock, *descriptors),
                # Its own group, so that all of it can be ended; the same session, within which `nice` counts.
                process_group=0,
            )
    except OSError as error:
        raise InfrastructureError(f"{command[0]} cannot be started", cause=str(error)) from None
    os.pwrite(lock, str(child.pid).encode(), 0)
    with suppress(ProcessLookupError, PermissionError):
        os.setpriority(os.PRIO_PROCESS, child.pid, max(NICE, os.getpriority(os.PRIO_PROCESS, 0)))
    return child


def _wait_for_end(child: subprocess.Popen[bytes], seconds: float, stopping: threading.Event) -> int:
    """The exit code, negative for the signal that ended it."""
    while (code := child.poll()) is None:
        if stopping.wait(TICK):
            return _end_child(child, seconds)
    return code


def _end_child(child: subprocess.Popen[bytes], seconds: float) -> int:
    """Ask the child to end. Raises Terminated, unless it had come to its own end before it heard."""
    child.terminate()
    try:
        code = child.wait(seconds)
    except subprocess.TimeoutExpired:
        os.killpg(child.pid, signal.SIGKILL)
        code = child.wait()
    if code in VERDICTS:
        return code
    raise Terminated


def _to_outcome(code: int, order: RunRequest, settings: RunSettings, before: int, seconds: float) -> RunOutcome:
    folder = run_folder(order, settings)
    out = folder / OUT_FOLDER
    report = _build_report(out, order, code)
    if report is None:
        return RunOutcome("error", _read_reason(code, folder / LOG_FILE, before), code, seconds=round(seconds, 1))
    if report.publish.url is not None:
        # They are on the Hub, and one copy for every order would fill any disk.
        for name in (MODEL_FOLDER, SCORES_FOLDER):
            shutil.rmtree(out / name, ignore_errors=True)
    where = out.relative_to(settings.folder.absolute()).as_posix()
    return RunOutcome(report.verdict, report.reason, code, report.publish.url, where, round(seconds, 1))


def _build_report(out: Path, order: RunRequest, code: int) -> Report | None:
    """The report of this order that ends as the process did: an earlier attempt's may lie there."""
    try:
        report = records.from_json(Report, (out / "report.json").read_bytes())
    except (OSError, ValueError):
        return None
    told = report.source.revision, report.policy_sha256, report.exit_code
    return report if code in VERDICTS and told == (order.revision, order.policy, code) else None


def _read_reason(code: int, log: Path, before: int) -> str:
    """The last error that the child explained, not an attempt's before it; it never quotes a model."""
    with log.open("rb") as file:
        file.seek(max(before, log.stat().st_size - MAX_TAIL_BYTES))
        tail = file.read().decode("utf-8", "replace")
    explained = _ERROR.findall(tail)
    ending = f"signal {-code}" if code < 0 else f"exit {code}"
    return explained[-1][:MAX_REASON] if explained else f"the run ended with {ending}, and left no report"
