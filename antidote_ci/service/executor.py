"""Execute one run: a child process of the same command line, in its own folder, with its outcome.

A child outlives a service that is killed. It holds the lock of its folder while it lives, so that the next service can
find it and end it before it starts the same run again.
"""

import hashlib
import os
import re
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
from antidote_ci.errors import SIGNAL_EXIT_CODES, VERDICT_EXIT_CODES, InfrastructureError, PublishConflict, Terminated
from antidote_ci.paths import open_below, open_lock, open_log, open_regular, remove_path, require_real_folder, try_lock
from antidote_ci.pipeline.output import MODEL_FOLDER, SCORES_FOLDER
from antidote_ci.records import Report
from antidote_ci.service.records import RunOutcome, RunRequest, RunTask
from antidote_ci.service.settings import ServiceSettings

RUNS_FOLDER = "runs"
ANSWERS_FOLDER = "answers"
OUT_FOLDER = "out"
LOG_FILE = "log.txt"
LOCK_FILE = "lock"
INHERITED_VARIABLES = (
    "ANTIDOTE_GITHUB_RAW",
    "ANTIDOTE_HUB_RETRY_SECONDS",
    "ANTIDOTE_IMAGE",
    "ANTIDOTE_JUDGE_KEY",
    "ANTIDOTE_SERVER_KEY",
)
"""The ANTIDOTE_* variables that a child gets. The others are secrets of the service, or options that would override the
policy."""
RETRYABLE_EXIT_CODES = (InfrastructureError.exit_code, PublishConflict.exit_code, *SIGNAL_EXIT_CODES)
"""Exit codes with causes outside the model. A child that was killed by a signal is retryable too."""
POLL_SECONDS = 0.1
NICE = 10
MAX_TAIL_BYTES = 16 * 1024
MAX_REPORT_BYTES = 64_000_000
_ERROR = re.compile(r"^error: (.+)$", re.MULTILINE)


def execute_run(task: RunTask, settings: ServiceSettings, stopping: threading.Event | None = None) -> RunOutcome:
    """Run a task in a child process and return its outcome. Repeating a task continues it, and publishes nothing twice.

    Raises Terminated when `stopping` is set: the child was ended, and the task can be repeated. Raises
    InfrastructureError when the child cannot be started, OSError when the folder cannot be written.
    """
    stopping = stopping or threading.Event()
    if stopping.is_set():
        raise Terminated
    folder, seconds = run_folder(task.request, settings), settings.seconds_to_end
    settings.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for below in (folder.parent, folder):
        require_real_folder(below, "use another --folder", mode=0o700)
    started_at = time.monotonic()
    with _lock_folder(folder / LOCK_FILE, seconds, stopping) as lock, open_log(folder / LOG_FILE) as log:
        log_start = log.tell()
        environment = child_environment(os.environ, task.request, settings)
        code = _wait_for_end(_start_child(child_arguments(task, settings), environment, lock, log), seconds, stopping)
    return _to_outcome(code, task.request, settings, log_start, time.monotonic() - started_at)


def end_orphans(settings: ServiceSettings) -> None:
    """End the children that a killed service left running.

    Raises InfrastructureError for a child that belongs to another user.
    """
    for lock in (settings.folder / RUNS_FOLDER).glob(f"*/{LOCK_FILE}"):
        if lock.is_symlink() or lock.parent.is_symlink():
            continue  # no child of ours
        with _lock_folder(lock, settings.seconds_to_end, threading.Event()):
            pass


def is_retryable(outcome: RunOutcome) -> bool:
    """Whether another attempt may have another outcome."""
    code = outcome.exit_code
    return code is not None and (code in RETRYABLE_EXIT_CODES or code < 0)


def run_folder(request: RunRequest, settings: ServiceSettings) -> Path:
    """The folder of a request: its name is readable, unique, and safe as a path."""
    name = re.sub(r"[^A-Za-z0-9._-]", "_", request.repository.replace("/", "--"))[:80].lstrip("._-")
    digest = hashlib.sha256(request.id.encode()).hexdigest()[:12]
    return settings.folder.absolute() / RUNS_FOLDER / f"{name}-{request.revision[:12]}-{digest}"


def child_arguments(task: RunTask, settings: ServiceSettings) -> list[str]:
    """The command line of the child. It contains no secret."""
    request = task.request
    on = [] if settings.on == "here" else ["--on", settings.on]
    return [
        *(*settings.command, task.command, request.repository, "--revision", request.revision),
        *("--policy", str(settings.policy_file.absolute())),
        *("--out", str(run_folder(request, settings) / OUT_FOLDER), *on),
    ]


