"""Runs Jobs as processes of this machine, each with its own folder and environment. Images are not pulled."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import IO

from antidote_ci.records import from_json, to_json
from loopback_hub.blobs import replace_file
from loopback_hub.records import TERMINAL_STAGES, JobStage, StoredJob, utc_now

IMAGE = {"antidote-ci": (sys.executable, "-P", "-m", "antidote_ci"), "python": (sys.executable,)}
"""Programs of the antidote-ci image -> their commands on this machine."""
INHERITED_VARIABLES = ("CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS", "OMP_WAIT_POLICY")
"""Variables of this process that a Job inherits, because Jobs share the processors and GPUs with the tests."""
GRACE_SECONDS = 10.0
"""Seconds between SIGTERM and SIGKILL."""
POLL_SECONDS = 0.05
KEEP_ALIVE_SECONDS = 15.0


class JobProcesses:
    """The Jobs of a Hub: their files `<namespace>/<id>.json` and `.log`, and their processes."""

    def __init__(self, root: Path) -> None:
        self.enabled = False
        """Whether Jobs run. Their commands have the rights of this process."""
        self.environment: dict[str, str] = {}
        """Variables with which a Job connects to this Hub."""
        self.programs: dict[str, tuple[str, ...]] = dict(IMAGE)
        """First word of a command -> the command that replaces it."""
        self.broken_images: dict[str, str] = {}
        """Image -> the error message with which its Jobs fail to start."""
        self.without_credit: set[str] = set()
        """Accounts and organisations without credit."""
        self._root = root
        self._changing = threading.RLock()
        self._running: dict[str, subprocess.Popen[str]] = {}
        self._threads: list[threading.Thread] = []
        self._closing = threading.Event()

    def list_jobs(self, namespace: str) -> list[StoredJob]:
        """Return the Jobs of a namespace, newest first."""
        jobs = [from_json(StoredJob, path.read_bytes()) for path in (self._root / namespace).glob("*.json")]
        return sorted(jobs, key=lambda job: (job.created, job.id), reverse=True)

    def find_job(self, namespace: str, job_id: str) -> StoredJob | None:
        """Return the current state of a Job, or None."""
        path = self._path(namespace, job_id)
        return from_json(StoredJob, path.read_bytes()) if path.is_file() else None

    def start(self, job: StoredJob, secrets: Mapping[str, str]) -> None:
        """Store the Job and run it in a thread. The secrets are passed to the process and not stored."""
        replace_file(self._path(job.namespace, job.id), to_json(job))
        thread = threading.Thread(target=self._run, args=(job, dict(secrets)))
        self._threads.append(thread)
        thread.start()

    def cancel(self, job: StoredJob) -> None:
        self._end(job, "CANCELED", None)

    def follow_log(self, job: StoredJob, tail: int = 0) -> Iterator[str]:
        """Yield the log, as lines of JSON, until the Job has ended: from the first line, or the last `tail` lines.

        Yields an empty line after KEEP_ALIVE_SECONDS without output.
        """
        path, silent = self._log(job), 0.0
        place = _tail_start(path, tail) if tail else 0
        while not self._closing.is_set():
            ended = self._has_ended(job)
            new = _read_lines_after(path, place)
            yield from new.decode().splitlines()
            place, silent = place + len(new), 0.0 if new else silent + POLL_SECONDS
            if ended:
                return
            if silent >= KEEP_ALIVE_SECONDS:
                silent = 0.0
                yield ""
            self._closing.wait(POLL_SECONDS)

    def close(self) -> None:
        """Kill all processes."""
        self._closing.set()
        for process in list(self._running.values()):
            _signal(process, signal.SIGKILL)
        for thread in self._threads:
            thread.join()

    def _run(self, job: StoredJob, secrets: dict[str, str]) -> None:
        if fault := self.broken_images.get(job.spec.image) if self.enabled else "this Hub does not run Jobs":
            self._end(job, "ERROR", fault)
            return
        with tempfile.TemporaryDirectory(prefix="antidote-job-", ignore_cleanup_errors=True) as folder:
            try:
                process = self._spawn(job, secrets, folder)
            except OSError as error:
                self._end(job, "ERROR", f"failed to start: {error.strerror}")
                return
            timer = threading.Timer(job.spec.timeout, self._end, (job, "ERROR", "Job timeout"))
            timer.start()
            with process:
                if process.stdout:
                    self._copy_output(job, process.stdout)
                code = process.wait()
            timer.cancel()
            self._set_stage(
                job, "ERROR" if code else "COMPLETED", f"Job failed with exit code: {code}" if code else None
            )
            del self._running[job.id]

    def _spawn(self, job: StoredJob, secrets: dict[str, str], folder: str) -> "subprocess.Popen[str]":
        program, *rest = [*job.spec.command, *job.spec.arguments]
        machine = {name: os.environ[name] for name in INHERITED_VARIABLES if name in os.environ}
        base = {"PATH": os.defpath, "HOME": folder, "JOB_ID": job.id, **machine, **self.environment}
        with self._changing:
            process = subprocess.Popen(
                [*self.programs.get(program, (program,)), *rest],
                env=base | job.spec.environment | secrets,
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                start_new_session=True,
            )
            self._running[job.id] = process
            # The Job was cancelled before it started, or the Hub is closing.
            if not self._set_stage(job, "RUNNING", None) or self._closing.is_set():
                _signal(process, signal.SIGKILL)
        return process

    def _copy_output(self, job: StoredJob, stream: IO[str]) -> None:
        with self._log(job).open("a", encoding="utf-8") as log:
            for line in chain([f"===== Job started at {utc_now()} ====="], stream):
                log.write(json.dumps({"timestamp": utc_now(), "data": line.rstrip("\n")}) + "\n")
                log.flush()

    def _end(self, job: StoredJob, stage: JobStage, message: str | None) -> None:
        """End a Job early: set the stage, send SIGTERM, and later SIGKILL."""
        if not self._set_stage(job, stage, message):
            return
        if process := self._running.get(job.id):
            _signal(process, signal.SIGTERM)
            killer = threading.Timer(GRACE_SECONDS, _signal, (process, signal.SIGKILL))
            killer.daemon = True
            killer.start()

    def _set_stage(self, job: StoredJob, stage: JobStage, message: str | None) -> bool:
        """Change the stage. Returns False if the Job has ended already."""
        with self._changing:
            old = self.find_job(job.namespace, job.id) or job
            if old.stage in TERMINAL_STAGES:
                return False
            started = utc_now() if stage == "RUNNING" else old.started
            finished = utc_now() if stage in TERMINAL_STAGES else None
            changed = replace(old, stage=stage, message=message, started=started, finished=finished)
            replace_file(self._path(job.namespace, job.id), to_json(changed))
            return True

    def _has_ended(self, job: StoredJob) -> bool:
        current = self.find_job(job.namespace, job.id)
        return current is None or (current.stage in TERMINAL_STAGES and job.id not in self._running)

    def _log(self, job: StoredJob) -> Path:
        return self._path(job.namespace, job.id).with_suffix(".log")

    def _path(self, namespace: str, job_id: str) -> Path:
        return self._root / namespace / f"{job_id}.json"


def _tail_start(path: Path, count: int) -> int:
    """The byte at which the last `count` lines of a file begin."""
    lines = _read_lines_after(path, 0).splitlines(keepends=True)
    return sum(map(len, lines[:-count]))


def _read_lines_after(path: Path, place: int) -> bytes:
    """Return the complete lines of a file from byte `place` on."""
    if not path.is_file():
        return b""
    with path.open("rb") as file:
        file.seek(place)
        new = file.read()
    return new[: new.rfind(b"\n") + 1]


def _signal(process: "subprocess.Popen[str]", number: int) -> None:
    # The process group may have ended already.
    with suppress(ProcessLookupError):
        os.killpg(process.pid, number)