def child_environment(environ: Mapping[str, str], request: RunRequest, settings: ServiceSettings) -> dict[str, str]:
    """The service's environment without its own secrets and options. Tokens of the Hub are passed on.

    The answer cache is one of the repository's owner, so that no owner's model can read or replace another's answers.
    """
    inherited = {
        name: value
        for name, value in environ.items()
        if not name.startswith("ANTIDOTE_") or name in INHERITED_VARIABLES
    }
    # Names on the Hub are unique without regard to case.
    owner = re.sub(r"[^a-z0-9._-]", "_", request.repository.lower().partition("/")[0])
    caches = Path(environ.get("ANTIDOTE_CACHE") or settings.folder / ANSWERS_FOLDER)
    return inherited | {"ANTIDOTE_CACHE": str((caches / owner).absolute())}


@contextmanager
def _lock_folder(path: Path, seconds: float, stopping: threading.Event) -> Iterator[int]:
    """Lock a run's folder and yield the lock's file descriptor. A child of an earlier service is ended first."""
    lock = open_lock(path)
    try:
        for number in (signal.SIGTERM, signal.SIGKILL):
            if not _wait_for_lock(lock, 0, stopping):
                _signal_orphan(lock, number)
                _wait_for_lock(lock, seconds, stopping)
        while not _wait_for_lock(lock, seconds, stopping):
            pass
        # A new child must not be confused with an earlier one before its process id is written.
        os.ftruncate(lock, 0)
        yield lock
    finally:
        os.close(lock)


def _wait_for_lock(lock: int, seconds: float, stopping: threading.Event) -> bool:
    """Whether the lock was acquired within this many seconds."""
    deadline = time.monotonic() + seconds
    while not try_lock(lock):
        if time.monotonic() >= deadline:
            return False
        if stopping.wait(POLL_SECONDS):
            raise Terminated
    return True


def _signal_orphan(lock: int, number: signal.Signals) -> None:
    """Signal the process group in the lock file. It still holds the lock, so its id was not reused."""
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


def _start_child(command: list[str], environment: dict[str, str], lock: int, log: IO[bytes]) -> subprocess.Popen[bytes]:
    try:
        with hand_over(environment) as (block, descriptors):
            child = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=block,
                pass_fds=(lock, *descriptors),
                # A process group of its own can be ended as a whole. A session of its own would escape `nice`.
                process_group=0,
            )
    except OSError as error:
        raise InfrastructureError(f"{command[0]} cannot be started", cause=str(error)) from None
    os.pwrite(lock, str(child.pid).encode(), 0)
    with suppress(ProcessLookupError, PermissionError):
        os.setpriority(os.PRIO_PROCESS, child.pid, max(NICE, os.getpriority(os.PRIO_PROCESS, 0)))
    return child


def _wait_for_end(child: subprocess.Popen[bytes], seconds: float, stopping: threading.Event) -> int:
    """The exit code; negative for the signal that ended the child."""
    while (code := child.poll()) is None:
        if stopping.wait(POLL_SECONDS):
            return _end_child(child, seconds)
    return code


def _end_child(child: subprocess.Popen[bytes], seconds: float) -> int:
    """End the child. Returns its exit code when it had reached a verdict already, and raises Terminated otherwise."""
    child.terminate()
    try:
        code = child.wait(seconds)
    except subprocess.TimeoutExpired:
        os.killpg(child.pid, signal.SIGKILL)
        code = child.wait()
    if code in VERDICT_EXIT_CODES:
        return code
    raise Terminated


def _to_outcome(
    code: int, request: RunRequest, settings: ServiceSettings, log_start: int, seconds: float
) -> RunOutcome:
    folder = run_folder(request, settings)
    out = folder / OUT_FOLDER
    report = load_report(request, settings, code)
    if report is None:
        return RunOutcome("error", _read_reason(code, folder / LOG_FILE, log_start), code, seconds=round(seconds, 1))
    if report.publish.has_weights:
        # The weights are on the Hub. Keeping a copy of every repair would fill the disk.
        for name in (MODEL_FOLDER, SCORES_FOLDER):
            with suppress(OSError):
                remove_path(out / name)
    report_folder = out.relative_to(settings.folder.absolute()).as_posix()
    return RunOutcome(report.verdict, report.reason, code, report.publish.url, report_folder, round(seconds, 1))


def load_report(request: RunRequest, settings: ServiceSettings, code: int) -> Report | None:
    """The report, if it belongs to this request and exit code. An earlier attempt may have left another."""
    try:
        with open_below(run_folder(request, settings), f"{OUT_FOLDER}/report.json") as file:
            report = records.from_json(Report, file.read(MAX_REPORT_BYTES))
    except (OSError, ValueError):
        return None
    described = report.source.revision, report.policy_sha256, report.exit_code
    return report if code in VERDICT_EXIT_CODES and described == (request.revision, request.policy, code) else None


def _read_reason(code: int, log: Path, log_start: int) -> str:
    """The last error message of this attempt. Error messages never quote a model."""
    with open_regular(log) as file:
        file.seek(max(log_start, os.fstat(file.fileno()).st_size - MAX_TAIL_BYTES))
        tail = file.read().decode("utf-8", "replace")
    messages = _ERROR.findall(tail)
    ending = f"signal {-code}" if code < 0 else f"exit {code}"
    return messages[-1] if messages else f"the run ended with {ending} and left no report"
